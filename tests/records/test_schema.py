"""A schema is checked once, and can be stored as JSON."""

import json

import pytest

from streaming_nn.records.schema import MAX_CLASSES, Schema, grow_schema, merge_unseen, schema_from, width

pytestmark = pytest.mark.commit

FULL = Schema(
    inputs=5,
    classes=("a", 1, True),
    features=("x", "y.z"),
    label="l.m",
    max_bytes=99,
    numbers_as_strings=True,
    missing=True,
    sparse=("x",),
    categories={"y.z": {"one_hot": 4}},
    vocabulary={"y.z": ("a", 1, True, "1")},
    grow=True,
)
ENCODED = {"features": ["a", "b"], "categories": {"b": {"one_hot": 2}}, "inputs": 3}


@pytest.mark.parametrize("schema", [FULL, Schema(3), Schema(3, (0, 1), label=None, format="packed")])
def test_options_can_be_stored_as_json(schema):
    assert schema_from(json.loads(json.dumps(schema.options()))) == schema


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"inputs": 0}, "inputs must be an integer, 1 or more; got 0"),
        ({"inputs": True}, "inputs must be an integer, 1 or more; got True"),
        ({"inputs": 1, "format": "xml"}, "format must be one of 'json', 'packed', 'csv', 'avro'; got 'xml'"),
        ({"inputs": 1, "max_bytes": -1}, "max_bytes must be an integer, 1 or more; got -1"),
        ({"inputs": 3, "features": ["a", "b"]}, "inputs must be 2, the number of features; got 3"),
        ({"inputs": 2, "features": ["a", "a"]}, "features must differ from each other; got 'a' twice"),
        ({"inputs": 1, "features": []}, "features must be a name or a list of names; got []"),
        (
            {"inputs": 1, "features": "a..b"},
            "features must be a field's name, or names joined by dots; got 'a..b'",
        ),
        ({"inputs": 1, "label": ""}, "label must be a field's name, or names joined by dots; got ''"),
        ({"inputs": 1, "classes": [1]}, "classes must be a list of two or more labels; got [1]"),
        ({"inputs": 1, "classes": [1, 1.5]}, "classes must be strings, integers or booleans; got 1.5"),
        ({"inputs": 1, "classes": ["a", "a"]}, "classes must differ from each other; got 'a' twice"),
        ({"inputs": 1, "numbers_as_strings": 1}, "numbers_as_strings must be true or false; got 1"),
        ({}, "a schema must have inputs, the number of columns; got none"),
        (
            {"inputs": 1, "lable": "y"},
            "options of a schema must be among 'inputs', 'classes', 'features', 'label', 'format', "
            "'max_bytes', 'numbers_as_strings', 'na_values', 'decimal', 'thousands', 'units', 'missing', "
            "'sparse', 'categories', 'vocabulary', 'datetimes', 'grow', "
            "'csv_columns', 'delimiter', 'quote', 'avro_schema', 'registry', 'framing', 'encoding', 'where', "
            "'explode', 'weight', 'multilabel', 'lags', 'lags_as_of', 'series', 'max_series', "
            "'series_expiry'; got 'lable'",
        ),
        ({"inputs": 1, "missing": 1}, "missing must be true or false; got 1"),
        ({**ENCODED, "sparse": "a"}, "sparse must be a list of features; got 'a'"),
        ({**ENCODED, "sparse": ["b"]}, "sparse must be among the features that are numbers; got 'b'"),
        ({"inputs": 1, "sparse": ["a"]}, "sparse must be among the features that are numbers; got 'a'"),
        (
            {"inputs": 1, "features": ["a"], "sparse": ["a"], "format": "csv"},
            "sparse needs format 'json' or 'avro', whose fields can be absent; got 'csv'",
        ),
        ({"inputs": 1, "grow": "yes"}, "grow must be true or false; got 'yes'"),
        ({**ENCODED, "inputs": 2}, "inputs must be 3, the columns of all features; got 2"),
        ({**ENCODED, "categories": 3}, "categories must be fields and their encodings; got 3"),
        (
            {**ENCODED, "categories": {"c": {"hash": 2}}},
            "categories must be among the features, 'a', 'b'; got 'c'",
        ),
        ({**ENCODED, "label": "b"}, "categories must be among the features, 'a', 'b'; got 'b'"),
        (
            {**ENCODED, "categories": {"b": {"hot": 2}}},
            "categories of 'b' must be {hash = n} or {one_hot = n}; got {'hot': 2}",
        ),
        (
            {**ENCODED, "categories": {"b": {"hash": 0}}},
            "hash of 'b' must be an integer, 1 or more; got 0",
        ),
        (
            {"inputs": 4, "features": "t", "categories": {"t": {"one_hot": 4}}},
            "categories of the tokens 't' must be {hash = n}; got {'one_hot': 4}",
        ),
        (
            {**ENCODED, "format": "packed"},
            "categories need records with named fields; got format 'packed'",
        ),
        ({**ENCODED, "vocabulary": {"a": [1]}}, "vocabulary must be of one_hot fields; got 'a'"),
        ({**ENCODED, "vocabulary": {"b": "xy"}}, "vocabulary of 'b' must be a list; got 'xy'"),
        (
            {**ENCODED, "vocabulary": {"b": [1, 1]}},
            "vocabulary of 'b' must differ from each other; got 1 twice",
        ),
        (
            {**ENCODED, "vocabulary": {"b": [1, 2, 3]}},
            "vocabulary of 'b' must have at most 2 values (one_hot); got 3",
        ),
        (
            {"inputs": 1, "grow": True, "classes": [*range(1001)]},
            "growing classes must be at most 1,000; got 1,001",
        ),
        (
            {"inputs": 1, "grow": True, "format": "packed", "classes": ["a"]},
            "growing classes of packed records must be 0, 1, 2 and so on, the indices in the records; "
            "got ['a']",
        ),
    ],
)
def test_an_invalid_option_raises_one_line(options, error):
    with pytest.raises(ValueError) as raised:
        schema_from(options)
    assert str(raised.value) == error


