"""`streaming-nn dead-letters`: what it prints. No JVM."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from streaming_nn.cli import app
from streaming_nn.kafka import dead_letters
from streaming_nn.kafka.dead_letters import DeadLetterRecord, Position, Redriven

pytestmark = pytest.mark.commit

TIME = datetime(2026, 11, 29, 12, 30, 1, tzinfo=UTC)
WORDS = ["--bootstrap", "here:9092", "--topic", "dead"]


def letter(position: Position | None, cut: str = "") -> DeadLetterRecord:
    return DeadLetterRecord(TIME, position, "not a number", "features[3]", "'[bold]x'", cut, None)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    results: dict[str, Any] = {"latest": [letter(("t", 0, 7)), letter(None, "key, value")]}
    monkeypatch.setattr(dead_letters, "latest", lambda kafka, topic, count: results["latest"][-count:])
    monkeypatch.setattr(dead_letters, "redrive", lambda kafka, topic: results["redriven"])
    return results


def test_the_latest_are_a_table(found: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["dead-letters", "show", *WORDS]) == 0
    title, first, second = capsys.readouterr().out.splitlines()
    assert title.split() == ["rejected", "record", "reason", "field", "value", "cut"]
    assert first.split() == ["11-29", "12:30:01", "t/0/7", "not", "a", "number", "features[3]", "'[bold]x'"]
    assert second.split()[2] == "?/?/?"
    found["latest"] = []
    assert app.run(["dead-letters", "show", *WORDS]) == 0
    assert capsys.readouterr().out == "no dead letters in dead\n"


def test_the_latest_as_json(found: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["dead-letters", "show", "--last", "1", "--json", *WORDS]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "time": "2026-11-29T12:30:01+00:00",
            "topic": None,
            "partition": None,
            "offset": None,
            "reason": "not a number",
            "field": "features[3]",
            "value": "'[bold]x'",
            "cut": "key, value",
        }
    ]


@pytest.mark.parametrize(
    ("redriven", "code", "out", "err"),
    [
        (Redriven({}, [], 0, 0), 0, ["no dead letters in dead that were not sent back before"], []),
        (
            Redriven({"t": 1200, "u": 1}, [], 2, 3),
            0,
            [
                "sent 1,200 records back to t",
                "sent 1 records back to u",
                "3 were duplicates, and were sent once",
                "2 records lack our headers, and were not sent",
            ],
            [],
        ),
        (
            Redriven({}, [letter(("t", 0, n), "value") for n in range(4)], 0, 0),
            1,
            [],
            [
                "streaming-nn: 4 dead letters were cut, and cannot be sent back; their records are at "
                "t/0/0, t/0/1, t/0/2, …, while the topic holds them"
            ],
        ),
    ],
)
def test_what_was_sent_back_is_printed(
    redriven: Redriven,
    code: int,
    out: list[str],
    err: list[str],
    found: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    found["redriven"] = redriven
    assert app.run(["dead-letters", "redrive", *WORDS]) == code
    printed = capsys.readouterr()
    assert (printed.out.splitlines(), printed.err.splitlines()) == (out, err)


def test_what_was_sent_back_as_json(found: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    cut = letter(("t", 0, 7), "value")
    found["redriven"] = Redriven({"t": 1200}, [cut], 2, 3)
    assert app.run(["dead-letters", "redrive", "--json", *WORDS]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "sent": {"t": 1200},
        "repeated": 3,
        "foreign": 2,
        "cut": [cut.to_json()],
    }
