import errno
import io
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from exit_codes import OF_ERRORS
from paths import ROOT
from pyspark.errors import AnalysisException, PySparkException
from typer.main import get_command

from streaming_nn import __version__, errors
from streaming_nn.cli import app as commands
from streaming_nn.kafka import EMBEDDED
from streaming_nn.kafka.broker import Address, Broker
from streaming_nn.spark import temporary

pytestmark = pytest.mark.commit


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run in an empty directory, without the settings of whoever runs the tests."""
    for name in os.environ:
        if name.startswith("STREAMING_NN_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def leaves(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, sub in getattr(command, "commands", {}).items():
        yield from leaves(sub, *path, name)
    if not getattr(command, "commands", None):
        yield path, command


BACKTEST = ["backtest", "--bootstrap", "x:1", "--into", "x"]
COMMANDS = dict(leaves(get_command(commands.app)))


def test_the_commands() -> None:
    alone = {path[0] for path in COMMANDS if len(path) == 1}
    assert alone == {
        "demo",
        "init",
        "train",
        "score",
        "verify",
        "backtest",
        "page",
        "report",
        "export",
        "doctor",
    }
    assert {path[1] for path in COMMANDS if path[0] == "broker"} == {"start", "stop", "status", "topics"}
    assert {path[1] for path in COMMANDS if path[0] == "versions"} == {
        *("list", "show", "diff", "explain", "tag", "rollback", "prune", "check", "repair")
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_describes_the_command_and_each_of_its_options(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert commands.run([*path, "--help"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert COMMANDS[path].help.split(";")[0].split("\n")[0][:60] in page
    for parameter in COMMANDS[path].params:
        if parameter.opts[0].startswith("-"):
            assert parameter.opts[0] in page
            assert " ".join(parameter.help.split())[:30] in page, "rich has read brackets as markup"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train"], 2, 'kafka must have "bootstrap.servers"; give --bootstrap'),
        (["score"], 2, 'kafka must have "bootstrap.servers"; give --bootstrap'),
        (["verify"], 2, 'kafka must have "bootstrap.servers"; give --bootstrap'),
        (["verify", "--bootstrap", "x:1"], 2, "model model: there is no version"),
        (["backtest"], 2, "--into DIR is required"),
        (["backtest", "--topic", "t"], 2, "--into DIR is required"),
        (["backtest", "--into", "x"], 2, 'kafka must have "bootstrap.servers"; give --bootstrap'),
        ([*BACKTEST], 2, "model model: there is no version"),
        ([*BACKTEST, "--trial", "seed"], 2, "a trial must be key=value"),
        ([*BACKTEST, "--since", "noon"], 2, "a time must be like 2026-"),
        ([*BACKTEST, "--to", "2", "--until", "2026-01-01"], 2, "--from and --to cannot be"),
        ([*BACKTEST, "--to", "2", "--topic", "t"], 2, "--from and --to"),
        (["backtest", "--label", "y"], 2, "--label, --features and --regression apply to --file only"),
        (["backtest", "--file", "no.csv"], 2, "no such file: 'no.csv'"),
        (["backtest", "--file", "no.txt"], 2, "--file must end in .csv"),
        (
            ["backtest", "--file", "no.csv", "--from", "1"],
            2,
            "--file cannot be combined with --topic, --from",
        ),
        (["train", "-c", "no.toml"], 2, "settings file no.toml: there is no such file"),
        (["train", "-s", "train.topcs=a"], 2, "unknown setting train.topcs; did you mean train.topics?"),
        (["train", "-s", "train"], 2, "--set must be section.key=value"),
        (["train", "--source", "text", "--topic", "t"], 2, "--topic applies to Kafka only"),
        (["train", "--source", "text", "--source-option", "path"], 2, "--source-option must be KEY=VALUE"),
        (["train", "--source", "Kafka"], 2, "setting source.format: must not be Kafka"),
        (["score", "--max-age", "-1"], 2, "setting score.max_age"),
        *[
            (["demo", "--seconds", s], 2, f"--seconds must be 5 to 86400; got {s}")
            for s in ("1", "inf", "nan", "86401")
        ],
        (["broker", "start", "--port", "99999"], 2, "--port must be 0 to 65535; got 99999"),
        (["broker", "start", "--port", "-1"], 2, "--port must be 0 to 65535; got -1"),
        *[
            (["demo", "--dir", f"{__file__}{rest}"], 2, f"--dir must be a directory; got '{__file__}{rest}'")
            for rest in ("", "/below")
        ],
        *[
            (
                ["train", "--bootstrap", "x:1", "--hidden", text],
                2,
                "--hidden must be comma-separated integers",
            )
            for text in ("64,x", "64,", "-1", "")
        ],
        (["train", "-c", "."], 2, "settings file .: cannot read it: Is a directory"),
        (
            ["train", "--classes", "grow", "--regression"],
            2,
            "setting records: regression and classes = 'grow'",
        ),
        (["train", "--bootstrap", "x:1", "--optimizer", "adm"], 2, "optimizer must be one of 'sgd'"),
        (["broker", "stop"], 1, "no broker is running in broker; start one: streaming-nn broker start"),
        (["broker", "topics", "a:0"], 2, "a topic must be NAME or NAME:PARTITIONS"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_ends_in_one_line_and_a_code(
    words: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert commands.run(words) == code
    out, err = capsys.readouterr()
    assert err.startswith(f"streaming-nn: {message}")
    assert (err.count("\n"), out) == (1, "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'?"),
        (["train", "--bogus"], "No such option: --bogus"),
        (["versions", "diff", "1"], "Missing argument 'b'."),
        (["demo", "now"], "Got unexpected extra argument(s) (now)"),
        (["demo", "--stream", "weather"], "--stream must be one of digits, machine; got 'weather'"),
        (["demo", "--stream", "machine", "--rate", "0.5"], "--rate of machine must be 1 to 100; got 0.5"),
        (["demo", "--rate", "9"], "--rate of digits must be at least 10; got 9"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_misspelled_commands_and_options(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.run(words) == 2
    assert capsys.readouterr() == ("", f"streaming-nn: {message}\n")


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run([]) == 2
    out, err = capsys.readouterr()
    assert ("Usage: streaming-nn" in out + err, "streaming-nn: " in err) == (True, False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.VersionConflictError("another writer was first", 3, None), 3),
        (errors.DataLossError("records have expired"), 4),
        (errors.TooManyRejectedError("too many"), 5),
        (errors.TooManySkippedError("no finite step"), 5),
        (errors.DamagedVersionError("the last good version is 3"), 6),
        (errors.DeadLetterError("cannot send"), 7),
        (ConnectionError("no broker answers"), 1),
        (RuntimeError("Java 17 or newer is required"), 1),
        (LookupError("no such topic"), 1),
        (ValueError("hidden must be integers"), 2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_error_has_its_exit_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "app", failing(error))
    assert commands.run([]) == code
    assert capsys.readouterr().err == f"streaming-nn: {error}\n"


def test_a_file_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """delta#91; a name may have a line break, and an error is one line."""
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/model\nb/versions/1")
    monkeypatch.setattr(commands, "app", failing(error))
    assert commands.run([]) == 1
    assert capsys.readouterr().err == "streaming-nn: /model\\nb/versions/1: No space left on device\n"


