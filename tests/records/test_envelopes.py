"""Records as Debezium, CloudEvents and Confluent's serializers write them, compressed or encoded twice."""

import base64
import gzip
import json
import struct
import zlib

import numpy as np
import pytest

from streaming_nn.records import json_text
from streaming_nn.records import reasons as reasons_
from streaming_nn.records.avro import add_schema_id
from streaming_nn.records.chosen import field_reader
from streaming_nn.records.decode import decode, encode
from streaming_nn.records.explode import explode
from streaming_nn.records.infer_schema import infer_schema
from streaming_nn.records.schema import Schema, schema_from
from streaming_nn.spark.sources.prefetch.reader import plain_of

pytestmark = pytest.mark.commit

DIGITS = Schema(2, (0, 1))
ROW = b'{"features":[0.5,-1.25],"label":1}'


def schema_of(**options):
    return schema_from({"inputs": 2, "classes": [0, 1], **options})


def outcomes(schema, *values, labeled=True):
    """Return the positions of kept, filtered and rejected records, which are all of them."""
    decoded = decode(schema, list(values), labeled)
    found = [decoded.kept.tolist(), decoded.filtered.tolist(), [each.position for each in decoded.rejected]]
    assert sorted(i for each in found for i in each) == list(range(len(values)))
    return found


def reasons(schema, *values):
    return [each.reason for each in decode(schema, list(values), True).rejected]


# Debezium: debezium#45, hudi#2149, ksql#1100


def change(op, before=None, after=None, schema=False):
    """Return a change as Debezium writes it, with its schema if the converter's schemas.enable is set."""
    payload = {"op": op, "before": before, "after": after, "source": {"db": "shop"}, "ts_ms": 1}
    return json.dumps({"schema": {"type": "struct"}, "payload": payload} if schema else payload).encode()


SALE = {"amount": 12.5, "count": 3, "label": 1}
CHANGES = [
    change("c", None, SALE, True),
    change("d", SALE, None, True),
    None,
    change("u", SALE, {**SALE, "label": 0}, True),
    change("r", None, SALE, True),
    b"not JSON",
]
AFTER = {"features": ["payload.after.amount", "payload.after.count"], "label": "payload.after.label"}


def test_changes_without_deletes_are_learned():
    schema = schema_of(**AFTER, where="payload.op in ('c', 'r', 'u')")
    assert outcomes(schema, *CHANGES) == [[0, 3, 4], [1, 2], [5]]
    assert decode(schema, CHANGES, True).y.tolist() == [1, 0, 1]
    without = schema_of(**AFTER)
    assert outcomes(without, *CHANGES) == [[0, 3, 4], [2], [1, 5]]


def test_deletes_can_be_learned():
    before = {name: value.replace("after", "before") for name, value in [("label", AFTER["label"])]}
    before["features"] = [name.replace("after", "before") for name in AFTER["features"]]
    assert outcomes(schema_of(**before, where="payload.op = 'd'"), *CHANGES) == [[1], [0, 2, 3, 4], [5]]


def test_changes_without_the_schema_s_envelope():
    schema = schema_of(features=["after.amount", "after.count"], label="after.label", where="op != 'd'")
    values = [change("c", None, SALE), change("d", SALE), None]
    assert outcomes(schema, *values) == [[0], [1, 2], []]


def test_unwrapped_changes_have_their_fields_at_the_top():
    """Debezium's ExtractNewRecordState, with delete.handling.mode=rewrite."""
    schema = schema_of(features=["amount", "count"], where="__deleted = 'false' or __deleted is null")
    values = [json.dumps({**SALE, "__deleted": text}).encode() for text in ("false", "true")]
    assert outcomes(schema, *values, json.dumps(SALE).encode()) == [[0, 2], [1], []]


def test_the_schema_is_inferred_from_what_where_keeps():
    noise = [json.dumps({"kind": "heartbeat", "features": [1], "label": "x"}).encode()] * 9
    rows = [b'{"kind":"row","features":[1,2],"label":%d}' % (i % 2) for i in range(4)]
    inferred = infer_schema([*noise, *rows], where="kind = 'row'")
    assert (inferred.inputs, inferred.classes, inferred.records) == (2, (0, 1), 4)
    lines = infer_schema([b"1,2,row,0", b"1,2,row,1", b"x,9,beat,z"], **LINE, where="kind = 'row'")
    assert (lines.inputs, lines.classes, lines.records) == (2, (0, 1), 2)


LINE = {"format": "csv", "features": ["a", "b"], "csv_columns": ["a", "b", "kind", "label"]}


