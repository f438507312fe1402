"""Who learns a micro-batch, and that the driver learns what tasks do; no Spark is needed for it."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from kafka_topics import SCHEMA, labeled

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Counts, initial
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.decode import encode_named
from streaming_nn.records.schema import Schema
from streaming_nn.spark.sources.prefetch.record_batches import SCHEMA as COLUMNS
from streaming_nn.spark.sources.prefetch.record_batches import by_partition, in_order
from streaming_nn.spark.tasks import TaskResult, learn_records
from streaming_nn.spark.train import executor
from streaming_nn.spark.train.executor import (
    DriverExecutor,
    DriverFirstExecutor,
    TaskExecutor,
    executor_for,
    learn_micro_batch,
)
from streaming_nn.spark.train.micro_batch import Work
from streaming_nn.versions.version import state_digest

pytestmark = pytest.mark.commit

LEARNER = learner_from({"inputs": 3, "classes": [0, 1], "hidden": [4], "mini_batch": 4})


@dataclass
class Plan:
    """Records that are in this process."""

    count: int | None = 0
    records: pa.Table = field(default_factory=lambda: COLUMNS.empty_table())
    position: dict[str, Any] = field(default_factory=dict)

    def batches(self, averaged: bool) -> Iterable[pa.RecordBatch]:
        partitions = self.records.column("partition")
        pieces = [
            batch
            for each in partitions.unique().to_pylist()
            for batch in self.records.filter(pc.equal(partitions, each)).sort_by("offset").to_batches(7)
        ]
        return by_partition(pieces[::-1]) if averaged else in_order(pieces[::-1])

    def tasks(self, work: Any, averaged: bool) -> Any:
        raise AssertionError("there is no Spark")


class Named:
    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls = name, calls

    def learn(self, work: Work, plan: Any) -> list[TaskResult]:
        self.calls.append(self.name)
        return []


def work_of(averaged: bool = False, inputs: int = 3) -> Work:
    return Work(LEARNER, Schema(inputs, (0, 1)), initial(LEARNER), averaged)


@pytest.mark.parametrize(
    ("count", "averaged", "inputs", "chosen"),
    [
        (0, False, 3, "driver"),
        (30, False, 3, "driver"),
        (31, False, 3, "tasks"),
        (30, True, 3, "driver"),
        (31, True, 3, "tasks"),
        (30, False, executor.DRIVER_VALUES // 30 + 1, "tasks"),
        (None, False, 3, "tasks"),
    ],
)
def test_the_driver_learns_what_fits(count: int | None, averaged: bool, inputs: int, chosen: str) -> None:
    calls: list[str] = []
    small = DriverFirstExecutor(Named("driver", calls), Named("tasks", calls), records=30)
    small.learn(work_of(averaged, inputs), Plan(count))
    assert calls == [chosen]


@pytest.mark.parametrize(
    ("options", "averaged", "chosen"),
    [
        ({}, True, "driver"),
        ({"format": "packed"}, True, "driver"),
        ({"numbers_as_strings": True}, True, "tasks"),
        ({"numbers_as_strings": True}, False, "driver"),
        ({"format": "csv", "features": ("a", "b", "c")}, True, "tasks"),
    ],
)
def test_records_that_python_parses_are_shared_by_tasks(
    options: dict[str, Any], averaged: bool, chosen: str
) -> None:
    calls: list[str] = []
    first = DriverFirstExecutor(Named("driver", calls), Named("tasks", calls), executor.DRIVER_RECORDS)
    work = replace(work_of(averaged), schema=Schema(3, (0, 1), **options))
    first.learn(work, Plan(executor.PARSED_RECORDS + 1))
    first.learn(work, Plan(executor.PARSED_RECORDS))
    assert calls == [chosen, "driver"]


@pytest.mark.parametrize(
    ("master", "kind"), [("local[2]", DriverFirstExecutor), ("spark://host:7077", TaskExecutor)]
)
def test_a_cluster_learns_in_tasks_only(master: str, kind: type) -> None:
    spark: Any = SimpleNamespace(sparkContext=SimpleNamespace(master=master))
    assert isinstance(executor_for(spark), kind)


def table(values: list[bytes], partitions: int) -> pa.Table:
    """Return the records, the i-th in partition i % `partitions`, in no particular order."""
    columns = [
        {
            "timestamp": i // 2,
            "topic": "t",
            "partition": i % partitions,
            "offset": i // partitions,
            "value": v,
        }
        for i, v in enumerate(values)
    ]
    return pa.Table.from_pylist(columns[::-1], COLUMNS)


@pytest.mark.parametrize("averaged", [False, True])
def test_the_driver_learns_in_the_order_of_the_tasks(averaged: bool) -> None:
    values = [*labeled(40), b"no JSON", *labeled(19, seed=1)]
    plan = Plan(60, table(values, 3))
    results = DriverExecutor().learn(work_of(averaged), plan)
    keys = ["partition", "offset"] if averaged else ["timestamp", "partition", "offset"]
    ordered = plan.records.sort_by([(key, "ascending") for key in keys]).combine_chunks()
    lengths = [20, 20, 20] if averaged else [60]
    assert [(each.topic, each.partition) for each in results] == [("t", p) for p in range(len(lengths))]
    for start, each in zip((0, 20, 40), results, strict=False):
        batches = ordered.slice(start, lengths[0]).to_batches()
        expected = learn_records(LEARNER, SCHEMA, initial(LEARNER), batches, None)
        assert each.counts == expected.counts
        assert digest(each) == digest(expected)
    assert sum(each.counts.rejected for each in results) == 1


def digest(result: TaskResult) -> str:
    assert result.part is not None
    return state_digest(flatten(result.part.model) | {"losses": result.part.losses})


def test_a_micro_batch_with_unseen_labels_is_learned_again_by_what_has_grown() -> None:
    schema = Schema(2, ("no",), ("a", "b"), grow=True)
    learner = learner_from({"inputs": 2, "classes": ["no"], "hidden": [4]})
    rows = [{"a": i, "b": -i} for i in range(30)]
    plan = Plan(30, table(encode_named(schema, rows, ["no", "yes", "maybe"] * 10), 1))
    work, learned = learn_micro_batch(DriverExecutor(), Work(learner, schema, initial(learner)), plan)
    assert work.schema.classes == work.learner.classes == ("no", "yes", "maybe")
    assert learned.counts == Counts(30, 30)
    assert learned.state.metrics.cumulative.actual.tolist() == [10, 10, 10]
