"""Records are decoded into rows: every reason, any bytes, and a decoder in plain Python as the oracle."""

import json
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from paths import ROOT
from record_values import SMALL, blobs, keys_of, texts

from streaming_nn.records import avsc
from streaming_nn.records.avro import add_schema_id
from streaming_nn.records.decode import decode, decode_mixed, encode, encode_named
from streaming_nn.records.reasons import show
from streaming_nn.records.schema import MAX_CLASSES, Schema, grow_schema

pytestmark = pytest.mark.commit

DIGITS = Schema(3, (0, 1, 2))
MIXED = Schema(2, (1, True, "1"), features=("a", "b.c"), label="b.y")
TARGET = Schema(2, None)
PACKED = Schema(3, (0, 1, 2), format="packed")


def reasons(schema, *values, labeled=True):
    decoded = decode(schema, list(values), labeled)
    assert sorted([*decoded.kept, *(i for i, *_ in decoded.rejected)]) == list(range(len(values)))
    return [reason for _, reason in keys_of(decoded.rejected)]


def test_golden_json():
    x = np.array([[0.5, -1.25, 3]], np.float32)
    assert encode(DIGITS, x, np.array([2]), [7]) == [b'{"features":[0.5,-1.25,3.0],"label":2,"id":7}']
    assert encode(DIGITS, x) == [b'{"features":[0.5,-1.25,3.0]}']
    assert encode(MIXED, x[:, :2], np.array([1])) == [b'{"a":0.5,"b":{"c":-1.25,"y":true}}']
    assert encode(TARGET, x[:, :2], np.array([0.1], np.float32)) == [b'{"features":[0.5,-1.25],"label":0.1}']


def test_golden_packed():
    x = np.array([[0.5, -1.25, 3]], np.float32)
    features = b"\x00\x00\x00\x3f\x00\x00\xa0\xbf\x00\x00\x40\x40"
    assert encode(PACKED, x, np.array([2])) == [b"\x02\x00\x00\x00" + features]
    assert encode(PACKED, x) == [features]
    target = Schema(3, None, format="packed")
    assert encode(target, x, np.array([0.5], np.float32)) == [b"\x00\x00\x00\x3f" + features]


