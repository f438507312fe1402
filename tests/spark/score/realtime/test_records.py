"""Records.java beside `decode`: the same rows, to the last bit, and the same reasons for bad records."""

import base64
import gzip
import itertools
import json
import random
import shutil
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from streaming_nn.records import reasons
from streaming_nn.records.decode import decode
from streaming_nn.records.schema import Schema
from streaming_nn.spark import java_compiler
from streaming_nn.spark.score.realtime.scorer import HERE, SOURCES

pytestmark = pytest.mark.merge

RECORDS = 40  # in an example


@pytest.fixture(scope="module")
def java(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a Java object that calls the classes under test."""
    folder = tmp_path_factory.mktemp("java-rows")
    sources = (*SOURCES[: SOURCES.index("Records") + 1], "Rows")
    for name in sources:
        shutil.copy((Path(__file__).parent if name == "Rows" else HERE) / f"{name}.java", folder)
    return java_compiler.instance(spark, folder, sources)


def read_in_java(java: Any, schema: Schema, values: list[bytes]) -> list[bytes | str]:
    """Return each record's row, or the reason if it is bad."""
    sent = b"".join(struct.pack(">i", len(value)) + value for value in values)
    found, outcomes = bytes(java.read(json.dumps(schema.options()), schema.inputs, sent)), list[bytes | str]()
    while found:
        (size,) = struct.unpack(">i", found[:4])
        end = 4 + (size if size >= 0 else 8 * schema.inputs)
        outcomes.append(found[4:end].decode() if size >= 0 else found[4:end])
        found = found[end:]
    return outcomes


def read_in_python(schema: Schema, values: list[bytes]) -> list[bytes | str]:
    decoded = decode(schema, values, labeled=False)
    rows = [x.astype(">f8").tobytes() for x in decoded.x]
    found: dict[int, bytes | str] = dict(zip(decoded.kept.tolist(), rows, strict=True))
    found |= {each.position: reasons.key(each) for each in decoded.rejected}
    found |= dict.fromkeys(decoded.filtered.tolist(), reasons.FILTERED)
    return [found[i] for i in range(len(values))]


def assert_equal(java: Any, schema: Schema, values: list[bytes]) -> None:
    python = read_in_python(schema, values)
    for ours, theirs, value in zip(read_in_java(java, schema, values), python, values, strict=True):
        assert ours == theirs, value


NUMBERS = [
    *("0", "1", "-999", "-999.0", "-7", "2.5", "-0.0", "-0", "1e-3", "0.1", "1e22", "9007199254740993"),
    *("true", "false"),
]
ODD = [
    *("null", "NaN", "Infinity", "-Infinity", "1e400", "1e39", "3.4028235e38", "5e-324", "[]", "{}", "[1]"),
    *("1" * 400, "-" + "1" * 400, "123456789012345678901234567890", "1" * 30 + ".5", '"\\ud800"'),
    *("9" * 4301, "-" + "9" * 4300, "-" + "9" * 4301, "9" * 4301 + ".5", "9" * 4301 + "e5"),
    *('{"$numberInt":"3"}', '{"$numberLong":7}', '{"$numberDouble":"NaN"}', '{"$numberDecimal":" 1.5 "}'),
    *('{"$numberInt":{"$numberInt":"3"}}', '{"$numberInt":"x"}', '{"$numberInt":null}', '{"$oid":"7"}'),
    *('{"$date":5}', '{"$numberInt":1%s}' % ("0" * 400), '{"$numberInt":1,"a":2}', '{"":1}', '{"a":{"b":1}}'),
]
TEXTS = [
    *("", " ", "a", "b", "é", "\U0001f600", "NA", " NA ", "-999", "-", "1", "1.0", "2.50", " 3\t", "+4"),
    *("1,5", "1.234,5", "1,234.5", "1 234", "0,123", "1.", ".", "-.5", "1e5", "1E-5", "1" * 400, "0x10"),
    *("true", "False", "TRUE", "tRUE", "nan", "-inf", "+Infinity", "nan(1)", "1d", "1_000", "\u0661"),
    *("2024-05-01", " 2024-05-01T18:30 ", "2024-05-01 x", "-0", "007", "9" * 19, "9" * 20, "x" * 200),
    *("\u00a01", "1\u00a0234"),
]
FILTERS = [
    *("a = 1", "not a = 1", "b != 'a' or c is null", "not not (a = false)", "a <\u00a03"),
    "a >= 0 and not (b in (1, 'a', true) or \"n.a\" is not null)",
    *("a <= 9007199254740992.0 AND a > -1e400", "a <= 1 and not c >= 2.5", "b < 'b' or b >= '\uffff'"),
    *("c NOT IN (1e400, 'it''s', .5, +4)", "a is null or (b is null) or c = 2.50 and c != 'x'"),
]
MARKS = [(".", ""), (".", ""), (",", ""), (".", ","), (",", "."), (".", " "), (",", "'"), (".", "\u00a0")]
RULES: dict[str, st.SearchStrategy[Any]] = {
    "missing": st.booleans(),
    "numbers_as_strings": st.booleans(),
    "na_values": st.sampled_from([(), (), ("NA", "-999", ""), ("1", "9007199254740992", "1e999", "-")]),
    "marks": st.sampled_from(MARKS),
    "units": st.sampled_from([(), (), ("%", "$", "US$"), ("kg=1000", "\u20ac", "g", "+")]),
    "where": st.sampled_from([None, None, None, *FILTERS]),
    "max_bytes": st.sampled_from([1000, 1 << 20]),
    "framing": st.sampled_from(["none", "none", "confluent", "gzip", "json_string"]),
}
FEATURES: list[dict[str, Any]] = [
    {"inputs": 3, "features": "v"},
    {"inputs": 3, "features": "n.v"},
    {"inputs": 3, "features": "x[y]"},
    {"inputs": 3, "features": ("a", "b", "c")},
    {"inputs": 3, "features": ("c", "a", "a]"), "sparse": ("c", "a]")},
    {"inputs": 5, "features": ("a", "n.a", '"n.a"', "v.1", "n.v.0"), "sparse": ("n.a",)},
    {"inputs": 6, "features": ("v[0:3]", "n.v[0:2]", "x[y]")},
    {"inputs": 3, "features": ("data.a", "data_base64.a", "data.v.1"), "sparse": ("data_base64.a",)},
    {"inputs": 5, "features": "t", "categories": {"t": {"hash": 5}}},
    {"inputs": 5, "features": "n.t", "categories": {"n.t": {"hash": 5}}},
    {
        "inputs": 16,
        "features": ("a", "b", "v[0:3]", "n.a", "c"),
        "categories": {"b": {"hash": 7}, "n.a": {"one_hot": 4}},
        "vocabulary": {"n.a": ("a", 1, True)},
    },
]


def marked(rng: random.Random, schema: Schema) -> str:
    """Return a number that is a string, with the schema's marks."""
    number = rng.choice([rng.uniform(-1e7, 1e7), rng.gauss(0, 1), float(rng.randrange(10**6))])
    text = f"{number:,.{rng.randrange(6)}f}".replace(",", "T").replace(".", schema.decimal)
    text = text.replace("T", schema.thousands)
    if schema.units and rng.random() < 0.5:
        names = [unit.partition("=")[0] for unit in schema.units]
        unit, blank = rng.choice([*names, "k", ""]), rng.choice(["", "", " ", "\u00a0", "\u2009"])
        before = unit + blank + text, f"-{unit}{blank}{text.lstrip('-')}"
        text = rng.choice([text + blank + unit, *before, f"{unit}{text}{unit}", f"{text}{blank}{unit}\u00a0"])
    if rng.random() < 0.1:
        text = rng.choice([f"({text})", f"( {text.lstrip('-')} )", f"{'$' if schema.units else ''}({text})"])
    return rng.choice(["", "", " "]) + text


def json_value(rng: random.Random, schema: Schema) -> str:
    """Return a value in JSON, three times in four a number."""
    kind = rng.randrange(16)
    if kind < 8:
        return rng.choice([rng.choice(NUMBERS), repr(rng.gauss(0, 10 ** rng.randrange(-9, 9)))])
    if kind < 13 and schema.numbers_as_strings:
        return json.dumps(marked(rng, schema))
    if kind < 14:
        return rng.choice(NUMBERS)
    return rng.choice(ODD) if kind == 14 else json.dumps(rng.choice(TEXTS), ensure_ascii=rng.random() < 0.5)


def json_record(rng: random.Random, schema: Schema, depth: int = 0) -> str:
    """Return an object of all fields that the schemas have, in any order, of which some are absent or odd."""

    def array(size: int) -> str:
        size += rng.randrange(20) == 0
        return "[" + ",".join(json_value(rng, schema) for _ in range(size)) + "]"

    def one() -> str:
        return json_value(rng, schema)

    def category() -> str:
        return json.dumps(rng.choice(TEXTS)) if schema.categories and rng.randrange(4) else one()

    names = rng.choices(TEXTS, k=rng.randrange(4))
    fields = {"a": category() if depth else one(), "b": category(), "c": one(), "a]": one(), "n.a": one()}
    fields |= {"v": array(3), "x[y]": one()}
    fields["t"] = "{" + ",".join(f"{json.dumps(name)}:{one()}" for name in names) + "}"
    if schema.features == "x[y]":
        fields["x[y]"] = array(3)
    if depth:
        fields["v"] = array(2 if isinstance(schema.features, tuple) else 3)
    else:
        inner = json_record(rng, schema, 1)
        fields["n"] = json.dumps(f" {inner}") if rng.random() < 0.2 else inner  # JSON in a string
        event = base64.b64encode(json_record(rng, schema, 1).encode()).decode()  # a CloudEvent's data
        fields["data_base64"] = json.dumps(event[: rng.choice([None, None, None, -1])])
        kinds = ["null", '"application/json"', '" Application/x+JSON\\t; q=1"', '"text/plain"', "1"]
        fields["datacontenttype"] = rng.choice(kinds)
    pairs = list(fields.items())
    if rng.random() < 0.3:
        pairs.remove(rng.choice(pairs))
    if rng.random() < 0.02:
        pairs.clear()
    elif rng.random() < 0.1:
        pairs.append((rng.choice(pairs)[0], one()))
    rng.shuffle(pairs)
    return "{" + rng.choice([",", " ,\n"]).join(f"{json.dumps(name)}:{value}" for name, value in pairs) + "}"


def damaged(rng: random.Random, value: bytes) -> bytes:
    """Return a record with, one time in nine, some byte changed, added or cut."""
    if rng.random() < 0.11:
        at = rng.randrange(len(value) + 1)
        return (
            value[:at]
            + bytes(rng.choices(b'{}[],:"\\1-e\xff\xe9\0 \r\n', k=rng.randrange(2)))
            + value[at + 1 :]
        )
    return value


def schema_of(columns: dict[str, Any], rules: dict[str, Any], format: str) -> Schema:
    """Return a schema, without a filter where that is refused; the marks are decimal and thousands."""
    filters = format == "json" or "csv_columns" in columns
    rules = {**rules, "where": rules["where"] if filters else None}
    decimal, thousands = rules.pop("marks")
    return Schema(**columns, **rules, decimal=decimal, thousands=thousands, format=format)


def framed(rng: random.Random, schema: Schema, value: bytes) -> bytes:
    """Return a record in the schema's framing, now and then in none or a damaged one."""
    if schema.framing == "none" or rng.randrange(20) == 0:
        return value
    if schema.framing == "confluent":
        return b"\0\0\0\0\7" + value
    if schema.framing == "json_string":
        text = value.decode("utf-8", "replace")
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            text = json.dumps(text, ensure_ascii=rng.random() < 0.5)
        return damaged(rng, text.encode("utf-8", "replace"))
    whole = gzip.compress(value, mtime=0)
    odd = rng.choice([whole + b"x", whole * 2, whole[:-1], gzip.compress(b" " * 2000), b"", whole[:9]])
    flags = whole[:3] + bytes([rng.choice([2, 4, 8, 16, 28, 30, 32])]) + whole[4:10]
    flags += rng.choice([b"", b"\2\0ab"]) + b"name\0note\0"
    with_sum = flags + (zlib.crc32(flags) & 0xFFFF).to_bytes(2, "little")
    return rng.choice([*[whole] * 9, odd, damaged(rng, whole), flags + whole[10:], with_sum + whole[10:]])


EXAMPLES = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=100,
)


