"""ReplayPlan learned again with other options, on a real broker and a real Spark."""

import json
from pathlib import Path
from typing import Any

import filling
import numpy as np
import pytest
from filling import fill, labeled, learn, learned_ranges, read, records_of, rows_of, seamless
from kafka import KafkaAdminClient, TopicPartition
from numbered import expected, numbered
from oracles import Chain
from pyspark.sql import SparkSession

from streaming_nn.errors import DataLossError
from streaming_nn.kafka import admin
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, initial, report, test_then_train
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.decode import decode
from streaming_nn.records.schema import schema_from
from streaming_nn.settings import Settings
from streaming_nn.spark.replay.backtest import open_trials, recorded_bounds, run_trials, trial_directories
from streaming_nn.spark.replay.plan import ReplayPlan, parse_time, plan_topic, plan_versions
from streaming_nn.spark.replay.trials import Outcome, Trial, parse_trials
from streaming_nn.spark.replay.verify import verify
from streaming_nn.versions.diff import diff
from streaming_nn.versions.repair import check
from streaming_nn.versions.retention import prune
from streaming_nn.versions.rollback import rollback
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.nightly  # together they take minutes, on one Spark session

RATES = ["learning_rate=0.01", "optimizer=sgd,learning_rate=0.1,mini_batch=5", "hidden=[4]"]
MLP = {"learner": "mlp", "hidden": [8]}
BEGAN = 1_700_000_000_000  # milliseconds


def settings_of(kafka: dict[str, str], model: Path, topic: str, **sections: Any) -> Settings:
    """Settings for the plain network, whose options these tests try."""
    return filling.settings_of(kafka, model, topic, **{"learner": MLP, **sections})


