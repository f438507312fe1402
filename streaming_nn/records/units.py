"""What may be before or after a number, and how much it is worth: "$5", "5 %", "2.5M" with "M=1000000"."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from unicodedata import category

BLANKS = " \t\r\n\u00a0\u202f"  # between a number and its unit
MULTIPLES = {"k": "1000", "K": "1000", "M": "1000000", "B": "1000000000"}  # what these words mean
NOT_FIRST = "-.,'_()\u2212"  # of a unit: signs, marks and brackets; the last one is the typographic minus
MOST = 1e30  # that a unit is worth: a product of several is finite
MAX_LENGTH = 200  # of a string in which a unit is looked for
_WORTH = re.compile(r"(.+)=(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)", re.ASCII | re.DOTALL)
_NO_OTHER_DIGIT = re.compile("[^1-9A-Za-z]*")
_SIGN = r"[^\w\s.,'+()-]{1,3}"
_WRITTEN = re.compile(rf"[+-]?({_SIGN})?[ (+-]*\d[\d.,'\s]*?([^\W\d]{{1,4}}|{_SIGN}|\+)?\s*\)?")


class Unit(NamedTuple):
    """What may be before or after a number."""

    name: str
    worth: float  # what the number is multiplied by


def check_units(units: Any) -> tuple[str, ...]:
    """Return units as they are in settings, "%" or "k=1000"; raise ValueError in one line."""
    if not isinstance(units, (list, tuple)) or not all(isinstance(unit, str) for unit in units):
        raise ValueError(f"units must be a list of strings; got {units!r}")
    names = set[str]()
    for text in units:
        unit = _parse(text)
        name = unit.name
        if name in names:
            raise ValueError(f"units must be distinct; got {name!r} twice")
        names.add(name)
        visible = name.isprintable() and name and name == name.strip(BLANKS)
        if not visible or name[0] in NOT_FIRST or name[0].isdigit() or category(name[0]) == "Pd":  # dashes
            raise ValueError(f"units must be words or signs that begin no number; got {text!r}")
        if "=" in name or not 1 / MOST <= unit.worth <= MOST:
            raise ValueError(f"units must be worth 1e-30 to 1e30, as 'k=1000'; got {text!r}")
        if name in MULTIPLES and text == name:
            stated = f"'{name}={MULTIPLES[name]}', or '{name}=1'"
            raise ValueError(f"units must state what {name} is worth, as {stated}; got {name!r}")
    return tuple(units)


def parse_units(units: Iterable[str]) -> tuple[Unit, ...]:
    """Return units in the order in which they are looked for, the longest first: "US$" before "$"."""
    return tuple(sorted(map(_parse, units), key=lambda unit: len(unit.name), reverse=True))


def _parse(text: str) -> Unit:
    match = _WORTH.fullmatch(text)
    return Unit(match[1], float(match[2])) if match else Unit(text, 1.0)


def split_number(text: str, units: Sequence[Unit]) -> tuple[str, float]:
    """Return a number's text without its units, as in "-$5", "5 %", "€565K", and what they are worth.

    One may be before it and one after it. A number in brackets is negative, as accounting writes it. What is
    left need not be a number.
    """
    bare, worth = _without_units(text, units)
    if len(bare) > 1 and bare[0] == "(" and bare[-1] == ")":
        inner, times = _without_units(bare[1:-1].strip(BLANKS), units)
        return "" if inner[:1] in ("+", "-") else f"-{inner}", worth * times
    return bare, worth


def _without_units(text: str, units: Sequence[Unit]) -> tuple[str, float]:
    sign = text[:1] if text[:1] in ("+", "-") else ""
    bare, worth = text[len(sign) :], 1.0
    for name, factor in units:
        if bare.startswith(name):
            bare, worth = bare[len(name) :].lstrip(BLANKS), factor
            break
    for name, factor in units:
        if bare.endswith(name):
            bare, worth = bare[: -len(name)].rstrip(BLANKS), worth * factor
            break
    return sign + bare, worth


def units_of(values: Iterable[Any]) -> list[str] | None:
    """Return the units that all of a field's numbers but 0 have, or that are worth something by their names.

    None: some have another one, so that what they are worth is not known.
    """
    pairs = [_written(value) for value in values if not _is_zero(value)]
    before, after = {each for each, _ in pairs}, {each for _, each in pairs}
    if len(before) > 1 or (len(after) > 1 and not after <= {"", *MULTIPLES}):
        return None
    return [
        f"{name}={MULTIPLES[name]}" if name in MULTIPLES else name for name in sorted(before | after) if name
    ]


def _is_zero(value: Any) -> bool:
    return value == 0 or (
        isinstance(value, str) and "0" in value and _NO_OTHER_DIGIT.fullmatch(value) is not None
    )


def has_unit(value: Any) -> bool:
    """Return whether a value is a string of a number with a unit."""
    return any(_written(value))


def _written(value: Any) -> tuple[str, str]:
    """Return what is before and after the number in a string; "": nothing, or it is not a unit."""
    short = isinstance(value, str) and len(value) <= MAX_LENGTH
    match = _WRITTEN.fullmatch(value.strip()) if short else None
    if match is None:
        return "", ""
    before, after = match[1] or "", match[2] or ""
    return before if _is_unit(before) else "", after if _is_unit(after) else ""


def _is_unit(text: str) -> bool:
    """Return whether a string may be a unit: letters, a currency's sign or a few others."""
    return all(c.isalpha() or c in "%‰°+" or category(c) == "Sc" for c in text)  # Sc: currencies
