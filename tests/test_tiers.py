"""The plugin of the tiers: what it selects, and that a budget fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

pytestmark = pytest.mark.merge  # each run of pytest takes 2 s

CONFTEST = """
import pytest
import tiers

def pytest_addoption(parser):
    tiers.add_options(parser)

@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    tiers.use_cores(config)

def pytest_configure(config):
    tiers.configure(config)
"""
TESTS = """
import time
import pytest

pytestmark = pytest.mark.commit

def test_quick():
    pass

@pytest.mark.merge
def test_spark():
    pass

@pytest.mark.smoke
@pytest.mark.merge
def test_mission():
    pass

@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.nightly)])
def test_soak(n):
    time.sleep(0.2)
"""


def run(folder: Path, *words: str, tests: str = TESTS) -> tuple[int, str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_some.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "--strict-markers", *words]
    environment = {"PYTHONPATH": str(ROOT / "tests" / "support"), "PATH": ""}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["test_quick", "test_mission", "test_soak[1]"]),
        (["--tier", "commit"], ["test_quick", "test_soak[1]"]),
        (["--tier", "merge"], ["test_quick", "test_spark", "test_mission", "test_soak[1]"]),
        (["--tier", "merge", "--only-tier"], ["test_spark", "test_mission"]),
        (["--tier", "nightly", "--only-tier"], ["test_soak[2]"]),
    ],
)
def test_a_tier_runs_with_those_before_it(words: list[str], names: list[str], tmp_path: Path) -> None:
    code, output = run(tmp_path, *words)
    passed = [line.partition("::")[2] for line in output.splitlines() if line.startswith("PASSED")]
    assert (code, sorted(passed)) == (0, sorted(names))


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="there is one core")
@pytest.mark.parametrize(
    ("words", "processes"), [([], 2), (["--tier", "commit"], 0), (["."], 0), (["-n0"], 0)]
)
def test_without_a_path_or_a_tier_two_processes_run_the_tests(
    words: list[str], processes: int, tmp_path: Path
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = .\n")
    code, output = run(tmp_path, *words)
    assert code == 0
    assert ("2 workers [3 items]" in output) == (not words)


def test_a_run_over_its_budget_fails(tmp_path: Path) -> None:
    code, output = run(tmp_path, "--budget", "0.1")
    assert code == 1
    assert "their budget is 0 s" in output


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        ((), "must name its tier"),
        (("smoke", "nightly"), "a smoke test must be of the commit or merge tier"),
        (("commit", "usefixtures('broker')"), "the commit tier needs no JVM; these take broker"),
    ],
)
def test_a_test_that_its_tier_cannot_run_is_an_error(
    tmp_path: Path, marks: tuple[str, ...], words: str
) -> None:
    decorators = "".join(f"@pytest.mark.{mark}\n" for mark in marks)
    code, output = run(tmp_path, tests=f"import pytest\n\n{decorators}def test_some():\n    pass\n")
    assert code != 0
    assert words in output
