"""Streaming queries measured from trigger to trigger: the trainer's, and the same query with another body."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming_nn.kafka.broker import Broker
from streaming_nn.settings import Settings
from streaming_nn.spark.query import quick_checkpoint
from streaming_nn.spark.session import session
from streaming_nn.spark.sources import kafka_frames
from streaming_nn.spark.train.trainer import Trainer

Body = Callable[[DataFrame, int], None]
SPARK = {"spark.sql.streaming.numRecentProgressUpdates": "10000"}  # keep all of a query's progress


@contextmanager
def bench(master: str = "local[2]", **options: str) -> Iterator[tuple[SparkSession, dict[str, str]]]:
    """Start a session and a broker, and stop both at the end."""
    with tempfile.TemporaryDirectory(prefix="streaming-nn-bench-") as folder, Broker.start(folder) as broker:
        spark = session({"spark.master": master, **SPARK, **options})
        try:
            yield spark, {"bootstrap.servers": broker.bootstrap}
        finally:
            spark.stop()


def noop(frame: DataFrame, batch_id: int) -> None:
    """Read the micro-batch and drop it."""
    frame.write.format("noop").mode("overwrite").save()


def collect(frame: DataFrame, batch_id: int) -> None:
    """Collect the micro-batch in the driver and drop it."""
    frame.collect()


def rate(query: StreamingQuery) -> float:
    """Return rows per second from the first trigger to the last, including everything that a batch costs.

    The first two micro-batches are warm-up if there are more than three; no trigger follows the last one.
    """
    batches = [batch for batch in query.recentProgress if records(batch)]
    batches = batches[2:] if len(batches) > 3 else batches
    if len(batches) < 2:
        raise ValueError(
            "cannot measure a rate: it needs two micro-batches; use more records, or smaller batches"
        )
    seconds = (_at(batches[-1]) - _at(batches[0])).total_seconds()
    return float(sum(map(records, batches[:-1])) / seconds)


def records(batch: Mapping[str, Any]) -> int:
    """Count a micro-batch's records by its offsets: Spark counts only what it has read itself."""
    begin, end = (
        json.loads(batch["sources"][0][name] or "null") or {} for name in ("startOffset", "endOffset")
    )
    return sum(last - begin.get(t, {}).get(p, 0) for t, ps in end.items() for p, last in ps.items())


def _at(batch: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(batch["timestamp"])


def delays(query: StreamingQuery, ends: Mapping[int, float]) -> list[float]:
    """Return the seconds from each micro-batch's trigger to its time in `ends` (of `time.time`).

    The first five are warm-up; if there are no more, return only the last one.
    """
    starts = {batch["batchId"]: _at(batch).timestamp() for batch in query.recentProgress if records(batch)}
    seconds = [ends[number] - starts[number] for number in sorted(starts.keys() & ends.keys())]
    return seconds[5:] or seconds[-1:]


def run_plain(
    spark: SparkSession,
    kafka: Mapping[str, str],
    topic: str,
    limit: int,
    body: Body,
    spark_defaults: bool = False,
) -> tuple[StreamingQuery, dict[int, float]]:
    """Run a query to the topic's end with this body; return the query and when each batch ended.

    All but the body is the trainer's query; `spark_defaults` also omits our setting for its checkpoint.
    """
    ends: dict[int, float] = {}

    def timed(frame: DataFrame, batch_id: int) -> None:
        body(frame, batch_id)
        ends[batch_id] = time.time()

    frame = kafka_frames.stream(spark, kafka, {"subscribe": topic}, limit)
    with tempfile.TemporaryDirectory(prefix="streaming-nn-bench-") as folder:
        checkpoint = Path(folder).as_uri()
        writer = frame.writeStream.foreachBatch(timed).option("checkpointLocation", checkpoint)
        with nullcontext() if spark_defaults else quick_checkpoint(spark, checkpoint):
            query = writer.trigger(processingTime="0 seconds").start()
        _drain(query)
    return query, ends


class TimedTrainer(Trainer):
    """A trainer that records when each micro-batch was committed."""

    def micro_batch(self, frame: DataFrame, batch_id: int) -> None:
        super().micro_batch(frame, batch_id)
        self.ends[batch_id] = time.time()

    def start(self) -> StreamingQuery:
        self.ends: dict[int, float] = {}
        return super().start()


def run_ours(spark: SparkSession, settings: Settings) -> tuple[StreamingQuery, dict[int, float]]:
    """Learn a topic to its end in a new model directory; return the query and the time of each commit."""
    folder = Path(tempfile.mkdtemp(prefix="streaming-nn-bench-"))
    try:
        trainer = TimedTrainer.open(spark, settings.model_copy(update={"model": folder / "model"}))
        query = trainer.start()
        _drain(query)
        trainer.stop()
        return query, trainer.ends
    finally:
        shutil.rmtree(folder)


def _drain(query: StreamingQuery) -> None:
    query.processAllAvailable()
    query.stop()
