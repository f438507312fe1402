"""Decode records into rows, in order, and reject bad ones with a reason; encode rows as records."""

from collections.abc import Mapping, Sequence
from itertools import chain
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streaming_nn.records import avro, csv, framing, json, packed, series, weights
from streaming_nn.records.labels import Label
from streaming_nn.records.reasons import (
    FILTERED,
    LABEL_MISSING,
    LABEL_NOT_FINITE,
    NOT_A_NUMBER,
    NOT_FINITE,
    TOO_LARGE,
    TOO_MANY_CLASSES,
    BadRecord,
    show,
)
from streaming_nn.records.schema import MAX_CLASSES, Schema, merge_unseen
from streaming_nn.records.types import Blobs, DecodedRows, Inspected, Rejection
from streaming_nn.records.values import LARGEST, large_columns

Values: TypeAlias = Sequence[bytes | None] | pa.Array

FORMATS: dict[str, ModuleType] = {"json": json, "packed": packed, "csv": csv, "avro": avro}


class Decoded(NamedTuple):
    """The rows of a batch of records; each position is in one of kept, rejected, waiting and filtered."""

    x: NDArray[np.float64]  # (rows, inputs) C-contiguous, finite; NaN for a missing value, if that is allowed
    y: NDArray[Any] | None  # (rows,) int32 class index, or float64 target; see `Batch`; None: not required
    kept: NDArray[np.int64]  # (rows,) the rows' positions among the given records, ascending
    rejected: list[Rejection]  # their positions ascend
    waiting: NDArray[np.int64] = np.empty(0, np.int64)  # positions of rows whose label is unseen, ascending
    unseen: Mapping[str, tuple[Label, ...]] = MappingProxyType({})  # by field; by the label for classes
    filtered: NDArray[np.int64] = np.empty(0, np.int64)  # of tombstones and what `where` excludes, ascending
    w: NDArray[np.float32] | None = None  # (rows,) weights; None: each weighs 1, or labels are not required
    keys: Sequence[bytes] | None = None  # (rows,) of the rows' series; None: the schema names no field


def decode(schema: Schema, values: Values, labeled: bool) -> Decoded:
    """Decode records (bytes; None is a tombstone) into rows; `labeled` requires labels too.

    A tombstone is filtered, and so is a record for which the schema's `where` is not true. A record never
    raises, whatever its bytes: a bad one is rejected.

    `unseen` has the values that the schema may grow by, each field's in the order of their first appearance:
    `schema.grow_schema` adds them, and the same records, decoded again, have nothing unseen. Until then an
    unseen category is all zeros, and a row whose label is unseen is left out. Raise ValueError only if labels
    are required and the schema has none, and ConnectionError if its registry cannot be reached.
    """
    if labeled and schema.label is None:
        raise ValueError("labels are required, but the schema's label is None")
    blobs, tombstones, rejected = _unwrap(schema, values)
    positions = np.flatnonzero(~blobs.absent)
    weighted = labeled and schema.weight is not None
    columns = weights.widen(schema) if weighted else schema
    rows: DecodedRows = FORMATS[schema.format].decode_rows(columns, blobs, positions, labeled)
    decoded = _reject_not_finite(columns, rows, labeled, rejected)
    decoded = _split_weight(schema, decoded) if weighted else decoded
    decoded = decoded if schema.series is None else _add_keys(schema, blobs, decoded)
    decoded = _separate_filtered(decoded, tombstones)
    return _separate_unseen(schema, rows, decoded) if schema.grow or rows.unseen else decoded


def inspect(schema: Schema, values: Values) -> Inspected:
    """Count the widths, and the labels with their types, of the records that can be decoded.

    A width or a label is not compared with the schema's. Raise ConnectionError as `decode` does.
    """
    blobs, _, rejected = _unwrap(schema, values)
    found: Inspected = FORMATS[schema.format].inspect(schema, blobs)
    kept = [each for each in found.rejected if each.reason != FILTERED]
    excluded = len(found.rejected) - len(kept)
    return found._replace(rejected=sorted(rejected + kept), filtered=excluded)


