"""What is logged about a long backlog, and when."""

import logging

import pytest

from streaming_nn.spark.train import progress
from streaming_nn.spark.train.progress import Progress

pytestmark = pytest.mark.commit


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_every_few_seconds(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    backlog = Progress(1_000_000)
    for _ in range(8):
        clock[0] += 2.0
        backlog.add(100_000)
    assert caplog.messages == [
        "learned 300,000 of 1,000,000 records, 50,000 records/s, 14 s left",
        "learned 600,000 of 1,000,000 records, 50,000 records/s, 8 s left",
    ]


def test_a_short_run_and_its_end_log_nothing(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    backlog = Progress(1000)
    clock[0] += 4.0
    backlog.add(500)
    clock[0] += 4.0
    backlog.add(500)
    assert caplog.messages == [], "the rest was learned at once"


@pytest.mark.parametrize(
    ("learned", "seconds", "left"),
    [
        (0, 5.0, "unknown time left"),
        (990, 10.0, " 0 s left"),
        (100, 10.0, "1 min 30 s left"),
        (10, 10.0, "16 min 30 s left"),
        (1, 10.0, "2 h 46 min left"),
    ],
)
def test_the_time_left_is_short_to_read(learned: int, seconds: float, left: str) -> None:
    backlog = Progress(1000)
    backlog.add(learned)
    assert backlog.describe(seconds).endswith(left)
