"""Small logs for the tests of what is done with versions."""

from typing import Any

import numpy as np

from streaming_nn.log.log import Log, child
from streaming_nn.log.version import Record, Version

BY = {"host": "h", "pid": 1, "run": "by hand"}
AT = "2025-01-02T03:04:05Z"


def tensors(number: int) -> dict[str, Any]:
    return {"model.theta": np.full(4, number, np.float32), "metrics.rows": np.array([number])}


def learn(log: Log, **changes: Any) -> Version:
    """Append what a batch of ten records would give."""
    head = log.head_number()
    if head is None:
        version = Version(Record(0, kind="initial", offsets={"t": {0: 0}}, learner={"rate": 0.1}), tensors(0))
    else:
        before = log.record(head)
        start = before.offsets["t"][0]
        batch: dict[str, Any] = {
            "offsets": {"t": {0: start + 10}},
            "ranges": {"t": {0: (start, start + 10)}},
            "rows": {"received": 10, "trained": 10, "skipped": 0, "rejected": 0},
            "metrics": {"rows": start + 10, "accuracy": head / 10},
        }
        version = Version(child(before, log.sha256(head), **(batch | changes)), tensors(head + 1))
    log.append(version)
    return version


def filled(log: Log, count: int) -> Log:
    for _ in range(count):
        learn(log)
    return log
