"""Named and nested fields, and a regression target: through training, predictions, metrics and replay."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka_topics import fill, learn, manifests_of, read, rows_of
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from streaming_nn.cli import app as commands
from streaming_nn.nn import metrics
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, State, initial, test_then_train
from streaming_nn.nn.state_dict import flatten, unflatten
from streaming_nn.settings import Settings, load
from streaming_nn.sinks.json_lines import JsonLinesSink
from streaming_nn.sinks.kafka_topic import KafkaTopicSink
from streaming_nn.sinks.metrics_event import metrics_event
from streaming_nn.sinks.sink import Sinks
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.score.scorer import Scorer
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge

FILE = """
model = "{folder}/model"

[kafka]
"bootstrap.servers" = "{bootstrap}"

[records]
features = ["price", "demand.now"]
label = "measured.load"
regression = true
numbers_as_strings = {strings}

[learner]
hidden = [16]
optimizer = "adam"
learning_rate = 0.01
mini_batch = 8

[train]
topics = ["{topic}"]
dead_letters = "dead-{topic}"
once = true
max_offsets_per_trigger = 500

[score]
topic = "{unlabeled}"
predictions = "{predictions}"
once = true
"""
GOOD = 1200
STRINGS: list[tuple[Any, str]] = [  # numbers in quotes: rejected with this reason, unless they are allowed
    ({"price": "1.5", "demand": {"now": 2}, "measured": {"load": 3}}, "not a number: price"),
    ({"price": 1.5, "demand": {"now": "-2e0"}, "measured": {"load": 3}}, "not a number: demand.now"),
    ({"price": 1.5, "demand": {"now": 2}, "measured": {"load": "3.25"}}, "label not a number: measured.load"),
]
BROKEN: list[tuple[Any, str]] = [
    ({"demand": {"now": 2}, "measured": {"load": 3}}, "field missing: price"),
    ({"price": 1, "demand": {}, "measured": {"load": 3}}, "field missing: demand.now"),
    ({"price": 1, "demand": {"then": 2}, "measured": {"load": 3}}, "field missing: demand.now"),
    ({"price": 1, "demand": None, "measured": {"load": 3}}, "field missing: demand.now"),
    ({"price": 1, "demand": 2, "measured": {"load": 3}}, "field missing: demand.now"),
    ({"price": 1, "demand": [2], "measured": {"load": 3}}, "field missing: demand.now"),
    ({"price": 1, "demand.now": 2, "measured": {"load": 3}}, "field missing: demand.now"),
    ({"price": 1, "demand": {"now": None}, "measured": {"load": 3}}, "not a number: demand.now"),
    ({"price": {}, "demand": {"now": 2}, "measured": {"load": 3}}, "not a number: price"),
    ({"price": "dear", "demand": {"now": 2}, "measured": {"load": 3}}, "not a number: price"),
    ({"price": [1], "demand": {"now": 2}, "measured": {"load": 3}}, "not a number: price"),
    ({"price": 1e39, "demand": {"now": 2}, "measured": {"load": 3}}, "not finite: price"),
    ({"price": 1, "demand": {"now": 2}}, "label missing: measured.load"),
    ({"price": 1, "demand": {"now": 2}, "measured": {}}, "label missing: measured.load"),
    ({"price": 1, "demand": {"now": 2}, "measured": {"load": None}}, "label missing: measured.load"),
    ({"price": 1, "demand": {"now": 2}, "measured": {"load": "much"}}, "label not a number: measured.load"),
    ({"price": 1, "demand": {"now": 2}, "measured": {"load": [False]}}, "label not a number: measured.load"),
]


def settings_of(broker: Any, folder: Path, strings: bool) -> Settings:
    topics = {name: broker.topic(name) for name in ("topic", "unlabeled", "predictions")}
    file = folder / "streaming-nn.toml"
    text = FILE.format(folder=folder, bootstrap=broker.bootstrap, strings=str(strings).lower(), **topics)
    file.write_text(text)
    return load(file)


def events() -> list[dict[str, Any]]:
    """Rows that a network can learn; their fields are among others, in another order than in the schema."""
    price, now = np.random.default_rng(0).normal([5, 100], [1, 30], (GOOD, 2)).round(3).T.tolist()
    return [
        {
            "measured": {"by": "meter", "load": round(3 * p - 0.2 * n, 3)},
            "demand": {"then": 7, "now": n},
            "price": p,
        }
        for p, n in zip(price, now, strict=True)
    ]


def shuffled(records: list[Any]) -> list[Any]:
    order = np.random.default_rng(1).permutation(len(records))
    return [records[i] for i in order]


def row(event: dict[str, Any]) -> tuple[float, float, float]:
    """Read an event without any of our code."""
    return float(event["price"]), float(event["demand"]["now"]), float(event["measured"]["load"])


def oracle(model: Path, sent: list[Any], learnable: list[Any]) -> tuple[State[Any], NDArray[np.float64]]:
    """Learn the rows again without Spark, cut as in the versions; return the state and the targets."""
    head = VersionLog(model).head()
    assert head is not None
    learner = learner_from(head.manifest.learner)
    state, targets = initial(learner), []
    for manifest in manifests_of(model)[1:]:
        (begin, end) = next(iter(manifest.ranges.values()))[0]
        rows = [row(event) for event in sent[begin:end] if event in learnable]
        table = np.array(rows, np.float64).reshape(-1, 3)
        state, _ = test_then_train(learner, state, [Batch(table[:, :2], table[:, 2])])
        targets += table[:, 2].tolist()
    return state, np.array(targets, np.float64)


def encoded(records: list[Any]) -> list[bytes]:
    return [json.dumps(record).encode() for record in records]


@pytest.mark.parametrize("strings", [False, True])
def test_nested_fields_and_a_regression_target_are_learned_as_sent(
    strings: bool, spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    settings = settings_of(broker, tmp_path, strings)
    refusals = BROKEN if strings else BROKEN + STRINGS
    rejected, reasons = [event for event, _ in refusals], [reason for _, reason in refusals]
    sent = shuffled(events() + [event for event, _ in BROKEN + STRINGS])
    learnable = [event for event in sent if event not in rejected]
    fill(broker.options, settings.train.topics[0], encoded(sent))
    learn(spark, settings)

    counted = {
        "received": len(sent),
        "trained": len(learnable),
        "skipped": 0,
        "rejected": len(rejected),
        "filtered": 0,
    }
    assert rows_of(settings.model) == counted
    manifests = manifests_of(settings.model)
    assert len(manifests) >= 3, "one micro-batch would prove little"
    assert sum((Counter(m.rejected_by_reason) for m in manifests), Counter()) == Counter(reasons)
    dead_letters = read(broker.options, settings.train.dead_letters)
    found = {x.value: dict(x.headers)["streaming_nn.reason"].decode() for x in dead_letters}
    alone = [reason.partition(":")[0] for reason in reasons]
    assert found == dict(zip(encoded(rejected), alone, strict=True))

    head = VersionLog(settings.model).head()
    assert head is not None
    assert head.manifest.schema["features"] == ["price", "demand.now"]
    assert (head.manifest.schema["inputs"], head.manifest.schema["classes"]) == (2, None)
    state, targets = oracle(settings.model, sent, learnable)
    expected = flatten(state)
    assert set(expected) == set(head.tensors)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(tensor, head.tensors[name], err_msg=name)
    check_metrics(head.manifest.metrics, state, targets)
    assert verify(spark, broker.options, VersionLog(settings.model)).identical


def check_metrics(found: dict[str, Any], state: State[Any], targets: NDArray[np.float64]) -> None:
    """Check a version's metrics against those of the oracle, and the baselines against their formulas."""
    assert found == metrics.report(state.metrics)
    y = targets.astype(np.float64)
    before = np.concatenate([[0.0], y[:-1]])
    mean = np.concatenate([[0.0], np.cumsum(y)[:-1] / np.arange(1, len(y))])
    for name, prediction in (("no_change", before), ("mean", mean)):
        total = found["baselines"][name]["cumulative"]
        assert total["mae"] == pytest.approx(np.abs(prediction - y).mean())
        assert total["rmse"] == pytest.approx(np.sqrt(((prediction - y) ** 2).mean()))
        assert total["r2"] == pytest.approx(1 - ((prediction - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    network, last = found["prequential"]["window"], found["baselines"]["no_change"]["window"]
    assert network["mae"] < 0.5 * last["mae"]
    assert network["r2"] > 0.7
    assert set(found["as_served"]["window"]) == {"mae", "rmse", "r2"}


def test_predictions_of_a_regression_are_numbers(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    settings = settings_of(broker, tmp_path, strings=False)
    fill(broker.options, settings.train.topics[0], encoded(events()))
    learn(spark, settings)
    unlabeled = [{k: v for k, v in event.items() if k != "measured"} for event in events()[:30]]
    broken = [(event, reason) for event, reason in BROKEN + STRINGS if not reason.startswith("label")]
    fill(broker.options, settings.score.topic, encoded(unlabeled + [event for event, _ in broken]))
    scorer = Scorer.open(spark, settings)
    scorer.start()
    scorer.wait()

    predictions = [json.loads(r.value) for r in read(broker.options, settings.score.predictions)]
    by_offset = {prediction["offset"]: prediction for prediction in predictions}
    assert sorted(by_offset) == list(range(len(unlabeled) + len(broken)))
    head = VersionLog(settings.model).head()
    assert head is not None
    learner = learner_from(head.manifest.learner)
    x = np.array([[e["price"], e["demand"]["now"]] for e in unlabeled], np.float64)
    expected = learner.predict(unflatten(initial(learner), head.tensors).model, x)[:, 0]
    predicted = [by_offset[i]["prediction"] for i in range(len(unlabeled))]
    np.testing.assert_allclose(predicted, expected, rtol=1e-6)
    assert "probabilities" not in by_offset[0]
    rejected = [by_offset[len(unlabeled) + i] for i in range(len(broken))]
    assert [(a["prediction"], a["error"]) for a in rejected] == [(None, reason) for _, reason in broken]


def test_metrics_reach_the_file_and_the_topic(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    settings = settings_of(broker, tmp_path, strings=False)
    fill(broker.options, settings.train.topics[0], encoded(events()))
    topic, file = broker.topic("metrics"), tmp_path / "metrics.jsonl"
    learn(spark, settings)
    log = VersionLog(settings.model)
    sinks = Sinks(log, [JsonLinesSink(file), KafkaTopicSink(broker.options, topic, settings.model)])
    sinks.stop(drain=30)

    expected = [metrics_event(manifest) for manifest in manifests_of(settings.model)]
    written = [json.loads(text) for text in file.read_text().splitlines()]
    sent = sorted((json.loads(r.value) for r in read(broker.options, topic)), key=lambda v: v["number"])
    assert written == json.loads(json.dumps(expected))
    assert sent == written
    scores = written[-1]["metrics"]["prequential"]["window"]
    assert set(scores) == {"mae", "rmse", "r2"}
    assert set(written[-1]["metrics"]["baselines"]) == {"mean", "no_change"}


def test_few_records_are_enough_if_nothing_must_be_inferred(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    settings = settings_of(broker, tmp_path, strings=False)
    fill(broker.options, settings.train.topics[0], encoded(events()[:3]))
    learn(spark, settings)
    assert rows_of(settings.model)["trained"] == 3


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ({"inputs": 3}, "inputs must be 2, the number of features; got 3"),
        ({"features": ["price", "demand..now"]}, "features must be a field's name, or names joined by dots"),
        ({"features": ["price", "price"]}, "features must differ from each other; got 'price' twice"),
    ],
    ids=str,
)
def test_an_impossible_schema_is_reported_in_one_line(
    records: dict[str, Any], message: str, spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    settings = settings_of(broker, tmp_path, strings=False)
    wrong = settings.records.model_copy(update=records)
    with pytest.raises(ValueError) as raised:
        learn(spark, settings.model_copy(update={"records": wrong}))
    assert str(raised.value).startswith(message)
    assert VersionLog(settings.model).head_number() is None


def test_a_model_keeps_the_schema_that_it_was_created_with(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    settings = settings_of(broker, tmp_path, strings=False)
    fill(broker.options, settings.train.topics[0], encoded(events()[:20]))
    learn(spark, settings)
    changes: list[tuple[dict[str, Any], str]] = [
        (
            {"features": ["demand.now", "price"]},
            "records.features = ['price', 'demand.now'], now ['demand.now'",
        ),
        ({"numbers_as_strings": True}, "records.numbers_as_strings = False, now True"),
        ({"classes": [0, 1], "regression": False}, "records.classes = None, now [0, 1]"),
    ]
    for update, message in changes:
        changed = settings.model_copy(update={"records": settings.records.model_copy(update=update)})
        with pytest.raises(ValueError) as raised:
            learn(spark, changed)
        assert message in str(raised.value)


def test_flags_and_the_settings_file_are_equivalent(
    broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spark:
        def stop(self) -> None: ...

    taken: list[Settings] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("streaming_nn.spark.session.session", lambda options, progress: Spark())
    monkeypatch.setattr(
        "streaming_nn.spark.train.trainer.train", lambda spark, settings, *_: taken.append(settings)
    )
    words = ["train", "--features", "price,demand.now", "--label", "measured.load", "--regression"]
    words += ["--set", "records.numbers_as_strings=true", "--bootstrap", broker.bootstrap]
    words += ["--topic", broker.topic()]
    commands.app(words, standalone_mode=False)
    from_file = settings_of(broker, tmp_path, strings=True).records
    assert taken[0].records.model_dump() == from_file.model_dump()
