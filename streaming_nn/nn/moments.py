"""Running standardisation: means and variances of what has been seen, mergeable across tasks."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SETTLED = 100  # rows after which the deviations are trusted to tell what is wild


class Scaling(NamedTuple):
    """Rows, mean and sum of squared deviations of each column.

    Where values may be missing, `inputs` counts the rows of each column: `merge` and `since` take both.
    """

    rows: NDArray[np.float64]  # (), or (columns,)
    mean: NDArray[np.float64]  # (columns,)
    m2: NDArray[np.float64]  # (columns,)


def init(columns: int) -> Scaling:
    """Return the statistics of no rows."""
    return Scaling(np.zeros(()), np.zeros(columns), np.zeros(columns))


@lru_cache(8)
def _ones(rows: int) -> NDArray[np.float64]:
    return np.ones(rows)


def update(scaling: Scaling, x: NDArray[Any]) -> Scaling:
    """Add rows x (rows, columns): `merge` with the moments of x about the old mean, in one pass over x.

    The first rows have no old mean, and take the first row for it: a constant column's m2 is exactly 0.
    """
    if len(x) == 1:
        return _with_row(scaling, x[0])
    if not len(x):
        return scaling
    origin = scaling.mean if scaling.rows else x[0].astype(np.float64)
    rows = scaling.rows + len(x)
    delta = x.astype(np.float64)
    delta -= origin
    ones = _ones(len(x))
    total = ones @ delta
    m2 = np.einsum("ij,ij->j", delta, delta)
    mean = total / rows
    total *= mean
    m2 -= total
    np.maximum(m2, 0, out=m2)
    m2 += scaling.m2
    mean += origin
    return Scaling(np.asarray(rows), mean, m2)


def _with_row(scaling: Scaling, x: NDArray[Any]) -> Scaling:
    """Add one row (Welford 1962, equation I): the same moments, by half as many passes."""
    before = float(scaling.rows)
    wide = x.astype(np.float64)
    origin = scaling.mean if before else wide
    delta = wide - origin
    mean = delta * (1 / (before + 1))
    mean += origin
    delta *= delta
    delta *= before / (before + 1)
    delta += scaling.m2
    return Scaling(np.asarray(before + 1), mean, delta)


def merge(a: Scaling, b: Scaling) -> Scaling:
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
    return Scaling(np.asarray(rows), mean, delta)


def deviation(scaling: Scaling) -> NDArray[np.float32]:
    """Standard deviation of each column; 1 where it has been constant."""
    variance = scaling.m2 / (scaling.rows or 1)
    deviation = np.sqrt(variance, out=variance).astype(np.float32)
    if np.count_nonzero(deviation) < deviation.size:
        deviation += deviation == 0
    return deviation


def tame(scaling: Scaling, x: NDArray[np.float32], reach: float) -> NDArray[np.float32]:
    """Bound rows, for `update`, to `reach` deviations: one wild value must not flatten a column for ever.

    The first 100 rows pass as they are, and so does a column that has been constant: it may begin to move.
    """
    if scaling.rows < SETTLED:
        return x
    mean, far = scaling.mean.astype(np.float32), deviation(scaling)
    far *= reach
    far[scaling.m2 == 0] = np.inf
    return np.clip(x, mean - far, mean + far)


def restore(scaling: Scaling, z: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give z-scores their unit back: the inverse of `standardize`, but for its clip."""
    return (z * deviation(scaling) + scaling.mean).astype(np.float32)


def standardize(scaling: Scaling, x: NDArray[np.float32], clip: float) -> NDArray[np.float32]:
    """Give z-scores (rows, columns) in [-clip, clip]; 0 where nothing has been seen.

    Clipped, because a column that was constant and begins to move has a z-score of 90 and more.
    """
    if not scaling.rows:
        return np.zeros(x.shape, np.float32)
    return bounded(_unbounded(scaling, x), clip)


def standardize_and_update(
    scaling: Scaling, x: NDArray[np.float32], count: int, clip: float, reach: float
) -> tuple[NDArray[np.float32], Scaling]:
    """Standardize rows, and add the first `count`, tamed: as the three functions do, with less to do."""
    new = x[:count]
    if scaling.rows < SETTLED:
        return standardize(scaling, x, clip), update(scaling, new)
    z = _unbounded(scaling, x)
    if not np.maximum.reduce(np.abs(z[:count]), axis=None) <= reach:
        new = tame(scaling, new, reach)
    return bounded(z, clip), update(scaling, new)


def _unbounded(scaling: Scaling, x: NDArray[np.float32]) -> NDArray[np.float32]:
    z = x - scaling.mean.astype(np.float32)
    z /= deviation(scaling)
    return z


def bounded(z: NDArray[np.float32], most: float) -> NDArray[np.float32]:
    """Bring z into [-most, most], in place."""
    low, high = _ends(most)
    return z.clip(low, high, out=z)


@lru_cache(8)
def _ends(most: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.array(-most, np.float32), np.array(most, np.float32)  # arrays are faster operands than floats


def since(now: Scaling, before: Scaling) -> Scaling:
    """Give the statistics of the rows between two states of one column's history: the inverse of `merge`."""
    rows = now.rows - before.rows
    none = rows == 0
    delta = (now.mean - before.mean) * (now.rows / (rows + none))
    m2 = now.m2 - before.m2 - delta * delta * (before.rows * rows / (now.rows + (now.rows == 0)))
    mean = np.where(none, 0.0, before.mean + delta)
    return Scaling(np.asarray(rows), mean, np.where(none, 0.0, np.maximum(m2, 0)))


def combined(start: Scaling, parts: Sequence[Scaling]) -> Scaling:
    """Give the statistics of the start's rows and of those that each task has added to them."""
    total = start
    for part in parts:
        total = merge(total, since(part, start))
    return total
