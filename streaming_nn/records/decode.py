"""Records in, rows out: what can be learned, in order, and what can't with the reason."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streaming_nn.records import avro, csv, json, packed
from streaming_nn.records.reasons import NO_VALUE, TOO_LARGE, TOO_MANY_CLASSES, Blobs, Rows
from streaming_nn.records.schema import MAX_CLASSES, Label, Schema, nameable, together, width

Values: TypeAlias = Sequence[bytes | None] | pa.Array

LOOK_CLASSES = MAX_CLASSES  # more labels than this among the records looked at are no classes
_FORMATS: dict[str, ModuleType] = {"json": json, "packed": packed, "csv": csv, "avro": avro}


class Decoded(NamedTuple):
    """The rows of a batch of records; kept, rejected and waiting together name every position once."""

    x: NDArray[np.float32]  # (rows, inputs) C-contiguous, finite; NaN where a value is missing and may be
    y: NDArray[Any] | None  # (rows,) int32 class index, or float32 target; None: not asked for
    kept: NDArray[np.int64]  # (rows,) the rows' positions among the records that came, ascending
    rejected: list[tuple[int, str]]  # position and reason, ascending; reasons are few, so they can be counted
    waiting: NDArray[np.int64] = np.empty(0, np.int64)  # positions of rows whose label is unseen, ascending
    unseen: Mapping[str, tuple[Label, ...]] = MappingProxyType({})  # by field; by the label's for classes


class Look(NamedTuple):
    """What the first records of a topic say about its schema."""

    inputs: int  # the width that most records have
    classes: tuple[Label, ...] | None  # sorted; None for regression
    records: int  # how many could be read
    remarks: tuple[str, ...]  # what differs among them, in plain sentences


def decode(schema: Schema, values: Values, labeled: bool) -> Decoded:
    """Decode records (bytes; None is a tombstone) into rows; `labeled` asks for labels too.

    Never raises for what a record holds, whatever its bytes: it ends among the rejected. What the schema may
    grow by is `unseen`, each field's values in the order of their first appearance: `schema.grown` takes them
    in, and the same records, decoded again, have nothing unseen. Until then an unseen category is all zeros,
    and a row whose label is unseen is left out. Raises ValueError only when labels are asked for and the
    schema has none, and ConnectionError where its registry is out of reach.
    """
    if labeled and schema.label is None:
        raise ValueError("labels were asked for, but the schema's label is None")
    blobs = blobs_of(values)
    sizes = blobs.ends - blobs.starts
    absent, large = blobs.absent, (sizes > schema.max_bytes) & ~blobs.absent
    positions = np.flatnonzero(~(absent | large))
    rows: Rows = _FORMATS[schema.format].rows(schema, blobs, positions, labeled)
    rejected = [(int(i), NO_VALUE) for i in np.flatnonzero(absent)]
    rejected += [(int(i), TOO_LARGE) for i in np.flatnonzero(large)]
    decoded = _finite(schema, rows, labeled, rejected)
    return _with_unseen(schema, rows, decoded) if schema.grow or rows.unseen else decoded


def decode_mixed(schema: Schema, values: pa.Array, read: pa.Array, labeled: bool) -> Decoded:
    """Decode records, some of them read and packed already; their value is null then.

    The rows are those of `decode`, if none were. Nothing of the schema may grow where any are.
    """
    if read.null_count == len(read):
        return decode(schema, values, labeled)
    done = read.is_valid().to_numpy(zero_copy_only=False)
    taken = packed.rows(schema, blobs_of(read), np.flatnonzero(done), labeled)
    ours = _finite(schema, taken, labeled, [])
    if not read.null_count:
        return ours
    left = np.flatnonzero(~done)
    return _merged(ours, decode(schema, values.take(pa.array(left)), labeled), left)


def _merged(ours: Decoded, theirs: Decoded, places: NDArray[np.int64]) -> Decoded:
    """Put rows in order; `places` are where the records of `theirs` stand among all."""
    kept = np.concatenate([ours.kept, places[theirs.kept]])
    order = kept.argsort()
    x = np.concatenate([ours.x, theirs.x])[order]
    y = None if ours.y is None or theirs.y is None else np.concatenate([ours.y, theirs.y])[order]
    rejected = [(int(places[i]), reason) for i, reason in theirs.rejected]
    return Decoded(x, y, kept[order], rejected)


def encode(
    schema: Schema, x: NDArray[Any], y: NDArray[Any] | None = None, ids: Sequence[object] | None = None
) -> list[bytes]:
    """Encode rows (rows, inputs) as records; y as in `Decoded`: None for unlabeled rows, class -1 for one.

    float32 features come back to the bit; NaN and infinity have no JSON and become null. `ids`, one a row,
    become the field "id" where the format has names. Records of a registry come without the number of their
    schema: see `avro.framed`. Raises ValueError where the shapes don't fit.
    """
    if schema.categories:
        raise ValueError("columns of categories can't be turned into a record: use encode_named")
    x = np.atleast_2d(np.asarray(x, dtype=np.float32))
    if x.shape[1] != schema.inputs:
        raise ValueError(f"x must have {schema.inputs} columns; got {x.shape[1]}")
    if y is not None and len(y) != len(x):
        raise ValueError(f"y must have {len(x)} rows; got {len(y)}")
    if y is not None and schema.label is None:
        raise ValueError("y was given, but the schema's label is None")
    values: list[bytes] = _FORMATS[schema.format].encode(schema, x, y, ids)
    return values


def encode_named(
    schema: Schema,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[Any] | None = None,
    ids: Sequence[object] | None = None,
) -> list[bytes]:
    """Encode rows that are given by their fields' names, categories as they are.

    A field that a row doesn't have is not written, or is empty, which is a missing value. Raises ValueError
    for names that are not among the schema's features, and where the lengths don't fit.
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
        raise ValueError(f"labels must be {len(rows)}, one a row; got {len(labels)}")
    values: list[bytes] = _FORMATS[schema.format].encode_named(schema, rows, labels, ids)
    return values


