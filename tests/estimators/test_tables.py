"""Tables of other libraries in River's API: by Arrow's interface, with the bits of the same pandas frame."""

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from streaming_nn.estimators import tables
from streaming_nn.estimators.river import RiverClassifier, RiverRegressor
from streaming_nn.nn.state_dict import flatten
from streaming_nn.versions.version import state_digest

pytestmark = pytest.mark.commit

SMALL: dict[str, Any] = {"learner": "mlp", "hidden": (4,), "mini_batch": 4}
FRAME = pd.DataFrame(
    {
        "n": [1, 2, 3, 4, 5, 6],
        "gap": [0.5, None, 1.5, None, 2.5, 3.5],
        "flag": [True, None, False, True, True, None],
        "city": ["Ulm", None, "Bern", "Ulm", "Rom", "Bern"],
        "price": [Decimal("1.25"), None, Decimal("2"), Decimal("-3.5"), Decimal(0), Decimal(7)],
    }
)
KIND = pd.Series(["a", "b", "a", "b", "b", "a"])
PRICE = pd.Series([1.0, 2, 3, 4, 5, 6])


class Stream:
    """Nothing but Arrow's interface, as any library may have it."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


KINDS = {
    "polars": (pl.from_pandas, pl.from_pandas),
    "arrow": (lambda X: pa.Table.from_pandas(X, preserve_index=False), pa.array),
    "batch": (lambda X: pa.RecordBatch.from_pandas(X, preserve_index=False), pa.array),
    "stream": (
        lambda X: Stream(pa.Table.from_pandas(X, preserve_index=False)),
        lambda y: pa.chunked_array([y]),
    ),
}


def digest(model: Any) -> str:
    return state_digest(flatten(model._model.state))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "model", [RiverClassifier(**SMALL), RiverRegressor(**SMALL)], ids=["classes", "numbers"]
)
def test_a_table_is_learned_as_the_same_pandas_frame(kind: str, model: Any) -> None:
    pytest.importorskip("river")
    table, series = KINDS[kind]
    y = KIND if isinstance(model, RiverClassifier) else PRICE
    expected, found = model.clone(), model.clone()
    for rows in (slice(0, 4), slice(4, 6)):
        expected.learn_many(FRAME[rows], y[rows], w=PRICE[rows])
        found.learn_many(table(FRAME[rows]), series(y[rows]), w=series(PRICE[rows]))
    assert digest(found) == digest(expected)
    assert found._schema == expected._schema
    predictions = found.predict_many(table(FRAME))
    as_list = predictions.to_list() if hasattr(predictions, "to_list") else predictions.to_pylist()
    assert as_list == expected.predict_many(FRAME).tolist()


def test_predictions_are_a_table_of_the_same_library() -> None:
    model = RiverClassifier(**SMALL)
    X, table = pl.from_pandas(FRAME), pa.Table.from_pandas(FRAME)
    assert model.predict_many(X).to_list() == [None] * 6
    assert model.predict_proba_many(table).num_columns == 0
    model.learn_many(X, pl.Series("kind", [True, False] * 3))
    assert isinstance(model.predict_many(X), pl.Series)
    assert model.predict_many(X).name == "label"
    probabilities = model.predict_proba_many(X)
    assert isinstance(probabilities, pl.DataFrame)
    assert probabilities.columns == ["True", "False"]
    assert isinstance(model.predict_many(table), pa.ChunkedArray)
    assert model.predict_proba_many(table).column_names == ["True", "False"]
    expected = model.predict_proba_many(FRAME)
    assert expected.columns.tolist() == [True, False]
    assert np.array_equal(probabilities.to_numpy(), expected.to_numpy())


def test_rows_of_polars_dicts_and_frames_give_one_model() -> None:
    dicts, frames = RiverClassifier(**SMALL), RiverClassifier(**SMALL)
    for i, x in enumerate(pl.from_pandas(FRAME).to_dicts()):
        dicts.learn_one(x, KIND[i])
        frames.learn_many(pl.from_pandas(FRAME)[i : i + 1], pl.Series([KIND[i]]))
    assert dicts._schema.vocabulary == frames._schema.vocabulary
    assert digest(dicts) == digest(frames)


def test_river_s_transformers_pass_polars_frames_on() -> None:
    api = pytest.importorskip("river.api")
    model = api.preprocessing.StandardScaler() | RiverRegressor(**SMALL)
    X = pl.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.0, 1.0, 0.0]})
    model.learn_many(X, pl.Series([1.0, 2.0, 3.0]))
    assert isinstance(model.predict_many(X), pl.Series)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda m, X: m.learn_many(X, KIND[:5]), "y must have a value for each of the 6 rows of X; got 5"),
        (lambda m, X: m.learn_many(X, KIND.tolist()), "y must be a pandas Series; got list"),
        (
            lambda m, X: m.learn_many(X.to_dicts(), KIND),
            "X must be a table of pandas, polars or Arrow; got list",
        ),
        (
            lambda m, X: m.learn_many(X.lazy(), KIND),
            "X must be a table of pandas, polars or Arrow; got LazyFr",
        ),
        (lambda m, X: m.learn_many(X["n"], KIND), "X must be a table of pandas, polars or Arrow; got Series"),
        (
            lambda m, X: m.learn_many(X, pl.Series([1.5] * 6)),
            "y must be a string, an integer or a boolean; got 1",
        ),
        (
            lambda m, X: m.learn_many(pa.table([[1], [2]], names=["a", "a"]), KIND[:1]),
            "X must have columns of different names; got 'a' twice",
        ),
        (lambda m, X: m.learn_many(X.with_columns(l=[1]), KIND), r"feature 'l' must be a number; got "),
    ],
)
def test_what_is_not_a_table_is_one_line(act: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        act(RiverClassifier(**SMALL), pl.from_pandas(FRAME))
    assert "\n" not in str(caught.value)


def test_a_frame_s_columns_keep_their_names() -> None:
    assert [name for name, _ in tables.columns(pd.DataFrame([[1, 2]], columns=[0, ("a", 1)]))] == [
        0,
        ("a", 1),
    ]
    assert tables.rows(pa.table({"a": [1, 2]})) == 2
