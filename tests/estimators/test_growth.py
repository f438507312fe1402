"""Features that come and go, in River's API: what is absent, what is new, and that both are in the state."""

import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_nn import model as models
from streaming_nn.estimators import sklearn
from streaming_nn.estimators.river import RiverClassifier, RiverRegressor, load
from streaming_nn.nn.factory import LEARNERS
from streaming_nn.nn.learner import Batch, test_then_train
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.decode import decode
from streaming_nn.versions.version import state_digest

pytestmark = pytest.mark.commit

SMALL: dict[str, Any] = {"learner": "mlp", "hidden": (4,), "mini_batch": 4}
Row = dict[Any, Any]
NAMES = st.sampled_from("abcdefgh")
NUMBERS = st.sampled_from([0, 1, 2.5, -3, True, 0.0, Decimal("0.5")])


def digest(model: Any) -> str:
    return state_digest(flatten(model._model.state))


def learn(model: Any, rows: list[Row], labels: Any = None) -> Any:
    for i, x in enumerate(rows):
        model.learn_one(x, i % 2 if labels is None else labels[i])
    return model


def frame(x: Row) -> pd.DataFrame:
    return pd.DataFrame([x.values()], columns=list(x)) if x else pd.DataFrame(index=[0])


# what is absent


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.dictionaries(NAMES, NUMBERS), min_size=1, max_size=12),
    st.sampled_from([*LEARNERS]),
    st.sampled_from(["standard", "sparse"]),
)
def test_a_bag_of_words_and_rows_with_all_zeros_learn_the_same_bits(
    rows: list[Row], name: str, scale: str
) -> None:
    options: dict[str, Any] = {
        "learner": name,
        "hidden": 4,
        "absent": "zero",
        "classes": [0, 1],
        "scale": scale,
    }
    bags = [{name: value for name, value in x.items() if value != 0} for x in rows]
    full = [dict.fromkeys("hgfedcba", 0) | x for x in rows]
    expected = learn(RiverClassifier(**options), bags)
    assert digest(learn(RiverClassifier(**options), full)) == digest(expected)
    frames = RiverClassifier(**options)
    for i, x in enumerate(full):
        frames.learn_many(frame(x), pd.Series([i % 2]))
    assert digest(frames) == digest(expected)
    assert frames._schema == expected._schema
    assert frames.predict_proba_one(full[-1]) == expected.predict_proba_one(bags[-1])


@settings(max_examples=12, deadline=None)
@given(
    st.dictionaries(NAMES, NUMBERS, min_size=1),
    st.lists(st.dictionaries(NAMES, NUMBERS | st.none()), max_size=8),
)
def test_a_feature_of_the_first_row_is_missing_and_a_later_one_is_0(first: Row, rows: list[Row]) -> None:
    every = [first, *rows]
    expected = learn(RiverClassifier(**SMALL), every)
    later = {name for x in rows for name in x} - first.keys()
    full = [first] + [dict.fromkeys(first, None) | dict.fromkeys(later, 0) | x for x in rows]
    assert digest(learn(RiverClassifier(**SMALL), full)) == digest(expected)
    assert set(expected._schema.sparse) <= later | {
        name for name in expected._schema.features if name.startswith("unused#")
    }
    probabilities = expected.predict_proba_one(full[-1])
    assert expected.predict_proba_one(every[-1]) == probabilities
    assert expected.predict_proba_one({**every[-1], "never seen": 5, "nor this": "x"}) == probabilities


def test_an_absent_number_of_the_first_row_has_its_running_mean_and_a_later_one_0() -> None:
    model = RiverRegressor(hidden=4)
    for i in range(20):
        model.learn_one({"a": float(i), "b": 2.0 * i}, i)
        model.learn_one({"a": float(i), "word": 3.0}, i)
    statistics = model._model.state.model  # type: ignore[union-attr]
    columns = [model._columns.numbers[name] for name in ("a", "b", "word")]
    assert statistics.rows[columns].tolist() == [40, 20, 40]
    assert statistics.means[columns].tolist() == pytest.approx([9.5, 19, 1.5])


