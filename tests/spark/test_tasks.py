"""What a task returns, as a row too, and what it does if the schema must grow; no Spark is needed for it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Counts, initial
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.decode import encode, encode_named
from streaming_nn.records.schema import Schema, grow_schema
from streaming_nn.spark.rejected import DEAD_LETTERS
from streaming_nn.spark.tasks import (
    AHEAD,
    TASK_RESULT,
    Learn,
    TaskResult,
    ahead,
    learn_records,
    pack,
    result_from_row,
    split_tasks,
)
from streaming_nn.versions.version import state_digest

pytestmark = pytest.mark.commit

SHOP = Schema(4, ("no",), ("price", "city"), categories={"city": {"one_hot": 3}}, label="bought", grow=True)
ROWS = [{"price": i, "city": "abcd"[i % 4]} for i in range(8)]
LABELS = ["no", "yes", "no", "maybe"] * 2
LEARNER = learner_from({"inputs": 4, "classes": ["no", "yes", "maybe"], "mini_batch": 2})
KNOWN = {"bought": ("yes", "maybe"), "city": ("a", "b", "c", "d")}


def batches(values: list[bytes], cut: int) -> list[pa.RecordBatch]:
    """Return the records in two batches."""
    names = ["topic", "partition", "offset", "key", "value", "headers"]
    whole = pa.RecordBatch.from_pylist(
        [dict(zip(names, ("t", 3, i, None, value, None), strict=True)) for i, value in enumerate(values)],
        pa.schema([DEAD_LETTERS.field(name) for name in names]),
    )
    return [whole.slice(0, cut), whole.slice(cut)]


def learn(schema: Schema, values: list[bytes], cut: int, limit: int | None = 1 << 20) -> TaskResult:
    """Learn the records here, and as a task does; both must return the same."""
    result = learn_records(LEARNER, schema, initial(LEARNER), batches(values, cut), limit, samples=2)
    state = SimpleNamespace(value=pack(initial(LEARNER)))
    (out,) = Learn(LEARNER, schema, state, limit, samples=2)(iter(batches(values, cut)))
    assert out.schema.names == [column.split()[0] for column in TASK_RESULT.split(", ")]
    same(result_from_row(LEARNER, out.to_pylist()[0]), result)
    same(learn_records(LEARNER, schema, initial(LEARNER), batches(values, cut), limit, True, 2), result)
    return result


def test_rows_of_an_array_are_learned_as_records_of_their_own() -> None:
    rows = [row | {"bought": label} for row, label in zip(ROWS, LABELS, strict=True)]
    rows[3]["price"] = "x"
    schema = grow_schema(SHOP, KNOWN)
    alone = learn(schema, [json.dumps(row).encode() for row in rows], 3)
    together = learn(replace(schema, explode="[]"), [json.dumps(rows[i : i + 4]).encode() for i in (0, 4)], 1)
    assert together.counts == alone.counts == Counts(8, 7, 0, 1)
    assert digest(together) == digest(alone)
    (letter,) = together.dead_letters
    assert (letter.offset, letter.row) == (0, 3)
    assert json.loads(letter.value or b"") == rows[3]


def test_items_are_made_ahead_in_order_and_an_error_follows_those_before_it() -> None:
    made = list[int]()

    def items() -> Iterator[int]:
        for i in range(10):
            if i == 8:
                raise ValueError("eight")
            made.append(i)
            yield i

    given = ahead(items())
    assert [next(given) for _ in range(3)] == [0, 1, 2]
    given.close()
    assert made == [*range(3 + AHEAD)]
    found = list[int]()
    with pytest.raises(ValueError, match="eight"):
        found.extend(ahead(items()))
    assert found == [*range(8)]
    assert list(ahead(())) == []


def test_columns_with_large_numbers_are_reported_with_the_result() -> None:
    """An identifier of 2^60 is rounded; so is one of 2^24, as in docs/records.md."""
    classes = ("no", "yes", "maybe")
    schema = Schema(4, classes, ("id", "x", "y", "z"))
    edge = (1 << 53) - (1 << 30)
    rows = [[1 << 53, 1.5, -(1 << 60), 0], [edge, 1 << 52, 3, -edge], [1 << 70, "no number", 1, 1]]
    values = encode_named(schema, [dict(zip(schema.columns, row, strict=True)) for row in rows], ["no"] * 3)
    assert learn(schema, values, 1).large == ["id", "y"]
    assert learn(schema, values[1:], 1).large == []
    packed = Schema(4, classes, format="packed")
    assert learn(packed, encode(packed, np.full((2, 4), 2.0**60), np.array([0, 1])), 1).large == []


def same(a: TaskResult, b: TaskResult) -> None:
    assert (a.part is None) == (b.part is None)
    if a.part is not None and b.part is not None:
        assert digest(a) == digest(b)
        assert a.part.counts == b.part.counts
        assert_array_equal(a.part.losses, b.part.losses)
    assert {name: list(values) for name, values in a.unseen.items()} == {
        name: list(values) for name, values in b.unseen.items()
    }
    rest: dict[str, Any] = {"part": None, "seconds": 0.0, "unseen": {}}
    assert a._replace(**rest) == b._replace(**rest)


def digest(result: TaskResult) -> str:
    assert result.part is not None
    return state_digest(flatten(result.part.model) | {"losses": result.part.losses})


def test_unseen_values_are_returned_until_the_schema_has_them() -> None:
    values = [*encode_named(SHOP, ROWS, LABELS), b"no JSON"]
    result = learn(SHOP, values, 3)
    assert dict(result.unseen) == KNOWN
    assert (result.part, result.rejected, result.dead_letters) == (None, {}, [])
    schema = grow_schema(SHOP, result.unseen)
    results = [learn(schema, values, cut) for cut in (3, 6)]
    for result in results:
        assert not result.unseen
        assert (result.topic, result.partition) == ("t", 3)
        assert result.counts == Counts(received=9, trained=8, skipped=0, rejected=1)
        assert [letter.offset for letter in result.dead_letters] == [8]
    assert len({digest(result) for result in results}) == 1, "the cut does not matter"


def test_past_the_limit_the_position_and_the_reason_of_a_rejected_record_remain() -> None:
    schema = grow_schema(SHOP, KNOWN)
    values = [*encode_named(SHOP, ROWS, LABELS), b"x" * 500, b"y" * 500, b"z"]
    result = learn(schema, values, 3, limit=700)
    assert result.counts == Counts(received=11, trained=8, rejected=3)
    assert [(letter.offset, letter.value, letter.cut) for letter in result.dead_letters] == [
        (8, b"x" * 500, ""),
        (9, b"y" * 72, "value"),
        (10, b"", "value"),
    ]


def test_without_a_limit_rejected_records_are_counted_only() -> None:
    schema = grow_schema(SHOP, KNOWN)
    result = learn(schema, [*encode_named(SHOP, ROWS, LABELS), b"x" * 500], 3, limit=None)
    assert result.dead_letters == []
    assert result.counts == Counts(received=9, trained=8, rejected=1)


@pytest.mark.parametrize(
    ("averaged", "expected"),
    [(False, [[0, 1, 2, 3, 4, 5]]), (True, [[0, 1], [2], [3, 4], [5]])],
)
def test_a_task_has_all_records_or_a_partition(averaged: bool, expected: list[list[int]]) -> None:
    partitions = {"topic": ["a", "a", "a", "b", "b", "b"], "partition": [0, 0, 1, 1, 1, 2]}
    whole = pa.record_batch({**partitions, "row": list(range(6))})
    pieces = [whole.slice(0, 1), whole.slice(1, 3), whole.slice(4)]
    tasks = split_tasks(iter(pieces), averaged)
    found = [[row for batch in task for row in batch.column("row").to_pylist()] for task in tasks]
    assert found == expected


@pytest.mark.parametrize("unit", ["ms", "us", "integer"])
def test_the_times_of_a_tasks_records_are_the_oldest_and_the_newest(unit: str) -> None:
    schema = grow_schema(SHOP, KNOWN)
    values = encode_named(SHOP, ROWS, LABELS)
    times = pa.array([1_700_000_000_123 + 1000 * (i % 5) for i in range(8)], pa.int64())
    if unit != "integer":
        times = times.cast(pa.timestamp("ms")).cast(pa.timestamp(unit, tz="UTC"))
    parts = [
        part.add_column(0, "timestamp", times[start : start + part.num_rows])
        for part, start in zip(batches(values, 3), (0, 3), strict=True)
    ]
    result = learn_records(LEARNER, schema, initial(LEARNER), parts, None)
    assert result.times == (1_700_000_000_123, 1_700_000_004_123)
    without = [part.set_column(0, "timestamp", pa.array([-1] * part.num_rows)) for part in parts]
    assert learn_records(LEARNER, schema, initial(LEARNER), without, None).times == ()
