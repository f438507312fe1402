"""Records of several rows: each row is decoded to the bits that it has in a record of its own."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typed_rows import numbers

from streaming_nn.records import reasons
from streaming_nn.records.decode import decode
from streaming_nn.records.explain import explain
from streaming_nn.records.explode import LARGEST, explode, explode_batch
from streaming_nn.records.infer_schema import infer_schema
from streaming_nn.records.schema import Schema, schema_from

pytestmark = pytest.mark.commit

NAMES = ("a", "b")
BELOW = {"features": ("p.items.a", "p.items.b"), "label": "p.items.label", "explode": "p.items[]"}
ROWS = st.lists(
    st.fixed_dictionaries({"a": numbers, "b": st.none() | st.booleans(), "label": st.integers(0, 2)}),
    max_size=5,
)
FRAMES = {
    "none": lambda text: text,
    "gzip": gzip.compress,
    "confluent": lambda text: b"\0\0\0\1\2" + text,
    "json_string": lambda text: json.dumps(text.decode()).encode(),
}


def schema_of(**options):
    return schema_from({"inputs": 2, "classes": [0, 1], "features": NAMES, **options})


def decoded(schema, values):
    """Return what is learned of records: rows and labels, by their bits, and the reasons of the others."""
    found = decode(schema, explode(schema, values).values if schema.explode else values, labeled=True)
    return found.x.tobytes(), found.y.tobytes(), [each.reason for each in found.rejected]


@given(st.lists(ROWS, max_size=3), st.sampled_from([*FRAMES]))
def test_a_row_of_an_array_or_a_line_is_what_it_is_alone(records, framing):
    alone = decoded(schema_of(), [json.dumps(row).encode() for rows in records for row in rows])
    for options, write in (
        ({"explode": "[]"}, json.dumps),
        ({"explode": "lines"}, lambda rows: "\r\n\n".join(map(json.dumps, rows))),
        (BELOW, lambda rows: json.dumps({"id": 2**60 + 1, "p": {"items": rows, "x": None}})),
    ):
        values = [FRAMES[framing](write(rows).encode()) for rows in records if rows]
        assert decoded(schema_of(framing=framing, **options), values)[:2] == alone[:2]
        assert len(decoded(schema_of(framing=framing, **options), values)[2]) == len(alone[2])


def test_lines_of_csv_in_utf_16_are_rows():
    schema = schema_of(format="csv", explode="lines", encoding="utf-16")
    value = "1.5,2,0\r\n3,4,1\r\n".encode("utf-16")
    assert decode(schema, explode(schema, [value]).values, True).x.tolist() == [[1.5, 2], [3, 4]]


def test_rows_keep_what_is_around_the_array_and_the_offset_of_their_record():
    schema = schema_of(features=("id", "items.v"), label="items.y", explode="items[]")
    records = [{"id": 7, "items": [{"v": 1, "y": 0}, {"v": 2, "y": 1}]}, {"id": 8, "items": {"v": 3, "y": 0}}]
    values = [json.dumps(record).encode() for record in records]
    batch = pa.record_batch({"offset": [40, 41], "value": pa.array(values, pa.binary())})
    rows = explode_batch(schema, batch)
    assert rows.column("offset").to_pylist() == [40, 40, 41]
    assert rows.column("row").to_pylist() == [0, 1, 0]
    assert decode(schema, rows.column("value"), True).x.tolist() == [[7, 1], [7, 2], [8, 3]]


def test_a_rejected_row_can_be_sent_alone():
    schema = schema_of(explode="[]", framing="gzip")
    values = explode(
        schema, [gzip.compress(json.dumps([{"a": 1}, {"a": 1, "b": 2, "label": 1}]).encode())]
    ).values
    bad = decode(schema, values, True).rejected[0].position
    again = explode(schema_of(explode="[]", framing="gzip", missing=True), [values[bad]])
    assert [json.loads(gzip.decompress(value)) for value in again.values] == [{"a": 1}]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"not JSON", reasons.NOT_JSON),
        (b"7", reasons.NOT_AN_OBJECT),
        (b"[[1,2]]", reasons.NOT_AN_OBJECT),
        (b'[{"a":1},' + b" " * 2000 + b"{}]", reasons.TOO_LARGE),
    ],
)
def test_records_without_rows_are_rejected_once(value, reason):
    schema = schema_of(explode="[]", max_bytes=1000)
    assert [each.reason for each in decode(schema, explode(schema, [value]).values, True).rejected] == [
        reason
    ]


def test_an_empty_array_and_a_tombstone_are_filtered():
    schema = schema_of(explode="[]")
    found = decode(schema, explode(schema, [b"[]", None, b" [ ] "]).values, True)
    assert found.filtered.tolist() == [0, 1, 2]
    assert not found.rejected


def test_rows_that_repeat_too_much_are_rejected_as_one_record():
    schema = schema_of(max_bytes=10_000, **BELOW)
    rows = [{"a": 1, "b": 2, "label": 0}] * 100
    value = json.dumps({"around": "x" * 100 * LARGEST, "p": {"items": rows}}).encode()
    assert len(value) < 10_000
    (rejected,) = decode(schema, explode(schema, [value]).values, True).rejected
    assert (rejected.reason, rejected.field) == (reasons.TOO_LARGE, "p.items")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"explode": "items"},
            "explode must be 'lines', '\\[\\]', or an array's path with '\\[\\]' after it",
        ),
        ({"explode": "a..b[]"}, "explode must be a field's name"),
        ({"explode": "[]", "format": "csv"}, "explode of an array needs format 'json'; got 'csv'"),
        ({"explode": "lines", "format": "packed", "features": "features"}, "explode = 'lines' needs format"),
    ],
)
def test_what_cannot_be_exploded_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        schema_of(**options)


def test_the_setting_is_suggested_and_the_schema_is_inferred_with_it():
    rows = [{"a": 1.5, "b": 2, "label": "x"}, {"a": 3, "b": 4, "label": "y"}]
    below = json.dumps({"id": 1, "p": {"items": rows}}).encode()
    plain = Schema(2, ("x", "y"), NAMES)
    suggested = explain(plain, [json.dumps(rows).encode()] * 9)[-1]
    assert suggested == 'with records.explode = "[]", 9 of 9 would be read'
    assert 'records.explode = "p.items[]"' in explain(plain, [below] * 9)[-1]
    lines = b"\n".join(json.dumps(row).encode() for row in rows)
    assert explain(plain, [lines] * 9)[-1] == 'with records.explode = "lines", 9 of 9 would be read'
    found = infer_schema([below] * 9, **BELOW)
    assert (found.inputs, found.classes, found.records) == (2, ("x", "y"), 18)


def test_rejected_rows_are_explained_by_their_record():
    schema = schema_of(explode="[]")
    values = [b'[{"a":1,"b":2,"label":0},{"a":"1","b":2,"label":0}]'] * 9
    assert explain(schema, values)[-1] == "with records.numbers_as_strings = true, 9 of 9 would be read"
    assert np.all(explode(schema, values).records == np.repeat(np.arange(9), 2))
