"""The README is true: short, its commands exist, and its examples run."""

import re
import shlex
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from kafka import KafkaProducer
from typer.main import get_command

from producers.__main__ import app as producers_app
from streaming_nn.cli.app import app, run
from streaming_nn.kafka import admin
from streaming_nn.kafka.broker import _free_port
from streaming_nn.records.decode import encode
from streaming_nn.records.schema import Schema
from streaming_nn.settings import load

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

from paths import ROOT

pytestmark = pytest.mark.commit

TEXT = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent
APPS = {"streaming-nn": app, "producers": producers_app}
SETUP = [  # as the project promises them, to the letter
    "python3 -m venv .venv && .venv/bin/pip install -e '.[demo]' && .venv/bin/streaming-nn demo",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest",
]


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert found, f"README has no {language} any more"
    return found


def commands() -> list[list[str]]:
    """Give the commands of the README but the set-up lines: program, then its words."""
    lines = [line for block in blocks("sh") for line in block.splitlines() if line not in SETUP]
    words = [shlex.split(line, comments=True) for line in lines]
    programs = {".venv/bin/streaming-nn": 1, ".venv/bin/python": 3}  # python -m producers …
    assert all(line[0] in programs for line in words)
    return [[Path(line[programs[line[0]] - 1]).name, *line[programs[line[0]] :]] for line in words]


def flags(command: Any) -> set[str]:
    own = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    return own.union(*(flags(sub) for sub in getattr(command, "commands", {}).values()))


def settings_file(folder: Path, bootstrap: str) -> Path:
    file = folder / "streaming-nn.toml"
    file.write_text(blocks("toml")[0].replace("localhost:9092", bootstrap))
    return file


def make_topics(options: dict[str, str]) -> None:
    for topic, partitions in {"labeled": 3, "unlabeled": 1, "predictions": 1}.items():
        admin.create(options, topic, partitions, exist_ok=True)


def fill(options: dict[str, str], topic: str, rows: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    values = encode(Schema(inputs=4, classes=("no", "yes")), x, y)
    producer = KafkaProducer(bootstrap_servers=options["bootstrap.servers"])
    for row, value in enumerate(values):
        producer.send(topic, key=str(row).encode(), value=value)
    producer.flush(30)
    producer.close()


def test_it_is_short() -> None:
    assert len(TEXT.splitlines()) < 150


def test_the_two_commands_are_there_and_their_extras_exist() -> None:
    assert blocks("sh")[0].splitlines() == SETUP
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"demo", "test"} <= set(extras)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_exists_with_its_flags(words: list[str]) -> None:
    command: Any = get_command(APPS[words[0]])
    rest = words[1:]
    while getattr(command, "commands", None):
        command = command.commands[rest.pop(0)]
    command.make_context(words[0], rest)  # parses and checks, runs nothing


def test_every_flag_that_is_named_exists() -> None:
    named = set(re.findall(r"`(--[a-z-]+)", TEXT))
    assert {"--seconds", "--json", "--dir", "--set"} <= named
    assert named <= flags(get_command(app))


def test_files_that_are_named_exist() -> None:
    named = re.findall(r"\]\(([^)#]+)\)", TEXT) + re.findall(r"`((?:streaming_nn|producers)/[^`]*)`", TEXT)
    assert len(named) > 8
    for path in [*named, ".ci/run", "LICENSE", "CHANGELOG.md"]:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", ["docs/guarantees.md", "docs/decisions.md", "CONTRIBUTING.md"])
def test_tests_and_sources_that_the_pages_name_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    for path in re.findall(r"`((?:tests|streaming_nn|docs)/[\w/.-]+)`", text):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"::(test_\w+)", text):
        assert any(f"def {name}(" in file.read_text() for file in (ROOT / "tests").rglob("*.py")), name


def test_the_settings_are_read(tmp_path: Path) -> None:
    settings = load(settings_file(tmp_path, "somewhere:9092"))
    assert settings.kafka == {"bootstrap.servers": "somewhere:9092"}
    assert (settings.train.topics, settings.learner["hidden"]) == (["labeled"], [64])


