"""The guide is true: its steps give the same model with each API, its records are read, its choices exist."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from registries import Registry
from typer.main import get_command

from streaming_nn.cli.app import app
from streaming_nn.nn.factory import LEARNERS, learner_from
from streaming_nn.records import avsc
from streaming_nn.records.decode import decode
from streaming_nn.records.schema import Schema, grow_schema, width
from streaming_nn.settings import Records
from streaming_nn.versions.version import UPDATES, state_digest
from streaming_nn.versions.version_log import VersionLog

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

from paths import ROOT

pytestmark = pytest.mark.commit

TEXT = (ROOT / "docs" / "guide.md").read_text("utf-8")
DATA, SPARK_DATA, ROW_BY_ROW = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
ROWS: list[dict[str, float]] = [
    {"features[0]": 0.5, "features[1]": -1.25},
    {"age": 0.5, "shop.size": -1.25},
    {"age": 0.5, "city=Ulm": 1},
    {"age": 0.5, "city=Ulm, Donau": 1},
    {"age": 0.5, "at@days": 2.5, "v[0]": 1, "v[1]": 2},
]
AVRO = avsc.write_schema("features", (0, 1), "label")


def table(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its first two lines."""
    lines = re.split(r"\n##+ ", TEXT.split(f"\n## {heading}\n")[1])[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line[:1] == "|"][2:]


def code(cell: str) -> str:
    return "\n".join(re.findall(r"`([^`]*)`", cell))


def run(column: int, folder: Path, **names: Any) -> dict[str, Any]:
    """Run the steps of one API, a column of the table."""
    names |= {"folder": str(folder)}
    for row in table("Five steps in three APIs"):
        exec(compile(code(row[column]), "guide.md", "exec"), names)
    return names


def data(more: str = "", **names: Any) -> dict[str, Any]:
    exec(compile(DATA + more, "guide.md", "exec"), names)
    return names


def digest(folder: Path) -> str:
    head = VersionLog(folder).head()
    assert head is not None
    return state_digest(head.tensors)


def figures(report: Any) -> list[float]:
    if isinstance(report, Mapping):
        mean = report["macro avg"]
        return [report["accuracy"], mean["precision"], mean["recall"], mean["f1-score"]]
    return [report.accuracy, report.precision, report.recall, report.f1]


def test_the_five_steps_give_the_same_model_with_numpy_and_pandas(tmp_path: Path) -> None:
    array, frame = (run(column, tmp_path / str(column), **data()) for column in (1, 2))
    assert digest(tmp_path / "1") == digest(tmp_path / "2")
    assert figures(array["report"]) == figures(frame["report"])
    assert min(figures(array["report"])) > 0.85


@pytest.mark.nightly
def test_the_five_steps_give_the_same_model_with_spark_ml(spark: "SparkSession", tmp_path: Path) -> None:
    array = run(1, tmp_path / "1", **data())
    dataframe = run(3, tmp_path / "3", **data(SPARK_DATA, spark=spark))
    assert digest(tmp_path / "3") == digest(tmp_path / "1")
    assert figures(dataframe["report"]) == pytest.approx(figures(array["report"]))


def test_rows_are_learned_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(ROW_BY_ROW, "guide.md", "exec"), data())
    assert 310_000 < float(capsys.readouterr().out) < 450_000


def test_the_page_on_learning_computes_what_it_describes(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "learning.md").read_text("utf-8")
    exec(compile("".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), "learning.md", "exec"), {})
    lines = [[float(word) for word in line.split()] for line in capsys.readouterr().out.splitlines()]
    (window,), (cumulative,), (_, often), (_, served_often), (_, rarely), (_, served_rarely) = lines
    assert window > 0.8
    assert often == rarely == cumulative > 0.9
    assert cumulative > served_often > served_rarely


def schema_of(cell: str, registry: str) -> Schema:
    section: dict[str, Any] = {"inputs": 2, "classes": [0, 1], **tomllib.loads(code(cell))}
    records = Records(**section)  # the keys are those of the settings
    columns = width(records.features, records.categories, records.datetimes)
    options = records.model_dump(exclude={"regression"}, exclude_unset=True)
    real = {"avro_schema": AVRO, "registry": registry}  # a file's content, and a registry that runs
    return Schema(**{**options, **{k: v for k, v in real.items() if k in options}, "inputs": columns or 2})


@pytest.mark.parametrize("row", table("One record of each format"), ids=lambda row: row[0])
def test_a_record_is_read(row: list[str], registry: Registry) -> None:
    registry.add(258, json.loads(AVRO))
    text, schema = code(row[1]), schema_of(row[2], registry.url)
    value = bytes.fromhex(text) if row[1].startswith("hex ") else text.encode()
    known = grow_schema(schema, decode(schema, [value], labeled=True).unseen)
    read = decode(known, [value], labeled=True)
    assert (len(read.rejected), list(read.y if read.y is not None else ())) == (0, [1])
    values = {name: x for name, x in zip(known.columns, read.x[0].tolist(), strict=True) if x}
    if known.features == "words":  # in hashed columns, with a sign
        assert sorted(map(abs, values.values())) == [1, 2]
    else:
        assert values in ROWS


def test_every_format_has_a_record() -> None:
    formats = {schema_of(row[2], "http://registry").format for row in table("One record of each format")}
    assert formats == {"json", "packed", "csv", "avro"}


def test_the_choices_exist() -> None:
    kind, chosen = "", dict[str, set[str]]()
    for row in table("What to choose when"):
        kind = row[0] or kind
        chosen.setdefault(kind, set()).update(code(row[1]).split())
    assert chosen["learner"] == set(LEARNERS)
    assert chosen["update"] == set(UPDATES)
    for reaction in chosen["on drift"]:
        learner_from({"inputs": 2, "classes": (0, 1), "on_drift": reaction})
    (words,) = re.findall(r"`streaming-nn (backtest [^`]*)`", TEXT)
    command: Any = get_command(app)
    command.commands["backtest"].make_context("backtest", words.split()[1:])


def test_pages_that_are_named_exist_with_their_headings() -> None:
    for path, anchor in re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", TEXT):
        page = (ROOT / "docs" / path).read_text("utf-8")
        titles = [re.sub(r"[^\w -]", "", line.lstrip("# ")) for line in page.splitlines() if line[:1] == "#"]
        assert not anchor or anchor in [title.lower().replace(" ", "-") for title in titles], (path, anchor)
