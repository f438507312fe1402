"""Rows of any DataFrame: their columns are checked, learned by a task per partition, and predicted."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark import TaskContext
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql.types import ArrayType, DataType, NumericType

from streaming_nn.nn.learner import (
    Batch,
    Counts,
    Learner,
    Part,
    State,
    combine,
    learn_part,
    point_prediction,
    report,
    test_then_train,
)
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.values import bounded
from streaming_nn.spark.score.predictions import PREDICT_ROWS
from streaming_nn.spark.session import rows_of, shared
from streaming_nn.spark.tasks import pack, pack_part, unpack, unpack_part
from streaming_nn.spark.train.micro_batch import add_counts

Array = NDArray[Any]

PASS_RESULT = "partition int, part binary, counts string, curve string, error string"
HINTS = {"string": "; encode strings with StringIndexer", "boolean": "; cast booleans to int"}  # for labels
FLOATS = "finite float32 numbers; got NaN, infinity or a number out of range"
PREDICTED = "output array<double>, raw array<double>"


class Columns(NamedTuple):
    """Names of the columns that make a row; None: there is none."""

    features: str
    label: str | None = None
    weight: str | None = None


class FitResult(NamedTuple):
    """The result of one or several passes over a frame."""

    state: State[Any]
    counts: Counts
    curve: tuple[float, ...]  # after each pass: the metrics' loss over their window


def require_classic(given: DataFrame | SparkSession) -> None:
    """Raise RuntimeError for a frame or session of Spark Connect, which has no broadcasts and no JVM here."""
    if type(given).__module__.startswith("pyspark.sql.connect"):
        raise RuntimeError(
            "streaming_nn.mllib needs a classic Spark session (SparkSession.builder.master or spark-submit); "
            f"got a {type(given).__name__} of Spark Connect"
        )


def select_rows(dataset: DataFrame, columns: Columns) -> DataFrame:
    """Select features, label and weight as x (array of double), y (double, or an array) and weight (float).

    Errors: RuntimeError for a frame of Spark Connect, ValueError for a column that is missing or of another
    type.
    """
    require_classic(dataset)
    chosen = [feature_column(dataset, columns.features).alias("x")]
    if columns.label is not None:
        several = _array(dataset, "labelCol", columns.label)
        one = None if several is not None else _number(dataset, "labelCol", columns.label, "double")
        chosen.append((one if several is None else several).alias("y"))  # type: ignore[union-attr]
    if columns.weight is not None:
        chosen.append(_number(dataset, "weightCol", columns.weight, "float").alias("weight"))
    return dataset.select(*chosen)


def feature_column(dataset: DataFrame, name: str) -> Column:
    """Return the features as an array of float64, from dense and sparse vectors and arrays of numbers."""
    column = _array(dataset, "featuresCol", name)
    if column is not None:
        return column
    kind = _type(dataset, "featuresCol", name)
    raise ValueError(
        f"featuresCol {name!r} must have vectors or arrays of numbers; got {kind.simpleString()}"
    )


def _array(dataset: DataFrame, param: str, name: str) -> Column | None:
    """Return vectors, or arrays of numbers, as arrays of double; None for another column."""
    kind, column = _type(dataset, param, name), _column(name)
    if kind.simpleString() == "vector":
        from pyspark.ml.functions import vector_to_array  # late: with pandas and SciPy it takes 0.4 s

        return f.when(column.isNotNull(), vector_to_array(column))
    if isinstance(kind, ArrayType) and isinstance(kind.elementType, NumericType):
        return column.cast("array<double>")
    return None


def _number(dataset: DataFrame, param: str, name: str, cast: str) -> Column:
    kind = _type(dataset, param, name)
    if not isinstance(kind, NumericType):
        hint = HINTS.get(kind.simpleString(), "") if param == "labelCol" else ""
        raise ValueError(f"{param} {name!r} must have numbers; got {kind.simpleString()}{hint}")
    return _column(name).cast(cast)


def _type(dataset: DataFrame, param: str, name: str) -> DataType:
    if name not in dataset.columns:
        raise ValueError(f"{param} must be a column of {dataset.columns}; got {name!r}")
    return dataset.schema[name].dataType


def _column(name: str) -> Column:
    return f.col("`" + name.replace("`", "``") + "`")


def label_values(classes: Sequence[Any]) -> Array:
    """Return the labels as Spark's numbers: themselves, or their indices where one of them is a string."""
    if any(isinstance(label, str) for label in classes):
        return np.arange(len(classes), dtype=np.float64)
    return np.array(classes, np.float64)


