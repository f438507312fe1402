"""The clock of a micro-batch's steps, while the system's clock is set back."""

import time

import pytest

from streaming_nn.spark.clock import Clock

pytestmark = pytest.mark.commit


def test_steps_take_the_time_that_passed_although_the_clock_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    passed, system = iter([0, 2_000_000, 5_000_000, 5_000_900]), iter([10**18, 10**18 - 3_600 * 10**9])
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(passed))
    monkeypatch.setattr(time, "time_ns", lambda: next(system))
    clock = Clock()
    for step in ("plan", "learn"):
        with clock.time(step):
            pass
    assert clock.steps == {
        "plan": (10**18, 10**18 + 2_000_000),
        "learn": (10**18 - 3_600 * 10**9, 10**18 - 3_600 * 10**9 + 900),
    }
    assert clock.seconds(["learn", "plan"]) == {"learn": 0.000001, "plan": 0.002}
