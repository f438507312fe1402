import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date, time
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_nn.estimators import sklearn
from streaming_nn.estimators.river import RiverClassifier, RiverRegressor, load
from streaming_nn.nn import learner as loop
from streaming_nn.nn.factory import LEARNERS, learner_from
from streaming_nn.nn.learner import Batch, initial, report, test_then_train
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.decode import decode, encode_named
from streaming_nn.records.reasons import FROM_DATES
from streaming_nn.records.schema import Schema, grow_schema, schema_from
from streaming_nn.versions.version import state_digest
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

SMALL: dict[str, Any] = {"learner": "mlp", "hidden": (8,), "mini_batch": 8}
RNG = np.random.default_rng(5)
ROWS = 240
COLOURS = np.array(["red", "green", "blue"])[RNG.integers(3, size=ROWS)]
TABLE = pd.DataFrame(
    {
        "weight": RNG.normal(50, 9, ROWS),
        "age": RNG.integers(0, 90, ROWS),
        "colour": COLOURS,
        "old": RNG.random(ROWS) < 0.5,
    },
    index=range(1000, 1000 + ROWS),
)
KIND = pd.Series(np.where((COLOURS == "red") ^ (TABLE["weight"] > 50), "a", "b"), TABLE.index, name="kind")
PRICE = pd.Series(TABLE["weight"] * 2 + 30 * (COLOURS == "red"), TABLE.index)
NUMBERS = TABLE[["age", "weight"]]
HUGE = pd.Series([10**400] * ROWS, TABLE.index, object)  # without the type pandas itself refuses it


def digest(model: Any) -> str:
    return state_digest(flatten(model._model.state))


def dicts(X: pd.DataFrame) -> list[dict[str, Any]]:
    return X.to_dict("records")


def chunks(size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, ROWS, size))


# one model with the other APIs


@pytest.mark.parametrize("name", LEARNERS)
def test_the_loop_scikit_learn_s_api_and_river_s_learn_the_same_bits(name: str) -> None:
    options = {"hidden": (8,), "mini_batch": 8}
    learner = learner_from({"learner": name, "inputs": 2, "classes": ("a", "b"), "seed": 3, **options})
    state = initial(learner)
    array = sklearn.OnlineClassifier(name, random_state=3, **options)
    frame = RiverClassifier(name, seed=3, missing="refuse", classes=["a", "b"], **options)
    for rows in chunks(80):
        X, y = NUMBERS.iloc[rows], KIND.iloc[rows]
        state, _ = test_then_train(learner, state, [Batch(X.to_numpy(np.float64), (y == "b").to_numpy(int))])
        array.partial_fit(X, y, classes=["a", "b"])
        frame.learn_many(X, y)
    assert digest(frame) == state_digest(flatten(array.state_)) == state_digest(flatten(state))


def test_a_regressor_learns_the_same_bits_too() -> None:
    array = sklearn.OnlineRegressor(**SMALL).partial_fit(NUMBERS, PRICE)
    frame = RiverRegressor(**SMALL, missing="refuse")
    frame.learn_many(NUMBERS, PRICE)
    assert digest(frame) == state_digest(flatten(array.state_))
    assert frame.predict_many(NUMBERS).tolist() == array.predict(NUMBERS).tolist()


def test_records_of_a_stream_give_the_same_bits() -> None:
    """The stream's way: decode, grow by what is unseen, decode again, learn."""
    known = {"colour": {"hash": 5}}
    schema = Schema(
        8,
        ("b", "a"),
        ("age", "colour", "old", "weight"),
        label="kind",
        missing=True,
        categories=known,
        grow=True,
    )
    gaps = TABLE.astype(object).mask(RNG.random(TABLE.shape) < 0.1, None)
    labels = KIND.mask(RNG.random(ROWS) < 0.1, "c")
    records = encode_named(schema, dicts(gaps), labels.tolist())
    schema = grow_schema(schema, decode(schema, records, labeled=True).unseen)
    decoded = decode(schema, records, labeled=True)
    assert decoded.y is not None
    assert (len(decoded.y), len(decoded.unseen)) == (ROWS, 0)
    options = {**SMALL, "inputs": 8, "missing": "impute"}
    state = initial(learner_from({**options, "classes": ("b", "a")}))
    learner = learner_from({**options, "classes": schema.classes})
    state, _ = test_then_train(learner, loop.grow(learner, state), [Batch(decoded.x, decoded.y)])

    frame = RiverClassifier(**SMALL, categories=known, classes=["b", "a"], label="kind")
    frame.learn_many(gaps, labels)
    assert frame._schema == schema
    assert digest(frame) == state_digest(flatten(state))


