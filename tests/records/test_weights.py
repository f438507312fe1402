import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.learner import Batch, initial, report, test_then_train
from streaming_nn.nn.mlp import MLP
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records import avro
from streaming_nn.records.decode import Decoded, decode, inspect
from streaming_nn.records.infer_schema import infer_schema
from streaming_nn.records.reasons import key
from streaming_nn.records.schema import Schema, grow_schema
from streaming_nn.spark.sources.prefetch.reader import plain_of
from streaming_nn.spark.tasks import learn_records

pytestmark = pytest.mark.commit

NAMES = ("a", "b")
AVRO = json.dumps(
    {
        "type": "record",
        "name": "row",
        "fields": [
            {"name": name, "type": ["null", "double"], "default": None} for name in ("a", "b", "label", "w")
        ],
    }
)
NAMED: dict[str, Any] = {"inputs": 2, "features": NAMES, "weight": "w"}
SCHEMAS = {
    "array": Schema(2, (0, 1), weight="w"),
    "json": Schema(classes=(0, 1), **NAMED),
    "csv": Schema(classes=(0, 1), format="csv", csv_columns=("a", "w", "label", "b"), **NAMED),
    "avro": Schema(classes=(0, 1), format="avro", avro_schema=AVRO, **NAMED),
    "nested": Schema(2, (0, 1), features="row.x", label="row.y", weight="meta.w"),
}


def write(name: str, rows: list[list[Any]]) -> list[bytes]:
    """Write rows of a, b, label and weight; a weight that is None is absent."""
    if name == "csv":
        return [f"{a},{'' if w is None else w},{y},{b}".encode() for a, b, y, w in rows]
    records: list[dict[str, Any]] = []
    for a, b, y, w in rows:
        weight = {} if w is None else {"w": w}
        records.append(
            {"row": {"x": [a, b], "y": y}, "meta": weight}
            if name == "nested"
            else {"features": [a, b], "label": y, **weight}
            if name == "array"
            else {"a": a, "b": b, "label": y, **weight}
        )
    if name == "avro":
        return avro.write(SCHEMAS["avro"], records)
    return [json.dumps(record).encode() for record in records]


def reasons(decoded: Decoded) -> list[tuple[int, str]]:
    return [(each.position, key(each)) for each in decoded.rejected]


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_format_gives_the_same_rows_and_weights(name: str) -> None:
    rows = [[float(i), -i / 3, i % 2, w] for i, w in enumerate([1.0, 0.0, 2.5, 1e6, 0.1])]
    decoded = decode(SCHEMAS[name], write(name, rows), labeled=True)
    assert decoded.w is not None
    assert decoded.w.dtype == np.float32
    assert decoded.w.tobytes() == np.float32([row[3] for row in rows]).tobytes()
    assert decoded.x.astype(np.float32).tobytes() == np.float32([row[:2] for row in rows]).tobytes()
    assert decoded.x.flags.c_contiguous
    assert decoded.y is not None
    assert decoded.y.tolist() == [row[2] for row in rows]


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", ["array", "json", "csv", "nested"])
def test_a_weight_that_is_negative_or_not_finite_is_rejected_with_its_field(name: str, missing: bool) -> None:
    path = SCHEMAS[name].weight
    schema = Schema(**{**SCHEMAS[name].options(), "missing": missing})
    weights = [1.0, -1.0, float("nan"), float("inf"), None, "x", 3.0]
    decoded = decode(schema, write(name, [[1.0, 2.0, 1, w] for w in weights]), labeled=True)
    assert decoded.kept.tolist() == [0, 6]
    assert decoded.w is not None
    assert decoded.w.tolist() == [1, 3]
    assert len(decoded.x) == len(decoded.y) == 2  # type: ignore[arg-type]
    missing_, reasons_ = "weight missing", ["weight negative", "not finite", "not a number"]
    expected = [reasons_[0], missing_, reasons_[1], missing_, reasons_[2]]
    assert reasons(decoded) == [(i, f"{reason}: {path}") for i, reason in enumerate(expected, 1)]
    found = inspect(schema, write(name, [[1.0, 2.0, 1, w] for w in weights]))
    assert [key(each) for each in found.rejected] == [reason for _, reason in reasons(decoded)]


@pytest.mark.parametrize("name", ["array", "json", "nested"])
@pytest.mark.parametrize("missing", [False, True])
def test_a_weight_that_is_null_or_a_word_for_a_gap_is_missing_too(name: str, missing: bool) -> None:
    schema = Schema(**{**SCHEMAS[name].options(), "missing": missing, "na_values": ["NA", "-9"]})
    values = [
        row.replace(b"7.0", text)
        for row in write(name, [[1.0, 2.0, 1, 7.0]])
        for text in (b"null", b'"NA"', b"-9")
    ]
    decoded = decode(schema, values, labeled=True)
    assert {key(each) for each in decoded.rejected} == {f"weight missing: {schema.weight}"}
    assert [each[:3] for each in inspect(schema, values).rejected] == [each[:3] for each in decoded.rejected]


