"""Avro schemas: which are rejected, and why."""

import json
from importlib import util

import pytest

from streaming_nn.records import avsc

pytestmark = pytest.mark.commit


def record(*types, name="R", **more):
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": f"f{i}", "type": t} for i, t in enumerate(types)],
        **more,
    }


def test_a_schema_is_parsed_once():
    text = json.dumps(record("int"))
    assert avsc.parse_schema(text) is avsc.parse_schema(text)


@pytest.mark.parametrize(
    ("schema", "error"),
    [
        ("int", "an Avro schema must be of a record; got '\"int\"'"),
        (["null", record("int")], "an Avro schema must be of a record; got"),
        (record("x.Y"), "UnknownType: x.Y"),
        ({"type": "record"}, "cannot read the Avro schema"),
        (3, "cannot read the Avro schema"),
        (record(["null", "R"]), "an Avro schema must not be recursive; got 'R' inside itself"),
        (record({"type": "array", "items": "R"}), "an Avro schema must not be recursive"),
        (record({"type": "map", "values": record("R", name="S")}), "an Avro schema must not be recursive"),
        (record({"type": "array", "items": "null"}), "must not have zero-byte array items"),
        (record({"type": "array", "items": record(name="E")}), "must not have zero-byte array items"),
        (
            record({"type": "fixed", "name": "F", "size": 0}, {"type": "array", "items": "F"}),
            "must not have zero-byte array items",
        ),
    ],
)
def test_a_rejected_schema_raises_one_line(schema, error):
    with pytest.raises(ValueError) as raised:
        avsc.parse_schema(json.dumps(schema))
    assert error in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00"])
def test_invalid_json_is_rejected(text):
    with pytest.raises(ValueError, match=r"cannot read the Avro schema|is nested too deeply"):
        avsc.parse_schema(text)


def test_a_schema_that_ends_is_accepted():
    avsc.parse_schema(
        json.dumps(record({"type": "array", "items": ["null", "int"]}, {"type": "map", "values": "null"}))
    )
    twice = record(record("int", name="S"), "S", {"type": "array", "items": "S"})
    avsc.parse_schema(json.dumps(twice))


def test_write_schema_for_rows():
    text = avsc.write_schema(("a", "b"), ("x", "y"), "label")
    assert json.loads(text)["fields"] == [
        {"name": "a", "type": "float"},
        {"name": "b", "type": "float"},
        {"name": "label", "type": ["null", "string"], "default": None},
        {"name": "id", "type": ["null", "long"], "default": None},
    ]
    avsc.parse_schema(text)
    with pytest.raises(ValueError, match=r"labels in Avro must be of one type; got \[1, 'a'\]"):
        avsc.write_schema("a", (1, "a"), "label")
    with pytest.raises(
        ValueError, match=r"the name of an Avro field must consist of letters, digits and _; got 'a.b'"
    ):
        avsc.write_schema(("a.b",), (1, 2), "label")


def test_without_fastavro_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(avsc, "find_spec", lambda name: None if name == "fastavro" else util.find_spec(name))
    avsc.parse_schema.cache_clear()
    with pytest.raises(ValueError) as raised:
        avsc.parse_schema(json.dumps(record("int")))
    assert str(raised.value) == "format avro needs fastavro: pip install 'streaming_nn[avro]'"
