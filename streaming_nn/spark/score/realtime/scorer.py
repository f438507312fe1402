"""The scorer in real-time mode: a Java class inside Spark's own query answers each record as it comes."""

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 (everybody's name for it)
from pyspark.sql.streaming.query import StreamingQuery

from streaming_nn.kafka.admin import partitions
from streaming_nn.kafka.options import for_spark
from streaming_nn.settings import Settings
from streaming_nn.spark import java_compiler
from streaming_nn.spark.score.scorer import Scorer, taken_along
from streaming_nn.spark.session import GONE
from streaming_nn.spark.sources import kafka_frames
from streaming_nn.versions.version import Manifest

T = TypeVar("T")
HERE = Path(__file__).parent
SOURCES = ("Version", "Network", "Records", "Answer")  # Java classes; each uses those before it
ACTIVATIONS = ("relu", "tanh", "sigmoid")  # what Network.java knows, as it does the losses
LOSSES = ("softmax", "logistic", "squared", "absolute", "huber")
THROWN = re.compile(r"java\.io\.IOException: (.*?)(\.? SQLSTATE|$)", re.MULTILINE)  # by our Java classes
POLL = 0.01  # seconds between two looks whether a batch has ended: the next one begins a tenth of one later


class RealTimeScorer(Scorer):
    """Answers the unlabeled topic record by record; the places are noted only when a real-time batch ends.

    At least once, as `Scorer` is: a crash repeats up to one batch. Raises ValueError in one line, naming the
    batch engine, for what can't run in real-time mode, and what `Scorer` raises.
    """

    def start(self) -> StreamingQuery:
        """Start the query where its checkpoint ended, or at the topic's beginning."""
        asked, record = self.settings.score, self._newest().manifest
        check(record)
        check_slots(self.settings, len(partitions(self.settings.kafka, [asked.topic])[asked.topic]))
        when: dict[str, Any] = {"realTime": asked.realtime_batch}  # PySpark's own types don't know it
        self.query = (
            self._answered(kafka_frames.live(self.spark, self.settings.kafka, asked.topic), record)
            .writeStream.format("kafka")
            .options(**for_spark(self.settings.kafka))
            .option("topic", asked.predictions)
            .option("checkpointLocation", self.checkpoint)
            .outputMode("update")
            .trigger(**when)
            .start()
        )
        return self.query

    def _answered(self, frame: DataFrame, record: Manifest) -> DataFrame:
        answer = java_compiler.instance(self.spark, HERE, SOURCES)
        answer.of(str(self.settings.model.absolute()), float(self.settings.score.max_age))
        java_compiler.register(self.spark, "streaming_nn_answer", answer, "binary")
        names = taken_along(self.settings.score.headers, record.schema["format"])
        taken = F.filter("headers", lambda header: F.lower(header.key).isin(*names)).alias("headers")
        value = F.expr("streaming_nn_answer(value, topic, partition, offset)").alias("value")
        return frame.select("key", value, taken)

    def _cause(self, error: PySparkException) -> BaseException:
        said = THROWN.search(str(error))
        return RuntimeError(f"the scorer ended: {said[1]}") if said else super()._cause(error)

    def finish(self) -> None:
        """End the query when the batch under way has ended, whose answers then are not repeated."""
        query = self.query
        with suppress(*GONE):
            if query is not None and _asked(lambda: query.isActive):
                length = self.settings.score.realtime_batch
                self.say(f"waiting up to {length} for the real-time batch to end; once more stops at once")
                before = _asked(self._ended)
                while _asked(lambda: query.isActive and self._ended() == before):
                    time.sleep(POLL)
        self.stop()

    def _ended(self) -> int:
        """Give the number of the last batch whose places are noted, by Spark's own log; -1 where none is."""
        query: Any = self.query
        latest = query._jsq.streamingQuery().commitLog().getLatestBatchId()
        return int(latest.get()) if latest.isDefined() else -1


def _asked(question: Callable[[], T]) -> T:
    """Ask Spark, once more where a connection that Ctrl-C has cut breaks the first time."""
    try:
        return question()
    except Py4JError:
        return question()


def check(record: Manifest) -> None:
    """Raise ValueError, naming the batch engine, for a version that Java can't answer with."""
    learner, schema = record.learner, record.schema
    features, wrong = schema["features"], None
    if schema["format"] not in ("json", "packed"):
        wrong = f"records must be json or packed; got {schema['format']}"
    elif schema["categories"]:
        wrong = f"records must have no categories; got {', '.join(schema['categories'])}"
    elif schema["format"] == "json" and (not isinstance(features, str) or "." in features):
        wrong = f"JSON records must have their features in one array, not in another object; got {features!r}"
    elif learner["activation"] not in ACTIVATIONS:
        wrong = f"activation must be one of {', '.join(ACTIVATIONS)}; got {learner['activation']}"
    elif learner.get("loss") not in (None, *LOSSES):
        wrong = f"loss must be one of {', '.join(LOSSES)}; got {learner['loss']}"
    if wrong:
        raise ValueError(f"score --engine realtime: {wrong}; --engine batch can do it")


def check_slots(settings: Settings, partitions: int) -> None:
    """Raise ValueError where a local master has fewer threads than the topic has partitions."""
    master = settings.spark.get("spark.master", "local[*]")
    local = re.fullmatch(r"local(?:\[(\*|\d+)(?:,\s*\d+)?\])?", master)
    if local is None:
        return
    slots = (os.cpu_count() or 1) if local[1] == "*" else int(local[1] or 1)
    if slots < partitions:
        raise ValueError(
            f"score --engine realtime: it holds a thread for each of the {partitions} partitions of "
            f"{settings.score.topic!r}; got {slots} with {master}: give --master local[{partitions}], "
            "or --engine batch"
        )
