"""The Java class beside `decode`: what it packs has the same bits, and it leaves what is unusual."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka_topics import SCHEMA, fill, labeled, learn, manifests_of, rows, settings_of
from pyspark.sql import SparkSession

from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.records.decode import decode, decode_mixed, encode
from streaming_nn.records.schema import Schema
from streaming_nn.spark import java_compiler
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.sources.prefetch.reader import HERE, Reader, plain_of
from streaming_nn.spark.sources.prefetch.record_batches import SCHEMA as COLUMNS
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge

Plain = Callable[..., list[bytes | None]]

ARRAY = Schema(inputs=3, classes=(0, 1, "a", True, -7, "é"), max_bytes=200)
NAMED = Schema(inputs=3, features=("a", "b", "c"), classes=(0, 1, "a", True, -7, "é"))
TARGET = Schema(inputs=3, classes=None)
LENIENT = Schema(inputs=3, classes=None, missing=True, numbers_as_strings=True)
SCHEMAS = (ARRAY, NAMED, TARGET, LENIENT)


@pytest.fixture(scope="module")
def plain(spark: SparkSession) -> Plain:
    """Return a function that packs records with the class."""
    java: Any = spark._jvm
    compiler = java.org.codehaus.janino.SimpleCompiler()
    compiler.setParentClassLoader(java_compiler.loader(spark))
    compiler.cook((HERE / "Plain.java").read_text("utf-8"))
    made = compiler.getClassLoader().loadClass("streaming_nn.Plain").getConstructors()[0]
    context: Any = spark.sparkContext

    def packed(schema: Schema, values: Sequence[bytes], labeled: bool = True) -> list[bytes | None]:
        arguments = context._gateway.new_array(java.java.lang.Object, 1)
        arguments[0] = plain_of(schema, labeled)
        of = made.newInstance(arguments)
        found = [of.pack(bytearray(b"{" + v + b"1]}"), 1, len(v) + 1) for v in values]  # amid others
        return [None if row is None else bytes(row) for row in found]

    return packed


def agree(
    schema: Schema, values: Sequence[bytes], found: Sequence[bytes | None], labeled: bool = True
) -> None:
    """Check that what was packed has the bits of `decode`, and that both together have its rows."""
    whole = decode(schema, values, labeled)
    first = np.zeros(len(whole.x)) if whole.y is None else whole.y
    pairs = zip(whole.x, first, strict=True)
    expected = dict(zip(whole.kept.tolist(), pairs, strict=True))
    for i, row in enumerate(found):
        if row is not None:
            assert i in expected, values[i]
            x, y = expected[i]
            word = y.astype(np.int64 if y.dtype.kind == "i" else np.float64)
            assert word.tobytes() + x.tobytes() == row, values[i]
    left = [value if row is None else None for value, row in zip(values, found, strict=True)]
    mixed = decode_mixed(schema, pa.array(left, pa.binary()), pa.array(found, pa.binary()), labeled)
    assert mixed.x.tobytes() == whole.x.tobytes()
    assert (mixed.y is None) == (whole.y is None)
    if mixed.y is not None and whole.y is not None:
        assert mixed.y.tobytes() == whole.y.tobytes()
        assert mixed.y.dtype == whole.y.dtype
    assert mixed.kept.tolist() == whole.kept.tolist()
    assert mixed.rejected == whole.rejected


def of_array(*numbers: str, label: str = "1", more: str = "") -> bytes:
    return f'{{"features":[{",".join(numbers)}],"label":{label}{more}}}'.encode()


def of_names(*numbers: str, label: str = "1", more: str = "") -> bytes:
    fields = ",".join(f'"{name}":{number}' for name, number in zip("abc", numbers, strict=True))
    return f'{{{fields},"label":{label}{more}}}'.encode()


SIGN = st.sampled_from(["", "-"])
FRACTION = st.just("") | st.text("0123456789", min_size=1, max_size=9).map(lambda digits: "." + digits)
EXPONENT = st.just("") | st.builds("{}{}".format, st.sampled_from(["e", "E", "e+"]), st.integers(0, 22))
SHORT = st.builds("{}{}{}{}".format, SIGN, st.integers(0, 10**6), FRACTION, st.just("") | EXPONENT)
SMALL = st.builds("{}{}.{:02d}".format, SIGN, st.integers(0, 12), st.integers(0, 99))
DOWN = st.builds("{}{}e-{:02d}".format, SIGN, st.integers(0, 1 << 53), st.integers(0, 25))
ANY = (
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr)
    | st.floats().map(json.dumps)
    | st.integers(-(1 << 60), 1 << 60).map(str)
    | st.builds("{}{}".format, SHORT, st.sampled_from(["", ".", "e", "e-", "0", " 1", "-"]))
)
NUMBERS = st.sampled_from([SHORT, SMALL, DOWN, SHORT | SMALL | DOWN | ANY])  # one kind a record
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text('ab\\"\n é', max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abx\n"), inner, max_size=3),
    max_leaves=6,
)
FIELD = st.sampled_from(["a", "b", "c", "features", "label", "other", "\n", "é", ""])
LABELS = st.sampled_from(["0", "1", "-7"]) | st.sampled_from(['"a"', "true"]) | VALUES.map(json.dumps)


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """Fields in any order, mostly those of a schema, with any space, and sometimes a byte cut or changed."""
    kind = draw(NUMBERS)
    numbers = draw(st.lists(kind, min_size=3, max_size=3 + draw(st.integers(0, 9)) // 9))
    if draw(st.booleans()):
        fields = [("features", "[" + draw(st.sampled_from([",", " ,\t"])).join(numbers) + "]")]
    else:
        fields = list(zip("abc", numbers, strict=False))
    fields.append(("label", draw(LABELS)))
    if draw(st.booleans()):
        fields += draw(st.lists(st.tuples(FIELD, VALUES.map(json.dumps)), max_size=2))
        fields = draw(st.permutations(fields))
    space = draw(st.sampled_from(["", "", " ", "\n\t\r "]))
    inside = f"{space},{space}".join(f"{json.dumps(name)}{space}:{space}{text}" for name, text in fields)
    whole = f"{space}{{{inside}{space}}}{space}".encode()
    if draw(st.integers(0, 4)) == 0:
        index = draw(st.integers(0, len(whole) - 1))
        change = draw(
            st.sampled_from([b"", b",", b"0", b"-", b".", b'"', b"}", b"\\", b"\x00", b"\xe9", b" "])
        )
        whole = whole[:index] + change + whole[index + 1 :]
    return whole


@given(st.lists(records(), max_size=30))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def test_packed_records_have_the_bits_of_decode(plain: Plain, values: list[bytes]) -> None:
    for schema, truth in product(SCHEMAS, (True, False)):
        agree(schema, values, plain(schema, values, truth), truth)


@pytest.mark.parametrize("schema", SCHEMAS, ids=["array", "named", "target", "lenient"])
def test_ordinary_records_are_packed(plain: Plain, schema: Schema) -> None:
    """Everything that `encode` writes for rows of a few digits, and other fields beside them."""
    x = np.random.default_rng(0).normal(size=(200, 3)).round(3).astype(np.float32) * np.float32(10)
    y = np.arange(200) % 5 if schema.classes else x[:, 0]
    values = encode(schema, x, y, ids=[f"record {i}" for i in range(200)])
    values += [value.replace(b":", b" : ").replace(b",", b" ,\n") + b"\n" for value in values]
    of = of_names if schema is NAMED else of_array
    values += [
        of(number, "1", "-2.5")
        for number in [
            "0",
            "-0",
            "7",
            "-1",
            "0.0",
            "-0.0",
            "1.5",
            "-1e3",
            "1E-3",
            "2e+2",
            "1234567",
            "12345678",
            "123456.7",
            "1234567.8",
        ]
    ]
    values += [
        of("123456789012345", "0.00123456789012", "1e-22", more=more)
        for more in (
            ',"n":null',
            ',"o":{"a":[1,{"b":[]},"x"],"c":{}}',
            ',"long":12345678901234567890',
            ',"":1',
        )
    ]
    for truth in (True, False):
        found = plain(schema, values, truth)
        assert None not in found
        agree(schema, values, found, truth)


NUMBERS_ODD = """
1e400 1e39 -3.5e38 0.1e-30 1e-400 123456789012345678 9007199254740993 1. .5 01 -01 00 +1 - -. 1e 1e+ 1.e5 0x1
NaN Infinity -Infinity null true [1] {} 1e23 1e-23 1_000 1f 1.5.2 --1 1-2 é "1" 1e0005 1234.56e 1.5e400 12e99
"""
LABELS_ODD = r"""
"é" "\u0061" "1" "b" null [1] {} false 2 01 nul tru "a -0 1.0 1e0 +1 "a"b" truefalse
"""
FIELDS_ODD = r"""
,"label":1
,"a":1,"features":[1,2,3]
,
,"x"
,"x":
,"x":01
,"x":"\n"
,"x":"é"
,"x":[1,]
,"x":{"a"}
,"x":{a:1}
,"x":[1}
,"x":NaN
,"x":1 2
,"x":1e9999
,"\u0061":1
,'x':1
}
]
"""
WHOLE_ODD = r"""
{}
[]
{
1
"a"
{"label":1}
{"features":[1,2,3]}
{"a":1,"b":2,"label":1}
{"a":1,"b":2,"b":2,"label":1}
{"features":[1,2,3,"label":1}
{"features":1,"label":1}
{"features":[[1,2,3]],"label":1}
{"features":{"a":1},"label":1}
{"features":[1 2 3],"label":1}
{"features" [1,2,3],"label":1}
{"features":[1,2],"label":1}
{"features":[1,2,3,4],"label":1}
{"features":[1,2,],"label":1}
{"features":[],"label":1}
{"features":[1,2,3],"label":1}x
{"features":[1,2,3],,"label":1}
{,"features":[1,2,3],"label":1}
{features:[1,2,3],"label":1}
[{"features":[1,2,3],"label":1}]
"""


def odd(of: Callable[..., bytes]) -> list[bytes]:
    """Return records with one unusual thing each."""
    good = of("1.5", "2", "-3")
    numbers = [*NUMBERS_ODD.split(), ""]
    found = [of(*("1",) * at, text, *("2",) * (2 - at)) for text in numbers for at in range(3)]
    found += [of("1", "2", "3", label=label) for label in [*LABELS_ODD.split(), ""]]
    deep, long = ',"x":' + "[" * 20 + "]" * 20, ',"x":' + "1" * 400
    found += [
        of("1", "2", "3", more=more) for more in [*FIELDS_ODD.splitlines()[1:], ',"x":"\x01"', deep, long]
    ]
    found += [good[:cut] for cut in range(len(good))] + [good + b"\x0c", b"\xef\xbb\xbf" + good]
    found += [line.encode() for line in WHOLE_ODD.splitlines()[1:]]
    return [*found, of("1", "2", "3", more=f',"x":"{"x" * (1 << 20)}"')]


@pytest.mark.parametrize("schema", [ARRAY, NAMED], ids=["array", "named"])
def test_unusual_records_are_left_to_python(plain: Plain, schema: Schema) -> None:
    values = odd(of_names if schema is NAMED else of_array)
    found = plain(schema, values)
    assert [value for value, row in zip(values, found, strict=True) if row is not None] == []
    agree(schema, values, found)


@pytest.mark.parametrize("of", [of_array, of_names])
@pytest.mark.parametrize("schema", SCHEMAS, ids=["array", "named", "target", "lenient"])
def test_unusual_records_are_never_misread(plain: Plain, schema: Schema, of: Callable[..., bytes]) -> None:
    """By any schema: what is unusual for one may be ordinary for another."""
    values = odd(of)
    for truth in (True, False):
        agree(schema, values, plain(schema, values, truth), truth)


@pytest.mark.commit
@pytest.mark.parametrize(
    "options",
    [
        {"format": "packed"},
        {"grow": True},
        {"features": "a.b"},
        {"label": "a.b"},
        {"label": None},
        {"features": ("a", "b", "label")},
        {"features": ("a", "b", "c"), "categories": {"a": {"one_hot": 1}}},
    ],
    ids=str,
)
def test_unsupported_schemas_are_left_to_python(options: dict[str, Any]) -> None:
    assert plain_of(Schema(**{"inputs": 3, "classes": (0, 1), **options}), labeled=True) == ""


@pytest.mark.parametrize("update", ["sequential", "averaged"])
def test_training_packs_records_and_a_replay_has_the_same_bits(
    spark: SparkSession, broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update: str
) -> None:
    """Training uses Java and Python, the replay Python alone."""
    monkeypatch.setattr("streaming_nn.spark.train.executor.DRIVER_RECORDS", 0)
    topic = broker.topic(f"plain-{update}", partitions=3)
    fill(broker.options, topic, [*labeled(400), *odd(of_array)[1:-1], *labeled(100, seed=1)])
    settings = settings_of(broker.options, tmp_path, topic, train={"update": update})
    learn(spark, settings)
    assert sum(sum(manifest.rejected_by_reason.values()) for manifest in manifests_of(tmp_path)) > 100
    assert verify(spark, broker.options, VersionLog(tmp_path)).identical


def test_a_plain_record_is_packed_in_place_of_its_value(spark: SparkSession, broker: Any) -> None:
    topic = broker.topic("both")
    values = labeled(20)
    fill(broker.options, topic, [*values, b"{}", None], keys=[b"key"] * 22)
    with KafkaAdmin(broker.options) as topics:
        ids = topics.ids([topic])
    ranges = {topic: {0: (0, 22)}}
    for schema in (SCHEMA, replace(SCHEMA, label="other"), SCHEMA):  # what was read ahead is by one of them
        batches = Reader(spark, broker.options, ids, plain_of(schema, True)).read_in_driver(ranges)
        table = pa.Table.from_batches(batches, COLUMNS)
        as_before = [None] * 20 if schema == SCHEMA else values
        words = [np.int64(y).tobytes() + x.tobytes() for x, y in zip(*rows(20), strict=True)]
        packed = words if schema == SCHEMA else [None] * 20
        assert table.column("value").to_pylist() == [*as_before, b"{}", None]
        assert table.column("packed").to_pylist() == [*packed, None, None]


def test_unlabeled_records_need_no_label(plain: Plain) -> None:
    """The label's field is not read."""
    good, zero = b'{"features":[1,2.5,-3]}', np.zeros(1).tobytes()
    values = [good, good[:-1] + b',"label":"unknown"}', good[:-1] + b',"label":1,"label":2}']
    expected = zero + np.array([1, 2.5, -3], "<f8").tobytes()
    for schema in (ARRAY, replace(ARRAY, label=None)):
        assert plain(schema, values, labeled=False) == [expected] * 3
        agree(schema, values, [expected] * 3, labeled=False)
