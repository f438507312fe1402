"""The learners in Spark ML's manners: estimators, models, pipelines, on the same versions as the stream."""
# ruff: noqa: N802  (Spark's names)

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from pyspark import StorageLevel
from pyspark.ml.classification import ProbabilisticClassificationModel, ProbabilisticClassifier
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import DenseVector, Vector
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import (
    HasBlockSize,
    HasMaxIter,
    HasSeed,
    HasStepSize,
    HasWeightCol,
)
from pyspark.ml.regression import RegressionModel, Regressor
from pyspark.ml.util import (
    DefaultParamsReadable,
    DefaultParamsReader,
    DefaultParamsWritable,
    DefaultParamsWriter,
    MLReadable,
    MLReader,
    MLWritable,
    MLWriter,
)
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql.streaming.query import StreamingQuery

from streaming_nn.log.environment import describe, now, writer
from streaming_nn.log.log import SUFFIX, Conflict, Log, child
from streaming_nn.log.version import SEQUENTIAL, UPDATES, Record, Version, decode, encode
from streaming_nn.nn import checks
from streaming_nn.nn import learner as loop
from streaming_nn.nn.learner import Learner, Rows, State, initial
from streaming_nn.nn.learners import LEARNERS, learner_from
from streaming_nn.nn.tensors import flatten, unflatten
from streaming_nn.records.schema import Schema
from streaming_nn.stream import frame
from streaming_nn.stream.frame import Columns, Learned

Array = NDArray[Any]
MOST_CLASSES = 1000  # distinct labels past which a column is taken for a regression's
SPARKS = {"learning_rate": "stepSize", "mini_batch": "blockSize", "hidden": "hiddenLayers"}  # its own names


def _camel(option: str) -> str:
    first, *others = option.split("_")
    return SPARKS.get(option, first + "".join(word.capitalize() for word in others))


def _kinds() -> dict[str, Any]:
    """Give the learners' options and their types, in the order of their classes."""
    each = {field.name: field.type for kind in LEARNERS.values() for field in fields(kind)}
    return {option: kind for option, kind in each.items() if option != "inputs"}


NAMES = {option: _camel(option) for option in _kinds()}


def _json(value: Any) -> Any:
    """Give an option as JSON can hold it: a mapping with labels for keys as pairs."""
    if isinstance(value, Mapping):
        return [[_json(key), _json(each)] for key, each in value.items()]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [_json(each) for each in value] if isinstance(value, list | tuple) else value


def _converter(kind: Any) -> Any:
    plain = {str: TypeConverters.toString, int: TypeConverters.toInt, float: TypeConverters.toFloat}
    kinds = {each for each in get_args(kind) or (kind,) if each is not type(None)}
    return plain.get(kinds.pop(), _json) if len(kinds) == 1 else _json


