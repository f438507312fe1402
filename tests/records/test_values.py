"""One rule for values: each kind, in each format and API, is the same number, gap or rejection.

The table in docs/records.md is generated from what the decoders do: run this file to print it.
"""

import json
import math
import re
from datetime import date, datetime, time
from decimal import Decimal
from fractions import Fraction
from functools import cache

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT

import streaming_nn as snn
from streaming_nn.records import avro, reasons
from streaming_nn.records.decode import decode, inspect
from streaming_nn.records.json import parse_object
from streaming_nn.records.reasons import BadRecord
from streaming_nn.records.schema import Schema
from streaming_nn.records.units import parse_units
from streaming_nn.records.values import Rules, to_number
from streaming_nn.spark.sources.prefetch.reader import plain_of

pytestmark = pytest.mark.commit

STRINGS = {
    "numbers_as_strings": True,
    "missing": True,
    "na_values": ["NA", "?", "-999"],
    "units": ["%", "$", "US$", "k=1000"],
}
DATES = 'string `"2024-05-01"`, `"2024-05-01T18:30Z"`; a date or timestamp of Avro'
KINDS = {
    "`1`, `1.5`, `-2e3`, 2^60": [1, 1.5, -2e3, 1 << 60],
    "`true`, `false`": [True, False],  # evalml#3981
    "null, NaN": [None, math.nan],
    "infinity, `1e39`": [math.inf, 1e39],
    'string `"1.5"`, `" 12 "`': ["1.5", " 12 "],  # JsonDataObjects#84, gravity#266: every value a string
    'string `"true"`, `"False"`': ["true", "False"],
    'string `""`, `" "`': ["", " "],
    'string `"NaN"`': ["NaN", "nan"],
    'string `"NA"`, `"?"` in `na_values`': ["NA", "?"],
    '`-999`, `-999.0` with `"-999"` in `na_values`': [-999, -999.0],
    'string `"(1.5)"`, which is -1.5': ["(1.5)", "( 5 )"],  # as spreadsheets write it
    'string `"5 %"`, `"-US$5k"` in `units`': ["5%", "-5 %", "$5", "-US$ 5k", "US$-5", "5\u00a0%", "($5)"],
    'string `"1,234.56"`, `"5-"`, `"0x1"`, `"n/a"`': ["1,234.56", "5-", "0x1", "n/a"],
    DATES: ["2024-05-01", "2024-05-01T18:30Z"],
}
TYPES = ["null", "boolean", "double", "string"]
AVRO = {
    "type": "record",
    "name": "R",
    "fields": [{"name": "v", "type": TYPES}, {"name": "w", "type": "double"}],
}


def to_json(value):
    return json.dumps({"v": value, "w": 1}).encode()


def to_avro(value):
    (datum,) = avro.write(FORMATS["Avro"][0], [{"v": value, "w": 1.0}])
    return datum


def to_csv(value):
    text = "" if value is None else str(value)
    return b'"%s",1' % text.encode()


FORMATS = {
    "JSON": (Schema(2, features=("v", "w"), label=None), to_json),
    "Avro": (
        Schema(2, features=("v", "w"), label=None, format="avro", avro_schema=json.dumps(AVRO)),
        to_avro,
    ),
    "CSV": (Schema(2, features=("v", "w"), label=None, format="csv"), to_csv),
}
APIS = ("dicts, DataFrames", "arrays")  # of River's API; of scikit-learn's, with missing="impute"
COLUMNS = {"": {}, "`missing`": {"missing": True}, "all four": STRINGS}


def outcome(schema, record):
    decoded = decode(schema, [record], labeled=False)
    if decoded.rejected:
        return reasons.key(decoded.rejected[0]).removesuffix(": v")
    number = decoded.x[0, 0]
    return "missing value" if np.isnan(number) else "number"


def outcomes(name, options, kind):
    """Return how the values of a kind end in a format: once, if all end alike."""
    schema, encode = FORMATS[name]
    schema = Schema(**{**schema.options(), **options})
    found = {outcome(schema, encode(value)) for value in KINDS[kind]}
    assert len(found) == 1, (name, options, kind, found)
    return found.pop()


@cache
def learned():
    """Return models that have learned two numbers, to try one of another kind."""
    river, arrays = snn.RiverRegressor(), snn.OnlineRegressor(missing="impute")
    river.learn_one({"v": 1.0, "w": 1.0}, 0.0)
    arrays.partial_fit([[1.0, 1.0]], [0.0])
    return river, arrays


