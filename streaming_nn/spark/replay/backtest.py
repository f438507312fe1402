"""What if: learn recorded versions, or a stretch of a topic, again with other options, side by side.

Each try writes a log of its own, so that it can be looked at, gone on from, verified, and ended at any time:
a second run goes on after the last version that was written.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

from pyspark.sql import SparkSession

from streaming_nn.errors import DataLossError
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Learner, State, events, grow, initial, require_averaging, report
from streaming_nn.nn.state_dict import flatten, unflatten
from streaming_nn.records.schema import schema_from
from streaming_nn.spark.replay.plan import History, LearnerOf, added
from streaming_nn.spark.replay.tasks import Replay, Replayed, run_replay
from streaming_nn.spark.replay.trials import Outcome, Trial
from streaming_nn.spark.replay.verify import JOB_VERSIONS, chunks, hull, still_there
from streaming_nn.spark.session import SPARK_ERRORS, in_one_line, shared
from streaming_nn.spark.sources import kafka_frames
from streaming_nn.versions import atomic_files
from streaming_nn.versions.environment import describe, now, writer
from streaming_nn.versions.rollback import shapes, combine_tensors
from streaming_nn.versions.version import AVERAGED, Manifest, Tensors, Version, no_counts
from streaming_nn.versions.version_log import VersionLog, child

JOB_BYTES = 128 << 20  # of states that one job gives the driver: each version of each try is kept
AGAIN = "again"  # name of what is learned where the original's figures are recorded and nothing is tried
LEARNERS_OWN = {"drift", "member restarted"}  # events that a try has anew, or hasn't
OF_A_MODEL = {"versions", "tags", "scorers", "damaged"}  # folders


def _state(learner: Learner[Any], tensors: Tensors) -> State[Any]:
    """Make the learner's state of tensors, which may be of fewer classes. ValueError: it is another one's."""
    state = grow(learner, unflatten(initial(learner), tensors))
    if shapes(flatten(state)) != shapes(flatten(initial(learner))):
        raise ValueError("the state has other shapes than the learner's")
    return state


class Alternative:
    """One try on its way through history: its log, and the version that it has reached."""

    def __init__(self, each: Trial, log: VersionLog, run: str) -> None:
        self.each, self.log, self.run = each, log, run
        head = log.head()
        assert head is not None  # it has been begun
        self.head, self.sha = head, log.sha256(head.number)

    def append(
        self, history: History, record: Manifest, learner: Learner[Any], tensors: Tensors, **changes: Any
    ) -> None:
        """Write the version that stands for `record`, unless an earlier run has written it."""
        if record.number - history.shift <= self.head.number:
            return
        event = {"event": "replayed", "from": history.whence, "version": record.number}
        state = _state(learner, tensors)
        own = events(learner, _state(learner, self.head.tensors), state) if record.kind == "learned" else []
        described = {
            "learner": learner.options(),
            "schema": record.schema,
            "update": record.update,
            "mini_batch_cap": 0 if "mini_batch" in self.each.changes else record.mini_batch_cap,
            "metrics": report(learner, state),
            "events": [event, *(e for e in record.events if e.get("event") not in LEARNERS_OWN), *own],
            "environment": describe(),
            "written_at": now(),
            "written_by": writer(self.run),
        }
        version = Version(child(self.head.manifest, self.sha, **(described | changes)), tensors)
        self.sha = self.log.append(version).sha256
        self.head = version

    def outcome(self, history: History) -> Outcome:
        """Say what came of it, at the end of the history."""
        numbers = range(1, len(history.records) + 1)
        records = [self.log.manifest(number) for number in numbers]
        remarks = [_begun_event(self.log.manifest(0))["begins"]] if history.start else []
        return Outcome(
            self.each.name,
            self.each.changes,
            self.log.directory,
            added(records),
            records[-1].metrics,
            remarks,
        )


def places(base: Trial, recorded: bool, tries: list[Trial], into: Path) -> list[tuple[Trial, Path]]:
    """Say what is learned, and where: `into` itself is the only try's, else each has a folder in it.

    The base is learned too where its own figures are not recorded, or where there is nothing else to do.
    """
    if not tries:
        return [(Trial({}, AGAIN) if recorded else base, into)]
    own = [] if recorded else [(base, into / base.name)]
    return [*own, *((each, into if len(tries) == 1 else into / each.name) for each in tries)]


def stretch_of(found: list[tuple[Trial, Path]]) -> dict[str, Any] | None:
    """Return the stretch of a topic that an earlier run has begun to learn in these places."""
    begun = [VersionLog(directory).manifest(0) for _, directory in found if VersionLog(directory).has(0)]
    events = [_begun_event(record) for record in begun]
    return next((event["stretch"] for event in events if event.get("stretch")), None)


def begun(
    history: History, tries: list[Trial], into: Path, learner_of: LearnerOf = learner_from
) -> list[Alternative]:
    """Begin each try's log, or go on with it. ValueError: options that can't be, or `into` is in use."""
    found = places(history.base, history.recorded is not None, tries, into)
    for record in history.records:  # a mistake ends it before it begins
        for learner in _learners([each for each, _ in found], record, learner_of):
            if record.update == AVERAGED:
                require_averaging(learner)
    _free(into, found)
    run = uuid4().hex[:12]
    for each, directory in found:
        _begin(history, each, VersionLog(directory), run, learner_of)
    return [Alternative(each, VersionLog(directory), run) for each, directory in found]


def _learners(tries: list[Trial], record: Manifest, learner_of: LearnerOf) -> tuple[Learner[Any], ...]:
    return tuple(learner_of(each.options(record.learner)) for each in tries)


def _free(into: Path, found: list[tuple[Trial, Path]]) -> None:
    """Raise ValueError where the folder holds anything but these tries."""
    if into.exists() and not into.is_dir():
        raise ValueError(f"{into} must be a directory; it is a file")
    own = {directory.name for _, directory in found if directory != into}
    own |= OF_A_MODEL if any(directory == into for _, directory in found) else set()
    if strange := sorted(set(atomic_files.names(into)) - own):
        raise ValueError(f"{into} holds {strange[0]!r}, which is not of these tries: name another directory")


def _begin(history: History, each: Trial, log: VersionLog, run: str, learner_of: LearnerOf) -> None:
    said = {"event": "what-if", "of": history.identity, "tried": each.changes}
    if log.head_number() is not None:
        _same(history, log, said)
        return
    before = history.before
    learner = learner_of(each.options(before.learner))
    tensors, begins = _first(history, learner)
    record = Manifest(
        0,
        kind="initial",
        learner=learner.options(),
        schema=before.schema,
        update=before.update,
        mini_batch_cap=0 if "mini_batch" in each.changes else before.mini_batch_cap,
        offsets=before.offsets,
        topic_ids=before.topic_ids,
        metrics=report(learner, _state(learner, tensors)),
        environment=describe(),
        written_at=now(),
        written_by=writer(run),
        events=[{**said, "from": history.whence, "begins": begins, "stretch": history.stretch}],
    )
    log.append(Version(record, tensors))


def _first(history: History, learner: Learner[Any]) -> tuple[Tensors, str]:
    """The start's model where it fits the learner, else a new one; metrics count from here on."""
    fresh, start = initial(learner), history.start
    if start is None:
        return flatten(fresh), "begins as a new model"
    own = {name: tensor for name, tensor in flatten(fresh).items() if not name.startswith("model.")}
    model = {name: tensor for name, tensor in start.tensors.items() if name.startswith("model.")}
    try:
        state = _state(learner, own | model)
    except ValueError:
        return (
            flatten(fresh),
            f"begins as a new model: version {start.number}'s state doesn't fit its options",
        )
    near = "" if start.number == history.shift else ", the nearest one that is kept"
    return flatten(state), f"begins as version {start.number}'s model{near}"


