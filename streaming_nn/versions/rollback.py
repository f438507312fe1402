"""Roll back the model but not the stream: commit a version with old weights and the head's offsets."""

from typing import Any

from streaming_nn.errors import VersionConflictError
from streaming_nn.versions.version import Tensors, Version
from streaming_nn.versions.version_log import VersionLog

ATTEMPTS = 1000  # a running trainer commits every few 100 ms, an attempt takes a few ms: few are needed


def rollback(log: VersionLog, to: int) -> Version:
    """Commit a version that takes over the model of version `to`, and return it. Retry after conflicts.

    From `to` come the tensors `model.*` (weights, optimizer, scaler, random state), the learner's options
    and the schema: they belong together. From the head come the offsets, so that no record is learned twice
    or left out, the series, whose newest rows are those before the next ones, and the metrics: they measure
    the predictions on the stream, which continues. Only where the two versions' metrics don't have the same
    shape (a class was added between) they are those of `to`.

    A trainer that is running gets a VersionConflictError, adopts the version, and learns its batch again.

    LookupError: no such version, or pruned; ValueError: it is the head; DamagedVersionError: one of them is
    damaged.
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
        raise ValueError(f"cannot roll back to version {old.number}: it is the head; choose an older one")
    return log.commit(
        head,
        combine_tensors(old.tensors, head.tensors),
        kind="rolled-back",
        restored_from=old.number,
        learner=old.manifest.learner,
        schema=old.manifest.schema,
        events=[{"event": "rolled back", "from": head.number, "to": old.number}],
    )


def combine_tensors(old: Tensors, head: Tensors) -> Tensors:
    """Return `model.*` of `old`, the series of `head`, and its other tensors, or those of `old`.

    They are those of `old` if their shapes differ; so are the series, if they are of other lags.
    """
    model, series, previous = _by_kind(old)
    _, newest, current = _by_kind(head)
    series = newest if _lengths(newest) == _lengths(series) else series
    return model | series | (current if shapes(current) == shapes(previous) else previous)


def _by_kind(tensors: Tensors) -> tuple[Tensors, Tensors, Tensors]:
    """Return the tensors of the model, of the series, and the others."""
    kinds = ("model.", "series.", "")
    kind_of = {name: next(kind for kind in kinds if name.startswith(kind)) for name in tensors}
    model, series, others = ({n: tensors[n] for n, k in kind_of.items() if k == kind} for kind in kinds)
    return model, series, others


def _lengths(series: Tensors) -> dict[str, Any]:
    """Return shape and dtype of one series by name."""
    return {name: (tensor.shape[1:], tensor.dtype) for name, tensor in series.items()}


def shapes(tensors: Tensors) -> dict[str, Any]:
    """Return shape and dtype by name: equal for states that can replace each other."""
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
