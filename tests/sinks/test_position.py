"""A job's position that is looked at in a thread, with an admin client in memory."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from waiting import until

from streaming_nn.sinks import position as module
from streaming_nn.sinks.position import PositionThread

pytestmark = pytest.mark.commit


class Broker:
    """An admin client whose groups, or topics, can be down."""

    def __init__(self) -> None:
        self.committed: list[dict[str, dict[int, int]]] = []
        self.down = False
        self.attempts = self.closed = 0

    def ends(self, topics: Iterable[str]) -> dict[str, dict[int, int]]:
        return {topic: {0: 100} for topic in topics}

    def commit(self, group: str, offsets: dict[str, dict[int, int]]) -> None:
        self.attempts += 1
        if self.down:
            raise PermissionError("Kafka refuses this client\nat length")
        assert group == "trainer"
        self.committed.append(offsets)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Broker:
    client = Broker()
    monkeypatch.setattr(module, "POLL", 0.005)
    monkeypatch.setattr(module, "KafkaAdmin", lambda options: client)
    return client


class Job:
    def __init__(self) -> None:
        self.offset: int | None = None

    def position(self) -> dict[str, Any]:
        return {} if self.offset is None else {"t": {0: self.offset}}


@pytest.fixture
def job() -> Job:
    return Job()


def started(job: Job, group: str = "trainer") -> PositionThread:
    thread = PositionThread({}, job.position, group)
    thread.start()
    return thread


@pytest.fixture(autouse=True)
def _log_lines(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level("INFO", "streaming_nn"):
        yield


def test_each_new_position_is_committed_once_and_the_last_one_at_the_end(
    kafka: Broker, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = started(job)
    for job.offset in (40, 90):
        until(lambda: kafka.committed[-1:] == [{"t": {0: job.offset}}])
    until(lambda: thread.lag.offsets() == {"t": {0: 10}})
    monkeypatch.setattr(module, "POLL", 60.0)
    job.offset = 100
    thread.stop()
    assert kafka.committed == [{"t": {0: n}} for n in (40, 90, 100)], "nothing before it begins to read"
    assert thread.lag.reason(60) == ""
    assert kafka.closed == 1


def test_an_outage_is_logged_once_and_stops_no_lag(
    kafka: Broker, job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    kafka.down, job.offset = True, 100
    thread = started(job)
    until(lambda: kafka.attempts > 3)
    assert thread.lag.reason(60) == ""
    kafka.down = False
    until(lambda: bool(kafka.committed))
    thread.stop()
    assert caplog.messages == [
        "consumer group trainer: Kafka refuses this client; retrying",
        "consumer group trainer: resumed",
    ]


def test_without_a_group_nothing_is_committed(kafka: Broker, job: Job) -> None:
    job.offset = 100
    thread = started(job, group="")
    until(lambda: not thread.lag.reason(60))
    thread.stop()
    assert (kafka.attempts, kafka.committed) == (0, [])
