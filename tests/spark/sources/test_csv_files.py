"""Files of CSV as they are published: the dialect is detected or set, fields are typed, and rows are learned.

The tables look like the UCI's adult, wine, power and AirQuality and Kaggle's Titanic; no row is theirs.
"""

import bz2
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka_topics import learn, manifests_of, rows_of

from streaming_nn.records.decode import decode
from streaming_nn.records.dialect import STRING, detect
from streaming_nn.records.schema import Schema
from streaming_nn.settings import Records, Settings, Source
from streaming_nn.spark.sources import csv_files, dataframe_json
from streaming_nn.spark.sources.csv_files import CsvFiles, given

pytestmark = pytest.mark.commit

ADULT = "39, State-gov, 77516, Bachelors, 2174, <=50K\n50, ?, 83311, HS-grad, 0, >50K\n\n"
WINE = '"fixed acidity";"pH";"quality"\n7.4;3.51;5\n7.8;3.2;6\n'
POWER = (
    "Date;Time;Global_active_power;Sub_metering_3\n16/12/2006;17:24:00;4.216;17.000\n28/4/2007;00:21:00;?;?\n"
)
AIR = "Date;Time;CO(GT);T;;\n10/03/2004;18.00.00;2,6;13,6;;\n10/03/2004;19.00.00;-200;13,3;;\n;;;;;\n"
TITANIC = 'Id,Survived,Name,Age,Fare\n1,0,"Braund, Mr. ""O""",22,7.25\n2,1,"Heikkinen, Miss",,7.925\n'


def files_of(text: str | bytes, **known: Any) -> CsvFiles:
    data = text.encode() if isinstance(text, str) else text
    return csv_files._files_like(detect(data, True, known))


@pytest.mark.parametrize(
    ("text", "kinds", "options"),
    [  # Kaggle's Titanic and the UCI's adult, wine, power, AirQuality
        (ADULT, "nsnsns", {"header": "false", "sep": ","}),
        (WINE, "nnn", {"sep": ";", "header": "true", "quote": '"', "escape": '"'}),
        (POWER, "ddnn", {"sep": ";"}),
        (AIR, "ddnn", {"sep": ";"}),
        (TITANIC, "nnsnn", {"sep": ","}),
        ('a,b\n1,"x\ny"\n2,z\n', "ns", {"multiLine": "true"}),
        ("a\tb\n1\ttrue\n", "nb", {"sep": "\t", "multiLine": "false"}),
        ("a,b\n1,'x,y'\n2,'z'\n", "ns", {"quote": "'"}),
        ('a,b\n1,"x \\"y\\","\n2,"z"\n', "ns", {"escape": "\\"}),
        ("# by hand\na,b\n1,2\n# more\n3,4\n", "nn", {"comment": "#"}),
    ],
)
def test_options_of_spark_s_reader(text: str, kinds: str, options: dict[str, str]) -> None:
    files = files_of(text)
    assert "".join(kind[0] for kind in files.kinds.values()) == kinds
    assert {name: files.options()[name] for name in options} == options


@pytest.mark.parametrize(
    ("encoding", "charset"),
    [("utf-8-sig", "UTF-8"), ("utf-16", "UTF-16"), ("latin-1", "ISO-8859-1"), ("cp1252", "ISO-8859-1")],
)
def test_text_in_an_encoding_that_spark_does_not_know_is_decoded_here(encoding: str, charset: str) -> None:
    word = "caf\u00e9" if encoding == "latin-1" else "\u201ccaf\u00e9\u201d"
    files = files_of(f"a,b\n1,{word}\n2,x\n".encode(encoding))
    assert files.options()["encoding"] == charset
    seen = word.encode("cp1252").decode("latin-1") if encoding == "cp1252" else word
    (record,) = files.encode(["b"], [STRING], [None], [seen])
    assert json.loads(record) == {"b": word}


