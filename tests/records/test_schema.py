"""A schema is checked once, and goes through JSON unchanged."""

import json

import pytest

from streaming_nn.records.schema import MAX_CLASSES, Schema, grown, schema_from, together, width

FULL = Schema(
    inputs=5,
    classes=("a", 1, True),
    features=("x", "y.z"),
    label="l.m",
    max_bytes=99,
    numbers_as_strings=True,
    missing=True,
    categories={"y.z": {"one_hot": 4}},
    vocabulary={"y.z": ("a", 1, True, "1")},
    grow=True,
)
HOW = {"features": ["a", "b"], "categories": {"b": {"one_hot": 2}}, "inputs": 3}


@pytest.mark.parametrize("schema", [FULL, Schema(3), Schema(3, (0, 1), label=None, format="packed")])
def test_options_go_through_json(schema):
    assert schema_from(json.loads(json.dumps(schema.options()))) == schema


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"inputs": 0}, "inputs must be a whole number, 1 or more; got 0"),
        ({"inputs": True}, "inputs must be a whole number, 1 or more; got True"),
        ({"inputs": 1, "format": "xml"}, "format must be one of 'json', 'packed', 'csv', 'avro'; got 'xml'"),
        ({"inputs": 1, "max_bytes": -1}, "max_bytes must be a whole number, 1 or more; got -1"),
        ({"inputs": 3, "features": ["a", "b"]}, "features names 2 fields, but inputs is 3"),
        ({"inputs": 2, "features": ["a", "a"]}, "features must differ from each other; got 'a' twice"),
        ({"inputs": 1, "features": []}, "features must be a name or a list of names; got []"),
        (
            {"inputs": 1, "features": "a..b"},
            "features must be a field's name, or names joined by dots; got 'a..b'",
        ),
        ({"inputs": 1, "label": ""}, "label must be a field's name, or names joined by dots; got ''"),
        ({"inputs": 1, "classes": [1]}, "classes must be a list of two or more labels; got [1]"),
        ({"inputs": 1, "classes": [1, 1.5]}, "classes must be strings, whole numbers or booleans; got 1.5"),
        ({"inputs": 1, "classes": ["a", "a"]}, "classes must differ from each other; got 'a' twice"),
        ({"inputs": 1, "numbers_as_strings": 1}, "numbers_as_strings must be true or false; got 1"),
        ({}, "a schema needs inputs, the number of features a record has; got none"),
        (
            {"inputs": 1, "lable": "y"},
            "a schema's options are 'inputs', 'classes', 'features', 'label', 'format', 'max_bytes', "
            "'numbers_as_strings', 'missing', 'categories', 'vocabulary', 'grow', "
            "'csv_columns', 'avro_schema', 'registry'; got 'lable'",
        ),
        ({"inputs": 1, "missing": 1}, "missing must be true or false; got 1"),
        ({"inputs": 1, "grow": "yes"}, "grow must be true or false; got 'yes'"),
        ({**HOW, "inputs": 2}, "features and categories take 3 columns, but inputs is 2"),
        ({**HOW, "categories": 3}, "categories must name fields and how each is encoded; got 3"),
        (
            {**HOW, "categories": {"c": {"hash": 2}}},
            "categories must be among the features, 'a', 'b'; got 'c'",
        ),
        ({**HOW, "label": "b"}, "categories must be among the features, 'a', 'b'; got 'b'"),
        (
            {**HOW, "categories": {"b": {"hot": 2}}},
            "categories of 'b' must be {hash = n} or {one_hot = n}; got {'hot': 2}",
        ),
        (
            {**HOW, "categories": {"b": {"hash": 0}}},
            "hash of 'b' must be a whole number, 1 or more; got 0",
        ),
        (
            {"inputs": 4, "features": "t", "categories": {"t": {"one_hot": 4}}},
            "the tokens of 't' can only be hashed, {hash = n}; got {'one_hot': 4}",
        ),
        (
            {**HOW, "format": "packed"},
            "categories are for records whose fields have names; got format 'packed'",
        ),
        ({**HOW, "vocabulary": {"a": [1]}}, "vocabulary must be of fields that are one_hot; got 'a'"),
        ({**HOW, "vocabulary": {"b": "xy"}}, "vocabulary of 'b' must be a list; got 'xy'"),
        (
            {**HOW, "vocabulary": {"b": [1, 1]}},
            "vocabulary of 'b' must differ from each other; got 1 twice",
        ),
        (
            {**HOW, "vocabulary": {"b": [1, 2, 3]}},
            "vocabulary of 'b' may have 2 values, its one_hot; got 3",
        ),
        (
            {"inputs": 1, "grow": True, "classes": [*range(1001)]},
            "classes that grow may be 1,000 at most; got 1,001",
        ),
        (
            {"inputs": 1, "grow": True, "format": "packed", "classes": ["a"]},
            "packed records hold a label's place, so growing classes must be 0, 1, 2 and so on; got ['a']",
        ),
    ],
)
def test_a_wrong_option_is_one_line(options, error):
    with pytest.raises(ValueError) as raised:
        schema_from(options)
    assert str(raised.value) == error


def test_a_schema_grows_by_what_is_new_and_no_further() -> None:
    schema = Schema(3, ("no",), ("a", "b"), categories={"b": {"one_hot": 2}}, grow=True)
    one = grown(schema, {"b": ["x"], "label": ["yes", "no", 1, True]})
    assert (one.vocabulary, one.classes) == ({"b": ("x",)}, ("no", "yes", 1, True))
    two = grown(one, {"b": ["x", "y", "z"]})
    assert (two.vocabulary, two.classes) == ({"b": ("x", "y")}, one.classes)
    assert grown(two, {"b": ["z"]}) == two == grown(two, {})
    assert len(grown(schema, {"label": range(2 * MAX_CLASSES)}).classes) == MAX_CLASSES
    with pytest.raises(ValueError, match=r"^the fields that grow are 'b', 'label'; got 'a'$"):
        grown(schema, {"a": ["x"]})


def test_growing_classes_may_begin_as_none() -> None:
    assert Schema(1, grow=True).classes == Schema(1, (), grow=True).classes == ()


def test_packed_classes_grow_with_all_that_is_below() -> None:
    schema = Schema(1, (0, 1), format="packed", grow=True)
    assert grown(schema, {"label": [4, 2]}).classes == (0, 1, 2, 3, 4)
    assert grown(schema, {}).classes == (0, 1)


def test_what_tasks_have_not_seen_is_joined_in_their_order() -> None:
    parts = [{"b": (2, "x")}, {}, {"a": (True,), "b": ("2", 2, "y")}]
    assert together(parts) == {"b": (2, "x", "2", "y"), "a": (True,)}
    assert together([]) == {}


def test_columns_are_named() -> None:
    assert FULL.columns == ("x", "y.z=a", "y.z=1", "y.z=true", 'y.z="1"')
    assert Schema(2).columns == ("features[0]", "features[1]")
    for schema in (FULL, Schema(4, features="t", categories={"t": {"hash": 4}})):
        assert len(schema.columns) == schema.inputs == width(schema.features, schema.categories)
    assert width("features", {}) is None
