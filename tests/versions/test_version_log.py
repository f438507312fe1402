import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from logs import following, parent_of, stub
from paths import ROOT

from streaming_nn.errors import DamagedVersionError, VersionConflictError
from streaming_nn.versions import atomic_files
from streaming_nn.versions.environment import describe, writer
from streaming_nn.versions.retention import prune
from streaming_nn.versions.version import Manifest, Version, encode, sha256
from streaming_nn.versions.version_log import VersionLog, next_manifest

pytestmark = pytest.mark.commit


def tensors(number: int) -> dict[str, Any]:
    return {"model.theta": np.full(4, number, np.float32), "metrics.rows": np.array(number)}


def initial(**changes: Any) -> Version:
    values = {"kind": "initial", "offsets": {"t": {0: 0}}, "written_by": {"host": "h", "pid": 1, "run": "r"}}
    return Version(Manifest(0, **(values | changes)), tensors(0))


def fill(log: VersionLog, count: int) -> None:
    log.append(initial())
    for _ in range(count - 1):
        log.append(following(log))


def test_an_empty_log(tmp_path: Path) -> None:
    log = VersionLog(tmp_path / "model")
    assert log.head() is None
    assert log.head_number() is None
    assert log.numbers() == []
    assert not log.directory.exists()
    with pytest.raises(LookupError, match="no version 0"):
        log.read(0)
    with pytest.raises(LookupError, match="no version 3"):
        log.manifest(3)


def test_append_and_read(tmp_path: Path) -> None:
    log = VersionLog(tmp_path)
    sha = log.append(initial()).sha256
    assert sha == log.sha256(0) == sha256(log.path(0).read_bytes())
    counts = {"received": 5, "trained": 3, "skipped": 1, "rejected": 1, "filtered": 0}
    v = following(log, offsets={"t": {0: 5}}, counts=counts)
    log.append(v)
    head = VersionLog(tmp_path).head()
    assert head is not None
    assert head.number == 1
    assert head.manifest == log.manifest(1) == replace(v.manifest, digest=head.manifest.digest)
    assert head.manifest.parent_sha256 == sha
    np.testing.assert_array_equal(head.tensors["model.theta"], [1, 1, 1, 1])
    assert log.path(1).name == "000000000001.safetensors"


def test_commit_fills_number_parent_writer_time_and_environment(tmp_path: Path) -> None:
    log = VersionLog(tmp_path, "blue")
    first = log.commit(None, tensors(0), offsets={"t": {0: 0}}, learner={"rate": 0.1}, metrics={"rows": 0})
    second = log.commit(first, tensors(1), offsets={"t": {0: 5}}, metrics={"loss": float("nan")})
    assert (first.number, first.manifest.kind, first.manifest.parent_sha256) == (0, "initial", "")
    assert (second.number, second.manifest.kind) == (1, "learned")
    assert second.manifest.parent_sha256 == first.sha256 == log.sha256(0)
    assert second.manifest.written_by == writer("blue")
    assert second.manifest.written_at >= first.manifest.written_at != ""
    assert second.manifest.environment == describe()
    assert second.manifest.learner == {"rate": 0.1}
    assert second.manifest.metrics == {"loss": None}
    assert second.manifest.nonce != first.manifest.nonce


def test_commit_returns_what_read_returns(tmp_path: Path) -> None:
    log = VersionLog(tmp_path)
    first = log.commit(None, tensors(0))
    for version in (first, log.commit(first, tensors(1))):
        for read in (log.read(version.number), VersionLog(tmp_path).read(version.number)):
            assert (read.manifest, read.sha256) == (version.manifest, version.sha256)
    head = log.head()
    assert head is not None
    assert head.sha256 == log.sha256(1)


