"""The steps that every run of a model shares: load a state, learn a micro-batch from it, commit the result.

The trainer uses all of them, replays `learn_tasks`, Spark ML's `StreamingLearner` `commit_learned`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple, Unpack

from streaming_nn.errors import VersionConflictError
from streaming_nn.nn.factory import change_events, learner_from
from streaming_nn.nn.learner import (
    Batch,
    Counts,
    Learner,
    ServedBatch,
    State,
    combine,
    events,
    grow,
    learn_part,
    report,
)
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.labels import Label
from streaming_nn.records.schema import Schema, grow_schema, growth_events
from streaming_nn.spark.rejected import DeadLetter, sum_reasons
from streaming_nn.spark.samples import newest, rejected
from streaming_nn.spark.tasks import TaskResult, widest
from streaming_nn.versions.version import ManifestFields, Version
from streaming_nn.versions.version_log import VersionLog


@dataclass(frozen=True)
class Work:
    """What a micro-batch is learned with."""

    learner: Learner[Any]
    schema: Schema
    state: State[Any]  # of the head; it may have fewer classes than the learner
    averaged: bool = False  # by a task per partition
    limit: int | None = None  # bytes of rejected records that are kept; None: they are counted only
    samples: int = 0  # rows that the version keeps; 0: none, and no rejected records

    @property
    def start(self) -> State[Any]:
        """The state that the records are learned from, with the learner's classes."""
        return grow(self.learner, self.state)

    def grow(self, unseen: Mapping[str, Sequence[Label]]) -> "Work":
        """Return the work with the unseen values in its schema, and the new classes in its learner."""
        schema, learner = grow_schema(self.schema, unseen), self.learner
        if schema.classes is not None and schema.classes != learner.classes:
            learner = learner_from({**learner.options(), "classes": schema.classes})
        return replace(self, schema=schema, learner=learner)


class Learned(NamedTuple):
    """What a micro-batch gave."""

    state: State[Any]  # after it
    counts: Counts
    rejected: dict[str, int]  # by reason and field
    dead_letters: list[DeadLetter]
    seconds: float  # of learning; the slowest task's
    large: frozenset[str] = frozenset()  # columns with numbers of 2^53 or more
    times: Sequence[int] = ()  # of the oldest and the newest record, ms since 1970
    samples: Mapping[str, Any] = MappingProxyType({})  # as a manifest has them


def combine_results(work: Work, results: Sequence[TaskResult]) -> Learned:
    """Combine what tasks learned, in the order of (topic, partition), to the next state."""
    letters = [letter for result in results for letter in result.dead_letters]
    rows = newest([result.samples for result in results], work.samples)
    return Learned(
        combine(work.learner, work.start, [result.part for result in results if result.part is not None]),
        add_counts(result.counts for result in results),
        sum_reasons(result.rejected for result in results),
        letters,
        max((result.seconds for result in results), default=0.0),  # an empty batch may have no task
        frozenset(name for result in results for name in result.large),
        widest(*(result.times for result in results)),
        {"rows": rows, "rejected": rejected(letters)} if work.samples else {},
    )


def learn_tasks(
    learner: Learner[Any], state: State[Any], tasks: Iterable[Iterable[Batch | ServedBatch]]
) -> tuple[State[Any], Counts]:
    """Learn one micro-batch's rows here, as its tasks did; return the next state and the rows' counts."""
    parts = [learn_part(learner, state, task) for task in tasks]
    return combine(learner, state, parts), add_counts(part.counts for part in parts)


def add_counts(counts: Iterable[Counts]) -> Counts:
    """Return the sum of counts."""
    return Counts(*(sum(each) for each in zip(Counts(), *counts, strict=True)))


def commit_learned(
    log: VersionLog,
    head: Version,
    learner: Learner[Any],
    before: State[Any],
    after: State[Any],
    counts: Counts,
    /,
    **fields: Unpack[ManifestFields],
) -> Version | None:
    """Commit what a micro-batch gave as the version after `head`; None: the model was rolled back meanwhile.

    `before` is the head's state. `fields` are more of the manifest; the learner's events are added to theirs.
    After a rollback the micro-batch must be learned again, from the new head: a rollback keeps the position.
    Raise VersionConflictError if anything else was committed meanwhile.
    """
    fields["learner"], fields["counts"] = learner.options(), counts._asdict()
    fields["metrics"] = report(learner, after)
    fields["events"] = [
        *fields.get("events", ()),
        *change_events(head.manifest.learner, fields["learner"]),
        *growth_events(head.manifest.schema, fields.get("schema", {})),
        *events(learner, before, after),
    ]
    try:
        return log.commit(head, flatten(after), **fields)
    except VersionConflictError as conflict:
        if conflict.manifest is None or conflict.manifest.kind != "rolled-back":
            raise
        return None
