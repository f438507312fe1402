"""Records that cannot be read end in an explanation: the first one, and settings that do read them."""

import base64
import gzip
import json
import struct
import tomllib
from itertools import combinations

import numpy as np
import pytest
from hostile import corpus
from hypothesis import example, given, settings
from hypothesis import strategies as st
from record_values import blobs
from registries import serving

from streaming_nn.records.decode import decode, encode
from streaming_nn.records.explain import (
    as_inferred,
    as_learned,
    as_scored,
    count_reasons,
    describe_reasons,
    explain,
    to_toml,
)
from streaming_nn.records.infer_schema import infer_schema
from streaming_nn.records.remedies import apply
from streaming_nn.records.schema import Schema

pytestmark = pytest.mark.commit

ARRAY = Schema(3, (0, 1))
NAMED = Schema(2, (0, 1), ("price", "size"))
LINES = Schema(2, (0, 1), ("price", "size"), format="csv")
ROWS = [{"features": [i / 4, -1.25, i], "label": i % 2} for i in range(40)]
SALES = [{"price": i / 4, "size": 2.5, "label": i % 2} for i in range(90)]
STRINGS = [{name: str(value) for name, value in sale.items()} for sale in SALES]


def in_json(rows):
    return [json.dumps(row).encode() for row in rows]


def changed(rows, **fields):
    return in_json({**row, **fields} for row in rows)


def renamed(**names):
    return in_json({names.get(name, name): value for name, value in sale.items()} for sale in SALES)


def confluent(blob):
    return b"\0\0\0\0\x02" + blob


def change(sale, op):
    """Return a change as Debezium writes it."""
    payload = {"before": sale, "after": None} if op == "d" else {"before": None, "after": sale}
    return {"schema": {}, "payload": {**payload, "op": op, "ts_ms": 5, "source": {"lsn": 3, "txId": 4}}}


AFTER = {
    "features": ["payload.after.price", "payload.after.size"],
    "label": "payload.after.label",
}
WHERE = {"where": "payload.op in ('c', 'r', 'u')"}

