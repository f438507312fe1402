"""The live tables: what they show of versions and of a scorer, at every width, without a delay. No JVM."""

import io
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from terminals import COLOURS, HIDDEN, SHOWN, terminal
from waiting import until

from streaming_nn.cli import app, demo, live, tables
from streaming_nn.cli.live import (
    ASCII,
    BLOCKS,
    POINTS,
    SPAN,
    Behind,
    History,
    Rate,
    Row,
    Shown,
    reasons,
    sparkline,
    table,
)
from streaming_nn.cli.tables import Scored, ScoreTable, TrainTable
from streaming_nn.sinks.lag import Lag
from streaming_nn.sinks.sink import Sinks
from streaming_nn.versions.version import Manifest, no_counts
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def figures(accuracy: float | None) -> dict[str, Any]:
    return {
        "prequential": {"window": {"accuracy": accuracy, "f1_macro": 0.5, "log_loss": 0.25}},
        "as_served": {"window": {"accuracy": 0.75}},
        "baselines": {"majority_class": {"window": {"accuracy": 0.125}}},
    }


def version(number: int, **fields: Any) -> Manifest:
    counts = no_counts() | {"received": 500, "trained": 497, "rejected": 3}
    given: dict[str, Any] = {"counts": counts, "rejected_by_reason": {"not JSON": 2, "not an object": 1}}
    return Manifest(
        number, **(given | {"metrics": figures(number / 10), "learner": {"window": 1000}} | fields)
    )


def texts(shown: Shown) -> dict[str, str]:
    return {row.name: row.value for row in shown.rows}


@pytest.mark.parametrize(
    ("values", "columns", "drawn"),
    [
        ([], 8, ""),
        ([0.5], 8, "▁"),
        ([0, 1], 8, "▁█"),
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, BLOCKS),
        ([0, 0, 7, 7], 2, "▁█"),
        ([-1, 0, 1], 3, "▁▅█"),
        (list(range(1000)), 8, BLOCKS),
    ],
)
def test_a_sparkline(values: list[float], columns: int, drawn: str) -> None:
    assert sparkline(values, columns) == drawn


def test_a_history_is_short_and_from_the_start_on() -> None:
    history = History()
    history.add(None)
    for value in range(1000):
        history.add(value)
    assert POINTS < len(history.values) <= 2 * POINTS
    assert history.values[0] == 0
    assert {b - a for a, b in zip(history.values, history.values[1:], strict=False)} == {8}
    assert history.values[-1] > 980


def test_a_rate_is_of_the_last_seconds() -> None:
    clock = Clock()
    rate = Rate(clock)
    assert rate.update(0) == 0.0
    for second in range(1, 100):
        clock.now += 1
        assert rate.update(50 * second) == 50.0
    found = []
    for _ in range(int(SPAN)):
        clock.now += 1
        found.append(rate.update(50 * 99))
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0.0, "nothing came for so long"


def test_the_table_of_a_trainer() -> None:
    clock = Clock()
    shown = TrainTable("model learns t", version(3, metrics=figures(None)), None, clock=clock)
    assert texts(shown.shown())["accuracy"] == "–"
    for number in range(4, 9):
        shown.shown()
        clock.now += 1
        events = [{"event": "drift", "detected": 1}] if number == 5 else []
        shown.write(version(number, events=events))
    written = datetime.now(UTC) - timedelta(seconds=200)
    shown.write(version(9, written_at=written.isoformat()))
    now = shown.shown()
    assert now.title == "model learns t, 5 s, last 1,000 rows"
    assert texts(now) == {
        "records/s": "600",  # 6 × 500 in 5 s
        "accuracy": "0.900",
        "f1 macro": "0.500",
        "log loss": "0.250",
        "as served": "0.750",
        "majority class": "0.125",
        "version": "9, 3 min 20 s old",
        "trained": "2,982 rows, 6 versions",
        "rejected": "18 (0.6%): not JSON, not an object",
        "last event": "drift in version 5",
    }
    assert next(row.history for row in now.rows if row.name == "accuracy") == [0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert shown.position() == 9
    shown.write(version(10, events=[{"event": "member restarted", "member": 1}]))
    assert texts(shown.shown())["last event"] == "drift in version 5", "most versions have the other"


@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        ({}, ["accuracy", "f1 macro", "log loss", "as served"]),
        ({"prequential": {"window": {"mae": 1.5, "rmse": 2.0}}}, ["mae", "rmse", "r2", "as served"]),
        (
            {"prequential": {"window": {"subset_accuracy": 0.5}}},
            ["subset accuracy", "f1 macro", "hamming loss", "as served"],
        ),
    ],
)
def test_the_figures_are_the_learners(metrics: dict[str, Any], names: list[str]) -> None:
    shown = TrainTable("title", version(0, metrics=metrics), None, clock=Clock())
    rows = [row.name for row in shown.shown().rows]
    assert rows[1 : 1 + len(names)] == names


def test_the_time_left_of_a_backlog() -> None:
    clock, position, ends = Clock(), {"t": {0: 0}}, {"t": {0: 10_000}}
    lag = Lag(lambda: position, lambda topics: ends, clock)
    lag.look()
    behind, found = Behind(lag, clock=clock), []
    for second in range(1, 11):
        clock.now += 1
        position["t"][0] = 900 * second
        ends["t"][0] += 100  # while new records arrive
        lag.look()
        found.append({row.name: row.value for row in behind.rows(900.0)})
    assert found[-1] == {"lag": "2,000 records, 10 s", "time left": "none: it keeps up"}
    assert found[4]["time left"] == "8 s", "of 6,000 records, 800 per second fewer"
    for _ in range(40):
        clock.now += 1
        ends["t"][0] += 5000
        lag.look()
        found.append({row.name: row.value for row in behind.rows(900.0)})
    assert found[-1]["time left"] == "the lag grows"


