"""What the log asks of a folder: create a name once and for all, read, ask for a name, replace by a stub.

Nothing here renames onto a number: `os.rename` silently overwrites, `os.link` fails when the name is taken.
"""

import contextlib
import errno
import os
import time
from pathlib import Path
from uuid import uuid4

ASIDE = ".aside"  # ending of a file that has no name yet
HEAD_BYTES = 65_536  # a first read that holds the header of nearly every version

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def create(path: Path, data: bytes) -> None:
    """Give `data` the name `path`, durably and once: FileExistsError when the name is taken.

    1. Write aside in the same folder, and fsync the file.
    2. `os.link` it to its name: whole or not at all, and only one can.
    3. fsync the folder, so that the name survives a power cut.
    4. Unlink what is aside; a crash before that leaves a file that `clean` takes away.
    """
    make_folder(path.parent)
    aside = write_aside(path, data)
    try:
        _link(aside, path)
        sync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def replace(path: Path, data: bytes) -> None:
    """Put `data` in the place of the file that is at `path`, durably; its name is taken at every moment.

    FileNotFoundError when there is none: this never makes a new name.
    """
    path.stat()
    put(path, data)


def put(path: Path, data: bytes) -> None:
    """Write a small file whole or not at all, over what may be there: for places and tags, not versions."""
    make_folder(path.parent)
    aside = write_aside(path, data)
    try:
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_aside(path: Path, data: bytes) -> Path:
    """Write and fsync a file beside `path` under a name of its own; return it."""
    aside = path.parent / f".{path.name}.{uuid4().hex}{ASIDE}"
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return aside


def _link(aside: Path, path: Path) -> None:
    try:
        os.link(aside, path)
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, "the name is taken", str(path)) from None
    except OSError as e:
        if e.errno in _NO_LINKS:
            raise OSError(
                e.errno, "the model directory must be where hard links can be made", str(path)
            ) from e
        raise


def read(path: Path) -> bytes:
    """Return a file's bytes."""
    return path.read_bytes()


def read_start(path: Path, size: int = HEAD_BYTES) -> bytes:
    """Return a file's first bytes, `size` of them or fewer when it is shorter."""
    with open(path, "rb") as file:
        return file.read(size)


def exists(path: Path) -> bool:
    """Say whether the name is taken."""
    return os.path.lexists(path)


def signature(path: Path) -> tuple[int, int, int, int]:
    """Return what changes when a file is written or exchanged: device, inode, size, time (ns)."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def names(folder: Path) -> list[str]:
    """Return the names in a folder, in no order; [] when there is no folder."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def clean(folder: Path, older_than: float = 3600.0) -> list[str]:
    """Take files aside away that nobody has touched for `older_than` seconds; return their names."""
    old = []
    for name in names(folder):
        if not name.endswith(ASIDE):
            continue
        with contextlib.suppress(FileNotFoundError):  # its owner, or another cleaner, was faster
            if time.time() - (folder / name).stat().st_mtime > older_than:
                (folder / name).unlink()
                old.append(name)
    return old


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError:  # its parent is there: a file system as /proc, which makes none
        raise OSError(errno.EPERM, "no folder can be made here", str(folder)) from None
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
