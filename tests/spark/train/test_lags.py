"""Records of series on a real broker: crashes, a replay, a scorer and a backtest have the same rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kafka_topics import fill, learn, manifests_of, read, settings_of
from lagged_records import encoded, inputs, readings
from numpy.testing import assert_array_equal
from pyspark.sql import SparkSession

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, initial, load_state, test_then_train
from streaming_nn.nn.state_dict import flatten
from streaming_nn.settings import Settings
from streaming_nn.spark import failpoints
from streaming_nn.spark.replay.backtest import open_trials, run_trials
from streaming_nn.spark.replay.plan import plan_versions
from streaming_nn.spark.replay.trials import parse_trials
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.score import scorer as scorer_module
from streaming_nn.spark.score.scorer import Scorer
from streaming_nn.spark.train.executor import TaskExecutor
from streaming_nn.spark.train.trainer import Trainer
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge

ROWS, BATCH = 600, 120
RECORDS = {
    "features": ["hour", "heat"],
    "label": "load",
    "regression": True,
    "lags": {"load": [1, 3], "heat": [1]},
    "series": "meter",
}


def settings_for(broker: Any, model: Path, topic: str, **more: Any) -> Settings:
    learner = {"learner": "mlp", "hidden": [8], "mini_batch": 8}
    train = {"max_offsets_per_trigger": BATCH}
    return settings_of(broker.options, model, topic, records=RECORDS, learner=learner, train=train, **more)


@pytest.fixture
def topic(broker: Any) -> str:
    """Return a topic of two partitions with the readings in turn, and a record without a meter at the end."""
    frame, name = readings(ROWS), broker.topic("meters", 2)
    bad = json.dumps({"hour": 1, "heat": 2, "load": 3}).encode()
    fill(broker.options, name, [*encoded(frame), bad], timestamps=[*(at := frame["at"].tolist()), at[-1]])
    return name


def learned_rows(broker: Any, topic: str, model: Path) -> pd.DataFrame:
    """Return the records in the order in which the versions learned them, by a client without Spark."""
    found = [
        {"at": r.timestamp, "partition": r.partition, "offset": r.offset, **json.loads(r.value)}
        for r in read(broker.options, topic)
    ]
    frame = pd.DataFrame(found).dropna(subset="meter")
    frame["version"] = 0
    for manifest in manifests_of(model):
        for partition, (begin, end) in manifest.ranges.get(topic, {}).items():
            inside = (frame.partition == partition) & frame.offset.between(begin, end - 1)
            assert (frame[inside].version == 0).all()
            frame.loc[inside, "version"] = manifest.number
    return frame.sort_values(["version", "at", "partition", "offset"]).reset_index(drop=True)


def check_series(broker: Any, topic: str, model: Path) -> None:
    """Compare the head's series with all records, grouped by pandas."""
    frame, head = learned_rows(broker, topic, model), VersionLog(model).head()
    assert head is not None
    assert len(frame) == ROWS
    assert (frame.version > 0).all()
    groups = frame.groupby("meter")
    newest = {name: group[["load", "heat"]].to_numpy()[::-1][:3] for name, group in groups}
    found = {tuple(values[0]): values for values in head.tensors["series.values"]}
    assert found.keys() == {tuple(values[0]) for values in newest.values()}
    for values in newest.values():
        assert_array_equal(found[tuple(values[0])], values)
    assert sorted(head.tensors["series.times"]) == sorted(groups["at"].max())


