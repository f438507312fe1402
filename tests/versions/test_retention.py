from collections.abc import Callable
from pathlib import Path

import pytest
from logs import filled, learn

from streaming_nn.errors import DamagedVersionError
from streaming_nn.versions import atomic_files
from streaming_nn.versions.repair import check, repair
from streaming_nn.versions.retention import prune
from streaming_nn.versions.rollback import rollback
from streaming_nn.versions.tags import tag
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit


def kept(log: VersionLog) -> list[int]:
    return [number for number in log.numbers() if log.manifest(number).kept]


def test_prune_keeps_the_last_tagged_every_nth_and_initial_versions(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 12)
    tag(log, "best", 3)
    assert prune(log, keep_last=2, every=4) == [1, 2, 5, 6, 7, 9]
    assert kept(log) == [0, 3, 4, 8, 10, 11]
    assert prune(log, keep_last=2, every=4) == []
    assert prune(log, keep_last=1, keep_tagged=False) == [3, 4, 8, 10]
    assert kept(log) == [0, 11]


def test_pruned_versions_keep_their_manifest_and_learning_continues(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 6)
    before = [(log.manifest(n).counts, log.manifest(n).digest, log.sha256(n)) for n in log.numbers()]
    prune(log, keep_last=1)
    assert [(log.manifest(n).counts, log.manifest(n).digest, log.sha256(n)) for n in log.numbers()] == before
    again = VersionLog(tmp_path)
    learn(again)
    prune(again, keep_last=1)
    learn(again)
    assert check(again) == []
    assert again.numbers() == list(range(8))
    assert not [name for name in atomic_files.names(log.versions) if name.endswith(atomic_files.TEMPORARY)]


def test_the_head_is_never_pruned(tmp_path: Path) -> None:
    for count in (0, 1, 2):
        log = filled(VersionLog(tmp_path / str(count)), count)
        assert prune(log, keep_last=1) == []
    with pytest.raises(ValueError, match="keep_last and every must be >= 1; got 0"):
        prune(log, keep_last=0)


def test_versions_that_cannot_be_replayed_are_kept(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 5)
    rollback(log, 2)
    filled(log, 3)
    assert prune(log, keep_last=1) == [1, 2, 3, 4, 6, 7]
    assert kept(log) == [0, 5, 8]


def test_the_last_saved_version_in_a_row_is_kept(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 2)
    for kind in ("saved", "saved", "learned", "saved", "saved", "saved"):
        learn(log, kind=kind)
    assert prune(log, keep_last=1) == [1, 2, 4, 5, 6], "4 is learned again from 3"


def test_a_damaged_version_is_reported_and_the_others_are_pruned(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 6)
    broken = bytearray(log.path(2).read_bytes())
    broken[-1] ^= 1
    log.path(2).write_bytes(broken)
    with pytest.raises(DamagedVersionError, match="000000000002"):
        prune(log, keep_last=2)
    assert log.path(2).read_bytes() == bytes(broken)
    assert [log.manifest(n).kept for n in (1, 3)] == [False, False]


def test_pruning_after_every_commit_has_a_constant_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = filled(VersionLog(tmp_path), 10)
    looks: list[int] = []
    manifest = VersionLog.manifest
    monkeypatch.setattr(VersionLog, "manifest", lambda self, n: looks.append(n) or manifest(self, n))
    for _ in range(5):
        head = learn(log).number
        looks.clear()
        prune(log, keep_last=3, since=head - 5)
        assert len(looks) == 3
    assert [n for n in range(5, 15) if manifest(log, n).kept] == [12, 13, 14]


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: data[:-1] + b"?", lambda _: b""]
)
def test_nothing_is_pruned_when_the_head_is_damaged(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    filled(VersionLog(tmp_path), 6)
    log = VersionLog(tmp_path)
    log.path(5).write_bytes(damage(log.path(5).read_bytes()))
    with pytest.raises(DamagedVersionError, match="the last good version is 4"):
        prune(log, keep_last=1)
    assert [log.manifest(n).kept for n in range(5)] == [True] * 5
    assert repair(log).good == 4
    assert prune(log, keep_last=1)


def test_a_directory_with_a_versions_name_is_damage(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 3)
    log.path(3).mkdir()
    for look in (log.manifest, log.read, log.sha256):
        with pytest.raises(DamagedVersionError, match="it is a directory"):
            look(3)
