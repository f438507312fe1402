import json
import time
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from streaming_nn.kafka import admin
from streaming_nn.sinks import kafka_topic as module
from streaming_nn.sinks.kafka_topic import KafkaTopicSink
from streaming_nn.sinks.metrics_event import metrics_event
from streaming_nn.versions import atomic_files
from streaming_nn.versions.version import Manifest

pytestmark = pytest.mark.merge


def sent(broker: Any, topic: str) -> list[tuple[int, Any]]:
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, enable_auto_commit=False)
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    end = consumer.end_offsets([partition])[partition]
    consumer.seek(partition, 0)
    found: list[tuple[int, Any]] = []
    while consumer.position(partition) < end:
        for records in consumer.poll(1000).values():
            found += [(int(r.key), json.loads(r.value)) for r in records]
    consumer.close()
    return found


def test_every_version_is_sent_once_in_order_keyed_by_its_number(broker: Any, tmp_path: Path) -> None:
    topic = broker.topic("metrics")
    sink = KafkaTopicSink(broker.options, topic, tmp_path)
    assert sink.position() == -1
    for number in range(3):
        sink.write(Manifest(number))
        assert KafkaTopicSink(broker.options, topic, tmp_path).position() == number
    sink.close()
    again = KafkaTopicSink(broker.options, topic, tmp_path)
    for number in range(5):
        again.write(Manifest(number))
    again.close()
    assert sent(broker, topic) == [(n, json.loads(json.dumps(metrics_event(Manifest(n))))) for n in range(5)]


def test_a_crash_before_the_position_is_written_sends_a_version_twice_and_loses_none(
    broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = broker.topic("metrics")
    sink = KafkaTopicSink(broker.options, topic, tmp_path)
    sink.write(Manifest(0))

    def crash(path: Path, data: bytes) -> None:
        raise RuntimeError("killed here")

    with monkeypatch.context() as m:
        m.setattr(atomic_files, "put", crash)
        with pytest.raises(RuntimeError):
            sink.write(Manifest(1))
    sink.close()
    again = KafkaTopicSink(broker.options, topic, tmp_path)
    assert again.position() == 0
    for number in (1, 2):
        again.write(Manifest(number))
    again.close()
    keys = [key for key, _ in sent(broker, topic)]
    assert keys == [0, 1, 1, 2]


def test_a_missing_topic_is_created(broker: Any, tmp_path: Path) -> None:
    topic = broker.topic("metrics") + "-new"
    sink = KafkaTopicSink(broker.options, topic, tmp_path)
    sink.write(Manifest(0))
    sink.close()
    assert admin.partitions(broker.options, [topic]) == {topic: [0]}
    assert [key for key, _ in sent(broker, topic)] == [0]


@pytest.mark.commit
def test_without_a_broker_write_raises_within_the_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    sink = KafkaTopicSink({"bootstrap.servers": "127.0.0.1:9"}, "metrics", tmp_path)
    began = time.monotonic()
    with pytest.raises((ConnectionError, KafkaError)):
        sink.write(Manifest(0))
    assert time.monotonic() - began < 8
    assert sink.position() == -1
    sink.close()
