"""Run a benchmark as its users do: a process of its own, from the clone."""

import json
import os
import subprocess
import sys
from typing import Any

from paths import ROOT


def run(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a benchmark to its end, or to the test's timeout."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    variables = os.environ | environment
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


def short_line(name: str, *arguments: str, **environment: str) -> dict[str, Any]:
    """Give the JSON line of a benchmark's short form, which prints nothing else."""
    done = run(name, "--short", "--json", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))
