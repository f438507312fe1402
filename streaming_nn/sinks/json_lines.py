"""Metrics as a file of JSON lines, one version a line."""

import json
import os
from pathlib import Path
from typing import BinaryIO

from streaming_nn.sinks.metrics_event import text
from streaming_nn.versions.atomic_files import make_directory
from streaming_nn.versions.version import Manifest

BEGINS = b'{"digest":'  # how every line begins: nothing else is ever cut off
BLOCK = 65_536  # bytes that are read at a time when the last line is looked for


class JsonLinesSink:
    """Appends `line(manifest)` of every version to a file; its place is the number in the last whole line.

    A line that a crash has torn is cut off and written again. The file is only a copy of what the log knows:
    take it away, and the next run writes all of it anew.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = f"metrics file {self.path.name}"
        self._position: int | None = None

    def position(self) -> int:
        """Return the number in the last whole line; -1: there is none. ValueError: the file is another's."""
        if self._position is None:
            self._position = _last_number(self.path)
        return self._position

    def write(self, manifest: Manifest) -> None:
        """Append the version's line."""
        if manifest.number <= self.position():
            return
        self._position = None  # in case this fails: the file is asked again
        make_directory(self.path.parent)
        with open(self.path, "ab") as file:
            file.write(text(manifest) + b"\n")
        self._position = manifest.number

    def close(self) -> None:
        """Nothing is open between two versions."""


def _last_number(path: Path) -> int:
    """Return the number of the last whole line, and cut what comes after it off."""
    if not path.exists():
        return -1
    with open(path, "r+b") as file:
        tail = _tail(file)
        whole, _, torn = tail.rpartition(b"\n")
        number = _number(whole.rpartition(b"\n")[2], path) if whole else -1
        if torn[: len(BEGINS)] != BEGINS[: len(torn)]:
            raise ValueError(f"{path} must end in a version's line; got {torn[:80]!r}: is it another's file?")
        file.truncate(file.seek(0, os.SEEK_END) - len(torn))
    return number


def _tail(file: BinaryIO) -> bytes:
    """The last bytes of a file: all of its last whole line is in them, and what comes after it."""
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
        raise ValueError(
            f"{path} must end in a version's line; got {line[:80]!r}: is it another's file?"
        ) from None
