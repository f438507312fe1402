"""Preprocessing of rows: scaled by running statistics, and with missing values imputed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn import moments, validation
from streaming_nn.nn.moments import SETTLED, Moments

SCALES = ("standard", "minmax", "none")
MAX_ACTIVE = 0.8  # part of the columns that may be active where leaving out the others is worth its cost
MISSING = ("refuse", "impute", "indicate")


class Spans(NamedTuple):
    """The statistics of "minmax"."""

    low: NDArray[np.float32]  # (columns,) inf before the first value
    high: NDArray[np.float32]  # (columns,) -inf before the first value
    moments: Moments


class Unscaled(NamedTuple):
    """The statistics of "none" where no value is missing: none."""


class ColumnGrowth(NamedTuple):
    """How the columns of rows are rearranged where new ones are added."""

    before: int  # columns before
    origin: NDArray[np.intp]  # (columns,) each column's index before; -1: it is new
    fill: NDArray[np.float32]  # (columns,) the value of a new one in all rows so far: 0, or NaN, missing

    def move(self, values: NDArray[Any], new: Any) -> NDArray[Any]:
        """Return values (…, before) in their new order (…, columns), with `new` for the new columns."""
        return np.where(self.origin < 0, np.asarray(new, values.dtype), values[..., self.origin])


@dataclass(frozen=True)
class Inputs:
    """Options of the scaling; the statistics are a state that goes in and comes out, mergeable across tasks.

    `scale` is "standard": running z-scores in [-clip, clip]; "minmax": the running least and largest value
    become -1 and 1, and what is beyond them is clipped; "none": rows as they are. `missing` is what a NaN
    means: "refuse": an error that makes the step not finite; "impute": the column's running mean; "indicate":
    that too, and as many more columns, which are 1 where a value is missing. With `reach`, values enter the
    statistics clipped to that many deviations: see `moments.clip_outliers`. Errors: ValueError, one line.

    The state of "standard" with "refuse" is a `Moments`, and has the bits of its functions.
    """

    columns: int
    scale: str = "standard"
    clip: float = 5.0
    missing: str = "refuse"
    reach: float | None = None

    def __post_init__(self) -> None:
        validation.integer("columns", self.columns)
        validation.one_of("scale", self.scale, SCALES)
        validation.between("clip", self.clip, 0, np.inf)
        validation.one_of("missing", self.missing, MISSING)
        if self.reach is not None:
            validation.between("reach", self.reach, 0, np.inf)

    @cached_property
    def _plain(self) -> bool:
        return self.scale == "standard" and self.missing == "refuse"

    @cached_property
    def _gaps(self) -> bool:
        return self.missing != "refuse"

    @property
    def width(self) -> int:
        """Columns of a prepared row."""
        return 2 * self.columns if self.missing == "indicate" else self.columns

    def init(self) -> Any:
        """Return the statistics of no rows: Moments, Spans or Unscaled."""
        stats = moments.init(self.columns)
        if self._gaps:
            stats = stats._replace(rows=np.zeros(self.columns))
        if self.scale == "minmax":
            nothing = np.full(self.columns, np.inf, np.float32)
            return Spans(nothing, -nothing, stats)
        return stats if self.scale == "standard" or self._gaps else Unscaled()

    def grow(self, state: Any, growth: ColumnGrowth) -> Any:
        """Return the statistics with new columns, as if their values had been `growth.fill` in all rows."""
        stats = _moments(state)
        if stats is None:
            return state
        most = float(np.max(stats.rows, initial=0))  # a column without gaps has had a value in every row
        rows = (
            growth.move(stats.rows, np.where(np.isnan(growth.fill), 0.0, most)) if self._gaps else stats.rows
        )
        stats = Moments(rows, growth.move(stats.mean, 0.0), growth.move(stats.m2, 0.0))
        if not isinstance(state, Spans):
            return stats
        nothing = np.where(np.isnan(growth.fill) | (most == 0), np.float32(np.inf), np.float32(0))
        return Spans(growth.move(state.low, nothing), growth.move(state.high, -nothing), stats)

    def prepared_growth(self, growth: ColumnGrowth) -> ColumnGrowth:
        """Return the growth of prepared rows (rows, width): of the values, then of the indicators."""
        if self.missing != "indicate":
            return growth
        indicators = np.where(growth.origin < 0, -1, growth.origin + growth.before)
        fill = np.isnan(growth.fill).astype(np.float32)
        return ColumnGrowth(
            2 * growth.before, np.append(growth.origin, indicators), np.append(np.zeros_like(fill), fill)
        )

    def update(self, state: Any, x: NDArray[np.float32]) -> Any:
        """Add rows (rows, columns). Pure: the state that came in is not changed."""
        if self._plain:
            return moments.update(
                state, x if self.reach is None else moments.clip_outliers(state, x, self.reach)
            )
        stats = _moments(state)
        if stats is None or not len(x):
            return state
        if self.reach is not None:
            x = (
                _clip_outliers(stats, x, self.reach)
                if self._gaps
                else moments.clip_outliers(stats, x, self.reach)
            )
        stats = _update(stats, x) if self._gaps else moments.update(stats, x)
        if self.scale != "minmax":
            return stats
        low, high = np.fmin.reduce(x, axis=0), np.fmax.reduce(x, axis=0)
        return Spans(np.fmin(state.low, low), np.fmax(state.high, high), stats)

    def prepare(self, state: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return rows (rows, columns) prepared for the network, (rows, width); of "none" maybe x itself."""
        if self._plain:
            return moments.standardize(state, x, self.clip)
        filling = self.filling(state)
        z = self._scaled(state, x if filling is None else np.where(np.isnan(x), filling, x))
        if self.missing == "indicate":
            return np.concatenate([z, np.isnan(x)], axis=1, dtype=np.float32)
        return z

    def prepare_and_update(
        self, state: Any, x: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.float32], Any]:
        """Prepare rows, and add the first `count` of them to the statistics."""
        if self._plain and self.reach is not None:
            return moments.standardize_and_update(state, x, count, self.clip, self.reach)
        return self.prepare(state, x), self.update(state, x[:count])

    def active_columns(self, state: Any, z: NDArray[np.float32]) -> NDArray[np.bool_] | None:
        """Return which columns (width,) have ever changed, prepared rows z (rows, width) included.

        The inactive ones are 0 in z. None: nearly all or none are active, or there are too few rows to know;
        always None with "none", where an inactive column need not be 0.
        """
        stats = _moments(state)
        if self.scale == "none" or stats is None or np.minimum.reduce(stats.rows, axis=None) < SETTLED:
            return None
        changed = np.count_nonzero(stats.m2) + self.width - self.columns
        if changed > MAX_ACTIVE * self.width:
            return None
        active: NDArray[np.bool_] = np.logical_or.reduce(z, axis=0)  # a NaN is active
        active[: self.columns] |= stats.m2 > 0
        active[self.columns :] = True
        return active if np.logical_or.reduce(active) else None

    def filling(self, state: Any) -> NDArray[np.float32] | None:
        """Return the value imputed in each column (columns,); None where missing values are refused."""
        return _moments_of(state).mean.astype(np.float32) if self._gaps else None

    def without_values(self, state: Any, sparse: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which columns (columns,) have been missing in all rows, or 0 where they are `sparse`.

        None of "none" with "refuse", which keeps no statistics.
        """
        stats = _moments(state)
        if stats is None:
            return np.zeros(self.columns, np.bool_)
        never: NDArray[np.bool_] = (stats.rows == 0) | (sparse & (stats.mean == 0) & (stats.m2 == 0))
        return never

    def affine(self, state: Any) -> tuple[NDArray[np.float32], NDArray[np.float32], float] | None:
        """Return shift, width and bound: (x - shift) / width ends at -bound and bound; None of "none"."""
        if self.scale == "none":
            return None
        if self.scale == "minmax":
            return *_middle(state), 1.0
        return state.mean.astype(np.float32), _deviation(state), self.clip

    def _scaled(self, state: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
        affine = self.affine(state)
        if affine is None:
            return x
        shift, width, far = affine
        z = (x - shift) / width
        return moments.clip_in_place(z, far)

    def merge(self, a: Any, b: Any) -> Any:
        """Combine the statistics of two sets of rows."""
        if isinstance(a, Spans):
            stats = moments.merge(a.moments, b.moments)
            return Spans(np.fmin(a.low, b.low), np.fmax(a.high, b.high), stats)
        return moments.merge(a, b) if isinstance(a, Moments) else a

    def subtract(self, now: Any, before: Any) -> Any:
        """Return the statistics of the rows between two states, the inverse of `merge`.

        Least and largest values cannot be subtracted: those of `now` are used.
        """
        if not isinstance(now, Spans):
            return moments.subtract(now, before) if isinstance(now, Moments) else now
        stats = moments.subtract(now.moments, before.moments)
        some = stats.rows > 0
        low, high = np.where(some, now.low, np.inf), np.where(some, now.high, -np.inf)
        return Spans(low.astype(np.float32), high.astype(np.float32), stats)

    def combine(self, start: Any, parts: Sequence[Any]) -> Any:
        """Return the statistics of the start's rows and of those that each task has added."""
        total = start
        for part in parts:
            total = self.merge(total, self.subtract(part, start))
        return total

    def check(self, state: Any) -> Any:
        """Return a number that is finite only where the statistics are."""
        stats = _moments(state)
        return 0.0 if stats is None else np.add.reduce(stats.m2)

    def check_rows(self, x: NDArray[np.float32]) -> Any:
        """Return a number that is finite only where the rows (rows, columns) can be learned."""
        if self._gaps:
            return np.nansum(x, dtype=np.float64)
        return np.add.reduce(x, axis=None, dtype=np.float64)


def _moments(state: Any) -> Moments | None:
    if isinstance(state, Spans):
        return state.moments
    return state if isinstance(state, Moments) else None


def _moments_of(state: Any) -> Moments:
    stats = _moments(state)
    assert stats is not None  # only "none" with "refuse" has no mean
    return stats


def _update(stats: Moments, x: NDArray[np.float32]) -> Moments:
    """Add rows as `moments.update` does, each column by its own count of values that are not NaN."""
    there = ~np.isnan(x)
    wide = x.astype(np.float64)
    origin = np.where(stats.rows > 0, stats.mean, _first(wide, there))
    delta = np.where(there, wide - origin, 0.0)
    ones = np.ones(len(x))
    rows = stats.rows + ones @ there
    total = ones @ delta
    delta *= delta
    m2 = ones @ delta
    mean = total / np.maximum(rows, 1)
    m2 -= total * mean
    return Moments(rows, mean + origin, np.maximum(m2, 0) + stats.m2)


def _first(x: NDArray[np.float64], there: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return each column's first value that is not missing; 0 where all are."""
    first = x[there.argmax(axis=0), np.arange(x.shape[1])]
    return np.where(there.any(axis=0), first, 0.0)


def _deviation(state: Moments) -> NDArray[np.float32]:
    """Return deviations as `moments.deviation` does; infinite before the first value, for z-scores of 0."""
    deviation = np.sqrt(state.m2 / np.maximum(state.rows, 1)).astype(np.float32)
    deviation += deviation == 0
    deviation[state.rows == 0] = np.inf
    return deviation


def _clip_outliers(stats: Moments, x: NDArray[np.float32], reach: float) -> NDArray[np.float32]:
    """Clip rows as `moments.clip_outliers` does, each column once it has enough values."""
    mean, far = stats.mean.astype(np.float32), _deviation(stats) * np.float32(reach)
    far[(stats.m2 == 0) | (stats.rows < SETTLED)] = np.inf
    return np.clip(x, mean - far, mean + far)


def _middle(spans: Spans) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the middle and half the width of each column's span; of a constant column, 1."""
    seen = spans.low <= spans.high
    low, high = (np.where(seen, end, np.float64(0)) for end in (spans.low, spans.high))
    half = np.where(seen, (high - low) / 2, np.inf).astype(np.float32)
    half += half == 0
    return ((low + high) / 2).astype(np.float32), half
