"""When Ctrl-C and SIGTERM are handled: never during a call of Spark's JVM."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_pending: list[int] = []  # signals that arrived and wait

STEP = 0.1  # seconds between two checks for one


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block has ended, and keep their handlers.

    Otherwise a JVM that is starting never ends: pyspark deletes the directory in which it would write where
    it listens. And py4j cannot use a connection that was interrupted during a response.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    both = (signal.SIGINT, signal.SIGTERM)
    numbers = [n for n in both if signal.getsignal(n) is not None]  # None: not installed by Python
    before = [signal.signal(number, lambda number, _: _pending.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        pending = _pending.copy()
        _pending.clear()
    if pending:
        signal.raise_signal(pending[0])


def pause(seconds: float) -> None:
    """Sleep. Raise KeyboardInterrupt if a signal arrives that `uninterrupted` lets wait."""
    end = time.monotonic() + seconds
    while not _pending and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, STEP))
    if _pending:
        raise KeyboardInterrupt