@pytest.mark.parametrize("format", ["json", "packed"])
@pytest.mark.parametrize("classes", [("a", "b", "c"), None])
def test_encoded_rows_are_decoded_to_the_same_bits(format, classes):
    schema = Schema(5, classes, format=format)
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 1 << 32, (3000, 5), dtype=np.uint32).view(np.float32)
    x = np.where(np.isfinite(bits), bits, np.float32(0))
    y = rng.integers(0, 3, 3000).astype(np.int32) if classes else x[:, 0].copy()
    decoded = decode(schema, encode(schema, x, y), labeled=True)
    np.testing.assert_array_equal(decoded.x.astype(np.float32), x)
    np.testing.assert_array_equal(decoded.y if classes else decoded.y.astype(np.float32), y)
    assert decoded.x.dtype == np.float64
    assert decoded.x.flags.c_contiguous
    assert decoded.y.dtype == (np.int32 if classes else np.float64)
    assert decoded.rejected == []


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"features":[1,2,3],"label":1}x', "not JSON"),
        (b'\xef\xbb\xbf\xef\xbb\xbf{"features":[1,2,3],"label":1}', "not JSON"),
        (b'{"features":[1,2,3],"label":"\xff"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "not JSON"),
        (b"[1,2,3]", "not an object"),
        (b"null", "not an object"),
        (b"{}", "field missing: features"),
        (b'{"features":3,"label":1}', "not an array: features"),
        (b'{"features":null,"label":1}', "not an array: features"),
        (b'{"features":[1,2],"label":1}', "wrong width: features"),
        (b'{"features":[],"label":1}', "wrong width: features"),
        (b'{"features":[1,2,{}],"label":1}', "not a number: features"),
        (b'{"features":[1,2,null],"label":1}', "not a number: features"),
        (b'{"features":[1,2,"3"],"label":1}', "not a number: features"),
        (b'{"features":[1,[2],3],"label":1}', "not a number: features"),
        (b'{"features":[1,NaN,3],"label":1}', "not a number: features"),
        (b'{"features":[1,-Infinity,3],"label":1}', "not finite: features"),
        (b'{"features":[1,1e39,3],"label":1}', "not finite: features"),
        (b'{"features":[1,1e999,3],"label":1}', "not finite: features"),
        (b'{"features":[1,%s,3],"label":1}' % (b"9" * 60), "not finite: features"),
        (b'{"features":[1,%s,3],"label":1}' % (b"9" * 400), "not finite: features"),
        (b'{"features":[1,2,3]}', "label missing: label"),
        (b'{"features":[1,2,3],"label":null}', "label missing: label"),
        (b'{"features":[1,2,3],"label":3}', "label not in classes: 3"),
        (b'{"features":[1,2,3],"label":true}', "label not in classes: True"),
        (b'{"features":[1,2,3],"label":"1"}', "label not in classes: '1'"),
        (b'{"features":[1,2,3],"label":[1]}', "label not in classes: an array of 1 elements"),
        (b'{"features":[1,2,3],"label":{"1":1}}', "label not in classes: an object of 1 fields"),
        (b'{"features":[1,2,3],"label":1,"pad":"' + b"x" * (1 << 20) + b'"}', "too large"),
    ],
)
def test_every_reason_in_json_at_any_position(record, reason):
    good = b'{"features":[1,2,3],"label":1}'
    assert reasons(DIGITS, record) == [reason]
    decoded = decode(DIGITS, [good, good, record, good], labeled=True)
    assert keys_of(decoded.rejected) == [(2, reason)]
    np.testing.assert_array_equal(decoded.kept, [0, 1, 3])
    np.testing.assert_array_equal(decoded.x, [[1, 2, 3]] * 3)
    np.testing.assert_array_equal(decoded.y, [1, 1, 1])


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b'{"features":[1,2],"label":"1"}', "label not a number: label"),
        (b'{"features":[1,2],"label":[true]}', "label not a number: label"),
        (b'{"features":[1,2],"label":NaN}', "label missing: label"),
        (b'{"features":[1,2],"label":1e39}', "label not finite: label"),
        (b'{"features":[1,2],"label":%s}' % (b"9" * 400), "label not finite: label"),
        (b'{"features":[1,2]}', "label missing: label"),
    ],
)
def test_every_reason_for_a_target(record, reason):
    good = b'{"features":[1,2],"label":0.5}'
    assert keys_of(decode(TARGET, [good, record, good], labeled=True).rejected) == [(1, reason)]


def test_named_and_nested_fields_and_labels_by_type():
    good = [b'{"a":1,"b":{"c":2,"y":%s}}' % label for label in (b"1", b"1.0", b"true", b'"1"')]
    np.testing.assert_array_equal(decode(MIXED, good, labeled=True).y, [0, 0, 1, 2])
    assert reasons(MIXED, b'{"a":1,"b":{"y":1}}', b'{"b":{"c":2,"y":1}}', b'{"a":1,"b":3}') == [
        "field missing: b.c",
        "field missing: a",
        "field missing: b.c",
    ]
    plain = Schema(2, (0, 1), features=("a", "b"))
    assert reasons(plain, b'{"a":1,"label":0}', b'{"a":1,"b":"2","label":0}') == [
        "field missing: b",
        "not a number: b",
    ]


def test_the_last_of_equal_keys_counts():
    record = b'{"features":[9,9,9],"label":0,"features":[1,2,3],"label":1}'
    plain = b'{"features":[1,2,3],"label":1}'
    for values in ([record], [plain, record], [record, record, plain]):
        decoded = decode(DIGITS, values, labeled=True)
        np.testing.assert_array_equal(decoded.x, [[1, 2, 3]] * len(values))
        np.testing.assert_array_equal(decoded.y, [1] * len(values))


def test_numbers_as_strings_are_decimal_numbers():
    schema = Schema(1, None, numbers_as_strings=True)
    good = [b'{"features":["%s"],"label":"2"}' % text for text in (b"1.5", b"-1e3", b"+.5", b"7.", b"3")]
    np.testing.assert_array_equal(decode(schema, good, True).x[:, 0], [1.5, -1000, 0.5, 7, 3])
    bad = [b'{"features":["%s"],"label":1}' % text for text in (b"", b"- 1", b"1_0", b"NA", b"0x1", b"1,5")]
    assert reasons(schema, *bad) == ["not a number: features"] * len(bad)
    for text in (b"1e999", b"-Infinity"):
        assert reasons(schema, b'{"features":["%s"],"label":1}' % text) == ["not finite: features"]
    assert reasons(schema, b'{"features":["nan"],"label":1}') == ["not a number: features"]


