"""Files of Spark's libsvm source: their lines are read here, so that a bad one is a rejected record.

Spark's own reader ends the query at a line that it cannot read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import lt
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 (everybody's name for it)
from pyspark.sql.pandas.functions import arrow_udf

from streaming_nn.settings import Records, Source
from streaming_nn.spark.sources.csv_files import CORRUPT
from streaming_nn.spark.sources.files import libsvm_first, libsvm_width

LABEL, FEATURES = "label", "features"  # the columns, named as Spark's
LINE, PARSED = "value", "_streaming_nn_parsed"
MAX_INDEX = 1 << 31  # of LIBSVM, an integer of 32 bits; it is less
ROWS = pa.struct([(LABEL, pa.float64()), (FEATURES, pa.list_(pa.float64()))])
_OPTIONS = {"numfeatures", "vectortype", "zerobased"}  # that Spark's reader of text does not have


class Line(NamedTuple):
    """A line: its label, and its entries by their positions in a row."""

    label: float
    positions: list[int]
    values: list[float]


@dataclass(frozen=True)
class LibsvmFiles:
    """How files are read; `width` is the number of features, `first` the index of the first one, 1 or 0."""

    width: int
    first: int = 1

    def load(self, reader: Any, options: Mapping[str, str]) -> DataFrame:
        """Read label and features of each line; blank lines and comments are left out."""
        theirs = {name: value for name, value in options.items() if name.lower() not in _OPTIONS}
        frame: DataFrame = reader.format("text").options(**theirs).load()
        frame = frame.where(~F.col(LINE).rlike(r"^\s*(#|$)"))
        udf: Any = arrow_udf  # its types know no function of a schema
        parsed = udf(self.rows, f"struct<{LABEL}:double,{FEATURES}:array<double>>")(F.col(LINE))
        bad = F.when(F.col(PARSED).isNull(), F.col(LINE))
        return frame.withColumn(PARSED, parsed).select(
            F.col(f"{PARSED}.{LABEL}").alias(LABEL),
            F.col(f"{PARSED}.{FEATURES}").alias(FEATURES),
            bad.alias(CORRUPT),
        )

    def rows(self, lines: pa.Array) -> pa.Array:
        """Return label and features of lines, null for one that cannot be read.

        A line with an index beyond the width has one feature too many, by which its record is rejected.
        """
        found = [parse(line or "", self.first) for line in lines.to_pylist()]
        lengths = [self.width + any(i >= self.width for i in line.positions) if line else 0 for line in found]
        ends = np.cumsum([0, *lengths])
        x = np.zeros(ends[-1])
        for line, start, length in zip(found, ends, lengths, strict=False):
            if line and line.positions:
                x[start + np.minimum(line.positions, length - 1)] = line.values
        labels = pa.array([line and line.label for line in found], pa.float64())
        features = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(x))
        missing = pa.array([line is None for line in found], pa.bool_())
        return pa.StructArray.from_arrays([labels, features], fields=[*ROWS], mask=missing)


def find(source: Source, shape: Records) -> LibsvmFiles | None:
    """Return how files are read; None for another source. ValueError: the number of features is not set."""
    if source.format.lower() != "libsvm":
        return None
    return LibsvmFiles(libsvm_width(source, shape.inputs), libsvm_first(source))


def parse(line: str, first: int = 1) -> Line | None:
    """Read a line, `label [qid:n] index:value ... [# comment]`, whose indices ascend; None: it is another."""
    text = line.partition("#")[0]
    if "_" in text or not text.isascii():  # which only Python reads as digits, or between them
        return None
    try:
        label, *entries = text.split()
        pairs = [each.split(":") for each in entries if not each.startswith("qid:")]
        indices = [int(index) for index, _ in pairs]
        found = Line(float(label), [i - first for i in indices], [float(value) for _, value in pairs])
    except ValueError:
        return None
    ascending = all(map(lt, [first - 1, *indices], [*indices, MAX_INDEX]))
    return found if ascending else None