# What is read with which settings. Public reports: rmoff.net 2020/07/03 (Confluent's framing of JSON Schema),
# ultrajson#640 (JSON twice encoded, Python's repr), insights-host-inventory#406, openwhisk-package-kafka#132
# (gzip, an array of rows), JsonDataObjects#84, gravity#266 and opendcs#829 (every value a string),
# debezium#45, hudi#2149 and ksql#1100 (envelopes): cases 5, 15, 16 and 34
READ = {
    "Confluent's framing": (ARRAY, [*map(confluent, in_json(ROWS))], {"framing": "confluent"}),
    "JSON twice encoded": (ARRAY, in_json(map(json.dumps, ROWS)), {"framing": "json_string"}),
    "JSON three times encoded": (
        ARRAY,
        in_json(json.dumps(json.dumps(row)) for row in ROWS),
        {"framing": "json_string"},
    ),
    "JSON encoded twice by some, four times by others": (
        ARRAY,
        in_json(
            json.dumps(json.dumps(json.dumps(row))) if i % 2 else json.dumps(row)
            for i, row in enumerate(ROWS)
        ),
        {"framing": "json_string"},
    ),
    "gzip": (ARRAY, [*map(gzip.compress, in_json(ROWS))], {"framing": "gzip"}),
    "rows in an array": (ARRAY, in_json([ROWS[:3]] * 9), {"explode": "[]"}),
    "rows one a line": (ARRAY, [b"\n".join(in_json(ROWS[:3]))] * 9, {"explode": "lines"}),
    "JSON in a string": (
        NAMED,
        in_json({"payload": json.dumps(sale)} for sale in SALES),
        {"features": ["payload.price", "payload.size"], "label": "payload.label"},
    ),
    "JSON in a string of a change": (
        NAMED,
        in_json(change({"id": 1, "event": json.dumps({"data": json.dumps(s)})}, "c") for s in SALES),
        {
            "features": ["payload.after.event.data.price", "payload.after.event.data.size"],
            "label": "payload.after.event.data.label",
        },
    ),
    "rows of an array in a string": (
        NAMED,
        in_json({"rows": json.dumps([each])} for each in SALES),
        {"explode": "rows[]", "features": ["rows.price", "rows.size"], "label": "rows.label"},
    ),
    "data of CloudEvents in base64": (
        NAMED,
        in_json(
            {"specversion": "1.0", "data_base64": base64.b64encode(each).decode()} for each in in_json(SALES)
        ),
        {"features": ["data.price", "data.size"], "label": "data.label"},
    ),
    "a byte order mark before JSON encoded twice": (
        ARRAY,
        [b"\xef\xbb\xbf" + each for each in in_json(map(json.dumps, ROWS))],
        {"framing": "json_string"},
    ),
    "gzip by mistake": (Schema(3, (0, 1), framing="gzip"), in_json(ROWS), {"framing": "none"}),
    "CSV in gzip": (
        ARRAY,
        [gzip.compress(b"1.5;2;-3;1")] * 9,
        {"framing": "gzip", "format": "csv", "delimiter": ";"},
    ),
    "UTF-16 in gzip": (
        ARRAY,
        [gzip.compress(json.dumps(row).encode("utf-16")) for row in ROWS],
        {"framing": "gzip", "encoding": "utf-16"},
    ),
    "packed records in gzip": (
        ARRAY,
        [gzip.compress(struct.pack("<i3f", 1, 2, 3, 4))] * 9,
        {"framing": "gzip", "format": "packed"},
    ),
    "UTF-16": (ARRAY, [json.dumps(row).encode("utf-16") for row in ROWS], {"encoding": "utf-16"}),
    "UTF-16 without a mark": (
        ARRAY,
        [json.dumps(row).encode("utf-16-be") for row in ROWS],
        {"encoding": "utf-16-be"},
    ),
    "UTF-32": (ARRAY, [json.dumps(row).encode("utf-32") for row in ROWS], {"encoding": "utf-32"}),
    "Latin-1": (
        Schema(2, ("né", "pas"), ("price", "size")),
        [b'{"price":1,"size":2,"label":"n\xe9"}'] * 9,
        {"encoding": "cp1252"},
    ),
    "too large": (
        Schema(3, (0, 1), max_bytes=40),
        changed(ROWS, note="x" * 900),
        {"max_bytes": 1024},
    ),
    "CSV": (ARRAY, [b"1.5,2,-3,1", b"1.5,2,-3,0"], {"format": "csv"}),
    "semicolons": (Schema(3, (0, 1), format="csv"), [b"1.5;2;-3;1"] * 9, {"delimiter": ";"}),
    "semicolons and decimal commas": (
        Schema(3, (0, 1), format="csv"),
        [b"1,5;2,25;-3;1"] * 9,
        {"delimiter": ";", "decimal": ","},
    ),
    "CSV with tabs": (ARRAY, [b"1.5\t2\t-3\t1"] * 9, {"format": "csv", "delimiter": "\t"}),
    "CSV with semicolons and names": (
        NAMED,
        [b"id;price;size;label", *[b"1;2;3;0", b"2;3;4;1"] * 9],
        {"format": "csv", "csv_columns": ["id", "price", "size", "label"], "delimiter": ";"},
    ),
    "JSON, not lines with semicolons": (
        Schema(3, (0, 1), format="csv", delimiter=";"),
        in_json(ROWS),
        {"format": "json", "delimiter": ","},
    ),
    "dates": (NAMED, changed(SALES, price="2026-01-02"), {"datetimes": {"price": {}}}),
    "dates in another notation": (
        NAMED,
        [*changed(SALES, price="13.05.2024"), *changed(SALES, price="01.05.2024")],
        {"datetimes": {"price": {"format": "%d.%m.%Y"}}},
    ),
    "dates with the word UTC": (
        NAMED,
        changed(SALES, price="2024-05-01 12:00:00.5 UTC"),
        {"datetimes": {"price": {"format": "%Y-%m-%d %H:%M:%S.%f UTC"}}},
    ),
    "dates of mails": (
        NAMED,
        changed(SALES, price="Wed, 01 May 2024 12:00:00 GMT"),
        {"datetimes": {"price": {"format": "%a, %d %b %Y %H:%M:%S GMT"}}},
    ),
    "an array among the fields": (
        NAMED,
        changed(SALES, size=[1, 2.5, 3]),
        {"features": ["price", "size[0:3]"]},
    ),
    "arrays of one number": (
        NAMED,
        changed(SALES, price=[1], size=[2], label=[1]),
        {"features": ["price.0", "size.0"], "label": "label.0"},
    ),
    "targets in objects and arrays": (
        Schema(1, None, ("price",), ("y", "z")),
        changed(SALES, y={"value": 1.5}, z=[2]),
        {"label": ["y.value", "z.0"]},
    ),
    # avro.apache.org/docs/1.12.0/specification: the JSON encoding of a union
    "unions in Avro's JSON": (
        NAMED,
        changed(SALES, price={"double": 1.5}, size={"int": 2}, label={"string": "x"}),
        {"features": ["price.double", "size.int"], "label": "label.string", "classes": "grow"},
    ),
    "a label is not taken for a feature": (
        Schema(2, (0, 1), ("price", "b.int"), "label.int"),
        in_json({"price": 1, "b": {"Int": 1}, "label": {"int": 0}} for _ in SALES),
        {"features": ["price", "b.Int"]},
    ),
    "a name in another normal form": (
        Schema(2, (0, 1), ("pr\u00e9cio", "size")),
        renamed(price="pre\u0301cio"),
        {"features": ["pre\u0301cio", "size"]},
    ),
    "a byte order mark in a name": (
        NAMED,
        renamed(price="\ufeffprice"),
        {"features": ["\ufeffprice", "size"]},
    ),
    "dates in another notation than is set": (
        Schema(2, (0, 1), ("price", "size"), datetimes={"price": {"origin": "2020-01-01"}}),
        changed(SALES, price="13/05/2024 18:30"),
        {"datetimes": {"price": {"origin": "2020-01-01", "format": "%d/%m/%Y %H:%M"}}},
    ),
    "dates in another notation in a line": (
        LINES,
        [b"13.05.2024,2,1"] * 9,
        {"datetimes": {"price": {"format": "%d.%m.%Y"}}},
    ),
    "null where only categories are": (
        Schema(4, (0, 1), ("size",), categories={"size": {"hash": 4}}),
        changed(SALES, size=None),
        {"missing": True},
    ),
    "null where only dates are": (
        Schema(1, (0, 1), ("size",), datetimes={"size": {}}),
        changed(SALES, size=None),
        {"missing": True},
    ),
    "a category that is a number": (
        Schema(5, (0, 1), ("price", "size"), categories={"size": {"hash": 4}}),
        in_json(SALES),
        {"categories": {}},
    ),
    "blanks between fields": (LINES, [b"1.5 2 1"] * 9, {"delimiter": " "}),
    "CSV with blanks": (ARRAY, [b"1.5 2 -3 1"] * 9, {"format": "csv", "delimiter": " "}),
    "single quotes": (LINES, [b"'1.5','2','1'"] * 9, {"quote": "'"}),
    "single quotes around decimal commas": (
        Schema(2, (0, 1), ("price", "size"), format="csv", quote="'"),
        [b"'1,5','2','1'"] * 9,
        {"decimal": ","},
    ),
    "a delimiter at the end": (
        LINES,
        [b"1.5,2,1,"] * 9,
        {"csv_columns": ["price", "size", "label", "end"]},
    ),
    "a delimiter at the end of an array": (
        Schema(2, (0, 1), format="csv", delimiter=";"),
        [b"1.5;2;1;\n"] * 9,
        {"csv_columns": ["x0", "x1", "label", "end"], "features": ["x0", "x1"]},
    ),
    "an array beside fields": (
        Schema(4, (0, 1), ("price", "v[0:3]")),
        in_json({"price": 1, "V": [1, 2, 3], "label": 0} for _ in ROWS),
        {"features": ["price", "V[0:3]"]},
    ),
    "JSON, not CSV": (Schema(3, (0, 1), format="csv"), in_json(ROWS), {"format": "json"}),
    "named JSON, not CSV": (LINES, in_json(SALES), {"format": "json"}),
    "packed": (ARRAY, [struct.pack("<i3f", i % 2, 1.5, i, -1) for i in range(9)], {"format": "packed"}),
    "JSON, not packed": (Schema(3, (0, 1), format="packed"), in_json(ROWS), {"format": "json"}),
    "a matrix of one row": (
        ARRAY,
        in_json({**row, "features": [row["features"]]} for row in ROWS),
        {"features": "features.0"},
    ),
    "another width": (ARRAY, changed(ROWS, features=[1, 2, 3, 4]), {"inputs": 4}),
    "another width of packed records": (
        Schema(3, (0, 1), format="packed"),
        [struct.pack("<i4f", 1, 1, 2, 3, 4)] * 9,
        {"inputs": 4},
    ),
    "another width of a line": (Schema(3, (0, 1), format="csv"), [b"1,2,3,4,0"] * 9, {"inputs": 4}),
    "strings": (NAMED, changed(STRINGS, label=1), {"numbers_as_strings": True}),
    "labels that are strings too": (NAMED, in_json(STRINGS), {"numbers_as_strings": True}),
    "strings in an array": (ARRAY, changed(ROWS, features=["1", " 2 ", "3"]), {"numbers_as_strings": True}),
    "decimal commas": (
        NAMED,
        changed(SALES, size="2107,40"),
        {"numbers_as_strings": True, "decimal": ","},
    ),
    "thousands": (
        NAMED,
        changed(SALES, price="1,234.56", size="2"),
        {"numbers_as_strings": True, "thousands": ","},
    ),
    "thousands of Switzerland": (
        NAMED,
        changed(SALES, price="1'234.56"),
        {"numbers_as_strings": True, "thousands": "'"},
    ),
    "both marks": (
        NAMED,
        changed(SALES, price="1.234,56"),
        {"numbers_as_strings": True, "decimal": ",", "thousands": "."},
    ),
    "a unit": (
        NAMED,
        changed(SALES, price="-15 %"),
        {"numbers_as_strings": True, "units": ["%"]},
    ),
    "multiples": (
        NAMED,
        [*changed(SALES, price="$1.5M"), *changed(SALES, price="$20k"), *changed(SALES, price="$0")],
        {"numbers_as_strings": True, "units": ["$", "M=1000000", "k=1000"]},
    ),
    "installations": (
        NAMED,
        changed(SALES, price="1,234,000+"),
        {"numbers_as_strings": True, "units": ["+"], "thousands": ","},
    ),
    "accounting": (
        NAMED,
        [*changed(SALES, price="(1,234.50)"), *changed(SALES, price="2,000.00")],
        {"numbers_as_strings": True, "thousands": ","},
    ),
    "a currency, decimal commas and groups": (
        NAMED,
        changed(SALES, price="€ 1.234,50"),
        {"numbers_as_strings": True, "units": ["€"], "decimal": ",", "thousands": "."},
    ),
    "units of two fields, in lines": (
        LINES,
        [b"12 kg,$5,0", b"7.5 kg,-$3,1", b",$1,1"] * 3,
        {"units": ["kg", "$"], "missing": True},
    ),
    "words for a gap": (
        NAMED,
        [*changed(SALES, price="NA"), *changed(SALES, size="12")],
        {"numbers_as_strings": True, "missing": True, "na_values": ["NA"]},
    ),
    "words for a gap among numbers": (
        NAMED,
        changed(SALES, price="n/a"),
        {"missing": True, "na_values": ["n/a"]},
    ),
    "empty strings": (NAMED, changed(SALES, price=""), {"numbers_as_strings": True, "missing": True}),
    "null": (NAMED, changed(SALES, price=None), {"missing": True}),
    "NaN": (NAMED, changed(SALES, size=float("nan")), {"missing": True}),
    "a field that comes and goes": (
        NAMED,
        in_json([{"price": 1, "label": 1}, {"size": 2, "label": 0}] * 9),
        {"missing": True},
    ),
    "a gap in a line": (LINES, [b"1,,0"] * 9, {"missing": True}),
    "a decimal comma in a line": (LINES, [b'"1,5",2,0'] * 9, {"decimal": ","}),
    "words that look like base64": (
        NAMED,
        changed(SALES, size="Rome"),
        {"categories": {"size": {"hash": 32}}},
    ),
    "text in base64": (NAMED, changed(SALES, size="SGVsbG8="), {"categories": {"size": {"hash": 32}}}),
    "strings that are none": (NAMED, changed(SALES, size="red"), {"categories": {"size": {"hash": 32}}}),
    "another case": (
        NAMED,
        renamed(price="Price", size="SIZE", label="Label"),
        {"features": ["Price", "SIZE"], "label": "Label"},
    ),
    "another case, and a category": (  # not the number alone
        NAMED,
        in_json({"Price": f"{i},5", "Size": ("S", "M")[i % 2], "label": 1} for i in range(9)),
        {"features": ["Price", "Size"], "categories": {"Size": {"hash": 32}}}
        | {"numbers_as_strings": True, "decimal": ","},
    ),
    "another label, of other classes, and a gap": (
        NAMED,
        in_json({"price": "NA", "size": 2, "target": ("no", "yes")[i % 2]} for i in range(9)),
        {"label": "target", "classes": ["no", "yes"], "missing": True, "na_values": ["NA"]},
    ),
    "snake and camel": (
        Schema(1, (0, 1), ("unit_price",)),
        in_json([{"unitPrice": 2, "label": 0}]),
        {"features": ["unitPrice"]},
    ),
    "a near name": (NAMED, renamed(price="prise"), {"features": ["prise", "size"]}),
    "only the label's name": (NAMED, renamed(label="Label"), {"label": "Label"}),
    "a label in an array": (NAMED, changed(SALES, label=[1]), {"label": "label.0"}),
    "labels in an array": (NAMED, changed(SALES, label=[1, 0]), {"multilabel": True}),
    "other labels in an array": (
        NAMED,
        changed(SALES, label=["x", "y"]),
        {"multilabel": True, "classes": "grow"},
    ),
    "another name of a target": (
        Schema(2, None, ("price", "size"), ("low", "high")),
        changed(SALES, low=1, HIGH=2),
        {"label": ["low", "HIGH"]},
    ),
    "another name of the weight": (
        Schema(2, (0, 1), ("price", "size"), weight="w"),
        changed(SALES, W=2),
        {"weight": "W"},
    ),
    "a usual name of the label": (NAMED, renamed(label="target"), {"label": "target"}),
    "another array": (
        ARRAY,
        in_json({"x": row["features"], "y": row["label"]} for row in ROWS),
        {"features": "x", "label": "y"},
    ),
    "an array, not named fields": (
        NAMED,
        in_json(ROWS),
        {"features": "features", "inputs": 3},
    ),
    "other number fields": (
        NAMED,
        in_json({"w": 1, "h": 2.5, "kind": "x", "label": 1} for _ in ROWS),
        {"features": ["w", "h"]},
    ),
    "named fields, not an array": (
        ARRAY,
        changed(SALES, id=17, customer_id=5),
        {"features": ["price", "size"]},
    ),
    "an object, not an array": (
        ARRAY,
        in_json({"features": {"a": 1.5, "b": 2}, "label": 1} for _ in ROWS),
        {"features": ["features.a", "features.b"]},
    ),
    "an envelope": (
        NAMED,
        in_json({"specversion": "1.0", "id": "1", "data": sale} for sale in SALES),
        {"features": ["data.price", "data.size"], "label": "data.label"},
    ),
    "a name with a dot": (
        NAMED,
        in_json({"v.1": sale} for sale in SALES),
        {"features": ['"v.1".price', '"v.1".size'], "label": '"v.1".label'},
    ),
    "changes": (NAMED, in_json(change(sale, "c") for sale in SALES), AFTER),
    "changes with deletes": (
        NAMED,
        in_json(change(sale, "cdu"[i % 3]) for i, sale in enumerate(SALES)),
        AFTER | WHERE,
    ),
    "changes, with the default features": (
        ARRAY,
        in_json(change(sale, "cdu"[i % 3]) for i, sale in enumerate(SALES)),
        AFTER | WHERE,
    ),
    "changes in Confluent's framing, as strings": (
        NAMED,
        [confluent(blob) for blob in in_json(change({**s, "label": 1}, "c") for s in STRINGS)],
        {"framing": "confluent", **AFTER, "numbers_as_strings": True},
    ),
    "a new label": (ARRAY, changed(ROWS, label=2), {"classes": "grow"}),
    "boolean labels": (
        ARRAY,
        in_json({**row, "label": bool(row["label"])} for row in ROWS),
        {"classes": [False, True]},
    ),
    "a word for a gap in an array of a line": (
        Schema(2, (0, 1), format="csv"),
        [b"NA,0,0", b"1,2,1"] * 9,
        {"missing": True, "na_values": ["NA"]},
    ),
    "a gap in an array of a line": (Schema(2, (0, 1), format="csv"), [b",0,0"] * 9, {"missing": True}),
    "decimal commas in an array of a line": (
        Schema(2, (0, 1), format="csv", delimiter=";"),
        [b"1,5;0,5;0"] * 9,
        {"decimal": ","},
    ),
    "thousands in an array of a line": (
        Schema(2, (0, 1), format="csv"),
        [b'"1,234.5",0,0'] * 9,
        {"thousands": ","},
    ),
    "a regression": (
        ARRAY,
        in_json({**row, "label": 0.5 + i} for i, row in enumerate(ROWS)),
        {"regression": True},
    ),
    "names in the first line": (
        LINES,
        [b"id,price,size,label", *[b"1,2,3,0", b"2,3,4,1"] * 9],
        {"csv_columns": ["id", "price", "size", "label"]},
    ),
    "CSV with names in the first line": (
        NAMED,
        [b"id,price,size,label", *[b"1,2,3,0", b"2,3,4,1"] * 9],
        {"format": "csv", "csv_columns": ["id", "price", "size", "label"]},
    ),
}


