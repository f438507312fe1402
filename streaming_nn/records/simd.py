"""Most JSON records faster, by simdjson: it takes what the row-by-row decoder would, or leaves it to that.

simdjson reads an array of numbers into a buffer without making a Python number of each. It differs from the
decoder in a few places (the first of two equal keys wins, a byte order mark is skipped, nested arrays come
flat, it goes deeper), so a record is only taken where none of them can matter: its keys are, in order, those
of one that the decoder has accepted, and it has no second array. What is taken has the decoder's numbers.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from streaming_nn.records.schema import Schema

DEEPEST = 100  # more objects than this in a record may be nested deeper than the decoder goes

Taken = tuple[Any, Any]  # the row, a buffer of float64 (or, from the decoder, numbers), and the label's value


def installed() -> bool:
    """Whether simdjson can be had: the extra `fast`."""
    return find_spec("simdjson") is not None


def taker(schema: Schema, keys: list[str]) -> Callable[[bytes], Taken | None] | None:
    """Return what takes records with these keys apart; what it doesn't take gives None.

    `keys` are those of an accepted record. None in place of the function: nothing here is for simdjson; the
    decoder reads fields of one number each as fast.
    """
    name, inputs = schema.features, schema.inputs
    if not isinstance(name, str) or name not in keys:
        return None
    label = schema.label if schema.label in keys else None
    parse = import_module("simdjson").Parser().parse

    def take(blob: bytes) -> Taken | None:
        if blob.find(b"[") != blob.rfind(b"[") or (blob.rfind(b"{") != 0 and not _shallow(blob)):
            return None
        record = row = None  # the parser is not used again while something of a record lives
        try:
            record = parse(blob)
            if list(record) != keys:
                return None
            row = record[name]
            if len(row) != inputs:
                return None
            return row.as_buffer(of_type="d"), None if label is None else _scalar(record[label])
        except (ValueError, TypeError, RuntimeError, LookupError, AttributeError):
            return None

    return take


def _shallow(blob: bytes) -> bool:
    return blob[:1] == b"{" and blob.count(b"{") <= DEEPEST


def _scalar(value: Any) -> Any:
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise TypeError(f"a label is no {type(value).__name__}")