class _LearnerParams(HasWeightCol, HasMaxIter, HasSeed, HasStepSize, HasBlockSize):
    """Params of estimators and models: Spark's own where it has a name, else the learners' options.

    One that is not set has the learner's default. `stepSize` is `learning_rate`, `blockSize` (32)
    `mini_batch`, `hiddenLayers` `hidden`; the others are in camel case: `weightDecay`.
    """

    learner: "Param[str]" = Param(
        Params._dummy(),
        "learner",
        "'portfolio' or 'mlp'; not set: mlp where one of its own params is set, else portfolio",
        TypeConverters.toString,
    )
    layers: "Param[list[int]]" = Param(
        Params._dummy(),
        "layers",
        "sizes of all layers, from the features to the outputs, as in Spark's MultilayerPerceptronClassifier",
        TypeConverters.toListInt,
    )
    classes: "Param[Any]" = Param(
        Params._dummy(),
        "classes",
        "the labels; not set: those of the column's metadata, else the distinct ones, sorted",
        TypeConverters.toListFloat,
    )

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # the params that are made from the learners' options

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(maxIter=10, seed=0, blockSize=32)

    def _given(self, params: Mapping[str, Any]) -> Any:
        """Set params by name; None leaves one alone. ValueError for an unknown one: the nearest is told."""
        checks.known("params", params, [param.name for param in self.params])
        return self._set(**{name: value for name, value in params.items() if value is not None})

    def setParams(self, **params: Any) -> Any:
        """Set params by name."""
        return self._given(params)

    def setMaxIter(self, value: int) -> Any:
        """Set how often the rows are learned."""
        return self._set(maxIter=value)

    def setSeed(self, value: int) -> Any:
        """Set what the first weights are drawn from."""
        return self._set(seed=value)

    def setStepSize(self, value: float) -> Any:
        """Set the learning rate."""
        return self._set(stepSize=value)

    def setBlockSize(self, value: int) -> Any:
        """Set the rows that a step learns from."""
        return self._set(blockSize=value)

    def setWeightCol(self, value: str) -> Any:
        """Set the column of the rows' weights."""
        return self._set(weightCol=value)

    def setLayers(self, value: list[int]) -> Any:
        """Set the sizes of all layers, features and outputs included."""
        return self._set(layers=value)

    def setHiddenLayers(self, value: list[int]) -> Any:
        """Set the sizes of the hidden layers."""
        return self._set(hiddenLayers=value)

    def setLearner(self, value: str) -> Any:
        """Set which learner it is: "portfolio" or "mlp"."""
        return self._set(learner=value)

    def setOptimizer(self, value: str) -> Any:
        """Set the optimizer of learner "mlp"."""
        return self._set(optimizer=value)

    def setClasses(self, value: list[float]) -> Any:
        """Set the labels that there will be."""
        return self._set(classes=value)

    def getLayers(self) -> list[int]:
        """Give the sizes of all layers, as they were set."""
        return self.getOrDefault(self.layers)

    def getHiddenLayers(self) -> list[int]:
        """Give the sizes of the hidden layers, as they were set."""
        return list(self.getOrDefault(self.getParam("hiddenLayers")))

    def _columns(self, labeled: bool = True) -> Columns:
        weight = self.getOrDefault("weightCol") if self.isDefined("weightCol") else None
        label = self.getOrDefault("labelCol") if labeled else None
        return Columns(self.getOrDefault("featuresCol"), label, (weight or None) if labeled else None)

    def _options(self, only_set: bool = False) -> dict[str, Any]:
        """Give the learner's options as they were set; `layers` and classes are the data's affair."""
        asked = self.isSet if only_set else self.isDefined
        given = {
            option: self.getOrDefault(name)
            for option, name in NAMES.items()
            if option != "classes" and asked(name)
        }
        own = {field.name for field in fields(LEARNERS["mlp"])}
        others = {field.name for field in fields(LEARNERS["portfolio"])}
        if self.isSet("learner"):
            given["learner"] = self.getOrDefault("learner")
        elif not only_set or given.keys() & (own ^ others):
            given["learner"] = "mlp" if given.keys() & (own - others) else "portfolio"
        if self.isSet("layers"):
            if "hidden" in given:
                raise ValueError("layers and hiddenLayers must not both be set; got both")
            given["hidden"] = self.getLayers()[1:-1]
        return given

    def _check_layers(self, inputs: int, outputs: int) -> None:
        """Raise ValueError where `layers` does not fit the rows."""
        if self.isSet("layers"):
            layers = self.getLayers()
            if len(layers) < 2 or (layers[0], layers[-1]) != (inputs, outputs):
                raise ValueError(
                    f"layers must go from the features, {inputs}, to the outputs, {outputs}; got {layers}"
                )


for _option, _kind in _kinds().items():
    if not hasattr(_LearnerParams, _camel(_option)):
        _param: Any = Param(
            Params._dummy(), _camel(_option), f"the learners' option {_option}", _converter(_kind)
        )
        setattr(_LearnerParams, _camel(_option), _param)


@contextmanager
def _in_sparks_names() -> Iterator[None]:
    """Tell an option that is out of range by the name of its param."""
    try:
        yield
    except ValueError as error:
        words = re.sub(r"^\w+|(?<=')\w+(?=')", lambda word: NAMES.get(word.group(), word.group()), str(error))
        raise ValueError(words) from None


