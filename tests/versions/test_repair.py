import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from logs import filled, learn, prune_all_but, tensors

from streaming_nn.errors import DamagedVersionError, VersionConflictError
from streaming_nn.versions import atomic_files
from streaming_nn.versions.repair import Repair, check, repair
from streaming_nn.versions.tags import tag
from streaming_nn.versions.version import Version, encode
from streaming_nn.versions.version_log import VersionLog, next_manifest

pytestmark = pytest.mark.commit


def truncated(log: VersionLog, number: int) -> None:
    log.path(number).write_bytes(log.path(number).read_bytes()[:-5])


def beheaded(log: VersionLog, number: int) -> None:
    log.path(number).write_bytes(log.path(number).read_bytes()[:50])


def emptied(log: VersionLog, number: int) -> None:
    log.path(number).write_bytes(b"")


def flipped(log: VersionLog, number: int) -> None:
    data = bytearray(log.path(number).read_bytes())
    data[-3] ^= 16
    log.path(number).write_bytes(data)


def overwritten(log: VersionLog, number: int) -> None:
    log.path(number).write_bytes(log.path(max(number - 2, 0)).read_bytes())


DAMAGE = [truncated, beheaded, emptied, flipped, overwritten]
Damage = Callable[[VersionLog, int], None]


def swap(log: VersionLog, a: int, b: int) -> None:
    x, y = log.path(a).read_bytes(), log.path(b).read_bytes()
    log.path(a).write_bytes(y)
    log.path(b).write_bytes(x)


def test_a_good_log_has_no_findings_and_is_not_changed(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 6)
    prune_all_but(log, [3, 4])
    before = [log.path(n).read_bytes() for n in log.files()]
    assert check(log) == check(log, since=4) == []
    assert repair(log) == Repair([], [], None, 5)
    assert [log.path(n).read_bytes() for n in log.files()] == before
    assert check(VersionLog(tmp_path / "empty")) == []


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("number", [2, 3, 5])
def test_every_damage_is_found_and_reported(tmp_path: Path, damage: Damage, number: int) -> None:
    log = filled(VersionLog(tmp_path), 6)
    damage(log, number)
    found = check(log)
    assert [(f.number, f.lost) for f in found] == [(number, True)]
    assert f"{number:012d}.safetensors is damaged" in found[0].what


@pytest.mark.parametrize("damage", DAMAGE)
def test_records_of_a_lost_head_are_replayed(tmp_path: Path, damage: Damage) -> None:
    log = filled(VersionLog(tmp_path), 6)
    damage(log, 5)
    with pytest.raises(DamagedVersionError, match="the last good version is 4"):
        VersionLog(tmp_path).head()
    assert repair(log) == Repair([], [5], 4, 6)
    head = VersionLog(tmp_path).head()
    assert head is not None
    assert head.number == 6
    assert head.manifest.kind == "repaired"
    assert head.manifest.restored_from == 4
    assert head.manifest.offsets == log.manifest(4).offsets
    assert head.manifest.metrics == log.manifest(4).metrics
    assert head.manifest.events == [{"event": "repaired", "from": 4, "replayed_versions": [5]}]
    for name, tensor in tensors(4).items():
        np.testing.assert_array_equal(head.tensors[name], tensor)
    assert learn(log).manifest.ranges == {"t": {0: (40, 50)}}
    assert check(log) == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_version_lost_in_the_middle_costs_only_its_history(tmp_path: Path, damage: Damage) -> None:
    log = filled(VersionLog(tmp_path), 6)
    sha, rows, head = log.sha256(3), log.manifest(3).counts, log.path(5).read_bytes()
    damage(log, 3)
    assert repair(log) == Repair([], [3], None, 5)
    assert log.path(5).read_bytes() == head
    assert log.manifest(3).kind == "damaged"
    assert log.sha256(3) == sha
    assert log.manifest(3).counts == rows or damage in (beheaded, emptied, overwritten)
    with pytest.raises(DamagedVersionError, match="version 3 was lost"):
        log.read(3)
    assert log.nearest_kept(3) == 2
    learn(log)
    assert check(log) == []
    assert repair(log) == Repair([], [], None, 6)


def test_several_versions_lost_at_the_end(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 8)
    for number, damage in ((2, emptied), (5, flipped), (6, emptied), (7, truncated)):
        damage(log, number)
    assert [f.number for f in check(log)] == [2, 5, 6, 7]
    assert repair(log) == Repair([], [2, 5, 6, 7], 4, 8)
    assert log.manifest(8).events[-1]["replayed_versions"] == [5, 6, 7]
    learn(log)
    assert check(log) == []


def test_versions_deleted_down_to_a_pruned_one(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 6)
    prune_all_but(log, [3, 4])
    log.path(5).unlink()
    log.path(4).unlink()
    log.path(3).unlink()
    with pytest.raises(DamagedVersionError, match=r"version 4 is the newest .* the last good version is 0"):
        VersionLog(tmp_path).head()
    assert [(f.number, f.lost) for f in check(log)] == [(4, True)]
    assert repair(VersionLog(tmp_path)) == Repair([], [], 0, 5)
    assert check(log) == []


