"""The learners in Spark ML's manners: estimators, models, pipelines, on the same versions as the stream."""
# ruff: noqa: N802  (Spark's names)

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from pyspark import StorageLevel
from pyspark.ml.classification import ProbabilisticClassificationModel, ProbabilisticClassifier
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import DenseVector, Vector
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

from streaming_nn.errors import VersionConflictError
from streaming_nn.mllib import dataframe
from streaming_nn.mllib.dataframe import Columns, Learned
from streaming_nn.mllib.params import NAMES, LearnerParams, in_sparks_names
from streaming_nn.mllib.summary import ClassificationSummary, RegressionSummary, TrainingSummary
from streaming_nn.nn import learner as loop
from streaming_nn.nn import validation
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Counts, Learner, State, initial
from streaming_nn.nn.state_dict import flatten, unflatten
from streaming_nn.records.schema import Schema
from streaming_nn.spark.sources.spark_source import last_batch, query_id
from streaming_nn.spark.tasks import pack
from streaming_nn.versions.version import SEQUENTIAL, UPDATES, Tensors, Version, decode, encode
from streaming_nn.versions.version_log import SUFFIX, VersionLog, next_manifest

Array = NDArray[Any]
MOST_CLASSES = 1000  # distinct labels past which a column is taken for a regression's


class _Estimator(LearnerParams, DefaultParamsWritable):
    """What both estimators share: rows are learned by a task a partition, pass after pass.

    Each partition learns its rows, in their order, from where the pass began; the driver averages what they
    give. So one partition is exact descent, more are faster and cost accuracy (docs/averaged.md). Counts that
    are sorted, by label for one, are best shuffled before. Errors: ValueError in one line, and no model, for
    bad columns, rows and params; RuntimeError under Spark Connect.
    """

    def _fit(self, dataset: DataFrame) -> Any:
        columns, passes = self._columns(), self.getMaxIter()
        rows = dataframe.rows(dataset, columns)
        validation.integer("maxIter", passes)
        if dataset.isStreaming:
            raise ValueError("fit needs a frame that ends; got a streaming one: fitStream learns it")
        rows.persist(StorageLevel.MEMORY_AND_DISK)  # passes must see the same rows, in the same order
        try:
            learner = self._made(_width(rows.first(), columns), self._labels(rows, dataset))
            learned = dataframe.learn(learner, initial(learner), rows, columns, passes)
        finally:
            rows.unpersist()
        return self._copyValues(self._model(learner, learned.state, learned.curve)._resetUid(self.uid))

    def _made(self, inputs: int, classes: Sequence[Any] | None) -> Learner[Any]:
        self._check_layers(inputs, 1 if classes is None else len(classes))
        with in_sparks_names():
            return learner_from({**self._options(), "inputs": inputs, "classes": classes})

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
        dataframe.rows(dataset, self._columns())
        learner = StreamingLearner(model_dir, self, update)
        stream = dataset.writeStream.foreachBatch(learner.update)
        stream = stream.option("checkpointLocation", str(checkpoint or Path(model_dir) / "checkpoint"))
        return (stream.trigger(**trigger) if trigger else stream).start()


def _width(first: Any, columns: Columns) -> int:
    """Count the features of a frame's first row. ValueError: there is no row, or it has none."""
    if first is None:
        raise ValueError("the frame must have rows; got none")
    if not first.x:
        found = "a null" if first.x is None else "an empty one"
        raise ValueError(f"featuresCol {columns.features!r} must hold one feature or more a row; got {found}")
    return len(first.x)


class StreamingClassifier(_Estimator, ProbabilisticClassifier, DefaultParamsReadable):  # type: ignore[type-arg]
    """A classifier; by default nine networks that need no tuning, `maxIter` (10) passes.

    `featuresCol` holds vectors, or arrays of numbers; `labelCol` whole numbers: StringIndexer makes them. The
    classes are `classes`, or those that StringIndexer left in the column's metadata, or the distinct labels.
    """

    def __init__(self, **params: Any) -> None:
        super().__init__()
        self._given(params)

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

    def _model(self, learner: Any, state: Any, curve: Sequence[float]) -> "StreamingClassificationModel":
        return StreamingClassificationModel(learner, state, curve)


