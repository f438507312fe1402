"""Backtests of recorded versions and of topics, on a real broker and a real Spark."""

from itertools import count
from pathlib import Path
from typing import Any

import kafka_topics
import numpy as np
import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka_topics import SCHEMA, fill, labeled, learn, learned_ranges, manifests_of, read, rows_of, seamless
from logs import prune_all_but
from numbered_records import expected, numbered
from oracles import Chain
from pyspark.sql import SparkSession

from streaming_nn.errors import DataLossError
from streaming_nn.kafka import admin
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, State, initial, report, test_then_train
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.decode import decode
from streaming_nn.records.schema import schema_from
from streaming_nn.settings import Settings
from streaming_nn.spark import session
from streaming_nn.spark.replay import backtest
from streaming_nn.spark.replay.backtest import (
    Selection,
    open_trials,
    recorded_bounds,
    run_trials,
    trial_directories,
)
from streaming_nn.spark.replay.plan import ReplayPlan, parse_time, plan_topic, plan_versions
from streaming_nn.spark.replay.trials import Outcome, Trial, parse_trials
from streaming_nn.spark.replay.verify import verify
from streaming_nn.versions.diff import diff
from streaming_nn.versions.repair import check
from streaming_nn.versions.rollback import rollback
from streaming_nn.versions.version import Manifest, Version
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.nightly  # together they take minutes

RATES = ["learning_rate=0.01", "optimizer=sgd,learning_rate=0.1,mini_batch=5", "hidden=[4]"]
MLP = {"learner": "mlp", "hidden": [8]}
START = 1_700_000_000_000  # milliseconds since 1970


def settings_of(kafka: dict[str, str], model: Path, topic: str, **sections: Any) -> Settings:
    """Return settings for one network, whose options these trials change."""
    return kafka_topics.settings_of(kafka, model, topic, **{"learner": MLP, **sections})


def run(
    spark: SparkSession, settings: Settings, plan: ReplayPlan, trials: list[str], into: Path
) -> list[Outcome]:
    """Learn the plan with these trials, or resume them."""
    runs = open_trials(plan, parse_trials(trials), into)
    return run_trials(spark, settings.kafka, plan, runs)


def learn_in_numpy(settings: Settings, numbers: list[int], trial: Trial) -> State[Any]:
    """Return the state after these versions, of the records as a client without Spark reads them."""
    log, topic = VersionLog(settings.model), settings.train.topics[0]
    records, state = read(settings.kafka, topic), None
    for number in numbers:
        manifest = log.manifest(number)
        learner = learner_from(trial.options(manifest.learner))
        ranges = manifest.ranges[topic]
        batch = [r for r in records if ranges[r.partition][0] <= r.offset < ranges[r.partition][1]]
        batch.sort(key=lambda r: (r.timestamp, r.partition, r.offset))
        rows = decode(schema_from(manifest.schema), [r.value for r in batch], labeled=True)
        assert rows.y is not None
        state = initial(learner) if state is None else state
        state, _ = test_then_train(learner, state, [Batch(rows.x, rows.y)])
    assert state is not None
    return state


def equal(tensors: dict[str, Any], state: State[Any]) -> bool:
    """Return whether all tensors have the same bits."""
    other = flatten(state)
    return tensors.keys() == other.keys() and all(np.array_equal(tensors[n], other[n]) for n in other)