def test_a_missing_number_is_taken_by_a_stub(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 6)
    log.path(1).unlink()
    assert [(f.number, f.lost, "missing" in f.what) for f in check(log)] == [(1, True, True)]
    assert repair(log) == Repair([], [1], None, 5)
    assert VersionLog(tmp_path).head_number() == 5
    learn(VersionLog(tmp_path))
    assert check(log) == []


@pytest.mark.parametrize(("a", "b"), [(1, 2), (2, 4), (4, 5), (0, 5), (0, 1)])
def test_exchanged_files_are_restored(tmp_path: Path, a: int, b: int) -> None:
    log = filled(VersionLog(tmp_path), 6)
    before = [log.path(n).read_bytes() for n in log.numbers()]
    swap(log, a, b)
    assert [f.number for f in check(log) if f.lost] == [a, b]
    assert repair(log) == Repair([a, b], [], None, 5)
    assert [log.path(n).read_bytes() for n in log.numbers()] == before


def test_damaged_files_are_kept_and_only_the_right_backup_is_restored(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 6)
    good = log.path(3).read_bytes()
    flipped(log, 3)
    broken = log.path(3).read_bytes()
    (tmp_path / "damaged").mkdir()
    other = Version(next_manifest(log.read(2), log.run), tensors(9))
    (tmp_path / "damaged" / "another-run.safetensors").write_bytes(encode(other))
    assert repair(log).put_back == []
    saved = {path.read_bytes() for path in (tmp_path / "damaged").iterdir()}
    assert broken in saved
    flipped(log, 3)
    (tmp_path / "damaged" / "backup.safetensors").write_bytes(good)
    assert repair(log).put_back == [3]
    assert log.path(3).read_bytes() == good


def test_a_file_of_another_run_breaks_the_chain(tmp_path: Path) -> None:
    log, other = filled(VersionLog(tmp_path / "a"), 6), filled(VersionLog(tmp_path / "b"), 6)
    log.path(3).write_bytes(other.path(3).read_bytes())
    found = check(log)
    assert [(f.number, f.lost) for f in found] == [(3, False), (4, False)]
    assert found[0].what == "version 3 does not have the present version 2 as its parent"


def test_offsets_that_go_back_and_tags_without_a_version_are_found(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 4)
    learn(log, offsets={"t": {0: 5}})
    tag(log, "best", 2)
    prune_all_but(log)
    log.path(2).unlink()
    assert [f.what for f in check(log)] == [
        "version 4: the offset of t, partition 0 goes back from 30 to 5",
        "tag 'best' names version 2, whose tensors are missing",
    ]


def test_a_recreated_topic_may_start_from_its_beginning(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 3)
    learn(log, offsets={"t": {0: 0}}, topic_ids={"t": "another"})
    assert check(log) == []


def test_without_a_good_version_nothing_is_changed(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 2)
    emptied(log, 0)
    emptied(log, 1)
    with pytest.raises(ValueError, match=r"cannot repair .*: no version is good"):
        repair(log)
    assert [log.path(n).read_bytes() for n in (0, 1)] == [b"", b""]


def test_a_trainer_that_slept_through_damage_and_repair_gets_a_conflict(tmp_path: Path) -> None:
    sleeper = filled(VersionLog(tmp_path), 6)
    flipped(VersionLog(tmp_path), 5)
    current = VersionLog(tmp_path, "by hand")
    before = sleeper._last
    assert before is not None
    stale = Version(next_manifest(Version(sleeper.manifest(5), {}, before[2]), "sleeper"), tensors(6))
    repair(current)
    with pytest.raises(VersionConflictError, match="run by hand") as e:
        sleeper.append(stale)
    assert e.value.manifest is not None
    assert e.value.manifest.kind == "repaired"


class Killed(BaseException):
    pass


def test_a_repair_killed_at_any_step_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, killed = 0, True
    while killed:
        log = filled(VersionLog(tmp_path / str(step)), 7)
        good = log.path(2).read_bytes()
        swap(log, 1, 2)
        flipped(log, 5)
        emptied(log, 6)
        with monkeypatch.context() as m:
            killed = not _repaired_until(log, step, m)
        repair(log)
        assert log.path(2).read_bytes() == good
        head = VersionLog(log.directory).head()
        assert head is not None
        assert (head.manifest.kind, head.manifest.restored_from) == ("repaired", 4)
        assert learn(log).manifest.ranges == {"t": {0: (40, 50)}}
        assert check(log) == []
        step += 1
    assert step == 4 + 2 + 2 + 1 + 1  # saves, files put back, notes, the version; and once without a kill


def _repaired_until(log: VersionLog, step: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Repair, and be killed before the file that is written after `step` others."""
    steps = itertools.count()

    def counted(make: Callable[[Path, bytes], None]) -> Callable[[Path, bytes], None]:
        def call(path: Path, data: bytes) -> None:
            if next(steps) == step:
                raise Killed
            make(path, data)

        return call

    monkeypatch.setattr(atomic_files, "create", counted(atomic_files.create))
    monkeypatch.setattr(atomic_files, "replace", counted(atomic_files.replace))
    try:
        repair(log)
    except Killed:
        return False
    return True


def test_temporary_files_of_an_interrupted_repair_are_ignored(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 3)
    atomic_files.write_temporary(log.path(3), b"half")
    assert check(log) == []
    assert log.numbers() == [0, 1, 2]
