"""Any CSV, Parquet or NPZ file as a stream, once or looped, at a rate or at its own recorded speed."""

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

CLASSES = 1000  # more labels than this are no classes


class Source_(NamedTuple):
    """What a file's values are called when one of them is wrong."""

    file: str
    names: Sequence[str]  # of the features
    label: str


Batches = Callable[[Sequence[str]], Iterator[pa.RecordBatch]]  # the file's named columns, from its beginning


def csv(path: Path, **options: Any) -> Stream:
    """Stream a CSV file with a header; its columns must be numbers, the label may be text."""

    def batches(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        convert = pa_csv.ConvertOptions(include_columns=list(names))
        with _read(path, "CSV"):
            yield from pa_csv.open_csv(path, convert_options=convert)

    with _read(path, "CSV"), pa_csv.open_csv(path) as reader:
        schema = reader.schema
    _check_header(path, schema)
    return _stream(path.name, schema, batches, **options)


def parquet(path: Path, **options: Any) -> Stream:
    """Stream a Parquet file, a row group at a time."""

    def batches(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with _read(path, "Parquet"), pa_parquet.ParquetFile(path) as file:
            yield from file.iter_batches(1 << 14, columns=list(names))

    with _read(path, "Parquet"):
        schema, rows = pa_parquet.read_schema(path), pa_parquet.read_metadata(path).num_rows
    if rows == 0:
        raise ValueError(f"{path.name} has no rows")
    return _stream(path.name, schema, batches, **options)


@contextmanager
def _read(path: Path, what: str) -> Iterator[None]:
    """Say in one printable line of which file Arrow is speaking."""
    try:
        yield
    except pa.ArrowException as error:
        line = "".join(c if c.isprintable() else "?" for c in str(error).splitlines()[0])
        raise ValueError(f"{path.name} can't be read as {what}: {line}") from None


def _check_header(path: Path, schema: pa.Schema) -> None:
    try:
        names = schema.names
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} must be UTF-8; its header is not: {error}") from None
    if all(pa.types.is_null(kind) for kind in schema.types):
        raise ValueError(f"{path.name} has no rows beneath {', '.join(names)}")
    numbered = names == [str(i) for i in range(len(names))]  # a header too, of a table without
    if all(map(_is_number, names)) and not numbered:
        raise ValueError(f"{path.name} must begin with the names of its columns; got {', '.join(names)}")


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
        raise ValueError(f"{path.name} is no NPZ file: numpy.savez makes one")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x = _array(arrays, features[0] if features else "x")
            y = _array(arrays, label or "y")
            at = _array(arrays, time) if time else None
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name} can't be read as NPZ: {error}") from None
    for name, array in ((features[0] if features else "x", x), *([(label or "y", y)] if regression else [])):
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{path.name}'s array {name!r} must hold numbers; got {array.dtype}")
    if len(x) == 0:
        raise ValueError(f"{path.name} has no rows")
    x = x.reshape(len(x), -1)
    if len(y) != len(x):
        raise ValueError(f"{path.name} has {len(x)} rows of features, but {len(y)} labels")
    classes = None if regression else _classes(pa.array(y.tolist()), "y")
    index = y.astype(np.float64) if classes is None else _indices(pa.array(y.tolist()), classes)
    moments = None if at is None else _seconds(pa.array(at))
    first = features[0] if features else "x"
    origin = Source_(path.name, [f"{first}[{i}]" for i in range(x.shape[1])], label or "y")

    def rows() -> Iterator[Block]:
        for start in range(0, len(x), BLOCK):
            end = start + BLOCK
            part = None if moments is None else moments[start:end]
            yield from _sound(x[start:end].astype(np.float64), index[start:end], part, start, origin)

    return Stream(x.shape[1], classes, _looped(rows, loop))


def _array(arrays: Any, name: str) -> NDArray[Any]:
    found = next((have for have in arrays.files if have.lower() == name.lower()), None)
    if found is None:
        raise ValueError(f"it has arrays {', '.join(arrays.files)}; none is {name!r}")
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
    origin = Source_(file, names, label)

    def rows() -> Iterator[Block]:
        row = 0
        for batch in batches(wanted):
            for start in range(0, batch.num_rows, BLOCK):
                part = batch.slice(start, BLOCK)
                x = np.stack([_floats(part, name, file) for name in names], axis=1)
                y = _floats(part, label, file) if classes is None else _indices(part.column(label), classes)
                at = _seconds(part.column(time)) if time else None
                yield from _sound(x, y, at, row, origin)
                row += part.num_rows

    return Stream(len(names), classes, _looped(rows, loop), names)


