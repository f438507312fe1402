"""Any Spark source as a source of training: the position is in Spark's checkpoint, in the model directory."""

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.records.schema import Schema, schema_from
from streaming_nn.settings import Settings
from streaming_nn.spark.sources import csv_files, dataframe_json, kafka_frames, libsvm_files
from streaming_nn.spark.tasks import TaskFunction
from streaming_nn.versions.version import Manifest, Position
from streaming_nn.versions.version_log import VersionLog


def query_id(frame: DataFrame) -> str | None:
    """Return the id of the query whose micro-batch this is; None outside of foreachBatch."""
    found: str | None = frame.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId")
    return found


def last_batch(log: VersionLog, query: str | None) -> int:
    """Return the newest batch of a query that is in the log, -1 for none; mostly the head names it."""
    for number in range(log.head_number() or 0, 0, -1):
        source = log.manifest(number).source
        if source.get("query_id") == query:
            return int(source["batch_id"])
    return -1


def initial_position() -> Position:
    """Return the fields of version 0's manifest for a model of any query: it begins where the query does."""
    return {"offsets": {}, "topic_ids": {}, "source": {}}


def position_of(query: str | None, batch_id: int, **more: str) -> Position:
    """Return the fields of the manifest for a query's batch; `more` is added to what names the query."""
    return {"source": {"query_id": query, "batch_id": batch_id, **more}}


@dataclass(frozen=True)
class SparkPlan:
    """A micro-batch of another source than Kafka."""

    frame: DataFrame  # as `dataframe_json.stream` reads it
    schema: Schema
    query: str | None
    batch_id: int
    checkpoint: str
    kind = "saved"

    @property
    def position(self) -> Position:
        """Query, batch and checkpoint."""
        return position_of(self.query, self.batch_id, checkpoint=self.checkpoint)

    @property
    def count(self) -> None:
        """The source does not know."""
        return

    def batches(self, averaged: bool) -> list[pa.RecordBatch]:
        """Return the selected columns as records."""
        frame = self._records()
        batches: list[pa.RecordBatch] = (
            (frame if averaged else kafka_frames.in_order(frame)).toArrow().to_batches()
        )
        return batches

    def tasks(self, work: TaskFunction, averaged: bool) -> DataFrame:
        """Return the frame of the rows (TASK_RESULT) that `work` yields in tasks."""
        return kafka_frames.learn_rows(self._records(), work, averaged)

    def _records(self) -> DataFrame:
        return dataframe_json.records(self.frame, self.schema)


class SparkSource:
    """Another source than Kafka; its position is in Spark's checkpoint, which lasts, in the model directory.

    A version names its query and batch, and a batch that is in the log is skipped: what Spark repeats after a
    crash counts once.
    """

    schema: Schema

    def __init__(self, spark: SparkSession, settings: Settings, log: VersionLog) -> None:
        self.spark, self.settings, self.log = spark, settings, log
        self.name = f"source {settings.source.format!r}"
        self._checkpoint = settings.source.checkpoint or f"sources/{settings.source.format.lower()}"
        self.checkpoint = Path(log.directory, self._checkpoint).absolute()

    @cached_property
    def _files(self) -> dataframe_json.Files | None:
        """How files are read, for the whole run; None: as Spark reads them."""
        source, shape = self.settings.source, self.settings.records
        return libsvm_files.find(source, shape) or csv_files.find(self.spark, source, shape)

    def open(self, admin: KafkaAdmin | None) -> None:
        """Do nothing: `initial_position` and `read_stream` check the source."""

    def first_values(self, rows: int) -> list[bytes | None]:
        """Read the values of the first records that the source has now."""
        settings = self.settings
        return dataframe_json.first_values(self.spark, settings.source, settings.records, rows, self._files)

    def initial_position(self) -> Position:
        """Check the source before anything is written; training begins where the source does."""
        dataframe_json.stream(self.spark, self.settings.source, self.settings.records, self._files)
        return initial_position()

    def forget(self) -> None:
        """Delete Spark's checkpoint, which has planned rows that were not learned; not one that was set."""
        if not self.settings.source.checkpoint:
            shutil.rmtree(self.checkpoint, ignore_errors=True)

    def resume(self, head: Manifest) -> list[dict[str, Any]]:
        """Take the schema of the head; Spark's checkpoint knows what follows it."""
        self.schema = schema_from(head.schema)
        return []

    def read_stream(self) -> DataFrame:
        """Read from where the checkpoint ended."""
        return dataframe_json.stream(self.spark, self.settings.source, self.schema, self._files)

    def backlog(self) -> None:
        """The source does not know."""
        return

    def plan(self, frame: DataFrame, batch_id: int) -> SparkPlan | None:
        """Return query and batch. ValueError: the log's rows were read with a checkpoint that is missing."""
        query = query_id(frame)
        last = last_batch(self.log, query)
        if last < 0:
            self._check_checkpoint(query)
        if batch_id <= last:
            return None
        return SparkPlan(frame, self.schema, query, batch_id, self._checkpoint)

    def _check_checkpoint(self, query: str | None) -> None:
        for number in range(self.log.head_number() or 0, 0, -1):
            source = self.log.manifest(number).source
            if source.get("checkpoint") == self._checkpoint and source["query_id"] != query:
                raise ValueError(
                    f"version {number} learned batch {source['batch_id']} with another checkpoint than the "
                    f"one now in {self.checkpoint}; with this one all rows would count again. Restore the "
                    "old checkpoint, or use a new model directory; for another source, set source.checkpoint"
                )

    def check(self, head: Manifest) -> None:
        """Do nothing: rows of a batch are not read again."""

    def close(self) -> None:
        """Do nothing: nothing is open."""