def test_every_reason_in_packed():
    x = np.ones((1, 3), np.float32)
    (good,) = encode(PACKED, x, np.array([1]))
    nan = good[:-4] + np.float32(np.nan).tobytes()
    outside = [np.int32(k).tobytes() + good[4:] for k in (-1, 3, 1 << 30)]
    values = [good, b"1", b"", good[:-1], good + b"1234", good[4:], nan, *outside, b"x" * (2 << 20), good]
    decoded = decode(PACKED, values, labeled=True)
    assert keys_of(decoded.rejected) == [
        (1, "wrong width"),
        (2, "wrong width"),
        (3, "wrong width"),
        (4, "wrong width"),
        (5, "label missing"),
        (6, "not a number: features"),
        (7, "label not in classes: -1"),
        (8, "label not in classes: 3"),
        (9, f"label not in classes: {1 << 30}"),
        (10, "too large"),
    ]
    np.testing.assert_array_equal(decoded.kept, [0, 11])
    np.testing.assert_array_equal(decoded.x, np.ones((2, 3)))
    target = Schema(3, None, format="packed")
    infinite, missing = (np.float32(y).tobytes() + good[4:] for y in (np.inf, np.nan))
    assert reasons(target, infinite, missing, good[4:]) == [
        "label not finite: label",
        "label missing: label",
        "label missing",
    ]


@pytest.mark.parametrize("schema", [DIGITS, PACKED])
def test_records_to_be_scored_may_have_a_label_or_not(schema):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    values = [*encode(schema, x, np.array([0, 1])), *encode(schema, x)]
    decoded = decode(schema, values, labeled=False)
    np.testing.assert_array_equal(decoded.x, np.concatenate([x, x]))
    assert decoded.y is None
    with pytest.raises(ValueError, match="labels are required, but the schema's label is None"):
        decode(Schema(3, label=None), values, labeled=True)


@pytest.mark.parametrize("schema", [DIGITS, PACKED])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_slices_and_chunks_of_arrow_arrays(schema, kind):
    x = np.arange(30, dtype=np.float32).reshape(10, 3)
    values = encode(schema, x, np.arange(10) % 3)
    values[4] = None
    array = pa.array(values, kind)
    for part, rows in (
        (array[3:7], [3, 5, 6]),
        (array[:0], []),
        (pa.chunked_array([array[:2], array[2:]]), None),
    ):
        decoded = decode(schema, part, labeled=True)
        np.testing.assert_array_equal(decoded.x, x[rows] if rows is not None else np.delete(x, 4, axis=0))
    np.testing.assert_array_equal(decode(schema, array[3:7], labeled=True).kept, [0, 2, 3])
    assert decode(schema, pa.nulls(3, kind), True).filtered.tolist() == [0, 1, 2]
    assert decode(schema, [], True).x.shape == (0, 3)
    with pytest.raises(ValueError, match="values must be an Arrow array of binary; got int64"):
        decode(schema, pa.array([1]), True)


def wide_words(x, y):
    """Return rows as Plain.java does: words of eight bytes, the label first."""
    first = y.astype(np.int64 if y.dtype.kind == "i" else np.float64)
    return [one.tobytes() + row.tobytes() for one, row in zip(first, x, strict=True)]


@pytest.mark.parametrize("schema", [DIGITS, PACKED, replace(DIGITS, format="csv")])
def test_tombstones_are_filtered(schema):  # debezium#45, hudi#2149: a delete, then a record without a value
    values = encode(schema, np.ones((2, 3), np.float32), np.array([0, 1]))
    decoded = decode(schema, [None, values[0], b"?", None, values[1]], labeled=True)
    assert decoded.filtered.tolist() == [0, 3]
    assert (decoded.kept.tolist(), [i for i, *_ in decoded.rejected]) == ([1, 4], [2])
    packed = pa.array([wide_words(np.ones((1, 3)), np.array([1]))[0], None, None])
    mixed = decode_mixed(DIGITS, pa.array([None, None, b"?"], pa.binary()), packed, labeled=True)
    assert (mixed.kept.tolist(), mixed.filtered.tolist()) == ([0], [1])


