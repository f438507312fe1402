"""The columns of named features: rows of dicts and of tables, and the schema that describes them."""

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_nn.estimators.columns import (
    Columns,
    columns_from,
    columns_of,
    has_value,
    infer_encoding,
    name_of,
    numbers_of,
    path_of,
)
from streaming_nn.records.paths import parse_path
from streaming_nn.records.schema import Schema

pytestmark = pytest.mark.commit

ENCODINGS = {"city": {"one_hot": 3}, "kind": {"hash": 2}}
COLUMNS = columns_of(["a", "city", "b", "kind"], ENCODINGS, False, True)
VALUES = st.one_of(
    st.floats(width=32, allow_infinity=False),
    st.integers(-(2**70), 2**70),
    st.booleans(),
    st.none(),
    st.decimals(-100, 100, places=2),
    st.sampled_from([np.float32(0.1), np.int64(2**60 + 1), np.float64(1 / 3), np.bool_(True)]),
)


def described(columns: Columns, missing: bool = True) -> Schema:
    return Schema(label="y", missing=missing, **columns.options())


def test_columns_are_in_the_order_of_the_names() -> None:
    assert (COLUMNS.numbers, COLUMNS.starts, COLUMNS.inputs) == ({"a": 0, "b": 4}, {"city": 1, "kind": 5}, 7)
    assert COLUMNS.features == ("a", "city", "b", "kind")
    np.testing.assert_array_equal(COLUMNS.blank, [np.nan, 0, 0, 0, np.nan, 0, 0])


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), VALUES))
def test_a_dict_has_the_bits_of_a_table_of_one_row(x: dict[str, Any]) -> None:
    columns = columns_of("abcd", {}, False, True)
    row, rest = columns.row(x)
    columns.fill(row, rest)
    rows, features = columns.rows([(name, (value,)) for name, value in x.items()], 1)
    columns.fill(rows, features)
    assert row.tobytes() == rows.tobytes()
    for name, value in x.items():
        if value is not None and value == value:
            assert row[0, "abcd".index(name)] == float(value)


def test_a_row_leaves_to_be_filled_in_what_is_more_than_a_number() -> None:
    row, rest = COLUMNS.row({"a": 1, "city": "Ulm", "b": Decimal(2), "new": 3})
    assert rest == {"city": ("Ulm",), "b": (Decimal(2),), "new": (3,)}
    assert COLUMNS.fill(row, rest) == {"city": ("Ulm",)}
    learned = COLUMNS.learn_values({"city": ("Ulm",)})
    row, rest = learned.row({"a": 1, "city": "Ulm", "b": Decimal(2)})
    assert learned.fill(row, rest) == {}
    assert row.tolist() == [[1, 1, 0, 0, 2, 0, 0]]


@pytest.mark.parametrize("value", [10**400, 1e39, -1e300, float("inf")])
def test_a_number_beyond_float32_names_its_feature(value: Any) -> None:
    row, rest = COLUMNS.row({"b": 1.0, "a": value})
    assert rest.keys() == {"a", "b"}
    with pytest.raises(ValueError, match="feature 'a' must be finite; got"):
        COLUMNS.fill(row, rest)


@pytest.mark.parametrize("value", ["1.5", b"1", [1.0], {}, complex(1, 2), object()])
def test_what_is_not_a_number_names_its_feature(value: Any) -> None:
    row, rest = COLUMNS.row({"a": value})
    with pytest.raises(ValueError, match="feature 'a' must be a number; got "):
        COLUMNS.fill(row, rest)


def test_new_numbers_take_unused_columns_first() -> None:
    first = columns_of("ab", {}, False, True)
    second = first.add(["c"], {}, 3)
    assert (second.numbers, list(second.unused), second.inputs) == ({"a": 0, "b": 1, "c": 2}, [3, 4], 5)
    third = second.add(["d"], {"city": {"one_hot": 2}}, 0)
    assert (third.numbers["d"], third.starts, list(third.unused), third.inputs) == (3, {"city": 5}, [4], 7)
    fourth = third.add(["e", "f"], {}, 2)
    assert (fourth.numbers["e"], fourth.numbers["f"], list(fourth.unused)) == (4, 7, [8])
    assert fourth.features == ("a", "b", "c", "d", "e", "city", "f", "unused#8")
    assert fourth.sparse == ("c", "d", "e", "f", "unused#8")
    growth = fourth.growth(third)
    assert (growth.before, growth.origin.tolist()) == (7, [*range(7), -1, -1])
    assert first.numbers == {"a": 0, "b": 1}  # what came in is not changed


