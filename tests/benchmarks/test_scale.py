"""The short form starts two clusters, finishes and prints its line; its ratios say nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_short_form_prints_its_line() -> None:
    command = [sys.executable, "-m", "benchmarks.scale", "--short", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["benchmark"] == "scale"
    assert line["speedup_2"] > 0
    assert set(line["per_s"]) == {
        f"{what}_{executors}" for what in ("images", "numbers", "numbers_only_read") for executors in (1, 2)
    }
    assert line["state_mb"] > 0