@pytest.mark.parametrize("case", READ)
def test_the_settings_that_read_the_records_are_suggested(case):
    schema, values, expected = READ[case]
    assert decode(schema, values, True).rejected, "otherwise the test shows nothing"
    shown = " and ".join(f"records.{name} = {to_toml(value)}" for name, value in expected.items())
    *_, last = explain(schema, values)
    for setting in shown.split(" and records."):
        assert setting.removeprefix("records.") in last
    assert last.count("records.") == len(expected)
    left = as_learned(apply(schema, expected), values)
    assert last.endswith(f"{len(values) - len(left):,} of {len(values):,} would be read")
    assert len(left) <= 1, "that of the columns' names"


# What is wrong with a field, and what reads it
FAULTS = {
    "decimal comma": (lambda i: f"{i},5", {"numbers_as_strings": True, "decimal": ","}),
    "word for a gap": (lambda i: "n/a" if i % 3 else i, {"missing": True, "na_values": ["n/a"]}),
    "null": (lambda i: None, {"missing": True}),
    "category": (lambda i: ("red", "green")[i % 2], {"categories": {"{}": {"hash": 32}}}),
    "date": (
        lambda i: f"{i + 10}/05/2024" if i % 3 else "n/a",
        {"datetimes": {"{}": {"format": "%d/%m/%Y"}}, "missing": True, "na_values": ["n/a"]},
    ),
    "unit": (lambda i: f"{i} %", {"numbers_as_strings": True, "units": ["%"]}),
}


