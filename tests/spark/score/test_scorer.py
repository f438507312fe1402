"""The scorer on a real broker: every record has one answer, of the version that was the newest."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filling import fill, labeled, learn, read, rows, settings_of, unlabeled
from pyspark.sql import SparkSession

from streaming_nn.errors import DamagedVersionError
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import initial
from streaming_nn.nn.state_dict import unflatten
from streaming_nn.settings import Settings
from streaming_nn.spark.score.scorer import Scorer
from streaming_nn.versions.version_log import VersionLog

PLACE = ("topic", "partition", "offset")


def answers(settings: Settings) -> dict[tuple[str, int, int], tuple[bytes | None, dict[str, Any]]]:
    """Give key and answer of each place; every place has just one."""
    found = [(r.key, json.loads(r.value)) for r in read(settings.kafka, settings.score.predictions)]
    places = Counter(tuple(answer[name] for name in PLACE) for _, answer in found)
    assert set(places.values()) <= {1}, "a run that wasn't interrupted answers once"
    return {tuple(answer[name] for name in PLACE): (key, answer) for key, answer in found}


def probabilities(model: Path, number: int, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a version answers, without Spark."""
    version = VersionLog(model).read(number)
    learner = learner_from(version.manifest.learner)
    return learner.predict(unflatten(initial(learner), version.tensors).model, x)


@pytest.fixture
def settings(broker: Any, tmp_path: Path) -> Settings:
    topic = broker.topic("known")
    score = {"topic": broker.topic("asked", 2), "predictions": broker.topic("predictions", 2)}
    fill(broker.options, topic, labeled(1000))
    return settings_of(
        broker.options, tmp_path / "model", topic, score={**score, "trigger": "100 milliseconds"}
    )


