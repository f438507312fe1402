"""JSON records: an object with an array of features, or with a number field for each, and a label."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json, to_json

from streaming_nn.records import field_records, simd
from streaming_nn.records import reasons as reasons
from streaming_nn.records.field_records import Record, Taken
from streaming_nn.records.reasons import BadRecord, Blobs, Rows
from streaming_nn.records.schema import Schema

PATIENCE = 64  # times in a batch that records with other keys change the keys that simdjson looks for


def rows(schema: Schema, blobs: Blobs, positions: NDArray[np.int64], labeled: bool) -> Rows:
    """Decode the records at these positions."""
    return _Reader(schema, labeled, _object).rows(blobs, positions)


class _Reader(field_records.Reader):
    """Decodes chunks; simdjson takes records while they have the keys of the last one decoded row by row."""

    def __init__(self, *options: Any):
        super().__init__(*options)
        names = self.schema.features
        fields = (names,) if isinstance(names, str) else names
        plain = not self.schema.categories
        plain = plain and not any("." in name for name in (*fields, self.schema.label or ""))
        self.left = PATIENCE if plain and simd.installed() else 0
        self.keys: list[str] = []

    def decode(self, blob: bytes) -> Taken:
        """Decode one record; look for others with its keys from now on, unless the keys keep changing."""
        record = self.parse(blob)
        taken = self.taken(record)
        if self.left and self.keys != (keys := list(record)):
            self.left -= 1
            self.keys, self.take = keys, simd.taker(self.schema, keys) or field_records.nothing
        return taken


def encode(
    schema: Schema, x: NDArray[np.float32], y: NDArray[Any] | None, ids: Sequence[object] | None
) -> list[bytes]:
    """Encode rows with the fewest digits that give the same float32 back."""
    if y is not None and schema.classes is None:
        y = shortest(np.asarray(y, np.float32))
    return _written(field_records.records(schema, shortest(x), y, ids))


def encode_named(
    schema: Schema,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[Any] | None,
    ids: Sequence[object] | None,
) -> list[bytes]:
    """Encode rows given by the fields' names; a field that a row doesn't have is not written."""
    return _written(field_records.named(schema, rows, labels, ids))


def look(schema: Schema, blobs: Blobs) -> tuple[Counter[int], Counter[tuple[type, Any]]]:
    """Count the widths, and the labels with their types, of the records that can be read."""
    return field_records.look(schema, blobs, _object)


def _object(blob: bytes) -> Record:
    try:
        record = from_json(blob)
    except ValueError:
        raise BadRecord(reasons.NOT_JSON) from None
    if type(record) is not dict:
        raise BadRecord(reasons.NOT_AN_OBJECT)
    return record


def _written(records: Sequence[Record]) -> list[bytes]:
    return [to_json(record, inf_nan_mode="null") for record in records]


def shortest(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return x in float64 with the fewest of 6 to 9 decimal digits that round to the same float32."""
    wide = x.astype(np.float64)
    size = np.where((wide == 0) | ~np.isfinite(wide), 1.0, np.abs(wide))
    magnitude = np.floor(np.log10(size)).astype(np.int64)
    short = wide.copy()
    for digits in (9, 8, 7, 6):
        scale = 10.0 ** np.clip(digits - 1 - magnitude, -22, 22)
        with np.errstate(invalid="ignore", over="ignore"):
            tried = np.round(wide * scale) / scale
            short = np.where(tried.astype(np.float32) == x, tried, short)
    return short
