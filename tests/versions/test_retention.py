import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from logs import filled, learn, parent_of, prune_all_but, stub, tensors

from streaming_nn.errors import DamagedVersionError, VersionConflictError
from streaming_nn.settings import Train
from streaming_nn.versions import atomic_files, retention
from streaming_nn.versions.repair import check, repair
from streaming_nn.versions.retention import DAY, HOUR, MINUTE, Retention, describe, prune
from streaming_nn.versions.rollback import rollback
from streaming_nn.versions.tags import tag
from streaming_nn.versions.version import Version
from streaming_nn.versions.version_log import VersionLog, next_manifest

pytestmark = pytest.mark.commit

NOW = 1_700_000_000 // DAY * DAY + 12 * HOUR  # noon


def kept(log: VersionLog) -> list[int]:
    return [number for number in log.numbers() if log.manifest(number).kept]


def aged(log: VersionLog, seconds: list[int]) -> VersionLog:
    """Give the versions these ages."""
    for number, age in enumerate(seconds):
        os.utime(log.path(number), (NOW - age,) * 2)
    return log


def size(log: VersionLog, versions: int) -> int:
    """Return a bound within which so many versions fit, beside the archive."""
    retention.archive(log)
    return versions * max(log.path(number).stat().st_size for number in log.files()) + log.archives.size()


def described(log: VersionLog) -> list[tuple[Any, ...]]:
    """Return all that is not pruned of each version."""
    manifests = [log.manifest(number) for number in log.numbers()]
    return [
        (m.number, m.kind, m.counts, m.digest, m.offsets, m.ranges, m.nonce, m.parent_sha256, m.learner)
        for m in manifests
    ] + [log.sha256(number) for number in log.numbers()]


def test_the_oldest_are_pruned_first_except_the_first_of_each_minute_hour_and_day(tmp_path: Path) -> None:
    days = [3 * DAY + 60, 3 * DAY, DAY + 60, DAY + 30]
    hours = [3 * HOUR + 20, 3 * HOUR + 10, 2 * HOUR - 1]
    minutes = [2 * MINUTE + 59, 2 * MINUTE + 1, 58, 57, 0]
    log = aged(filled(VersionLog(tmp_path), 12), [*days, *hours, *minutes])
    assert prune(log, size(log, 11)) == [1]
    assert prune(log, size(log, 9)) == [3, 5]
    assert prune(log, size(log, 8)) == [8]
    assert prune(log, size(log, 7)) == [10]
    assert kept(log) == [0, 2, 4, 6, 7, 9, 11]
    assert prune(log, size(log, 5)) == [2, 4], "the bound counts more than the spacing"
    assert prune(log, 0) == [6, 7, 9]
    assert kept(log) == [0, 11], "version 0 and the head always stay"
    assert prune(log, 0) == []


def test_nothing_is_pruned_below_the_bound(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 12)
    assert prune(log, size(log, 12)) == []
    assert kept(log) == list(range(12))


def test_there_are_at_most_so_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "FILES", 5)
    log = aged(filled(VersionLog(tmp_path), 12), list(range(12, 0, -1)))
    assert prune(log, size(log, 100)) == [1, 2, 3, 4, 5, 6, 7]


def test_a_pause_of_the_stream_prunes_nothing(tmp_path: Path) -> None:
    """Ages are relative to the head: what was a minute before it a month ago is so still."""
    log = aged(filled(VersionLog(tmp_path), 5), [30 * DAY + 50 - n for n in (0, 10, 20, 30, 40)])
    assert prune(log, size(log, 5)) == []


def test_tagged_versions_are_never_pruned(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 6)
    tag(log, "best", 3)
    assert prune(log, 0) == [1, 2, 4]
    assert kept(log) == [0, 3, 5]


def test_pruned_versions_keep_their_number_and_manifest_and_learning_continues(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 6)
    before = described(log)
    assert prune(log, 0) == [1, 2, 3, 4]
    assert described(log) == described(VersionLog(tmp_path)) == before
    again = VersionLog(tmp_path)
    learn(again)
    prune(again, 0)
    learn(again)
    assert check(again) == []
    assert again.numbers() == list(range(8))
    assert again.head_number() == 7
    assert described(again)[:6] == before[:6]
    assert len(atomic_files.names(again.versions)) == len(["0", "6", "7", "archive"])
    assert atomic_files.names(again.archives.directory) == ["000000000000-000000000006.safetensors"]