def _same(history: History, log: VersionLog, said: dict[str, Any]) -> None:
    first, head = log.manifest(0), log.head_number()
    event = _begun_event(first)
    if {name: event.get(name) for name in said} != json.loads(json.dumps(said)):
        raise ValueError(f"{log.directory} holds something else than these tries: name another directory")
    reached = min(head or 0, len(history.records))
    events = log.manifest(reached).events
    if reached and not any(e.get("version") == reached + history.shift for e in events):
        raise ValueError(f"{log.directory}: version {reached} was not replayed: name another directory")


def _begun_event(first: Manifest) -> dict[str, Any]:
    return next((event for event in first.events if event.get("event") == "what-if"), {})


def learn_again(
    spark: SparkSession,
    kafka: Mapping[str, str],
    history: History,
    alternatives: list[Alternative],
    progress: Callable[[int], None] = lambda number: None,
    learner_of: LearnerOf = learner_from,
) -> list[Outcome]:
    """Learn the history with every alternative, from one read of the topics, and say what came of each.

    Raises DataLossError where the topics no longer have its records; what was written until then stays.
    """
    pending = [each for each in alternatives if each.head.number < len(history.records)]
    if pending:
        _Course(spark, kafka, history, pending, learner_of).run(progress)
    own = [] if history.recorded is None else [history.recorded]
    return [*own, *(each.outcome(history) for each in alternatives)]


