"""Metrics as a file of JSON lines, one version a line."""

import json
import os
from pathlib import Path
from typing import BinaryIO

from streaming_nn.sinks.metrics_event import encode_event
from streaming_nn.versions.atomic_files import make_directory, naming
from streaming_nn.versions.version import Manifest

PREFIX = b'{"counts":'  # of every line, whose keys are sorted: nothing else is ever truncated
BLOCK = 65_536  # bytes that are read first to find the last line
FILE_BYTES = 250_000_000  # of a file: a day at one version per second
NOT_OURS = "{} must be a metrics file, which ends in a line with a version; got {!r}; choose another path"


class JsonLinesSink:
    """Appends `metrics_event(manifest)` of every version to a file; the last whole line has its position.

    A line that a crash has cut is truncated and written again. A file of 250 MB gets the suffix `.1`, in
    place of an earlier one, and the next line begins a new file: so both take at most 500 MB. They are only a
    copy of what the log holds: delete them, and the next run writes them from scratch.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.older = self.path.with_name(f"{self.path.name}.1")
        self.name = f"metrics file {self.path.name}"
        self._position: int | None = None

    def position(self) -> int:
        """Return the number in the last whole line; -1: there is none. ValueError: not a metrics file."""
        if self._position is None:
            self._position = _last_number(self.path)
            if self._position < 0:  # a crash came between the renaming and the next line
                self._position = _last_number(self.older)
        return self._position

    def write(self, manifest: Manifest) -> None:
        """Append the version's line."""
        if manifest.number <= self.position():
            return
        self._position = None  # if this fails, the position is read from the file
        make_directory(self.path.parent)
        with naming(self.path), open(self.path, "ab") as file:
            file.write(encode_event(manifest) + b"\n")
            size = file.tell()
        self._position = manifest.number
        if size >= FILE_BYTES:
            _last_number(self.older)  # raises if it is another file, which is not replaced
            os.replace(self.path, self.older)

    def close(self) -> None:
        """Do nothing: no file is open between two versions."""


def _last_number(path: Path) -> int:
    """Return the number in the last whole line; truncate the file after it."""
    if not path.exists():
        return -1
    with open(path, "r+b") as file:
        tail = _tail(file)
        whole, _, cut = tail.rpartition(b"\n")
        number = _number(whole.rpartition(b"\n")[2], path) if whole else -1
        if cut[: len(PREFIX)] != PREFIX[: len(cut)]:
            raise ValueError(NOT_OURS.format(path, cut[:80]))
        file.truncate(file.seek(0, os.SEEK_END) - len(cut))
    return number


def _tail(file: BinaryIO) -> bytes:
    """Return the end of a file: all of its last whole line, and what comes after it."""
    size, length = file.seek(0, os.SEEK_END), 0
    tail = b""
    while length < size and tail.count(b"\n") < 2:
        length = min(size, 2 * length or BLOCK)
        file.seek(size - length)
        tail = file.read(length)
    return tail


def _number(line: bytes, path: Path) -> int:
    try:
        return int(json.loads(line)["number"])
    except (ValueError, TypeError, KeyError):
        raise ValueError(NOT_OURS.format(path, line[:80])) from None
