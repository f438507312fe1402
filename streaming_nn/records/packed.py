"""Packed records: little-endian float32 features, after a label of four bytes if there is one.

Byte for byte, with n = inputs:

    labeled, classes      4 + 4n bytes: int32 index into the classes, then n float32
    labeled, regression   4 + 4n bytes: float32 target, then n float32
    unlabeled             4n bytes: n float32

Of m targets or labels, the first number is m of them: float32 targets, or int32 that are 1 for a label that
applies, else 0.

The length shows whether there is a label; if none is required, both lengths are accepted. A NaN is a missing
value. Growing classes are 0, 1, 2 and so on, and an index may be beyond the current ones.

Other records that Plain.java has read come in the same layout, in words of eight bytes: int64 and float64.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.records.reasons import (
    LABEL_MISSING,
    LABEL_NOT_A_BOOLEAN,
    LABEL_NOT_IN_CLASSES,
    TOO_MANY_CLASSES,
    WRONG_WIDTH,
)
from streaming_nn.records.schema import MAX_CLASSES, Schema
from streaming_nn.records.types import Blobs, DecodedRows, Inspected, Rejection

WORD, WIDE_WORD = 4, 8  # bytes


def decode_rows(
    schema: Schema, blobs: Blobs, positions: NDArray[np.int64], labeled: bool, word: int = WORD
) -> DecodedRows:
    """Decode the records at these positions."""
    sizes = (blobs.ends - blobs.starts)[positions]
    columns = schema.columns_of_y or 1
    bare, full = word * schema.inputs, word * (schema.inputs + columns)
    allowed = (sizes == full) if labeled else (sizes == full) | (sizes == bare)
    rejected = [
        Rejection(int(i), LABEL_MISSING)
        if labeled and size == bare
        else Rejection(int(i), WRONG_WIDTH, value=f"{size} bytes")
        for i, size in zip(positions[~allowed], sizes[~allowed], strict=True)
    ]
    kept, sizes = positions[allowed], sizes[allowed]
    words = _read_words(blobs, kept, sizes, full if labeled else bare, word)
    if not labeled:
        return DecodedRows(_widen(words), None, kept, rejected)
    x = _widen(words[:, columns:])
    first = np.ascontiguousarray(words[:, :columns] if schema.columns_of_y else words[:, 0])
    if schema.classes is None:
        return DecodedRows(x, _widen(first), kept, rejected)
    y = first.view(f"<i{word}").astype(np.int32)
    if schema.multilabel:
        return _multilabel(schema, DecodedRows(x, y, kept, rejected))
    limit = MAX_CLASSES if schema.grow else len(schema.classes)
    known = (y >= 0) & (y < limit)
    for i, index in zip(kept[~known].tolist(), y[~known].tolist(), strict=True):
        reason = TOO_MANY_CLASSES if schema.grow and index > 0 else LABEL_NOT_IN_CLASSES
        rejected.append(Rejection(i, reason, str(schema.label), str(index)))
    x = x[known] if not known.all() else x
    return DecodedRows(x, y[known], kept[known], rejected, range(limit))


def _widen(words: NDArray[Any]) -> NDArray[np.float64]:
    """Return numbers as float64; of a signaling NaN, a NaN like any other is made without a warning."""
    with np.errstate(invalid="ignore"):
        return words.astype(np.float64)


def encode(
    schema: Schema, x: NDArray[np.float32], y: NDArray[Any] | None, ids: Sequence[object] | None
) -> list[bytes]:
    """Encode rows; packed records have no IDs."""
    if y is None:
        return [row.tobytes() for row in x.astype("<f4")]
    kind = "<f4" if schema.classes is None else "<i4"
    columns = () if schema.columns_of_y is None else (schema.columns_of_y,)
    table = np.empty(len(x), dtype=[("y", kind, columns), ("x", "<f4", (schema.inputs,))])
    table["y"], table["x"] = y, x
    raw, size = table.tobytes(), table.itemsize
    return [raw[start : start + size] for start in range(0, len(raw), size)]


def _multilabel(schema: Schema, rows: DecodedRows) -> DecodedRows:
    """Reject the rows whose labels are neither 0 nor 1."""
    assert rows.y is not None
    good = ((rows.y == 0) | (rows.y == 1)).all(axis=1)
    rejected = rows.rejected + [
        Rejection(int(rows.kept[j]), LABEL_NOT_A_BOOLEAN, str(schema.labels[0]), str(rows.y[j].tolist()))
        for j in np.flatnonzero(~good)
    ]
    return rows._replace(x=rows.x[good], y=rows.y[good], kept=rows.kept[good], rejected=rejected)


def inspect(schema: Schema, blobs: Blobs) -> Inspected:
    """Count widths and labels; the classes are 0 to the largest index."""
    extra = 0 if schema.label is None else schema.columns_of_y or 1
    sizes = blobs.ends - blobs.starts
    whole = (sizes % 4 == 0) & (sizes // 4 > extra)
    wrong = np.flatnonzero(~whole & ~blobs.absent)
    rejected = [Rejection(int(i), WRONG_WIDTH, value=f"{sizes[i]} bytes") for i in wrong]
    widths = Counter((sizes[whole & ~blobs.absent] // 4 - extra).tolist())
    if not widths or not extra or schema.columns_of_y:
        return Inspected(widths, Counter(), rejected)
    full = 4 * widths.most_common(1)[0][0] + 4
    kept = np.flatnonzero((sizes == full) & ~blobs.absent)
    indices = [int.from_bytes(blob[:4], "little", signed=True) for blob in blobs.at(kept)]
    seen = [index for index in indices if 0 <= index < len(indices)]
    labels = Counter[tuple[type, Any]]((int, index) for index in range(max(seen, default=-1) + 1))
    return Inspected(widths, labels, rejected)


def _read_words(
    blobs: Blobs, kept: NDArray[np.int64], sizes: NDArray[np.int64], size: int, word: int
) -> NDArray[Any]:
    """Return the last `size` bytes of each record as a row of words; no copy if they are contiguous."""
    if not len(kept):
        return np.empty((0, size // word), f"<f{word}")
    starts, ends = blobs.starts[kept], blobs.ends[kept]
    data = np.frombuffer(blobs.data, np.uint8)
    if (sizes == size).all() and (starts[1:] == ends[:-1]).all():
        run = data[starts[0] : ends[-1]]
    else:
        run = data[((ends - size)[:, None] + np.arange(size)).ravel()]
    return run.view(f"<f{word}").reshape(len(kept), size // word)
