"""Learn recorded versions, or a topic's records, with other options, side by side.

Each trial has a version log of its own, so it can be inspected, resumed, verified, and stopped at any time: a
second run resumes after the last version that was committed.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack
from uuid import uuid4

from streaming_nn.errors import DataLossError
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Learner, State, events, initial, load_state, report, require_averaging
from streaming_nn.nn.series import SERIES
from streaming_nn.nn.state_dict import flatten
from streaming_nn.progress import Progress, no_progress
from streaming_nn.settings import Settings
from streaming_nn.spark.checks import before_replay, before_replay_of_topic
from streaming_nn.spark.replay.plan import (
    SETTINGS,
    LearnerFactory,
    ReplayPlan,
    parse_time,
    plan_topic,
    plan_versions,
    require_records,
    sum_counts,
)
from streaming_nn.spark.replay.trials import Outcome, Trial, parse_trials
from streaming_nn.spark.series import initial_state
from streaming_nn.versions import atomic_files
from streaming_nn.versions.rollback import combine_tensors, shapes
from streaming_nn.versions.version import AVERAGED, Manifest, ManifestFields, Tensors, Version, no_counts
from streaming_nn.versions.version_log import VersionLog

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from streaming_nn.spark.replay.tasks import Replayed

logger = logging.getLogger(__name__)

JOB_BYTES = 128 << 20  # of states that one job returns: each version of each trial is kept
REPLAYED = "replayed"  # name of the only trial, if the original's metrics are recorded and no trial is given
LEARNER_EVENTS = {"drift", "member restarted"}  # of the learner: not copied from the recorded versions
MODEL_DIRECTORIES = {"versions", "tags", "scorers", "damaged"}  # in a model directory


@dataclass(frozen=True)
class Selection:
    """What is backtested: versions by number or time, or a topic's records by time."""

    first: int | None = None
    last: int | None = None
    since: str | None = None
    until: str | None = None
    topic: str | None = None

    def __post_init__(self) -> None:
        numbered = self.first is not None or self.last is not None
        if numbered and (self.since or self.until):
            raise ValueError("--from and --to cannot be combined with --since and --until")
        if numbered and self.topic:
            raise ValueError("--from and --to are a model's versions; with --topic use --since and --until")


def backtest(
    settings: Settings,
    into: Path,
    trials: Sequence[str],
    selection: Selection | None = None,
    progress: Progress = no_progress,
) -> list[Outcome]:
    """Learn a selection of the past with each trial (`key=value,…`), and compare the outcomes.

    `into` is the directory of the trials' models. All of them learn from one read of Kafka. Called again, it
    resumes. `progress` is called with what is done, and how far it is. Raise ValueError if the selection is
    empty or `into` is in use, DataLossError if Kafka no longer has the records.
    """
    selection = selection or Selection()
    parsed = parse_trials(trials)
    since, until = (parse_time(text) if text else None for text in (selection.since, selection.until))
    with ExitStack() as stack:  # what is wrong is raised before Spark is imported, which takes seconds
        if selection.topic:
            directories = trial_directories(Trial({}, SETTINGS), False, parsed, into)
            _check_unused(into, directories)
            before_replay_of_topic(settings, selection.topic, [trial for trial, _ in directories])
            bounds = recorded_bounds(directories)
            require_records(settings, selection.topic, since, until, bounds)
            spark = _start(settings, stack, progress)
            plan = plan_topic(spark, settings, selection.topic, since, until, bounds)
            runs = open_trials(plan, parsed, into)
        else:
            log = VersionLog(settings.model)
            plan = plan_versions(log, selection.first, selection.last, since, until)
            check_trials(plan, parsed, into)
            before_replay(settings, plan.manifests[-1].offsets)
            runs = open_trials(plan, parsed, into)
            spark = _start(settings, stack, progress)
        names = ", ".join(run.trial.name for run in runs)
        last = plan.manifests[-1].number
        logger.info("learning versions %d to %d with %s", plan.shift + 1, last, names)
        count = len(plan.manifests)

        def learned(number: int) -> None:
            progress("learning versions", number - plan.shift, count)

        learned(plan.shift)
        return run_trials(spark, settings.kafka, plan, runs, learned)


def _start(settings: Settings, stack: ExitStack, progress: Progress) -> "SparkSession":
    from streaming_nn.spark.session import running

    return stack.enter_context(running(settings.spark, progress))


