"""Records that carry a number, and the order in which a trainer must learn them."""

import json
from pathlib import Path

import numpy as np
from kafka_topics import manifests_of, read
from oracles import chained

from streaming_nn.records.decode import encode
from streaming_nn.records.schema import Schema

SCHEMA = Schema(inputs=1, classes=(0, 1))


def numbered(first: int, count: int) -> list[bytes]:
    return encode(SCHEMA, np.arange(first, first + count)[:, None], np.zeros(count, np.int32))


def expected(kafka: dict[str, str], model: Path, names: list[str]) -> list[bytes]:
    """The chain after each version, from its ranges and the topics as a plain client reads them."""
    records = [r for name in names for r in read(kafka, name)]
    digest, chain = bytes(32), []
    for version in manifests_of(model):
        own = [
            r
            for r in records
            if r.topic in version.ranges
            and version.ranges[r.topic][r.partition][0] <= r.offset < version.ranges[r.topic][r.partition][1]
        ]
        own.sort(key=lambda r: (r.timestamp, r.topic, r.partition, r.offset))
        digest = chained(digest, [json.loads(r.value)["features"][0] for r in own])
        chain.append(digest)
    return chain
