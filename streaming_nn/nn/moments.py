"""Counts, means and sums of squared deviations, merged across tasks; the core adds the rows.

docs/arithmetic.md, "Merges", has each formula.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


class Moments(NamedTuple):
    """The statistics of columns, each by its own rows."""

    rows: Doubles  # (columns,) values
    mean: Doubles  # (columns,)
    m2: Doubles  # (columns,) sums of squared deviations


def merge(a: Moments, b: Moments) -> Moments:
    """Combine the statistics of two sets of rows (Chan, Golub & LeVeque 1979, equation 2.1)."""
    rows = a.rows + b.rows
    part = b.rows / (rows + (rows == 0))
    delta = b.mean - a.mean
    return Moments(rows, delta * part + a.mean, (delta * delta) * (a.rows * part) + a.m2 + b.m2)


def subtract(now: Moments, before: Moments) -> Moments:
    """Return the statistics of the rows between two states of one history: the inverse of `merge`."""
    rows = now.rows - before.rows
    none, (delta, m2) = rows == 0, _between(now, before)
    return Moments(rows, np.where(none, 0.0, before.mean + delta), np.where(none, 0.0, np.maximum(m2, 0)))


def _between(now: Moments, before: Moments) -> tuple[Doubles, Doubles]:
    """Return by how much the mean of the rows between differs, and their sum of squared deviations."""
    rows = now.rows - before.rows
    delta = (now.mean - before.mean) * (now.rows / (rows + (rows == 0)))
    m2 = now.m2 - before.m2 - delta * delta * (before.rows * rows / (now.rows + (now.rows == 0)))
    return delta, m2


def added(now: Doubles, before: Doubles) -> Moments:
    """Return the statistics of what was added to clusters (7, columns) between two states of one history.

    Near and far values count alike. Where statistics were replaced, they are all of the later state.
    """
    first, near, far = (Moments(*each) for each in (before[:3], now[:3], now[3:6]))
    swapped = ~contains(near, first) & contains(far, first)
    now = np.where(swapped, now[[3, 4, 5, 0, 1, 2, 6]], now)
    parts = [(Moments(*now[i : i + 3]), Moments(*before[i : i + 3])) for i in (0, 3)]
    return merge(*(_choose(contains(*part), subtract(*part), part[0]) for part in parts))


def contains(now: Moments, before: Moments) -> NDArray[np.bool_]:
    """Return for which columns the rows of an earlier state can be among those of a later one."""
    contained = (now.rows > before.rows) & (_between(now, before)[1] >= -0.5 * now.m2)
    same: NDArray[np.bool_] = (now.rows == before.rows) & (now.mean == before.mean)
    return contained | same


def combine(start: Moments, parts: Sequence[Moments], reach: float = 0.0) -> Moments:
    """Return the statistics of the start's rows and of those that each task has added.

    Where a task has replaced a column's statistics, they begin with its own. With a reach, statistics that
    are more deviations apart are not merged: those of more rows are taken, of equals the first.
    """
    contained = [contains(part, start) for part in parts]
    total = _choose(np.logical_and.reduce(contained), start, Moments(*np.zeros((3, *start.rows.shape))))
    for part, added in zip(parts, contained, strict=True):
        new = _choose(added, subtract(part, start), part)
        larger = _choose(new.rows > total.rows, new, total)
        total = _choose(_apart(total, new, reach), larger, merge(total, new))
    return total


def _choose(where: NDArray[np.bool_], a: Moments, b: Moments) -> Moments:
    return Moments(*(np.where(where, one, other) for one, other in zip(a, b, strict=True)))


def _apart(a: Moments, b: Moments, reach: float) -> NDArray[np.bool_]:
    if reach == 0:
        return np.zeros(a.rows.shape, np.bool_)
    most = reach * np.maximum(deviation(a), deviation(b))
    apart: NDArray[np.bool_] = (a.rows > 0) & (b.rows > 0) & (np.abs(a.mean - b.mean) > most)
    return apart


def combine_clusters(start: Doubles, parts: Sequence[Doubles], reach: float) -> Doubles:
    """Return the clusters (7, columns) of the start's rows and of those that each task has added."""
    parts = [_as_first(start, parts[0], part, reach) for part in parts]
    near = combine(Moments(*start[:3]), [Moments(*part[:3]) for part in parts], reach)
    far = combine(Moments(*start[3:6]), [Moments(*part[3:6]) for part in parts], reach)
    delta = far.mean - near.mean
    spread = np.sqrt(delta * delta + far.m2 / np.maximum(far.rows, 1))
    close = (near.m2 > 0) & (far.rows > 0) & ((spread <= reach * deviation(near)) | (reach == 0))
    near = _choose(close, merge(near, far), near)
    far = _choose(close, Moments(*np.zeros((3, *far.rows.shape))), far)
    votes = np.where(close, 0.0, np.maximum.reduce([part[6] for part in parts]))
    return np.stack([*near, *far, votes])


def _as_first(start: Doubles, first: Doubles, part: Doubles, reach: float) -> Doubles:
    """Return a task's clusters; without a start, near and far ones are swapped to match the first's."""
    of_first, near, far = (Moments(*each) for each in (first[:3], part[:3], part[3:6]))
    changed = (start[0] == 0) & (part[3] > 0) & _apart(of_first, near, reach) & ~_apart(of_first, far, reach)
    return np.where(changed, part[[3, 4, 5, 0, 1, 2, 6]], part)


def scaling(clusters: Doubles) -> Moments:
    """Return the statistics that scale columns: of near values without a deviation, with the far ones."""
    near, far = Moments(*clusters[:3]), Moments(*clusters[3:6])
    return _choose((near.m2 == 0) & (far.rows > 0), merge(near, far), near)


def deviation(moments: Moments) -> Doubles:
    """Return the standard deviation of each column; 0 where it has been constant or has no rows."""
    return np.sqrt(moments.m2 / np.maximum(moments.rows, 1))
