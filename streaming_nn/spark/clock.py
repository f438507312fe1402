"""When the steps of a micro-batch began and ended."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Clock:
    """When each step of a micro-batch began and ended, in ns since 1970, in order."""

    def __init__(self) -> None:
        self.steps: dict[str, tuple[int, int]] = {}

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        """Time a step: the block."""
        at, began = time.time_ns(), time.perf_counter_ns()  # a system's clock may be set meanwhile
        yield
        self.steps[step] = at, at + time.perf_counter_ns() - began

    def seconds(self, steps: Iterable[str]) -> dict[str, float]:
        """Return how long these steps took, to the microsecond."""
        times = {step: self.steps[step] for step in steps}
        return {step: round((end - start) / 1e9, 6) for step, (start, end) in times.items()}