def test_where_on_lines():
    schema = schema_of(**LINE, where="kind = 'row' and b > 1.5")
    lines = [b"1,2,row,0", b"1,2,beat,0", b"1,1,row,0", b'1,2,"row",1', b"1,2,row", b"1,,row,0"]
    assert outcomes(schema, *lines) == [[0, 3], [1, 2, 5], [4]]
    unlabeled = schema_of(**LINE | {"csv_columns": ()}, where="a = 1")
    assert outcomes(unlabeled, b"1,2", b"2,2", b"1,2,0", labeled=False) == [[0, 2], [1], []]


def test_where_on_avro():
    avro = {"type": "record", "name": "R", "fields": [
        {"name": "features", "type": {"type": "array", "items": "float"}},
        {"name": "label", "type": "long"},
    ]}  # fmt: skip
    schema = schema_of(format="avro", avro_schema=json.dumps(avro), where="label = 1")
    values = encode(schema, np.ones((3, 2)), np.array([0, 1, 1]))
    assert outcomes(schema, *values, b"?") == [[1, 2], [0], [3]]


def test_a_filtered_record_is_not_in_the_labels_that_grow():
    schema = Schema(2, (), grow=True, where="ok = true")
    values = [
        b'{"features":[1,2],"label":"%s","ok":%s}' % each for each in ((b"a", b"true"), (b"b", b"false"))
    ]
    assert decode(schema, values, True).unseen == {"label": ("a",)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"where": 3}, "where must be a filter, as a string; got 3"),
        ({"where": "op ="}, r"where must have a value .* at character 5, after 'op ='; got 'op ='"),
        (
            {"where": "a = 1", "format": "packed"},
            "where needs records with named fields; got format 'packed'",
        ),
        ({"where": "a = 1", "format": "csv"}, "where needs records with named fields; got format 'csv'"),
        (LINE | {"where": "c = 1"}, "where must name columns of a line, 'a', 'b', 'kind', 'label'; got 'c'"),
        ({"framing": "zip"}, "framing must be one of 'none', 'confluent', 'gzip', 'json_string'; got 'zip'"),
        ({"encoding": "utf-12"}, "encoding must be one that Python knows; got 'utf-12'"),
        (
            {"encoding": "utf-16", "format": "packed"},
            "encoding needs format 'json' or 'csv', .*; got 'packed'",
        ),
        (
            {"framing": "confluent", "format": "avro", "registry": "http://r"},
            "framing must be 'none' with a registry, which implies it; got 'confluent'",
        ),
        ({"format": "protobuf"}, "format must be one of 'json', .*; got 'protobuf': Protobuf is not read"),
    ],
)
def test_an_invalid_option_raises_one_line(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        schema_of(**options)


# CloudEvents: cloudevents/sdk-java#422, spec#835


def test_cloudevents_in_structured_mode():
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/s",
        "type": "t",
        "datacontenttype": "application/json",
    }
    values = [json.dumps({**event, "data": json.loads(ROW)}).encode(), json.dumps(event).encode()]
    schema = schema_of(features="data.features", label="data.label", where="type = 't' and data is not null")
    assert outcomes(schema, *values) == [[0], [1], []]


def test_cloudevents_in_binary_mode_have_nothing_around_their_data():
    assert outcomes(DIGITS, ROW) == [[0], [], []]


# Confluent's JSON Schema: rmoff.net 2020/07/03; BOM, gzip, JSON in JSON: openwhisk-package-kafka#132


def framed(value, framing):
    if framing == "confluent":
        return add_schema_id(7, [value])[0]
    return gzip.compress(value) if framing == "gzip" else json.dumps(value.decode()).encode()


@pytest.mark.parametrize("framing", ["confluent", "gzip", "json_string"])
@pytest.mark.parametrize("options", [{}, LINE, {"features": ["f.0", "f.1"], "where": "label = 1"}])
def test_framed_records_are_those_inside(framing, options):
    plain = schema_of(**options)
    row = (
        b"0.5,-1.25,a,1"
        if options == LINE
        else ROW.replace(b"features", b"features" if not options else b"f")
    )
    values = [row, None, row, b"?"]
    schema = schema_of(**options, framing=framing)
    inside, found = (
        decode(plain, values, True),
        decode(schema, [v and framed(v, framing) for v in values], True),
    )
    for name in ("x", "y", "kept", "filtered"):
        np.testing.assert_array_equal(getattr(found, name), getattr(inside, name))
    assert found.rejected == inside.rejected
    inferred = infer_schema(
        [framed(row.replace(b"1}", b"%d}" % i), framing) for i in range(2)],
        regression=True,
        framing=framing,
        **options,
    )
    assert inferred.inputs == 2


