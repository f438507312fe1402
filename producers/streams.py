"""A stream: endless labeled rows in blocks, with concept drift at known rows."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 256  # rows drawn and encoded at a time: enough for NumPy, and a quarter of a second at 1,000/s


class Block(NamedTuple):
    """Consecutive rows of a stream: numbers, or values as they are in a file."""

    x: NDArray[Any]  # (rows, inputs) float32; or (rows,) objects: lists of JSON values, None for a gap
    y: NDArray[Any] | None  # (rows,) int32 class index, or float32 target, or objects; None: not yet known
    at: NDArray[np.float64] | None = None  # (rows,) seconds since the stream's first row, if recorded


class Stream(NamedTuple):
    """Rows to be produced; the same seed gives the same rows."""

    inputs: int
    classes: tuple[Any, ...] | None  # labels in the order of their indices; None: regression
    blocks: Iterator[Block]
    names: tuple[str, ...] | None = None  # of the features, if they have any
    label: str = "label"  # the label's name
    named: bool = False  # a record always has a field for each feature, unless packed
    late: bool = False  # rows come without their labels in real time, and again once those are known
    column: str | None = None  # the label's name in a record of named fields; None: as `label`
    features: str = "features"  # the array's name in a record that has one
    missing: bool = False  # some features have gaps
    categories: tuple[str, ...] = ()  # features that are strings
    others: tuple[str, ...] = ()  # features that are not numbers or booleans
    datetimes: tuple[tuple[str, str], ...] = ()  # features that are dates, and the format of each
    left_out: tuple[str, ...] = ()  # features that are sent, but not to be learned: names, unclear dates
    note: str = ""  # one line about the file


def concepts(start: int, rows: int, drift_at: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the number of drifts before each of the rows start, start + 1, … (rows,)."""
    return np.searchsorted(np.array(drift_at, np.int64), np.arange(start, start + rows), side="right")


def checked_drift(drift_at: tuple[int, ...]) -> tuple[int, ...]:
    """Return the drifts' rows; raise ValueError unless they ascend."""
    if any(b <= a for a, b in zip((0, *drift_at), drift_at, strict=False)):
        raise ValueError(f"drift_at must be ascending row numbers, 1 or more; got {list(drift_at)}")
    return drift_at


def limited(stream: Stream, rows: int | None) -> Stream:
    """Return only the first rows of the stream; None: all."""
    return stream if rows is None else stream._replace(blocks=_limited(stream.blocks, rows))


def _limited(blocks: Iterator[Block], rows: int) -> Iterator[Block]:
    """Yield that many rows with their label, and at most as many without."""
    left = {True: rows, False: rows}
    while left[True] > 0 and (block := next(blocks, None)) is not None:
        x, y, at = block
        known = y is not None
        n, left[known] = left[known], left[known] - len(x)
        if n > 0:
            yield Block(x[:n], None if y is None else y[:n], None if at is None else at[:n])