def matrix(learner: Learner[Any], name: str, column: pa.Array) -> NDArray[np.float64]:
    """Return features (rows, inputs). ValueError: null, of another width, or not finite in float32."""
    if column.null_count or column.flatten().null_count:
        raise ValueError(f"featuresCol {name!r} must not contain nulls; got one")
    widths = np.asarray(pc.list_value_length(column))
    if (other := widths[widths != learner.inputs]).size:
        raise ValueError(f"featuresCol {name!r} must have {learner.inputs} features per row; got {other[0]}")
    x: Array = bounded(np.asarray(column.flatten(), np.float64)).reshape(-1, learner.inputs)
    gaps = learner.missing != "refuse"
    if not (np.isfinite(x) | np.isnan(x) if gaps else np.isfinite(x)).all():
        raise ValueError(f"featuresCol {name!r} must have {FLOATS}")
    return x


def targets(learner: Learner[Any], name: str, column: pa.Array) -> Array:
    """Return class indices or targets (rows,), or (rows, columns) of several.

    ValueError: null, not finite, or an unknown label.
    """
    columns = learner.columns_of_y
    if pa.types.is_list(column.type) != (columns is not None):
        kind = "numbers" if columns is None else "arrays"
        raise ValueError(f"labelCol {name!r} must have {kind}, as the model does; got {column.type}")
    if column.null_count or (columns is not None and column.flatten().null_count):
        raise ValueError(f"labelCol {name!r} must not contain nulls; got one")
    if columns is not None:
        widths = np.asarray(pc.list_value_length(column))
        if (other := widths[widths != columns]).size:
            raise ValueError(f"labelCol {name!r} must have {columns} numbers per row; got {other[0]}")
        column = column.flatten()
    y = np.asarray(column, np.float64)
    if columns is not None:
        y = y.reshape(-1, columns)
    if learner.classes is None:
        if not np.isfinite(bounded(y)).all():
            raise ValueError(f"labelCol {name!r} must have {FLOATS}")
        return y
    if learner.multilabel:
        if (other := y[(y != 0) & (y != 1)]).size:
            raise ValueError(f"labelCol {name!r} must have 0 or 1 for each label; got {float(other[0])}")
        return y.astype(np.int32)
    known = label_values(learner.classes)
    order = np.argsort(known)
    positions = np.searchsorted(known[order], y).clip(max=len(known) - 1)
    if (other := y[known[order][positions] != y]).size:
        raise ValueError(f"labelCol {name!r} must be one of {known.tolist()}; got {float(other[0])}")
    indices: Array = order[positions].astype(np.int32)
    return indices


def weights(name: str, column: pa.Array) -> NDArray[np.float32]:
    """Return weights (rows,). ValueError: null, negative or not finite."""
    weight = np.asarray(column, np.float32)
    if column.null_count or not (np.isfinite(weight) & (weight >= 0)).all():
        raise ValueError(
            f"weightCol {name!r} must have finite numbers >= 0; got null, NaN, infinity or a negative one"
        )
    return weight