def test_chunks_are_concatenated_in_order():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5000, 3)), rng.integers(0, 3, 5000).astype(np.int32)
    values = encode(DIGITS, x, y)
    bad = sorted(rng.choice(5000, 50, replace=False).tolist())
    for i in bad:
        values[i] = b'{"features":[1,"x",3],"label":1}'
    decoded = decode(DIGITS, values, labeled=True)
    assert keys_of(decoded.rejected) == [(i, "not a number: features") for i in bad]
    np.testing.assert_array_equal(decoded.x, np.delete(x, bad, axis=0))
    np.testing.assert_array_equal(decoded.y, np.delete(y, bad))


def oracle(schema, record):
    """Decode one record with the standard library: (row, index) or a reason; slow and simple."""
    try:
        value = json.loads(record.decode("utf-8"))
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(value, dict):
        return "not an object"
    if schema.features not in value:
        return f"field missing: {schema.features}"
    row = value[schema.features]
    if not isinstance(row, list):
        return f"not an array: {schema.features}"
    if len(row) != schema.inputs:
        return f"wrong width: {schema.features}"
    label = value.get(schema.label)
    if label is None:
        return f"label missing: {schema.label}"
    index = [
        i
        for i, c in enumerate(schema.classes)
        if c == label and isinstance(c, bool) == isinstance(label, bool)
    ]
    if not index:
        return f"label not in classes: {show(label)}"
    if any(type(v) not in (int, float) for v in row):
        return f"not a number: {schema.features}"
    row = [to_float(v) for v in row]
    first = next((v for v in row if not abs(v) <= float(np.finfo(np.float32).max)), None)
    if first is None:
        return row, index[0]
    return f"{'not a number' if math.isnan(first) else 'not finite'}: {schema.features}"


def to_float(number):
    try:
        return float(number)
    except OverflowError:
        return math.inf


def check_against_oracle(schema, values):
    decoded = decode(schema, values, labeled=True)
    expected = [oracle(schema, value) for value in values]
    assert dict(keys_of(decoded.rejected)) == {i: e for i, e in enumerate(expected) if isinstance(e, str)}
    good = [e for e in expected if not isinstance(e, str)]
    np.testing.assert_array_equal(decoded.x, np.array([row for row, _ in good], np.float64).reshape(-1, 2))
    np.testing.assert_array_equal(decoded.y, [index for _, index in good])


@given(st.lists(st.one_of(texts, st.just(b'{"features":[1,2.5],"label":0}')), max_size=6))
@settings(max_examples=60, deadline=None)
def test_json_is_decoded_as_by_the_standard_library(values):
    check_against_oracle(SMALL, values)


@given(st.lists(blobs, max_size=6))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_kept_or_rejected_alike_alone_and_in_a_batch(values):
    decoded = decode(SMALL, values, labeled=True)
    assert sorted([*decoded.kept, *(i for i, *_ in decoded.rejected)]) == list(range(len(values)))
    assert np.isfinite(decoded.x).all()
    for i, value in enumerate(values):
        alone = decode(SMALL, [value], labeled=True)
        expected = [each._replace(position=0) for each in decoded.rejected if each.position == i]
        assert alone.rejected == expected
        np.testing.assert_array_equal(alone.x, decoded.x[decoded.kept == i])


@given(st.lists(st.one_of(st.none(), st.binary(max_size=20)), max_size=6), st.booleans())
@example([b"\0\0\0\0\0\0\x81\x7f"], False)  # a signaling NaN
@example([b"\0\0\0\0\0\0\x81\x7f\0\0\0\0"], True)
@settings(max_examples=80, deadline=None)
def test_any_bytes_as_packed_are_kept_or_rejected(values, labeled):
    for classes in ((0, 1), None):
        decoded = decode(Schema(2, classes, format="packed"), values, labeled)
        rejected = [i for i, *_ in decoded.rejected]
        assert sorted([*decoded.kept, *rejected, *decoded.filtered]) == list(range(len(values)))
        assert np.isfinite(decoded.x).all()


def missing(schema, *values):
    decoded = decode(schema, list(values), labeled=True)
    assert decoded.rejected == []
    return np.isnan(decoded.x).astype(int).tolist()


