"""What a value is as a number: the one rule of all formats and APIs.

docs/records.md has its table, which tests/records/test_values.py generates from `to_number`.
"""

import re
from collections.abc import Callable, Iterable
from datetime import date, time
from decimal import Decimal
from functools import lru_cache
from math import nan
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.records.reasons import ABSENT, IS_A_DATE, NOT_A_NUMBER, NOT_FINITE, BadRecord
from streaming_nn.records.units import Unit, split_number

BLANKS = " \t\r\n"  # allowed around a number that is a string
BOOLEANS = {word: word[0] in "tT" for word in ("true", "false", "True", "False", "TRUE", "FALSE")}
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?", re.ASCII)  # the usual forms of ISO 8601
_GAPS = frozenset(("NAType", "NaTType"))  # pandas' types of a missing value; importing it takes 0.4 s
_NUMBERS = (Real, Decimal, np.bool_)
_BOOLEANS = (bool, np.bool_)
_NANS = (float, np.generic)  # types of which one value differs from itself
_MONGO = frozenset(("$numberInt", "$numberLong", "$numberDouble", "$numberDecimal"))


LARGEST = float(np.finfo(np.float32).max)  # gradients are float32, and must stay finite


LARGE = 2.0**53  # beyond it not every integer is a float64
LARGE_FEATURE = (  # what is logged once for each, with its name
    "feature %s has numbers of 2^53 or more, where float64 does not have every integer: if they are "
    "identifiers, leave it out or make it a category"
)


class Rules(NamedTuple):
    """What the settings decide about values."""

    missing: bool = False  # a gap is NaN, and not an error
    numbers_as_strings: bool = False  # a string may be a number, a boolean or, if it is empty, a gap
    na_values: frozenset[str] = frozenset()  # words for a gap
    decimal: str = "."  # mark of a number that is a string
    thousands: str = ""  # mark between groups of three digits
    units: tuple[Unit, ...] = ()  # what may be before or after the number, the longest first
    na_numbers: frozenset[float] = frozenset()  # those of the words that are numbers, as "-999"


class Moment(int):
    """A number of a date or a time that knows its unit, as Avro's logical types have it; else an integer."""

    unit: str  # one of `datetimes.UNITS`

    @classmethod
    def reader(cls, unit: str) -> Callable[..., "Moment"]:
        """Return a function of an integer, and of schemas, as fastavro calls it."""

        def read(number: int, *_: object) -> Moment:
            moment = cls(number)
            moment.unit = unit
            return moment

        return read


def to_number(value: Any, rules: Rules, path: str = "") -> float:
    """Return a value as a number, NaN for a gap if gaps are allowed; a float is returned as it is.

    Booleans are 0 and 1. Raise BadRecord, with the path, for what is not a number, or beyond float64. A NaN
    that is returned where gaps are not allowed is rejected by the decoder, for the same reason.
    """
    if type(value) is float and value not in rules.na_numbers:
        return value
    if is_gap(value, rules):
        if rules.missing:
            return nan
        raise BadRecord(NOT_A_NUMBER, path, value)
    if isinstance(value, str):
        number = _parse_string(value.strip(BLANKS), rules) if rules.numbers_as_strings else None
        if number is not None:
            return number
    elif type(value) is not Moment and isinstance(value, _NUMBERS):
        try:
            return float(value)
        except OverflowError:
            raise BadRecord(NOT_FINITE, path, value) from None
        except ValueError:  # a signaling NaN
            return nan
        except TypeError:  # a duration, which NumPy takes for an integer
            raise BadRecord(NOT_A_NUMBER, path, value) from None
    if isinstance(value, dict) and len(value) == 1 and value.keys() <= _MONGO:
        (text,) = value.values()
        plain = rules._replace(numbers_as_strings=True, decimal=".", thousands="", units=())
        return to_number(text, plain, path)
    if hasattr(value, "as_py"):  # an Arrow scalar
        return to_number(value.as_py(), rules, path)
    if _is_date(value):
        raise BadRecord(IS_A_DATE, path, value)
    raise BadRecord(NOT_A_NUMBER, path, value)


def from_mongo(value: Any) -> Any:
    """Return a label or a category of MongoDB's extended JSON as it is in JSON; anything else as it is."""
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((kind, content),) = value.items()
    if kind == "$oid" and isinstance(content, str):
        return content
    try:
        return to_number(value, Rules()) if kind in _MONGO else value
    except BadRecord:
        return value


