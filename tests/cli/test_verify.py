"""`streaming-nn verify`: what it prints of a result, and its exit code. No JVM."""

import json
from pathlib import Path

import pytest

from streaming_nn.cli import app, verify
from streaming_nn.spark.replay.verify import Verified

pytestmark = pytest.mark.commit

IDENTICAL = Verified(first=1, last=3, rows=1200)
NOTHING = Verified(first=1, last=0)
DIFFERENT = Verified(1, 3, 800, different=2, reason="its tensors differ", machine=["numpy '2.1'"])


@pytest.mark.parametrize(
    ("result", "code", "lines"),
    [
        (IDENTICAL, 0, "identical: versions 1 to 3, 1,200 records replayed to the same bits\n"),
        (NOTHING, 0, "identical: model has not learned anything yet\n"),
        (DIFFERENT, 1, "version 2 differs: its tensors differ\n  on this machine: numpy '2.1'\n"),
    ],
    ids=["identical", "nothing", "different"],
)
def test_the_result_is_printed_in_words_and_as_json(
    result: Verified,
    code: int,
    lines: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verify, "_run", lambda settings, first, last: result)
    assert app.run(["verify", "--bootstrap", "x:1"]) == code
    assert capsys.readouterr() == (lines, "")
    assert app.run(["verify", "--bootstrap", "x:1", "--json"]) == code
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "verify": "different" if code else "identical",
        "first": 1,
        "last": result.last,
        "rows": result.rows,
        "different": result.different,
        "reason": result.reason,
        "machine": result.machine,
    }


def test_the_range_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ranges = []

    def run(settings: object, first: int | None, last: int | None) -> Verified:
        ranges.append((first, last))
        return IDENTICAL

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verify, "_run", run)
    assert app.run(["verify", "--bootstrap", "x:1", "--from", "2", "--to", "3"]) == 0
    assert app.run(["verify", "--bootstrap", "x:1"]) == 0
    assert ranges == [(2, 3), (None, None)]