class _Course:
    """The run of several alternatives, side by side, through what none of them has left behind."""

    def __init__(
        self,
        spark: SparkSession,
        kafka: Mapping[str, str],
        history: History,
        pending: list[Alternative],
        learner_of: LearnerOf,
    ) -> None:
        self.spark, self.kafka, self.history = spark, kafka, history
        self.pending, self.learner_of = pending, learner_of
        done = min(each.head.number for each in pending)
        self.records = history.records[done:]
        self.states = [each.log.read(done).tensors for each in pending]

    def run(self, progress: Callable[[int], None]) -> None:
        still_there(self.kafka, self.records)
        size = sum(tensor.nbytes for state in self.states for tensor in state.values())
        most = max(1, min(JOB_VERSIONS, JOB_BYTES // max(size, 1)))
        for chunk in chunks(self.records, _alike, most):
            if chunk[0].kind == "learned":
                self._learn(chunk)
            else:
                self._take_over(chunk[0])
            progress(chunk[-1].number)

    def _learners(self, record: Manifest) -> tuple[Learner[Any], ...]:
        return _learners([each.each for each in self.pending], record, self.learner_of)

    def _learn(self, chunk: list[Manifest]) -> None:
        """Learn a chunk of versions in one Spark job, and append them to every log."""
        learners = {record.number: self._learners(record) for record in chunk}
        self._fits(chunk[0], learners[chunk[0].number])
        learned = self._job(chunk, learners)
        for record in chunk:
            for place, each in enumerate(self.pending):
                row = learned.get((record.number, place))
                if row is not None:
                    assert row.tensors is not None  # nothing is compared, so every state is returned
                    self.states[place] = row.tensors
                each.append(
                    self.history,
                    record,
                    learners[record.number][place],
                    self.states[place],
                    offsets=record.offsets,
                    topic_ids=record.topic_ids,
                    ranges=record.ranges,
                    counts=row.counts._asdict() if row is not None else no_counts(),
                    rejected_by_reason=row.rejected if row is not None else {},
                )

    def _fits(self, record: Manifest, learners: tuple[Learner[Any], ...]) -> None:
        for each, learner, state in zip(self.pending, learners, self.states, strict=True):
            try:
                _state(learner, state)
            except ValueError:
                n = record.number
                raise ValueError(
                    f"{each.each.name}: version {n} was learned with options whose state is another one than "
                    f"before: end before it (--to {n - 1}), or begin with it (--from {n})"
                ) from None

    def _job(
        self, chunk: list[Manifest], learners: dict[int, tuple[Learner[Any], ...]]
    ) -> dict[tuple[int, int], Replayed]:
        spans = {r.number: r.ranges for r in chunk if r.counts["received"]}
        if not spans:
            return {}
        averaged = chunk[0].update == AVERAGED
        frame = kafka_frames.by_version(
            kafka_frames.batch(self.spark, self.kafka, hull(chunk)), spans, averaged
        )
        with ExitStack() as stack:
            states = tuple(stack.enter_context(shared(self.spark, state)) for state in self.states)
            work = Replay(learners, schema_from(chunk[0].schema), states, averaged)
            try:
                rows = run_replay(frame, work)
            except SPARK_ERRORS as error:
                raise RuntimeError(f"the replay ended: {in_one_line(error)}") from None
        received = {row.version: row.counts.received for row in rows}
        for record in chunk:
            found, wanted = received.get(record.number, 0), record.counts["received"]
            if found != wanted:
                raise DataLossError(
                    f"version {record.number} has learned {wanted:,} records, and the topic gives "
                    f"{found:,} of them: they can't be learned again"
                )
        return {(row.version, row.learner): row for row in rows}

    def _take_over(self, record: Manifest) -> None:
        """Do what a version did that learned nothing: it went back to an older one, or was lost.

        An older one that is before the range is not there to go back to.
        """
        learners, number = self._learners(record), record.restored_from - self.history.shift
        back = record.kind in ("rolled-back", "repaired") and number >= 0
        for place, each in enumerate(self.pending):
            if back:
                old = each.log.read(number).tensors
                whole = record.kind == "repaired"  # with its metrics: their rows are learned again
                self.states[place] = old if whole else combine_tensors(old, self.states[place])
            changes: dict[str, Any] = {"kind": record.kind, "restored_from": number} if back else {}
            if record.kind != "damaged":
                changes |= {"offsets": record.offsets, "topic_ids": record.topic_ids}
            each.append(self.history, record, learners[place], self.states[place], **changes)


def _alike(record: Manifest) -> Any:
    """What versions of one job have in common; the mini-batch size changes no state."""
    options = {name: value for name, value in record.learner.items() if name != "mini_batch"}
    return record.kind, options, record.schema, record.update
