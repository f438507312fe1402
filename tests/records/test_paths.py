"""Paths: nested names, quoted names, elements of arrays."""

import json

import pytest

from streaming_nn.records.decode import decode, encode_named
from streaming_nn.records.paths import get_field, parse_path
from streaming_nn.records.reasons import ABSENT
from streaming_nn.records.schema import Schema

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
