"""Failpoints: off by default, and reached a given time a test's process ends, stops, or raises."""

import subprocess
import sys

import pytest

from streaming_nn.spark import failpoints
from streaming_nn.spark.failpoints import SimulatedCrash, reach

pytestmark = pytest.mark.commit


def test_nothing_happens_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(failpoints.VARIABLE, raising=False)
    for point in failpoints.POINTS:
        reach(point)


def test_the_nth_time_at_the_point_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, "learned:3:raise")
    for _ in range(2):
        reach("learned")
        reach("committed")
    with pytest.raises(SimulatedCrash, match="learned"):
        reach("learned")
    reach("learned")


def test_a_process_is_killed_as_by_a_power_failure() -> None:
    code = "from streaming_nn.spark.failpoints import reach; reach('a'); reach('b'); print('alive')"
    environment = {failpoints.VARIABLE: "b"}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert (process.returncode, process.stdout) == (-9, b"")
