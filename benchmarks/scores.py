"""Scores of predictions, row by row: 1 or 0 for a class, the absolute error for a regression target."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
WINDOW = 500  # rows over which accuracy is averaged
TOLERANCE = 0.01  # an accuracy at most this far below the one before a drift has recovered
POINTS = 200  # of a curve


def score_rows(y: Array, predictions: Array, classes: int | None) -> NDArray[np.float64]:
    """Score predictions (rows,): class indices or targets. Raise ValueError if a target is not finite."""
    if classes is not None:
        correct: NDArray[np.float64] = np.equal(predictions, y).astype(np.float64)
        return correct
    if not np.isfinite(predictions).all():
        raise ValueError(
            f"predictions must be finite; got {np.count_nonzero(~np.isfinite(predictions))} others"
        )
    error: NDArray[np.float64] = np.abs(predictions.astype(np.float64) - y)
    return error


def over_window(scores: Array, rows: int = WINDOW) -> NDArray[np.float64]:
    """Return the mean of the last `rows` scores at each row; at the first rows, of all so far."""
    sums = np.concatenate([[0.0], np.cumsum(scores)])
    ends = np.arange(1, len(sums))
    starts = np.maximum(ends - rows, 0)
    means: NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def curve(scores: Array) -> list[list[float]]:
    """Return up to POINTS pairs of row and mean over the window."""
    means = over_window(scores)
    at = np.unique(np.linspace(min(WINDOW, len(scores)) - 1, len(scores) - 1, POINTS).astype(int))
    return [[int(row) + 1, round(float(means[row]), 5)] for row in at]


def recoveries(scores: Array, drift_at: tuple[int, ...], rows: int = WINDOW) -> list[int]:
    """Return for each drift after how many rows accuracy over the window has fallen and recovered.

    0 if it never fell by more than TOLERANCE; the rows to the next drift if it did not recover by then.
    """
    means = over_window(scores, rows)
    seen = [drift for drift in drift_at if drift < len(scores)]
    bounds = pairwise([*seen, len(scores)])
    return [_recovery(means[drift:end], float(means[drift - 1]) - TOLERANCE) for drift, end in bounds]


def _recovery(means: Array, threshold: float) -> int:
    below = means < threshold
    if not below.any():
        return 0
    fallen = int(below.argmax())
    recovered = ~below[fallen:]
    return fallen + int(recovered.argmax()) + 1 if recovered.any() else len(means)