class _Estimator(_LearnerParams, DefaultParamsWritable):
    """What both estimators share: rows are learned by a task a partition, pass after pass.

    Each partition learns its rows, in their order, from where the pass began; the driver averages what they
    give. So one partition is exact descent, more are faster and cost accuracy (docs/averaged.md). Rows that
    are sorted, by label for one, are best shuffled before. Errors: ValueError in one line, and no model, for
    bad columns, rows and params; RuntimeError under Spark Connect.
    """

    def _fit(self, dataset: DataFrame) -> Any:
        columns = self._columns()
        rows = frame.rows(dataset, columns)
        self._made(1, self._none())  # params are checked before any row is read
        checks.whole("maxIter", self.getMaxIter())
        rows.persist(StorageLevel.MEMORY_AND_DISK)  # passes must see the same rows, in the same order
        try:
            learner = self._made(_width(rows, columns), self._labels(rows, dataset))
            learned = frame.learn(learner, initial(learner), rows, columns, self.getMaxIter())
        finally:
            rows.unpersist()
        return self._copyValues(self._model(learner, learned.state, learned.curve)._resetUid(self.uid))

    def _made(self, inputs: int, classes: Sequence[Any] | None) -> Learner[Any]:
        """Make the learner; with 1 for inputs, to see whether the params are in range."""
        with _in_sparks_names():
            learner = learner_from({**self._options(), "inputs": inputs, "classes": classes})
        if inputs > 1 or not self.isSet("layers"):
            self._check_layers(inputs, 1 if classes is None else len(classes))
        return learner

    def _none(self) -> Sequence[Any] | None:
        """Give classes by which params can be checked before the rows are known."""
        raise NotImplementedError

    def _labels(self, rows: DataFrame | None, dataset: DataFrame) -> Sequence[Any] | None:
        raise NotImplementedError

    def _model(self, learner: Any, state: Any, curve: Sequence[float]) -> Any:
        raise NotImplementedError

    def fitStream(
        self,
        dataset: DataFrame,
        model_dir: str | Path,
        checkpoint: str | Path | None = None,
        update: str = SEQUENTIAL,
        **trigger: Any,
    ) -> StreamingQuery:
        """Start a query that learns a streaming frame into the log in `model_dir`, a version a micro-batch.

        `checkpoint` is Spark's, by default a folder of that name in `model_dir`; it belongs to the model: a
        new one is a new query, which begins where its source does. `trigger` is `DataStreamWriter.trigger`'s.
        """
        frame.rows(dataset, self._columns())
        learner = StreamingLearner(model_dir, self, update)
        stream = dataset.writeStream.foreachBatch(learner.update)
        stream = stream.option("checkpointLocation", str(checkpoint or Path(model_dir) / "checkpoint"))
        return (stream.trigger(**trigger) if trigger else stream).start()


def _width(rows: DataFrame, columns: Columns) -> int:
    first = rows.select(f.size("x").alias("width"), "x").first()
    if first is None:
        raise ValueError("the frame must have rows; got none")
    if first.x is None or not len(first.x):
        raise ValueError(
            f"featuresCol {columns.features!r} must hold one feature or more, no nulls; got none"
        )
    return int(first.width)


class StreamingMLPClassifier(_Estimator, ProbabilisticClassifier, DefaultParamsReadable):  # type: ignore[type-arg]
    """A classifier; by default nine networks that need no tuning, `maxIter` (10) passes.

    `featuresCol` holds vectors, or arrays of numbers; `labelCol` whole numbers: StringIndexer makes them. The
    classes are `classes`, or those that StringIndexer left in the column's metadata, or the distinct labels.
    """

    def __init__(self, **params: Any) -> None:
        super().__init__()
        self._given(params)

    def _none(self) -> Sequence[Any]:
        return (0, 1)

    def _labels(self, rows: DataFrame | None, dataset: DataFrame) -> Sequence[Any]:
        name = self.getLabelCol()
        vals = dataset.schema[name].metadata.get("ml_attr", {}).get("vals")
        if self.isSet("classes"):
            labels = sorted(set(self.getOrDefault(self.classes)))
        elif vals:
            labels = [float(place) for place in range(len(vals))]
        elif rows is None:
            raise ValueError(f"classes must be set, or be in the metadata of labelCol {name!r}, for a stream")
        else:
            found = [row.y for row in rows.select("y").distinct().limit(MOST_CLASSES + 1).collect()]
            if None in found:
                raise ValueError(f"labelCol {name!r} must not hold nulls; got one")
            labels = sorted(found)
        return _whole(name, labels)

    def _model(self, learner: Any, state: Any, curve: Sequence[float]) -> "StreamingMLPClassificationModel":
        return StreamingMLPClassificationModel(learner, state, curve)


