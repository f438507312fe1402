"""Files as they are published: small look-alikes are sent, and learned by the printed command."""

import bz2
import gzip
import json
import lzma
import shlex
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

import producers.__main__ as command
from producers import known
from producers.hint import train_command
from producers.messages import Plan, messages, schema_of
from streaming_nn.records.decode import decode
from streaming_nn.records.infer_schema import infer_schema
from streaming_nn.records.schema import schema_from, width
from streaming_nn.settings import load
from streaming_nn.spark.train.initial_schema import NOT_GIVEN

pytestmark = pytest.mark.commit

ROWS = 400
rng = np.random.default_rng(0)


def wine():
    """UCI wine quality: semicolons, quoted names with blanks."""  # archive.ics.uci.edu/dataset/186
    lines = ['"fixed acidity";"volatile acidity";"pH";"quality"']
    lines += [f"{7 + i % 5 / 10};{i % 90 / 100};{3.2};{3 + i % 6}" for i in range(ROWS)]
    return "\n".join(lines) + "\n"


def power():
    """UCI household power: semicolons, `?` where nothing was measured, dates by day first."""  # dataset/235
    lines = ["Date;Time;Global_active_power;Voltage;Sub_metering_3"]
    for i in range(ROWS):
        values = "?;?;" if i % 80 == 7 else f"{4 + i % 7 / 1000:.3f};{234.84 + i % 9:.3f};{17 + i % 3:.3f}"
        lines.append(f"16/12/2006;{17 + i // 60:02}:{i % 60:02}:00;{values}")
    return "\r\n".join(lines) + "\r\n"


def air_quality():
    """UCI air quality: decimal commas, trailing delimiters, -200 for a gap, empty lines."""  # dataset/360
    lines = ["Date;Time;CO(GT);PT08.S1(CO);T;AH;;"]
    for i in range(ROWS):
        co = "-200" if i % 5 == 1 else f"{2 + i % 9},{i % 10}"
        lines.append(f"10/03/2004;{i % 24:02}.00.00;{co};{1360 + i};13,{i % 10};0,{7578 + i};;")
    return "\r\n".join([*lines, *[";;;;;;;"] * 9]) + "\r\n"


def adult():
    """UCI adult: no header, blanks after commas, `?` among strings."""  # dataset/2
    work = ["State-gov", "Private", "?", "Self-emp-not-inc"]
    lines = [
        f"{20 + i % 60}, {work[i % 4]}, {77516 + i}, Bachelors, {'Male' if i % 3 else 'Female'}, "
        f"{i % 7 * 100}, United-States, {'>50K' if i % 4 == 0 else '<=50K'}"
        for i in range(ROWS)
    ]
    return "\n".join(lines) + "\n\n"


def titanic():
    """Kaggle's Titanic: names with commas and doubled quotes, gaps, the label in the second column."""
    lines = ["PassengerId,Survived,Pclass,Name,Sex,Age,Ticket,Fare,Cabin,Embarked"]
    for i in range(ROWS):
        name = f'"Braund{i}, Mr. Owen ""O{i}"""'
        age, cabin, port = "" if i % 6 == 0 else 20 + i % 50, "" if i % 4 else f"C{i}", "SCQ"[i % 3]
        sex = "male" if i % 2 else "female"
        lines.append(f"{i + 1},{int(i % 3 == 0)},{1 + i % 3},{name},{sex},{age},A/5 {i},7.25,{cabin},{port}")
    return "\n".join(lines) + "\n"


