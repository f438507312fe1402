"""Learn recorded versions again from the topic, and see whether the same bits come out."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.numpy
from pyspark.sql import SparkSession

from streaming_nn.errors import DataLossError
from streaming_nn.kafka import admin
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Learner
from streaming_nn.records.schema import schema_from
from streaming_nn.spark.session import SPARK_ERRORS, in_one_line, rows_of, shared
from streaming_nn.spark.sources import kafka_frames
from streaming_nn.spark.sources.kafka_frames import Ranges
from streaming_nn.spark.tasks import RELEARNED, Relearn
from streaming_nn.versions.environment import describe, differences
from streaming_nn.versions.version import AVERAGED, Manifest, Version, state_digest
from streaming_nn.versions.version_log import VersionLog

JOB_ROWS = 200_000  # records that one Spark job learns again: one task sorts them
JOB_VERSIONS = 200  # the join looks at each of them for each record


@dataclass(frozen=True)
class Verified:
    """How a replay ended."""

    first: int  # versions that were learned again
    last: int
    rows: int = 0  # records that were learned again
    different: int | None = None  # the first version whose digest is another one; None: all are the same
    reason: str = ""  # what differs, where one does
    machine: list[str] = field(default_factory=list)  # what this machine has otherwise than the record says

    @property
    def identical(self) -> bool:
        """Whether every version came out to the bit."""
        return self.different is None


def verify(
    spark: SparkSession,
    kafka: Mapping[str, str],
    log: VersionLog,
    first: int | None = None,
    last: int | None = None,
    learner_of: Callable[[Mapping[str, Any]], Learner[Any]] = learner_from,
    progress: Callable[[int], None] = lambda number: None,
) -> Verified:
    """Learn versions `first` to `last` (default all) again, and compare each one's digest with the record's.

    Learning starts from the nearest kept version before `first`, and goes on from its own result, never from
    what is recorded. Raises ValueError for versions that do not exist, DataLossError where the topic no longer has
    their records.
    """
    head = log.head_number()
    if head is None:
        raise ValueError(f"model {log.directory}: there is no version yet, so there is nothing to replay")
    first, last = 1 if first is None else first, head if last is None else last
    if not (1 <= first <= last <= head) and head > 0:
        raise ValueError(
            f"versions must be from 1 to {head}, the first not after the last; got {first} to {last}"
        )
    start = log.read(log.nearest_kept(max(first - 1, 0)))
    tensors, rows = start.tensors, 0
    records = [log.manifest(number) for number in range(start.number + 1, last + 1)]
    still_there(kafka, records)
    for chunk in chunks(records, _rules):
        if chunk[0].kind == "damaged":  # lost, and repaired by a later version, whose tensors are taken
            continue
        if chunk[0].kind != "learned":  # its tensors were taken over, not learned
            if chunk[0].kept:  # else the next one's are taken over too: see log/thin.py
                tensors = log.read(chunk[0].number).tensors
            continue
        result = _relearn(spark, kafka, learner_of(chunk[0].learner), chunk, tensors)
        rows += result.rows
        if result.different is not None:
            recorded = next(r for r in chunk if r.number == result.different)
            return Verified(
                start.number + 1,
                last,
                rows,
                result.different,
                _reason(log, recorded, result),
                _machine(recorded),
            )
        tensors = result.tensors
        progress(chunk[-1].number)
    return Verified(start.number + 1, last, rows)


@dataclass(frozen=True)
class _Relearned:
    tensors: dict[str, Any]
    rows: int
    different: int | None = None
    counts: dict[str, int] = field(default_factory=dict)  # of the version that differs


def _relearn(
    spark: SparkSession,
    kafka: Mapping[str, str],
    learner: Learner[Any],
    chunk: list[Manifest],
    tensors: dict[str, Any],
) -> _Relearned:
    """Learn a chunk of versions again, in one Spark job."""
    spans = {r.number: r.ranges for r in chunk if r.counts["received"]}
    if not spans:
        return _unchanged(chunk, tensors)
    schema, digests = schema_from(chunk[0].schema), {r.number: r.digest for r in chunk}
    averaged = chunk[0].update == AVERAGED
    frame = kafka_frames.by_version(kafka_frames.batch(spark, kafka, hull(chunk)), spans, averaged)
    with shared(spark, tensors) as state:
        work = Relearn(learner, schema, state, digests, max(spans), averaged)
        try:
            rows = rows_of(frame.mapInArrow(work, RELEARNED))
        except SPARK_ERRORS as error:
            raise RuntimeError(f"the replay ended: {in_one_line(error)}") from None
    again = {row.version: row for row in rows}
    counts = {number: json.loads(row.rows) for number, row in again.items()}
    total = sum(c["received"] for c in counts.values())
    for number in sorted(spans):
        if number not in again:  # the topic gave no record of it: compaction, or another topic of that name
            return _Relearned({}, total, number, {})
        if again[number].digest != digests[number]:
            found = safetensors.numpy.load(bytes(again[number].state))
            return _Relearned(found, total, number, counts[number])
    return _Relearned(safetensors.numpy.load(bytes(again[max(spans)].state)), total)


def _unchanged(chunk: list[Manifest], tensors: dict[str, Any]) -> _Relearned:
    """Versions without a record have their parent's state."""
    digest = state_digest(tensors)
    different = next((r.number for r in chunk if r.digest != digest), None)
    return _Relearned(tensors, 0, different)


