"""A fast path for most JSON records, by simdjson; the row-by-row decoder does the others.

simdjson reads an array of numbers into a buffer without creating a Python number for each. It differs from
the decoder in a few points (the first of two equal keys wins, a byte order mark is skipped, nested arrays are
flattened, its nesting limit is higher), so it parses a record only if none of them can matter: its keys are,
in order, those of one that the decoder has accepted, and it has no second array. Its numbers are the
decoder's.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from streaming_nn.records.reasons import ABSENT
from streaming_nn.records.schema import Schema

MAX_OBJECTS = 100  # more objects in a record may be nested deeper than the decoder's limit

# the row, a buffer of float64 (or, from the decoder, numbers); the label's value, or those of several fields
ParsedFields = tuple[Any, Any]


def installed() -> bool:
    """Return whether simdjson, of the extra `fast`, is installed."""
    return find_spec("simdjson") is not None


def fast_parser(schema: Schema, keys: list[str]) -> Callable[[bytes], ParsedFields | None] | None:
    """Return a function that parses records with these keys; it returns None for one that it leaves.

    `keys` are those of an accepted record. Return None instead of the function if simdjson brings nothing:
    the decoder reads fields of one number each as fast.
    """
    name, inputs = schema.features, schema.inputs
    if not isinstance(name, str) or name not in keys:
        return None
    if isinstance(schema.label, tuple) and not {*schema.label} <= {*keys}:
        return None
    labels, several = [name for name in schema.labels if name in keys], isinstance(schema.label, tuple)
    parse = import_module("simdjson").Parser().parse

    def fast_parse(blob: bytes) -> ParsedFields | None:
        if blob.find(b"[") != blob.rfind(b"[") or (blob.rfind(b"{") != 0 and not _is_shallow(blob)):
            return None
        record = row = None  # the parser must not be used again while part of a record is referenced
        try:
            record = parse(blob)
            if list(record) != keys:
                return None
            row = record[name]
            if len(row) != inputs:
                return None
            values = [_scalar(record[label]) for label in labels]
            return row.as_buffer(of_type="d"), values if several else values[0] if values else ABSENT
        except (ValueError, TypeError, RuntimeError, LookupError, AttributeError):
            return None

    return fast_parse


def _is_shallow(blob: bytes) -> bool:
    return blob[:1] == b"{" and blob.count(b"{") <= MAX_OBJECTS


def _scalar(value: Any) -> Any:
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise TypeError(f"a label must be a scalar; got {type(value).__name__}")
