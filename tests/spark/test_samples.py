"""What a version keeps of its rows and rejected records: the newest rows as they were served, in 64 KB."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from streaming_nn.core.sparse import SparseRows
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, Predicted, initial, learn_part
from streaming_nn.spark.rejected import DeadLetter
from streaming_nn.spark.samples import NewestRows, escape, newest, rejected
from streaming_nn.versions.version import Manifest, Version, decode, encode, to_text

pytestmark = pytest.mark.commit

RNG = np.random.default_rng(5)
X = RNG.normal(size=(100, 3)) * [1, 1e-7, 1e9]
KINDS = {
    "classes": ({"classes": ["a", "b", "c"]}, RNG.integers(3, size=100).astype(np.int32)),
    "regression": ({"loss": "squared"}, X[:, 0] * 12.3456789),
    "quantiles": ({"loss": "quantile", "quantiles": [0.1, 0.5, 0.9]}, X[:, 0]),
    "targets": ({"loss": "squared", "targets": ["p", "q"]}, X[:, :2]),
    "multilabel": (
        {"classes": ["a", "b"], "multilabel": True},
        RNG.integers(2, size=(100, 2)).astype(np.int32),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", [[100], [3, 50, 47], [90, 10]])
def test_the_newest_rows_are_kept_with_what_the_first_model_predicted(kind: str, cuts: list[int]) -> None:
    options, y = KINDS[kind]
    learner = learner_from({"inputs": 3, "learner": "mlp", "hidden": [4], "mini_batch": 8, **options})
    start = initial(learner)
    x, kept = X.copy(), NewestRows(learner, 16)
    x[95, 1] = np.nan if learner.missing != "refuse" else 0.0
    batches = [Batch(x[a:b], y[a:b]) for a, b in pairwise(np.cumsum([0, *cuts]))]
    learn_part(learner, start, batches, kept.add)
    rows = kept.rows()
    assert len(rows) == 16
    assert_allclose([row["inputs"] for row in rows], x[-16:], rtol=1e-5)
    assert_allclose([row["label"] for row in rows], y[-16:], rtol=1e-5)
    output = learner.predict(start.model, x[-16:])
    if kind == "classes":
        assert [row["predicted"] for row in rows] == output.argmax(1).tolist()
        assert_allclose([row["probability"] for row in rows], output.max(1), rtol=1e-5)
    else:
        point = output[:, learner.point] if output.shape[1] != np.ndim(y) and np.ndim(y) == 1 else output
        assert_allclose([row["predicted"] for row in rows], np.reshape(point, np.shape(y[-16:])), rtol=1e-5)


def block(rows: int, inputs: int, value: float = 0.123456789) -> Predicted:
    y = np.arange(rows, dtype=np.int32)
    output = np.full((rows, 2), 0.5, np.float32)
    return Predicted(Batch(np.full((rows, inputs), value), y, None), output, output)


def classifier(inputs: int) -> Any:
    options = {"classes": ("a", "b"), "multilabel": False, "targets": None, "columns_of_y": None, "point": 0}
    return SimpleNamespace(inputs=inputs, **options)


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([1, 54, 784, 5_000, 100_000])), min_size=1, max_size=4
    ),
    st.integers(0, 16),
    st.sampled_from([-0.123456789, 1e-300, -1.7976e308, 255.0, np.nan, np.inf]),
)
@settings(max_examples=30, deadline=None)
def test_samples_are_at_most_64_kb_and_valid_json(
    tasks: list[tuple[int, int]], most: int, value: float
) -> None:
    inputs = tasks[0][1]
    shares = []
    for blocks, _ in tasks:
        kept = NewestRows(classifier(inputs), most)
        for _ in range(blocks):
            kept.add(block(7, inputs, value))
        shares.append(kept.rows())
    letter = DeadLetter("r" * 99, "f" * 9999, "\x00" * 9999, "t" * 249, 1, 2, None, b"\xff" * 9999, None)
    samples = {
        "rows": newest(shares, most),
        "rejected": rejected(letter._replace(reason=f"{i}" * 500) for i in range(20)),
    }
    assert len(to_text(samples)) <= 65_536
    received = sum(7 * blocks for blocks, _ in tasks)
    assert len(samples["rows"]) <= min(most, received)
    assert samples["rows"] or not (most and received)
    version = Version(Manifest(1, samples=samples), {"w": np.ones(1)})
    assert decode(encode(version)).manifest.samples == samples


def test_each_task_gives_as_many_rows() -> None:
    tasks = [[{"inputs": [0.0], "label": 10 * task + i} for i in range(9)] for task in range(3)]
    assert [row["label"] for row in newest(tasks, 7)] == [7, 8, 17, 18, 27, 28]
    assert [row["label"] for row in newest([tasks[0][:1], []], 7)] == [0]


def test_sparse_rows_are_kept_without_their_inputs() -> None:
    x = SparseRows(np.array([0, 1]), np.array([7]), np.array([1.0]), 1 << 18)
    kept = NewestRows(classifier(1 << 18), 16)
    kept.add(
        Predicted(
            Batch(x, np.zeros(1, np.int32)), np.eye(2, dtype=np.float32)[:1], np.eye(2, dtype=np.float32)[:1]
        )
    )
    assert kept.rows() == [{"inputs": None, "label": 0, "predicted": 0, "probability": 1.0}]


def test_rejected_records_are_of_many_reasons_escaped_and_cut() -> None:
    letters = [DeadLetter("not JSON", "", "", "t", 0, i, None, b"<b>\x1b[31m\xff\n", None) for i in range(20)]
    letters[19] = letters[19]._replace(reason="missing", field="price", value=None)
    found = rejected(letters)
    assert [each["offset"] for each in found] == [0, 19, 1, 2, 3, 4, 5, 6]
    assert found[0]["value"] == "<b>\\u001b[31m\\xff\\n"
    assert found[1] == {
        "reason": "missing",
        "field": "price",
        "found": "",
        "topic": "t",
        "partition": 0,
        "offset": 19,
        "value": None,
    }
    assert escape("é".encode() * 150) == "é" * 100
