"""CSV lines: quoting, order, types, missing values, and Python's own csv as the oracle."""

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_values import keys_of

from streaming_nn.records.decode import decode, encode, encode_named
from streaming_nn.records.infer_schema import infer_schema
from streaming_nn.records.reasons import BadRecord
from streaming_nn.records.schema import Schema, grow_schema
from streaming_nn.records.values import LARGEST, to_number

pytestmark = pytest.mark.commit

PLAIN = Schema(2, (0, 1, 2), format="csv")
ORDERED = Schema(
    2,
    ("no", "yes"),
    features=("a", "b.c"),
    label="y",
    format="csv",
    csv_columns=("id", "y", "b.c", "when", "a"),
)
TARGET = Schema(1, None, format="csv")
SHOP = Schema(
    4,
    (0, 1),
    features=("price", "city", "size"),
    format="csv",
    missing=True,
    categories={"city": {"one_hot": 2}},
    vocabulary={"city": ("Ulm", 7)},
)


def test_golden_csv():
    x = np.array([[0.5, -1.25]], np.float32)
    assert encode(PLAIN, x, np.array([2])) == [b"0.5,-1.25,2"]
    assert encode(PLAIN, x) == [b"0.5,-1.25"]
    assert encode(PLAIN, x, np.array([-1])) == [b"0.5,-1.25,"]
    assert encode(ORDERED, x, np.array([1]), [7]) == [b"7,yes,-1.25,,0.5"]
    assert encode(ORDERED, x, None, [7]) == [b"7,-1.25,,0.5"]
    assert encode(TARGET, x[:, :1], np.array([0.1], np.float32)) == [b"0.5,0.1"]
    assert encode(TARGET, np.array([[np.nan]], np.float32)) == [b""]


def test_golden_named_fields_are_quoted_if_needed():
    rows = [{"price": 1.5, "city": 'Ulm, "am"\nFluss'}, {"size": 3, "city": True}]
    written = [b'1.5,"Ulm, ""am""\nFluss",,1', b",true,3,0"]
    assert encode_named(SHOP, rows, [1, 0]) == written
    assert decode(SHOP, written, labeled=True).rejected == []


@pytest.mark.parametrize("classes", [("a", "b", "c"), None])
def test_encoded_rows_are_decoded_to_the_same_bits(classes):
    schema = Schema(5, classes, format="csv")
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 1 << 32, (3000, 5), dtype=np.uint32).view(np.float32)
    x = np.where(np.isfinite(bits), bits, np.float32(0))
    y = rng.integers(0, 3, 3000).astype(np.int32) if classes else x[:, 0].copy()
    lines = encode(schema, x, y)
    quoted = [b'"' + line.replace(b",", b'",', 1) for line in lines]
    for some in (lines, [line + b"\r\n" for line in lines], quoted):
        decoded = decode(schema, some, labeled=True)
        assert decoded.rejected == []
        np.testing.assert_array_equal(decoded.x.astype(np.float32), x)
        np.testing.assert_array_equal(decoded.y if classes else decoded.y.astype(np.float32), y)
        assert decoded.x.dtype == np.float64
        assert decoded.y.dtype == (np.int32 if classes else np.float64)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"", "wrong number of fields"),
        (b"1,2", "wrong number of fields"),
        (b"1,2,1,", "wrong number of fields"),
        (b'"1,2,1"', "wrong number of fields"),
        (b"1,2,1\n1,2,1", "not CSV"),
        (b"1,2\r,1", "not CSV"),
        (b'1,"2,1', "not CSV"),
        (b'1,"2"2,1', "not CSV"),
        (b"1,2,\xff", "not CSV"),
        (b"1,x,1", "not a number: features"),
        (b"1,,1", "not a number: features"),
        (b"1,1_0,1", "not a number: features"),
        (b"1,0x1,1", "not a number: features"),
        (b"1,nan(1),1", "not a number: features"),
        ("1,١,1".encode(), "not a number: features"),
        (b"1,NaN,1", "not a number: features"),
        (b"1,-Infinity,1", "not finite: features"),
        (b"1,1e39,1", "not finite: features"),
        (b"1,1e999,1", "not finite: features"),
        (b"1,2,", "label missing: label"),
        (b"1,2,3", "label not in classes: 3"),
        (b"1,2,true", "label not in classes: True"),
        (b"1,2,1.5", "label not in classes: 1.5"),
        (b"1,2," + b"1" * (1 << 20), "too large"),
    ],
)
def test_every_reason_at_any_position(record, reason):
    good = b"1,2,1"
    assert keys_of(decode(PLAIN, [record], labeled=True).rejected) == [(0, reason)]
    decoded = decode(PLAIN, [good, good, record, good], labeled=True)
    assert keys_of(decoded.rejected) == [(2, reason)]
    np.testing.assert_array_equal(decoded.kept, [0, 1, 3])
    np.testing.assert_array_equal(decoded.x, [[1, 2]] * 3)
    np.testing.assert_array_equal(decoded.y, [1, 1, 1])


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"1,", "label missing: label"),
        (b"1,x", "label not a number: label"),
        (b"1,nan", "label missing: label"),
        (b"1,1e39", "label not finite: label"),
    ],
)
def test_every_reason_for_a_target(record, reason):
    assert keys_of(decode(TARGET, [b"1,2.5", record, b"1, 3"], labeled=True).rejected) == [(1, reason)]