def _whole(name: str, labels: Sequence[float]) -> list[int]:
    """Give labels as a record has them; ValueError unless they are two or more whole numbers."""
    if other := [label for label in labels if not float(label).is_integer()]:
        raise ValueError(f"labelCol {name!r} must hold whole numbers; got {other[0]}: is it a regression?")
    if not 2 <= len(labels) <= MOST_CLASSES:
        raise ValueError(f"labelCol {name!r} must have 2 to {MOST_CLASSES} classes; got {len(labels)}")
    return [int(label) for label in labels]


class StreamingRegressor(_Estimator, Regressor, DefaultParamsReadable):  # type: ignore[type-arg]
    """A regressor; params as for `StreamingClassifier`. With `hiddenLayers=[]` it is linear regression."""

    def __init__(self, **params: Any) -> None:
        super().__init__()
        self._given(params)

    def _labels(self, rows: DataFrame | None, dataset: DataFrame) -> None:
        return None

    def _model(self, learner: Any, state: Any, curve: Sequence[float]) -> "StreamingRegressionModel":
        return StreamingRegressionModel(learner, state, curve)


class _FittedModel(LearnerParams, MLWritable, MLReadable):  # type: ignore[type-arg]
    """What both models share. The state is never changed, so copies have it in common."""

    def __init__(self, learner: Any = None, state: Any = None, curve: Sequence[float] = ()) -> None:
        super().__init__()
        self._made, self._state, self._curve = learner, state, tuple(curve)
        self._broadcasts: dict[str, Any] = {}  # application: the state, as its tasks have it

    @classmethod
    def fromModelDir(cls, model_dir: str | Path, number: int | None = None) -> Any:
        """Give the newest version of a model directory, or that of a number, as a model; whoever wrote it.

        Errors: LookupError: there is none; DamagedVersionError; ValueError: it is for the other kind of task.
        """
        log = VersionLog(model_dir)
        version = log.head() if number is None else log.read(number)
        if version is None:
            raise LookupError(f"model {log.directory}: there is no version yet, so there is nothing to load")
        return cls()._adopt(version, str(log.directory))

    def _adopt(self, version: Version, path: str) -> Any:
        learner = learner_from(version.manifest.learner)
        if (learner.classes is None) != isinstance(self, StreamingRegressionModel):
            kind = "a regression" if learner.classes is None else "classification"
            raise ValueError(f"model {path} must be of the kind that {type(self).__name__} is; got {kind}")
        self._made, self._state = learner, unflatten(initial(learner), version.tensors)
        return self

    @property
    def _learner(self) -> Any:
        if self._made is None:
            raise ValueError(f"a {type(self).__name__} must be fitted or loaded first; got one that was not")
        return self._made

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
        return dataframe.outputs(self._learner, self._state.model, x)

    def _answers(self, dataset: DataFrame, thresholds: Sequence[float] | None = None) -> Any:
        dataframe.classic(dataset)
        name = self.getOrDefault("featuresCol")
        x = dataframe.features(dataset, name)
        return dataframe.answers(self._learner, self._shared(dataset.sparkSession), name, x, thresholds)

    def _shared(self, spark: SparkSession) -> Any:
        """Broadcast the state once; it stays as long as the model does, for frames are computed late."""
        application = str(spark.sparkContext.applicationId)
        if application not in self._broadcasts:
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

    def _version(self) -> tuple[dict[str, Any], Tensors]:
        """Return the manifest's fields and the tensors of a version 0 with this model."""
        learner: Learner[Any] = self._learner
        received = int(self._state.metrics.rows)
        fields = {
            "kind": "saved",
            "learner": learner.options(),
            "schema": _schema(learner),
            "counts": Counts(received, received)._asdict(),
            "metrics": loop.report(learner, self._state),
        }
        return fields, flatten(self._state)


