"""Pieces of many records that Java wrote to files: as Arrow's record batches, and in ORDER.

A piece (a row, `reader.PIECES`) is some of the records of a file, which has n of one partition. A file is
little-endian: n, n offsets and n times (int64), the lengths (int32; -1: null) of n values, n keys, n headers
and n packed, then the bytes of each, one after the other. Columns.java writes it.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streaming_nn.spark.sources.order import ORDER
from streaming_nn.spark.tasks import TaskFunction

SCHEMA = pa.schema(
    {
        "timestamp": pa.int64(),  # milliseconds since 1970
        "topic": pa.string(),
        "partition": pa.int32(),
        "offset": pa.int64(),
        "key": pa.binary(),
        "value": pa.binary(),
        "headers": pa.string(),  # JSON, as in `kafka_frames.COLUMNS`
        "packed": pa.binary(),  # in place of the value, if Plain.java could read that
    }
)
ROWS = 10_000  # of a record batch in ORDER, at most
BYTES = 1 << 30  # of a column of it, at most: Arrow's offsets have 32 bits


@dataclass(frozen=True)
class FromPieces:
    """A task's work on record batches, applied to pieces; in ORDER if one task has all of them."""

    work: TaskFunction
    in_order: bool

    def __call__(self, pieces: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Read the pieces, and do the work on their record batches."""
        batches = record_batches(pieces)
        return self.work(in_order(batches) if self.in_order else batches)


def record_batches(pieces: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the records of each piece."""
    for rows in pieces:
        for cells in zip(*rows.to_pydict().values(), strict=True):
            yield open_piece(*cells)


def open_piece(topic: str, partition: int, file: str, begin: int, until: int, last: bool) -> pa.RecordBatch:
    """Return a piece's records, without a copy; the last piece of a file deletes it."""
    data = pa.memory_map(file).read_buffer()
    if last:
        os.unlink(file)  # the mapping outlives its name
    return _batch(topic, partition, data).slice(begin, until - begin)


def _batch(topic: str, partition: int, data: pa.Buffer) -> pa.RecordBatch:
    n = int.from_bytes(data[:8].to_pybytes(), "little")
    lengths = np.frombuffer(data, "<i4", 4 * n, 8 + 16 * n).reshape(4, n)
    columns_of_bytes, start = [], 8 + 32 * n
    for each in lengths:
        columns_of_bytes.append(_strings(each, data[start:]))
        start += int(each[each > 0].sum())
    value, key, headers, packed = columns_of_bytes
    columns = [
        pa.Array.from_buffers(pa.int64(), n, [None, data.slice(8 + 8 * n, 8 * n)]),
        pa.repeat(topic, n),
        pa.repeat(pa.scalar(partition, pa.int32()), n),
        pa.Array.from_buffers(pa.int64(), n, [None, data.slice(8, 8 * n)]),
        key,
        value,
        headers.cast(pa.string()),
        packed,
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _strings(lengths: NDArray[np.int32], data: pa.Buffer) -> pa.Array:
    absent = lengths < 0
    ends = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(np.where(absent, 0, lengths), out=ends[1:])
    valid = pa.py_buffer(np.packbits(~absent, bitorder="little")) if absent.any() else None
    return pa.Array.from_buffers(pa.binary(), len(lengths), [valid, pa.py_buffer(ends), data])


def in_order(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield all records sorted by `order.ORDER`, in new record batches.

    Each batch has records of one partition, in the order of their offsets: so they are sorted except by time,
    and a stable sort, which merges what is ascending already, has little to do.
    """
    held = by_partition(batches)
    times = [batch.column(ORDER[0]).to_numpy() for batch in held]
    order = np.concatenate([np.empty(0, np.int64), *times]).argsort(kind="stable")
    starts = np.cumsum([0, *(batch.num_rows for batch in held)])
    rows = max(min(ROWS, BYTES // max(map(_longest, held), default=1)), 1)
    for start in range(0, len(order), rows):
        yield _take(held, starts, order[start : start + rows])


def by_partition(batches: Iterable[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Return batches, each of one partition, in the order of (topic, partition), then of their offsets."""
    return sorted((batch for batch in batches if batch.num_rows), key=_first)


def _longest(batch: pa.RecordBatch) -> int:
    """Return the length of the longest cell, at least 1."""
    columns = (batch.column(name) for name in ("key", "value", "headers", "packed"))
    return max(1, *(pc.max(pc.binary_length(column)).as_py() or 0 for column in columns))


def _first(batch: pa.RecordBatch) -> tuple[Any, ...]:
    return tuple(batch.column(name)[0].as_py() for name in ORDER[1:])


def _take(batches: list[pa.RecordBatch], starts: NDArray[np.int64], rows: NDArray[Any]) -> pa.RecordBatch:
    """Take rows from the parts of the batches that have them: Arrow would copy all batches each time."""
    ascending = np.sort(rows)
    ends = ascending.searchsorted(starts)
    parts, shifts, joined = [], np.zeros(len(batches), np.int64), 0
    for i in np.flatnonzero(np.diff(ends)):
        first, last = ascending[ends[i]], ascending[ends[i + 1] - 1]
        parts.append(batches[i].slice(first - starts[i], last - first + 1))
        shifts[i] = joined - first
        joined += last - first + 1
    some = pa.Table.from_batches(parts).combine_chunks()
    indices = rows + shifts[starts.searchsorted(rows, "right") - 1]
    return some.take(pa.array(indices)).to_batches()[0]