def _load_state(learner: Learner[Any], tensors: Tensors) -> State[Any]:
    """Return the state of tensors, which may have fewer classes. ValueError: they do not fit the learner."""
    state = load_state(learner, tensors)
    if shapes(flatten(state._replace(series=()))) != shapes(flatten(initial(learner))):
        raise ValueError("tensor shapes do not match the learner")
    return state


class TrialRun:
    """A trial while it runs: its version log, and the version that it has reached."""

    def __init__(self, trial: Trial, log: VersionLog, head: Version) -> None:
        self.trial, self.log, self.head = trial, log, head

    def commit(
        self,
        plan: ReplayPlan,
        manifest: Manifest,
        learner: Learner[Any],
        tensors: Tensors,
        /,
        **fields: Unpack[ManifestFields],
    ) -> None:
        """Commit the trial's version of `manifest`, unless an earlier run has."""
        if manifest.number - plan.shift <= self.head.number:
            return
        event = {"event": "replayed", "from": plan.origin, "version": manifest.number}
        state = _load_state(learner, tensors)
        learned = manifest.kind == "learned"
        new = events(learner, _load_state(learner, self.head.tensors), state) if learned else []
        described: ManifestFields = {
            "learner": learner.options(),
            "schema": manifest.schema,
            "update": manifest.update,
            "mini_batch_cap": 0 if "mini_batch" in self.trial.changes else manifest.mini_batch_cap,
            "metrics": report(learner, state),
            "events": [event, *(e for e in manifest.events if e["event"] not in LEARNER_EVENTS), *new],
        }
        described.update(fields)
        self.head = self.log.commit(self.head, tensors, **described)

    def outcome(self, plan: ReplayPlan) -> Outcome:
        """Return the trial's result at the end of the plan."""
        manifests = [self.log.manifest(number) for number in range(1, len(plan.manifests) + 1)]
        remarks = [_start_event(self.log.manifest(0))["start"]] if plan.start else []
        counts, metrics = sum_counts(manifests), manifests[-1].metrics
        return Outcome(self.trial.name, self.trial.changes, self.log.directory, counts, metrics, remarks)


def trial_directories(
    base: Trial, recorded: bool, trials: list[Trial], into: Path
) -> list[tuple[Trial, Path]]:
    """Return what is learned, and where: an only trial in `into` itself, several in directories below it.

    The base is learned too, unless its metrics are recorded and there are trials.
    """
    if not trials:
        return [(Trial({}, REPLAYED) if recorded else base, into)]
    bases = [] if recorded else [(base, into / base.name)]
    return [*bases, *((trial, into if len(trials) == 1 else into / trial.name) for trial in trials)]


def recorded_bounds(directories: list[tuple[Trial, Path]]) -> dict[str, Any] | None:
    """Return the bounds in a topic that an earlier run recorded in these directories; None: there is none."""
    logs = [VersionLog(directory) for _, directory in directories]
    starts = [_start_event(log.manifest(0)) for log in logs if log.has(0)]
    return next((event["bounds"] for event in starts if event.get("bounds")), None)


def check_trials(
    plan: ReplayPlan, trials: list[Trial], into: Path, factory: LearnerFactory = learner_from
) -> list[tuple[Trial, Path]]:
    """Return what is learned, and where. Raise ValueError for bad options, or if `into` is in use."""
    directories = trial_directories(plan.base, plan.recorded is not None, trials, into)
    for manifest in plan.manifests:  # a mistake is raised before anything is learned
        for learner in _make_learners([trial for trial, _ in directories], manifest, factory):
            if manifest.update == AVERAGED:
                require_averaging(learner)
    _check_unused(into, directories)
    return directories


def open_trials(
    plan: ReplayPlan, trials: list[Trial], into: Path, factory: LearnerFactory = learner_from
) -> list[TrialRun]:
    """Create or resume each trial's version log. Raise ValueError for bad options, or if `into` is in use."""
    directories = check_trials(plan, trials, into, factory)
    run = uuid4().hex[:12]
    logs = [(trial, VersionLog(directory, run)) for trial, directory in directories]
    for trial, log in logs:
        _open_log(plan, trial, log, factory)
    heads = [log.read(log.head_number() or 0) for _, log in logs]  # version 0 is there
    return [TrialRun(trial, log, head) for (trial, log), head in zip(logs, heads, strict=True)]


def _make_learners(
    trials: list[Trial], manifest: Manifest, factory: LearnerFactory
) -> tuple[Learner[Any], ...]:
    return tuple(factory(trial.options(manifest.learner)) for trial in trials)