def _schema(learner: Learner[Any]) -> dict[str, Any]:
    """Say what a stream's records look like, so that it can go on."""
    return Schema(learner.inputs, learner.classes).options()


class _ModelWriter(MLWriter):
    def __init__(self, model: _FittedModel) -> None:
        super().__init__()
        self.model, (self.fields, self.tensors) = model, model._version()

    def save(self, path: str) -> None:
        """Save to a folder that is not there yet, or after `overwrite()`. RuntimeError: Spark Connect."""
        dataframe.classic(self.sparkSession)
        super().save(path)

    def saveImpl(self, path: str) -> None:
        """Write the metadata, then the version; where it is a folder of this machine, as the log does."""
        more = {"objectiveHistory": list(self.model._curve)}
        DefaultParamsWriter.saveMetadata(self.model, path, self.sparkSession, more)
        local = _local(self.sparkSession, path)
        if local is not None:
            VersionLog(local).commit(None, self.tensors, **self.fields)
            return
        target, files = _hadoop(self.sparkSession, f"{path}/versions/{0:012d}{SUFFIX}")
        stream = files.create(target, False)
        manifest = next_manifest(None, uuid4().hex[:12], **self.fields)
        stream.write(bytearray(encode(Version(manifest, self.tensors))))
        stream.close()


class _ModelReader(MLReader):  # type: ignore[type-arg]
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind

    def load(self, path: str) -> Any:
        """Read the newest version, and the params.

        Errors: those of the log; ValueError: another class; RuntimeError: Spark Connect.
        """
        dataframe.classic(self.sparkSession)
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


class StreamingClassificationModel(_FittedModel, ProbabilisticClassificationModel):
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
        return [float(label) for label in dataframe.values_of(self._learner.classes)]

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
        return float(dataframe.predicted(self._learner, self._output(value), thresholds)[0])

    def predictProbability(self, value: Vector) -> Vector:
        """Answer one row with its probabilities."""
        return DenseVector(self._output(value)[0].astype(np.float64))

    def predictRaw(self, value: Vector) -> Vector:
        """Answer one row with the logarithms of its probabilities."""
        return DenseVector(dataframe.raw(self._output(value))[0])


def _check_thresholds(thresholds: Sequence[float], classes: int) -> None:
    low = sum(threshold <= 0 for threshold in thresholds)
    if len(thresholds) != classes or min(thresholds) < 0 or low > 1:
        raise ValueError(
            f"thresholds must be {classes} numbers >= 0, one of them 0 at most; got {thresholds}"
        )


class StreamingRegressionModel(_FittedModel, RegressionModel):  # type: ignore[type-arg]
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
        return float(dataframe.predicted(self._learner, self._output(value))[0])


