"""`streaming-nn broker`: what its commands print. The broker itself is a fake, so no JVM starts."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from streaming_nn.cli import app
from streaming_nn.kafka import admin
from streaming_nn.kafka.broker import Address, Broker

pytestmark = pytest.mark.commit


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, int]:
    """Return the topics, with their partitions, of the broker that runs in ./broker."""
    partitions = {"labeled": 2}

    def create(kafka: dict[str, str], name: str, count: int, exist_ok: bool) -> None:
        assert exist_ok
        partitions.setdefault(name, count)

    def numbers(kafka: dict[str, str], names: Iterable[str]) -> dict[str, list[int]]:
        assert kafka == {"bootstrap.servers": "127.0.0.1:9092"}
        return {name: [*range(partitions[name])] for name in names}

    monkeypatch.setattr(Broker, "find", lambda directory: Broker(directory, Address(1, 9092, 9093)))
    monkeypatch.setattr(admin, "create", create)
    monkeypatch.setattr(admin, "partitions", numbers)
    monkeypatch.chdir(tmp_path)
    return partitions


def test_topics_are_created_and_existing_ones_stay(topics: dict[str, int], capsys: Any) -> None:
    assert app.run(["broker", "topics", "labeled:3", "unlabeled", "more:4"]) == 0
    assert topics == {"labeled": 2, "unlabeled": 1, "more": 4}
    assert capsys.readouterr().out == "labeled: 2 partitions\nunlabeled: 1 partition\nmore: 4 partitions\n"


@pytest.mark.parametrize("text", ["a:", "a:1"])
def test_one_partition_is_the_default(text: str, topics: dict[str, int]) -> None:
    assert app.run(["broker", "topics", text]) == 0
    assert topics["a"] == 1


@pytest.mark.parametrize("text", ["a:0", "a:x", "a:-1"])
def test_invalid_partitions(text: str, topics: dict[str, int], capsys: Any) -> None:
    assert app.run(["broker", "topics", "b", text]) == 2
    assert "a topic must be NAME or NAME:PARTITIONS, such as labeled:3" in capsys.readouterr().err
    assert topics == {"labeled": 2}, "nothing is created if one name is invalid"


def test_the_status_is_the_address(topics: dict[str, int], capsys: Any) -> None:
    assert app.run(["broker", "status"]) == 0
    assert capsys.readouterr().out == "127.0.0.1:9092\n"


def test_the_results_as_json(
    topics: dict[str, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running = Broker.find(".")
    monkeypatch.setattr(Broker, "start", lambda directory, **options: running)
    monkeypatch.setattr(Broker, "stop", lambda broker: None)
    at = {"bootstrap": "127.0.0.1:9092"}
    for words, result in (
        (["start"], at),
        (["status"], at),
        (["topics", "labeled:3", "more:4"], {"labeled": 2, "more": 4}),
        (["stop"], {"stopped": "127.0.0.1:9092"}),
    ):
        assert app.run(["broker", *words, "--json", "--quiet"]) == 0
        assert json.loads(capsys.readouterr().out) == result
    monkeypatch.setattr(Broker, "find", lambda directory: None)
    assert app.run(["broker", "status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"bootstrap": None}
