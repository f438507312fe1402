"""The scorer in real-time mode: a Java class in Spark's own query predicts each record as it arrives."""

import json
import logging
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from py4j.protocol import Py4JError
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 (everybody's name for it)
from pyspark.sql.streaming.query import StreamingQuery

from streaming_nn.errors import UnreadableRecordError
from streaming_nn.kafka.admin import partitions
from streaming_nn.kafka.options import for_spark
from streaming_nn.records.paths import parse_path
from streaming_nn.records.schema import schema_from
from streaming_nn.spark import java_compiler
from streaming_nn.spark.query import named
from streaming_nn.spark.rejected import OTHER
from streaming_nn.spark.score.predictions import (
    CONTENT_TYPE,
    CUT,
    EVENT_TYPE,
    FILTERED_RECORD,
    JSON_TYPE,
    LATENCIES,
    PREDICTED_RECORD,
    SUM,
)
from streaming_nn.spark.score.realtime.supported import check, check_slots
from streaming_nn.spark.score.scorer import Scorer, forwarded_headers
from streaming_nn.spark.session import STOP_ERRORS
from streaming_nn.spark.sources import kafka_frames, offsets
from streaming_nn.versions.version import Manifest

logger = logging.getLogger(__name__)

T = TypeVar("T")
HERE = Path(__file__).parent
SOURCES = (  # Java classes; each uses those before it
    "Version",
    "Functions",
    "Scaling",
    "Network",
    "Json",
    "Values",
    "Category",
    "Features",
    "Where",
    "Lines",
    "Framing",
    "Records",
    "Fields",
    "Predictor",
)
HEADERS = "array<struct<key: string, value: binary>>"  # as Spark has them
THROWN = re.compile(r"java\.io\.IOException: (.*?)(\.? SQLSTATE|$)", re.MULTILINE)  # by our Java classes
POLL = 0.01  # seconds between two checks whether a batch has ended: the next one begins 0.1 seconds later
CALL = "streaming_nn_predict(value, topic, partition, offset, unix_millis(timestamp))"
LOOK = 1.0  # seconds between two looks whether the topic has first records


class RealTimeScorer(Scorer):
    """Predicts the unlabeled topic record by record; offsets are recorded only when a real-time batch ends.

    At least once, like `Scorer`: a crash repeats up to one batch. `start` raises ValueError in one line,
    which names the batch engine, for what real-time mode does not support.
    """

    def __init__(self, *opened: Any) -> None:
        """Store what `open` has opened."""
        super().__init__(*opened)
        self._counted: Any = None  # accumulators of what tasks have predicted; None: they do not count
        self._backlog = Counter[str](), Counter[str]()  # outcomes and latencies of the batch engine

    def start(self) -> StreamingQuery:
        """Start the query where its checkpoint ended, or at the topic's beginning."""
        self._first = self.check_losses()
        score, manifest = self.settings.score, self._newest().manifest
        check(manifest)
        check_slots(self.settings, len(partitions(self.settings.kafka, [score.topic])[score.topic]))
        trigger: dict[str, Any] = {"realTime": score.realtime_batch}  # missing in PySpark's types
        predictions = self._predictions(self._records(), manifest).writeStream
        self.query = (
            named(predictions, self.spark, self.title)
            .format("kafka")
            .options(**for_spark(self.settings.kafka))
            .option("topic", score.predictions)
            .option("checkpointLocation", self.checkpoint)
            .outputMode("update")
            .trigger(**trigger)
            .start()
        )
        return self.query

    def _records(self) -> DataFrame:
        score = self.settings.score
        records = kafka_frames.live(self.spark, self.settings.kafka, score.topic, score.accept_data_loss)
        return records.where("value IS NOT NULL")  # a tombstone is filtered

    def _predictions(self, frame: DataFrame, manifest: Manifest) -> DataFrame:
        score = self.settings.score
        predictor = java_compiler.instance(self.spark, HERE, SOURCES)
        directory = str(self.settings.model.absolute())
        paths = json.dumps({name: parse_path(name) for name in score.fields}) if score.fields else ""
        form = score.probabilities, score.cloudevents, paths, self.longest
        predictor.configure(directory, float(score.max_age), *form)
        if self.counts_latencies:
            predictor.count(self._counters(), ",".join(str(round(1000 * s)) for s in LATENCIES[:-1]))
        java_compiler.register(self.spark, "streaming_nn_predict", predictor)
        value = F.expr(CALL).alias("value")
        key = F.when(F.octet_length("key") <= self.longest, F.col("key")).alias("key")
        predictions = frame.select(key, value, self._headers().alias("headers"))
        return predictions.where("value IS NOT NULL")  # a record that is filtered has none

    def _counters(self) -> Any:
        """Return the accumulators of the whole run's counts, in the order of Predictor.java."""
        if self._counted is None:
            context: Any = self.spark.sparkContext
            java: Any = self.spark._jvm
            kind = java.org.apache.spark.util.LongAccumulator
            self._counted = context._gateway.new_array(kind, 4 + len(LATENCIES))
            for i in range(len(self._counted)):
                self._counted[i] = context._jsc.sc().longAccumulator()
        return self._counted

    def position(self) -> offsets.Offsets:
        """Return the offsets after the last real-time batch that ended, and count what it has predicted."""
        if self._counted is not None:
            predicted, rejected, filtered, total, *latencies = (int(c.sum()) for c in self._counted)
            outcomes = {PREDICTED_RECORD: predicted, OTHER: rejected, FILTERED_RECORD: filtered}
            by_bound = dict(zip(map(str, LATENCIES), latencies, strict=True)) | {SUM: total}
            self.outcomes = Counter(outcomes) + self._backlog[0]
            self.latencies = Counter(by_bound) + self._backlog[1]
        return super().position()

    def _headers(self) -> Column:
        """Return a prediction's headers, as `predictions.Predict` does."""
        copied = F.filter(
            "headers", lambda h: F.lower(h.key).isin(*forwarded_headers(self.settings.score.headers))
        )
        others = F.filter(copied, lambda h: F.lower(h.key) != CONTENT_TYPE)
        typed = F.slice(F.filter(copied, lambda h: F.lower(h.key) == CONTENT_TYPE), 1, 1)
        typed = F.transform(typed, lambda h: _header(h.key, JSON_TYPE))
        if self.settings.score.cloudevents:
            typed = F.array(_header(F.lit(CONTENT_TYPE), EVENT_TYPE))
        size = F.aggregate(others, F.lit(0), lambda n, h: n + F.octet_length(h.key) + _size(h.value))
        others = F.when(size > self.longest, _cut("headers")).otherwise(others)
        long = F.when(F.octet_length("key") > self.longest, _cut("key"))
        parts = (F.coalesce(part, F.array().cast(HEADERS)) for part in (typed, others, long))
        return F.concat(*parts)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait as a job does, and explain the first records if none of them can be read.

        A record that Spark cannot read is predicted by the batch engine, which can.
        """
        until = float("inf") if seconds is None else time.monotonic() + seconds
        while True:
            try:
                left = max(until - time.monotonic(), POLL)
                if self._explained:
                    return super().wait(None if seconds is None else left)
                if super().wait(min(left, LOOK)):
                    return True
                self._look()
                if left <= LOOK:
                    return False
            except UnreadableRecordError:
                logger.warning("cannot read a record in real-time mode; the batch engine scores the backlog")
                self._predict_available()
                self.start()

    def _look(self) -> None:
        """Look at the topic's first records as soon as it has some: no task reports what it has predicted."""
        with suppress(ConnectionError, LookupError, PermissionError):  # the query reports it, if it lasts
            ends = self.admin.ends(self._first)
            if offsets.count_between(self._first, ends):
                self._explained = True
                self._explain(schema_from(self._newest().manifest.schema), self._first, ends)

    def _predict_available(self) -> None:
        once = self.settings.score.model_copy(update={"once": True})
        scorer = Scorer.open(self.spark, self.settings.model_copy(update={"score": once}))
        try:
            scorer.start()
            scorer.wait()
        finally:
            scorer.stop()
            self._backlog = self._backlog[0] + scorer.outcomes, self._backlog[1] + scorer.latencies

    def _find_cause(self, error: BaseException) -> BaseException:
        thrown = THROWN.search(str(error))
        return RuntimeError(f"the scorer ended: {thrown[1]}") if thrown else super()._find_cause(error)

    def finish(self) -> None:
        """End the query when the current batch has ended, so that its predictions are not repeated."""
        query = self.query
        with suppress(*STOP_ERRORS):
            if query is not None and _retry(lambda: query.isActive):
                length = self.settings.score.realtime_batch
                logger.info(
                    "waiting up to %s for the real-time batch to end; press Ctrl-C again to stop at once",
                    length,
                )
                before = _retry(self._last_batch)
                while _retry(lambda: query.isActive and self._last_batch() == before):
                    time.sleep(POLL)
        self.stop()

    def _last_batch(self) -> int:
        """Return the number of the last batch in Spark's commit log; -1 if there is none."""
        query: Any = self.query
        latest = query._jsq.streamingQuery().commitLog().getLatestBatchId()
        return int(latest.get()) if latest.isDefined() else -1


def _header(name: Column, value: str) -> Column:
    return F.struct(name.alias("key"), F.lit(value).cast("binary").alias("value"))


def _cut(what: str) -> Column:
    return F.array(_header(F.lit(CUT), what))


def _size(value: Column) -> Column:
    return F.coalesce(F.octet_length(value), F.lit(0))


def _retry(call: Callable[[], T]) -> T:
    """Call Spark, once more if it fails: the first call may meet a connection that Ctrl-C has cut."""
    try:
        return call()
    except Py4JError:
        return call()
