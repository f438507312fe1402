"""Predictions that the driver sends itself, by a producer in its JVM, with the options of Spark's sink."""

import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession

from streaming_nn.kafka.options import for_java
from streaming_nn.spark import java_compiler
from streaming_nn.spark.session import STOP_ERRORS

HERE = Path(__file__).parent
NULL = struct.pack(">i", -1)


class Sender:
    """Sends records to a topic; it connects for the first ones."""

    def __init__(self, spark: SparkSession, kafka: Mapping[str, str], topic: str) -> None:
        self.spark, self.kafka, self.topic = spark, kafka, topic
        self._java: Any = None

    def send(self, batch: pa.RecordBatch) -> None:
        """Send rows of key, value and headers, and wait until the broker has them all."""
        if self._java is None:
            options = "".join(f"{text}\0" for pair in for_java(self.kafka).items() for text in pair)
            self._java = java_compiler.instance(self.spark, HERE, ("Sender",))
            self._java.configure(self.topic, options)
        parts = [struct.pack(">i", batch.num_rows)]
        for row in batch.to_pylist():
            parts += _blob(row["key"]), _blob(row["value"]), *_headers(row["headers"] or ())
        self._java.send(b"".join(parts))

    def close(self) -> None:
        """Close the producer."""
        java, self._java = self._java, None
        if java is not None:
            with suppress(*STOP_ERRORS):
                java.close()


def _blob(value: bytes | None) -> bytes:
    return NULL if value is None else struct.pack(">i", len(value)) + value


def _headers(headers: Any) -> Iterator[bytes]:
    yield struct.pack(">i", len(headers))
    for header in headers:
        yield _blob(header["key"].encode())
        yield _blob(header["value"])