def _whole(name: str, labels: Sequence[float]) -> list[int]:
    """Give labels as a record has them; ValueError unless they are two or more whole numbers."""
    if other := [label for label in labels if not float(label).is_integer()]:
        raise ValueError(f"labelCol {name!r} must hold whole numbers; got {other[0]}: is it a regression?")
    if not 2 <= len(labels) <= MOST_CLASSES:
        raise ValueError(f"labelCol {name!r} must have 2 to {MOST_CLASSES} classes; got {len(labels)}")
    return [int(label) for label in labels]


class StreamingMLPRegressor(_Estimator, Regressor, DefaultParamsReadable):  # type: ignore[type-arg]
    """A regressor; params as for `StreamingMLPClassifier`. With `hiddenLayers=[]` it is linear regression."""

    def __init__(self, **params: Any) -> None:
        super().__init__()
        self._given(params)

    def _none(self) -> None:
        return None

    def _labels(self, rows: DataFrame | None, dataset: DataFrame) -> None:
        return None

    def _model(self, learner: Any, state: Any, curve: Sequence[float]) -> "StreamingMLPRegressionModel":
        return StreamingMLPRegressionModel(learner, state, curve)


@dataclass(frozen=True)
class TrainingSummary:
    """How the model answered rows before it learned them."""

    totalIterations: int  # noqa: N815 (Spark's name)
    objectiveHistory: tuple[float, ...]  # noqa: N815 (after each pass, over the last `window` rows: log loss, RMSE)
    metrics: dict[str, Any]  # as in a version's record


class _FittedModel(_LearnerParams, MLWritable, MLReadable):  # type: ignore[type-arg]
    """What both models share. The state is never changed, so copies have it in common."""

    def __init__(self, learner: Any = None, state: Any = None, curve: Sequence[float] = ()) -> None:
        super().__init__()
        self._learner, self._state, self._curve = learner, state, tuple(curve)
        self._broadcasts: dict[str, Any] = {}  # application: the state, as its tasks have it

    @classmethod
    def fromModelDir(cls, model_dir: str | Path, number: int | None = None) -> Any:
        """Give the newest version of a model directory, or that of a number, as a model; whoever wrote it.

        Errors: LookupError: there is none; Damaged; ValueError: it is for the other kind of task.
        """
        log = Log(model_dir)
        version = log.head() if number is None else log.read(number)
        if version is None:
            raise LookupError(f"model {log.directory}: there is no version yet, so there is nothing to load")
        return cls()._adopt(version, str(log.directory))

    def _adopt(self, version: Version, path: str) -> Any:
        learner = learner_from(version.record.learner)
        if (learner.classes is None) != isinstance(self, StreamingMLPRegressionModel):
            kind = "a regression" if learner.classes is None else "classification"
            raise ValueError(f"model {path} must be of the kind that {type(self).__name__} is; got {kind}")
        self._learner, self._state = learner, unflatten(initial(learner), version.tensors)
        return self

    @property
    def numFeatures(self) -> int:
        """How many features a row has."""
        return int(self._learner.inputs)

    @property
    def summary(self) -> TrainingSummary:
        """How the passes went."""
        figures = loop.report(self._learner, self._state)
        return TrainingSummary(len(self._curve), self._curve, figures)

    def _output(self, value: Vector) -> Array:
        x = np.asarray(value.toArray(), np.float32)[None]
        if x.shape[1] != self.numFeatures:
            raise ValueError(f"a row must have {self.numFeatures} features; got {x.shape[1]}")
        return frame.outputs(self._learner, self._state.model, x)

    def _answers(self, dataset: DataFrame, thresholds: Sequence[float] | None = None) -> Any:
        frame.classic(dataset)
        name = self.getOrDefault("featuresCol")
        x = frame.features(dataset, name)
        return frame.answers(self._learner, self._shared(dataset.sparkSession), name, x, thresholds)

    def _shared(self, spark: SparkSession) -> Any:
        """Broadcast the state once; it stays as long as the model does, for frames are computed late."""
        application = str(spark.sparkContext.applicationId)
        if application not in self._broadcasts:
            from streaming_nn.stream.worker import pack

            self._broadcasts[application] = spark.sparkContext.broadcast(pack(self._state))
        return self._broadcasts[application]

    def _with(self, dataset: DataFrame, answers: Any, columns: Mapping[str, Any]) -> DataFrame:
        """Add the columns that have a name, and no others."""
        asked = {name: part for name, part in columns.items() if name}
        for name in asked:
            if name in dataset.columns:
                raise ValueError(f"column {name!r} must not be in the frame already; got {dataset.columns}")
        whole = f"_{uuid4().hex}"
        return (
            dataset.withColumn(whole, answers)
            .withColumns({name: part(f.col(whole)) for name, part in asked.items()})
            .drop(whole)
        )

    def write(self) -> MLWriter:
        """Give what saves the model: params as JSON, and a log with the model as its version 0."""
        return _ModelWriter(self)

    @classmethod
    def read(cls) -> Any:
        """Give what loads a model; of a log that has grown since, the newest version."""
        return _ModelReader(cls)

    def _version(self) -> Version:
        learner: Learner[Any] = self._learner
        received = int(self._state.metrics.rows)
        record = Record(
            0,
            kind="saved",
            learner=learner.options(),
            schema=_schema(learner),
            rows=Rows(received, received)._asdict(),
            metrics=loop.report(learner, self._state),
            environment=describe(),
            written_at=now(),
            written_by=writer(uuid4().hex[:12]),
        )
        return Version(record, flatten(self._state))