@EXAMPLES
@given(features=st.sampled_from(FEATURES), rules=st.fixed_dictionaries(RULES), seed=st.integers(0, 2**20))
def test_json_is_read_as_by_the_batch_engine(
    java: Any, features: dict[str, Any], rules: dict[str, Any], seed: int
) -> None:
    schema, rng = schema_of(features, rules, "json"), random.Random(seed)
    values = [damaged(rng, json_record(rng, schema).encode()) for _ in range(RECORDS)]
    assert_equal(java, schema, [framed(rng, schema, value) for value in values])


LINES: list[dict[str, Any]] = [
    {"inputs": 3},
    {"inputs": 3, "features": "label", "label": ("label[0]", "y")},
    {"inputs": 3, "label": None},
    {"inputs": 3, "features": ("c", "a", "b"), "csv_columns": ("n.a", "a", "label", "b", "c")},
    {
        "inputs": 2,
        "features": ("c", "a"),
        "label": ("y", "x"),
        "csv_columns": ("x", "a", "b", "y", "c", "n.a"),
    },
    {
        "inputs": 13,
        "features": ("a", "b", "c", '"d.e"'),
        "categories": {"b": {"hash": 7}, '"d.e"': {"one_hot": 4}},
        "vocabulary": {'"d.e"': ("a", 1, True)},
        "label": ("y", "z"),
    },
]
DIALECT = {"delimiter": st.sampled_from([",", ";", "\t", " ", "."]), "quote": st.sampled_from(['"', "'", ""])}