def test_a_weight_that_is_a_string_is_explained() -> None:
    values = write("array", [[1.0, 2.0, i % 2, "2"] for i in range(20)])
    with pytest.raises(
        ValueError, match=r"20 not a number: w\n.*whose w is '2'\n.*records.numbers_as_strings"
    ):
        infer_schema(values, weight="w")
    with pytest.raises(ValueError, match=r"20 weight negative: w\n.*whose w is -2"):
        infer_schema([value.replace(b'"2"', b"-2") for value in values], weight="w")


def test_growing_classes_leave_out_the_weights_of_rows_that_wait() -> None:
    schema = Schema(2, None, weight="w", grow=True)
    values = write("array", [[1.0, 2.0, label, i] for i, label in enumerate("abab")])
    first = decode(schema, values, labeled=True)
    assert first.w is not None
    assert len(first.w) == 0
    assert first.unseen == {"label": ("a", "b")}
    again = decode(grow_schema(schema, first.unseen), values, labeled=True)
    assert again.w is not None
    assert again.w.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", SCHEMAS)
def test_records_without_labels_need_no_weight(name: str) -> None:
    decoded = decode(SCHEMAS[name], write(name, [[1.0, 2.0, 1, None]]), labeled=False)
    assert decoded.w is None
    assert decoded.x.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "packed"}, "weight requires records with named fields"),
        ({"features": "t", "categories": {"t": {"hash": 2}}}, "weight requires records with named fields"),
        ({"weight": "label"}, "weight must be neither a feature nor the label; got 'label'"),
        ({"weight": "a", "features": NAMES}, "weight must be neither a feature nor the label; got 'a'"),
        ({"format": "csv"}, "csv_columns must include the weight; 'w' is missing"),
    ],
)
def test_a_weight_that_cannot_be_read_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schema(**{"inputs": 2, "classes": (0, 1), "weight": "w"} | options)


X = np.random.default_rng(0).normal(size=(1500, 2)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.int32)


def records(weights: np.ndarray) -> list[bytes]:
    rows = [[*map(float, x), int(y), float(w)] for x, y, w in zip(X, Y, weights, strict=False)]
    return write("array", rows)


def test_java_leaves_records_with_weights_to_python() -> None:
    assert plain_of(SCHEMAS["array"], labeled=True) == ""
    assert plain_of(SCHEMAS["array"], labeled=False) != ""


def batch_of(values: list[bytes]) -> pa.RecordBatch:
    n = len(values)
    return pa.record_batch(
        {
            "topic": ["t"] * n,
            "partition": pa.array([0] * n, pa.int32()),
            "offset": range(n),
            "timestamp": [0] * n,
            "key": pa.array([None] * n, pa.binary()),
            "value": pa.array(values, pa.binary()),
        }
    )


def test_tasks_learn_by_the_records_weights() -> None:
    weights = np.random.default_rng(1).exponential(size=300).astype(np.float32)
    learner = MLP(2, (0, 1), (4,), optimizer="sgd", mini_batch=8)
    values = records(weights)
    batches = [batch_of(values[begin:end]) for begin, end in ((0, 7), (7, 100), (100, 300))]
    result = learn_records(learner, SCHEMAS["array"], initial(learner), batches, None)
    assert result.part is not None
    state, _ = test_then_train(learner, initial(learner), [Batch(X[:300], Y[:300], weights)])
    plain, _ = test_then_train(learner, initial(learner), [Batch(X[:300], Y[:300])])
    assert result.part.model.theta.tobytes() == state.model.theta.tobytes() != plain.model.theta.tobytes()


def test_a_row_of_weight_0_is_tested_and_not_learned() -> None:
    learner = MLP(2, (0, 1), (4,), optimizer="sgd", mini_batch=8)
    start = initial(learner)
    state, counts = test_then_train(learner, start, [Batch(X[:80], Y[:80], np.zeros(80, np.float32))])
    assert state.model.theta.tobytes() == start.model.theta.tobytes()
    assert counts.trained == report(learner, state)["rows"] == 80
    assert report(learner, state)["prequential"]["cumulative"]["accuracy"] is not None


@pytest.mark.parametrize("at", [0, 700])
def test_one_huge_weight_does_not_wreck_the_default_model(at: int) -> None:
    # VW#4925, river#1502
    weights = np.ones(1500, np.float32)
    weights[at] = 1e6
    learner = Ensemble(2, (0, 1), mini_batch=1)
    state, _ = test_then_train(learner, initial(learner), [Batch(X, Y, weights)])
    assert report(learner, state)["prequential"]["window"]["accuracy"] > 0.95
    tensors = flatten(state)
    assert np.isinf(tensors.pop("model.knots")).any()  # if there is none
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
