"""Wait for a condition."""

import time
from collections.abc import Callable

PATIENCE = 240.0  # seconds: only what hangs takes so long, also on a busy machine
STEP = 0.05


def until(condition: Callable[[], object], what: Callable[[], object] = str) -> None:
    """Return once the condition holds; fail with `what` after PATIENCE."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(STEP)
