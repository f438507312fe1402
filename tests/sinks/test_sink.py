import threading
import time
from pathlib import Path

import pytest
from logs import parent_of
from waiting import until

from streaming_nn.sinks import sink as module
from streaming_nn.sinks.sink import Sinks
from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit


class Sink:
    """A sink in memory that can be down."""

    def __init__(self, name: str = "sink") -> None:
        self.name = name
        self.seen: list[int] = []
        self.down = False
        self.attempts = self.closed = 0

    def position(self) -> int:
        return self.seen[-1] if self.seen else -1

    def write(self, manifest: Manifest) -> None:
        self.attempts += 1
        if self.down:
            raise ConnectionError("no broker\nat length")
        self.seen.append(manifest.number)

    def close(self) -> None:
        self.closed += 1


def fill(log: VersionLog, count: int) -> None:
    head = log.head_number()
    number = -1 if head is None else head
    for _ in range(count):
        log.commit(parent_of(log, number) if number >= 0 else None, {})
        number += 1


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL", 0.005)
    monkeypatch.setattr(module, "FIRST_WAIT", 0.01)


@pytest.fixture(autouse=True)
def _log_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "streaming_nn")


def test_each_sink_gets_every_version_in_order_from_its_position(tmp_path: Path) -> None:
    fill(log := VersionLog(tmp_path), 3)
    new, old = Sink(), Sink()
    old.seen = [0, 1]
    sinks = Sinks(log, [new, old])
    fill(log, 4)
    assert sinks.stop(drain=10)
    assert new.seen == old.seen == list(range(7))
    assert new.closed == old.closed == 1


def test_versions_committed_before_stop_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL", 60.0)  # so that only the end of the wait can bring it
    log, sink = VersionLog(tmp_path), Sink()
    sinks = Sinks(log, [sink])
    time.sleep(0.05)
    fill(log, 5)
    assert sinks.stop(drain=10)
    assert sink.seen == list(range(5))


def test_an_outage_is_logged_once_delays_no_other_sink_and_is_caught_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = VersionLog(tmp_path)
    good, bad = Sink("good"), Sink("bad")
    sinks = Sinks(log, [good, bad])
    for _ in range(2):  # two outages
        bad.down = True
        fill(log, 5)
        until(lambda: good.seen == list(range(log.head_number() + 1)) and bad.attempts > 3)
        bad.attempts, bad.down = 0, False
        until(lambda: bad.seen == good.seen)
    assert sinks.stop(drain=10)
    assert caplog.messages == [
        "bad: ConnectionError: no broker; retrying, learning continues",
        "bad: resumed after version 0",
        "bad: ConnectionError: no broker; retrying, learning continues",
        "bad: resumed after version 5",
    ]


def test_waits_grow_and_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    enough = threading.Event()

    def pause(self: object, seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 9:
            enough.set()
        time.sleep(0.001)

    monkeypatch.setattr(module._Shutdown, "pause", pause)
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.5)
    fill(log := VersionLog(tmp_path), 1)
    sink = Sink()
    sink.down = True
    sinks = Sinks(log, [sink])
    assert enough.wait(10)
    assert not sinks.stop()
    assert waits[:9] == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5, 0.5]


def test_stop_waits_no_longer_than_the_drain_and_logs_what_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(log := VersionLog(tmp_path), 4)
    sink = Sink()
    sink.down = True
    sinks = Sinks(log, [sink])
    until(lambda: sink.attempts > 0)
    began = time.monotonic()
    assert not sinks.stop(drain=0.3)
    assert 0.25 < time.monotonic() - began < 3
    assert not sinks.stop()
    assert caplog.messages[-1] == "sink: versions 0 to 3 will be written by the next run"
    assert sum("next run" in line for line in caplog.messages) == 1


def test_a_sink_that_hangs_is_abandoned(tmp_path: Path) -> None:
    release = threading.Event()

    class Hanging(Sink):
        def write(self, manifest: Manifest) -> None:
            release.wait(30)

    fill(log := VersionLog(tmp_path), 1)
    sinks = Sinks(log, [Hanging()])
    began = time.monotonic()
    assert not sinks.stop(drain=0.1)
    assert time.monotonic() - began < 3
    release.set()


def test_a_drain_keeps_retrying(tmp_path: Path) -> None:
    fill(log := VersionLog(tmp_path), 3)
    sink = Sink()
    sink.down = True
    sinks = Sinks(log, [sink])
    until(lambda: sink.attempts > 0)
    threading.Timer(0.2, lambda: setattr(sink, "down", False)).start()
    assert sinks.stop(drain=10)
    assert sink.seen == [0, 1, 2]


def test_a_damaged_version_is_not_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(log := VersionLog(tmp_path), 4)
    good = log.path(2).read_bytes()
    log.path(2).write_bytes(good[:100])
    sink = Sink()
    sinks = Sinks(log, [sink])
    until(lambda: bool(caplog.messages))
    assert sink.seen == [0, 1]
    assert "000000000002.safetensors is damaged" in caplog.messages[0]
    log.path(2).write_bytes(good)
    assert sinks.stop(drain=10)
    assert sink.seen == [0, 1, 2, 3]


def test_a_position_that_the_log_does_not_have_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(log := VersionLog(tmp_path), 2)
    sink = Sink()
    sink.seen = [7]
    sinks = Sinks(log, [sink])
    until(lambda: bool(caplog.messages))
    sinks.stop()
    assert "its position is version 7, which does not exist in" in caplog.messages[0]
