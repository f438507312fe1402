"""An archive: the manifests of up to 100,000 consecutive versions in one file, which keeps their numbers.

It is a safetensors file, as a version is. Of every 1,000 versions it has two tensors of bytes: their
manifests without the metrics, as compressed lines of JSON, each with what differs from the line before, and
their history, one point per 100 versions. The sealed header has the sha256 of each.

An archive is only ever replaced by a longer one of the same versions, under another name: see `Archives`.
"""

import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from streaming_nn.errors import DamagedVersionError
from streaming_nn.versions import atomic_files
from streaming_nn.versions.version import Manifest, encode_file, header_size, read_values, sha256, to_text

BLOCK = 100_000  # versions in one archive
CHUNK = 1_000  # versions that are compressed together: one is read in 30 ms, the next ones in 50 us each
POINT = 100  # versions in one point of the history
SUFFIX = ".safetensors"
NAME = re.compile(r"(\d{12})-(\d{12})\.safetensors")

T = TypeVar("T")


class Point(NamedTuple):
    """What the history keeps of up to 100 consecutive versions."""

    first: int
    last: int
    written_at: str  # of the last one; ISO 8601, UTC
    counts: dict[str, int]  # sums
    rejected_by_reason: dict[str, int]  # sums
    metrics: dict[str, Any]  # of the last one, without lists such as confusion matrices
    events: list[dict[str, Any]]  # of all of them, each with its `version`
    lag: int | None = None  # the largest
    delay: float | None = None  # likewise, in seconds: see `Manifest.delay`


def add(point: Point | None, manifest: Manifest) -> Point:
    """Return the point with one more version; None: a new point."""
    events = [{**event, "version": manifest.number} for event in manifest.events]
    metrics = _numbers(manifest.metrics)
    if point is None:
        point = Point(manifest.number, manifest.number, manifest.written_at, {}, {}, {}, [])
    return Point(
        point.first,
        manifest.number,
        manifest.written_at,
        _sums(point.counts, manifest.counts),
        _sums(point.rejected_by_reason, manifest.rejected_by_reason),
        metrics or point.metrics,
        point.events + events,
        _largest(point.lag, manifest.lag),
        _largest(point.delay, manifest.delay),
    )


def is_complete(point: Point) -> bool:
    """Return whether the next version begins another point."""
    return (point.last + 1) % POINT == 0


def _largest(a: T | None, b: T | None) -> T | None:
    return max((each for each in (a, b) if each is not None), default=None)  # type: ignore[type-var]


