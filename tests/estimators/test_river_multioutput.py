"""River's API for several targets and several labels."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from streaming_nn.estimators import sklearn
from streaming_nn.estimators.river import RiverMultiLabelClassifier, RiverMultiTargetRegressor, load
from streaming_nn.nn.state_dict import flatten
from streaming_nn.versions.version import state_digest

pytestmark = pytest.mark.commit

SMALL: dict[str, Any] = {"learner": "mlp", "hidden": (8,), "mini_batch": 8, "learning_rate": 0.02}
RNG = np.random.default_rng(0)
X = pd.DataFrame(RNG.normal(size=(150, 3)), columns=["a", "b", "c"])
TARGETS = pd.DataFrame({"u": X["a"] - X["b"], "v": X["c"] * 2})
LABELS = pd.DataFrame({"p": X["a"] > 0, "q": X["b"] + X["c"] > 0})


class Music:
    """In place of River's data set of that name, which is not installed with it."""

    def __iter__(self) -> Iterator[tuple[dict[str, float], dict[str, bool]]]:
        of = random.Random(0)
        for _ in range(20):
            x = {name: of.gauss(0, 1) for name in "abcd"}
            yield x, {"u": x["a"] > 0, "v": x["b"] + x["c"] > 0}


def digest(model: Any) -> str:
    return state_digest(flatten(model._model.state))


@pytest.mark.parametrize(
    "model",
    [RiverMultiLabelClassifier(**SMALL), RiverMultiTargetRegressor(**SMALL)],
    ids=["labels", "targets"],
)
def test_river_s_own_checks_pass(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = pytest.importorskip("river.checks")
    streams = checks._yield_datasets
    of_labels = isinstance(model, RiverMultiLabelClassifier)
    monkeypatch.setattr(
        checks, "_yield_datasets", lambda m, **_: [Music()] if of_labels else [*streams(m)][:1]
    )
    names = {check.__name__ for check in checks.yield_checks(model)}
    assert {"check_learn_one", "check_emerging_features", "check_pickling"} <= names
    for check in checks.yield_checks(model):
        if check.__name__ not in ("check_bounded_memory_growth", *model._unit_test_skips()):
            check(model.clone())


def test_rivers_metrics_measure_them() -> None:
    river = pytest.importorskip("river.api")
    rows = X.to_dict("records")
    metric = river.metrics.multioutput.MicroAverage(river.metrics.F1())
    stream = list(zip(rows, LABELS.to_dict("records"), strict=True))
    river.evaluate.progressive_val_score(stream, RiverMultiLabelClassifier(**SMALL), metric)
    assert metric.get() > 0.8
    mae = river.metrics.multioutput.MacroAverage(river.metrics.MAE())
    stream = list(zip(rows, TARGETS.to_dict("records"), strict=True))
    river.evaluate.progressive_val_score(stream, RiverMultiTargetRegressor(**SMALL), mae)
    assert mae.get() < 0.7


@pytest.mark.parametrize(
    ("kind", "y"), [(RiverMultiLabelClassifier, LABELS), (RiverMultiTargetRegressor, TARGETS)]
)
def test_rows_tables_and_arrays_give_the_same_bits(kind: Any, y: pd.DataFrame, tmp_path: Path) -> None:
    options = {**SMALL, "mini_batch": 1, "missing": "refuse"}
    by_rows, by_tables = kind(**options), kind(**options)
    for row, label in zip(X.to_dict("records"), y.to_dict("records"), strict=True):
        by_rows.learn_one(row, label)
    for start in range(0, 150, 70):
        by_tables.learn_many(X[start : start + 70], y[start : start + 70])
    arrays: Any = sklearn.OnlineRegressor if y is TARGETS else sklearn.OnlineClassifier
    array = arrays(**{**SMALL, "mini_batch": 1}).fit(X.to_numpy(np.float64), y.astype(float))
    models = (by_rows._model.state, by_tables._model.state, array.state_)  # fading figures depend on the cuts
    assert len({state_digest(flatten(state.model)) for state in models}) == 1
    table = by_rows.predict_many(X)
    assert table.columns.tolist() == y.columns.tolist()
    np.testing.assert_array_equal(table.to_numpy(float), array.predict(X.to_numpy(np.float64)))
    one = by_rows.predict_one(X.iloc[0].to_dict())
    assert one == table.iloc[0].to_dict()
    by_rows.save(tmp_path)
    loaded = load(tmp_path)
    assert type(loaded) is kind
    assert loaded.predict_one(X.iloc[0].to_dict()) == one
    for model in (loaded, by_rows):
        model.learn_many(X[:9], y[:9])
    assert digest(loaded) == digest(by_rows)
    assert loaded.save(tmp_path) == 1


def test_labels_are_known_when_they_are_first_seen(tmp_path: Path) -> None:
    model = RiverMultiLabelClassifier(**SMALL)
    row = {"a": 1.0}
    assert (model.predict_one(row), model.predict_proba_one(row)) == ({}, {})
    model.learn_one(row, {"p": True})
    model.save(tmp_path)
    model.learn_one(row, {"q": False, "p": 1})
    assert list(model.predict_one(row)) == ["p", "q"]
    p = model.predict_proba_one(row)["q"]
    assert p[False] + p[True] == 1
    for _ in range(100):
        model.learn_one(row, {"q": True})
    assert model.predict_one(row) == {"p": False, "q": True}
    known = RiverMultiLabelClassifier(**SMALL, classes=["x", "y"])
    known.learn_one(row, {"y": True})
    assert list(known.predict_one(row)) == ["x", "y"]


@pytest.mark.parametrize(
    ("kind", "y", "error", "words"),
    [
        (RiverMultiLabelClassifier, True, TypeError, "y must be a dict; got bool"),
        (RiverMultiLabelClassifier, {}, ValueError, "y must have a label or more in the first row; got none"),
        (
            RiverMultiLabelClassifier,
            {"p": 2},
            ValueError,
            "y must be true or false for each label; got 2 for 'p'",
        ),
        (RiverMultiTargetRegressor, 1.0, TypeError, "y must be a dict; got float"),
        (RiverMultiTargetRegressor, {}, ValueError, "y must have a target or more; got none"),
        (RiverMultiTargetRegressor, {"u": float("nan")}, ValueError, "y must be finite; got nan"),
        (
            RiverMultiTargetRegressor,
            {"a": 1.0},
            ValueError,
            "label must not be the name of a feature; got 'a'",
        ),
    ],
)
def test_a_bad_y_is_an_error_in_one_line(kind: Any, y: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=f"^{words}"):
        kind(**SMALL).learn_one({"a": 1.0}, y)


def test_the_targets_stay_those_of_the_first_row() -> None:
    model = RiverMultiTargetRegressor(**SMALL)
    model.learn_one({"a": 1.0}, {"u.v": 1, "w": 2})
    before = digest(model)
    with pytest.raises(ValueError, match=r"^y must have the targets '\"u\.v\"', 'w'; got 'w'"):
        model.learn_one({"a": 1.0}, {"w": 2})
    assert digest(model) == before
    model.learn_one({"a": 1.0}, {"w": 2, "u.v": 1})
    assert list(model.predict_one({"a": 1.0})) == ["u.v", "w"]