def _unwrap(schema: Schema, values: Values) -> tuple[Blobs, NDArray[np.int64], list[Rejection]]:
    """Return the records without their framing, the positions of tombstones, and those that are rejected.

    The last two are absent among the first.
    """
    blobs = blobs_of(values)
    tombstones, sizes = np.flatnonzero(blobs.absent), blobs.ends - blobs.starts
    large = (sizes > schema.max_bytes) & ~blobs.absent
    rejected = [Rejection(int(i), TOO_LARGE, value=f"{sizes[i]} bytes") for i in np.flatnonzero(large)]
    blobs = blobs._replace(absent=blobs.absent | large)
    unwrap = framing.unwrapper(schema.framing, schema.encoding, schema.max_bytes)
    if unwrap is None:
        return blobs, tombstones, rejected
    positions = np.flatnonzero(~blobs.absent)
    own: list[bytes | None] = [None] * len(blobs.absent)
    for i, blob in zip(positions.tolist(), blobs.at(positions), strict=True):
        try:
            own[i] = unwrap(blob)
        except BadRecord as error:
            rejected.append(error.at(i))
    return blobs_of(own), tombstones, rejected


def decode_mixed(schema: Schema, values: pa.Array, read: pa.Array, labeled: bool) -> Decoded:
    """Decode records, some of them already read by Plain.java; the value of those is null.

    The rows are those of `decode` without packed ones. If there are any, the schema must not grow.
    """
    if read.null_count == len(read):
        return decode(schema, values, labeled)
    done = read.is_valid().to_numpy(zero_copy_only=False)
    rows = packed.decode_rows(schema, blobs_of(read), np.flatnonzero(done), labeled, packed.WIDE_WORD)
    from_packed = _reject_not_finite(schema, rows, labeled, [])
    if not read.null_count:
        return from_packed
    left = np.flatnonzero(~done)
    return _merge(from_packed, decode(schema, values.take(pa.array(left)), labeled), left)


def _merge(a: Decoded, b: Decoded, positions: NDArray[np.int64]) -> Decoded:
    """Merge rows in order; `positions` are those of the records of `b` among all."""
    kept = np.concatenate([a.kept, positions[b.kept]])
    order = kept.argsort()
    x = np.concatenate([a.x, b.x])[order]
    y = None if a.y is None or b.y is None else np.concatenate([a.y, b.y])[order]
    rejected = [reject._replace(position=int(positions[reject.position])) for reject in b.rejected]
    return Decoded(x, y, kept[order], rejected, filtered=positions[b.filtered])


def encode(
    schema: Schema, x: NDArray[Any], y: NDArray[Any] | None = None, ids: Sequence[object] | None = None
) -> list[bytes]:
    """Encode rows (rows, inputs) as records; y as in `Decoded`: None for unlabeled rows, class -1 for one.

    float64 is decoded to the same bits; float32 is written in the fewest digits that round to it, except in
    Avro. NaN and infinity, which JSON does not have, become null.
    `ids`, one per row, become the field "id" if the format has names. Avro records have no schema ID: see
    `avro.add_schema_id`. Raise ValueError if the shapes do not match.
    """
    if schema.encoded:
        raise ValueError("cannot encode columns of categories or dates: use encode_named")
    x = np.atleast_2d(np.asarray(x))
    if x.shape[1] != schema.inputs:
        raise ValueError(f"x must have {schema.inputs} columns; got {x.shape[1]}")
    if y is not None and len(y) != len(x):
        raise ValueError(f"y must have {len(x)} rows; got {len(y)}")
    if y is not None and schema.label is None:
        raise ValueError("y must be None, because the schema's label is None")
    values: list[bytes] = FORMATS[schema.format].encode(schema, x, y, ids)
    return values


