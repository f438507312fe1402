"""Dates and times as numbers: the time since an origin, and the phases of a day, a week and a year.

A phase is two columns, the sine and the cosine of its angle, so that the end of a cycle is next to its
beginning. All are of UTC; a time without an offset is one of UTC.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core.functions import cosine_of_pi
from streaming_nn.records.reasons import NOT_A_DATE, BadRecord
from streaming_nn.records.values import BLANKS, Moment, Rules, is_gap, to_number

DAY = 86_400.0  # seconds
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST, LAST = -62_135_596_800.0, 253_402_300_800.0  # seconds since 1970 of the years 1 and 10,000
ISO = "iso"
UNITS = {"days": DAY, "s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}  # seconds of a number since 1970
LINEAR = {"days": DAY, "seconds": 1.0}  # parts that are one column, and their seconds
CYCLES = ("hour", "weekday", "yearday")  # parts that are two: the phase of a day, a week, a year
DEFAULTS = {"format": ISO, "parts": ("days",), "origin": "1970-01-01"}
CACHED = 1 << 16  # strings whose times are cached
MONGO = "$date"
_DAYS = [
    days.replace("-", mark)
    for mark in "-/."
    for days in ("%Y-%m-%d", "%d-%m-%Y", "%m-%d-%Y", "%y-%m-%d", "%d-%m-%y", "%m-%d-%y")
]
_TIMES = ["%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%H:%M:%S%z", "%H:%M:%S.%f%z", "%I:%M %p", "%I:%M:%S %p"]
FORMATS = [  # in which `detect_format` looks for strings
    *(ISO, *_DAYS, *(f"{days}{gap}{time}" for days in _DAYS for gap in " T" for time in _TIMES)),
    *(*_TIMES, "%H.%M.%S"),
    *(
        f"%Y-%m-%d{gap}{time} {zone}"
        for gap in " T"
        for time in ("%H:%M:%S", "%H:%M:%S.%f")
        for zone in ("UTC", "GMT")
    ),
    *(f"%a, %d %b %Y %H:%M:%S {zone}" for zone in ("GMT", "UTC", "%z")),  # RFC 5322, HTTP
    *("%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S UTC %Y", "%a %b %d %H:%M:%S GMT %Y"),  # C's, Java's
    *("%d/%b/%Y:%H:%M:%S %z", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y"),  # web servers'
]
_MIDNIGHT = re.compile(
    r"(?:^|[T ])(24)(?=(:?00(:?00([.,]0+)?)?)?($|[Z+-]))"
)  # some versions of Python read it


def check_options(name: str, options: Any) -> dict[str, Any]:
    """Return all options of a field of dates; raise ValueError in one line."""
    if not isinstance(options, Mapping) or not options.keys() <= DEFAULTS.keys():
        raise ValueError(f"datetimes of {name!r} must have only format, parts, origin; got {options!r}")
    found = {**DEFAULTS, **options}
    parts, format = found["parts"], found["format"]
    if not isinstance(parts, list | tuple) or not parts or not set(parts) <= {*LINEAR, *CYCLES}:
        allowed = ", ".join(map(repr, (*LINEAR, *CYCLES)))
        raise ValueError(f"parts of {name!r} must be a list of {allowed}; got {parts!r}")
    if len(set(parts)) < len(parts):
        raise ValueError(f"parts of {name!r} must differ from each other; got {parts!r}")
    if format not in (ISO, *UNITS) and not (isinstance(format, str) and "%" in format):
        allowed = ", ".join(map(repr, (ISO, *UNITS)))
        raise ValueError(f"format of {name!r} must be one of {allowed}, or as in strptime; got {format!r}")
    if "%Z" in format:  # strptime takes the zones of its machine
        raise ValueError(f"format of {name!r} must have %z, or a word such as UTC, for %Z; got {format!r}")
    origin = found["origin"]
    origin = origin.isoformat() if isinstance(origin, date) else origin  # TOML has dates
    try:
        _iso(origin if isinstance(origin, str) else "")
    except ValueError:
        raise ValueError(f"origin of {name!r} must be a date such as '2020-01-01'; got {origin!r}") from None
    return {"format": format, "parts": tuple(parts), "origin": origin}


def set_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of checked options that are not the defaults."""
    return {name: value for name, value in options.items() if value != DEFAULTS[name]}


def detect_format(fields: Iterable[str]) -> str | None:
    """Return the format of strings that are dates or times; None: none fits all, or several do.

    "03/04/2005" has two, unless another string has a day after the 12th.
    """
    left = fitting_formats(fields)
    return ISO if ISO in left else left[0] if len(left) == 1 else None


def fitting_formats(fields: Iterable[str]) -> list[str]:
    """Return the formats that all strings may have."""
    left = FORMATS
    for field in dict.fromkeys(fields):
        left = [format for format in left if _fits(field, format)]
    return left


@lru_cache(CACHED)
def _fits(field: str, format: str) -> bool:
    marks = format != ISO and any(field.count(mark) != format.count(mark) for mark in "/.,")
    if marks or field.count(":") < format.count(":"):  # strptime takes 0.1 ms to find out
        return False
    try:
        to_seconds(field, format, Rules())
    except BadRecord:
        return False
    return True