def _schema(learner: Learner[Any]) -> dict[str, Any]:
    """Say what a stream's records look like, so that it can go on."""
    return Schema(learner.inputs, learner.classes).options()


class _ModelWriter(MLWriter):
    def __init__(self, model: _FittedModel) -> None:
        super().__init__()
        self.model = model

    def saveImpl(self, path: str) -> None:
        """Write the metadata, then the version; where it is a folder of this machine, as the log does."""
        more = {"objectiveHistory": list(self.model._curve)}
        DefaultParamsWriter.saveMetadata(self.model, path, self.sparkSession, more)
        local, version = _local(self.sparkSession, path), self.model._version()
        if local is not None:
            Log(local).append(version)
            return
        target, files = _hadoop(self.sparkSession, f"{path}/versions/{0:012d}{SUFFIX}")
        stream = files.create(target, False)
        stream.write(bytearray(encode(version)))
        stream.close()


class _ModelReader(MLReader):  # type: ignore[type-arg]
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind

    def load(self, path: str) -> Any:
        """Read the newest version, and the params. Errors: those of the log, ValueError: another class."""
        metadata = DefaultParamsReader.loadMetadata(path, self.sparkSession)
        own = f"{self.kind.__module__}.{self.kind.__name__}"
        if metadata["class"] != own:
            raise ValueError(f"{path} must hold a {own}; got {metadata['class']}")
        local = _local(self.sparkSession, path)
        if local is not None:
            model = self.kind.fromModelDir(local)
        else:
            kept = self.sparkSession.read.format("binaryFile").load(f"{path}/versions/*{SUFFIX}")
            row = kept.orderBy(f.col("path").desc()).first()
            if row is None:
                raise LookupError(f"{path}: there is no version in it")
            model = self.kind()._adopt(decode(bytes(row.content), name=row.path), path)
        model._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(model, metadata)
        model._curve = tuple(metadata.get("objectiveHistory", ()))
        return model


def _hadoop(spark: SparkSession, path: str) -> tuple[Any, Any]:
    """Give Hadoop's path and its file system."""
    assert spark._jvm is not None
    target = spark._jvm.org.apache.hadoop.fs.Path(path)
    return target, target.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())


def _local(spark: SparkSession, path: str) -> Path | None:
    """Give the folder where Spark's default file system is this machine's."""
    target, files = _hadoop(spark, path)
    whole = urlsplit(str(files.makeQualified(target).toUri().toString()))
    if whole.scheme != "file":
        return None
    return Path(str(files.makeQualified(target).toUri().getPath()))


