"""Paths: nested names, quoted names, elements of arrays."""

import json

import numpy as np
import pytest
from record_values import keys_of

from streaming_nn.records import avro
from streaming_nn.records.decode import decode, encode, encode_named
from streaming_nn.records.infer_schema import infer_schema
from streaming_nn.records.paths import get_field, parse_path, split_length
from streaming_nn.records.reasons import ABSENT
from streaming_nn.records.schema import Schema
from streaming_nn.spark.sources.prefetch.reader import plain_of

pytestmark = pytest.mark.commit


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ("a",)),
        ("a b.c", ("a b", "c")),
        ('"http.status_code"', ("http.status_code",)),  # ksql#1033
        ('payload."a.b".c', ("payload", "a.b", "c")),
        ('"say ""hi"""', ('say "hi"',)),
        ('12" pipe', ('12" pipe',)),
        ("geometry.coordinates.0", ("geometry", "coordinates", "0")),  # USGS GeoJSON
    ],
)
def test_a_path_is_read(text, names):
    assert parse_path(text) == names


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", '"', '""', '"a', '"a"b', '"a".'])
def test_what_is_not_a_path(text):
    with pytest.raises(ValueError, match="must be"):
        parse_path(text)
    with pytest.raises(ValueError, match="label must be a field's name"):
        Schema(1, label=text)


def test_an_index_is_of_an_array_and_a_name_of_an_object():
    record = {"a": [5, {"0": 6}], "0": 7}
    assert [get_field(record, parse_path(text)) for text in ("a.0", "a.1.0", "0")] == [5, 6, 7]
    for text in ("a.2", "a.-1", "a.x", "b", "0.0", "a.0.0"):
        assert get_field(record, parse_path(text)) is ABSENT


def test_features_and_labels_by_paths():
    names = ('"http.status_code"', "geometry.coordinates.0", "geometry.coordinates.1", "tags.1.v")
    schema = Schema(4, (0, 1), features=names, label='"is.bad"')
    record = {
        "http.status_code": 200,
        "geometry": {"coordinates": [8.5, 47.25]},
        "tags": [{}, {"v": True}],
        "is.bad": 1,
    }
    short = record | {"geometry": {"coordinates": [8.5]}}
    decoded = decode(schema, [json.dumps(each).encode() for each in (record, short)], labeled=True)
    assert (decoded.x.tolist(), decoded.y.tolist()) == ([[200, 8.5, 47.25, 1]], [1])
    assert [each[1:3] for each in decoded.rejected] == [("field missing", "geometry.coordinates.1")]
    array = Schema(2, label=None, features='"a.b"')
    assert decode(array, [b'{"a.b":[1,2]}'] * 2, labeled=False).x.tolist() == [[1, 2]] * 2
    quoted = Schema(1, label=None, features=('"a.b"',))
    assert encode_named(quoted, [{'"a.b"': 3}]) == [b'{"a.b":3}']


@pytest.mark.parametrize(
    ("text", "path", "length"),
    [
        ("embedding[0:64]", "embedding", 64),
        ("a.b[0:2]", "a.b", 2),
        ('"a.b"[0:2]', '"a.b"', 2),
        ('"a[0:2]"', '"a[0:2]"', None),  # a name in quotes
        ("a[0]", "a[0]", None),
        ("a[1:3]", "a[1:3]", None),
        ("a[0:0]", "a[0:0]", None),
        ("a.0", "a.0", None),
    ],
)
def test_an_array_among_fields_has_its_length(text, path, length):
    assert split_length(text) == (path, length)


@pytest.mark.parametrize(("name", "counted_by"), [("a]", "a]"), ("a[x]", "a"), ("]", "]")])
def test_a_bracket_may_be_in_a_name(name, counted_by):
    decoded = decode(Schema(1, None, (name,), None), [b'{"%s":[]}' % name.encode()], labeled=False)
    assert keys_of(decoded.rejected) == [(0, f"not a number: {counted_by}")]


ARRAYS = ("price", "e[0:3]", "s.v[0:2]", '"q.x"[0:1]', "geometry.coordinates.1")  # ksql#2871, USGS GeoJSON
WHOLE = {"price": 1, "e": [2, 3.5, True], "s": {"v": [4, 5]}, "q.x": [6], "geometry": {"coordinates": [0, 7]}}
TYPES = {
    "price": "double",
    "e": {"type": "array", "items": ["null", "boolean", "double", "string"]},
    "s": {
        "type": "record",
        "name": "S",
        "fields": [{"name": "v", "type": ["null", {"type": "array", "items": "float"}]}],
    },
}


def changed(**fields):
    return json.dumps({**WHOLE, **fields}).encode()