@pytest.mark.parametrize(
    ("given", "charset"),
    [("UTF-8", "UTF-8"), ("latin1", "ISO-8859-1"), ("windows-1252", "ISO-8859-1"), ("UTF-16LE", "UTF-16LE")],
)
def test_an_encoding_that_is_set_has_java_s_name_or_python_s(given: str, charset: str) -> None:
    text = "a,b\n1,caf\u00e9\n2,x\n"
    files = files_of(text.encode(given), encoding=given)
    assert (files.options()["encoding"], files.lines) == (charset, "16" not in given)
    seen = "caf\u00e9"  # the same byte in both of the others
    assert files.encode(["b"], [STRING], [None], [seen]) == files.encode(["b"], [None], [None], [seen])


def test_trailing_delimiters_are_columns_for_spark_and_none_for_us() -> None:
    files = files_of(AIR)
    names = ["Date", "Time", "CO(GT)", "T", "_c4", "_c5", csv_files.CORRUPT]
    assert (files.trailing, files.columns().names) == (2, names)


def records(
    text: str, *rows: Sequence[str | None], corrupt: Sequence[str | None] | None = None
) -> list[bytes]:
    files = files_of(text)
    kinds = list(files.kinds.values())
    columns = zip(*rows, strict=True)
    return files.encode([*files.kinds], kinds, corrupt or [None] * len(rows), *columns)


def test_fields_are_typed_by_their_column() -> None:
    text = "n,b,d,s\n1,true,2024-05-01,x\n2.5,false,2024-05-02,7\n"
    rows = records(
        text, ["+1", " True ", "x", " 7"], ["1e400", None, None, ""], ["NA", "no", "2024-05-01", "NA"]
    )
    assert [json.loads(row) for row in rows] == [
        {"n": 1, "b": True, "d": "x", "s": " 7"},
        {"n": float("inf"), "b": None, "d": None, "s": None},
        {
            "n": "NA",
            "b": "no",
            "d": "2024-05-01",
            "s": "NA",
        },  # words for a gap are those of the sample, none here
    ]


def test_values_that_select_has_computed_are_kept() -> None:
    files = files_of("a,b\n1,2\n3,4\n")
    rows = files.encode(["a", "x"], [None, None], [None, None], [1.5, float("nan")], [True, 7])
    assert [json.loads(row) for row in rows] == [{"a": 1.5, "x": True}, {"a": None, "x": 7}]


def test_a_row_of_another_width_is_its_line_and_one_with_a_trailing_delimiter_is_a_row() -> None:
    lines = ["1,2,x,", "1,2", "1,2,x,y", '"1,2']
    rows = records("a,b,c\n1,2,x\n3,4,y\n", *[[None] * 3] * 4, corrupt=lines)
    assert json.loads(rows[0]) == {"a": 1, "b": 2, "c": "x"}
    assert rows[1:] == [line.encode() for line in lines[1:]]
    decoded = decode(Schema(2, label=None, features=("a", "b"), missing=True), rows, labeled=False)
    assert [each.reason for each in decoded.rejected] == ["not JSON"] * 3


