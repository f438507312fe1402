"""Planned ranges of topics as a frame whose rows hold many records each; Feed.java reads ahead of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_core import to_json
from pyspark.sql import DataFrame, SparkSession

from streaming_nn.kafka.options import for_java
from streaming_nn.records.schema import Schema
from streaming_nn.stream import janino
from streaming_nn.stream.source import CONSUMER, Ranges

HERE = Path(__file__).parent
SOURCES = ("Plain", "Columns", "Feed", "Reader")  # Java classes; each uses those before it
PIECES = "topic string, partition int, file string, begin int, until int, last boolean"
AHEAD = 64 << 20  # bytes that are read ahead of the tasks, of all partitions together


def pieces(
    spark: SparkSession,
    kafka: Mapping[str, str],
    ids: Mapping[str, str],
    ranges: Ranges,
    averaged: bool,
    plain: str = "",
) -> DataFrame:
    """Read ranges by a task each (averaged) or by one; a row (PIECES) has some of a partition's records.

    `ids` are those of the topics: what was read ahead of one is not given for another that has its name.
    See `pieces.py` for how they lie in it: each partition's in the order of their offsets, and packed what
    Plain.java can read, to which `plain_of` says how. For a record that is gone the job fails with Kafka's
    OffsetOutOfRangeException.
    """
    asked = [
        (t, ids[t], p, *r) for t, ps in sorted(ranges.items()) for p, r in sorted(ps.items()) if r[0] < r[1]
    ]
    reader = janino.instance(spark, HERE, SOURCES)
    context: Any = spark.sparkContext
    ahead = AHEAD // max(len(asked), 1)
    reader.of(for_java({**CONSUMER, **kafka}), ahead, plain, context._temp_dir)
    for one in asked:
        reader.add(*one)
    java: Any = spark._jvm
    columns = java.org.apache.spark.sql.types.StructType.fromDDL(PIECES)
    numbers: Any = spark._jsparkSession
    numbers = numbers.range(0, len(asked), 1, max(len(asked), 1) if averaged else 1).toDF()
    rows = numbers.mapPartitions(reader, java.org.apache.spark.sql.Encoders.row(columns))
    return DataFrame(rows, spark)


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
