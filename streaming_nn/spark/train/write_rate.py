"""Warn once if the versions of a run take very many bytes per second."""

import logging
import time

WINDOW = 10.0  # seconds of a run over which the rate is measured
LIMIT = 20_000_000  # bytes per second: 1.7 TB a day

logger = logging.getLogger(__name__)


class WriteRate:
    """Counts the bytes of a run's versions: call `committed` after each."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._bytes = self._versions = 0
        self._warned = False

    def committed(self, size: int) -> None:
        """Count a version of `size` bytes; log at the end of a window in which there were too many."""
        if self._warned:
            return
        self._bytes, self._versions = self._bytes + size, self._versions + 1
        seconds = time.monotonic() - self._began
        if seconds < WINDOW:
            return
        if self._bytes > LIMIT * seconds:
            logger.warning("%s", describe(self._bytes / seconds, self._bytes / self._versions))
            self._warned = True
        self._began, self._bytes, self._versions = time.monotonic(), 0, 0


def describe(rate: float, size: float) -> str:
    """Return in one line how much is written, and the settings that change it."""
    return (
        f"versions take {rate / 1e6:.0f} MB per second, {size / 1e6:.1f} MB each: with a longer "
        "train.trigger they are fewer; with fewer columns, a narrower learner.hidden or "
        "learner.learner = 'mlp' they are smaller"
    )
