"""Rows that are mostly zero, by their entries: what `scipy.sparse` calls CSR."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class SparseRows:
    """Rows (rows, columns) of float64; all that is not an entry is 0.

    `starts` (rows + 1,) are where each row's entries start, `indices` and `values` (entries,) their columns,
    ascending in each row, and values. It has an array's `len`, `shape` and slices of rows. Errors:
    ValueError where these do not fit.
    """

    def __init__(self, starts: Any, indices: Any, values: Any, columns: int) -> None:
        self.starts = np.ascontiguousarray(starts, np.int64)
        self.indices = np.ascontiguousarray(indices, np.int32)
        self.values = np.ascontiguousarray(values, np.float64)
        self.columns = columns
        if self.indices.ndim != 1 or self.values.shape != self.indices.shape:
            raise ValueError(
                f"values must be one per index; got {self.values.shape} and {self.indices.shape}"
            )
        ends = self.starts[1:]
        if (
            self.starts.ndim != 1
            or not len(self.starts)
            or self.starts[0] != 0
            or (ends < self.starts[:-1]).any()
        ):
            raise ValueError("starts must go from 0 upwards")
        if self.starts[-1] != len(self.indices):
            raise ValueError(f"starts must end at {len(self.indices)}, the entries; got {self.starts[-1]}")
        if not len(self.indices):
            return
        if self.indices.min() < 0 or self.indices.max() >= columns:
            raise ValueError(
                f"indices must be in [0, {columns}); got {self.indices.min()} to {self.indices.max()}"
            )
        ascending = np.diff(self.indices) > 0
        ascending[ends[(ends > 0) & (ends < len(self.indices))] - 1] = True  # from one row to the next
        if not ascending.all():
            raise ValueError("indices must ascend in each row, without duplicates")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), self.columns

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.starts) - 1

    def __getitem__(self, rows: slice) -> "SparseRows":
        """Return a slice of the rows."""
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"rows must be a slice of step 1; got {rows}")
        starts = self.starts[start : max(start, stop) + 1]
        part = slice(starts[0], starts[-1])
        return SparseRows(starts - starts[0], self.indices[part], self.values[part], self.columns)


def concatenate(parts: Sequence[SparseRows]) -> SparseRows:
    """Return the rows of several one after the other."""
    counts = np.concatenate([np.diff(part.starts) for part in parts])
    return SparseRows(
        np.append(0, np.cumsum(counts)),
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.values for part in parts]),
        parts[0].columns,
    )
