"""A schema is checked once, and goes through JSON unchanged."""

import json

import pytest

from streaming_nn.records.schema import Schema, schema_from

FULL = Schema(
    inputs=2,
    classes=("a", 1, True),
    features=("x", "y.z"),
    label="l.m",
    max_bytes=99,
    numbers_as_strings=True,
)


@pytest.mark.parametrize("schema", [FULL, Schema(3), Schema(3, (0, 1), label=None, format="packed")])
def test_options_go_through_json(schema):
    assert schema_from(json.loads(json.dumps(schema.options()))) == schema


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"inputs": 0}, "inputs must be a whole number, 1 or more; got 0"),
        ({"inputs": True}, "inputs must be a whole number, 1 or more; got True"),
        ({"inputs": 1, "format": "xml"}, "format must be one of 'json', 'packed'; got 'xml'"),
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
            "'numbers_as_strings'; got 'lable'",
        ),
    ],
)
def test_a_wrong_option_is_one_line(options, error):
    with pytest.raises(ValueError) as raised:
        schema_from(options)
    assert str(raised.value) == error
