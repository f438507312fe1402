"""Predictions as JSON, without Spark: the values of learner.predict, in each form of the probabilities."""

import base64
import json
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, Learner, initial
from streaming_nn.records.decode import encode
from streaming_nn.records.schema import Schema
from streaming_nn.spark.score.predictions import SUM, OutcomeParam, Predict, count_latencies, label_keys
from streaming_nn.spark.tasks import pack

pytestmark = pytest.mark.commit

LABELS = ("a", 2, True, 'é"')
CUT_HEADERS = ("streaming_nn.cut", b"headers")
KEYS = ["a", "2", "true", 'é"']


def trained(classes: tuple[Any, ...] | None, rows: int = 100) -> tuple[Learner[Any], Any]:
    learner = learner_from({"learner": "mlp", "inputs": 3, "hidden": [8], "classes": classes})
    rng, state = np.random.default_rng(0), initial(learner)
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    y = x[:, 0] if classes is None else rng.integers(0, len(classes), rows).astype(np.int32)
    model, _, count = learner.learn(learner.copy(state.model), Batch(x, y))
    assert count == rows
    return learner, state._replace(model=model)


def predict(
    learner: Learner[Any],
    state: Any,
    values: list[Any],
    probabilities: str = "object",
    outcomes: Any = None,
    **options: Any,
) -> list[str]:
    """Return the predictions of records, as strings."""
    label = learner.targets or "label"
    schema = Schema(3, learner.classes, label=label, multilabel=learner.multilabel)
    broadcast = SimpleNamespace(value=pack(state))
    work = Predict(
        learner, schema, broadcast, {"version": 7}, frozenset(), probabilities, outcomes, **options
    )
    batch = pa.record_batch(
        {
            "key": pa.nulls(len(values), pa.binary()),
            "value": pa.array(values, pa.binary()),
            "topic": ["unlabeled"] * len(values),
            "partition": pa.array([0] * len(values), pa.int32()),
            "offset": pa.array(range(len(values)), pa.int64()),
        }
    )
    return [value.decode() for value in next(work(iter([batch]))).column("value").to_pylist()]


def test_each_row_of_an_array_has_a_prediction_and_its_position() -> None:
    learner, state = trained(LABELS)
    schema = Schema(3, learner.classes, explode="[]")
    work = Predict(learner, schema, SimpleNamespace(value=pack(state)), {"version": 7}, cloudevents=True)
    x = encoded(rows(3))
    batch = pa.record_batch(
        {
            "key": pa.array([b"k", None], pa.binary()),
            "value": pa.array([b"[%s,%s]" % (x[0], x[1]), b"[%s,7]" % x[2]], pa.binary()),
            "topic": ["unlabeled"] * 2,
            "partition": pa.array([0, 0], pa.int32()),
            "offset": pa.array([40, 41], pa.int64()),
            "headers": pa.nulls(2, pa.string()),
        }
    )
    out = next(work(iter([batch])))
    events = [json.loads(value) for value in out.column("value").to_pylist()]
    assert [event["id"] for event in events] == ["0-40-0", "0-40-1", "0-41-0", "0-41-1"]
    assert out.column("key").to_pylist() == [b"k", b"k", None, None]
    data = [event["data"] for event in events]
    assert [(each["offset"], each["row"]) for each in data] == [(40, 0), (40, 1), (41, 0), (41, 1)]
    alone = [json.loads(text)["probabilities"] for text in predict(learner, state, x)]
    assert [each.get("probabilities") for each in data] == [*alone, None]
    assert data[3]["error"] == "not an object"