def _check_unused(into: Path, directories: list[tuple[Trial, Path]]) -> None:
    """Raise ValueError if the directory contains anything but these trials."""
    if into.exists() and not into.is_dir():
        raise ValueError(f"{into} must be a directory; it is a file")
    expected = {directory.name for _, directory in directories if directory != into}
    expected |= MODEL_DIRECTORIES if any(directory == into for _, directory in directories) else set()
    if unexpected := sorted(set(atomic_files.names(into)) - expected):
        raise ValueError(
            f"{into} contains {unexpected[0]!r}, which is not of these trials; use another directory"
        )


def _open_log(plan: ReplayPlan, trial: Trial, log: VersionLog, factory: LearnerFactory) -> None:
    event = {"event": "backtest", "of": plan.identity, "trial": trial.changes}
    if log.head_number() is not None:
        _check_same(plan, log, event)
        return
    parent = plan.parent
    learner = factory(trial.options(parent.learner))
    tensors, start = _initial_tensors(plan, learner, factory)
    log.commit(
        None,
        tensors,
        learner=learner.options(),
        schema=parent.schema,
        update=parent.update,
        mini_batch_cap=0 if "mini_batch" in trial.changes else parent.mini_batch_cap,
        offsets=parent.offsets,
        topic_ids=parent.topic_ids,
        metrics=report(learner, _load_state(learner, tensors)),
        events=[{**event, "from": plan.origin, "start": start, "bounds": plan.bounds}],
    )


def _initial_tensors(plan: ReplayPlan, learner: Learner[Any], factory: LearnerFactory) -> tuple[Tensors, str]:
    """Return the start's model if it fits the learner, else an untrained one; metrics start from zero."""
    untrained, start = flatten(initial_state(learner, plan.parent.schema)), plan.start
    if start is None:
        return untrained, "starts with an untrained model"
    observed = {name: tensor for name, tensor in start.tensors.items() if name.startswith(SERIES)}
    untrained |= observed  # what was observed does not depend on the learner
    counts = {name: tensor for name, tensor in untrained.items() if not name.startswith("model.")}
    model = {name: tensor for name, tensor in start.tensors.items() if name.startswith("model.")}
    classes = learner.options().get("classes")  # the version may have fewer
    before = factory({**start.manifest.learner, "classes": classes})
    try:
        state = _load_state(learner, counts | model)
        if learner.member_shapes != before.member_shapes:
            raise ValueError("the members' parameters are laid out in another way")
    except ValueError:
        reason = f"the state of version {start.number} does not fit its options"
        return untrained, f"starts with an untrained model: {reason}"
    near = "" if start.number == plan.shift else ", the nearest one that is kept"
    return flatten(state), f"starts with the model of version {start.number}{near}"


def _check_same(plan: ReplayPlan, log: VersionLog, event: Mapping[str, Any]) -> None:
    """Raise ValueError if the log's versions are not those of this plan and trial."""
    recorded = _start_event(log.manifest(0))
    if {name: recorded.get(name) for name in event} != json.loads(json.dumps(event)):
        raise ValueError(f"{log.directory} contains other trials; use another directory")
    reached = min(log.head_number() or 0, len(plan.manifests))
    replayed = log.manifest(reached).events
    if reached and not any(e.get("version") == reached + plan.shift for e in replayed):
        raise ValueError(f"{log.directory}: version {reached} is not of a backtest; use another directory")


def _start_event(first: Manifest) -> dict[str, Any]:
    return next((event for event in first.events if event["event"] == "backtest"), {})


def run_trials(
    spark: "SparkSession",
    kafka: Mapping[str, str],
    plan: ReplayPlan,
    runs: list[TrialRun],
    progress: Callable[[int], None] = lambda number: None,
    factory: LearnerFactory = learner_from,
) -> list[Outcome]:
    """Learn the plan with every trial, from one read of the topics, and return the outcomes.

    `progress` is called with the last version that is learned. Raise DataLossError if the topics no longer
    have the records; what was committed until then stays.
    """
    pending = [run for run in runs if run.head.number < len(plan.manifests)]
    if pending:
        _Backtest.open(spark, kafka, plan, pending, factory).run(progress)
    recorded = [] if plan.recorded is None else [plan.recorded]
    return [*recorded, *(run.outcome(plan) for run in runs)]


