"""What a trial is: the options of a learner that it changes, its name, and its result beside others."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streaming_nn.nn.factory import changed
from streaming_nn.settings import toml_value

SET_BY_RECORDS = (
    "inputs",
    "classes",
    "multilabel",
    "targets",
)  # options of a learner that the stream decides
FORM = "a trial must be key=value[,key=value]"
NAME_LENGTH = 100  # characters; a directory's name may have 255 bytes


@dataclass(frozen=True)
class Trial:
    """Options that replace those of a learner, and the trial's name; no changes: the learner as it is."""

    changes: dict[str, Any]
    name: str

    def options(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """Return the base options with the changes; another learner keeps those that it knows."""
        return changed(base, self.changes)


@dataclass(frozen=True)
class Outcome:
    """The result of a trial, over the same rows as the others."""

    name: str
    changes: dict[str, Any]
    directory: Path | None  # of its versions; None: none were kept
    counts: dict[str, int]
    metrics: dict[str, Any]  # as in a version's manifest
    remarks: list[str] = field(default_factory=list)


def parse_trials(texts: Iterable[str]) -> list[Trial]:
    """Parse the values of `--trial`. Raise ValueError in one line."""
    trials = [_parse(text) for text in texts]
    names = [trial.name for trial in trials]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"trials must differ from each other; got {name} twice")
    return trials


def _parse(text: str) -> Trial:
    changes: dict[str, Any] = {}
    for part in _split(text):
        key, equals, value = part.partition("=")
        key = key.strip().removeprefix("learner.")
        if not (equals and key and value.strip()):
            raise ValueError(f"{FORM}, a list in brackets: hidden=[64,32]; got {part.strip()!r} in {text!r}")
        if key in changes:
            raise ValueError(f"{FORM}, each key once; got {key} twice in {text!r}")
        if key in SET_BY_RECORDS:
            raise ValueError(f"a trial cannot change {key}, which the records decide; got {text!r}")
        changes[key] = toml_value(value.strip())
    return Trial(changes, _name(changes))


def _split(text: str) -> Iterator[str]:
    """Split at the commas that are neither in brackets nor in quotes."""
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
    """Return a name that can be a directory's: `learning_rate=0.01,hidden=64-32`."""
    name = ",".join(f"{key}={_format(value)}" for key, value in changes.items())
    if len(name) <= NAME_LENGTH:
        return name
    return f"{name[: NAME_LENGTH - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _format(value: Any) -> str:
    if isinstance(value, dict):
        return "-".join(f"{key}-{_format(each)}" for key, each in value.items()) or "none"
    if isinstance(value, list):
        return "-".join(map(_format, value)) or "none"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"[^\w.+-]", "-", text)
