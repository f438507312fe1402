"""What commands show while they work: a bar, without a terminal lines, with --quiet nothing. No JVM."""

import logging
import re
import sys
from itertools import count
from pathlib import Path

import pytest
from terminals import COLOURS, HIDDEN, SHOWN, Terminal, terminal

from streaming_nn import doctor
from streaming_nn.cli import app, progress
from streaming_nn.cli.progress import BAR, Lines, describe, duration
from streaming_nn.versions import repair
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

CHECK = ["versions", "check", "--model", "model"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a model directory of 1,201 versions in the working directory, which are all damaged alike."""
    monkeypatch.chdir(tmp_path)
    log = VersionLog(tmp_path / "model")
    log.commit(log.commit(None, {}), {}, kind="learned")
    monkeypatch.setattr(VersionLog, "last", lambda log: 1200)
    monkeypatch.setattr(repair, "_check_file", lambda log, number: ValueError("the same"))
    return tmp_path / "model"


def test_a_line_every_few_seconds(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lines = Lines()
    for done in range(0, 1_000_001, 100_000):
        lines.show("learning records", done, 1_000_000)
        clock[0] += 2.0
    assert caplog.messages == [
        "learning records: 300,000 of 1,000,000, 50,000/s, 14 s left",
        "learning records: 600,000 of 1,000,000, 50,000/s, 8 s left",
        "learning records: 900,000 of 1,000,000, 50,000/s, 2 s left",
    ]


def test_short_work_and_its_end_log_nothing(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lines = Lines()
    for what in ("sending", "learning"):  # each of which takes 8 seconds
        for done in (0, 500, 1000):
            clock[0] += 4.0
            lines.show(what, done, 1000)
    assert caplog.messages == [], "each ended at its second call that was late enough"


def test_the_rate_is_of_this_run(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lines = Lines()
    lines.show("learning versions", 900, 1000)  # a backtest that resumes
    clock[0] += 10.0
    lines.show("learning versions", 910, 1000)
    assert caplog.messages == ["learning versions: 910 of 1,000, 1/s, 1 min 30 s left"]


@pytest.mark.parametrize(
    ("done", "total", "rate", "end"),
    [
        (0, 1000, 0.0, "0/s, unknown time left"),
        (990, 1000, 99.0, "99/s, 0 s left"),
        (10, 1000, 1.0, "1/s, 16 min 30 s left"),
        (1, 1000, 0.1, "0/s, 2 h 46 min left"),
        (5, 0, 5.0, ": 5, 5/s"),
    ],
)
def test_the_time_left_is_short_to_read(done: int, total: int, rate: float, end: str) -> None:
    assert describe("work", done, total, rate).endswith(end)


def test_a_duration() -> None:
    assert [duration(seconds) for seconds in (0.4, 59.6, 3599, 360_000)] == [
        *("0 s", "1 min 00 s", "59 min 59 s", "100 h 00 min")
    ]


@pytest.mark.parametrize("columns", [80, 40])
def test_a_bar_on_a_terminal_is_deleted_at_its_end(
    columns: int, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress.time, "monotonic", count().__next__)  # each call is drawn
    with terminal(monkeypatch, columns) as shown:
        assert app.run(CHECK) == 1
    assert "checking " in shown.text
    assert max(map(len, re.split(r"[\r\n]+", shown.text))) <= columns
    assert ("━" * BAR in shown.text) == (columns == 80)
    assert re.search(r" 1,200/1,201 \d s left", shown.text)
    assert COLOURS.search(shown.output)
    assert shown.output.rindex(SHOWN) > shown.output.rindex(HIDDEN)
    assert shown.output.endswith("\x1b[2K"), "the line of the bar is empty"
    assert capsys.readouterr().out.count("the same") == 1


def test_a_bar_without_an_end_stays_until_something_else_is_done(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streaming_nn")
    with terminal(monkeypatch) as shown, progress.progress() as show:
        stderr = sys.stderr
        show("sending rows", 0, 0)
        assert sys.stderr is not stderr, "log lines are above the bar"
        show("learning", 1, 2)
        show("learning", 2, 2)
        assert sys.stderr is stderr, "something else may be drawn, such as a live table"
        show("learning again", 1, 2)
        assert sys.stderr is not stderr
    assert re.search("sending rows ━+ *\r", shown.text)
    assert "learning again" in shown.text
    assert "sending" not in shown.text.split("learning")[-1]


def test_no_color_is_respected(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as shown:
        monkeypatch.setenv("NO_COLOR", "1")
        assert app.run(CHECK) == 1
    assert "checking versions" in shown.text
    assert not COLOURS.search(shown.output)


@pytest.mark.parametrize(
    "words",
    [["doctor"], ["train", "--help"]],
    ids=" ".join,
)
@pytest.mark.parametrize("no_color", ["", "1"])
def test_no_color_is_respected_by_results(
    words: list[str], no_color: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        doctor, "diagnose", lambda *given: [doctor.Finding("disk", False, "full", "free some")]
    )
    with terminal(monkeypatch, stream="stdout") as shown:
        monkeypatch.setenv("NO_COLOR", no_color)
        app.run(words)
    assert shown.text.strip()
    assert bool(COLOURS.search(shown.output)) == (not no_color)


@pytest.mark.parametrize("flags", [["--quiet"], ["-q"]])
def test_quiet_prints_the_result_only(
    flags: list[str], model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal(monkeypatch) as shown:
        assert app.run([*CHECK, *flags]) == 1
    assert shown.output == ""
    assert "the same" in capsys.readouterr().out
    assert logging.getLogger("streaming_nn").level == logging.NOTSET, "the next command in this process"


def test_without_a_terminal_there_is_no_control_sequence(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert app.run(CHECK) == 1
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [(KeyboardInterrupt(), 130, ""), (OSError("the disk"), 1, "streaming-nn: the disk")],
    ids=["Ctrl-C", "error"],
)
def test_an_error_leaves_the_terminal_clean(
    error: BaseException, code: int, line: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(log: VersionLog, number: int) -> ValueError:
        if number == 700:
            print("a log line", file=sys.stderr)
            raise error
        return ValueError("the same")

    monkeypatch.setattr(repair, "_check_file", check)
    with terminal(monkeypatch) as shown:
        before = sys.stderr
        assert app.run(CHECK) == code
        assert sys.stderr is before
    assert "a log line\r\n" in shown.output, "above the bar"
    assert shown.output.rindex(SHOWN) > shown.output.rindex(HIDDEN)
    end = shown.output[shown.output.rindex("\x1b[2K") + 4 :]
    assert end == (f"{line}\r\n" if line else "")


def test_the_terminal_of_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as shown:
        assert isinstance(shown, Terminal)
        assert progress.is_terminal()
        monkeypatch.setenv("TERM", "dumb")
        assert not progress.is_terminal()
    assert not progress.is_terminal()
