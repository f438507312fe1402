"""Small logs for the tests of what is done with versions."""

from typing import Any

import numpy as np

from streaming_nn.versions.version import Version
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