def test_a_frame_may_lack_columns_have_new_ones_and_have_them_in_any_order() -> None:
    table = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, None], "c": ["x", "y"]})
    y = pd.Series([0, 1])
    model, rows = RiverClassifier(**SMALL), RiverClassifier(**SMALL)
    for each in (model, rows):
        each.learn_many(table, y)
    wider = pd.DataFrame({"new": [0.0, 7.0], "c": ["z", None], "b": [1.0, 2.0]})
    model.learn_many(wider, y)
    assert model._schema.features[:4] == ("a", "b", "c", "new")
    absent = wider.assign(a=np.nan)[["a", "b", "c", "new"]]
    rows.learn_many(absent, y)
    assert digest(rows) == digest(model)
    assert model.predict_many(wider).tolist() == model.predict_many(absent).tolist()
    assert model.predict_proba_many(wider[["b"]]).shape == (2, 2)
    assert model.predict_proba_many(pd.DataFrame(index=[5, 6])).index.tolist() == [5, 6]


@pytest.mark.parametrize("first", [None, np.nan, pd.NA, np.float32("nan")])
def test_a_column_whose_first_value_is_missing_becomes_what_its_first_value_is(first: Any) -> None:
    model = RiverClassifier(hidden=4)
    model.learn_one({"a": 1.0, "b": first, "c": first}, 0)
    unknown = model.predict_proba_one({"a": 2.0, "b": "red"})  # River predicts a row before it learns it
    assert unknown == model.predict_proba_one({"a": 2.0})
    model.learn_one({"a": 2.0, "b": "red"}, 1)
    model.learn_one({"b": "blue", "c": 3}, 0)
    described = model._schema
    assert described.categories == {"b": {"one_hot": 16}}
    assert described.vocabulary == {"b": ("red", "blue")}
    assert {"a", "b", "c"} <= set(described.features)
    assert model.predict_proba_one({"b": "red"}) != model.predict_proba_one({"b": "blue"})
    with pytest.raises(ValueError, match="feature 'c' must be a number; got 'green'"):
        model.learn_one({"c": "green"}, 1)


def test_a_frame_s_first_column_of_gaps_becomes_a_category_and_is_the_only_feature() -> None:
    model = RiverClassifier(**SMALL)
    model.learn_many(pd.DataFrame({"a": [None, None]}), pd.Series([0, 1]))
    model.learn_many(pd.DataFrame({"a": [None, "x"]}), pd.Series([0, 1]))
    assert model._schema.features == ("a",)
    assert model._schema.inputs == 16
    model.learn_many(pd.DataFrame({"a": ["y", "x"], "b": [1, 0]}), pd.Series([0, 1]))
    assert model._schema.vocabulary == {"a": ("x", "y")}


@pytest.mark.parametrize("absent", ["missing", "zero"])
def test_a_feature_named_beforehand_is_what_its_first_value_is(absent: str) -> None:
    model = RiverClassifier(**SMALL, features=["a", "b"], absent=absent)
    model.learn_one({"a": 1}, 0)
    assert model.predict_one({"b": "red"}) == 0
    learn(model, [{"b": "red"}, {"a": 2}])
    assert model._schema.vocabulary == {"b": ("red",)}
    with pytest.raises(ValueError, match="feature 'a' must be a number; got 'blue'"):
        model.predict_one({"a": "blue"})


def test_no_features_at_all_are_a_row_too() -> None:
    model = RiverClassifier(hidden=4)
    model.learn_one({}, "ham")
    model.learn_one({"offer": 2}, "spam")
    model.learn_one({}, "ham")
    assert model._schema.sparse == ("offer",)
    assert model._schema.inputs == 1
    assert list(model.predict_proba_one({})) == ["ham", "spam"]


# what is new


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("kind", [int, str, bool], ids=lambda kind: kind.__name__)
def test_a_new_feature_decides_where_it_should(name: str, kind: Any) -> None:
    rng, model = np.random.default_rng(0), RiverClassifier(name, hidden=8)
    for _ in range(30):
        model.learn_one({"noise": rng.normal()}, int(rng.integers(2)))
    value = {int: 3, str: "yes", bool: True}[kind]
    for _ in range(120):
        label = int(rng.integers(2))
        model.learn_one({"noise": rng.normal()} | ({"sign": value} if label else {}), label)
    assert model.predict_one({"noise": 0.0, "sign": value}) == 1
    assert model.predict_one({"noise": 0.0}) == 0


