"""CSV, Parquet and JSON-lines files as tables: their columns, and their cells a chunk at a time."""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pa_parquet
from numpy.typing import NDArray
from pydantic_core import from_json

from producers.columns import (
    Column,
    arrow_column,
    arrow_kind,
    csv_column,
    exact,
    json_column,
    to_json_value,
    to_seconds,
)
from producers.streams import BLOCK
from streaming_nn.records.dialect import NUMBER, SAMPLE, Dialect, RowError, detect, fit, read_rows
from streaming_nn.records.recognize import recognize

_OPENERS: dict[bytes, Callable[[Path], Any]] = {  # by a file's first bytes
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, decompressed; ValueError in one line if its compression is damaged."""
    with path.open("rb") as file:
        begin = file.read(8)
    opener = next((opener for magic, opener in _OPENERS.items() if begin.startswith(magic)), None)
    try:
        with opener(path) if opener else path.open("rb") as opened:
            yield cast("IO[bytes]", opened)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ValueError(f"cannot decompress {path.name}: {error}") from None


def _sample(path: Path) -> tuple[bytes, bool]:
    """Return a file's first bytes, and whether these are all."""
    with _open(path) as file:
        data = file.read(SAMPLE + 1)
    return data[:SAMPLE], len(data) <= SAMPLE


@dataclass
class CsvTable:
    """A CSV file in its dialect; cells are strings."""

    path: Path
    dialect: Dialect
    names: Sequence[str]
    columns: dict[str, Column]

    @classmethod
    def open(cls, path: Path, given: Mapping[str, Any]) -> Self:
        """Detect what is not `given` of the dialect. ValueError: there are no rows, or no dialect fits."""
        try:
            sample = detect(*_sample(path), given)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from None
        if not sample.rows:
            raise ValueError(f"{path.name} has no rows below its header {', '.join(sample.names)}")
        dialect, names = sample.dialect, sample.names
        _check_names(path, names)
        columns = {name: csv_column(dialect, sample.column(i)) for i, name in enumerate(names)}
        return cls(path, dialect, names, columns)

    def rows(self) -> Iterator[list[str]]:
        """Yield the rows below the header; ValueError for one with another number of fields."""
        n = 0  # rows that were read
        try:
            with _open(self.path) as file:
                lines = io.TextIOWrapper(file, self.dialect.encoding, newline="")
                for row in islice(read_rows(lines, self.dialect), int(self.dialect.header), None):
                    yield fit(row, len(self.names))
                    n += 1
        except UnicodeDecodeError as error:
            what = f"{self.dialect.encoding} cannot decode what follows row {n}"
            raise ValueError(f"{self.path.name}: {what}: {error.reason}; set encoding") from None
        except RowError as error:
            raise ValueError(f"{self.path.name}: cannot read row {n + 1}: {error}") from None

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, list[str]]]:
        """Yield the fields of these columns."""
        wanted = {name: self.names.index(name) for name in names}
        rows = self.rows()
        while part := list(islice(rows, BLOCK)):
            yield {name: [row[i] for row in part] for name, i in wanted.items()}

    def values(self, cells: list[str], name: str) -> list[Any]:
        """Return fields by the kind of the column; one of another kind stays a string."""
        kind = self.columns[name].kind
        values = {cell: self.dialect.value(cell, kind) for cell in set(cells)}  # many occur again
        return [values[cell] for cell in cells]

    def floats(self, cells: list[str], name: str) -> NDArray[np.float64] | None:
        """Return fields as numbers; all at once if they are in the plain form that Arrow reads."""
        form, words = self.dialect, self.dialect.words
        if form.decimal == "." and not form.thousands and not form.na_numbers:
            present = [None if cell in words else cell for cell in cells]
            try:
                numbers = np.array(pc.cast(pa.array(present, pa.string()), pa.float64()), np.float64)
            except pa.ArrowInvalid:
                return exact(self.values(cells, name))
            if not (np.abs(numbers) >= 2.0**53).any():
                return numbers
        return exact([form.value(cell, NUMBER) for cell in cells])

    def seconds(self, cells: list[str], name: str) -> NDArray[np.float64]:
        """Return timestamps in ISO's form, or numbers of seconds, as seconds."""
        return _seconds(pa.array(cells, pa.string()), self.path, name)


