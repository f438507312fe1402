"""How rows come to a network: scaled by running statistics, and with missing values filled in."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn import moments, validation
from streaming_nn.nn.moments import SETTLED, Scaling

SCALES = ("standard", "minmax", "none")
MOST_AWAKE = 0.8  # part of the columns that may have moved if leaving out the others is to be worth its cost
MISSING = ("refuse", "impute", "indicate")


class Spans(NamedTuple):
    """What "minmax" knows of each column."""

    low: NDArray[np.float32]  # (columns,) inf where nothing has been seen
    high: NDArray[np.float32]  # (columns,) -inf where nothing has been seen
    moments: Scaling


class Unscaled(NamedTuple):
    """What "none" knows where no value is missing: nothing."""


@dataclass(frozen=True)
class Inputs:
    """Options of the scaling; the statistics are a state that goes in and comes out, mergeable across tasks.

    `scale` is "standard": running z-scores in [-clip, clip]; "minmax": the running least and largest value
    become -1 and 1, and what is beyond them is clipped; "none": rows as they are. `missing` says what a NaN
    is: "refuse": an error that makes the step not finite; "impute": the column's running mean; "indicate":
    that too, and as many columns again that are 1 where a value is missing. With `reach`, a value counts in
    the statistics as no further than so many deviations: see `moments.tame`. Errors: ValueError, one line.

    The state of "standard" with "refuse" is a `Scaling`, and has the bits of its functions.
    """

    columns: int
    scale: str = "standard"
    clip: float = 5.0
    missing: str = "refuse"
    reach: float | None = None

    def __post_init__(self) -> None:
        validation.whole("columns", self.columns)
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
        """Columns that the network sees."""
        return 2 * self.columns if self.missing == "indicate" else self.columns

    def init(self) -> Any:
        """Return the statistics of no rows: Scaling, Spans or Unscaled."""
        stats = moments.init(self.columns)
        if self._gaps:
            stats = stats._replace(rows=np.zeros(self.columns))
        if self.scale == "minmax":
            nothing = np.full(self.columns, np.inf, np.float32)
            return Spans(nothing, -nothing, stats)
        return stats if self.scale == "standard" or self._gaps else Unscaled()

    def update(self, state: Any, x: NDArray[np.float32]) -> Any:
        """Add rows (rows, columns). Pure: the state that came in is not changed."""
        if self._plain:
            return moments.update(state, x if self.reach is None else moments.tame(state, x, self.reach))
        stats = _moments(state)
        if stats is None or not len(x):
            return state
        if self.reach is not None:
            x = _tame(stats, x, self.reach) if self._gaps else moments.tame(stats, x, self.reach)
        stats = _update(stats, x) if self._gaps else moments.update(stats, x)
        if self.scale != "minmax":
            return stats
        low, high = np.fmin.reduce(x, axis=0), np.fmax.reduce(x, axis=0)
        return Spans(np.fmin(state.low, low), np.fmax(state.high, high), stats)

    def prepare(self, state: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give rows (rows, columns) as the network sees them, (rows, width); of "none" it may be x itself."""
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

    def awake(self, state: Any, z: NDArray[np.float32]) -> NDArray[np.bool_] | None:
        """Tell which columns (width,) have ever moved, with prepared rows z (rows, width); others are 0 in z.

        None: nearly all, or none, or too few rows have been seen to tell; always of "none", where a column at
        rest need not be 0.
        """
        stats = _moments(state)
        if self.scale == "none" or stats is None or np.minimum.reduce(stats.rows, axis=None) < SETTLED:
            return None
        moved = np.count_nonzero(stats.m2) + self.width - self.columns
        if moved > MOST_AWAKE * self.width:
            return None
        awake: NDArray[np.bool_] = np.logical_or.reduce(z, axis=0)  # a NaN is awake
        awake[: self.columns] |= stats.m2 > 0
        awake[self.columns :] = True
        return awake if np.logical_or.reduce(awake) else None

    def filling(self, state: Any) -> NDArray[np.float32] | None:
        """Return what stands for a missing value in each column (columns,); None where it is refused."""
        return _moments_of(state).mean.astype(np.float32) if self._gaps else None

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
        return moments.bounded(z, far)

    def merge(self, a: Any, b: Any) -> Any:
        """Combine the statistics of two sets of rows."""
        if isinstance(a, Spans):
            stats = moments.merge(a.moments, b.moments)
            return Spans(np.fmin(a.low, b.low), np.fmax(a.high, b.high), stats)
        return moments.merge(a, b) if isinstance(a, Scaling) else a

    def since(self, now: Any, before: Any) -> Any:
        """Return the statistics of the rows between two states: merged with `before`, they give `now`.

        Least and largest values can't be taken apart: those of `now` stand for the rows between.
        """
        if not isinstance(now, Spans):
            return moments.since(now, before) if isinstance(now, Scaling) else now
        stats = moments.since(now.moments, before.moments)
        some = stats.rows > 0
        low, high = np.where(some, now.low, np.inf), np.where(some, now.high, -np.inf)
        return Spans(low.astype(np.float32), high.astype(np.float32), stats)

    def combined(self, start: Any, parts: Sequence[Any]) -> Any:
        """Give the statistics of the start's rows and of those that each task has added to them."""
        total = start
        for part in parts:
            total = self.merge(total, self.since(part, start))
        return total

    def check(self, state: Any) -> Any:
        """Return a number that is finite only where the statistics are."""
        stats = _moments(state)
        return 0.0 if stats is None else np.add.reduce(stats.m2)

    def check_rows(self, x: NDArray[np.float32]) -> Any:
        """Return a number that is finite only where the rows (rows, columns) may be learned."""
        if self._gaps:
            return np.nansum(x, dtype=np.float64)
        return np.add.reduce(x, axis=None, dtype=np.float64)


def _moments(state: Any) -> Scaling | None:
    if isinstance(state, Spans):
        return state.moments
    return state if isinstance(state, Scaling) else None


def _moments_of(state: Any) -> Scaling:
    stats = _moments(state)
    assert stats is not None  # only "none" that refuses missing values has no mean
    return stats


def _update(stats: Scaling, x: NDArray[np.float32]) -> Scaling:
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
    return Scaling(rows, mean + origin, np.maximum(m2, 0) + stats.m2)


def _first(x: NDArray[np.float64], there: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return each column's first value that is there; 0 where none is."""
    first = x[there.argmax(axis=0), np.arange(x.shape[1])]
    return np.where(there.any(axis=0), first, 0.0)


def _deviation(state: Scaling) -> NDArray[np.float32]:
    """Return deviations as `moments.deviation` does; infinite, for z-scores of 0, where nothing was seen."""
    deviation = np.sqrt(state.m2 / np.maximum(state.rows, 1)).astype(np.float32)
    deviation += deviation == 0
    deviation[state.rows == 0] = np.inf
    return deviation


def _tame(stats: Scaling, x: NDArray[np.float32], reach: float) -> NDArray[np.float32]:
    """Bound rows as `moments.tame` does, each column once it is settled itself."""
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