@dataclass(frozen=True)
class ClassificationSummary:
    """How good a classification's answers are; rows count by their weights. By label: in `labels`' order.

    `precision`, `recall` and `f1` are means over the labels that occur or were predicted, as in the stream;
    what begins with `weighted` weighs a label by its rows, as in Spark.
    """

    labels: tuple[float, ...]
    confusion: tuple[
        tuple[float, ...], ...
    ]  # rows of each label (down) that were predicted to be each (across)

    @property
    def accuracy(self) -> float:
        """Part of the rows whose label was predicted."""
        return float(np.trace(self._counts) / self._counts.sum())

    @property
    def precisionByLabel(self) -> tuple[float, ...]:
        """Part of the rows predicted to be a label that are."""
        return _rates(np.diag(self._counts), self._counts.sum(axis=0))

    @property
    def recallByLabel(self) -> tuple[float, ...]:
        """Part of the rows of a label that were predicted to be it."""
        return _rates(np.diag(self._counts), self._counts.sum(axis=1))

    @property
    def fMeasureByLabel(self) -> tuple[float, ...]:
        """Harmonic means of precision and recall."""
        both = self._counts.sum(axis=0) + self._counts.sum(axis=1)
        return _rates(2 * np.diag(self._counts), both)

    @property
    def precision(self) -> float:
        """Mean precision of the labels."""
        return self._mean(self.precisionByLabel)

    @property
    def recall(self) -> float:
        """Mean recall of the labels."""
        return self._mean(self.recallByLabel)

    @property
    def f1(self) -> float:
        """Mean F1 of the labels."""
        return self._mean(self.fMeasureByLabel)

    @property
    def weightedPrecision(self) -> float:
        """Mean precision, a label weighing its rows."""
        return self._weighted(self.precisionByLabel)

    @property
    def weightedRecall(self) -> float:
        """Mean recall, a label weighing its rows."""
        return self._weighted(self.recallByLabel)

    @property
    def weightedFMeasure(self) -> float:
        """Mean F1, a label weighing its rows."""
        return self._weighted(self.fMeasureByLabel)

    @property
    def _counts(self) -> Array:
        return np.array(self.confusion, np.float64)

    def _mean(self, rates: Sequence[float]) -> float:
        there = self._counts.sum(axis=0) + self._counts.sum(axis=1) > 0
        return float(np.array(rates)[there].mean())

    def _weighted(self, rates: Sequence[float]) -> float:
        return float(np.array(rates) @ self._counts.sum(axis=1) / self._counts.sum())


def _rates(part: Array, of: Array) -> tuple[float, ...]:
    return tuple(np.divide(part, of, out=np.zeros(len(of)), where=of > 0).tolist())


@dataclass(frozen=True)
class RegressionSummary:
    """How good a regression's answers are; rows count by their weights."""

    mae: float  # mean absolute error
    rmse: float  # root mean squared error
    r2: float  # part of the variance that is explained; nan where there is none


class StreamingMLPClassificationModel(_FittedModel, ProbabilisticClassificationModel):
    """A classifier that was fitted. Probabilities and raw predictions are in the order of `labels`.

    The raw prediction is the logarithm of the probability. A label that is no number, of a model that
    somebody else wrote, is its place, as StringIndexer has it.
    """

    @property
    def numClasses(self) -> int:
        """How many labels there are."""
        return len(self._learner.classes)

    @property
    def labels(self) -> list[float]:
        """The labels in the order of the probabilities."""
        return [float(label) for label in frame.values_of(self._learner.classes)]

    def _transform(self, dataset: DataFrame) -> DataFrame:
        thresholds = self.getOrDefault("thresholds") if self.isDefined("thresholds") else None
        if thresholds is not None:
            _check_thresholds(thresholds, self.numClasses)
        columns = {
            self.getRawPredictionCol(): lambda a: array_to_vector(a["raw"]),
            self.getProbabilityCol(): lambda a: array_to_vector(a["output"]),
            self.getPredictionCol(): lambda a: a["prediction"],
        }
        return self._with(dataset, self._answers(dataset, thresholds), columns)

    def evaluate(self, dataset: DataFrame) -> ClassificationSummary:
        """Compare the answers with the labels. ValueError: a label that is not among `labels`, or no rows."""
        predicted, actual, weight = _answered(self, dataset)
        labels = self.labels
        confusion = np.zeros((len(labels), len(labels)))
        counted = actual.groupBy("y", predicted).agg(f.sum(weight).alias("w")).collect()
        if not counted:
            raise ValueError("the frame must have rows; got none")
        for y, prediction, w in counted:
            if y not in labels:
                raise ValueError(f"labelCol {self.getLabelCol()!r} must hold one of {labels}; got {y}")
            confusion[labels.index(y), labels.index(prediction)] += w
        return ClassificationSummary(tuple(labels), tuple(map(tuple, confusion.tolist())))

    def predict(self, value: Vector) -> float:
        """Answer one row with its label."""
        thresholds = self.getOrDefault("thresholds") if self.isDefined("thresholds") else None
        return float(frame.predicted(self._learner, self._output(value), thresholds)[0])

    def predictProbability(self, value: Vector) -> Vector:
        """Answer one row with its probabilities."""
        return DenseVector(self._output(value)[0].astype(np.float64))

    def predictRaw(self, value: Vector) -> Vector:
        """Answer one row with the logarithms of its probabilities."""
        return DenseVector(frame.raw(self._output(value))[0])


