"""Any Spark source as records: its columns become fields of JSON, or one column has whole records.

So the same rules apply to a file's row as to a topic's record: how it is decoded, rejected and counted.
"""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 (everybody's name for it)
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    DoubleType,
    FloatType,
    StringType,
    StructField,
    TimestampType,
)

from streaming_nn.errors import UnreadableRecordError
from streaming_nn.records.paths import parse_path, split_length
from streaming_nn.records.schema import Schema
from streaming_nn.settings import Records, Source
from streaming_nn.spark.jvm import in_one_line
from streaming_nn.spark.session import SPARK_ERRORS
from streaming_nn.spark.sources.csv_files import CORRUPT, ROW, CsvFiles, column
from streaming_nn.spark.sources.files import FILES
from streaming_nn.spark.sources.libsvm_files import LibsvmFiles

Files = CsvFiles | LibsvmFiles  # how files are read; others are read as Spark reads them
VALUE, TIMESTAMP = "value", "timestamp"  # columns: whole records; the time by which rows are learned
FILE_TIME, FILE_PATH = "_streaming_nn_time", "_streaming_nn_path"
OWN = (FILE_TIME, FILE_PATH, CORRUPT, ROW)  # columns that no user has chosen
JSON = {  # the options of rows as JSON; by default times would have milliseconds
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}
_FILE = re.compile(r"\[FAILED_READ_FILE\.(\w+)] Encountered error while reading file (.+?)\.(?=\s|$)")
_CAUSE = re.compile(r"^Caused by: (?:[\w.$]+: )?(.*)$", re.MULTILINE)
CAUSE = 300  # characters of a cause that are shown
PACKAGES = {"delta": "io.delta:delta-spark_4.2_2.13:4.4.1"}  # of sources that Spark does not include


def stream(
    spark: SparkSession, source: Source, shape: Records | Schema, files: Files | None = None
) -> DataFrame:
    """Read the source as a stream of its selected columns; `records` converts a micro-batch to records.

    `files` is how files are read; None: as Spark reads them. ValueError in one line: Spark does not
    find the source, its options or columns are invalid, or the columns do not fit `shape`.
    """
    return _load(spark.readStream, source, shape, files)


def first_values(
    spark: SparkSession,
    source: Source,
    shape: Records | Schema,
    rows: int,
    files: Files | None = None,
) -> list[bytes | None]:
    """Return the first records that the source has now; ValueError if it can be read only as a stream."""
    try:
        frame = records(_load(spark.read, source, shape, files), shape)
        values = [row.value for row in frame.select(VALUE).limit(rows).collect()]
    except (ValueError, *SPARK_ERRORS) as error:
        if bad := unreadable(error):
            raise bad from None
        raise ValueError(
            f"cannot infer the schema from the source: {in_one_line(error).rstrip('.')}; "
            "set records.inputs and records.classes"
        ) from None
    return [None if value is None else bytes(value) for value in values]


def _load(reader: Any, source: Source, shape: Records | Schema, files: Files | None = None) -> DataFrame:
    try:
        frame: DataFrame
        if files is None:
            frame = reader.format(source.format).options(**source.options).load()
        else:
            frame = files.load(reader.format(source.format), source.options)
        rows = [] if files is None else [F.col(CORRUPT).alias(ROW)]  # `select` may leave it out
        selected = map(F.expr, source.select or ["*"])
        chosen = frame.select(*selected, *_file_columns(source.format), *rows)
    except SPARK_ERRORS as error:
        raise unreadable(error) or ValueError(_explain(source, error)) from None
    value = _value(chosen, shape, files)
    if files is None:
        return chosen
    timed = [TIMESTAMP] if isinstance(_types(chosen).get(TIMESTAMP), TimestampType) else []
    return chosen.select(*timed, value.alias(VALUE), FILE_TIME, FILE_PATH)


def unreadable(error: BaseException) -> UnreadableRecordError | None:
    """Return the error for a file that Spark cannot read, with what it found there; None: another one."""
    text = str(error)
    if (file := _FILE.search(text)) is None:
        return None
    why = [each.strip() for each in _CAUSE.findall(text, file.end()) if each.strip()]
    option = "ignoreMissingFiles" if file[1] == "FILE_NOT_EXIST" else "ignoreCorruptFiles"
    return UnreadableRecordError(
        f"the source's file {unquote(file[2])} cannot be read{''.join(f': {x}' for x in why[-1:])[:CAUSE]}. "
        f"Repair it or move it away, or set the source's option {option} = true: Spark leaves out what it "
        "cannot read"
    )


