"""Avro datums: golden bytes, nested and missing values, schema IDs of a registry, and any bytes."""

import io
import json
from decimal import Decimal

import fastavro
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_values import keys_of

from streaming_nn.records import avsc
from streaming_nn.records.avro import add_schema_id
from streaming_nn.records.decode import decode, encode, encode_named
from streaming_nn.records.infer_schema import infer_schema
from streaming_nn.records.schema import Schema, grow_schema

pytestmark = pytest.mark.commit

ARRAY = Schema(2, (0, 1), format="avro", avro_schema=avsc.write_schema("features", (0, 1), "label"))
NESTED = {
    "type": "record",
    "name": "Sale",
    "namespace": "shop",
    "fields": [
        {"name": "price", "type": ["null", "double"]},
        {
            "name": "shop",
            "type": {
                "type": "record",
                "name": "Shop",
                "fields": [
                    {"name": "city", "type": ["null", "string"]},
                    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["SMALL", "LARGE"]}},
                    {"name": "staff", "type": "int"},
                ],
            },
        },
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "sold", "type": "boolean"},
    ],
}
SALE = Schema(
    7,
    (False, True),
    features=("price", "shop.city", "shop.kind", "shop.staff", "at"),
    label="sold",
    format="avro",
    missing=True,
    categories={"shop.city": {"one_hot": 2}, "shop.kind": {"one_hot": 2}},
    datetimes={"at": {"parts": ["seconds"]}},
    vocabulary={"shop.city": ("Ulm",), "shop.kind": ("SMALL", "LARGE")},
    avro_schema=json.dumps(NESTED),
)


def write(schema, *datums):
    """Write datums with fastavro."""
    parsed, values = fastavro.parse_schema(schema), []
    for datum in datums:
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, parsed, datum)
        values.append(stream.getvalue())
    return values


def sale(price, city, kind, staff, at, sold):
    return {"price": price, "shop": {"city": city, "kind": kind, "staff": staff}, "at": at, "sold": sold}


def test_golden_raw():
    x = np.array([[0.5, -1.25]], np.float32)
    features = b"\x04" + b"\x00\x00\x00\x3f" + b"\x00\x00\xa0\xbf" + b"\x00"  # a block of two, then its end
    assert encode(ARRAY, x, np.array([1]), [7]) == [features + b"\x02\x02" + b"\x02\x0e"]
    assert encode(ARRAY, x) == [features + b"\x00" + b"\x00"]


def test_golden_schema_id():
    assert add_schema_id(258, [b"abc"]) == [b"\x00\x00\x00\x01\x02abc"]


@pytest.mark.parametrize("classes", [("a", "b", "c"), None, (True, False)])
@pytest.mark.parametrize("features", ["features", ("a", "b", "c", "d", "e")])
def test_encoded_rows_are_decoded_to_the_same_bits(classes, features):
    text = avsc.write_schema(features, classes, "label")
    schema = Schema(5, classes, features=features, format="avro", avro_schema=text)
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 1 << 32, (2000, 5), dtype=np.uint32).view(np.float32)
    x = np.where(np.isfinite(bits), bits, np.float32(0))
    y = rng.integers(0, len(classes), 2000).astype(np.int32) if classes else x[:, 0].copy()
    decoded = decode(schema, encode(schema, x, y, range(2000)), labeled=True)
    assert decoded.rejected == []
    np.testing.assert_array_equal(decoded.x, x)
    np.testing.assert_array_equal(decoded.y, y)
    bare = decode(schema, encode(schema, x), labeled=True)
    assert {reason for _, reason, *_ in bare.rejected} == {"label missing"}
    np.testing.assert_array_equal(decode(schema, encode(schema, x), labeled=False).x, x)


def test_nested_fields_enums_unions_and_times():
    values = write(
        NESTED, sale(1.5, "Ulm", "LARGE", 3, 1000, True), sale(None, None, "SMALL", 4, 2000, False)
    )
    decoded = decode(SALE, values, labeled=True)
    assert decoded.rejected == []
    nan = np.nan
    np.testing.assert_array_equal(decoded.x, [[1.5, 1, 0, 0, 1, 3, 1], [nan, 0, 0, 1, 0, 4, 2]])
    np.testing.assert_array_equal(decoded.y, [1, 0])
    (bonn,) = write(NESTED, sale(1.0, "Bonn", "SMALL", 0, 0, True))
    unseen = decode(SALE, [bonn], labeled=True).unseen
    assert unseen == {"shop.city": ("Bonn",)}
    assert decode(grow_schema(SALE, unseen), [bonn], labeled=True).x[0, 2] == 1