def test_packed_and_avro_records_can_be_framed_too():
    packed = struct.pack("<i2f", 1, 0.5, -1.25)
    assert outcomes(schema_of(format="packed", framing="confluent"), framed(packed, "confluent")) == [
        [0],
        [],
        [],
    ]
    assert outcomes(schema_of(format="packed", framing="gzip"), framed(packed, "gzip"), packed) == [
        [0],
        [],
        [1],
    ]


@pytest.mark.parametrize(
    ("framing", "value", "reason"),
    [
        ("confluent", b"", "no schema id"),
        ("confluent", b"\0\0\0\0", "no schema id"),
        ("confluent", ROW, "no schema id"),
        ("confluent", b"\0\0\0\0\2", "not JSON"),
        ("confluent", b"\0\0\0\0\2\x0a\x03abc", "not JSON"),
        ("gzip", b"", "not gzip"),
        ("gzip", ROW, "not gzip"),
        ("gzip", zlib.compress(ROW), "not gzip"),
        ("gzip", gzip.compress(ROW, mtime=0)[:-1], "not gzip"),
        ("gzip", gzip.compress(ROW, mtime=0) + b"x", "not gzip"),
        ("gzip", gzip.compress(ROW, mtime=0)[:-8] + bytes(8), "not gzip"),
        ("gzip", gzip.compress(b"?", mtime=0), "not JSON"),
        ("gzip", gzip.compress(b"0" * (1 << 20), mtime=0), "not JSON"),
        ("gzip", gzip.compress(b"0" * ((1 << 20) + 1), mtime=0), "too large"),
        ("json_string", ROW, "not a JSON string"),
        ("json_string", b'"', "not a JSON string"),
        ("json_string", b'"\\ud800"', "not a JSON string"),
        ("json_string", b'"?"', "not JSON"),
        ("json_string", b"\xef\xbb\xbf" * 2 + framed(ROW, "json_string"), "not a JSON string"),
        ("json_string", json.dumps(json.dumps("?")).encode(), "not JSON"),
        ("json_string", json.dumps(json.dumps("[1]")).encode(), "not an object"),
    ],
)
def test_every_reason_of_a_framing(framing, value, reason):
    schema, good = schema_of(framing=framing), framed(ROW, framing)
    decoded = decode(schema, [good, value, good], True)
    assert [(each.position, each.reason) for each in decoded.rejected] == [(1, reason)]
    assert decoded.kept.tolist() == [0, 2]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "latin-1"])
@pytest.mark.parametrize("format", ["json", "csv"])
def test_text_in_another_encoding(encoding, format):
    schema = Schema(2, ("é", "n"), format=format, encoding=encoding)
    text = '{"features":[0.5,2],"label":"é"}' if format == "json" else "0.5,2,é"
    decoded = decode(schema, [text.encode(encoding), b"\xff" if encoding != "latin-1" else b""], True)
    assert (decoded.x.tolist(), decoded.y.tolist(), len(decoded.rejected)) == ([[0.5, 2]], [0], 1)


@pytest.mark.parametrize("schema", [DIGITS, schema_of(format="csv")])
def test_a_byte_order_mark_is_skipped(schema):
    (row,) = encode(schema, np.array([[1, 2]]), np.array([1]))
    mark = "\ufeff".encode()
    assert outcomes(schema, row, mark + row, row, mark + mark + row) == [[0, 1, 2], [], [3]]
    assert infer_schema([mark + row] * 2, format=schema.format, regression=True).inputs == 2


def test_only_plain_records_are_left_to_java():
    assert plain_of(DIGITS, labeled=True)
    for options in ({"where": "label = 1"}, {"framing": "gzip"}, {"encoding": "utf-16"}):
        assert plain_of(schema_of(**options), labeled=True) == ""


def test_chosen_fields_of_framed_records():
    read = field_reader(schema_of(framing="gzip"), ["label", '"a.b"'])
    assert read(gzip.compress(b'\xef\xbb\xbf{"label":3,"a.b":4}')) == '{"label":3,"\\"a.b\\"":4}'
    assert json.loads(read(b"?")) == {"label": None, '"a.b"': None}


# JSON in fields: Debezium's columns of JSON, the outbox, CloudEvents (spec#835, sdk-java#422) in changes


def event(**data):
    return {"specversion": "1.0", "id": "7", "source": "shop", "type": "sale", **data}


def in_base64(value):
    return base64.b64encode(json.dumps(value).encode()).decode()


