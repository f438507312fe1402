"""The scorer in real-time mode on a real broker: every record is answered, by the newest version."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filling import fill, labeled, learn, read, rows, settings_of, unlabeled
from pyspark.sql import SparkSession

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import initial
from streaming_nn.nn.state_dict import unflatten
from streaming_nn.records.schema import Schema
from streaming_nn.settings import Settings
from streaming_nn.spark.score.realtime.scorer import RealTimeScorer, check, check_slots
from streaming_nn.spark.score.scorer import Scorer
from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import VersionLog

BATCH = 5  # seconds of a real-time batch: the least that Spark takes
PLACE = ("topic", "partition", "offset")


def record(learner: dict[str, Any] | None = None, schema: dict[str, Any] | None = None) -> Manifest:
    classes = (learner or {}).get("classes", (0, 1))
    options = {"inputs": 3, "classes": classes, **(learner or {})}
    fields = {"inputs": 3, "classes": classes, **(schema or {})}
    return Manifest(1, learner=learner_from(options).options(), schema=Schema(**fields).options())


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (
            record(schema={"features": ("a", "b", "c")}),
            r"in one array, not in another object; got \['a', 'b', 'c'\]",
        ),
        (record(schema={"features": "a.b"}), "in one array, not in another object; got 'a.b'"),
        (record(schema={"features": "a", "categories": {"a": {"hash": 3}}}), "no categories; got a"),
        (record(schema={"format": "csv", "features": ("a", "b", "c")}), "json or packed; got csv"),
        (record({"activation": "gelu"}), "activation must be one of relu, tanh, sigmoid; got gelu"),
        (record({"learner": "mlp", "classes": None, "loss": "poisson"}), "huber; got poisson"),
    ],
)
def test_what_cannot_run_names_the_other_engine(of: Manifest, words: str) -> None:
    with pytest.raises(ValueError, match=f"^score --engine realtime: .*{words}; --engine batch can do it$"):
        check(of)


def test_what_can_run_is_let_through() -> None:
    check(record({"learner": "mlp", "loss": "logistic", "activation": "tanh"}, {"format": "packed"}))
    check(record())


@pytest.mark.parametrize(
    ("master", "partitions", "enough"),
    [
        ("local", 1, True),
        ("local", 2, False),
        ("local[3]", 3, True),
        ("local[3, 2]", 4, False),
        ("local[*]", os.cpu_count(), True),
        ("local[*]", 10_000, False),
        ("spark://somewhere:7077", 10_000, True),
        ("local-cluster[1,1,1024]", 2, True),
    ],
)
def test_a_thread_for_each_partition(master: str, partitions: int, enough: bool) -> None:
    settings = Settings(spark={"spark.master": master})
    if enough:
        check_slots(settings, partitions)
    else:
        with pytest.raises(ValueError, match=rf"give --master local\[{partitions}\], or --engine batch"):
            check_slots(settings, partitions)


@pytest.fixture
def settings(broker: Any, tmp_path: Path) -> Settings:
    topic = broker.topic("known")
    score = {"topic": broker.topic("asked", 2), "predictions": broker.topic("predictions")}
    fill(broker.options, topic, labeled(1000))
    return settings_of(
        broker.options,
        tmp_path / "model",
        topic,
        score={**score, "engine": "realtime", "realtime_batch": f"{BATCH} seconds"},
        spark={"spark.master": "local[2]"},
    )


def answers(settings: Settings) -> list[Any]:
    return read(settings.kafka, settings.score.predictions)


def places(settings: Settings) -> Counter[tuple[Any, ...]]:
    values = [json.loads(answer.value) for answer in answers(settings)]
    return Counter(tuple(value[name] for name in PLACE) for value in values)


def until(true: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def probabilities(model: Path, number: int, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a version answers, without Spark."""
    version = VersionLog(model).read(number)
    learner = learner_from(version.manifest.learner)
    return learner.predict(unflatten(initial(learner), version.tensors).model, x)


@pytest.mark.slow
def test_records_are_answered_as_they_come_by_the_newest_version(
    spark: SparkSession, settings: Settings
) -> None:
    """New weights are in force within a second, in the running query, on both partitions."""
    learn(spark, settings)
    log, asked = VersionLog(settings.model), settings.score.topic
    first = log.head_number()
    assert first is not None
    scorer = RealTimeScorer(spark, settings)
    scorer.start()
    try:
        names = [("traceparent", b"00-1"), ("other", b"x"), ("Content-Type", b"application/json")]
        fill(settings.kafka, asked, unlabeled(20), keys=[b"old", None] * 10, headers=[names] * 10)
        until(lambda: len(answers(settings)) == 20)
        head = log.head()
        assert head is not None
        log.commit(head, head.tensors)
        time.sleep(1)
        fill(settings.kafka, asked, [*unlabeled(20, seed=2), b"what?"], keys=[b"new"] * 21)
        until(lambda: len(answers(settings)) == 41)
        scorer.finish()
    finally:
        scorer.stop()

    found = {
        tuple(json.loads(a.value)[n] for n in PLACE): (a, json.loads(a.value)) for a in answers(settings)
    }
    sent = {(r.topic, r.partition, r.offset): r for r in read(settings.kafka, asked)}
    assert set(found) == set(sent)
    for place, (answer, said) in found.items():
        assert answer.key == sent[place].key
        assert said["version"] == first + (answer.key == b"new")
        assert said["digest"] == head.manifest.digest[:12]
        taken = [header for header in sent[place].headers or [] if header[0] != "other"]
        assert list(answer.headers) == taken
        if "error" not in said:
            x = np.array([json.loads(sent[place].value)["features"]], np.float32)
            (wanted,) = probabilities(settings.model, first, x)
            np.testing.assert_allclose(said["probabilities"], wanted, atol=1e-5)
            assert said["prediction"] == wanted.argmax()
    assert [said["error"] for _, said in found.values() if "error" in said] == ["not JSON"]


