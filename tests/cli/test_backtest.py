"""`streaming-nn backtest`: what its options select. No JVM."""

from pathlib import Path
from typing import Any

import pytest

from streaming_nn.cli import app, backtest

pytestmark = pytest.mark.commit

NOTHING = {"first": None, "last": None, "since": None, "until": None, "topic": None}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Any, ...]]:
    """Return the arguments of the backtests that a command would run, without the settings."""
    calls: list[tuple[Any, ...]] = []

    def learn(settings: object, *arguments: Any) -> list[Any]:
        calls.append(arguments[:-1])  # without what shows the progress
        return []

    monkeypatch.setattr(backtest, "_learn_past", learn)
    monkeypatch.setattr(backtest, "_learn_file", learn)
    monkeypatch.setattr("streaming_nn.cli.outcomes.show", lambda outcomes, as_json: None)
    monkeypatch.chdir(tmp_path)
    return calls


def test_versions_are_selected_by_number(runs: list[tuple[Any, ...]]) -> None:
    command = "backtest --into x --from 2 --to 4 --trial seed=1 --trial hidden=[8],optimizer=sgd"
    assert app.run(command.split()) == 0
    assert runs == [(NOTHING | {"first": 2, "last": 4}, Path("x"), ["seed=1", "hidden=[8],optimizer=sgd"])]


def test_records_of_a_topic_are_selected_by_time(runs: list[tuple[Any, ...]]) -> None:
    command = "backtest --into x --topic t --since 2026-01-01 --until 2026-01-02T12:00"
    assert app.run(command.split()) == 0
    selection = {"topic": "t", "since": "2026-01-01", "until": "2026-01-02T12:00"}
    assert runs == [(NOTHING | selection, Path("x"), [])]


def test_a_file_does_not_need_a_directory(runs: list[tuple[Any, ...]]) -> None:
    command = "backtest --file a.csv --label y --features a,b --regression --batch 7"
    assert app.run(command.split()) == 0
    columns = {"label": "y", "features": "a,b", "regression": True}
    assert runs == [(Path("a.csv"), columns, None, [], 7)]
    assert app.run(["backtest", "--file", "a.csv", "--into", "x"]) == 0
    assert runs[1][2] == Path("x")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_outcomes_are_shown_as_tables_or_json(
    flags: list[str], runs: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[list[Any], bool]] = []
    monkeypatch.setattr(
        "streaming_nn.cli.outcomes.show", lambda outcomes, as_json: shown.append((outcomes, as_json))
    )
    assert app.run(["backtest", "--bootstrap", "x:1", "--into", "x", *flags]) == 0
    assert len(runs) == 1
    assert shown == [([], bool(flags))]