def _explain(source: Source, error: BaseException) -> str:
    if "UNABLE_TO_INFER_SCHEMA" in str(error):
        return (
            f"source {source.format!r}: its path must have a file with rows, by which its columns are known"
        )
    if "DATA_SOURCE_NOT_FOUND" not in str(error):
        return f"source {source.format!r}: {in_one_line(error)}"
    package = PACKAGES.get(source.format.lower(), "GROUP:ARTIFACT:VERSION")
    return (
        f"source.format must be a source that Spark finds; got {source.format!r}: "
        f"install its package with --set spark.jars.packages={package}"
    )


def _file_columns(name: str) -> tuple[Column, Column]:
    """Return the time and the path of a row's file, null and "" for a source without files."""
    time, path = F.lit(None).cast("timestamp"), F.lit("")
    if name.lower() in FILES:
        time, path = F.col("_metadata.file_modification_time"), F.col("_metadata.file_path")
    return time.alias(FILE_TIME), path.alias(FILE_PATH)


def records(frame: DataFrame, shape: Records | Schema) -> DataFrame:
    """Return the rows of a frame that was read here as records, like a topic's (`kafka_frames.COLUMNS`).

    A row's partition is its task's, its offset its index among all rows; so Spark's plan alone orders rows
    with the same time and file.
    """
    timed = isinstance(_types(frame).get(TIMESTAMP), TimestampType)
    return frame.select(
        F.col(TIMESTAMP if timed else FILE_TIME).alias("timestamp"),
        F.col(FILE_PATH).alias("topic"),
        F.spark_partition_id().alias("partition"),
        F.monotonically_increasing_id().alias("offset"),
        F.lit(None).cast("binary").alias("key"),
        _value(frame, shape).cast("binary").alias(VALUE),
        F.lit(None).cast("string").alias("headers"),
    )


def _value(frame: DataFrame, shape: Records | Schema, files: Files | None = None) -> Column:
    types = _types(frame)
    if types.keys() - {TIMESTAMP} == {VALUE} and isinstance(types[VALUE], StringType | BinaryType):
        return F.col(VALUE)
    if shape.format != "json":
        raise ValueError(
            f"records of format {shape.format!r} must be in one column 'value' of strings or bytes; "
            f"the source has {list(types)}: choose with source.select"
        )
    names = [shape.features] if isinstance(shape.features, str) else shape.features
    labels = [shape.label] if isinstance(shape.label, str | None) else shape.label
    named = [*(split_length(name)[0] for name in names), *labels, shape.weight, shape.series]
    fields = dict.fromkeys(parse_path(name)[0] for name in named if name)
    for name in fields:
        if name not in types:
            raise ValueError(
                f"records.features, label, weight and series must be among the source's columns, "
                f"{list(types)}; got {name!r}"
                + (f"; {files.suggest(labels)}" if isinstance(files, CsvFiles) else "")
            )
    if isinstance(files, CsvFiles):
        return files.records(frame, [*fields])
    values = F.to_json(F.struct(*(_field(name, types[name]) for name in fields)), JSON)
    return values if files is None else F.coalesce(F.col(ROW), values)  # a bad line is not JSON


def _types(frame: DataFrame) -> dict[str, DataType]:
    fields: Sequence[StructField] = frame.schema.fields
    return {field.name: field.dataType for field in fields if field.name not in OWN}


def _field(name: str, kind: DataType) -> Column:
    """Return a column as JSON can represent it: vectors are arrays, and NaN is null, a missing value."""
    values = column(name)
    if kind.simpleString() == "vector":
        from pyspark.ml.functions import vector_to_array  # late: with pandas and SciPy it takes 0.4 s

        values, kind = vector_to_array(values), ArrayType(DoubleType())
    if isinstance(kind, FloatType | DoubleType):
        values = _number(values)
    elif isinstance(kind, ArrayType) and isinstance(kind.elementType, FloatType | DoubleType):
        values = F.transform(values, _number)
    return values.alias(name)


def _number(column: Column) -> Column:
    return F.when(~F.isnan(column), column.cast("double"))  # a float's few digits are of another number