def test_arrays_beside_fields_are_read():
    schema = Schema(8, None, ARRAYS, None)
    assert schema.columns == ("price", "e[0]", "e[1]", "e[2]", "s.v[0]", "s.v[1]", '"q.x"[0]', ARRAYS[4])
    decoded = decode(schema, [changed()] * 2, labeled=False)
    assert decoded.x.tolist() == [[1, 2, 3.5, 1, 4, 5, 6, 7]] * 2
    assert infer_schema([changed()], features=ARRAYS, label=None).inputs == 8


@pytest.mark.parametrize(
    ("record", "reason", "missing"),
    [
        (changed(e=[1, 2]), "wrong width: e", "wrong width: e"),
        (changed(e=[1, 2, 3, 4]), "wrong width: e", "wrong width: e"),
        (changed(e=[]), "wrong width: e", "wrong width: e"),
        (changed(e=5), "not an array: e", "not an array: e"),
        (changed(e={"0": 1}), "not an array: e", "not an array: e"),
        (changed(e=None), "not an array: e", None),
        (changed(s={}), "field missing: s.v", None),
        (changed(s=3), "field missing: s.v", None),
        (changed(e=[1, "x", 3]), "not a number: e", "not a number: e"),
        (changed(e=[1, None, 3]), "not a number: e", None),
        (changed(e=[1, 1e39, 3]), "not finite: e", "not finite: e"),
    ],
)
def test_an_array_of_another_length_is_rejected_with_its_field(record, reason, missing):
    schema = Schema(8, None, ARRAYS, None)
    assert keys_of(decode(schema, [changed(), record], labeled=False).rejected) == [(1, reason)]
    lenient = decode(Schema(8, None, ARRAYS, None, missing=True), [record], labeled=False)
    assert keys_of(lenient.rejected) == ([] if missing is None else [(0, missing)])
    if missing is None:
        assert np.isnan(lenient.x).any()


def test_arrays_in_avro_are_read_as_in_json():
    names = ("price", "e[0:3]", "s.v[0:2]")
    text = json.dumps(
        {"type": "record", "name": "R", "fields": [{"name": n, "type": t} for n, t in TYPES.items()]}
    )
    schema = Schema(6, None, names, None, "avro", avro_schema=text)
    records = [{**WHOLE, "e": e} for e in ([2, 3.5, True], [1, 2], [1, None, 3])]
    found = decode(schema, avro.write(schema, records), labeled=False)
    as_json = decode(Schema(6, None, names, None), [json.dumps(r).encode() for r in records], labeled=False)
    assert (found.x.tolist(), found.rejected) == (as_json.x.tolist(), as_json.rejected)
    assert keys_of(found.rejected) == [(1, "wrong width: e"), (2, "not a number: e")]


def test_java_leaves_arrays_and_dates_to_python():
    """Plain.java would look for a field by the name `e[0:3]`."""
    array, date = Schema(4, (0, 1), ("a", "e[0:3]")), Schema(2, (0, 1), ("a", "t"), datetimes={"t": {}})
    for schema in (array, date):
        assert (plain_of(schema, labeled=True), plain_of(schema, labeled=False)) == ("", "")
    assert plain_of(Schema(2, (0, 1), ("a", "t")), labeled=True)


@pytest.mark.parametrize("format", ["json", "avro"])
def test_rows_with_arrays_are_written_and_read(format):
    fields = [{"name": "a", "type": "float"}, {"name": "v", "type": {"type": "array", "items": "float"}}]
    text = json.dumps({"type": "record", "name": "R", "fields": fields})
    schema = Schema(4, None, ("a", "v[0:3]"), None, format, avro_schema=text if format == "avro" else None)
    x = np.array([[1, 2, 3, 0.125]])
    np.testing.assert_array_equal(decode(schema, encode(schema, x), labeled=False).x, x)
    named = encode_named(schema, [{"a": 1, "v[0:3]": [2, 3, 0.125]}])
    np.testing.assert_array_equal(decode(schema, named, labeled=False).x, x)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"inputs": 2, "features": ("v[0:3]",)}, "inputs must be 3, the columns of all features; got 2"),
        ({"format": "csv"}, r"CSV cannot hold the array 'v\[0:3\]'; use JSON or Avro"),
        ({"inputs": 2, "categories": {"v[0:3]": {"hash": 2}}}, "categories and datetimes must not be arrays"),
        ({"sparse": ["v[0:3]"]}, "sparse must be among the features that are numbers"),
        (
            {"inputs": 6, "features": ("v[0:3]", '"v[0]"', "v[0:2]")},
            "features and elements of arrays must differ",
        ),
        ({"features": (".[0:3]",)}, "features must be a field's name"),
    ],
)
def test_arrays_that_cannot_be(fields, error):
    with pytest.raises(ValueError, match=error):
        Schema(**{"inputs": 3, "features": ("v[0:3]",), "label": None, **fields})