@pytest.mark.merge
def test_each_trial_equals_numpy_on_the_same_micro_batches(
    spark: SparkSession, model: Settings, tmp_path: Path
) -> None:
    log = VersionLog(model.model)
    sizes = {m.learner["mini_batch"] for m in manifests_of(model.model)[1:]}
    assert sizes == {7, 32}, "the recorded sizes must differ, or the test proves little"
    numbers = log.numbers()[1:]
    original, *outcomes = run(spark, model, plan_versions(log), RATES, tmp_path / "trials")

    assert (original.name, original.directory) == ("original", model.model)
    assert original.metrics == log.manifest(numbers[-1]).metrics
    assert [o.name for o in outcomes] == [trial.name for trial in parse_trials(RATES)]
    assert all(o.counts == rows_of(model.model) for o in (original, *outcomes))
    for outcome, trial in zip(outcomes, parse_trials(RATES), strict=True):
        assert outcome.directory == tmp_path / "trials" / trial.name
        trial_log = VersionLog(outcome.directory)
        state = learn_in_numpy(model, numbers, trial)
        assert equal(trial_log.read(numbers[-1]).tensors, state)
        assert outcome.metrics == report(learner_from(trial.options(log.manifest(1).learner)), state)
        assert check(trial_log) == []
        assert verify(spark, model.kafka, trial_log).identical
        assert diff(trial_log, 0, numbers[-1])["pruned"] == []
        for n in numbers:
            recorded, replayed = log.manifest(n), trial_log.manifest(n)
            assert micro_batch(replayed) == micro_batch(recorded)
            event = {"event": "replayed", "from": {"model": str(model.model)}, "version": n}
            assert replayed.events[0] == event
    recorded_sizes = [log.manifest(n).learner["mini_batch"] for n in numbers]
    trial_sizes = [
        [VersionLog(o.directory).manifest(n).learner["mini_batch"] for n in numbers]
        for o in outcomes
        if o.directory
    ]
    assert trial_sizes == [recorded_sizes, [5] * len(numbers), recorded_sizes]


def micro_batch(manifest: Manifest) -> tuple[Any, ...]:
    """Return what a manifest records of the micro-batch, whatever the learner is."""
    received = manifest.counts["received"]
    return manifest.ranges, manifest.offsets, manifest.topic_ids, manifest.rejected_by_reason, received


def test_the_same_options_give_the_same_bits(spark: SparkSession, model: Settings, tmp_path: Path) -> None:
    log = VersionLog(model.model)
    original, repeated = run(spark, model, plan_versions(log), [], tmp_path / "replayed")
    assert repeated.metrics == original.metrics
    assert repeated.directory == tmp_path / "replayed"
    digests = [m.digest for m in manifests_of(model.model)]
    assert [m.digest for m in manifests_of(tmp_path / "replayed")] == digests


def test_a_later_range_starts_with_the_kept_state_if_it_fits(
    spark: SparkSession, model: Settings, tmp_path: Path
) -> None:
    log = VersionLog(model.model)
    plan = plan_versions(log, 4, 6)
    original, faster, sgd = run(spark, model, plan, ["learning_rate=0.02", "optimizer=sgd"], tmp_path / "x")
    assert original.directory == tmp_path / "x" / "original"
    assert original.remarks == faster.remarks == ["starts with the model of version 3"]
    reason = "the state of version 3 does not fit its options"
    assert sgd.remarks == [f"starts with an untrained model: {reason}"]
    assert {o.metrics["rows"] for o in (original, faster, sgd)} == {
        sum(log.manifest(n).counts["trained"] for n in (4, 5, 6))
    }
    # the same options give the same model, with metrics over these rows only
    recorded, replayed = log.read(6).tensors, VersionLog(original.directory).read(3).tensors
    assert all(np.array_equal(recorded[n], replayed[n]) for n in recorded if n.startswith("model."))
    untrained = learn_in_numpy(model, [4, 5, 6], parse_trials(["optimizer=sgd"])[0])
    assert equal(VersionLog(sgd.directory).read(3).tensors, untrained)
    assert VersionLog(faster.directory).manifest(0).offsets == log.manifest(3).offsets
    assert verify(spark, model.kafka, VersionLog(faster.directory)).identical


