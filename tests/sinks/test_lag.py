"""The lag in offsets and in seconds, by a clock and ends of its own."""

from collections.abc import Iterable

import pytest

from streaming_nn.sinks import lag as module
from streaming_nn.sinks.lag import Lag

pytestmark = pytest.mark.commit


class Stream:
    """A topic to which one record is written per second, and a job that has learned `position` of them."""

    def __init__(self) -> None:
        self.now, self.position, self.down = 0.0, 0, False
        self.lag = Lag(lambda: {"t": {0: self.position}}, self.ends, lambda: self.now)

    def ends(self, topics: Iterable[str]) -> dict[str, dict[int, int]]:
        assert [*topics] == ["t"]
        if self.down:
            raise ConnectionError("no broker")
        return {"t": {0: int(self.now)}}

    def run_until(self, now: float) -> None:
        while self.now < now:
            self.now += 1.0
            self.lag.look()


@pytest.mark.parametrize("behind", [0, 1, 7, 90])
def test_the_seconds_are_those_that_the_job_is_behind(behind: int) -> None:
    stream = Stream()
    stream.run_until(200)
    stream.position = 200 - behind  # the record at offset n was written in second n
    assert stream.lag.offsets() == {"t": {0: behind}}
    assert stream.lag.seconds() == behind
    assert stream.lag.reason(behind) == ""
    assert stream.lag.reason(behind - 1)


def test_a_job_that_was_never_up_to_date_does_not_keep_up() -> None:
    stream = Stream()
    stream.now = 1000.0
    stream.lag.look()
    stream.position = 500
    assert stream.lag.seconds() == 1000.0  # since its start: at least
    assert (
        stream.lag.reason(2000)
        == "the job has not reached its topics' ends since it started 1000 seconds ago"
    )


def test_an_idle_topic_has_no_lag() -> None:
    stream = Stream()
    stream.run_until(10)
    stream.position = 10
    assert stream.lag.seconds() == 0
    stream.lag.look()
    assert stream.lag.reason(0) == ""


def test_the_lag_grows_while_the_ends_cannot_be_read() -> None:
    stream = Stream()
    stream.run_until(10)
    stream.position, stream.down = 10, True
    stream.now = 70.0
    with pytest.raises(ConnectionError):
        stream.lag.look()
    assert stream.lag.offsets() == {}
    assert stream.lag.reason(59) == "lag must be at most 59 seconds (metrics.max_lag); got 60"
    assert stream.lag.reason(60) == ""


def test_a_long_backlog_keeps_a_bounded_number_of_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLES", 8)
    stream = Stream()
    stream.run_until(100)
    assert len(stream.lag._ahead) <= 8
    for behind in (90, 50, 10):
        stream.position = 100 - behind
        assert behind <= stream.lag.seconds() <= 100, "never less than it is"
    stream.position = 100
    assert stream.lag.seconds() == 0


def test_a_partition_that_the_job_does_not_know_begins_at_0() -> None:
    lag = Lag(lambda: {"t": {0: 5}}, lambda topics: {"t": {0: 5, 1: 3}})
    lag.look()
    assert lag.offsets() == {"t": {0: 0, 1: 3}}
    assert lag.reason(60)


def test_a_job_that_reads_nothing_yet_does_not_keep_up() -> None:
    lag = Lag(dict, lambda topics: {})
    lag.look()
    assert lag.offsets() == {}
    assert lag.reason(60)
