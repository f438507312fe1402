"""The learners with Spark ML's API: estimators, whose models share the versions with the stream."""
# ruff: noqa: N802  (Spark's names)

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyspark import StorageLevel
from pyspark.ml.classification import ProbabilisticClassifier
from pyspark.ml.regression import Regressor
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.types import NumericType

from streaming_nn.mllib import dataframe
from streaming_nn.mllib.dataframe import Columns
from streaming_nn.mllib.models import StreamingClassificationModel, StreamingRegressionModel
from streaming_nn.mllib.params import LearnerParams, spark_names_in_errors
from streaming_nn.nn import validation
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Learner, initial
from streaming_nn.records.labels import integral_to_int, is_valid_label
from streaming_nn.versions.version import SEQUENTIAL

MOST_CLASSES = 1000  # a column with more distinct labels is taken for a regression target


class StreamingEstimator(LearnerParams, DefaultParamsWritable):
    """What both estimators share: rows are learned by a task per partition, pass after pass.

    Each partition learns its rows, in their order, from the state at the start of the pass; the driver
    averages the results. So one partition is exact descent; more are faster and less accurate
    (docs/averaged.md). Shuffle rows that are sorted, for example by label. Errors: ValueError in one line,
    and no model, for bad columns, rows and params; RuntimeError under Spark Connect.
    """

    model_class: Any  # of the fitted models

    def _fit(self, dataset: DataFrame) -> Any:
        columns, passes = self._columns(), self.getMaxIter()
        rows = dataframe.select_rows(dataset, columns)
        validation.integer("maxIter", passes)
        if dataset.isStreaming:
            raise ValueError("fit requires a batch frame; got a streaming one: use fitStream")
        rows.persist(StorageLevel.MEMORY_AND_DISK)  # passes must see the same rows, in the same order
        try:
            first = rows.first()
            inputs = count_features(first, columns)
            learner = self._new_learner(inputs, self._find_outputs(first, rows, dataset))
            result = dataframe.learn_passes(learner, initial(learner), rows, columns, passes)
        finally:
            rows.unpersist()
        model = self.model_class(learner, result.state, result.curve)
        return self._copyValues(model._resetUid(self.uid))

    def _new_learner(self, inputs: int, outputs: Mapping[str, Any]) -> Learner[Any]:
        self._check_layers(inputs, len(outputs.get("classes") or outputs.get("targets") or (0,)))
        with spark_names_in_errors():
            return learner_from({**self._options(), "inputs": inputs, **outputs})

    def _find_outputs(self, first: Any, rows: DataFrame | None, dataset: DataFrame) -> dict[str, Any]:
        """Return the learner's options that depend on the labels; `first` is a row, `rows` None: a stream."""
        name = self.getOrDefault("labelCol")
        if isinstance(dataset.schema[name].dataType, NumericType):
            return self._single_output(rows, dataset)
        if not first.y:
            raise ValueError(f"labelCol {name!r} must have a number or more per row; got none")
        return self._several_outputs(len(first.y))

    def _single_output(self, rows: DataFrame | None, dataset: DataFrame) -> dict[str, Any]:
        raise NotImplementedError

    def _several_outputs(self, columns: int) -> dict[str, Any]:
        """Return the options for labels that are arrays of so many numbers."""
        raise NotImplementedError

    def fitStream(
        self,
        dataset: DataFrame,
        model_dir: str | Path,
        checkpoint: str | Path | None = None,
        update: str = SEQUENTIAL,
        *,
        processingTime: str | None = None,
        availableNow: bool = False,
    ) -> StreamingQuery:
        """Start a query that learns a streaming frame into the log in `model_dir`, a version per micro-batch.

        `checkpoint` is Spark's, by default a directory of that name in `model_dir`; it belongs to the model:
        a new one is a new query, which begins where its source does. `processingTime` and `availableNow` are
        those of `DataStreamWriter.trigger`.
        """
        from streaming_nn.mllib.streaming_learner import StreamingLearner  # it imports this module

        dataframe.select_rows(dataset, self._columns())
        learner = StreamingLearner(model_dir, self, update)
        stream = dataset.writeStream.foreachBatch(learner.update)
        stream = stream.option("checkpointLocation", str(checkpoint or Path(model_dir) / "checkpoint"))
        if processingTime is not None or availableNow:  # Spark refuses both
            stream = stream.trigger(processingTime=processingTime, availableNow=availableNow or None)  # type: ignore[call-overload]
        return stream.start()