def test_archives_hold_blocks_and_every_manifest_can_be_read_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("BLOCK", 20), ("CHUNK", 5)):
        monkeypatch.setattr(f"streaming_nn.versions.archive.{name}", value)
    monkeypatch.setattr(retention, "BLOCK", 20)
    log = VersionLog(tmp_path)
    for count in (3, 1, 4, 13, 8, 20):
        prune(filled(log, count), 0)
    filled(log, 2)
    plain = filled(VersionLog(tmp_path / "plain"), 51)
    fields = ("number", "kind", "counts", "offsets", "ranges", "learner")
    for mine, other in zip(log.numbers(), plain.numbers(), strict=True):
        a, b = log.manifest(mine), plain.manifest(other)
        assert [getattr(a, name) for name in fields] == [getattr(b, name) for name in fields]
    assert check(log) == []
    names = [f"{a:012d}-{b:012d}.safetensors" for a, b in ((0, 20), (20, 40), (40, 48))]
    assert sorted(atomic_files.names(log.archives.directory)) == names
    assert kept(log) == [0, 48, 49, 50]


def test_a_version_that_is_already_pruned_is_reported_with_the_nearest_kept_one(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 6)
    prune_all_but(log, [2])
    with pytest.raises(LookupError, match=r"version 4 was pruned.*the nearest one before it .* is 2$"):
        log.read(4)
    assert [log.nearest_kept(number) for number in (1, 2, 4, 5)] == [0, 2, 2, 5]
    with pytest.raises(LookupError, match="no version 9"):
        log.read(9)


def test_versions_that_cannot_be_replayed_are_kept(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 5)
    rollback(log, 2)
    filled(log, 3)
    assert prune(log, 0) == [1, 2, 3, 4, 6, 7]
    assert kept(log) == [0, 5, 8]


def test_the_last_saved_version_in_a_row_is_kept(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 2)
    for kind in ("saved", "saved", "learned", "saved", "saved", "saved"):
        learn(log, kind=kind)
    assert prune(log, 0) == [1, 2, 4, 5, 6], "4 is replayed from 3"


def test_what_an_older_release_pruned_is_archived(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 6)
    before = described(log)
    for number in (1, 2, 4):
        atomic_files.replace(log.path(number), stub(log.path(number).read_bytes()))
    assert prune(log, size(log, 10)) == []
    assert log.files() == [0, 3, 5]
    assert described(log) == before
    assert check(log) == []