@pytest.mark.parametrize(
    ("key", "name"),
    [
        *((7, "7"), (("new", "york"), "('new', 'york')"), ("http.status", '"http.status"'), (None, "None")),
        *(('say "hi"', '"say ""hi"""'), ("3.5", '"3.5"'), (2.5, '"2.5"'), (np.str_("w"), "w"), (" ", " ")),
        *((True, "True"), ("#1", "#1"), ("naïve", "naïve")),
    ],
)
def test_a_name_of_any_kind_is_a_field_of_a_record(key: Any, name: str, tmp_path: Path) -> None:
    model = RiverClassifier(**SMALL)
    learn(model, [{"a": 1.0}, {key: 2.0, "a": 1.0}, {key: 1}, {"a": 3}])
    assert name in model._schema.features
    model.save(tmp_path)
    loaded = load(tmp_path)
    for each in (model, loaded):
        learn(each, [{key: 5, "a": 2}, {key: 0.5, "b": 1}])
    assert digest(loaded) == digest(model)
    record = json.dumps({str(key): 4, "a": 2}).encode()
    decoded = decode(model._schema, [record], labeled=False)
    row, rest = model._columns.row({key: 4.0, "a": 2.0})
    model._columns.fill(row, rest)
    assert decoded.x.tolist() == row.tolist()


def test_features_named_beforehand_keep_their_order_and_others_grow() -> None:
    model = RiverClassifier(**SMALL, features=["z", "a.b"], categories={"later": {"hash": 4}})
    learn(model, [{"z": 1}, {"a.b": 2, "later": "x", "m": 1}, {"later": None}])
    assert model._schema.features == ("z", "a.b", "m", "later")
    assert model._schema.categories == {"later": {"hash": 4}}
    assert model._schema.sparse == ("m",)


@pytest.mark.parametrize("first", [{"a": 1, "shop": 3}, {"a": 1}, {"shop": None, "more": 2}, {}])
@pytest.mark.parametrize("extra", ["grow", "ignore"])
def test_a_category_named_beforehand_has_its_columns_once(first: Row, extra: str) -> None:
    options: dict[str, Any] = {"features": ["a", "shop"], "categories": {"shop": {"hash": 3}}, "extra": extra}
    model = learn(RiverClassifier(**SMALL, **options), [first, {"shop": "at home", "a": 2}])
    more = ("more",) if extra == "grow" and "more" in first else ()
    assert model._schema.features == ("a", "shop", *more)
    assert model._schema.inputs == 4 + len(more)


def test_the_order_of_new_names_in_a_row_does_not_matter() -> None:
    rows = [{"a": 1}, {"c": 1, "b": 2}, {"f": 1, "d": "x", "e": 3}]
    reversed_rows = [dict(reversed(x.items())) for x in rows]
    assert digest(learn(RiverClassifier(**SMALL), rows)) == digest(
        learn(RiverClassifier(**SMALL), reversed_rows)
    )


@pytest.mark.parametrize("extra", ["grow", "refuse", "ignore"])
def test_to_predict_changes_nothing(extra: str) -> None:
    model = learn(RiverClassifier(**SMALL, extra=extra), [{"a": 1}, {"a": 2}])
    before, columns = digest(model), model._columns
    if extra != "refuse":
        model.predict_one({"a": 1, "b": 3})
        model.predict_many(pd.DataFrame({"b": ["x"]}))
    assert digest(model) == before
    assert model._columns is columns


# growth is part of the state

STREAM = [{"a": 1.0, "city": "Ulm"}] + [
    {"a": float(i % 7), f"w{i % 23}": 1 + i % 3, "x.y": i} | ({"city": "Bern"} if i % 5 else {"flag": True})
    for i in range(40)
]


def saved(model: Any, folder: Path) -> Any:
    model.save(folder)
    return load(folder)


@pytest.mark.parametrize(
    ("again", "at", "name", "absent"),
    [
        (saved, 1, "mlp", "missing"),
        (saved, 2, "mlp", "zero"),
        (saved, 25, "ensemble", "missing"),
        (saved, 30, "mlp", "zero"),
        (lambda model, _: pickle.loads(pickle.dumps(model)), 17, "ensemble", "zero"),
        (lambda model, _: copy.deepcopy(model), 2, "mlp", "missing"),
        (lambda model, _: copy.copy(model), 9, "mlp", "zero"),
    ],
    ids=["saved 1", "saved 2", "saved 25", "saved 30", "pickled", "deep copy", "copy"],
)
def test_a_model_grows_on_after_it_is_saved_as_if_it_had_not_been(
    again: Callable[[Any, Path], Any], at: int, name: str, absent: str, tmp_path: Path
) -> None:
    model = learn(RiverClassifier(name, hidden=4, absent=absent, seed=2), STREAM[:at])
    other = again(model, tmp_path)
    assert digest(other) == digest(model)
    learn(other, STREAM[at:])
    learn(model, STREAM[at:])  # the other's growth has not changed this one
    assert digest(other) == digest(model)
    assert other._schema == model._schema
    assert other.predict_proba_one(STREAM[5]) == model.predict_proba_one(STREAM[5])
    assert (other.absent, other.seed) == (absent, 2)


