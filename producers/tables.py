"""Any CSV, Parquet or NPZ file as a stream, once or looped, at a rate or at its recorded pace."""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from numpy.typing import NDArray

from producers.streams import BLOCK, Block, Stream
from streaming_nn.records.labels import integral_to_int

MAX_CLASSES = 1000  # a label with more values is not a class


class Names(NamedTuple):
    """Names of a file and its columns, for errors."""

    file: str
    features: Sequence[str]
    label: str


Batches = Callable[[Sequence[str]], Iterator[pa.RecordBatch]]  # the file's named columns, from its beginning


def csv(path: Path, **options: Any) -> Stream:
    """Stream a CSV file with a header; its columns must be numbers, the label may be a string."""

    def batches(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        convert = pa_csv.ConvertOptions(include_columns=list(names))
        with _reading(path, "CSV"):
            yield from pa_csv.open_csv(path, convert_options=convert)

    with _reading(path, "CSV"), pa_csv.open_csv(path) as reader:
        schema = reader.schema
    _check_header(path, schema)
    return _stream(path.name, schema, batches, **options)


def parquet(path: Path, **options: Any) -> Stream:
    """Stream a Parquet file, a row group at a time."""

    def batches(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with _reading(path, "Parquet"), pa_parquet.ParquetFile(path) as file:
            yield from file.iter_batches(1 << 14, columns=list(names))

    with _reading(path, "Parquet"):
        schema, rows = pa_parquet.read_schema(path), pa_parquet.read_metadata(path).num_rows
    if rows == 0:
        raise ValueError(f"{path.name} has no rows")
    return _stream(path.name, schema, batches, **options)


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Raise ValueError for an error of Arrow, in one printable line that names the file."""
    try:
        yield
    except pa.ArrowException as error:
        line = "".join(c if c.isprintable() else "?" for c in str(error).splitlines()[0])
        raise ValueError(f"cannot read {path.name} as {what}: {line}") from None


def _check_header(path: Path, schema: pa.Schema) -> None:
    try:
        names = schema.names
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} must be UTF-8; cannot decode its header: {error}") from None
    if all(pa.types.is_null(kind) for kind in schema.types):
        raise ValueError(f"{path.name} has no rows below its header {', '.join(names)}")
    numbered = names == [str(i) for i in range(len(names))]  # a header too: columns without names
    if all(map(_is_number, names)) and not numbered:
        raise ValueError(f"{path.name} must begin with a header of column names; got {', '.join(names)}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def npz(
    path: Path,
    label: str | None = None,
    features: Sequence[str] = (),
    time: str | None = None,
    regression: bool = False,
    loop: bool = False,
) -> Stream:
    """Stream an NPZ file: an array of features (rows, inputs), named x or X, and one of labels, named y."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path.name} is not an NPZ file; write one with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x = _array(arrays, features[0] if features else "x")
            y = _array(arrays, label or "y")
            at = _array(arrays, time) if time else None
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot read {path.name} as NPZ: {error}") from None
    for name, array in ((features[0] if features else "x", x), *([(label or "y", y)] if regression else [])):
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{path.name}'s array {name!r} must contain numbers; got {array.dtype}")
    if len(x) == 0:
        raise ValueError(f"{path.name} has no rows")
    x = x.reshape(len(x), -1)
    if len(y) != len(x):
        raise ValueError(f"{path.name} must have a label for each of its {len(x)} rows; got {len(y)} labels")
    classes = None if regression else _classes(pa.array(y.tolist()), "y")
    index = y.astype(np.float64) if classes is None else _indices(pa.array(y.tolist()), classes)
    moments = None if at is None else _seconds(pa.array(at))
    first = features[0] if features else "x"
    file_names = Names(path.name, [f"{first}[{i}]" for i in range(x.shape[1])], label or "y")

    def rows() -> Iterator[Block]:
        for start in range(0, len(x), BLOCK):
            end = start + BLOCK
            part = None if moments is None else moments[start:end]
            yield from _checked(x[start:end].astype(np.float64), index[start:end], part, start, file_names)

    return Stream(x.shape[1], classes, _looped(rows, loop))


def _array(arrays: Any, name: str) -> NDArray[Any]:
    found = next((key for key in arrays.files if key.lower() == name.lower()), None)
    if found is None:
        raise ValueError(f"array must be one of {', '.join(arrays.files)}; got {name!r}")
    array: NDArray[Any] = arrays[found]
    return array


def _stream(
    file: str,
    schema: pa.Schema,
    batches: Batches,
    label: str | None = None,
    features: Sequence[str] = (),
    time: str | None = None,
    regression: bool = False,
    loop: bool = False,
) -> Stream:
    label = label or schema.names[-1]
    names = tuple(features) or tuple(name for name in schema.names if name not in (label, time))
    _check_columns(file, schema, names, label, time, regression)
    classes = None if regression else _classes(_column(batches, label), label)
    wanted = list(dict.fromkeys([*names, label, *([time] if time else [])]))
    file_names = Names(file, names, label)

    def rows() -> Iterator[Block]:
        row = 0
        for batch in batches(wanted):
            for start in range(0, batch.num_rows, BLOCK):
                part = batch.slice(start, BLOCK)
                x = np.stack([_floats(part, name, file) for name in names], axis=1)
                y = _floats(part, label, file) if classes is None else _indices(part.column(label), classes)
                at = _seconds(part.column(time)) if time else None
                yield from _checked(x, y, at, row, file_names)
                row += part.num_rows

    return Stream(len(names), classes, _looped(rows, loop), names)


def _check_columns(
    file: str, schema: pa.Schema, names: Sequence[str], label: str, time: str | None, regression: bool
) -> None:
    for name in (*names, label, *([time] if time else [])):
        if name not in schema.names:
            raise ValueError(f"column must be one of {', '.join(schema.names)}; got {name!r}")
        if schema.names.count(name) > 1:
            raise ValueError(f"{file} must have one column {name!r}; got {schema.names.count(name)}")
        if [*names, label].count(name) > 1:
            raise ValueError(f"column {name!r} must be one feature or the label; got it twice")
    if not names:
        raise ValueError(f"{file} must have a column of features; got only {', '.join(schema.names)}")
    for name in names:
        if not _numeric(kind := schema.field(name).type):
            raise ValueError(f"column {name!r} must contain numbers; got {kind}: leave it out (--features)")
    if pa.types.is_binary(kind := schema.field(label).type):  # Arrow's type for strings that are not UTF-8
        raise ValueError(f"{file} must be UTF-8; its label {label!r} is {kind}")
    if regression and not _numeric(kind := schema.field(label).type):
        raise ValueError(f"label {label!r} must contain numbers with --regression; got {kind}")
    if time and not (_numeric(kind := schema.field(time).type) or pa.types.is_timestamp(kind)):
        raise ValueError(f"time {time!r} must contain timestamps or seconds; got {kind}")


def _numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _column(batches: Batches, name: str) -> pa.ChunkedArray:
    return pa.chunked_array([batch.column(name) for batch in batches([name])])


def _classes(labels: pa.Array | pa.ChunkedArray, name: str) -> tuple[Any, ...]:
    """Return the distinct labels, sorted; numbers with a fraction are not classes."""
    found = [integral_to_int(value) for value in pc.unique(labels).to_pylist() if not _is_missing(value)]
    if any(isinstance(value, float) for value in found) or len(found) > MAX_CLASSES:
        raise ValueError(f"label {name!r} has {len(found):,} values, such as {found[0]!r}: use --regression")
    if len(found) < 2:
        raise ValueError(f"label {name!r} must have 2 or more classes; got {len(found)}")
    return tuple(sorted(found))


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or value != value  # NaN


def _indices(labels: pa.Array, classes: tuple[Any, ...]) -> NDArray[np.int32]:
    """Return the class index of each label (rows,); -1 for a missing one."""
    index = {value: i for i, value in enumerate(classes)}
    return np.array([index.get(value, -1) for value in labels.to_pylist()], np.int32)


def _floats(batch: pa.RecordBatch, name: str, file: str) -> NDArray[np.float64]:
    try:
        return np.asarray(pc.cast(batch.column(name), pa.float64()), np.float64)
    except pa.ArrowInvalid as error:  # beyond 2**53 not every integer is a float64
        raise ValueError(f"cannot convert column {name!r} of {file} to float: {error}") from None


def _checked(
    x: NDArray[np.float64], y: NDArray[Any], at: NDArray[np.float64] | None, row: int, file_names: Names
) -> Iterator[Block]:
    """Yield the rows before the first that cannot be sent, then raise its error; `row` rows come before them.

    A feature may be NaN, which is a missing value; infinity, in the file or in float32, would become one.
    """
    with np.errstate(over="ignore"):
        narrow, target = x.astype(np.float32), y if y.dtype == np.int32 else y.astype(np.float32)
    unlabeled = target < 0 if y.dtype == np.int32 else np.isnan(target)
    refused = np.isinf(narrow).any(axis=1) | np.isinf(target) | unlabeled
    end = int(np.argmax(refused)) if refused.any() else len(x)
    if end:
        yield Block(narrow[:end], target[:end], None if at is None else at[:end])
    if end < len(x):
        where = f"row {row + end + 1} of {file_names.file}"
        if unlabeled[end]:
            raise ValueError(f"{where} must have a label in {file_names.label!r}; got none")
        i = int(np.argmax(np.isinf([*narrow[end], target[end]])))
        name, value = [*file_names.features, file_names.label][i], [*x[end], y[end]][i]
        raise ValueError(f"{where} must have a finite float32 in {name!r}; got {value:g}")


def _seconds(moments: Any) -> NDArray[np.float64]:
    """Return timestamps, or numbers of seconds, as seconds."""
    if pa.types.is_timestamp(moments.type):
        return np.asarray(pc.cast(moments, pa.timestamp("us")).cast(pa.int64()), np.float64) / 1e6
    return np.asarray(pc.cast(moments, pa.float64()), np.float64)


def _looped(rows: Callable[[], Iterator[Block]], loop: bool) -> Iterator[Block]:
    """Yield the file's blocks, repeatedly if looped; recorded times begin at 0 and never decrease."""
    first, offset, last = None, 0.0, 0.0
    while True:
        empty = True
        for block in rows():
            empty = False
            if block.at is not None:
                first = float(block.at[0]) if first is None else first
                at = np.maximum.accumulate(np.maximum(block.at - first + offset, last))
                last = float(at[-1])
                block = block._replace(at=at)
            yield block
        if empty or not loop:
            return
        offset = last
