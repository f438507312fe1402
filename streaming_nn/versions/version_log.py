"""The model directory is a log of versions: commit is compare-and-swap, everything else reads in order.

A version is a file of its own while it has its tensors. The manifests of older ones are also in archives,
from which those of pruned versions are read, whose files were deleted: `versions.retention`.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack
from uuid import uuid4

from streaming_nn.core import library
from streaming_nn.errors import DamagedVersionError, VersionConflictError
from streaming_nn.versions import atomic_files
from streaming_nn.versions.archive import Archives, Point, add, is_complete
from streaming_nn.versions.environment import describe, now, writer
from streaming_nn.versions.version import (
    INITIAL,
    Manifest,
    ManifestFields,
    Tensors,
    Version,
    add_up,
    decode,
    decode_manifest,
    encode,
    header_size,
    sha256,
)

if TYPE_CHECKING:
    import pandas as pd

SUFFIX = ".safetensors"

INHERITED = (
    "learner",
    "schema",
    "update",
    "mini_batch_cap",
    "offsets",
    "topic_ids",
    "source",
    "metrics",
)  # fields that describe the stream: a version has its parent's, unless its commit sets others


class VersionLog:
    """The versions under `directory`, numbered from 0 without a gap. The first commit creates the directory.

    Any number of processes may read and commit at once; there are no locks and no clocks in it. An object
    may be shared by threads. `run` names the writer in the manifests; None: a new name.
    """

    def __init__(self, directory: str | Path, run: str | None = None) -> None:
        self.directory = Path(directory)
        self.run = run or uuid4().hex[:12]
        self.versions = self.directory / "versions"
        self.archives = Archives(self.versions / "archive")
        self._low = -1  # a number that existed: numbers are never freed, so the head is not below it
        self._last: tuple[int, tuple[int, ...], str] | None = None  # number, signature, sha256 of the parent
        self._gaps_checked = False

    def _repr_html_(self) -> str:
        """Return its newest metrics and a chart, which a notebook shows."""
        from streaming_nn.versions.notebook import log_html

        return log_html(self)

    def path(self, number: int) -> Path:
        """Return the file of a version."""
        return self.versions / f"{number:012d}{SUFFIX}"

    def has(self, number: int) -> bool:
        """Return whether the number is taken: it has a file, or is in an archive."""
        if 0 <= number < self.archives.until or atomic_files.exists(self.path(number)):
            return True
        return self._archived_now(number)  # by another process, since the last refresh

    def _archived_now(self, number: int) -> bool:
        return 0 <= number < self.archives.refresh()

    def head_number(self) -> int | None:
        """Return the newest number, None if there is none; searches in doubling steps, then bisects."""
        archived = self.archives.refresh() - 1
        low = max(archived, self._low if self._low >= 0 and self.has(self._low) else -1)
        step = 1
        while self.has(low + step):
            low += step
            step *= 2
        high = low + step  # low exists (or is -1), high does not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.has(middle) else (low, middle)
        self._low = low
        return low if low >= 0 else None

    def head(self) -> Version | None:
        """Return the newest version, None if there is none.

        DamagedVersionError: it is damaged, or a number is missing; the message names the last good version.
        A damaged head is never skipped.
        """
        self._check_gaps_once()
        while (number := self.head_number()) is not None:
            try:
                return self.read(number)
            except LookupError:  # pruned just now, so there is a newer one
                if self.head_number() == number:
                    lost = f"version {number} is the newest of {self.directory}, and its tensors are lost"
                    raise DamagedVersionError(f"{lost}; {self._describe_last_good(number)}") from None
            except DamagedVersionError as e:
                raise DamagedVersionError(f"{e}; {self._describe_last_good(number)}") from None
        return None

    def initial_number(self) -> int:
        """Return the number of the version that training began with: 0, unless it was restarted."""
        number, head = 0, self.head_number() or 0
        while number < head and self.manifest(number + 1).kind == INITIAL:
            number += 1
        return number

    def check_head(self) -> None:
        """Raise DamagedVersionError if `head` would; a head that this object committed is not read again."""
        number, last = self.head_number(), self._last
        if number is not None and last is not None and last[0] == number:
            with suppress(FileNotFoundError):  # another process has just committed and pruned
                if atomic_files.signature(self.path(number)) == last[1]:
                    return
        self.head()

    def _describe_last_good(self, number: int) -> str:
        for n in reversed([n for n in self.files() if n < number]):
            try:
                self.read(n)
            except (DamagedVersionError, LookupError, OSError):
                continue
            return f"the last good version is {n}; `streaming-nn versions repair` resumes from it"
        return "all versions before it are damaged or pruned"

    def read(self, number: int) -> Version:
        """Return a version after checking all of it.

        LookupError: there is none, or it is pruned; DamagedVersionError: it is damaged.
        """
        try:
            data = self._bytes(number)
        except LookupError:
            if self._archived_now(number):
                raise self._pruned(number) from None
            raise
        version = decode(data, number, str(self.path(number)))
        if version.manifest.kind == "damaged":
            raise DamagedVersionError(
                f"{self.path(number)}: version {number} was lost to damage; only its manifest is kept"
            )
        if not version.manifest.kept:
            raise self._pruned(number)
        return self.check(version, sha256(data))

    def check(self, version: Version, actual: str) -> Version:
        """Return the version with its file's sha256. DamagedVersionError: an archive has another one."""
        recorded = actual
        if version.manifest.kept and self._archived_now(version.number):
            with suppress(DamagedVersionError):  # of the archive: the version's file is complete without it
                recorded = self.archives.manifest(version.number).original_sha256
        if recorded != actual:
            path = self.path(version.number)
            raise DamagedVersionError(f"{path} is damaged: it is not the version that was committed")
        return version._replace(sha256=actual)

    def _pruned(self, number: int) -> LookupError:
        kept = next(self._kept_before(number), None)
        near = "" if kept is None else f"; the nearest one before it with its tensors is {kept}"
        return LookupError(f"version {number} was pruned, only its manifest is kept{near}")

    def _unknown(self, number: int) -> LookupError:
        return LookupError(f"there is no version {number} in {self.versions}")

    def manifest(self, number: int) -> Manifest:
        """Return a version's manifest; only the header is read. Raise like `read`, except if pruned.

        That of a pruned version has no metrics; `points` has those of every hundredth.
        """
        if 0 <= number < self.archives.until:
            return self._archived(number)
        try:
            return self._header(number)
        except LookupError:
            if self._archived_now(number):
                return self._archived(number)
            raise

    def _archived(self, number: int) -> Manifest:
        """Return an archived version's manifest: that of its file, while it has one, with the metrics."""
        recorded = self.archives.manifest(number)
        try:
            found = self._header(number)
        except (LookupError, DamagedVersionError):
            return recorded
        return found if found.nonce == recorded.nonce else recorded

    def _header(self, number: int) -> Manifest:
        path = self.path(number)
        try:
            head = atomic_files.read_start(path)
            if header_size(head, str(path)) > len(head) == atomic_files.HEAD_BYTES:
                head = atomic_files.read_start(path, header_size(head, str(path)))
        except FileNotFoundError:
            raise self._unknown(number) from None
        except IsADirectoryError:
            raise DamagedVersionError(f"{path} is damaged: it is a directory") from None
        return decode_manifest(head, number, str(path))

    def sha256(self, number: int) -> str:
        """Return the sha256 of a version's file as committed, pruned or not, by which its child names it."""
        if self._archived_now(number):
            return self.archives.manifest(number).original_sha256
        data = self._bytes(number)
        return decode_manifest(data, number, str(self.path(number))).original_sha256 or sha256(data)

    def _bytes(self, number: int) -> bytes:
        try:
            return atomic_files.read(self.path(number))
        except FileNotFoundError:
            raise self._unknown(number) from None
        except IsADirectoryError:
            raise DamagedVersionError(f"{self.path(number)} is damaged: it is a directory") from None

    def commit(self, parent: Version | None, tensors: Tensors, **fields: Unpack[ManifestFields]) -> Version:
        """Append the version after `parent`, which must be the head, and return it as `read` would.

        Number, parent_sha256 and, unless set, written_at, written_by and environment are filled in; what
        describes the stream (INHERITED) is the parent's unless set. `parent` None: version 0.

        VersionConflictError: another writer was first, the message names it. ValueError: counts that do not
        add up. DamagedVersionError: the parent's file is not what was written, or a number is missing.
        """
        return self.append(Version(next_manifest(parent, self.run, **fields), tensors))

    def append(self, version: Version) -> Version:
        """Append a version as the child of the head, durably; return it as `read` would.

        This is what `commit` uses, and what a log in another store must do in its own way:

        1. Its number must be free, or hold this very version (a retried append recognizes its nonce).
        2. The number before must be taken, by the version whose sha256 is `parent_sha256`.
        3. Create the file under its number, exclusively; fsync it and its directory.
        4. No archive may have another version of its number: then this process slept while the number was
           taken, archived, and its file deleted. Delete the file that was created.

        Errors: as `commit`; ValueError also for a number that is not the head's plus one. The cost does not
        grow with the log, except for listing the directory before an object's first append.
        """
        _check(version.manifest)
        data, number = encode(version), version.number
        if self.has(number):
            return self._resolve(version, data)
        if not self._gaps_checked:
            atomic_files.clean(self.versions)
            atomic_files.clean(self.archives.directory)
        self._check_gaps_once()
        self._check_parent(version.manifest)
        try:
            atomic_files.create(self.path(number), data)
        except FileExistsError:
            return self._resolve(version, data)
        except FileNotFoundError:  # this process slept so long that another one cleaned its temporary file
            return self.append(version)
        if self._archived_now(number) and self.sha256(number) != sha256(data):
            self.path(number).unlink(missing_ok=True)
            return self._resolve(version, data)
        self._low = max(self._low, number)
        with suppress(FileNotFoundError):  # others committed on top of it, and pruned it
            self._last = (number, atomic_files.signature(self.path(number)), sha256(data))
        return _committed(version, data)

    def _resolve(self, version: Version, data: bytes) -> Version:
        winner = self._winner(version.number)
        if winner is not None and winner.nonce == version.manifest.nonce:
            return _committed(version, data)
        raise VersionConflictError(
            f"version {version.number} of {self.directory} was committed {_describe_writer(winner)}; "
            "this run tried to commit the same number",
            version.number,
            winner,
        )

    def _winner(self, number: int) -> Manifest | None:
        try:
            return self.manifest(number)
        except (DamagedVersionError, LookupError):
            return None

    def _check_gaps_once(self) -> None:
        """List the directory, once: a gap would end the search for the head below versions that exist."""
        if self._gaps_checked:
            return
        until = self.archives.refresh()
        files = [number for number in self.files() if number >= until]
        if files and files[-1] != until + len(files) - 1:
            self.check_gaps()
        self._gaps_checked = True

    def check_gaps(self) -> None:
        """List the directory. DamagedVersionError: a number is missing below one that exists."""
        taken = set(self.files())
        last = max(taken, default=-1)
        for number in range(self.archives.refresh(), last):
            # a listing may show 43 but not 42 if both were appended meanwhile
            if number not in taken and not self.has(number):
                gap = f"version {number} of {self.directory} is missing, and version {last} exists"
                raise DamagedVersionError(f"{gap}; `streaming-nn versions repair` repairs the log")

    def span(self, first: int | None = None, last: int | None = None) -> tuple[int, int]:
        """Return the first and the last version of a replay, by default the first that learned and the head.

        They are 1 and 0 if only version 0 exists. Raise ValueError for others.
        """
        head = self.head_number()
        if head is None:
            raise ValueError(
                f"model {self.directory}: there is no version yet, so there is nothing to replay"
            )
        begin = self.initial_number()
        first, last = begin + 1 if first is None else first, head if last is None else last
        if not begin < first <= last <= head and (first, last, head) != (begin + 1, begin, begin):
            allowed = f"from {begin + 1} to {head}, the first not after the last"
            allowed = allowed if head > begin else f"{begin + 1} or more, and there is only {begin}"
            raise ValueError(f"versions must be {allowed}; got {first} to {last}")
        return first, last

    def last(self) -> int:
        """Return the largest number that is taken, also behind a gap, by listing the directory; -1: none."""
        return max([self.archives.refresh() - 1, *self.files()])

    def numbers(self) -> list[int]:
        """Return all numbers that are taken, in order, by listing the directory."""
        until = self.archives.refresh()
        return [*range(until), *(number for number in self.files() if number >= until)]

    def files(self) -> list[int]:
        """Return the numbers that have a file, in order, by listing the directory."""
        stems = (n.removesuffix(SUFFIX) for n in atomic_files.names(self.versions) if n.endswith(SUFFIX))
        return sorted(int(stem) for stem in stems if stem.isdigit())

    def _check_parent(self, manifest: Manifest) -> None:
        number = manifest.number - 1
        if number < 0:
            if manifest.parent_sha256:
                raise ValueError(f"parent_sha256 of version 0 must be ''; got {manifest.parent_sha256!r}")
            return
        if not self.has(number):
            head = self.head_number()
            after = 0 if head is None else head + 1
            raise ValueError(f"number must be the head's plus one, {after}; got {manifest.number}")
        actual = self._parent_sha256(number)
        if actual != manifest.parent_sha256:
            winner = self.read(number).manifest if self.manifest(number).kept else self.manifest(number)
            raise VersionConflictError(
                f"version {number} of {self.directory} is not the one that this run resumed from: "
                f"it was committed {_describe_writer(winner)}",
                number,
                winner,
            )

    def _parent_sha256(self, number: int) -> str:
        """Return the parent's sha256; read the file only if it has changed: large ones are slow."""
        try:
            signature = atomic_files.signature(self.path(number))
        except FileNotFoundError:  # pruned since its number was looked up
            return self.sha256(number)
        if self._last is None or self._last[:2] != (number, signature):
            self._last = (number, signature, self.sha256(number))
        return self._last[2]

    def nearest_kept(self, number: int) -> int:
        """Return the newest number up to `number` with its tensors. LookupError: there is none."""
        for kept in self._kept_before(number + 1):
            return kept
        raise LookupError(f"no version up to {number} has its tensors")

    def _kept_before(self, number: int) -> Iterator[int]:
        files = reversed(self.files())
        return (n for n in files if n < number and self.manifest(n).kept)

    def history(self, first: int = 0, last: int | None = None) -> "pd.DataFrame":
        """Return a row for each version from `first` to `last`, by default the head, as a pandas DataFrame.

        See `versions.history` for its columns. Raise ValueError for versions that do not exist.
        """
        from streaming_nn.versions.history import history  # it needs pandas, which nothing else here does

        return history(self, first, last)

    def readable(self, numbers: Iterable[int]) -> Iterator[Manifest]:
        """Yield the manifests of these versions, without those that are damaged or missing."""
        for number in numbers:
            with suppress(DamagedVersionError, LookupError):
                yield self.manifest(number)

    def plot(self, metric: str | None = None, ax: Any = None) -> Any:
        """Plot a metric of the window over the kept versions with matplotlib; return the axes.

        Drawn are prequential, as served and baselines, and events as dotted lines, of up to 500 versions.
        `metric` None: accuracy, subset accuracy or the mean absolute error. `ax`: axes to draw into. Raise
        ModuleNotFoundError without matplotlib (the extra "plot"), ValueError for an unknown metric.
        """
        from streaming_nn.versions.notebook import plot

        return plot(self, metric, ax)

    def points(self) -> Iterator[Point]:
        """Yield the log's counts, metrics and events, one point for each 100 versions, from the oldest on.

        1,000,000 versions are 10,000 points. The points of pruned versions are those that they had before.
        """
        self.archives.refresh()
        point = None
        for point in self.archives.points():
            if is_complete(point):
                yield point
        point = None if point is None or is_complete(point) else point
        for number in range(point.last + 1 if point else self.archives.until, (self.head_number() or 0) + 1):
            with suppress(DamagedVersionError, LookupError):
                point = add(point, self.manifest(number))
                if is_complete(point):
                    yield point
                    point = None
        if point:
            yield point