def encode_named(
    schema: Schema,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[Any] | None = None,
    ids: Sequence[object] | None = None,
) -> list[bytes]:
    """Encode rows given by their fields' names, categories as they are.

    A field that a row does not have is not written, or is empty, which is a missing value. Raise ValueError
    for names that are not among the schema's features, and if the lengths do not match.
    """
    names = schema.features if isinstance(schema.features, tuple) else (schema.features,)
    if schema.format == "packed" or (schema.format == "csv" and isinstance(schema.features, str)):
        raise ValueError(f"records of format {schema.format!r} have no named fields")
    for name in {name for row in rows for name in row}:
        if name not in names:
            raise ValueError(
                f"fields must be among the features, {', '.join(map(repr, names))}; got {name!r}"
            )
    if labels is not None and len(labels) != len(rows):
        raise ValueError(f"labels must be {len(rows)}, one per row; got {len(labels)}")
    values: list[bytes] = FORMATS[schema.format].encode_named(schema, rows, labels, ids)
    return values


def blobs_of(values: Values) -> Blobs:
    """Return records as one buffer of bytes with starts and ends; an Arrow array is not copied."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if not isinstance(values, pa.Array):
        values = pa.array(values, type=pa.large_binary())
    if not (pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)):
        raise ValueError(f"values must be an Arrow array of binary; got {values.type}")
    kind = np.int64 if pa.types.is_large_binary(values.type) else np.int32
    _, offsets, data = values.buffers()
    if len(values) == 0 or offsets is None:
        return Blobs(b"", np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, bool))
    edges = np.frombuffer(offsets, kind)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    absent = values.is_null().to_numpy(zero_copy_only=False)
    return Blobs(memoryview(data) if data is not None else b"", edges[:-1], edges[1:], absent)


def large_features(schema: Schema, x: NDArray[np.float64]) -> list[str]:
    """Return the names of the columns that have a number which may be an identifier."""
    return [] if schema.format == "packed" else [schema.columns[i] for i in large_columns(x)]


def _reject_not_finite(
    schema: Schema, rows: DecodedRows, labeled: bool, rejected: list[Rejection]
) -> Decoded:
    """Reject the rows with a number beyond float32, or a gap that is not allowed, and sort the rejected."""
    x = np.ascontiguousarray(rows.x)
    tokens = isinstance(schema.features, str) and schema.features in schema.categories
    sizes = np.abs(x)
    bad = (
        sizes > LARGEST if schema.missing and not tokens else ~(sizes <= LARGEST)
    )  # a count is never missing
    good = ~bad.any(axis=1) if bad.any() else np.ones(len(x), bool)  # by rows it takes six times as long
    rejected = rejected + rows.rejected
    rejected += [_not_finite(schema, int(rows.kept[j]), x[j], bad[j]) for j in np.flatnonzero(~good)]
    y = rows.y if labeled else None
    if y is not None and y.dtype == np.float64:
        each = np.abs(y.reshape(len(y), len(schema.labels))) <= LARGEST
        finite = each.all(axis=1)
        rejected += [
            _label_not_finite(int(rows.kept[j]), *_first(schema.labels, y[j], ~each[j]))
            for j in np.flatnonzero(good & ~finite)
        ]
        good &= finite
    if not good.all():
        x, rows = x[good], rows._replace(kept=rows.kept[good])
        y = None if y is None else y[good]
    return Decoded(x, y, rows.kept, sorted(rejected))


def _first(names: Sequence[str], values: Any, bad: NDArray[np.bool_]) -> tuple[str, Any]:
    """Return the first bad one of a row's targets, or its single one: name and value."""
    k = int(bad.argmax())
    return names[k], np.reshape(values, -1)[k]


def _label_not_finite(position: int, name: str, value: Any) -> Rejection:
    return Rejection(position, LABEL_MISSING if np.isnan(value) else LABEL_NOT_FINITE, name, str(value))


def _not_finite(schema: Schema, position: int, row: NDArray[np.float64], bad: NDArray[np.bool_]) -> Rejection:
    column = int(bad.argmax())
    tokens = isinstance(schema.features, str) and schema.features in schema.categories
    field = str(schema.features) if tokens else schema.columns[column]
    return Rejection(position, NOT_A_NUMBER if np.isnan(row[column]) else NOT_FINITE, field, str(row[column]))