@pytest.mark.parametrize(
    ("options", "settings", "found"),
    [
        ({}, {}, {}),
        ({"sep": ";", "delimiter": "|"}, {}, {"delimiter": ";"}),
        ({"delimiter": "\\t"}, {}, {"delimiter": "\t"}),
        ({"quote": "'", "escape": "'"}, {}, {"quote": "'", "escape": ""}),
        ({"escape": "\\"}, {}, {"escape": "\\"}),
        ({"header": "FALSE", "charset": "cp1250"}, {}, {"header": False, "encoding": "cp1250"}),
        ({"nullvalue": "-"}, {"na_values": ["?"]}, {"na_values": ("?", "-")}),
        ({}, {"decimal": ",", "thousands": "."}, {"decimal": ",", "thousands": "."}),
        ({}, {"units": ["kg"]}, {"units": ("kg",)}),
        ({}, {"decimal": "."}, {"decimal": "."}),  # set, though it is the default
        ({"maxfilespertrigger": "1"}, {"missing": True}, {}),
    ],
)
def test_what_is_set_is_not_detected(
    options: dict[str, str], settings: dict[str, Any], found: dict[str, Any]
) -> None:
    assert given(options, Records(**settings)) == found


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a,a\n1,2\n", "its columns must differ from each other; got 'a' twice"),
        ("1  2\n3  4\n", "Spark reads one blank between two fields; this file has more"),
        ("a b\n1 2\n3 4 \n", "Spark reads one blank between two fields"),
    ],
)
def test_what_spark_cannot_read_is_one_line(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        files_of(text)


def test_columns_are_suggested_by_their_kind() -> None:
    assert files_of(TITANIC).suggest(["Survived"]) == "numbers: Id, Age, Fare; records.categories: Name"
    assert files_of(POWER).suggest([]) == (
        "numbers: Global_active_power, Sub_metering_3; records.datetimes: Date, Time"
    )


PUBLISHED: dict[str, tuple[str, dict[str, Any], list[list[float]], list[Any]]] = {
    "adult": (
        ADULT,
        {"features": ["_c0", "_c2", "_c4"], "label": "_c5", "classes": ["<=50K", ">50K"]},
        [[39, 77516, 2174], [50, 83311, 0]],
        [0, 1],
    ),
    "wine": (
        WINE,
        {"features": ["fixed acidity", "pH"], "label": "quality", "regression": True},
        [[7.4, 3.51], [7.8, 3.2]],
        [5, 6],
    ),
    "power": (
        POWER,
        {
            "features": ["Sub_metering_3"],
            "label": "Global_active_power",
            "regression": True,
            "missing": True,
        },
        [[17]],  # the other row has no target
        [4.216],
    ),
    "AirQuality": (
        AIR,
        {"features": ["T"], "label": "CO(GT)", "regression": True, "na_values": ["-200"]},
        [[13.6]],
        [2.6],
    ),
    "Titanic": (
        TITANIC,
        {"features": ["Age", "Fare"], "label": "Survived", "classes": [0, 1], "missing": True},
        [[22, 7.25], [np.nan, 7.925]],
        [0, 1],
    ),
    "prices": (
        "price;share;sold\n\u20ac 1.234,50;12,5 %;1\n\u20ac 7,25;0;0\n",
        {"features": ["price", "share"], "label": "sold", "classes": [0, 1]},
        [[1234.5, 12.5], [7.25, 0]],
        [1, 0],
    ),
}


@pytest.mark.merge
def test_published_tables_are_read_by_spark(
    spark: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Public case 17: the UCI's wine, power, AirQuality and adult; Kaggle's Titanic."""
    caplog.set_level("INFO")
    writers = [
        lambda data: (data, ""),
        lambda data: (gzip.compress(data), ".gz"),
        lambda data: (bz2.compress(data), ".bz2"),
    ]
    for i, (name, (text, settings, x, y)) in enumerate(PUBLISHED.items()):
        data, ending = writers[i % 3](text.encode())
        folder = tmp_path / f"{name} %20"  # a path that must be quoted in an address
        folder.mkdir()
        (folder / f"{name}.csv{ending}").write_bytes(data)
        shape = Records(**settings)
        source = Source(format="csv", options={"path": str(folder)})
        files = csv_files.find(spark, source, shape)
        values = dataframe_json.first_values(spark, source, shape, 10, files)
        options = shape.model_dump(exclude={"regression", "inputs"})
        decoded = decode(Schema(len(shape.features), **options), values, labeled=True)
        np.testing.assert_array_equal(decoded.x, np.array(x, np.float64), name)
        np.testing.assert_array_equal(decoded.y, y, name)
    lines = [record.getMessage() for record in caplog.records if "source csv:" in record.getMessage()]
    assert len(lines) == len(PUBLISHED)
    assert lines[3] == (
        "source csv: AirQuality.csv: delimiter ';', encoding utf-8, header, decimal ',', "
        "missing values '-200'; columns: 2 date, 2 number"
    )


@pytest.mark.merge
def test_encodings_wrong_rows_and_selected_columns_on_spark(spark: Any, tmp_path: Path) -> None:
    text = 'a;b;c\n1,5;caf\u00e9 \u20ac;x\n2,5;u;y;\n3,5;u\n;;\n4,5;"q;\nr";z\n' + "5,5;v;w\n" * 40
    (tmp_path / "in.csv").write_bytes(text.encode("cp1252"))
    select = ["*", "length(c) AS n"]
    source = Source(format="csv", options={"path": str(tmp_path)}, select=select)
    shape = Records(features=["a", "n"], label="b")
    files = csv_files.find(spark, source, shape)
    values = dataframe_json.first_values(spark, source, shape, 4, files)
    assert [value if value == b"3,5;u" else json.loads(value or b"") for value in values] == [
        {"a": 1.5, "n": 1, "b": "caf\u00e9 \u20ac"},
        {"a": 2.5, "n": 1, "b": "u"},
        b"3,5;u",
        {"a": 4.5, "n": 1, "b": "q;\nr"},
    ]
    columns = r"\['a', 'b', 'c'\]; got 'features'; numbers: a; records.categories: b, c"
    plain = Source(format="csv", options=source.options)
    with pytest.raises(ValueError, match=columns):
        dataframe_json.stream(spark, plain, Records(label="y"), files)
    own = Source(format="csv", options={"path": str(tmp_path), "inferSchema": "true", "header": "true"})
    assert csv_files.find(spark, own, shape) is None
    (tmp_path / "in.csv").write_bytes(b"\n")
    with pytest.raises(ValueError, match="source 'csv': its path must have a file with a line"):
        csv_files.find(spark, source, shape)
    with pytest.raises(ValueError, match=r"source 'csv': cannot read its path: .*PATH_NOT_FOUND"):
        csv_files.find(spark, Source(format="csv", options={"path": str(tmp_path / "no")}), shape)


@pytest.mark.merge
def test_a_table_like_titanic_is_learned_in_one_run_each_row_once(
    spark: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rng, folder = np.random.default_rng(0), tmp_path / "in"
    folder.mkdir()
    for part in range(2):
        ages = [f"{age:.1f}" if age > 20 else "" for age in rng.uniform(0, 80, 100)]
        rows = [
            f'{i};{int(age == "")};"Ulm; Donau";{age.replace(".", ",")};1{i % 10}/0{1 + i % 9}/2024;{1 << 60}'
            for i, age in enumerate(ages)
        ]
        (folder / f"{part}.csv").write_text(
            "\n".join(["Id;Survived;City;Age;Day;Ticket", *rows, "bad;row", ""])
        )
    settings = Settings(
        model=tmp_path / "model",
        source={"format": "csv", "options": {"path": str(folder), "maxFilesPerTrigger": 1}},
        records={
            "features": ["Age", "City", "Day", "Ticket"],
            "label": "Survived",
            "missing": True,
            "categories": {"City": {"hash": 4}},
            "datetimes": {"Day": {"format": "%d/%m/%Y", "parts": ["days", "weekday"]}},
        },
        learner={"hidden": [8], "optimizer": "adam", "mini_batch": 8},
        train={"once": True},
    )
    learn(spark, settings)
    counts = rows_of(settings.model)
    assert (counts["trained"], counts["rejected"], counts["filtered"]) == (200, 2, 0)
    manifest = manifests_of(settings.model)[-1]
    assert (manifest.schema["classes"], manifest.schema["inputs"]) == ([0, 1], 9)
    logged = [record.getMessage() for record in caplog.records]
    assert sum("source csv: 0.csv: delimiter ';'" in line for line in logged) == 1
    assert sum("feature Ticket has numbers of 2^53 or more" in line for line in logged) == 1
    learn(spark, settings)
    assert rows_of(settings.model) == counts, (
        "nothing is learned twice, and the settings are those of the model"
    )
