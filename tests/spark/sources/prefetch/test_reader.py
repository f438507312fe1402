"""Our reader beside Spark's: the same records in every form, and an error for expired ones."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka_topics import Headers, fill
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 (everybody's name for it)

from streaming_nn.kafka import admin
from streaming_nn.spark.session import LOST, SPARK_ERRORS
from streaming_nn.spark.sources import kafka_frames
from streaming_nn.spark.sources.offsets import Ranges
from streaming_nn.spark.sources.prefetch.reader import Reader
from streaming_nn.spark.sources.prefetch.record_batches import SCHEMA, record_batches

pytestmark = pytest.mark.merge
TASK, TASKS, HERE = "one task", "a task a partition", "here"


def reader_of(spark: SparkSession, kafka: dict[str, str], *names: str) -> Reader:
    with admin.KafkaAdmin(kafka) as connection:
        return Reader(spark, kafka, connection.ids(names))


def by_us(reader: Reader, ranges: Ranges, how: str) -> list[dict[str, Any]]:
    """Return the records; each partition's are in the order of their offsets."""
    if how == HERE:
        table = pa.Table.from_batches(reader.read_in_driver(ranges), SCHEMA)
    else:
        frame = reader.pieces(ranges, averaged=how == TASKS)
        table = pa.Table.from_batches(record_batches(frame.toArrow().to_batches()), SCHEMA)
    assert table.column("packed").null_count == len(table)  # of an unknown schema
    rows: list[dict[str, Any]] = table.drop_columns("packed").to_pylist()
    for topic, partition in {(row["topic"], row["partition"]) for row in rows}:
        own = [row["offset"] for row in rows if (row["topic"], row["partition"]) == (topic, partition)]
        assert own == sorted(own)
    return sorted(rows, key=lambda row: (row["topic"], row["partition"], row["offset"]))


def by_spark(spark: SparkSession, kafka: dict[str, str], ranges: Ranges) -> list[dict[str, Any]]:
    millis = F.expr("unix_millis(timestamp)")
    frame = kafka_frames.batch(spark, kafka, ranges).withColumn("timestamp", millis)
    rows: list[dict[str, Any]] = frame.orderBy("topic", "partition", "offset").toArrow().to_pylist()
    return rows