INSIDE = {
    "an object": ("after", {"after": SALE}),
    "a string": ("after", {"after": json.dumps(SALE)}),
    "a string that begins with a mark and blanks": ("after", {"after": f"\ufeff \n{json.dumps(SALE)}"}),
    "a string in a string": ("a.b", {"a": json.dumps({"b": json.dumps(SALE)})}),
    "an array in a string": ("rows.0", {"rows": json.dumps([SALE])}),
    "an outbox": ("payload", {"schema": {"type": "string"}, "payload": json.dumps(SALE)}),
    "data in base64": ("data", event(data_base64=in_base64(SALE))),
    "data in base64 of a type": (
        "data",
        event(data_base64=in_base64(SALE), datacontenttype="Application/cloudevents+JSON ; charset=utf-8"),
    ),
    "data that is an array": ("data.0", event(data_base64=in_base64([SALE]))),
    "a string in data in base64": ("data.a", event(data_base64=in_base64({"a": json.dumps(SALE)}))),
    "data in a string": ("data", event(data=json.dumps(SALE))),
    "an event in a column of a change": (
        "payload.after.event.data",
        {"payload": {"op": "c", "after": {"event": json.dumps(event(data_base64=in_base64(SALE)))}}},
    ),
}


@pytest.mark.parametrize("case", INSIDE)
def test_a_path_leads_into_json_in_a_string_and_in_base64(case):
    path, record = INSIDE[case]
    names = {"features": [f"{path}.amount", f"{path}.count"], "label": f"{path}.label"}
    schema = schema_of(**names, where=f"{path}.count >= 3")
    other = b'{"specversion":"1.0","after":7,"data":"[","data_base64":"e30="}'
    decoded = decode(schema, [json.dumps(record).encode(), other], True)
    assert (decoded.x.tolist(), decoded.y.tolist()) == ([[12.5, 3]], [1])
    assert (decoded.filtered.tolist(), decoded.rejected) == ([1], [])
    read = field_reader(schema, [f"{path}.count", f"{path}.none"])
    assert json.loads(read(json.dumps(record).encode())) == {f"{path}.count": 3, f"{path}.none": None}


@pytest.mark.parametrize(
    ("path", "record"),
    [
        ("after", {"after": "{"}),
        ("after", {"after": "1.5"}),
        ("after", {"after": json.dumps(json.dumps(SALE))}),  # a string alone: send the object
        ("data", event(data_base64=in_base64(SALE), datacontenttype="application/protobuf")),
        ("data", event(data_base64=in_base64(SALE), datacontenttype=1)),
        ("data", event(data_base64=in_base64(SALE)[:-1])),
        ("data", event(data_base64=f"{in_base64(SALE)[:-4]}===="[:-2])),
        ("data", event(data_base64=in_base64(7))),
        ("data", event(data_base64="/w==")),
        ("data", event(data=None, data_base64=in_base64(SALE))),
    ],
)
def test_other_strings_are_no_objects(path, record):
    schema = schema_of(features=[f"{path}.amount", f"{path}.count"])
    assert [reasons_.key(each) for each in decode(schema, [json.dumps(record).encode()], True).rejected] == [
        f"field missing: {path}.amount"
    ]


def test_rows_of_an_array_in_a_string_or_in_base64():
    rows = [{**SALE, "label": i} for i in (0, 1)]
    for record, path in (
        ({"id": 5, "after": json.dumps({"rows": rows})}, "after.rows"),
        ({"id": 5, "rows": json.dumps(rows)}, "rows"),
        (event(id=5, data_base64=in_base64({"rows": rows})), "data.rows"),
    ):
        schema = schema_of(features=["id", f"{path}.amount"], label=f"{path}.label", explode=f"{path}[]")
        values = explode(schema, [json.dumps(record).encode()]).values
        decoded = decode(schema, values, True)
        assert (decoded.x.tolist(), decoded.y.tolist(), decoded.rejected) == ([[5, 12.5]] * 2, [0, 1], [])
        assert decode(schema, explode(schema, values).values, True).y.tolist() == [0, 1], "a redriven row"


def test_a_string_with_many_fields_is_parsed_once(monkeypatch):
    parsed = []
    original = json_text.parse
    monkeypatch.setattr(json_text, "parse", lambda blob: parsed.append(blob) or original(blob))
    schema = Schema(50, (0, 1), tuple(f"a.f{i}" for i in range(50)), "a.label")
    text = json.dumps({**{f"f{i}": i for i in range(50)}, "label": 1, "now": "once"})
    assert decode(schema, [json.dumps({"a": text}).encode()], True).y.tolist() == [1]
    assert len(parsed) == 1