@pytest.mark.parametrize("broken", [b"", None, "tensors"])
def test_a_damaged_version_does_not_stop_the_others_from_being_pruned(
    tmp_path: Path, broken: bytes | str | None, caplog: pytest.LogCaptureFixture
) -> None:
    log = filled(VersionLog(tmp_path), 6)
    data = log.path(2).read_bytes()
    if broken is None:
        log.path(2).unlink()
    else:
        log.path(2).write_bytes(data[:-1] + b"?" if broken == "tensors" else b"")
    with caplog.at_level(logging.WARNING):
        pruned = prune(log, 0)
    assert pruned == ([1, 2, 3, 4] if broken == "tensors" else [1, 3, 4])
    if broken == b"":
        assert "000000000002.safetensors is damaged" in caplog.text
        assert [finding.number for finding in check(log)] == [2]
        assert repair(log).lost == [2]
        assert log.files() == [0, 5]
    assert check(log) == []
    assert learn(log).number == 6


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: data[:-1] + b"?", lambda _: b""]
)
def test_nothing_is_pruned_when_the_head_is_damaged(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    filled(VersionLog(tmp_path), 6)
    log = VersionLog(tmp_path)
    log.path(5).write_bytes(damage(log.path(5).read_bytes()))
    with pytest.raises(DamagedVersionError, match="the last good version is 4"):
        prune(log, 0)
    assert [log.manifest(n).kept for n in range(5)] == [True] * 5
    assert repair(log).good == 4
    assert prune(log, 0)


def test_a_directory_with_a_versions_name_is_damage(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 3)
    log.path(3).mkdir()
    for look in (log.manifest, log.read, log.sha256):
        with pytest.raises(DamagedVersionError, match="it is a directory"):
            look(3)


# Concurrency: a number that was archived stays taken


def sleeping(log: VersionLog, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
    """Let `meanwhile` happen while the log's next commit is between its look at the number and its link."""
    link = os.link

    def link_after_sleep(a: Path, b: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        meanwhile()
        link(a, b)

    monkeypatch.setattr(os, "link", link_after_sleep)


def test_a_trainer_that_slept_until_its_number_was_archived_and_deleted_gets_a_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, other = filled(VersionLog(tmp_path, "sleeper"), 3), VersionLog(tmp_path, "other")
    mine = Version(next_manifest(parent_of(log, 2), "sleeper"), tensors(3))
    sleeping(log, monkeypatch, lambda: prune(filled(other, 8), 0))
    with pytest.raises(VersionConflictError, match=r"version 3 .* run other") as e:
        log.append(mine)
    assert e.value.number == 3
    assert not log.path(3).exists(), "it had linked its file: the name was free"
    assert check(VersionLog(tmp_path)) == []
    assert VersionLog(tmp_path).head_number() == 10


def test_a_trainer_that_is_killed_there_leaves_a_file_that_is_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, other = filled(VersionLog(tmp_path), 3), VersionLog(tmp_path)
    mine = Version(next_manifest(parent_of(log, 2), "sleeper"), tensors(3))
    sleeping(log, monkeypatch, lambda: prune(filled(other, 8), 0))
    monkeypatch.setattr(VersionLog, "_archived_now", lambda *_: False)  # killed before it looks
    log.append(mine)
    monkeypatch.undo()
    again = VersionLog(tmp_path)
    assert (again.head_number(), again.manifest(3).kept, again.nearest_kept(9)) == (10, False, 0)
    assert again.manifest(3).written_by != mine.manifest.written_by
    with pytest.raises(DamagedVersionError, match="not the version that was committed"):
        again.read(3)
    assert [finding.number for finding in check(again)] == [3]
    learn(again)
    assert repair(again).lost == [3]
    assert check(again) == []


def test_a_commit_that_was_archived_before_it_was_confirmed_is_a_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its link succeeded; before it looked, another process committed on top of it and archived it."""
    log, other = filled(VersionLog(tmp_path), 3), VersionLog(tmp_path)
    link = os.link

    def link_then_sleep(a: Path, b: Path) -> None:
        link(a, b)
        monkeypatch.setattr(os, "link", link)
        prune(filled(other, 4), 0)

    monkeypatch.setattr(os, "link", link_then_sleep)
    version = log.commit(log.read(2), tensors(3))
    assert version.sha256 == other.sha256(3)
    assert log.append(Version(version.manifest, tensors(3))).sha256 == version.sha256, "a retry is one, too"


def test_of_two_processes_that_archive_at_once_the_longer_archive_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, other = filled(VersionLog(tmp_path), 5), VersionLog(tmp_path)
    before = described(log)

    def extend_twice() -> None:
        prune(filled(other, 3), 0)
        prune(filled(other, 3), 0)

    sleeping(log, monkeypatch, extend_twice)
    prune(log, 0)
    assert atomic_files.names(log.archives.directory) == ["000000000000-000000000010.safetensors"]
    assert described(VersionLog(tmp_path))[:5] == before[:5]
    assert check(VersionLog(tmp_path)) == []
    assert log.head_number() == 10


def test_a_reader_that_holds_an_archive_that_was_replaced_reads_the_longer_one(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 5)
    prune(log, 0)
    reader = VersionLog(tmp_path)
    assert reader.head_number() == 4
    expected = described(reader)
    for _ in range(2):
        prune(filled(log, 3), 0)
        assert [reader.manifest(n).nonce for n in range(5)] == [m[6] for m in expected[:5]]
        assert [reader.sha256(n) for n in range(5)] == expected[5:]
    assert reader.has(9)
    assert [point.last for point in reader.points()] == [10]


class Killed(BaseException):
    pass


def killed_before_step(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every operation on the file system fail from this one on, as after a kill."""
    done = 0

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            done += 1
            if done > step:
                raise Killed
            return operation(*args, **kwargs)

        return call

    for name in ("open", "link", "unlink", "replace", "fsync", "mkdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


def test_a_crash_at_any_step_leaves_everything_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, killed = 0, True
    while killed:
        log = filled(VersionLog(tmp_path / str(step)), 4)
        prune(log, 0)  # so that the next archive replaces one
        tag(filled(log, 4), "best", 5)
        before, reader = described(log), VersionLog(log.directory)
        assert reader.head_number() == 7
        with monkeypatch.context() as patched:
            killed_before_step(step, patched)
            try:
                prune(log, 0)
                killed = False
            except Killed:
                pass
        for each in (reader, VersionLog(log.directory)):
            assert described(each) == before
            assert [each.read(number).number for number in (0, 5, 7)] == [0, 5, 7]
            assert sum(point.counts["trained"] for point in each.points()) == 70
        assert check(VersionLog(log.directory)) == []
        survivor = VersionLog(log.directory)
        prune(survivor, 0)
        assert kept(survivor) == [0, 5, 7]
        atomic_files.clean(survivor.archives.directory, older_than=-1)
        assert len(atomic_files.names(survivor.archives.directory)) == 1
        learn(survivor)
        assert check(survivor) == []
        step += 1
    assert step > 6


# Damaged archives


@pytest.mark.parametrize("position", [50, -40])
def test_a_damaged_archive_is_reported_and_repaired_and_training_continues(
    tmp_path: Path, position: int
) -> None:
    log = filled(VersionLog(tmp_path), 8)
    prune_all_but(log, [3])
    (path,) = log.archives.directory.iterdir()
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    again = VersionLog(tmp_path)
    assert again.head_number() == 7
    assert learn(again).number == 8
    assert again.read(3).number == 3
    with pytest.raises(DamagedVersionError, match=path.name):
        again.manifest(2)
    assert [finding.lost for finding in check(again)] == [True]
    assert repair(again).lost == [1, 2, 4, 5, 6]
    assert check(VersionLog(tmp_path)) == []
    assert [again.manifest(n).kind for n in (0, 2, 3)] == ["initial", "damaged", "learned"]
    assert bytes(data) in [saved.read_bytes() for saved in (tmp_path / "damaged").iterdir()]
    assert prune(VersionLog(tmp_path), 0)[-1:] == [7]


def test_a_deleted_archive_is_a_gap_that_repair_fills(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 8)
    prune_all_but(log, [3])
    (path,) = log.archives.directory.iterdir()
    path.unlink()
    with pytest.raises(DamagedVersionError, match=r"version 1 .* is missing, and version 7 exists"):
        VersionLog(tmp_path).head()
    assert repair(VersionLog(tmp_path)).lost == [1, 2, 4, 5, 6]
    again = VersionLog(tmp_path)
    assert check(again) == []
    learn(again)
    prune(again, 0)
    assert check(again) == []


# A trainer's pruning


def test_a_trainer_prunes_at_its_first_commit_and_then_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = filled(VersionLog(tmp_path), 30)
    one = log.path(29).stat().st_size
    bound = 40 * one
    calls: list[int] = []

    def counted(log: VersionLog, keep_bytes: int) -> list[int]:
        calls.append(log.head_number() or 0)
        return prune(log, keep_bytes)

    monkeypatch.setattr(retention, "prune", counted)
    keeping = Retention(log, bound)
    for _ in range(20):
        keeping.committed(learn(log).number)
        assert retention.size(log) <= bound
    assert calls[0] == 30
    assert 9 <= len(calls) <= 11, "once every two versions, 1/20 of the bound"
    assert log.files()[0] == 0
    assert 30 <= len(log.files()) <= 40


def test_pruning_has_a_constant_cost_per_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = filled(VersionLog(tmp_path), 10)
    looks: list[int] = []
    header = VersionLog._header
    monkeypatch.setattr(VersionLog, "_header", lambda self, n: looks.append(n) or header(self, n))
    keeping = Retention(log, 1)
    counts = []
    for _ in range(5):
        number = learn(log).number
        looks.clear()
        keeping.committed(number)
        counts.append(len(looks))
    assert counts[1:] == counts[1:2] * 4
    assert log.files() == [0, 14]


def test_a_version_that_another_process_pruned_just_now_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, other = filled(VersionLog(tmp_path), 5), VersionLog(tmp_path)
    keeping = Retention(log, 1)
    number = learn(log).number
    learn(other)
    prune(other, 0)
    keeping.committed(number)
    assert log.files() == [0, 6]
    head_number = VersionLog.head_number

    def then_another_commits(self: VersionLog) -> int | None:
        number = head_number(self)
        monkeypatch.setattr(VersionLog, "head_number", head_number)
        learn(other)
        prune(other, 0)
        return number

    learn(log)
    monkeypatch.setattr(VersionLog, "head_number", then_another_commits)
    log.check_head()


def test_nothing_is_pruned_where_all_is_kept(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 5)
    Retention(log, None).committed(4)
    assert not log.archives.directory.exists()


def test_a_bound_that_what_must_stay_exceeds_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = filled(VersionLog(tmp_path), 5)
    keeping = Retention(log, 100)
    for _ in range(3):
        keeping.committed(learn(log).number)
    assert caplog.text.count("exceed keep_bytes") == 1


@pytest.mark.parametrize("cause", ["a tag's file", "an archive", "the disk"])
def test_what_prevents_pruning_ends_no_run_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    log = filled(VersionLog(tmp_path), 5)
    prune(log, 0)
    if cause == "a tag's file":
        (tmp_path / "tags").mkdir()
        (tmp_path / "tags" / "notes.txt").write_text("the best one is 3")
    elif cause == "an archive":
        (path,) = log.archives.directory.iterdir()
        path.write_bytes(path.read_bytes()[:100])
        log = VersionLog(tmp_path)
    keeping = Retention(log, 1)
    for _ in range(3):
        number = learn(log).number
        with monkeypatch.context() as patched:
            if cause == "the disk":
                patched.setattr(atomic_files, "create", lambda *_: os.stat("/proc/no space"))
            keeping.committed(number)
    assert caplog.text.count("no version is pruned: ") == 1
    assert log.head_number() == 7


def test_what_is_kept_is_described() -> None:
    assert describe(10**10).startswith("versions are kept up to 10 GB (train.keep_bytes)")
    assert "up to 500 MB" in describe(5 * 10**8)
    assert "up to 1.5 kB" in describe(1500)
    assert "up to 0 B" in describe(0)
    assert "all versions are kept" in describe(None)
    assert Train().keep_bytes == retention.KEEP_BYTES