@pytest.mark.parametrize("few", [pytest.param(0, marks=pytest.mark.slow, id="by ours"), 1000])
def test_every_record_is_answered_once(
    spark: SparkSession, settings: Settings, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr("streaming_nn.spark.score.scorer.FEW", few)
    kafka, asked = settings.kafka, settings.score.topic
    learn(spark, settings)
    first = VersionLog(settings.model).head_number()
    assert first is not None
    keys = [f"k{i}".encode() if i % 3 else None for i in range(60)]
    fill(kafka, asked, [*unlabeled(60), b"what?"], keys=[*keys, b"bad"])
    scorer = Scorer(spark, settings)
    scorer.start()
    try:
        scorer.drain()
        before = answers(settings)
        fill(kafka, settings.train.topics[0], labeled(500, seed=1))
        learn(spark, settings)  # a newer version, while the scorer goes on
        fill(kafka, asked, unlabeled(20, seed=2), keys=[b"new"] * 20)
        scorer.drain()
    finally:
        scorer.stop()
    newest = VersionLog(settings.model).head_number()
    assert newest is not None
    assert newest > first
    after = answers(settings)

    records = {(r.topic, r.partition, r.offset): r for r in read(kafka, asked)}
    assert set(after) == set(records)
    assert all(after[place][0] == records[place].key for place in records)
    assert {a["version"] for _, a in before.values()} == {first}
    assert {a["version"] for key, a in after.values() if key == b"new"} == {newest}
    for number, some in ((first, before), (newest, {p: a for p, a in after.items() if a[0] == b"new"})):
        digest = VersionLog(settings.model).manifest(number).digest
        readable = {p: a for p, (_, a) in some.items() if "error" not in a}
        x = np.array([json.loads(records[p].value)["features"] for p in readable], np.float32)
        wanted = probabilities(settings.model, number, x)
        given = np.array([a["probabilities"] for a in readable.values()])
        np.testing.assert_allclose(given, wanted, atol=2e-6)
        for answer, output in zip(readable.values(), wanted, strict=True):
            assert answer["prediction"] == int(output.argmax())
            assert answer["digest"] == digest[:12]
            assert answer["age_records"] == 0
            assert answer["age_seconds"] > 0
            assert answer["stale"] is False
    ((_, bad),) = [a for a in after.values() if a[0] == b"bad"]
    assert bad["prediction"] is None
    assert bad["error"] == "not JSON"
    assert bad["version"] == first

    truth = dict(zip(unlabeled(20, seed=2), rows(20, seed=2)[1].tolist(), strict=True))
    new = [(records[p].value, a["prediction"]) for p, (key, a) in after.items() if key == b"new"]
    assert np.mean([truth[value] == prediction for value, prediction in new]) > 0.7


@pytest.mark.parametrize("few", [pytest.param(0, marks=pytest.mark.slow, id="by ours"), 1000])
def test_a_second_scorer_goes_on_where_the_first_ended(
    spark: SparkSession, settings: Settings, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr("streaming_nn.spark.score.scorer.FEW", few)
    learn(spark, settings)
    for seed in (0, 1):
        fill(settings.kafka, settings.score.topic, unlabeled(15, seed))
        scorer = Scorer(
            spark, settings.model_copy(update={"score": settings.score.model_copy(update={"once": True})})
        )
        scorer.start()
        scorer.wait()
        assert len(answers(settings)) == 15 * (seed + 1)


def test_an_old_version_says_so(spark: SparkSession, settings: Settings) -> None:
    learn(spark, settings)
    fill(settings.kafka, settings.train.topics[0], labeled(70, seed=1))  # not learned
    fill(settings.kafka, settings.score.topic, unlabeled(5))
    asked = settings.score.model_copy(update={"once": True, "max_age": 0.001})
    scorer = Scorer(spark, settings.model_copy(update={"score": asked}))
    scorer.start()
    scorer.wait()
    found = [a for _, a in answers(settings).values()]
    assert [(a["stale"], a["age_records"]) for a in found] == [(True, 70)] * 5


def test_it_waits_for_a_first_version(spark: SparkSession, settings: Settings) -> None:
    lines: list[str] = []
    scorer = Scorer(spark, settings, say=lines.append)
    assert not scorer.await_version(0.5)
    assert lines == [f"waiting for a first version in {settings.model}"]
    came: list[bool] = []
    waiting = threading.Thread(target=lambda: came.append(scorer.await_version(60)))
    waiting.start()
    learn(spark, settings)
    waiting.join(60)
    assert came == [True]


def test_once_needs_a_version(spark: SparkSession, settings: Settings) -> None:
    once = settings.score.model_copy(update={"once": True})
    scorer = Scorer(spark, settings.model_copy(update={"score": once}))
    with pytest.raises(LookupError, match="there is no version yet, so there is nothing to answer with"):
        scorer.await_version()
    learn(spark, settings)
    log = VersionLog(settings.model)
    for number in range(1, (log.head_number() or 0) + 1):
        log.path(number).unlink()
    with pytest.raises(LookupError, match="has learned nothing yet, so there is nothing to answer with"):
        scorer.await_version()


def test_it_does_not_wait_for_what_follows_a_damaged_version(spark: SparkSession, settings: Settings) -> None:
    path = VersionLog(settings.model).path(0)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"torn")
    with pytest.raises(DamagedVersionError, match="all versions before it are damaged or pruned"):
        Scorer(spark, settings).await_version()


def test_a_topic_that_is_not_there(spark: SparkSession, settings: Settings) -> None:
    asked = settings.score.model_copy(update={"topic": "nobody-made-it"})
    with pytest.raises(LookupError, match="'nobody-made-it' does not exist"):
        Scorer(spark, settings.model_copy(update={"score": asked}))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_record_is_answered_however_often_the_scorer_is_killed(
    spark: SparkSession, settings: Settings, tmp_path: Path
) -> None:
    """At least once; place and version tell the doubles, which say the same."""
    learn(spark, settings)
    kafka, asked = settings.kafka, settings.score
    fill(kafka, asked.topic, unlabeled(2000))

    def start(*flags: str, fault: str = "") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "streaming_nn.cli.app", "score", "--model", str(settings.model)]
        command += ["--bootstrap", kafka["bootstrap.servers"], "--topic", asked.topic, "--master", "local[1]"]
        command += ["--predictions", asked.predictions, "--set", "score.max_offsets_per_trigger=100", *flags]
        environment = {**os.environ, "STREAMING_NN_FAILPOINT": fault}
        with (tmp_path / "said").open("ab") as said:
            return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=said)

    assert start(fault="predictions-sent:3").wait(120) == -signal.SIGKILL, (tmp_path / "said").read_text()[-2000:]
    sent = len(read(kafka, asked.predictions))
    assert sent == 300, "killed after its third batch was answered, and before that was noted"
    process = start()
    deadline = time.monotonic() + 120
    while len(read(kafka, asked.predictions)) < sent + 250:
        assert time.monotonic() < deadline, (tmp_path / "said").read_text()[-2000:]
    process.kill()  # at any moment
    process.wait()
    assert start("--once").wait(120) == 0, (tmp_path / "said").read_text()[-2000:]

    found = [json.loads(r.value) for r in read(kafka, asked.predictions)]
    times = Counter(tuple(answer[name] for name in PLACE) for answer in found)
    assert set(times) == {(r.topic, r.partition, r.offset) for r in read(kafka, asked.topic)}
    assert 100 <= len(found) - len(times) <= 300, "of the first kill, perhaps of the second"
    said = {(*(a[name] for name in PLACE), a["version"], a["prediction"], *a["probabilities"]) for a in found}
    assert len(said) == len(times)