def count_features(first: Any, columns: Columns) -> int:
    """Return the number of features in a frame's first row. ValueError: there is no row, or no feature."""
    if first is None:
        raise ValueError("the frame must have rows; got none")
    if not first.x:
        value = "null" if first.x is None else "an empty array"
        raise ValueError(
            f"featuresCol {columns.features!r} must have one feature or more per row; got {value}"
        )
    return len(first.x)


class StreamingClassifier(StreamingEstimator, ProbabilisticClassifier, DefaultParamsReadable):  # type: ignore[type-arg]
    """A classifier; by default eight networks that need no tuning, `maxIter` (10) passes.

    `featuresCol` has vectors, or arrays of numbers; `labelCol` integers: StringIndexer makes them. The
    classes are `classes`, or those that StringIndexer left in the column's metadata, or the distinct labels.
    Arrays of 0 and 1 in `labelCol` are several labels, of which any number applies; then `predictionCol` has
    such arrays, and `probabilityCol` the probability of each. A param that is None has its default.
    """

    model_class = StreamingClassificationModel

    def __init__(
        self,
        *,
        featuresCol: str | None = None,
        labelCol: str | None = None,
        predictionCol: str | None = None,
        probabilityCol: str | None = None,
        rawPredictionCol: str | None = None,
        thresholds: Sequence[float] | None = None,
        weightCol: str | None = None,
        maxIter: int | None = None,
        layers: Sequence[int] | None = None,
        classes: Sequence[float] | None = None,
        seed: int | None = None,
        learner: str | None = None,
        hiddenLayers: Sequence[int] | None = None,
        activation: str | None = None,
        optimizer: str | None = None,
        stepSize: float | None = None,
        blockSize: int | None = None,
        clip: float | None = None,
        initializer: str | float | None = None,
        window: int | None = None,
        fading: float | None = None,
        biasInitializer: str | float | None = None,
        loss: str | None = None,
        quantiles: Sequence[float] | None = None,
        huberDelta: float | None = None,
        focalGamma: float | None = None,
        momentum: float | None = None,
        beta1: float | None = None,
        beta2: float | None = None,
        epsilon: float | None = None,
        rho: float | None = None,
        beta: float | None = None,
        schedule: str | None = None,
        scheduleRows: int | None = None,
        schedulePower: float | None = None,
        scheduleDrop: float | None = None,
        scheduleGrowth: float | None = None,
        scheduleLeast: float | None = None,
        warmup: int | None = None,
        l1: float | None = None,
        l2: float | None = None,
        weightDecay: float | None = None,
        dropout: float | None = None,
        clipValue: float | None = None,
        clipNorm: float | None = None,
        classWeight: str | Mapping[Any, float] | Sequence[tuple[Any, float]] | None = None,
        classBeta: float | None = None,
        scale: str | None = None,
        missing: str | None = None,
        drift: str | None = None,
        onDrift: str | None = None,
        members: Sequence[Mapping[str, Any]] | None = None,
        replayRows: int | None = None,
        bufferRows: int | None = None,
        bufferBytes: int | None = None,
        eta: float | None = None,
        share: float | None = None,
    ) -> None:
        params = _given(locals())
        super().__init__()
        self._set_params(params)

    def _several_outputs(self, columns: int) -> dict[str, Any]:
        name = self.getLabelCol()
        given = self.getOrDefault(self.classes) if self.isSet("classes") else range(columns)
        labels = _to_integers(name, given)
        if len(labels) != columns:
            raise ValueError(f"classes must be one for each number of labelCol, {columns}; got {len(labels)}")
        return {"classes": labels, "multilabel": True}

    def _single_output(self, rows: DataFrame | None, dataset: DataFrame) -> dict[str, Any]:
        name = self.getLabelCol()
        values = dataset.schema[name].metadata.get("ml_attr", {}).get("vals")
        if self.isSet("classes"):
            labels = sorted(set(self.getOrDefault(self.classes)))
        elif values:
            labels = [float(index) for index in range(len(values))]
        elif rows is None:
            raise ValueError(f"classes must be set for a stream, or be in the metadata of labelCol {name!r}")
        else:
            distinct = [row.y for row in rows.select("y").distinct().limit(MOST_CLASSES + 1).collect()]
            if None in distinct:
                raise ValueError(f"labelCol {name!r} must not contain nulls; got one")
            labels = sorted(distinct)
        return {"classes": _to_integers(name, labels)}