def chunks(
    records: list[Manifest], alike: Callable[[Manifest], Any], most: int = JOB_VERSIONS
) -> Iterator[list[Manifest]]:
    """Consecutive versions that one job can learn: `alike`, at most so many, and not too many rows."""
    chunk: list[Manifest] = []
    rows = 0
    for record in records:
        fits = chunk and alike(record) == alike(chunk[0])
        full = rows + record.counts["received"] > JOB_ROWS or len(chunk) >= most
        if chunk and (not fits or full or record.kind != "learned"):
            yield chunk
            chunk, rows = [], 0
        chunk.append(record)
        rows += record.counts["received"]
    if chunk:
        yield chunk


def _rules(record: Manifest) -> tuple[Any, ...]:
    return record.kind, record.learner, record.schema, record.update


def hull(chunk: list[Manifest]) -> Ranges:
    """The offsets from the first to the last of the chunk; each version takes its own out of them."""
    whole: Ranges = {}
    for record in chunk:
        for topic, ranges in record.ranges.items():
            for p, (a, b) in ranges.items():
                begin, end = whole.setdefault(topic, {}).get(p, (a, b))
                whole[topic][p] = (min(begin, a), max(end, b))
    return whole


def still_there(kafka: Mapping[str, str], records: list[Manifest]) -> None:
    """Raise DataLossError for what the topic has no longer: a replay of less would compare apples with pears."""
    whole = hull(records)
    first, ids = admin.beginnings(kafka, whole), admin.ids(kafka, whole)
    for record in records:
        for topic, known in record.topic_ids.items():
            if topic in ids and ids[topic] != known:
                raise DataLossError(
                    f"topic {topic!r} was made again since version {record.number} learned it"
                )
        for topic, ranges in record.ranges.items():
            for p, (a, b) in ranges.items():
                if a < b and a < first[topic].get(p, 0):
                    raise DataLossError(
                        f"version {record.number} learned {topic!r} partition {p} from offset {a:,}, and "
                        f"the topic now begins at {first[topic][p]:,}: replay from a later version (--from)"
                    )


def _machine(recorded: Manifest) -> list[str]:
    now = differences(recorded.environment, describe())
    return [f"{name} {here!r}, recorded is {then!r}" for name, (then, here) in now.items()]


def _reason(log: VersionLog, recorded: Manifest, result: _Relearned) -> str:
    if not result.counts:
        return "the topic gave none of its records"
    if result.counts != recorded.counts:
        return f"its rows are {result.counts}, recorded are {recorded.counts}"
    try:
        kept = log.read(recorded.number)
    except LookupError:
        return "its tensors differ"
    return f"its tensors differ: {_distance(kept, result.tensors)}"


def _distance(kept: Version, tensors: Mapping[str, Any]) -> str:
    """Name the tensor that is furthest from the recorded one, and how far."""
    far = {
        name: float(np.max(np.abs(np.asarray(t, float) - np.asarray(tensors[name], float)), initial=0.0))
        for name, t in kept.tensors.items()
        if name in tensors and np.shape(t) == np.shape(tensors[name]) and np.asarray(t).dtype.kind in "fiu"
    }
    worst = max(far, key=lambda name: far[name], default="")
    return f"{worst} by up to {far[worst]:.3g}" if worst else "their names or shapes"
