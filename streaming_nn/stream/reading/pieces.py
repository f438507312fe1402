"""Records that Java gives many in a row: as Arrow's record batches again, and in the one order.

A piece (a row, `read.PIECES`) has n records of one partition. In `numbers`, little-endian, are n offsets and
n times (int64), then the lengths (int32; -1: null) of their n values, n keys, n headers and n packed; in the
other columns the bytes of each, one after the other. Columns.java writes it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from tempfile import NamedTemporaryFile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streaming_nn.stream.source import ORDER

SCHEMA = pa.schema(
    {
        "timestamp": pa.int64(),  # milliseconds since 1970
        "topic": pa.string(),
        "partition": pa.int32(),
        "offset": pa.int64(),
        "key": pa.binary(),
        "value": pa.binary(),
        "headers": pa.string(),  # JSON, as `source.COLUMNS` has it
        "packed": pa.binary(),  # in place of the value, where Plain.java could read that
    }
)
ROWS = 10_000  # of a record batch in the one order
IN_MEMORY = 256 << 20  # bytes of records that are sorted in memory; more of them go through a file
Work = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class FromPieces:
    """A task's work on record batches, to be given pieces; in the one order where one task has all."""

    work: Work
    in_order: bool

    def __call__(self, pieces: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Do the work."""
        batches = record_batches(pieces)
        return self.work(in_order(batches) if self.in_order else batches)


def record_batches(pieces: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Give each piece's records, their bytes without a copy."""
    for rows in pieces:
        topics, partitions, numbers, *texts = rows.columns
        for topic, partition, number, *text in zip(
            topics.to_pylist(), partitions.to_pylist(), numbers, *map(_cells, texts), strict=True
        ):
            yield _batch(topic, partition, number.as_buffer(), *text)


def _cells(column: pa.Array) -> list[pa.Buffer]:
    """Give a binary column's cells without a copy, which the column's own scalars would be."""
    _, ends, data = column.buffers()
    edges = np.frombuffer(ends, np.int32)[column.offset : column.offset + len(column) + 1].tolist()
    return [data.slice(start, end - start) if data else pa.py_buffer(b"") for start, end in pairwise(edges)]


def _batch(topic: str, partition: int, numbers: pa.Buffer, *texts: pa.Buffer) -> pa.RecordBatch:
    n = numbers.size // 32
    lengths = np.frombuffer(numbers, "<i4", offset=16 * n).reshape(4, n)
    value, key, headers, packed = (_strings(*each) for each in zip(lengths, texts, strict=True))
    columns = [
        pa.Array.from_buffers(pa.int64(), n, [None, numbers.slice(8 * n, 8 * n)]),
        pa.repeat(topic, n),
        pa.repeat(pa.scalar(partition, pa.int32()), n),
        pa.Array.from_buffers(pa.int64(), n, [None, numbers.slice(0, 8 * n)]),
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
    """Give all records sorted by `source.ORDER`, in new record batches."""
    held = _held(iter(batches))
    order = pc.sort_indices(held.select(ORDER), [(name, "ascending") for name in ORDER])
    for start in range(0, len(order), ROWS):
        yield held.take(order[start : start + ROWS]).combine_chunks().to_batches()[0]


def _held(batches: Iterator[pa.RecordBatch]) -> pa.Table:
    kept, size = list[pa.RecordBatch](), 0
    for batch in batches:
        kept.append(batch)
        size += batch.nbytes
        if size > IN_MEMORY:
            return _mapped(chain(kept, batches))
    return pa.Table.from_batches(kept, SCHEMA).combine_chunks()


def _mapped(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """Write record batches into a file, and give them as what is mapped from it, which outlives its name."""
    with NamedTemporaryFile(prefix="streaming-nn-sorted-") as file:
        with pa.ipc.new_file(file.name, SCHEMA) as writer:
            for batch in batches:
                writer.write_batch(batch)
        return pa.ipc.open_file(pa.memory_map(file.name)).read_all()
