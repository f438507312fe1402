"""One directory for the temporary files of a process and its JVM: the next run deletes what a kill has left.

A killed JVM leaves 10 MB, and a killed backtest of a file its broker's data. The process holds a lock in its
directory, which the system releases when it ends, however it ends.
"""

import atexit
import fcntl
import functools
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

PREFIX = "streaming-nn-run-"
LOCK = "lock"
UNLOCKED = 3_600.0  # seconds until a directory without a lock is deleted: its owner may be just creating it


@functools.cache
def directory() -> Path:
    """Return this process's directory in the system's one; create it, and delete those of ended processes."""
    delete_leftovers()
    created = Path(tempfile.mkdtemp(prefix=PREFIX))
    _lock(created)  # until this process ends
    atexit.register(_delete, created, os.getpid())
    return created


def _delete(created: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a process that was forked
        shutil.rmtree(created, ignore_errors=True)


def _lock(owned: Path) -> int:
    """Return a descriptor that holds the lock. BlockingIOError: a running process has it."""
    descriptor = os.open(owned / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def delete_leftovers() -> None:
    """Delete the directories of processes that have ended."""
    for each in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or deleted by another process just now
            if _is_left(each):
                shutil.rmtree(each, ignore_errors=True)


def _is_left(found: Path) -> bool:
    if not (found / LOCK).exists():
        return time.time() - found.stat().st_mtime > UNLOCKED
    try:
        os.close(_lock(found))
    except BlockingIOError:  # its owner is running
        return False
    return True