@pytest.mark.slow
def test_the_batch_engine_goes_on_where_a_real_time_batch_ended(
    spark: SparkSession, settings: Settings
) -> None:
    learn(spark, settings)
    once = settings.score.model_copy(update={"engine": "batch", "once": True})
    for seed in range(2):
        fill(settings.kafka, settings.score.topic, unlabeled(10, seed))
        scorer = RealTimeScorer(spark, settings)
        scorer.start()
        until(lambda seed=seed: len(answers(settings)) == 20 * seed + 10)  # type: ignore[misc]
        scorer.finish()
        fill(settings.kafka, settings.score.topic, unlabeled(10, seed + 5))
        batch = Scorer(spark, settings.model_copy(update={"score": once}))
        batch.start()
        batch.wait()
    assert len(answers(settings)) == 40
    assert set(places(settings).values()) == {1}


@pytest.mark.slow
def test_a_damaged_version_ends_the_query(spark: SparkSession, settings: Settings) -> None:
    learn(spark, settings)
    scorer = RealTimeScorer(spark, settings)
    path = scorer.log.path((scorer.log.head_number() or 0) + 1)
    scorer.start()
    path.write_bytes(b"x" * 100)
    fill(settings.kafka, settings.score.topic, unlabeled(5))
    with pytest.raises(RuntimeError, match=rf"^the scorer ended: {path} is damaged: it ends in its header$"):
        scorer.wait(60)
    scorer.stop()


class Command:
    """The scorer's command, and what it says."""

    def __init__(self, settings: Settings, said: Path, master: str, **environment: str) -> None:
        command = [sys.executable, "-m", "streaming_nn.cli.app", "score", "--engine", "realtime"]
        command += ["--topic", settings.score.topic, "--predictions", settings.score.predictions]
        command += ["--model", str(settings.model), "--master", master]
        command += ["--bootstrap", settings.kafka["bootstrap.servers"]]
        command += ["--set", f"score.realtime_batch={settings.score.realtime_batch}"]
        with said.open("ab") as file:
            environment = {**os.environ, **environment}
            self.process = subprocess.Popen(command, stderr=file, env=environment, start_new_session=True)

    def end(self, number: int) -> int:
        """Send a signal, and give how it ended; the JVM is killed too: it would go on a while."""
        if number == signal.SIGKILL:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        return self.process.wait(60)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_lost_however_it_ends(spark: SparkSession, settings: Settings, tmp_path: Path) -> None:
    """A kill repeats up to one real-time batch, which says the same; Ctrl-C repeats nothing."""
    learn(spark, settings)
    said = tmp_path / "said"
    sent = 0

    def more(command: Command) -> None:
        nonlocal sent
        fill(settings.kafka, settings.score.topic, unlabeled(50, seed=sent))
        sent += 50
        until(lambda: command.process.poll() is not None or len(places(settings)) == sent)
        assert command.process.poll() is None, said.read_text()

    def noted() -> int:
        commits = Path(settings.model, "scorers", settings.score.topic, "commits")
        return max((int(path.name) for path in commits.glob("[0-9]*")), default=-1)

    for number, ended in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 0), (signal.SIGTERM, 0)):
        command = Command(settings, said, "local[2]")
        more(command)
        before = noted()
        until(lambda before=before: noted() > before)  # type: ignore[misc]
        more(command)
        assert command.end(number) == ended, said.read_text()
    doubled = {place: times for place, times in places(settings).items() if times > 1}
    assert {place[2] // 25 for place in doubled} == {1}, "what had come in the batch that was killed"
    assert len(doubled) == 50, said.read_text()
    assert set(doubled.values()) == {2}
    assert len(answers(settings)) == sent + 50
    assert "Exception" not in said.read_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_executors_read_the_versions_themselves(
    spark: SparkSession, settings: Settings, tmp_path: Path
) -> None:
    learn(spark, settings)
    spec = find_spec("pyspark")
    assert spec is not None
    assert spec.origin is not None
    home = str(Path(spec.origin).parent)
    command = Command(settings, tmp_path / "said", "local-cluster[1,2,1024]", SPARK_HOME=home)
    try:
        fill(settings.kafka, settings.score.topic, unlabeled(10))
        until(lambda: command.process.poll() is not None or len(places(settings)) == 10)
        assert command.process.poll() is None, (tmp_path / "said").read_text()
    finally:
        command.process.kill()
        command.process.wait()


@pytest.mark.slow
def test_real_time_answers_are_right(spark: SparkSession, settings: Settings) -> None:
    """The model has learned its plane: the answers say on which side of it new rows are."""
    learn(spark, settings)
    fill(settings.kafka, settings.score.topic, unlabeled(100, seed=9))
    scorer = RealTimeScorer(spark, settings)
    scorer.start()
    until(lambda: len(answers(settings)) == 100)
    scorer.stop()
    truth = dict(zip(unlabeled(100, seed=9), rows(100, seed=9)[1].tolist(), strict=True))
    asked = {(r.topic, r.partition, r.offset): r.value for r in read(settings.kafka, settings.score.topic)}
    said = [json.loads(answer.value) for answer in answers(settings)]
    assert np.mean([truth[asked[tuple(a[n] for n in PLACE)]] == a["prediction"] for a in said]) > 0.7
