"""Topics as DataFrames: a stream from given offsets, recorded ranges, and records cut into micro-batches."""

import json
import re
from collections.abc import Mapping

import pyarrow as pa
from pyspark.sql import DataFrame, DataFrameReader, Row, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 (everybody's name for it)
from pyspark.sql.streaming.readwriter import DataStreamReader

from streaming_nn.errors import UnreadableRecordError
from streaming_nn.kafka.options import for_spark
from streaming_nn.spark import java_compiler
from streaming_nn.spark.session import SPARK_ERRORS
from streaming_nn.spark.sources.offsets import Ranges, to_json
from streaming_nn.spark.sources.order import ORDER
from streaming_nn.spark.tasks import TASK_RESULT, TaskFunction

# Spark's headers column, an array of structs, cuts the rate to a third; as a string that is null if there are
# none it costs nothing. The values are in base64.
COLUMNS = (
    *ORDER,
    "key",
    "value",
    "CASE WHEN size(headers) > 0 THEN to_json(headers) END AS headers",
)

WITHOUT_CONNECTOR = (  # what Spark raises without the connector, and with one of another version
    *("Failed to find data source: kafka", "ClassNotFoundException", "NoClassDefFoundError"),
    *("NoSuchMethodError", "AbstractMethodError", "ServiceConfigurationError"),
)
CONSUMER = {  # a user's options take precedence
    "isolation.level": "read_committed",  # records of an aborted transaction must not be learned
    # Kafka's defaults of 500 records and 1 MB a fetch read at two thirds of the rate
    "max.poll.records": "10000",
    "max.partition.fetch.bytes": str(8 << 20),
    "receive.buffer.bytes": str(1 << 20),
}


JAR = re.compile(r"spark-sql-kafka-0-10_[\d.]+-([^/]+)\.jar$")
OVERFLOW = re.compile("long overflow|overflows when converting")  # of a record's time, in microseconds


def unreadable(error: BaseException) -> UnreadableRecordError | None:
    """Return the error for a record that Spark cannot read; None: another one."""
    if not OVERFLOW.search(str(error)):
        return None
    return UnreadableRecordError(
        "a record's timestamp is beyond the year 294,247 (nanoseconds instead of milliseconds?), which Spark "
        "cannot read: learn and predict the topic on one machine (spark.master = local), or begin after it"
    )


def stream(
    spark: SparkSession,
    kafka: Mapping[str, str],
    subscription: Mapping[str, str],
    limit: int,
    accept_loss: bool = False,
) -> DataFrame:
    """Read topics as a stream, at most `limit` offsets per micro-batch, from the beginning.

    `subscription` is Spark's option that selects the topics. A checkpoint overrides where the query begins.
    """
    reader = (
        spark.readStream.format("kafka")
        .options(**_options(kafka, accept_loss))
        .options(**subscription)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", limit)
    )
    return _load(spark, reader).selectExpr(*COLUMNS)


def live(spark: SparkSession, kafka: Mapping[str, str], topic: str, accept_loss: bool = False) -> DataFrame:
    """Read a topic from its beginning in real-time mode, with Spark's columns and no limit per batch."""
    options = _options(kafka, accept_loss)
    reader = spark.readStream.format("kafka").options(**options).option("subscribe", topic)
    return _load(spark, reader.option("startingOffsets", "earliest"))


def batch(spark: SparkSession, kafka: Mapping[str, str], ranges: Ranges) -> DataFrame:
    """Read just these ranges; the rows are in no order."""
    ranges = {t: {p: r for p, r in ps.items() if r[0] < r[1]} for t, ps in ranges.items()}
    ranges = {t: ps for t, ps in ranges.items() if ps}
    # `subscribe` throws for offsets that are older than a partition that was added later; `assign` doesn't
    reader = (
        spark.read.format("kafka")
        .options(**_options(kafka))
        .option("assign", json.dumps({t: sorted(ps) for t, ps in ranges.items()}))
        .option("startingOffsets", to_json({t: {p: r[0] for p, r in ps.items()} for t, ps in ranges.items()}))
        .option("endingOffsets", to_json({t: {p: r[1] for p, r in ps.items()} for t, ps in ranges.items()}))
    )
    return _load(spark, reader).selectExpr(*COLUMNS)


def in_order(frame: DataFrame) -> DataFrame:
    """Return the frame as one task with its rows in ORDER, which `coalesce(1)` alone does not do."""
    return frame.coalesce(1).sortWithinPartitions(*ORDER)


def learn_rows(frame: DataFrame, work: TaskFunction, averaged: bool) -> DataFrame:
    """Return the frame of the rows (TASK_RESULT) that `work` yields for records: of one task, or several."""
    ordered = frame if averaged else in_order(frame)  # a partition has its own order
    return ordered.mapInArrow(work, TASK_RESULT)


def by_version(frame: DataFrame, spans: Mapping[int, Ranges], averaged: bool = False) -> DataFrame:
    """Add each row's version (by the recorded ranges), and sort each version's rows as the stream did.

    An `averaged` version was learned by a task per partition, each in the order of its offsets.
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
    """Cut records into micro-batches of `rows` in ORDER: rows of version, topic, partition, until, records.

    A batch is a range of each partition, so a record that is older than one before it in its partition gets
    that one's time. Only the cuts are sent to the driver; they are sorted by version.
    """
    partition = Window.partitionBy("topic", "partition").orderBy("offset")
    so_far = partition.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    records = frame.select(*ORDER).withColumn("timestamp", F.max("timestamp").over(so_far))
    number = F.row_number().over(Window.orderBy(*ORDER))
    return (
        records.withColumn("version", F.floor((number - 1) / rows) + 1)
        .groupBy("version", "topic", "partition")
        .agg((F.max("offset") + 1).alias("until"), F.count("*").alias("records"))
        .orderBy("version", "topic", "partition")
        .collect()
    )


def _load(spark: SparkSession, reader: DataFrameReader | DataStreamReader) -> DataFrame:
    """Return the frame of a reader. RuntimeError: the session lacks the connector, or has another one."""
    try:
        return reader.load()
    except SPARK_ERRORS as error:
        if not any(words in str(error) for words in WITHOUT_CONNECTOR):
            raise
        raise _without_connector(spark) from None


def require_connector(spark: SparkSession) -> None:
    """Raise RuntimeError in one line if the session lacks the connector, or has that of another version."""
    try:
        found = java_compiler.loader(spark).loadClass("org.apache.spark.sql.kafka010.KafkaSourceProvider")
        jar = str(found.getProtectionDomain().getCodeSource().getLocation())
    except SPARK_ERRORS:
        raise _without_connector(spark) from None
    version = JAR.search(jar)
    if version and version[1] != spark.version:
        raise _without_connector(spark, f"; it has {version[1]}")


def _without_connector(spark: SparkSession, other: str = "") -> RuntimeError:
    package = f"org.apache.spark:spark-sql-kafka-0-10_2.13:{spark.version}"
    return RuntimeError(
        f"this Spark session lacks the Kafka connector of its version, {spark.version}{other}: start it with "
        f"streaming_nn.session(), or with spark.jars.packages = {package}"
    )


def _options(kafka: Mapping[str, str], accept_loss: bool = False) -> dict[str, str]:
    options = for_spark({**CONSUMER, **kafka})
    return {**options, "includeHeaders": "true", "failOnDataLoss": str(not accept_loss).lower()}
