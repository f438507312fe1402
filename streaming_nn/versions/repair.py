"""Find damaged versions, and repair the log so that training can resume; no record is lost."""

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from streaming_nn.errors import DamagedVersionError
from streaming_nn.progress import Progress, no_progress
from streaming_nn.versions import atomic_files
from streaming_nn.versions.archive import BLOCK, CHUNK, Archive, Archives, chunk_parts, names
from streaming_nn.versions.archive import encode as encode_archive
from streaming_nn.versions.tags import tags
from streaming_nn.versions.version import (
    INITIAL,
    Manifest,
    Version,
    add_up,
    decode,
    decode_manifest,
    encode,
    sha256,
)
from streaming_nn.versions.version_log import SUFFIX, VersionLog

CHECKING = "checking versions"  # what is done, for a progress bar


class Finding(NamedTuple):
    """A problem of one version."""

    number: int
    what: str
    lost: bool  # its file is missing or damaged: `repair` handles it


class Repair(NamedTuple):
    """What `repair` did."""

    put_back: list[int]  # versions whose files were found and restored to their names
    lost: list[int]  # versions that are lost: a stub keeps the number, the damaged file is in `damaged/`
    good: int | None  # the version that training resumes from; None: the head is good
    head: int  # the newest version now


def check(log: VersionLog, since: int = 0, progress: Progress = no_progress) -> list[Finding]:
    """Read all of every version from `since` on and return the problems; [] if there are none.

    Each file must be whole and have its number; numbers must have no gap; each version must name the one
    before it as its parent (by sha256, which pruned versions keep); offsets must not go back; counts must
    add up; and tags must name versions that have their tensors.
    """
    findings: list[Finding] = []
    reported: set[str] = set()
    before, until = _check_file(log, since - 1), log.last() + 1
    for number in range(since, until):
        progress(CHECKING, number - since, until - since)
        manifest = _check_file(log, number)
        if isinstance(manifest, ValueError):
            if str(manifest) not in reported:  # a damaged archive is one finding, not one for each version
                reported.add(str(manifest))
                lost = isinstance(manifest, DamagedVersionError)
                findings.append(Finding(number, str(manifest), lost))
        elif not isinstance(before, ValueError):
            findings += [Finding(number, what, lost=False) for what in _check_links(log, manifest, before)]
        before = manifest
    if isinstance(before, Manifest) and not before.kept:
        what = f"version {before.number} is the newest, and its tensors are lost"
        findings.append(Finding(before.number, what, lost=True))
    return findings + list(_check_tags(log))


def _check_file(log: VersionLog, number: int) -> Manifest | ValueError:
    """Return the manifest after checking all of the file, or of the archive of a pruned one; or the error."""
    path = log.path(number)
    try:
        data = atomic_files.read(path)
        return log.check(decode(data, number, str(path)), sha256(data)).manifest
    except FileNotFoundError:
        return _check_archived(log, number)
    except IsADirectoryError:
        return DamagedVersionError(f"{path} is damaged: it is a directory; move it away")
    except ValueError as e:
        return e


def _check_archived(log: VersionLog, number: int) -> Manifest | ValueError:
    try:
        return log.manifest(number)
    except LookupError:
        return DamagedVersionError(f"version {number} of {log.directory} is missing")
    except ValueError as e:
        return e


def _check_links(log: VersionLog, manifest: Manifest, parent: Manifest) -> Iterator[str]:
    n, rows = manifest.number, manifest.counts
    if not add_up(rows):
        yield f"counts of version {n}: received must be trained + skipped + rejected + filtered; got {rows}"
    if manifest.kind == "damaged":
        return
    parent_unknown = parent.kind == "damaged" and not parent.original_sha256 and manifest.kind != "repaired"
    if not parent_unknown and manifest.parent_sha256 != log.sha256(n - 1):
        yield f"version {n} does not have the present version {n - 1} as its parent"
    if manifest.kind not in ("repaired", INITIAL):  # these go back intentionally
        yield from _check_offsets(manifest, parent)


