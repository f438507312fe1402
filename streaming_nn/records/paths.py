"""Paths of fields: `a.b.0` is element 0 of array b of object a; `"a.b"` is one name with a dot.

An object or an array may be in a string, in JSON; `data` of a CloudEvent may be in base64: see `json_text`.
A feature may also be a whole array, whose length is known: `a.b[0:64]` is 64 numbers, those of array b.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from streaming_nn.records.json_text import DATA, data_of_event, in_string
from streaming_nn.records.reasons import ABSENT

_NAME = re.compile(r'"((?:[^"]|"")+)"|([^".][^.]*)')  # in quotes, "" is a quote
_ARRAY = re.compile(r"(.+)\[0:([1-9]\d{0,6})\]", re.ASCII | re.DOTALL)


@lru_cache(4096)
def split_length(text: str) -> tuple[str, int | None]:
    """Return the path of a feature and the length of its array; None: it is one value."""
    found = _ARRAY.fullmatch(text)
    return (found[1], int(found[2])) if found else (text, None)


@lru_cache(4096)
def parse_path(text: str) -> tuple[str, ...]:
    """Return the names of a path, outermost first; raise ValueError if it is not one."""
    names, at = list[str](), 0
    while found := _NAME.match(text, at):
        names.append(found[1].replace('""', '"') if found[1] else found[2])
        at = found.end()
        if at == len(text):
            return tuple(names)
        if text[at] != ".":
            break
        at += 1
    raise ValueError(f"a path must be names joined by dots, one with a dot in double quotes; got {text!r}")


def format_path(names: Iterable[str]) -> str:
    """Return the path of these names, of which none is empty; `parse_path` is the inverse."""
    return ".".join(_quote(name) for name in names)


def _quote(name: str) -> str:
    return name if is_plain(name) else '"' + name.replace('"', '""') + '"'


def is_plain(text: str) -> bool:
    """Return whether a path is one name as it is written."""
    return "." not in text and '"' not in text


def column_name(text: str) -> str:
    """Return the name of a column of a table or a line: a path that is one name, without its quotes."""
    try:
        names = parse_path(text)
    except ValueError:
        return text
    return names[0] if len(names) == 1 else text


def is_index(name: str) -> bool:
    """Return whether a name may be the index of an array's element: at most nine digits, as in Java's int."""
    return name.isascii() and name.isdecimal() and len(name) < 10


def get_field(record: Any, path: tuple[str, ...], default: Any = ABSENT) -> Any:
    """Return the field at a path of an object, or the default."""
    found = record
    for name in path:
        if type(found) is list and is_index(name) and int(name) < len(found):
            found = found[int(name)]
        elif type(found) is dict and name in found:
            found = found[name]
        else:
            plain = len(path) == 1 or (type(found) is dict and name != DATA)  # as most fields that are absent
            return default if plain else _get_inside(record, path, default)
    return found


def _get_inside(record: Any, path: tuple[str, ...], default: Any) -> Any:
    """Return the field at a path that may lead into strings."""
    for i, name in enumerate(path):
        if type(record) is str:
            record = in_string(record)
        if type(record) is list and is_index(name) and int(name) < len(record):
            record = record[int(name)]
        elif type(record) is dict and name in record:
            record = record[name]
        elif type(record) is dict and name == DATA and i + 1 < len(path):
            record = data_of_event(record)
        else:
            return default
    return record