def _split_weight(schema: Schema, decoded: Decoded) -> Decoded:
    """Separate the last column, the weight; rows with a negative one, or none, are rejected."""
    x, w, bad = weights.split(schema, decoded.x, decoded.kept)
    y, kept = decoded.y, decoded.kept
    if bad:
        good = w >= 0
        x, w, y, kept = x[good], w[good], None if y is None else y[good], kept[good]
    rejected = sorted([*weights.name_field(schema, decoded.rejected), *bad])
    return decoded._replace(x=x, y=y, kept=kept, rejected=rejected, w=w)


def _add_keys(schema: Schema, blobs: Blobs, decoded: Decoded) -> Decoded:
    """Add the keys of the rows' series; rows without one are rejected."""
    keys, good, bad = series.read_keys(schema, blobs, decoded.kept)
    if not bad:
        return decoded._replace(keys=keys)
    x, y, kept, w = decoded.x[good], decoded.y, decoded.kept[good], decoded.w
    y, w = None if y is None else y[good], None if w is None else w[good]
    return decoded._replace(x=x, y=y, kept=kept, w=w, keys=keys, rejected=sorted([*decoded.rejected, *bad]))


def _separate_filtered(decoded: Decoded, tombstones: NDArray[np.int64]) -> Decoded:
    """Separate what `where` excludes from the rejected, and add the tombstones."""
    excluded = [each.position for each in decoded.rejected if each.reason == FILTERED]
    if not excluded:
        return decoded._replace(filtered=tombstones)
    rejected = [each for each in decoded.rejected if each.reason != FILTERED]
    return decoded._replace(rejected=rejected, filtered=np.sort(np.append(tombstones, excluded)))


def _separate_unseen(schema: Schema, rows: DecodedRows, decoded: Decoded) -> Decoded:
    """Separate the rows whose label is unseen, and collect the unseen values of all rows."""
    decoded, labels = _separate_waiting(schema, rows, decoded)
    unseen = _new_values(schema, rows, decoded) if rows.unseen else {}
    return decoded._replace(unseen=unseen | ({str(schema.label): labels} if labels else {}))


def _new_values(schema: Schema, rows: DecodedRows, decoded: Decoded) -> dict[str, tuple[Label, ...]]:
    """Return each vocabulary's new values in the rows that were not rejected, up to its free columns."""
    valid = {*decoded.kept.tolist(), *decoded.waiting.tolist()}
    unseen = merge_unseen({name: (value,)} for i, name, value in rows.unseen if i in valid)
    free = {
        name: schema.categories[name]["one_hot"] - len(known) for name, known in schema.vocabulary.items()
    }
    return {name: values[: free[name]] for name, values in unseen.items()}


def _separate_waiting(
    schema: Schema, rows: DecodedRows, decoded: Decoded
) -> tuple[Decoded, tuple[Label, ...]]:
    """Separate the rows whose label is unseen; those beyond the limit of classes are rejected."""
    x, y, kept, rejected, *_ = decoded
    known = len(schema.classes or ())
    if not schema.grow or y is None:
        return decoded, ()
    new = np.asarray(y[:, known:].any(axis=1) if schema.multilabel else y >= known)
    if schema.multilabel:
        unseen = {int(j): (known + np.flatnonzero(y[j, known:])).tolist() for j in np.flatnonzero(new)}
        y = y[:, :known]
    else:
        unseen = {int(j): [int(y[j])] for j in np.flatnonzero(new)}
    if not unseen:
        return decoded._replace(y=y), ()
    indices = list(dict.fromkeys(chain.from_iterable(unseen.values())))[: MAX_CLASSES - known]
    excess = {j: [index for index in each if index not in indices] for j, each in unseen.items()}
    waiting = new.copy()
    waiting[[j for j, each in excess.items() if each]] = False
    over = [
        Rejection(int(kept[j]), TOO_MANY_CLASSES, str(schema.label), show(rows.labels[each[0]]))
        for j, each in excess.items()
        if each
    ]
    rest = decoded._replace(
        x=x[~new],
        y=y[~new],
        kept=kept[~new],
        rejected=sorted(rejected + over),
        waiting=kept[waiting],
        w=None if decoded.w is None else decoded.w[~new],
    )
    return rest, tuple(rows.labels[index] for index in indices)
