"""Avro schemas: read from JSON, and refused where a record's bytes could keep the decoder from ending."""

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

SIZES = {"null": 0, "boolean": 1, "int": 1, "long": 1, "float": 4, "double": 8, "bytes": 1, "string": 1}
KEPT = "decimal"  # the one logical type that is not read as the plain type below it


def fastavro() -> Any:
    """Return the package, which comes with the extra `avro`; raises ValueError where it is not installed."""
    if find_spec("fastavro") is None:
        raise ValueError("format avro needs fastavro: pip install 'streaming_nn[avro]'")
    return import_module("fastavro")


@lru_cache(64)
def parsed(text: str, *references: str) -> Any:
    """Return fastavro's form of a record's schema; `references` are schemas of the types that it names.

    Times, dates and UUIDs are left as the numbers and texts that they are written as. Raises ValueError for
    what is no schema of a record, for one that contains itself, which no bound on a record's bytes would keep
    from exhausting the stack, and for arrays of items that may take no bytes, whose length nothing bounds.
    """
    named: dict[str, Any] = {}
    for reference in references:
        _read(reference, named)
    schema = _read(text, named)
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise ValueError(f"an Avro schema must be of a record; got {_short(text)}")
    _least(schema, named, frozenset())
    return schema


def written(features: str | tuple[str, ...], classes: tuple[Any, ...] | None, label: str | None) -> str:
    """Write a schema for rows of these fields: floats, and a label and an id that may be null."""
    names = (features,) if isinstance(features, str) else features
    for name in (*names, *([label] if label else [])):
        if not name.isidentifier() or not name.isascii():
            raise ValueError(f"a field of Avro must be called by letters, digits and _; got {name!r}")
    number: Any = {"type": "array", "items": "float"} if isinstance(features, str) else "float"
    fields = [{"name": name, "type": number} for name in names]
    if label is not None:
        fields.append({"name": label, "type": ["null", _kind(classes)], "default": None})
    fields.append({"name": "id", "type": ["null", "long"], "default": None})
    return json.dumps({"type": "record", "name": "Row", "fields": fields}, separators=(",", ":"))


def _kind(classes: tuple[Any, ...] | None) -> str:
    kinds = {bool: "boolean", int: "long", str: "string"}
    found = {"float"} if classes is None else {kinds[type(label)] for label in classes}
    if len(found) != 1:
        raise ValueError(f"labels in Avro must be of one type; got {list(classes or ())!r}")
    return found.pop()


def _read(text: str, named: dict[str, Any]) -> Any:
    try:
        return fastavro().parse_schema(_plain(json.loads(text)), named_schemas=named)
    except RecursionError:
        raise ValueError("an Avro schema is nested too deep") from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        if str(error).startswith("format avro needs"):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(f"an Avro schema can't be read ({reason}): {_short(text)}") from None
    except Exception as error:  # fastavro's own errors of a schema have no base but this
        raise ValueError(f"an Avro schema can't be read ({error}): {_short(text)}") from None


def _plain(schema: Any) -> Any:
    """Take the logical types away, as all readers may who don't know them."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    bare = {key: part if key == "default" else _plain(part) for key, part in schema.items()}
    if bare.get("logicalType") != KEPT:
        bare.pop("logicalType", None)
    return bare


def _least(schema: Any, named: Mapping[str, Any], inside: frozenset[str]) -> int:
    """Return the fewest bytes that a value of this schema takes."""
    if isinstance(schema, str):
        if schema in SIZES:
            return SIZES[schema]
        if schema in inside:
            raise ValueError(f"an Avro schema must not contain itself; got {schema!r} inside of it")
        return _least(named[schema], named, inside)
    if isinstance(schema, list):
        return 1 + min(_least(part, named, inside) for part in schema)
    kind = schema["type"]
    if kind in ("record", "error"):
        inside = inside | {schema["name"]}
        return sum(_least(field["type"], named, inside) for field in schema["fields"])
    if kind == "array":
        if not _least(schema["items"], named, inside):
            raise ValueError("an Avro schema must have no array of items that may take no bytes")
        return 1
    if kind == "map":
        _least(schema["values"], named, inside)  # for what it refuses
        return 1
    if kind == "fixed":
        return int(schema["size"])
    return 1 if kind == "enum" else _least(kind, named, inside)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