@pytest.mark.parametrize("name", LEARNERS)
def test_learn_one_is_a_mini_batch_of_one(name: str) -> None:
    one, many = (RiverClassifier(name, hidden=8, classes=["a", "b"]) for _ in range(2))
    for i, (x, y) in enumerate(zip(dicts(TABLE[:60]), KIND[:60], strict=True)):
        one.learn_one(x, y)
        many.learn_many(TABLE[i : i + 1], KIND[i : i + 1])
    assert digest(one) == digest(many)


def test_a_saved_model_resumes_in_either_api(tmp_path: Path) -> None:
    straight = sklearn.OnlineClassifier(**SMALL).partial_fit(NUMBERS[:100], KIND[:100], classes=["a", "b"])
    straight.save(tmp_path)
    loaded = load(tmp_path)
    assert isinstance(loaded, RiverClassifier)
    straight.partial_fit(NUMBERS[100:], KIND[100:])
    loaded.learn_many(NUMBERS[100:], KIND[100:])
    assert digest(loaded) == state_digest(flatten(straight.state_))
    assert loaded.save(tmp_path) == 1
    again = sklearn.load(tmp_path)
    assert again.predict(NUMBERS).tolist() == loaded.predict_many(NUMBERS).tolist()
    with pytest.raises(ValueError, match=r"its newest version, 1, is not this model's parent"):
        straight.save(tmp_path)


@pytest.mark.parametrize("kind", [RiverClassifier, RiverRegressor])
def test_a_loaded_model_learns_as_if_it_had_not_been_saved(kind: Any, tmp_path: Path) -> None:
    y = KIND if kind is RiverClassifier else PRICE
    straight = kind(hidden=8, seed=4, label="kind")
    straight.learn_many(TABLE[:100], y[:100])
    straight.save(tmp_path)
    loaded = load(tmp_path)
    assert (loaded.seed, loaded.label, loaded.learner) == (4, "kind", "ensemble")
    for model in (straight, loaded):
        model.learn_many(TABLE[100:], y[100:])
    assert digest(loaded) == digest(straight)
    assert loaded.predict_many(TABLE).tolist() == straight.predict_many(TABLE).tolist()


def test_a_version_s_schema_has_the_columns(tmp_path: Path) -> None:
    model = RiverClassifier(**SMALL, categories={"colour": {"hash": 4}}, label="kind")
    model.learn_many(TABLE, KIND)
    model.save(tmp_path)
    record = VersionLog(tmp_path).manifest(0)
    described = schema_from(record.schema)
    assert described.columns == (
        *("age", "colour#0", "colour#1", "colour#2", "colour#3"),
        *("old", "weight"),
    )
    assert (described.label, described.missing, described.grow) == ("kind", True, True)
    assert described.classes == tuple(KIND.unique())
    assert record.counts["trained"] == ROWS
    assert record.metrics == report(model._model.learner, model._model.state)  # type: ignore[union-attr]


def test_arrays_without_names_have_numbered_columns(tmp_path: Path) -> None:
    estimator = sklearn.OnlineClassifier(**SMALL).fit(NUMBERS.to_numpy(), KIND)
    estimator.save(tmp_path)
    loaded = load(tmp_path)
    assert loaded.features == ("features[0]", "features[1]")
    renamed = NUMBERS.set_axis(loaded.features, axis=1)
    assert loaded.predict_many(renamed).tolist() == estimator.predict(NUMBERS.to_numpy()).tolist()
    loaded.learn_many(renamed, KIND)
    assert loaded.save(tmp_path) == 1
    assert VersionLog(tmp_path).manifest(1).schema["features"] == "features"


# columns


@settings(max_examples=10, deadline=None)
@given(st.permutations(list(TABLE)), st.data())
def test_the_order_of_columns_does_not_matter(names: list[str], data: st.DataObject) -> None:
    one, other = RiverClassifier(**SMALL), RiverClassifier(**SMALL)
    one.learn_many(TABLE[:30], KIND[:30])
    other.learn_many(TABLE[:30][names], KIND[:30])
    for x, y in zip(dicts(TABLE[30:40]), KIND[30:40], strict=True):
        one.learn_one(x, y)
        other.learn_one({name: x[name] for name in data.draw(st.permutations(names))}, y)
    assert digest(one) == digest(other)
    assert one.predict_proba_many(TABLE).equals(other.predict_proba_many(TABLE[names[::-1]]))


