"""Durable, atomic file operations: create a name exactly once, read it, test for it, replace its file.

No version is created by a rename: `os.rename` silently overwrites, `os.link` fails when the name is taken.
"""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

TEMPORARY = ".tmp"  # suffix of a file that does not have its final name yet
LONG_NAME = 200  # bytes; file systems take 255
HEAD_BYTES = 65_536  # size of a first read, which holds the header of nearly every version

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def create(path: Path, data: bytes) -> None:
    """Create the file `path` with `data`, durably and atomically; FileExistsError if the name is taken.

    1. Write a temporary file in the same directory, and fsync it.
    2. `os.link` it to its name: whole or not at all, and only one writer can.
    3. fsync the directory, so that the name survives a power cut.
    4. Unlink the temporary file; a crash before that leaves one that `clean` removes.
    """
    make_directory(path.parent)
    temporary = write_temporary(path, data)
    try:
        _link(temporary, path)
        sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def replace(path: Path, data: bytes) -> None:
    """Replace the file at `path` by one with `data`, durably; its name is taken at every moment.

    FileNotFoundError if there is none: this never creates a name.
    """
    path.stat()
    put(path, data)


def put(path: Path, data: bytes) -> None:
    """Write a small file whole or not at all, replacing any other: for positions and tags, not versions."""
    make_directory(path.parent)
    temporary = write_temporary(path, data)
    try:
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_temporary(path: Path, data: bytes) -> Path:
    """Write and fsync a temporary file beside `path`; return its path."""
    name = path.name if len(os.fsencode(path.name)) < LONG_NAME else ""  # with it, no name would be too long
    temporary = path.parent / f".{name}.{uuid4().hex}{TEMPORARY}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        with naming(path), open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the path to an OSError that has none, as those of writing to an open file (the disk is full)."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, "the name is taken", str(path)) from None
    except OSError as e:
        if e.errno in _NO_LINKS:
            raise OSError(
                e.errno, "the model directory must be on a file system with hard links", str(path)
            ) from e
        raise


def read(path: Path) -> bytes:
    """Return a file's bytes."""
    return path.read_bytes()


def read_start(path: Path, size: int = HEAD_BYTES) -> bytes:
    """Return the first `size` bytes of a file, fewer if it is shorter."""
    with open(path, "rb") as file:
        return file.read(size)


def read_part(path: Path, begin: int, size: int) -> bytes:
    """Return `size` bytes of a file from byte `begin` on, fewer if it ends before."""
    with open(path, "rb") as file:
        file.seek(begin)
        return file.read(size)


def exists(path: Path) -> bool:
    """Return whether the name is taken."""
    return os.path.lexists(path)


def signature(path: Path) -> tuple[int, int, int, int]:
    """Return what changes when a file is written or replaced: device, inode, size, time (ns)."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def names(directory: Path) -> list[str]:
    """Return the names in a directory, in no order; [] if it does not exist."""
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def stats(directory: Path) -> dict[str, os.stat_result]:
    """Return what is known of the files in a directory, by name; {} if it does not exist."""
    found = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # deleted just now
                found[entry.name] = entry.stat()
    return found


def clean(directory: Path, older_than: float = 3600.0) -> list[str]:
    """Delete temporary files that are older than `older_than` seconds; return their names."""
    old = []
    for name in names(directory):
        if not name.endswith(TEMPORARY):
            continue
        with contextlib.suppress(FileNotFoundError):  # its writer, or another cleaner, was faster
            if time.time() - (directory / name).stat().st_mtime > older_than:
                (directory / name).unlink()
                old.append(name)
    return old


def make_directory(directory: Path) -> None:
    """Create a directory and its parents, durably."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    try:
        directory.mkdir(exist_ok=True)
    except FileNotFoundError:  # its parent exists: a file system such as /proc, which creates none
        raise OSError(errno.EPERM, "no directory can be created here", str(directory)) from None
    sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        with naming(directory):
            os.fsync(fd)
    finally:
        os.close(fd)
