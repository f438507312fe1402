"""What options may be, checked once: each error says what is allowed and what came."""

from collections.abc import Iterable
from difflib import get_close_matches
from math import isfinite
from typing import Any


def one_of(name: str, value: object, allowed: Iterable[str]) -> None:
    """Raise ValueError where `value` is not one of the names in `allowed`."""
    names = list(allowed)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, names))}; got {value!r}")


def known(name: str, given: Iterable[object], allowed: Iterable[str]) -> None:
    """Raise ValueError where one of `given` is not a name in `allowed`; the nearest that is one is told."""
    names = sorted(allowed)
    for each in given:
        if each not in names:
            near = get_close_matches(str(each), names, 1) or names
            such = f"such as {near[0]!r}" if near else "and there are none"
            raise ValueError(f"{name} must be known ones, {such}; got {each!r}")


def whole(name: str, value: object, least: int = 1) -> None:
    """Raise ValueError where `value` is not a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number >= {least}; got {value!r}")


def several(name: str, value: Any, of: str) -> tuple[Any, ...]:
    """Give a list as a tuple; ValueError where it is none."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a list of {of}; got {value!r}")
    return tuple(value)


def widths(name: str, value: Any) -> tuple[int, ...]:
    """Give layers' widths as a tuple; ValueError where they are no list of whole numbers of at least 1."""
    found = several(name, value, "whole numbers >= 1")
    for units in found:
        whole(name, units)
    return found


def between(
    name: str, value: Any, low: float, high: float, *, low_in: bool = False, high_in: bool = False
) -> None:
    """Raise ValueError where `value` is not a finite number between the bounds; `_in` lets a bound in."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
    if number and (low <= value if low_in else low < value) and (value <= high if high_in else value < high):
        return
    brackets = f"{'[' if low_in else '('}{low:g}, {high:g}{']' if high_in else ')'}"
    raise ValueError(f"{name} must be a number in {brackets}; got {value!r}")


def labels(name: str, value: Iterable[Any]) -> tuple[Any, ...]:
    """Give labels as a tuple of JSON's own types; ValueError unless there are some, all different.

    One is enough: classes that grow may begin with it.
    """
    found = tuple(
        label.item() if hasattr(label, "item") else label for label in several(name, value, "labels")
    )
    for label in found:
        if not isinstance(label, (str, int, float)):
            raise ValueError(f"{name} must be strings, numbers or booleans; got {label!r}")
    if not found or len({(type(label), label) for label in found}) < len(found):
        raise ValueError(f"{name} must be one or more labels, all different; got {found!r}")
    return found
