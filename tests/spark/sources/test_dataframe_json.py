"""A frame's columns as records: the same rows as from a topic, and one line for what is wrong."""

import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from pydantic_core import to_json
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 (everybody's name for it)

from streaming_nn.errors import UnreadableRecordError, exit_code
from streaming_nn.records.decode import decode
from streaming_nn.records.schema import Schema
from streaming_nn.settings import Records, Source
from streaming_nn.spark.sources import csv_files, dataframe_json, kafka_frames, libsvm_files, order

pytestmark = pytest.mark.nightly


def read(spark: SparkSession, shape: Records | Schema, select: tuple[str, ...] = (), **of: Any) -> DataFrame:
    """Return a source's records as a batch, with the columns of ORDER."""
    source = Source(format=of.pop("format"), options=of, select=list(select))
    return dataframe_json.records(dataframe_json._load(spark.read, source, shape), shape)


def values(frame: DataFrame) -> list[bytes]:
    return [bytes(row.value) for row in kafka_frames.in_order(frame).collect()]


def test_the_weight_s_column_becomes_a_field(spark: SparkSession, tmp_path: Path) -> None:
    frame = spark.createDataFrame([(0.5, 1, 2.5), (1.5, 0, float("nan"))], ["a", "label", "w"])
    frame.coalesce(1).write.parquet(str(tmp_path / "in"))
    given = values(
        read(spark, Records(features=["a"], weight="w"), format="parquet", path=str(tmp_path / "in"))
    )
    decoded = decode(Schema(1, (0, 1), ("a",), weight="w"), given, labeled=True)
    assert decoded.w is not None
    assert decoded.w.tolist() == [2.5]
    assert [(each.reason, each.field) for each in decoded.rejected] == [("weight missing", "w")]


def test_columns_of_every_kind_become_fields(spark: SparkSession, tmp_path: Path) -> None:
    rows = [
        (0.1, 3, [0.5, float("nan")], Vectors.dense(1.5, 2.5), ("Ulm", 7), None, "yes"),
        (float("nan"), 4, [1.0, 2.0], Vectors.sparse(2, {1: 3.0}), ("Bern", 8), True, "no"),
    ]
    frame = spark.createDataFrame(rows, ["f", "i", "a", "v", "s", "b", "label"])
    frame.coalesce(1).withColumns(
        {"f4": F.col("f").cast("float"), "d": F.lit("1.50").cast("decimal(9,2)")}
    ).write.parquet(str(tmp_path / "in"))
    names = ["f", "i", "a", "v", "s._1", "b", "f4", "d"]
    found = read(spark, Records(features=names), format="parquet", path=str(tmp_path / "in"))
    assert found.columns == [*order.ORDER, "key", "value", "headers"]
    assert [json.loads(value) for value in values(found)] == [
        {"f": 0.1, "i": 3, "a": [0.5, None], "v": [1.5, 2.5], "s": {"_1": "Ulm", "_2": 7}, "b": None}
        | {"f4": float(np.float32(0.1)), "d": 1.5, "label": "yes"},
        {"f": None, "i": 4, "a": [1.0, 2.0], "v": [0.0, 3.0], "s": {"_1": "Bern", "_2": 8}, "b": True}
        | {"f4": None, "d": 1.5, "label": "no"},
    ]


@pytest.mark.merge
def test_one_typed_row_is_the_same_from_every_source(spark: SparkSession, tmp_path: Path) -> None:
    """Public cases 14, 17 and 18: booleans in Parquet, dates, arrays beside fields; the bits are JSON's."""
    rng = np.random.default_rng(3)
    moments = [datetime(1901, 1, 2), datetime(2024, 2, 29, 23, 59, 59, 999_999), datetime(9999, 12, 30), None]
    rows = [
        {
            "x": None if i % 7 == 0 else float(rng.standard_normal() * 10.0 ** rng.integers(-40, 38)),
            "f": float(np.float32(rng.standard_normal() * 10.0 ** rng.integers(-30, 30))),
            "flag": [True, False, None][i % 3],
            "n": int(rng.integers(-(1 << 63), 1 << 62)) >> int(rng.integers(0, 60)),
            "at": moments[i % 4] and moments[i % 4].replace(tzinfo=UTC),
            "day": moments[i % 3].date(),
            "city": ["Ulm", 'a "b", c', None][i % 3],
            "v": None if i % 5 == 0 else [float(v) for v in rng.standard_normal(3)],
            "label": i % 2,
        }
        for i in range(60)
    ]
    types = "x double, f float, flag boolean, n long, at timestamp, day date, city string, v array<double>"
    types += ", label int"
    frame = spark.createDataFrame([tuple(row.values()) for row in rows], types).coalesce(1)
    names = ("x", "f", "flag", "n", "at", "day", "city", "v[0:3]")
    dates = {"at": {"parts": ["days", "hour"]}, "day": {"parts": ["days", "weekday"]}}
    schema = Schema(15, (0, 1), names, missing=True, categories={"city": {"hash": 2}}, datetimes=dates)
    expected = decode(schema, [to_json(row) for row in rows], labeled=True)
    assert len(expected.kept) == len(rows)
    without = replace(schema, features=names[:-1], inputs=12)
    frame.write.parquet(str(tmp_path / "parquet"))
    text = frame.withColumn("at", F.date_format("at", "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"))
    text = text.withColumn("f", F.col("f").cast("double"))  # Spark would write fewer digits
    text.write.option("ignoreNullFields", False).json(str(tmp_path / "json"))
    text.drop("v").write.options(header=True, sep=";", escape='"').csv(str(tmp_path / "csv"))
    for format in ("parquet", "json", "csv"):
        source = Source(format=format, options={"path": str(tmp_path / format)})
        files = csv_files.find(spark, source, Records())
        of = schema if format != "csv" else without
        found = decode(of, dataframe_json.first_values(spark, source, of, 100, files), labeled=True)
        assert found.rejected == [], format
        assert found.x.tobytes() == expected.x[:, : of.inputs].tobytes(), format
        np.testing.assert_array_equal(found.y, expected.y, format)


@pytest.mark.merge
def test_a_bad_line_of_libsvm_is_a_rejected_record(spark: SparkSession, tmp_path: Path) -> None:
    """Spark's own reader ends the query."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("1 2:0.5 3:-1e3\n\n# none\n1 0:2\n-1 1:2\n1 4:1\nx\n")
    schema, of = Schema(3, (-1, 1)), {"path": str(tmp_path / "in"), "numFeatures": "3"}
    source = Source(format="libsvm", options=of)
    files = libsvm_files.find(source, Records())
    frame = dataframe_json.records(dataframe_json._load(spark.read, source, schema, files), schema)
    assert {urlsplit(row.topic).path for row in frame.collect()} == {f"{tmp_path}/in/a"}
    found = decode(schema, values(frame), labeled=True)
    assert found.x.tolist() == [[0, 0.5, -1000], [2, 0, 0]]
    assert found.y is not None
    assert found.y.tolist() == [1, 0]
    assert [each.reason for each in found.rejected] == ["not JSON", "wrong width", "not JSON"]
    chosen = Source(format="libsvm", options=of, select=["label > 0 AS good", "features"])
    of_good = Schema(3, (False, True), label="good")
    stream = dataframe_json.stream(spark, chosen, of_good, files)
    assert stream.columns[:1] == ["value"]
    good = decode(of_good, dataframe_json.first_values(spark, chosen, of_good, 9, files), labeled=True)
    assert good.y is not None
    assert good.y.tolist() == [1, 0]


# As Spark 4.2 writes it
CUT = """An error occurred while calling o92.collectToPython.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 3.0 failed 1 times
[FAILED_READ_FILE.NO_HINT] Encountered error while reading file file:///in/a%20b.gz.  SQLSTATE: KD001
\tat org.apache.spark.Some.method(Some.scala:1)
Caused by: java.lang.Other: first
\t... 1 more
Caused by: java.io.EOFException: Unexpected end of input stream
\t... 9 more
"""


@pytest.mark.commit
@pytest.mark.parametrize(
    ("text", "why", "option"),
    [
        (CUT, ": Unexpected end of input stream", "ignoreCorruptFiles"),
        (CUT.partition("Caused")[0], "", "ignoreCorruptFiles"),
        (CUT.replace("NO_HINT", "FILE_NOT_EXIST"), ": Unexpected end of input stream", "ignoreMissingFiles"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(text: str, why: str, option: str) -> None:
    error = dataframe_json.unreadable(ValueError(text))
    assert str(error) == (
        f"the source's file file:///in/a b.gz cannot be read{why}. Repair it or move it away, or set the "
        f"source's option {option} = true: Spark leaves out what it cannot read"
    )
    assert error is not None
    assert exit_code(error) == 7
    assert dataframe_json.unreadable(ValueError("[OTHER] Encountered error while reading")) is None


@pytest.mark.merge
def test_cut_files_and_folders_without_rows_end_in_one_line(spark: SparkSession, tmp_path: Path) -> None:
    for name in ("gz", "empty", "orc"):
        (tmp_path / name).mkdir()
    (tmp_path / "gz" / "a.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 99)[:-20])
    (tmp_path / "orc" / "b c.orc").write_bytes(b"ORC" + bytes(99))
    found = []
    for format, name in (("text", "gz"), ("orc", "orc"), ("json", "empty")):
        source = Source(format=format, options={"path": str(tmp_path / name)})
        with pytest.raises((UnreadableRecordError, ValueError)) as raised:
            dataframe_json.first_values(spark, source, Records(features=["a"]), 9)
        found.append((exit_code(raised.value), str(raised.value).partition(". Repair")[0]))
    file = f"the source's file file:{tmp_path}/orc/b c.orc cannot be read"
    assert [code for code, _ in found] == [7, 7, 2]
    assert found[0][1].endswith("gz/a.gz cannot be read: Unexpected end of input stream")
    assert found[1][1].replace("file:///", "file:/").startswith(file)
    assert "source 'json': its path must have a file with rows" in found[2][1]


def test_a_float_survives_json_to_the_bit(spark: SparkSession, tmp_path: Path) -> None:
    x = (np.random.default_rng(0).standard_normal(500) * 10 ** np.arange(-30, 20, 0.1)).astype(np.float32)
    frame = spark.createDataFrame([(float(v), 0.0, 1) for v in x], ["a", "b", "label"])
    frame = frame.withColumn("a", F.col("a").cast("float")).coalesce(1)
    frame.write.parquet(str(tmp_path / "in"))
    schema = Schema(2, (0, 1), ("a", "b"))
    found = decode(schema, values(read(spark, schema, format="parquet", path=str(tmp_path / "in"))), True)
    assert found.rejected == []
    assert found.x[:, 0].tobytes() == x.astype(np.float64).tobytes()


def test_a_column_of_whole_records_is_unchanged(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('1.5,"x, y",1\nbad\n')
    schema = Schema(3, (0, 1), ("n", "city"), format="csv", categories={"city": {"hash": 2}})
    lines = values(read(spark, schema, format="text", path=str(tmp_path)))
    assert lines == [b'1.5,"x, y",1', b"bad"]
    assert len(decode(schema, lines, True).kept) == 1
    chosen = read(spark, schema, ("cast(value AS binary) AS value",), format="text", path=str(tmp_path))
    assert values(chosen) == lines


def test_files_are_learned_in_the_order_of_their_times(spark: SparkSession, tmp_path: Path) -> None:
    for number, name in enumerate("cab"):
        (tmp_path / name).write_text("".join(f"{name}{i}\n" for i in range(3 - number)))
        os.utime(tmp_path / name, (1_000_000 + number, 1_000_000 + number))
    found = read(spark, Records(), format="text", path=str(tmp_path))
    assert values(found) == [b"c0", b"c1", b"c2", b"a0", b"a1", b"b0"]
    assert {Path(row.topic).name for row in found.collect()} == set("abc")
    later = "timestamp_seconds(ascii(substr(value, 2))) AS timestamp"
    by_own = read(spark, Records(), ("value", later), format="text", path=str(tmp_path))
    assert [value[1:] for value in values(by_own)] == [b"0"] * 3 + [b"1"] * 2 + [b"2"]


@pytest.mark.parametrize(
    ("source", "shape", "message"),
    [
        (
            {"format": "delta"},
            {},
            r"got 'delta': install its package with --set spark.jars.packages=io.delta:",
        ),
        ({"format": "nothing"}, {}, "source.format must be a source that Spark finds; got 'nothing'"),
        ({"format": "json", "options": {"path": "."}}, {}, "source 'json': its path must have a file"),
        ({"format": "text"}, {}, "source 'text': .*path"),
        ({"format": "rate"}, {}, r"among the source's columns, \['timestamp', 'value'\]; got 'features'"),
        ({"format": "rate", "select": ["valeu"]}, {}, r"source 'rate': \[UNRESOLVED_COLUMN"),
        ({"format": "rate", "select": ["value +"]}, {}, r"source 'rate': \[PARSE_SYNTAX_ERROR\]"),
        ({"format": "rate"}, {"format": "packed"}, "'packed' must be in one column 'value' of strings or"),
    ],
)
def test_a_wrong_source_is_reported_in_one_line(
    spark: SparkSession,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    source: dict[str, Any],
    shape: dict[str, Any],
    message: str,
) -> None:
    if "options" in source:
        source = source | {"options": {"path": str(tmp_path)}}
    with pytest.raises(ValueError, match=message) as error:
        dataframe_json.stream(spark, Source(**source), Records(**shape))
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_no_schema_is_inferred_from_a_source_that_is_only_a_stream(spark: SparkSession) -> None:
    source = Source(format="rate", select=["value AS features", "value AS label"])
    with pytest.raises(
        ValueError, match=r"^cannot infer the schema from the source: .*; set records.inputs and"
    ):
        dataframe_json.first_values(spark, source, Records(), 10)


def test_a_job_does_not_import_what_only_vectors_need() -> None:
    """Spark ML imports pandas and SciPy, which take half a second of each start."""
    jobs = (
        "streaming_nn.spark.train.trainer, streaming_nn.spark.score.scorer, streaming_nn.spark.replay.verify"
    )
    look = f"import sys, {jobs}; print({{'pandas', 'scipy', 'pyspark.ml'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
