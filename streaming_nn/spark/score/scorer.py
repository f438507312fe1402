"""The scoring job: each micro-batch of the unlabeled topic is predicted with the newest version."""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming_nn.errors import DataLossError
from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.kafka.options import for_spark
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import load_state
from streaming_nn.records.chosen import field_reader
from streaming_nn.records.decode import decode
from streaming_nn.records.explain import as_scored, explain
from streaming_nn.records.explode import explode_values
from streaming_nn.records.lines import NEXT
from streaming_nn.records.schema import Schema, schema_from
from streaming_nn.settings import Settings
from streaming_nn.spark import failpoints, temporary
from streaming_nn.spark.checks import newest_learned
from streaming_nn.spark.clock import Clock
from streaming_nn.spark.query import Job, local, reason, shortened
from streaming_nn.spark.score.predictions import (
    FILTERED_RECORD,
    PREDICTED,
    PREDICTED_RECORD,
    OutcomeParam,
    Outcomes,
    Predict,
)
from streaming_nn.spark.score.sender import Sender
from streaming_nn.spark.session import LOST, SPARK_ERRORS, STOP_ERRORS, on_one_machine, shared
from streaming_nn.spark.signals import uninterrupted
from streaming_nn.spark.sources import kafka_frames, offsets
from streaming_nn.spark.sources.data_loss import expired_ranges
from streaming_nn.spark.sources.prefetch.reader import Reader, plain_of
from streaming_nn.spark.sources.prefetch.record_batches import FromPieces, by_partition
from streaming_nn.versions.version import Version
from streaming_nn.versions.version_log import VersionLog

logger = logging.getLogger(__name__)

MESSAGE = 1 << 20  # bytes of a message, if neither the producer's options nor the topic have a limit
DRIVER_RECORDS = 5_000  # the most that the driver predicts: tasks do it side by side, and take 100 ms more
SAMPLE = 200  # records from which a wrong form is found
FIXED = "a model's schema is fixed: send records in the form of the labeled ones, or train another model"
# a version's number, its records by what became of them, and the start and end of each step in ns since 1970
Traced = Callable[[int, Mapping[str, int], Mapping[str, tuple[int, int]]], None]
DIGEST_PREFIX = 12  # characters of the digest that a prediction carries


