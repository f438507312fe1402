"""Text in JSON as values; also text that is inside of a value, as change data and CloudEvents have it."""

import base64
import re
from codecs import BOM_UTF8
from functools import lru_cache
from typing import Any

from pydantic_core import from_json

MAX_DIGITS = 4300  # of an integer: Python's own limit
CACHED = 4  # strings inside of records: several fields are in each; one may take 30 MB when it is parsed
DATA, IN_BASE64, TYPE = "data", "data_base64", "datacontenttype"  # of a CloudEvent in structured mode
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.?)*"?|-?(\d+)(?:\.\d+)?(?:[eE][+-]?\d+)?', re.DOTALL)  # string or number
_BEGIN = re.compile(r"\ufeff?[ \t\r\n]*[{\[]")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def parse(blob: bytes) -> Any:
    """Parse JSON; an integer beyond MAX_DIGITS is infinity. Raise ValueError if it is not JSON."""
    blob = blob.removeprefix(BOM_UTF8)
    try:
        return from_json(blob)
    except ValueError as error:
        if "number out of range" not in str(error):
            raise
    return from_json(_TOKEN.sub(_shorten, blob))


def _shorten(token: re.Match[bytes]) -> bytes:
    """Return a token as it is, but a number of too many digits as it is in float64."""
    digits = token[1]
    if digits is None or len(digits) <= MAX_DIGITS or digits.startswith(b"0"):
        return token[0]
    return repr(float(token[0])).replace("inf", "Infinity").encode()


@lru_cache(CACHED)
def in_string(text: str) -> Any:
    """Return the object or array that a string is in JSON; None: it is none. Do not change it."""
    return _object_or_array(text.encode()) if _BEGIN.match(text) else None


def data_of_event(event: dict[str, Any]) -> Any:
    """Return the data of a CloudEvent that has it in base64, if it is an object or array in JSON; else None.

    Without a content type it is JSON, by the specification.
    """
    text, kind = event.get(IN_BASE64), event.get(TYPE)
    return _in_base64(text) if type(text) is str and (kind is None or is_json_type(kind)) else None


def is_json_type(kind: Any) -> bool:
    """Return whether a content type is one of JSON."""
    name = kind.partition(";")[0].strip(" \t").lower() if type(kind) is str else ""
    return name in ("application/json", "text/json") or name.endswith("+json")


@lru_cache(CACHED)
def _in_base64(text: str) -> Any:
    return _object_or_array(base64.b64decode(text)) if _BASE64.fullmatch(text) else None


def _object_or_array(blob: bytes) -> Any:
    try:
        value = parse(blob)
    except ValueError:
        return None
    return value if type(value) in (dict, list) else None
