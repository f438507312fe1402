"""The mini-batch that keeps up: the smallest whose learning time fits the rate at which records arrive.

Small mini-batches learn more from a row, and take longer. The driver decides between two micro-batches, and
the size is in each version's manifest: a replay takes it from there, and measures nothing.
"""

from dataclasses import dataclass, field

AUTO = "auto"  # of learner.mini_batch: chosen for each micro-batch
LOW_LOAD = 0.35  # share of the time that learning may take after a step down: half of it is for the rest
HIGH_LOAD = 0.7  # share above which it steps up; twice LOW_LOAD, as a step may double the time
SMOOTHING = 0.7  # weight of the older arrival rate: a pause must not look like the end of the stream
BACKLOG = 0.9  # of the most offsets that a micro-batch may have: as many mean that more are waiting
FIRST_ROWS = 2000  # of a new model's first micro-batch are learned row by row: about half a second


def initial_size(rows: int, cap: int) -> int:
    """Return the size for a new model's first micro-batch, for which no time has been measured.

    The untrained model predicts the whole first mini-batch, so that one should be small.
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
    rate: float = 0.0  # records that arrive per second
    cost: dict[int, float] = field(default_factory=dict)  # size: seconds per record, as measured last

    def update(self, records: int, seconds: float, since: float, behind: bool) -> int:
        """Measure a micro-batch, and return the size for the next one.

        It had `records`, took `seconds` of learning, and began `since` seconds after the one before it;
        `behind`: more records are waiting, and a backlog is learned at the cap.
        """
        if records and since > 0:
            now = records / since
            self.rate = max(now, SMOOTHING * self.rate + (1 - SMOOTHING) * now)
            self.cost[self.size] = seconds / records
        if behind:
            self.size = self.cap
        elif self.size in self.cost:
            self.size = self._next_size(self.cost[self.size])
        return self.size

    def _next_size(self, cost: float) -> int:
        smaller = 1 << (max(self.size - 1, 1).bit_length() - 1)
        # a step of fewer rows costs no more than one of many: with half of them a row takes at most twice
        cost_of_smaller = self.cost.get(smaller, cost * self.size / smaller)
        if self.rate * cost > HIGH_LOAD:
            return min(self.size * 2, self.cap)
        return smaller if self.rate * cost_of_smaller < LOW_LOAD else self.size
