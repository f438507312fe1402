"""What a try is: the options of a learner that it names, its name, and what came of it beside others."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streaming_nn.nn.factory import changed
from streaming_nn.settings import toml_value

OF_THE_RECORDS = ("inputs", "classes")  # options of a learner that the stream decides
FORM = "a try must be key=value[,key=value]"
NAME_LENGTH = 100  # characters; a folder's name may have 255 bytes


@dataclass(frozen=True)
class Trial:
    """Options of a learner that are to be tried in place of those it has; none: as it is, under its name."""

    changes: dict[str, Any]
    name: str

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the given options with those of this try; another learner keeps what it knows of them."""
        return changed(given, self.changes)


@dataclass(frozen=True)
class Outcome:
    """What one try came to, over the same rows as the others."""

    name: str
    changes: dict[str, Any]
    directory: Path | None  # its versions; None: none were kept
    rows: dict[str, int]
    metrics: dict[str, Any]  # as a version's record has them
    remarks: list[str] = field(default_factory=list)


def trials_from(texts: Iterable[str]) -> list[Trial]:
    """Read what `--try` was given, each text one try. Raises ValueError in one line."""
    tries = [_try(text) for text in texts]
    names = [each.name for each in tries]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"tries must differ from each other; got {name} twice")
    return tries


def _try(text: str) -> Trial:
    changes: dict[str, Any] = {}
    for part in _parts(text):
        key, equals, value = part.partition("=")
        key = key.strip().removeprefix("learner.")
        if not (equals and key and value.strip()):
            raise ValueError(f"{FORM}, a list in brackets: hidden=[64,32]; got {part.strip()!r} in {text!r}")
        if key in changes:
            raise ValueError(f"{FORM}, each key once; got {key} twice in {text!r}")
        if key in OF_THE_RECORDS:
            raise ValueError(f"a try can't change {key}: the records decide it; got {text!r}")
        changes[key] = toml_value(value.strip())
    return Trial(changes, _name(changes))


def _parts(text: str) -> Iterator[str]:
    """Cut at the commas that are neither in brackets nor in quotes."""
    depth, quote, start = 0, "", 0
    for i, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter == "," and not depth:
            yield text[start:i]
            start = i + 1
        else:
            depth += (letter in "[{") - (letter in "]}")
    yield text[start:]


def _name(changes: Mapping[str, Any]) -> str:
    """A name that is a folder's too: `learning_rate=0.01,hidden=64-32`."""
    name = ",".join(f"{key}={_spoken(value)}" for key, value in changes.items())
    if len(name) <= NAME_LENGTH:
        return name
    return f"{name[: NAME_LENGTH - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _spoken(value: Any) -> str:
    if isinstance(value, list):
        return "-".join(map(_spoken, value)) or "none"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"[^\w.+-]", "-", text)