def test_features_can_be_named_beforehand_in_any_order() -> None:
    model = RiverRegressor(**SMALL, features=["weight", "age"])
    model.learn_one({"age": 3}, 1.0)
    assert model._schema.features == ("weight", "age")


def test_a_feature_missing_in_a_dict_is_its_running_mean() -> None:
    model = RiverRegressor(hidden=8)
    model.learn_many(NUMBERS, PRICE)
    mean = dict(zip(("age", "weight"), model._model.state.model.means, strict=True))  # type: ignore[union-attr]
    for absent in ({}, {"age": None}, {"age": np.nan}, {"age": pd.NA}, {"age": np.float32("nan")}):
        assert model.predict_one({"weight": 40.0, **absent}) == model.predict_one({**mean, "weight": 40.0})
    before = model._model.state.model.rows.tolist()  # type: ignore[union-attr]
    model.learn_one({"weight": 40.0}, 80.0)
    after = model._model.state.model.rows.tolist()  # type: ignore[union-attr]
    assert [now - then for now, then in zip(after, before, strict=True)] == [0, 1]


def test_strings_are_categories_and_booleans_are_numbers() -> None:
    model = RiverClassifier(**SMALL)
    model.learn_many(TABLE.astype({"colour": "category", "age": "Int64"}), KIND)
    assert model._schema.categories == {"colour": {"one_hot": 16}}
    assert model._schema.vocabulary["colour"] == tuple(dict.fromkeys(COLOURS.tolist()))
    same = RiverClassifier(**SMALL, classes=KIND.unique())
    for x, y in zip(dicts(TABLE), KIND, strict=True):
        same.learn_one(x, y)
    assert same._schema == model._schema


def test_a_new_value_joins_the_vocabulary_and_then_counts() -> None:
    model = RiverClassifier(**SMALL, categories={"c": {"one_hot": 2}})
    for colour, y in (("red", 0), ("green", 1), ("blue", 0)):
        model.learn_one({"c": colour}, y)
    assert model._schema.vocabulary == {"c": ("red", "green")}
    nothing = model.predict_proba_one({"c": None})
    assert model.predict_proba_one({"c": "blue"}) == model.predict_proba_one({"c": "white"}) == nothing
    assert model.predict_proba_one({"c": "red"}) != nothing
    assert model._schema.vocabulary == {"c": ("red", "green")}


def test_a_category_decides_where_it_should() -> None:
    model = RiverClassifier()
    for _ in range(5):
        model.learn_many(TABLE, KIND)
    assert (model.predict_many(TABLE) == KIND).mean() > 0.95


def test_a_feature_named_by_a_number_is_named_by_its_digits() -> None:
    model = RiverRegressor(**SMALL)
    model.learn_one({0: 1.0, 1: 2.0}, 3.0)
    assert model._schema.features == ("0", "1")
    assert model.predict_one(pd.Series([1.0, 2.0])) == model.predict_one({1: 2.0, 0: 1.0})


def test_unknown_features_can_be_ignored() -> None:
    model = RiverClassifier(**SMALL, extra="ignore", features=["age", "weight"])
    plain = RiverClassifier(**SMALL)
    model.learn_many(TABLE, KIND)
    plain.learn_many(NUMBERS, KIND)
    assert digest(model) == digest(plain)
    assert model.predict_one(dicts(TABLE)[3]) == plain.predict_one(dicts(NUMBERS)[3])


# classes


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_new_label_becomes_a_class(learner: str) -> None:
    model = RiverClassifier(learner, hidden=8)
    assert model.predict_one({"a": 1.0}) is None
    assert model.predict_proba_one({"a": 1.0}) == {}
    model.learn_one({"a": 1.0}, "x")
    assert model.predict_proba_one({"a": 1.0}) == {"x": 1.0}
    for _ in range(60):
        model.learn_one({"a": 0.0}, "y")
        model.learn_one({"a": 1.0}, "x")
        model.learn_one({"a": 2.0}, "z")
    probabilities = model.predict_proba_one({"a": 2.0})
    assert list(probabilities) == ["x", "y", "z"]
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-12)
    assert [model.predict_one({"a": a}) for a in (1.0, 0.0, 2.0)] == ["x", "y", "z"]


