"""Write versions to sinks, in order, each from its own position; no sink can delay learning."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import VersionLog

POLL = 0.1  # seconds between two looks at the log
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds after a failure; each wait is twice the one before

logger = logging.getLogger(__name__)


class Sink(Protocol):
    """Where versions are written to; it keeps its position so that a crash does not lose it.

    It may raise any error at any time: the same version is then written again.
    """

    @property
    def name(self) -> str:
        """Its name in log lines."""

    def position(self) -> int:
        """Return the last version that is durably in the sink; -1 if there is none."""

    def write(self, manifest: Manifest) -> None:
        """Write the version after `position`; on return, `position` is that version."""

    def close(self) -> None:
        """Close connections; `write` opens them again."""


class Sinks:
    """Runs a thread for each sink of a log, until `stop`.

    A sink that fails is retried after 0.5 s, then after twice as long up to 30 s, without end. Each outage
    logs one line at its start and one at its end. Learning is not affected.
    """

    def __init__(self, log: VersionLog, sinks: Sequence[Sink]) -> None:
        self._shutdown = _Shutdown()
        self._threads = [_SinkThread(log, sink, self._shutdown) for sink in sinks]
        for thread in self._threads:
            thread.start()

    def stop(self, drain: float = 0.0) -> bool:
        """Write what is in the log, for at most `drain` seconds, then end. Return whether all was written.

        The next run writes the rest, which is logged. May be called again.
        """
        self._shutdown.begin(drain)
        for thread in self._threads:
            thread.join(self._shutdown.remaining() + 1.0)  # one that hangs in its client is abandoned
        complete = [thread.report_complete() for thread in self._threads]  # a list: each logs its rest
        return all(complete)


class _Shutdown:
    """Whether to stop, and how long pending writes may take."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self._deadline = float("inf")

    def begin(self, drain: float) -> None:
        if not self.started.is_set():
            self._deadline = time.monotonic() + drain
            self.started.set()

    def remaining(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def pause(self, seconds: float) -> None:
        if self.started.is_set():
            time.sleep(min(seconds, self.remaining(), 0.2))
        else:
            self.started.wait(seconds)


class _SinkThread(threading.Thread):
    """Writes a log's versions to one sink."""

    def __init__(self, log: VersionLog, sink: Sink, shutdown: _Shutdown) -> None:
        super().__init__(name=f"sink {sink.name}", daemon=True)
        self._log = VersionLog(log.directory)
        self._sink, self._shutdown = sink, shutdown
        self._failures = 0
        self._last = -1  # the last version that was written
        self._reported = False

    def run(self) -> None:
        while True:
            # read before the log is: nothing that was committed before `stop` is left out
            stopping = self._shutdown.started.is_set()
            self._try()
            if stopping and (not self._failures or not self._shutdown.remaining()):
                break
            self._shutdown.pause(POLL if not self._failures else self._backoff())
        self._sink.close()

    def _backoff(self) -> float:
        return float(min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self._failures - 1, 10)))

    def _try(self) -> None:
        try:
            self._catch_up()
        except Exception as error:  # a sink raises whatever its client does
            self._failures += 1
            if self._failures == 1:
                logger.warning("%s: %s; retrying, learning continues", self._sink.name, _one_line(error))

    def _catch_up(self) -> None:
        self._last = self._sink.position()
        if self._last >= 0 and not self._log.has(self._last):
            raise ValueError(
                f"its position is version {self._last}, which does not exist in {self._log.directory}: "
                "it belongs to another model directory"
            )
        while self._log.has(self._last + 1):
            if self._shutdown.started.is_set() and not self._shutdown.remaining():
                return
            self._sink.write(self._log.manifest(self._last + 1))
            self._last += 1
            self._recover()
        self._recover()

    def _recover(self) -> None:
        if self._failures:
            logger.info("%s: resumed after version %d", self._sink.name, self._last)
        self._failures = 0

    def report_complete(self) -> bool:
        """Return whether the sink has all of the log; if not, log what is missing, once."""
        if not self._log.has(self._last + 1):
            return True
        if not self._reported:
            first, head = self._last + 1, self._log.head_number()
            logger.warning(
                "%s: versions %d to %d will be written by the next run", self._sink.name, first, head
            )
        self._reported = True
        return False


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:500]
