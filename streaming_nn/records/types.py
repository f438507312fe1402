"""The arguments and results of every format's decoder."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.records.labels import Label

LONGEST_VALUE = 60  # characters of a rejected value that are reported


class Blobs(NamedTuple):
    """Records as one buffer of bytes."""

    data: bytes | memoryview
    starts: NDArray[np.int64]  # (records,) where a record begins in data
    ends: NDArray[np.int64]  # (records,) where it ends
    absent: NDArray[np.bool_]  # (records,) True: a tombstone

    def at(self, positions: NDArray[np.int64]) -> list[bytes]:
        """Return the records at these positions, which ascend."""
        if not len(positions):
            return []
        first, last = self.starts[positions[0]], self.ends[positions[-1]]
        run = bytes(self.data[first:last])
        edges = (self.starts[positions] - first).tolist(), (self.ends[positions] - first).tolist()
        return [run[start:end] for start, end in zip(*edges, strict=True)]


class Rejection(NamedTuple):
    """Why and where a record is rejected."""

    position: int  # among the records that were given
    reason: str  # one of reasons.py
    field: str = ""  # its path: "payload.amount", "features[3]"; "": the record as a whole
    value: str = ""  # what was in the field: its repr, cut


class DecodedRows(NamedTuple):
    """Result of a format's decoder: rows that may still have NaN, infinity or numbers beyond float32."""

    x: NDArray[np.float64]  # (rows, inputs)
    y: NDArray[Any] | None  # (rows,) int32 index into labels, or float64 target; (rows, columns) of several
    kept: NDArray[np.int64]  # (rows,) positions of the rows' records
    rejected: list[Rejection]
    labels: Sequence[Label] = ()  # the classes, then the new ones of growing classes
    unseen: Sequence[tuple[int, str, Label]] = ()  # position, field, value that is not in its vocabulary


class Inspected(NamedTuple):
    """What records show of their schema, whatever its width and classes are."""

    widths: Counter[int]  # columns: how many records have them
    labels: Counter[tuple[type, Any]]  # type and label: how many of these records have it
    rejected: list[Rejection]
    filtered: int = 0  # records that `where` leaves out


def concatenate_labels(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate what `label_array` returns; a later part may have more labels."""
    if parts[0].ndim == 1:
        return np.concatenate(parts)
    columns = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, [(0, 0), (0, columns - part.shape[1])]) for part in parts])