@pytest.mark.smoke
def test_after_a_crash_at_each_step_the_series_are_those_of_all_records(
    spark: SparkSession, broker: Any, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(broker, tmp_path / "model", topic)
    for point in failpoints.POINTS:
        monkeypatch.setenv(failpoints.VARIABLE, f"{point}:2:{failpoints.RAISE}")
        with pytest.raises(failpoints.SimulatedCrash, match=point):
            learn(spark, settings)
    monkeypatch.delenv(failpoints.VARIABLE)
    learn(spark, settings)
    check_series(broker, topic, settings.model)
    log = VersionLog(settings.model)
    assert verify(spark, broker.options, log).identical
    reasons: dict[str, int] = {}
    for manifest in manifests_of(settings.model):
        reasons |= manifest.rejected_by_reason
    assert reasons == {"series missing: meter": 1}

    tasks = settings.model_copy(update={"model": tmp_path / "tasks"})
    trainer = Trainer.open(spark, tasks, executor=TaskExecutor(spark))
    trainer.start()
    trainer.wait()
    assert verify(spark, broker.options, VersionLog(tasks.model)).identical
    check_series(broker, topic, tasks.model)

    plan = plan_versions(log, 2)
    runs = open_trials(plan, parse_trials(["mini_batch=8", "learning_rate=0.1"]), tmp_path / "trials")
    run_trials(spark, broker.options, plan, runs)
    head = log.head()
    assert head is not None
    same, other = (run.log.read(run.head.number) for run in runs[-2:])
    for name, tensor in head.tensors.items():
        if name.startswith("series."):
            assert_array_equal(other.tensors[name], tensor, err_msg=name)
        if name.startswith(("series.", "model.")):
            assert_array_equal(same.tensors[name], tensor, err_msg=name)
    assert not np.array_equal(other.tensors["model.theta"], head.tensors["model.theta"])


@pytest.mark.parametrize("records_here", [5_000, -1], ids=["driver", "tasks"])
def test_a_scorer_predicts_as_of_the_version(
    spark: SparkSession,
    broker: Any,
    topic: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    records_here: int,
) -> None:
    monkeypatch.setattr(scorer_module, "DRIVER_RECORDS", records_here)
    score = {"topic": broker.topic("unlabeled"), "predictions": broker.topic("predictions"), "once": True}
    settings = settings_for(broker, tmp_path / "model", topic, score=score)
    learn(spark, settings)
    past = learned_rows(broker, topic, settings.model)
    frame = readings(50, seed=1)
    frame["at"] += past["at"].max() + 5_000 - frame["at"].min()
    fill(broker.options, score["topic"], encoded(frame.drop(columns="load")), timestamps=frame["at"].tolist())
    scorer = Scorer.open(spark, settings)
    scorer.start()
    scorer.wait()
    scorer.stop()

    version = VersionLog(settings.model).head()
    assert version is not None
    learner = learner_from(version.manifest.learner)
    x = np.concatenate([inputs(pd.concat([past, frame[i : i + 1]]))[-1:] for i in range(len(frame))])
    expected = learner.predict(load_state(learner, version.tensors).model, x)[:, 0].astype(np.float64)
    values = [json.loads(r.value) for r in read(broker.options, score["predictions"])]
    found = {each["offset"]: each["prediction"] for each in values}
    assert [found[offset] for offset in sorted(found)] == expected.tolist()


def test_rows_of_files_have_the_times_of_their_column(spark: SparkSession, tmp_path: Path) -> None:
    frame = readings(200)
    timed = frame.drop(columns="at").assign(timestamp=pd.to_datetime(frame["at"], unit="ms", utc=True))
    (tmp_path / "in").mkdir()
    timed.to_parquet(tmp_path / "in" / "a.parquet", coerce_timestamps="ms")
    source = {"format": "parquet", "options": {"path": str(tmp_path / "in")}}
    learner = {"learner": "mlp", "hidden": [8], "mini_batch": 8}
    model = tmp_path / "model"
    learn(spark, Settings(model=model, records=RECORDS, learner=learner, source=source, train={"once": True}))
    head = VersionLog(model).head()
    assert head is not None
    by_hand = learner_from(head.manifest.learner)
    state, _ = test_then_train(by_hand, initial(by_hand), [Batch(inputs(frame), frame.load.to_numpy())])
    for name, tensor in flatten(state.model).items():
        assert_array_equal(head.tensors[f"model.{name}"], tensor, err_msg=name)
    assert sorted(head.tensors["series.times"]) == sorted(frame.groupby("meter")["at"].max())