def _sums(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    return {name: a.get(name, 0) + b.get(name, 0) for name in (*a, *(key for key in b if key not in a))}


def _numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics without lists, which grow with the classes, but for that of the members."""
    return {
        name: _numbers(value) if isinstance(value, dict) else value
        for name, value in metrics.items()
        if not isinstance(value, list) or name == "members"
    }


class Archive:
    """One file, of the versions from `first` until before `until`; its header is read at once."""

    def __init__(self, path: Path, values: dict[str, Any], spans: dict[str, tuple[int, int]]) -> None:
        """Store what `open` has read: the header's values, and where each tensor's bytes are."""
        self.path = path
        self.first, self.until = values["first"], values["until"]
        self.needed = frozenset(values["needed"])  # versions whose tensors a replay reads
        self._sha256: dict[str, str] = values["sha256"]
        self._spans = spans

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the header of an archive; raise DamagedVersionError if it is damaged."""
        name = str(path)
        head = atomic_files.read_start(path)
        if (size := header_size(head, name)) > len(head) == atomic_files.HEAD_BYTES:
            head = atomic_files.read_start(path, size)
        values = read_values(head, name)
        if (values["first"], values["until"]) != _range(path):
            raise DamagedVersionError(f"{path} is damaged: another archive has taken its name")
        return cls(path, values, _find(path, values["sha256"], json.loads(head[8:size]), size))

    def chunks(self) -> range:
        """Return the first numbers of its chunks."""
        return range(self.first, self.until, CHUNK)

    def manifests(self, chunk: int) -> list[Manifest]:
        """Return the manifests of a chunk, without metrics, each with the sha256 of its version's file."""
        return [Manifest.from_json(values) for values in self.values(chunk)]

    def values(self, chunk: int) -> Iterator[dict[str, Any]]:
        """Yield a chunk's manifests as JSON values, each a new dict whose values others may share."""
        values: dict[str, Any] = {}
        lines = self._bytes(_manifests(chunk)).replace(b"\n", b",")  # read at once, in half the time
        for number, changes in enumerate(json.loads(b"[%b]" % lines), chunk):
            values = _expected(values) | changes | {"number": number}
            yield values

    def points(self, chunk: int) -> list[Point]:
        """Return the points of a chunk."""
        return [Point(*point) for point in json.loads(self._bytes(_history(chunk)))]

    def _bytes(self, name: str) -> bytes:
        return zlib.decompress(self.raw(name))

    def raw(self, name: str) -> bytes:
        """Return a tensor's bytes after checking them."""
        begin, end = self._spans[name]
        data = atomic_files.read_part(self.path, begin, end - begin)
        if sha256(data) != self._sha256[name]:
            raise DamagedVersionError(f"{self.path} is damaged: {name} is not what was written")
        return data

    def names(self) -> list[str]:
        """Return the names of its tensors."""
        return sorted(self._sha256)


def names(chunk: int) -> tuple[str, str]:
    """Return the names of a chunk's tensors."""
    return _manifests(chunk), _history(chunk)


def _manifests(chunk: int) -> str:
    return f"{chunk:012d}.manifests"


def _history(chunk: int) -> str:
    return f"{chunk:012d}.history"


def _expected(before: dict[str, Any]) -> dict[str, Any]:
    """Return what a manifest has if nothing but its number differs: the one before is its parent."""
    return before | {"parent_sha256": before.get("original_sha256", "")}


def extended(old: Archive | None, versions: Iterable[tuple[Manifest, bool]]) -> bytes:
    """Return the bytes of an archive of what `old` has and of the versions that follow it.

    Each is its manifest, with the sha256 of its file as `original_sha256`, and whether a replay needs its
    tensors.
    """
    parts = {name: old.raw(name) for name in old.names()} if old else {}
    needed = set(old.needed) if old else set()
    first, until = (old.first, old.until) if old else (-1, -1)
    for chunk, group in groupby(versions, lambda version: version[0].number // CHUNK * CHUNK):
        new = list(group)
        needed |= {manifest.number for manifest, is_needed in new if is_needed}
        earlier = old if _manifests(chunk) in parts else None
        parts |= chunk_parts(chunk, earlier, [manifest for manifest, _ in new])
        first, until = chunk if first < 0 else first, new[-1][0].number + 1
    return encode(first, until, needed, parts)


def chunk_parts(chunk: int, earlier: Archive | None, manifests: list[Manifest]) -> dict[str, bytes]:
    """Return the tensors of a chunk, with those of its manifests that an archive has already."""
    before, points = (earlier.manifests(chunk), earlier.points(chunk)) if earlier else ([], [])
    return {
        _manifests(chunk): _compress(_lines([*before, *manifests])),
        _history(chunk): _compress([json.dumps(_with(points, manifests))]),
    }


def encode(first: int, until: int, needed: Iterable[int], parts: dict[str, bytes]) -> bytes:
    """Return the bytes of an archive with these tensors."""
    sums = {name: sha256(data) for name, data in parts.items()}
    values = {"first": first, "until": until, "needed": sorted(needed), "sha256": sums}
    return encode_file(values, {name: np.frombuffer(data, np.uint8) for name, data in parts.items()})


def _lines(manifests: list[Manifest]) -> Iterator[str]:
    before: dict[str, Any] = {}
    for manifest in manifests:
        values = manifest.to_json()
        del values["number"], values["metrics"], values["samples"]
        same = _expected(before)
        yield to_text(
            {name: value for name, value in values.items() if name not in same or same[name] != value}
        )
        before = values


def _with(points: list[Point], manifests: list[Manifest]) -> list[Point]:
    """Return the points with more versions."""
    points = list(points)
    for manifest in manifests:
        earlier = points.pop() if points and not is_complete(points[-1]) else None
        points.append(add(earlier, manifest))
    return points


def _compress(lines: Iterable[str]) -> bytes:
    return zlib.compress("\n".join(lines).encode())


def _range(path: Path) -> tuple[int, int]:
    found = NAME.fullmatch(path.name)
    return (int(found[1]), int(found[2])) if found else (-1, -1)


def _find(path: Path, names: Iterable[str], tensors: dict[str, Any], size: int) -> dict[str, tuple[int, int]]:
    """Return where each tensor's bytes are in the file. This part of the header has no seal."""
    try:
        spans = {name: tensors[name]["data_offsets"] for name in names}
        return {name: (size + int(begin), size + int(end)) for name, (begin, end) in spans.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedVersionError(f"{path} is damaged: its header lacks a tensor ({error})") from None


class Archives:
    """The archives in a directory, whose names are their ranges: all versions before `until` are in them.

    There is one for each 100,000 versions. The newest is extended by creating a longer one, exclusively, and
    deleting the shorter one. Of several the longest counts: one that a process creates after it slept while
    another created a longer one changes nothing. So `until` never goes back, and needs no lock.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.until = 0  # as of the last refresh
        self._names: list[str] = []  # likewise: all that the directory had
        self._paths: dict[int, Path] = {}  # by first version
        self._opened: dict[Path, Archive] = {}
        self._chunk: tuple[Path, int, list[Manifest]] | None = None  # that was read last

    def path(self, first: int, until: int) -> Path:
        """Return the file of an archive."""
        return self.directory / f"{first:012d}-{until:012d}{SUFFIX}"

    def refresh(self) -> int:
        """List the directory and return `until`; 0 if there is no archive. Each commit does so twice."""
        names = atomic_files.names(self.directory)
        if names == self._names:
            return self.until
        paths: dict[int, Path] = {}
        for path in self._files(names):  # in the order of their names: the longest is the last
            paths[_range(path)[0]] = path
        self._paths = paths
        self._opened = {path: archive for path, archive in self._opened.items() if path in paths.values()}
        self.until = max((_range(path)[1] for path in paths.values()), default=0)
        self._names = names
        return self.until

    def _files(self, names: list[str]) -> list[Path]:
        return [self.directory / name for name in sorted(names) if NAME.fullmatch(name)]

    def remove_shorter(self) -> None:
        """Delete archives that a longer one has replaced."""
        self.refresh()
        for path in self._files(self._names):
            if path not in self._paths.values():
                path.unlink(missing_ok=True)

    def size(self) -> int:
        """Return the bytes of all archives."""
        return sum(path.stat().st_size for path in self._paths.values())

    def newest(self) -> Archive | None:
        """Return the archive that the version `until` belongs to; None: it begins a new one."""
        first = self.until // BLOCK * BLOCK
        return self.archive(first) if first in self._paths else None

    def archive(self, first: int) -> Archive:
        """Return the archive that begins with a version. DamagedVersionError: it is damaged or missing."""
        if first not in self._paths:
            raise DamagedVersionError(
                f"the archive of versions {first} to {first + BLOCK - 1} in {self.directory} is missing"
            )
        path = self._paths[first]
        opened = self._opened.get(path) or Archive.open(path)
        self._opened[path] = opened
        return opened

    def manifest(self, number: int) -> Manifest:
        """Return the manifest of a version before `until`, as `Archive.manifests` does."""
        chunk = number // CHUNK * CHUNK
        return self._retried(partial(self._manifests, number // BLOCK * BLOCK, chunk))[number - chunk]

    def _manifests(self, first: int, chunk: int) -> list[Manifest]:
        archive, read = self.archive(first), self._chunk
        if read is None or read[:2] != (archive.path, chunk):
            self._chunk = read = (archive.path, chunk, archive.manifests(chunk))
        return read[2]

    def needed(self) -> set[int]:
        """Return the versions before `until` whose tensors a replay reads."""
        firsts = sorted(self._paths)
        return {n for first in firsts for n in self._retried(partial(self.archive, first)).needed}

    def chunk(self, chunk: int) -> tuple[list[dict[str, Any]], list[Point]]:
        """Return the manifests of a chunk, as JSON values, and its points."""
        return self._retried(partial(self._both, chunk))

    def _both(self, chunk: int) -> tuple[list[dict[str, Any]], list[Point]]:
        archive = self.archive(chunk // BLOCK * BLOCK)
        return [*archive.values(chunk)], archive.points(chunk)

    def points(self) -> Iterator[Point]:
        """Yield the points of all versions before `until`, from the oldest on."""
        for first in sorted(self._paths):
            for chunk in self._retried(partial(self.archive, first)).chunks():
                yield from self._retried(partial(self._points, first, chunk))

    def _points(self, first: int, chunk: int) -> list[Point]:
        return self.archive(first).points(chunk)

    def _retried(self, read: Callable[[], T]) -> T:
        """Return what is read; once more if a longer archive has just replaced the one it was read from."""
        try:
            return read()
        except FileNotFoundError:
            self.refresh()
            return read()