@pytest.mark.parametrize(
    "labels", [["b", "a"], [3, 1], [1.0, 0.0], [True, False], np.array([True, False]), np.array([2, 7])]
)
def test_labels_of_any_kind_come_back(labels: Any) -> None:
    y = pd.Series(np.where(TABLE["weight"] > 50, *labels), TABLE.index, dtype=np.array(labels).dtype)
    model = RiverClassifier(hidden=8)
    model.learn_many(TABLE, y)
    predicted = model.predict_many(TABLE)
    assert predicted.index.equals(TABLE.index)
    assert (predicted == y).mean() > 0.8
    assert predicted.dtype == (pd.Series([int(v) if isinstance(v, float) else v for v in labels]).dtype)
    assert model.predict_one(dicts(TABLE)[0]) == predicted.iloc[0]
    probabilities = model.predict_proba_many(TABLE)
    assert probabilities.index.equals(TABLE.index)
    assert probabilities.iloc[0].to_dict() == pytest.approx(
        model.predict_proba_one(dicts(TABLE)[0]), abs=1e-6
    )
    assert probabilities.idxmax(axis=1).tolist() == predicted.tolist()


def test_a_frame_without_rows_changes_nothing() -> None:
    model = RiverClassifier(**SMALL)
    model.learn_many(TABLE[:0], KIND[:0])
    assert model._model is None
    assert model.predict_many(TABLE[:2]).tolist() == [None, None]
    assert model.predict_proba_many(TABLE[:2]).shape == (2, 0)
    model.learn_many(TABLE, KIND)
    assert model.predict_many(TABLE[:0]).shape == (0,)
    assert model.predict_proba_many(TABLE[:0]).shape == (0, 2)


def test_of_quantiles_the_median_is_predicted() -> None:
    model = RiverRegressor("mlp", loss="quantile", quantiles=(0.1, 0.5, 0.9), hidden=8)
    for _ in range(10):
        model.learn_many(TABLE, PRICE)
    under = (model.predict_many(TABLE) >= PRICE).mean()
    assert 0.3 < under < 0.7


# bad input


def learned(kind: Any = RiverClassifier, **options: Any) -> Any:
    model = kind(**SMALL, **options)
    model.learn_many(TABLE, KIND if kind is RiverClassifier else PRICE)
    return model


