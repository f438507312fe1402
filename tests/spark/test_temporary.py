import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

from streaming_nn.spark import temporary

pytestmark = pytest.mark.commit

OWNER = """
import sys
from streaming_nn.spark import temporary
print(temporary.directory(), flush=True)
assert temporary.directory() == temporary.directory()
sys.stdin.readline()
"""


@pytest.fixture
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["subprocess.Popen[str]"]:
    """A process that has a directory in tmp_path, as this one would."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command, pipe = [sys.executable, "-c", OWNER], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        yield process
        process.kill()


def directory_of(process: "subprocess.Popen[str]") -> Path:
    assert process.stdout is not None
    directory = Path(process.stdout.readline().strip())
    (directory / "spark-1").mkdir()
    (directory / "spark-1" / "a.jar").write_bytes(b"x" * 1000)
    return directory


def test_a_killed_process_leaves_its_directory_to_the_next_one(owner: "subprocess.Popen[str]") -> None:
    directory = directory_of(owner)
    temporary.delete_leftovers()
    assert (directory / "spark-1" / "a.jar").exists(), "its owner is running"
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert directory.exists()
    temporary.delete_leftovers()
    assert not directory.exists()


def test_a_process_that_ends_deletes_its_directory(owner: "subprocess.Popen[str]", tmp_path: Path) -> None:
    directory_of(owner)
    assert owner.stdin is not None
    owner.stdin.write("\n")
    owner.stdin.flush()
    assert owner.wait(30) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_just_being_created_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    young, old, other = (tmp_path / f"{name}1" for name in (temporary.PREFIX, temporary.PREFIX + "2", "x"))
    for each in (young, old, other):
        each.mkdir()
        os.utime(each, (time.time() - 7200 * (each != young),) * 2)
    temporary.delete_leftovers()
    assert sorted(tmp_path.iterdir()) == sorted([young, other])


def test_what_cannot_be_deleted_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"{temporary.PREFIX}file").write_text("not a directory")
    broken = tmp_path / f"{temporary.PREFIX}link"
    broken.symlink_to(tmp_path / "nowhere")
    temporary.delete_leftovers()
    assert broken.is_symlink()


SESSION = """
import sys
from streaming_nn.spark.session import session
from streaming_nn.spark.temporary import directory
spark = session({"spark.master": "local[1]", "spark.driver.memory": "512m"})
spark.range(3).count()
print(directory(), flush=True)
sys.stdin.readline()
"""


@pytest.mark.nightly
def test_what_a_killed_jvm_leaves_is_deleted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command, pipe = [sys.executable, "-c", SESSION], subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, env=environment, start_new_session=True
    ) as process:
        directory = directory_of(process)
        os.killpg(process.pid, signal.SIGKILL)
    time.sleep(5)
    left = [path for path in tmp_path.iterdir() if not path.name.startswith("hsperfdata")]
    assert left == [directory]
    assert [path for path in directory.iterdir() if path.name.startswith("blockmgr-")]
    temporary.delete_leftovers()
    assert not directory.exists()
