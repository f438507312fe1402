"""Records of several rows: an array of them, or lines of text, become records of one row each.

`[]` is a record that is an array, `a.b[]` the array b of object a, `lines` a record with a row in each line.
As Spark's `explode` does, every row keeps what is around the array: the row of element e of `items[]` in
`{"id": 7, "items": [e, f]}` is `{"id": 7, "items": e}`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic_core import to_json

from streaming_nn.records import framing, json_text
from streaming_nn.records.decode import Values
from streaming_nn.records.paths import get_field
from streaming_nn.records.reasons import BadRecord
from streaming_nn.records.schema import LINES, Schema

ROW = "row"  # column of record batches: the position of a row in its record
LARGEST = 16  # times max_bytes: the most that a record's rows take, each of which repeats what is around


class Exploded(NamedTuple):
    """Records of one row each, in the order of the records that had them."""

    values: list[bytes | None]  # in the framing and encoding of the topic
    records: NDArray[np.int64]  # (values,) each one's position among the given records, ascending
    rows: NDArray[np.int32]  # (values,) its position in its record


def explode(schema: Schema, values: Values) -> Exploded:
    """Return the rows of records as records of their own.

    A record without an array at the path is one row, as a redriven one is. One that is rejected whatever its
    rows are, because it is too large, or is not JSON, stays as it is. One with an empty array becomes a
    tombstone: it is filtered. Rows that together would take more than LARGEST times `max_bytes` stay one
    record, which is rejected.
    """
    split = _splitter(schema)
    records = values.to_pylist() if isinstance(values, pa.Array) else values
    rows = [[value] if value is None else split(value) for value in records]
    counts = np.array([len(each) for each in rows], np.int64)
    positions = np.concatenate([np.arange(n, dtype=np.int32) for n in counts] or [np.empty(0, np.int32)])
    return Exploded(
        [row for each in rows for row in each], np.repeat(np.arange(len(rows)), counts), positions
    )


def explode_values(schema: Schema, values: Values) -> Values:
    """Return records, each with one row."""
    return values if schema.explode is None else explode(schema, values).values


def explode_batch(schema: Schema, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a record batch with a record for each row, and its position in a column; see `explode`."""
    if schema.explode is None:
        return batch
    values, records, rows = explode(schema, batch.column("value").to_pylist())
    repeated, field = batch.take(pa.array(records)), batch.schema.field("value")
    column = batch.schema.get_field_index("value")
    repeated = repeated.set_column(column, field, pa.array(values, field.type))
    return repeated.append_column(ROW, pa.array(rows))


def _splitter(schema: Schema) -> Callable[[bytes], list[bytes | None]]:
    unwrap = framing.unwrapper(schema.framing, schema.encoding, schema.max_bytes)
    wrap = framing.wrapper(schema.framing, schema.encoding)
    read = _lines if schema.explode == LINES else partial(_elements, schema.exploded)

    def split(blob: bytes) -> list[bytes | None]:
        if len(blob) > schema.max_bytes:
            return [blob]
        try:
            own = blob if unwrap is None else unwrap(blob)
        except BadRecord:
            return [blob]
        rows = read(own, schema.max_bytes * LARGEST)
        if rows is None:
            return [blob]
        return [wrap(blob, row) for row in rows] or [None]

    return split


def _lines(text: bytes, limit: int) -> list[bytes] | None:
    return [line for line in text.split(b"\n") if line.strip()] or None


def _elements(path: tuple[str, ...], text: bytes, limit: int) -> list[bytes] | None:
    """Return the rows of a JSON text; None: it has no array there, or its rows are too large."""
    try:
        record = json_text.parse(text)
    except ValueError:
        return None
    elements = get_field(record, path)
    if type(elements) is str:
        elements = json_text.in_string(elements)
    if type(elements) is not list:
        return None
    around = len(text) - len(to_json(elements)) if path else 0
    if len(text) + around * len(elements) > limit:
        return None
    return [to_json(_replaced(record, path, element)) for element in elements]


def _replaced(record: Any, path: tuple[str, ...], value: Any) -> Any:
    """Return a record with this value at a path, which it has."""
    if not path:
        return value
    first, *rest = path
    if type(record) is str:
        record = json_text.in_string(record)
    if type(record) is list:
        i = int(first)
        return [*record[:i], _replaced(record[i], tuple(rest), value), *record[i + 1 :]]
    if first not in record:
        record = {name: each for name, each in record.items() if name != json_text.IN_BASE64} | {
            first: json_text.data_of_event(record)
        }
    return record | {first: _replaced(record[first], tuple(rest), value)}