@pytest.mark.parametrize("faults", [*combinations(FAULTS, 2), [*FAULTS], [*reversed(FAULTS)]], ids=" ".join)
def test_fields_that_need_other_settings_than_each_other(faults):
    """Each alone reads no record."""
    fields = {f"f{i}": FAULTS[fault] for i, fault in enumerate(faults)}
    records = in_json(
        {"ok": i, **{name: value(i) for name, (value, _) in fields.items()}, "label": i % 2} for i in range(9)
    )
    schema = Schema(1 + len(fields), (0, 1), ("ok", *fields))
    expected = {}
    for name, (_, options) in fields.items():
        named = {key: {name: each["{}"]} if isinstance(each, dict) else each for key, each in options.items()}
        expected |= named
    *_, last = explain(schema, records)
    assert last.endswith("9 of 9 would be read")
    shown = tomllib.loads(
        last[5 : last.rindex(", 9 of 9")]
        .replace(", records.", "\nrecords.")
        .replace(" and records.", "\nrecords.")
    )
    assert shown == {"records": expected}


def test_a_unit_that_other_numbers_lack_is_not_left_out():
    """15 % and .2: the same share would become two numbers."""
    for others in (changed(SALES, price=".2"), changed(SALES, price=0.2)):
        *_, last = explain(NAMED, [*changed(SALES, price="15 %"), *others])
        assert '"%"' not in last


LOOKS = "it looks like "
SPLIT = "send each row as its own record"