def _is_date(value: Any) -> bool:
    """Return whether a value is a date, or looks like one: a reason to name the setting that reads it."""
    if isinstance(value, dict):
        return value.keys() == {"$date"}
    if isinstance(value, str):
        return bool(_DATE.fullmatch(value.strip(BLANKS)))
    return isinstance(value, date | time | np.datetime64 | Moment) or type(value).__name__ == "Period"


def is_gap(value: Any, rules: Rules) -> bool:
    """Return whether there is no value: null, absent, NaN, NaT, pandas' NA, or a word for it.

    A word that is a number, as "-999", is also this number, and any other way to write it, as "-999.0".
    """
    if isinstance(value, str):
        text = value.strip(BLANKS)
        if text in rules.na_values or (rules.numbers_as_strings and not text):
            return True
        return bool(rules.na_numbers) and _parse_number(text, rules) in rules.na_numbers
    if rules.na_numbers and _is_among(value, rules.na_numbers):
        return True
    if isinstance(value, _NANS):
        return bool(value != value)
    return value is None or value is ABSENT or type(value).__name__ in _GAPS


def _is_among(value: Any, numbers: frozenset[float]) -> bool:
    if isinstance(value, _BOOLEANS) or not isinstance(value, _NUMBERS):
        return False
    return (
        value in numbers if not isinstance(value, Decimal) else value.is_finite() and float(value) in numbers
    )


def numbers_among(words: Iterable[str], rules: Rules) -> frozenset[float]:
    """Return those of the words that are numbers, written with the rules' marks."""
    found = (_parse_number(word.strip(BLANKS), rules) for word in words)
    return frozenset(number for number in found if number is not None)


def _parse_number(text: str, rules: Rules) -> float | None:
    pattern, worth = number_pattern(rules.decimal, rules.thousands), 1.0
    if not pattern.fullmatch(text):
        text, worth = split_number(text, rules.units)
        if not pattern.fullmatch(text):
            return None
    return float(text.replace(rules.thousands, "").replace(rules.decimal, ".")) * worth


def _parse_string(text: str, rules: Rules) -> float | None:
    number = _parse_number(text, rules)
    if number is not None:
        return number
    if _NOT_FINITE.fullmatch(text):
        return float(text)
    return float(BOOLEANS[text]) if text in BOOLEANS else None


@lru_cache(64)
def number_pattern(decimal: str, thousands: str) -> re.Pattern[str]:
    """Return the pattern of a number with these marks: its digits are in groups of three, or in none.

    The first group does not begin with 0: with thousands = ",", "0,123" would be 123, which nobody means.
    """
    d, t = re.escape(decimal), re.escape(thousands)
    whole = rf"[1-9]\d{{0,2}}(?:{t}\d{{3}})+|\d+" if thousands else r"\d+"
    return re.compile(rf"[+-]?(?:(?:{whole})(?:{d}\d*)?|{d}\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def large_columns(x: NDArray[np.float64]) -> list[int]:
    """Return the columns of rows that have a number of LARGE or more, as an identifier may be."""
    if not ((x >= LARGE).any() or (x <= -LARGE).any()):
        return []
    columns: list[int] = np.flatnonzero((np.abs(x) >= LARGE).any(axis=0)).tolist()
    return columns


def bounded(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return numbers as they are; those beyond float32, which cannot be learned, become infinite."""
    large = np.abs(numbers) > LARGEST
    return np.where(large, np.copysign(np.inf, numbers), numbers) if large.any() else numbers


def label_array(labels: list[Any], classes: object, columns: int | None) -> NDArray[Any]:
    """Return encoded labels as the array that a learner takes: int32 indices, or float64 targets.

    Of several labels or targets it has so many columns, and more for new labels.
    """
    shape: tuple[int, ...] = (len(labels),)
    if columns is not None:
        width = max([columns, *map(len, labels)])
        if width > columns:
            labels = [[*row, *[0] * (width - len(row))] for row in labels]
        shape = (len(labels), width)
    if classes is not None:
        return np.array(labels, np.int32).reshape(shape)
    return np.array(labels, np.float64).reshape(shape)
