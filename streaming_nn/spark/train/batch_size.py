"""The mini-batch that keeps up: the smallest whose learning time fits the rate at which records come.

Small mini-batches learn more from a row, and take longer. The driver decides between two micro-batches and
writes it into each version's record: a replay takes what stands there, and measures nothing.
"""

from dataclasses import dataclass, field

ROOM = 0.35  # share of the time that learning may take after a step down: half of it is left for the rest
FULL = 0.7  # share past which it steps up; twice ROOM, as a step may double the time: no size goes to and fro
KEEP = 0.7  # of the older arrival rate: a pause must not look like the end of the stream


FIRST_ROWS = 2000  # of a new model's first micro-batch are learned row by row: half a second, about


def first(rows: int, cap: int) -> int:
    """Return the size for a new model's first micro-batch, of which no time has been measured.

    What has seen nothing answers the whole first mini-batch: it had better be a small one.
    """
    size = 1
    while size < cap and rows > FIRST_ROWS * size:
        size *= 2
    return min(size, cap)


@dataclass
class BatchSizeController:
    """Chooses the mini-batch of the next micro-batch: `size` is a power of two up to `cap`, or the cap."""

    cap: int
    size: int
    rate: float = 0.0  # records a second that come
    cost: dict[int, float] = field(default_factory=dict)  # size: seconds a record takes, measured last

    def note(self, records: int, seconds: float, since: float, behind: bool) -> int:
        """Take note of a micro-batch, and return the size for the next one.

        It held `records`, took `seconds` of learning, and began `since` seconds after the one before it;
        `behind` says that more records are waiting: a backlog is learned at the cap.
        """
        if records and since > 0:
            now = records / since
            self.rate = max(now, KEEP * self.rate + (1 - KEEP) * now)
            self.cost[self.size] = seconds / records
        if behind:
            self.size = self.cap
        elif self.size in self.cost:
            self.size = self._next(self.cost[self.size])
        return self.size

    def _next(self, cost: float) -> int:
        smaller = 1 << (max(self.size - 1, 1).bit_length() - 1)
        # a step of fewer rows costs no more than one of many: with half of them a row takes at most twice
        smallers_cost = self.cost.get(smaller, cost * self.size / smaller)
        if self.rate * cost > FULL:
            return min(self.size * 2, self.cap)
        return smaller if self.rate * smallers_cost < ROOM else self.size