def _answered(model: Any, dataset: DataFrame) -> tuple[str, DataFrame, Any]:
    """Give the column of the predictions, a frame with it and the label y, and the rows' weight."""
    columns = model._columns()
    rows = dataframe.rows(dataset, columns)
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
            raise TypeError(f"estimator must be a StreamingClassifier or -Regressor; got {estimator!r}")
        validation.one_of("update", update, UPDATES)
        self.log, self.estimator, self.how, self.query_id = (
            VersionLog(model_dir),
            estimator.copy(),
            update,
            query_id,
        )
        self._head: Version | None = None

    def update(self, dataset: DataFrame, batch_id: int) -> None:
        """Learn one micro-batch, unless the log has it already; an empty one leaves no version.

        Errors: ValueError in one line for bad columns and rows, VersionConflictError where somebody else appends; the log
        is then as it was.
        """
        columns = self.estimator._columns()
        rows, query = dataframe.rows(dataset, columns), self._query(dataset)
        if batch_id <= last_batch(self.log, query):
            return
        source = {"query_id": query, "batch_id": batch_id}
        while not self._committed(rows, columns, dataset, source):
            pass

    def model(self) -> Any:
        """Give the newest version as a model. LookupError: there is none."""
        regression = isinstance(self.estimator, StreamingRegressor)
        kind = StreamingRegressionModel if regression else StreamingClassificationModel
        return self.estimator._copyValues(kind.fromModelDir(self.log.directory))

    def _query(self, dataset: DataFrame) -> str:
        found = self.query_id or query_id(dataset)
        if not found:
            raise ValueError("query_id must be given outside of foreachBatch, where Spark has none; got None")
        return found

    def _committed(
        self, rows: DataFrame, columns: Columns, dataset: DataFrame, source: dict[str, Any]
    ) -> bool:
        """Learn on from the head and append the next version; False: it was rolled back meanwhile."""
        head = self._newest() or self._first(rows, columns, dataset)
        if head is None:
            return True
        learner = self._continued(head)
        state = unflatten(initial(learner), head.tensors)
        ordered = rows.coalesce(1) if self.how == SEQUENTIAL else rows
        learned = dataframe.learn_once(learner, state, ordered, columns)
        if not learned.rows.received:
            return True
        try:
            self._append(head, learner, state, learned, source)
        except VersionConflictError as conflict:
            if conflict.manifest is None or conflict.manifest.kind != "rolled-back":
                raise
            return False
        return True

    def _newest(self) -> Version | None:
        number = self.log.head_number()
        if number is not None and (self._head is None or self._head.number != number):
            self._head = self.log.head()
        return self._head if number is not None else None

    def _first(self, rows: DataFrame, columns: Columns, dataset: DataFrame) -> Version | None:
        """Append version 0, a model that has seen nothing; None without a row that says how wide it is."""
        first = rows.first()
        if first is None:
            return None
        self._begin(self.estimator._made(_width(first, columns), self.estimator._labels(None, dataset)))
        return self._newest()

    def _begin(self, learner: Learner[Any]) -> None:
        self.log.commit(
            None,
            flatten(initial(learner)),
            learner=learner.options(),
            schema=_schema(learner),
            update=self.how,
        )

    def _continued(self, head: Version) -> Learner[Any]:
        """Make the learner that goes on from the head. ValueError: what is set needs another model."""
        recorded, asked = head.manifest.learner, self.estimator._options(only_set=True)
        regression = isinstance(self.estimator, StreamingRegressor)
        if (recorded.get("classes") is None) != regression:
            raise ValueError(
                f"model {self.log.directory} must be of the estimator's kind of task; got the other"
            )
        with in_sparks_names():
            learner = learner_from({**recorded, **asked, "seed": recorded.get("seed", 0)})
        new, wanted = learner.options(), {k: (v.shape, v.dtype) for k, v in flatten(initial(learner)).items()}
        if wanted != {name: (np.shape(t), np.asarray(t).dtype) for name, t in head.tensors.items()}:
            changed = [
                f"{NAMES.get(option, option)} = {recorded.get(option)!r}, now {value!r}"
                for option, value in new.items()
                if value != recorded.get(option)
            ]
            raise ValueError(
                f"model {self.log.directory} was made with {', '.join(changed)}: "
                "that takes a new model directory"
            )
        return learner

    def _append(
        self,
        head: Version,
        learner: Learner[Any],
        before: State[Any],
        learned: Learned,
        source: dict[str, Any],
    ) -> None:
        self._head = None
        self._head = self.log.commit(
            head,
            flatten(learned.state),
            kind="saved",  # a replay takes its tensors over: the rows are in no topic
            learner=learner.options(),
            update=self.how,
            counts=learned.rows._asdict(),
            metrics=loop.report(learner, learned.state),
            events=loop.events(learner, before, learned.state),
            source=source,
        )
