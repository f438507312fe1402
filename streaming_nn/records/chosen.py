"""Chosen fields of records, for their predictions."""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic_core import to_json

from streaming_nn.records import avro, json_text
from streaming_nn.records.framing import unwrapper
from streaming_nn.records.paths import get_field, parse_path
from streaming_nn.records.reasons import BadRecord
from streaming_nn.records.schema import Schema

FORMATS = ("json", "avro")  # whose records have fields with names and types


def field_reader(schema: Schema, names: Sequence[str]) -> Callable[[bytes], str]:
    """Return a function of a record's bytes to a JSON object of its fields, by their names as given.

    A field that is absent is null, as are all those of a record that cannot be read. Raise ValueError for a
    format without names.
    """
    if schema.format not in FORMATS:
        raise ValueError(f"score.fields must be empty unless records are JSON or Avro; got {schema.format!r}")
    parse: Callable[[bytes], Any] = json_text.parse if schema.format == "json" else avro.record_parser(schema)
    unwrap = unwrapper(schema.framing, schema.encoding, schema.max_bytes)
    paths = {name: parse_path(name) for name in names}

    def read(value: bytes) -> str:
        try:
            record = parse(value if unwrap is None else unwrap(value))
        except (BadRecord, ValueError):
            record = None
        fields = {name: get_field(record, path, None) for name, path in paths.items()}
        return to_json(fields, inf_nan_mode="null", bytes_mode="base64", fallback=str).decode()

    return read
