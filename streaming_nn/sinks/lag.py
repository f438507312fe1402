"""How far a job is behind its topics, in offsets and in seconds."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from streaming_nn.kafka.admin import Offsets

SAMPLES = 1_000  # ends that are kept while a job is behind; of more, every second one is


class Lag:
    """Compares a job's position, the offsets of its next records, with the ends of its topics.

    The lag in seconds is how long ago the topics ended where the job is now: it depends on no rate, needs no
    record's timestamp, and grows while the ends cannot be read. May be read from any thread.
    """

    def __init__(
        self,
        position: Callable[[], Offsets],
        ends: Callable[[Iterable[str]], Offsets],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._position, self._ends, self._clock = position, ends, clock
        self._lock = threading.Lock()
        self._newest: Offsets = {}  # ends; none if they could not be read
        self._ahead = deque[tuple[float, Offsets]]()  # ends that the job had not reached, the oldest first
        self._began = clock()
        self._reached: float | None = None  # when the newest ends that the job has reached were read

    def look(self) -> None:
        """Read the topics' ends. Raise as `ends` does."""
        now, position = self._clock(), self._position()
        if not position:
            return  # the job has not begun to read
        try:
            ends = self._ends(position)
        except BaseException:
            self._newest = {}
            raise
        with self._lock:
            self._newest = ends
            self._ahead.append((now, ends))
            if len(self._ahead) > SAMPLES:
                self._ahead = deque([*self._ahead][::2])
        self._advance()

    def offsets(self) -> Offsets:
        """Return how many offsets of each partition follow the job's position; none if it is unknown."""
        return self._following(self._position())

    def behind(self, position: Mapping[str, Mapping[int, int]]) -> int | None:
        """Return how many offsets follow a position; None: the ends of its topics are unknown."""
        following = self._following(position)
        return sum(sum(partitions.values()) for partitions in following.values()) if following else None

    def _following(self, position: Mapping[str, Mapping[int, int]]) -> Offsets:
        ends = self._newest
        return {t: {p: max(end - _at(position, t, p), 0) for p, end in ps.items()} for t, ps in ends.items()}

    def seconds(self) -> float:
        """Return how long ago the topics ended where the job is now, or else the time since its start."""
        self._advance()
        return self._clock() - (self._began if self._reached is None else self._reached)

    def reason(self, most: float) -> str:
        """Return why the job does not keep up; "": it has reached what its topics had `most` seconds ago."""
        seconds = self.seconds()
        if self._reached is None:
            return f"the job has not reached its topics' ends since it started {seconds:.0f} seconds ago"
        if seconds > most:
            return f"lag must be at most {most:g} seconds (metrics.max_lag); got {seconds:.0f}"
        return ""

    def _advance(self) -> None:
        position = self._position()
        with self._lock:
            while self._ahead and _has_reached(position, self._ahead[0][1]):
                self._reached = self._ahead.popleft()[0]


def _at(position: Mapping[str, Mapping[int, int]], topic: str, partition: int) -> int:
    return position.get(topic, {}).get(partition, 0)


def _has_reached(position: Offsets, ends: Offsets) -> bool:
    return all(_at(position, t, p) >= end for t, ps in ends.items() for p, end in ps.items())
