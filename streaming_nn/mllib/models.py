"""The models that Spark ML's estimators fit, or that a model directory has."""
# ruff: noqa: N802  (Spark's names)

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from pyspark.ml.classification import ProbabilisticClassificationModel
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import DenseVector, Vector
from pyspark.ml.regression import RegressionModel
from pyspark.ml.util import MLReadable, MLWritable, MLWriter
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from streaming_nn.mllib import dataframe
from streaming_nn.mllib.params import LearnerParams
from streaming_nn.mllib.persistence import ModelReader, ModelWriter
from streaming_nn.mllib.summary import ClassificationSummary, RegressionSummary, TrainingSummary
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import load_state, report
from streaming_nn.spark.tasks import pack
from streaming_nn.versions.version import Version
from streaming_nn.versions.version_log import VersionLog

Array = NDArray[Any]


class StreamingModel(LearnerParams, MLWritable, MLReadable):  # type: ignore[type-arg]
    """What both models share. The state is never changed, so copies share it."""

    regression: bool

    def __init__(self, learner: Any = None, state: Any = None, curve: Sequence[float] = ()) -> None:
        super().__init__()
        self._fitted_learner, self._state, self._curve = learner, state, tuple(curve)
        self._broadcasts: dict[str, Any] = {}  # by application: the state, for its tasks

    @classmethod
    def fromModelDir(cls, model_dir: str | Path, number: int | None = None) -> Any:
        """Return a version of a model directory as a model, by any writer; `number` None: the newest.

        Errors: LookupError: there is none; DamagedVersionError; ValueError: it is for the other task.
        """
        log = VersionLog(model_dir)
        version = log.head() if number is None else log.read(number)
        if version is None:
            raise LookupError(f"cannot load a model from {log.directory}: it has no versions")
        return cls()._load_version(version, str(log.directory))

    def _load_version(self, version: Version, path: str) -> Any:
        learner = learner_from(version.manifest.learner)
        if (learner.classes is None) != self.regression:
            tasks = {True: "regression", False: "classification"}
            raise ValueError(
                f"model {path} must be for {tasks[self.regression]}, as a {type(self).__name__} is; "
                f"got {tasks[not self.regression]}"
            )
        self._fitted_learner, self._state = learner, load_state(learner, version.tensors)._replace(series=())
        return self

    @property
    def _learner(self) -> Any:
        if self._fitted_learner is None:
            raise ValueError(f"a {type(self).__name__} must be fitted or loaded before it is used")
        return self._fitted_learner

    @property
    def numFeatures(self) -> int:
        """How many features a row has."""
        return int(self._learner.inputs)

    @property
    def summary(self) -> TrainingSummary:
        """How the passes went."""
        return TrainingSummary(len(self._curve), self._curve, report(self._learner, self._state))

    def _predict_vector(self, value: Vector) -> Array:
        x = np.asarray(value.toArray(), np.float64)[None]
        if x.shape[1] != self.numFeatures:
            raise ValueError(f"a row must have {self.numFeatures} features; got {x.shape[1]}")
        return dataframe.predict(self._learner, self._state.model, x)

    def _predict_one(self, value: Vector, thresholds: Sequence[float] | None = None) -> Any:
        (one,) = dataframe.to_labels_or_targets(self._learner, self._predict_vector(value), thresholds)
        return float(one) if np.ndim(one) == 0 else DenseVector(one)

    def _predictions(self, dataset: DataFrame, thresholds: Sequence[float] | None = None) -> Any:
        dataframe.require_classic(dataset)
        name = self.getOrDefault("featuresCol")
        x, state = dataframe.feature_column(dataset, name), self._broadcast_state(dataset.sparkSession)
        return dataframe.prediction_column(self._learner, state, name, x, thresholds)

    def _broadcast_state(self, spark: SparkSession) -> Any:
        """Broadcast the state once; it stays as long as the model does, as frames are computed late."""
        application = str(spark.sparkContext.applicationId)
        if application not in self._broadcasts:
            self._broadcasts[application] = spark.sparkContext.broadcast(pack(self._state))
        return self._broadcasts[application]

    def _add_columns(self, dataset: DataFrame, predictions: Any, columns: Mapping[str, Any]) -> DataFrame:
        """Add the columns whose name is not empty."""
        named = {name: part for name, part in columns.items() if name}
        for name in named:
            if name in dataset.columns:
                raise ValueError(f"column {name!r} must not be in the frame already; got {dataset.columns}")
        struct = f"_{uuid4().hex}"
        return (
            dataset.withColumn(struct, predictions)
            .withColumns({name: part(f.col(struct)) for name, part in named.items()})
            .drop(struct)
        )

    def write(self) -> MLWriter:
        """Return the writer: it saves params as JSON, and a log with the model as its version 0."""
        return ModelWriter(self)

    @classmethod
    def read(cls) -> Any:
        """Return the reader; of a log that has grown since, it loads the newest version."""
        return ModelReader(cls)