def by_api(name, value):
    """Return how an API takes a value: as dicts and as DataFrames alike."""
    river, arrays = learned()
    try:
        if name == APIS[0]:
            river.learn_many(pd.DataFrame({"v": [value], "w": [1.0]}), pd.Series([0.0]))
            river.learn_one({"v": value, "w": 1.0}, 0.0)
        else:
            arrays.partial_fit(np.array([[value, 1.0]], object), [0.0])
    except ValueError:
        return "ValueError"
    return "missing value" if pd.isna(value) or value in ("NaN", "nan") else "number"


def by_all(name, kind):
    found = {by_api(name, value) for value in KINDS[kind]}
    assert len(found) == 1, (name, kind, found)
    return found.pop()


def table():
    """Return the table of docs/records.md."""
    heads = [f"{name}{': ' if with_ else ''}{with_}" for name in ("JSON, Avro", "CSV") for with_ in COLUMNS]
    heads += APIS
    lines = ["| value | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for kind in KINDS:
        cells = [outcomes(name, options, kind) for name in ("JSON", "CSV") for options in COLUMNS.values()]
        cells += [by_all(name, kind) for name in APIS]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def test_the_table_in_the_documentation_is_what_the_decoders_do():
    assert table() in (ROOT / "docs/records.md").read_text("utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_avro_and_json_decide_alike(kind):
    for options in COLUMNS.values():
        assert outcomes("Avro", options, kind) == outcomes("JSON", options, kind)


@pytest.mark.parametrize("logical", ["date", "time-millis", "timestamp-micros"])
def test_dates_of_avro_are_those_of_json(logical):
    """A string and a number that is a date: neither is a number without records.datetimes."""
    kind = {"type": "int" if logical in ("date", "time-millis") else "long", "logicalType": logical}
    written = {**AVRO, "fields": [{"name": "v", "type": ["null", kind]}, AVRO["fields"][1]]}
    for options in COLUMNS.values():
        schema = Schema(**{**FORMATS["Avro"][0].options(), "avro_schema": json.dumps(written), **options})
        (datum,) = avro.write(schema, [{"v": 17, "w": 1.0}])
        assert outcome(schema, datum) == outcomes("JSON", options, DATES)
    array = Schema(1, None, label=None, format="avro", avro_schema=json.dumps(
        {**AVRO, "fields": [{"name": "features", "type": {"type": "array", "items": kind}}]}
    ))  # fmt: skip
    (datum,) = avro.write(array, [{"features": [17]}])
    assert outcome(array, datum) == "date, not in records.datetimes: features"
    target = {**schema.options(), "inputs": 1, "features": ["w"], "label": "v"}
    (datum,) = avro.write(schema, [{"v": 17, "w": 1.0}])
    assert reasons.key(decode(Schema(**target), [datum], True).rejected[0]) == "label not a number: v"


@pytest.mark.parametrize("value", [v for values in KINDS.values() for v in values])
def test_apis_decide_as_json_does(value):
    rules = Rules(
        missing=True,
        numbers_as_strings=True,
        na_values=frozenset(("NA", "?")),
        na_numbers=frozenset({-999.0}),
        units=parse_units(STRINGS["units"]),
    )
    schema = Schema(2, features=("v", "w"), label=None, **STRINGS)
    decoded = decode(schema, [to_json(value)], labeled=False)
    try:
        with np.errstate(over="ignore"):
            number = np.float32(to_number(value, rules))
    except BadRecord:
        number = np.float32(np.inf)
    expected = decoded.x[0, 0] if len(decoded.kept) else np.float32(np.inf)
    np.testing.assert_array_equal(number, expected)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (True, 1),
        (np.True_, 1),
        (np.float32(1.5), 1.5),
        (np.int64(3), 3),
        (Decimal("12.25"), 12.25),
        (Decimal("NaN"), math.nan),
        (Decimal("sNaN"), math.nan),
        (Fraction(1, 4), 0.25),
        (pd.NA, math.nan),
        (pd.NaT, math.nan),
        (np.float32("nan"), math.nan),
        (np.datetime64("NaT"), math.nan),
        (pa.scalar(2.5), 2.5),
        (pa.scalar(None, pa.float64()), math.nan),
        ({"$numberInt": "3"}, 3),  # Mongo's extended JSON
        ({"$numberLong": "4"}, 4),
        ({"$numberDouble": "NaN"}, math.nan),
        ({"$numberDecimal": "1.50"}, 1.5),
    ],
)
def test_numbers_of_other_libraries(value, number):
    np.testing.assert_array_equal(to_number(value, Rules(missing=True)), number)