def test_a_schema_grows_by_new_values_up_to_its_limits() -> None:
    schema = Schema(3, ("no",), ("a", "b"), categories={"b": {"one_hot": 2}}, grow=True)
    one = grow_schema(schema, {"b": ["x"], "label": ["yes", "no", 1, True]})
    assert (one.vocabulary, one.classes) == ({"b": ("x",)}, ("no", "yes", 1, True))
    two = grow_schema(one, {"b": ["x", "y", "z"]})
    assert (two.vocabulary, two.classes) == ({"b": ("x", "y")}, one.classes)
    assert grow_schema(two, {"b": ["z"]}) == two == grow_schema(two, {})
    assert len(grow_schema(schema, {"label": range(2 * MAX_CLASSES)}).classes) == MAX_CLASSES
    with pytest.raises(ValueError, match=r"^fields that grow must be among 'b', 'label'; got 'a'$"):
        grow_schema(schema, {"a": ["x"]})


def test_growing_classes_may_be_empty_at_first() -> None:
    assert Schema(1, grow=True).classes == Schema(1, (), grow=True).classes == ()


def test_packed_classes_grow_with_all_lower_ones() -> None:
    schema = Schema(1, (0, 1), format="packed", grow=True)
    assert grow_schema(schema, {"label": [4, 2]}).classes == (0, 1, 2, 3, 4)
    assert grow_schema(schema, {}).classes == (0, 1)


def test_unseen_values_are_merged_in_order() -> None:
    parts = [{"b": (2, "x")}, {}, {"a": (True,), "b": ("2", 2, "y")}]
    assert merge_unseen(parts) == {"b": (2, "x", "2", "y"), "a": (True,)}
    assert merge_unseen([]) == {}


def test_columns_have_names() -> None:
    assert FULL.columns == ("x", "y.z=a", "y.z=1", "y.z=true", 'y.z="1"')
    assert Schema(2).columns == ("features[0]", "features[1]")
    for schema in (FULL, Schema(4, features="t", categories={"t": {"hash": 4}})):
        assert len(schema.columns) == schema.inputs == width(schema.features, schema.categories, {})
    assert width("features", {}) is None
