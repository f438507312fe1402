"""Files as streams: CSV, Parquet, JSON lines and NPZ, once or looped, at a rate or at their recorded pace.

A file whose features are all numbers is a stream of float32, like a generated one. Rows of a file that has
other columns, and rows that have a cell that is not a number where the column has numbers, a label that is
missing, or infinity, are sent with the values as they are in the file: the trainer decides.
"""

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from producers.columns import ARRAY, BYTES, NESTED, Column, Table, exact, to_json_value, to_seconds
from producers.streams import BLOCK, Block, Stream
from producers.tables import CsvTable, JsonLinesTable, ParquetTable
from streaming_nn.records.dialect import BOOLEAN, DATE, EMPTY, NUMBER, STRING, summary
from streaming_nn.records.labels import integral_to_int

MAX_CLASSES = 1000  # a label with more values is not a class
SHOWN = 8  # names of columns in the line about a file


def csv(path: Path, dialect: Mapping[str, Any] | None = None, **options: Any) -> Stream:
    """Stream a CSV file; its dialect is detected, but for what `dialect` sets."""
    table = CsvTable.open(path, dialect or {})
    return _stream(path.name, table, str(table.dialect), **options)


def parquet(path: Path, **options: Any) -> Stream:
    """Stream a Parquet file, a row group at a time."""
    return _stream(path.name, ParquetTable.open(path), "Parquet", **options)


def jsonl(path: Path, **options: Any) -> Stream:
    """Stream a file with a JSON object in each line."""
    return _stream(path.name, JsonLinesTable.open(path), "JSON lines", objects=True, **options)


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
    name, label = features[0] if features else "x", label or "y"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x, y = _array(arrays, name), _array(arrays, label)
            at = _array(arrays, time) if time else None
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot read {path.name} as NPZ: {error}") from None
    for what, array in ((name, x), *([(label, y)] if regression else [])):
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{path.name}'s array {what!r} must contain numbers; got {array.dtype}")
    if len(x) == 0:
        raise ValueError(f"{path.name} has no rows")
    if len(y) != len(x):
        raise ValueError(f"{path.name} must have a label for each of its {len(x)} rows; got {len(y)} labels")
    x = x.reshape(len(x), -1).astype(np.float64)
    labels = [to_json_value(value) for value in y.tolist()]
    classes = None if regression else _classes(iter([labels]), label)
    moments = None if at is None else to_seconds(pa.array(at))

    def rows() -> Iterator[Block]:
        for start in range(0, len(x), BLOCK):
            part = slice(start, start + BLOCK)
            when = None if moments is None else moments[part]
            narrow = _narrow(x[part], labels[part], classes)
            yield narrow._replace(at=when) if narrow else _raw(x[part].tolist(), labels[part], when)

    return Stream(x.shape[1], classes, _looped(rows, loop))


def _array(arrays: Any, name: str) -> NDArray[Any]:
    found = next((key for key in arrays.files if key.lower() == name.lower()), None)
    if found is None:
        raise ValueError(f"array must be one of {', '.join(arrays.files)}; got {name!r}")
    array: NDArray[Any] = arrays[found]
    return array


def _stream(
    file: str,
    table: Table,
    form: str,
    label: str | None = None,
    features: Sequence[str] = (),
    time: str | None = None,
    regression: bool = False,
    loop: bool = False,
    objects: bool = False,
) -> Stream:
    label = label or list(table.columns)[-1]
    names = tuple(features) or _features(table.columns, label, time)
    _check_columns(file, table.columns, names, label, time, regression)
    classes = (
        None
        if regression
        else _classes(
            (table.values(chunk[label], label) for chunk in table.chunks([label])),
            label,
            table.columns[label],
        )
    )
    kinds = {name: table.columns[name].kind for name in names}
    array = list(kinds.values()) == [ARRAY]
    numbers = array or set(kinds.values()) <= {NUMBER, EMPTY}
    wanted = list(dict.fromkeys([*names, label, *([time] if time else [])]))

    def rows() -> Iterator[Block]:
        for chunk in table.chunks(wanted):
            at = table.seconds(chunk[time], time) if time else None
            labels = table.values(chunk[label], label)
            x = _numbers(table, chunk, names, array) if numbers else None
            block = None if x is None else _narrow(x, labels, classes)
            yield block._replace(at=at) if block else _raw(_cells(table, chunk, names, array), labels, at)

    described = {name: table.columns[name] for name in names}
    left_out = tuple(name for name, column in described.items() if _is_left_out(column) and not array)
    return Stream(
        inputs=_array_width(table, names[0]) if array else len(names),
        classes=classes,
        blocks=_looped(rows, loop),
        names=None if array else names,
        label=label if objects or array else "label",
        column=label,
        features=names[0] if array else "features",
        named=not numbers or (objects and not array),
        missing=any(column.missing for column in described.values()),
        categories=tuple(n for n, c in described.items() if c.kind == STRING and not c.distinct),
        others=tuple(n for n, c in described.items() if c.kind in (STRING, DATE, NESTED)),
        datetimes=tuple((n, c.format) for n, c in described.items() if c.format),
        left_out=left_out,
        note=f"{file}: {form}; {_summary({**described, label: table.columns[label]}, left_out)}",
    )


def _array_width(table: Table, name: str) -> int:
    cells = (cell for chunk in table.chunks([name]) for cell in table.values(chunk[name], name))
    return next(len(cell) for cell in cells if cell is not None)


