"""Names for versions: a tag is a small file in the model directory that holds a version's number."""

import contextlib
import re

from streaming_nn.versions import atomic_files
from streaming_nn.versions.version_log import VersionLog

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def tag(log: VersionLog, name: str, number: int) -> None:
    """Tag a version, or move the tag to it. ValueError: invalid name; LookupError: none, or pruned.

    A tagged version is never pruned, so a pruned version cannot be tagged.
    """
    check_name(name)
    if not log.manifest(number).kept:
        raise LookupError(f"cannot tag version {number}: its tensors were pruned or lost; choose another")
    atomic_files.put(log.directory / "tags" / name, f"{number}\n".encode())


def untag(log: VersionLog, name: str) -> None:
    """Delete a tag; the version stays. LookupError: there is no such tag."""
    path = log.directory / "tags" / check_name(name)
    if name not in tags(log):
        raise LookupError(f"tag must be one of {_names(log)}; got {name!r}")
    path.unlink()
    atomic_files.sync_directory(path.parent)


def tags(log: VersionLog) -> dict[str, int]:
    """Return the number of each tag, sorted by name. ValueError: a tag's file does not hold a number."""
    numbers = {}
    for name in sorted(atomic_files.names(log.directory / "tags")):
        if not NAME.fullmatch(name):
            continue
        with contextlib.suppress(FileNotFoundError):  # deleted just now
            numbers[name] = _number(atomic_files.read(log.directory / "tags" / name), name)
    return numbers


def find(log: VersionLog, text: str) -> int:
    """Return the number of the version that `text` names: "head", a number or a tag.

    LookupError: there is no such version; DamagedVersionError: it, or another version, is missing.
    """
    number = log.head_number() if text == "head" else int(text) if text.isdecimal() else tags(log).get(text)
    if number is None or not log.has(number):
        log.check_gaps()
        raise LookupError(
            f"version must be 'head', a number up to {log.head_number()} or one of the tags "
            f"{_names(log)}; got {text!r}"
        )
    return number


def check_name(name: str) -> str:
    """Return the name. ValueError: it is not a valid tag: it could be a number, "head" or a path."""
    if not NAME.fullmatch(name) or name.isdecimal() or name == "head":
        raise ValueError(
            "tag must be 1 to 64 letters, digits, '.', '_' or '-', begin with a letter or a digit, "
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
