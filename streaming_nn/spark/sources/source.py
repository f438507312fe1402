"""Where micro-batches come from, and what of it a version's record holds: topics, or another Spark source."""

from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.mllib import dataframe
from streaming_nn.records.schema import schema_from
from streaming_nn.settings import Settings
from streaming_nn.spark.session import on_one_machine
from streaming_nn.spark.sources import dataframe_json, kafka_frames
from streaming_nn.spark.sources.prefetch.reader import Reader, plain_of
from streaming_nn.spark.sources.prefetch.record_batches import FromPieces, Work
from streaming_nn.spark.tasks import LEARNED
from streaming_nn.spark.train import resume
from streaming_nn.spark.train.resume import Say
from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import VersionLog

Fields = dict[str, Any]  # of a record


class Source_(Protocol):
    """What the trainer asks of where its micro-batches come from."""

    checkpoint: Path

    def first(self) -> Fields:
        """Say where version 0 begins."""

    def begin(self, head: Manifest, say: Say) -> list[dict[str, Any]]:
        """Get ready to go on from the head; return the losses that were accepted. Raises what is lost."""

    def stream(self) -> DataFrame:
        """Read on."""

    def planned(self, dataset: DataFrame, batch_id: int) -> Fields | None:
        """Say what a micro-batch holds; None: the log has it already."""

    def table(self, dataset: DataFrame, planned: Fields) -> pa.Table:
        """Give a micro-batch's records, which are few, on one machine, with the columns that a task gets."""

    def tasks(self, dataset: DataFrame, planned: Fields, work: Work, averaged: bool) -> DataFrame:
        """Give the frame of what `work` says of a micro-batch: by a task a partition, or by one, in order."""

    def committed(self, head: Manifest, planned: Fields, events: list[dict[str, Any]]) -> Fields:
        """Say what the version after the head holds of it; raises where the records are others by now."""

    def close(self) -> None:
        """Let go of what is held."""


class KafkaSource:
    """Kafka: the head's offsets are the place; Spark's checkpoint is fresh with each run and thrown away.

    Spark plans the micro-batches. On one machine a reader of ours reads them for the tasks (`reading/`); on a
    cluster Spark does, which knows on which executor a partition's consumer is.
    """

    def __init__(self, spark: SparkSession, settings: Settings) -> None:
        self.spark, self.settings = spark, settings
        self.held = ExitStack()
        self.topics = self.held.enter_context(KafkaAdmin(settings.kafka))  # it is asked in every micro-batch
        self.ids = self.topics.ids(settings.train.topics)  # they must be there before anything is written

    def first(self) -> Fields:
        """Begin at the topics' beginnings, or their ends."""
        asked = self.settings.train
        places = self.topics.beginnings if asked.starting == "earliest" else self.topics.ends
        return {"offsets": places(asked.topics), "topic_ids": self.ids}

    def begin(self, head: Manifest, say: Say) -> list[dict[str, Any]]:
        """See that the topics hold what follows the head's offsets."""
        self.schema = schema_from(head.schema)
        self.starting, events = resume.starting(self.settings, head, say)
        return events

    def stream(self) -> DataFrame:
        """Read from the head's offsets."""
        folder = TemporaryDirectory(prefix="streaming-nn-train-", ignore_cleanup_errors=True)
        self.checkpoint = Path(self.held.enter_context(folder))
        asked = self.settings.train
        kafka, limit = self.settings.kafka, asked.max_offsets_per_trigger
        return kafka_frames.stream(self.spark, kafka, asked.topics, self.starting, limit)

    def planned(self, dataset: DataFrame, batch_id: int) -> Fields:
        """Take the ranges from Spark's own plan."""
        return {"ranges": kafka_frames.planned(self.checkpoint, batch_id)}

    def table(self, dataset: DataFrame, planned: Fields) -> pa.Table:
        """Read a micro-batch's records in the driver."""
        return self.reader.here(planned["ranges"])

    def tasks(self, dataset: DataFrame, planned: Fields, work: Work, averaged: bool) -> DataFrame:
        """Give the frame of what the tasks will say."""
        if on_one_machine(self.spark):
            pieces = self.reader.pieces(planned["ranges"], averaged)
            return pieces.mapInArrow(FromPieces(work, not averaged), LEARNED)
        return _by_rows(dataset, work, averaged)

    @cached_property
    def reader(self) -> Reader:
        """What reads on one machine; it is compiled for the first micro-batch of a session."""
        return Reader(self.spark, self.settings.kafka, self.ids, plain_of(self.schema, labeled=True))

    def committed(self, head: Manifest, planned: Fields, events: list[dict[str, Any]]) -> Fields:
        """Compare the topics' ids; give ranges and offsets."""
        # Spark raises nothing when a topic was deleted, made again and filled past our offsets
        ids = self.topics.ids(self.settings.train.topics)
        accepted = {event.get("topic_made_again") for event in events}
        if another := [topic for topic in resume.changed_topics(ids, head) if topic not in accepted]:
            raise resume.loss_of(self.settings, head, another)
        ends = {t: {p: end for p, (_, end) in ps.items()} for t, ps in planned["ranges"].items()}
        return planned | {
            "offsets": {**head.offsets, **ends},
            "topic_ids": {**head.topic_ids, **ids},
        }

    def close(self) -> None:
        """Close the connection, and throw the checkpoint away."""
        self.held.close()


