"""Fill topics, and read them as a client without Spark."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from streaming_nn.kafka import admin
from streaming_nn.nn.learner import Learner
from streaming_nn.records.decode import encode
from streaming_nn.records.schema import Schema
from streaming_nn.settings import Settings
from streaming_nn.spark.train.trainer import Trainer
from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import VersionLog

SCHEMA = Schema(inputs=3, classes=(0, 1))
UNLABELED = Schema(inputs=3, label=None)
Headers = list[tuple[str, bytes]]


def rows(count: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Rows that a network can learn: the class is the side of a plane on which they are."""
    x = np.round(64 * np.random.default_rng(seed).normal(size=(count, 3))) / 64  # float32 has them
    return x, (x @ np.array([1, -2, 0.5]) > 0).astype(np.int32)


def labeled(count: int, seed: int = 0) -> list[bytes]:
    return encode(SCHEMA, *rows(count, seed))


def unlabeled(count: int, seed: int = 0) -> list[bytes]:
    return encode(UNLABELED, rows(count, seed)[0])


def fill(
    kafka: Mapping[str, str],
    topic: str,
    values: Sequence[bytes | None],
    partitions: Sequence[int] | None = None,  # each in turn; None: all that the topic has
    keys: Iterable[bytes | None] = (),
    headers: Iterable[Headers] = (),
    timestamps: Iterable[int] = (),
    compression: str | None = None,
) -> None:
    """Send records, the i-th to the i-th of the partitions in turn, and wait until the broker has them."""
    partitions = partitions or admin.partitions(kafka, [topic])[topic]
    with_key, with_headers, at = (dict(enumerate(items)) for items in (keys, headers, timestamps))
    producer = KafkaProducer(
        bootstrap_servers=kafka["bootstrap.servers"],
        acks="all",
        linger_ms=20,
        compression_type=compression,
    )
    try:
        sent = [
            producer.send(
                topic,
                value=value,
                key=with_key.get(i),
                headers=with_headers.get(i),
                partition=partitions[i % len(partitions)],
                timestamp_ms=at.get(i),
            )
            for i, value in enumerate(values)
        ]
        producer.flush(timeout=60)
        for future in sent:
            future.get(timeout=60)
    finally:
        producer.close()


def read(kafka: Mapping[str, str], topic: str) -> list[Any]:
    """Return all records of a topic, in no order; with isolation.level read_committed, the committed ones."""
    consumer = KafkaConsumer(
        bootstrap_servers=kafka["bootstrap.servers"],
        auto_offset_reset="earliest",
        isolation_level=kafka.get("isolation.level", "read_uncommitted"),
    )
    try:
        ends = admin.ends(kafka, [topic])[topic]
        partitions = [TopicPartition(topic, p) for p in ends]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        records: list[Any] = []
        while any(consumer.position(each) < ends[each.partition] for each in partitions):
            records += [r for some in consumer.poll(timeout_ms=500).values() for r in some]
        return records
    finally:
        consumer.close()


def settings_of(kafka: Mapping[str, str], model: Path, topic: str | list[str], **sections: Any) -> Settings:
    """Settings for a model of SCHEMA that learns `topic` to its end, on small micro-batches."""
    train = {
        "topics": topic,
        "dead_letters": f"dead-{topic if isinstance(topic, str) else topic[0]}",
        "once": True,
        "max_offsets_per_trigger": 1000,
    }
    own = {
        "records": {"inputs": 3, "classes": [0, 1]},
        "learner": {"hidden": [8]},
        **sections,
        "train": train | sections.get("train", {}),
    }
    return Settings(model=model, kafka=dict(kafka), **own)


def learn(spark: SparkSession, settings: Settings, learner: Learner[Any] | None = None) -> Trainer:
    """Train to the topic's end; raise the run's error."""
    trainer = Trainer.open(spark, settings, learner)
    trainer.start()
    trainer.wait()
    return trainer


def manifests_of(model: Path) -> list[Manifest]:
    """Return the manifests of all versions."""
    log = VersionLog(model)
    return [log.manifest(n) for n in log.numbers()]


def rows_of(model: Path) -> dict[str, int]:
    """Return the sum of all versions' counts."""
    counts = [manifest.counts for manifest in manifests_of(model)]
    return {
        name: sum(c[name] for c in counts)
        for name in ("received", "trained", "skipped", "rejected", "filtered")
    }


def learned_ranges(model: Path) -> dict[tuple[str, int], list[tuple[int, int]]]:
    """Return each partition's ranges in the order of the versions, empty ones left out."""
    found: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for manifest in manifests_of(model):
        for topic, ranges in manifest.ranges.items():
            for partition, (begin, end) in ranges.items():
                if begin < end:
                    found.setdefault((topic, partition), []).append((begin, end))
    return found


def seamless(ranges: Sequence[tuple[int, int]]) -> bool:
    """Return whether each range begins where the one before ended."""
    return all(before[1] == after[0] for before, after in pairwise(ranges))