def test_number_formats():
    lines = [b"%s,0,1" % text for text in (b"1.5", b"-1e3", b"+.5", b"7.", b" 3\t", b'"4"', b"007")]
    for values in (lines, *[[line] for line in lines]):
        decoded = decode(PLAIN, values, labeled=True)
        assert decoded.rejected == []
    np.testing.assert_array_equal(decode(PLAIN, lines, True).x[:, 0], [1.5, -1000, 0.5, 7, 3, 4, 7])


def test_fields_in_another_order_and_unused_fields():
    lines = [b"x,yes,2,noon,1", b'"1,5",no,4,"a ""b""",3', b"x,no,6,,5"]
    for values in (lines, lines[:1], lines[1:2]):
        decoded = decode(ORDERED, values, labeled=True)
        assert decoded.rejected == []
    np.testing.assert_array_equal(decode(ORDERED, lines, True).x, [[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(decode(ORDERED, lines, True).y, [1, 0, 0])


def test_lines_to_be_scored_may_have_a_label_or_not():
    with_label, without = b"x,yes,2,noon,1", b"x,2,noon,1"
    for values in ([with_label], [without], [with_label, without], [without, without], [b'"x",2,,1']):
        decoded = decode(ORDERED, values, labeled=False)
        assert decoded.y is None
        np.testing.assert_array_equal(decoded.x, [[1, 2]] * len(values))
    assert keys_of(decode(ORDERED, [without], labeled=True).rejected) == [(0, "wrong number of fields")]


def test_fields_in_another_order_only():
    schema = Schema(2, (0, 1), features=("a", "b"), format="csv", csv_columns=("b", "label", "a"))
    for labeled, line in ((True, b"2,1,1"), (False, b"2,1,1"), (False, b"2,1"), (False, b'"2",1')):
        np.testing.assert_array_equal(decode(schema, [line], labeled).x, [[1, 2]])


def test_labels_have_the_types_of_the_classes():
    schema = Schema(1, (1, True, "007", "a"), format="csv")
    lines = [b"0,1", b"0,1.0", b"0,true", b"0,True", b"0,007", b"0,a", b"0,7", b"0,A"]
    decoded = decode(schema, lines, labeled=True)
    np.testing.assert_array_equal(decoded.y, [0, 0, 1, 1, 2, 3])
    assert [i for i, *_ in decoded.rejected] == [6, 7]


def test_growing_classes_have_types():
    schema = Schema(1, (), format="csv", grow=True)
    texts = (b"3", b"x", b"007", b"true", b"3.0", b"2.5", b"12345678901234567890")
    lines = [b"0,%s" % text for text in texts]
    decoded = decode(schema, lines, labeled=True)
    assert decoded.unseen == {"label": (3, "x", "007", True, "12345678901234567890")}
    assert keys_of(decoded.rejected) == [(5, "label not in classes: 2.5")]
    again = decode(grow_schema(schema, decoded.unseen), lines, labeled=True)
    np.testing.assert_array_equal(again.y, [0, 1, 2, 3, 0, 4])


def test_categories_and_missing_values():
    lines = [b"1.5,Ulm,3,1", b",7,,0", b'nan,"Bad, T\xc3\xb6lz",2,1', b"2,,1,0"]
    decoded = decode(SHOP, lines, labeled=True)
    assert decoded.rejected == []
    nan = math.nan
    np.testing.assert_array_equal(decoded.x, [[1.5, 1, 0, 3], [nan, 0, 1, nan], [nan, 0, 0, 2], [2, 0, 0, 1]])
    strict = replace(SHOP, missing=False)
    assert keys_of(decode(strict, [b"1,,2,0", b",Ulm,2,0"], labeled=True).rejected) == [
        (0, "not a category: city"),
        (1, "not a number: price"),
    ]


def test_a_category_is_the_same_as_in_json():
    how = {"features": ("c",), "categories": {"c": {"hash": 1000}}}
    lines = decode(Schema(1000, None, format="csv", **how), [b"12,0", b"x,0", b"true,0"], labeled=True)
    objects = [b'{"c":%s,"label":0}' % text for text in (b"12", b'"x"', b"true")]
    np.testing.assert_array_equal(lines.x, decode(Schema(1000, None, **how), objects, labeled=True).x)


def test_a_vocabulary_grows():
    schema = Schema(2, (0, 1), features=("c",), format="csv", categories={"c": {"one_hot": 2}})
    decoded = decode(schema, [b"x,0", b"5,1", b"x,1"], labeled=True)
    assert decoded.unseen == {"c": ("x", 5)}


def test_infer_schema_of_lines():
    assert infer_schema([b"1,2,b", b"3,4,a", b"x,2,a", b"1,2,a,a", b"a"], format="csv")[:2] == (2, ("a", "b"))
    assert infer_schema([b"1,2,0.5"], format="csv", regression=True)[:2] == (2, None)
    named = infer_schema(
        [b"n,1", b"y,2", b"y"], format="csv", features=["a"], label="y", csv_columns=["y", "a"]
    )
    assert named[:2] == (1, ("n", "y"))
    with pytest.raises(ValueError, match=r"has numbers such as 0\.5"):
        infer_schema([b"1,2,0.5"], format="csv")


@given(st.lists(st.binary(max_size=12) | st.text('1,"\n x', max_size=12).map(str.encode), max_size=8))
def test_any_bytes_are_kept_or_rejected_alike_alone_and_in_a_batch(values):
    batch = decode(PLAIN, values, labeled=True)
    assert sorted([*batch.kept, *(i for i, *_ in batch.rejected)]) == list(range(len(values)))
    rejected = [
        each._replace(position=i) for i, v in enumerate(values) for each in decode(PLAIN, [v], True).rejected
    ]
    assert batch.rejected == rejected


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=5), min_size=3, max_size=3))
def test_lines_of_pythons_csv_writer_are_decoded(texts):
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow([*texts, "1.5", "0"])
    names = ("a", "b", "c", "number", "label")
    schema = Schema(1, (0, 1), features=("number",), format="csv", csv_columns=names)
    decoded = decode(schema, [line.getvalue().encode()], labeled=True)
    np.testing.assert_array_equal(decoded.x, [[1.5]])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"format": "json", "csv_columns": ["a"]}, "csv_columns need format 'csv'; got 'json'"),
        (
            {"csv_columns": ["features", "label"]},
            "csv_columns need features in a list of names; got 'features'",
        ),
        (
            {"features": ["a"], "csv_columns": ["a"]},
            "csv_columns must include the features and the label; 'label' is missing",
        ),
        (
            {"features": ["a"], "csv_columns": ["a", "label", "a"]},
            "csv_columns must differ from each other; got 'a' twice",
        ),
        ({"csv_columns": "a"}, "csv_columns must be a list of the names of a line's fields; got 'a'"),
        ({"classes": [1, "1"]}, "classes in CSV must differ from each other; got '1' twice"),
        (
            {"features": "t", "categories": {"t": {"hash": 1}}},
            "CSV cannot hold the tokens of 't'; use JSON or Avro",
        ),
    ],
)
def test_an_invalid_option_raises_one_line(options, error):
    with pytest.raises(ValueError) as raised:
        Schema(**{"inputs": 1, "format": "csv", **options})
    assert str(raised.value) == error


