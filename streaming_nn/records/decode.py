"""Records in, rows out: what can be learned, in order, and what can't with the reason."""

from collections import Counter
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streaming_nn.records import json, packed
from streaming_nn.records.rows import NO_VALUE, TOO_LARGE, Blobs, Rows
from streaming_nn.records.schema import Label, Schema

Values: TypeAlias = Sequence[bytes | None] | pa.Array

LOOK_CLASSES = 1000  # more labels than this among the records looked at are no classes
_FORMATS: dict[str, ModuleType] = {"json": json, "packed": packed}


class Decoded(NamedTuple):
    """The rows of a batch of records; kept and rejected together name every position once."""

    x: NDArray[np.float32]  # (rows, inputs) C-contiguous, finite
    y: NDArray[Any] | None  # (rows,) int32 class index, or float32 target; None: not asked for
    kept: NDArray[np.int64]  # (rows,) the rows' positions among the records that came, ascending
    rejected: list[tuple[int, str]]  # position and reason, ascending; reasons are few, so they can be counted


class Look(NamedTuple):
    """What the first records of a topic say about its schema."""

    inputs: int  # the width that most records have
    classes: tuple[Label, ...] | None  # sorted; None for regression
    records: int  # how many could be read
    remarks: tuple[str, ...]  # what differs among them, in plain sentences


def decode(schema: Schema, values: Values, labeled: bool) -> Decoded:
    """Decode records (bytes; None is a tombstone) into rows; `labeled` asks for labels too.

    Never raises for what a record holds, whatever its bytes: it ends among the rejected. Raises ValueError
    only when labels are asked for and the schema has none.
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
    return _finite(rows, labeled, rejected)


def encode(
    schema: Schema, x: NDArray[Any], y: NDArray[Any] | None = None, ids: Sequence[object] | None = None
) -> list[bytes]:
    """Encode rows (rows, inputs) as records; y as in `Decoded`: None for unlabeled rows, class -1 for one.

    float32 features come back to the bit; NaN and infinity have no JSON and become null. `ids`, one a row,
    become the field "id" where the format has names. Raises ValueError where the shapes don't fit.
    """
    x = np.atleast_2d(np.asarray(x, dtype=np.float32))
    if x.shape[1] != schema.inputs:
        raise ValueError(f"x must have {schema.inputs} columns; got {x.shape[1]}")
    if y is not None and len(y) != len(x):
        raise ValueError(f"y must have {len(x)} rows; got {len(y)}")
    if y is not None and schema.label is None:
        raise ValueError("y was given, but the schema's label is None")
    values: list[bytes] = _FORMATS[schema.format].encode(schema, x, y, ids)
    return values


def look(
    values: Values,
    *,
    format: str = "json",
    features: str | Sequence[str] = "features",
    label: str | None = "label",
    regression: bool = False,
    numbers_as_strings: bool = False,
) -> Look:
    """Take width and classes from the first records of a topic, by majority, never from one of them.

    Raises ValueError where no record can be read, or where the labels are no classes and `regression` isn't
    said.
    """
    names = features if isinstance(features, str) else tuple(features)
    asked = Schema(
        inputs=1 if isinstance(names, str) else len(names),
        features=names,
        label=label,
        format=format,
        numbers_as_strings=numbers_as_strings,
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
    classes, remark = _classes(labels, label)
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


def _finite(rows: Rows, labeled: bool, rejected: list[tuple[int, str]]) -> Decoded:
    """Take out the rows with NaN or infinity, all at once, and put what was rejected in order."""
    good = np.isfinite(rows.x).all(axis=1)
    rejected = rejected + rows.rejected
    rejected += [(int(i), "not finite") for i in rows.kept[~good]]
    y = rows.y if labeled else None
    if y is not None and y.dtype == np.float32:
        finite = np.isfinite(y)
        rejected += [(int(i), "label not finite") for i in rows.kept[good & ~finite]]
        good &= finite
    if not good.all():
        rows = rows._replace(x=rows.x[good], kept=rows.kept[good])
        y = None if y is None else y[good]
    return Decoded(np.ascontiguousarray(rows.x), y, rows.kept, sorted(rejected))


def _classes(labels: Counter[tuple[type, Any]], label: str) -> tuple[tuple[Label, ...], list[str]]:
    """Sort the labels of the kind (string, number, boolean) that most records have."""
    kinds = Counter[type]()
    for (kind, _), n in labels.items():
        kinds[kind] += n
    if not kinds:
        raise ValueError(f"no record has a label in {label!r}; name the field, or say that there is none")
    kind = kinds.most_common(1)[0][0]
    if kind is float:
        example = next(value for kind, value in labels if kind is float)
        raise ValueError(f"{label!r} holds numbers like {example!r}: say regression, or give the classes")
    found = sorted(value for its, value in labels if its is kind)
    if not 2 <= len(found) <= LOOK_CLASSES:
        raise ValueError(
            f"{label!r} has {len(found):,} different labels among {kinds.total():,}: give the classes"
        )
    strays = [(its, n) for its, n in kinds.items() if its is not kind]
    return tuple(found), [f"label is a {k.__name__} in {n:,} records: no class" for k, n in strays]