@dataclass
class _Backtest:
    """Trials side by side, from the first version that one of them lacks."""

    spark: "SparkSession"
    kafka: Mapping[str, str]
    plan: ReplayPlan
    pending: list[TrialRun]
    factory: LearnerFactory
    manifests: list[Manifest]  # that are to be learned
    states: list[Tensors]  # of each pending trial

    @classmethod
    def open(
        cls,
        spark: "SparkSession",
        kafka: Mapping[str, str],
        plan: ReplayPlan,
        pending: list[TrialRun],
        factory: LearnerFactory,
    ) -> Self:
        """Read the states from which the pending trials resume."""
        done = min(run.head.number for run in pending)
        states = [run.log.read(done).tensors for run in pending]
        return cls(spark, kafka, plan, pending, factory, plan.manifests[done:], states)

    def run(self, progress: Callable[[int], None]) -> None:
        from streaming_nn.spark.replay.recorded import JOB_VERSIONS, check_available, split_chunks

        check_available(self.kafka, self.manifests)
        size = sum(tensor.nbytes for state in self.states for tensor in state.values())
        most = max(1, min(JOB_VERSIONS, JOB_BYTES // max(size, 1)))
        for chunk in split_chunks(self.manifests, _rules, most):
            if chunk[0].kind == "learned":
                self._learn(chunk)
            else:
                self._restore(chunk[0])
            progress(chunk[-1].number)

    def _make_learners(self, manifest: Manifest) -> tuple[Learner[Any], ...]:
        return _make_learners([run.trial for run in self.pending], manifest, self.factory)

    def _learn(self, chunk: list[Manifest]) -> None:
        """Learn a chunk of versions in one Spark job, and commit them to every log."""
        from streaming_nn.spark.replay.recorded import learn_chunk

        learners = {manifest.number: self._make_learners(manifest) for manifest in chunk}
        self._check_states(chunk[0], learners[chunk[0].number])
        replayed = learn_chunk(self.spark, self.kafka, chunk, learners, self.states)
        _check_counts(chunk, replayed)
        results = {(each.version, each.learner): each for each in replayed}
        for manifest in chunk:
            for index, run in enumerate(self.pending):
                result = results.get((manifest.number, index))
                if result is not None:
                    assert result.tensors is not None  # nothing is compared, so every state is returned
                    self.states[index] = result.tensors
                run.commit(
                    self.plan,
                    manifest,
                    learners[manifest.number][index],
                    self.states[index],
                    offsets=manifest.offsets,
                    topic_ids=manifest.topic_ids,
                    ranges=manifest.ranges,
                    counts=no_counts() if result is None else result.counts._asdict(),
                    rejected_by_reason={} if result is None else result.rejected,
                )

    def _check_states(self, manifest: Manifest, learners: tuple[Learner[Any], ...]) -> None:
        for run, learner, state in zip(self.pending, learners, self.states, strict=True):
            try:
                _load_state(learner, state)
            except ValueError:
                n = manifest.number
                raise ValueError(
                    f"{run.trial.name}: the options of version {n} have another state than those before; "
                    f"end before it (--to {n - 1}), or start with it (--from {n})"
                ) from None

    def _restore(self, manifest: Manifest) -> None:
        """Do what a version did that learned nothing: it restored an older one, or it was lost.

        An older one that is before the plan's first cannot be restored.
        """
        learners, number = self._make_learners(manifest), manifest.restored_from - self.plan.shift
        restored = manifest.kind in ("rolled-back", "repaired") and number >= 0
        for index, run in enumerate(self.pending):
            if restored:
                old = run.log.read(number).tensors
                whole = manifest.kind == "repaired"  # with its metrics: their rows are replayed
                self.states[index] = old if whole else combine_tensors(old, self.states[index])
            fields: ManifestFields = {"kind": manifest.kind, "restored_from": number} if restored else {}
            if manifest.kind != "damaged":
                fields |= {"offsets": manifest.offsets, "topic_ids": manifest.topic_ids}
            run.commit(self.plan, manifest, learners[index], self.states[index], **fields)


def _check_counts(chunk: list[Manifest], replayed: "list[Replayed]") -> None:
    """Raise DataLossError if the topics had fewer records than were recorded."""
    received = {each.version: each.counts.received for each in replayed}
    for manifest in chunk:
        found, recorded = received.get(manifest.number, 0), manifest.counts["received"]
        if found != recorded:
            raise DataLossError(
                f"version {manifest.number} learned {recorded:,} records, and the topic has {found:,} of them"
            )


def _rules(manifest: Manifest) -> Any:
    """Return what versions of one job have in common; the mini-batch size changes no state."""
    options = {name: value for name, value in manifest.learner.items() if name != "mini_batch"}
    return manifest.kind, options, manifest.schema, manifest.update