@pytest.mark.parametrize(("terminal", "between"), [(True, "\n  "), (False, " | ")])
def test_an_explanation_has_lines_on_a_terminal_and_is_one_line_in_a_log(
    terminal: bool, between: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of errors and of warnings; what is in a name ends no line."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    message = "\n  ".join(["none of 3 records", "the first: b'x'", "with a\nb, 3 would be read"])
    monkeypatch.setattr(commands, "app", failing(errors.TooManyRejectedError(message)))
    assert commands.run([]) == 5
    shown = ["streaming-nn: none of 3 records", "the first: b'x'", "with a\\nb, 3 would be read\n"]
    assert capsys.readouterr().err == between.join(shown)

    def warns(words: list[str], **how: Any) -> None:
        logging.getLogger("streaming_nn.x").warning("none: %s", "\n  ".join(["3 not JSON", "the first"]))

    monkeypatch.setattr(commands, "app", warns)
    assert commands.run([]) == 0
    assert capsys.readouterr().err == between.join(["none: 3 not JSON", "the first\n"])


def test_a_full_disk_under_spark_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = PySparkException("java.lang.RuntimeException: t-0: java.io.IOException: No space left on device")
    monkeypatch.setattr(commands, "app", failing(error))
    assert commands.run([]) == 1
    line = f"streaming-nn: Spark: No space left on device; it writes to {temporary.directory()} ("
    assert capsys.readouterr().err.startswith(line)


def failing(error: Exception) -> Any:
    def app(words: list[str], **how: Any) -> None:
        raise error

    return app


def test_an_error_of_spark_is_one_line_and_a_bug_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = "Failed to find data source: kafka.\n  at org.apache.spark.Some.where(Some.scala:1)\n  at py4j"
    monkeypatch.setattr(commands, "app", failing(AnalysisException(page)))
    assert commands.run([]) == 1
    assert capsys.readouterr().err == "streaming-nn: Spark: Failed to find data source: kafka.\n"
    monkeypatch.setattr(commands, "app", failing(TypeError("a bug")))
    with pytest.raises(TypeError, match="a bug"):
        commands.run([])


def test_the_exit_codes_are_documented() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text()
    assert all(f"exit code {code}" in page for code in OF_ERRORS)


def test_ctrl_c_and_sigterm_end_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(sys, "argv", ["streaming-nn"])
    try:
        for number in before:
            monkeypatch.setattr(commands, "app", lambda *_, number=number, **how: signal.raise_signal(number))
            with pytest.raises(SystemExit) as ended:
                commands.main()
            assert ended.value.code == 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_no_broker_is_running(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["broker", "status"]) == 1
    assert capsys.readouterr().out == "not running\n"


def test_a_missing_bootstrap_names_the_broker_of_this_directory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find(directory: str) -> Broker:
        assert directory == EMBEDDED
        return Broker(Path(directory), Address(1, 9092, 9093))

    monkeypatch.setattr(Broker, "find", find)
    assert commands.run(["train"]) == 2
    assert "(the broker in ./broker listens on 127.0.0.1:9092)" in capsys.readouterr().err


def test_the_package_logs_messages_alone_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(words: list[str], **how: Any) -> None:
        logger = logging.getLogger("streaming_nn.room.module")
        logger.debug("hidden")
        logger.info("%d records", 3)
        logging.getLogger("kafka").warning("not ours")
        monkeypatch.setattr(sys, "stderr", captured)  # as rich does below a live table
        logger.warning("late")

    captured = io.StringIO()
    monkeypatch.setattr(commands, "app", app)
    assert commands.run([]) == 0
    monkeypatch.undo()
    assert capsys.readouterr() == ("", "3 records\n")
    assert captured.getvalue() == "late\n"
    logging.getLogger("streaming_nn").info("after the command")
    assert capsys.readouterr().err == ""


def test_help_imports_nothing_large() -> None:
    code = "from streaming_nn.cli.app import run; run(['train', '--help']); import sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = {name.split(".")[0] for name in ran.stdout.splitlines()[-1].split()}
    large = {"numpy", "pyspark", "py4j", "kafka", "sklearn", "pandas", "pyarrow"}
    assert not large & modules


def test_a_line_is_printed_once_even_if_the_root_logger_has_a_handler(
    capsys: pytest.CaptureFixture[str],
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    try:
        with commands._logging():
            logging.getLogger("streaming_nn.spark.train").info("stopping")
    finally:
        logging.getLogger().removeHandler(handler)
    assert capsys.readouterr().err == "stopping\n"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_json_and_quiet(path: tuple[str, ...]) -> None:
    flags = {flag for parameter in COMMANDS[path].params for flag in parameter.opts}
    assert {"--json", "--quiet", "-q"} <= flags


def test_every_command_has_a_row_in_its_page() -> None:
    table = (ROOT / "docs" / "commands.md").read_text().partition("| command |")[2].partition("\n\n")[0]
    rows = [line.split(" | ")[0].strip("| ") for line in table.splitlines()[2:]]
    names = [name.strip("`") for row in rows for name in row.split(", ")]
    assert sorted(names) == sorted(" ".join(path) for path in COMMANDS)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("versions re", {"repair"}),
        ("train --acc", {"--accept-data-loss"}),
        ("train --set train.max_re", {"train.max_rejected=", "train.max_rejected_bytes="}),
        ("score -s metrics.pro", {"metrics.prometheus="}),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_words_are_completed(
    words: str,
    found: set[str],
    shell: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the variables that the shells' scripts set."""
    typed = f"streaming-nn {words}"
    monkeypatch.setenv("_STREAMING_NN_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", typed)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    assert commands.run([]) == 0
    out = capsys.readouterr().out
    names = re.findall(r'"([^":]+)"' if shell == "zsh" else r"^([^\t\n]+)", out, re.MULTILINE)
    assert {name for name in names if name.startswith(words.split()[-1])} == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_STREAMING_NN_COMPLETE", f"source_{shell}")
    assert commands.run([]) == 0
    assert f"_STREAMING_NN_COMPLETE=complete_{shell}" in capsys.readouterr().out