def look(
    values: Values,
    *,
    format: str = "json",
    features: str | Sequence[str] = "features",
    label: str | None = "label",
    regression: bool = False,
    numbers_as_strings: bool = False,
    missing: bool = False,
    categories: Mapping[str, Mapping[str, int]] | None = None,
    grow: bool = False,
    csv_columns: Sequence[str] = (),
    avro_schema: str | None = None,
    registry: str | None = None,
) -> Look:
    """Take width and classes from the first records of a topic, by majority, never from one of them.

    Classes that are to grow may be few, or none. Raises ValueError where no record can be read, or where the
    labels are no classes and `regression` isn't said; ConnectionError as `decode` does.
    """
    names = features if isinstance(features, str) else tuple(features)
    asked = Schema(
        inputs=width(names, categories or {}) or 1,
        features=names,
        label=label,
        format=format,
        numbers_as_strings=numbers_as_strings,
        missing=missing,
        categories=categories or {},
        csv_columns=tuple(csv_columns),
        avro_schema=avro_schema,
        registry=registry,
    )
    widths, labels = _FORMATS[format].look(asked, blobs_of(values))
    if not widths:
        raise ValueError(
            f"none of {len(values):,} records could be read as {format} with features {features!r}"
        )
    (inputs, _), *others = widths.most_common()
    remarks = [f"width {width} in {n:,} of {widths.total():,} records" for width, n in others]
    if regression or label is None:
        return Look(inputs, None, widths.total(), tuple(remarks))
    classes, remark = _classes(labels, label, grow)
    return Look(inputs, classes, widths.total(), tuple(remarks + remark))


def blobs_of(values: Values) -> Blobs:
    """Lay records out as one run of bytes with starts and ends; an Arrow array is not copied."""
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


