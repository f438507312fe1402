"""The first records of a topic: some of each partition, by time, and none that is not committed."""

from contextlib import nullcontext
from typing import Any, NamedTuple

import pytest
from kafka import TopicPartition

from streaming_nn.kafka import reader

pytestmark = pytest.mark.commit


class Record(NamedTuple):
    offset: int
    timestamp: int
    value: bytes | None


class Log:
    """Partitions, as an admin client and a consumer see them; a poll returns two records of one partition."""

    def __init__(self, *partitions: list[Record], ends: list[int]):
        self.records = {TopicPartition("t", p): records for p, records in enumerate(partitions)}
        self.ends_of, self.positions, self.paused = ends, dict[Any, int](), set[Any]()

    def beginnings(self, topics: list[str]) -> dict[str, dict[int, int]]:
        return {"t": dict.fromkeys(range(len(self.ends_of)), 0)}

    def ends(self, topics: list[str]) -> dict[str, dict[int, int]]:
        return {"t": dict(enumerate(self.ends_of))}

    def assign(self, partitions: list[Any]) -> None:
        self.positions = dict.fromkeys(partitions, -1)

    def seek(self, partition: Any, offset: int) -> None:
        self.positions[partition] = offset

    def pause(self, partition: Any) -> None:
        self.paused.add(partition)

    def position(self, partition: Any) -> int:
        return self.positions[partition]

    def poll(self, timeout_ms: int, max_records: int) -> dict[Any, list[Record]]:
        for partition in self.positions.keys() - self.paused:
            rest = [each for each in self.records[partition] if each.offset >= self.positions[partition]]
            if rest:
                self.positions[partition] = rest[:2][-1].offset + 1
                return {partition: rest[:2]}
            self.positions[partition] = 100  # markers of transactions, which no client gets
        return {}


def of(start: int, count: int, time: int) -> list[Record]:
    return [Record(start + i, time + i, f"{time + i}".encode()) for i in range(count)]


def test_the_first_are_some_of_each_partition_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(of(0, 9, 50), of(3, 9, 10), of(0, 1, 30), [], [], ends=[9, 12, 90, 5, 0])
    monkeypatch.setattr(reader, "KafkaAdmin", lambda options: nullcontext(log))
    monkeypatch.setattr(reader, "committed_consumer", lambda options: nullcontext(log))
    found = reader.first_values({}, "t", 12)
    assert found == [b"10", b"11", b"12", b"30", b"50", b"51", b"52"]
    assert len(log.positions) == 4, "an empty partition is not read"
    log.paused.clear()
    log.ends_of = [4, 0, 0, 0, 0]
    assert reader.first_values({}, "t", 500) == [b"50", b"51", b"52", b"53"], "not beyond the end"
    log.ends_of = [0, 0, 0, 0, 0]
    assert reader.first_values({}, "t", 500) == []