def test_if_the_version_before_is_pruned_trials_start_with_the_nearest_kept_one(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("pruned", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic, train={"max_offsets_per_trigger": 100})
    fill(broker.options, topic, labeled(600))
    learn(spark, settings)
    log = VersionLog(settings.model)
    kept = log.read(2)
    assert prune_all_but(log, [2, 4]) == [1, 3, 5]
    (outcome, _) = run(spark, settings, plan_versions(log, 4, 5), ["seed=3"], tmp_path / "x")
    assert outcome.remarks == ["starts with the model of version 2, the nearest one that is kept"]
    first = VersionLog(tmp_path / "x" / "original").read(0)
    assert np.array_equal(first.tensors["model.theta"], kept.tensors["model.theta"])
    assert first.manifest.offsets == log.manifest(3).offsets


class Killed(Exception):  # noqa: N818
    pass


@pytest.mark.merge
def test_a_backtest_killed_in_the_middle_of_a_chunk_resumes(
    spark: SparkSession, model: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed between the commits of one version to two logs."""
    log, trials, commits = VersionLog(model.model), ["seed=1", "seed=2"], count()
    append = VersionLog.append

    def append_or_crash(self: VersionLog, version: Version) -> Version:
        if version.number and next(commits) == 5:
            raise Killed
        return append(self, version)

    with monkeypatch.context() as patched:
        patched.setattr(VersionLog, "append", append_or_crash)
        with pytest.raises(Killed):
            run(spark, model, plan_versions(log), trials, tmp_path / "x")
    heads = [VersionLog(tmp_path / "x" / name).head_number() for name in trials]
    assert heads == [3, 2]
    before = [m.written_at for m in manifests_of(tmp_path / "x" / "seed=1")]

    _, *resumed = run(spark, model, plan_versions(log), trials, tmp_path / "x")
    _, *whole = run(spark, model, plan_versions(log), trials, tmp_path / "y")
    assert [o.metrics for o in resumed] == [o.metrics for o in whole]
    for name in trials:
        digests = [[m.digest for m in manifests_of(tmp_path / into / name)] for into in ("x", "y")]
        assert digests[0] == digests[1]
    assert [m.written_at for m in manifests_of(tmp_path / "x" / "seed=1")][: len(before)] == before
    assert check(VersionLog(tmp_path / "x" / "seed=2")) == []

    # a third run has nothing left to do but another trial, which is learned beside the others
    _, *more = run(spark, model, plan_versions(log), [*trials, "seed=3"], tmp_path / "x")
    assert [o.metrics for o in more[:2]] == [o.metrics for o in whole]
    assert verify(spark, model.kafka, VersionLog(tmp_path / "x" / "seed=3")).identical


def test_a_range_that_has_grown_is_resumed(spark: SparkSession, model: Settings, tmp_path: Path) -> None:
    log, last = VersionLog(model.model), VersionLog(model.model).head_number()
    run(spark, model, plan_versions(log, 1, 2), ["seed=1"], tmp_path / "x")
    (_, outcome) = run(spark, model, plan_versions(log), ["seed=1"], tmp_path / "x")
    assert VersionLog(tmp_path / "x").head_number() == last
    assert outcome.counts == rows_of(model.model)
    (original, outcome) = run(spark, model, plan_versions(log, 1, 2), ["seed=1"], tmp_path / "x")
    assert outcome.metrics["rows"] == original.metrics["rows"] == log.manifest(2).metrics["rows"]


def used_directory(content: str, spark: SparkSession, model: Settings, tmp_path: Path) -> Path:
    into = tmp_path / "x"
    if content == "a file":
        into.write_text("")
    elif content == "other files":
        into.mkdir()
        (into / "notes.txt").write_text("")
    elif content == "another model":
        learn(spark, model.model_copy(update={"model": into}))
    elif content == "other trials":
        run(spark, model, plan_versions(VersionLog(model.model), 1, 1), ["seed=8"], into)
    elif content == "other versions":
        run(spark, model, plan_versions(VersionLog(model.model), 2, 2), ["seed=9"], into)
    return into


@pytest.mark.parametrize(
    "content", ["a file", "other files", "another model", "other trials", "other versions"]
)
def test_a_used_directory_is_refused(
    content: str, spark: SparkSession, model: Settings, tmp_path: Path
) -> None:
    into = used_directory(content, spark, model, tmp_path)
    before = sorted(into.rglob("*"))
    plan, trials = plan_versions(VersionLog(model.model)), parse_trials(["seed=9"])
    with pytest.raises(ValueError, match=f"^{into}.*(another directory|must be a directory)") as caught:
        open_trials(plan, trials, into)
    assert "\n" not in str(caught.value)
    assert sorted(into.rglob("*")) == before
    with pytest.raises(ValueError, match="contains other trials"):
        open_trials(plan, trials, model.model)


def test_a_trial_may_have_another_learner(spark: SparkSession, model: Settings, tmp_path: Path) -> None:
    (trial,) = parse_trials(["learner=ensemble,buffer_rows=50"])
    plan = plan_versions(VersionLog(model.model), 1, 3)
    (_, outcome) = run(spark, model, plan, [trial.name], tmp_path / "x")
    assert equal(VersionLog(outcome.directory).read(3).tensors, learn_in_numpy(model, [1, 2, 3], trial))


def test_a_rollback_is_replayed_too(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    topic = broker.topic("back", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic, train={"max_offsets_per_trigger": 200})
    fill(broker.options, topic, labeled(600))
    learn(spark, settings)
    log = VersionLog(settings.model)
    rollback(log, 1)
    fill(broker.options, topic, labeled(300, seed=1))
    learn(spark, settings)
    original, repeated = run(spark, settings, plan_versions(log), [], tmp_path / "replayed")
    assert repeated.metrics == original.metrics
    assert [(m.kind, m.digest) for m in manifests_of(tmp_path / "replayed")] == [
        (m.kind, m.digest) for m in manifests_of(settings.model)
    ]
    assert check(VersionLog(tmp_path / "replayed")) == []
    (_, outcome) = run(spark, settings, plan_versions(log), ["learning_rate=0.1"], tmp_path / "x")
    assert verify(spark, settings.kafka, VersionLog(outcome.directory)).identical
    # what was restored is before the range, so the trial cannot restore it, and continues
    (_, outcome) = run(spark, settings, plan_versions(log, 3), ["seed=1"], tmp_path / "y")
    assert outcome.metrics["rows"] == rows_of(settings.model)["trained"] - 400
    assert verify(spark, settings.kafka, VersionLog(outcome.directory)).identical


def test_a_trainer_resumes_from_a_trial(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    topic = broker.topic("resumed", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic, learner={"learner": "mlp"})
    fill(broker.options, topic, labeled(500))
    learn(spark, settings)
    (_, outcome) = run(
        spark, settings, plan_versions(VersionLog(settings.model)), ["learning_rate=0.05"], tmp_path / "x"
    )
    fill(broker.options, topic, labeled(400, seed=1))
    learn(spark, settings.model_copy(update={"model": outcome.directory}))
    assert rows_of(tmp_path / "x")["trained"] == 900
    assert manifests_of(tmp_path / "x")[-1].learner["learning_rate"] == 0.05
    assert all(seamless(ranges) for ranges in learned_ranges(tmp_path / "x").values())
    assert verify(spark, settings.kafka, VersionLog(tmp_path / "x")).identical


def test_expired_records_and_a_recreated_topic_are_a_data_loss(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("expired")
    settings = settings_of(broker.options, tmp_path / "model", topic, train={"max_offsets_per_trigger": 100})
    fill(broker.options, topic, labeled(300))
    learn(spark, settings)
    client = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    client.delete_records({TopicPartition(topic, 0): 150})
    client.close()
    with pytest.raises(DataLossError, match="from offset 0, and the topic now begins at 150"):
        run(spark, settings, plan_versions(VersionLog(settings.model)), ["seed=1"], tmp_path / "x")
    (_, outcome) = run(
        spark, settings, plan_versions(VersionLog(settings.model), 3), ["seed=1"], tmp_path / "y"
    )
    assert outcome.metrics["rows"] == 100
    admin.delete(broker.options, topic)
    admin.create(broker.options, topic)
    with pytest.raises(DataLossError, match="was recreated"):
        run(spark, settings, plan_versions(VersionLog(settings.model), 3), ["seed=2"], tmp_path / "z")


@pytest.mark.merge
@pytest.mark.usefixtures("oracles")
def test_a_topic_is_cut_in_learning_order(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    """Two partitions with mixed and equal timestamps; in any other order the hashes differ."""
    topic, late = broker.topic("bounds", 2), np.sort(np.random.default_rng(0).integers(0, 300, 390))
    fill(broker.options, topic, numbered(0, 390), timestamps=(START + late).tolist())
    options = {"inputs": 1, "classes": [0, 1]}
    settings = settings_of(
        broker.options,
        tmp_path / "x",
        topic,
        records=options,
        learner={},
        train={"max_offsets_per_trigger": 150},
    )
    plan = plan_topic(spark, settings, topic)
    assert [m.counts["received"] for m in plan.manifests] == [150, 150, 90]
    runs = open_trials(plan, [], tmp_path / "x", lambda options: Chain())
    (outcome,) = run_trials(spark, broker.options, plan, runs, factory=lambda options: Chain())
    assert outcome.directory == tmp_path / "x"
    log = VersionLog(tmp_path / "x")
    digests = [log.read(n).tensors["model.digest"].tobytes() for n in log.numbers()]
    assert digests == expected(broker.options, tmp_path / "x", [topic])
    # micro-batches of another size have the same order
    whole = plan_topic(
        spark, settings_of(broker.options, tmp_path, topic, records=options, learner={}), topic
    )
    one = open_trials(whole, [], tmp_path / "y", lambda options: Chain())
    run_trials(spark, broker.options, whole, one, factory=lambda options: Chain())
    assert VersionLog(tmp_path / "y").read(1).tensors["model.digest"].tobytes() == digests[-1]
    assert log.manifest(3).offsets == admin.ends(broker.options, [topic])


def test_a_late_record_stays_in_the_order_of_its_partition(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("late", 2)
    late = np.random.default_rng(1).integers(0, 300, 400)
    fill(broker.options, topic, labeled(400), timestamps=(START + late).tolist())
    settings = settings_of(broker.options, tmp_path / "x", topic, train={"max_offsets_per_trigger": 64})
    (outcome,) = run(spark, settings, plan_topic(spark, settings, topic), [], tmp_path / "x")
    assert [m.counts["received"] for m in manifests_of(tmp_path / "x")[1:]] == [64] * 6 + [16]
    assert all(seamless(ranges) for ranges in learned_ranges(tmp_path / "x").values())
    assert outcome.metrics["rows"] == 400
    assert verify(spark, settings.kafka, VersionLog(tmp_path / "x")).identical


def test_a_topic_is_learned_with_the_settings_and_each_trial(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("interval", 2)
    fill(broker.options, topic, labeled(600), timestamps=[START + i * 1000 for i in range(600)])
    settings = settings_of(
        broker.options, tmp_path / "none", topic, records={}, train={"max_offsets_per_trigger": 150}
    )
    since, until = (parse_time(f"2023-11-14T22:{m}") for m in (15, 20))  # 100 and 400 s after START
    plan = plan_topic(spark, settings, topic, since, until)
    assert [m.counts["received"] for m in plan.manifests] == [150, 150]
    base, faster = run(spark, settings, plan, ["learning_rate=0.1"], tmp_path / "x")
    assert (base.name, base.directory) == ("settings", tmp_path / "x" / "settings")
    assert faster.directory == tmp_path / "x"
    for outcome in (base, faster):
        assert outcome.counts == {"received": 300, "trained": 300, "skipped": 0, "rejected": 0, "filtered": 0}
        assert verify(spark, settings.kafka, VersionLog(outcome.directory)).identical
    assert VersionLog(base.directory).manifest(1).learner["learning_rate"] != 0.1
    assert not settings.model.exists()


def test_a_topic_that_has_grown_is_learned_up_to_its_first_end(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("grown", 2)
    fill(broker.options, topic, labeled(400))
    settings = settings_of(broker.options, tmp_path / "none", topic, train={"max_offsets_per_trigger": 150})
    directories = trial_directories(Trial({}, "settings"), False, [], tmp_path / "x")
    assert recorded_bounds(directories) is None
    open_trials(plan_topic(spark, settings, topic), [], tmp_path / "x")
    fill(broker.options, topic, labeled(400, seed=1))
    plan = plan_topic(spark, settings, topic, bounds=recorded_bounds(directories))
    (outcome,) = run(spark, settings, plan, [], tmp_path / "x")
    assert outcome.counts["trained"] == 400
    bigger = settings_of(broker.options, tmp_path / "none", topic, train={"max_offsets_per_trigger": 151})
    with pytest.raises(ValueError, match="contains other trials"):
        open_trials(plan_topic(spark, bigger, topic), [], tmp_path / "x")


def test_averaged_versions_are_averaged_again(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    """The default learner, with the mini-batch size that was chosen for each version."""
    topic = broker.topic("averaged", 3)
    settings = settings_of(
        broker.options,
        tmp_path / "model",
        topic,
        learner={"hidden": [4], "buffer_rows": 100},
        train={"update": "averaged", "max_offsets_per_trigger": 300, "mini_batch_cap": 16},
    )
    fill(broker.options, topic, labeled(900))
    learn(spark, settings)
    log = VersionLog(settings.model)
    original, repeated = run(spark, settings, plan_versions(log), [], tmp_path / "replayed")
    assert repeated.metrics == original.metrics
    recorded, replayed = manifests_of(settings.model), manifests_of(tmp_path / "replayed")
    assert [(m.digest, m.update, m.mini_batch_cap, m.learner) for m in recorded] == [
        (m.digest, m.update, m.mini_batch_cap, m.learner) for m in replayed
    ]
    assert {m.update for m in recorded} == {"averaged"}
    _, outcome = run(spark, settings, plan_versions(log), ["eta=0.1"], tmp_path / "x")
    assert verify(spark, settings.kafka, VersionLog(outcome.directory)).identical


@pytest.mark.commit
def test_unknown_options_are_refused_before_anything_is_written(log: VersionLog, tmp_path: Path) -> None:
    trials = parse_trials(["seed=2", "learning_rat=0.1"])
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
        open_trials(plan_versions(log), trials, tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.commit
@pytest.mark.parametrize(
    ("selection", "trials", "message"),
    [
        ({}, ["learning_rat=1"], "did you mean 'learning_rate'"),
        ({}, ["hidden=64,32"], "a list in brackets"),
        ({"first": 6}, [], "versions must be from 1 to 5, the first not after the last; got 6 to 5"),
        ({"until": "2001-01-01"}, [], "no version was written to 2001-01-01T00:00:00"),
        ({"since": "soon"}, [], "a time must be like"),
        ({}, ["seed=4"], "contains 'notes.txt', which is not of these trials"),
    ],
)
def test_a_mistake_is_an_error_before_spark_starts(
    selection: dict[str, Any],
    trials: list[str],
    message: str,
    log: VersionLog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def must_not_start(*given: object) -> Any:
        raise AssertionError("Spark may not start for a mistake")

    monkeypatch.setattr(session, "running", must_not_start)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "notes.txt").touch()
    settings = settings_of({"bootstrap.servers": "127.0.0.1:1"}, log.directory, "t")
    with pytest.raises(ValueError, match=message) as caught:
        backtest.backtest(settings, tmp_path / "x", trials, Selection(**selection))
    assert "\n" not in str(caught.value)
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["notes.txt"]


@pytest.mark.commit
@pytest.mark.parametrize("selection", [{"first": 1, "since": "2026-01-01"}, {"last": 1, "topic": "x"}])
def test_numbers_of_versions_cannot_be_combined_with_times_or_a_topic(selection: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="--from"):
        Selection(**selection)


@pytest.mark.commit
def test_one_trial_has_the_directory_itself_and_several_are_below_it(tmp_path: Path) -> None:
    base, (one, other) = Trial({}, "settings"), parse_trials(["seed=1", "seed=2"])
    assert trial_directories(base, False, [], tmp_path) == [(base, tmp_path)]
    assert trial_directories(base, True, [], tmp_path) == [(Trial({}, "replayed"), tmp_path)]
    assert trial_directories(base, True, [one], tmp_path) == [(one, tmp_path)]
    below = [(trial, tmp_path / trial.name) for trial in (base, one, other)]
    assert trial_directories(base, False, [one], tmp_path) == [below[0], (one, tmp_path)]
    assert trial_directories(base, False, [one, other], tmp_path) == below
    assert trial_directories(base, True, [one, other], tmp_path) == below[1:]


@pytest.mark.commit
def test_a_trial_starts_with_a_version_that_records_what_is_learned(log: VersionLog, tmp_path: Path) -> None:
    plan = plan_versions(log, 3)
    (base, trial) = open_trials(plan, parse_trials(["learning_rate=0.5"]), tmp_path / "x")
    assert (base.log.directory, trial.log.directory) == (tmp_path / "x" / "original", tmp_path / "x")
    first = trial.log.manifest(0)
    assert (first.kind, first.offsets, first.topic_ids) == ("initial", {"t": {0: 20}}, {"t": "id"})
    assert first.learner == log.manifest(2).learner | {"learning_rate": 0.5}
    (event,) = first.events
    assert (event["event"], event["trial"]) == ("backtest", {"learning_rate": 0.5})
    assert event["start"] == "starts with the model of version 2"
    assert first.metrics["rows"] == 0, "metrics are over the plan's rows only"
    recorded, copied = log.read(2).tensors, trial.log.read(0).tensors
    assert all(np.array_equal(recorded[n], copied[n]) for n in recorded if n.startswith("model."))
    (resumed,) = [r for r in open_trials(plan, [trial.trial], tmp_path / "x") if r.trial == trial.trial]
    assert resumed.head.sha256 == trial.log.sha256(0), "a second time it is resumed"


SGD = {"optimizer": "sgd", "learning_rate": 0.1}


@pytest.mark.commit
@pytest.mark.parametrize(
    ("change", "starts"),
    [
        ({"members": [{**SGD, "hidden": [9]}, {**SGD, "hidden": [5]}]}, "starts with an untrained model: "),
        ({"activation": "tanh"}, "starts with the model of version 1"),
        ({"eta": 0.5}, "starts with the model of version 1"),
    ],
    ids=str,
)
def test_a_trial_of_members_in_another_order_starts_with_an_untrained_model(
    change: dict[str, Any], starts: str, tmp_path: Path
) -> None:
    members = [{**SGD, "hidden": [units]} for units in (5, 9)]
    learner = learner_from({"inputs": 3, "classes": [0, 1], "members": members})
    log, tensors = VersionLog(tmp_path / "model"), flatten(initial(learner))
    options, schema = learner.options(), SCHEMA.options()
    head = log.commit(None, tensors, learner=options, schema=schema, offsets={"t": {0: 0}})
    counts = {"received": 1, "trained": 1, "skipped": 0, "rejected": 0, "filtered": 0}
    for number in (1, 2):
        ranges = {"t": {0: (number - 1, number)}}
        head = log.commit(head, tensors, offsets={"t": {0: number}}, ranges=ranges, counts=counts)
    *_, trial = open_trials(plan_versions(log, 2), [Trial(change, "changed")], tmp_path / "x")
    assert trial.log.manifest(0).events[0]["start"].startswith(starts)
