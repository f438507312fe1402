"""The scorer in real-time mode on a real broker: every record is predicted, by the newest version."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka_topics import fill, labeled, learn, read, rows, settings_of, unlabeled
from pyspark.sql import SparkSession
from waiting import until

from streaming_nn.kafka import admin
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import initial
from streaming_nn.nn.state_dict import flatten, unflatten
from streaming_nn.records.schema import Schema
from streaming_nn.settings import Metrics, Settings
from streaming_nn.spark.score.realtime.scorer import LOOK, RealTimeScorer
from streaming_nn.spark.score.realtime.supported import UNSET, check, check_slots
from streaming_nn.spark.score.scorer import Scorer
from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.nightly

BATCH = 5  # seconds of a real-time batch: the minimum of Spark
POSITION = ("topic", "partition", "offset")


def manifest(learner: dict[str, Any] | None = None, schema: dict[str, Any] | None = None) -> Manifest:
    classes = (learner or {}).get("classes", (0, 1))
    options = {"inputs": 3, "classes": classes, **(learner or {})}
    fields = {"inputs": 3, "classes": classes, **(schema or {})}
    return Manifest(1, learner=learner_from(options).options(), schema=Schema(**fields).options())


def setting(**records: Any) -> Manifest:
    supported = manifest()
    return replace(supported, schema={**supported.schema, **records})


@pytest.mark.commit
@pytest.mark.parametrize(
    ("unsupported", "message"),
    [
        (setting(format="avro"), "json, csv or packed; got avro"),
        (setting(encoding="utf-16"), "records.encoding must not be set; got 'utf-16'"),
        (setting(datetimes={"a": {}}), r"records.datetimes must not be set; got {'a': {}}"),
    ],
)
def test_what_is_not_supported_names_the_other_engine(unsupported: Manifest, message: str) -> None:
    with pytest.raises(ValueError, match=f"^score --engine realtime: .*{message}; use --engine batch$"):
        check(unsupported)


@pytest.mark.commit
def test_supported_options_are_accepted() -> None:
    check(manifest({"learner": "mlp", "loss": "logistic", "activation": "gelu"}, {"format": "packed"}))
    check(manifest({"learner": "mlp", "classes": None, "loss": "poisson"}))
    check(manifest())
    check(
        setting(framing="gzip", where="op = 'c'", na_values=["NA"], decimal=",", thousands=".", units=["%"])
    )
    check(manifest(schema={"features": ("a", "b.c", "d[0:1]"), "missing": True}))
    check(manifest(schema={"features": "a", "categories": {"a": {"hash": 3}}}))
    check(manifest(schema={"format": "csv"}))
    older = manifest()
    check(replace(older, schema={k: v for k, v in older.schema.items() if k not in ("framing", *UNSET)}))


class Waiting:
    """A query that ends after so many waits, and what else the scorer uses: a topic and its reader."""

    def __init__(self, values: list[bytes | None], waits: int, arrive: int) -> None:
        self.records, self.waits, self.arrive, self.waited, self.looks = values, waits, arrive, list[Any](), 0

    def awaitTermination(self, seconds: float | None) -> bool:  # noqa: N802 (Spark's name)
        self.waited.append(seconds)
        return seconds is None or len(self.waited) >= self.waits

    def ends(self, topics: Any) -> dict[str, dict[int, int]]:
        return {topic: {0: 5 + len(self.records) * (len(self.waited) >= self.arrive)} for topic in topics}

    def first_values(self, begins: Any, ends: Any, count: int) -> list[bytes | None]:
        self.looks += 1
        assert (begins, ends) == ({"unlabeled": {0: 5}}, {"unlabeled": {0: 5 + len(self.records)}})
        return self.records

    def close(self) -> None:
        pass


@pytest.mark.commit
@pytest.mark.parametrize(
    ("values", "explained"),
    [
        ([b'{"features":[1,2,3]}'], False),
        ([b'{"features":["1","2","3"]}', None], True),
        ([b'{"features":["1","2","3"]}', b'{"features":[1,2,3]}'], False),
        ([None, None], False),
    ],
)
def test_first_records_that_cannot_be_read_are_explained(
    values: list[bytes | None], explained: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    described = manifest()
    learner = initial(learner_from(described.learner))
    VersionLog(tmp_path).commit(None, flatten(learner), learner=described.learner, schema=described.schema)
    fake: Any = Waiting(values, waits=4, arrive=2)
    scorer = RealTimeScorer(fake, Settings(model=tmp_path), fake, {})
    scorer.query = scorer.reader = fake
    scorer._first = {"unlabeled": {0: 5}}
    assert scorer.wait()
    assert (fake.waited, fake.looks) == ([LOOK, LOOK, None], 1)
    setting = "with records.numbers_as_strings = true in the model's schema, 1 of 1 would be read"
    assert [setting in message for message in caplog.messages] == [True] * explained


@pytest.mark.commit
def test_a_wait_for_first_records_ends_in_time(tmp_path: Path) -> None:
    fake: Any = Waiting([b"x"], waits=9, arrive=9)
    scorer = RealTimeScorer(fake, Settings(model=tmp_path), fake, {})
    scorer.query, scorer._first = fake, {"unlabeled": {0: 5}}
    assert not scorer.wait(LOOK / 2)
    assert fake.waited == [pytest.approx(LOOK / 2, abs=0.1)]


@pytest.mark.commit
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
def test_each_partition_needs_a_thread(master: str, partitions: int, enough: bool) -> None:
    settings = Settings(spark={"spark.master": master})
    if enough:
        check_slots(settings, partitions)
    else:
        with pytest.raises(ValueError, match=rf"use --master 'local\[{partitions}\]', or --engine batch"):
            check_slots(settings, partitions)


@pytest.fixture
def settings(broker: Any, tmp_path: Path) -> Settings:
    topic = broker.topic("labeled")
    score = {"topic": broker.topic("unlabeled", 2), "predictions": broker.topic("predictions")}
    fill(broker.options, topic, labeled(1000))
    return settings_of(
        broker.options,
        tmp_path / "model",
        topic,
        score={**score, "engine": "realtime", "realtime_batch": f"{BATCH} seconds"},
        spark={"spark.master": "local[2]"},
    )


def predictions_of(settings: Settings) -> list[Any]:
    return read(settings.kafka, settings.score.predictions)


def positions(settings: Settings) -> Counter[tuple[Any, ...]]:
    values = [json.loads(record.value) for record in predictions_of(settings)]
    return Counter(tuple(value[name] for name in POSITION) for value in values)


def probabilities(model: Path, number: int, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return what a version predicts, without Spark."""
    version = VersionLog(model).read(number)
    learner = learner_from(version.manifest.learner)
    return learner.predict(unflatten(initial(learner), version.tensors).model, x)