def next_manifest(parent: Version | None, run: str, **fields: Unpack[ManifestFields]) -> Manifest:
    """Return the manifest that `VersionLog.commit` writes for the version after `parent`; None: version 0."""
    described: dict[str, Any] = {"number": 0, "kind": INITIAL}
    if parent is not None:
        if not parent.sha256:
            raise ValueError(
                f"parent must be a version that was read or committed; got {parent.number} by hand"
            )
        described = {name: getattr(parent.manifest, name) for name in INHERITED}
        described |= {"number": parent.number + 1, "parent_sha256": parent.sha256}
        if parent.manifest.arithmetic != library.ARITHMETIC:
            change = {"from": parent.manifest.arithmetic, "to": library.ARITHMETIC}
            fields["events"] = [{"event": "arithmetic changed", **change}, *fields.get("events", ())]
    described |= {"written_at": now(), "written_by": writer(run), "environment": describe()}
    described.update(fields)
    return Manifest(**described)


def _committed(version: Version, data: bytes) -> Version:
    return version._replace(manifest=decode_manifest(data), sha256=sha256(data))


def _check(manifest: Manifest) -> None:
    rows = manifest.counts
    if not add_up(rows):
        raise ValueError(
            f"counts of version {manifest.number}: received must be trained + skipped + rejected + filtered; "
            f"got {rows}"
        )


def _describe_writer(manifest: Manifest | None) -> str:
    if manifest is None:
        return "by an unknown writer (its file is unreadable)"
    by = manifest.written_by
    return (
        f"by host {by.get('host', '?')}, process {by.get('pid', '?')}, run {by.get('run', '?')}, "
        f"at {manifest.written_at or '?'} ({manifest.kind})"
    )
