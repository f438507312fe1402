import json
from pathlib import Path
from typing import Any

import pytest

from streaming_nn.followers import json_lines
from streaming_nn.followers.json_lines import JsonLines
from streaming_nn.followers.line import line
from streaming_nn.log.version import Record


def record(number: int, **changes: Any) -> Record:
    return Record(number, metrics={"accuracy": number / 10}, **changes)


def numbers(path: Path) -> list[int]:
    return [json.loads(text)["number"] for text in path.read_text().splitlines()]


def test_one_line_a_version_and_the_file_is_the_place(tmp_path: Path) -> None:
    path = tmp_path / "out" / "metrics.jsonl"
    sink = JsonLines(path)
    assert sink.place() == -1
    for number in range(3):
        sink.follow(record(number))
        assert sink.place() == JsonLines(path).place() == number
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    assert lines == [json.loads(json.dumps(line(record(number)))) for number in range(3)]


def test_a_version_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for _ in range(2):
        for number in range(3):
            JsonLines(path).follow(record(number))
    assert numbers(path) == [0, 1, 2]


@pytest.mark.parametrize("block", [4, 65_536])
def test_a_torn_last_line_is_cut_off_wherever_it_is_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(json_lines, "BLOCK", block)
    path = tmp_path / "metrics.jsonl"
    sink = JsonLines(path)
    sink.follow(record(0))
    sink.follow(record(1))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(0, len(whole), 5):
        path.write_bytes(whole[:size])
        assert JsonLines(path).place() == (0 if size >= first else -1)
        assert path.read_bytes() == whole[: first if size >= first else 0]
        again = JsonLines(path)
        for number in range(again.place() + 1, 2):
            again.follow(record(number))
        assert path.read_bytes() == whole


def test_a_line_that_could_not_be_written_is_written_once_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = JsonLines(path)
    sink.follow(record(0))
    with monkeypatch.context() as m:
        m.setattr(json_lines, "text", lambda r: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sink.follow(record(1))
    with open(path, "ab") as file:
        file.write(b'{"digest":"" , half')  # as a full disk leaves it
    assert sink.place() == 0
    sink.follow(record(1))
    assert numbers(path) == [0, 1]


@pytest.mark.parametrize(
    "text", ["# a readme\n", "no line end", '{"other": 1}\n', "[1]\n", '{"digest":"x"}\ntail']
)
def test_another_file_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(ValueError, match="is it another's file"):
        JsonLines(path).follow(record(0))
    assert path.read_text() == text


def test_a_file_taken_away_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    JsonLines(path).follow(record(0))
    path.unlink()
    assert JsonLines(path).place() == -1