def _check_columns(
    file: str, schema: pa.Schema, names: Sequence[str], label: str, time: str | None, regression: bool
) -> None:
    for name in (*names, label, *([time] if time else [])):
        if name not in schema.names:
            raise ValueError(f"the columns are {', '.join(schema.names)}; none is {name!r}")
        if schema.names.count(name) > 1:
            raise ValueError(f"{file} must have one column {name!r}; got {schema.names.count(name)}")
        if [*names, label].count(name) > 1:
            raise ValueError(f"column {name!r} must be one feature or the label; got it twice")
    if not names:
        raise ValueError(f"there is no column but {', '.join(schema.names)}: a row needs features too")
    for name in names:
        if not _numeric(kind := schema.field(name).type):
            raise ValueError(f"column {name!r} holds {kind}, no numbers: name the features without it")
    if pa.types.is_binary(kind := schema.field(label).type):  # what Arrow makes of text that it can't decode
        raise ValueError(f"{file} must be UTF-8; its label {label!r} holds {kind}")
    if regression and not _numeric(kind := schema.field(label).type):
        raise ValueError(f"label {label!r} holds {kind}, no numbers: leave --regression out for classes")
    if time and not (_numeric(kind := schema.field(time).type) or pa.types.is_timestamp(kind)):
        raise ValueError(f"time {time!r} must hold timestamps or seconds; got {kind}")


def _numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _column(batches: Batches, name: str) -> pa.ChunkedArray:
    return pa.chunked_array([batch.column(name) for batch in batches([name])])


def _classes(labels: pa.Array | pa.ChunkedArray, name: str) -> tuple[Any, ...]:
    """Return the labels there are, sorted; numbers with a fraction are no classes."""
    found = [_plain(value) for value in pc.unique(labels).to_pylist() if not _is_missing(value)]
    if any(isinstance(value, float) for value in found) or len(found) > CLASSES:
        raise ValueError(f"label {name!r} has {len(found):,} values, like {found[0]!r}: say --regression")
    if len(found) < 2:
        raise ValueError(f"label {name!r} has {len(found)} class: nothing can be learned from it")
    return tuple(sorted(found))


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or value != value  # NaN


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _indices(labels: pa.Array, classes: tuple[Any, ...]) -> NDArray[np.int32]:
    """Return the class index of each label (rows,); -1 where there is none."""
    index = {value: i for i, value in enumerate(classes)}
    return np.array([index.get(value, -1) for value in labels.to_pylist()], np.int32)


def _floats(batch: pa.RecordBatch, name: str, file: str) -> NDArray[np.float64]:
    try:
        return np.asarray(pc.cast(batch.column(name), pa.float64()), np.float64)
    except pa.ArrowInvalid as error:  # beyond 2**53 whole numbers have no float of their own
        raise ValueError(f"{file}'s column {name!r} can't be told in floats: {error}") from None


def _sound(
    x: NDArray[np.float64], y: NDArray[Any], at: NDArray[np.float64] | None, row: int, origin: Source_
) -> Iterator[Block]:
    """Yield the rows, of which `row` come before; those before the first that can't be sent, then an error.

    A feature may be NaN, which is a missing one; infinity, in the file or in float32, would become one.
    """
    with np.errstate(over="ignore"):
        narrow, target = x.astype(np.float32), y if y.dtype == np.int32 else y.astype(np.float32)
    unlabeled = target < 0 if y.dtype == np.int32 else np.isnan(target)
    refused = np.isinf(narrow).any(axis=1) | np.isinf(target) | unlabeled
    end = int(np.argmax(refused)) if refused.any() else len(x)
    if end:
        yield Block(narrow[:end], target[:end], None if at is None else at[:end])
    if end < len(x):
        where = f"{origin.file}'s row {row + end + 1}"
        if unlabeled[end]:
            raise ValueError(f"{where} must have a label in {origin.label!r}; got none")
        i = int(np.argmax(np.isinf([*narrow[end], target[end]])))
        name, value = [*origin.names, origin.label][i], [*x[end], y[end]][i]
        raise ValueError(f"{where} must have a finite float32 in {name!r}; got {value:g}")


def _seconds(moments: Any) -> NDArray[np.float64]:
    """Return timestamps, or numbers that are seconds already, as seconds."""
    if pa.types.is_timestamp(moments.type):
        return np.asarray(pc.cast(moments, pa.timestamp("us")).cast(pa.int64()), np.float64) / 1e6
    return np.asarray(pc.cast(moments, pa.float64()), np.float64)


def _looped(rows: Callable[[], Iterator[Block]], loop: bool) -> Iterator[Block]:
    """Yield the file's blocks, again and again if looped; recorded times begin at 0 and never go back."""
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