@pytest.mark.parametrize(
    "value",
    [b"1", [1], {}, {"$oid": "3"}, {"$numberInt": "x"}, "1", np.timedelta64(3, "h")],
)
def test_what_is_no_number(value):
    with pytest.raises(BadRecord) as raised:
        to_number(value, Rules(missing=True), "a.b")
    assert (raised.value.reason, raised.value.field) == ("not a number", "a.b")


@pytest.mark.parametrize(
    "value",
    [
        *(date(2024, 5, 1), datetime(2024, 5, 1), time(18, 30), np.datetime64("2024"), pd.Timestamp(0)),
        *("2024-05-01", {"$date": 0}),
    ],
)
def test_what_is_a_date(value):
    with pytest.raises(BadRecord) as raised:
        to_number(value, Rules(missing=True), "a.b")
    assert (raised.value.reason, raised.value.field) == ("date, not in records.datetimes", "a.b")


@pytest.mark.parametrize(
    ("decimal", "thousands", "text", "number"),
    [
        (".", ",", "1,234.56", 1234.56),
        (".", ",", "1,234,567", 1234567),
        (".", ",", "1,5", None),  # not 15
        (".", ",", "1234,567", None),
        (".", ",", "0,123", None),  # not 123
        (",", ".", "001.234", None),
        (".", ",", "0123", 123),
        (",", "", "2107,40", 2107.4),  # opendcs#829
        (",", ".", "1.234,5", 1234.5),
        (",", ".", "1.5", None),
        (",", "", "1.5", None),
        (",", "\u00a0", "1\u00a0234,5", 1234.5),
        (".", "'", "-1'000e2", -100000),
    ],
)
@pytest.mark.parametrize("name", FORMATS)
def test_decimal_and_thousands_marks(name, decimal, thousands, text, number):
    schema, encode = FORMATS[name]
    marks = {"decimal": decimal, "thousands": thousands, "numbers_as_strings": True}
    decoded = decode(Schema(**{**schema.options(), **marks}), [encode(text), encode("7")], labeled=False)
    found = decoded.x[:, 0].tolist()
    assert found == ([7] if number is None else [np.float32(number), 7])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5%", 5),  # as it is written, not 0.05
        ("+12,5 %", 12.5),
        ("-€1.234,50", -1234.5),
        ("€ -1.234,50", -1234.5),
        ("1.234,50 EUR", 1234.5),
        ("% 5", 5),
        ("€5 %", 5),
        ("(5)", -5),
        ("€ (5,5)", -5.5),
        ("(5 %)", -5),
        ("0,1k", 100),  # Google Play's sizes and installs, FIFA's wages
        ("€565k", 565000),
        ("(€ 1,5M)", -1500000),
        ("10.000+", 10000),
        ("-50 g", -0.5),
        ("1e37k", None),  # beyond float32, as 1e40 is
        ("-999k", -999000),
        ("(999)", math.nan),
        ("(-5)", None),
        ("-(5)", None),
        ("(+€5)", None),
        ("((5))", None),
        ("(5", None),
        ("()", None),
        ("5-", None),  # nearly 5, where marks have a sign
        ("5 k k", None),
        ("-999 %", math.nan),  # a word for a gap that is a number, however it is written
        ("-$-5", None),
        ("5 % %", None),
        ("%", None),
        ("5 kg", None),
        ("5 % of 7", None),
        ("1.5e3 %", None),
    ],
)
@pytest.mark.parametrize("name", FORMATS)
def test_a_unit_is_left_out_or_worth_a_factor(name, text, number):
    schema, encode = FORMATS[name]
    units = ["%", "€", "EUR", "k=1000", "M=1e6", "g=0.01", "+"]
    options = {"decimal": ",", "thousands": ".", "units": units, "na_values": ["-999"]}
    options |= {"numbers_as_strings": True, "missing": True}
    decoded = decode(Schema(**{**schema.options(), **options}), [encode(text), encode("7")], labeled=False)
    np.testing.assert_array_equal(decoded.x[:, 0], [7] if number is None else [np.float32(number), 7])
    target = {**schema.options(), **options, "inputs": 1, "features": ["w"], "label": "v"}
    target |= {"csv_columns": ["v", "w"]} if name == "CSV" else {}
    learned = decode(Schema(**target), [encode(text)], labeled=True)
    known = number is not None and not math.isnan(number)
    assert learned.y.tolist() == ([np.float32(number)] if known else [])


