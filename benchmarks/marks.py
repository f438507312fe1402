"""What answers are worth, row by row: 1 or 0 for a class, the absolute error for a target."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
WINDOW = 500  # rows over which accuracy is followed
NEAR = 0.01  # an accuracy so little below the one before a drift is that one again
POINTS = 200  # of a curve


def marks(y: Array, answers: Array, classes: int | None) -> NDArray[np.float64]:
    """Mark answers (rows,): class indices or targets. ValueError for a target that is not finite."""
    if classes is not None:
        right: NDArray[np.float64] = np.equal(answers, y).astype(np.float64)
        return right
    if not np.isfinite(answers).all():
        raise ValueError(f"answers must be finite; got {np.count_nonzero(~np.isfinite(answers))} others")
    error: NDArray[np.float64] = np.abs(answers.astype(np.float64) - y)
    return error


def over_window(mark: Array, rows: int = WINDOW) -> NDArray[np.float64]:
    """Give the mean of the last `rows` marks at each row; of all so far at the first ones."""
    sums = np.concatenate([[0.0], np.cumsum(mark)])
    ends = np.arange(1, len(sums))
    starts = np.maximum(ends - rows, 0)
    means: NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def curve(mark: Array) -> list[list[float]]:
    """Give up to POINTS pairs of row and mean over the window."""
    means = over_window(mark)
    at = np.unique(np.linspace(min(WINDOW, len(mark)) - 1, len(mark) - 1, POINTS).astype(int))
    return [[int(row) + 1, round(float(means[row]), 5)] for row in at]


def recoveries(mark: Array, drift_at: tuple[int, ...], rows: int = WINDOW) -> list[int]:
    """Give for each drift how many rows later accuracy over the window is what it was, having fallen.

    0 where it never fell by more than NEAR; the rows to the next drift where it was not back by then.
    """
    means = over_window(mark, rows)
    seen = [drift for drift in drift_at if drift < len(mark)]
    bounds = pairwise([*seen, len(mark)])
    return [_recovery(means[drift:end], float(means[drift - 1]) - NEAR) for drift, end in bounds]


def _recovery(means: Array, wanted: float) -> int:
    below = means < wanted
    if not below.any():
        return 0
    fallen = int(below.argmax())
    back = ~below[fallen:]
    return fallen + int(back.argmax()) + 1 if back.any() else len(means)
