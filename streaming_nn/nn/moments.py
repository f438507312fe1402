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
    none = rows == 0
    delta = (now.mean - before.mean) * (now.rows / (rows + none))
    m2 = now.m2 - before.m2 - delta * delta * (before.rows * rows / (now.rows + (now.rows == 0)))
    return Moments(rows, np.where(none, 0.0, before.mean + delta), np.where(none, 0.0, np.maximum(m2, 0)))


def combine(start: Moments, parts: Sequence[Moments]) -> Moments:
    """Return the statistics of the start's rows and of those that each task has added."""
    total = start
    for part in parts:
        total = merge(total, subtract(part, start))
    return total


def deviation(moments: Moments) -> Doubles:
    """Return the standard deviation of each column; 0 where it has been constant or has no rows."""
    return np.sqrt(moments.m2 / np.maximum(moments.rows, 1))
