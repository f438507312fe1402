"""The figures of a client's run, from made-up rows."""

import numpy as np
import pytest

from benchmarks.latency import RESULT, Run

pytestmark = pytest.mark.commit

MS = 1_000_000


def run(waits: list[float], times: list[int] | None = None, versions: list[int] | None = None) -> Run:
    """Return a run with one record per millisecond, each with its latency in ms."""
    rows = np.zeros(len(waits), RESULT)
    rows["sent"] = np.arange(len(waits)) * MS
    rows["received"] = rows["sent"] + (np.array(waits) * MS).astype(np.int64)
    rows["count"] = 1 if times is None else times
    rows["version"] = 1 if versions is None else versions
    return Run(rows, started=100.0)


def test_percentiles_and_turnovers() -> None:
    """Latencies at a turnover are separate from other long ones."""
    gap = [float(wait) for wait in range(2000, 0, -1)]  # all are received at once, 30 s after the start
    figures = run([1.0] * 28_000 + gap + [1.0] * 20_000 + [50.0] * 1000).figures([130.0, 500.0])
    assert figures["records"] == 51_000
    assert figures["p50_ms"] == 1.0
    assert figures["p99_ms"] > 1000
    assert figures["p99_outside_gaps_ms"] == 50.0
    assert (figures["gaps"], figures["gap_ms"]) == (1, 2000.0)


def test_without_turnovers() -> None:
    figures = run([3.0] * 100).figures()
    assert (figures["gaps"], figures["gap_ms"], figures["p99_outside_gaps_ms"]) == (0, 0.0, 3.0)


def test_lost_and_duplicates() -> None:
    one = run([1.0] * 6, times=[1, 0, 2, 3, 0, 1])
    assert (one.lost, one.duplicates, len(one.latencies)) == (2, 3, 4)


def test_the_longest_repeat_is_that_of_one_restart() -> None:
    times = [1] * 10_000
    times[1000:1501] = [2] * 501
    times[5000:7001] = [2] * 2001
    assert run([1.0] * 10_000, times=times).longest_repeat() == pytest.approx(2.0)
    assert run([1.0] * 10).longest_repeat() == 0.0


def test_a_reload_ends_with_the_last_prediction_by_an_older_version() -> None:
    """Committed when 50 records had been sent; the last prediction of version 1 was received at 79 + 1 ms."""
    one = run([1.0] * 100, versions=[1] * 80 + [2] * 20)
    assert one.reload_seconds(2, committed=100.050) == pytest.approx(0.030)
    assert one.reload_seconds(2, committed=100.090) == 0.0


def test_the_warm_up_is_excluded() -> None:
    assert len(run([1.0] * 100).after(0.04).rows) == 60
