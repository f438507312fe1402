"""A record's series, by the value of a field: a key of fixed length, however long the value is.

Byte for byte it is the first 16 bytes of the sha256 of the value as CSV has it, in UTF-8: 7, 7.0 and "7" are
one series.
"""

from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.records import avro, csv, json
from streaming_nn.records.field_records import label_text
from streaming_nn.records.paths import get_field, parse_path
from streaming_nn.records.reasons import MAX_BITS, NOT_A_SERIES, SERIES_MISSING, BadRecord
from streaming_nn.records.schema import Schema
from streaming_nn.records.types import Blobs, Rejection
from streaming_nn.records.values import BLANKS, from_mongo, is_gap

KEY_BYTES = 16
CACHED = 1 << 16  # keys
TYPES = (str, int, float, bool)


def read_keys(
    schema: Schema, blobs: Blobs, positions: NDArray[np.int64]
) -> tuple[list[bytes], NDArray[np.bool_], list[Rejection]]:
    """Return the keys of the records at these positions, which have one, and the rejections of others."""
    read, keys, bad = _field_reader(schema), list[bytes](), list[Rejection]()
    good = np.ones(len(positions), bool)
    for j, (i, blob) in enumerate(zip(positions.tolist(), blobs.at(positions), strict=True)):
        try:
            keys.append(_key(schema, read(blob)))
        except BadRecord as error:
            bad.append(error.at(i))
            good[j] = False
    return keys, good, bad


def _field_reader(schema: Schema) -> Callable[[bytes], Any]:
    """Return a function that returns the field of a record that was decoded."""
    assert schema.series is not None
    if schema.format == "csv":
        return csv.field_reader(schema, schema.series)
    parse = json.record_parser(schema) if schema.format == "json" else avro.record_parser(schema)
    path = parse_path(schema.series)
    return lambda blob: get_field(parse(blob), path)


def _key(schema: Schema, value: Any) -> bytes:
    value, name = from_mongo(value), schema.series or ""
    if is_gap(value, schema.rules) or (type(value) is str and not value.strip(BLANKS)):
        raise BadRecord(SERIES_MISSING, name, value)
    if type(value) not in TYPES or (type(value) is int and value.bit_length() > MAX_BITS):
        raise BadRecord(NOT_A_SERIES, name, value)
    return _hash(label_text(value))


@lru_cache(CACHED)
def _hash(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()[:KEY_BYTES]
