import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from pyspark.errors import AnalysisException
from typer.main import get_command

from streaming_nn import __version__
from streaming_nn.cli import app as commands
from streaming_nn.errors import DamagedVersionError, DataLossError, TooManyRejectedError, VersionConflictError


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty folder, and the signal as it was: `main` takes it."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["streaming-nn", *words])
    with pytest.raises(SystemExit) as ended:
        commands.main()
    code = ended.value.code
    return code if isinstance(code, int) else 0


def leaves(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, sub in getattr(command, "commands", {}).items():
        yield from leaves(sub, *path, name)
    if not getattr(command, "commands", None):
        yield path, command


COMMANDS = dict(leaves(get_command(commands.app)))


def test_the_commands_are_those_of_the_readme() -> None:
    alone = {path[0] for path in COMMANDS if len(path) == 1}
    assert {"demo", "train", "score", "replay"} <= alone
    assert {path[1] for path in COMMANDS if path[0] == "broker"} == {"start", "stop", "status", "topics"}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_tells_what_a_command_does_and_each_of_its_flags(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert call(monkeypatch, *path, "--help") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert COMMANDS[path].help.split(";")[0].split("\n")[0][:60] in said
    for parameter in COMMANDS[path].params:
        if parameter.opts[0].startswith("-"):
            assert parameter.opts[0] in said


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["train"], 2, 'kafka must have "bootstrap.servers"; give --bootstrap'),
        (["score"], 2, 'kafka must have "bootstrap.servers"; give --bootstrap'),
        (["replay"], 2, 'kafka must have "bootstrap.servers"; give --bootstrap'),
        (["replay", "--bootstrap", "x:1"], 2, "model model: there is no version yet"),
        (["replay", "--bootstrap", "x:1", "--into", "x"], 2, "model model: there is no version yet"),
        (["replay", "--into", "x"], 2, 'kafka must have "bootstrap.servers"; give --bootstrap'),
        (["replay", "--bootstrap", "x:1", "--try", "seed=1"], 2, "--try, --since, --until and --topic need"),
        (["replay", "--bootstrap", "x:1", "--into", "x", "--try", "seed"], 2, "a try must be key=value"),
        (["replay", "--bootstrap", "x:1", "--into", "x", "--since", "noon"], 2, "a time must be like 2026-"),
        (["replay", "--bootstrap", "x:1", "--into", "x", "--to", "2", "--until", "2026-01-01"], 2, "a range"),
        (["replay", "--bootstrap", "x:1", "--into", "x", "--to", "2", "--topic", "t"], 2, "--from and --to"),
        (["replay", "--verify", "--into", "x"], 2, "--verify learns again as it was"),
        (["replay", "--label", "y"], 2, "--label, --features and --regression are for --file"),
        (["replay", "--file", "no.csv"], 2, "there is no file 'no.csv'"),
        (["replay", "--file", "no.txt"], 2, "--file must end in .csv, .npz, .parquet"),
        (["replay", "--file", "no.csv", "--from", "1"], 2, "--file is learned whole"),
        (["train", "-c", "no.toml"], 2, "settings file no.toml: there is no such file"),
        (["train", "-s", "train.topcs=a"], 2, "setting train.topcs is not known"),
        (["train", "-s", "train"], 2, "--set must be section.key=value"),
        (["train", "--source", "text", "--topic", "t"], 2, "--topic is Kafka's: what another source has is"),
        (["train", "--source", "text", "--source-option", "path"], 2, "--source-option must be KEY=VALUE"),
        (["train", "--source", "Kafka"], 2, "setting source.format: must be another source than Kafka"),
        (["score", "--max-age", "-1"], 2, "setting score.max_age"),
        *[
            (["demo", "--seconds", s], 2, f"--seconds must be a number in [5, 86400]; got {s}")
            for s in ("1.0", "inf", "nan", "86401.0")
        ],
        (["broker", "start", "--port", "99999"], 2, "--port must be 0 to 65535; got 99999"),
        (["broker", "start", "--port", "-1"], 2, "--port must be 0 to 65535; got -1"),
        *[
            (["demo", "--dir", f"{__file__}{rest}"], 2, f"--dir must be a folder; got '{__file__}{rest}'")
            for rest in ("", "/below")
        ],
        *[
            (
                ["train", "--bootstrap", "x:1", "--hidden", text],
                2,
                "--hidden must be whole numbers with commas",
            )
            for text in ("64,x", "64,", "-1", "")
        ],
        (["train", "-c", "."], 2, "settings file .: it can't be read: Is a directory"),
        (["train", "--classes", "grow", "--regression"], 2, "setting records: classes can't grow"),
        (["train", "--bootstrap", "x:1", "--optimizer", "adm"], 2, "optimizer must be one of 'sgd'"),
        (["broker", "stop"], 1, "no broker is running in broker"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_ends_in_one_line_and_a_code(
    words: list[str],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, *words) == code
    out, err = capsys.readouterr()
    assert err.startswith(f"streaming-nn: {said}")
    assert (err.count("\n"), out) == (1, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "train"),
        (["train", "--bogus"], "--bogus"),
        (["demo", "now"], "now"),
        (["demo", "--stream", "weather"], "--stream must be one of digits, machine; got 'weather'"),
        (["demo", "--stream", "machine", "--rate", "0.5"], "--rate of machine must be 1 to 100; got 0.5"),
        (["demo", "--rate", "9"], "--rate of digits must be 10 or more; got 9"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_words_that_are_no_command(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (VersionConflictError("another was first", 3, None), 3),
        (DataLossError("records are gone"), 4),
        (TooManyRejectedError("too many"), 5),
        (ConnectionError("no broker answers"), 1),
        (RuntimeError("Java 17 or newer is needed"), 1),
        (LookupError("no such topic"), 1),
        (ValueError("hidden must be whole"), 2),
        (DamagedVersionError("the last good version is 3"), 6),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_end_has_a_code_of_its_own(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(commands, "app", fail)
    assert call(monkeypatch) == code
    assert capsys.readouterr().err == f"streaming-nn: {error}\n"


def test_an_error_of_spark_is_one_line_and_one_of_ours_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(error: Exception) -> None:
        raise error

    page = "Failed to find data source: kafka.\n  at org.apache.spark.Some.where(Some.scala:1)\n  at py4j"
    monkeypatch.setattr(commands, "app", lambda: fail(AnalysisException(page)))
    assert call(monkeypatch) == 1
    assert capsys.readouterr().err == "streaming-nn: Spark says: Failed to find data source: kafka.\n"
    monkeypatch.setattr(commands, "app", lambda: fail(TypeError("a mistake of ours")))
    monkeypatch.setattr(sys, "argv", ["streaming-nn"])
    with pytest.raises(TypeError):
        commands.main()


def test_the_codes_are_those_of_the_guarantees() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text()
    assert all(f"exit code {code}" in page for code in commands.CODES.values())


def test_ctrl_c_and_a_term_signal_end_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "app", lambda: signal.raise_signal(signal.SIGTERM))
    assert call(monkeypatch) == 130


def test_no_broker_is_running(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "broker", "status") == 1
    assert capsys.readouterr().out == "not running\n"
