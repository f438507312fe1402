"""Avro records: one binary datum each, alone or after the ID of its schema in a registry.

Byte for byte, a record of a registry (Confluent's wire format):

    1 byte     0
    4 bytes    the schema's ID, big-endian
    the rest   the datum, in the Avro specification's binary encoding

Without a registry a record is the datum alone. The process that decodes sends the requests to the registry.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.records import avsc, field_records, reasons, registry
from streaming_nn.records.field_records import Record
from streaming_nn.records.framing import HEADER
from streaming_nn.records.paths import parse_path, split_length
from streaming_nn.records.reasons import BadRecord
from streaming_nn.records.schema import Schema
from streaming_nn.records.types import Blobs, DecodedRows, Inspected


def decode_rows(schema: Schema, blobs: Blobs, positions: NDArray[np.int64], labeled: bool) -> DecodedRows:
    """Decode the records at these positions; raise ConnectionError if the registry does not respond."""
    return field_records.RecordDecoder(schema, labeled, record_parser(schema)).decode_rows(blobs, positions)


def inspect(schema: Schema, blobs: Blobs) -> Inspected:
    """Count the widths, and the labels with their types, of the records that can be decoded."""
    return field_records.inspect(schema, blobs, record_parser(schema))


def encode(
    schema: Schema, x: NDArray[Any], y: NDArray[Any] | None, ids: Sequence[object] | None
) -> list[bytes]:
    """Encode rows as datums of the schema's `avro_schema`; raise ValueError if they do not match it."""
    return write(schema, field_records.rows_to_records(schema, x.astype(np.float64), y, ids))


def encode_named(
    schema: Schema,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[Any] | None,
    ids: Sequence[object] | None,
) -> list[bytes]:
    """Encode rows given by the fields' names; an absent field is null, or its default."""
    return write(schema, field_records.named_rows_to_records(schema, rows, labels, ids))


def add_schema_id(schema_id: int, datums: Sequence[bytes]) -> list[bytes]:
    """Return the datums after the ID of their schema in a registry."""
    return [b"\0" + schema_id.to_bytes(4, "big") + datum for datum in datums]


def write(schema: Schema, records: Sequence[Record]) -> list[bytes]:
    """Return objects as datums of the schema's `avro_schema`; raise ValueError if one does not match it."""
    if schema.avro_schema is None:
        raise ValueError("cannot encode Avro without a schema: set avro_schema")
    avro, write_datum = avsc.parse_schema(schema.avro_schema), avsc.fastavro().schemaless_writer
    out = []
    for record in records:
        datum = io.BytesIO()
        try:
            write_datum(datum, avro, record)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            raise ValueError(f"a row does not match avro_schema: {error}") from None
        out.append(datum.getvalue())
    return out


def record_parser(schema: Schema) -> Callable[[bytes], Record]:
    """Return a function that parses a record into an object, or raises BadRecord."""
    datums = _DatumReader(schema)
    return datums.read if schema.registry is None else datums.read_with_id


class _DatumReader:
    """Reads datums; a registry's schemas are cached for a batch here, and longer in `registry`."""

    def __init__(self, schema: Schema):
        numbers = [name for name in (*_names(schema), *_targets(schema)) if name not in schema.categories]
        self.dates = frozenset(parse_path(split_length(name)[0]) for name in numbers)
        text = schema.avro_schema
        self.reader = None if text is None else avsc.parse_schema(text, dates=self.dates)
        self.url = schema.registry or ""
        self.read_datum: Any = avsc.fastavro().schemaless_reader
        self.mismatch: Any = avsc.fastavro().read.SchemaResolutionError
        self.writers: dict[bytes, Any] = {}  # a schema, or why there is none, by the header of its records

    def read(self, blob: bytes) -> Record:
        return self._read(io.BytesIO(blob), len(blob), self.reader, None)

    def read_with_id(self, blob: bytes) -> Record:
        header = blob[:HEADER]
        writer = self.writers.get(header)
        if writer is None:
            writer = self.writers[header] = _writer_schema(self.url, header, self.dates)
        if type(writer) is str:
            raise BadRecord(writer)
        stream = io.BytesIO(blob)
        stream.seek(HEADER)
        return self._read(stream, len(blob), writer, self.reader)

    def _read(self, stream: io.BytesIO, size: int, writer: Any, reader: Any) -> Record:
        try:
            record: Record = self.read_datum(stream, writer, reader)
        except self.mismatch:
            raise BadRecord(reasons.INCOMPATIBLE_SCHEMA) from None
        except Exception:  # fastavro may raise anything for unexpected bytes
            raise BadRecord(reasons.NOT_AVRO) from None
        if stream.tell() != size:
            raise BadRecord(reasons.NOT_AVRO)
        return record


def _names(schema: Schema) -> tuple[str, ...]:
    return (schema.features,) if isinstance(schema.features, str) else schema.features


def _targets(schema: Schema) -> tuple[str, ...]:
    """Return the fields beside the features that are numbers."""
    return (*(schema.labels if schema.classes is None else ()), *([schema.weight] if schema.weight else []))


def _writer_schema(url: str, header: bytes, dates: avsc.Paths) -> Any:
    """Return the schema by which a record was written, or the reason why there is none."""
    if len(header) < HEADER or header[0] != 0:
        return reasons.NO_SCHEMA_ID
    try:
        found = registry.schemas(url, int.from_bytes(header[1:], "big"))
        return (
            reasons.UNKNOWN_SCHEMA
            if found is None
            else avsc.parse_schema(found[-1], *found[:-1], dates=dates)
        )
    except ValueError:
        return reasons.UNUSABLE_SCHEMA
