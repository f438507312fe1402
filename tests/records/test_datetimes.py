"""Dates and times become numbers: alike in all formats, by pandas and the formulas as oracles."""

import json
import math
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import core_reference
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_values import keys_of

from streaming_nn.records import avro
from streaming_nn.records.chosen import field_reader
from streaming_nn.records.datetimes import check_options, columns, detect_format, encode_column, to_seconds
from streaming_nn.records.decode import decode
from streaming_nn.records.infer_schema import infer_schema
from streaming_nn.records.reasons import BadRecord
from streaming_nn.records.schema import Schema, schema_from
from streaming_nn.records.values import Rules
from streaming_nn.settings import Settings

pytestmark = pytest.mark.commit

MOMENT = datetime(2024, 5, 1, 18, 30, 15, 250_000, tzinfo=UTC)
SECONDS = 1714588215.25


def schema_of(options, format="json", **more):
    columns = len(check_options("t", options)["parts"]) + sum(
        part in ("hour", "weekday", "yearday") for part in options.get("parts", ())
    )
    fields = {"features": ("a", "t"), "label": None, "datetimes": {"t": options}, **more}
    return Schema(1 + columns, format=format, **fields)


def json_of(*values):
    return [json.dumps({"a": 1, "t": value}).encode() for value in values]


@pytest.mark.parametrize(
    ("value", "format", "seconds"),
    [
        ("2024-05-01T18:30:15.25Z", "iso", SECONDS),
        ("2024-05-01T20:30:15.250+02:00", "iso", SECONDS),
        ("2024-05-01 18:30:15.250000", "iso", SECONDS),  # without an offset: UTC
        (" 20240501T183015.25Z ", "iso", SECONDS),
        ("2024-05-01", "iso", 1714521600),
        ("18:30:15.25", "iso", 66615.25),
        ("2024-05-01t18:30:15.25z", "iso", SECONDS),  # RFC 3339
        ("2024-05-01T24:00:00+02:00", "iso", 1714600800),  # ISO 8601: the next day's midnight
        ("2024-05-01 24:00", "iso", 1714608000),
        ("24:00:00", "iso", 86400),
        ("1969-12-31T23:59:59Z", "iso", -1),
        (MOMENT, "iso", SECONDS),
        (pd.Timestamp(MOMENT), "iso", SECONDS),
        (date(2024, 5, 1), "iso", 1714521600),
        (time(18, 30, 15, 250_000), "ms", 66615.25),
        ({"$date": "2024-05-01T18:30:15.25Z"}, "iso", SECONDS),  # Mongo's extended JSON, relaxed
        ({"$date": {"$numberLong": "1714588215250"}}, "iso", SECONDS),  # and canonical
        ({"$date": 1714588215250}, "%d/%m/%Y", SECONDS),
        (1714588215250, "ms", SECONDS),
        (1714588215250000, "us", SECONDS),  # Debezium's MicroTimestamp
        (1714588215250000000, "ns", SECONDS),
        (SECONDS, "s", SECONDS),
        (19844, "days", 1714521600),  # Debezium's Date
        ("16/12/2006 17:24:00", "%d/%m/%Y %H:%M:%S", 1166289840),  # UCI's power
        ("18.00.00", "%H.%M.%S", 64800),  # UCI's AirQuality: a time of the day
        ("29/02", "%d/%m", None),  # 1970 has none
        ("May 01 2024 +0200", "%b %d %Y %z", 1714514400),
        ("24-122", "%y-%j", 1714521600),
    ],
)
def test_a_moment_in_its_notation(value, format, seconds):
    if seconds is None:
        with pytest.raises(BadRecord, match="not a date"):
            to_seconds(value, format, Rules())
    else:
        assert to_seconds(value, format, Rules()) == seconds