class StreamingClassificationModel(StreamingModel, ProbabilisticClassificationModel):
    """A fitted classifier. Probabilities and raw predictions are in the order of `labels`.

    The raw prediction is the logarithm of the probability. A label that is a string, in a model by another
    writer, is its index, as with StringIndexer.
    """

    regression = False

    @property
    def numClasses(self) -> int:
        """How many labels there are."""
        return len(self._learner.classes)

    @property
    def labels(self) -> list[float]:
        """The labels in the order of the probabilities."""
        return [float(label) for label in dataframe.label_values(self._learner.classes)]

    def _transform(self, dataset: DataFrame) -> DataFrame:
        thresholds = self._thresholds()
        if thresholds is not None and self._learner.multilabel:
            raise ValueError(f"thresholds must be left out with several labels; got {thresholds}")
        if thresholds is not None:
            _check_thresholds(thresholds, self.numClasses)
        columns = {
            self.getRawPredictionCol(): lambda a: array_to_vector(a["raw"]),
            self.getProbabilityCol(): lambda a: array_to_vector(a["output"]),
            self.getPredictionCol(): lambda a: a["prediction"],
        }
        return self._add_columns(dataset, self._predictions(dataset, thresholds), columns)

    def _thresholds(self) -> Any:
        return self.getOrDefault("thresholds") if self.isDefined("thresholds") else None

    def evaluate(self, dataset: DataFrame) -> ClassificationSummary:
        """Compare predictions with labels. ValueError: a label that is not among `labels`, or no rows."""
        predicted, actual, weight = _score(self, dataset)
        labels = self.labels
        confusion = np.zeros((len(labels), len(labels)))
        counted = actual.groupBy("y", predicted).agg(f.sum(weight).alias("w")).collect()
        if not counted:
            raise ValueError("the frame must have rows; got none")
        for y, prediction, w in counted:
            if y not in labels:
                raise ValueError(f"labelCol {self.getLabelCol()!r} must be one of {labels}; got {y}")
            confusion[labels.index(y), labels.index(prediction)] += w
        return ClassificationSummary(tuple(labels), tuple(map(tuple, confusion.tolist())))

    def predict(self, value: Vector) -> Any:
        """Predict one row's label, or a vector of 0 and 1 of several labels."""
        return self._predict_one(value, self._thresholds())

    def predictProbability(self, value: Vector) -> Vector:
        """Predict one row's probabilities."""
        return DenseVector(self._predict_vector(value)[0].astype(np.float64))

    def predictRaw(self, value: Vector) -> Vector:
        """Predict the logarithms of one row's probabilities."""
        return DenseVector(dataframe.log_probabilities(self._predict_vector(value))[0])


def _check_thresholds(thresholds: Sequence[float], classes: int) -> None:
    low = sum(threshold <= 0 for threshold in thresholds)
    if len(thresholds) != classes or min(thresholds) < 0 or low > 1:
        raise ValueError(
            f"thresholds must be {classes} numbers >= 0, one of them 0 at most; got {thresholds}"
        )


class StreamingRegressionModel(StreamingModel, RegressionModel):  # type: ignore[type-arg]
    """A fitted regressor; of quantiles, it predicts the one nearest to the median."""

    regression = True

    def _transform(self, dataset: DataFrame) -> DataFrame:
        columns = {self.getPredictionCol(): lambda a: a["prediction"]}
        return self._add_columns(dataset, self._predictions(dataset), columns)

    def evaluate(self, dataset: DataFrame) -> RegressionSummary:
        """Compare predictions with targets. ValueError: there are no rows."""
        predicted, actual, weight = _score(self, dataset)
        mean = actual.agg(f.sum(weight * f.col("y")) / f.sum(weight)).collect()[0][0]
        if mean is None:
            raise ValueError("the frame must have rows with a weight; got none")
        error, spread = f.col(predicted) - f.col("y"), f.col("y") - f.lit(float(mean))
        sums = [f.sum(weight), f.sum(weight * f.abs(error))]
        sums += [f.sum(weight * each * each) for each in (error, spread)]
        ((rows, absolute, squared, variance),) = (
            tuple(map(float, row)) for row in actual.agg(*sums).collect()
        )
        r2 = 1 - squared / variance if variance else float("nan")
        return RegressionSummary(absolute / rows, float(np.sqrt(squared / rows)), r2)

    def predict(self, value: Vector) -> Any:
        """Predict one row's target, or a vector of several."""
        return self._predict_one(value)


def _score(model: Any, dataset: DataFrame) -> tuple[str, DataFrame, Any]:
    """Return the name of the prediction column, a frame with it and the label y, and the rows' weight."""
    if model._learner.columns_of_y is not None:
        raise ValueError("evaluate needs one label or target per row; got several: see summary.metrics")
    columns = model._columns()
    rows = dataframe.select_rows(dataset, columns)
    scored = model.copy({model.getParam("featuresCol"): "x", model.getParam("predictionCol"): "prediction"})
    for name in ("probabilityCol", "rawPredictionCol"):
        if scored.hasParam(name):
            scored._set(**{name: ""})
    if rows.filter("y is null or isnan(y)").head(1):
        raise ValueError(f"labelCol {columns.label!r} must not contain nulls; got one")
    return "prediction", scored.transform(rows), f.lit(1.0) if columns.weight is None else f.col("weight")
