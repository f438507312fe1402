"""Ranges of topics, as a frame with many records per row, or in the driver; Feed.java reads ahead.

On one machine it is the only reader, because Spark's fails at a record whose time is beyond the year 294,247,
such as one in nanoseconds: it converts milliseconds to microseconds. Here they stay milliseconds.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic_core import to_json
from pyspark.sql import DataFrame, SparkSession

from streaming_nn.kafka.options import for_java
from streaming_nn.records.framing import NONE, UTF8
from streaming_nn.records.paths import is_plain
from streaming_nn.records.schema import Schema
from streaming_nn.spark import java_compiler
from streaming_nn.spark.session import on_one_machine
from streaming_nn.spark.sources import kafka_frames
from streaming_nn.spark.sources.kafka_frames import CONSUMER
from streaming_nn.spark.sources.offsets import Offsets, Ranges, next_ranges
from streaming_nn.spark.sources.prefetch.record_batches import FromPieces, open_piece

HERE = Path(__file__).parent
SOURCES = ("Plain", "Columns", "Feed", "Reader")  # Java classes; each uses those before it
PIECES = "topic string, partition int, file string, begin int, until int, last boolean"
RECORDS = "timestamp long, topic string, partition int, offset long, key binary, value binary, headers string"
AHEAD = 256 << 20  # bytes that are read ahead of the tasks, for all partitions together


class Reader:
    """Reads planned ranges of topics, as long as a run lasts.

    Each partition's records are in the order of their offsets. `ids` are those of the topics (older versions
    have none): what was read ahead of a topic is not used for a recreated one. `plain` is which values
    Plain.java packs, as `plain_of` writes it. For an expired record the error contains Kafka's
    OffsetOutOfRangeException.
    """

    def __init__(
        self, spark: SparkSession, kafka: Mapping[str, str], ids: Mapping[str, str], plain: str = ""
    ) -> None:
        self.spark, self.ids = spark, ids
        self._request = {"options": for_java({**CONSUMER, **kafka}), "plain": plain}
        self._java: Any = None  # compiled for the first micro-batch of a session
        self._frames: dict[tuple[int, int], DataFrame] = {}  # by ranges and tasks: a new plan takes 13 ms

    def pieces(self, ranges: Ranges, averaged: bool) -> DataFrame:
        """Return the frame of PIECES, by a task per range (averaged) or by one; valid until the next call."""
        count = self._set(ranges)
        tasks = max(count, 1) if averaged else 1
        if (count, tasks) not in self._frames:
            java: Any = self.spark._jvm
            columns = java.org.apache.spark.sql.types.StructType.fromDDL(PIECES)
            numbers: Any = self.spark._jsparkSession
            rows = numbers.range(0, count, 1, tasks).toDF()
            rows = rows.mapPartitions(self._java, java.org.apache.spark.sql.Encoders.row(columns))
            self._frames[count, tasks] = DataFrame(rows, self.spark)
        return self._frames[count, tasks]

    def records(self, ranges: Ranges) -> DataFrame:
        """Return the frame of RECORDS, in one task and in no order; valid until the next call."""
        return self.pieces(ranges, averaged=False).mapInArrow(FromPieces(_unpacked, False), RECORDS)

    def read_in_driver(self, ranges: Ranges) -> list[pa.RecordBatch]:
        """Return the records in the driver, without a job: each batch has some of one partition."""
        self._set(ranges)
        cells = iter(self._java.readInDriver().split("\0")[:-1])
        pieces = zip(*[cells] * len(PIECES.split(",")), strict=True)
        return [
            open_piece(topic, int(partition), file, int(begin), int(until), last == "true")
            for topic, partition, file, begin, until, last in pieces
        ]

    def values(self, ranges: Ranges) -> list[bytes | None]:
        """Return the records' values, partition after partition."""
        return [value for batch in self.read_in_driver(ranges) for value in batch.column("value").to_pylist()]

    def first_values(self, begins: Offsets, ends: Offsets, count: int) -> list[bytes | None]:
        """Return the values of the first records from `begins` up to `ends`, at most `count`.

        Offsets may be more than records: transactions leave markers, and what an aborted one had is none.
        """
        values, begins = list[bytes | None](), dict(begins)
        while len(values) < count and (ranges := next_ranges(begins, ends, count - len(values))):
            values += self.values(ranges)
            begins |= {t: begins[t] | {p: end for p, (_, end) in ps.items()} for t, ps in ranges.items()}
        return values[:count]

    def _set(self, ranges: Ranges) -> int:
        """Set what the Java object reads; return how many ranges these are."""
        context: Any = self.spark.sparkContext
        if self._java is None:
            kafka_frames.require_connector(self.spark)
            self._java = java_compiler.instance(self.spark, HERE, SOURCES)
        wanted = [
            {"topic": t, "id": self.ids.get(t, ""), "partition": p, "begin": begin, "until": until}
            for t, ps in sorted(ranges.items())
            for p, (begin, until) in sorted(ps.items())
            if begin < until
        ]
        limits = {"directory": context._temp_dir, "ahead": AHEAD // max(len(wanted), 1)}
        self._java.configure(json.dumps({**self._request, **limits, "ranges": wanted}))
        return len(wanted)


def read(spark: SparkSession, kafka: Mapping[str, str], ids: Mapping[str, str], ranges: Ranges) -> DataFrame:
    """Return just these ranges' records, in no order; `timestamp` can be sorted by, whoever reads."""
    if on_one_machine(spark):
        return Reader(spark, kafka, ids).records(ranges)
    return kafka_frames.batch(spark, kafka, ranges)


def _unpacked(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch.drop_columns(["packed"])


def plain_of(schema: Schema, labeled: bool) -> str:
    """Return what Plain.java has to know of a schema, as JSON; "" if it cannot read records of it.

    It finds keys and classes by their bytes in JSON, in which 1, "1" and true differ, as in `label_key`.
    """
    names = (schema.features,) if isinstance(schema.features, str) else schema.features
    keys = [*names, *schema.labels] if labeled else names
    unsupported = schema.encoded or schema.arrays or schema.grow or len(set(keys)) < len(keys)
    unsupported = unsupported or not all(map(is_plain, keys)) or schema.where is not None
    unsupported = unsupported or schema.explode is not None or schema.series is not None
    unsupported = unsupported or (schema.framing, schema.encoding) != (NONE, UTF8)
    unsupported = unsupported or bool(schema.rules.na_numbers)  # it takes a number as it is
    unsupported = unsupported or schema.columns_of_y is not None or (labeled and not schema.labels)
    if schema.format != "json" or unsupported or (labeled and schema.weight):
        return ""
    fields = {
        "keys": [to_json(key).decode() for key in keys],
        "labeled": labeled,
        "array": isinstance(schema.features, str),
        "inputs": schema.inputs,
        "classes": schema.classes and [to_json(label).decode() for label in schema.classes],
        "max_bytes": min(schema.max_bytes, (1 << 31) - 1),  # no record is longer
    }
    return json.dumps(fields)
