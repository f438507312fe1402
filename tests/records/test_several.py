"""Records of several targets, or of several labels."""

import re
import tomllib
from typing import Any

import numpy as np
import pytest
from paths import ROOT

from streaming_nn.records import simd
from streaming_nn.records.decode import decode, encode, encode_named, inspect
from streaming_nn.records.infer_schema import infer_schema
from streaming_nn.records.schema import MAX_CLASSES, Schema, grow_schema, schema_from
from streaming_nn.settings import Records

pytestmark = pytest.mark.commit

FIELDS = ("f1", "f2", "f3")
AVRO = """{"type": "record", "name": "r", "fields": [
    {"name": "f1", "type": "float"}, {"name": "f2", "type": "float"}, {"name": "f3", "type": "float"},
    {"name": "a", "type": ["null", "double"], "default": null},
    {"name": "b", "type": ["null", "double"], "default": null},
    {"name": "p", "type": "boolean", "default": false}, {"name": "q", "type": "boolean", "default": false},
    {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []}]}"""
TARGETS: dict[str, Any] = {"label": ("a", "b")}
FLAGS: dict[str, Any] = {"label": ("p", "q"), "multilabel": True}
TAGS: dict[str, Any] = {"label": "tags", "multilabel": True, "classes": ("x", "y", "z")}


def schema(format: str, options: dict[str, Any]) -> Schema:
    avro = AVRO if format == "avro" else None
    return schema_from(Schema(3, features=FIELDS, format=format, avro_schema=avro, **options).options())


@pytest.mark.parametrize(
    ("format", "options"),
    [
        (f, o)
        for f in ("json", "csv", "packed", "avro")
        for o in (TARGETS, FLAGS, TAGS)
        if (f, o) != ("csv", TAGS)
    ],
)
def test_what_is_encoded_is_decoded_to_the_same_bits(format: str, options: dict[str, Any]) -> None:
    rng, of = np.random.default_rng(0), schema(format, options)
    x = np.round(64 * rng.normal(size=(9, 3))) / 64
    assert of.columns_of_y is not None
    shape = (9, of.columns_of_y)
    y = (
        rng.integers(0, 2, shape).astype(np.int32)
        if of.multilabel
        else np.round(64 * rng.normal(size=shape)) / 64
    )
    labeled = encode(of, x, y)
    rows = decode(of, labeled, labeled=True)
    assert rows.rejected == []
    np.testing.assert_array_equal(rows.x, x)
    assert rows.y is not None
    np.testing.assert_array_equal(rows.y, y)
    assert rows.y.dtype == y.dtype
    for values in (labeled, encode(of, x) if format != "avro" or options is not TAGS else labeled):
        np.testing.assert_array_equal(decode(of, values, labeled=False).x, x)