@dataclass
class ParquetTable:
    """A Parquet file; cells are Arrow arrays."""

    path: Path
    columns: dict[str, Column]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the schema, and the columns' kinds from the first rows. ValueError: there are none."""
        with _reading(path):
            schema, rows = pa_parquet.read_schema(path), pa_parquet.read_metadata(path).num_rows
        if rows == 0:
            raise ValueError(f"{path.name} has no rows")
        _check_names(path, schema.names)
        first = next(_batches(path, None))
        return cls(path, {name: arrow_column(first[name]) for name in first.schema.names})

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, pa.Array]]:
        """Yield the columns a row group's part at a time."""
        for batch in _batches(self.path, names):
            for start in range(0, batch.num_rows, BLOCK):
                part = batch.slice(start, BLOCK)
                yield {name: part.column(name) for name in names}

    def values(self, cells: pa.Array, name: str) -> list[Any]:
        """Return values as JSON has them."""
        return [to_json_value(value) for value in cells.to_pylist()]

    def floats(self, cells: pa.Array, name: str) -> NDArray[np.float64] | None:
        """Return numbers; None if a value has no float64."""
        if arrow_kind(cells.type) != NUMBER and not pa.types.is_null(cells.type):
            return None
        try:
            return np.array(pc.cast(cells, pa.float64()), np.float64)
        except pa.ArrowInvalid:  # beyond 2**53 not every integer is a float64
            return None

    def seconds(self, cells: pa.Array, name: str) -> NDArray[np.float64]:
        """Return timestamps, or numbers of seconds, as seconds."""
        return _seconds(cells, self.path, name)


@dataclass
class JsonLinesTable:
    """A file with a JSON object in each line; cells are the values, None for an absent field."""

    path: Path
    columns: dict[str, Column]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Infer the columns' kinds from the first rows. ValueError: there are none."""
        data, whole = _sample(path)
        lines = data.removeprefix(codecs.BOM_UTF8).splitlines()
        rows = list(_parse(path, lines if whole or len(lines) < 2 else lines[:-1]))
        if not rows:
            raise ValueError(f"{path.name} has no rows")
        names = dict.fromkeys(name for row in rows for name in row)
        return cls(path, {name: json_column(Dialect(), [row.get(name) for row in rows]) for name in names})

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
        """Yield the values of these fields."""
        with _open(self.path) as file:
            rows = _parse(self.path, file)
            while part := list(islice(rows, BLOCK)):
                yield {name: [row.get(name) for row in part] for name in names}

    def values(self, cells: list[Any], name: str) -> list[Any]:
        """Return the values: NaN is a gap."""
        return [None if cell != cell else cell for cell in cells]

    def floats(self, cells: list[Any], name: str) -> NDArray[np.float64] | None:
        """Return numbers; None if a value is none."""
        return exact(cells)

    def seconds(self, cells: list[Any], name: str) -> NDArray[np.float64]:
        """Return timestamps in ISO's form, or numbers of seconds, as seconds."""
        return _seconds(pa.array(cells), self.path, name)


def _batches(path: Path, names: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    with _reading(path), pa_parquet.ParquetFile(path) as file:
        yield from file.iter_batches(1 << 14, columns=None if names is None else list(names))


def _parse(path: Path, lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for n, line in enumerate((line for line in lines if line.strip()), 1):
        try:
            row = from_json(line.removeprefix(codecs.BOM_UTF8))
        except ValueError as error:
            known = recognize(line)
            found = f"it looks like {known}" if known else error
            raise ValueError(f"{path.name}: row {n} must be JSON: {found}") from None
        if type(row) is not dict:
            raise ValueError(f"{path.name}: row {n} must be a JSON object; it looks like {recognize(line)}")
        yield row


def _check_names(path: Path, names: Sequence[str]) -> None:
    for name in names:
        if (n := names.count(name)) > 1:
            raise ValueError(f"{path.name} must have one column {name!r}; got {n}")


def _seconds(moments: pa.Array, path: Path, name: str) -> NDArray[np.float64]:
    try:
        return to_seconds(moments)
    except pa.ArrowException:
        raise ValueError(f"time {name!r} of {path.name} must contain timestamps or seconds") from None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise ValueError for an error of Arrow, in one printable line that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        line = "".join(c if c.isprintable() else "?" for c in str(error).splitlines()[0])
        raise ValueError(f"cannot read {path.name} as Parquet: {line}") from None
