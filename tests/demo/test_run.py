"""The whole demo, as a user starts it, and what Ctrl-C leaves: only what the next one resumes from."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from streaming_nn.versions.version_log import VersionLog

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]

COMMAND = [str(Path(sys.executable).with_name("streaming-nn")), "demo"]
MARK = "DEMO_TEST_FOLDER"  # a variable that every process of a demo inherits
KEYS = {
    *("produced_labeled", "trained", "skipped", "dead_letters", "produced_unlabeled", "scored", "versions"),
    *("accounted", "verify"),
}
DIGITS = {
    *("accuracy", "f1_macro", "accuracy_as_served", "baseline_majority_class", "baseline_no_change"),
    *("accuracy_before_drift", "accuracy_after_recovery"),
}
MACHINE = {
    f"{prefix}{error}{suffix}"
    for error in ("mae", "rmse", "r2")
    for prefix, suffix in (("", ""), ("", "_as_served"), ("baseline_mean_", ""), ("baseline_no_change_", ""))
} | {"mae_at_end", "r2_at_end", "baseline_mean_mae_at_end", "baseline_no_change_mae_at_end"}


def running(folder: Path) -> dict[int, str]:
    """Return the processes of a demo in this folder, found by their environment and their command."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            ours = f"{MARK}={folder}".encode() in (process / "environ").read_bytes()
        except OSError:
            continue  # it has ended, or is another user's
        if command and (ours or str(folder) in command) and int(process.name) != os.getpid():
            found[int(process.name)] = command
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for pid in running(tmp_path):  # a test that failed must not leave a broker behind
        os.kill(pid, signal.SIGKILL)


def start(folder: Path, *flags: str) -> subprocess.Popen[str]:
    """Start a demo in a new process group, as a shell does."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    with (folder / "stderr").open("w") as stderr, (folder / "stdout").open("w") as stdout:
        return subprocess.Popen(
            [*COMMAND, *flags],
            cwd=folder,
            env={**os.environ, MARK: str(folder), "TMPDIR": str(temporary)},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )


def summary(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "stdout").read_text().splitlines()[-1])
    return values


def wait_until_ended(folder: Path) -> None:
    """Wait until nothing of the demo runs: Spark's JVM ends when it finds that its parent has."""
    until(lambda: running(folder) == {}, lambda: running(folder))


def check_summary(values: dict[str, Any]) -> None:
    """Check what holds for the summary of any run."""
    assert set(values) in (KEYS | DIGITS, KEYS | MACHINE)
    assert values["accounted"] is True
    assert values["verify"] == "identical"
    assert values["produced_labeled"] == values["trained"] + values["skipped"] + values["dead_letters"]
    assert values["produced_unlabeled"] == values["scored"]


def test_a_demo_learns_and_verifies_it(folder: Path) -> None:
    process = start(folder, "--seconds", "40", "--json")
    assert process.wait(500) == 0, (folder / "stderr").read_text()[-2000:]
    values = summary(folder)
    check_summary(values)
    assert values["accuracy_before_drift"] > 0.9
    assert values["accuracy_after_recovery"] > 0.9
    assert values["accuracy"] > values["baseline_majority_class"] + 0.5
    assert values["accuracy"] > values["baseline_no_change"] + 0.5
    assert values["dead_letters"] > 0
    assert values["versions"] > 5
    wait_until_ended(folder)
    assert list((folder / "tmp").glob("streaming-nn-*")) == []  # its directories were deleted


def test_this_machine_is_predicted_a_second_ahead(folder: Path) -> None:
    process = start(
        folder, "--stream", "machine", "--seconds", "15", "--rate", "40", "--dir", "run", "--json"
    )
    assert process.wait(500) == 0, (folder / "stderr").read_text()[-2000:]
    values = summary(folder)
    check_summary(values)
    assert values["produced_unlabeled"] > 400  # each row is scored, and sent again with its label
    assert 0 <= values["produced_unlabeled"] - values["produced_labeled"] < 100
    assert 0 < values["mae"] <= values["rmse"]
    assert "MAE no change" in (folder / "stderr").read_text()
    last = VersionLog(folder / "run" / "model").head()
    assert last is not None
    assert last.manifest.learner["classes"] is None
    assert last.manifest.metrics["prequential"]["cumulative"]["rmse"] == values["rmse"]
    assert "cpu.now" in last.manifest.schema["features"]
    assert last.manifest.lag is not None  # for the page
    wait_until_ended(folder)


def test_after_ctrl_c_nothing_runs_and_the_next_demo_resumes(folder: Path) -> None:
    model = folder / "run" / "model"
    process = start(folder, "--dir", "run", "--seconds", "300")
    until(
        lambda: process.poll() is not None or (model.exists() and (VersionLog(model).head_number() or 0) >= 4)
    )
    assert process.poll() is None, (folder / "stderr").read_text()[-2000:]
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(90) == 130
    stderr = (folder / "stderr").read_text()
    assert "resume with: streaming-nn demo --dir" in stderr
    assert "Traceback" not in stderr
    wait_until_ended(folder)
    head = VersionLog(model).head_number()
    assert head is not None

    process = start(folder, "--dir", "run", "--seconds", "15", "--json")
    assert process.wait(500) == 0, (folder / "stderr").read_text()[-2000:]
    check_summary(summary(folder))
    log = VersionLog(model)
    manifests = [log.manifest(number) for number in log.numbers()]
    assert manifests[-1].number > head
    for before, after in pairwise(manifests):  # each begins at the next record
        for topic, ranges in after.ranges.items():
            for partition, (begin, _) in ranges.items():
                assert begin == before.offsets[topic].get(partition, 0)
    wait_until_ended(folder)