def line(rng: random.Random, schema: Schema) -> str:
    """Return a line with or without labels, now and then of another width."""
    width = len(schema.csv_columns) or len(schema.scalars) + len(schema.labels)
    width -= rng.choice([0, len(schema.labels)]) + rng.choice([0] * 20 + [1, -1])
    return schema.delimiter.join(cell(rng, schema) for _ in range(width)) + rng.choice(
        ["", "\n", "\r\n", "\r\r"]
    )


def cell(rng: random.Random, schema: Schema) -> str:
    text = json_value(rng, schema) if rng.randrange(5) else marked(rng, schema)
    text = rng.choice(TEXTS) if rng.randrange(5 if schema.categories else 30) == 0 else text.strip('"')
    if rng.randrange(40) == 0:
        text += rng.choice(["\n", "\r", schema.quote, schema.delimiter])
    if not schema.quote or (not {*text} & {schema.delimiter, schema.quote, "\n", "\r"} and rng.randrange(9)):
        return text
    return schema.quote + text.replace(schema.quote, 2 * schema.quote) + schema.quote


@EXAMPLES
@given(
    columns=st.sampled_from(LINES),
    rules=st.fixed_dictionaries(RULES | DIALECT),
    seed=st.integers(0, 2**20),
)
def test_csv_is_read_as_by_the_batch_engine(
    java: Any, columns: dict[str, Any], rules: dict[str, Any], seed: int
) -> None:
    schema, rng = schema_of(columns, rules, "csv"), random.Random(seed)
    values = [damaged(rng, line(rng, schema).encode()) for _ in range(RECORDS)]
    assert_equal(java, schema, [framed(rng, schema, value) for value in values])