def columns(name: str, options: Mapping[str, Any]) -> list[str]:
    """Return the names of a field's columns: "sold@days", "sold@hour_sin", "sold@hour_cos"."""
    return [
        column
        for part in options["parts"]
        for column in ([f"{name}@{part}"] if part in LINEAR else [f"{name}@{part}_sin", f"{name}@{part}_cos"])
    ]


def width(options: Mapping[str, Any]) -> int:
    """Return the number of a field's columns, also of options that are not yet checked."""
    return sum(1 if part in LINEAR else 2 for part in options.get("parts", DEFAULTS["parts"]))


def encode_column(
    name: str, options: Mapping[str, Any], rules: Rules, values: Sequence[Any], block: NDArray[np.float64]
) -> dict[int, BadRecord]:
    """Encode a field's values, one per row, into its block of columns; return why rows are bad."""
    seconds, bad = np.zeros(len(values)), dict[int, BadRecord]()
    for j, value in enumerate(values):
        try:
            seconds[j] = to_seconds(value, options["format"], rules, name)
        except BadRecord as error:
            bad[j] = error
    i = 0
    for part in options["parts"]:
        if part in LINEAR:
            block[:, i] = (seconds - _iso(options["origin"])) / LINEAR[part]
            i += 1
        else:
            turn = 2 * _phase(seconds, part)
            block[:, i], block[:, i + 1] = cosine_of_pi(np.abs(turn - 0.5)), cosine_of_pi(turn)
            i += 2
    return bad


def to_seconds(value: Any, format: str, rules: Rules, path: str = "") -> float:
    """Return a date or a time as seconds since 1970, NaN for a gap if gaps are allowed.

    Raise BadRecord, with the path, for anything else, and for what is before the year 1 or after 9999.
    """
    if is_gap(value, rules):
        if rules.missing:
            return np.nan
        raise BadRecord(NOT_A_DATE, path, value)
    try:
        seconds = _seconds(value, format, rules)
    except (ValueError, OverflowError):
        raise BadRecord(NOT_A_DATE, path, value) from None
    if FIRST <= seconds < LAST:
        return seconds
    raise BadRecord(NOT_A_DATE, path, value)


def _seconds(value: Any, format: str, rules: Rules) -> float:
    if isinstance(value, str) and format not in UNITS:
        return _cached(value, format)
    if isinstance(value, date | time):  # a datetime is a date too
        return _since_epoch(value)
    if isinstance(value, dict) and value.keys() == {MONGO}:
        (moment,) = value.values()
        return _cached(moment, ISO) if isinstance(moment, str) else to_number(moment, Rules()) / 1000
    unit = value.unit if isinstance(value, Moment) else format
    if unit not in UNITS or type(value) is bool:
        raise ValueError(value)
    number = (
        int(value) if isinstance(value, int) else to_number(value, rules)
    )  # an integer is divided exactly
    return number * UNITS[unit] if UNITS[unit] >= 1 else number / round(1 / UNITS[unit])


@lru_cache(CACHED)
def _cached(text: str, format: str) -> float:
    text = text.strip(BLANKS)
    if format == ISO:
        return _iso(text)
    if any(year in format for year in ("%Y", "%y", "%G", "%c", "%x", "%D")):
        return _since_epoch(datetime.strptime(text, format))
    return _since_epoch(datetime.strptime(f"1970 {text}", f"%Y {format}"))  # a time of the day


def _iso(text: str) -> float:
    """Return a date, or a date and a time, or a time of the day with colons, in ISO 8601."""
    text = text.upper()  # RFC 3339 has t and z too
    if midnight := _MIDNIGHT.search(text):
        return _iso(f"{text[: midnight.start(1)]}00{text[midnight.end(1) :]}") + DAY
    try:
        return _since_epoch(datetime.fromisoformat(text))
    except ValueError:
        if ":" not in text:  # a number of seconds, or a year
            raise
        return _since_epoch(time.fromisoformat(text))


def _since_epoch(moment: date | time) -> float:
    """Return the seconds since 1970; a time without a date is one of its first day."""
    if isinstance(moment, time):
        moment = datetime.combine(EPOCH, moment)
    elif not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH
    return since / timedelta(seconds=1)


def _phase(seconds: NDArray[np.float64], cycle: str) -> NDArray[np.float64]:
    """Return where in a cycle moments are, from 0 to 1: of a day, of a week from Monday, or of a year."""
    if cycle == "hour":
        return seconds / DAY % 1.0
    if cycle == "weekday":
        return (seconds / DAY + 3) / 7 % 1.0  # 1970 began on a Thursday
    known = np.where(np.isnan(seconds), 0.0, seconds)
    years = np.floor(known).astype("datetime64[s]").astype("datetime64[Y]")
    starts, ends = (y.astype("datetime64[s]").astype(np.float64) for y in (years, years + 1))
    phase: NDArray[np.float64] = (seconds - starts) / (ends - starts)
    return phase