def test_the_network_learns(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks("python")[0], "README.md", "exec"), {})
    prequential, served = map(float, capsys.readouterr().out.split())
    assert prequential > 0.8
    assert served > 0.75


@pytest.mark.smoke
@pytest.mark.merge
def test_the_example_on_spark_runs(
    spark: "SparkSession",
    broker: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings_file(tmp_path, broker.bootstrap)
    monkeypatch.chdir(tmp_path)
    make_topics(broker.options)
    fill(broker.options, "labeled", 1500)
    try:
        exec(compile(blocks("python")[1], "README.md", "exec"), {})
    finally:
        for topic in ("labeled", "unlabeled", "predictions"):
            admin.delete(broker.options, topic)
    accuracy, identical = capsys.readouterr().out.splitlines()[-2:]
    assert 0 <= float(accuracy) <= 1
    assert identical == "True"


def check_topics(bootstrap: str, folder: Path, records: int) -> None:
    """Check what README's commands have left: every record learned or scored, a line of metrics a version."""
    ends = admin.ends({"bootstrap.servers": bootstrap}, ["labeled", "unlabeled", "predictions"])
    labeled, unlabeled, predictions = (sum(ends[t].values()) for t in ("labeled", "unlabeled", "predictions"))
    assert (labeled + unlabeled, predictions) == (records, unlabeled)
    assert (folder / "metrics.jsonl").read_text().count("\n") >= 2


def check_page(command: list[str], folder: Path) -> None:
    """Check that the page is served until SIGTERM."""
    page = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        assert page.stderr is not None
        address = page.stderr.readline().split()[-1]
        assert b"page.js" in urllib.request.urlopen(address, timeout=10).read()
    finally:
        page.terminate()
        assert page.wait(20) == 130


def with_port(words: list[str], port: str) -> list[str]:
    """Add a port to `broker start`: another broker may have README's."""
    return [*words, "--port", port] if words[:2] == ["broker", "start"] else words


@pytest.mark.merge
@pytest.mark.timeout(200)
def test_the_five_lines_work_in_order_in_this_process(
    spark: "SparkSession",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """On the session's Spark, with fewer records; the nightly tier runs all commands as processes."""

    @contextmanager
    def running(*given: Any) -> Iterator["SparkSession"]:
        yield spark

    monkeypatch.setattr("streaming_nn.spark.session.running", running)
    monkeypatch.chdir(tmp_path)
    port, five = str(_free_port()), commands()[:5]
    assert [words[1] for words in five] == ["broker", "broker", "digits", "train", "score"]
    settings_file(tmp_path, f"127.0.0.1:{port}")
    try:
        for program, *words in five:
            if program == "producers":
                fewer = ["2000" if word == "20000" else word for word in words]
                command = [str(BIN / "python"), "-m", program, *fewer]
                assert subprocess.run(command, timeout=100).returncode == 0
            else:
                assert run(with_port(words, port)) == 0, capfd.readouterr().err
        check_topics(f"127.0.0.1:{port}", tmp_path, 2000)
    finally:
        run(["broker", "stop"])
    err = capfd.readouterr().err
    assert "version 1 " in err
    assert "scored " in err


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_commands_run_one_after_the_other(tmp_path: Path) -> None:
    port = str(_free_port())
    settings_file(tmp_path, f"127.0.0.1:{port}")
    output = []
    try:
        for program, *words in commands():
            start = [str(BIN / "python"), "-m", program] if program == "producers" else [str(BIN / program)]
            if words == ["broker", "stop"]:
                check_topics(f"127.0.0.1:{port}", tmp_path, 20_000)
            if words == ["page"]:
                check_page([*start, "page", "--port", "0"], tmp_path)
                continue
            command = [*start, *with_port(words, port)]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400)
            assert done.returncode == 0, done.stderr
            output.append(done.stdout + done.stderr)
    finally:
        subprocess.run([str(BIN / "streaming-nn"), "broker", "stop"], cwd=tmp_path, timeout=60)
    everything = "\n".join(output)
    assert "acknowledged" in everything
    assert "version 1 " in everything
    assert "identical" in everything