class Scorer(Job):
    """Predicts the unlabeled topic: `open`, `start`, then `wait`, `drain` or `stop`.

    At least once: its Spark checkpoint is durable, and topic, partition and offset in each prediction
    identify duplicates.
    """

    def __init__(
        self, spark: SparkSession, settings: Settings, admin: KafkaAdmin, topic_ids: Mapping[str, str]
    ) -> None:
        """Store what `open` has opened; `admin` is closed with the scorer."""
        super().__init__()
        self.spark, self.settings = spark, settings
        self.admin, self.topic_ids = admin, topic_ids  # each micro-batch uses the admin client
        self.log = VersionLog(settings.model)
        self.version: Version | None = None
        self.reader: Reader | None = None
        self.outcomes = Counter[str]()  # of the finished micro-batches' records, as Predict counts them
        self.versions: tuple[int, int] | None = None  # first and last one that were used for a record
        self.latencies = Counter[str]()  # of the finished micro-batches' predictions, if they are counted
        self.counts_latencies = bool(settings.metrics.prometheus)
        self.traced: Traced | None = None
        self._accumulators: list[Any] = []
        self._counting: list[Any] = []  # of the micro-batch under way, outcomes and latencies
        self._first: offsets.Offsets = {}  # with which the run begins
        self._model: tuple[int, Any] | None = None  # of a version, by its number
        self._sender = Sender(spark, settings.kafka, settings.score.predictions)
        self._explained = False  # whether the first records were looked at

    @classmethod
    def open(cls, spark: SparkSession, settings: Settings) -> Self:
        """Connect to Kafka, and check that both topics exist.

        Raise ConnectionError without the broker, LookupError for a missing topic.
        """
        admin = KafkaAdmin(settings.kafka)
        try:
            return cls(spark, settings, admin, admin.ids([settings.score.topic, settings.score.predictions]))
        except BaseException:
            admin.close()
            raise

    def wait_for_version(self, seconds: float = float("inf")) -> bool:
        """Wait for the first version that has learned something; return whether there is one.

        Raise LookupError if there is none and `score.once` is set, DamagedVersionError for a damaged head.
        """
        if newest_learned(self.settings, self.log) is not None:
            return True
        logger.info("waiting for a first version in %s", self.settings.model)
        until = time.monotonic() + seconds
        while (number := self.log.head_number()) is None or self.log.manifest(number).untrained:
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
        return True

    @cached_property
    def longest(self) -> int:
        """The bytes of a key, or of headers, that a prediction copies: a quarter of what the topic takes."""
        limit = int(self.settings.kafka.get("max.request.size", MESSAGE))
        return min(limit, self.admin.largest_message(self.settings.score.predictions) or MESSAGE) // 4

    @property
    def checkpoint(self) -> str:
        """The directory with the scorer's offsets; both engines resume from it."""
        score = self.settings.score
        return score.checkpoint or str(Path(self.settings.model, "scorers", score.topic).absolute())

    def start(self) -> StreamingQuery:
        """Start the query where its checkpoint ended, or at the topic's beginning.

        Raise DataLossError if the topic no longer has what follows.
        """
        self._first = self.check_losses()
        score = self.settings.score
        if score.fields:
            field_reader(schema_from(self._newest().manifest.schema), score.fields)  # raises ValueError
        frame = kafka_frames.stream(
            self.spark,
            self.settings.kafka,
            {"subscribe": score.topic},
            score.max_offsets_per_trigger,
            score.accept_data_loss,
        )
        return self._launch(self.title, frame, self.checkpoint, score.trigger, score.once)

    def check_losses(self) -> offsets.Offsets:
        """Return where predicting begins: what follows a local checkpoint, or the topic's beginning.

        Raise DataLossError if the topic lacks records that follow the checkpoint.
        """
        score, checkpoint = self.settings.score, local(self.spark, self.checkpoint)
        following = offsets.reached(checkpoint) if checkpoint else {}
        begins, ends = self.admin.beginnings([score.topic]), self.admin.ends([score.topic])
        other = "another score.checkpoint, which starts at the topic's current records"
        for p, offset in following.get(score.topic, {}).items():
            if offset > ends[score.topic].get(p, 0):
                raise DataLossError(
                    f"topic {score.topic!r} was recreated: its partition {p} ends before offset {offset:,}, "
                    f"with which predicting continues. Use {other}"
                )
        if score.accept_data_loss:
            return following or begins
        for p, (begin, end) in expired_ranges(begins, following).get(score.topic, {}).items():
            raise DataLossError(
                f"offsets {begin:,} to {end - 1:,} of {score.topic!r} partition {p} expired before they were "
                f"predicted. To continue with the topic's current records, use --accept-data-loss, or {other}"
            )
        return following or begins

    @property
    def title(self) -> str:
        """The query's name."""
        return f"score {self.settings.score.topic} by {self.settings.model}"

    def position(self) -> offsets.Offsets:
        """Return the offsets after the last micro-batch that ended; none before `start`."""
        progress = self.query.lastProgress if self.query is not None else None
        ended = progress.sources[0].endOffset if progress else None
        return offsets.offsets_from(json.loads(ended)) if ended else self._first

    def finish(self) -> None:
        """End the query such that the next run repeats no predictions, if that takes a bounded time."""
        self.stop()

    def stop(self) -> None:
        """End the query. The next run may repeat the predictions of a micro-batch under way."""
        if self.query is not None:
            with suppress(*STOP_ERRORS):
                self.query.stop()
        self._close()

    def summary(self) -> str:
        """Return in one line how many records were scored, by which versions, and how many were bad."""
        if self.versions is None:
            return f"no new records in {self.settings.score.topic}"
        first, last = self.versions
        by = f"version {first}" if first == last else f"versions {first} to {last}"
        parts = [f"scored {self.outcomes[PREDICTED_RECORD]:,} records with {by}"]
        ends = (PREDICTED_RECORD, FILTERED_RECORD)
        reasons = {reason: n for reason, n in self.outcomes.most_common() if reason not in ends}
        if reasons:
            counts = ", ".join(f"{reason}: {n:,}" for reason, n in reasons.items())
            parts.append(f"{sum(reasons.values()):,} could not be read ({counts})")
        if filtered := self.outcomes[FILTERED_RECORD]:
            parts.append(f"{filtered:,} filtered")
        return "; ".join(parts)

    def _close(self) -> None:
        self.admin.close()
        self._sender.close()

    def _find_cause(self, error: BaseException) -> BaseException:
        if self.failure is None and any(words in str(error) for words in LOST):
            try:
                self.check_losses()
            except (DataLossError, ConnectionError, LookupError) as found:
                return found
        why = reason(error, self.checkpoint, temporary.directory())
        other = kafka_frames.unreadable(error) or RuntimeError(f"the scorer ended: {why}")
        return self.failure or other

    def _process(self, frame: DataFrame, batch_id: int) -> None:
        try:
            self.micro_batch(frame, batch_id)
        except BaseException as error:
            if isinstance(error, SPARK_ERRORS):
                self.failure = self._find_cause(error)
                raise shortened(error) from None
            self.failure = error
            raise

    def micro_batch(self, frame: DataFrame, batch_id: int) -> None:
        """Predict one micro-batch with the version that is the newest when it begins."""
        clock = Clock()
        with clock.time("load"):
            version = self._newest()
        with clock.time("plan"):
            ranges = self._planned(batch_id)
        with clock.time("predict"):
            if ranges and offsets.count(ranges) <= DRIVER_RECORDS:
                self._predict_here(ranges, version)
            else:
                self._predict_in_tasks(frame, ranges, version)
        self._count(version.number)
        if self.traced and (outcomes := self._counting[0].value):
            self.traced(version.number, by_fate(outcomes), clock.steps)
        failpoints.reach(failpoints.PREDICTIONS_SENT)
        self._explain_first(schema_from(version.manifest.schema), batch_id)

    def _predict_here(self, ranges: offsets.Ranges, version: Version) -> None:
        """Read, predict and send a few records without a Spark job."""
        self._counting = [Outcomes(Counter()), Outcomes(Counter())]
        work = self._work(version, None)
        if self._model is None or self._model[0] != version.number:
            self._model = version.number, load_state(work.learner, version.tensors)
        batches = by_partition(self._reader(work).read_in_driver(ranges))
        for predicted in work.predict(self._model[1], batches):
            self._sender.send(predicted)

    def _predict_in_tasks(self, frame: DataFrame, ranges: offsets.Ranges, version: Version) -> None:
        if not self._accumulators:
            context = self.spark.sparkContext
            self._accumulators = [context.accumulator(Counter(), OutcomeParam()) for _ in range(2)]
        for accumulator in self._accumulators:
            accumulator.value = Counter()  # without those of a micro-batch that failed
        self._counting = self._accumulators
        with shared(self.spark, version.tensors) as state:
            (
                self._predicted(frame, ranges, self._work(version, state))
                .write.format("kafka")
                .options(**for_spark(self.settings.kafka))
                .option("topic", self.settings.score.predictions)
                .save()
            )

    def _work(self, version: Version, state: Any) -> Predict:
        schema, score = schema_from(version.manifest.schema), self.settings.score
        outcomes, latencies = self._counting
        return Predict(
            learner_from(version.manifest.learner),
            schema,
            state,
            self._version_fields(version),
            forwarded_headers(score.headers),
            score.probabilities,
            outcomes,
            latencies if self.counts_latencies else None,
            score.cloudevents,
            self.longest,
            tuple(score.fields),
        )

    def _predicted(self, frame: DataFrame, ranges: offsets.Ranges, work: Predict) -> DataFrame:
        """Return the predictions; on one machine our reader reads the records: see `prefetch.reader`."""
        if not ranges:
            return frame.mapInArrow(work, PREDICTED)
        pieces = self._reader(work).pieces(ranges, averaged=True)
        return pieces.mapInArrow(FromPieces(work, False), PREDICTED)

    def _reader(self, work: Predict) -> Reader:
        if self.reader is None:
            # packed values have no fields; the schema is the same for all versions of a model
            plain = "" if work.fields else plain_of(work.schema, labeled=False)
            self.reader = Reader(self.spark, self.settings.kafka, self.topic_ids, plain)
        return self.reader

    def _planned(self, batch_id: int) -> offsets.Ranges:
        """Return the ranges of Spark's own plan; empty if only Spark can read the records, or its plan."""
        checkpoint = local(self.spark, self.checkpoint) if on_one_machine(self.spark) else None
        ranges = offsets.planned(checkpoint, batch_id) if checkpoint else {}
        if not self.settings.score.accept_data_loss:
            return ranges
        begins = self.admin.beginnings(ranges)
        return {
            t: {p: (min(max(begin, begins[t].get(p, 0)), end), end) for p, (begin, end) in ps.items()}
            for t, ps in ranges.items()
        }

    def _count(self, number: int) -> None:
        """Count the records of a finished micro-batch, without another action on its frame.

        Exact despite retries and speculation: these are the tasks of an action's last stage, and of each of
        them Spark adds one successful attempt. After a crash, repeated records are counted again.
        """
        outcomes, latencies = (counted.value for counted in self._counting)
        if outcomes:
            self.outcomes.update(outcomes)
            self.latencies.update(latencies)
            self.versions = (number if self.versions is None else self.versions[0], number)

    def _explain_first(self, schema: Schema, batch_id: int) -> None:
        """Log why the first records cannot be read, if none of them can."""
        bad = self.outcomes.keys() - {PREDICTED_RECORD, FILTERED_RECORD}
        if self._explained or not self.outcomes:
            return
        self._explained = True
        ranges = {} if self.outcomes[PREDICTED_RECORD] or not bad else self._planned(batch_id)
        if ranges:
            begins = {t: {p: begin for p, (begin, _) in ps.items()} for t, ps in ranges.items()}
            ends = {t: {p: end for p, (_, end) in ps.items()} for t, ps in ranges.items()}
            self._explain(schema, begins, ends)

    def _explain(self, schema: Schema, begins: offsets.Offsets, ends: offsets.Offsets) -> None:
        """Log why none of the first records between these offsets can be read, if that is so."""
        reader = self.reader or Reader(self.spark, self.settings.kafka, self.topic_ids)
        values = explode_values(schema, reader.first_values(begins, ends, SAMPLE))
        decoded = decode(schema, values, labeled=False)
        if decoded.rejected and not len(decoded.kept):
            lines = explain(schema, values, as_scored, where=" in the model's schema")
            logger.warning("%s", NEXT.join(["none of the first records can be read", *lines, FIXED]))

    def _newest(self) -> Version:
        number = self.log.head_number()
        if self.version is None or number != self.version.number:
            self.version = self.log.head()
        assert self.version is not None  # wait_for_version comes first
        return self.version

    def _version_fields(self, version: Version) -> dict[str, Any]:
        """Return each prediction's fields about its version: number, digest, age in records and seconds."""
        manifest = version.manifest
        age = (datetime.now(UTC) - datetime.fromisoformat(manifest.written_at)).total_seconds()
        ends = self.admin.ends(manifest.offsets)
        behind = sum(
            max(end - manifest.offsets[t].get(p, 0), 0)
            for t, partitions in ends.items()
            for p, end in partitions.items()
        )
        return {
            "version": version.number,
            "digest": manifest.digest[:DIGEST_PREFIX],
            "age_records": behind if ends else None,  # unknown for a model that was not trained on topics
            "age_seconds": round(age, 3),
            "stale": bool(self.settings.score.max_age and age > self.settings.score.max_age),
        }


