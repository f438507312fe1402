"""The job that answers: each micro-batch of the unlabeled topic is scored with the newest version."""

import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.kafka.options import for_spark
from streaming_nn.nn.factory import learner_from
from streaming_nn.records.schema import schema_from
from streaming_nn.settings import Settings
from streaming_nn.spark import failpoints
from streaming_nn.spark.query import Job, local, shortened
from streaming_nn.spark.session import GONE, SPARK_ERRORS, in_one_line, on_one_machine, shared
from streaming_nn.spark.signals import uninterrupted
from streaming_nn.spark.sources import kafka_frames
from streaming_nn.spark.sources.prefetch.reader import Reader, plain_of
from streaming_nn.spark.sources.prefetch.record_batches import FromPieces
from streaming_nn.spark.tasks import SCORED, Answer
from streaming_nn.spark.train.resume import Say
from streaming_nn.versions.version import Version
from streaming_nn.versions.version_log import VersionLog

FEW = 1000  # records of a micro-batch that Spark reads as quickly as the reader of ours
DIGEST_PREFIX = 12  # characters of the digest that an answer carries


class Scorer(Job):
    """Answers the unlabeled topic; `start` it, then `drain` or `stop`.

    At least once: its Spark checkpoint is durable, and topic, partition and offset in each answer tell the
    doubles. Raises ConnectionError without the broker, LookupError where a topic is missing.
    """

    def __init__(self, spark: SparkSession, settings: Settings, say: Say = lambda line: None) -> None:
        super().__init__()
        self.spark, self.settings, self.say = spark, settings, say
        self.log = VersionLog(settings.model)
        self.topics = KafkaAdmin(settings.kafka)  # kept open: it is asked in every micro-batch
        self.ids = self.topics.ids([settings.score.topic, settings.score.predictions])
        self.version: Version | None = None
        self.reader: Reader | None = None

    def await_version(self, seconds: float = float("inf")) -> bool:
        """Wait for a first version that has learned something, and say so; whether there is one.

        LookupError where there is none and `score.once` is set; DamagedVersionError where the one before it is.
        """
        began, said = time.monotonic(), False
        while (number := self.log.head_number() or 0) < 1:
            if not said:
                self.log.head()  # no run goes on from a damaged one, so none would come
                if self.settings.score.once:
                    what = "has learned nothing yet" if self.log.has(number) else "there is no version yet"
                    raise LookupError(
                        f"model {self.settings.model}: {what}, so there is nothing to answer with"
                    )
                self.say(f"waiting for a first version in {self.settings.model}")
                said = True
            if time.monotonic() - began > seconds:
                return False
            time.sleep(0.1)
        return True

    @property
    def checkpoint(self) -> str:
        """Where the scorer's place is kept; both engines go on from it."""
        asked = self.settings.score
        return asked.checkpoint or str(Path(self.settings.model, "scorers", asked.topic).absolute())

    def start(self) -> StreamingQuery:
        """Start the query where its checkpoint ended, or at the topic's beginning."""
        asked = self.settings.score
        frame = kafka_frames.stream(
            self.spark, self.settings.kafka, [asked.topic], "earliest", asked.max_offsets_per_trigger
        )
        return self._launch(frame, self.checkpoint, asked.trigger, asked.once)

    def finish(self) -> None:
        """End the query without answers that the next run repeats, where that takes a bounded time."""
        self.stop()

    def stop(self) -> None:
        """End the query. A micro-batch under way may be answered again by the next run."""
        if self.query is not None:
            with suppress(*GONE):
                self.query.stop()
        self._close()

    def _close(self) -> None:
        self.topics.close()

    def _cause(self, error: PySparkException) -> BaseException:
        return self.failure or RuntimeError(f"the scorer ended: {in_one_line(error)}")

    def _guarded(self, frame: DataFrame, batch_id: int) -> None:
        try:
            self.micro_batch(frame, batch_id)
        except BaseException as error:
            if isinstance(error, SPARK_ERRORS):
                raise shortened(error) from None
            self.failure = error
            raise

    def micro_batch(self, frame: DataFrame, batch_id: int) -> None:
        """Answer one micro-batch with the version that is the newest when it begins."""
        version = self._newest()
        record = version.manifest
        learner, schema = learner_from(record.learner), schema_from(record.schema)
        stamp = self._stamp(version)
        with shared(self.spark, version.tensors) as state:
            work = Answer(
                learner, schema, state, stamp, taken_along(self.settings.score.headers, schema.format)
            )
            (
                self._answers(frame, batch_id, work)
                .write.format("kafka")
                .options(**for_spark(self.settings.kafka))
                .option("topic", self.settings.score.predictions)
                .save()
            )
        failpoints.point(failpoints.ANSWERED)

    def _answers(self, frame: DataFrame, batch_id: int, work: Answer) -> DataFrame:
        """Give the answers; many records of one machine come by the reader of ours."""
        ranges = self._planned(batch_id)
        if kafka_frames.count(ranges) <= FEW:
            return frame.mapInArrow(work, SCORED)
        if self.reader is None:
            plain = plain_of(work.schema, labeled=False)  # which is the same for all of a model's versions
            self.reader = Reader(self.spark, self.settings.kafka, self.ids, plain)
        return self.reader.pieces(ranges, averaged=True).mapInArrow(FromPieces(work, False), SCORED)

    def _planned(self, batch_id: int) -> kafka_frames.Ranges:
        """Take the ranges from Spark's own plan; none where only Spark can read, or find its plan."""
        checkpoint = local(self.spark, self.checkpoint) if on_one_machine(self.spark) else None
        return kafka_frames.planned(checkpoint, batch_id) if checkpoint else {}

    def _newest(self) -> Version:
        number = self.log.head_number()
        if self.version is None or number != self.version.number:
            self.version = self.log.head()
        assert self.version is not None  # await_version came first
        return self.version

    def _stamp(self, version: Version) -> dict[str, Any]:
        """What each answer says of its version: number, digest, age in records and seconds, if too old."""
        record = version.manifest
        age = (datetime.now(UTC) - datetime.fromisoformat(record.written_at)).total_seconds()
        ends = self.topics.ends(record.offsets)
        behind = sum(
            max(end - record.offsets[t].get(p, 0), 0)
            for t, partitions in ends.items()
            for p, end in partitions.items()
        )
        return {
            "version": version.number,
            "digest": record.digest[:DIGEST_PREFIX],
            "age_records": behind if ends else None,  # of a model of no topic nobody knows
            "age_seconds": round(age, 3),
            "stale": bool(self.settings.score.max_age and age > self.settings.score.max_age),
        }


def taken_along(names: Iterable[str], format: str) -> frozenset[str]:
    """Name the headers that answers take along, in small letters; a type only where both are JSON."""
    small = frozenset(name.lower() for name in names)
    return small if format == "json" else small - {"content-type"}


def answer(spark: SparkSession, settings: Settings, say: Say, kind: type[Scorer] = Scorer) -> None:
    """Answer until stopped by Ctrl-C, or with `once` all that is there. Raises as `kind` does."""
    with uninterrupted():
        scorer = kind(spark, settings, say)
    try:
        scorer.await_version()
        with uninterrupted():
            scorer.start()
        say(f"answering {settings.score.topic} into {settings.score.predictions} from {settings.model}")
        scorer.wait()
    except KeyboardInterrupt:
        say("stopping")
        scorer.finish()
    finally:
        scorer.stop()
