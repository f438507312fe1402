"""Avro schemas: what is refused, and why it must be."""

import json
from importlib import util

import pytest

from streaming_nn.records import avsc


def record(*types, name="R", **more):
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": f"f{i}", "type": t} for i, t in enumerate(types)],
        **more,
    }


def test_a_schema_is_parsed_once():
    text = json.dumps(record("int"))
    assert avsc.parsed(text) is avsc.parsed(text)


@pytest.mark.parametrize(
    ("schema", "error"),
    [
        ("int", "an Avro schema must be of a record; got '\"int\"'"),
        (["null", record("int")], "an Avro schema must be of a record; got"),
        (record("x.Y"), "an Avro schema can't be read (UnknownType: x.Y)"),
        ({"type": "record"}, "an Avro schema can't be read"),
        (3, "an Avro schema can't be read"),
        (record(["null", "R"]), "an Avro schema must not contain itself; got 'R' inside of it"),
        (record({"type": "array", "items": "R"}), "an Avro schema must not contain itself"),
        (record({"type": "map", "values": record("R", name="S")}), "an Avro schema must not contain itself"),
        (record({"type": "array", "items": "null"}), "no array of items that may take no bytes"),
        (record({"type": "array", "items": record(name="E")}), "no array of items that may take no bytes"),
        (
            record({"type": "fixed", "name": "F", "size": 0}, {"type": "array", "items": "F"}),
            "no array of items that may take no bytes",
        ),
    ],
)
def test_what_is_refused_is_one_line(schema, error):
    with pytest.raises(ValueError) as raised:
        avsc.parsed(json.dumps(schema))
    assert error in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00"])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError, match=r"an Avro schema (can't be read|is nested too deep)"):
        avsc.parsed(text)


def test_what_ends_is_not_refused():
    avsc.parsed(
        json.dumps(record({"type": "array", "items": ["null", "int"]}, {"type": "map", "values": "null"}))
    )
    twice = record(record("int", name="S"), "S", {"type": "array", "items": "S"})
    avsc.parsed(json.dumps(twice))


def test_a_schema_for_rows_is_written():
    text = avsc.written(("a", "b"), ("x", "y"), "label")
    assert json.loads(text)["fields"] == [
        {"name": "a", "type": "float"},
        {"name": "b", "type": "float"},
        {"name": "label", "type": ["null", "string"], "default": None},
        {"name": "id", "type": ["null", "long"], "default": None},
    ]
    avsc.parsed(text)
    with pytest.raises(ValueError, match=r"labels in Avro must be of one type; got \[1, 'a'\]"):
        avsc.written("a", (1, "a"), "label")
    with pytest.raises(
        ValueError, match=r"a field of Avro must be called by letters, digits and _; got 'a.b'"
    ):
        avsc.written(("a.b",), (1, 2), "label")


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(avsc, "find_spec", lambda name: None if name == "fastavro" else util.find_spec(name))
    avsc.parsed.cache_clear()
    with pytest.raises(ValueError) as raised:
        avsc.parsed(json.dumps(record("int")))
    assert str(raised.value) == "format avro needs fastavro: pip install 'streaming_nn[avro]'"
