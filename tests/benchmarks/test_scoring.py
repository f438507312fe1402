"""The short form of the scoring benchmark starts, finishes and prints its line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_short_form_prints_its_line() -> None:
    command = [sys.executable, "-m", "benchmarks.score", "--short", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["benchmark"] == "score"
    assert line["lost"] == 0
    assert 0 < line["p50_ms"] <= line["p99_ms"]
    assert line["passthrough_p50_ms"] > 0
    assert line["reload_s"] < 10
    assert 0 <= line["restarts"]["hard"]["doubled"] < 20_000
    assert line["throughput_ratio"] > 0
