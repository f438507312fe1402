import json
from pathlib import Path
from typing import Any

import pytest

from streaming_nn.sinks import json_lines
from streaming_nn.sinks.json_lines import JsonLinesSink
from streaming_nn.sinks.metrics_event import metrics_event
from streaming_nn.versions.version import Manifest

pytestmark = pytest.mark.commit


def manifest(number: int, **changes: Any) -> Manifest:
    return Manifest(number, metrics={"accuracy": number / 10}, **changes)


def numbers(path: Path) -> list[int]:
    return [json.loads(text)["number"] for text in path.read_text().splitlines()]


def test_each_version_is_one_line_and_the_file_has_the_position(tmp_path: Path) -> None:
    path = tmp_path / "out" / "metrics.jsonl"
    sink = JsonLinesSink(path)
    assert sink.position() == -1
    for number in range(3):
        sink.write(manifest(number))
        assert sink.position() == JsonLinesSink(path).position() == number
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    assert lines == [json.loads(json.dumps(metrics_event(manifest(number)))) for number in range(3)]


def test_a_written_version_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for _ in range(2):
        for number in range(3):
            JsonLinesSink(path).write(manifest(number))
    assert numbers(path) == [0, 1, 2]


@pytest.mark.parametrize("block", [4, 65_536])
def test_a_cut_last_line_is_truncated_wherever_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(json_lines, "BLOCK", block)
    path = tmp_path / "metrics.jsonl"
    sink = JsonLinesSink(path)
    sink.write(manifest(0))
    sink.write(manifest(1))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(0, len(whole), 5):
        path.write_bytes(whole[:size])
        assert JsonLinesSink(path).position() == (0 if size >= first else -1)
        assert path.read_bytes() == whole[: first if size >= first else 0]
        again = JsonLinesSink(path)
        for number in range(again.position() + 1, 2):
            again.write(manifest(number))
        assert path.read_bytes() == whole


def test_a_failed_line_is_written_once_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = JsonLinesSink(path)
    sink.write(manifest(0))
    with monkeypatch.context() as m:
        m.setattr(json_lines, "encode_event", lambda r: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sink.write(manifest(1))
    with open(path, "ab") as file:
        file.write(b'{"counts":{"rec')  # as a full disk leaves it
    assert sink.position() == 0
    sink.write(manifest(1))
    assert numbers(path) == [0, 1]


@pytest.mark.parametrize(
    "text", ["# a readme\n", "no line end", '{"other": 1}\n', "[1]\n", '{"counts":{}}\ntail']
)
def test_a_file_that_is_not_a_metrics_file_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"must be a metrics file.*choose another path"):
        JsonLinesSink(path).write(manifest(0))
    assert path.read_text() == text


def test_a_large_file_is_renamed_and_the_one_before_it_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, older = tmp_path / "metrics.jsonl", tmp_path / "metrics.jsonl.1"
    JsonLinesSink(path).write(manifest(0))
    monkeypatch.setattr(json_lines, "FILE_BYTES", 4 * path.stat().st_size)
    for number in range(1, 10):
        JsonLinesSink(path).write(manifest(number))
        found = (
            [*numbers(older), *(numbers(path) if path.exists() else [])] if older.exists() else numbers(path)
        )
        assert found == list(range(found[0], number + 1)), "the last lines, without a gap"
        assert JsonLinesSink(path).position() == number
    assert sorted(file.name for file in tmp_path.iterdir()) == ["metrics.jsonl", "metrics.jsonl.1"]
    assert (numbers(older), numbers(path)) == ([4, 5, 6, 7], [8, 9])


def test_a_crash_after_the_renaming_loses_no_position(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    JsonLinesSink(path).write(manifest(0))
    path.rename(tmp_path / "metrics.jsonl.1")
    sink = JsonLinesSink(path)
    assert sink.position() == 0
    sink.write(manifest(0))
    sink.write(manifest(1))
    assert numbers(path) == [1]


def test_another_file_with_the_older_ones_name_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "metrics.jsonl", tmp_path / "metrics.jsonl.1"
    other.write_text("a page of a manual\n")
    for number in range(2):
        with pytest.raises(ValueError, match=r"metrics.jsonl.1 must be a metrics file"):
            JsonLinesSink(path).write(manifest(number))
    other.unlink()
    JsonLinesSink(path).write(manifest(0))
    other.write_text("a page of a manual\n")
    monkeypatch.setattr(json_lines, "FILE_BYTES", 1)
    with pytest.raises(ValueError, match=r"metrics.jsonl.1 must be a metrics file"):
        JsonLinesSink(path).write(manifest(1))
    assert numbers(path) == [0, 1]
    assert other.read_text() == "a page of a manual\n"


def test_a_deleted_file_is_written_from_scratch(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    JsonLinesSink(path).write(manifest(0))
    path.unlink()
    assert JsonLinesSink(path).position() == -1