HAS_UNIT = (
    "price is a number with a unit, and not all have the same: state what each is worth, such as "
    'records.units = ["g=1", "kg=1000"], or send numbers alone'
)
NEGATIVE = "has its sign behind it: send -5.5"
NEEDS_A_NAME = "a category or a date needs a name: set records.features to a list of the fields"
DECIMAL = "a decimal of Kafka Connect in bytes: set decimal.handling.mode = double in Debezium's connector"

# What no setting reads
UNREADABLE = {
    "Python's repr": (
        ARRAY,
        [str(row).encode() for row in ROWS],
        f"{LOOKS}Python's repr: send json.dumps(record), not str(record)",
    ),
    "arrays in an array": (
        ARRAY,
        in_json([[row["features"] for row in ROWS[:3]]] * 9),
        f"{LOOKS}an array of 3 arrays in one record: {SPLIT}, an object with an array",
    ),
    "an array without a name": (
        ARRAY,
        [b"[1,2,3,0]"] * 9,
        f'{LOOKS}an array without a name: send an object, {{"features": [...], "label": ...}}, or CSV',
    ),
    "a matrix": (
        ARRAY,
        in_json({"features": [[1, 2, 3], [4, 5, 6]], "label": 0} for _ in ROWS),
        f"features is a matrix, 2 rows of 3: flatten it, or {SPLIT}",
    ),
    "Protobuf": (
        ARRAY,
        [b"\x0a\x0c" + struct.pack("<3f", *row["features"]) + b"\x10\x01" for row in ROWS],
        f"{LOOKS}Protobuf, which is not read: send JSON, Avro, CSV or packed records",
    ),
    "Protobuf in Confluent's framing": (
        ARRAY,
        [confluent(b"\0\x0a\x0c" + struct.pack("<3f", *row["features"])) for row in ROWS],
        f"{LOOKS}Protobuf, which is not read, in Confluent's framing: send JSON, Avro, CSV or packed records",
    ),
    "Protobuf, with framing set": (
        Schema(3, (0, 1), framing="confluent"),
        [confluent(b"\0\x0a\x0c" + struct.pack("<3f", *row["features"])) for row in ROWS],
        f"{LOOKS}Protobuf, which is not read, in Confluent's framing: send JSON, Avro, CSV or packed records",
    ),
    "Avro in Confluent's framing": (
        ARRAY,
        [confluent(b"\x06" + struct.pack("<3f", *row["features"]) + b"\0\2") for row in ROWS],
        f"{LOOKS}Avro after a schema's ID, as Confluent's serializers write it: set records.format = "
        '"avro" and records.registry',
    ),
    "other fields": (
        NAMED,
        in_json({"who": "a", "where": {"x": "b", "y": "c"}} for _ in SALES),
        "its fields are who, where.x, where.y",
    ),
    "a comma with two meanings": (
        NAMED,
        changed(SALES, price="1,234"),
        "is the comma in '1,234' a decimal mark? set records.numbers_as_strings, and records.decimal or "
        "records.thousands to ','",
    ),
    "CSV of unknown columns": (
        NAMED,
        [b"1,2,3,4"] * 9,
        'is it CSV? set records.format = "csv", and records.csv_columns to the names of its fields',
    ),
    "JavaScript": (
        NAMED,
        [b"{price: 1, size: 2}"] * 9,
        f"{LOOKS}JSON with an error: key must be a string at line 1 column 2",
    ),
    "a comma too many": (
        NAMED,
        [b'{"price":1,"size":2,"label":1,}'] * 9,
        f"{LOOKS}JSON with an error: trailing comma at line 1 column 31",
    ),
    "several lines of CSV": (
        NAMED,
        [b"price,size,label\n1,2,0\n"] * 9,
        f'{LOOKS}several lines of CSV in one record: set records.explode = "lines", or {SPLIT}',
    ),
    "InfluxDB's lines": (
        ARRAY,
        [b"cpu,host=a value=1.5,idle=3 123456"] * 9,
        f"{LOOKS}pairs of name=value: send JSON, Avro, CSV or packed records",
    ),
    "numbers in a string": (
        ARRAY,
        changed(ROWS, features="1,2,3"),
        "features is a string: send an array of numbers",
    ),
    "more columns than are named": (
        LINES,
        [b"17,1.5,2,1"] * 9,
        "a line has 4 fields, and 3 are named: name all in records.csv_columns",
    ),
    "data in base64 of another type": (
        NAMED,
        in_json(
            {"specversion": "1.0", "datacontenttype": "application/protobuf", "data_base64": "CgNhYmM="}
            for _ in SALES
        ),
        "data_base64 is of type 'application/protobuf', which is not read: send JSON in data",
    ),
    "Pub/Sub's data": (
        NAMED,
        in_json({"message": {"data": base64.b64encode(each).decode()}} for each in in_json(SALES)),
        "message.data is JSON in base64: send it as an object",
    ),
    "gzip in base64 in a field": (
        NAMED,
        in_json({"body": base64.b64encode(gzip.compress(each)).decode()} for each in in_json(SALES)),
        "body is gzip around JSON in base64: send it as an object",
    ),
    "arrays in a string": (
        NAMED,
        in_json({"rows": json.dumps([[1, 2], [3, 4]])} for each in SALES),
        "rows is JSON in a string: send it as an array",
    ),
    "JSON after Apicurio's ID": (
        ARRAY,
        [b"\0" + (5).to_bytes(8, "big") + blob for blob in in_json(ROWS)],
        f"{LOOKS}JSON after an ID of 8 bytes, as Apicurio's serializers write it: let them write 4 bytes, as "
        'Confluent\'s (apicurio.registry.id-handler), and set records.framing = "confluent"',
    ),
    "a string of JSON in gzip": (
        Schema(3, (0, 1), framing="gzip"),
        [gzip.compress(blob) for blob in in_json(map(json.dumps, ROWS))],
        f"{LOOKS}JSON that is encoded twice: send the object, not a string of it",
    ),
    "a string of JSON in Confluent's framing": (
        ARRAY,
        [confluent(blob) for blob in in_json(map(json.dumps, ROWS))],
        f"{LOOKS}Confluent's framing around JSON that is encoded twice: set records.framing = "
        '"confluent", and send the object, not a string of it',
    ),
    "Confluent's framing in gzip": (
        Schema(3, (0, 1), framing="confluent"),
        [gzip.compress(confluent(blob)) for blob in in_json(ROWS)],
        f"{LOOKS}gzip around Confluent's framing around JSON: let Kafka compress (compression.type of the "
        'producer), and set records.framing = "confluent"',
    ),
    "a sparse vector of Spark": (
        ARRAY,
        changed(ROWS, features={"type": 0, "size": 9, "indices": [1, 3, 5], "values": [1.5, 2, 3]}),
        "features is a sparse vector: send all its numbers as an array",
    ),
    "several currencies": (NAMED, [*changed(SALES, price="$1.5"), *changed(SALES, price="€2")], HAS_UNIT),
    "grams and kilograms": (NAMED, [*changed(SALES, price="900 g"), *changed(SALES, price="2kg")], HAS_UNIT),
    "decimal commas beside decimal points": (
        NAMED,
        changed(SALES, price="1,50", size="2.5"),
        "price and size have other marks of decimals or thousands than each other: send numbers",
    ),
    "days and months": (
        NAMED,
        changed(SALES, price="03/04/2005"),
        "price may be written as '%d/%m/%Y' or '%m/%d/%Y': set its format in records.datetimes",
    ),
    "numbers of dates": (
        Schema(2, (0, 1), ("price", "size"), datetimes={"price": {}}),
        in_json(SALES),
        'price is a number: name its unit in records.datetimes, such as price = {format = "ms"}',
    ),
    "seconds of dates in strings": (
        Schema(2, (0, 1), ("price", "size"), datetimes={"price": {}}),
        changed(SALES, price="1714564800"),
        'price is a number: name its unit in records.datetimes, such as price = {format = "ms"}, and set '
        "records.numbers_as_strings",
    ),
    "a zone by its name": (
        Schema(2, (0, 1), ("price", "size"), datetimes={"price": {}}),
        changed(SALES, price="2024-05-01T12:00:00+02:00[Europe/Berlin]"),
        "price has a time zone by its name, [Europe/Berlin]: send an offset alone, such as +02:00",
    ),
    "a typographic minus": (
        NAMED,
        changed(SALES, price="\u22125,5"),
        "price has MINUS SIGN (U+2212) in a number: send ASCII alone",
    ),
    "a byte order mark in a line": (
        LINES,
        [b"1.5,\xef\xbb\xbf2,1"] * 9,
        "size has ZERO WIDTH NO-BREAK SPACE (U+FEFF) in a number: send ASCII alone",
    ),
    "digits of another script": (
        NAMED,
        changed(SALES, price="\u0663\u066b\u0665"),
        "price has ARABIC-INDIC DIGIT THREE (U+0663) in a number: send ASCII alone",
    ),
    "a target with its sign behind": (
        Schema(1, None, ("price",), "size"),
        changed(SALES, size="5.5-"),
        f"size {NEGATIVE}",
    ),
    "a target that is a date": (
        Schema(1, None, ("price",), "size"),
        changed(SALES, size="2024-05-01"),
        "size is a date: send a number",
    ),
    "a sign behind": (NAMED, changed(SALES, size="5.5-"), f"size {NEGATIVE}"),
    "a sign behind, in lines": (LINES, [b"1,5.5-,1"] * 9, f"size {NEGATIVE}"),
    "bytes of an array in base64": (
        ARRAY,
        changed(ROWS, features="AACAPwAAAEA="),
        "features is a string: send an array of numbers",
    ),
    "a name of 100 kB": (
        NAMED,
        in_json([{"x" * 100_000: 1, "size": 2, "label": 1}] * 2),
        "its fields are size, label",
    ),
    "runs of blanks": (
        LINES,
        [b"1.5  2 1"] * 9,
        "a line has 1 fields, and 3 are named: name all in records.csv_columns",
    ),
    "a date in an array": (
        Schema(2, (0, 1), format="csv"),
        [b"2026-01-02,2,1"] * 9,
        NEEDS_A_NAME,
    ),
    "a word in an array": (ARRAY, changed(ROWS, features=["red", 2, 3]), NEEDS_A_NAME),
    # debezium.io/documentation: decimal.handling.mode is "precise" by default
    "decimals of Debezium": (
        NAMED,
        [*changed(SALES, price="AfQ="), *changed(SALES, price="AYag")],
        f"price is {DECIMAL}",
    ),
    "decimals of Debezium with a scale": (
        NAMED,
        changed(SALES, size={"scale": 2, "value": "AfQ="}),
        f"size is {DECIMAL}",
    ),
    "decimals of a target": (
        Schema(1, None, ("price",), "cost"),
        changed(SALES, cost="AfQ="),
        f"cost is {DECIMAL}",
    ),
    "decimals of Debezium in its envelope": (
        NAMED,
        in_json(change({"price": "AfQ=", "size": 2, "label": 1}, "c") for _ in SALES),
        f"payload.after.price is {DECIMAL}",
    ),
    "decimals that a schema of Kafka Connect describes": (
        NAMED,
        in_json(
            {
                "schema": {"name": "org.apache.kafka.connect.data.Decimal"},
                "price": "AYag",
                "size": 2,
                "label": 1,
            }
            for _ in SALES
        ),
        f"price is {DECIMAL}",
    ),
    "cut JSON": (
        ARRAY,
        [blob[:-5] for blob in in_json(ROWS)],
        f"{LOOKS}JSON that ends too early: was it cut?",
    ),
}


