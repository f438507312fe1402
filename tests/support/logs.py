"""Small logs for the tests of what is done with versions."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from streaming_nn.versions.retention import prune
from streaming_nn.versions.tags import tag, untag
from streaming_nn.versions.version import Version, decode_manifest, encode, sha256
from streaming_nn.versions.version_log import VersionLog, next_manifest


def tensors(number: int) -> dict[str, Any]:
    return {"model.theta": np.full(4, number, np.float32), "metrics.rows": np.array([number])}


def learn(log: VersionLog, **changes: Any) -> Version:
    """Commit what a batch of ten records would give."""
    number = log.head_number()
    if number is None:
        return log.commit(None, tensors(0), offsets={"t": {0: 0}}, learner={"rate": 0.1})
    parent = parent_of(log, number)
    start = parent.manifest.offsets["t"][0]
    batch: dict[str, Any] = {
        "offsets": {"t": {0: start + 10}},
        "ranges": {"t": {0: (start, start + 10)}},
        "counts": {"received": 10, "trained": 10, "skipped": 0, "rejected": 0, "filtered": 0},
        "metrics": {"rows": start + 10, "accuracy": number / 10},
    }
    return log.commit(parent, tensors(number + 1), **(batch | changes))


def filled(log: VersionLog, count: int) -> VersionLog:
    for _ in range(count):
        learn(log)
    return log


def parent_of(log: VersionLog, number: int) -> Version:
    """Return a version as the parent of another, without its tensors: it may be pruned or damaged."""
    return Version(log.manifest(number), {}, log.sha256(number))


def following(log: VersionLog, **changes: Any) -> Version:
    """Return the version after the head, which is not committed."""
    number = log.head_number()
    assert number is not None
    manifest = next_manifest(parent_of(log, number), log.run, **changes)
    return Version(manifest, tensors(manifest.number))


def prune_all_but(log: VersionLog, kept: Iterable[int] = ()) -> list[int]:
    """Prune all versions but these and those that are never pruned; return the pruned ones."""
    names = {f"kept-{number}": number for number in kept}
    for name, number in names.items():
        tag(log, name, number)
    pruned = prune(log, keep_bytes=0)
    for name in names:
        untag(log, name)
    return pruned


def stub(data: bytes) -> bytes:
    """Return what an older release replaced a pruned version's file by: its manifest without the tensors."""
    manifest = decode_manifest(data)
    return encode(Version(replace(manifest, original_sha256=manifest.original_sha256 or sha256(data)), {}))