@pytest.mark.commit
def test_the_first_values_are_those_of_records_not_of_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two partitions, one begins with 900 offsets of aborted transactions, and each fifth has a marker."""
    requested: list[Ranges] = []

    def values(self: Reader, ranges: Ranges) -> list[bytes | None]:
        requested.append(ranges)
        found = [(p, offset) for p, ends in ranges["t"].items() for offset in range(*ends)]
        return [f"{p}:{at}".encode() for p, at in found if (p == 0 or at >= 1000) and at % 5]

    monkeypatch.setattr(Reader, "values", values)
    reader = Reader(None, {"bootstrap.servers": "localhost:9092"}, {})  # type: ignore[arg-type]
    begins, ends = {"t": {0: 10, 1: 100}}, {"t": {0: 60, 1: 1020}}
    found = reader.first_values(begins, ends, 50)
    assert found == [f"0:{at}".encode() for at in range(10, 60) if at % 5] + [
        f"1:{at}".encode() for at in range(1000, 1013) if at % 5
    ]
    assert begins == {"t": {0: 10, 1: 100}}
    assert len(requested) < 100
    everything = reader.first_values(begins, ends, 1000)
    assert len(everything) == 40 + 16
    assert everything == [*map(str.encode, dict.fromkeys(map(bytes.decode, everything)))], "none comes twice"
    assert reader.first_values(begins, {"t": {0: 10, 1: 1000}}, 5) == []


def files(spark: SparkSession) -> set[Path]:
    context: Any = spark.sparkContext
    return set(Path(context._temp_dir).glob("piece-*"))


def odd(kafka: dict[str, str], topic: str, count: int) -> None:
    """Records with and without keys, with null and empty values, with headers of all kinds."""
    values = [b"", b"x" * 300, b"\x00\xff", "ä".encode(), b"1"]
    keys = [b"key", b"", None, b"k"]
    headers: list[Headers] = [[], [("trace", b"1"), ("trace", b"\xff")], [('q"\\', b"")]]
    fill(
        kafka,
        topic,
        [None if i % 4 == 1 else values[i % 5] for i in range(count)],
        keys=[keys[i % 4] for i in range(count)],
        headers=[headers[i % 3] for i in range(count)],
        timestamps=[1_700_000_000_000 - 7 * (i % 11) for i in range(count)],
        compression="gzip",
    )


@pytest.mark.parametrize("how", [TASK, pytest.param(TASKS, marks=pytest.mark.nightly), HERE])
def test_records_are_the_same_as_spark_reads(spark: SparkSession, broker: Any, how: str) -> None:
    names = [broker.topic(f"{name}-{how.replace(' ', '-')}", n) for name, n in (("odd", 3), ("more", 1))]
    for name in names:
        odd(broker.options, name, 300)
    reader = reader_of(spark, broker.options, *names)
    whole: Ranges = {names[0]: dict.fromkeys(range(3), (0, 100)), names[1]: {0: (0, 300)}}
    before = files(spark)
    assert by_us(reader, whole, how) == by_spark(spark, broker.options, whole)
    assert files(spark) <= before  # all were read, and are deleted
    for ranges in (
        {names[0]: {0: (17, 40), 1: (0, 0), 2: (99, 100)}},  # some, none, and the last one
        {names[0]: {0: (40, 41), 1: (0, 100), 2: (0, 5)}, names[1]: {0: (0, 10)}},  # on, and back
        {names[1]: {0: (10, 290)}},
    ):
        assert by_us(reader, ranges, how) == by_spark(spark, broker.options, ranges)
    assert by_us(reader, {}, how) == []


def test_aborted_records_are_skipped(spark: SparkSession, broker: Any) -> None:
    topic = broker.topic("taken-back", 1)
    producer = KafkaProducer(
        bootstrap_servers=broker.options["bootstrap.servers"], transactional_id=f"t-{topic}", acks="all"
    )
    producer.init_transactions()
    for number in range(4):
        producer.begin_transaction()
        for _ in range(5):
            producer.send(topic, str(number).encode(), partition=0)
        producer.flush()
        producer.abort_transaction() if number % 2 else producer.commit_transaction()
    producer.close()
    end = admin.ends(broker.options, [topic])[topic][0]
    assert end == 24  # with the marks of the transactions
    reader = reader_of(spark, broker.options, topic)
    for ranges in (
        {topic: {0: (0, 24)}},
        {topic: {0: (0, 3)}},
        {topic: {0: (3, 20)}},
        {topic: {0: (20, 24)}},
    ):
        found = by_us(reader, ranges, TASK)
        assert found == by_spark(spark, broker.options, ranges)
        assert {row["value"] for row in found} <= {b"0", b"2"}


@pytest.mark.parametrize("how", [TASK, HERE])
def test_an_expired_offset_is_an_error(spark: SparkSession, broker: Any, how: str) -> None:
    topic = broker.topic(f"expired-{how[:3]}", 1)
    fill(broker.options, topic, [b"x"] * 20)
    admin = KafkaAdminClient(bootstrap_servers=broker.options["bootstrap.servers"])
    admin.delete_records({TopicPartition(topic, 0): 10})
    admin.close()
    reader = reader_of(spark, broker.options, topic)
    with pytest.raises(SPARK_ERRORS) as caught:
        by_us(reader, {topic: {0: (5, 20)}}, how)
    assert any(words in str(caught.value) for words in LOST)
    assert f"{topic}-0 from offset 5" in str(caught.value)
    assert len(by_us(reader, {topic: {0: (10, 20)}}, how)) == 10


def test_a_recreated_topic_is_read_again(spark: SparkSession, broker: Any) -> None:
    """What was read ahead of the old topic must not be used for the new one."""
    topic = broker.topic("again", 1)
    fill(broker.options, topic, [b"old"] * 20)
    reader = reader_of(spark, broker.options, topic)
    assert len(by_us(reader, {topic: {0: (0, 10)}}, TASK)) == 10  # and reads on
    admin.delete(broker.options, topic)
    admin.create(broker.options, topic, 1)
    fill(broker.options, topic, [b"new"] * 20)
    reader = reader_of(spark, broker.options, topic)
    found = by_us(reader, {topic: {0: (10, 20)}}, TASK)
    assert [row["value"] for row in found] == [b"new"] * 10