@dataclass(frozen=True)
class LearnRows:
    """Do one task's part of a pass from the state that was broadcast; yield one row (PASS_RESULT).

    With `passes`, it is the only task with rows, and learns all of them that often; its row then has the
    state. A bad row's error is in the task's row, and nothing of the pass counts.
    """

    learner: Learner[Any]
    columns: Columns
    state: Any  # Broadcast[bytes]
    passes: int = 0

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Learn the task's rows, in the order in which they come."""
        state, read = unpack(self.learner, self.state.value), self._read(batches)
        try:
            if self.passes:
                yield self._row(*self._learn_passes(state, list(read)))
            else:
                part = learn_part(self.learner, state, read)
                yield self._row(pack_part(part), part.counts)
        except _BadRow as error:
            yield self._row(b"", Counts(), error=str(error))

    def _learn_passes(self, state: State[Any], read: Sequence[Batch]) -> tuple[bytes, Counts, list[float]]:
        counts, curve = [], []
        for _ in range(self.passes):
            state, passed = test_then_train(self.learner, state, read)
            counts.append(passed)
            curve.append(window_loss(self.learner, state))
        return pack(state), add_counts(counts), curve

    def _read(self, batches: Iterable[pa.RecordBatch]) -> Iterator[Batch]:
        for batch in batches:
            try:
                x = matrix(self.learner, self.columns.features, batch.column("x"))
                y = targets(self.learner, self.columns.label or "", batch.column("y"))
                weighted = self.columns.weight is not None
                weight = weights(self.columns.weight or "", batch.column("weight")) if weighted else None
            except ValueError as error:
                raise _BadRow(str(error)) from None
            yield Batch(x, y, weight)

    def _row(
        self, part: bytes, counts: Counts, curve: Sequence[float] = (), error: str = ""
    ) -> pa.RecordBatch:
        context = TaskContext.get()
        return pa.record_batch(
            {
                "partition": pa.array([context.partitionId() if context else 0], pa.int32()),
                "part": pa.array([part], pa.binary()),
                "counts": [json.dumps(counts)],
                "curve": [json.dumps(list(curve))],
                "error": [error],
            }
        )


class _BadRow(Exception):  # noqa: N818 (the driver raises it as a ValueError)
    """A row that cannot be learned."""


def learn_once(learner: Learner[Any], state: State[Any], frame: DataFrame, columns: Columns) -> FitResult:
    """Learn the frame's rows once: each partition from `state`, combined in the partitions' order.

    Errors: ValueError, one line, for a row that cannot be learned; then nothing is learned.
    """
    parts = _parts(learner, state, frame, columns)
    state = combine(learner, state, parts) if parts else state
    return FitResult(state, add_counts([part.counts for part in parts]), (window_loss(learner, state),))


def learn_passes(
    learner: Learner[Any], state: State[Any], frame: DataFrame, columns: Columns, passes: int
) -> FitResult:
    """Learn the frame's rows in several passes, each from the state after the one before.

    If one partition has all the rows, one task does the other passes too: the bits are the same.
    """
    parts = _parts(learner, state, frame, columns)
    state, counts = combine(learner, state, parts), [part.counts for part in parts]
    curve = [window_loss(learner, state)]
    if len(parts) == 1 and passes > 1:
        (row,) = _tasks(learner, state, frame.coalesce(1), columns, passes - 1)
        rest = Counts(*json.loads(row.counts))
        return FitResult(
            unpack(learner, bytes(row.part)), add_counts([*counts, rest]), (*curve, *json.loads(row.curve))
        )
    for _ in range(passes - 1):
        passed = learn_once(learner, state, frame, columns)
        state = passed.state
        counts.append(passed.counts)
        curve.extend(passed.curve)
    return FitResult(state, add_counts(counts), tuple(curve))


def _parts(learner: Learner[Any], state: State[Any], frame: DataFrame, columns: Columns) -> list[Part[Any]]:
    """Return the parts of the partitions that have rows, in their order."""
    tasks = [(task, Counts(*json.loads(task.counts))) for task in _tasks(learner, state, frame, columns)]
    return [unpack_part(learner, bytes(task.part), counts) for task, counts in tasks if counts.received]


