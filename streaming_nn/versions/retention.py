"""Retention: a bound in bytes. Old versions' files are deleted; their manifests stay, in archives.

1. `archive` copies the manifests of all versions before the head into archives (versions/archive.py),
   durably. From then on their numbers are taken without their files.
2. `prune` deletes files of archived versions until the others are below the bound: the oldest first, except
   the first of each minute of the last hour, of each hour of the last day, and of each day; then those too.

The head, tagged versions and those from which a replay starts are never deleted. A crash at any step leaves
every number taken and every manifest readable, and whoever prunes next continues.
"""

import logging
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from streaming_nn.errors import DamagedVersionError
from streaming_nn.progress import Progress, no_progress
from streaming_nn.versions import atomic_files
from streaming_nn.versions.archive import BLOCK, CHUNK, extended
from streaming_nn.versions.tags import tags
from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import SUFFIX, VersionLog

KEEP_BYTES = 10 * 10**9  # the default bound
FILES = 10_000  # versions with a file, at most, unless they must be kept: a larger directory is slow to list
STEP = 20  # after 1/20 of the bound has been written, the log is pruned to that much below the bound
MANY = 20_000  # versions whose archiving takes seconds: of a log that an older release wrote
MINUTE, HOUR, DAY = 60, 3_600, 86_400  # seconds

logger = logging.getLogger(__name__)