def _features(columns: Mapping[str, Column], label: str, time: str | None) -> tuple[str, ...]:
    """Return all columns but the label and the time; of a file with an array of numbers, only that one."""
    arrays = [name for name, column in columns.items() if column.kind == ARRAY and name != label]
    return tuple(arrays[:1]) or tuple(name for name in columns if name not in (label, time))


def _is_left_out(column: Column) -> bool:
    """Return whether a column is sent, but not among the features to learn."""
    undated = column.kind == DATE and column.format is None
    return column.kind in (NESTED, ARRAY) or column.distinct or undated


def _summary(columns: Mapping[str, Column], left_out: Sequence[str]) -> str:
    counts = summary(column.kind for column in columns.values())
    more = f" and {len(left_out) - SHOWN} more" if len(left_out) > SHOWN else ""
    names = ", ".join(left_out[:SHOWN]) + more
    return f"columns: {counts}" + (f"; sent, but not among the features to learn: {names}" if names else "")


def _check_columns(
    file: str,
    columns: Mapping[str, Column],
    names: Sequence[str],
    label: str,
    time: str | None,
    regression: bool,
) -> None:
    for name in (*names, label, *([time] if time else [])):
        if name not in columns:
            raise ValueError(f"column must be one of {', '.join(columns)}; got {name!r}")
        if [*names, label].count(name) > 1:
            raise ValueError(f"column {name!r} must be one feature or the label; got it twice")
    if not names:
        raise ValueError(f"{file} must have a column of features; got only {', '.join(columns)}")
    for name in names:
        if columns[name].kind == BYTES:
            raise ValueError(f"column {name!r} of {file} is of bytes: leave it out (--features)")
    if columns[label].kind in (ARRAY, NESTED, BYTES):
        raise ValueError(f"label {label!r} must be strings, numbers or booleans; got {columns[label].kind}")
    if regression and (kind := columns[label].kind) != NUMBER:
        raise ValueError(f"label {label!r} must contain numbers with --regression; got {kind}")
    if time and (kind := columns[time].kind) not in (NUMBER, DATE):
        raise ValueError(f"time {time!r} must contain timestamps or seconds; got {kind}")


def _classes(parts: Iterator[list[Any]], name: str, column: Column | None = None) -> tuple[Any, ...]:
    """Return the distinct labels, sorted; numbers with a fraction are not classes.

    Values of another kind than the column's first ones are none: their rows are rejected when learned.
    """
    types = {NUMBER: (int, float), BOOLEAN: (bool,)}.get(
        column.kind if column else "", (str, int, float, bool)
    )
    found = dict[Any, None]()
    for part in parts:
        found |= {integral_to_int(v): None for v in part if type(v) in types and v != ""}
        if any(type(value) is float for value in found):
            example = next(value for value in found if type(value) is float)
            raise ValueError(f"label {name!r} has numbers such as {example!r}: use --regression")
        if len(found) > MAX_CLASSES:
            raise ValueError(
                f"label {name!r} has more than {MAX_CLASSES:,} values, such as {next(iter(found))!r}: use "
                "--regression, or another --label"
            )
    if len(found) < 2:
        raise ValueError(f"label {name!r} must have 2 or more classes; got {len(found)}")
    return tuple(sorted(found, key=lambda value: (type(value) is str, value)))


def _numbers(
    table: Table, chunk: Mapping[str, Any], names: Sequence[str], array: bool
) -> NDArray[np.float64] | None:
    """Return the features (rows, inputs); None if a cell is not a number."""
    if array:
        rows = [row if type(row) is list else [row] for row in table.values(chunk[names[0]], names[0])]
        flat = exact([value for row in rows for value in row])
        return None if flat is None or len(set(map(len, rows))) > 1 else flat.reshape(len(rows), -1)
    columns = []
    for name in names:
        numbers = table.floats(chunk[name], name)
        if numbers is None:
            return None
        columns.append(numbers)
    return np.stack(columns, axis=1)


def _cells(table: Table, chunk: Mapping[str, Any], names: Sequence[str], array: bool) -> list[list[Any]]:
    """Return the rows' features as they are in the file."""
    if array:
        return list(table.values(chunk[names[0]], names[0]))
    return [list(row) for row in zip(*(table.values(chunk[name], name) for name in names), strict=True)]


def _narrow(x: NDArray[np.float64], labels: list[Any], classes: tuple[Any, ...] | None) -> Block | None:
    """Return rows as float32 with encoded labels; None if one has no label, or infinity in float32."""
    with np.errstate(over="ignore"):
        narrow = x.astype(np.float32)
        y = _targets(labels) if classes is None else _indices(labels, classes)
    if (
        y is None
        or np.isinf(narrow).any()
        or (not np.isfinite(y).all() if classes is None else (y < 0).any())
    ):
        return None
    return Block(narrow, y)


def _targets(labels: list[Any]) -> NDArray[np.float32] | None:
    if not set(map(type, labels)) <= {int, float}:
        return None
    try:
        return np.array(labels, np.float64).astype(np.float32)
    except OverflowError:
        return None


def _indices(labels: list[Any], classes: tuple[Any, ...]) -> NDArray[np.int32]:
    """Return the class index of each label (rows,); -1 for a missing or unknown one."""
    index = {value: i for i, value in enumerate(classes)}
    return np.array([index.get(value, -1) for value in labels], np.int32)


def _raw(rows: list[Any], labels: list[Any], at: NDArray[np.float64] | None) -> Block:
    return Block(np.fromiter(rows, object, len(rows)), np.fromiter(labels, object, len(rows)), at)


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
