"""Pieces become record batches: every record as it was, and in ORDER if one task has all."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_nn.spark.sources.prefetch import record_batches as module
from streaming_nn.spark.sources.prefetch.record_batches import SCHEMA, FromPieces, in_order, record_batches

pytestmark = pytest.mark.commit

TEXT = st.none() | st.binary(max_size=20)
HEADERS = st.none() | st.text(max_size=9).map(str.encode)
RECORD = st.tuples(st.integers(0, 3), st.integers(-1, 5), TEXT, TEXT, HEADERS, TEXT)  # partition, time, …
Record = tuple[int, int, bytes | None, bytes | None, bytes | None, bytes | None]


def piece(topic: str, partition: int, offset: int, records: Sequence[Record]) -> Iterator[pa.RecordBatch]:
    """Write records in the format of the module's docstring, and return them in two rows."""
    n = len(records)
    laid = np.array([n, *range(offset, offset + n), *[record[1] for record in records]], "<i8").tobytes()
    texts = [record[i] for i in (3, 2, 4, 5) for record in records]  # values, keys, headers, packed
    laid += np.array([-1 if t is None else len(t) for t in texts], "<i4").tobytes()
    with NamedTemporaryFile(delete=False) as file:
        file.write(laid + b"".join(t or b"" for t in texts))
    for begin, until in {0: n // 2, n // 2: n}.items():
        row = [topic, partition, file.name, begin, until, until == n]
        kinds = (pa.string(), pa.int32(), pa.string(), pa.int32(), pa.int32(), pa.bool_())
        arrays = [pa.array([cell], kind) for cell, kind in zip(row, kinds, strict=True)]
        names = ["topic", "partition", "file", "begin", "until", "last"]
        yield pa.RecordBatch.from_arrays(arrays, names=names)
    assert not Path(file.name).exists()


def cut(records: Sequence[Record], size: int) -> Iterator[pa.RecordBatch]:
    """Return each partition's records in pieces of so many, from offset 100 on, the partitions in turn."""
    for start in range(0, len(records), size):
        for partition in range(4):
            own = [record for record in records if record[0] == partition]
            if some := own[start : start + size]:
                yield from piece("t", partition, 100 + start, some)


def rows_of(records: Sequence[Record]) -> list[dict[str, object]]:
    rows, reached = [], [100] * 4
    for partition, time, key, value, headers, packed in records:
        position = {"timestamp": time, "topic": "t", "partition": partition, "offset": reached[partition]}
        text = None if headers is None else headers.decode()
        rows.append(position | {"key": key, "value": value, "headers": text, "packed": packed})
        reached[partition] += 1
    return rows


def order(row: dict[str, object]) -> tuple[object, ...]:
    return row["timestamp"], row["topic"], row["partition"], row["offset"]


@given(st.lists(RECORD, max_size=40), st.integers(1, 7))
@settings(deadline=None)  # the first one waits for Arrow
def test_records_are_read_as_they_were_written(records: list[Record], size: int) -> None:
    batches = list(record_batches(cut(records, size)))
    assert all(batch.schema == SCHEMA for batch in batches)
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert sorted(rows, key=order) == sorted(rows_of(records), key=order)
    for partition in range(4):
        offsets = [row["offset"] for row in rows if row["partition"] == partition]
        assert offsets == sorted(offsets)


def test_one_task_has_all_records_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 7)
    rng = np.random.default_rng(0)
    records: list[Record] = [
        (int(p), int(t), None, bytes(rng.bytes(int(n))), None, None)
        for p, t, n in zip(*rng.integers((0, 0, 0), (4, 9, 30), (50, 3)).T, strict=True)
    ]
    batches = list(in_order(record_batches(cut(records, 5))))
    assert [batch.num_rows for batch in batches] == [7] * 7 + [1]
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert rows == sorted(rows_of(records), key=order)


def test_batches_in_order_have_as_few_rows_as_long_records_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES", 1000)
    records: list[Record] = [
        (p, p + t, None, b"a" * (300 if t == 5 else 3), None, None) for t in range(9) for p in (0, 1)
    ]
    batches = list(in_order(record_batches(cut(records, 2))))
    assert [batch.num_rows for batch in batches] == [3] * 6
    assert [row for batch in batches for row in batch.to_pylist()] == sorted(rows_of(records), key=order)


@pytest.mark.parametrize("ordered", [True, False])
def test_the_work_gets_record_batches(ordered: bool) -> None:
    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield batch.select(["timestamp", "partition"])

    records: list[Record] = [(p, t, None, b"a", None, None) for p, t in ((1, 5), (0, 4), (1, 3))]
    task = FromPieces(work, ordered)
    given = [row["timestamp"] for batch in task(cut(records, 1)) for row in batch.to_pylist()]
    assert given == ([3, 4, 5] if ordered else [4, 5, 3])
    assert list(task(iter(()))) == []


def test_records_are_not_copied() -> None:
    for batch in record_batches(cut([(0, 1, None, b"abc", None, b"de")], 1)):
        value, packed = (batch.column(name).buffers()[2] for name in ("value", "packed"))
        assert packed.address == value.address + len("abc")
        assert not value.is_mutable