@pytest.mark.parametrize("options", [TARGETS, FLAGS])
def test_simdjson_reads_what_the_decoder_reads(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    of, rng = Schema(3, **options), np.random.default_rng(0)
    y = rng.integers(0, 2, (20, 2)) if of.multilabel else rng.normal(size=(20, 2))
    values: list[bytes | None] = list(encode(of, rng.normal(size=(20, 3)), y))
    head = b'{"features":[1,2,3],'
    names = [name.encode() for name in of.labels]
    for first, second in ((b"1", b"null"), (b"[]", b"1"), (b"7", b"0"), (b'"x"', b"{}"), (b"true", b"1.0")):
        values.append(head + b'"%b":%b,"%b":%b}' % (names[0], first, names[1], second))
    values.append(head + b'"%b":1}' % names[0])
    fast = decode(of, values, labeled=True)
    monkeypatch.setattr(simd, "installed", lambda: False)
    slow = decode(of, values, labeled=True)
    assert len(fast.x) == 22 - of.multilabel
    assert (fast.rejected, fast.kept.tolist()) == (slow.rejected, slow.kept.tolist())
    np.testing.assert_array_equal(fast.x, slow.x)
    np.testing.assert_array_equal(np.asarray(fast.y), np.asarray(slow.y))


def test_fields_may_be_anywhere_in_a_line() -> None:
    of = Schema(2, None, ("f", "g"), ("a", "b"), "csv", csv_columns=("a", "f", "b", "g"))
    rows = decode(of, [b"1,2,3,4", b'"1",2,3,4', b"1,2,,4"], labeled=True)
    assert (rows.x.tolist(), np.asarray(rows.y).tolist()) == ([[2, 4]] * 2, [[1, 3]] * 2)
    assert [(each.position, each.reason, each.field) for each in rows.rejected] == [(2, "label missing", "b")]
    for lines in ([b"2,4"], [b'"2",4'], [b"9,2,9,4"]):
        assert decode(of, lines, labeled=False).x.tolist() == [[2, 4]]
    assert encode(of, np.array([[2, 4]]), np.array([[1, 3]])) == [b"1.0,2.0,3.0,4.0"]
    assert encode(of, np.array([[2, 4]])) == [b"2.0,4.0"]
    assert encode_named(of, [{"f": 2, "g": 4}], [(1, 3)]) == [b"1,2,3,4"]


@pytest.mark.parametrize(
    ("options", "record", "reason"),
    [
        (TARGETS, b'"a":1', ("label missing", "b", "")),
        (TARGETS, b'"a":null,"b":1', ("label missing", "a", "None")),
        (TARGETS, b'"a":1,"b":"u"', ("label not a number", "b", "'u'")),
        (TARGETS, b'"a":1,"b":1e300', ("label not finite", "b", "1e+300")),
        (FLAGS, b'"p":true,"q":2', ("label not a boolean", "q", "2")),
        (FLAGS, b'"p":true', ("label missing", "q", "")),
        (TAGS, b'"p":true', ("label missing", "tags", "")),
        (TAGS, b'"tags":"x"', ("label not an array", "tags", "'x'")),
        (TAGS, b'"tags":["x","u"]', ("label not in classes", "tags", "'u'")),
    ],
)
def test_a_bad_record_is_rejected_with_its_field(
    options: dict[str, Any], record: bytes, reason: tuple[str, str, str]
) -> None:
    value = b'{"f1":1,"f2":2,"f3":3,' + record + b"}"
    (rejection,) = decode(schema("json", options), [value], labeled=True).rejected
    assert rejection[1:] == reason


def test_the_page_s_records_are_read_by_its_settings() -> None:
    page = (ROOT / "docs" / "records.md").read_text("utf-8").split("## Several targets, several labels")[1]
    rows = re.findall(r"^\| (`label.*?) \| `(.*?)` \| (.*?) \|$", page, re.MULTILINE)
    assert len(rows) == 3
    for settings, record, _ in rows:
        toml = "\n".join(re.findall(r"`([^`]*)`", settings))
        records = Records.model_validate(tomllib.loads(toml))
        options = records.model_dump(include={"label", "multilabel"})
        classes = ["news", "sport", "other"] if options["label"] == "tags" else None
        found = decode(
            schema_from({"inputs": 2, "classes": classes, **options}), [record.encode()], labeled=True
        )
        assert found.rejected == []
        expected = [[3.5, 21]] if records.regression else [[1, 1, 0]] if classes else [[1, 0]]
        assert np.asarray(found.y).tolist() == expected


def test_labels_that_apply_are_read_in_any_order() -> None:
    head = b'{"f1":1,"f2":2,"f3":3,"tags":'
    values = [head + tags for tags in (b"[]}", b'["z","x"]}', b'["y","y"]}')]
    rows = decode(schema("json", TAGS), values, labeled=True)
    assert np.asarray(rows.y).tolist() == [[0, 0, 0], [1, 0, 1], [0, 1, 0]]
    flags = decode(schema("json", FLAGS), [b'{"f1":1,"f2":2,"f3":3,"p":true,"q":0}'], labeled=True)
    assert np.asarray(flags.y).tolist() == [[1, 0]]


def test_labels_of_arrays_may_grow() -> None:
    of = schema("json", {**TAGS, "classes": (), "grow": True})
    head = b'{"f1":1,"f2":2,"f3":3,"tags":'
    values = [head + tags for tags in (b'["y"]}', b'["z",[]]}', b"[]}", b'["x","y","x"]}')]
    rows = decode(of, values, labeled=True)
    assert (dict(rows.unseen), rows.waiting.tolist()) == ({"tags": ("y", "x")}, [0, 3])
    assert (rows.kept.tolist(), np.shape(rows.y), len(rows.rejected)) == ([2], (1, 0), 1)
    grown = grow_schema(of, rows.unseen)
    again = decode(grown, values, labeled=True)
    assert grown.classes == ("y", "x")
    assert np.asarray(again.y).tolist() == [[1, 0], [0, 0], [1, 1]]
    many = schema("json", {**TAGS, "classes": tuple(range(MAX_CLASSES - 1)), "grow": True})
    over = decode(many, [head + b'["a","b"]}', head + b'["a",5]}'], labeled=True)
    assert (dict(over.unseen), over.waiting.tolist()) == ({"tags": ("a",)}, [1])
    assert over.rejected[0][1:] == ("too many classes", "tags", "'b'")


def test_packed_labels_that_are_neither_0_nor_1_are_rejected() -> None:
    values = encode(schema("packed", TAGS), np.zeros((2, 3)), np.array([[0, 1, 1], [0, 2, 0]]))
    rows = decode(schema("packed", TAGS), values, labeled=True)
    assert rows.kept.tolist() == [0]
    assert rows.rejected[0][:4] == (1, "label not a boolean", "tags", "[0, 2, 0]")


def test_the_labels_of_arrays_are_inferred() -> None:
    head = b'{"features":[1,2],"tags":'
    values = [head + tags for tags in (b'["y"]}', b"[]}", b'["x","y"]}')]
    found = infer_schema(values, label="tags", multilabel=True)
    assert (found.inputs, found.classes) == (2, ("x", "y"))
    several = infer_schema([b'{"features":[1,2],"a":1,"b":2}'], label=("a", "b"), regression=True)
    assert (several.inputs, several.classes) == (2, None)
    packed = Schema(1, label=("a", "b"), format="packed")
    assert dict(inspect(packed, [bytes(20)] * 3).widths) == {3: 3}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"label": ()}, "label must be a field's name, or a list of names; got an empty list"),
        ({"label": ("a", "a")}, "label must differ from each other; got 'a' twice"),
        (
            {"label": ("a", ""), "classes": None},
            "label must be a field's name, or names joined by dots; got ''",
        ),
        ({"label": ("a", "b"), "classes": (0, 1)}, "label must be one field with classes; got 'a', 'b'"),
        ({"multilabel": True}, "multilabel needs classes, or the list of the labels' fields; got neither"),
        (
            {"multilabel": True, "label": ("a", "b"), "classes": ("b", "a")},
            "classes must be the labels' fields, 'a', 'b'; got ('b', 'a')",
        ),
        (
            {"multilabel": True, "classes": ("a", "b"), "format": "csv"},
            "label must be a list of fields with multilabel in CSV; got 'label'",
        ),
        (
            {"multilabel": True, "label": ("a", "b"), "grow": True},
            "grow must be false with several label fields, or packed ones; got true",
        ),
    ],
)
def test_options_that_do_not_fit_each_other_are_refused(options: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError) as caught:
        Schema(2, **options)
    assert str(caught.value) == error