def test_the_table_of_a_scorer(tmp_path: Path) -> None:
    clock, log = Clock(), VersionLog(tmp_path)
    scored = [Scored(0, 0, {}, {}, 0.0)]
    shown = ScoreTable("model predicts u", log, lambda: scored[0], None, clock)
    assert texts(shown.shown()) == {
        "predictions/s": "0",
        "predicted": "0",
        "latency": "–",
        "version": "none yet",
        "bad records": "0",
    }
    log.commit(None, {})
    clock.now += 10
    by_bound: Mapping[float, int] = {0.05: 60, 0.25: 39, float("inf"): 1}
    scored[0] = Scored(100, 5, {"not JSON": 4}, dict(by_bound), 9.0)
    found = texts(shown.shown())
    assert re.fullmatch(r"0, \d\.\d s old", found.pop("version"))
    assert found == {
        "predictions/s": "10",
        "predicted": "100",
        "latency": "median < 50 ms, 99 % < 250 ms",
        "bad records": "4 (3.7%): not JSON",
    }
    clock.now += 2 * SPAN
    shown.shown()
    clock.now += 1
    scored[0] = Scored(101, 5, {}, {**by_bound, 2.5: 1}, 9.0)
    assert texts(shown.shown())["latency"] == "median < 2.5 s, 99 % < 2.5 s", "of the last ones"


def test_reasons_are_the_most_frequent() -> None:
    assert reasons([("a", 1), ("b", 1200), ("c", 3)], 12_040) == "1,204 (10.0%): b, c"


def drawn(shown: Shown, width: int, **options: Any) -> str:
    screen = Console(width=width, record=True, file=io.StringIO())
    screen.print(table(shown, width, **options))
    return screen.export_text()


@pytest.mark.parametrize("width", [30, 40, 80, 200])
def test_a_table_fits_every_width(width: int) -> None:
    shown = TrainTable("[b]model", version(1), None, clock=Clock())
    for number in range(2, 60):
        shown.write(version(number, rejected_by_reason={"[red]not JSON": 1}))
    text = drawn(shown.shown(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "[b]model" in text, "no name is markup"
    (line,) = [line for line in text.splitlines() if "accuracy" in line and "5.9" in line]
    assert (BLOCKS[0] in line) == (BLOCKS[-1] in line) == (width > 30), "there is no room"
    ascii_only = drawn(shown.shown(), width, encoding="latin-1")
    assert not set(BLOCKS) & set(ascii_only)
    assert (f" {ASCII[0]}" in ascii_only) == (width > 30)


def test_a_log_of_versions_is_shown_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sink in its thread, a real log, the drawing thread, and a line of the log above the table."""
    monkeypatch.setattr(live, "DRAWS", 50)
    log = VersionLog(tmp_path)
    head = log.commit(None, {})
    shown = TrainTable("model learns t", head.manifest, None)
    with terminal(monkeypatch, 60) as screen, live.live(shown.shown):
        sinks = Sinks(log, [shown])
        for number in range(1, 6):
            counts = no_counts() | {"received": 10, "trained": 10}
            head = log.commit(head, {}, kind="learned", metrics=figures(number / 10), counts=counts)
        assert sinks.stop(drain=5)
        until(lambda: "records/s" in screen.text)  # drawn by a thread
        app._StderrHandler().emit(app.logging.makeLogRecord({"msg": "a log line"}))
        time.sleep(0.05)
    assert COLOURS.search(screen.output)
    assert screen.output.rindex(SHOWN) > screen.output.rindex(HIDDEN)
    before, after = screen.text.split("a log line")
    assert "0.500" in after.split("accuracy")[-1], "the last version stays on the screen"
    assert "50 rows, 5 versions" in after
    assert "records/s" in before


def test_no_color_of_a_live_table(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as screen:
        monkeypatch.setenv("NO_COLOR", "1")
        with live.live(lambda: Shown("title", [Row("name", "value", (1, 2))])):
            pass
    assert "title" in screen.text
    assert not COLOURS.search(screen.output)


def test_no_table_delays_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that is never drawn to its end (a terminal that was stopped with Ctrl-S) delays no commit."""
    log, drawing = VersionLog(tmp_path), tables.time.monotonic
    head = log.commit(None, {})

    def slow() -> float:
        time.sleep(0.1)
        return drawing()

    shown = TrainTable("title", head.manifest, None, clock=slow)
    with terminal(monkeypatch), live.live(shown.shown):
        sinks = Sinks(log, [shown])
        began = time.perf_counter()
        for _ in range(20):
            head = log.commit(head, {}, kind="learned")
        assert time.perf_counter() - began < 1.0, "each draw takes 0.2 s"
        assert sinks.stop(drain=5)


@pytest.mark.parametrize("on_terminal", [True, False])
def test_the_demo_shows_its_values(
    on_terminal: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "streaming_nn")
    values = {"rows/s": 1200, "loss": 0.5, "no change": None, "version": "3 (0.1 s old)"}
    if not on_terminal:
        with demo._view("learns") as show:
            show(1.2, 1000, {})
            show(2.2, 1000, values)
        lines = ["   1 s  waiting for the first micro-batch"]
        lines += ["   2 s  rows/s 1,200  loss 0.500  no change –  version 3 (0.1 s old)"]
        assert caplog.messages == lines
        return
    with terminal(monkeypatch) as screen, demo._view("learns") as show:
        show(2.2, 1000, {**values, "loss": 1.5})
        show(3.2, 1000, values)
    text = screen.text
    assert "learns, 3 s, last 1,000 rows" in text
    assert re.search("loss +│ 0.500 +█▁", text)
    assert screen.output.endswith("\x1b[2K"), "the summary follows"