def latin():
    """A European export: Latin-1, semicolons, a decimal comma, thousands."""
    lines = ["Größe;Stadt;Preis;Qualität"]
    lines += [f"{i % 7},5;{'Köln' if i % 2 else 'Zürich'};1.{100 + i},50;gut" for i in range(ROWS // 2)]
    return "\r\n".join([*lines, *[f"{i % 7},5;Köln;99,00;schön" for i in range(ROWS // 2)]]).encode("latin-1")


def tabs():
    """A table with tabs, a BOM and dates."""
    lines = ["when\tok\tx\tlabel"]
    lines += [f"2024-01-{1 + i % 28:02}\t{'yes' if i % 3 else 'no'}\t{i / 8}\t{i % 2}" for i in range(ROWS)]
    return ("\n".join(lines) + "\n").encode("utf-8-sig")


CASES = {  # file, flags, columns in one line, rows that have no label
    "wine": (wine, [], "delimiter ';', encoding utf-8, header; columns: 4 number", 0),
    "power": (
        power,
        ["--regression"],
        "delimiter ';', encoding utf-8, header, missing values '?'; columns: 2 date, 3 number",
        5,
    ),
    "air": (
        air_quality,
        ["--regression", "--na-values=-200"],
        "delimiter ';', encoding utf-8, header, decimal ',', missing values '-200'; "
        "columns: 2 date, 4 number; sent, but not among the features to learn: Date",  # 10 March, or October
        0,
    ),
    "adult": (
        adult,
        [],
        "delimiter ',', encoding utf-8, no header, missing values '?'; columns: 3 number, 5 string",
        0,
    ),
    "titanic": (
        titanic,
        ["--label=Survived"],
        "delimiter ',', encoding utf-8, header; columns: 5 number, 5 string; "
        "sent, but not among the features to learn: Name, Ticket, Cabin",
        0,
    ),
    "latin": (
        latin,
        [],
        "delimiter ';', encoding latin-1, header, decimal ',', thousands '.'; columns: 2 number, 2 string",
        0,
    ),
    "tabs": (
        tabs,
        [],
        "delimiter '\\t', encoding utf-8-sig, header; columns: 1 date, 1 string, 2 number",
        0,
    ),
}


def open_case(tmp_path, case, **more):
    make, flags, _, _ = CASES[case]
    content = make()
    path = tmp_path / f"{case}.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    options = {flag.removeprefix("--").partition("=")[0]: flag.partition("=")[2] or True for flag in flags}
    words = options.pop("na-values", None)
    return known.file("csv", path, dialect={"na_values": (words,)} if words else {}, **options, **more)


def learned(schema, plan, values):
    """Decode records by the settings of the printed command, as `streaming-nn train` reads it."""
    words = shlex.split(train_command(schema, plan.topic, "localhost:9092", None))
    assert words[:4] == ["streaming-nn", "train", "--bootstrap", "localhost:9092"]
    sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    records = load(None, {"records": {"regression": True if "--regression" in words else None}}, sets).records
    options = records.model_dump(exclude={"regression", "inputs", "classes", "max_bytes"})
    given = {name: value for name, value in options.items() if name not in NOT_GIVEN}
    inferred = infer_schema(values, regression=records.regression, **given)
    assert inferred.inputs == (
        width(records.features, records.categories, records.datetimes) or inferred.inputs
    )
    options |= {"inputs": inferred.inputs, "classes": inferred.classes}
    return decode(schema_from(options), values, labeled=True), inferred


@pytest.mark.parametrize("format", ["json", "csv"])
@pytest.mark.parametrize("case", CASES)
def test_a_published_file_is_sent_and_learned_by_the_printed_command(tmp_path, case, format):
    stream, plan = open_case(tmp_path, case), Plan("t", format=format)
    schema, values = schema_of(stream, plan), [m.value for m in messages(stream, plan)]
    assert stream.note == f"{case}.csv: {CASES[case][2]}"
    decoded, inferred = learned(schema, plan, values)
    assert len(values) == ROWS
    assert {r.reason for r in decoded.rejected} <= {"label missing"}
    assert len(decoded.rejected) == CASES[case][3]
    assert len(decoded.kept) == ROWS - CASES[case][3]
    assert inferred.classes == schema.classes
    again = decode(schema, values, labeled=True)
    np.testing.assert_array_equal(decoded.x, again.x)
    np.testing.assert_array_equal(decoded.y, again.y)


@pytest.mark.parametrize(
    ("case", "setting", "days"),
    [
        ("power", '{Date = {format = "%d/%m/%Y"}, Time = {}}', [13_498.0, 17 / 24]),
        ("air", '{Time = {format = "%H.%M.%S"}}', [0.0]),
        ("tabs", "{when = {}}", [19_723.0]),
    ],
)
def test_dates_that_were_sent_are_learned_as_days(tmp_path, case, setting, days):
    stream, plan = open_case(tmp_path, case), Plan("t")
    schema, values = schema_of(stream, plan), [m.value for m in messages(stream, plan)]
    words = shlex.split(train_command(schema, "t", "localhost:9092", None))
    assert f"records.datetimes={setting}" in words
    decoded, _ = learned(schema, plan, values)
    at = [i for i, name in enumerate(schema.columns) if name.endswith("@days")]
    np.testing.assert_array_equal(decoded.x[0, at], days)


def test_dates_of_parquet_and_json_lines_are_learned_as_days(tmp_path):
    at = [datetime(2024, 1, 1 + i % 28, 12) for i in range(ROWS)]
    took = [timedelta(hours=i) for i in range(ROWS)]
    table = pa.table({"at": at, "took": took, "x": range(ROWS), "y": [i % 2 for i in range(ROWS)]})
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    rows = [{"at": f"{moment:%d.%m.%Y %H:%M}", "x": i, "y": i % 2} for i, moment in enumerate(at)]
    write_jsonl(tmp_path / "t.jsonl", rows)
    for kind, left_out in (("parquet", ("took",)), ("jsonl", ())):
        stream, plan = known.file(kind, tmp_path / f"t.{kind}"), Plan("t")
        assert stream.left_out == left_out
        schema, values = schema_of(stream, plan), [m.value for m in messages(stream, plan)]
        decoded, _ = learned(schema, plan, values)
        assert schema.columns == ("at@days", "x")
        np.testing.assert_array_equal(decoded.x[:2], [[19_723.5, 0], [19_724.5, 1]])


def first_record(tmp_path, case, row=0):
    stream = open_case(tmp_path, case)
    values = [m.value for m in messages(stream, Plan("t"))]
    return json.loads(values[row])


def test_values_are_sent_as_they_are(tmp_path):
    assert first_record(tmp_path, "wine") == {"features": [7, 0, 3.2], "label": 3, "id": 0}
    assert first_record(tmp_path, "power") == {
        "Date": "16/12/2006",
        "Time": "17:00:00",
        "Global_active_power": 4,
        "Voltage": 234.84,
        "Sub_metering_3": 17,
        "id": 0,
    }
    assert first_record(tmp_path, "power", 7)["Voltage"] is None
    air = first_record(tmp_path, "air", 1)
    assert (air["Date"], air["Time"], air["CO(GT)"], air["AH"]) == ("10/03/2004", "01.00.00", None, 0.7579)
    assert "_c6" not in air
    work = first_record(tmp_path, "adult", 2)
    assert (work["_c0"], work["_c1"], work["_c6"], work["_c7"]) == (22, None, "United-States", "<=50K")
    sailor = first_record(tmp_path, "titanic", 6)
    assert (sailor["Name"], sailor["Age"], sailor["Survived"]) == ('Braund6, Mr. Owen "O6"', None, 1)
    assert first_record(tmp_path, "latin") == {
        "Größe": 0.5,
        "Stadt": "Zürich",
        "Preis": 1100.5,
        "Qualität": "gut",
        "id": 0,
    }
    flag = first_record(tmp_path, "tabs", 1)
    assert flag == {"when": "2024-01-02", "ok": "yes", "x": 0.125, "label": 1, "id": 1}


def run(*arguments):
    return CliRunner().invoke(command.app, [*map(str, arguments)])


def test_the_command_prints_the_dialect_in_one_line_and_how_to_learn_it(tmp_path, monkeypatch):
    """The flags of the dialect, and the last lines before anything is sent."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "require_topics", lambda *_: None)
    monkeypatch.setattr(command, "producer", lambda *_: None)
    sent = []

    def send(ready, *_):
        sent.extend(message.value for message in ready)
        return command.NOTHING

    monkeypatch.setattr(command, "send", send)
    (tmp_path / "t.csv").write_text("a b|n\n1|x\n-|y\n3|x\n")
    result = run("csv", "t.csv", "--topic", "t", "--na-values", "-,?", "--delimiter", "|")
    assert result.exit_code == 0
    note, learn = result.stderr.splitlines()
    assert note == (
        "t.csv: delimiter '|', encoding utf-8, header, missing values '-', '?'; columns: 1 number, 1 string"
    )
    assert learn == (
        "learn it with: streaming-nn train --bootstrap localhost:9092 --topic t --set records.missing=true"
    )
    assert json.loads(sent[1]) == {"features": [None], "label": "y", "id": 1}
    (tmp_path / "t.csv").write_text("1\t'x y'\t2\n3\t'z'\t4\n")
    flags = ["--delimiter=tab", "--quote='", "--no-header", "--thousands=none", "--encoding=latin-1"]
    result = run("csv", "t.csv", *flags, "--regression")
    assert "delimiter '\\t', encoding latin-1, no header, quote \"'\"" in result.stderr
    assert result.stderr.splitlines()[1].endswith(
        '--regression --set \'records.features=["_c0", "_c1"]\' --set \'records.label="_c2"\' '
        "--set 'records.categories={_c1 = {hash = 32}}'"
    )
    assert json.loads(sent[-1]) == {"_c0": 3, "_c1": "z", "_c2": 4, "id": 1}
    (tmp_path / "t.csv").write_text("a,b,y\n5%,3 kg,0\n12.5 %,4 kg,1\n")
    result = run("csv", "t.csv")
    assert "header, units '%'; columns: 2 number, 1 string" in result.stderr
    assert json.loads(sent[-1]) == {"a": 12.5, "b": "4 kg", "y": 1, "id": 1}
    result = run("csv", "t.csv", "--units", "kg,%")
    assert json.loads(sent[-1]) == {"features": [12.5, 4], "label": 1, "id": 1}
    run("csv", "t.csv", "--units", "none")
    assert json.loads(sent[-1]) == {"a": "12.5 %", "b": "4 kg", "y": 1, "id": 1}


def test_an_ambiguous_file_names_the_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("a;b\n1,500;0\n3,500;1\n")
    result = run("csv", "t.csv", "--describe")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "producers: t.csv: cannot detect whether 1,234 has a decimal comma: "
        "set decimal=',' or thousands=','\n"
    )
    assert run("csv", "t.csv", "--describe", "--decimal", ",").exit_code == 0
    assert run("sea", "--describe", "--decimal", ",").stderr == (
        "producers: --decimal applies to csv only; got stream sea\n"
    )


@pytest.mark.parametrize("opener", [gzip.open, bz2.open, lzma.open])
def test_compressed_files_are_read(tmp_path, opener):
    with opener(tmp_path / "t.csv.gz", "wb") as file:
        file.write(wine().encode())
    stream = known.file("csv", tmp_path / "t.csv.gz")
    assert sum(len(block.x) for block in stream.blocks) == ROWS
    whole = (tmp_path / "t.csv.gz").read_bytes()
    (tmp_path / "t.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cannot decompress t\.csv\.gz: "):
        list(known.file("csv", tmp_path / "t.csv.gz").blocks)


def test_a_file_larger_than_the_sample_is_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr("producers.tables.SAMPLE", 1 << 12)
    (tmp_path / "t.csv").write_text(wine())
    stream = known.file("csv", tmp_path / "t.csv")
    assert sum(len(block.x) for block in stream.blocks) == ROWS
    with (tmp_path / "t.csv").open("ab") as file:
        file.write("7;é;1;2\n".encode("latin-1"))
    with pytest.raises(ValueError) as raised:
        list(known.file("csv", tmp_path / "t.csv").blocks)
    assert str(raised.value).startswith("t.csv: utf-8 cannot decode what follows row ")
    assert str(raised.value).endswith("; set encoding")
    (tmp_path / "t.csv").write_text(wine() + "7;8\n")
    with pytest.raises(ValueError) as raised:
        list(known.file("csv", tmp_path / "t.csv").blocks)
    assert str(raised.value) == "t.csv: cannot read row 401: it has 2 fields, and the file 4 columns"


def write_jsonl(path, rows):
    path.write_text("\ufeff" + "\n\n".join(json.dumps(row) for row in rows) + "\n")


def test_json_lines_are_sent_as_they_are(tmp_path):
    rows = [
        {
            "id": f"k{i}",
            "x": i / 4,
            "ok": i % 2 == 0,
            "where": {"city": "Ulm"},
            "kind": "ab"[i % 2],
            "y": i % 3,
        }
        for i in range(ROWS)
    ]
    rows[7] |= {"x": None}
    del rows[8]["kind"]
    rows[9] |= {"x": "9"}
    write_jsonl(tmp_path / "t.jsonl", rows)
    stream = known.file("jsonl", tmp_path / "t.jsonl")
    values = [m.value for m in messages(stream, Plan("t"))]
    found = [json.loads(value) for value in values]
    assert found[8] == rows[8] | {"kind": None}
    assert [row for i, row in enumerate(found) if i != 8] == [row for i, row in enumerate(rows) if i != 8]
    schema = schema_of(stream, Plan("t"))
    assert (schema.features, schema.label, schema.classes) == (("x", "ok", "kind"), "y", (0, 1, 2))


def test_json_lines_of_arrays_keep_their_names(tmp_path):
    write_jsonl(tmp_path / "t.jsonl", [{"id": i, "emb": [i, 0.5], "y": i % 2} for i in range(ROWS)])
    stream, plan = known.file("jsonl", tmp_path / "t.jsonl"), Plan("t")
    schema, values = schema_of(stream, plan), [m.value for m in messages(stream, plan)]
    assert (schema.features, schema.inputs, schema.label) == ("emb", 2, "y")
    decoded, _ = learned(schema, plan, values)
    np.testing.assert_array_equal(decoded.x[:, 0], np.arange(ROWS))
    assert decoded.rejected == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "t.jsonl has no rows"),
        ('{"a": 1}\n[1]\n', "t.jsonl: row 2 must be a JSON object; it looks like an array without a name: "),
        (
            '"{\\"a\\": 1}"\n',
            "t.jsonl: row 1 must be a JSON object; it looks like JSON that is encoded twice",
        ),
        ("1 3:0.5\n", "t.jsonl: row 1 must be JSON: it looks like LIBSVM's format: "),
        ('{"a": 1}\n{"a"\n', "t.jsonl: row 2 must be JSON: "),
    ],
)
def test_invalid_json_lines_raise_one_line(tmp_path, text, error):
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(ValueError) as raised:
        known.file("jsonl", tmp_path / "t.jsonl")
    assert str(raised.value).startswith(error)
    assert "\n" not in str(raised.value)


def test_parquet_sends_strings_dates_and_decimals(tmp_path):
    import datetime
    from decimal import Decimal

    day = datetime.date(2024, 2, 29)
    table = pa.table(
        {
            "size": pa.array([1.5, None, float("nan"), 4.0] * 100),
            "n": pa.array([1, 2, 3, None] * 100),
            "price": pa.array([Decimal("1.25"), None] * 200),
            "city": pa.array(["Ulm", "Köln", None, "Bonn"] * 100).dictionary_encode(),
            "day": pa.array([day] * 400),
            "at": pa.array([datetime.datetime(2024, 2, 29, 12, 30)] * 400),
            "label": pa.array(["a", "b"] * 199 + ["b", "a"]),
        }
    )
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    stream, plan = known.file("parquet", tmp_path / "t.parquet"), Plan("t")
    schema, values = schema_of(stream, plan), [m.value for m in messages(stream, plan)]
    assert json.loads(values[0]) == {
        "size": 1.5,
        "n": 1,
        "price": 1.25,
        "city": "Ulm",
        "day": "2024-02-29",
        "at": "2024-02-29T12:30:00",
        "label": "a",
        "id": 0,
    }
    assert [json.loads(value)["size"] for value in values[1:3]] == [None, None]
    assert schema.features == ("size", "n", "price", "city", "day", "at")
    decoded, _ = learned(schema, plan, values)
    assert decoded.rejected == []


def test_columns_of_bytes_are_refused(tmp_path):
    table = pa.table({"a": pa.array([b"x", b"y"]), "label": [0, 1]})
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(ValueError) as raised:
        known.file("parquet", tmp_path / "t.parquet")
    assert str(raised.value) == "column 'a' of t.parquet is of bytes: leave it out (--features)"


def test_parquet_arrays_of_numbers_are_features(tmp_path):
    table = pa.table({"id": range(300), "emb": [[i, i / 2] for i in range(300)], "y": [0, 1, 2] * 100})
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    stream, plan = known.file("parquet", tmp_path / "t.parquet"), Plan("t")
    decoded, _ = learned(schema_of(stream, plan), plan, [m.value for m in messages(stream, plan)])
    np.testing.assert_array_equal(decoded.x, [[i, i / 2] for i in range(300)])
    assert decoded.rejected == []


@pytest.mark.parametrize("format", ["json", "csv"])
def test_corrupted_rows_of_a_file_with_strings_and_gaps_are_rejected(tmp_path, format):
    stream, plan = open_case(tmp_path, "titanic"), Plan("t", malformed=0.5, format=format)
    out = list(messages(stream, plan))
    bad = [m.value for m in out if m.kind == "malformed"]
    assert len(bad) > 100
    assert len(decode(schema_of(stream, plan), bad, labeled=True).kept) == 0


def test_unlabeled_rows_of_a_file_with_strings_have_no_label(tmp_path):
    stream, plan = open_case(tmp_path, "adult"), Plan("t", "u", unlabeled=1.0)
    values = [m.value for m in messages(stream, plan)]
    assert all("_c7" not in json.loads(value) for value in values)
    assert decode(schema_of(stream, plan), values, labeled=False).rejected == []


def test_labels_of_another_kind_than_the_first_are_no_classes(tmp_path):
    rows = "".join(f"{i},{i % 2}\n" for i in range(300))
    (tmp_path / "t.csv").write_text(f"a,label\n{rows}1,what?\n")
    stream = known.file("csv", tmp_path / "t.csv")
    assert stream.classes == (0, 1)
    values = [m.value for m in messages(stream, Plan("t"))]
    decoded = decode(schema_of(stream, Plan("t")), values, labeled=True)
    assert [(r.position, r.reason) for r in decoded.rejected] == [(300, "label not in classes")]
