"""Tables of pandas, polars and Arrow as named columns, and predictions in the form of such a table.

Any table with Arrow's C stream interface is read, such as those of polars, which need not be installed.
"""

import sys
from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

STREAM, ARRAY = "__arrow_c_stream__", "__arrow_c_array__"


def columns(X: Any) -> list[tuple[Hashable, pd.Series]]:
    """Return a table's columns with their names. TypeError: it is not a table; ValueError: one name twice."""
    if not isinstance(X, pd.DataFrame):
        table = _arrow(X)
        pairs = list(zip(table.column_names, map(pa.ChunkedArray.to_pandas, table.columns), strict=True))
    else:
        pairs = list(X.items())
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        name = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"X must have columns of different names; got {name!r} twice")
    return pairs


def rows(X: Any) -> int:
    """Return the number of a table's rows."""
    return len(X) if isinstance(X, pd.DataFrame) else _arrow(X).num_rows


def series(X: Any, name: str, y: Any) -> pd.Series:
    """Return a value for each row of a table: of pandas a Series with its index, else an array of Arrow.

    TypeError: it is not such a series; ValueError: its index is another one, or its length.
    """
    if not isinstance(y, pd.Series):
        if isinstance(X, pd.DataFrame) or not (hasattr(y, STREAM) or hasattr(y, ARRAY)):
            raise TypeError(f"{name} must be a pandas Series; got {type(y).__name__}")
        array = pa.chunked_array(y) if hasattr(y, STREAM) else pa.array(y)
        y = array.to_pandas()
    if isinstance(X, pd.DataFrame) and not y.index.equals(X.index):
        raise ValueError(
            f"{name} must have the index of X, with {len(X)} rows; got {len(y)} rows of another index"
        )
    if len(y) != rows(X):
        raise ValueError(f"{name} must have a value for each of the {rows(X)} rows of X; got {len(y)}")
    return y


def series_like(X: Any, values: pd.Series) -> Any:
    """Return predictions (rows,) in the form of X: a Series with its index, or one of polars, or Arrow's."""
    if isinstance(X, pd.DataFrame):
        return values.set_axis(X.index)
    return _native(X, pa.chunked_array([pa.Array.from_pandas(values)]), values.name)


def frame_like(X: Any, names: Sequence[Any], values: NDArray[Any]) -> Any:
    """Return a column (rows,) for each name in the form of X; other than pandas', its names are strings."""
    if isinstance(X, pd.DataFrame):
        return pd.DataFrame(values, X.index, list(names))
    return _native(X, pa.table({str(name): values[:, i] for i, name in enumerate(names)}))


def _arrow(X: Any) -> pa.Table:
    try:
        if hasattr(X, STREAM):
            return pa.table(X)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # a stream of something else, as of a single series
        pass
    raise TypeError(f"X must be a table of pandas, polars or Arrow; got {type(X).__name__}")


def _native(X: Any, result: Any, name: Any = None) -> Any:
    """Return a result of Arrow as X's library has it, if that is polars."""
    library = type(X).__module__.partition(".")[0]
    if library != "polars":
        return result
    converted = sys.modules[library].from_arrow(result)
    return converted if name is None else converted.alias(name)