def test_rows_of_named_fields_are_encoded():
    names = {"price": 2.0, "shop.city": "Ulm", "shop.kind": "SMALL", "shop.staff": 1, "at": 5}
    assert encode_named(SALE, [names], [True]) == write(NESTED, sale(2.0, "Ulm", "SMALL", 1, 5, True))
    with pytest.raises(ValueError, match="a row does not match avro_schema"):
        encode_named(SALE, [{"price": "much"}], [True])


def test_decimals_maps_and_bytes():
    schema = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}},
            {"name": "b", "type": "bytes"},
            {"name": "m", "type": {"type": "map", "values": "int"}},
            {"name": "label", "type": "float"},
        ],
    }
    (value,) = write(schema, {"d": Decimal("12.25"), "b": b"1", "m": {"x": 2, "y": 1}, "label": 0.5})
    as_ = {"format": "avro", "avro_schema": json.dumps(schema)}
    np.testing.assert_array_equal(decode(Schema(1, None, features=("d",), **as_), [value], True).x, [[12.25]])
    assert keys_of(decode(Schema(1, None, features=("b",), **as_), [value], True).rejected) == [
        (0, "not a number: b")
    ]
    tokens = Schema(64, None, features="m", categories={"m": {"hash": 64}}, **as_)
    assert np.abs(decode(tokens, [value], True).x).sum() == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda value: b"", "not Avro"),
        (lambda value: value[:-1], "not Avro"),
        (lambda value: value + b"\0", "not Avro"),
        (lambda value: b"\x06" + value[1:], "not Avro"),
        (lambda value: encode(ARRAY, np.full((1, 2), np.nan), np.array([1]))[0], "not a number: features"),
        (lambda value: encode(ARRAY, np.ones((1, 2)))[0], "label missing: label"),
        (lambda value: value[:-3] + b"\x02\x04\0", "label not in classes: 2"),
        (lambda value: b"\x02" + value[1:5] + b"\0\0\0", "wrong width: features"),
        (lambda value: b"\0" * (2 << 20), "too large"),
    ],
)
def test_every_reason_at_any_position(change, reason):
    (good,) = encode(ARRAY, np.array([[1, 2]]), np.array([1]))
    decoded = decode(ARRAY, [good, change(good), good], labeled=True)
    assert keys_of(decoded.rejected) == [(1, reason)]
    np.testing.assert_array_equal(decoded.x, [[1, 2]] * 2)


def test_a_field_that_is_not_in_the_schema_is_missing():
    missing = Schema(1, (0, 1), features=("price",), format="avro", avro_schema=ARRAY.avro_schema)
    values = encode(ARRAY, np.array([[1, 2]]), np.array([1]))
    assert keys_of(decode(missing, values, labeled=True).rejected) == [(0, "field missing: price")]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.binary(max_size=20), max_size=6), st.sampled_from([ARRAY, SALE]))
def test_any_bytes_are_kept_or_rejected(values, schema):
    decoded = decode(schema, values, labeled=True)
    ends = [*decoded.kept, *decoded.waiting, *(i for i, *_ in decoded.rejected)]
    assert sorted(ends) == list(range(len(values)))


def test_records_of_several_schemas_of_a_registry(registry):
    """Each writer has its fields in its order, by the schema whose ID its records have."""
    older = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "a", "type": "int"}, {"name": "y", "type": "string"}],
    }
    newer = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "y", "type": "string"},
            {"name": "new", "type": "long"},
            {"name": "a", "type": "double"},
        ],
    }
    registry.add(1, older)
    registry.add(70_000, newer)
    values = add_schema_id(1, write(older, {"a": 1, "y": "no"}, {"a": 2, "y": "yes"}))
    values += add_schema_id(70_000, write(newer, {"a": 2.5, "y": "yes", "new": 1}))
    schema = Schema(1, ("no", "yes"), features=("a",), label="y", format="avro", registry=registry.url)
    for _ in range(2):
        decoded = decode(schema, values, labeled=True)
        assert decoded.rejected == []
        np.testing.assert_array_equal(decoded.x, [[1], [2], [2.5]])
        np.testing.assert_array_equal(decoded.y, [0, 1, 1])
    assert registry.requests == ["/schemas/ids/1", "/schemas/ids/70000"]
    assert infer_schema(values, format="avro", features=["a"], label="y", registry=registry.url)[:2] == (
        1,
        ("no", "yes"),
    )