def _tasks(
    learner: Learner[Any], state: State[Any], frame: DataFrame, columns: Columns, passes: int = 0
) -> list[Any]:
    with shared(frame.sparkSession, flatten(state)) as start:
        work = LearnRows(learner, columns, start, passes)
        tasks = sorted(rows_of(frame.mapInArrow(work, PASS_RESULT)), key=lambda task: int(task.partition))
    if error := next((task.error for task in tasks if task.error), ""):
        raise ValueError(error)
    return tasks


def window_loss(learner: Learner[Any], state: State[Any]) -> float:
    """Return the prequential loss over the metrics' window: log loss, or root mean squared error."""
    window = report(learner, state)["prequential"]["window"]
    value = window["rmse" if learner.classes is None else "log_loss"]
    return float("nan") if value is None else float(value)


def prediction_column(
    learner: Learner[Any], state: Any, name: str, x: Column, thresholds: Sequence[float] | None = None
) -> Column:
    """Return the model's predictions for features `x` as a struct (PREDICTED); `state` is broadcast.

    `raw` are the logarithms of the probabilities; null for a regression, as `output` then is not needed.
    Spark fails with a ValueError for a row that cannot be predicted.
    """

    def predict_batches(batches: Iterator[pa.Array]) -> Iterator[pa.Array]:
        model = unpack(learner, state.value).model
        for batch in batches:
            output = predict(learner, model, matrix(learner, name, batch))
            yield _to_struct(learner, output, thresholds)

    functions: Any = f  # its stubs lack arrow_udf
    kind = "double" if learner.columns_of_y is None else "array<double>"
    column: Column = functions.arrow_udf(predict_batches, f"prediction {kind}, {PREDICTED}")(x)
    return column


def predict(learner: Learner[Any], model: Any, x: NDArray[np.float64]) -> Array:
    """Predict rows (rows, inputs), a block at a time: many at once would need much memory."""
    starts = range(0, max(len(x), 1), PREDICT_ROWS)
    output = np.concatenate([learner.predict(model, x[start : start + PREDICT_ROWS]) for start in starts])
    return output if learner.classes is None else output[:, : len(learner.classes)]


def to_labels_or_targets(
    learner: Learner[Any], output: Array, thresholds: Sequence[float] | None = None
) -> Array:
    """Return the labels, as Spark's numbers, or the targets (rows,); of several (rows, columns).

    The label is that with the largest probability / threshold, as in Spark, where 0 / 0 is the least.
    """
    if learner.columns_of_y is not None:
        return (output > 0.5 if learner.multilabel else output).astype(np.float64)
    if learner.classes is None:
        return point_prediction(learner, output)[:, 0]
    if thresholds is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            output = np.nan_to_num(output / np.array(thresholds), nan=-np.inf, posinf=np.inf)
    chosen: Array = label_values(learner.classes)[output.argmax(axis=1)]
    return chosen


def log_probabilities(output: Array) -> Array:
    """Return the logarithms of probabilities; 0 counts as the least normal float32."""
    return np.log(np.maximum(output.astype(np.float64), np.finfo(np.float32).tiny))


def _to_struct(learner: Learner[Any], output: Array, thresholds: Sequence[float] | None) -> pa.Array:
    nulls = pa.nulls(len(output), pa.list_(pa.float64()))
    predicted = to_labels_or_targets(learner, output, thresholds)
    return pa.StructArray.from_arrays(
        [
            pa.array(predicted, pa.float64()) if predicted.ndim == 1 else _lists(predicted),
            _lists(output),
            nulls if learner.classes is None else _lists(log_probabilities(output)),
        ],
        ["prediction", "output", "raw"],
    )


def _lists(values: Array) -> pa.Array:
    starts = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(starts, pa.array(values.astype(np.float64).ravel()))
