"""Checks of options; each error has the allowed values and the value given."""

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
    """Raise ValueError where one of `given` is not a name in `allowed`, and suggest the nearest one."""
    names = sorted(allowed)
    for each in given:
        if each not in names:
            near = get_close_matches(str(each), names, 1)
            allowed_names = f"must be one of {', '.join(map(repr, names))}" if names else "there are none"
            hint = f"did you mean {near[0]!r}?" if near else allowed_names
            raise ValueError(f"unknown {name}: {each!r}; {hint}")


def integer(name: str, value: object, least: int = 1) -> None:
    """Raise ValueError where `value` is not an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}; got {value!r}")


def sequence(name: str, value: Any, of: str) -> tuple[Any, ...]:
    """Return a list as a tuple; raise ValueError if it is not one."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a list of {of}; got {value!r}")
    return tuple(value)


def widths(name: str, value: Any) -> tuple[int, ...]:
    """Return layers' widths as a tuple; raise ValueError if they are not a list of integers >= 1."""
    found = sequence(name, value, "integers >= 1")
    for units in found:
        integer(name, units)
    return found


def between(
    name: str, value: Any, low: float, high: float, *, low_in: bool = False, high_in: bool = False
) -> None:
    """Raise ValueError where `value` is not a finite number between the bounds; `_in` includes a bound."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
    if number and (low <= value if low_in else low < value) and (value <= high if high_in else value < high):
        return
    brackets = f"{'[' if low_in else '('}{low:g}, {high:g}{']' if high_in else ')'}"
    raise ValueError(f"{name} must be a number in {brackets}; got {value!r}")


def names(name: str, value: Any) -> tuple[str, ...]:
    """Return names as a tuple; ValueError unless there are some, all different and not empty."""
    found = sequence(name, value, "names")
    if not found or not all(isinstance(each, str) and each for each in found) or len({*found}) < len(found):
        raise ValueError(f"{name} must be one or more names, all different; got {found!r}")
    return found


def labels(name: str, value: Iterable[Any]) -> tuple[Any, ...]:
    """Return labels as a tuple of JSON's types; ValueError unless there are some, all different.

    One is enough: classes that grow may start with it.
    """
    found = tuple(
        label.item() if hasattr(label, "item") else label for label in sequence(name, value, "labels")
    )
    for label in found:
        if not isinstance(label, (str, int, float)):
            raise ValueError(f"{name} must be strings, numbers or booleans; got {label!r}")
    if not found or len({(type(label), label) for label in found}) < len(found):
        raise ValueError(f"{name} must be one or more labels, all different; got {found!r}")
    return found
