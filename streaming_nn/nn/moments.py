"""Running standardisation: means and variances of the rows so far, mergeable across tasks."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SETTLED = 100  # rows after which the deviations are trusted to detect outliers


class Moments(NamedTuple):
    """Rows, mean and sum of squared deviations of each column.

    Where values may be missing, `inputs` counts the rows of each column: `merge` and `subtract` take both.
    """

    rows: NDArray[np.float64]  # (), or (columns,)
    mean: NDArray[np.float64]  # (columns,)
    m2: NDArray[np.float64]  # (columns,)


def init(columns: int) -> Moments:
    """Return the statistics of no rows."""
    return Moments(np.zeros(()), np.zeros(columns), np.zeros(columns))


@lru_cache(8)
def _ones(rows: int) -> NDArray[np.float64]:
    return np.ones(rows)


def update(moments: Moments, x: NDArray[Any]) -> Moments:
    """Add rows x (rows, columns): `merge` with the moments of x about the old mean, in one pass over x.

    The first rows have no old mean, and use the first row instead: a constant column's m2 is exactly 0.
    """
    if len(x) == 1:
        return _with_row(moments, x[0])
    if not len(x):
        return moments
    origin = moments.mean if moments.rows else x[0].astype(np.float64)
    rows = moments.rows + len(x)
    delta = x.astype(np.float64)
    delta -= origin
    ones = _ones(len(x))
    total = ones @ delta
    m2 = np.einsum("ij,ij->j", delta, delta)
    mean = total / rows
    total *= mean
    m2 -= total
    np.maximum(m2, 0, out=m2)
    m2 += moments.m2
    mean += origin
    return Moments(np.asarray(rows), mean, m2)


def _with_row(moments: Moments, x: NDArray[Any]) -> Moments:
    """Add one row (Welford 1962, equation I): the same moments, by half as many passes."""
    before = float(moments.rows)
    wide = x.astype(np.float64)
    origin = moments.mean if before else wide
    delta = wide - origin
    mean = delta * (1 / (before + 1))
    mean += origin
    delta *= delta
    delta *= before / (before + 1)
    delta += moments.m2
    return Moments(np.asarray(before + 1), mean, delta)


def merge(a: Moments, b: Moments) -> Moments:
    """Combine the statistics of two sets of rows (Chan, Golub & LeVeque 1979, equation 2.1)."""
    rows = a.rows + b.rows
    part = b.rows / (rows + (rows == 0))
    delta = b.mean - a.mean
    mean = delta * part
    mean += a.mean
    delta *= delta
    delta *= a.rows * part
    delta += a.m2
    delta += b.m2
    return Moments(np.asarray(rows), mean, delta)


def deviation(moments: Moments) -> NDArray[np.float32]:
    """Standard deviation of each column; 1 where it has been constant."""
    variance = moments.m2 / (moments.rows or 1)
    deviation = np.sqrt(variance, out=variance).astype(np.float32)
    if np.count_nonzero(deviation) < deviation.size:
        deviation += deviation == 0
    return deviation


def clip_outliers(moments: Moments, x: NDArray[np.float32], reach: float) -> NDArray[np.float32]:
    """Clip rows, for `update`, to `reach` deviations: one outlier must not flatten a column for ever.

    The first 100 rows are not clipped, nor is a column that has been constant: it may start to change.
    """
    if moments.rows < SETTLED:
        return x
    mean, far = moments.mean.astype(np.float32), deviation(moments)
    far *= reach
    far[moments.m2 == 0] = np.inf
    return np.clip(x, mean - far, mean + far)


def restore(moments: Moments, z: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert z-scores back to their unit: the inverse of `standardize`, except for its clip."""
    return (z * deviation(moments) + moments.mean).astype(np.float32)


def standardize(moments: Moments, x: NDArray[np.float32], clip: float) -> NDArray[np.float32]:
    """Return z-scores (rows, columns) in [-clip, clip]; 0 before the first row.

    Clipped, because a column that was constant and starts to change has a z-score of 90 and more.
    """
    if not moments.rows:
        return np.zeros(x.shape, np.float32)
    return clip_in_place(_z_scores(moments, x), clip)


def standardize_and_update(
    moments: Moments, x: NDArray[np.float32], count: int, clip: float, reach: float
) -> tuple[NDArray[np.float32], Moments]:
    """Standardize rows, and add the first `count`, clipped: as the three functions do, with less work."""
    new = x[:count]
    if moments.rows < SETTLED:
        return standardize(moments, x, clip), update(moments, new)
    z = _z_scores(moments, x)
    if not np.maximum.reduce(np.abs(z[:count]), axis=None) <= reach:
        new = clip_outliers(moments, new, reach)
    return clip_in_place(z, clip), update(moments, new)


def _z_scores(moments: Moments, x: NDArray[np.float32]) -> NDArray[np.float32]:
    z = x - moments.mean.astype(np.float32)
    z /= deviation(moments)
    return z


def clip_in_place(z: NDArray[np.float32], most: float) -> NDArray[np.float32]:
    """Clip z to [-most, most], in place."""
    low, high = _bounds(most)
    return z.clip(low, high, out=z)


@lru_cache(8)
def _bounds(most: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.array(-most, np.float32), np.array(most, np.float32)  # arrays are faster operands than floats


def subtract(now: Moments, before: Moments) -> Moments:
    """Return the statistics of the rows between two states of one history: the inverse of `merge`."""
    rows = now.rows - before.rows
    none = rows == 0
    delta = (now.mean - before.mean) * (now.rows / (rows + none))
    m2 = now.m2 - before.m2 - delta * delta * (before.rows * rows / (now.rows + (now.rows == 0)))
    mean = np.where(none, 0.0, before.mean + delta)
    return Moments(np.asarray(rows), mean, np.where(none, 0.0, np.maximum(m2, 0)))


def combine(start: Moments, parts: Sequence[Moments]) -> Moments:
    """Return the statistics of the start's rows and of those that each task has added."""
    total = start
    for part in parts:
        total = merge(total, subtract(part, start))
    return total
