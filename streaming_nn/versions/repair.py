"""Find versions whose files are damaged, and make the log one that can be learned on from; lose no manifest."""

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from streaming_nn.errors import DamagedVersionError
from streaming_nn.versions import atomic_files
from streaming_nn.versions.tags import tags
from streaming_nn.versions.version import (
    Manifest,
    Version,
    add_up,
    decode,
    decode_manifest,
    encode,
    sha256,
)
from streaming_nn.versions.version_log import SUFFIX, VersionLog


class Finding(NamedTuple):
    """Something that is wrong with a version."""

    number: int
    what: str
    lost: bool  # its file is missing or not whole: `repair` is for it


class Repair(NamedTuple):
    """What `repair` did."""

    put_back: list[int]  # files that had been exchanged, and are in their places again
    lost: list[int]  # numbers that are kept, and hold a note of the damage; what was there is in `damaged/`
    good: int | None  # the version that learning goes on from; None: the head was whole
    head: int  # the newest version now


def check(log: VersionLog, since: int = 0) -> list[Finding]:
    """Read every version from `since` on, all of it, and return what is wrong; [] when nothing is.

    Each file must be whole and have its own number; numbers must have no gap; each version must be made from
    the one before it (the chain of sha256, which pruned versions carry on); offsets must not go back; rows
    must add up; and tags must name versions that have their tensors.
    """
    findings: list[Finding] = []
    before = _whole(log, since - 1)
    for number in range(since, max(log.numbers(), default=-1) + 1):
        manifest = _whole(log, number)
        if isinstance(manifest, ValueError):
            findings.append(Finding(number, str(manifest), lost=isinstance(manifest, DamagedVersionError)))
        elif not isinstance(before, ValueError):
            findings += [Finding(number, what, lost=False) for what in _doubts(log, manifest, before)]
        before = manifest
    if isinstance(before, Manifest) and not before.kept:
        what = f"version {before.number} is the newest, and its tensors are gone"
        findings.append(Finding(before.number, what, lost=True))
    return findings + list(_tag_doubts(log))


def _whole(log: VersionLog, number: int) -> Manifest | ValueError:
    """The manifest after all of the file was checked, or what is wrong with it."""
    path = log.path(number)
    try:
        return decode(atomic_files.read(path), number, str(path)).manifest
    except FileNotFoundError:
        return DamagedVersionError(f"version {number} of {log.directory} is missing")
    except IsADirectoryError:
        return DamagedVersionError(f"{path} is damaged: it is a folder, which you have to move away")
    except ValueError as e:
        return e


def _doubts(log: VersionLog, manifest: Manifest, parent: Manifest) -> Iterator[str]:
    n, rows = manifest.number, manifest.counts
    if not add_up(rows):
        yield f"version {n}: received is not trained + skipped + rejected: {rows}"
    if manifest.kind == "damaged":
        return
    lost_for_good = parent.kind == "damaged" and not parent.original_sha256 and manifest.kind != "repaired"
    if not lost_for_good and manifest.parent_sha256 != log.sha256(n - 1):
        yield f"version {n} was not made from the version {n - 1} that is there"
    if manifest.kind != "repaired":  # that one goes back on purpose
        yield from _steps_back(manifest, parent)


def _steps_back(manifest: Manifest, parent: Manifest) -> Iterator[str]:
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


def _tag_doubts(log: VersionLog) -> Iterator[Finding]:
    for name, number in tags(log).items():
        manifest = _whole(log, number)
        if isinstance(manifest, ValueError) or not manifest.kept:
            what = f"tag {name!r} names version {number}, whose tensors are not there"
            yield Finding(number, what, lost=False)