def test_avro_schema_resolves_records_of_a_registry(registry):
    wrote = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "old", "type": "int"}, {"name": "y", "type": "int"}],
    }
    reads = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "a", "type": "double", "aliases": ["old"]},
            {"name": "y", "type": "int"},
            {"name": "b", "type": "double", "default": 9.0},
        ],
    }
    registry.add(1, wrote)
    registry.add(2, {"type": "record", "name": "R", "fields": [{"name": "y", "type": "string"}]})
    schema = Schema(
        2,
        (0, 1),
        features=("a", "b"),
        label="y",
        format="avro",
        registry=registry.url,
        avro_schema=json.dumps(reads),
    )
    values = [*add_schema_id(1, write(wrote, {"old": 3, "y": 1})), *add_schema_id(2, [b"\x02a"])]
    decoded = decode(schema, values, labeled=True)
    np.testing.assert_array_equal(decoded.x, [[3, 9]])
    assert keys_of(decoded.rejected) == [(1, "incompatible schema")]


def test_an_unknown_schema_id_is_rejected_and_an_unreachable_registry_stops_the_batch(registry):
    registry.add(1, json.loads(str(ARRAY.avro_schema)))
    registry.add(2, {"type": "record", "name": "R", "fields": [{"name": "n", "type": ["null", "R"]}]})
    registry.responses["/schemas/ids/3"] = {"schema": "message X {}", "schemaType": "PROTOBUF"}
    (datum,) = encode(ARRAY, np.array([[1, 2]]), np.array([1]))
    schema = Schema(2, (0, 1), format="avro", registry=registry.url)
    values = [datum, b"\0\0\0", b"\1\0\0\0\1" + datum, *(add_schema_id(n, [datum])[0] for n in (1, 2, 3, 4))]
    decoded = decode(schema, values, labeled=True)
    np.testing.assert_array_equal(decoded.kept, [3])
    assert keys_of(decoded.rejected) == [
        (0, "no schema id"),
        (1, "no schema id"),
        (2, "no schema id"),
        (4, "unusable schema"),
        (5, "unusable schema"),
        (6, "unknown schema id"),
    ]
    registry.failures = 100
    with pytest.raises(ConnectionError, match=r"^schema registry .* refuses the request: 503"):
        decode(schema, add_schema_id(5, [datum]), labeled=True)


def test_references_to_other_subjects(registry):
    inner = {"type": "record", "name": "In", "namespace": "n", "fields": [{"name": "b", "type": "int"}]}
    outer = {
        "type": "record",
        "name": "Out",
        "fields": [{"name": "in", "type": "n.In"}, {"name": "label", "type": "int"}],
    }
    registry.add(1, outer, references=[{"name": "n.In", "subject": "in", "version": 1}])
    registry.responses["/subjects/in/versions/1"] = {"schema": json.dumps(inner)}
    schema = Schema(1, (0, 1), features=("in.b",), format="avro", registry=registry.url)
    np.testing.assert_array_equal(decode(schema, add_schema_id(1, [b"\x06\x02"]), labeled=True).x, [[3]])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, "format 'avro' needs avro_schema or registry; got neither"),
        ({"avro_schema": '"int"'}, "an Avro schema must be of a record; got '\"int\"'"),
        ({"registry": "registry:8081"}, "registry must be an http or https URL; got 'registry:8081'"),
        ({"registry": 3}, "registry must be an http or https URL; got 3"),
        (
            {"registry": "https://me:s3cret@registry"},
            "registry must not contain a password: set STREAMING_NN_REGISTRY_USER and _PASSWORD",
        ),
        (
            {"format": "json", "registry": "http://r"},
            "avro_schema and registry need format 'avro'; got 'json'",
        ),
    ],
)
def test_an_invalid_option_raises_one_line(options, error):
    with pytest.raises(ValueError) as raised:
        Schema(**{"inputs": 1, "format": "avro", **options})
    assert str(raised.value) == error


def test_encode_needs_a_schema():
    schema = Schema(1, (0, 1), format="avro", registry="http://127.0.0.1:9")
    with pytest.raises(ValueError, match="cannot encode Avro without a schema: set avro_schema"):
        encode(schema, np.ones((1, 1)))
