"""What a value is as a number: the one rule of all formats and faces.

docs/records.md has its table, which tests/records/test_values.py generates from `to_number`.
"""

import re
from decimal import Decimal
from functools import lru_cache
from math import nan
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from streaming_nn.records.reasons import ABSENT, NOT_A_NUMBER, NOT_FINITE, BadRecord

BLANKS = " \t\r\n"  # allowed around a number that is a string
BOOLEANS = {word: word[0] in "tT" for word in ("true", "false", "True", "False", "TRUE", "FALSE")}
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_GAPS = frozenset(("NAType", "NaTType"))  # pandas' types of a missing value; importing it takes 0.4 s
_MONGO = frozenset(("$numberInt", "$numberLong", "$numberDouble", "$numberDecimal"))


class Rules(NamedTuple):
    """What the settings decide about values."""

    missing: bool = False  # a gap is NaN, and not an error
    numbers_as_strings: bool = False  # a string may be a number, a boolean or, if it is empty, a gap
    na_values: frozenset[str] = frozenset()  # words for a gap
    decimal: str = "."  # mark of a number that is a string
    thousands: str = ""  # mark between groups of three digits


def to_number(value: Any, rules: Rules, path: str = "") -> float:
    """Return a value as a number, NaN for a gap if gaps are allowed; infinity is returned as it is.

    Booleans are 0 and 1. Raise BadRecord, with the path, for what is not a number, or beyond float64.
    """
    if type(value) is float:
        return value
    if is_gap(value, rules):
        if rules.missing:
            return nan
        raise BadRecord(NOT_A_NUMBER, path, value)
    if isinstance(value, Real | Decimal | np.bool_):
        try:
            return float(value)
        except OverflowError:
            raise BadRecord(NOT_FINITE, path, value) from None
        except ValueError:  # a signaling NaN
            return nan
    if isinstance(value, str) and rules.numbers_as_strings:
        number = _parse_string(value.strip(BLANKS), rules)
        if number is not None:
            return number
    if isinstance(value, dict) and len(value) == 1 and value.keys() <= _MONGO:
        (text,) = value.values()
        return to_number(text, Rules(rules.missing, numbers_as_strings=True), path)
    if hasattr(value, "as_py"):  # an Arrow scalar
        return to_number(value.as_py(), rules, path)
    raise BadRecord(NOT_A_NUMBER, path, value)


def is_gap(value: Any, rules: Rules) -> bool:
    """Return whether there is no value: null, absent, pandas' NA and NaT, or a word for it."""
    if isinstance(value, str):
        text = value.strip(BLANKS)
        return text in rules.na_values or (rules.numbers_as_strings and not text)
    return value is None or value is ABSENT or type(value).__name__ in _GAPS


def _parse_string(text: str, rules: Rules) -> float | None:
    if _pattern(rules.decimal, rules.thousands).fullmatch(text):
        return float(text.replace(rules.thousands, "").replace(rules.decimal, "."))
    if _NOT_FINITE.fullmatch(text):
        return float(text)
    return float(BOOLEANS[text]) if text in BOOLEANS else None


@lru_cache(16)
def _pattern(decimal: str, thousands: str) -> re.Pattern[str]:
    """Return the pattern of a number; digits are grouped by three, or not at all."""
    d, t = re.escape(decimal), re.escape(thousands)
    whole = rf"\d{{1,3}}(?:{t}\d{{3}})+|\d+" if thousands else r"\d+"
    return re.compile(rf"[+-]?(?:(?:{whole})(?:{d}\d*)?|{d}\d+)(?:[eE][+-]?\d+)?", re.ASCII)
