"""Most JSON records faster, by simdjson: it takes what the row-by-row decoder would, or leaves it to that.

simdjson reads an array of numbers into a buffer without making a Python number of each. It differs from the
decoder in a few places (the first of two equal keys wins, a byte order mark is skipped, nested arrays come
flat, it goes deeper), so a record is only taken where none of them can matter: its keys are, in order, those
of one that the decoder has accepted, and it has no second array. What is taken has the decoder's numbers.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from operator import itemgetter
from typing import Any

from streaming_nn.records.schema import Schema

DEEPEST = 100  # more objects than this in a record may be nested deeper than the decoder goes

Taken = tuple[Any, Any]  # the row as the bytes of its float64 or as numbers, and the label's value


def installed() -> bool:
    """Whether simdjson can be had: the extra `fast`."""
    return find_spec("simdjson") is not None


def taker(schema: Schema, keys: list[str]) -> Callable[[bytes], Taken | None] | None:
    """Return what takes records with these keys apart, or None for what it can't take.

    `keys` are those of an accepted record. None in place of the function: nothing of it is for simdjson.
    """
    parse = import_module("simdjson").Parser().parse
    label = keys.index(schema.label) if schema.label in keys else None
    if isinstance(schema.features, str):
        return _array(parse, keys, schema) if schema.features in keys else None
    if not set(schema.features) <= set(keys):
        return None
    columns = [keys.index(name) for name in schema.features]
    return _fields(parse, keys, columns, label)


def _array(parse: Callable[[bytes], Any], keys: list[str], schema: Schema) -> Callable[[bytes], Taken | None]:
    name, label, inputs = schema.features, schema.label if schema.label in keys else None, schema.inputs

    def take(blob: bytes) -> Taken | None:
        if blob[:1] != b"{" or blob.count(b"[") != 1 or blob.count(b"{") > DEEPEST:
            return None
        record = row = None  # the parser is not used again while something of a record lives
        try:
            record = parse(blob)
            if list(record) != keys:
                return None
            row = record[name]
            if len(row) != inputs:
                return None
            return bytes(row.as_buffer(of_type="d")), None if label is None else _scalar(record[label])
        except (ValueError, TypeError, RuntimeError, LookupError, AttributeError):
            return None

    return take


def _fields(
    parse: Callable[[bytes], Any], keys: list[str], columns: list[int], label: int | None
) -> Callable[[bytes], Taken | None]:
    pick = itemgetter(*columns) if len(columns) > 1 else lambda values: (values[columns[0]],)

    def take(blob: bytes) -> Taken | None:
        if blob[:1] != b"{" or b"[" in blob or blob.count(b"{") != 1:
            return None
        record = values = None
        try:
            record = parse(blob)
            if list(record) != keys:
                return None
            values = list(record.values())
            return pick(values), None if label is None else _scalar(values[label])
        except (ValueError, TypeError, RuntimeError, LookupError):
            return None

    return take


def _scalar(value: Any) -> Any:
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise TypeError(f"a label is no {type(value).__name__}")
