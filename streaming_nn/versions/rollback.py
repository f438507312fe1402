"""Go back to an old model, not in the stream: a new version with old weights and the head's offsets."""

from typing import Any

from streaming_nn.errors import VersionConflictError
from streaming_nn.versions.version import Tensors, Version
from streaming_nn.versions.version_log import VersionLog

ATTEMPTS = 1000  # a live trainer appends every few 100 ms, an attempt takes a few: the second or third is in


def rollback(log: VersionLog, to: int) -> Version:
    """Commit a version that takes over the model of version `to`, and return it. Retries until it is in.

    From `to` come the tensors `model.*` (weights, optimizer, scaler, random state), the learner's options
    and the schema: they belong together. From the head come the offsets, so that no record is learned twice
    or left out, and the metrics: they measure the predictions on the stream, which continues. Only where the
    two versions' metrics don't have the same shape (a class was added between) they are those of `to`.

    A trainer that is running gets a VersionConflictError, adopts the version, and learns its batch again.
    LookupError: no such version, or pruned; ValueError: it is the head; DamagedVersionError: one of them is damaged.
    """
    old = log.read(to)
    for attempt in range(ATTEMPTS):
        try:
            return _commit(log, old)
        except VersionConflictError:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _commit(log: VersionLog, old: Version) -> Version:
    head = log.head()
    if head is None or head.number <= old.number:
        raise ValueError(f"version {old.number} is the head: there is nothing to roll back")
    return log.commit(
        head,
        taken_over(old.tensors, head.tensors),
        kind="rolled-back",
        restored_from=old.number,
        learner=old.manifest.learner,
        schema=old.manifest.schema,
        events=[{"event": "rolled back", "from": head.number, "to": old.number}],
    )


def taken_over(old: Tensors, head: Tensors) -> Tensors:
    """Return the tensors of a rolled-back version: `model.*` of `old`, the others of `head` if they fit."""
    going_on = {name: tensor for name, tensor in head.items() if not name.startswith("model.")}
    replaced = {name: tensor for name, tensor in old.items() if not name.startswith("model.")}
    model = {name: tensor for name, tensor in old.items() if name.startswith("model.")}
    return model | (going_on if shapes(going_on) == shapes(replaced) else replaced)


def shapes(tensors: Tensors) -> dict[str, Any]:
    """Return what must be the same where one state takes another's place."""
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
