"""The scorer in real-time mode: a Java class in Spark's own query predicts each record as it arrives."""

import logging
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
from streaming_nn.spark.score.scorer import Scorer, forwarded_headers
from streaming_nn.spark.session import STOP_ERRORS
from streaming_nn.spark.sources import kafka_frames
from streaming_nn.versions.version import Manifest

logger = logging.getLogger(__name__)

T = TypeVar("T")
HERE = Path(__file__).parent
SOURCES = ("Version", "Network", "Records", "Predictor")  # Java classes; each uses those before it
ACTIVATIONS = ("relu", "tanh", "sigmoid")  # those that Network.java supports; LOSSES likewise
LOSSES = ("softmax", "logistic", "squared", "absolute", "huber")
THROWN = re.compile(r"java\.io\.IOException: (.*?)(\.? SQLSTATE|$)", re.MULTILINE)  # by our Java classes
POLL = 0.01  # seconds between two checks whether a batch has ended: the next one begins 0.1 seconds later


class RealTimeScorer(Scorer):
    """Predicts the unlabeled topic record by record; offsets are recorded only when a real-time batch ends.

    At least once, like `Scorer`: a crash repeats up to one batch. `start` raises ValueError in one line,
    which names the batch engine, for what real-time mode does not support.
    """

    def start(self) -> StreamingQuery:
        """Start the query where its checkpoint ended, or at the topic's beginning."""
        score, manifest = self.settings.score, self._newest().manifest
        check(manifest)
        check_slots(self.settings, len(partitions(self.settings.kafka, [score.topic])[score.topic]))
        trigger: dict[str, Any] = {"realTime": score.realtime_batch}  # missing in PySpark's types
        self.query = (
            self._predictions(kafka_frames.live(self.spark, self.settings.kafka, score.topic), manifest)
            .writeStream.format("kafka")
            .options(**for_spark(self.settings.kafka))
            .option("topic", score.predictions)
            .option("checkpointLocation", self.checkpoint)
            .outputMode("update")
            .trigger(**trigger)
            .start()
        )
        return self.query

    def _predictions(self, frame: DataFrame, manifest: Manifest) -> DataFrame:
        score = self.settings.score
        predictor = java_compiler.instance(self.spark, HERE, SOURCES)
        predictor.configure(str(self.settings.model.absolute()), float(score.max_age), score.probabilities)
        java_compiler.register(self.spark, "streaming_nn_predict", predictor, "binary")
        names = forwarded_headers(score.headers, manifest.schema["format"])
        forwarded = F.filter("headers", lambda header: F.lower(header.key).isin(*names)).alias("headers")
        value = F.expr("streaming_nn_predict(value, topic, partition, offset)").alias("value")
        return frame.select("key", value, forwarded)

    def _find_cause(self, error: PySparkException) -> BaseException:
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


def _retry(call: Callable[[], T]) -> T:
    """Call Spark, once more if it fails: the first call may meet a connection that Ctrl-C has cut."""
    try:
        return call()
    except Py4JError:
        return call()


def check(manifest: Manifest) -> None:
    """Raise ValueError, which names the batch engine, for a version that the Java classes do not support."""
    learner, schema = manifest.learner, manifest.schema
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
        raise ValueError(f"score --engine realtime: {wrong}; use --engine batch")


def check_slots(settings: Settings, partitions: int) -> None:
    """Raise ValueError if a local master has fewer threads than the topic has partitions."""
    master = settings.spark.get("spark.master", "local[*]")
    local = re.fullmatch(r"local(?:\[(\*|\d+)(?:,\s*\d+)?\])?", master)
    if local is None:
        return
    slots = (os.cpu_count() or 1) if local[1] == "*" else int(local[1] or 1)
    if slots < partitions:
        raise ValueError(
            f"score --engine realtime: the master must have a thread for each of the {partitions} partitions "
            f"of {settings.score.topic!r}; got {slots} with {master}; use --master 'local[{partitions}]', or "
            "--engine batch"
        )
