"""Log lines about a long backlog: how much of it is learned, how fast, and how long the rest will take."""

import logging
import time

logger = logging.getLogger(__name__)

INTERVAL = 5.0  # seconds between two lines


class Progress:
    """Logs every few seconds how much of a backlog of `total` records is learned; a short run logs nothing.

    Records are counted as offsets, of which some may have none (transactions, compaction).
    """

    def __init__(self, total: int, interval: float = INTERVAL) -> None:
        self._total, self._interval, self._learned = total, interval, 0
        self._started = self._logged = time.monotonic()

    def add(self, records: int) -> None:
        """Count records that were learned just now."""
        self._learned += records
        now = time.monotonic()
        if now - self._logged >= self._interval and self._learned < self._total:
            self._logged = now
            logger.info("%s", self.describe(now - self._started))

    def describe(self, seconds: float) -> str:
        """Return a line about what was learned in so many seconds."""
        rate = self._learned / seconds if seconds > 0 else 0.0
        left = (self._total - self._learned) / rate if rate else float("inf")
        return (
            f"learned {self._learned:,} of {self._total:,} records, {rate:,.0f} records/s, "
            f"{_duration(left)} left"
        )


def _duration(seconds: float) -> str:
    """Return a time as "1 h 02 min", "3 min 20 s" or "45 s"."""
    if seconds == float("inf"):
        return "unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