def _finite(schema: Schema, rows: Rows, labeled: bool, rejected: list[tuple[int, str]]) -> Decoded:
    """Take out the rows with infinity, or NaN, all at once, and put what was rejected in order."""
    x = np.ascontiguousarray(rows.x)
    odd = np.isinf(x) if schema.missing else ~np.isfinite(x)
    good = ~odd.any(axis=1) if odd.any() else np.ones(len(x), bool)  # row by row it takes six times as long
    rejected = rejected + rows.rejected
    rejected += [(int(i), "not finite") for i in rows.kept[~good]]
    y = rows.y if labeled else None
    if y is not None and y.dtype == np.float32:
        finite = np.isfinite(y)
        rejected += [(int(i), "label not finite") for i in rows.kept[good & ~finite]]
        good &= finite
    if not good.all():
        x, rows = x[good], rows._replace(kept=rows.kept[good])
        y = None if y is None else y[good]
    return Decoded(x, y, rows.kept, sorted(rejected))


def _with_unseen(schema: Schema, rows: Rows, decoded: Decoded) -> Decoded:
    """Set apart the rows whose label is unseen, and tell what the rows that can be read have not seen."""
    decoded, labels = _waiting(schema, rows, decoded)
    found = _new_values(schema, rows, decoded) if rows.unseen else {}
    return decoded._replace(unseen=found | ({str(schema.label): labels} if labels else {}))


def _new_values(schema: Schema, rows: Rows, decoded: Decoded) -> dict[str, tuple[Label, ...]]:
    """Give each vocabulary's new values in the rows that weren't rejected, as many as there is room for."""
    read = {*decoded.kept.tolist(), *decoded.waiting.tolist()}
    found = together({name: (value,)} for i, name, value in rows.unseen if i in read)
    room = {
        name: schema.categories[name]["one_hot"] - len(known) for name, known in schema.vocabulary.items()
    }
    return {name: values[: room[name]] for name, values in found.items()}


def _waiting(schema: Schema, rows: Rows, decoded: Decoded) -> tuple[Decoded, tuple[Label, ...]]:
    """Take out the rows whose label is unseen; past the most classes there may be, they are rejected."""
    x, y, kept, rejected, *_ = decoded
    known = len(schema.classes or ())
    if not schema.grow or y is None or not (new := y >= known).any():
        return decoded, ()
    places = list(dict.fromkeys(y[new].tolist()))[: MAX_CLASSES - known]
    waiting = new & np.isin(y, places)
    over = [(int(i), TOO_MANY_CLASSES) for i in kept[new & ~waiting]]
    rest = Decoded(x[~new], y[~new], kept[~new], sorted(rejected + over), kept[waiting])
    return rest, tuple(rows.labels[place] for place in places)


def _classes(
    labels: Counter[tuple[type, Any]], label: str, grow: bool
) -> tuple[tuple[Label, ...], list[str]]:
    """Sort the labels of the kind (string, number, boolean) that most records have."""
    kinds = Counter[type]()
    for (kind, _), n in labels.items():
        kinds[kind] += n
    if grow and not kinds:
        return (), []
    if not kinds:
        raise ValueError(f"no record has a label in {label!r}; name the field, or say that there is none")
    kind = kinds.most_common(1)[0][0]
    if kind is float:
        example = next(value for kind, value in labels if kind is float)
        raise ValueError(f"{label!r} holds numbers like {example!r}: say regression, or give the classes")
    found = sorted(value for its, value in labels if its is kind)
    if grow:
        found = [value for value in found if nameable(value)][:MAX_CLASSES]
    elif not 2 <= len(found) <= LOOK_CLASSES:
        raise ValueError(
            f"{label!r} has {len(found):,} different labels among {kinds.total():,}: give the classes"
        )
    strays = [(its, n) for its, n in kinds.items() if its is not kind]
    strays = [(its, n) for its, n in strays if its is float or not grow]  # others become classes as they come
    return tuple(found), [f"label is a {k.__name__} in {n:,} records: no class" for k, n in strays]
