"""Running standardisation: means and variances of what has been seen, mergeable across tasks."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

RESOLUTION = 1e-7  # of a float32: a column that varies less than this part of its mean is constant


class Scaling(NamedTuple):
    """Rows, mean and sum of squared deviations of each column."""

    rows: NDArray[np.float64]  # ()
    mean: NDArray[np.float64]  # (columns,)
    m2: NDArray[np.float64]  # (columns,)


def init(columns: int) -> Scaling:
    """Return the statistics of no rows."""
    return Scaling(np.zeros(()), np.zeros(columns), np.zeros(columns))


def update(scaling: Scaling, x: NDArray[Any]) -> Scaling:
    """Add rows x (rows, columns)."""
    rows = len(x)
    mean = np.add.reduce(x, axis=0, dtype=np.float64)
    mean /= rows
    difference = x - mean
    difference *= difference
    return merge(scaling, Scaling(np.asarray(float(rows)), mean, np.add.reduce(difference, axis=0)))


def merge(a: Scaling, b: Scaling) -> Scaling:
    """Combine the statistics of two sets of rows (Chan, Golub & LeVeque 1979, equation 2.1)."""
    rows = a.rows + b.rows
    part = b.rows / rows if rows else 0.0
    delta = b.mean - a.mean
    mean = delta * part
    mean += a.mean
    delta *= delta
    delta *= a.rows * part
    delta += a.m2
    delta += b.m2
    return Scaling(np.asarray(rows), mean, delta)


def deviation(scaling: Scaling) -> NDArray[np.float64]:
    """Standard deviation of each column; 1 where it has been constant."""
    variance = scaling.m2 / np.maximum(scaling.rows, 1)
    floor = scaling.mean * RESOLUTION
    floor *= floor
    return np.sqrt(np.where(variance > floor, variance, 1.0))


def standardize(scaling: Scaling, x: NDArray[Any], clip: float) -> NDArray[np.float32]:
    """Give z-scores (rows, columns) in [-clip, clip]; 0 where nothing has been seen.

    Clipped, because a column that was constant and begins to move has a z-score of 90 and more.
    """
    if not scaling.rows:
        return np.zeros(x.shape, np.float32)
    z = x - scaling.mean
    z /= deviation(scaling)
    np.maximum(z, -clip, out=z)
    np.minimum(z, clip, out=z)
    return z.astype(np.float32)
