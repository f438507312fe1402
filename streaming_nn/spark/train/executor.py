"""Who learns a micro-batch: on one machine the driver, if it is not slower; else Spark tasks."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pyarrow as pa
from pyspark.sql import SparkSession

from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.schema import Schema, merge_unseen
from streaming_nn.records.values import Rules
from streaming_nn.spark.session import on_one_machine, rows_of, shared
from streaming_nn.spark.sources.prefetch.reader import plain_of
from streaming_nn.spark.sources.source import Plan
from streaming_nn.spark.tasks import Learn, TaskResult, learn_records, result_from_row, split_tasks
from streaming_nn.spark.train.micro_batch import Learned, Work, combine_results

DRIVER_RECORDS = 1_000_000  # the most that the driver learns at once
DRIVER_VALUES = 32_000_000  # and their values: 256 MB as rows
PARSED_RECORDS = 5_000  # the most of those that Python parses one by one, if tasks would share them


class Executor(Protocol):
    """Learns micro-batches."""

    def learn(self, work: Work, plan: Plan) -> list[TaskResult]:
        """Learn a micro-batch; return the results of its tasks in the order of (topic, partition)."""


class DriverExecutor:
    """Learns in this process, to the same bits as Spark tasks do: averaged tasks in threads."""

    def learn(self, work: Work, plan: Plan) -> list[TaskResult]:
        """Read and learn the records here, without a Spark job."""
        batches = plan.batches(work.averaged)

        def learn(task: Iterable[pa.RecordBatch], decode_ahead: bool = False) -> TaskResult:
            return learn_records(
                work.learner, work.schema, work.start, task, work.limit, decode_ahead, work.samples
            )

        if not work.averaged:
            return [learn(batches, decode_ahead=True)]
        tasks = [list(task) for task in split_tasks(iter(batches), averaged=True)]
        with ThreadPoolExecutor(os.cpu_count()) as threads:  # the core releases the GIL
            return list(threads.map(learn, tasks))


class TaskExecutor:
    """Learns in one Spark job: a task per partition if averaged, else one task."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark

    def learn(self, work: Work, plan: Plan) -> list[TaskResult]:
        """Broadcast the state, and run the job."""
        with shared(self._spark, flatten(work.state)) as state:
            task = Learn(work.learner, work.schema, state, work.limit, work.samples)
            rows = rows_of(plan.tasks(task, work.averaged))
        results = [result_from_row(work.learner, row) for row in rows]
        return sorted(results, key=lambda result: (result.topic, result.partition))


class DriverFirstExecutor:
    """Learns in the driver what fits there, and the rest in Spark tasks.

    Python parses records in one thread at a time. If tasks would share them, these are faster, except for
    few. No records at all, as in a query's first micro-batch, prepare the reader.
    """

    def __init__(self, driver: Executor, tasks: Executor, records: int) -> None:
        self._driver, self._tasks, self._records = driver, tasks, records

    def learn(self, work: Work, plan: Plan) -> list[TaskResult]:
        """Learn a micro-batch where it is faster."""
        records, limit = plan.count, self._records
        if work.averaged and _is_parsed_in_python(work.schema):
            limit = min(limit, PARSED_RECORDS)
        fits = records is not None and records <= limit and records * work.schema.inputs <= DRIVER_VALUES
        return (self._driver if fits else self._tasks).learn(work, plan)


def _is_parsed_in_python(schema: Schema) -> bool:
    """Return whether Python parses each record: packed ones need no parser, and Java parses plain JSON.

    Java leaves gaps, and numbers in other forms, to Python.
    """
    is_plain = plain_of(schema, labeled=True) and schema.rules == Rules()
    return schema.format != "packed" and not is_plain


def executor_for(spark: SparkSession, driver_records: int | None = None) -> Executor:
    """Return the executor for a session; the driver learns up to `driver_records` (None: DRIVER_RECORDS).

    On a cluster it learns nothing: the executors have more cores, and the driver may have little memory.
    """
    tasks = TaskExecutor(spark)
    if not on_one_machine(spark):
        return tasks
    records = DRIVER_RECORDS if driver_records is None else driver_records
    return DriverFirstExecutor(DriverExecutor(), tasks, records)


def learn_micro_batch(executor: Executor, work: Work, plan: Plan) -> tuple[Work, Learned]:
    """Learn a micro-batch; return the result, and the work that it was learned with.

    While its records have values that the schema must contain first, the work grows, and it is learned again.
    """
    while True:
        results = executor.learn(work, plan)
        unseen = merge_unseen(result.unseen for result in results if result.unseen)
        if not unseen:
            return work, combine_results(work, results)
        work = work.grow(unseen)
