"""Find versions whose files are damaged, and make the log one that can be learned on from; lose no record."""

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from streaming_nn.log import files
from streaming_nn.log.log import SUFFIX, Log, child
from streaming_nn.log.tags import tags
from streaming_nn.log.version import Damaged, Record, Version, add_up, decode, decode_record, encode, sha256


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


def check(log: Log, since: int = 0) -> list[Finding]:
    """Read every version from `since` on, all of it, and return what is wrong; [] when nothing is.

    Each file must be whole and have its own number; numbers must have no gap; each version must be made from
    the one before it (the chain of sha256, which thinned versions carry on); offsets must not go back; rows
    must add up; and tags must name versions that have their tensors.
    """
    findings: list[Finding] = []
    before = _whole(log, since - 1)
    for number in range(since, max(log.numbers(), default=-1) + 1):
        record = _whole(log, number)
        if isinstance(record, ValueError):
            findings.append(Finding(number, str(record), lost=isinstance(record, Damaged)))
        elif not isinstance(before, ValueError):
            findings += [Finding(number, what, lost=False) for what in _doubts(log, record, before)]
        before = record
    if isinstance(before, Record) and not before.kept:
        what = f"version {before.number} is the newest, and its tensors are gone"
        findings.append(Finding(before.number, what, lost=True))
    return findings + list(_tag_doubts(log))


def _whole(log: Log, number: int) -> Record | ValueError:
    """The record after all of the file was checked, or what is wrong with it."""
    path = log.path(number)
    try:
        return decode(files.read(path), number, str(path)).record
    except FileNotFoundError:
        return Damaged(f"version {number} of {log.directory} is missing")
    except IsADirectoryError:
        return Damaged(f"{path} is damaged: it is a folder, which you have to move away")
    except ValueError as e:
        return e


def _doubts(log: Log, record: Record, parent: Record) -> Iterator[str]:
    n, rows = record.number, record.rows
    if not add_up(rows):
        yield f"version {n}: received is not trained + skipped + rejected: {rows}"
    if record.kind == "damaged":
        return
    lost_for_good = parent.kind == "damaged" and not parent.original and record.kind != "repaired"
    if not lost_for_good and record.parent != log.sha256(n - 1):
        yield f"version {n} was not made from the version {n - 1} that is there"
    if record.kind != "repaired":  # that one goes back on purpose
        yield from _steps_back(record, parent)


def _steps_back(record: Record, parent: Record) -> Iterator[str]:
    for topic, partitions in parent.offsets.items():
        if parent.topic_ids.get(topic) != record.topic_ids.get(topic):
            continue
        for partition, before in partitions.items():
            now = record.offsets.get(topic, {}).get(partition)
            if now is None or now < before:
                yield (
                    f"version {record.number}: the offset of {topic}, partition {partition} "
                    f"goes back from {before} to {now}"
                )


def _tag_doubts(log: Log) -> Iterator[Finding]:
    for name, number in tags(log).items():
        record = _whole(log, number)
        if isinstance(record, ValueError) or not record.kept:
            what = f"tag {name!r} names version {number}, whose tensors are not there"
            yield Finding(number, what, lost=False)


def repair(log: Log, written_by: dict[str, Any], written_at: str) -> Repair:
    """Make a damaged log whole again, on request only; return what was done. Stop the trainer before.

    1. What is damaged is copied into `damaged/`.
    2. Files that had been exchanged are put back, where the chain of sha256 proves whose they are; so is a
       file that you lay into `damaged/` from a backup.
    3. In the place of the others comes a note (kind "damaged"), so that the number stays taken: a trainer
       that slept through all this must still lose. A version's file holds the whole state, so one that was
       lost in the middle costs its history only; those after it are as good as before.
    4. Was the head lost, a version of kind "repaired" is appended, with the tensors, the metrics *and the
       offsets* of the last good version: the records of what was lost are learned again, so each still
       counts once.

    It can be interrupted anywhere and done again. ValueError: none is good, or another release wrote one.
    Kafka must still hold the records from the good version's offsets on; the trainer says so if not.
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
    log.append(_repaired(log, good, head, written_by, written_at))
    return Repair(put_back, list(lost), good, head + 1)


def _lost(log: Log) -> dict[int, str]:
    found = {number: _whole(log, number) for number in range(max(log.numbers(), default=-1) + 1)}
    for error in found.values():
        if isinstance(error, ValueError) and not isinstance(error, Damaged):
            raise error
    return {number: str(error) for number, error in found.items() if isinstance(error, Damaged)}


def _last_good(log: Log, head: int) -> int:
    """The head where it is whole, else the newest version before it that has its tensors."""
    for number in range(head, -1, -1):
        record = _whole(log, number)
        if isinstance(record, Record) and record.kept:
            return number
    raise ValueError(f"no version of {log.directory} is whole: begin a new model directory")


def _save(log: Log, lost: dict[int, str]) -> None:
    for number in lost:
        with contextlib.suppress(FileNotFoundError, FileExistsError):  # missing, or saved the last time
            data = files.read(log.path(number))
            files.create(log.directory / "damaged" / f"{number:012d}-{sha256(data)[:12]}{SUFFIX}", data)


def _put_back(log: Log, lost: Collection[int]) -> list[int]:
    """One after the other, as one that is back in its place may be what proves the next."""
    saved = [(number, path) for number, path in _saved(log) if number in lost]
    put_back: list[int] = []
    while proven := next((s for s in saved if s[0] not in put_back and _belongs(log, *s)), None):
        number, path = proven
        _put(log, number, files.read(path))
        put_back.append(number)
    return sorted(put_back)


def _saved(log: Log) -> Iterator[tuple[int, Path]]:
    """Files in `damaged/` that are whole, each with its own number, whatever it was called."""
    folder = log.directory / "damaged"
    for path in sorted(folder / name for name in files.names(folder) if name.endswith(SUFFIX)):
        with contextlib.suppress(ValueError):
            yield decode(files.read(path)).number, path


def _belongs(log: Log, number: int, path: Path) -> bool:
    """Whether the child names this file as its parent, or, if it can't be asked, the parent is this one's."""
    data = files.read(path)
    record, after, before = decode_record(data), _whole(log, number + 1), _whole(log, number - 1)
    if isinstance(after, Record) and after.parent:
        return after.parent == (record.original or sha256(data))
    return isinstance(before, Record) and record.parent == log.sha256(number - 1)


def _put(log: Log, number: int, data: bytes) -> None:
    put = files.replace if log.has(number) else files.create
    put(log.path(number), data)


def _note(log: Log, number: int, what: str) -> None:
    """What is still known of a lost version: its record, if that can be read, and what its child calls it."""
    record, after = _readable(log, number) or Record(number), _readable(log, number + 1)
    note = replace(
        record,
        kind="damaged",
        original=record.original or (after.parent if after else ""),
        events=[*record.events, {"event": "damaged", "was": record.kind, "what": what}],
    )
    _put(log, number, encode(Version(note, {})))


def _readable(log: Log, number: int) -> Record | None:
    try:
        return log.record(number)
    except (LookupError, ValueError):
        return None


def _repaired(log: Log, good: int, head: int, written_by: dict[str, Any], written_at: str) -> Version:
    version = log.read(good)
    again = list(range(good + 1, head + 1))
    record = child(
        version.record,
        log.sha256(head),
        number=head + 1,
        kind="repaired",
        taken_from=good,
        written_by=written_by,
        written_at=written_at,
        events=[{"event": "repaired", "from": good, "learned_again": again}],
    )
    return Version(record, version.tensors)