def rows(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(size=(count, 3))


def encoded(x: np.ndarray[Any, Any]) -> list[bytes]:
    return encode(Schema(inputs=3, label=None), x)


def several(**options: Any) -> tuple[Learner[Any], Any, Any]:
    """Return a learner of several targets or labels, its state after some rows, and predictions of 20."""
    learner = learner_from({"learner": "mlp", "inputs": 3, "learning_rate": 0.1, **options})
    state, x = initial(learner), rows(100)
    y = (x > 1).astype(np.int32) if learner.multilabel else x[:, : learner.columns_of_y]
    model, _, _ = learner.learn(learner.copy(state.model), Batch(x, y))
    return learner, state._replace(model=model), learner.predict(model, rows(20))


def test_targets_have_their_names() -> None:
    learner, state, expected = several(targets=["a", 'b"c'])
    predictions = [json.loads(text) for text in predict(learner, state, encoded(rows(20)))]
    assert [list(each["prediction"].items()) for each in predictions] == [
        [("a", pytest.approx(a)), ('b"c', pytest.approx(b))] for a, b in expected.tolist()
    ]
    assert "probabilities" not in predictions[0]


@pytest.mark.parametrize("probabilities", ["object", "array", "none"])
def test_labels_that_apply_are_a_list(probabilities: str) -> None:
    classes = ("x", 1, True)
    learner, state, expected = several(classes=classes, multilabel=True)
    texts = predict(learner, state, encoded(rows(20)), probabilities)
    for text, p in zip(texts, expected, strict=True):
        prediction = json.loads(text)
        assert prediction["prediction"] == [
            label for label, each in zip(classes, p, strict=True) if each > 0.5
        ]
        found = prediction.get("probabilities", [])
        named = dict(zip(["x", "1", "true"], p, strict=True))
        wanted = {"object": named, "array": list(p), "none": []}[probabilities]
        assert found == pytest.approx(wanted, abs=6e-7)
    assert any(json.loads(text)["prediction"] == [] for text in texts)


def test_probabilities_have_their_labels() -> None:
    learner, state = trained(LABELS)
    x = rows(2000)  # more than are predicted at once
    expected = learner.predict(state.model, x)
    for i, text in enumerate(predict(learner, state, encoded(x))):
        prediction = json.loads(text)
        assert list(prediction) == ["prediction", "probabilities", "version", "topic", "partition", "offset"]
        assert list(prediction["probabilities"]) == KEYS
        np.testing.assert_allclose(list(prediction["probabilities"].values()), expected[i], atol=6e-7)
        assert prediction["prediction"] == LABELS[expected[i].argmax()]
        assert (prediction["version"], prediction["offset"]) == (7, i)


def test_probabilities_as_an_array_are_in_the_order_of_the_classes() -> None:
    learner, state = trained(LABELS)
    x = rows(20)
    predictions = [json.loads(text) for text in predict(learner, state, encoded(x), "array")]
    found = np.array([prediction["probabilities"] for prediction in predictions])
    np.testing.assert_allclose(found, learner.predict(state.model, x), atol=6e-7)


def test_probabilities_can_be_omitted() -> None:
    learner, state = trained(LABELS)
    x = rows(20)
    predictions = [json.loads(text) for text in predict(learner, state, encoded(x), "none")]
    assert not any("probabilities" in prediction for prediction in predictions)
    best = learner.predict(state.model, x).argmax(axis=1)
    assert [prediction["prediction"] for prediction in predictions] == [LABELS[i] for i in best]


@pytest.mark.parametrize("probabilities", ["object", "array", "none"])
def test_a_regression_has_no_probabilities(probabilities: str) -> None:
    learner, state = trained(None)
    x = rows(20)
    predictions = [json.loads(text) for text in predict(learner, state, encoded(x), probabilities)]
    assert not any("probabilities" in prediction for prediction in predictions)
    found = [prediction["prediction"] for prediction in predictions]
    np.testing.assert_allclose(found, learner.predict(state.model, x)[:, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("quantiles", "point"), [((0.5,), 0), ((0.1, 0.5, 0.9), 1), ((0.05, 0.2), 1), ((0.8, 0.9, 0.95), 0)]
)
def test_of_quantiles_the_one_nearest_to_the_median_is_predicted(
    quantiles: tuple[float, ...], point: int
) -> None:
    learner = learner_from({"learner": "mlp", "inputs": 3, "loss": "quantile", "quantiles": quantiles})
    state, x = initial(learner), rows(20)
    found = [json.loads(text)["prediction"] for text in predict(learner, state, encoded(x))]
    np.testing.assert_allclose(found, learner.predict(state.model, x)[:, point], rtol=1e-6)


@pytest.mark.parametrize("probabilities", ["object", "array"])
def test_probabilities_that_are_not_finite_keep_their_labels(probabilities: str) -> None:
    learner, state = trained(LABELS)
    state.model.theta[:] = np.nan
    (text,) = predict(learner, state, encoded(rows(1)), probabilities)
    found = json.loads(text)["probabilities"]
    assert len(found) == len(LABELS)
    if probabilities == "object":
        assert list(found) == KEYS


@pytest.mark.parametrize(
    ("labels", "keys"),
    [
        ([0, 1], ["0", "1"]),
        ([True, "true!", -5], ["true", "true!", "-5"]),
        ([1, "1"], ["1", '"1"']),
        ([True, "true", "b"], ["true", '"true"', '"b"']),
        ([1, "1", '"1"'], ["1", '"1"', '"\\"1\\""']),
        ([], []),
    ],
)
def test_keys_of_labels_differ(labels: list[Any], keys: list[str]) -> None:
    """1, "1" and true are different labels, and JSON has only strings as keys."""
    assert label_keys(labels) == keys
    assert len(set(keys)) == len(labels)


def test_labels_with_equal_texts_have_different_keys() -> None:
    learner, state = trained((1, "1"))
    x = rows(5)
    expected = learner.predict(state.model, x)
    for text, row in zip(predict(learner, state, encoded(x)), expected, strict=True):
        found = json.loads(text)["probabilities"]
        np.testing.assert_allclose([found["1"], found['"1"']], row, atol=6e-7)


def test_outcomes_are_counted_by_reason() -> None:
    learner, state = trained(LABELS)
    counts, param = Counter[str](), OutcomeParam()
    outcomes = SimpleNamespace(add=lambda more: param.addInPlace(counts, more))
    values = [*encoded(rows(5)), b"x", None, b"y", b"[]", None]
    texts = predict(learner, state, values, outcomes=outcomes)
    assert counts == {"": 5, "not JSON": 2, "not an object": 1, "filtered": 2}
    assert [json.loads(text).get("error") for text in texts[5:]] == ["not JSON", "not JSON", "not an object"]
    assert [json.loads(text)["offset"] for text in texts] == [0, 1, 2, 3, 4, 5, 7, 8]


def copied(
    key: bytes | None, headers: list[tuple[str, bytes | None]], **options: Any
) -> tuple[bytes | None, list[tuple[str, bytes | None]]]:
    """Return key and headers of a prediction of a record that has these."""
    learner, state = trained(LABELS)
    names = frozenset(("content-type", "traceparent"))
    work = Predict(learner, SCHEMA, SimpleNamespace(value=pack(state)), {}, names, longest=100, **options)
    texts = [
        {"key": name} | ({} if value is None else {"value": base64.b64encode(value).decode()})
        for name, value in headers
    ]
    batch = pa.record_batch(
        {
            "key": pa.array([key], pa.binary()),
            "value": pa.array(encoded(rows(1)), pa.binary()),
            "headers": [json.dumps(texts) if texts else None],
            "topic": ["unlabeled"],
            "partition": pa.array([0], pa.int32()),
            "offset": pa.array([7], pa.int64()),
        }
    )
    (out,) = next(work(iter([batch]))).to_pylist()
    return out["key"], [(header["key"], header["value"]) for header in out["headers"] or ()]


SCHEMA = Schema(inputs=3, classes=LABELS)
EVENT = ("content-type", b"application/cloudevents+json; charset=UTF-8")
IN_CLOUDEVENTS = ("Content-Type", b"application/cloudevents+json")  # sdk-java#422, #401, spec#835


@pytest.mark.parametrize(
    ("headers", "found", "events"),
    [
        ([], [], [EVENT]),
        ([("other", b"x"), ("traceparent", None)], [("traceparent", None)], [EVENT, ("traceparent", None)]),
        ([IN_CLOUDEVENTS, ("ce_id", b"1")], [("Content-Type", b"application/json")], [EVENT]),
        ([IN_CLOUDEVENTS] * 2, [("Content-Type", b"application/json")], [EVENT]),
        (
            [("content-type", b"x" * 101), ("traceparent", b"t" * 90)],
            [("content-type", b"application/json"), CUT_HEADERS],
            [EVENT, CUT_HEADERS],
        ),
    ],
)
def test_a_prediction_has_its_own_content_type_and_headers_that_fit(
    headers: list[Any], found: list[Any], events: list[Any]
) -> None:
    assert copied(b"k" * 100, headers) == (b"k" * 100, found)
    assert copied(None, headers, cloudevents=True) == (None, events)


@pytest.mark.parametrize("headers", [[], [("traceparent", b"1")]])
def test_a_key_that_is_too_long_is_left_out(headers: list[Any]) -> None:
    assert copied(b"k" * 101, headers) == (None, [*headers, ("streaming_nn.cut", b"key")])


def test_predictions_are_events_with_an_id_for_each_record() -> None:
    learner, state = trained(LABELS)
    values = [*encoded(rows(2)), b"x"]
    plain = [json.loads(text) for text in predict(learner, state, values)]
    events = [json.loads(text) for text in predict(learner, state, values, cloudevents=True)]
    assert events == [
        {
            "specversion": "1.0",
            "type": "streaming-nn.prediction",
            "source": "streaming-nn:unlabeled",
            "id": f"0-{offset}",
            "datacontenttype": "application/json",
            "data": prediction,
        }
        for offset, prediction in enumerate(plain)
    ]


def test_predictions_have_chosen_fields_of_their_records() -> None:
    learner, state = trained(LABELS)
    values = [
        b'{"id":7,"features":[1,2,3]}',
        None,
        b'{"id":[%s],"features":[1,2,3]}' % (b"1," * 60 + b"1"),
        b"x",
    ]
    texts = predict(learner, state, values, fields=("id", "features"), longest=100)
    assert [json.loads(text)["fields"] for text in texts] == [
        {"id": 7, "features": [1, 2, 3]},
        None,
        {"id": None, "features": None},
    ]


@pytest.mark.parametrize("kind", [pa.int64(), pa.timestamp("us", "UTC")], ids=["our reader's", "Spark's"])
def test_latencies_are_counted_by_their_upper_bound(kind: pa.DataType) -> None:
    now = 1_700_000_000.0
    seconds = [0.004, 0.01, 0.012, 2.0, 299.0, 301.0, -5.0]  # the last one's clock is ahead
    times = [round((now - s) * 1000) for s in seconds]
    column = pa.array([*times, -1], pa.int64())  # the last one has no timestamp
    if kind != pa.int64():
        column = pa.array([1000 * t for t in column.to_pylist()], pa.int64()).cast(kind)
    counted = count_latencies(column, now)
    total = counted.pop(SUM)
    assert total == sum(round(1000 * max(s, 0)) for s in seconds)
    assert counted == {"0.01": 3, "0.025": 1, "2.5": 1, "300.0": 1, "inf": 1}


def test_no_time_of_a_record_ends_the_count() -> None:
    column = pa.array([2**63 - 1, -(2**63), 0], pa.int64())
    counted = count_latencies(column, 1_700_000_000.0)
    assert counted == {"0.01": 1, "inf": 1, SUM: 1_700_000_000_000}