def test_records_in_another_form_are_explained_while_the_query_runs(
    spark: SparkSession, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    learn(spark, settings)
    scorer = RealTimeScorer.open(spark, settings)
    scorer.start()
    try:
        fill(settings.kafka, settings.score.topic, [b"\0\0\0\0\1" + value for value in unlabeled(20)])
        until(lambda: scorer.wait(1) or bool(caplog.messages))
    finally:
        scorer.stop()
    setting = 'with records.framing = "confluent" in the model\'s schema, 20 of 20 would be read'
    (message,) = (each for each in caplog.messages if each.startswith("none of the first records can be rea"))
    assert setting in message


@pytest.mark.merge
def test_records_are_predicted_as_they_arrive_by_the_newest_version(
    spark: SparkSession, settings: Settings
) -> None:
    """New weights are used within a second, in the running query, on both partitions; all are counted."""
    learn(spark, settings)
    settings = settings.model_copy(update={"metrics": Metrics(prometheus="127.0.0.1:0")})
    log, topic = VersionLog(settings.model), settings.score.topic
    first = log.head_number()
    assert first is not None
    scorer = RealTimeScorer.open(spark, settings)
    scorer.start()
    try:
        names = [("traceparent", b"00-1"), ("other", b"x"), ("Content-Type", b"application/cloudevents+json")]
        fill(settings.kafka, topic, unlabeled(20), keys=[b"old", None] * 10, headers=[names] * 10)
        until(lambda: len(predictions_of(settings)) == 20)
        head = log.head()
        assert head is not None
        log.commit(head, head.tensors, schema={**head.manifest.schema, "where": "skip is null"})
        time.sleep(1)
        filtered = b'{"skip":1}'
        fill(settings.kafka, topic, [filtered, *unlabeled(20, seed=2), b"what?"], keys=[b"new"] * 22)
        until(lambda: len(predictions_of(settings)) == 41)
        until(lambda: scorer.position() == admin.ends(settings.kafka, [topic]))  # the batch has ended
        scorer.position()
        assert scorer.outcomes == {"": 40, "other": 1, "filtered": 1}
        assert 0 < scorer.latencies.pop("sum") < 41 * 60_000
        assert scorer.latencies.total() == 41
        scorer.finish()
    finally:
        scorer.stop()

    found = {
        tuple(json.loads(r.value)[n] for n in POSITION): (r, json.loads(r.value))
        for r in predictions_of(settings)
    }
    sent = {(r.topic, r.partition, r.offset): r for r in read(settings.kafka, topic)}
    assert set(found) == {position for position, record in sent.items() if record.value != filtered}
    for position, (record, prediction) in found.items():
        assert record.key == sent[position].key
        assert prediction["version"] == first + (record.key == b"new")
        assert prediction["digest"] == head.manifest.digest[:12]
        forwarded = [("Content-Type", b"application/json"), ("traceparent", b"00-1")]
        assert sorted(record.headers) == (forwarded if sent[position].headers else [])
        if "error" not in prediction:
            x = np.array([json.loads(sent[position].value)["features"]], np.float32)
            (expected,) = probabilities(settings.model, first, x)
            assert list(prediction["probabilities"]) == ["0", "1"]
            np.testing.assert_allclose(list(prediction["probabilities"].values()), expected, atol=1e-5)
            assert prediction["prediction"] == expected.argmax()
    assert [prediction["error"] for _, prediction in found.values() if "error" in prediction] == ["not JSON"]


def test_the_batch_engine_resumes_where_a_real_time_batch_ended(
    spark: SparkSession, settings: Settings
) -> None:
    learn(spark, settings)
    once = settings.score.model_copy(update={"engine": "batch", "once": True})
    for seed in range(2):
        fill(settings.kafka, settings.score.topic, unlabeled(10, seed))
        scorer = RealTimeScorer.open(spark, settings)
        scorer.start()
        until(lambda seed=seed: len(predictions_of(settings)) == 20 * seed + 10)  # type: ignore[misc]
        scorer.finish()
        fill(settings.kafka, settings.score.topic, unlabeled(10, seed + 5))
        batch = Scorer.open(spark, settings.model_copy(update={"score": once}))
        batch.start()
        batch.wait()
    assert len(predictions_of(settings)) == 40
    assert set(positions(settings).values()) == {1}


def test_a_damaged_version_ends_the_query(spark: SparkSession, settings: Settings) -> None:
    learn(spark, settings)
    scorer = RealTimeScorer.open(spark, settings)
    path = scorer.log.path((scorer.log.head_number() or 0) + 1)
    scorer.start()
    path.write_bytes(b"x" * 100)
    fill(settings.kafka, settings.score.topic, unlabeled(5))
    with pytest.raises(RuntimeError, match=rf"^the scorer ended: {path} is damaged: it ends in its header$"):
        scorer.wait(60)
    scorer.stop()


class Command:
    """The scorer's command; its log is appended to a file."""

    def __init__(self, settings: Settings, log: Path, master: str, **environment: str) -> None:
        command = [sys.executable, "-m", "streaming_nn.cli.app", "score", "--engine", "realtime"]
        command += ["--topic", settings.score.topic, "--predictions", settings.score.predictions]
        command += ["--model", str(settings.model), "--master", master]
        command += ["--bootstrap", settings.kafka["bootstrap.servers"]]
        command += ["--set", f"score.realtime_batch={settings.score.realtime_batch}"]
        with log.open("ab") as file:
            environment = {**os.environ, **environment}
            self.process = subprocess.Popen(command, stderr=file, env=environment, start_new_session=True)

    def end(self, number: int) -> int:
        """Send a signal, and return the exit code; SIGKILL goes to the JVM too: it would run on."""
        if number == signal.SIGKILL:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        return self.process.wait(60)


@pytest.mark.timeout(600)
def test_no_record_is_lost_however_the_run_ends(
    spark: SparkSession, settings: Settings, tmp_path: Path
) -> None:
    """A kill repeats up to one real-time batch, with equal predictions; Ctrl-C repeats nothing."""
    learn(spark, settings)
    log = tmp_path / "log"
    sent = 0

    def send_more(command: Command) -> None:
        nonlocal sent
        fill(settings.kafka, settings.score.topic, unlabeled(50, seed=sent))
        sent += 50
        until(lambda: command.process.poll() is not None or len(positions(settings)) == sent)
        assert command.process.poll() is None, log.read_text()

    def recorded() -> int:
        commits = Path(settings.model, "scorers", settings.score.topic, "commits")
        return max((int(path.name) for path in commits.glob("[0-9]*")), default=-1)

    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 0), (signal.SIGTERM, 0)):
        command = Command(settings, log, "local[2]")
        send_more(command)
        before = recorded()
        until(lambda before=before: recorded() > before)  # type: ignore[misc]
        send_more(command)
        assert command.end(number) == code, log.read_text()
    duplicates = {position: times for position, times in positions(settings).items() if times > 1}
    assert {position[2] // 25 for position in duplicates} == {1}, "records of the batch that was killed"
    assert len(duplicates) == 50, log.read_text()
    assert set(duplicates.values()) == {2}
    assert len(predictions_of(settings)) == sent + 50
    assert "Exception" not in log.read_text()


@pytest.mark.timeout(300)
def test_executors_read_the_versions_themselves(
    spark: SparkSession, settings: Settings, tmp_path: Path
) -> None:
    learn(spark, settings)
    spec = find_spec("pyspark")
    assert spec is not None
    assert spec.origin is not None
    home = str(Path(spec.origin).parent)
    command = Command(settings, tmp_path / "log", "local-cluster[1,2,1024]", SPARK_HOME=home)
    try:
        fill(settings.kafka, settings.score.topic, unlabeled(10))
        until(lambda: command.process.poll() is not None or len(positions(settings)) == 10)
        assert command.process.poll() is None, (tmp_path / "log").read_text()
    finally:
        command.process.kill()
        command.process.wait()


def test_real_time_predictions_are_accurate(spark: SparkSession, settings: Settings) -> None:
    """The model has learned a plane; a prediction is the side of it on which a new row is."""
    learn(spark, settings)
    fill(settings.kafka, settings.score.topic, unlabeled(100, seed=9))
    scorer = RealTimeScorer.open(spark, settings)
    scorer.start()
    until(lambda: len(predictions_of(settings)) == 100)
    scorer.stop()
    truth = dict(zip(unlabeled(100, seed=9), rows(100, seed=9)[1].tolist(), strict=True))
    values = {(r.topic, r.partition, r.offset): r.value for r in read(settings.kafka, settings.score.topic)}
    found = [json.loads(record.value) for record in predictions_of(settings)]
    assert np.mean([truth[values[tuple(p[n] for n in POSITION)]] == p["prediction"] for p in found]) > 0.7