def _by_rows(frame: DataFrame, work: Work, averaged: bool) -> DataFrame:
    ordered = frame if averaged else kafka_frames.in_order(frame)  # a partition comes in its own order
    return ordered.drop("timestamp").mapInArrow(work, LEARNED)  # it was for the order


class SparkSource:
    """Another source: its place is in Spark's checkpoint, which lasts, in the model directory.

    A version names its query and batch, and a batch that is in already is left out: what Spark does again
    after a crash counts once.
    """

    def __init__(self, spark: SparkSession, settings: Settings, log: VersionLog) -> None:
        self.spark, self.settings, self.log = spark, settings, log
        asked = settings.source
        self.name = asked.checkpoint or f"sources/{asked.format.lower()}"
        self.checkpoint = Path(log.directory, self.name).absolute()

    def first(self) -> Fields:
        """Begin where the source does; what is wrong with it is told before anything is written."""
        dataframe_json.stream(self.spark, self.settings.source, self.settings.records)
        return {}

    def begin(self, head: Manifest, say: Say) -> list[dict[str, Any]]:
        """Take the schema of the head; Spark's checkpoint knows what follows it."""
        self.schema = schema_from(head.schema)
        return []

    def stream(self) -> DataFrame:
        """Read from where the checkpoint ended."""
        return dataframe_json.stream(self.spark, self.settings.source, self.schema)

    def planned(self, dataset: DataFrame, batch_id: int) -> Fields | None:
        """Name query and batch. ValueError: the log's rows came by a checkpoint that is gone."""
        query = dataframe.query_id(dataset)
        last = dataframe.last_batch(self.log, query)
        if last < 0:
            self._begun_anew(query)
        if batch_id <= last:
            return None
        return {"source": {"query_id": query, "batch_id": batch_id, "checkpoint": self.name}}

    def _begun_anew(self, query: str | None) -> None:
        for number in range(self.log.head_number() or 0, 0, -1):
            found = self.log.manifest(number).source
            if found.get("checkpoint") == self.name and found["query_id"] != query:
                raise ValueError(
                    f"version {number} has learned batch {found['batch_id']} by the checkpoint "
                    f"{self.checkpoint}, which is not that one any more: a new one would count all rows "
                    f"again. Put it back, or begin a new model directory; another source takes another "
                    f"source.checkpoint"
                )

    def table(self, dataset: DataFrame, planned: Fields) -> pa.Table:
        """Make records of the selected columns."""
        return dataframe_json.records(dataset, self.schema).coalesce(1).toArrow()

    def tasks(self, dataset: DataFrame, planned: Fields, work: Work, averaged: bool) -> DataFrame:
        """Give the frame of what the tasks will say."""
        return _by_rows(dataframe_json.records(dataset, self.schema), work, averaged)

    def committed(self, head: Manifest, planned: Fields, events: list[dict[str, Any]]) -> Fields:
        """Give query and batch. The rows are in no topic: a replay takes the tensors over."""
        return planned | {"kind": "saved"}

    def close(self) -> None:
        """Nothing is held."""


def source_of(spark: SparkSession, settings: Settings, log: VersionLog) -> Source_:
    """Give the one that the settings name."""
    return SparkSource(spark, settings, log) if settings.source.format else KafkaSource(spark, settings)