def repair(log: VersionLog) -> Repair:
    """Make a damaged log whole again, on request only; return what was done. Stop the trainer before.

    1. What is damaged is copied into `damaged/`.
    2. Files that had been exchanged are put back, where the chain of sha256 proves whose they are; so is a
       file that you lay into `damaged/` from a backup.
    3. In the place of the others comes a note (kind "damaged"), so that the number stays taken: a trainer
       that slept through all this must still lose. A version's file holds the whole state, so one that was
       lost in the middle costs its history only; those after it are as good as before.
    4. Was the head lost, a version of kind "repaired" is appended, with the tensors, the metrics *and the
       offsets* of the last good version: the manifests of what was lost are learned again, so each still
       counts once.

    It can be interrupted anywhere and done again. ValueError: none is good, or another release wrote one.
    Kafka must still hold the manifests from the good version's offsets on; the trainer says so if not.
    """
    lost = _lost(log)
    _save(log, lost)
    put_back = _put_back(log, lost)
    lost = _lost(log)
    head = max(log.numbers(), default=-1)
    good = _last_good(log, head)
    for number, what in lost.items():
        _note(log, number, what)
    if good == head:
        return Repair(put_back, list(lost), None, head)
    _commit(log, good, head)
    return Repair(put_back, list(lost), good, head + 1)


def _lost(log: VersionLog) -> dict[int, str]:
    found = {number: _whole(log, number) for number in range(max(log.numbers(), default=-1) + 1)}
    for error in found.values():
        if isinstance(error, ValueError) and not isinstance(error, DamagedVersionError):
            raise error
    return {number: str(error) for number, error in found.items() if isinstance(error, DamagedVersionError)}


def _last_good(log: VersionLog, head: int) -> int:
    """The head where it is whole, else the newest version before it that has its tensors."""
    for number in range(head, -1, -1):
        manifest = _whole(log, number)
        if isinstance(manifest, Manifest) and manifest.kept:
            return number
    raise ValueError(f"no version of {log.directory} is whole: begin a new model directory")


def _save(log: VersionLog, lost: dict[int, str]) -> None:
    for number in lost:
        with contextlib.suppress(FileNotFoundError, FileExistsError):  # missing, or saved the last time
            data = atomic_files.read(log.path(number))
            atomic_files.create(
                log.directory / "damaged" / f"{number:012d}-{sha256(data)[:12]}{SUFFIX}", data
            )


def _put_back(log: VersionLog, lost: Collection[int]) -> list[int]:
    """One after the other, as one that is back in its place may be what proves the next."""
    saved = [(number, path) for number, path in _saved(log) if number in lost]
    put_back: list[int] = []
    while proven := next((s for s in saved if s[0] not in put_back and _belongs(log, *s)), None):
        number, path = proven
        _put(log, number, atomic_files.read(path))
        put_back.append(number)
    return sorted(put_back)


def _saved(log: VersionLog) -> Iterator[tuple[int, Path]]:
    """Files in `damaged/` that are whole, each with its own number, whatever it was called."""
    folder = log.directory / "damaged"
    for path in sorted(folder / name for name in atomic_files.names(folder) if name.endswith(SUFFIX)):
        with contextlib.suppress(ValueError):
            yield decode(atomic_files.read(path)).number, path


def _belongs(log: VersionLog, number: int, path: Path) -> bool:
    """Whether the child names this file as its parent, or, if it can't be asked, the parent is this one's."""
    data = atomic_files.read(path)
    manifest, after, before = decode_manifest(data), _whole(log, number + 1), _whole(log, number - 1)
    if isinstance(after, Manifest) and after.parent_sha256:
        return after.parent_sha256 == (manifest.original_sha256 or sha256(data))
    return isinstance(before, Manifest) and manifest.parent_sha256 == log.sha256(number - 1)


def _put(log: VersionLog, number: int, data: bytes) -> None:
    put = atomic_files.replace if log.has(number) else atomic_files.create
    put(log.path(number), data)


def _note(log: VersionLog, number: int, what: str) -> None:
    """What is still known of a lost version: its manifest, if that can be read, and what its child calls it."""
    manifest, after = _readable(log, number) or Manifest(number), _readable(log, number + 1)
    note = replace(
        manifest,
        kind="damaged",
        original_sha256=manifest.original_sha256 or (after.parent_sha256 if after else ""),
        events=[*manifest.events, {"event": "damaged", "was": manifest.kind, "what": what}],
    )
    _put(log, number, encode(Version(note, {})))


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
        events=[{"event": "repaired", "from": good, "learned_again": list(range(good + 1, head + 1))}],
    )
