"""Chosen fields of a record, as JSON, whatever the record is."""

import json
from typing import Any

import pytest
from hostile import corpus

from streaming_nn.records.avro import write
from streaming_nn.records.chosen import field_reader
from streaming_nn.records.schema import Schema

pytestmark = pytest.mark.commit

JSON = Schema(3, (0, 1))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b'{"id": 7, "a": {"b": "x"}}', {"id": 7, "a.b": "x"}),
        (b'{"id": 12345678901234567890123, "a": {"b": [1, null, {"c": true}]}}', None),
        (b'{"id": NaN, "a": {"b": -Infinity}}', {"id": None, "a.b": None}),
        (b'{"id": "\\u0000\\"", "a": 5}', {"id": '\x00"', "a.b": None}),
        (b'{"id": 1, "id": 2}', {"id": 2, "a.b": None}),
        *((value, {"id": None, "a.b": None}) for value in (b"{}", b"[]", b"1", b"no", b"", b"\xff")),
    ],
)
def test_fields_of_json(value: bytes, found: dict[str, Any] | None) -> None:
    expected = json.loads(value) if found is None else None
    read = json.loads(field_reader(JSON, ["id", "a.b"])(value))
    assert read == (found or {"id": expected["id"], "a.b": expected["a"]["b"]})


def test_elements_of_arrays_and_quoted_names() -> None:
    names = [
        "geometry.coordinates.1",
        '"http.status"',
        "a.2",
        "a.-1",
        "a.\u0661",
        "a.99999999999",
        "a.00",
        "b.0",
    ]
    record = b'{"geometry": {"coordinates": [8.5, 47.25]}, "http.status": 200, "a": [1, 2], "b": {"0": 3}}'
    found = json.loads(field_reader(JSON, names)(record))
    assert list(found) == names
    assert list(found.values()) == [47.25, 200, None, None, None, None, 1, 3]


def test_fields_of_avro() -> None:
    fields = [
        {"name": "id", "type": "bytes"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "features", "type": {"type": "array", "items": "double"}},
    ]
    schema = Schema(
        1, (0, 1), format="avro", avro_schema=json.dumps({"type": "record", "name": "r", "fields": fields})
    )
    (value,) = write(schema, [{"id": b"\xff", "at": 0, "features": [1.5]}])
    read = json.loads(field_reader(schema, ["id", "at", "features", "other"])(value))
    assert read == {"id": "_w==", "at": 0, "features": [1.5], "other": None}, "bytes are in URL-safe base64"
    assert json.loads(field_reader(schema, ["id"])(b"\x01")) == {"id": None}


def test_fields_of_any_record_are_json() -> None:
    read = field_reader(JSON, ["label", "features"])
    for record in corpus():
        assert set(json.loads(read(record.value or b""))) == {"label", "features"}


@pytest.mark.parametrize("format", ["csv", "packed"])
def test_other_formats_have_no_fields(format: str) -> None:
    with pytest.raises(ValueError, match=f"score.fields must be empty unless .* got '{format}'"):
        field_reader(Schema(3, (0, 1), format=format), ["id"])