GOOD = dicts(TABLE)[0]


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda m: m.learn_one({**GOOD, "size": [1]}, "a"), r"feature 'size' must be a number; got \[1\]"),
        (
            lambda m: m.learn_one({**GOOD, "label": 1}, "a"),
            "the name of a feature; got 'label': set label to",
        ),
        (lambda m: m.learn_one({**GOOD, "": 1}, "a"), "a feature's name must not be empty, nor begin with"),
        (lambda m: m.learn_one({**GOOD, "unused#3": 1}, "a"), "nor begin with 'unused#'; got 'unused#3'"),
        (lambda m: m.learn_one({7: 1, "7": 2}, "a"), "features must have different names; got '7' twice"),
        (lambda m: m.learn_one({**GOOD, "age": "old"}, "a"), "feature 'age' must be a number; got 'old'"),
        (lambda m: m.learn_one({**GOOD, "age": [1]}, "a"), r"feature 'age' must be a number; got \[1\]"),
        *(
            (lambda m, day=day: m.learn_one({**GOOD, "age": day}, "a"), rf"got .*: {FROM_DATES}$")
            for day in (date(2024, 5, 1), pd.Timestamp(0), np.datetime64(0, "s"), time(18), "2024-05-01")
        ),
        (lambda m: m.learn_many(TABLE.assign(age=pd.Timestamp(0)), KIND), rf"got Timestamp.*: {FROM_DATES}$"),
        (lambda m: m.learn_one({**GOOD, "age": np.timedelta64(3, "h")}, "a"), "age' must be a number; got "),
        (lambda m: m.learn_many(TABLE.assign(age=HUGE), KIND), "feature 'age' must be finite; got inf"),
        (lambda m: m.learn_one({**GOOD, "age": 1e300}, "a"), r"feature 'age' must be finite; got 1e\+300"),
        (lambda m: m.learn_one({**GOOD, "age": 10**400}, "a"), "feature 'age' must be finite; got inf"),
        (lambda m: m.learn_one({**GOOD, "colour": 0.5}, "a"), "'colour' must be a string, .* got 0.5"),
        (
            lambda m: m.learn_one({**GOOD, "colour": ["red"]}, "a"),
            r"'colour' must be a string, .* got \['red'\]",
        ),
        (lambda m: m.learn_one(GOOD, 0.5), "y must be a string, an integer or a boolean; got 0.5"),
        (lambda m: m.learn_one(GOOD, None), "y must be a string, an integer or a boolean; got None"),
        (lambda m: m.learn_one(GOOD, "y" * 200), "a class label must be a string of 128"),
        (lambda m: m.learn_one(GOOD, 1 << 63), "or an integer of 64 bits; got 9223372036854775808"),
        (lambda m: m.learn_many(TABLE, KIND[:-1]), "y must have the index of X, with 240 rows; got 239"),
        (lambda m: m.learn_many(TABLE, KIND[::-1]), "y must have the index of X"),
        (lambda m: m.learn_many(pd.concat([TABLE, TABLE], axis=1), KIND), "different names; got 'weight'"),
        (
            lambda m: m.learn_many(TABLE.to_numpy(), KIND),
            "X must be a table of pandas, polars or Arrow; got ndarray",
        ),
        (lambda m: m.learn_one(GOOD, "a", w=-1), r"w must be a number of 0 or more; got -1"),
        (lambda m: m.learn_one(GOOD, "a", w=np.nan), "w must be a number of 0 or more; got nan"),
        (lambda m: m.learn_one(GOOD, "a", w=None), "w must be a number of 0 or more; got None"),
        (lambda m: m.learn_one(GOOD, "a", w=1e39), r"w must be a number of 0 or more; got 1e\+39"),
        (lambda m: m.learn_one(GOOD, "a", w="2"), "w must be a number; got '2'"),
        (lambda m: m.learn_many(TABLE, KIND, w=KIND), "w must be a number; got 'a'"),
        (lambda m: m.learn_many(TABLE, KIND, w=PRICE[1:]), "w must have the index of X, with 240 rows"),
        (lambda m: m.learn_many(TABLE, KIND, w=[1.0] * 240), "w must be a pandas Series; got list"),
        (lambda m: m.learn_many(TABLE, KIND.to_list()), "y must be a pandas Series; got list"),
        (lambda m: m.learn_one([1.0], "a"), "x must be a dict of features; got list"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(act: Callable[[Any], Any], words: str) -> None:
    model = learned()
    before, columns, schema = digest(model), model._columns, model._schema
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        act(model)
    assert "\n" not in str(caught.value)
    assert digest(model) == before
    assert model._columns is columns
    assert model._schema == schema


@pytest.mark.parametrize(
    "act",
    [
        lambda m: m.learn_one({**GOOD, "size": 1}, "a"),
        lambda m: m.predict_one({**GOOD, "size": 1}),
        lambda m: m.learn_many(TABLE.assign(size=1), KIND),
        lambda m: m.predict_proba_many(TABLE.assign(size=1)),
    ],
)
def test_unknown_features_can_be_refused(act: Callable[[Any], Any]) -> None:
    model = learned(extra="refuse")
    before = digest(model)
    with pytest.raises(
        ValueError,
        match=r"features must be among 'age', .* unless extra = 'grow' or 'ignore'; got 'size' too",
    ):
        act(model)
    assert digest(model) == before


@pytest.mark.parametrize("value", [True, np.True_, Decimal(1), Fraction(1)])
def test_a_number_of_another_type_is_learned_as_that_number(value: Any) -> None:
    model, expected = learned(), learned()
    model.learn_one({**GOOD, "age": value}, "a")
    expected.learn_one({**GOOD, "age": 1}, "a")
    assert digest(model) == digest(expected)


@pytest.mark.parametrize("y", [np.nan, np.inf, 1e300, None])
def test_a_target_must_be_finite(y: Any) -> None:
    model = learned(RiverRegressor)
    before = digest(model)
    with pytest.raises(ValueError, match="y must be finite; got"):
        model.learn_one(GOOD, y)
    with pytest.raises(ValueError, match="y must be a number; got 'dear'"):
        model.learn_one(GOOD, "dear")
    assert digest(model) == before


def test_a_count_must_not_be_negative() -> None:
    model = RiverRegressor(learner="mlp", loss="poisson")
    model.learn_many(pd.DataFrame({"a": [1.0, 2.0]}), pd.Series([0.0, 3.0]))
    before = model.predict_one({"a": 1.0})
    with pytest.raises(ValueError, match=r"not be negative with loss 'poisson'; got -2 in row 1$"):
        model.learn_many(pd.DataFrame({"a": [1.0, 2.0]}), pd.Series([1.0, -2.0]))
    assert model.predict_one({"a": 1.0}) == before


def test_a_batch_with_a_bad_last_row_adds_no_class() -> None:
    model = learned()
    schema = model._schema
    X = pd.DataFrame([{**GOOD, "colour": "violet", "size": 3}, {**GOOD, "age": np.inf}])
    with pytest.raises(ValueError, match="feature 'age' must be finite"):
        model.learn_many(X, pd.Series(["new", "a"]))
    assert model._schema == schema
    assert list(model.predict_proba_one(GOOD)) == list(KIND.unique())


@pytest.mark.parametrize("classes", [None, []])
@pytest.mark.parametrize("label", ["y" * 129, 10**30])
def test_the_first_label_too_must_be_short_enough_for_every_version(label: Any, classes: Any) -> None:
    model = RiverClassifier(**SMALL, classes=classes)
    with pytest.raises(ValueError, match=r"^a class label must be"):
        model.learn_one({"a": 1.0}, label)
    assert model.predict_one({"a": 1.0}) is None
    known = RiverClassifier(**SMALL, classes=[label, "b"])
    known.learn_one({"a": 1.0}, label)
    assert label in known.predict_proba_one({"a": 1.0})


def test_true_and_1_cannot_both_be_classes() -> None:
    model = RiverClassifier(**SMALL)
    model.learn_one({"a": 1.0}, 1)
    for labels in ([True, 0], [2, False, 0]):
        with pytest.raises(ValueError, match="y must not be both numbers and booleans"):
            model.learn_many(pd.DataFrame({"a": [1.0] * len(labels)}), pd.Series(labels, dtype=object))


def test_missing_values_can_be_refused() -> None:
    model = learned(missing="refuse")
    for x in ({"age": 1}, {**GOOD, "colour": None}):
        with pytest.raises(ValueError, match="must not be missing with missing = 'refuse'; got no value"):
            model.learn_one(x, "a")


def test_a_loaded_model_of_fixed_classes_names_them(tmp_path: Path) -> None:
    sklearn.OnlineClassifier(**SMALL).fit(NUMBERS, KIND).save(tmp_path)
    with pytest.raises(ValueError, match="y must be one of 'a', 'b'; got 'c'"):
        load(tmp_path).learn_one(dicts(NUMBERS)[0], "c")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"learner": "forest"}, "learner must be one of 'mlp', 'ensemble'; got 'forest'"),
        ({"learner": "mlp", "eta": 0.1}, "option 'eta' requires learner 'ensemble'; got learner 'mlp'"),
        ({"mini_batch": 0}, "mini_batch must be an integer >= 1; got 0"),
        (
            {"learner": "mlp", "class_weight": {"a": 2.0}},
            "classes must be set where class_weight names them",
        ),
        ({"extra": "keep"}, "extra must be one of 'grow', 'refuse', 'ignore'; got 'keep'"),
        ({"absent": "nan"}, "absent must be one of 'missing', 'zero'; got 'nan'"),
        ({"max_bytes": 0}, "max_bytes must be an integer >= 1; got 0"),
        ({"features": "ab"}, "features must be a list, or None; got 'ab'"),
        ({"classes": 2}, "classes must be a list, or None; got 2"),
        ({"categories": ["city"]}, "categories must map features to encodings; got"),
        ({"categories": {"city": 3}}, "categories of 'city' must be {hash = n} or {one_hot = n}; got 3"),
        ({"categories": {"city": {"hash": "z"}}}, "hash of 'city' must be an integer, 1 or more"),
        ({"categories": {"city": {"one_hot": 0}}}, "one_hot of 'city' must be an integer, 1 or more"),
        ({"classes": ["a", 0.5]}, "classes must be a string, an integer or a boolean; got 0.5"),
    ],
)
def test_the_constructor_checks_the_options(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RiverClassifier(**options)


def test_an_optimizer_alone_means_the_plain_network() -> None:
    alone = RiverClassifier(optimizer="sgd", learning_rate=0.1)
    named = RiverClassifier("mlp", optimizer="sgd", learning_rate=0.1)
    for model in (alone, named):
        model.learn_many(TABLE, KIND)
    assert digest(alone) == digest(named)


def test_errors_before_the_first_row(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x must have one feature or more; got none"):
        RiverClassifier(extra="refuse").learn_one({}, 1)
    with pytest.raises(ValueError, match="label must not be the name of a feature; got 'kind'"):
        RiverClassifier(label="kind").learn_one({"kind": 1}, 1)
    with pytest.raises(ValueError, match="categories must be among the features"):
        RiverClassifier(categories={"city": {"hash": 3}}, extra="refuse").learn_one({"a": 1}, 1)
    with pytest.raises(ValueError, match="cannot save a model that has learned no row; learn one first"):
        RiverClassifier().save(tmp_path)
    with pytest.raises(LookupError, match=r"^cannot load a model from .*: it has no versions$"):
        load(tmp_path)


# River


@pytest.mark.nightly
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(RiverClassifier(hidden=8), marks=pytest.mark.nightly),
        RiverRegressor(hidden=8),
        RiverClassifier(**SMALL),
        RiverClassifier(**SMALL, absent="zero"),
    ],
)
def test_river_s_own_checks_pass(model: Any) -> None:
    checks = pytest.importorskip("river.checks")
    for check in checks.yield_checks(model):
        if check.__name__ != "check_bounded_memory_growth":  # it takes long: below
            check_of_river(check, model)


