"""Files of Spark's csv source: their dialect is detected, unless it is set, and their fields become typed.

Spark takes the lines apart. What a field is by its column (a number, a boolean, a gap) is decided by
`records.dialect`, as for `producers csv`.
"""

import codecs
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from io import StringIO
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pydantic_core import to_json
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 (everybody's name for it)
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.types import StringType, StructField, StructType

from streaming_nn.records.dialect import (
    BOOLEAN,
    DATE,
    NUMBER,
    SAMPLE,
    STRING,
    Dialect,
    RowError,
    Sample,
    detect,
    fit,
    read_rows,
    summary,
)
from streaming_nn.settings import Records, Source
from streaming_nn.spark.jvm import in_one_line
from streaming_nn.spark.session import SPARK_ERRORS

logger = logging.getLogger(__name__)

CORRUPT = "_streaming_nn_corrupt"  # column: the line of a row with more or fewer fields than the columns
ROW = "_streaming_nn_row"  # the same, among the selected columns
_PATHS = {"path", "pathglobfilter", "recursivefilelookup", "modifiedbefore", "modifiedafter", "basepath"}
_OPTIONS = {  # Spark's options by the fields of a dialect; the first name wins, as in Spark
    "delimiter": ("sep", "delimiter"),
    "quote": ("quote",),
    "escape": ("escape",),
    "comment": ("comment",),
    "encoding": ("encoding", "charset"),
    "header": ("header",),
}
_OTHER_NAMES = {"delimiter": "sep"}
_OURS = {"encoding", "charset", "columnnameofcorruptrecord"}  # options that Spark gets from us in any case
_CHARSETS = {  # those that Spark 4 reads, by Python's names; other text is read as bytes, and decoded here
    "ascii": "US-ASCII",
    "utf-8": "UTF-8",
    "utf-8-sig": "UTF-8",
    "iso8859-1": "ISO-8859-1",
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16LE",
    "utf-16-be": "UTF-16BE",
}
SHOWN = 20  # names of columns of a kind that a line names
BYTES = "iso8859-1"  # decodes each byte to one character


@dataclass(frozen=True)
class CsvFiles:
    """How files are read, by the first one with a line in it."""

    dialect: Dialect
    kinds: Mapping[str, str]  # by the column's name, in order
    trailing: int  # empty fields after the last column, of delimiters at the ends of lines
    lines: bool  # False: a field may contain a line break

    @property
    def encoding(self) -> str:
        """Python's own name of the encoding."""
        return codecs.lookup(self.dialect.encoding).name

    def options(self) -> dict[str, str]:
        """Return the options of Spark's reader."""
        form = self.dialect
        options = {
            "sep": form.delimiter,
            "quote": form.quote,
            "escape": form.escape or form.quote or "\\",
            "encoding": _CHARSETS.get(self.encoding, _CHARSETS[BYTES]),
            "header": _word(form.header),
            "ignoreLeadingWhiteSpace": _word(form.delimiter != " "),
            "columnNameOfCorruptRecord": CORRUPT,
        }
        options |= {"comment": form.comment} if form.comment else {}
        return options | {"multiLine": _word(not self.lines)}

    def columns(self) -> StructType:
        """Return the columns for Spark's reader, all of strings."""
        names = [*self.kinds, *(f"_c{len(self.kinds) + i}" for i in range(self.trailing)), CORRUPT]
        return StructType([StructField(name, StringType()) for name in names])

    def load(self, reader: Any, options: Mapping[str, str]) -> DataFrame:
        """Read the files by these options and ours, which they override; blank rows are left out."""
        theirs = {name: value for name, value in options.items() if name.lower() not in _OURS}
        given = {_OTHER_NAMES.get(name.lower(), name.lower()) for name in theirs}
        own = {name: value for name, value in self.options().items() if name.lower() not in given}
        frame: DataFrame = reader.options(**own, **theirs).schema(self.columns()).load()
        return frame.where(F.coalesce(*map(column, self.kinds), CORRUPT).isNotNull())

    def suggest(self, labels: Sequence[str | None]) -> str:
        """Return the settings by which the columns may be features."""
        kinds = {name: kind for name, kind in self.kinds.items() if name not in labels}
        numbers = [name for name, kind in kinds.items() if kind in (NUMBER, BOOLEAN)]
        strings = [name for name, kind in kinds.items() if kind == STRING]
        dates = [name for name, kind in kinds.items() if kind == DATE]
        parts = [("numbers", numbers), ("records.categories", strings), ("records.datetimes", dates)]
        return "; ".join(f"{what}: {', '.join(names[:SHOWN])}" for what, names in parts if names)

    def records(self, frame: DataFrame, names: Sequence[str]) -> Column:
        """Return the rows' records: JSON objects of these columns, which may be none of the files' own."""
        own = {each.name for each in frame.schema.fields if isinstance(each.dataType, StringType)}
        kinds = [self.kinds.get(name) if name in own else None for name in names]

        def encode(*columns: pa.Array) -> pa.Array:
            return pa.array(self.encode(names, kinds, *(each.to_pylist() for each in columns)), pa.binary())

        udf: Any = arrow_udf  # its types know no function of any number of columns
        encoded: Column = udf(encode, "binary")(F.col(ROW), *map(column, names))
        return encoded

    def encode(
        self,
        names: Sequence[str],
        kinds: Sequence[str | None],
        corrupt: Sequence[str | None],
        *columns: Sequence[Any],
    ) -> list[bytes]:
        """Return the records of rows; of a row with more or fewer fields, its line, which is not JSON.

        A column of kind None has values already.
        """
        typed = [
            list(map(_json_value, cells)) if kind is None else self._values(cells, kind)
            for cells, kind in zip(columns, kinds, strict=True)
        ]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*typed, strict=True)]
        records = [to_json(row, inf_nan_mode="constants") for row in rows]
        for i, line in enumerate(corrupt):
            if line is not None:
                fields = self._fields(line, dict(zip(names, kinds, strict=True)))
                records[i] = line.encode() if fields is None else to_json(rows[i] | fields)
        return records

    def _values(self, cells: Sequence[str | None], kind: str) -> list[Any]:
        values = {cell: self.dialect.value(self._decoded(cell or ""), kind) for cell in set(cells)}
        return [values[cell] for cell in cells]

    def _fields(self, line: str, kinds: Mapping[str, str | None]) -> dict[str, Any] | None:
        """Return the values of a line that ends with a delimiter, unlike others; None for any other line."""
        try:
            row = next(read_rows(StringIO(self._decoded(line), newline=""), self.dialect), [])
            fields = dict(zip(self.kinds, fit(row, len(self.kinds)), strict=True))
        except RowError:
            return None
        return {name: self.dialect.value(fields[name], kind) for name, kind in kinds.items() if kind}

    def _decoded(self, text: str) -> str:
        if self.encoding in _CHARSETS:
            return text
        return text.encode(BYTES, "replace").decode(self.encoding, "replace")


