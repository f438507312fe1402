"""A steady pace: messages by the clock, in small bursts, without a drift of the rate."""

import time
from collections.abc import Callable
from dataclasses import dataclass

TICK = 0.01  # seconds between bursts: 10 rows at 1,000 rows/s
BEHIND = 1.0  # seconds of delay that are caught up; older ones are dropped, or a pause would end in a flood
STOP_CHECK = 0.1  # seconds after which a waiting run checks whether it must stop


@dataclass
class Pace:
    """Waits until a moment, in seconds since the first wait."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    zero: float | None = None  # the clock at the first wait; later, if a delay was dropped

    def wait(self, moment: float, over: Callable[[], bool] = lambda: False) -> bool:
        """Return True at the moment, or False as soon as `over()` while waiting."""
        now = self.clock()
        if self.zero is None:
            self.zero = now - moment
        self.zero = max(self.zero, now - moment - BEHIND)
        while now < self.zero + moment:
            if over():
                return False
            self.sleep(min(STOP_CHECK, max(TICK, self.zero + moment - now)))
            now = self.clock()
        return True
