"""Read committed records with the Python client: without Spark, and without a group unless one is named."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import AuthorizationError, KafkaError

from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.kafka.options import for_python

POLL = 500  # milliseconds
PATIENCE = 10.0  # seconds for the first records


def first_values(kafka: Mapping[str, str], topic: str, count: int) -> list[bytes | None]:
    """Return the values of about `count` of a topic's first records, by time, as many of each partition.

    Raise as `KafkaAdmin` does: LookupError if the topic does not exist.
    """
    with KafkaAdmin({**kafka, "isolation.level": "read_committed"}) as admin:
        begins, ends = admin.beginnings([topic])[topic], admin.ends([topic])[topic]
    left = {TopicPartition(topic, p): ends[p] for p, begin in begins.items() if begin < ends[p]}
    if not left:
        return []
    found: dict[TopicPartition, list[Any]] = {partition: [] for partition in left}
    share, deadline = -(-count // len(left)), time.monotonic() + PATIENCE
    with committed_consumer(kafka) as consumer:
        consumer.assign([*left])
        for partition in left:
            consumer.seek(partition, begins[partition.partition])
        while left and time.monotonic() < deadline:
            polled = consumer.poll(timeout_ms=POLL, max_records=count)
            for partition, end in [*left.items()]:
                records = [record for record in polled.get(partition, ()) if record.offset < end]
                found[partition] += records[: share - len(found[partition])]
                if len(found[partition]) == share or consumer.position(partition) >= end:
                    del left[partition]
                    consumer.pause(partition)
    records = sorted(chain.from_iterable(found.values()), key=lambda record: record.timestamp)
    return [record.value for record in records]


@contextmanager
def committed_consumer(kafka: Mapping[str, str], group: str | None = None) -> Iterator[Any]:
    """Open a consumer of committed records that commits no offsets. Raise Python's exceptions in one line."""
    ours = {"group_id": group, "enable_auto_commit": False, "isolation_level": "read_committed"}
    with plain_errors(kafka):
        consumer = KafkaConsumer(**{**for_python(kafka, KafkaConsumer), **ours})
        try:
            yield consumer
        finally:
            consumer.close()


def read_partition(consumer: Any, partition: TopicPartition, start: int, end: int) -> Iterator[Any]:
    """Yield a partition's records from `start` on up to `end`."""
    if start >= end:
        return
    consumer.assign([partition])
    consumer.seek(partition, start)
    while consumer.position(partition) < end:
        for record in consumer.poll(timeout_ms=POLL).get(partition, ()):
            if record.offset < end:
                yield record


@contextmanager
def plain_errors(kafka: Mapping[str, str]) -> Iterator[None]:
    """Raise PermissionError and ConnectionError, in one line, for those of the Kafka client."""
    servers = kafka.get("bootstrap.servers", "")
    try:
        yield
    except AuthorizationError as error:
        raise PermissionError(f"Kafka at {servers} refuses this client: {error}") from None
    except KafkaError as error:
        raise ConnectionError(f"Kafka at {servers}: {error}") from None