def find(spark: SparkSession, source: Source, shape: Records) -> CsvFiles | None:
    """Detect the dialect of a source's files, and log it; None for another source, or if Spark infers types.

    What the source's options and the settings of records set is not detected. Raise ValueError in one line
    that names the option to set.
    """
    options = {name.lower(): value for name, value in source.options.items()}
    if source.format.lower() != "csv" or options.get("inferschema", "").lower() == "true":
        return None
    name = ""
    try:
        for file in _files(spark, options):
            name = PurePosixPath(unquote(urlsplit(file).path)).name
            data = _begin(spark, file)
            if data.strip():
                return _read_sample(name, data, given(options, shape))
    except SPARK_ERRORS as error:
        raise ValueError(f"source 'csv': cannot read {name or 'its path'}: {in_one_line(error)}") from None
    raise ValueError("source 'csv': its path must have a file with a line, whose dialect is detected")


def _read_sample(name: str, data: bytes, known: Mapping[str, Any]) -> CsvFiles:
    with _named(name):
        sample = detect(data[:SAMPLE], len(data) <= SAMPLE, known)
        files = _files_like(sample)
    kinds = files.kinds.values()
    logger.info("source csv: %s: %s; columns: %s", name, sample.dialect, summary(kinds))
    return files


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"source 'csv': {name}: {error}") from None


def _files_like(sample: Sample) -> CsvFiles:
    names, form = sample.names, sample.dialect
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"its columns must differ from each other; got {twice[0]!r} twice")
    if form.delimiter == " " and sample.padded:
        raise ValueError(
            "Spark reads one blank between two fields; this file has more: send it with `producers csv`"
        )
    kinds = {name: form.kind(sample.column(i)) for i, name in enumerate(names)}
    broken = any("\n" in field or "\r" in field for row in sample.rows for field in row)
    wide = codecs.lookup(form.encoding).name.startswith("utf-16")
    return CsvFiles(form, kinds, sample.trailing, lines=not broken and not wide)


def given(options: Mapping[str, str], shape: Records) -> dict[str, Any]:
    """Return the fields of a dialect that are set: by the source's options, or as rules for values."""
    found: dict[str, Any] = {}
    for field, names in _OPTIONS.items():
        for name in names:
            if name in options:
                found.setdefault(field, options[name])
    if "header" in found:
        found["header"] = found["header"].lower() == "true"
    if found.get("delimiter") == "\\t":
        found["delimiter"] = "\t"
    if found.get("escape") == found.get("quote", '"'):
        found["escape"] = ""  # doubled
    set_ = shape.model_fields_set
    found |= {name: getattr(shape, name) for name in ("decimal", "thousands") if name in set_}
    found |= {"units": tuple(shape.units)} if "units" in set_ else {}
    words = [*shape.na_values, *([options["nullvalue"]] if "nullvalue" in options else [])]
    return found | ({"na_values": tuple(words)} if words else {})


def _files(spark: SparkSession, options: Mapping[str, str]) -> list[str]:
    """Return the addresses of the files that the source has now, sorted."""
    paths = {name: value for name, value in options.items() if name in _PATHS}
    return sorted(spark.read.format("text").options(**paths).load().inputFiles())


def _begin(spark: SparkSession, file: str) -> bytes:
    """Return a file's first bytes, one more than a sample has; decompressed, as Spark does by its name."""
    java: Any = spark._jvm
    session: Any = spark._jsparkSession
    options, path = (
        session.sessionState().newHadoopConf(),
        java.org.apache.hadoop.fs.Path(java.java.net.URI(file)),
    )
    stream = path.getFileSystem(options).open(path)
    try:
        codec = java.org.apache.hadoop.io.compress.CompressionCodecFactory(options).getCodec(path)
        stream = stream if codec is None else codec.createInputStream(stream)
        # a public class: what a codec returns may be private
        return bytes(java.java.io.DataInputStream(stream).readNBytes(SAMPLE + 1))
    finally:
        stream.close()


def _word(value: bool) -> str:
    return "true" if value else "false"


def column(name: str) -> Column:
    """Return the column of this name, whatever characters it has."""
    return F.col("`" + name.replace("`", "``") + "`")


def _json_value(value: Any) -> Any:
    """Return a value of Arrow as JSON has it: NaN is a gap, a date is a string in ISO's form."""
    if value != value:
        return None
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date | datetime | time) else value
