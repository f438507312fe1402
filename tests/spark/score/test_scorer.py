"""The scorer on a real broker: every record has one prediction, by the version that was the newest."""

import gzip
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka_topics import fill, labeled, learn, read, rows, settings_of, unlabeled
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pyspark.sql import SparkSession
from scraping import Running, get, scrape
from waiting import until

from streaming_nn.cli.score import _show as show
from streaming_nn.errors import DamagedVersionError, DataLossError, exit_code
from streaming_nn.kafka import admin
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import initial
from streaming_nn.nn.state_dict import unflatten
from streaming_nn.settings import Metrics, Settings
from streaming_nn.sinks.traces import Traces
from streaming_nn.spark.score import scorer as scorer_module
from streaming_nn.spark.score.scorer import Scorer, score
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge

FATES = ("predicted", "filtered", "rejected")
POSITION = ("topic", "partition", "offset")


def predictions_of(settings: Settings) -> dict[tuple[str, int, int], tuple[bytes | None, dict[str, Any]]]:
    """Return key and prediction of each record by its position; require one prediction per position."""
    records = [(r.key, json.loads(r.value)) for r in read(settings.kafka, settings.score.predictions)]
    positions = Counter(tuple(prediction[name] for name in POSITION) for _, prediction in records)
    assert set(positions.values()) <= {1}, "a run that was not interrupted predicts once"
    return {tuple(value[name] for name in POSITION): (key, value) for key, value in records}