def check_of_river(check: Any, model: Any) -> None:
    if check.__name__ not in model._unit_test_skips():
        check(model.clone())


@pytest.mark.nightly
@pytest.mark.parametrize("model", [RiverClassifier(**SMALL), RiverRegressor(**SMALL, absent="zero")])
def test_features_may_emerge_and_disappear(model: Any) -> None:
    checks = pytest.importorskip("river.checks")
    of_features = [check for check in checks.yield_checks(model) if "features" in check.__name__]
    assert len({check.__name__ for check in of_features}) == 4
    for check in of_features:
        check_of_river(check, model)


def test_features_may_emerge_where_they_are_ignored() -> None:
    checks = pytest.importorskip("river.checks")
    model = RiverClassifier(**SMALL, extra="ignore")
    emerging = [check for check in checks.yield_checks(model) if check.__name__ == "check_emerging_features"]
    assert emerging
    for check in emerging:
        check(model.clone())


@pytest.mark.nightly
def test_memory_does_not_grow() -> None:
    checks = pytest.importorskip("river.checks")
    for model in (RiverClassifier(), RiverRegressor()):
        for check in checks.yield_checks(model):
            if check.__name__ == "check_bounded_memory_growth":
                check(model.clone())


@pytest.mark.merge
@pytest.mark.parametrize("scaled", [False, True])
def test_it_beats_rivers_logistic_regression_on_phishing(scaled: bool) -> None:
    river = pytest.importorskip("river.api")
    stream, scaler = river.datasets.Phishing(), river.preprocessing.StandardScaler()

    def accuracy(model: Any) -> float:
        metric = river.metrics.Accuracy()
        river.evaluate.progressive_val_score(stream, model, metric)
        return float(metric.get())

    ours: Any = scaler.clone() | RiverClassifier() if scaled else RiverClassifier()
    peer = scaler.clone() | river.linear_model.LogisticRegression()
    assert accuracy(ours) > accuracy(peer) > 0.8


