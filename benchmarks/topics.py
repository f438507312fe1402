"""Topics to measure on: many records of a few thousand different rows, written by a Spark batch job."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from streaming_nn.kafka import admin
from streaming_nn.kafka.options import for_spark
from streaming_nn.records.decode import encode, encode_named
from streaming_nn.records.schema import Schema
from streaming_nn.settings import Settings

FEATURES, CLASSES = 54, 7
DIFFERENT = 5_000  # rows; the records repeat them
NAMED = tuple(f"field_{number:02d}" for number in range(FEATURES))

ARRAYS = Schema(inputs=FEATURES, classes=tuple(range(CLASSES)))
SCHEMAS = {
    "packed": replace(ARRAYS, format="packed"),
    "json": ARRAYS,
    "named": replace(ARRAYS, features=NAMED),
    "mixed": replace(ARRAYS, features=NAMED, missing=True, numbers_as_strings=True),
}


def rows(count: int, seed: int = 0) -> tuple[Any, Any]:
    """Return rows x (count, FEATURES) of two decimals, and classes y that are nearly linearly separable."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, FEATURES)).round(2).astype(np.float32)
    y = (x @ rng.normal(size=(FEATURES, CLASSES)) + rng.normal(size=(count, CLASSES))).argmax(axis=1)
    return x, y.astype(np.int32)


def settings_of(
    kafka: Mapping[str, str], topic: str, schema: Schema, learner: Mapping[str, Any], **train: Any
) -> Settings:
    """Return settings of a job that learns a topic of such records without pauses between batches."""
    assert schema.classes is not None
    records = {
        "format": schema.format,
        "features": list(schema.features) if isinstance(schema.features, tuple) else schema.features,
        "inputs": schema.inputs,
        "classes": list(schema.classes),
        "missing": schema.missing,
        "numbers_as_strings": schema.numbers_as_strings,
    }
    job = {"topics": [topic], "trigger": "0 seconds", **train}
    return Settings.model_validate({"kafka": kafka, "records": records, "learner": learner, "train": job})


@dataclass(frozen=True)
class _Records:
    """Replace a task's range of numbers by records."""

    values: list[bytes]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        values = pa.array(self.values, pa.binary())
        for batch in batches:
            indices = np.asarray(batch.column("id")) % len(values)
            yield pa.record_batch({"value": values.take(pa.array(indices))})


def fill(
    spark: SparkSession, kafka: Mapping[str, str], topic: str, kind: str, records: int, partitions: int
) -> None:
    """Create a topic and send it records of a kind (a key of SCHEMAS), evenly over the partitions."""
    x, y = rows(min(DIFFERENT, records))
    values = mixed(x, y) if kind == "mixed" else encode(SCHEMAS[kind], x, y)
    send(spark, kafka, topic, values, records, partitions)


def mixed(x: Any, y: Any) -> list[bytes]:
    """Encode rows as people have them: of six fields one is a boolean, one a string, one often null."""
    rows = x.astype(np.float64).round(2).tolist()
    for i, row in enumerate(rows):
        row[::6] = [value > 0 for value in row[::6]]
        row[1::6] = map(str, row[1::6])
        row[2 + 6 * (i % (FEATURES // 6))] = None
    named = [dict(zip(NAMED, row, strict=True)) for row in rows]
    return encode_named(SCHEMAS["mixed"], named, y.tolist())


def send(
    spark: SparkSession,
    kafka: Mapping[str, str],
    topic: str,
    values: list[bytes],
    records: int,
    partitions: int,
) -> None:
    """Create a topic and send it these values repeatedly, evenly over the partitions."""
    admin.create(kafka, topic, partitions)
    frame = spark.range(0, records, 1, partitions).mapInArrow(_Records(values), "value binary")
    (
        frame.selectExpr("value", "spark_partition_id() AS partition")
        .write.format("kafka")
        .options(**for_spark(kafka))
        .option("topic", topic)
        .save()
    )
