"""Metrics as a Kafka topic, one record per version."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kafka import KafkaProducer

from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.kafka.options import for_python
from streaming_nn.sinks.metrics_event import encode_event
from streaming_nn.versions import atomic_files
from streaming_nn.versions.version import Manifest

PATIENCE = 10.0  # seconds that a broker may take before the write fails, to be retried later


class KafkaTopicSink:
    """Sends `metrics_event(manifest)` of every version, keyed by its number, and waits for all replicas.

    The position is a file in the model directory, written after that: a crash between the two sends a
    version again. So each version is sent at least once, in order; remove duplicates by the key.
    """

    def __init__(self, kafka: Mapping[str, str], topic: str, model: str | Path) -> None:
        self.name = f"metrics topic {topic}"
        self._kafka, self._topic = kafka, topic
        self._file = Path(model) / "sinks" / f"topic-{topic}.json"
        self._producer: Any = None
        self._position: int | None = None

    def position(self) -> int:
        """Return the last version that the broker has acknowledged; -1 if there is none."""
        if self._position is None:
            self._position = _read(self._file)
        return self._position

    def write(self, manifest: Manifest) -> None:
        """Send the version and wait for the broker. KafkaError, ConnectionError: it may not have arrived."""
        if manifest.number <= self.position():
            return
        try:
            self._send(str(manifest.number).encode(), encode_event(manifest))
        except BaseException:
            self.close()
            raise
        atomic_files.put(self._file, json.dumps({"topic": self._topic, "position": manifest.number}).encode())
        self._position = manifest.number

    def _send(self, key: bytes, value: bytes) -> None:
        if self._producer is None:
            self._create_topic()
            self._producer = KafkaProducer(**_options(self._kafka))
        self._producer.send(self._topic, key=key, value=value).get(timeout=PATIENCE)

    def _create_topic(self) -> None:
        with KafkaAdmin(self._kafka, PATIENCE) as admin:
            try:
                admin.partitions([self._topic])
            except LookupError:
                admin.create(self._topic, 1, {"cleanup.policy": "compact,delete"}, exist_ok=True)

    def close(self) -> None:
        """Close the connection; `write` opens it again."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=1)


def _options(kafka: Mapping[str, str]) -> dict[str, Any]:
    patience = int(PATIENCE * 1000)
    bounded = {"max_block_ms": patience, "delivery_timeout_ms": patience, "request_timeout_ms": patience // 2}
    return for_python(kafka, KafkaProducer) | bounded | {"acks": "all", "enable_idempotence": True}


def _read(file: Path) -> int:
    try:
        return int(json.loads(atomic_files.read(file))["position"])
    except FileNotFoundError:
        return -1
