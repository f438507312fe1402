"""`streaming-nn train`: its flags as settings, and the line that it logs for each version. No JVM."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streaming_nn.cli import app, train
from streaming_nn.settings import Metrics, Settings
from streaming_nn.sinks.json_lines import JsonLinesSink
from streaming_nn.sinks.metrics_event import metrics_event
from streaming_nn.sinks.mlflow import MLflowSink
from streaming_nn.versions.version import Manifest

pytestmark = pytest.mark.commit


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Settings]:
    """Return the settings of the runs that a command would start."""
    runs: list[Settings] = []
    monkeypatch.setattr(train, "_run", lambda settings, as_json: runs.append(settings))
    monkeypatch.chdir(tmp_path)
    return runs


def test_flags_become_settings(started: list[Settings]) -> None:
    words = "train --bootstrap here:9092 --model m --topic a --topic b --features x,y.z --label y"
    words += " --classes 0,1,two --hidden 64,32 --optimizer sgd --learning-rate 0.1 --mini-batch 8"
    words += " --update averaged --max-offsets 9 --once --accept-data-loss --master local[2]"
    assert app.run([*words.split(), "--trigger", "2 seconds", "--set", "train.max_rejected=0.1"]) == 0
    (settings,) = started
    assert settings.kafka == {"bootstrap.servers": "here:9092"}
    assert (settings.model, settings.spark) == (Path("m"), {"spark.master": "local[2]"})
    assert (settings.records.features, settings.records.label) == (["x", "y.z"], "y")
    assert settings.records.classes == [0, 1, "two"]
    assert settings.learner == {
        "hidden": [64, 32],
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "mini_batch": 8,
    }
    job = settings.train
    assert (job.topics, job.update, job.trigger) == (["a", "b"], "averaged", "2 seconds")
    assert (job.max_offsets_per_trigger, job.max_rejected) == (9, 0.1)
    assert (job.once, job.accept_data_loss) == (True, True)


def test_another_source_needs_no_broker(started: list[Settings]) -> None:
    words = "train --source csv --source-option path=in --source-option header=true --select a --features all"
    assert app.run(words.split()) == 0
    (settings,) = started
    assert settings.source.options == {"path": "in", "header": "true"}
    assert (settings.source.select, settings.records.features) == (["a"], "all")


@pytest.mark.parametrize("text", ["grow", None])
def test_classes_may_grow(text: str | None, started: list[Settings]) -> None:
    words = ["train", "--bootstrap", "here:9092", *(["--classes", text] if text else [])]
    assert app.run(words) == 0
    assert started[0].records.classes == text


def test_the_settings_name_the_metrics_sinks() -> None:
    settings = Settings(metrics=Metrics(file="metrics.jsonl", mlflow="http://127.0.0.1:5000"))
    assert [type(sink) for sink in train._metrics_sinks(settings)] == [JsonLinesSink, MLflowSink]
    assert train._metrics_sinks(Settings()) == []


def manifest(**metrics: Any) -> Manifest:
    counts = {"received": 1203, "trained": 1200, "skipped": 0, "rejected": 3, "filtered": 0}
    return Manifest(7, counts=counts, metrics=metrics)


def rejecting(reasons: dict[str, int], filtered: int = 0) -> Manifest:
    n = sum(reasons.values())
    counts = {"received": 9 + n + filtered, "trained": 9, "skipped": 0, "rejected": n, "filtered": filtered}
    return Manifest(7, counts=counts, rejected_by_reason=reasons)


@pytest.mark.parametrize(
    ("metrics", "line"),
    [
        (
            {
                "prequential": {"window": {"accuracy": 0.9, "f1_macro": 0.875, "log_loss": None}},
                "as_served": {"window": {"accuracy": 0.8}},
            },
            "version 7  1,200 rows  3 rejected  accuracy 0.900  f1_macro 0.875  as served 0.800",
        ),
        (
            {
                "prequential": {"window": {"mae": 1.5, "rmse": 2.0, "r2": 0.25}},
                "as_served": {"window": {"mae": None}},
            },
            "version 7  1,200 rows  3 rejected  mae 1.500  rmse 2.000  r2 0.250",
        ),
        ({}, "version 7  1,200 rows  3 rejected"),
    ],
)
def test_a_version_is_logged_in_one_line(
    metrics: dict[str, Any], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink = train.LogSink(6)
    with caplog.at_level(logging.INFO, "streaming_nn"):
        sink.write(manifest(**metrics))
    sink.close()
    assert caplog.messages == [line]
    assert sink.position() == 7


@pytest.mark.parametrize(
    ("manifest", "line"),
    [
        # Practical_RL#226, river#354, streamDM#95
        (
            rejecting({"label not in classes: 2": 400}),
            "version 7  9 rows  400 rejected (label not in classes: 2)",
        ),
        (
            rejecting({"not JSON": 1, "not a number: price": 1200}, filtered=4000),
            "version 7  9 rows  1,201 rejected (1,200 not a number: price, 1 not JSON)  4,000 filtered",
        ),
        (
            rejecting({f"label not in classes: {i}": 10 - i for i in range(5)}),
            "version 7  9 rows  40 rejected (10 label not in classes: 0, 9 label not in classes: 1, "
            "8 label not in classes: 2, 2 more reasons)",
        ),
    ],
)
def test_the_line_names_why_records_were_rejected(manifest: Manifest, line: str) -> None:
    assert train.summarize(manifest) == line


@pytest.mark.parametrize(("terminal", "no_color"), [(True, None), (True, ""), (True, "1"), (False, None)])
def test_a_new_reason_is_in_colour_on_a_terminal(
    terminal: bool, no_color: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    sink = train.LogSink(6)
    with caplog.at_level(logging.INFO, "streaming_nn"):
        sink.write(rejecting({"not JSON": 1}))
        sink.write(rejecting({"not JSON": 1, "not an object": 2}))
        sink.write(rejecting({"not an object": 2}))
    colored = terminal and not no_color
    first, end = ("\033[1;33m", "\033[0m") if colored else ("", "")
    assert caplog.messages == [
        f"version 7  9 rows  1 rejected ({first}not JSON{end})",
        f"version 7  9 rows  3 rejected ({first}2 not an object{end}, 1 not JSON)",
        "version 7  9 rows  2 rejected (not an object)",
    ]


def test_beside_a_table_only_news_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    sink = train.LogSink(6, only_news=True)
    with caplog.at_level(logging.INFO, "streaming_nn"):
        sink.write(manifest())
        sink.write(rejecting({"not JSON": 1}))
        sink.write(rejecting({"not JSON": 1}))
        sink.write(replace(manifest(), events=[{"event": "member restarted", "member": 1}]))
        sink.write(replace(manifest(), events=[{"event": "drift", "detected": 1}]))
    assert caplog.messages == [
        "version 7  9 rows  1 rejected (not JSON)",
        "version 7  1,200 rows  3 rejected  drift",
    ]


def test_versions_are_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    sink = train.JsonSink(6)
    for number in (7, 8):
        sink.write(replace(manifest(accuracy=0.5), number=number))
    sink.close()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [metrics_event(replace(manifest(accuracy=0.5), number=number)) for number in (7, 8)]
    assert sink.position() == 8


def test_a_label_that_is_in_no_class_comes_with_a_hint_once(caplog: pytest.LogCaptureFixture) -> None:
    """Case 4: a run that rejects all of a class must not look perfect."""
    sink = train.LogSink(6)
    with caplog.at_level(logging.INFO, "streaming_nn"):
        for reasons in ({"not JSON": 1}, {"label not in classes: 2": 1}, {"label not in classes: 3": 1}):
            sink.write(rejecting(reasons))
    assert [i for i, message in enumerate(caplog.messages) if 'records.classes = "grow"' in message] == [2]
