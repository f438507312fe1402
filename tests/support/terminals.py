"""A pseudo-terminal in place of stderr or stdout: what a command shows there."""

import os
import pty
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

COLOURS = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;\d+)*m")  # not bold, dim, reset
CONTROLS = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
SHOWN, HIDDEN = "\x1b[?25h", "\x1b[?25l"  # the cursor


class Terminal:
    """What was written to a terminal so far."""

    def __init__(self) -> None:
        self.written = b""

    @property
    def output(self) -> str:
        return self.written.decode()

    @property
    def text(self) -> str:
        """The output without control sequences: every state of a line that was drawn again."""
        return CONTROLS.sub("", self.output)


@contextmanager
def terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int = 80, stream: str = "stderr"
) -> Iterator[Terminal]:
    """Make a stream a terminal of 24 lines; after the block, all that was written there is known."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    found = Terminal()

    def read() -> None:
        with suppress(OSError):  # the other end is closed
            while data := os.read(ours, 1 << 16):
                found.written += data

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as file, monkeypatch.context() as patch:
        patch.setattr(sys, stream, file)
        try:
            yield found
        finally:
            file.flush()
    reader.join()
    os.close(ours)
