"""Preprocessing of rows, seen from outside the core: what exports need, and how columns are added."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core.ensemble import EnsembleState
from streaming_nn.core.structures import MISSING, SCALES
from streaming_nn.nn import moments, validation
from streaming_nn.nn.moments import Moments

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
REACH = 20.0  # deviations beyond which a value is kept apart from the others


class ColumnGrowth(NamedTuple):
    """How the columns of rows are rearranged where new ones are added."""

    before: int  # columns before
    origin: NDArray[np.intp]  # (columns,) each column's index before; -1: it is new
    fill: Doubles  # (columns,) the value of a new one in all rows so far: 0, or NaN, missing

    def move(self, values: NDArray, new: float | NDArray) -> NDArray:  # type: ignore[type-arg]
        """Return values (…, before) in their new order (…, columns), with `new` for the new columns."""
        return np.where(self.origin < 0, np.asarray(new, values.dtype), values[..., self.origin])


@dataclass(frozen=True)
class Scaler:
    """Options of the scaling. Errors: ValueError, one line.

    `scale` is "standard": running z-scores in [-clip, clip]; "minmax": the running least and largest value
    become -1 and 1, and what is beyond them is clipped; "none": rows as they are; "sparse": values divided by
    the root mean square of the column's that are not 0, in [-clip, clip], so that a 0 stays 0, as which a
    missing value is taken. `missing` is what a NaN
    means: "refuse": an error for which the step is not taken; "impute": the column's running mean;
    "indicate": that too, and as many more columns, which are 1 where a value is missing.
    """

    columns: int
    scale: str = "standard"
    clip: float = 5.0
    missing: str = "refuse"

    def __post_init__(self) -> None:
        validation.integer("inputs", self.columns)
        validation.one_of("scale", self.scale, SCALES)
        validation.between("clip", self.clip, 0, np.inf)
        validation.one_of("missing", self.missing, MISSING)

    @property
    def width(self) -> int:
        """Columns of a prepared row."""
        return 2 * self.columns if self.missing == "indicate" else self.columns

    def filling(self, state: EnsembleState) -> Doubles | None:
        """Return the value imputed in each column (columns,); None where missing values are refused."""
        if self.missing == "refuse":
            return None
        return np.zeros_like(state.means) if self.scale == "sparse" else state.means

    def affine(self, state: EnsembleState) -> tuple[Doubles, Floats, float] | None:
        """Return origin, width and bound: (x - origin) / width ends at -bound and bound; None of "none".

        A width is infinite before the column's first value, for z-scores of 0, and 1 of a constant column.
        """
        if self.scale == "none":
            return None
        if self.scale == "minmax":
            return *_span(state), 1.0
        if self.scale == "sparse":
            squares = state.means * state.means + state.squares / np.maximum(state.rows, 1)
            width = np.sqrt(squares).astype(np.float32)
            return np.zeros_like(state.means), np.where(width == 0, np.float32(1), width), self.clip
        width = moments.deviation(inputs_moments(state)).astype(np.float32)
        return state.means, _usable(width, state.rows > 0), self.clip

    def without_values(self, state: EnsembleState, sparse: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which columns (columns,) have been missing in all rows, or 0 where they are `sparse`."""
        never: NDArray[np.bool_] = (state.rows == 0) | (sparse & (state.means == 0) & (state.squares == 0))
        return never

    def prepared_growth(self, growth: ColumnGrowth) -> ColumnGrowth:
        """Return the growth of prepared rows (rows, width): of the values, then of the indicators."""
        if self.missing != "indicate":
            return growth
        indicators = np.where(growth.origin < 0, -1, growth.origin + growth.before)
        fill = np.isnan(growth.fill).astype(np.float64)
        return ColumnGrowth(
            2 * growth.before, np.append(growth.origin, indicators), np.append(np.zeros_like(fill), fill)
        )

    def grow(self, state: EnsembleState, growth: ColumnGrowth) -> EnsembleState:
        """Return the statistics with new columns, as if their values had been `growth.fill` in all rows."""
        most = float(state.learned)  # a column without gaps has had a value in every row
        absent = np.isnan(growth.fill)
        rows = np.where(absent | (self.scale == "sparse"), 0.0, most)  # zeros are not counted there
        grown = state._replace(
            rows=growth.move(state.rows, rows),
            means=growth.move(state.means, 0.0),
            squares=growth.move(state.squares, 0.0),
            clusters=growth.move(state.clusters, np.stack([rows, *np.zeros((6, len(rows)))])),
        )
        if self.scale != "minmax":
            return grown
        nothing = np.where(absent | (most == 0), np.inf, 0.0)
        return grown._replace(low=growth.move(state.low, nothing), high=growth.move(state.high, -nothing))


def inputs_moments(state: EnsembleState) -> Moments:
    """Return the statistics of the inputs' columns."""
    return Moments(state.rows, state.means, state.squares)


def targets_moments(state: EnsembleState) -> Moments:
    """Return the statistics of the targets (targets,); of classification there are none."""
    return Moments(*state.targets.T)


def target_unit(state: EnsembleState, counts: bool) -> Doubles:
    """Return the unit of each target: its deviation, of counts (Poisson) its mean; 1 where that is 0."""
    targets = targets_moments(state)
    unit = targets.mean if counts else moments.deviation(targets)
    return np.where(unit > 0, unit, 1.0)


def _span(state: EnsembleState) -> tuple[Doubles, Floats]:
    """Return the middle and half the width of each column's span; of a constant column, 1."""
    seen = state.low <= state.high
    low, high = (np.where(seen, end, np.float64(0)) for end in (state.low, state.high))
    return (low + high) / 2, _usable(((high - low) / 2).astype(np.float32), seen)


def _usable(width: Floats, seen: NDArray[np.bool_]) -> Floats:
    return np.where(seen, np.where(width == 0, np.float32(1), width), np.float32(np.inf))
