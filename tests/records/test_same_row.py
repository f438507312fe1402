"""One typed row is decoded to the same bits, or rejected for the same reason and field, in every format.

Spark's sources are compared in tests/spark/sources/test_dataframe_json.py, simdjson in test_simd.py.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typed_rows import numbers, typed_rows

from streaming_nn.records import avro
from streaming_nn.records.decode import decode
from streaming_nn.records.schema import Schema

pytestmark = pytest.mark.commit

PLAIN = Schema(
    8,
    ("no", "yes"),
    ("x", "flag", "n", "at", "city"),
    "y",
    weight="w",
    missing=True,
    na_values=("NA", "-200"),
    categories={"city": {"hash": 2}},
    datetimes={"at": {"parts": ["days", "hour"], "origin": "2020-01-01"}},
)
TYPES = {
    "x": "double",
    "flag": "boolean",
    "n": "long",
    "at": "long",
    "city": "string",
    "y": "string",
    "w": "double",
}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}


def as_json(row, **style):
    plain = {name: value.isoformat() if name == "at" and value else value for name, value in row.items()}
    return json.dumps(plain, **style).encode()


def as_line(row, delimiter):
    def field(value):
        if isinstance(value, str):
            return '"' + value.replace('"', '""') + '"'
        return "" if value is None else value.isoformat() if isinstance(value, datetime) else str(value)

    return delimiter.join(field(row[name]) for name in TYPES).encode()


def avro_schema(**changed):
    fields = [{"name": name, "type": ["null", kind]} for name, kind in (TYPES | changed).items()]
    return json.dumps({"type": "record", "name": "R", "fields": fields})


def as_datums(rows):
    """Return datums of a writer that knows no dates."""
    writer = Schema(1, None, ("x",), None, "avro", avro_schema=avro_schema())
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    micros = [None if row["at"] is None else (row["at"] - epoch) // timedelta(microseconds=1) for row in rows]
    return avro.write(writer, [row | {"at": at} for row, at in zip(rows, micros, strict=True)])


def outcome(schema, values):
    """Return what is decoded, to the bit; how a rejected value is shown depends on the format."""
    decoded = decode(schema, values, labeled=True)
    rejected = [(each.position, each.reason, each.field) for each in decoded.rejected]
    return decoded.x.tobytes(), decoded.y.tobytes(), decoded.w.tobytes(), decoded.kept.tolist(), rejected


@given(st.lists(typed_rows, min_size=1, max_size=4))
@example([dict.fromkeys(TYPES)])
@settings(max_examples=100, deadline=None)
def test_one_row_in_every_format(rows):
    expected = outcome(PLAIN, list(map(as_json, rows)))
    spaced = [as_json(row, indent=1, ensure_ascii=False) for row in rows]
    assert outcome(PLAIN, spaced) == expected, "the same in other bytes"
    in_avro = replace(PLAIN, format="avro", avro_schema=avro_schema(at=MICROS))
    assert outcome(in_avro, as_datums(rows)) == expected
    for delimiter in (",", ";"):
        csv = replace(PLAIN, format="csv", csv_columns=tuple(TYPES), delimiter=delimiter)
        assert outcome(csv, [as_line(row, delimiter) for row in rows]) == expected


@given(st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_one_row_of_numbers_as_fields_an_array_or_both(rows):
    """An array, fields, elements by their index, and an array beside a field are the same row."""
    records = [json.dumps({"v": row, "f": row[0], "r": row[1:]}).encode() for row in rows]
    found = []
    for features in ("v", ("v.0", "v.1", "v.2", "v.3"), ("f", "r[0:3]"), ("v[0:4]",)):
        decoded = decode(Schema(4, None, features, None, missing=True), records, labeled=False)
        found.append((decoded.x.tobytes(), decoded.kept.tolist(), [each[:2] for each in decoded.rejected]))
    assert found[0] == found[1] == found[2] == found[3]
