"""Avro records: one binary datum each, alone or after the number of its schema in a registry.

Byte for byte, a record of a registry (Confluent's wire format):

    1 byte     0
    4 bytes    the schema's number, big-endian
    the rest   the datum, as the Avro specification's binary encoding has it

Without a registry a record is the datum alone. A registry is asked by the process that decodes.
"""

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.records import avsc, field_records, registry
from streaming_nn.records import reasons as reasons
from streaming_nn.records.field_records import Record
from streaming_nn.records.reasons import BadRecord, Blobs, Rows
from streaming_nn.records.schema import Schema

FRAME = 5  # bytes before the datum


def rows(schema: Schema, blobs: Blobs, positions: NDArray[np.int64], labeled: bool) -> Rows:
    """Decode the records at these positions; raises ConnectionError where the registry does not answer."""
    return field_records.Reader(schema, labeled, parser(schema)).rows(blobs, positions)


def look(schema: Schema, blobs: Blobs) -> tuple[Counter[int], Counter[tuple[type, Any]]]:
    """Count the widths, and the labels with their types, of the records that can be read."""
    return field_records.look(schema, blobs, parser(schema))


def encode(
    schema: Schema, x: NDArray[np.float32], y: NDArray[Any] | None, ids: Sequence[object] | None
) -> list[bytes]:
    """Encode rows as datums of the schema's `avro_schema`; raises ValueError where they don't fit it."""
    return written(schema, field_records.records(schema, x.astype(np.float64), y, ids))


def encode_named(
    schema: Schema,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[Any] | None,
    ids: Sequence[object] | None,
) -> list[bytes]:
    """Encode rows given by the fields' names; a field that a row doesn't have is null, or its default."""
    return written(schema, field_records.named(schema, rows, labels, ids))


def framed(number: int, datums: Sequence[bytes]) -> list[bytes]:
    """Put the number that a registry has given to their schema before datums."""
    return [b"\0" + number.to_bytes(4, "big") + datum for datum in datums]


def written(schema: Schema, records: Sequence[Record]) -> list[bytes]:
    """Write objects as datums of the schema's `avro_schema`; ValueError where one doesn't fit it."""
    if schema.avro_schema is None:
        raise ValueError("to encode Avro takes an avro_schema; got none")
    avro, write = avsc.parsed(schema.avro_schema), avsc.fastavro().schemaless_writer
    out = []
    for record in records:
        datum = io.BytesIO()
        try:
            write(datum, avro, record)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            raise ValueError(f"a row doesn't fit avro_schema: {error}") from None
        out.append(datum.getvalue())
    return out


def parser(schema: Schema) -> Callable[[bytes], Record]:
    """Return what makes an object of a record, or raises BadRecord."""
    datums = _Datums(schema)
    return datums.alone if schema.registry is None else datums.of_registry


class _Datums:
    """Reads datums; what a registry has said of a number is kept for a batch, and longer in `registry`."""

    def __init__(self, schema: Schema):
        self.own = None if schema.avro_schema is None else avsc.parsed(schema.avro_schema)
        self.url = schema.registry or ""
        self.read: Any = avsc.fastavro().schemaless_reader
        self.unfit: Any = avsc.fastavro().read.SchemaResolutionError
        self.writers: dict[bytes, Any] = {}  # a schema, or why there is none, by the bytes of its frame

    def alone(self, blob: bytes) -> Record:
        return self._datum(io.BytesIO(blob), len(blob), self.own, None)

    def of_registry(self, blob: bytes) -> Record:
        frame = blob[:FRAME]
        writer = self.writers.get(frame)
        if writer is None:
            writer = self.writers[frame] = _writer(self.url, frame)
        if type(writer) is str:
            raise BadRecord(writer)
        stream = io.BytesIO(blob)
        stream.seek(FRAME)
        return self._datum(stream, len(blob), writer, self.own)

    def _datum(self, stream: io.BytesIO, size: int, writer: Any, reader: Any) -> Record:
        try:
            record: Record = self.read(stream, writer, reader)
        except self.unfit:
            raise BadRecord(reasons.UNFIT_SCHEMA) from None
        except Exception:  # fastavro raises whatever its reading of strange bytes leads to
            raise BadRecord(reasons.NOT_AVRO) from None
        if stream.tell() != size:
            raise BadRecord(reasons.NOT_AVRO)
        return record


def _writer(url: str, frame: bytes) -> Any:
    """Return the schema that a record was written by, or the reason why there is none."""
    if len(frame) < FRAME or frame[0] != 0:
        return reasons.NO_FRAME
    try:
        found = registry.schemas(url, int.from_bytes(frame[1:], "big"))
        return reasons.UNKNOWN_SCHEMA if found is None else avsc.parsed(found[-1], *found[:-1])
    except ValueError:
        return reasons.UNUSABLE_SCHEMA