@pytest.mark.parametrize("name", FORMATS)
def test_a_word_for_a_gap_is_one_for_targets_and_categories_too(name):
    schema, encode = FORMATS[name]
    words = {"na_values": ["?"], "missing": True}
    target = {**schema.options(), "inputs": 1, "features": ["w"], "label": "v", **words}
    if name == "CSV":
        target["csv_columns"] = ["v", "w"]
    decoded = decode(Schema(**target), [encode("?")], labeled=True)
    assert [reasons.key(each) for each in decoded.rejected] == ["label missing: v"]
    hashed = {**schema.options(), "inputs": 5, "categories": {"v": {"hash": 4}}, **words}
    np.testing.assert_array_equal(decode(Schema(**hashed), [encode("?")], False).x, [[0, 0, 0, 0, 1]])


@pytest.mark.parametrize("text", ["-9", "-9.0", " -9 ", "-9e0"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_word_for_a_gap_that_is_a_number_is_one_however_it_is_written(name, text):
    """In all kinds: numbers, categories, labels that grow, inferred ones, targets and dates."""
    schema, encode = FORMATS[name]
    words = {"na_values": ["-9"], "missing": True}
    for value in [text] if name == "CSV" else [text, float(text), int(float(text))]:
        record = [encode(value)]
        number = decode(Schema(**{**schema.options(), **words}), record, False)
        assert np.isnan(number.x[0, 0])
        bare = decode(Schema(**{**schema.options(), "na_values": ["-9"]}), record, False)
        assert [reasons.key(each) for each in bare.rejected] == ["not a number: v"]
        one = {**schema.options(), "inputs": 1, "features": ["w"], "label": "v", **words}
        one |= {"csv_columns": ["v", "w"]} if name == "CSV" else {}
        for options in ({}, {"classes": [0, 1]}, {"grow": True}):
            decoded = decode(Schema(**(one | options)), record, labeled=True)
            assert [reasons.key(each) for each in decoded.rejected] == ["label missing: v"]
        assert not inspect(Schema(**(one | {"grow": True})), record).labels
        for options in ({"hash": 4}, {"one_hot": 4}):
            category = {**schema.options(), "inputs": 5, "categories": {"v": options}, **words}
            found = decode(Schema(**category), record, labeled=False)
            assert (found.x.tolist(), dict(found.unseen)) == ([[0, 0, 0, 0, 1]], {})
        dated = Schema(**{**schema.options(), **words, "datetimes": {"v": {"format": "s"}}})
        assert np.isnan(decode(dated, record, labeled=False).x[0, 0])


def test_booleans_are_no_words_for_a_gap_and_classes_must_not_be():
    schema = Schema(2, features=("v", "w"), label=None, na_values=("1", "true"), missing=True)
    assert decode(schema, [to_json(True)], labeled=False).x[0, 0] == 1
    lines = Schema(1, (), ("w",), "v", "csv", na_values=("true",), grow=True, csv_columns=("v", "w"))
    assert reasons.key(decode(lines, [b"true,1"], True).rejected[0]) == "label missing: v"
    for label, word in (("NA", "NA"), (1, "1.0"), ("1", "01")):
        with pytest.raises(ValueError, match=f"^classes must not be in na_values; got {label!r}$"):
            Schema(1, (label, "x"), na_values=(word,))


def test_java_leaves_words_that_are_numbers_to_python():
    assert plain_of(Schema(1, (0, 1), na_values=("NA",)), labeled=True)
    assert not plain_of(Schema(1, (0, 1), na_values=("-9",)), labeled=True)


@pytest.mark.parametrize("name", FORMATS)
def test_a_number_beyond_float32_is_reported_as_it_is(name):
    schema, encode = FORMATS[name]
    target = {**schema.options(), "inputs": 1, "features": ["w"], "label": "v"}
    target |= {"csv_columns": ["v", "w"]} if name == "CSV" else {}
    for value, shown in ((1e39, "1e+39"), (-4e38, "-4e+38"), (math.inf, "inf")):
        (feature,) = decode(schema, [encode(value)], labeled=False).rejected
        assert feature[1:] == ("not finite", "v", shown)
        (label,) = decode(Schema(**target), [encode(value)], labeled=True).rejected
        assert label[1:] == ("label not finite", "v", shown)


def test_an_integer_of_5000_digits_is_a_number_that_is_too_large():
    record = b'{"v":%s,"w":-%s}' % (b"9" * 5000, b"9" * 4301)
    schema = Schema(1, features=("v",), label=None)
    assert [each[1:] for each in decode(schema, [record], False).rejected] == [("not finite", "v", "inf")]
    other = Schema(1, (0, 1), ("a",))
    record = b'{"a":1.5,"note":%s,"label":1}' % (b"9" * 5000)
    assert decode(other, [record], labeled=True).x.tolist() == [[1.5]]
    ends = (
        b"",
        b',"s":"\\ud800","s":""}',
        b',"s":"\xed\xa0\x80"}',
        b',"s":%s1%s}' % (b"[" * 250, b"]" * 250),
    )
    text = b'{"a":-%s,"b":%s}' % (b"9" * 4300, b"9" * 4301)
    assert parse_object(text) == {"a": -int("9" * 4300), "b": math.inf}, "the sign is no digit"
    broken = [record[:-1] + end for end in ends]
    assert [each.reason for each in decode(other, broken, labeled=True).rejected] == ["not JSON"] * 4


values_ = st.one_of(
    st.sampled_from([None, True, False, math.nan, "NA", -999, -999.0]),
    st.floats(allow_nan=False),
    st.floats(width=32).map(str),
)


@given(st.lists(values_, min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_one_row_is_the_same_in_all_formats_bit_for_bit(column):
    found = []
    for schema, encode in FORMATS.values():
        schema = Schema(**{**schema.options(), **STRINGS})
        decoded = decode(schema, [encode(value) for value in column], labeled=False)
        found.append((decoded.x.tobytes(), decoded.kept.tolist(), [each[:3] for each in decoded.rejected]))
    assert found[0] == found[1] == found[2]


def test_labels_and_categories_of_mongo_s_extended_json():
    schema = Schema(5, (1, "66f0"), ("v", "w"), "y", categories={"v": {"hash": 4}})
    plain = {"v": "66f0", "w": 1, "y": 1}
    extended = [
        plain | {"v": {"$oid": "66f0"}},
        plain | {"y": {"$numberInt": "1"}},
        plain | {"y": {"$numberLong": "1"}},
    ]
    records = [json.dumps(each).encode() for each in [plain, *extended, plain | {"y": {"$oid": "66f0"}}]]
    decoded = decode(schema, records, labeled=True)
    assert (decoded.rejected, decoded.y.tolist()) == ([], [0, 0, 0, 0, 1])
    assert (decoded.x == decoded.x[0]).all()
    odd = [{"$oid": 5}, {"$oid": "66f0", "x": 1}, {"$numberInt": "x"}, {}, {"$date": 1}]
    bad = decode(schema, [json.dumps(plain | {"y": each}).encode() for each in odd], labeled=True)
    assert [each.reason for each in bad.rejected] == ["label not in classes"] * len(odd)


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"na_values": "NA"}, "na_values must be a list of strings; got 'NA'"),
        ({"decimal": ";"}, "decimal must be '.' or ','; got ';'"),
        ({"units": "%"}, "units must be a list of strings; got '%'"),
        ({"units": ["g", "g=2"]}, "units must be distinct; got 'g' twice"),
        *(
            ({"units": ["%", unit]}, f"units must be words or signs that begin no number; got {unit!r}")
            for unit in ("", " ", "% ", "5a", "-", ".x", "(", "\u2212", "\u2013", "\u200b")
        ),
        *(
            ({"units": [unit]}, f"units must be worth 1e-30 to 1e30, as 'k=1000'; got {unit!r}")
            for unit in ("g=", "g=0", "g=x", "g=-1", "g=1e31", "a=b=1")
        ),
        *(
            (
                {"units": [name]},
                f"units must state what {name} is worth, as '{name}={n}', or '{name}=1'; got '{name}'",
            )
            for name, n in (("k", 1000), ("M", 1000000))
        ),
        ({"thousands": "."}, "thousands must be one of .*, and not the decimal mark; got '.'"),
    ],
)
def test_invalid_options_raise_one_line(option, error):
    with pytest.raises(ValueError) as raised:
        Schema(1, **option)
    assert str(raised.value) == error or re.fullmatch(error, str(raised.value))


if __name__ == "__main__":
    print(table())


def test_numbers_that_are_gaps_do_not_depend_on_other_values_or_records() -> None:
    schema = Schema(2, None, label=None, missing=True, numbers_as_strings=True, na_values=("1",))
    decoded = decode(schema, [b'{"features":["true",1.0]}', b'{"features":[true,"1"]}'], labeled=False)
    np.testing.assert_array_equal(decoded.x, [[1, np.nan]] * 2)
    strict = Schema(2, None, ("a", "b"), None, na_values=("1",))
    values = [b'{"a":1.0,"b":1}', b'{"a":1%s,"b":1}' % (b"0" * 400)]
    keys = [reasons.key(each) for each in decode(strict, values, labeled=False).rejected]
    assert keys == ["not a number: a", "not finite: a"]