@pytest.mark.parametrize(
    ("value", "format"),
    [
        ("yesterday", "iso"),
        ("", "iso"),
        ("2024-13-01", "iso"),
        ("2024-05-01T25:00", "iso"),
        ("2024-05-01T24:01", "iso"),
        ("2024-05-01T24:00:00.5", "iso"),
        ("1714588215", "iso"),  # 17:14:58.8215 for Python
        ("2024", "iso"),  # 20:24
        ("2024-05-01 18:30:15 CET", "iso"),
        (1714588215, "iso"),  # seconds or milliseconds? the format must state it
        ("1714588215", "s"),  # a string, without numbers_as_strings
        (True, "s"),
        (1714588215250, "s"),  # the year 56,303: milliseconds
        (1e300, "s"),
        (10**400, "ns"),
        (math.inf, "s"),
        (math.nan, "s"),
        (None, "iso"),
        ([1], "ms"),
        ({"$date": "x"}, "iso"),
        ({"$date": None}, "iso"),
        ({"$date": [1]}, "iso"),
        ({"$oid": "0"}, "iso"),
        (b"2024-05-01", "iso"),
    ],
)
def test_what_is_not_a_date(value, format):
    with pytest.raises(BadRecord) as raised:
        to_seconds(value, format, Rules(), "a.t")
    assert (raised.value.reason, raised.value.field) == ("not a date", "a.t")


@pytest.mark.parametrize("value", [None, math.nan, pd.NaT, "NA"])
@pytest.mark.parametrize("format", ["iso", "ms", "%Y"])
def test_a_gap_is_nan_in_all_columns(value, format):
    rules, block = Rules(missing=True, na_values=frozenset(["NA"])), np.zeros((2, 4))
    options = check_options("t", {"format": format, "parts": ["days", "yearday", "seconds"]})
    bad = encode_column("t", options, rules, [value, MOMENT], block)
    assert (np.isnan(block).tolist(), bad) == ([[True] * 4, [False] * 4], {})


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)))
def test_parts_are_those_of_the_formulas(moment):
    """pandas has the parts of the calendar; a phase is the angle of its fraction."""
    options = check_options("t", {"parts": ["seconds", "days", "hour", "weekday", "yearday"]})
    block = np.zeros((1, 8))
    assert encode_column("t", options, Rules(), [moment], block) == {}
    since = moment - datetime(1970, 1, 1)
    day = (moment - datetime.combine(moment, time())) / timedelta(days=1)
    stamp = pd.Timestamp(moment.replace(year=2024 if pd.Timestamp(moment).is_leap_year else 2023))
    fractions = [
        day,
        (moment.weekday() + day) / 7,
        (stamp.day_of_year - 1 + day) / (366 if stamp.is_leap_year else 365),
    ]
    expected = [since / timedelta(seconds=1), since / timedelta(days=1)]
    for fraction in fractions:
        expected += [math.sin(2 * math.pi * fraction), math.cos(2 * math.pi * fraction)]
    np.testing.assert_allclose(block[0], expected, rtol=1e-12, atol=2e-6)  # 1e11 s in float64: 15 us


@pytest.mark.parametrize("quarter", range(4))
def test_a_phase_is_exact_at_the_quarters_of_a_day(quarter):
    block = np.zeros((1, 2))
    encode_column(
        "t", check_options("t", {"parts": ["hour"]}), Rules(), [datetime(2024, 5, 1, 6 * quarter)], block
    )
    assert block.tolist() == [[[0, 1], [1, 0], [0, -1], [-1, 0]][quarter]]