def test_only_what_describes_the_stream_is_inherited(tmp_path: Path) -> None:
    log = VersionLog(tmp_path)
    described = {
        "learner": {"rate": 0.1},
        "schema": {"inputs": 3},
        "update": "averaged",
        "mini_batch_cap": 64,
        "offsets": {"t": {0: 7}},
        "topic_ids": {"t": "id"},
        "source": {"query_id": "q"},
        "metrics": {"rows": 7},
    }
    batch = {
        "kind": "saved",
        "counts": {"received": 7, "trained": 7, "skipped": 0, "rejected": 0, "filtered": 0},
        "ranges": {"t": {0: (0, 7)}},
        "events": [{"event": "drift", "detected": 1}],
        "seconds": {"learn": 0.1},
    }
    child = log.commit(log.commit(None, {}, **described, **batch), {}).manifest
    assert {name: getattr(child, name) for name in described} == described
    fresh = Manifest(1)
    assert {name: getattr(child, name) for name in batch} == {name: getattr(fresh, name) for name in batch}


def test_commit_after_another_version_than_the_head_is_a_conflict(tmp_path: Path) -> None:
    log = VersionLog(tmp_path, "red")
    first = log.commit(None, {})
    log.commit(first, {})
    for parent, number in ((None, 0), (first, 1)):
        with pytest.raises(VersionConflictError, match="run red") as e:
            VersionLog(tmp_path).commit(parent, {})
        assert e.value.number == number


def test_a_parent_that_was_not_read_or_committed_is_refused(tmp_path: Path) -> None:
    log = VersionLog(tmp_path)
    log.commit(None, {})
    with pytest.raises(ValueError, match="parent must be a version that was read or committed"):
        log.commit(Version(log.manifest(0), {}), {})


def test_the_constructor_does_not_touch_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "stat", lambda *a, **k: pytest.fail("looked"))
    monkeypatch.setattr(os, "mkdir", lambda *a, **k: pytest.fail("created"))
    VersionLog(tmp_path / "model")


def test_only_this_package_puts_versions_together() -> None:
    """`VersionLog.commit` is the only way: no other module appends a version or builds a manifest for it."""
    append = re.compile(r"\blog(\(\))?\.append\(|VersionLog\([^)]*\)\.append\(|parent_sha256=")
    package = ROOT / "streaming_nn"
    modules = [path for path in package.rglob("*.py") if path.parent != package / "versions"]
    assert len(modules) > 50
    assert not [path.name for path in modules if append.search(path.read_text())]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number": 7}, "number must be the head's plus one, 1; got 7"),
        ({"counts": {"received": 5, "trained": 3, "skipped": 1, "rejected": 0}}, "received must be trained"),
    ],
)
def test_a_version_that_is_not_a_child_of_the_head_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    log = VersionLog(tmp_path)
    log.append(initial())
    with pytest.raises(ValueError, match=message):
        log.append(following(log, **change))
    assert log.numbers() == [0]