@pytest.mark.parametrize("read", [as_learned, as_inferred])
@pytest.mark.parametrize("case", UNREADABLE)
def test_what_no_setting_reads_is_named(case, read):
    schema, values, expected = UNREADABLE[case]
    assert explain(schema, values, read)[1:] == [expected]


def test_what_a_registry_s_serializers_write_is_recognized():
    with serving() as registry:
        registry.responses["/schemas/ids/2"] = {"schema": "syntax ...", "schemaType": "PROTOBUF"}
        schema = Schema(3, (0, 1), format="avro", registry=registry.url)
        message = b"\0\x0a\x0c" + struct.pack("<3f", 1.5, 2, 3)
        (_, line) = explain(schema, [confluent(message)] * 3)
        assert line.startswith(f"{LOOKS}Protobuf, which is not read, in Confluent's framing: send JSON")
        assert explain(schema, [*map(confluent, in_json(ROWS))])[1:] == [
            'with records.format = "json", records.framing = "confluent" and no records.registry, 40 of 40 '
            "would be read"
        ]
        assert explain(schema, [b"\0\0\0\0\x09\x06abc"])[1:] == [], "an unknown ID"
        assert explain(schema, in_json(ROWS))[1:] == [
            'with records.format = "json" and no records.registry, 40 of 40 would be read'
        ]