@given(st.integers(0, 86_399_999))
def test_a_phase_has_the_bits_of_the_reference(millis):
    block, turn = np.zeros((1, 2)), 2 * (millis / 1000 / 86_400.0)
    options = check_options("t", {"parts": ["hour"], "format": "ms"})
    encode_column("t", options, Rules(), [millis], block)
    expected = core_reference.cosine_of_pi(np.array([abs(turn - 0.5), turn]))
    assert block.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("fields", "format"),
    [
        (["2024-05-01", "2024-12-31"], "iso"),
        (["2024-05-01T18:30Z", "2024-05-01 18:30:00.5"], "iso"),
        (["17:00:00", "23:59"], "iso"),
        (["16/12/2006", "1/1/2007"], "%d/%m/%Y"),  # UCI power
        (["12/16/2006", "1/1/2007"], "%m/%d/%Y"),
        (["10/03/2004", "04/04/2005"], None),  # days first, or months
        (["31.03.24", "04.04.95"], "%d.%m.%y"),
        (["13.03.24"], None),  # the 13th of March, or the 24th in 2013
        (["18.00.00", "01.00.00"], "%H.%M.%S"),  # UCI air quality
        (["31.12.2024 23:59", "01.01.2025 00:00"], "%d.%m.%Y %H:%M"),
        (["12/31/2024 11:59 PM", "1/1/2025 0:00 AM"], None),  # there is no hour 0 there
        (["12/31/2024 11:59 PM", "1/1/2025 12:00 AM"], "%m/%d/%Y %I:%M %p"),
        (["2024/05/01T10:00:00+02:00"], "%Y/%m/%dT%H:%M:%S%z"),
        (["2024-05-01", "01.05.2024"], None),
        (["31.02.2024"], None),
    ],
)
def test_the_format_of_strings_is_found_if_it_is_the_only_one(fields, format):
    assert detect_format(fields) == format


def test_an_origin_that_is_far_keeps_microseconds():
    times = json_of("2024-05-01T18:30:15.25Z", "2024-05-01T18:30:15.250001Z")
    x = decode(schema_of({}), times, labeled=False).x
    assert (x[1, 1] - x[0, 1]) * 86400 == pytest.approx(1e-6, abs=3e-7)


FORMS = ["2024-05-01T18:30:15.250Z", "1960-02-29", None, "x", "2024-05-01"]
AVRO = {"type": "long", "logicalType": "timestamp-millis"}


def test_the_same_in_json_avro_csv_and_milliseconds():
    parts = {"parts": ["days", "hour", "weekday", "yearday"], "origin": "2020-01-01"}
    expected = decode(schema_of(parts, missing=True), json_of(*FORMS), labeled=False)
    assert keys_of(expected.rejected) == [(3, "not a date: t")]
    lines = [b"1,%s" % ("" if value is None else value).encode() for value in FORMS]
    csv = decode(schema_of(parts, "csv", missing=True), lines, labeled=False)
    kinds = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}
    kinds["fields"].append({"name": "t", "type": ["null", "string", AVRO]})
    in_avro = schema_of(parts, "avro", missing=True, avro_schema=json.dumps(kinds))
    plain = replace(in_avro, datetimes={}, features=("a",), inputs=1)  # its writer knows no dates
    millis = [None if f in (None, "x") else round(pd.Timestamp(f).timestamp() * 1000) for f in FORMS]
    datums = avro.write(
        plain, [{"a": 1, "t": "x" if f == "x" else m} for f, m in zip(FORMS, millis, strict=True)]
    )
    from_avro = decode(in_avro, datums, labeled=False)
    numbers = decode(
        schema_of({**parts, "format": "ms"}, missing=True), json_of(*millis[:3], "x", millis[4]), False
    )
    for found in (csv, from_avro, numbers):
        assert found.x.tobytes() == expected.x.tobytes()
        assert keys_of(found.rejected) == keys_of(expected.rejected)


