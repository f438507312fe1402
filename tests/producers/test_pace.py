"""The pace keeps its rate however long a sleep takes, catches up, and drops delays that are too old."""

import pytest

from producers.pace import BEHIND, Pace

pytestmark = pytest.mark.commit


class Clock:
    def __init__(self, oversleep=0.0):
        self.now, self.oversleep, self.sleeps = 100.0, oversleep, 0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert 0 < seconds <= 0.1 + 1e-9
        self.sleeps += 1
        self.now += seconds + self.oversleep


@pytest.mark.parametrize("oversleep", [0.0, 0.003, 0.05])
def test_the_rate_does_not_drift(oversleep):
    clock = Clock(oversleep)
    pace = Pace(clock, clock.sleep)
    for row in range(5000):
        assert pace.wait(row / 1000)
    assert clock.now - 100 == pytest.approx(4.999, abs=0.02 + 2 * oversleep)
    assert clock.sleeps <= 600  # bursts, not a sleep a row


def test_a_short_pause_is_caught_up_and_a_long_one_dropped():
    clock = Clock()
    pace = Pace(clock, clock.sleep)
    assert pace.wait(0.0)
    clock.now += 0.5
    assert pace.wait(0.4)
    assert clock.now == 100.5
    clock.now += 60
    at_once = 0
    while True:
        before = clock.now
        assert pace.wait(0.5 + at_once / 1000)
        if clock.now > before:
            break
        at_once += 1
    assert at_once == pytest.approx(BEHIND * 1000, abs=2)


def test_waiting_ends_as_soon_as_the_run_is_over():
    clock = Clock()
    pace = Pace(clock, clock.sleep)
    pace.wait(0.0)
    assert not pace.wait(1e9, lambda: clock.now > 103)
    assert clock.now < 104