def test_a_dropped_number_moves_the_columns_after_it() -> None:
    columns = COLUMNS.add(["c"], {}, 2)
    after = columns.drop("b")
    assert after.features == ("a", "city", "kind", "c", "unused#7")
    assert (after.starts, after.numbers, after.inputs) == ({"city": 1, "kind": 4}, {"a": 0, "c": 6}, 8)
    assert columns.cut("b").origin.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]


@pytest.mark.parametrize("sparse", [False, True])
def test_a_schema_describes_the_columns(sparse: bool) -> None:
    columns = columns_of(["a", "city", "b"], {"city": {"one_hot": 2}}, sparse, True)
    columns = columns.add(["c", "d"], {"kind": {"hash": 3}}, 4).learn_values({"city": ("Ulm", 7)})
    again = columns_from(described(columns))
    for name in ("numbers", "starts", "encoded", "features", "sparse"):
        assert getattr(again, name) == getattr(columns, name)
    assert list(again.unused) == list(columns.unused)
    np.testing.assert_array_equal(again.blank, columns.blank)
    assert described(again) == described(columns)


def test_no_features_have_one_unused_column() -> None:
    columns = columns_of((), {}, False, True)
    assert (columns.inputs, columns.features) == (1, ("unused#0",))
    assert columns.add(["a"], {}, 0).features == ("a",)
    assert columns_from(described(columns)).add(["a"], {}, 0).inputs == 1


def test_the_columns_of_an_array_are_numbered() -> None:
    base = Schema(2)
    columns = columns_from(base)
    assert columns.numbers == {"features[0]": 0, "features[1]": 1}
    assert columns.schema(base) is base


@pytest.mark.parametrize(
    ("key", "name"),
    [("a", "a"), (3, "3"), ("a.b", '"a.b"'), ('"', '""""'), (("x", 1), "('x', 1)"), ("a b", "a b")],
)
def test_a_name_is_the_path_of_a_field_of_that_name(key: Any, name: str) -> None:
    assert name_of(key) == name
    assert parse_path(name) == (str(key),)


def test_names_of_options_may_be_paths() -> None:
    assert [path_of(name) for name in ("a.b", '"a.b"', "a..b", "plain")] == [
        "a.b",
        '"a.b"',
        '"a..b"',
        "plain",
    ]
    columns = columns_of(["a.b", '"c.d"'], {}, False, True)
    row, rest = columns.row({"a.b": 1, "c.d": 2.0})
    assert rest == {'"c.d"': (2.0,)}
    columns.fill(row, rest)
    assert row.tolist() == [[1, 2]]


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1))
def test_any_string_is_a_name(text: str) -> None:
    assert parse_path(name_of(text)) == (text,)


@pytest.mark.parametrize("text", ["", "unused#1", "unused#"])
def test_an_empty_or_reserved_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a feature's name must not be empty, nor begin with 'unused#'; got"):
        name_of(text)


@pytest.mark.parametrize("values", [pd.Series([1, 2]), pd.Series([True, False]), [None, 2], [], (np.nan,)])
def test_numbers_are_not_encoded(values: Any) -> None:
    assert infer_encoding(values) is None


@pytest.mark.parametrize(
    "values", [[None, "x"], pd.Series(["x"], dtype="string"), pd.Series([1, 2], dtype="category"), ("",)]
)
def test_strings_and_categories_are_encoded(values: Any) -> None:
    assert infer_encoding(values) == {"one_hot": 16}


@pytest.mark.parametrize(
    ("values", "there"),
    [
        ([0, 0.0, None, np.nan, False], False),
        ([], False),
        ([0, -2], True),
        ([True], True),
        ([pd.NA, 1], True),
    ],
)
def test_a_number_is_there_if_it_is_neither_missing_nor_0(values: Any, there: bool) -> None:
    assert has_value("a", values) is there


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1, None, 0], dtype="Int64"),
        pd.Series([True, None, False], dtype="boolean"),
        pd.Series([1.0, None, 0.0], dtype="float32"),
        pd.Series(pd.arrays.SparseArray([1.0, np.nan, 0.0])),
        pd.Series([1, None, 0], dtype="int64[pyarrow]"),
        pd.Series([Decimal(1), None, Decimal(0)]),
    ],
    ids=lambda values: str(values.dtype),
)
def test_series_of_every_type_are_numbers(values: pd.Series) -> None:
    np.testing.assert_array_equal(numbers_of("a", values), [1, np.nan, 0])


def test_sparse_columns_of_counts_are_numbers() -> None:
    values = pd.Series(pd.arrays.SparseArray(np.array([0, 3, 0], np.uint8), fill_value=0))
    assert numbers_of("a", values).tolist() == [0, 3, 0]