def archive(log: VersionLog, progress: Progress = no_progress) -> int:
    """Archive the manifests of all versions before the head; return the number before which all are archived.

    Several processes may do so at once: one creates the archive of a range, the others take it as it is. A
    version that is damaged or missing is archived as kind "damaged"; its file stays, for `repair`.
    """
    log.archives.remove_shorter()  # which a crash has left
    until, head = log.archives.until, log.head_number() or 0
    if head - until > MANY:
        logger.info("%s: archiving the manifests of %s versions", log.directory, f"{head - until:,}")
    first = until
    while until < head:
        progress("archiving manifests", until - first, head - first)
        try:
            _extend(log, until, min(head, until // BLOCK * BLOCK + BLOCK))
        except FileNotFoundError:
            if log.archives.refresh() == until:  # else another process has replaced the archive
                raise
        until = log.archives.until
    return until


def _extend(log: VersionLog, first: int, until: int) -> None:
    """Archive versions `first` until before `until`, which exists; delete what older releases pruned."""
    pruned: list[int] = []

    def versions() -> Iterator[tuple[Manifest, bool]]:
        found = (_manifest(log, number) for number in range(first, until + 1))
        for manifest, child in pairwise(found):
            is_needed = _is_needed(manifest, child)
            if not manifest.kept and not is_needed:
                pruned.append(manifest.number)
            yield _with_sha256(log, manifest, child), is_needed

    data = extended(log.archives.newest(), versions())
    with suppress(FileExistsError):  # another process archived the same versions
        atomic_files.create(log.archives.path(first // BLOCK * BLOCK, until), data)
    log.archives.remove_shorter()
    _delete(log, pruned)


def _manifest(log: VersionLog, number: int) -> Manifest:
    try:
        return log.manifest(number)
    except (DamagedVersionError, LookupError) as error:  # LookupError: it is missing
        logger.warning("%s; it is archived without its manifest", error)
        return Manifest(number, kind="damaged", events=[{"event": "damaged", "was": "", "what": str(error)}])


def _is_needed(manifest: Manifest, child: Manifest) -> bool:
    """Return whether the file must stay: a replay starts from it, and learns the others; or it is damaged."""
    followed = manifest.kind == "saved" and child.kind == "saved"  # then the replay reads the child's tensors
    return manifest.kind != "learned" and not followed


def _with_sha256(log: VersionLog, manifest: Manifest, child: Manifest) -> Manifest:
    """Return the manifest with the sha256 of its file: the child has it, so the file need not be read."""
    named = child.parent_sha256
    if not named and manifest.kind != "damaged":
        named = log.sha256(manifest.number)
    return replace(manifest, original_sha256=named or manifest.original_sha256)


def prune(log: VersionLog, keep_bytes: int, progress: Progress = no_progress) -> list[int]:
    """Delete the files of old versions until all files take at most `keep_bytes`; return their numbers.

    Ages are relative to the head, by the files' times: a model that waits for records loses nothing.
    DamagedVersionError: the head is damaged, so the others may be all that training can resume from; nothing
    is pruned. OSError: a file cannot be written or deleted; the next call continues.
    """
    log.check_head()
    archive(log, progress)
    files = _files(log)
    numbers = _surplus(files, _protected(log, files), keep_bytes - log.archives.size())
    _delete(log, numbers, progress)
    return sorted(numbers)


class _File(NamedTuple):
    number: int
    size: int  # bytes
    time: float  # seconds since 1970


def _files(log: VersionLog) -> list[_File]:
    """Return the versions' files, in order."""
    stats = atomic_files.stats(log.versions)
    return sorted(
        _File(int(name.removesuffix(SUFFIX)), stat.st_size, stat.st_mtime)
        for name, stat in stats.items()
        if name.endswith(SUFFIX) and name.removesuffix(SUFFIX).isdigit()
    )


def _protected(log: VersionLog, files: list[_File]) -> set[int]:
    """Return the versions whose files are not deleted: the head is the one that is not archived."""
    unarchived = {file.number for file in files if file.number >= log.archives.until}
    return {0, *unarchived, *log.archives.needed(), *tags(log).values()}


def _surplus(files: list[_File], protected: Collection[int], keep_bytes: int) -> list[int]:
    """Return the numbers of the files to delete."""
    size, count = sum(file.size for file in files), len(files)
    spaced = _spaced(files)
    surplus = []
    for file in sorted(files, key=lambda file: (file.number in spaced, file.number)):
        if size <= keep_bytes and count <= FILES:
            break
        if file.number not in protected:
            surplus.append(file.number)
            size, count = size - file.size, count - 1
    return surplus


def _spaced(files: list[_File]) -> set[int]:
    """Return the first version of each minute of the last hour, each hour of the last day, and each day."""
    first: dict[tuple[int, int], int] = {}
    for file in files:
        age = files[-1].time - file.time
        unit = MINUTE if age < HOUR else HOUR if age < DAY else DAY
        first.setdefault((unit, int(file.time // unit)), file.number)
    return set(first.values())


def _delete(log: VersionLog, numbers: Collection[int], progress: Progress = no_progress) -> None:
    for done, number in enumerate(numbers):
        progress("deleting versions", done, len(numbers))
        log.path(number).unlink(missing_ok=True)


class Retention:
    """Prunes a log while it grows, at its first commit and then now and then: call `committed` after each.

    `keep_bytes` None: nothing is pruned. What prevents pruning ends no run: it is logged, once per cause.
    """

    def __init__(self, log: VersionLog, keep_bytes: int | None) -> None:
        self._log, self._keep_bytes = log, keep_bytes
        self._bytes = self._versions = 0  # committed since the log was pruned
        self._due = True
        self._logged: set[str] = set()

    def committed(self, number: int) -> None:
        """Count a version; prune once enough have been committed, 1/20 of the bound or 1,000 versions."""
        if self._keep_bytes is None:
            return
        step = self._keep_bytes // STEP
        with suppress(FileNotFoundError):  # another process has just pruned it
            self._bytes += self._log.path(number).stat().st_size
        self._versions += 1
        if self._due or self._bytes >= step or self._versions >= CHUNK:
            self._prune(self._keep_bytes, step)
            self._bytes, self._versions, self._due = 0, 0, False

    def _prune(self, keep_bytes: int, step: int) -> None:
        try:
            prune(self._log, keep_bytes - step)
        except (ValueError, OSError) as error:  # a damaged version or archive, a tag's file, the disk
            self._warn(f"no version is pruned: {error}")
        else:
            if size(self._log) > keep_bytes:
                self._warn("tagged versions, and those from which a replay starts, exceed keep_bytes")

    def _warn(self, what: str) -> None:
        if what not in self._logged:
            logger.warning("%s: %s", self._log.directory, what)
            self._logged.add(what)


def describe(keep_bytes: int | None) -> str:
    """Return in one line what is kept."""
    if keep_bytes is None:
        return "all versions are kept (train.keep_bytes = 'all')"
    units = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3), ("B", 1))
    amount = next(f"{keep_bytes / size:g} {unit}" for unit, size in units if keep_bytes >= size or size == 1)
    return f"versions are kept up to {amount} (train.keep_bytes): older ones are pruned, tagged ones never"


def size(log: VersionLog) -> int:
    """Return the bytes of all versions and archives."""
    return sum(file.size for file in _files(log)) + log.archives.size()
