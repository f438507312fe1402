"""Avro schemas: parsed from JSON, and rejected if a short record could keep the decoder busy forever."""

import json
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from streaming_nn.records.values import Moment

_TIMES = {"millis": "ms", "micros": "us", "nanos": "ns"}
SIZES = {"null": 0, "boolean": 1, "int": 1, "long": 1, "float": 4, "double": 8, "bytes": 1, "string": 1}
KEPT = "decimal"  # the only logical type that is not read as its underlying type
MOMENTS = {  # the units of the numbers of dates and times, by the logical types that have them
    "date": "days",
    "time-millis": "ms",
    "time-micros": "us",
    **{f"{kind}-{name}": unit for kind in ("timestamp", "local-timestamp") for name, unit in _TIMES.items()},
}
OWN = "streaming-nn-"  # and a unit: the logical type of a number that is read as a Moment
Paths = frozenset[tuple[str, ...]]


def fastavro() -> Any:
    """Return the package, of the extra `avro`; raise ValueError if it is not installed."""
    if find_spec("fastavro") is None:
        raise ValueError("format avro needs fastavro: pip install 'streaming_nn[avro]'")
    return _fastavro()


@cache
def _fastavro() -> Any:
    package = import_module("fastavro")
    for unit in set(MOMENTS.values()):
        for kind in ("int", "long"):
            package.read.LOGICAL_READERS[f"{kind}-{OWN}{unit}"] = Moment.reader(unit)
    return package


@lru_cache(64)
def parse_schema(text: str, *references: str, dates: Paths = frozenset()) -> Any:
    """Return fastavro's form of a record's schema; `references` are schemas of the types that it names.

    Times, dates and UUIDs are read as their underlying integers and strings; the integers of fields at the
    paths `dates`, which are wanted as numbers or dates, know their unit. Raise ValueError for a schema of
    anything but a record, for a recursive one, which could exhaust the stack whatever the limit of a
    record's bytes, and for arrays of items that may have zero bytes, whose length has no limit.
    """
    named: dict[str, Any] = {}
    for reference in references:
        _parse(reference, named)
    schema = _parse(text, named, dates)
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise ValueError(f"an Avro schema must be of a record; got {_shorten(text)}")
    _min_size(schema, named, frozenset())
    return schema


def write_schema(features: str | tuple[str, ...], classes: tuple[Any, ...] | None, label: str | None) -> str:
    """Return a schema for rows of these fields: floats, and a label and an ID that may be null."""
    names = (features,) if isinstance(features, str) else features
    for name in (*names, *([label] if label else [])):
        if not name.isidentifier() or not name.isascii():
            raise ValueError(f"the name of an Avro field must consist of letters, digits and _; got {name!r}")
    number: Any = {"type": "array", "items": "float"} if isinstance(features, str) else "float"
    fields = [{"name": name, "type": number} for name in names]
    if label is not None:
        fields.append({"name": label, "type": ["null", _label_type(classes)], "default": None})
    fields.append({"name": "id", "type": ["null", "long"], "default": None})
    return json.dumps({"type": "record", "name": "Row", "fields": fields}, separators=(",", ":"))


def _label_type(classes: tuple[Any, ...] | None) -> str:
    kinds = {bool: "boolean", int: "long", str: "string"}
    found = {"float"} if classes is None else {kinds[type(label)] for label in classes}
    if len(found) != 1:
        raise ValueError(f"labels in Avro must be of one type; got {list(classes or ())!r}")
    return found.pop()


def _parse(text: str, named: dict[str, Any], dates: Paths = frozenset()) -> Any:
    try:
        return fastavro().parse_schema(_strip_logical_types(json.loads(text), dates), named_schemas=named)
    except RecursionError:
        raise ValueError("an Avro schema is nested too deeply") from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        if str(error).startswith("format avro needs"):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(f"cannot read the Avro schema {_shorten(text)}: {reason}") from None
    except Exception as error:  # fastavro's errors of a schema have no other base class
        raise ValueError(f"cannot read the Avro schema {_shorten(text)}: {error}") from None


def _strip_logical_types(schema: Any, dates: Paths) -> Any:
    """Remove the logical types, as a reader may that does not know them; not of the fields at these paths."""
    if isinstance(schema, list):
        return [_strip_logical_types(part, dates) for part in schema]
    if not isinstance(schema, dict):
        return schema
    below = dates
    if "name" in schema and "type" in schema and schema["type"] not in ("record", "error"):  # a field
        below = frozenset(path[1:] for path in dates if path[:1] == (schema["name"],))
    bare = {
        key: part if key == "default" else _strip_logical_types(part, below) for key, part in schema.items()
    }
    logical = bare.pop("logicalType", None)
    if logical == KEPT:
        bare["logicalType"] = logical
    elif () in dates and logical in MOMENTS:
        bare["logicalType"] = OWN + MOMENTS[logical]
    return bare


def _min_size(schema: Any, named: Mapping[str, Any], inside: frozenset[str]) -> int:
    """Return the smallest size in bytes of a value of this schema."""
    if isinstance(schema, str):
        if schema in SIZES:
            return SIZES[schema]
        if schema in inside:
            raise ValueError(f"an Avro schema must not be recursive; got {schema!r} inside itself")
        return _min_size(named[schema], named, inside)
    if isinstance(schema, list):
        return 1 + min(_min_size(part, named, inside) for part in schema)
    kind = schema["type"]
    if kind in ("record", "error"):
        inside = inside | {schema["name"]}
        return sum(_min_size(field["type"], named, inside) for field in schema["fields"])
    if kind == "array":
        if not _min_size(schema["items"], named, inside):
            raise ValueError("an Avro schema must not have zero-byte array items")
        return 1
    if kind == "map":
        _min_size(schema["values"], named, inside)  # for its errors
        return 1
    if kind == "fixed":
        return int(schema["size"])
    return 1 if kind == "enum" else _min_size(kind, named, inside)


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
