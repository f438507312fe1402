"""Columns of a file: what kind of values each has, and its cells as numbers or as they are."""

from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streaming_nn.records.datetimes import ISO, detect_format
from streaming_nn.records.dialect import BOOLEAN, DATE, EMPTY, FEW, NUMBER, STRING, Dialect

ARRAY, NESTED, BYTES = "array", "nested", "bytes"  # kinds besides those of CSV; an array is of numbers
HASHED = 32  # columns that a string's hash goes into; more strings, mostly distinct, are left out


class Column(NamedTuple):
    """What the beginning of a file shows of a column."""

    kind: str
    missing: bool = False  # it has gaps
    distinct: bool = False  # most of its strings occur once, like names
    format: str | None = None  # of its dates, as records.datetimes has it; None: none, or not a single one


class Table(Protocol):
    """A file of columns. A chunk is some consecutive rows; its cells are in the file's own form."""

    columns: dict[str, Column]  # by name, in the file's order

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the cells of these columns, a chunk at a time, from the file's beginning."""

    def values(self, cells: Any, name: str) -> list[Any]:
        """Return cells as JSON has them: numbers, booleans, strings, and None for a gap."""

    def floats(self, cells: Any, name: str) -> NDArray[np.float64] | None:
        """Return cells as numbers (rows,), NaN for a gap; None if one is none, or not a float64 exactly."""

    def seconds(self, cells: Any, name: str) -> NDArray[np.float64]:
        """Return timestamps, or numbers of seconds, as seconds; ValueError for any other cell."""


def is_distinct(values: Sequence[Any]) -> bool:
    """Return whether most strings of a column differ from each other."""
    found = Counter(value for value in values if value is not None)
    return len(found) > HASHED and 2 * len(found) > found.total()


def csv_column(dialect: Dialect, fields: list[str]) -> Column:
    """Return what a column's fields show."""
    kind = dialect.kind(fields)
    present = [None if dialect.is_missing(field) else field for field in fields]
    format = detect_format(filter(None, present)) if kind == DATE else None
    return Column(kind, None in present, kind == STRING and is_distinct(present), format)


def arrow_column(array: pa.Array) -> Column:
    """Return what a column's Arrow type and its first values show."""
    kind = arrow_kind(array.type)
    if kind == NESTED:
        return json_column(Dialect(), array.to_pylist())
    nan = pa.types.is_floating(array.type) and bool(pc.any(pc.is_nan(array)).as_py())
    distinct = kind == STRING and is_distinct(array.to_pylist())
    format = ISO if kind == DATE and not pa.types.is_duration(array.type) else None
    return Column(kind, bool(array.null_count) or nan, distinct, format)


def arrow_kind(kind: pa.DataType) -> str:
    """Return the kind of an Arrow type."""
    if pa.types.is_dictionary(kind):
        return arrow_kind(kind.value_type)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return NUMBER
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return STRING
    if pa.types.is_boolean(kind):
        return BOOLEAN
    if pa.types.is_null(kind):
        return EMPTY
    if pa.types.is_temporal(kind):
        return DATE
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return BYTES if any(is_kind(kind) for is_kind in binary) else NESTED


def json_column(dialect: Dialect, values: list[Any]) -> Column:
    """Return what a column's JSON values show."""
    present = [value for value in values if value is not None]
    types, missing = Counter(map(type, present)), len(present) < len(values)
    if not types:
        return Column(EMPTY, missing)
    if types[int] + types[float] >= (1 - FEW) * len(present):
        return Column(NUMBER, missing)
    if set(types) == {bool}:
        return Column(BOOLEAN, missing)
    if set(types) <= {str, bool, int, float}:
        if set(types) == {str} and dialect.kind(present) == DATE:
            return Column(DATE, missing, format=detect_format(present))
        return Column(STRING, missing, is_distinct(present))
    numbers = all(type(v) is list and set(map(type, v)) <= {int, float} for v in present)
    return Column(ARRAY if numbers and len(set(map(len, present))) == 1 else NESTED, missing)


def to_json_value(value: Any) -> Any:
    """Return a value of Arrow as JSON has it: NaN is a gap, a date is a string in ISO's form."""
    if value is None or value != value:
        return None
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def exact(values: Sequence[Any]) -> NDArray[np.float64] | None:
    """Return numbers and gaps as float64; None if a value is neither, or an integer that float64 has not."""
    if not set(map(type, values)) <= {int, float, type(None)}:
        return None
    try:
        numbers = np.array(values, np.float64)  # None becomes NaN
    except OverflowError:
        return None
    large = np.flatnonzero(np.abs(numbers) >= 2.0**53).tolist()
    return None if any(float(numbers[i]) != values[i] for i in large) else numbers


def to_seconds(moments: pa.Array) -> NDArray[np.float64]:
    """Return timestamps, or numbers of seconds, as seconds. Raise ValueError for other strings."""
    if pa.types.is_string(moments.type) or pa.types.is_large_string(moments.type):
        try:
            moments = pc.cast(moments, pa.float64())
        except pa.ArrowInvalid:
            moments = pc.cast(moments, pa.timestamp("us"))
    if pa.types.is_timestamp(moments.type):
        return np.asarray(pc.cast(moments, pa.timestamp("us")).cast(pa.int64()), np.float64) / 1e6
    return np.asarray(pc.cast(moments, pa.float64()), np.float64)