def test_the_first_version_is_number_0_without_a_parent(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the head's plus one, 0; got 1"):
        VersionLog(tmp_path).append(Version(Manifest(1), {}))
    with pytest.raises(ValueError, match="parent_sha256 of version 0 must be ''; got 'x'"):
        VersionLog(tmp_path).append(initial(parent_sha256="x"))


def test_the_second_writer_of_a_number_gets_a_conflict_with_the_first_ones_manifest(tmp_path: Path) -> None:
    a, b = VersionLog(tmp_path), VersionLog(tmp_path)
    a.append(initial())
    mine = following(
        a, written_by={"host": "left", "pid": 7, "run": "blue"}, written_at="2025-01-02T03:04:05Z"
    )
    yours = following(b)
    a.append(mine)
    with pytest.raises(
        VersionConflictError, match="host left, process 7, run blue, at 2025-01-02T03:04:05Z"
    ) as e:
        b.append(yours)
    assert e.value.number == 1
    assert e.value.manifest is not None
    assert e.value.manifest.nonce == mine.manifest.nonce
    assert a.read(1).manifest.nonce == mine.manifest.nonce


def test_a_race_can_be_lost_between_check_and_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = VersionLog(tmp_path), VersionLog(tmp_path)
    a.append(initial())
    mine, yours = following(a), following(b)
    create = atomic_files.create

    def lose_the_race(path: Path, data: bytes) -> None:
        create(path, encode(mine))
        create(path, data)

    monkeypatch.setattr(atomic_files, "create", lose_the_race)
    with pytest.raises(VersionConflictError):
        b.append(yours)
    assert a.read(1).manifest.nonce == mine.manifest.nonce


def test_a_retried_append_recognizes_its_version(tmp_path: Path) -> None:
    log = VersionLog(tmp_path)
    assert log.append(first := initial()).sha256 == log.append(first).sha256
    second = following(log)
    sha = log.append(second).sha256
    log.append(following(log))
    assert VersionLog(tmp_path).append(second).sha256 == sha
    atomic_files.replace(log.path(1), stub(log.path(1).read_bytes()))
    assert VersionLog(tmp_path).append(second).sha256 == sha


def test_a_link_that_succeeds_but_reports_failure_is_a_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def report_failure(a: Path, b: Path) -> None:  # as network file systems do when a response is lost
        link(a, b)
        raise FileExistsError

    monkeypatch.setattr(os, "link", report_failure)
    log = VersionLog(tmp_path)
    assert log.append(initial()).sha256 == log.sha256(0)


def test_a_temporary_file_that_was_cleaned_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, calls = os.link, itertools.count()

    def link_after_sleep(a: Path, b: Path) -> None:
        if next(calls) == 0:
            Path(a).unlink()
        link(a, b)

    monkeypatch.setattr(os, "link", link_after_sleep)
    log = VersionLog(tmp_path)
    assert log.append(initial()).sha256 == log.sha256(0)


def test_a_parent_that_was_exchanged_is_a_conflict(tmp_path: Path) -> None:
    log = VersionLog(tmp_path)
    fill(log, 2)
    mine = following(log)
    other = Version(next_manifest(parent_of(log, 0), "", written_by={"host": "other"}), tensors(9))
    atomic_files.replace(log.path(1), encode(other))
    with pytest.raises(VersionConflictError, match=r"version 1 of .* not the one .* host other"):
        log.append(mine)
    assert log.numbers() == [0, 1]


def test_a_pruned_parent_is_still_the_parent(tmp_path: Path) -> None:
    log = VersionLog(tmp_path)
    fill(log, 2)
    mine = following(log)
    atomic_files.replace(log.path(1), stub(log.path(1).read_bytes()))
    log.append(mine)
    assert log.manifest(2).parent_sha256 == log.sha256(1) == log.manifest(1).original_sha256


def test_a_damaged_parent_stops_the_append(tmp_path: Path) -> None:
    log = VersionLog(tmp_path)
    fill(log, 2)
    mine = following(log)
    log.path(1).write_bytes(log.path(1).read_bytes()[:-1])
    with pytest.raises(DamagedVersionError, match="000000000001"):
        log.append(mine)


@pytest.mark.parametrize("hole", range(5))
def test_a_missing_number_is_noticed_at_the_start(tmp_path: Path, hole: int) -> None:
    fill(log := VersionLog(tmp_path), 6)
    v = following(log)
    log.path(hole).unlink()
    for start in (VersionLog(tmp_path).head, lambda: VersionLog(tmp_path).append(v)):
        with pytest.raises(DamagedVersionError, match=rf"version {hole} .* is missing, and version 5 exists"):
            start()


def test_a_listing_that_misses_a_new_version_is_not_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(log := VersionLog(tmp_path), 4)
    (log.versions / "copy of the best.safetensors").touch()
    names = atomic_files.names
    monkeypatch.setattr(
        atomic_files, "names", lambda directory: [n for n in names(directory) if n != log.path(2).name]
    )
    again = VersionLog(tmp_path)
    again.append(following(again))
    assert again.head_number() == 4


def damage(log: VersionLog, number: int, how: str) -> None:
    path = log.path(number)
    data = bytearray(path.read_bytes())
    if how == "swapped":
        path.write_bytes(log.path(number - 1).read_bytes())
    elif how == "flipped":
        data[-1] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes(data[: {"truncated": len(data) // 2, "emptied": 0}[how]])


@pytest.mark.parametrize("how", ["truncated", "emptied", "flipped", "swapped"])
def test_a_damaged_head_is_never_skipped(tmp_path: Path, how: str) -> None:
    fill(log := VersionLog(tmp_path), 4)
    damage(log, 3, how)
    with pytest.raises(DamagedVersionError, match=r"000000000003.*the last good version is 2"):
        VersionLog(tmp_path).head()
    with pytest.raises(DamagedVersionError):
        log.read(3)
    assert log.read(2).number == 2


def test_a_long_log_is_searched_in_few_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = VersionLog(tmp_path)
    present = {log.path(number) for number in range(100_000)}
    looks: list[Path] = []
    monkeypatch.setattr(atomic_files, "exists", lambda path: looks.append(path) or path in present)
    assert log.head_number() == 99_999
    assert len(looks) <= 2 * 17  # doubling, then bisecting: 2 log2(n)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 31, 32, 100])
def test_the_head_is_found_from_anywhere(tmp_path: Path, length: int) -> None:
    watcher = VersionLog(tmp_path)
    VersionLog(tmp_path).versions.mkdir()
    for number in range(length):
        watcher.path(number).touch()
        if number % 3 == 0:
            assert watcher.head_number() == number
    assert VersionLog(tmp_path).head_number() == watcher.head_number() == length - 1


def test_the_cost_of_an_append_does_not_grow_with_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = VersionLog(tmp_path)
    fill(log, 3)
    looks: list[Path] = []
    exists = atomic_files.exists
    monkeypatch.setattr(atomic_files, "exists", lambda path: looks.append(path) or exists(path))
    names = atomic_files.names
    monkeypatch.setattr(
        atomic_files, "names", lambda directory: looks.append(directory) or names(directory)
    )  # of the archives, of which there are few

    def cost() -> int:
        looks.clear()
        log.commit(parent_of(log, n := log._low), tensors(n + 1))
        assert log.versions not in looks, "listed the directory"
        return len(looks)

    assert len({cost() for _ in range(40)}) == 1


def test_nearest_kept_and_reading_a_pruned_version(tmp_path: Path) -> None:
    fill(log := VersionLog(tmp_path), 6)
    for number in (0, 3, 4):
        atomic_files.replace(log.path(number), stub(log.path(number).read_bytes()))
    assert [log.nearest_kept(n) for n in (5, 4, 3, 2)] == [5, 2, 2, 2]
    with pytest.raises(LookupError, match="version 4 was pruned"):
        log.read(4)
    with pytest.raises(LookupError, match="up to 0"):
        log.nearest_kept(0)


TRAINER = """
import sys
from streaming_nn.errors import VersionConflictError
from streaming_nn.versions.version_log import VersionLog
sys.path.insert(0, {here!r})
from logs import following, parent_of
log, run, goal = VersionLog({log!r}), sys.argv[1], int(sys.argv[2])
print("up", flush=True)
sys.stdin.readline()
while (log.head_number() or 0) < goal:
    v = following(log, written_by={{"run": run}})
    try:
        log.append(v)
        print(v.number, v.manifest.nonce, flush=True)
    except VersionConflictError as e:
        print("lost", e.number, flush=True)
"""


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    started: list[subprocess.Popen[str]] = []

    def start(script: str, *args: str) -> subprocess.Popen[str]:
        text = script.format(here=str(ROOT / "tests" / "support"), log=str(tmp_path / "model"))
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-c", text, *args],
            stdin=pipe,
            stdout=pipe,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


Start = Callable[..., subprocess.Popen[str]]


def test_of_two_processes_each_number_has_one_winner_and_nothing_is_lost(
    tmp_path: Path, trainer: Start
) -> None:
    log = VersionLog(tmp_path / "model")
    log.append(initial())
    both = [trainer(TRAINER, run, "150") for run in ("a", "b")]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    lines = [line.split() for process in both for line in process.communicate(timeout=60)[0].splitlines()]
    won = {int(number): nonce for number, nonce in lines if number != "lost"}
    assert len(won) == sum(number != "lost" for number, _ in lines)
    assert any(number == "lost" for number, _ in lines)
    assert log.numbers() == [0, *sorted(won)]
    for number, nonce in won.items():
        v = log.read(number)
        assert v.manifest.nonce == nonce
        assert v.manifest.parent_sha256 == log.sha256(number - 1)
    assert not [name for name in atomic_files.names(log.versions) if name.endswith(atomic_files.TEMPORARY)]


KILLED = """
import os, sys
from streaming_nn.versions import atomic_files as files
from streaming_nn.versions.version_log import VersionLog
sys.path.insert(0, {here!r})
from logs import following, parent_of
log = VersionLog({log!r})
v = following(log)
at = {{"before link": "link", "after link": "sync_directory"}}[sys.argv[1]]
owner = os if at == "link" else files
setattr(owner, at, lambda *a: (print("up", flush=True), sys.stdin.readline()))
log.append(v)
"""


@pytest.mark.parametrize(("at", "head"), [("before link", 1), ("after link", 2)])
def test_a_process_killed_during_an_append_leaves_a_good_log(
    tmp_path: Path, trainer: Start, at: str, head: int
) -> None:
    log = VersionLog(tmp_path / "model")
    fill(log, 2)
    process = trainer(KILLED, at)
    process.kill()
    process.wait()
    again = VersionLog(tmp_path / "model")
    v = again.head()
    assert v is not None
    assert v.number == head
    again.append(following(again))
    assert again.numbers() == list(range(head + 2))
    left = [name for name in atomic_files.names(log.versions) if name.endswith(atomic_files.TEMPORARY)]
    assert len(left) == 1
    assert atomic_files.clean(log.versions, older_than=-1) == left
    assert again.numbers() == list(range(head + 2))


SLEEPER = """
import os, sys
from streaming_nn.errors import VersionConflictError
from streaming_nn.versions.version_log import VersionLog
sys.path.insert(0, {here!r})
from logs import following, parent_of
log = VersionLog({log!r})
v = following(log, written_by={{"run": "sleeper"}})
link = os.link

def sleep(*args):
    print("up", flush=True)
    sys.stdin.readline()
    link(*args) if args else None

if sys.argv[1] == "before it looks":
    sleep()
else:
    os.link = sleep
try:
    log.append(v)
    print("won")
except VersionConflictError as e:
    print(e)
"""


@pytest.mark.parametrize("moment", ["before it looks", "between its look and its link"])
def test_a_trainer_that_slept_while_another_committed_and_pruned_gets_a_conflict(
    tmp_path: Path, trainer: Start, moment: str
) -> None:
    log = VersionLog(tmp_path / "model")
    fill(log, 3)
    process = trainer(SLEEPER, moment)
    process.send_signal(signal.SIGSTOP)
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    for _ in range(6):
        log.append(following(log, written_by={"run": "other", "host": "h", "pid": 1}))
    assert prune(log, 0) == list(range(1, 8))
    assert not log.path(3).exists(), "the name that it links is free, and its number is not"
    before = {path: path.read_bytes() for path in log.versions.rglob("*.safetensors")}
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate(timeout=30)
    assert "version 3" in out
    assert "run other" in out
    assert {path: path.read_bytes() for path in log.versions.rglob("*.safetensors")} == before
    assert VersionLog(log.directory).head_number() == 8
