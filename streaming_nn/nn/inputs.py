"""How rows come to a network: scaled by running statistics, and with missing values filled in."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn import checks, scaling
from streaming_nn.nn.scaling import SETTLED, Scaling

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
    the statistics as no further than so many deviations: see `scaling.tame`. Errors: ValueError, one line.

    The state of "standard" with "refuse" is a `Scaling`, and has the bits of its functions.
    """

    columns: int
    scale: str = "standard"
    clip: float = 5.0
    missing: str = "refuse"
    reach: float | None = None

    def __post_init__(self) -> None:
        checks.whole("columns", self.columns)
        checks.one_of("scale", self.scale, SCALES)
        checks.between("clip", self.clip, 0, np.inf)
        checks.one_of("missing", self.missing, MISSING)
        if self.reach is not None:
            checks.between("reach", self.reach, 0, np.inf)

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
        moments = scaling.init(self.columns)
        if self._gaps:
            moments = moments._replace(rows=np.zeros(self.columns))
        if self.scale == "minmax":
            nothing = np.full(self.columns, np.inf, np.float32)
            return Spans(nothing, -nothing, moments)
        return moments if self.scale == "standard" or self._gaps else Unscaled()

    def update(self, state: Any, x: NDArray[np.float32]) -> Any:
        """Add rows (rows, columns). Pure: the state that came in is not changed."""
        if self._plain:
            return scaling.update(state, x if self.reach is None else scaling.tame(state, x, self.reach))
        moments = _moments(state)
        if moments is None or not len(x):
            return state
        if self.reach is not None:
            x = _tame(moments, x, self.reach) if self._gaps else scaling.tame(moments, x, self.reach)
        moments = _update(moments, x) if self._gaps else scaling.update(moments, x)
        if self.scale != "minmax":
            return moments
        low, high = np.fmin.reduce(x, axis=0), np.fmax.reduce(x, axis=0)
        return Spans(np.fmin(state.low, low), np.fmax(state.high, high), moments)

    def prepare(self, state: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give rows (rows, columns) as the network sees them, (rows, width); of "none" it may be x itself."""
        if self._plain:
            return scaling.standardize(state, x, self.clip)
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
            return scaling.standardize_and_update(state, x, count, self.clip, self.reach)
        return self.prepare(state, x), self.update(state, x[:count])

    def awake(self, state: Any, z: NDArray[np.float32]) -> NDArray[np.bool_] | None:
        """Tell which columns (width,) have ever moved, with prepared rows z (rows, width); others are 0 in z.

        None: nearly all, or none, or too few rows have been seen to tell; always of "none", where a column at
        rest need not be 0.
        """
        moments = _moments(state)
        if self.scale == "none" or moments is None or np.minimum.reduce(moments.rows, axis=None) < SETTLED:
            return None
        moved = np.count_nonzero(moments.m2) + self.width - self.columns
        if moved > MOST_AWAKE * self.width:
            return None
        awake: NDArray[np.bool_] = np.logical_or.reduce(z, axis=0)  # a NaN is awake
        awake[: self.columns] |= moments.m2 > 0
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
        return scaling.bounded(z, far)

    def merge(self, a: Any, b: Any) -> Any:
        """Combine the statistics of two sets of rows."""
        if isinstance(a, Spans):
            moments = scaling.merge(a.moments, b.moments)
            return Spans(np.fmin(a.low, b.low), np.fmax(a.high, b.high), moments)
        return scaling.merge(a, b) if isinstance(a, Scaling) else a

    def since(self, now: Any, before: Any) -> Any:
        """Return the statistics of the rows between two states: merged with `before`, they give `now`.

        Least and largest values can't be taken apart: those of `now` stand for the rows between.
        """
        if not isinstance(now, Spans):
            return scaling.since(now, before) if isinstance(now, Scaling) else now
        moments = scaling.since(now.moments, before.moments)
        some = moments.rows > 0
        low, high = np.where(some, now.low, np.inf), np.where(some, now.high, -np.inf)
        return Spans(low.astype(np.float32), high.astype(np.float32), moments)

    def combined(self, start: Any, parts: Sequence[Any]) -> Any:
        """Give the statistics of the start's rows and of those that each task has added to them."""
        total = start
        for part in parts:
            total = self.merge(total, self.since(part, start))
        return total

    def check(self, state: Any) -> Any:
        """Return a number that is finite only where the statistics are."""
        moments = _moments(state)
        return 0.0 if moments is None else np.add.reduce(moments.m2)

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
    moments = _moments(state)
    assert moments is not None  # only "none" that refuses missing values has no mean
    return moments


def _update(moments: Scaling, x: NDArray[np.float32]) -> Scaling:
    """Add rows as `scaling.update` does, each column by its own count of values that are not NaN."""
    there = ~np.isnan(x)
    wide = x.astype(np.float64)
    origin = np.where(moments.rows > 0, moments.mean, _first(wide, there))
    delta = np.where(there, wide - origin, 0.0)
    ones = np.ones(len(x))
    rows = moments.rows + ones @ there
    total = ones @ delta
    delta *= delta
    m2 = ones @ delta
    mean = total / np.maximum(rows, 1)
    m2 -= total * mean
    return Scaling(rows, mean + origin, np.maximum(m2, 0) + moments.m2)


def _first(x: NDArray[np.float64], there: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return each column's first value that is there; 0 where none is."""
    first = x[there.argmax(axis=0), np.arange(x.shape[1])]
    return np.where(there.any(axis=0), first, 0.0)


def _deviation(state: Scaling) -> NDArray[np.float32]:
    """Return deviations as `scaling.deviation` does; infinite, for z-scores of 0, where nothing was seen."""
    deviation = np.sqrt(state.m2 / np.maximum(state.rows, 1)).astype(np.float32)
    deviation += deviation == 0
    deviation[state.rows == 0] = np.inf
    return deviation


def _tame(moments: Scaling, x: NDArray[np.float32], reach: float) -> NDArray[np.float32]:
    """Bound rows as `scaling.tame` does, each column once it is settled itself."""
    mean, far = moments.mean.astype(np.float32), _deviation(moments) * np.float32(reach)
    far[(moments.m2 == 0) | (moments.rows < SETTLED)] = np.inf
    return np.clip(x, mean - far, mean + far)


def _middle(spans: Spans) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the middle and half the width of each column's span; of a constant column, 1."""
    seen = spans.low <= spans.high
    low, high = (np.where(seen, end, np.float64(0)) for end in (spans.low, spans.high))
    half = np.where(seen, (high - low) / 2, np.inf).astype(np.float32)
    half += half == 0
    return ((low + high) / 2).astype(np.float32), half