@pytest.mark.parametrize(
    ("marks", "line", "fields"),
    [
        ({"delimiter": ";"}, b"7,4;x;yes", (7.4, "x")),  # UCI's wine; the decimal mark is a comma here
        ({"delimiter": "\t"}, b"1.5\tx, y\tyes", (1.5, "x, y")),
        ({"delimiter": "|"}, b'1.5|"x|y"|yes', (1.5, "x|y")),
        ({"delimiter": " "}, b'1.5 "x y" yes', (1.5, "x y")),
        ({"delimiter": "\x01"}, b"1.5\x01x\x01yes", (1.5, "x")),  # Hive's
        ({"delimiter": ";", "quote": "'"}, b"1,5;'it''s; so';yes", (1.5, "it's; so")),
        ({"quote": ""}, b'1.5,6" pipe,yes', (1.5, '6" pipe')),
        ({"delimiter": ";", "quote": ""}, b'1.5;"x;yes', (1.5, '"x')),
    ],
)
def test_other_delimiters_and_quotes(marks, line, fields):
    number, word = fields
    schema = Schema(
        2,
        ("no", "yes"),
        features=("n", "w"),
        format="csv",
        categories={"w": {"one_hot": 1}},
        vocabulary={"w": (word,)},
        decimal="," if b"," in line.split(b"x")[0] and marks.get("delimiter") == ";" else ".",
        **marks,
    )
    for lines in ([line] * 3, [line, line + b"\r\n", line]):  # all at once, and one by one
        decoded = decode(schema, lines, labeled=True)
        assert decoded.rejected == []
        assert (decoded.x.tolist(), decoded.y.tolist()) == ([[np.float32(number), 1]] * 3, [1] * 3)
    again = encode_named(schema, [{"n": str(number).replace(".", schema.decimal), "w": word}], ["yes"])
    np.testing.assert_array_equal(decode(schema, again, labeled=True).x, decoded.x[:1])
    wrong = decode(replace(schema, delimiter="~"), [line], labeled=True)
    assert keys_of(wrong.rejected) == [(0, "wrong number of fields")]