def test_avro_in_a_framing_is_read_with_its_schema():
    avro = {"type": "record", "name": "R", "fields": [
        {"name": "features", "type": {"type": "array", "items": "float"}},
        {"name": "label", "type": "long"},
    ]}  # fmt: skip
    schema = Schema(3, (0, 1), format="avro", avro_schema=json.dumps(avro))
    values = [
        confluent(value) for value in encode(schema, [row["features"] for row in ROWS], np.zeros(40, int))
    ]
    assert explain(schema, values)[1:] == ['with records.framing = "confluent", 40 of 40 would be read']
    assert explain(schema, in_json(ROWS))[1:] == [
        'with records.format = "json" and no records.avro_schema, 40 of 40 would be read'
    ]


def test_a_registry_that_does_not_respond_hides_no_error(monkeypatch):
    monkeypatch.setattr("streaming_nn.records.registry.PAUSE", 0)
    schema = Schema(3, (0, 1), format="avro", registry="http://127.0.0.1:9")
    assert explain(schema, [*map(confluent, in_json(ROWS[:3]))]) == []


def test_a_quoted_name_with_brackets_is_a_path():
    schema = Schema(2, (0, 1), ('"a[0].b"', "size"))
    values = in_json({"a[0].b": [[1]], "size": 1, "label": 0} for _ in range(3))
    assert explain(schema, values)[1:] == [f'"a[0].b" is a matrix, 1 rows of 1: flatten it, or {SPLIT}']


def test_a_framing_is_suggested_also_if_more_is_wrong():
    values = [confluent(blob) for blob in in_json({"who": "a"} for _ in range(7))]
    assert explain(ARRAY, values)[1:] == [
        'with records.framing = "confluent", they would still be rejected: 7 field missing: features',
        "its fields are who",
    ]
    values = in_json([json.dumps(json.dumps({"who": "a"}))] * 7)
    assert explain(ARRAY, values)[1:] == [
        'with records.framing = "json_string", they would still be rejected: 7 field missing: features',
        "its fields are who",
    ]


def test_a_format_is_suggested_without_what_another_one_has():
    schema = Schema(2, (0, 1), ("price", "size"), format="csv", csv_columns=("price", "size", "label"))
    assert explain(schema, in_json({"who": "a"} for _ in range(7)))[1:] == [
        'with records.format = "json" and records.csv_columns = [], they would still be rejected: '
        "7 field missing: price",
        "its fields are who",
    ]


def test_the_first_record_of_the_most_frequent_reason_is_shown_escaped_and_cut():
    values = [b"\xff", *changed(ROWS, features=["\n1", 2, 3], note="x" * 200)[:2]]
    (first, *_) = explain(ARRAY, values)
    begin, _, end = first.partition("xxx")
    assert begin == 'the first: b\'{"features": ["\\\\n1", 2, 3], "label": 0, "note": "'
    assert end.lstrip("x") == "'..., whose features[0] is '\\n1'"
    assert max(len(line) for line in explain(ARRAY, [b"\xff" * 10_000])) < 140


def test_records_that_are_read_need_no_explanation():
    assert explain(ARRAY, in_json(ROWS)) == []
    assert explain(ARRAY, [None, None]) == []


def test_a_suggestion_names_what_it_would_not_read():
    values = in_json(ROWS[:6]) + [confluent(blob) for blob in in_json(ROWS[:4])]
    assert explain(ARRAY, values)[1:] == [
        'with records.framing = "confluent", 4 of these would be read, and 6 others would not: are there '
        "records of two kinds?"
    ]
    assert explain(ARRAY, values[3:])[1:] == ['with records.framing = "confluent", 4 of 7 would be read']


def test_a_missing_label_is_not_suggested_for_records_to_be_scored():
    values = in_json({"Price": 1, "size": 2} for _ in range(9))
    assert explain(NAMED, values, as_scored, " in the model's schema")[1:] == [
        'with records.features = ["Price", "size"] in the model\'s schema, 9 of 9 would be read'
    ]


def test_settings_show_what_is_invisible():
    assert to_toml(["\ufeffa\u00a0é", "\x7f\U000e0001"]) == r'["\ufeffa\u00a0é", "\u007f\U000e0001"]'
    assert tomllib.loads("x = " + to_toml("\U000e0001\x7f\n")) == {"x": "\U000e0001\x7f\n"}


def test_long_settings_are_cut():
    values = in_json([{**{f"V{i}": 1.5 for i in range(30)}, "label": 1}] * 9)
    (_, last) = explain(ARRAY, values)
    assert '"V10", "V11", ... 30 in all], 9 of 9 would be read' in last


def test_a_field_that_is_in_no_record_is_not_taken_for_a_gap():
    values = in_json([{"price": 1, "xyz": 2, "label": 1}] * 9)
    assert explain(NAMED, values)[1:] == ["its fields are price, xyz, label"]


def test_reasons_are_counted_and_cut():
    counts = {"not JSON": 3, "a": 1_500, "b": 2, "c": 1, "d": 1}
    assert describe_reasons(counts) == "1,500 a, 3 not JSON, 2 b, 2 for 2 more reasons"
    rejected = decode(ARRAY, [b"?", b"?", b'{"features":[1,"x",3],"label":1}'], True).rejected
    assert describe_reasons(count_reasons(rejected)) == "2 not JSON, 1 not a number: features"


def test_four_faults_of_thirty_fields_are_counted_by_reason_and_field():
    """Case 7: Debezium's decimals as base64, CICIDS' Infinity, a null and a label of another type."""
    names = tuple(f"V{i}" for i in range(30))
    schema = Schema(30, (0, 1), names)
    good = {**dict.fromkeys(names, 1.5), "label": 1}
    faults = [{"V3": "SGVsbG8="}, {"V7": float("inf")}, {"V11": None}, {"label": "1"}]
    values = in_json({**good, **fault} for fault in faults for _ in range(10))
    rejected = decode(schema, values, True).rejected
    assert count_reasons(rejected) == {
        "not a number: V3": 10,
        "not finite: V7": 10,
        "not a number: V11": 10,
        "label not in classes: '1'": 10,
    }
    found = {(each.field, each.value) for each in rejected}
    assert found == {("V3", "'SGVsbG8='"), ("V7", "inf"), ("V11", "None"), ("label", "'1'")}