def test_missing_values_are_nan_if_allowed():
    array = Schema(3, (0, 1), missing=True)
    values = [b'{"features":[1,%s,3],"label":1}' % value for value in (b"2", b"null", b"NaN", b"-0")]
    assert missing(array, *values) == [[0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]]
    named = Schema(2, (0, 1), features=("a", "b.c"), missing=True)
    values = [b'{"a":1,"label":1%s}' % rest for rest in (b"", b',"b":null', b',"b":{"c":null}', b',"b":{}')]
    assert missing(named, *values, b'{"a":null,"b":{"c":2},"label":0}') == [[0, 1]] * 4 + [[1, 0]]
    text = Schema(2, (0, 1), numbers_as_strings=True, missing=True)
    assert missing(text, b'{"features":["1.5",null],"label":1}') == [[0, 1]]
    packed = Schema(3, (0, 1), format="packed", missing=True)
    x = np.array([[1, np.nan, 3], [1, 2, 3]], np.float32)
    assert missing(packed, *encode(packed, x, np.array([0, 1]))) == [[0, 1, 0], [0, 0, 0]]
    assert missing(array, *encode(array, x, np.array([0, 1]))) == [[0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b'{"features":[1,Infinity,null],"label":1}', "not finite: features"),
        (b'{"features":[null,%s,1],"label":1}' % (b"9" * 400), "not finite: features"),
        (b'{"features":[1,"2",null],"label":1}', "not a number: features"),
        (b'{"features":[1,null],"label":1}', "wrong width: features"),
        (b'{"features":null,"label":1}', "not an array: features"),
        (b'{"label":1}', "field missing: features"),
        (b'{"features":[1,2,null],"label":null}', "label missing: label"),
    ],
)
def test_invalid_values_are_rejected_where_missing_ones_are_allowed(record, reason):
    assert reasons(Schema(3, (0, 1), missing=True), record) == [reason]


def test_a_record_without_any_feature_field_is_rejected():
    schema = Schema(2, (0, 1), features=("a", "b"), missing=True)
    assert reasons(schema, b'{"x":1,"label":1}') == ["no feature field"]
    assert missing(schema, b'{"a":null,"b":null,"label":1}') == [[1, 1]]


def test_a_target_is_never_missing():
    assert reasons(Schema(2, missing=True), b'{"features":[1,2],"label":NaN}') == ["label missing: label"]


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("classes", [("a", "b"), None])
@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["read", "left", "odd", "none"]), max_size=30))
def test_packed_records_keep_their_positions(classes, labeled, kinds):
    """The rows and the rejected are those of the same records without any packed ones."""
    schema = Schema(inputs=2, classes=classes, max_bytes=80)
    n = len(kinds)
    y = np.arange(n) % 2 if classes else np.arange(n, dtype=np.float64)
    x = np.arange(2 * n, dtype=np.float64).reshape(n, 2) / 10
    read = zip(kinds, wide_words(x, y), strict=True)
    written = zip(kinds, encode(schema, x, y), strict=True)
    values = [{"odd": b"{}", "none": None}.get(kind, value) for kind, value in written]
    left = [None if kind == "read" else value for kind, value in zip(kinds, values, strict=True)]
    packed = [value if kind == "read" else None for kind, value in read]
    whole = decode(schema, values, labeled)
    mixed = decode_mixed(schema, pa.array(left, pa.binary()), pa.array(packed, pa.binary()), labeled)
    for actual, expected in zip(mixed[:3], whole[:3], strict=True):
        assert (actual is None) == (expected is None)
        assert actual is None or actual.dtype == expected.dtype
        np.testing.assert_array_equal(actual, expected)
    assert mixed.rejected == whole.rejected