def _check_offsets(manifest: Manifest, parent: Manifest) -> Iterator[str]:
    for topic, partitions in parent.offsets.items():
        if parent.topic_ids.get(topic) != manifest.topic_ids.get(topic):
            continue
        for partition, before in partitions.items():
            now = manifest.offsets.get(topic, {}).get(partition)
            if now is None or now < before:
                yield (
                    f"version {manifest.number}: the offset of {topic}, partition {partition} "
                    f"goes back from {before} to {now}"
                )


def _check_tags(log: VersionLog) -> Iterator[Finding]:
    for name, number in tags(log).items():
        manifest = _check_file(log, number)
        if isinstance(manifest, ValueError) or not manifest.kept:
            what = f"tag {name!r} names version {number}, whose tensors are missing"
            yield Finding(number, what, lost=False)


def repair(log: VersionLog, progress: Progress = no_progress) -> Repair:
    """Repair a damaged log, only on request; return what was done. Stop the trainer first.

    1. Copy what is damaged into `damaged/`. Of a damaged archive, replace the manifests that cannot be read
       by those of the versions' files, or by manifests of kind "damaged".
    2. Restore files that have another version's name, if the chain of sha256 proves which version they are;
       also a file that you copy into `damaged/` from a backup.
    3. Replace the others by a stub of kind "damaged", so that the number stays taken: a trainer that slept
       meanwhile must still get a conflict. A version's file holds the whole state, so one that is lost in the
       middle costs its history only; those after it are as good as before.
    4. If the head is lost, commit a version of kind "repaired", with the tensors, the metrics *and the
       offsets* of the last good version: the records of what was lost are replayed, so each still
       counts once.

    It can be interrupted anywhere and run again. ValueError: no version is good, or one is of another
    release. Kafka must still have the records from the good version's offsets on; the trainer checks that.
    """
    forgotten = _repair_archives(log)
    lost = _lost(log, progress)
    for number in lost:
        _save(log, log.path(number))
    put_back = _restore(log, lost)
    lost = _lost(log, progress)
    head = log.last()
    good = _last_good(log, head)
    for number, what in lost.items():
        _write_stub(log, number, what)
    if good == head:
        return Repair(put_back, [*forgotten, *lost], None, head)
    _commit(log, good, head)
    return Repair(put_back, [*forgotten, *lost], good, head + 1)


def _lost(log: VersionLog, progress: Progress) -> dict[int, str]:
    checked, until = {}, log.last() + 1
    for number in range(until):
        progress(CHECKING, number, until)
        checked[number] = _check_file(log, number)
    for error in checked.values():
        if isinstance(error, ValueError) and not isinstance(error, DamagedVersionError):
            raise error
    return {number: str(error) for number, error in checked.items() if isinstance(error, DamagedVersionError)}


def _last_good(log: VersionLog, head: int) -> int:
    """Return the newest version that is good and has its tensors."""
    for number in range(head, -1, -1):
        manifest = _check_file(log, number)
        if isinstance(manifest, Manifest) and manifest.kept:
            return number
    raise ValueError(f"cannot repair {log.directory}: no version is good; use a new model directory")


def _save(log: VersionLog, path: Path) -> None:
    with contextlib.suppress(FileNotFoundError, FileExistsError):  # missing, or already saved
        data = atomic_files.read(path)
        name = f"{path.name.removesuffix(SUFFIX)}-{sha256(data)[:12]}{SUFFIX}"
        atomic_files.create(log.directory / "damaged" / name, data)


def _repair_archives(log: VersionLog) -> list[int]:
    """Replace what cannot be read in archives; return the versions whose manifests are lost."""
    until = log.archives.refresh()
    blocks = [(first, min(first + BLOCK, until)) for first in range(0, until, BLOCK)]
    return [number for block in blocks for number in _repair_archive(log, *block)]


def _repair_archive(log: VersionLog, first: int, until: int) -> list[int]:
    path = log.archives.path(first, until)
    parts, needed = _readable_parts(path, [number for number in log.files() if first <= number < until])
    bad = [chunk for chunk in range(first, until, CHUNK) if not parts.keys() >= set(names(chunk))]
    if not bad:
        return []
    _save(log, path)
    lost = []
    for chunk in bad:
        manifests = [_rebuilt(log, number) for number in range(chunk, min(chunk + CHUNK, until))]
        lost += [manifest.number for manifest in manifests if manifest.kind == "damaged"]
        parts |= chunk_parts(chunk, None, manifests)
    atomic_files.put(path, encode_archive(first, until, needed, parts))
    log.archives = Archives(log.archives.directory)  # which has not read the damaged one
    log.archives.refresh()
    return lost