def test_logical_types_are_dates_only_where_they_are_wanted():
    inner = {
        "type": "record",
        "name": "S",
        "fields": [{"name": "t", "type": {**AVRO, "logicalType": "timestamp-micros"}}],
    }
    fields = [{"name": "t", "type": AVRO}, {"name": "s", "type": ["null", inner]}]
    fields += [{"name": "d", "type": {"type": "int", "logicalType": "date"}}]
    fields += [{"name": "c", "type": {"type": "int", "logicalType": "time-millis"}}]
    text = json.dumps({"type": "record", "name": "R", "fields": fields})
    names = ("t", "s.t", "d", "c")
    raw = Schema(4, None, names, None, "avro", avro_schema=text)
    datums = avro.write(raw, [{"t": 86_400_000, "s": {"t": 2_000_000}, "d": 3, "c": 4000}])
    assert keys_of(decode(raw, datums, labeled=False).rejected) == [(0, "date, not in records.datetimes: t")]
    seconds = {name: {"parts": ["seconds"]} for name in names}
    dated = replace(raw, datetimes=seconds)
    assert decode(dated, datums, labeled=False).x.tolist() == [[86_400, 2, 3 * 86_400, 4]]
    some = replace(raw, datetimes={name: seconds[name] for name in ("t", "d", "c")})
    assert keys_of(decode(some, datums, labeled=False).rejected) == [
        (0, "date, not in records.datetimes: s.t")
    ]
    category = replace(some, categories={"s.t": {"hash": 1}})
    assert abs(decode(category, datums, labeled=False).x[0, 1]) == 1, "an integer, as are labels"


def test_avro_s_dates_stay_numbers_for_filters_and_chosen_fields():
    nanos = {"type": "long", "logicalType": "timestamp-nanos"}  # fastavro does not know it
    fields = [{"name": "t", "type": ["null", AVRO]}, {"name": "n", "type": nanos}]
    text = json.dumps({"type": "record", "name": "R", "fields": fields})
    plain = Schema(2, None, ("t", "n"), None, "avro", avro_schema=text)
    datums = avro.write(
        plain, [{"t": 1000 * i, "n": 10**18 + i} for i in range(3)] + [{"t": 1 << 62, "n": 0}]
    )
    parts = {name: {"parts": ["seconds"]} for name in ("t", "n")}
    schema = replace(plain, datetimes=parts, where="t >= 1000")
    decoded = decode(schema, datums, labeled=False)
    assert decoded.filtered.tolist() == [0]
    assert decoded.x.tolist() == [[1, 1e9], [2, 1e9]]
    assert keys_of(decoded.rejected) == [(3, "not a date: t")], "the year 146,138,512"
    assert json.loads(field_reader(schema, ["t", "n"])(datums[1])) == {"t": 1000, "n": 10**18 + 1}


def test_an_origin_may_be_a_date_of_toml():
    given = {"features": ["t"], "datetimes": {"t": {"origin": date(2024, 1, 1)}}}
    assert Settings(records=given).records.datetimes["t"]["origin"] == "2024-01-01"


def test_without_the_setting_the_reason_names_it():
    schema = Schema(2, None, ("a", "t"), None)
    values = ["2024-05-01", "2024-05-01T18:30:15.25Z", {"$date": 5}, "May 1st"]
    found = keys_of(decode(schema, json_of(*values), labeled=False).rejected)
    assert found == [
        *((i, "date, not in records.datetimes: t") for i in range(3)),
        (3, "not a number: t"),
    ]
    csv = replace(schema, format="csv")
    assert keys_of(decode(csv, [b"1,2024-05-01 10:00"], labeled=False).rejected) == [found[0]]
    target = Schema(1, None, ("a",), "t")
    assert keys_of(decode(target, json_of("2024-05-01"), labeled=True).rejected) == [
        (0, "label not a number: t")
    ]


