"""Kafka as Spark reads it: a stream from the head's offsets, recorded ranges, and what a batch holds."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 (everybody's name for it)

from streaming_nn.kafka.options import for_spark

Offsets = dict[str, dict[int, int]]  # topic, partition: next offset
Ranges = dict[str, dict[int, tuple[int, int]]]  # topic, partition: [from, until)

EARLIEST = -2  # Kafka's own number for it, in startingOffsets
ORDER = ("timestamp", "topic", "partition", "offset")  # in which records are learned, always

# Spark's headers column, an array of structs, cuts the rate to a third; as text that is null where there are
# none it costs nothing. The values come in base64.
COLUMNS = (
    *ORDER,
    "key",
    "value",
    "CASE WHEN size(headers) > 0 THEN to_json(headers) END AS headers",
)

CONSUMER = {  # a user's own options win
    "isolation.level": "read_committed",  # what a transaction took back must not be learned
    # Kafka's defaults of 500 records and 1 MB a fetch read at two thirds of the rate
    "max.poll.records": "10000",
    "max.partition.fetch.bytes": str(8 << 20),
    "receive.buffer.bytes": str(1 << 20),
}


def stream(
    spark: SparkSession, kafka: Mapping[str, str], topics: Iterable[str], starting: Offsets | str, limit: int
) -> DataFrame:
    """Read topics as a stream, at most `limit` offsets a micro-batch, from offsets or "earliest"."""
    begin = starting if isinstance(starting, str) else to_json(starting)
    return (
        spark.readStream.format("kafka")
        .options(**_options(kafka))
        .option("subscribe", ",".join(topics))
        .option("startingOffsets", begin)
        .option("maxOffsetsPerTrigger", limit)
        .load()
        .selectExpr(*COLUMNS)
    )


def live(spark: SparkSession, kafka: Mapping[str, str], topic: str) -> DataFrame:
    """Read a topic from its beginning in real-time mode, with Spark's own columns: nothing limits a batch."""
    return (
        spark.readStream.format("kafka")
        .options(**_options(kafka))
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .load()
    )


def batch(spark: SparkSession, kafka: Mapping[str, str], ranges: Ranges) -> DataFrame:
    """Read just these ranges; the rows come in no order."""
    ranges = {t: {p: r for p, r in ps.items() if r[0] < r[1]} for t, ps in ranges.items()}
    ranges = {t: ps for t, ps in ranges.items() if ps}
    # `subscribe` throws for offsets that are older than a partition that came later; `assign` doesn't
    return (
        spark.read.format("kafka")
        .options(**_options(kafka))
        .option("assign", json.dumps({t: sorted(ps) for t, ps in ranges.items()}))
        .option("startingOffsets", to_json({t: {p: r[0] for p, r in ps.items()} for t, ps in ranges.items()}))
        .option("endingOffsets", to_json({t: {p: r[1] for p, r in ps.items()} for t, ps in ranges.items()}))
        .load()
        .selectExpr(*COLUMNS)
    )


def first_values(
    spark: SparkSession, kafka: Mapping[str, str], topics: Iterable[str], rows: int
) -> list[bytes | None]:
    """Return the values of the first records that the topics still hold."""
    frame = spark.read.format("kafka").options(**_options(kafka)).option("subscribe", ",".join(topics)).load()
    values = [row.value for row in frame.select("value").limit(rows).collect()]
    return [None if value is None else bytes(value) for value in values]


def in_order(frame: DataFrame) -> DataFrame:
    """One task, its rows in the one order. `coalesce(1)` alone gives the partitions in any order."""
    return frame.coalesce(1).sortWithinPartitions(*ORDER)


def by_version(frame: DataFrame, spans: Mapping[int, Ranges], averaged: bool = False) -> DataFrame:
    """Name each row's version (by the recorded ranges), and sort each version's rows as the stream did.

    A version whose tasks were `averaged` was learned by a task a partition, each in the order of its offsets.
    """
    rows = [(t, p, a, b, n) for n, ts in spans.items() for t, ps in ts.items() for p, (a, b) in ps.items()]
    names = ["span_topic", "span_partition", "begin", "until", "version"]
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    spans_frame = F.broadcast(frame.sparkSession.createDataFrame(table))
    inside = (
        (F.col("topic") == F.col("span_topic"))
        & (F.col("partition") == F.col("span_partition"))
        & (F.col("offset") >= F.col("begin"))
        & (F.col("offset") < F.col("until"))
    )
    joined = frame.coalesce(1).join(spans_frame, inside).drop(*names[:4])
    return joined.sortWithinPartitions("version", *(ORDER[1:] if averaged else ORDER))


def cut(frame: DataFrame, rows: int) -> list[Row]:
    """Cut records into micro-batches of `rows` in the one order: version, topic, partition, until, records.

    A batch is a range of each partition, so a record that is older than one before it in its partition takes
    that one's time. Only the cuts come to the driver; they are sorted by version.
    """
    own = Window.partitionBy("topic", "partition").orderBy("offset")
    so_far = own.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    places = frame.select(*ORDER).withColumn("timestamp", F.max("timestamp").over(so_far))
    number = F.row_number().over(Window.orderBy(*ORDER))
    return (
        places.withColumn("version", F.floor((number - 1) / rows) + 1)
        .groupBy("version", "topic", "partition")
        .agg((F.max("offset") + 1).alias("until"), F.count("*").alias("records"))
        .orderBy("version", "topic", "partition")
        .collect()
    )


def planned(checkpoint: Path, batch_id: int) -> Ranges:
    """What micro-batch `batch_id` holds, by Spark's own write-ahead plan in a checkpoint that is local.

    A partition that the batch before doesn't know is new: Spark reads it from its first offset, which is 0
    (it fails with data loss otherwise).
    """
    before = _until(checkpoint, batch_id - 1) if batch_id else _begun(checkpoint)
    return {
        topic: {p: (before.get(topic, {}).get(p, 0), end) for p, end in sorted(until.items())}
        for topic, until in sorted(_until(checkpoint, batch_id).items())
    }


def _until(checkpoint: Path, batch_id: int) -> Offsets:
    plan = (checkpoint / "offsets" / str(batch_id)).read_text().splitlines()
    return offsets_from(json.loads(plan[2]))  # version, metadata, then one line a source: ours is the only


def _begun(checkpoint: Path) -> Offsets:
    """Where the query's first micro-batch begins: Spark has written the offsets down that it resolved."""
    text = (checkpoint / "sources" / "0" / "0").read_text()
    return offsets_from(json.loads(text[text.index("{") :]))


def count(ranges: Ranges) -> int:
    """How many offsets ranges have; records are fewer where some were transactional or compacted."""
    return sum(end - begin for ps in ranges.values() for begin, end in ps.values())


def to_json(offsets: Offsets) -> str:
    """Offsets as Spark's options want them."""
    return json.dumps({t: {str(p): o for p, o in ps.items()} for t, ps in offsets.items()})


def offsets_from(values: Mapping[str, Mapping[str, Any]]) -> Offsets:
    """Offsets from Spark's JSON."""
    return {t: {int(p): int(o) for p, o in ps.items()} for t, ps in values.items()}


def _options(kafka: Mapping[str, str]) -> dict[str, str]:
    options = for_spark({**CONSUMER, **kafka})
    return {**options, "includeHeaders": "true", "failOnDataLoss": "true"}