def test_strings_of_trades_are_read_as_suggested():
    """Case 15: csv.DictReader and trades; "", " 12 ", "NA", "NaN", "null" and marks of thousands."""
    texts = ["", " 12 ", "NA", "NaN", "null", "1,234.56", "7", "0.5"] * 5
    values = in_json({"price": text, "size": "3", "label": str(i % 2)} for i, text in enumerate(texts))
    with pytest.raises(ValueError, match=r"with records\.") as raised:
        infer_schema(values, features=["price", "size"])
    last = str(raised.value).splitlines()[-1]
    settings = tomllib.loads(
        last.split("with ")[1]
        .split(", 40 of 40")[0]
        .replace(", records", "\nrecords")
        .replace(" and records", "\nrecords")
    )["records"]
    assert settings == {
        "numbers_as_strings": True,
        "missing": True,
        "na_values": ["NA", "null"],
        "thousands": ",",
    }
    assert infer_schema(values, features=["price", "size"], **settings).records == 40


def test_inference_ends_in_an_explanation():
    """Case 5: one line for all records that cannot be read did not help anybody."""
    with pytest.raises(ValueError) as raised:
        infer_schema([*map(confluent, in_json(ROWS))])
    assert str(raised.value).splitlines() == [
        "cannot infer the schema: none of 40 records could be decoded as json with features 'features': "
        "40 not JSON",
        '  the first: b\'\\x00\\x00\\x00\\x00\\x02{"features": [0.0, -1.25, 0], "label": 0}\'',
        '  with records.framing = "confluent", 40 of 40 would be read',
    ]
    with pytest.raises(ValueError, match=r'set the label.*\n.*\n  with records.label = "Label", 90 of 90'):
        infer_schema(renamed(label="Label"), features=["price", "size"])


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({}, in_json(SALES)),
        ({"format": "csv", "features": ["price", "size"]}, [b"1,2,0"] * 90),
    ],
)
def test_inference_names_what_the_filter_leaves_out(options, values):
    with pytest.raises(ValueError) as raised:
        infer_schema([*values, None], where="size = 9", **options)
    first, _, fields = str(raised.value).splitlines()
    assert first.endswith(": 90 filtered by records.where, 1 tombstones, whose value is null")
    assert fields == "  its fields are price, size, label"


def test_too_few_classes_hide_no_rejected_records():
    values = [*in_json({**row, "label": 1} for row in ROWS), *map(confluent, in_json(ROWS))]
    with pytest.raises(ValueError) as raised:
        infer_schema(values)
    first, second, _, last = str(raised.value).splitlines()
    assert first == "label 'label' has 1 distinct values in 40 records: set classes"
    assert second == "  40 of 80 records cannot be decoded: 40 not JSON"
    assert last.startswith('  with records.framing = "confluent", 40 of these would be read')


def test_classes_of_several_types_are_named():
    values = in_json({**row, "label": "a" if row["label"] else 0} for row in ROWS)
    with pytest.raises(
        ValueError, match="1 distinct values in 40 records, and 20 of them have another type than"
    ):
        infer_schema(values)


def test_a_topic_of_tombstones_is_named():
    with pytest.raises(ValueError, match=r"features 'features': 10 tombstones, whose value is null$"):
        infer_schema([None] * 10)


def test_inference_remarks_what_it_leaves_out():
    inferred = infer_schema([*in_json(ROWS[:10]), *map(confluent, in_json(ROWS[:30]))])
    assert inferred.remarks == (
        "30 of 40 records cannot be decoded: 30 not JSON",
        'the first: b\'\\x00\\x00\\x00\\x00\\x02{"features": [0.0, -1.25, 0], "label": 0}\'',
        'with records.framing = "confluent", 30 of 40 would be read',
    )


@pytest.mark.parametrize("read", [as_learned, as_scored, as_inferred])
@pytest.mark.parametrize("format", ["json", "csv", "packed"])
def test_a_hostile_record_is_explained_too(format, read):
    schemas = [Schema(3, (0, 1), format=format)]
    if format != "packed":
        schemas.append(Schema(2, ("a",), ("x", "y"), format=format, grow=True, numbers_as_strings=True))
    for schema in schemas:
        for record in corpus()[:: 4 if format == "json" else 12]:
            explain(schema, [record.value], read)


@settings(max_examples=8, deadline=None)
@given(st.lists(blobs, min_size=1, max_size=4), st.sampled_from([ARRAY, NAMED, LINES]))
def test_any_record_is_explained(values, schema):
    lines = explain(schema, values)
    assert bool(lines) == bool(decode(schema, values, True).rejected)
    assert all("\n" not in line for line in lines)


VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1.5, "", "x", "1,5", "(5)", "2024-05-01", "\u22125"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["", "v", "a.b"]), inner),
    max_leaves=4,
)
TARGETS = [
    Schema(1, None, ("price",), "size"),
    Schema(1, None, ("price",), ("size", "label")),
    Schema(1, None, ("price",), ("size", "label"), multilabel=True),
    Schema(1, (), ("price",), "size", multilabel=True, grow=True),
]


@settings(max_examples=12, deadline=None)
@given(st.lists(VALUES, min_size=2, max_size=4), st.sampled_from(TARGETS), st.booleans())
@example([[], 0], TARGETS[0], False)
def test_any_target_is_explained(values, schema, readable):
    fields = {"price": 1} if readable else {}
    records = in_json({**fields, "size": value, "label": value} for value in values)
    for read in (as_learned, as_inferred):
        assert all("\n" not in line for line in explain(schema, records, read))


def test_gaps_in_an_array_beside_other_fields_are_missing_values():
    """Also below a name with a dot, which was taken for a path."""
    schema = Schema(3, (0, 1), ("price", '"a.b"[0:2]'))
    rows = [{"price": 1, "a.b": [i, None], "label": i % 2} for i in range(20)]
    assert explain(schema, in_json(rows))[-1] == "with records.missing = true, 20 of 20 would be read"