def test_a_row_with_an_unseen_label_waits_until_the_classes_have_grown():
    schema = Schema(1, ("a",), grow=True)
    labels = ["b", "a", 1, "b", 1.0, True, "1", None, 1.5, "x" * 129, 1 << 70]
    values = encode_named(schema, [{"features": [i]} for i in range(11)], labels)
    values.append(b'{"features":["?"],"label":"never"}')
    decoded = decode(schema, values, labeled=True)
    assert decoded.unseen == {"label": ("b", 1, True, "1")}
    assert decoded.kept.tolist() == [1]
    assert decoded.waiting.tolist() == [0, 2, 3, 4, 5, 6]
    assert [reason for _, reason in keys_of(decoded.rejected)] == [
        "label missing: label",
        "label not in classes: 1.5",
        f"label not in classes: '{'x' * 56}...",
        f"label not in classes: {1 << 70}",
        "not a number: features",
    ]
    again = decode(grow_schema(schema, decoded.unseen), values, labeled=True)
    assert (again.unseen, again.waiting.tolist(), again.rejected) == ({}, [], decoded.rejected)
    assert again.y.tolist() == [1, 0, 2, 1, 2, 3, 4]
    assert again.x[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert decode(schema, values, labeled=False).unseen == {}


def test_a_packed_row_with_an_unseen_label_waits_too():
    schema = Schema(1, format="packed", grow=True)
    values = encode(schema, np.zeros((5, 1)), np.array([3, 1, 1000, -1, 1]))
    decoded = decode(schema, values, labeled=True)
    assert decoded.unseen == {"label": (3, 1)}
    assert decoded.waiting.tolist() == [0, 1, 4]
    assert keys_of(decoded.rejected) == [(2, "too many classes: label"), (3, "label not in classes: -1")]
    again = decode(grow_schema(schema, decoded.unseen), values, labeled=True)
    assert again.y.tolist() == [3, 1, 1]
    assert again.rejected == decoded.rejected


def test_labels_beyond_the_limit_of_classes_are_rejected():
    schema = Schema(1, tuple(range(-10, 0)), grow=True)
    values = encode_named(schema, [{"features": [0]}] * 2000, range(2000))
    decoded = decode(schema, values, labeled=True)
    assert decoded.unseen["label"] == tuple(range(MAX_CLASSES - 10))
    assert keys_of(decoded.rejected) == [(i, "too many classes: label") for i in range(990, 2000)]
    full = grow_schema(schema, decoded.unseen)
    again = decode(full, values, labeled=True)
    assert (again.rejected, again.unseen) == (decoded.rejected, {})
    assert len(again.kept) == 990


def test_encode_named_rejects_rows_that_do_not_match_the_schema():
    schema = Schema(2, (0, 1), features=("a", "b.c"))
    assert encode_named(schema, [{"a": 1, "b.c": None}], [1], [7]) == [
        b'{"a":1,"b":{"c":null},"label":1,"id":7}'
    ]
    for rows, labels, error in (
        ([{"x": 1}], None, "fields must be among the features, 'a', 'b.c'; got 'x'"),
        ([{"a": 1}], [1, 2], "labels must be 1, one per row; got 2"),
    ):
        with pytest.raises(ValueError, match=error):
            encode_named(schema, rows, labels)
    with pytest.raises(ValueError, match="records of format 'packed' have no named fields"):
        encode_named(PACKED, [])
    hashed = Schema(3, features=("a", "b"), categories={"b": {"hash": 2}})
    with pytest.raises(ValueError, match="cannot encode columns of categories or dates: use encode_named"):
        encode(hashed, np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("x", "y", "error"),
    [
        (np.ones((2, 4)), None, "x must have 3 columns; got 4"),
        (np.ones((2, 3)), np.ones(3), "y must have 2 rows; got 3"),
    ],
)
def test_encode_rejects_wrong_shapes(x, y, error):
    with pytest.raises(ValueError, match=error):
        encode(DIGITS, x, y)


def test_the_documented_records_are_what_is_encoded():
    page = (ROOT / "docs" / "records.md").read_text("utf-8")
    shown = [line.strip() for line in page.splitlines() if line.startswith("    ")]
    text = avsc.write_schema("features", (0, 1), "label")
    block = page.split("## Avro\n")[1].split("```json\n")[1]
    assert json.loads(block.split("```")[0]) == json.loads(text)
    for format, more in (("json", {}), ("packed", {}), ("csv", {}), ("avro", {"avro_schema": text})):
        schema = Schema(2, (0, 1), format=format, **more)
        (value,) = encode(schema, np.array([[0.5, -1.25]]), np.array([1]))
        if format in ("json", "csv"):
            assert value.decode() in shown
        else:
            assert value.hex() in [line.replace(" ", "") for line in shown]
    assert add_schema_id(258, [value])[0].hex() in [line.replace(" ", "") for line in shown]