@pytest.fixture(scope="module")
def model(spark: SparkSession, broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model of three partitions, with bad records, whose mini-batch size has changed on its way."""
    topic = broker.topic("past", 3)
    settings = settings_of(
        broker.options,
        tmp_path_factory.mktemp("past") / "model",
        topic,
        learner=MLP | {"mini_batch": 32},
        train={"max_offsets_per_trigger": 300},
    )
    fill(broker.options, topic, [*labeled(900), b"{", b"nothing"])
    learn(spark, settings)
    fill(broker.options, topic, labeled(900, seed=1))
    learn(spark, settings.model_copy(update={"learner": MLP | {"mini_batch": 7}}))
    return settings


def again(
    spark: SparkSession, settings: Any, plan: ReplayPlan, texts: list[str], into: Path, **options: Any
) -> list[Outcome]:
    runs = open_trials(plan, parse_trials(texts), into)
    return run_trials(spark, settings.kafka, plan, runs, **options)


def in_numpy(settings: Any, numbers: list[int], each: Trial, start: Any = None) -> Any:
    """The state after these versions, with the records as a plain client reads them."""
    log, topic = VersionLog(settings.model), settings.train.topics[0]
    records, state = read(settings.kafka, topic), start
    for number in numbers:
        version = log.manifest(number)
        learner = learner_from(each.options(version.learner))
        ranges = version.ranges[topic]
        own = [r for r in records if ranges[r.partition][0] <= r.offset < ranges[r.partition][1]]
        own.sort(key=lambda r: (r.timestamp, r.partition, r.offset))
        rows = decode(schema_from(version.schema), [r.value for r in own], labeled=True)
        assert rows.y is not None
        state = initial(learner) if state is None else state
        state, _ = test_then_train(learner, state, [Batch(rows.x, rows.y)])
    return state


def same(tensors: dict[str, Any], state: Any) -> bool:
    """Whether each tensor is the same to the bit."""
    other = flatten(state)
    return tensors.keys() == other.keys() and all(np.array_equal(tensors[n], other[n]) for n in other)


def test_each_try_is_what_numpy_makes_of_the_same_micro_batches(
    spark: SparkSession, model: Any, tmp_path: Path
) -> None:
    log = VersionLog(model.model)
    sizes = {r.learner["mini_batch"] for r in records_of(model.model)[1:]}
    assert sizes == {7, 32}, "the recorded sizes must differ, or the test proves little"
    numbers = log.numbers()[1:]
    outcomes = again(spark, model, plan_versions(log), RATES, tmp_path / "trials")

    original, *others = outcomes
    assert (original.name, original.directory) == ("original", model.model)
    assert original.metrics == log.manifest(numbers[-1]).metrics
    assert [o.name for o in others] == [each.name for each in parse_trials(RATES)]
    assert {json.dumps(o.counts) for o in outcomes} == {json.dumps(rows_of(model.model))}
    for outcome, each in zip(others, parse_trials(RATES), strict=True):
        assert outcome.directory == tmp_path / "trials" / each.name
        own = VersionLog(outcome.directory)
        state = in_numpy(model, numbers, each)
        assert same(own.read(numbers[-1]).tensors, state)
        assert outcome.metrics == report(learner_from(each.options(log.manifest(1).learner)), state)
        assert check(own) == []
        assert verify(spark, model.kafka, own).identical
        assert diff(own, 0, numbers[-1])["thinned"] == []
        for n in numbers:
            there, here = log.manifest(n), own.manifest(n)
            assert (
                there.ranges,
                there.offsets,
                there.topic_ids,
                there.rejected_by_reason,
                there.counts["received"],
            ) == (
                here.ranges,
                here.offsets,
                here.topic_ids,
                here.rejected_by_reason,
                here.counts["received"],
            )
            assert here.events[0] == {"event": "replayed", "from": {"model": str(model.model)}, "version": n}
    kept = [log.manifest(n).learner["mini_batch"] for n in numbers]
    tried = [[VersionLog(o.directory).manifest(n).learner["mini_batch"] for n in numbers] for o in others]
    assert tried == [kept, [5] * len(kept), kept]


def test_the_same_options_give_the_same_bits(spark: SparkSession, model: Any, tmp_path: Path) -> None:
    log = VersionLog(model.model)
    original, repeated = again(spark, model, plan_versions(log), [], tmp_path / "again")
    assert repeated.metrics == original.metrics
    assert repeated.directory == tmp_path / "again"
    digests = [r.digest for r in records_of(model.model)]
    assert [r.digest for r in records_of(tmp_path / "again")] == digests


def test_a_later_range_begins_with_the_kept_state_where_it_fits(
    spark: SparkSession, model: Any, tmp_path: Path
) -> None:
    log = VersionLog(model.model)
    plan = plan_versions(log, 4, 6)
    original, faster, sgd = again(spark, model, plan, ["learning_rate=0.02", "optimizer=sgd"], tmp_path / "x")
    assert original.directory == tmp_path / "x" / "original"
    assert original.remarks == faster.remarks == ["begins as version 3's model"]
    assert sgd.remarks == ["begins as a new model: version 3's state doesn't fit its options"]
    assert {o.metrics["rows"] for o in (original, faster, sgd)} == {
        sum(log.manifest(n).counts["trained"] for n in (4, 5, 6))
    }
    # the original again is the original: the same model, and metrics over these rows only
    there, here = log.read(6).tensors, VersionLog(original.directory).read(3).tensors
    assert all(np.array_equal(there[n], here[n]) for n in there if n.startswith("model."))
    fresh = in_numpy(model, [4, 5, 6], parse_trials(["optimizer=sgd"])[0])
    assert same(VersionLog(sgd.directory).read(3).tensors, fresh)
    assert VersionLog(faster.directory).manifest(0).offsets == log.manifest(3).offsets
    assert verify(spark, model.kafka, VersionLog(faster.directory)).identical


def test_a_start_that_is_thinned_is_the_nearest_that_is_kept(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("stubs", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic, train={"max_offsets_per_trigger": 100})
    fill(broker.options, topic, labeled(600))
    learn(spark, settings)
    log = VersionLog(settings.model)
    kept = log.read(2)
    assert prune(log, 1, every=2) == [1, 3, 5]
    (outcome, _) = again(spark, settings, plan_versions(log, 4, 5), ["seed=3"], tmp_path / "x")
    assert outcome.remarks == ["begins as version 2's model, the nearest one that is kept"]
    first = VersionLog(tmp_path / "x" / "original").read(0)
    assert np.array_equal(first.tensors["model.theta"], kept.tensors["model.theta"])
    assert first.manifest.offsets == log.manifest(3).offsets


def test_a_range_of_time_is_of_the_moments_at_which_versions_were_written(model: Any) -> None:
    log = VersionLog(model.model)
    at = [parse_time(r.written_at) for r in records_of(model.model)]
    assert [r.number for r in plan_versions(log, since=at[2], until=at[5]).records] == [2, 3, 4]
    assert [r.number for r in plan_versions(log, until=at[3]).records] == [1, 2]
    with pytest.raises(ValueError, match="no version was written from 2001-01-01T00:00:00") as caught:
        plan_versions(log, since=parse_time("2001-01-01"), until=parse_time("2001-01-02"))
    assert "\n" not in str(caught.value)
    for first, last in ((0, 1), (3, 2), (1, 999)):
        with pytest.raises(ValueError, match=f"got {first} to {last}"):
            plan_versions(log, first, last)


class Killed(Exception):  # noqa: N818
    pass


def test_a_run_that_was_killed_goes_on_after_its_last_version(
    spark: SparkSession, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of a chunk, between the two logs of one version."""
    log, texts, count = VersionLog(model.model), ["seed=1", "seed=2"], iter(range(100))
    append = VersionLog.append

    def dies(self: VersionLog, version: Any) -> str:
        if version.number and next(count) == 5:
            raise Killed
        return append(self, version)

    with monkeypatch.context() as patched:
        patched.setattr(VersionLog, "append", dies)
        with pytest.raises(Killed):
            again(spark, model, plan_versions(log), texts, tmp_path / "x")
    heads = [VersionLog(tmp_path / "x" / name).head_number() for name in texts]
    assert heads == [3, 2]
    before = [r.written_at for r in records_of(tmp_path / "x" / "seed=1")]

    _, *broken = again(spark, model, plan_versions(log), texts, tmp_path / "x")
    _, *whole = again(spark, model, plan_versions(log), texts, tmp_path / "y")
    assert [o.metrics for o in broken] == [o.metrics for o in whole]
    for name in texts:
        ours, theirs = records_of(tmp_path / "x" / name), records_of(tmp_path / "y" / name)
        assert [r.digest for r in ours] == [r.digest for r in theirs]
    assert [r.written_at for r in records_of(tmp_path / "x" / "seed=1")][: len(before)] == before
    assert check(VersionLog(tmp_path / "x" / "seed=2")) == []

    # a third time there is nothing to do; a try more is learned beside what is there
    _, *more = again(spark, model, plan_versions(log), [*texts, "seed=3"], tmp_path / "x")
    assert [o.metrics for o in more[:2]] == [o.metrics for o in whole]
    assert verify(spark, model.kafka, VersionLog(tmp_path / "x" / "seed=3")).identical


def test_a_range_that_has_grown_is_gone_on_with(spark: SparkSession, model: Any, tmp_path: Path) -> None:
    log, last = VersionLog(model.model), VersionLog(model.model).head_number()
    again(spark, model, plan_versions(log, 1, 2), ["seed=1"], tmp_path / "x")
    (_, outcome) = again(spark, model, plan_versions(log), ["seed=1"], tmp_path / "x")
    assert VersionLog(tmp_path / "x").head_number() == last
    assert outcome.counts == rows_of(model.model)
    (original, outcome) = again(spark, model, plan_versions(log, 1, 2), ["seed=1"], tmp_path / "x")
    assert outcome.metrics["rows"] == original.metrics["rows"] == log.manifest(2).metrics["rows"]


def holding(tmp_path: Path, what: str, spark: SparkSession, model: Any) -> Path:
    into = tmp_path / "x"
    if what == "a file":
        into.write_text("")
    elif what == "other files":
        into.mkdir()
        (into / "notes.txt").write_text("")
    elif what == "another model":
        settings = model.model_copy(update={"model": into})
        learn(spark, settings)
    elif what == "other tries":
        again(spark, model, plan_versions(VersionLog(model.model), 1, 1), ["seed=8"], into)
    elif what == "other versions":
        again(spark, model, plan_versions(VersionLog(model.model), 2, 2), ["seed=9"], into)
    return into


@pytest.mark.parametrize("what", ["a file", "other files", "another model", "other tries", "other versions"])
def test_a_directory_that_holds_something_else_is_refused(
    what: str, spark: SparkSession, model: Any, tmp_path: Path
) -> None:
    into = holding(tmp_path, what, spark, model)
    before = sorted(into.rglob("*"))
    with pytest.raises(ValueError, match=f"^{into}") as caught:
        open_trials(plan_versions(VersionLog(model.model)), parse_trials(["seed=9"]), into)
    assert "\n" not in str(caught.value)
    assert sorted(into.rglob("*")) == before
    with pytest.raises(ValueError, match="holds something else"):
        open_trials(plan_versions(VersionLog(model.model)), parse_trials(["seed=9"]), model.model)


def test_an_option_that_is_not_known_is_refused_before_anything_is_written(
    model: Any, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
        open_trials(
            plan_versions(VersionLog(model.model)),
            parse_trials(["seed=2", "learning_rat=0.1"]),
            tmp_path / "x",
        )
    assert not (tmp_path / "x").exists()


def test_another_learner_is_tried(spark: SparkSession, model: Any, tmp_path: Path) -> None:
    each = parse_trials(["learner=ensemble,buffer_rows=50"])
    (_, outcome) = again(
        spark, model, plan_versions(VersionLog(model.model), 1, 3), [each[0].name], tmp_path / "x"
    )
    assert same(VersionLog(outcome.directory).read(3).tensors, in_numpy(model, [1, 2, 3], each[0]))


def test_a_rollback_is_a_part_of_history(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    topic = broker.topic("back", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic, train={"max_offsets_per_trigger": 200})
    fill(broker.options, topic, labeled(600))
    learn(spark, settings)
    log = VersionLog(settings.model)
    rollback(log, 1)
    fill(broker.options, topic, labeled(300, seed=1))
    learn(spark, settings)
    original, repeated = again(spark, settings, plan_versions(log), [], tmp_path / "again")
    assert repeated.metrics == original.metrics
    assert [(r.kind, r.digest) for r in records_of(tmp_path / "again")] == [
        (r.kind, r.digest) for r in records_of(settings.model)
    ]
    assert check(VersionLog(tmp_path / "again")) == []
    (_, outcome) = again(spark, settings, plan_versions(log), ["learning_rate=0.1"], tmp_path / "x")
    assert verify(spark, settings.kafka, VersionLog(outcome.directory)).identical
    # what it goes back to is before the range: the try has nothing to go back to, and goes on
    (_, outcome) = again(spark, settings, plan_versions(log, 3), ["seed=1"], tmp_path / "y")
    assert outcome.metrics["rows"] == rows_of(settings.model)["trained"] - 400
    assert verify(spark, settings.kafka, VersionLog(outcome.directory)).identical


def test_a_trainer_goes_on_from_a_try(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    topic = broker.topic("on", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic, learner={"learner": "mlp"})
    fill(broker.options, topic, labeled(500))
    learn(spark, settings)
    (_, outcome) = again(
        spark, settings, plan_versions(VersionLog(settings.model)), ["learning_rate=0.05"], tmp_path / "x"
    )
    fill(broker.options, topic, labeled(400, seed=1))
    learn(spark, settings.model_copy(update={"model": outcome.directory}))
    assert rows_of(tmp_path / "x")["trained"] == 900
    assert records_of(tmp_path / "x")[-1].learner["learning_rate"] == 0.05
    assert all(seamless(ranges) for ranges in learned_ranges(tmp_path / "x").values())
    assert verify(spark, settings.kafka, VersionLog(tmp_path / "x")).identical


def test_records_that_are_gone_are_a_loss(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    topic = broker.topic("gone")
    settings = settings_of(broker.options, tmp_path / "model", topic, train={"max_offsets_per_trigger": 100})
    fill(broker.options, topic, labeled(300))
    learn(spark, settings)
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.delete_records({TopicPartition(topic, 0): 150})
    admin.close()
    with pytest.raises(DataLossError, match="from offset 0, and the topic now begins at 150"):
        again(spark, settings, plan_versions(VersionLog(settings.model)), ["seed=1"], tmp_path / "x")
    (_, outcome) = again(
        spark, settings, plan_versions(VersionLog(settings.model), 3), ["seed=1"], tmp_path / "y"
    )
    assert outcome.metrics["rows"] == 100
    admin.delete(broker.options, topic)
    admin.create(broker.options, topic)
    with pytest.raises(DataLossError, match="was made again"):
        again(spark, settings, plan_versions(VersionLog(settings.model), 3), ["seed=2"], tmp_path / "z")


@pytest.mark.usefixtures("oracles")
def test_a_topic_is_cut_in_the_one_order(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    """Two partitions of mixed and of equal times; the chain of hashes tells any other order."""
    topic, late = broker.topic("bounds", 2), np.sort(np.random.default_rng(0).integers(0, 300, 1300))
    fill(broker.options, topic, numbered(0, 1300), timestamps=(BEGAN + late).tolist())
    options = {"inputs": 1, "classes": [0, 1]}
    settings = settings_of(
        broker.options,
        tmp_path / "x",
        topic,
        records=options,
        learner={},
        train={"max_offsets_per_trigger": 500},
    )
    plan = plan_topic(spark, settings, topic)
    assert [r.counts["received"] for r in plan.manifests] == [500, 500, 300]
    runs = open_trials(plan, [], tmp_path / "x", lambda options: Chain())
    (outcome,) = run_trials(spark, broker.options, plan, runs, factory=lambda options: Chain())
    assert outcome.directory == tmp_path / "x"
    log = VersionLog(tmp_path / "x")
    found = [log.read(n).tensors["model.digest"].tobytes() for n in log.numbers()]
    assert found == expected(broker.options, tmp_path / "x", [topic])
    # cut anew in any way, it is the whole topic in the one order
    whole = plan_topic(
        spark, settings_of(broker.options, tmp_path, topic, records=options, learner={}), topic
    )
    one = open_trials(whole, [], tmp_path / "y", lambda options: Chain())
    run_trials(spark, broker.options, whole, one, factory=lambda options: Chain())
    assert VersionLog(tmp_path / "y").read(2).tensors["model.digest"].tobytes() == found[-1]
    assert log.manifest(3).offsets == admin.ends(broker.options, [topic])


def test_a_record_that_comes_late_stays_in_its_partitions_order(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("late", 2)
    late = np.random.default_rng(1).integers(0, 300, 400)
    fill(broker.options, topic, labeled(400), timestamps=(BEGAN + late).tolist())
    settings = settings_of(broker.options, tmp_path / "x", topic, train={"max_offsets_per_trigger": 64})
    (outcome,) = again(spark, settings, plan_topic(spark, settings, topic), [], tmp_path / "x")
    assert [r.counts["received"] for r in records_of(tmp_path / "x")[1:]] == [64] * 6 + [16]
    assert all(seamless(ranges) for ranges in learned_ranges(tmp_path / "x").values())
    assert outcome.metrics["rows"] == 400
    assert verify(spark, settings.kafka, VersionLog(tmp_path / "x")).identical


def test_a_topic_is_learned_with_the_settings_and_each_try(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("fresh", 2)
    fill(broker.options, topic, labeled(600), timestamps=[BEGAN + i * 1000 for i in range(600)])
    settings = settings_of(
        broker.options, tmp_path / "none", topic, records={}, train={"max_offsets_per_trigger": 150}
    )
    since, until = (parse_time(f"2023-11-14T22:{m}") for m in (15, 20))  # 100 and 400 s after it began
    plan = plan_topic(spark, settings, topic, since, until)
    assert [r.counts["received"] for r in plan.manifests] == [150, 150]
    assert plan.manifests[0].ranges == {topic: {0: (50, 125), 1: (50, 125)}}
    own, tried = again(spark, settings, plan, ["learning_rate=0.1"], tmp_path / "x")
    assert (own.name, own.directory) == ("settings", tmp_path / "x" / "settings")
    assert tried.directory == tmp_path / "x"
    for outcome in (own, tried):
        assert outcome.counts == {"received": 300, "trained": 300, "skipped": 0, "rejected": 0}
        assert verify(spark, settings.kafka, VersionLog(outcome.directory)).identical
    assert VersionLog(own.directory).manifest(1).learner["learning_rate"] != 0.1
    assert not settings.model.exists()
    with pytest.raises(ValueError, match=f"topic '{topic}' holds no record from 2033"):
        plan_topic(spark, settings, topic, parse_time("2033-01-01"))


def test_a_topic_that_has_grown_is_learned_up_to_where_it_ended(
    spark: SparkSession, broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = broker.topic("grown", 2)
    fill(broker.options, topic, labeled(400))
    settings = settings_of(broker.options, tmp_path / "none", topic, train={"max_offsets_per_trigger": 150})
    found = trial_directories(Trial({}, "settings"), False, [], tmp_path / "x")
    assert recorded_bounds(found) is None
    open_trials(plan_topic(spark, settings, topic), [], tmp_path / "x")
    fill(broker.options, topic, labeled(400, seed=1))
    plan = plan_topic(spark, settings, topic, bounds=recorded_bounds(found))
    (outcome,) = again(spark, settings, plan, [], tmp_path / "x")
    assert outcome.counts["trained"] == 400
    bigger = settings_of(broker.options, tmp_path / "none", topic, train={"max_offsets_per_trigger": 151})
    with pytest.raises(ValueError, match="holds something else"):
        open_trials(plan_topic(spark, bigger, topic), [], tmp_path / "x")


def test_what_was_averaged_is_averaged_again(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    """And the mini-batch that was chosen for each version is its own again, with the default learner."""
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
    original, repeated = again(spark, settings, plan_versions(log), [], tmp_path / "again")
    assert repeated.metrics == original.metrics
    there, here = records_of(settings.model), records_of(tmp_path / "again")
    assert [(r.digest, r.update, r.mini_batch_cap, r.learner) for r in there] == [
        (r.digest, r.update, r.mini_batch_cap, r.learner) for r in here
    ]
    assert {r.update for r in there} == {"averaged"}
    _, outcome = again(spark, settings, plan_versions(log), ["eta=0.1"], tmp_path / "x")
    assert verify(spark, settings.kafka, VersionLog(outcome.directory)).identical


def test_classes_that_grow_are_not_tried_on_a_topic(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    topic = broker.topic("growing")
    fill(broker.options, topic, labeled(200))
    settings = settings_of(broker.options, tmp_path, topic, records={"inputs": 3, "classes": "grow"})
    with pytest.raises(ValueError, match="can't be tried with classes or categories that grow"):
        plan_topic(spark, settings, topic)
