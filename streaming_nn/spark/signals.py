"""When Ctrl-C and SIGTERM may come in: never in the middle of a word with Spark's JVM."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_came: list[int] = []  # signals that are held back

STEP = 0.1  # seconds between two looks for one


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block has ended, and keep their handlers.

    Else a JVM that is under way stays for ever: pyspark takes away the folder in which it was to say where it
    listens. And py4j can't go on with a connection that was cut in the middle of an answer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not None]  # Python's own
    before = [signal.signal(number, lambda number, _: _came.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        came = _came.copy()
        _came.clear()
    if came:
        signal.raise_signal(came[0])


def pause(seconds: float) -> None:
    """Sleep. KeyboardInterrupt where a signal has come that `uninterrupted` holds back."""
    end = time.monotonic() + seconds
    while not _came and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, STEP))
    if _came:
        raise KeyboardInterrupt