@given(st.lists(st.lists(st.text(alphabet="ab;,'\"\t |\n", max_size=4), min_size=3, max_size=3), max_size=4))
def test_lines_of_python_s_writer_with_any_marks(rows):
    for delimiter, quote in ((";", '"'), ("\t", "'"), ("|", '"'), (",", "'")):
        hashed = {name: {"hash": 2} for name in "abc"}
        schema = Schema(6, None, ("a", "b", "c"), None, "csv", categories=hashed, missing=True)
        schema = replace(schema, delimiter=delimiter, quote=quote)
        lines = []
        for row in rows:
            file = io.StringIO()
            csv.writer(file, delimiter=delimiter, quotechar=quote, lineterminator="\n").writerow(row)
            lines.append(file.getvalue().removesuffix("\n").encode())
        plain = replace(schema, format="json", delimiter=",", quote='"')
        json_ = encode_named(plain, [dict(zip("abc", [f or None for f in row], strict=True)) for row in rows])
        np.testing.assert_array_equal(decode(schema, lines, False).x, decode(plain, json_, False).x)


texts = st.one_of(
    st.floats(allow_nan=False).map(lambda x: str(x).replace(".", ",")),
    st.text(alphabet="0123456789,.-+e ", max_size=6),
    st.sampled_from(["", "NA", "1.000,5", "1,5,2", "nan", "true", " 7,25 ", "n.a."]),
)


@given(st.lists(texts, min_size=1, max_size=5))
def test_a_decimal_comma_is_read_at_once_as_it_is_one_by_one(fields):
    schema = Schema(
        1, None, ("a",), None, "csv", delimiter=";", decimal=",", missing=True, na_values=["NA", "n.a."]
    )
    lines = [field.encode() for field in fields]
    at_once = decode(schema, lines, labeled=False)
    alone = [decode(schema, [line], labeled=False) for line in lines]
    assert at_once.x.tobytes() == b"".join(each.x.tobytes() for each in alone)
    assert [each[1:] for each in at_once.rejected] == [each[1:] for one in alone for each in one.rejected]
    for field, one in zip(fields, alone, strict=True):
        try:
            expected = to_number(field, schema.rules)
        except BadRecord:
            expected = math.inf
        np.testing.assert_array_equal(one.x[:, 0], [] if abs(expected) > LARGEST else [expected])


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"delimiter": ";;"}, "delimiter must be one ASCII character, not a letter, digit or line break"),
        ({"delimiter": ""}, "delimiter must be one ASCII character, .*; got ''"),
        ({"delimiter": "\n"}, r"delimiter must be one ASCII character, .*; got '\\n'"),
        ({"delimiter": "\u00a6"}, "delimiter must be one ASCII character, .*; got '\u00a6'"),
        ({"delimiter": 3}, "delimiter must be one ASCII character, .*; got 3"),
        ({"quote": "qq"}, "quote must be one ASCII character, or empty, .*; got 'qq'"),
        ({"quote": "1"}, "quote must be one ASCII character, or empty, .*; got '1'"),
        ({"delimiter": '"'}, "delimiter must differ from quote; got '\"' for both"),
        ({"delimiter": ";", "format": "json"}, "delimiter needs format 'csv'; got 'json'"),
        ({"quote": "", "format": "packed"}, "quote needs format 'csv'; got 'packed'"),
    ],
)
def test_marks_that_no_line_can_have(option, error):
    with pytest.raises(ValueError, match=error):
        Schema(**{"inputs": 1, "format": "csv", **option})


def test_a_field_that_needs_quotes_is_not_written_without():
    schema = Schema(2, None, ("a", "b"), None, "csv", categories={"b": {"hash": 1}}, quote="")
    with pytest.raises(ValueError, match="cannot write a field with ',' or a line break: quote is empty"):
        encode_named(schema, [{"a": 1, "b": "x,y"}])