def test_the_stream_and_scikit_learn_s_api_resume_a_grown_model_with_the_same_bits(tmp_path: Path) -> None:
    model = learn(RiverClassifier(**SMALL), STREAM[:30])
    model.save(tmp_path)
    records = [json.dumps(x).encode() for x in STREAM[20:30]]  # no new names: a stream has fixed ones
    decoded = decode(model._schema, records, labeled=False)
    assert not decoded.rejected
    labels = np.arange(10) % 2
    start: Any = model._model
    state, _ = test_then_train(start.learner, start.state, [Batch(decoded.x, labels)])
    arrays = sklearn.load(tmp_path).partial_fit(decoded.x, labels)
    table = pd.DataFrame(STREAM[20:30])
    words = [name for name in table if name.startswith("w") or name in ("x.y", "flag")]
    model.learn_many(table.fillna(dict.fromkeys(words, 0)), pd.Series(labels))
    assert digest(model) == state_digest(flatten(state)) == state_digest(flatten(arrays.state_))


def test_a_grown_model_is_exported(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = learn(RiverClassifier(**SMALL), STREAM)
    graph = runtime.InferenceSession(model.to_onnx().SerializeToString())
    rows = np.concatenate([model._columns.row(x)[0] for x in ({"a": 1.0, "w3": 2.0}, {"w5": 1.0})])
    found = graph.run(["probabilities"], {"features": rows.astype(np.float32)})[0]
    expected = [list(model.predict_proba_one(x).values()) for x in ({"a": 1.0, "w3": 2.0}, {"w5": 1.0})]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_new_names_one_at_a_time_copy_the_model_a_few_times_only() -> None:
    model = RiverClassifier(**SMALL, absent="zero")
    with mock.patch.object(models, "grow_inputs", wraps=models.grow_inputs) as grow:
        for i in range(400):
            model.learn_one({f"w{i}": 1}, i % 2)
    assert len(model._columns.numbers) == 400
    assert grow.call_count < 50  # 16 alone, then an eighth more at a time
    assert model._columns.inputs < 450
    assert sum(name.startswith("unused#") for name in model._schema.features) == len(model._columns.unused)


def test_growth_is_bounded_in_bytes_by_an_option_that_the_error_names() -> None:
    model = RiverClassifier(hidden=8, max_bytes=80_000)
    with pytest.raises(ValueError, match=r"^max_bytes must be ") as refused:
        learn(model, [{f"w{i}": 1} for i in range(1000)])
    kept = model._model.learner.inputs
    assert kept > 9
    assert weights_bytes(model) == models.weight_bytes(model._model, kept) <= 80_000
    more = models.weight_bytes(model._model, kept + 1)
    assert str(refused.value).startswith(
        f"max_bytes must be {more:,} or more for the weights of {kept + 1} columns; "
    )
    before, columns = digest(model), model._columns
    with pytest.raises(
        ValueError, match=r"got 80,000: raise it, hash the names of the features, or set extra"
    ):
        model.learn_one({"one more": 1}, 1)
    assert digest(model) == before
    assert model._columns is columns
    model.learn_one({"w1": 3}, 1)  # what it knows it still learns
    model.extra = "ignore"
    model.learn_one({"one more": 1}, 1)
    model.extra, model.max_bytes = "grow", 1 << 20
    model.learn_one({"one more": 1}, 1)
    assert "one more" in model._schema.features


def test_the_first_rows_are_bounded_too() -> None:
    first = {f"w{i}": 1.0 for i in range(1000)}
    least = models.new_model(RiverClassifier(hidden=8)._create_learner(1, {"classes": (1,)}))
    size = models.weight_bytes(least, 1000)
    model = RiverClassifier(hidden=8, max_bytes=size - 1)
    with pytest.raises(
        ValueError, match=rf"^max_bytes must be {size:,} or more for the weights of 1,000 columns"
    ):
        model.learn_one(first, 1)
    assert model._model is None
    model.max_bytes = size
    model.learn_one(first, 1)
    assert model._columns.inputs == 1000


def weights_bytes(model: Any) -> int:
    """Return the bytes of the vectors of weights, and of the states that optimizers have of each."""
    state = model._model.state.model
    return sum(getattr(state, name).nbytes for name in ("theta", "first", "second"))


def test_the_bound_is_of_the_bytes_that_the_weights_have() -> None:
    for model in (RiverClassifier(hidden=8), RiverClassifier(optimizer="adam", hidden=(8, 4))):
        learn(model, [{"a": 1.0}, {"a": 2.0}])
        expected = models.weight_bytes(model._model, 5)  # type: ignore[arg-type]
        learn(model, [dict.fromkeys("abcde", 1)])
        assert weights_bytes(model) == expected > 0


# what cannot grow


def test_where_missing_values_are_refused_a_new_number_may_join_but_not_a_category() -> None:
    model = learn(RiverClassifier(**SMALL, missing="refuse"), [{"a": 1.0}, {"a": 2.0}])
    model.learn_one({"a": 1.0, "b": 2}, 0)
    model.learn_one({"a": 1.0}, 1)
    before = digest(model)
    for x, words in (
        ({"a": 1.0, "city": "Ulm"}, "feature 'city' must be a number to be added with missing = 'refuse'"),
        ({"b": 1}, "feature 'a' must not be missing with missing = 'refuse'; got no value"),
        ({"a": 1, "b": None}, "feature 'b' must not be missing with missing = 'refuse'; got no value"),
    ):
        with pytest.raises(ValueError, match=words):
            model.learn_one(x, 0)
    assert digest(model) == before


def test_a_model_of_arrays_does_not_grow(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(20, 2))
    sklearn.OnlineClassifier(**SMALL).fit(rows, np.arange(20) % 2).save(tmp_path)
    model = load(tmp_path)
    row = {"features[0]": 1.0, "features[1]": 2.0}
    model.learn_one(row, 0)
    with pytest.raises(ValueError, match="must be the model's, whose records are arrays; got 'b' too"):
        model.learn_one({**row, "b": 1}, 0)
    assert model.predict_one({**row, "b": 1}) in (0, 1)


def test_a_model_of_lines_of_csv_does_not_grow() -> None:
    model = learn(RiverClassifier(**SMALL), [{"a": 1.0}, {"a": 2.0}])
    model._base = replace(model._base, format="csv")
    with pytest.raises(ValueError, match="whose records are of format 'csv'; got 'b' too"):
        model.learn_one({"a": 1, "b": 1}, 0)
    model.learn_one({"a": 1, "b": 0}, 0)  # as if it was absent


# weights


@pytest.mark.parametrize("name", LEARNERS)
def test_a_weight_is_a_row_s_sample_weight(name: str) -> None:
    rng = np.random.default_rng(0)
    X, y, w = rng.normal(size=(60, 2)), rng.integers(2, size=60), rng.random(60).round(2) * 3
    table = pd.DataFrame(X, columns=["a", "b"])
    options: dict[str, Any] = {"hidden": 4, "mini_batch": 8}
    arrays = sklearn.OnlineClassifier(name, **options).partial_fit(X, y, classes=[0, 1], sample_weight=w)
    many = RiverClassifier(name, **options, missing="refuse", classes=[0, 1])
    many.learn_many(table, pd.Series(y), w=pd.Series(w))
    assert digest(many) == state_digest(flatten(arrays.state_))
    one, rows = (RiverClassifier(name, **options) for _ in range(2))
    for i in range(20):
        one.learn_one({"a": X[i, 0], "b": X[i, 1]}, y[i], w=w[i])
        rows.learn_many(table[i : i + 1], pd.Series(y[i : i + 1], [i]), w=w[i])
    assert digest(one) == digest(rows)


@pytest.mark.parametrize("w", [1, 1.0, True, np.float32(1), Decimal(1), None])
def test_a_weight_of_1_changes_nothing(w: Any) -> None:
    plain, weighted = RiverRegressor(hidden=4), RiverRegressor(hidden=4)
    plain.learn_one({"a": 1.0}, 2.0)
    if w is None:
        weighted.learn_one({"a": 1.0}, 2.0, 1.0)
    else:
        weighted.learn_one({"a": 1.0}, 2.0, w=w)
    assert digest(weighted) == digest(plain)


def test_one_huge_weight_does_not_wreck_the_model() -> None:
    """Public case 30, after VW#4925, river#1502 and river#1795: accuracy was 0.49 in such a case."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5))
    y = X[:, 0] + X[:, 1] > 0
    rows = [dict(zip("abcde", x.tolist(), strict=True)) for x in X]

    def accuracy(first: float) -> float:
        model, right = RiverClassifier(hidden=8), 0
        for i, (x, label) in enumerate(zip(rows, y.tolist(), strict=True)):
            right += i >= 200 and model.predict_one(x) == label
            model.learn_one(x, label, w=1.0 if i else first)
        return right / 200

    assert accuracy(1e6) > 0.85


# River


def river() -> Any:
    return pytest.importorskip("river.api")


SPAM = [
    ("free money now", True),
    ("see you at lunch", False),
    ("win a free prize", True),
    ("lunch was great", False),
    ("claim the prize money", True),
    ("are you at home", False),
]


def test_a_bag_of_words_learns() -> None:
    """Public case 20's kind in River's API, after river#354: words that come one after the other."""
    for extractor in ("BagOfWords", "TFIDF"):
        model = getattr(river().feature_extraction, extractor)(ngram_range=(1, 2)) | RiverClassifier(
            hidden=8, absent="zero"
        )
        for _ in range(10):
            for text, label in SPAM:
                model.learn_one(text, label)
        assert [model.predict_one(text) for text, _ in SPAM] == [label for _, label in SPAM]
    names = model["RiverClassifier"]._schema.features
    assert "free" in names
    assert "('free', 'money')" in names


def test_a_bag_of_words_of_many_texts_is_a_sparse_frame() -> None:
    texts, labels = pd.Series([text for text, _ in SPAM]), pd.Series([label for _, label in SPAM])
    bag = river().feature_extraction.BagOfWords()
    model = RiverClassifier(hidden=8, absent="zero", mini_batch=1)
    for _ in range(15):
        model.learn_many(bag.transform_many(texts), labels)
    assert model.predict_many(bag.transform_many(texts)).tolist() == labels.tolist()
    new = bag.transform_many(pd.Series(["free lunch and unknown words"], index=[9]))
    assert model.predict_proba_many(new).index.tolist() == [9]


@pytest.mark.parametrize("zeros", [False, True])
def test_one_hot_of_one_at_a_time_learns(zeros: bool) -> None:
    encoder = river().preprocessing.OneHotEncoder(drop_zeros=not zeros)
    model = encoder | RiverClassifier(hidden=8)
    colours = ["red", "green", "blue", "white", "black"]
    for i in range(200):
        model.learn_one({"colour": colours[i % 5], "size": i % 3}, i % 5 < 2)
    assert [model.predict_one({"colour": c, "size": 1}) for c in colours] == [True, True, False, False, False]


def test_unions_scalers_hashers_and_weights_pass_through_pipelines() -> None:
    api = river()
    numbers = api.compose.Select("a", "b") | api.preprocessing.StandardScaler()
    words = api.compose.Select("word") | api.feature_extraction.BagOfWords(on="word")
    union = api.compose.TransformerUnion(numbers, words)
    hashed = api.preprocessing.FeatureHasher(16, seed=1)
    for model in (union | RiverClassifier(**SMALL), hashed | RiverClassifier(**SMALL, absent="zero")):
        plain = model.clone()
        for i in range(30):
            x = {"a": i % 4, "b": -i, "word": f"word{i % 6} and more"}
            model.learn_one(x, i % 2, w=2.0)
            plain.learn_one(x, i % 2)
        assert model.predict_one(x) in (0, 1)
        assert digest(model["RiverClassifier"]) != digest(plain["RiverClassifier"])


def test_river_s_evaluation_and_metrics_take_a_growing_model() -> None:
    api = river()
    stream = [({f"w{i % 9}": 1, f"v{i % 4}": 1}, i % 9 < 4) for i in range(250)]
    metric = api.metrics.Accuracy() + api.metrics.LogLoss()
    api.evaluate.progressive_val_score(iter(stream), RiverClassifier(hidden=8, absent="zero"), metric)
    assert metric.get()[0] > 0.8


def test_several_targets_are_refused_in_one_line() -> None:
    """Public case 35, after scikit-learn's multi-output estimators; they come with the compiled core."""
    with pytest.raises(ValueError, match=r"^y must be a string, an integer or a boolean; got \{'a': True"):
        RiverClassifier().learn_one({"a": 1.0}, {"a": True, "b": False})
    with pytest.raises(ValueError, match=r"^y must be a number; got \{'a': 1"):
        RiverRegressor().learn_one({"a": 1.0}, {"a": 1.0, "b": 2.0})
    with pytest.raises(TypeError, match=r"^y must be a pandas Series; got DataFrame"):
        RiverRegressor().learn_many(pd.DataFrame({"a": [1.0]}), pd.DataFrame({"b": [1.0], "c": [2.0]}))
