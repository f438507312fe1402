"""Any other source of Spark's as records: its columns are the fields of JSON, or one holds whole records.

So a file's row is decoded, rejected, counted and scored by the same rules as a record of a topic.
"""

from collections.abc import Sequence
from typing import Any

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

from streaming_nn.records.schema import Schema
from streaming_nn.settings import Records, Source
from streaming_nn.spark.session import SPARK_ERRORS, in_one_line

VALUE, TIMESTAMP = "value", "timestamp"  # columns: whole records; the time by which rows are learned
TIME, PLACE = "_streaming_nn_time", "_streaming_nn_place"
FILES = {"text", "json", "csv", "xml", "parquet", "orc", "avro"}  # sources that know a row's file
PACKAGES = {"delta": "io.delta:delta-spark_4.2_2.13:4.4.1"}  # that bring sources which Spark has not


def stream(spark: SparkSession, source: Source, shape: Records | Schema) -> DataFrame:
    """Read the source as a stream of its selected columns; `records` makes records of a micro-batch.

    ValueError in one line: Spark doesn't find the source, or its options or columns are wrong for it, or the
    columns for `shape`.
    """
    return _loaded(spark.readStream, source, shape)


def first_values(
    spark: SparkSession, source: Source, shape: Records | Schema, rows: int
) -> list[bytes | None]:
    """Return the first records that the source has now; ValueError where it can't be read but as a stream."""
    try:
        frame = records(_loaded(spark.read, source, shape), shape)
        values = [row.value for row in frame.select(VALUE).limit(rows).collect()]
    except (ValueError, *SPARK_ERRORS) as error:
        said = f"{in_one_line(error)}; width and classes are taken from a look at it"
        raise ValueError(f"{said}: set records.inputs and records.classes") from None
    return [None if value is None else bytes(value) for value in values]


def _loaded(reader: Any, source: Source, shape: Records | Schema) -> DataFrame:
    try:
        frame: DataFrame = reader.format(source.format).options(**source.options).load()
        chosen = frame.select(*map(F.expr, source.select or ["*"]), *_origin(source.format))
    except SPARK_ERRORS as error:
        raise ValueError(_said(source, error)) from None
    _value(chosen, shape)
    return chosen


def _said(source: Source, error: BaseException) -> str:
    if "DATA_SOURCE_NOT_FOUND" not in str(error):
        return f"source {source.format!r}: {in_one_line(error)}"
    package = PACKAGES.get(source.format.lower(), "GROUP:ARTIFACT:VERSION")
    return (
        f"source.format must be a source that Spark has; got {source.format!r}: "
        f"install its package by --set spark.jars.packages={package}"
    )


def _origin(name: str) -> tuple[Column, Column]:
    """Give the time and the path of the file that a row is from, where there are files."""
    time, place = F.lit(None).cast("timestamp"), F.lit("")
    if name.lower() in FILES:
        time, place = F.col("_metadata.file_modification_time"), F.col("_metadata.file_path")
    return time.alias(TIME), place.alias(PLACE)


def records(frame: DataFrame, shape: Records | Schema) -> DataFrame:
    """Make records, as a topic's (`source.COLUMNS`), of a frame that was read here.

    A row's partition is its task's, its offset its place among all rows; so Spark's plan alone orders what
    has one time and one file.
    """
    timed = isinstance(_types(frame).get(TIMESTAMP), TimestampType)
    return frame.select(
        F.col(TIMESTAMP if timed else TIME).alias("timestamp"),
        F.col(PLACE).alias("topic"),
        F.spark_partition_id().alias("partition"),
        F.monotonically_increasing_id().alias("offset"),
        F.lit(None).cast("binary").alias("key"),
        _value(frame, shape).cast("binary").alias(VALUE),
        F.lit(None).cast("string").alias("headers"),
    )


def _value(frame: DataFrame, shape: Records | Schema) -> Column:
    types = _types(frame)
    if types.keys() - {TIMESTAMP} == {VALUE} and isinstance(types[VALUE], StringType | BinaryType):
        return F.col(VALUE)
    if shape.format != "json":
        raise ValueError(
            f"records of format {shape.format!r} must be in one column 'value', of text or bytes; "
            f"the source has {list(types)}: source.select chooses"
        )
    names = [shape.features] if isinstance(shape.features, str) else shape.features
    fields = dict.fromkeys(name.split(".")[0] for name in [*names, shape.label or ""] if name)
    for name in fields:
        if name not in types:
            raise ValueError(
                f"records.features and records.label must be among the source's columns, {list(types)}; "
                f"got {name!r}"
            )
    return F.to_json(F.struct(*(_field(name, types[name]) for name in fields)), {"ignoreNullFields": "false"})


def _types(frame: DataFrame) -> dict[str, DataType]:
    fields: Sequence[StructField] = frame.schema.fields
    return {field.name: field.dataType for field in fields if field.name not in (TIME, PLACE)}


def _field(name: str, kind: DataType) -> Column:
    """Give a column as JSON can have it: vectors are arrays, and NaN is null, a missing value."""
    column = F.col("`" + name.replace("`", "``") + "`")
    if kind.simpleString() == "vector":
        from pyspark.ml.functions import vector_to_array  # late: with pandas and SciPy it takes 0.4 s

        column, kind = vector_to_array(column), ArrayType(DoubleType())
    if isinstance(kind, FloatType | DoubleType):
        column = _number(column)
    elif isinstance(kind, ArrayType) and isinstance(kind.elementType, FloatType | DoubleType):
        column = F.transform(column, _number)
    return column.alias(name)


def _number(column: Column) -> Column:
    return F.when(~F.isnan(column), column)