def probabilities(model: Path, number: int, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return what a version predicts, without Spark."""
    version = VersionLog(model).read(number)
    learner = learner_from(version.manifest.learner)
    return learner.predict(unflatten(initial(learner), version.tensors).model, x)


def run_once(spark: SparkSession, settings: Settings, **score: Any) -> Scorer:
    update = settings.score.model_copy(update={"once": True, **score})
    scorer = Scorer.open(spark, settings.model_copy(update={"score": update}))
    scorer.start()
    scorer.wait()
    return scorer


@pytest.fixture
def settings(broker: Any, tmp_path: Path) -> Settings:
    topic = broker.topic("labeled")
    score = {"topic": broker.topic("unlabeled", 2), "predictions": broker.topic("predictions", 2)}
    fill(broker.options, topic, labeled(1000))
    return settings_of(
        broker.options, tmp_path / "model", topic, score={**score, "trigger": "100 milliseconds"}
    )


@pytest.fixture(params=["driver", "tasks"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let tasks predict few records too, or as it is, the driver."""
    if request.param == "tasks":
        monkeypatch.setattr(scorer_module, "DRIVER_RECORDS", -1)
    return str(request.param)


@pytest.mark.smoke
@pytest.mark.usefixtures("where")
def test_every_record_is_predicted_once(
    spark: SparkSession, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming_nn.sinks.position.POLL", 0.1)
    kafka, topic = settings.kafka, settings.score.topic
    learn(spark, settings)
    first = VersionLog(settings.model).head_number()
    assert first is not None
    keys = [f"k{i}".encode() if i % 3 else None for i in range(60)]
    fill(kafka, topic, [*unlabeled(60), b"what?"], keys=[*keys, b"bad"])
    shown = settings.model_copy(update={"metrics": Metrics(prometheus="127.0.0.1:0")})
    scorer = Scorer.open(spark, shown)
    with ExitStack() as stack:
        stack.callback(scorer.stop)
        server = stack.enter_context(closing(Running()))
        show(server, scorer, stack, as_json=False)
        exporter = InMemorySpanExporter()
        scorer.traced = Traces("model", SimpleSpanProcessor(exporter)).record_scored
        scorer.start()
        scorer.drain()
        before = predictions_of(settings)
        fill(kafka, settings.train.topics[0], labeled(500, seed=1))
        learn(spark, settings)  # a newer version, while the scorer runs
        fill(kafka, topic, unlabeled(20, seed=2), keys=[b"new"] * 20)
        scorer.drain()
        until(lambda: get(server, "/readyz") == (200, "ready\n"))
        until(lambda: not any(n for (name, _), n in scrape(server).items() if name == "lag_offsets"))
        found = scrape(server)
    newest = VersionLog(settings.model).head_number()
    assert newest is not None
    assert newest > first
    after = predictions_of(settings)
    counts = f"scored 80 records with versions {first} to {newest}; 1 could not be read (not JSON: 1)"
    assert scorer.summary() == counts
    assert found["records_total", ("predicted",)] == 80
    assert found["records_total", ("rejected",)] == found["rejected_records_total", ("not JSON",)] == 1
    assert found["prediction_latency_seconds_count", ()] == 81
    assert 0 < found["prediction_latency_seconds_sum", ()] / 81 < 60
    assert found["served_version", ()] == found["head_version", ()] == newest
    assert {key for key in found if key[0] == "lag_offsets"} == {("lag_offsets", (p, topic)) for p in "01"}
    spans = exporter.get_finished_spans()
    traced = [span.attributes or {} for span in spans if span.parent is None]
    assert [span.name for span in spans] == ["load", "plan", "predict", "score"] * len(traced)
    counts_of = {fate: sum(each[f"streaming_nn.records.{fate}"] for each in traced) for fate in FATES}
    assert counts_of == {"predicted": 80, "filtered": 0, "rejected": 1}
    assert {each["streaming_nn.version"] for each in traced} == {first, newest}
    seconds = {span.name: (span.end_time or 0) - (span.start_time or 0) for span in spans[:4]}
    assert 0 < seconds["predict"] <= seconds["score"]

    records = {(r.topic, r.partition, r.offset): r for r in read(kafka, topic)}
    assert set(after) == set(records)
    assert all(after[position][0] == records[position].key for position in records)
    assert {a["version"] for _, a in before.values()} == {first}
    assert {a["version"] for key, a in after.values() if key == b"new"} == {newest}
    for number, some in ((first, before), (newest, {p: a for p, a in after.items() if a[0] == b"new"})):
        digest = VersionLog(settings.model).manifest(number).digest
        good = {p: a for p, (_, a) in some.items() if "error" not in a}
        x = np.array([json.loads(records[p].value)["features"] for p in good], np.float32)
        expected = probabilities(settings.model, number, x)
        assert {tuple(prediction["probabilities"]) for prediction in good.values()} == {("0", "1")}
        found = np.array([list(prediction["probabilities"].values()) for prediction in good.values()])
        np.testing.assert_allclose(found, expected, atol=2e-6)
        for prediction, output in zip(good.values(), expected, strict=True):
            assert prediction["prediction"] == int(output.argmax())
            assert prediction["digest"] == digest[:12]
            assert prediction["age_records"] == 0
            assert prediction["age_seconds"] > 0
            assert prediction["stale"] is False
    ((_, bad),) = [a for a in after.values() if a[0] == b"bad"]
    assert bad["prediction"] is None
    assert bad["error"] == "not JSON"
    assert bad["version"] == first

    truth = dict(zip(unlabeled(20, seed=2), rows(20, seed=2)[1].tolist(), strict=True))
    new = [(records[p].value, a["prediction"]) for p, (key, a) in after.items() if key == b"new"]
    assert np.mean([truth[value] == prediction for value, prediction in new]) > 0.7


@pytest.mark.nightly
def test_a_second_scorer_resumes_where_the_first_ended(spark: SparkSession, settings: Settings) -> None:
    learn(spark, settings)
    for seed in (0, 1):
        fill(settings.kafka, settings.score.topic, unlabeled(15, seed))
        scorer = run_once(spark, settings)
        assert len(predictions_of(settings)) == 15 * (seed + 1)
        version = VersionLog(settings.model).head_number()
        assert scorer.summary() == f"scored 15 records with version {version}"


def test_predictions_of_an_old_version_are_stale(spark: SparkSession, settings: Settings) -> None:
    learn(spark, settings)
    fill(settings.kafka, settings.train.topics[0], labeled(70, seed=1))  # not learned
    fill(settings.kafka, settings.score.topic, unlabeled(5))
    run_once(spark, settings, max_age=0.001)
    found = [prediction for _, prediction in predictions_of(settings).values()]
    assert [(p["stale"], p["age_records"]) for p in found] == [(True, 70)] * 5


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the scorer logged; on a busy machine the Kafka client warns too."""
    name = "streaming_nn.spark.score.scorer"
    return [record.getMessage() for record in caplog.records if record.name == name]


def test_the_command_logs_what_it_scored(
    spark: SparkSession, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    learn(spark, settings)
    fill(settings.kafka, settings.score.topic, [*unlabeled(7), b"x", b"[]", b"y", None], keys=[b"k"] * 11)
    once = settings.score.model_copy(update={"once": True, "probabilities": "none"})
    settings = settings.model_copy(update={"score": once})
    with caplog.at_level(logging.INFO, "streaming_nn.spark.score.scorer"):
        for _ in range(2):
            score(spark, settings)
    topics, number = f"{once.topic} into {once.predictions}", VersionLog(settings.model).head_number()
    assert logged(caplog) == [
        f"scoring {topics} with {settings.model}",
        f"scored 7 records with version {number}; 3 could not be read (not JSON: 2, not an object: 1); "
        "1 filtered",
        f"scoring {topics} with {settings.model}",
        f"no new records in {once.topic}",
    ]
    assert not any("probabilities" in prediction for _, prediction in predictions_of(settings).values())

    fill(settings.kafka, settings.score.topic, [gzip.compress(value, mtime=0) for value in unlabeled(4)])
    caplog.clear()
    with caplog.at_level(logging.INFO, "streaming_nn.spark.score.scorer"):
        score(spark, settings)
    _, explained, summary = logged(caplog)
    assert summary == f"scored 0 records with version {number}; 4 could not be read (not JSON: 4)"
    why, first, advice, fixed = explained.splitlines()
    assert why == "none of the first records can be read"
    assert first.startswith("  the first: b'\\x1f\\x8b")
    assert advice == '  with records.framing = "gzip" in the model\'s schema, 4 of 4 would be read'
    assert fixed.startswith("  a model's schema is fixed")


@pytest.mark.usefixtures("where")
def test_long_keys_and_headers_are_left_out_and_predictions_are_events(
    spark: SparkSession, settings: Settings
) -> None:
    """Kafka's default limit of a message is 1 MB: the key alone would fill it and stop every scorer."""
    learn(spark, settings)
    headers = [[], [("content-type", b"application/cloudevents+json")], [("traceparent", b"t" * 300_000)]]
    keys = [b"k" * 1_000_000, b"short", None]
    fill(settings.kafka, settings.score.topic, unlabeled(3), keys=keys, headers=headers, partitions=[0])
    run_once(spark, settings)
    run_once(
        spark, settings, checkpoint=str(settings.model / "events"), cloudevents=True, fields=["features", "x"]
    )
    found = sorted(
        read(settings.kafka, settings.score.predictions),
        key=lambda r: (json.loads(r.value).get("id", ""), json.loads(r.value).get("offset", 0)),
    )
    assert [(r.key, dict(r.headers)) for r in found[:3]] == [
        (None, {"streaming_nn.cut": b"key"}),
        (b"short", {"content-type": b"application/json"}),
        (None, {"streaming_nn.cut": b"headers"}),
    ]
    events = [json.loads(r.value) for r in found[3:]]
    assert {(event["specversion"], event["type"], event["source"]) for event in events} == {
        ("1.0", "streaming-nn.prediction", f"streaming-nn:{settings.score.topic}")
    }
    assert [event["id"] for event in events] == ["0-0", "0-1", "0-2"]
    assert [event["data"]["fields"] for event in events] == [
        {"features": json.loads(value)["features"], "x": None} for value in unlabeled(3)
    ]
    types = {dict(r.headers)["content-type"] for r in found[3:]}
    assert types == {b"application/cloudevents+json; charset=UTF-8"}
    assert [event["data"]["prediction"] for event in events] == [
        json.loads(r.value)["prediction"] for r in found[:3]
    ]


def test_records_that_expired_after_the_checkpoint_end_the_run(
    spark: SparkSession, settings: Settings
) -> None:
    learn(spark, settings)
    topic = settings.score.topic
    fill(settings.kafka, topic, unlabeled(20), partitions=[0])
    run_once(spark, settings)
    fill(settings.kafka, topic, unlabeled(30), partitions=[0])
    client = KafkaAdminClient(bootstrap_servers=settings.kafka["bootstrap.servers"])
    client.delete_records({TopicPartition(topic, 0): 35})
    client.close()
    message = (
        f"offsets 20 to 34 of {topic!r} partition 0 expired before they were predicted.*--accept-data-loss"
    )
    with pytest.raises(DataLossError, match=message) as caught:
        run_once(spark, settings)
    assert exit_code(caught.value) == 4
    run_once(spark, settings, accept_data_loss=True)
    assert {offset for _, _, offset in predictions_of(settings)} == {*range(20), *range(35, 50)}
    admin.delete(settings.kafka, topic)
    admin.create(settings.kafka, topic, 2)
    with pytest.raises(DataLossError, match=r"was recreated: .*another score.checkpoint"):
        run_once(spark, settings, accept_data_loss=True)


def test_it_waits_for_a_first_version(
    spark: SparkSession, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    scorer = Scorer.open(spark, settings)
    with caplog.at_level(logging.INFO, "streaming_nn.spark.score.scorer"):
        assert not scorer.wait_for_version(0.5)
    assert caplog.messages == [f"waiting for a first version in {settings.model}"]
    results: list[bool] = []
    waiting = threading.Thread(target=lambda: results.append(scorer.wait_for_version(60)))
    waiting.start()
    learn(spark, settings)
    waiting.join(60)
    assert results == [True]


def test_once_needs_a_version(spark: SparkSession, settings: Settings) -> None:
    once = settings.score.model_copy(update={"once": True})
    scorer = Scorer.open(spark, settings.model_copy(update={"score": once}))
    with pytest.raises(LookupError, match="there is no version yet, so no model is available"):
        scorer.wait_for_version()
    learn(spark, settings)
    log = VersionLog(settings.model)
    for number in range(1, (log.head_number() or 0) + 1):
        log.path(number).unlink()
    with pytest.raises(LookupError, match="has learned nothing yet, so no model is available"):
        scorer.wait_for_version()


def test_it_does_not_wait_for_a_version_after_a_damaged_one(spark: SparkSession, settings: Settings) -> None:
    path = VersionLog(settings.model).path(0)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"torn")
    with pytest.raises(DamagedVersionError, match="does not begin like a safetensors file"):
        Scorer.open(spark, settings).wait_for_version()


def test_a_missing_topic_is_reported(spark: SparkSession, settings: Settings) -> None:
    score = settings.score.model_copy(update={"topic": "missing"})
    with pytest.raises(LookupError, match="'missing' does not exist"):
        Scorer.open(spark, settings.model_copy(update={"score": score}))


def start_scorer(settings: Settings, log: Path, *flags: str, failpoint: str = "") -> subprocess.Popen[bytes]:
    """Start the command, with micro-batches of 100 records."""
    score = settings.score
    command = [sys.executable, "-m", "streaming_nn.cli.app", "score", "--model", str(settings.model)]
    command += ["--bootstrap", settings.kafka["bootstrap.servers"], "--topic", score.topic]
    command += ["--predictions", score.predictions, "--set", "score.max_offsets_per_trigger=100"]
    environment = {**os.environ, "STREAMING_NN_FAILPOINT": failpoint}
    with log.open("ab") as file:
        words = [*command, "--master", "local[1]", *flags]
        return subprocess.Popen(words, cwd=log.parent, env=environment, stderr=file)


@pytest.mark.timeout(300)
def test_a_killed_scorer_resumes_and_repeats_at_most_one_micro_batch(
    spark: SparkSession, settings: Settings, tmp_path: Path
) -> None:
    """SIGKILL after predictions were sent, before Spark recorded it; a scorer in this process resumes."""
    learn(spark, settings)
    fill(settings.kafka, settings.score.topic, unlabeled(500))
    log = tmp_path / "log"
    process = start_scorer(settings, log, failpoint="predictions-sent:2")
    assert process.wait(120) == -signal.SIGKILL, log.read_text()[-2000:]
    assert len(read(settings.kafka, settings.score.predictions)) == 200

    score = settings.score.model_copy(update={"once": True, "max_offsets_per_trigger": 100})
    scorer = Scorer.open(spark, settings.model_copy(update={"score": score}))
    scorer.start()
    assert scorer.wait(100)
    found = [json.loads(r.value) for r in read(settings.kafka, score.predictions)]
    times = Counter(tuple(prediction[name] for name in POSITION) for prediction in found)
    assert set(times) == {(r.topic, r.partition, r.offset) for r in read(settings.kafka, score.topic)}
    assert len(found) - len(times) == 100


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_every_record_is_predicted_however_often_the_scorer_is_killed(
    spark: SparkSession, settings: Settings, tmp_path: Path
) -> None:
    """At least once; position and version identify duplicates, which predict the same."""
    learn(spark, settings)
    kafka, score, log = settings.kafka, settings.score, tmp_path / "log"
    fill(kafka, score.topic, unlabeled(2000))

    def start(*flags: str, failpoint: str = "") -> subprocess.Popen[bytes]:
        return start_scorer(settings, log, *flags, failpoint=failpoint)

    def logged() -> str:
        return log.read_text()[-2000:]

    assert start(failpoint="predictions-sent:3").wait(120) == -signal.SIGKILL, logged()
    sent = len(read(kafka, score.predictions))
    assert sent == 300, "killed after the third batch was sent, and before Spark had recorded it"
    process = start()
    deadline = time.monotonic() + 120
    while len(read(kafka, score.predictions)) < sent + 250:
        assert time.monotonic() < deadline, logged()
    process.kill()  # at any moment
    process.wait()
    assert start("--once").wait(120) == 0, logged()
    assert re.search(r"^scored 1?,?\d+ records with version \d+$", logged(), re.MULTILINE)

    found = [json.loads(r.value) for r in read(kafka, score.predictions)]
    times = Counter(tuple(prediction[name] for name in POSITION) for prediction in found)
    assert set(times) == {(r.topic, r.partition, r.offset) for r in read(kafka, score.topic)}
    assert 100 <= len(found) - len(times) <= 300, "of the first kill, perhaps of the second"
    different = {
        (*(p[n] for n in POSITION), p["version"], p["prediction"], *p["probabilities"].values())
        for p in found
    }
    assert len(different) == len(times)
