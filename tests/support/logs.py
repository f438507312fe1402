"""Small logs for the tests of what is done with versions."""

from typing import Any

import numpy as np

from streaming_nn.versions.version import Manifest, Version
from streaming_nn.versions.version_log import VersionLog, child

BY = {"host": "h", "pid": 1, "run": "by hand"}
AT = "2025-01-02T03:04:05Z"


def tensors(number: int) -> dict[str, Any]:
    return {"model.theta": np.full(4, number, np.float32), "metrics.rows": np.array([number])}


def learn(log: VersionLog, **changes: Any) -> Version:
    """Append what a batch of ten manifests would give."""
    head = log.head_number()
    if head is None:
        version = Version(
            Manifest(0, kind="initial", offsets={"t": {0: 0}}, learner={"rate": 0.1}), tensors(0)
        )
    else:
        before = log.manifest(head)
        start = before.offsets["t"][0]
        batch: dict[str, Any] = {
            "offsets": {"t": {0: start + 10}},
            "ranges": {"t": {0: (start, start + 10)}},
            "counts": {"received": 10, "trained": 10, "skipped": 0, "rejected": 0},
            "metrics": {"rows": start + 10, "accuracy": head / 10},
        }
        version = Version(child(before, log.sha256(head), **(batch | changes)), tensors(head + 1))
    log.append(version)
    return version


def filled(log: VersionLog, count: int) -> VersionLog:
    for _ in range(count):
        learn(log)
    return log


def following(log: VersionLog, **changes: Any) -> Version:
    number = log.head_number()
    assert number is not None
    manifest = child(log.manifest(number), log.sha256(number), **changes)
    return Version(manifest, tensors(manifest.number))