@pytest.mark.merge
def test_it_learns_seven_kinds_of_segments_row_by_row() -> None:
    river = pytest.importorskip("river.api")
    metric = river.metrics.Accuracy() + river.metrics.MacroF1()
    river.evaluate.progressive_val_score(
        river.datasets.ImageSegments().take(700), RiverClassifier(hidden=16), metric
    )
    assert min(metric.get()) > 0.75  # the last class again: 0.15; always the same: 0.14


@pytest.mark.merge
def test_its_error_on_approval_is_a_third_of_the_mean_s() -> None:
    river = pytest.importorskip("river.api")

    def error(model: Any) -> float:
        stream, metric = river.datasets.TrumpApproval(), river.metrics.MAE()
        return float(river.evaluate.progressive_val_score(stream, model, metric).get())

    mean = river.dummy.StatisticRegressor(river.stats.Mean())
    assert error(RiverRegressor(hidden=16)) < error(mean) / 3


def test_it_works_in_river_s_pipelines_and_ensembles() -> None:
    river = pytest.importorskip("river.api")
    pipeline = river.preprocessing.StandardScaler() | RiverClassifier(hidden=8, seed=1)
    for _ in range(5):
        pipeline.learn_many(NUMBERS, KIND)
    assert pipeline.predict_many(NUMBERS).index.equals(NUMBERS.index)
    bagging = river.ensemble.BaggingClassifier(RiverClassifier(**SMALL), n_models=2, seed=1)
    encoded = river.preprocessing.OneHotEncoder() | RiverClassifier(**SMALL, extra="ignore")
    for x, y in zip(dicts(TABLE[:40]), KIND[:40], strict=True):
        bagging.learn_one(x, y)
        encoded.learn_one({"colour": x["colour"]}, y)
    assert bagging.predict_one(GOOD) in {"a", "b"}
    assert encoded.predict_one({"colour": "red"}) in {"a", "b"}