def _check_thresholds(thresholds: Sequence[float], classes: int) -> None:
    low = sum(threshold <= 0 for threshold in thresholds)
    if len(thresholds) != classes or min(thresholds) < 0 or low > 1:
        raise ValueError(
            f"thresholds must be {classes} numbers >= 0, one of them 0 at most; got {thresholds}"
        )


class StreamingMLPRegressionModel(_FittedModel, RegressionModel):  # type: ignore[type-arg]
    """A regressor that was fitted; of quantiles, it answers with the one that is nearest to the median."""

    def _transform(self, dataset: DataFrame) -> DataFrame:
        columns = {self.getPredictionCol(): lambda a: a["prediction"]}
        return self._with(dataset, self._answers(dataset), columns)

    def evaluate(self, dataset: DataFrame) -> RegressionSummary:
        """Compare the answers with the targets. ValueError: there are no rows."""
        predicted, actual, weight = _answered(self, dataset)
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

    def predict(self, value: Vector) -> float:
        """Answer one row with its target."""
        return float(frame.predicted(self._learner, self._output(value))[0])


def _answered(model: Any, dataset: DataFrame) -> tuple[str, DataFrame, Any]:
    """Give the column of the predictions, a frame with it and the label y, and the rows' weight."""
    columns = model._columns()
    rows = frame.rows(dataset, columns)
    scored = model.copy({model.getParam("featuresCol"): "x", model.getParam("predictionCol"): "prediction"})
    for name in ("probabilityCol", "rawPredictionCol"):
        if scored.hasParam(name):
            scored._set(**{name: ""})
    if rows.filter("y is null or isnan(y)").head(1):
        raise ValueError(f"labelCol {columns.label!r} must not hold nulls; got one")
    return "prediction", scored.transform(rows), f.lit(1.0) if columns.weight is None else f.col("weight")


