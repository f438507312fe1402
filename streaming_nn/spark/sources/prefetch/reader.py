"""Planned ranges of topics, as a frame whose rows hold many records each, or here; Feed.java reads ahead."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic_core import to_json
from pyspark.sql import DataFrame, SparkSession

from streaming_nn.kafka.options import for_java
from streaming_nn.records.schema import Schema
from streaming_nn.spark import java_compiler
from streaming_nn.spark.sources.kafka_frames import CONSUMER
from streaming_nn.spark.sources.offsets import Ranges
from streaming_nn.spark.sources.prefetch.record_batches import SCHEMA, opened

HERE = Path(__file__).parent
SOURCES = ("Plain", "Columns", "Feed", "Reader")  # Java classes; each uses those before it
PIECES = "topic string, partition int, file string, begin int, until int, last boolean"
AHEAD = 256 << 20  # bytes that are read ahead of the tasks, of all partitions together


class Reader:
    """Reads planned ranges of topics, as long as a run lasts.

    Each partition's records come in the order of their offsets. `ids` are those of the topics: what was read
    ahead of one is not given for another that has its name. `plain` says which values Plain.java packs, as
    `plain_of` writes it. For a record that is gone Kafka's OffsetOutOfRangeException is in what is raised.
    """

    def __init__(
        self, spark: SparkSession, kafka: Mapping[str, str], ids: Mapping[str, str], plain: str = ""
    ) -> None:
        context: Any = spark.sparkContext
        self.spark, self.ids = spark, ids
        self.java = java_compiler.instance(spark, HERE, SOURCES)
        self.of = {
            "options": for_java({**CONSUMER, **kafka}),
            "plain": plain,
            "folder": context._temp_dir,
        }
        self._frames: dict[tuple[int, int], DataFrame] = {}  # by ranges and tasks: a new plan takes 13 ms

    def pieces(self, ranges: Ranges, averaged: bool) -> DataFrame:
        """Give the frame of PIECES, by a task a range (averaged) or by one; it is good until the next one."""
        count = self._ask(ranges)
        tasks = max(count, 1) if averaged else 1
        if (count, tasks) not in self._frames:
            java: Any = self.spark._jvm
            columns = java.org.apache.spark.sql.types.StructType.fromDDL(PIECES)
            numbers: Any = self.spark._jsparkSession
            rows = numbers.range(0, count, 1, tasks).toDF()
            rows = rows.mapPartitions(self.java, java.org.apache.spark.sql.Encoders.row(columns))
            self._frames[count, tasks] = DataFrame(rows, self.spark)
        return self._frames[count, tasks]

    def here(self, ranges: Ranges) -> pa.Table:
        """Give the records right here in the driver, without a job."""
        self._ask(ranges)
        cells = iter(self.java.here().split("\0")[:-1])
        pieces = zip(*[cells] * len(PIECES.split(",")), strict=True)
        batches = [
            opened(topic, int(partition), file, int(begin), int(until), last == "true")
            for topic, partition, file, begin, until, last in pieces
        ]
        return pa.Table.from_batches(batches, SCHEMA)

    def _ask(self, ranges: Ranges) -> int:
        """Tell the Java object what to read; gives how many ranges these are."""
        asked = [
            {"topic": t, "id": self.ids[t], "partition": p, "begin": begin, "until": until}
            for t, ps in sorted(ranges.items())
            for p, (begin, until) in sorted(ps.items())
            if begin < until
        ]
        self.java.of(json.dumps({**self.of, "ranges": asked, "ahead": AHEAD // max(len(asked), 1)}))
        return len(asked)


def plain_of(schema: Schema, labeled: bool) -> str:
    """Write what Plain.java has to know of a schema; "" where it reads no records of it.

    It finds keys and classes by their bytes in JSON, by which 1, "1" and true differ, as `label_key` has it.
    """
    names = (schema.features,) if isinstance(schema.features, str) else schema.features
    keys = [*names, schema.label or ""] if labeled else names
    odd = schema.categories or schema.grow or len(set(keys)) < len(keys) or "." in "".join(keys)
    if schema.format != "json" or odd or (labeled and schema.label is None):
        return ""
    asked = {
        "keys": [to_json(key).decode() for key in keys],
        "labeled": labeled,
        "array": isinstance(schema.features, str),
        "inputs": schema.inputs,
        "classes": schema.classes and [to_json(label).decode() for label in schema.classes],
        "max_bytes": min(schema.max_bytes, (1 << 31) - 1),  # no record is longer
    }
    return json.dumps(asked)