def test_the_first_reason_is_that_of_the_batch_engine(java: Any) -> None:
    """What is not a number comes first, then an integer beyond float64, then a gap, NaN and infinity."""
    schema = Schema(4, None, ("a", "b", "c", "d"), None, categories={"d": {"hash": 1}}, na_values=("-999",))
    kinds = ("-999", "-999.0", "1" * 400, '"x"', "NaN", "1e39")
    values = ['{{"a":{},"b":{},"c":{},"d":[]}}'.format(*each) for each in itertools.permutations(kinds, 3)]
    assert_equal(java, schema, [value.encode() for value in values])
    array = Schema(3, None, label=None)
    values = ['{{"features":[{}]}}'.format(",".join(each)) for each in itertools.permutations(kinds, 3)]
    assert_equal(java, array, [value.encode() for value in values])


@pytest.mark.parametrize("text", ["x" + " " * 200_000 + "x", "1" + ",234" * 50_000 + "x", "9" * 200_000])
def test_a_long_string_is_read_in_time(java: Any, text: str) -> None:
    """The time of a regular expression may grow by the square of a string's length, or fill the stack."""
    schema = Schema(1, None, ("a",), None, numbers_as_strings=True, thousands=",", missing=True)
    started = time.monotonic()
    assert_equal(java, schema, [json.dumps({"a": text}).encode()] * 5)
    assert time.monotonic() - started < 20


def test_units_and_numbers_in_brackets_are_read_alike(java: Any) -> None:
    units = ("%", "$", "US$", "k=1000", "M=1e6", "+")
    schema = Schema(1, None, ("a",), label=None, numbers_as_strings=True, thousands=",", units=units)
    good = ["5 %", "-US$ 5k", "$1.5M", "(1,234.5)", "($5)", "$(5k)", "( 5 )%", "10,000+", "\u00a05", "% 5"]
    bad = ["(-5)", "-(5)", "()", "(", "((5))", "5-", "5kk", "k", "(+$5)"]
    values = [json.dumps({"a": text}).encode() for text in good + bad]
    kept = decode(schema, values, labeled=False).kept.tolist()
    assert kept == [i for i, text in enumerate(good) if text[0] != "\u00a0"]
    assert_equal(java, schema, values)


def test_paths_lead_into_strings_alike(java: Any) -> None:
    schema = Schema(2, None, ("a.x", "data.y"), label=None)
    inner, event = json.dumps({"x": 1.5}), base64.b64encode(b'{"y":2}').decode()
    good = {"a": inner, "data_base64": event}
    records: list[dict[str, Any]] = [
        *(
            good,
            good | {"data": {"y": 3}},
            good | {"datacontenttype": "x/y+json"},
            good | {"a": f"\ufeff {inner}"},
        ),
        *(good | {"data": None}, good | {"datacontenttype": "x/y"}, good | {"data_base64": event[:-1]}),
        *(
            good | {"a": json.dumps(inner)},
            good | {"a": "{"},
            good | {"data_base64": "/w=="},
            good | {"a": "1"},
        ),
    ]
    values = [json.dumps(record).encode() for record in records]
    assert decode(schema, values, labeled=False).kept.tolist() == [0, 1, 2, 3]
    assert_equal(java, schema, values)
