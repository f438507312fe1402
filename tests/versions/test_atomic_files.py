import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from streaming_nn.versions import atomic_files

pytestmark = pytest.mark.commit


def test_create_takes_a_name_only_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "directory" / "a"
    atomic_files.create(path, b"first")
    with pytest.raises(FileExistsError):
        atomic_files.create(path, b"second")
    assert atomic_files.read(path) == b"first"
    assert atomic_files.names(path.parent) == ["a"]
    assert path.stat().st_nlink == 1


def test_create_syncs_the_file_before_linking_and_the_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, link, unlink = os.fsync, os.link, Path.unlink
    path = tmp_path / "a"

    def seen_fsync(fd: int) -> None:
        what = os.readlink(f"/proc/self/fd/{fd}")
        steps.append("fsync directory" if what == str(tmp_path) else f"fsync {os.path.getsize(what)} bytes")
        fsync(fd)

    def seen_link(a: Path, b: Path) -> None:
        steps.append(f"link {Path(b).name}")
        link(a, b)

    def seen_unlink(self: Path, missing_ok: bool = False) -> None:
        steps.append("unlink temporary" if self != path else "unlink the name")
        unlink(self, missing_ok)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(os, "link", seen_link)
    monkeypatch.setattr(Path, "unlink", seen_unlink)
    atomic_files.create(path, b"12345")
    assert steps == ["fsync 5 bytes", "link a", "fsync directory", "unlink temporary"]


def test_a_created_directory_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(atomic_files, "sync_directory", synced.append)
    atomic_files.make_directory(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
@pytest.mark.parametrize("write", [atomic_files.create, atomic_files.put])
def test_a_full_disk_is_named(
    write: Callable[[Path, bytes], None], number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Python it has no name: what fails is an open file. delta#91"""

    def full(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"{os.strerror(number)}: '{tmp_path}/a'") as error:
        write(tmp_path / "a", b"1")
    assert error.value.errno == number
    assert atomic_files.names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="writes to /dev/full")
def test_the_name_is_that_of_the_path(tmp_path: Path) -> None:
    named = pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'")
    with named, atomic_files.naming(tmp_path), open("/dev/full", "wb") as file:
        file.write(b"1")
    with pytest.raises(FileNotFoundError, match="'/nowhere'"), atomic_files.naming(tmp_path):
        Path("/nowhere").read_bytes()
    with pytest.raises(OSError, match=r"^ours$"), atomic_files.naming(tmp_path):
        raise OSError("ours")


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 127)
    atomic_files.create(path, b"1")
    atomic_files.put(path, b"2")
    assert path.read_bytes() == b"2"
    with pytest.raises(OSError, match=r"File name too long: '.*éééé"):
        atomic_files.put(tmp_path / ("é" * 128), b"2")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that creates no directories")
def test_the_error_names_where_no_directory_can_be_created() -> None:
    with pytest.raises(PermissionError, match="no directory can be created here: '/proc/x'"):
        atomic_files.create(Path("/proc/x/y/a"), b"")


def test_a_file_system_without_hard_links_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(a: Path, b: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OSError, match="must be on a file system with hard links"):
        atomic_files.create(tmp_path / "a", b"x")
    assert atomic_files.names(tmp_path) == []


def test_replace_never_creates_a_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic_files.replace(tmp_path / "a", b"x")
    assert atomic_files.names(tmp_path) == []
    atomic_files.create(tmp_path / "a", b"x")
    atomic_files.replace(tmp_path / "a", b"y")
    assert atomic_files.read(tmp_path / "a") == b"y"
    assert atomic_files.names(tmp_path) == ["a"]


def test_clean_deletes_only_old_temporary_files(tmp_path: Path) -> None:
    atomic_files.create(tmp_path / "a", b"x")
    old, new = (atomic_files.write_temporary(tmp_path / name, b"x") for name in "bc")
    os.utime(old, (time.time() - 7200,) * 2)
    os.utime(tmp_path / "a", (time.time() - 7200,) * 2)
    assert atomic_files.clean(tmp_path) == [old.name]
    assert sorted(atomic_files.names(tmp_path)) == sorted(["a", new.name])


def test_a_missing_directory_has_no_names(tmp_path: Path) -> None:
    assert atomic_files.names(tmp_path / "nowhere") == []