def _given(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return a constructor's local variables that are its parameters."""
    return {name: value for name, value in variables.items() if name not in ("self", "__class__")}


def _to_integers(name: str, labels: Sequence[float]) -> list[int]:
    """Return labels as records have them; ValueError unless they are two or more integers of 64 bits."""
    integers = [integral_to_int(label) for label in labels]  # 1.0 means 1
    if other := [label for label in integers if type(label) is not int or not is_valid_label(label)]:
        hint = "for a regression use StreamingRegressor"
        raise ValueError(f"labelCol {name!r} must have integers; got {float(other[0])}: {hint}")
    if not 2 <= len(labels) <= MOST_CLASSES:
        raise ValueError(f"labelCol {name!r} must have 2 to {MOST_CLASSES} classes; got {len(labels)}")
    return integers


class StreamingRegressor(StreamingEstimator, Regressor, DefaultParamsReadable):  # type: ignore[type-arg]
    """A regressor; params as for `StreamingClassifier`. With `hiddenLayers=[]` it is linear regression.

    Arrays or vectors in `labelCol` are several targets; then `predictionCol` has arrays.
    """

    model_class = StreamingRegressionModel

    def __init__(
        self,
        *,
        featuresCol: str | None = None,
        labelCol: str | None = None,
        predictionCol: str | None = None,
        weightCol: str | None = None,
        maxIter: int | None = None,
        layers: Sequence[int] | None = None,
        seed: int | None = None,
        learner: str | None = None,
        hiddenLayers: Sequence[int] | None = None,
        activation: str | None = None,
        optimizer: str | None = None,
        stepSize: float | None = None,
        blockSize: int | None = None,
        clip: float | None = None,
        initializer: str | float | None = None,
        window: int | None = None,
        fading: float | None = None,
        biasInitializer: str | float | None = None,
        loss: str | None = None,
        quantiles: Sequence[float] | None = None,
        huberDelta: float | None = None,
        focalGamma: float | None = None,
        momentum: float | None = None,
        beta1: float | None = None,
        beta2: float | None = None,
        epsilon: float | None = None,
        rho: float | None = None,
        beta: float | None = None,
        schedule: str | None = None,
        scheduleRows: int | None = None,
        schedulePower: float | None = None,
        scheduleDrop: float | None = None,
        scheduleGrowth: float | None = None,
        scheduleLeast: float | None = None,
        warmup: int | None = None,
        l1: float | None = None,
        l2: float | None = None,
        weightDecay: float | None = None,
        dropout: float | None = None,
        clipValue: float | None = None,
        clipNorm: float | None = None,
        classWeight: str | Mapping[Any, float] | Sequence[tuple[Any, float]] | None = None,
        classBeta: float | None = None,
        scale: str | None = None,
        missing: str | None = None,
        drift: str | None = None,
        onDrift: str | None = None,
        members: Sequence[Mapping[str, Any]] | None = None,
        replayRows: int | None = None,
        bufferRows: int | None = None,
        bufferBytes: int | None = None,
        eta: float | None = None,
        share: float | None = None,
    ) -> None:
        params = _given(locals())
        super().__init__()
        self._set_params(params)

    def _single_output(self, rows: DataFrame | None, dataset: DataFrame) -> dict[str, Any]:
        return {}

    def _several_outputs(self, columns: int) -> dict[str, Any]:
        return {"targets": tuple(f"y{i}" for i in range(columns))}
