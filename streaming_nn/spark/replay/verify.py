"""Replay recorded versions from the topic, and check that the same bits result."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import dropwhile, takewhile
from typing import Any

import numpy as np
from pyspark.sql import SparkSession

from streaming_nn.core import library
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Learner
from streaming_nn.spark.replay.plan import LearnerFactory
from streaming_nn.spark.replay.recorded import Recorded, check_available, learn_chunk, split_chunks
from streaming_nn.versions.environment import describe, differences
from streaming_nn.versions.version import Manifest, Tensors, Version, state_digest
from streaming_nn.versions.version_log import VersionLog


@dataclass(frozen=True)
class Verified:
    """The result of `verify`."""

    first: int  # versions that were replayed
    last: int
    rows: int = 0  # records that were replayed
    different: int | None = None  # the first version whose digest differs; None: all are the same
    reason: str = ""  # what differs
    machine: list[str] = field(default_factory=list)  # what differs between this machine and the manifest

    @property
    def identical(self) -> bool:
        """Whether every version has the same bits."""
        return self.different is None


def verify(
    spark: SparkSession,
    kafka: Mapping[str, str],
    log: VersionLog,
    first: int | None = None,
    last: int | None = None,
    factory: LearnerFactory = learner_from,
    progress: Callable[[int], None] = lambda number: None,
) -> Verified:
    """Learn versions `first` to `last` (default: all) again, and compare each digest with the recorded one.

    Learning starts from the nearest kept version before `first`, and continues from its own states, never
    from recorded ones. `progress` is called with the last verified version. Raise ValueError for versions
    that do not exist, DataLossError if the topic no longer has their records.
    """
    first, last = log.span(first, last)
    start = log.read(log.nearest_kept(max(first - 1, 0)))
    tensors, rows = start.tensors, 0
    manifests = Recorded(log, start.number + 1, last)
    _check_arithmetic(manifests)
    check_available(kafka, manifests)
    for chunk in split_chunks(manifests, _rules):
        if chunk[0].kind == "damaged":  # lost; a later version that repaired the log has tensors
            continue
        if chunk[0].kind != "learned":  # its tensors were restored, not learned
            if chunk[0].kept:  # else the next version's are restored too: see versions/retention.py
                tensors = log.read(chunk[0].number).tensors
            continue
        learned = _learn(spark, kafka, factory(chunk[0].learner), chunk, tensors)
        rows += learned.rows
        if learned.different is not None:
            manifest = next(m for m in chunk if m.number == learned.different)
            reason, machine = _explain(log, manifest, learned), _compare_machines(manifest)
            return Verified(start.number + 1, last, rows, learned.different, reason, machine)
        tensors = learned.tensors
        progress(chunk[-1].number)
    return Verified(start.number + 1, last, rows)


def _check_arithmetic(manifests: Iterable[Manifest]) -> None:
    """Raise ValueError for the first stretch of versions that were learned by another arithmetic."""
    learned = (manifest for manifest in manifests if manifest.kind == "learned")
    others = dropwhile(lambda manifest: manifest.arithmetic == library.ARITHMETIC, learned)
    first = next(others, None)
    if first is None:
        return
    last = first.number
    for manifest in takewhile(lambda manifest: manifest.arithmetic == first.arithmetic, others):
        last = manifest.number
    which = f"versions {first.number} to {last} were" if last > first.number else f"version {last} was"
    raise ValueError(
        f"{which} learned by arithmetic {first.arithmetic}, and this release has {library.ARITHMETIC}; "
        f"verify with {first.releases}, and later versions with --from {last + 1}"
    )


@dataclass(frozen=True)
class _Learned:
    """What a chunk's job returned: the last state, or the first one that differs."""

    tensors: Tensors
    rows: int
    different: int | None = None
    counts: dict[str, int] = field(default_factory=dict)  # of the version that differs


def _learn(
    spark: SparkSession,
    kafka: Mapping[str, str],
    learner: Learner[Any],
    chunk: list[Manifest],
    tensors: Tensors,
) -> _Learned:
    """Replay a chunk of versions, up to the first difference."""
    digests = {m.number: m.digest for m in chunk}
    replayed = learn_chunk(spark, kafka, chunk, dict.fromkeys(digests, (learner,)), [tensors], digests)
    results = {each.version: each for each in replayed}
    rows = sum(each.counts.received for each in replayed)
    with_records = [m.number for m in chunk if m.counts["received"]]
    for number in with_records:
        if number not in results:  # the topic has no record of it: compaction, or another topic of that name
            return _Learned({}, rows, number)
        if results[number].digest != digests[number]:
            found = results[number]
            return _Learned(found.tensors or {}, rows, number, found.counts._asdict())
    if not with_records:  # versions without a record have their parent's state
        digest = state_digest(tensors)
        return _Learned(tensors, 0, next((m.number for m in chunk if m.digest != digest), None))
    return _Learned(results[with_records[-1]].tensors or {}, rows)


def _rules(manifest: Manifest) -> tuple[Any, ...]:
    return manifest.kind, manifest.learner, manifest.schema, manifest.update


def _compare_machines(manifest: Manifest) -> list[str]:
    changes = differences(manifest.environment, describe())
    return [f"{name} is {here!r}; recorded is {then!r}" for name, (then, here) in changes.items()]


def _explain(log: VersionLog, manifest: Manifest, learned: _Learned) -> str:
    if not learned.counts:
        return "the topic has none of its records"
    if learned.counts != manifest.counts:
        return f"its counts are {learned.counts}; recorded are {manifest.counts}"
    try:
        kept = log.read(manifest.number)
    except LookupError:
        return "its tensors differ"
    return f"its tensors differ: {_largest_difference(kept, learned.tensors)}"


def _largest_difference(kept: Version, tensors: Tensors) -> str:
    """Name the tensor that is furthest from the recorded one, and how far."""
    far = {
        name: float(np.max(np.abs(np.asarray(t, float) - np.asarray(tensors[name], float)), initial=0.0))
        for name, t in kept.tensors.items()
        if name in tensors and np.shape(t) == np.shape(tensors[name]) and np.asarray(t).dtype.kind in "fiu"
    }
    worst = max(far, key=lambda name: far[name], default="")
    return f"{worst} by up to {far[worst]:.3g}" if worst else "their names or shapes"
