"""Topics whose offsets have gaps: compacted ones, and ones that were written in transactions."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka_topics import fill, labeled, learn, manifests_of, read, rows_of, settings_of
from pyspark.sql import SparkSession

from streaming_nn.kafka import admin
from streaming_nn.kafka.broker import Broker
from streaming_nn.spark.replay.verify import verify
from streaming_nn.versions.version_log import VersionLog

pytestmark = [pytest.mark.merge, pytest.mark.timeout(900)]

COMPACTED = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.ms": "100"}
KEYS = 40


@pytest.fixture
def eager(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The options of a broker that compacts immediately."""
    with Broker.start(tmp_path / "broker", properties={"log.cleaner.backoff.ms": "100"}) as running:
        yield {"bootstrap.servers": running.bootstrap}


def rewrite(kafka: dict[str, str], topic: str, count: int, seed: int) -> None:
    """Write `count` records over the same keys, and then one, as the last segment is never compacted."""
    values = labeled(count + 1, seed)
    fill(kafka, topic, values[:count], [0], [f"key-{i % KEYS}".encode() for i in range(count)])
    time.sleep(0.3)  # longer than segment.ms
    fill(kafka, topic, values[count:], [0], [f"last-{seed}".encode()])


def compacted(kafka: dict[str, str], topic: str, left: int) -> list[Any]:
    """Wait until no more than `left` records are in the topic, and return them."""
    deadline = time.monotonic() + 90
    while len(records := read(kafka, topic)) > left:
        assert time.monotonic() < deadline, f"{len(records)} records are left"
        time.sleep(0.3)
    return records


def test_a_compacted_topic_is_learned_over_its_gaps(
    spark: SparkSession, eager: dict[str, str], tmp_path: Path
) -> None:
    """Records compacted before training are not lost; if they are compacted after it, a replay reports it."""
    admin.create(eager, "states", config=COMPACTED)
    settings = settings_of(eager, tmp_path / "model", "states", train={"max_offsets_per_trigger": 100})
    rewrite(eager, "states", 400, seed=0)
    records = compacted(eager, "states", KEYS + 1)
    assert admin.ends(eager, ["states"]) == {"states": {0: 401}}
    learn(spark, settings)
    assert rows_of(settings.model)["trained"] == len(records) == KEYS + 1
    learned = manifests_of(settings.model)[1:]
    assert [m.ranges["states"][0][1] for m in learned] == [100, 200, 300, 400, 401]
    assert [m.counts["received"] for m in learned] == [0, 0, 0, KEYS, 1]
    result = verify(spark, eager, VersionLog(settings.model))
    assert (result.identical, result.rows) == (True, KEYS + 1), result

    rewrite(eager, "states", KEYS, seed=1)  # each key again
    learn(spark, settings)
    compacted(eager, "states", KEYS + 2)
    assert rows_of(settings.model)["trained"] == 2 * KEYS + 2
    result = verify(spark, eager, VersionLog(settings.model))
    assert not result.identical
    assert (result.different, result.reason) == (4, "the topic has none of its records")
    assert verify(spark, eager, VersionLog(settings.model), first=5).identical


def test_only_committed_records_of_transactions_are_learned(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    """Only what was committed is learned, each once, over the gaps that markers and aborted records leave."""
    topic = broker.topic("accounts", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic, train={"max_offsets_per_trigger": 90})
    writer = KafkaProducer(
        bootstrap_servers=broker.bootstrap, transactional_id=topic, acks="all", enable_idempotence=True
    )
    writer.init_transactions()

    def send(count: int, seed: int) -> None:
        for i, value in enumerate(labeled(count, seed)):
            writer.send(topic, value, partition=i % 2)
        writer.flush()

    for seed, commits in enumerate((True, False, True, False, False, True)):
        writer.begin_transaction()
        send(100, seed)
        (writer.commit_transaction if commits else writer.abort_transaction)()
    committed = set(labeled(100, 0) + labeled(100, 2) + labeled(100, 5))
    assert {r.value for r in read_committed(broker, topic)} == committed
    ends = admin.ends(broker.options, [topic])[topic]
    assert ends == {0: 6 * 51, 1: 6 * 51}, "each transaction ends in a marker"

    writer.begin_transaction()
    send(60, 6)  # open: no consumer may see it yet
    learn(spark, settings)
    assert rows_of(settings.model) == {
        "received": 300,
        "trained": 300,
        "skipped": 0,
        "rejected": 0,
        "filtered": 0,
    }
    assert VersionLog(settings.model).manifest(len(manifests_of(settings.model)) - 1).offsets == {topic: ends}
    assert any(m.counts["received"] == 0 for m in manifests_of(settings.model)[1:]), (
        "no batch had aborted records only"
    )

    writer.commit_transaction()
    writer.close()
    learn(spark, settings)
    assert rows_of(settings.model)["trained"] == 360
    result = verify(spark, broker.options, VersionLog(settings.model))
    assert (result.identical, result.rows) == (True, 360), result


def read_committed(broker: Any, topic: str) -> list[Any]:
    """Return what a client without Spark reads, up to the last stable offset."""
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    try:
        partitions = [TopicPartition(topic, p) for p in (0, 1)]
        consumer.assign(partitions)
        ends, records = consumer.end_offsets(partitions), list[Any]()
        deadline = time.monotonic() + 60
        while any(consumer.position(each) < ends[each] for each in partitions):
            assert time.monotonic() < deadline
            records += [r for some in consumer.poll(timeout_ms=500).values() for r in some]
        return records
    finally:
        consumer.close()
