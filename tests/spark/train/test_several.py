"""Several targets, and several labels: through the job, verify, a backtest, predictions and the commands."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka_topics import fill, learn, manifests_of, read, rows_of
from pyspark.sql import SparkSession

from streaming_nn.cli import app as commands
from streaming_nn.cli.train import summarize
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, initial, load_state, report, test_then_train
from streaming_nn.nn.state_dict import flatten
from streaming_nn.settings import Settings
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.score.scorer import Scorer
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge

ROWS = 600
LABELS = ["a", "b", "c"]


def settings_of(broker: Any, folder: Path, **records: Any) -> Settings:
    train = {"topics": [broker.topic("topic")], "dead_letters": broker.topic("dead"), "once": True}
    return Settings.model_validate(
        {
            "model": folder / "model",
            "kafka": broker.options,
            "records": {"features": ["p", "q"], **records},
            "learner": {"hidden": [16], "mini_batch": 4},
            "train": {**train, "max_offsets_per_trigger": 250},
            "score": {"topic": broker.topic("u"), "predictions": broker.topic("predictions"), "once": True},
        }
    )


def events() -> list[dict[str, Any]]:
    x = np.random.default_rng(0).normal(size=(ROWS, 2)).round(3)
    found = []
    for p, q in x.tolist():
        applies = dict(zip(LABELS, (p > 0, q > 0, p + q > 1), strict=True))
        tags = [name for name, yes in applies.items() if yes]
        found.append({"p": p, "q": q, "y": {"sum": p + q, "product": 100 * p * q}, "tags": tags, **applies})
    return found


def encoded(rows: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(row).encode() for row in rows]


def replayed(model: Path, y: np.ndarray, kind: type[np.floating[Any]] = np.float64) -> Any:
    """Learn the rows without Spark and without a record, cut as in the versions; return learner and state.

    `kind` is the type of a record's numbers.
    """
    head = VersionLog(model).head()
    assert head is not None
    learner = learner_from(head.manifest.learner)
    x = np.array([[event["p"], event["q"]] for event in events()], kind)
    state = initial(learner)
    for version in manifests_of(model)[1:]:
        ((begin, end),) = next(iter(version.ranges.values())).values()
        state, _ = test_then_train(learner, state, [Batch(x[begin:end], y[begin:end])])
    for name, tensor in flatten(state).items():
        np.testing.assert_array_equal(tensor, head.tensors[name], err_msg=name)
    assert head.manifest.metrics == report(learner, state)
    return learner, state


def predictions_of(spark: SparkSession, settings: Settings) -> list[dict[str, Any]]:
    fill(settings.kafka, settings.score.topic, encoded(events()[:30]))
    scorer = Scorer.open(spark, settings)
    scorer.start()
    scorer.wait()
    found = [json.loads(record.value) for record in read(settings.kafka, settings.score.predictions)]
    return sorted(found, key=lambda prediction: prediction["offset"])


def test_several_targets_are_learned_verified_and_predicted(
    spark: SparkSession, broker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of(broker, tmp_path, label=["y.sum", "y.product"], regression=True)
    bad = [{"p": 1, "q": 2, "y": {"sum": 1}}, {"p": 1, "q": 2, "y": {"sum": 1, "product": "x"}}]
    fill(settings.kafka, settings.train.topics[0], encoded(events() + bad))
    learn(spark, settings)
    log = VersionLog(settings.model)
    assert rows_of(settings.model)["trained"] == ROWS
    last = log.head().manifest  # type: ignore[union-attr]
    assert last.rejected_by_reason == {"label missing: y.product": 1, "label not a number: y.product": 1}
    y = np.array([[event["y"]["sum"], event["y"]["product"]] for event in events()], np.float64)
    learner, state = replayed(settings.model, y)
    assert learner.targets == ("y.sum", "y.product")
    assert last.metrics["prequential"]["window"]["per_target"]["r2"][0] > 0.8
    assert verify(spark, settings.kafka, log).identical

    x = np.array([[event["p"], event["q"]] for event in events()[:30]], np.float64)
    expected = learner.predict(state.model, x)
    for prediction, row in zip(predictions_of(spark, settings), expected.tolist(), strict=True):
        assert prediction["prediction"] == pytest.approx(
            dict(zip(learner.targets, row, strict=True)), rel=1e-6
        )
    assert "mae " in summarize(last)
    for words in (["show", "head"], ["list"], ["diff", "1", "2"]):
        commands.app(["versions", *words, "--model", str(settings.model)], standalone_mode=False)
    found = capsys.readouterr().out
    assert "mae" in found
    assert "accuracy" not in found


def test_labels_grow_and_are_averaged_and_verified(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    settings = settings_of(broker, tmp_path, label="tags", multilabel=True, classes="grow")
    settings = settings.model_copy(update={"train": settings.train.model_copy(update={"update": "averaged"})})
    few = [event | {"tags": [tag for tag in event["tags"] if tag != "c"]} for event in events()]
    fill(settings.kafka, settings.train.topics[0], encoded(few + events()))
    learn(spark, settings)
    log = VersionLog(settings.model)
    head = log.head()
    assert head is not None
    assert rows_of(settings.model)["trained"] == 2 * ROWS
    learner = learner_from(head.manifest.learner)
    assert (learner.multilabel, sorted(learner.classes or ())) == (True, LABELS)
    assert head.manifest.schema["classes"] == list(learner.classes or ())
    window = head.manifest.metrics["prequential"]["window"]
    assert window["hamming_loss"] < 0.2
    assert len(window["per_label"]["f1"]) == 3
    assert f"subset_accuracy {window['subset_accuracy']:.3f}" in summarize(head.manifest)
    assert verify(spark, settings.kafka, log).identical

    x = np.array([[event["p"], event["q"]] for event in events()[:30]], np.float64)
    expected = learner.predict(load_state(learner, head.tensors).model, x)
    for prediction, p in zip(predictions_of(spark, settings), expected, strict=True):
        classes = learner.classes or ()
        assert prediction["prediction"] == [classes[i] for i in np.flatnonzero(p > 0.5)]
        assert prediction["probabilities"] == pytest.approx(dict(zip(classes, p, strict=True)), abs=1e-6)


def test_several_rows_in_a_record_are_learned_verified_and_predicted(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    """What is learned is what `replayed` learns of the rows one by one."""
    below = {"features": ["at.p", "at.q"], "label": "at.y.sum", "regression": True, "explode": "at[]"}
    settings = settings_of(broker, tmp_path, **below)
    settings = settings.model_copy(
        update={"train": settings.train.model_copy(update={"max_offsets_per_trigger": 999})}
    )
    groups = [{"id": i, "at": events()[i : i + 3]} for i in range(0, ROWS, 3)]
    bad = [{"at": [{"p": 1}, {"p": "x", "q": 1, "y": {"sum": 1}}]}, {"at": []}]
    fill(settings.kafka, settings.train.topics[0], encoded(groups + bad))
    learn(spark, settings)
    log = VersionLog(settings.model)
    counts = rows_of(settings.model)
    assert (counts["trained"], counts["rejected"], counts["filtered"]) == (ROWS, 2, 1)
    head = log.head()
    assert head is not None
    learner = learner_from(head.manifest.learner)
    x = np.array([[event["p"], event["q"]] for event in events()])
    y = np.array([event["y"]["sum"] for event in events()])
    expected, _ = test_then_train(learner, initial(learner), [Batch(x, y)])
    for name, tensor in flatten(expected).items():
        np.testing.assert_array_equal(tensor, head.tensors[name], err_msg=name)
    assert verify(spark, settings.kafka, log).identical
    dead = read(settings.kafka, settings.train.dead_letters)
    assert [dict(record.headers)["streaming_nn.row"] for record in dead] == [b"0", b"1"]
    assert [json.loads(record.value)["at"] for record in dead] == bad[0]["at"]

    fill(settings.kafka, settings.score.topic, encoded(groups[:10]))
    scorer = Scorer.open(spark, settings)
    scorer.start()
    scorer.wait()
    found = [json.loads(record.value) for record in read(settings.kafka, settings.score.predictions)]
    assert sorted((each["offset"], each["row"]) for each in found) == [
        (i, j) for i in range(10) for j in range(3)
    ]


@pytest.mark.nightly
@pytest.mark.parametrize("format", ["csv", "packed"])
def test_boolean_fields_are_labels(spark: SparkSession, broker: Any, tmp_path: Path, format: str) -> None:
    from streaming_nn.records.decode import encode
    from streaming_nn.records.schema import Schema

    settings = settings_of(broker, tmp_path, label=LABELS, multilabel=True, format=format)
    schema = Schema(2, features=("p", "q"), label=tuple(LABELS), multilabel=True, format=format)
    x = np.array([[event["p"], event["q"]] for event in events()], np.float64)
    y = np.array([[event[label] for label in LABELS] for event in events()], np.int32)
    fill(settings.kafka, settings.train.topics[0], encode(schema, x, y))
    learn(spark, settings)
    learner, _ = replayed(settings.model, y, np.float32 if format == "packed" else np.float64)
    assert learner.classes == tuple(LABELS)
    fill(settings.kafka, settings.train.topics[0], encode(schema, x[:50], y[:50]))
    learn(spark, settings)  # resumes
    assert rows_of(settings.model)["trained"] == ROWS + 50
    assert verify(spark, settings.kafka, VersionLog(settings.model)).identical
