"""Topics as a source of training: the head's offsets are the position, Spark's checkpoint lasts one run."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.records.schema import schema_from
from streaming_nn.settings import Settings
from streaming_nn.spark import temporary
from streaming_nn.spark.session import on_one_machine
from streaming_nn.spark.sources import data_loss, kafka_frames, offsets, topics
from streaming_nn.spark.sources.offsets import Offsets, Ranges
from streaming_nn.spark.sources.prefetch.reader import Reader, plain_of
from streaming_nn.spark.sources.prefetch.record_batches import FromPieces, by_partition, in_order
from streaming_nn.spark.tasks import TASK_RESULT, TaskFunction
from streaming_nn.versions.version import Manifest, Position

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class KafkaPlan:
    """Ranges of topics that Spark planned for a micro-batch."""

    source: "KafkaSource"
    frame: DataFrame
    ranges: Ranges
    kind = "learned"

    @property
    def position(self) -> Position:
        """The ranges, where they end, and the ids of the topics."""
        ends = {t: {p: end for p, (_, end) in ps.items()} for t, ps in self.ranges.items()}
        return {
            "ranges": self.ranges,
            "offsets": self.source.without_deleted(self.source.head.offsets) | ends,
            "topic_ids": self.source.without_deleted(self.source.head.topic_ids) | self.source.ids,
        }

    @property
    def count(self) -> int:
        """How many offsets the ranges have."""
        return offsets.count(self.ranges)

    def batches(self, averaged: bool) -> Iterable[pa.RecordBatch]:
        """Read the records in the driver."""
        batches = self.source.reader.read_in_driver(self.ranges)
        return by_partition(batches) if averaged else in_order(batches)

    def tasks(self, work: TaskFunction, averaged: bool) -> DataFrame:
        """Return the frame of the rows (TASK_RESULT) that `work` yields in tasks."""
        if on_one_machine(self.source.spark):
            pieces = self.source.reader.pieces(self.ranges, averaged)
            return pieces.mapInArrow(FromPieces(work, not averaged), TASK_RESULT)
        return kafka_frames.learn_rows(self.frame, work, averaged)


class KafkaSource:
    """Topics, from the head's offsets on; Spark's checkpoint is new in each run, and deleted after it.

    Spark plans the micro-batches. On one machine our own reader reads them for the tasks (`prefetch/`); on a
    cluster Spark does, because it knows which executor has a partition's consumer.
    """

    checkpoint: Path
    admin: KafkaAdmin
    ids: dict[str, str]  # of the topics, as they were when the run began, or when they joined
    head: Manifest  # that the run resumed from
    starting: Offsets
    deleted: Sequence[str] = ()  # topics of the head whose loss was accepted

    def __init__(self, spark: SparkSession, settings: Settings) -> None:
        self.spark, self.settings = spark, settings
        self.name = topics.describe(settings)
        self._stack = ExitStack()

    def open(self, admin: KafkaAdmin | None) -> None:
        """Check that the topics exist."""
        assert admin is not None, "topics need a connection to Kafka"
        self.admin = admin  # used in every micro-batch
        self.ids = admin.ids(topics.find(self.settings, admin))

    def first_values(self, rows: int) -> list[bytes | None]:
        """Read the values of the first records that the topics still have."""
        begins, ends = self.admin.beginnings(self.ids), self.admin.ends(self.ids)
        return Reader(self.spark, self.settings.kafka, self.ids).first_values(begins, ends, rows)

    def initial_position(self) -> Position:
        """Return the topics' beginnings, or their ends."""
        earliest = self.settings.train.starting_offsets == "earliest"
        find = self.admin.beginnings if earliest else self.admin.ends
        return {"offsets": find(self.ids), "topic_ids": dict(self.ids), "source": {}}

    def forget(self) -> None:
        """Do nothing: versions have the position."""

    def resume(self, head: Manifest) -> list[dict[str, Any]]:
        """Find the offsets to read from, for every partition; return the losses that were accepted."""
        names = topics.find(self.settings, self.admin)
        self.head, self.ids = head, self.admin.ids(names)
        self.deleted = topics.deleted(self.settings, head.offsets, self.ids)
        beginnings, ends = self.admin.beginnings(names), self.admin.ends(names)
        recreated = data_loss.recreated_topics(self.ids, head.topic_ids)
        following = {t: {} if t in recreated else head.offsets.get(t, {}) for t in names}
        expired = data_loss.expired_ranges(beginnings, following)
        if (expired or recreated or self.deleted) and not self.settings.train.accept_data_loss:
            raise data_loss.data_loss_error(head, expired, recreated, self.deleted)
        self.starting = {
            topic: {
                p: max(begin, following[topic].get(p, 0)) for p, begin in sorted(beginnings[topic].items())
            }
            for topic in names
        }
        self.schema = schema_from(head.schema)
        self._backlog = offsets.count_between(self.starting, ends)
        return data_loss.data_loss_events(expired, recreated, self.deleted)

    def read_stream(self) -> DataFrame:
        """Read from the head's offsets."""
        where = temporary.directory()
        checkpoint = TemporaryDirectory(prefix="train-", dir=where, ignore_cleanup_errors=True)
        self.checkpoint = Path(self._stack.enter_context(checkpoint))
        offsets.write_start(self.checkpoint, self.starting)
        subscription, limit = topics.subscription(self.settings), self.settings.train.max_offsets_per_trigger
        return kafka_frames.stream(self.spark, self.settings.kafka, subscription, limit)

    def backlog(self) -> int:
        """Return how many offsets followed the head when the run began."""
        return self._backlog

    def plan(self, frame: DataFrame, batch_id: int) -> KafkaPlan:
        """Return the ranges of Spark's own plan."""
        ranges = offsets.planned(self.checkpoint, batch_id)
        if joined := [topic for topic in ranges if topic not in self.ids]:
            self._join(joined)
        return KafkaPlan(self, frame, ranges)

    def _join(self, joined: list[str]) -> None:
        """Add topics that were created since the run began. ValueError: the pattern does not match them."""
        for topic in joined:
            if not topics.matches(self.settings, topic):
                raise ValueError(
                    f"train.topics_pattern = {self.settings.train.topics_pattern!r} matches topic {topic!r} "
                    "in Java, and not in Python; use an expression that both read alike"
                )
        self.ids.update(self.admin.ids(joined))  # in the dict that the reader has, too
        logger.info("also training on new topic %s, matched by train.topics_pattern", ", ".join(joined))

    def without_deleted(self, values: Mapping[str, T]) -> dict[str, T]:
        """Return the values of the topics whose deletion was not accepted."""
        return {topic: value for topic, value in values.items() if topic not in self.deleted}

    @cached_property
    def reader(self) -> Reader:
        """What reads on one machine; it is compiled for the first micro-batch of a session."""
        return Reader(self.spark, self.settings.kafka, self.ids, plain_of(self.schema, labeled=True))

    def check(self, head: Manifest) -> None:
        """Raise DataLossError for a topic that was recreated since the run began.

        Spark raises nothing if a topic was recreated and filled past our offsets.
        """
        ids = self.admin.ids(self.ids)
        if recreated := data_loss.recreated_topics(ids, self.ids):
            raise data_loss.data_loss_error(head, {}, recreated)

    def close(self) -> None:
        """Delete the checkpoint."""
        self._stack.close()