def by_fate(outcomes: Mapping[str, int]) -> dict[str, int]:
    """Return how many records were predicted, were filtered, and could not be read."""
    predicted, filtered = outcomes.get(PREDICTED_RECORD, 0), outcomes.get(FILTERED_RECORD, 0)
    rejected = sum(outcomes.values()) - predicted - filtered
    return {"predicted": predicted, "filtered": filtered, "rejected": rejected}


def forwarded_headers(names: Iterable[str]) -> frozenset[str]:
    """Return the lower-case names of the headers to copy."""
    return frozenset(name.lower() for name in names)


def score(
    spark: SparkSession,
    settings: Settings,
    kind: type[Scorer] = Scorer,
    opened: Callable[[Scorer], None] = lambda scorer: None,
) -> Scorer:
    """Score until Ctrl-C, or with `once` all available records; return the scorer, which has stopped.

    Raise as `kind` does.
    """
    with uninterrupted():
        scorer = kind.open(spark, settings)
        opened(scorer)
    try:
        scorer.wait_for_version()
        with uninterrupted():
            scorer.start()
        topics = settings.score.topic, settings.score.predictions
        logger.info("scoring %s into %s with %s", *topics, settings.model)
        scorer.wait()
        logger.info("%s", scorer.summary())
    except KeyboardInterrupt:
        logger.info("stopping")
        scorer.finish()
        if scorer.versions is not None:  # the real-time engine does not count
            logger.info("%s", scorer.summary())
    finally:
        scorer.stop()
    return scorer