def _readable_parts(path: Path, files: list[int]) -> tuple[dict[str, bytes], Collection[int]]:
    """Return an archive's good tensors, and the versions whose tensors a replay reads; else all `files`."""
    parts = {}
    try:
        archive = Archive.open(path)
    except (DamagedVersionError, OSError):
        return {}, files
    for name in archive.names():
        with contextlib.suppress(DamagedVersionError):
            parts[name] = archive.raw(name)
    return parts, archive.needed


def _rebuilt(log: VersionLog, number: int) -> Manifest:
    """Return the manifest in a version's own file; of kind "damaged" if it was pruned."""
    try:
        data = atomic_files.read(log.path(number))
        return replace(decode(data, number).manifest, original_sha256=sha256(data))
    except (OSError, ValueError):
        what = "its manifest was in an archive that was damaged"
        return Manifest(number, kind="damaged", events=[{"event": "damaged", "was": "", "what": what}])


def _restore(log: VersionLog, lost: Collection[int]) -> list[int]:
    """Restore one after the other: a restored file may prove the next."""
    saved = [(number, path) for number, path in _saved(log) if number in lost]
    put_back: list[int] = []
    while proven := next((s for s in saved if s[0] not in put_back and _belongs(log, *s)), None):
        number, path = proven
        _put(log, number, atomic_files.read(path))
        put_back.append(number)
    return sorted(put_back)


def _saved(log: VersionLog) -> Iterator[tuple[int, Path]]:
    """Yield files in `damaged/` that are good, each with the number in its manifest, whatever its name."""
    directory = log.directory / "damaged"
    for path in sorted(directory / name for name in atomic_files.names(directory) if name.endswith(SUFFIX)):
        with contextlib.suppress(ValueError):
            yield decode(atomic_files.read(path)).number, path


def _belongs(log: VersionLog, number: int, path: Path) -> bool:
    """Return whether the child names this file as its parent; without a child, whether its parent fits."""
    data = atomic_files.read(path)
    manifest = decode_manifest(data)
    after, before = _check_file(log, number + 1), _check_file(log, number - 1)
    if isinstance(after, Manifest) and after.parent_sha256:
        return after.parent_sha256 == (manifest.original_sha256 or sha256(data))
    return isinstance(before, Manifest) and manifest.parent_sha256 == log.sha256(number - 1)


def _put(log: VersionLog, number: int, data: bytes) -> None:
    write = atomic_files.replace if atomic_files.exists(log.path(number)) else atomic_files.create
    write(log.path(number), data)


def _write_stub(log: VersionLog, number: int, what: str) -> None:
    """Keep what is known of a lost version: its manifest if readable, and the sha256 that its child names.

    An archived one needs no stub.
    """
    if number < log.archives.until:
        log.path(number).unlink(missing_ok=True)
        return
    manifest, after = _readable(log, number) or Manifest(number), _readable(log, number + 1)
    stub = replace(
        manifest,
        kind="damaged",
        original_sha256=manifest.original_sha256 or (after.parent_sha256 if after else ""),
        events=[*manifest.events, {"event": "damaged", "was": manifest.kind, "what": what}],
    )
    _put(log, number, encode(Version(stub, {})))


def _readable(log: VersionLog, number: int) -> Manifest | None:
    try:
        return log.manifest(number)
    except (LookupError, ValueError):
        return None


def _commit(log: VersionLog, good: int, head: int) -> None:
    """Commit the good version again, as the child of what is now the head."""
    version = log.read(good)
    described = replace(version.manifest, number=head)  # the head's number, and the good one's stream
    log.commit(
        Version(described, {}, log.sha256(head)),
        version.tensors,
        kind="repaired",
        restored_from=good,
        events=[{"event": "repaired", "from": good, "replayed_versions": list(range(good + 1, head + 1))}],
    )