class StreamingLearner:
    """Learns somebody's streaming query: give `update` to `foreachBatch`; each micro-batch becomes a version.

    `estimator` has the columns, and the options of a new model; a model that is there keeps its own but for
    those that are set. A classifier's `classes` must be set, or be in the label's metadata. `update` is
    "sequential", one task in the order in which `coalesce(1)` brings the rows (Spark promises none; a frame
    of one partition keeps its own), or "averaged", a task a partition.

    Exactly once: a version names its query and batch, and a batch that is in already is left out. So what
    Spark does again after a crash counts once, as long as the query keeps its checkpoint: it holds the id.
    """

    def __init__(
        self, model_dir: str | Path, estimator: Any, update: str = SEQUENTIAL, query_id: str | None = None
    ) -> None:
        if not isinstance(estimator, _Estimator):
            raise TypeError(f"estimator must be a StreamingMLPClassifier or -Regressor; got {estimator!r}")
        checks.one_of("update", update, UPDATES)
        self.log, self.estimator, self.how, self.query_id = Log(model_dir), estimator.copy(), update, query_id
        self.run = uuid4().hex[:12]
        self._head: tuple[Version, str] | None = None

    def update(self, dataset: DataFrame, batch_id: int) -> None:
        """Learn one micro-batch, unless the log has it already; an empty one leaves no version.

        Errors: ValueError in one line for bad columns and rows, Conflict where somebody else appends; the log
        is then as it was.
        """
        columns = self.estimator._columns()
        rows, query = frame.rows(dataset, columns), self._query(dataset)
        if batch_id <= self._last(query):
            return
        rows.persist(StorageLevel.MEMORY_AND_DISK)
        try:
            while not self._committed(rows, columns, dataset, {"query_id": query, "batch_id": batch_id}):
                pass
        finally:
            rows.unpersist()

    def model(self) -> Any:
        """Give the newest version as a model. LookupError: there is none."""
        regression = isinstance(self.estimator, StreamingMLPRegressor)
        kind = StreamingMLPRegressionModel if regression else StreamingMLPClassificationModel
        return self.estimator._copyValues(kind.fromModelDir(self.log.directory))

    def _query(self, dataset: DataFrame) -> str:
        found = self.query_id or dataset.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId")
        if not found:
            raise ValueError("query_id must be given outside of foreachBatch, where Spark has none; got None")
        return str(found)

    def _last(self, query: str) -> int:
        """Give the newest batch of the query that is in, -1 for none: the newest version names it, mostly."""
        for number in range(self.log.head_number() or 0, 0, -1):
            source = self.log.record(number).source
            if source.get("query_id") == query:
                return int(source["batch_id"])
        return -1

    def _committed(
        self, rows: DataFrame, columns: Columns, dataset: DataFrame, source: dict[str, Any]
    ) -> bool:
        """Learn from the newest version and append the next; False: it was rolled back meanwhile."""
        if not rows.head(1):
            return True
        head, sha = self._newest(rows, columns, dataset)
        learner = self._continued(head, _width(rows, columns))
        state = unflatten(initial(learner), head.tensors)
        ordered = rows.coalesce(1) if self.how == SEQUENTIAL else rows
        learned = frame.learn_once(learner, state, ordered, columns)
        try:
            self._append(head, sha, learner, state, learned, source)
        except Conflict as conflict:
            if conflict.record is None or conflict.record.kind != "rolled-back":
                raise
            return False
        return True

    def _newest(self, rows: DataFrame, columns: Columns, dataset: DataFrame) -> tuple[Version, str]:
        number = self.log.head_number()
        if number is None:
            self._begin(self.estimator._made(_width(rows, columns), self.estimator._labels(None, dataset)))
        elif self._head is not None and self._head[0].number == number:
            return self._head
        head = self.log.head()
        assert head is not None
        return head, self.log.sha256(head.number)

    def _begin(self, learner: Learner[Any]) -> None:
        record = Record(
            0,
            kind="initial",
            learner=learner.options(),
            schema=_schema(learner),
            update=self.how,
            environment=describe(),
            written_at=now(),
            written_by=writer(self.run),
        )
        self.log.append(Version(record, flatten(initial(learner))))

    def _continued(self, head: Version, inputs: int) -> Learner[Any]:
        """Make the learner that goes on from the head. ValueError: what is set needs another model."""
        recorded, asked = head.record.learner, self.estimator._options(only_set=True)
        if inputs != recorded["inputs"]:
            raise ValueError(f"model {self.log.directory} has {recorded['inputs']} features; got {inputs}")
        regression = isinstance(self.estimator, StreamingMLPRegressor)
        if (recorded.get("classes") is None) != regression:
            raise ValueError(
                f"model {self.log.directory} must be of the estimator's kind of task; got the other"
            )
        with _in_sparks_names():
            learner = learner_from({**recorded, **asked, "seed": recorded.get("seed", 0)})
        new, wanted = learner.options(), {k: (v.shape, v.dtype) for k, v in flatten(initial(learner)).items()}
        if wanted != {name: (np.shape(t), np.asarray(t).dtype) for name, t in head.tensors.items()}:
            changed = [f"{NAMES.get(k, k)} = {recorded.get(k)}" for k in new if new[k] != recorded.get(k)]
            raise ValueError(
                f"model {self.log.directory} was made with {', '.join(changed)}; got other params"
            )
        return learner

    def _append(
        self,
        head: Version,
        sha: str,
        learner: Learner[Any],
        before: State[Any],
        learned: Learned,
        source: dict[str, Any],
    ) -> None:
        record = child(
            head.record,
            sha,
            learner=learner.options(),
            update=self.how,
            rows=learned.rows._asdict(),
            metrics=loop.report(learner, learned.state),
            events=loop.events(learner, before, learned.state),
            source=source,
            environment=describe(),
            written_at=now(),
            written_by=writer(self.run),
        )
        version = Version(record, flatten(learned.state))
        self._head = None
        self._head = version, self.log.append(version)