def test_dates_beside_categories_arrays_and_a_weight():
    schema = Schema(
        8,
        (0, 1),
        ("v[0:2]", "t", "city", "a"),
        categories={"city": {"hash": 2}},
        datetimes={"t": {"parts": ["days", "hour"]}},
        weight="w",
    )
    names = ("v[0]", "v[1]", "t@days", "t@hour_sin", "t@hour_cos", "city#0", "city#1", "a")
    assert schema.columns == names
    row = {"v": [7, 8], "t": "1970-01-02T06:00Z", "city": "Ulm", "a": 9, "w": 2, "label": 1}
    decoded = decode(schema, [json.dumps(row).encode()], labeled=True)
    np.testing.assert_allclose(decoded.x[0, :5], [7, 8, 1.25, 1, 0], atol=1e-7)
    assert (decoded.x[0, 7], np.abs(decoded.x[0, 5:7]).sum(), decoded.w.tolist()) == (9, 1, [2])
    assert schema_from(json.loads(json.dumps(schema.options()))) == schema


def test_the_width_is_inferred_and_the_setting_is_read():
    options = {"t": {"parts": ["days", "yearday"]}}
    found = infer_schema(json_of("2024-05-01"), features=["a", "t"], label=None, datetimes=options)
    assert found.inputs == 4
    with pytest.raises(ValueError, match="cannot infer the schema"):
        infer_schema(json_of("x"), features=["a", "t"], label=None, datetimes=options)
    given = {"features": ["a", "t"], "datetimes": options | {"a": {"format": "ms"}}}
    set_ = Settings(records=given).records.datetimes
    schema = Schema(4, None, ("a", "t"), None, datetimes=given["datetimes"])
    assert set_ == schema.options()["datetimes"], "a run that resumes compares them"
    assert set_["a"] == {"format": "ms", "parts": ["days"], "origin": "1970-01-01"}
    with pytest.raises(ValueError, match="parts of 'a' must be a list of"):
        Settings(records=given | {"datetimes": {"a": {"parts": ["x"]}}})
    with pytest.raises(ValueError, match="must name features"):
        Settings(records=given | {"datetimes": {"b": {}}})


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"datetimes": {"b": {}}}, "datetimes must be among the named features, .*; got 'b'"),
        ({"datetimes": {"a": {"unit": "s"}}}, "datetimes of 'a' must have only format, parts, origin; got"),
        ({"datetimes": {"a": "iso"}}, "datetimes of 'a' must have only format, parts, origin; got 'iso'"),
        ({"datetimes": {"a": {"parts": []}}}, r"parts of 'a' must be a list of 'days', .*; got \[\]"),
        ({"datetimes": {"a": {"parts": ["month"]}}}, r"parts of 'a' must be .*'yearday'; got \['month'\]"),
        ({"datetimes": {"a": {"parts": ["days", "days"]}}}, "parts of 'a' must differ from each other"),
        ({"datetimes": {"a": {"parts": "days"}}}, "parts of 'a' must be a list of .*; got 'days'"),
        (
            {"datetimes": {"a": {"format": "%H:%M %Z"}}},
            "format of 'a' must have %z, or a word such as UTC, for %Z",
        ),
        ({"datetimes": {"a": {"format": "millis"}}}, "format of 'a' must be one of 'iso', .*; got 'millis'"),
        ({"datetimes": {"a": {"origin": "now"}}}, "origin of 'a' must be a date such as .*; got 'now'"),
        ({"datetimes": {"a": {"origin": 3}}}, "origin of 'a' must be a date such as .*; got 3"),
        ({"datetimes": ["a"]}, r"datetimes must be fields and their options; got \['a'\]"),
        ({"datetimes": {"a": {}}, "categories": {"a": {"hash": 1}}}, "not in categories; got 'a'"),
        ({"datetimes": {"a": {}}, "format": "packed"}, "datetimes need records with named fields"),
        ({"datetimes": {"a": {}}, "sparse": ["a"]}, "sparse must be among the features that are numbers"),
    ],
)
def test_invalid_options_raise_one_line(fields, error):
    with pytest.raises(ValueError, match=error) as raised:
        Schema(1, None, ("a",), **fields)
    assert "\n" not in str(raised.value)


def test_names_of_columns():
    assert columns("t", {"parts": ("seconds", "weekday")}) == ["t@seconds", "t@weekday_sin", "t@weekday_cos"]
