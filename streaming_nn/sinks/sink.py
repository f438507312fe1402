"""Those who follow the log: each reads versions in order from its own place; none can hold learning up."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import VersionLog

POLL = 0.1  # seconds between two looks at the log
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds after a failure; each wait is twice the one before

Say = Callable[[str], None]


class Sink(Protocol):
    """Carries versions to a sink, and remembers how far it has come where a crash can't take it.

    It may fail in any way and as often as it likes: the same version is given to it again.
    """

    @property
    def name(self) -> str:
        """What it is called in messages."""

    def position(self) -> int:
        """Return the last version that is in the sink for good; -1 when none is."""

    def write(self, manifest: Manifest) -> None:
        """Carry one version, the one after `place`; when this returns, `place` is that version."""

    def close(self) -> None:
        """Let go of connections; `follow` makes them anew."""


class Sinks:
    """A thread for each sink of a log, from now on until `stop`.

    A sink that fails is tried again after 0.5 s, then after twice as long up to 30 s, for as long as it
    takes. That it fails and that it goes on is said once an outage. Learning doesn't notice.
    """

    def __init__(self, log: VersionLog, sinks: Sequence[Sink], say: Say = lambda line: None) -> None:
        self._end = _End()
        self._carriers = [_Carrier(log, sink, say, self._end) for sink in sinks]
        for carrier in self._carriers:
            carrier.start()

    def stop(self, drain: float = 0.0) -> bool:
        """Carry what is in the log, for `drain` seconds at most, then end. Return whether all was carried.

        What was not is said, and is carried by the next run. May be called again.
        """
        self._end.begin(drain)
        for carrier in self._carriers:
            carrier.join(self._end.left() + 1.0)  # one that hangs in its sink's client is left to itself
        finished = [carrier.finished() for carrier in self._carriers]  # each says what it leaves
        return all(finished)


class _End:
    """When to stop, and how long what is under way may take."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._deadline = float("inf")

    def begin(self, drain: float) -> None:
        if not self.begun.is_set():
            self._deadline = time.monotonic() + drain
            self.begun.set()

    def left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def pause(self, seconds: float) -> None:
        if self.begun.is_set():
            time.sleep(min(seconds, self.left(), 0.2))
        else:
            self.begun.wait(seconds)


class _Carrier(threading.Thread):
    """Carries a log to one sink."""

    def __init__(self, log: VersionLog, sink: Sink, say: Say, end: _End) -> None:
        super().__init__(name=f"sink {sink.name}", daemon=True)
        self._log = VersionLog(log.directory)
        self._sink, self._say, self._end = sink, say, end
        self._failures = 0
        self._last = -1  # the last version that was carried
        self._told = False

    def run(self) -> None:
        while True:
            # asked before the log is: nothing appended until `stop` is left out
            ending = self._end.begun.is_set()
            self._try()
            if ending and (not self._failures or not self._end.left()):
                break
            self._end.pause(POLL if not self._failures else self._wait())
        self._sink.close()

    def _wait(self) -> float:
        return float(min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self._failures - 1, 10)))

    def _try(self) -> None:
        try:
            self._catch_up()
        except Exception as error:  # a sink raises whatever its client does
            self._failures += 1
            if self._failures == 1:
                self._say(f"{self._sink.name}: {_one_line(error)}; learning goes on, trying again")

    def _catch_up(self) -> None:
        self._last = self._sink.position()
        if self._last >= 0 and not self._log.has(self._last):
            raise ValueError(
                f"its place is version {self._last}, which this log doesn't have: it followed another"
            )
        while self._log.has(self._last + 1):
            if self._end.begun.is_set() and not self._end.left():
                return
            self._sink.write(self._log.manifest(self._last + 1))
            self._last += 1
            self._recovered()
        self._recovered()

    def _recovered(self) -> None:
        if self._failures:
            self._say(f"{self._sink.name}: goes on after version {self._last}")
        self._failures = 0

    def finished(self) -> bool:
        """Whether the sink has all of the log; what it has not is said once."""
        if not self._log.has(self._last + 1):
            return True
        if not self._told:
            head = self._log.head_number()
            self._say(f"{self._sink.name}: versions {self._last + 1} to {head} are left to the next run")
        self._told = True
        return False


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:500]
