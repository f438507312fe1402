"""What the trainer needs of a source, and the source that the settings name."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.settings import Settings
from streaming_nn.spark.sources.kafka_source import KafkaSource
from streaming_nn.spark.sources.spark_source import SparkSource
from streaming_nn.spark.tasks import TaskFunction
from streaming_nn.versions.version import Manifest, Position
from streaming_nn.versions.version_log import VersionLog


class Plan(Protocol):
    """What a source planned for a micro-batch: which records it has, and how they are read."""

    @property
    def kind(self) -> str:
        """The kind of the version: "saved" if the records are in no topic, so that a replay takes tensors."""

    @property
    def position(self) -> Position:
        """The fields of the version's manifest that name these records, and where the next ones begin."""

    @property
    def count(self) -> int | None:
        """How many offsets it has, of which records may be fewer; None: the source does not know."""

    def batches(self, averaged: bool) -> Iterable[pa.RecordBatch]:
        """Read the records in the driver, with the columns and in the order of tasks, one after the other."""

    def tasks(self, work: TaskFunction, averaged: bool) -> DataFrame:
        """Return the frame of the rows (TASK_RESULT) that `work` yields: in a task per partition if averaged,
        else in one that has all records in ORDER.
        """


class Source(Protocol):
    """Where the records of a training job come from. A constructor connects to nothing; `open` does."""

    name: str  # for messages
    checkpoint: Path  # Spark's, of the query; known once the stream is read

    def open(self, admin: KafkaAdmin | None) -> None:
        """Check what the settings name, before anything is written. The caller closes `admin`."""

    def first_values(self, rows: int) -> list[bytes | None]:
        """Read the values of the first records, at most `rows`."""

    def initial_position(self) -> Position:
        """Return the fields of version 0's manifest that name where training begins."""

    def forget(self) -> None:
        """Forget the position of a run that has learned nothing, so that the next one starts from scratch."""

    def resume(self, head: Manifest) -> list[dict[str, Any]]:
        """Prepare to read what follows the head; return accepted losses, as events of the next version.

        Raise DataLossError for losses that the settings do not accept.
        """

    def read_stream(self) -> DataFrame:
        """Read what follows the head as a stream."""

    def backlog(self) -> int | None:
        """Return how many offsets follow the head now; None: the source does not know."""

    def plan(self, frame: DataFrame, batch_id: int) -> Plan | None:
        """Return the plan of a micro-batch; None: the log has it already."""

    def check(self, head: Manifest) -> None:
        """Raise DataLossError if the records may be others by now than those that were planned."""

    def close(self) -> None:
        """Release what was opened."""


def source_of(spark: SparkSession, settings: Settings, log: VersionLog) -> Source:
    """Return the source that the settings name."""
    return SparkSource(spark, settings, log) if settings.source.format else KafkaSource(spark, settings)
