"""Streaming queries measured from trigger to trigger: ours, and the same query with another body."""

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
SPARK = {"spark.sql.streaming.numRecentProgressUpdates": "10000"}  # what a query tells is kept whole


@contextmanager
def bench(master: str = "local[2]", **options: str) -> Iterator[tuple[SparkSession, dict[str, str]]]:
    """Start a session and a broker of the benchmark's own; both end with it."""
    with tempfile.TemporaryDirectory(prefix="streaming-nn-bench-") as folder, Broker.start(folder) as broker:
        spark = session({"spark.master": master, **SPARK, **options})
        try:
            yield spark, {"bootstrap.servers": broker.bootstrap}
        finally:
            spark.stop()


def noop(frame: DataFrame, batch_id: int) -> None:
    """Read the micro-batch, and do nothing with it."""
    frame.write.format("noop").mode("overwrite").save()


def collected(frame: DataFrame, batch_id: int) -> None:
    """Bring the micro-batch to the driver, and do nothing with it."""
    frame.collect()


def rate(query: StreamingQuery) -> float:
    """Rows a second from the first trigger to the last: between two triggers lies all that a batch costs.

    The first two micro-batches are warm-up where there are more than three; after the last comes no trigger.
    """
    told = [told for told in query.recentProgress if records(told)]
    told = told[2:] if len(told) > 3 else told
    if len(told) < 2:
        raise ValueError("a rate needs two micro-batches or more: ask for more records, or smaller batches")
    seconds = (_at(told[-1]) - _at(told[0])).total_seconds()
    return float(sum(map(records, told[:-1])) / seconds)


def records(told: Mapping[str, Any]) -> int:
    """Count a micro-batch's records by its offsets: Spark's own count has only what Spark itself has read."""
    begin, end = (
        json.loads(told["sources"][0][name] or "null") or {} for name in ("startOffset", "endOffset")
    )
    return sum(last - begin.get(t, {}).get(p, 0) for t, ps in end.items() for p, last in ps.items())


def _at(told: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(told["timestamp"])


def delays(query: StreamingQuery, ends: Mapping[int, float]) -> list[float]:
    """Seconds from each micro-batch's trigger to the moment in `ends` (of `time.time`).

    The first five are warm-up; where there are no more, the last one stands for all.
    """
    began = {told["batchId"]: _at(told).timestamp() for told in query.recentProgress if records(told)}
    found = [ends[batch] - began[batch] for batch in sorted(began.keys() & ends.keys())]
    return found[5:] or found[-1:]


def run_plain(
    spark: SparkSession,
    kafka: Mapping[str, str],
    topic: str,
    limit: int,
    body: Body,
    as_spark_is: bool = False,
) -> tuple[StreamingQuery, dict[int, float]]:
    """Run a topic to its end with a body of somebody else's; give the query and when each batch ended.

    It is our query but for the body; `as_spark_is` leaves out what we have set for its checkpoint, too.
    """
    ends: dict[int, float] = {}

    def timed(frame: DataFrame, batch_id: int) -> None:
        body(frame, batch_id)
        ends[batch_id] = time.time()

    frame = kafka_frames.stream(spark, kafka, [topic], "earliest", limit)
    with tempfile.TemporaryDirectory(prefix="streaming-nn-bench-") as folder:
        checkpoint = Path(folder).as_uri()
        asked = frame.writeStream.foreachBatch(timed).option("checkpointLocation", checkpoint)
        with nullcontext() if as_spark_is else quick_checkpoint(spark, checkpoint):
            query = asked.trigger(processingTime="0 seconds").start()
        _to_the_end(query)
    return query, ends


class Timed(Trainer):
    """A trainer that remembers when each micro-batch was committed."""

    def micro_batch(self, frame: DataFrame, batch_id: int) -> None:
        super().micro_batch(frame, batch_id)
        self.ends[batch_id] = time.time()

    def start(self) -> StreamingQuery:
        self.ends: dict[int, float] = {}
        return super().start()


def run_ours(spark: SparkSession, settings: Settings) -> tuple[StreamingQuery, dict[int, float]]:
    """Learn a topic to its end into a model of its own; give the query and when each version was there."""
    folder = Path(tempfile.mkdtemp(prefix="streaming-nn-bench-"))
    try:
        trainer = Timed(spark, settings.model_copy(update={"model": folder / "model"}))
        query = trainer.start()
        _to_the_end(query)
        trainer.stop()
        return query, trainer.ends
    finally:
        shutil.rmtree(folder)


def _to_the_end(query: StreamingQuery) -> None:
    query.processAllAvailable()
    query.stop()
