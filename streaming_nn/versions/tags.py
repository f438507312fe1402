"""Names for versions: a tag is a small file in the model directory that holds a number, and may be moved."""

import contextlib
import re

from streaming_nn.versions import atomic_files
from streaming_nn.versions.version_log import VersionLog

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def tag(log: VersionLog, name: str, number: int) -> None:
    """Give a version a name, or move the name to it. ValueError: not a name; LookupError: none, or pruned.

    A tagged version is not pruned, so one whose tensors are gone can't be tagged.
    """
    check_name(name)
    if not log.manifest(number).kept:
        raise LookupError(f"version {number} can't be tagged: its tensors are gone")
    atomic_files.put(log.directory / "tags" / name, f"{number}\n".encode())


def untag(log: VersionLog, name: str) -> None:
    """Take a name away; the version stays. LookupError: there is no such tag."""
    path = log.directory / "tags" / check_name(name)
    if name not in tags(log):
        raise LookupError(f"there is no tag {name!r}; there are {_names(log)}")
    path.unlink()
    atomic_files.sync_folder(path.parent)


def tags(log: VersionLog) -> dict[str, int]:
    """Return all tags in the order of their names. ValueError: a tag's file holds no number."""
    found = {}
    for name in sorted(atomic_files.names(log.directory / "tags")):
        if not NAME.fullmatch(name):
            continue
        with contextlib.suppress(FileNotFoundError):  # taken away just now
            found[name] = _number(atomic_files.read(log.directory / "tags" / name), name)
    return found


def find(log: VersionLog, text: str) -> int:
    """Return the number that `text` means: "head", a number or a tag.

    LookupError: it means none; DamagedVersionError: its version, or another one, is missing.
    """
    number = log.head_number() if text == "head" else int(text) if text.isdecimal() else tags(log).get(text)
    if number is None or not log.has(number):
        log.find_hole()
        raise LookupError(
            f"version must be 'head', a number up to {log.head_number()} or one of the tags "
            f"{_names(log)}; got {text!r}"
        )
    return number


def check_name(name: str) -> str:
    """Return the name. ValueError: it can't be told from a number, from "head" or from a path."""
    if not NAME.fullmatch(name) or name.isdecimal() or name == "head":
        raise ValueError(
            "a tag must be 1 to 64 letters, digits, '.', '_' or '-', begin with a letter or a digit, "
            f"and be neither a number nor 'head'; got {name!r}"
        )
    return name


def _number(data: bytes, name: str) -> int:
    try:
        return int(data)
    except ValueError:
        raise ValueError(
            f"tag {name!r} must hold a version's number; got {data[:40]!r}; tag the version again"
        ) from None


def _names(log: VersionLog) -> str:
    return ", ".join(tags(log)) or "(none)"
