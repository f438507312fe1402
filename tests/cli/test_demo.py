"""`streaming-nn demo`: its exit code and its JSON. No JVM."""

import json
from typing import Any

import pytest

from streaming_nn.cli import app
from streaming_nn.demo import run

pytestmark = pytest.mark.commit

SUMMARY = {"trained": 10, "accounted": True, "verify": "identical"}


@pytest.mark.parametrize(
    ("summary", "code"),
    [
        (SUMMARY, 0),
        (SUMMARY | {"accounted": False}, 1),
        (SUMMARY | {"verify": "different"}, 1),
        (None, 130),
    ],
    ids=["verified", "not accounted", "different", "interrupted"],
)
def test_the_exit_code(
    summary: dict[str, Any] | None,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run, "run", lambda *given, view, progress: summary)
    assert app.run(["demo", "--json"]) == code
    out = capsys.readouterr().out
    assert json.loads(out) == summary if summary else out == ""


@pytest.mark.parametrize(
    ("flags", "last"),
    [
        ([], "streaming-nn demo --dir DIR, then streaming-nn page DIR/model"),
        (["--dir", "a run"], "streaming-nn page 'a run/model'"),
    ],
)
def test_the_last_line_is_how_to_look_at_it_again(
    flags: list[str], last: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "run", lambda *given, view, progress: SUMMARY)
    assert app.run(["demo", *flags]) == 0
    assert capsys.readouterr().err.strip().endswith(last)