def test_a_clone_has_the_parameters_and_is_untrained() -> None:
    pytest.importorskip("river")
    model = learned(categories={"colour": {"hash": 4}}, seed=7)
    clone = model.clone()
    assert clone._get_params() == model._get_params()
    assert clone.predict_one(GOOD) is None
    clone.learn_many(TABLE, KIND)
    assert digest(clone) == digest(model)
    assert model.clone({"mini_batch": 4}).mini_batch == 4


def run(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_module_needs_neither_spark_nor_kafka_nor_scikit_learn_nor_river() -> None:
    code = """
import sys
sys.modules |= dict.fromkeys(["river", "sklearn", "pyspark", "kafka"])
from streaming_nn.estimators.river import RiverClassifier
model = RiverClassifier(hidden=4)
for y in ("no", "yes") * 20:
    model.learn_one({"reply": y}, y)
print(model.predict_one({"reply": "yes"}), model.predict_one({"reply": "no"}))
"""
    assert run(code) == ["yes", "no"]


# What public reports do with River's models, and what works


@pytest.mark.nightly
@pytest.mark.parametrize("sampler", ["RandomUnderSampler", "RandomOverSampler", "RandomSampler"])
def test_river_s_samplers_take_the_classifier(sampler: str) -> None:
    from river import imblearn  # 0.5 s

    options = {"sampling_rate": 0.5} if sampler == "RandomSampler" else {}
    kind, model = getattr(imblearn, sampler), RiverClassifier(**SMALL)
    wrapped = kind(model, desired_dist={"a": 0.5, "b": 0.5}, seed=1, **options)
    rare = (TABLE["weight"] > 62).map({True: "a", False: "b"})
    for x, y in zip(dicts(NUMBERS), rare, strict=True):
        wrapped.learn_one(x, y)
    learned = model._model.counts.trained
    assert learned > ROWS if sampler == "RandomOverSampler" else 0 < learned < ROWS
    assert set(wrapped.predict_proba_one(dicts(NUMBERS)[0])) == {"a", "b"}


@pytest.mark.nightly
def test_labels_may_come_late_in_river_s_own_loop() -> None:
    from river import evaluate, metrics

    late, again = RiverClassifier(**SMALL), RiverClassifier(**SMALL)
    rows = [*zip(dicts(NUMBERS), KIND, strict=True)]
    accuracy = evaluate.progressive_val_score(rows, late, metrics.Accuracy(), delay=5)
    assert 0.4 < accuracy.get() <= 1
    for x, y in rows:
        again.learn_one(x, y)
    assert digest(late) == digest(again)


@pytest.mark.parametrize("how", ["dicts", "tables"])
def test_a_number_that_may_be_an_identifier_is_logged_once_for_each_feature(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = RiverRegressor(learner="mlp", hidden=(2,))
    for x in ({"id": 1, "a": 2}, {"id": 2**53 + 1, "a": 2}, {"id": 2**60, "a": -(2.0**53)}, {"b": 2**54}):
        if how == "dicts":
            model.learn_one(x, 1.0)
        else:
            model.learn_many(pd.DataFrame([x]), pd.Series([1.0]))
    found = [record.args for record in caplog.records if "2^53 or more" in record.getMessage()]
    assert found == [("id",), ("a",), ("b",)]
