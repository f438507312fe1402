"""JSON records: an object with an array of features, or a number field for each, and a label."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from streaming_nn.records import field_records, reasons, simd
from streaming_nn.records.field_records import Record
from streaming_nn.records.json_text import parse
from streaming_nn.records.paths import format_path, get_field, is_plain
from streaming_nn.records.reasons import BadRecord
from streaming_nn.records.schema import Schema
from streaming_nn.records.simd import ParsedFields
from streaming_nn.records.types import Blobs, DecodedRows, Inspected

MAX_CHANGES = 64  # of the keys that simdjson expects, in a batch, before all records are left to the decoder


def decode_rows(schema: Schema, blobs: Blobs, positions: NDArray[np.int64], labeled: bool) -> DecodedRows:
    """Decode the records at these positions."""
    return _JsonDecoder(schema, labeled, record_parser(schema)).decode_rows(blobs, positions)


class _JsonDecoder(field_records.RecordDecoder):
    """Decodes chunks; simdjson parses records with the keys of the last one that was decoded row by row."""

    def __init__(self, *options: Any):
        super().__init__(*options)
        names = self.schema.features
        fields = (names,) if isinstance(names, str) else names
        plain = not self.schema.categories and self.schema.where is None
        plain = plain and not (self.labeled and self.schema.weight) and not self.schema.rules.na_numbers
        plain = plain and not (self.schema.multilabel and isinstance(self.schema.label, str))  # an array
        plain = plain and not self.schema.exploded and all(map(is_plain, (*fields, *self.schema.labels)))
        self.changes_left = MAX_CHANGES if plain and simd.installed() else 0
        self.keys: list[str] = []

    def decode(self, blob: bytes) -> ParsedFields:
        """Decode one record, and expect others with its keys from now on, unless the keys keep changing."""
        record = self.parse(blob)
        parsed = self.extract(record)
        if self.changes_left and self.keys != (keys := list(record)):
            self.changes_left -= 1
            self.keys, self.fast_parse = (
                keys,
                simd.fast_parser(self.schema, keys) or field_records.return_none,
            )
        return parsed


def encode(
    schema: Schema, x: NDArray[Any], y: NDArray[Any] | None, ids: Sequence[object] | None
) -> list[bytes]:
    """Encode rows: float64 exactly, float32 with the fewest digits that round to the same float32."""
    if y is not None and schema.classes is None:
        y = shortest(np.asarray(y))
    return _write(field_records.rows_to_records(schema, shortest(x), y, ids))


def encode_named(
    schema: Schema,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[Any] | None,
    ids: Sequence[object] | None,
) -> list[bytes]:
    """Encode rows given by the fields' names; an absent field is not written."""
    return _write(field_records.named_rows_to_records(schema, rows, labels, ids))


def inspect(schema: Schema, blobs: Blobs) -> Inspected:
    """Count the widths, and the labels with their types, of the records that can be decoded."""
    return field_records.inspect(schema, blobs, record_parser(schema))


def record_parser(schema: Schema) -> Callable[[bytes], Record]:
    """Return a function that parses a record of one row."""
    return partial(_parse_row, schema.exploded) if schema.exploded else parse_object


def _parse_row(path: tuple[str, ...], blob: bytes) -> Record:
    """Parse a record; raise BadRecord if it still has several rows at the path, or a row that is an array."""
    record = parse_object(blob)
    value = get_field(record, path)
    if type(value) is list:
        rows = bool(value) and type(value[0]) is not list
        raise BadRecord(reasons.TOO_LARGE if rows else reasons.NOT_AN_OBJECT, format_path(path), value)
    return record


def parse_object(blob: bytes) -> Record:
    """Return the object that a record is; raise BadRecord if it is not one."""
    try:
        record = parse(blob)
    except ValueError:
        raise BadRecord(reasons.NOT_JSON) from None
    if type(record) is not dict:
        raise BadRecord(reasons.NOT_AN_OBJECT)
    return record


def _write(records: Sequence[Record]) -> list[bytes]:
    return [to_json(record, inf_nan_mode="null") for record in records]


def shortest(x: NDArray[Any]) -> NDArray[np.float64]:
    """Return float32 as float64 with the fewest of 6 to 9 decimal digits that round to it; others exactly."""
    wide = x.astype(np.float64)
    if x.dtype != np.float32:
        return wide
    size = np.where((wide == 0) | ~np.isfinite(wide), 1.0, np.abs(wide))
    magnitude = np.floor(np.log10(size)).astype(np.int64)
    short = wide.copy()
    for digits in (9, 8, 7, 6):
        scale = 10.0 ** np.clip(digits - 1 - magnitude, -22, 22)
        with np.errstate(invalid="ignore", over="ignore"):
            tried = np.round(wide * scale) / scale
            short = np.where(tried.astype(np.float32) == x, tried, short)
    return short
