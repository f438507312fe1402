import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import ROOT
from pyspark.errors import PythonException, StreamingQueryException
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import MultilayerPerceptronClassifier, RandomForestClassifier
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import StandardScaler, StringIndexer, VectorAssembler
from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import Vectors
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f
from sklearn.datasets import load_iris
from sklearn.metrics import (
    mean_absolute_error,
    mean_squared_error,
    precision_recall_fscore_support,
    r2_score,
)

from streaming_nn.estimators import sklearn
from streaming_nn.mllib.estimators import StreamingClassifier, StreamingRegressor
from streaming_nn.mllib.models import StreamingClassificationModel, StreamingRegressionModel
from streaming_nn.mllib.streaming_learner import StreamingLearner
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, combine, initial, learn_part
from streaming_nn.nn.state_dict import flatten
from streaming_nn.versions.rollback import rollback
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.nightly  # together they take minutes, on one Spark session

X, Y = load_iris(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(len(Y))
X, Y = X[ORDER], Y[ORDER]
SMALL: dict[str, Any] = {"hiddenLayers": [8], "blockSize": 8, "optimizer": "adam", "stepSize": 0.01}
AS_ARRAYS: dict[str, Any] = {"hidden": (8,), "mini_batch": 8, "optimizer": "adam", "learning_rate": 0.01}


def frame(
    spark: SparkSession, x: Any = X, y: Any = Y, slices: int = 1, kind: Any = Vectors.dense
) -> DataFrame:
    rows = [(kind(list(map(float, row))), float(label)) for row, label in zip(x, y, strict=True)]
    features = "array<double>" if kind is list else "vector"
    if features == "vector":
        made = spark.createDataFrame(spark.sparkContext.parallelize(rows, slices), ["features", "label"])
    else:
        schema = f"features {features}, label double"
        made = spark.createDataFrame(spark.sparkContext.parallelize(rows, slices), schema)
    return made


@pytest.fixture(scope="module")
def iris(spark: SparkSession) -> DataFrame:
    return frame(spark).cache()


@pytest.fixture(scope="module")
def fitted(iris: DataFrame) -> StreamingClassificationModel:
    model: StreamingClassificationModel = StreamingClassifier(**SMALL).fit(iris)
    return model


def bits(state: Any) -> dict[str, bytes]:
    return {name: tensor.tobytes() for name, tensor in flatten(state).items()}


@pytest.mark.parametrize("kind", [Vectors.dense, list])
def test_one_pass_over_one_partition_gives_scikit_learn_s_api_s_bits(spark: SparkSession, kind: Any) -> None:
    model = StreamingClassifier(**SMALL, maxIter=1).fit(frame(spark, kind=kind))
    other = sklearn.OnlineClassifier("mlp", **AS_ARRAYS).fit(X, Y)
    assert model._learner == other.learner_
    assert bits(model._state) == bits(other.state_)


def test_predictions_are_those_of_scikit_learn_s_api(fitted: Any, iris: DataFrame) -> None:
    other = sklearn.OnlineClassifier("mlp", **AS_ARRAYS)
    for _ in range(10):
        other.partial_fit(X, Y, classes=range(3))
    rows = fitted.transform(iris).collect()
    assert [row.prediction for row in rows] == other.predict(X).tolist()
    probability = np.array([row.probability.toArray() for row in rows])
    np.testing.assert_allclose(probability, other.predict_proba(X), rtol=1e-6)
    np.testing.assert_allclose(np.exp([row.rawPrediction.toArray() for row in rows]), probability)
    one = rows[0].features
    assert fitted.predict(one) == rows[0].prediction
    np.testing.assert_allclose(fitted.predictProbability(one).toArray(), probability[0], rtol=1e-6)


def test_partitions_are_averaged_pass_by_pass(spark: SparkSession) -> None:
    model = StreamingClassifier(**SMALL, maxIter=2).fit(frame(spark, slices=3))
    learner = learner_from({**AS_ARRAYS, "inputs": 4, "classes": [0, 1, 2]})
    state = initial(learner)
    for _ in range(2):
        thirds = [Batch(X[rows], Y[rows].astype(np.int32)) for rows in np.split(np.arange(150), 3)]
        state = combine(learner, state, [learn_part(learner, state, [batch]) for batch in thirds])
    assert bits(model._state) == bits(state)


def test_scores_are_scikit_learn_s(fitted: Any, iris: DataFrame) -> None:
    found = fitted.evaluate(iris)
    predictions = [row.prediction for row in fitted.transform(iris).collect()]
    assert found.accuracy == pytest.approx(np.mean(np.array(predictions) == Y))
    assert found.accuracy > 0.9
    macro = precision_recall_fscore_support(Y, predictions, average="macro")[:3]
    assert (found.precision, found.recall, found.f1) == pytest.approx(macro)


def test_five_points_on_a_line(spark: SparkSession) -> None:
    points = frame(spark, np.arange(5.0)[:, None], 2 * np.arange(5.0) + 1)
    line = StreamingRegressor(hiddenLayers=[], stepSize=0.1, maxIter=200).fit(points)
    assert [row.prediction for row in line.transform(points).collect()] == pytest.approx(
        [1, 3, 5, 7, 9], abs=0.01
    )
    found = line.evaluate(points)
    assert found.mae < 0.01
    assert found.rmse < 0.01
    assert found.r2 > 0.999
    assert line.predict(Vectors.dense(10.0)) == pytest.approx(21, rel=0.5)


def test_a_saved_model_is_a_model_directory_too(fitted: Any, iris: DataFrame, tmp_path: Path) -> None:
    path = str(tmp_path / "model")
    fitted.write().overwrite().save(path)
    fitted.write().overwrite().save(path)
    loaded = StreamingClassificationModel.load(path)
    assert bits(loaded._state) == bits(fitted._state)
    assert loaded.uid == fitted.uid
    assert loaded.summary == fitted.summary
    assert loaded.getHiddenLayers() == [8]
    assert loaded.transform(iris).collect() == fitted.transform(iris).collect()
    assert sklearn.load(path).predict(X).tolist() == [
        row.prediction for row in loaded.transform(iris).collect()
    ]
    sklearn.load(path).partial_fit(X, Y).save(path)
    assert bits(StreamingClassificationModel.load(path)._state) != bits(fitted._state)
    assert not list(tmp_path.rglob("*.pkl"))


def test_an_estimator_is_saved_with_its_params(tmp_path: Path, spark: SparkSession) -> None:
    estimator = StreamingClassifier(**SMALL, members=None, classWeight={1: 2.0}, labelCol="y")
    estimator.write().overwrite().save(str(tmp_path / "estimator"))
    loaded = StreamingClassifier.load(str(tmp_path / "estimator"))
    assert loaded.uid == estimator.uid
    assert {p.name: v for p, v in loaded.extractParamMap().items()} == {
        p.name: v for p, v in estimator.extractParamMap().items()
    }
    assert loaded._options() == estimator._options()


@pytest.fixture
def table(spark: SparkSession) -> DataFrame:
    names = np.array(["setosa", "versicolor", "virginica"])
    rows = [(*map(float, x), str(names[y])) for x, y in zip(X, Y, strict=True)]
    return spark.createDataFrame(rows, ["a", "b", "c", "d", "name"]).coalesce(1)


def test_a_pipeline_can_be_saved_and_loaded(table: DataFrame, tmp_path: Path) -> None:
    stages = [
        StringIndexer(inputCol="name", outputCol="label"),
        VectorAssembler(inputCols=["a", "b", "c", "d"], outputCol="raw"),
        StandardScaler(inputCol="raw", outputCol="features", withMean=True),
        StreamingClassifier(**SMALL),
    ]
    model = Pipeline(stages=stages).fit(table)
    assert MulticlassClassificationEvaluator(metricName="accuracy").evaluate(model.transform(table)) > 0.9
    model.write().overwrite().save(str(tmp_path / "pipeline"))
    loaded = PipelineModel.load(str(tmp_path / "pipeline"))
    assert loaded.transform(table).collect() == model.transform(table).collect()


def test_a_fitted_forest_makes_the_features_of_the_network(table: DataFrame, tmp_path: Path) -> None:
    index = StringIndexer(inputCol="name", outputCol="label")
    assemble = VectorAssembler(inputCols=["a", "b", "c", "d"], outputCol="raw")
    forest = RandomForestClassifier(
        featuresCol="raw",
        numTrees=5,
        seed=0,
        probabilityCol="forest",
        predictionCol="forestPrediction",
        rawPredictionCol="votes",
    ).fit(Pipeline(stages=[index, assemble]).fit(table).transform(table))
    stages = [index, assemble, forest, StreamingClassifier(**SMALL, featuresCol="forest")]
    model = Pipeline(stages=stages).fit(table)
    assert model.stages[2] is forest
    assert model.stages[-1].numFeatures == 3
    assert MulticlassClassificationEvaluator(metricName="accuracy").evaluate(model.transform(table)) > 0.9
    model.save(str(tmp_path / "pipeline"))
    loaded = PipelineModel.load(str(tmp_path / "pipeline"))
    assert loaded.transform(table).collect() == model.transform(table).collect()


def test_cross_validation_selects_params(iris: DataFrame) -> None:
    estimator = StreamingClassifier(**SMALL)
    grid = (
        ParamGridBuilder().addGrid(estimator.stepSize, [1e-6, 0.01]).addGrid(estimator.maxIter, [3]).build()
    )
    evaluator = MulticlassClassificationEvaluator(metricName="accuracy")
    found = CrossValidator(
        estimator=estimator, estimatorParamMaps=grid, evaluator=evaluator, numFolds=2, seed=0
    ).fit(iris)
    assert found.avgMetrics[1] > found.avgMetrics[0]
    assert found.bestModel.getStepSize() == 0.01
    assert estimator.getOrDefault("maxIter") == 10


@pytest.mark.merge
def test_a_stream_is_learned_exactly_once_and_predicted(spark: SparkSession, tmp_path: Path) -> None:
    source, model_dir = tmp_path / "source", tmp_path / "model"
    estimator = StreamingClassifier(**SMALL, classes=[0.0, 1.0, 2.0])
    other = sklearn.OnlineClassifier("mlp", **AS_ARRAYS)
    for rows in np.split(np.arange(150), 3):
        frame(spark, X[rows], Y[rows], kind=list).write.mode("append").parquet(str(source))
        stream = spark.readStream.schema("features array<double>, label double").parquet(str(source))
        query = estimator.fitStream(stream, model_dir, availableNow=True)
        query.awaitTermination(120)
        other.partial_fit(X[rows], Y[rows], classes=range(3))
        model = StreamingClassificationModel.fromModelDir(model_dir)
        assert bits(model._state) == bits(other.state_)
    log = VersionLog(model_dir)
    assert [log.manifest(n).source for n in range(1, 4)] == [
        {"query_id": query.id, "batch_id": n} for n in range(3)
    ]
    predicted = model.transform(stream).writeStream.format("memory").queryName("predicted")
    predicted.trigger(availableNow=True).start().awaitTermination(120)
    assert spark.table("predicted").filter("prediction is not null").count() == 150


@pytest.mark.merge
def test_a_batch_that_is_in_the_log_is_skipped(spark: SparkSession, iris: DataFrame, tmp_path: Path) -> None:
    estimator = StreamingClassifier(**SMALL, classes=[0.0, 1.0, 2.0])
    for _ in range(2):
        learner = StreamingLearner(tmp_path, estimator, query_id="q")
        for batch_id in (0, 1, 1, 0):
            learner.update(iris, batch_id)
        assert learner.log.head_number() == 2
    StreamingLearner(tmp_path, estimator, query_id="another").update(iris, 0)
    StreamingLearner(tmp_path, estimator, query_id="q").update(iris, 1)
    assert VersionLog(tmp_path).head_number() == 3


@pytest.mark.merge
def test_a_batch_that_spark_repeats_after_a_crash_counts_once(spark: SparkSession, tmp_path: Path) -> None:
    frame(spark, kind=list).write.parquet(str(tmp_path / "source"))
    stream = spark.readStream.schema("features array<double>, label double").parquet(str(tmp_path / "source"))
    learner = StreamingLearner(tmp_path / "model", StreamingClassifier(**SMALL, classes=[0.0, 1.0, 2.0]))

    def then_die(dataset: DataFrame, batch_id: int) -> None:
        learner.update(dataset, batch_id)  # committed; Spark has not noted it yet
        raise OSError("the machine is gone")

    for work in (then_die, learner.update):
        writing = stream.writeStream.foreachBatch(work).trigger(availableNow=True)
        query = writing.option("checkpointLocation", str(tmp_path / "checkpoint")).start()
        if work is then_die:
            with pytest.raises(StreamingQueryException, match="the machine is gone"):
                query.awaitTermination(120)
        else:
            query.awaitTermination(120)
    log = VersionLog(tmp_path / "model")
    assert log.head_number() == 1
    assert log.manifest(1).counts == {
        "received": 150,
        "trained": 150,
        "skipped": 0,
        "rejected": 0,
        "filtered": 0,
    }


def test_a_task_per_partition_learns_an_averaged_batch(spark: SparkSession, tmp_path: Path) -> None:
    estimator = StreamingClassifier(**SMALL, maxIter=1, classes=[0.0, 1.0, 2.0])
    learner = StreamingLearner(tmp_path, estimator, update="averaged", query_id="q")
    learner.update(frame(spark, slices=3), 0)
    fitted = estimator.fit(frame(spark, slices=3))
    assert bits(learner.model()._state) == bits(fitted._state)
    assert VersionLog(tmp_path).manifest(1).update == "averaged"


@pytest.mark.merge
def test_a_rolled_back_model_resumes_and_knows_its_batches(iris: DataFrame, tmp_path: Path) -> None:
    learner = StreamingLearner(tmp_path, StreamingClassifier(**SMALL, classes=[0.0, 1.0, 2.0]), query_id="q")
    learner.update(iris, 0)
    first = bits(learner.model()._state)
    learner.update(iris, 1)
    second = bits(learner.model()._state)
    rollback(learner.log, 1)
    assert {k: v for k, v in bits(learner.model()._state).items() if k.startswith("model.")} == {
        k: v for k, v in first.items() if k.startswith("model.")
    }
    learner.update(iris, 1)
    assert learner.log.head_number() == 3
    learner.update(iris, 2)
    again = bits(learner.model()._state)
    assert again["model.theta"] == second["model.theta"]


def test_a_batch_that_is_repeated_after_its_version_was_pruned_counts_once(
    iris: DataFrame, tmp_path: Path
) -> None:
    estimator = StreamingClassifier(**SMALL, classes=[0.0, 1.0, 2.0])
    learner = StreamingLearner(tmp_path, estimator, query_id="q", keep_bytes=1)
    for batch_id in (0, 1, 2, 1):
        learner.update(iris, batch_id)
    assert learner.log.head_number() == 3
    assert learner.log.files() == [0, 3]


def test_an_empty_batch_leaves_no_version(iris: DataFrame, tmp_path: Path) -> None:
    learner = StreamingLearner(tmp_path, StreamingRegressor(), query_id="q")
    learner.update(iris.limit(0), 0)
    assert learner.log.head_number() is None
    with pytest.raises(LookupError, match=r"it has no versions$"):
        learner.model()


def test_an_untrained_model_restarts_with_other_params(
    iris: DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Case 12: after a first try with wrong params, or a label that is in no class."""
    caplog.set_level(logging.INFO)
    wrong = StreamingClassifier(**SMALL, classes=[0.0, 1.0])
    right = StreamingClassifier(**SMALL | {"hiddenLayers": [9]}, classes=[0.0, 1.0, 2.0])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"must be one of \[0.0, 1.0\]; got 2.0$"):
            StreamingLearner(tmp_path, wrong, query_id="q").update(iris, 0)
    learner = StreamingLearner(tmp_path, right, query_id="q")
    learner.update(iris, 0)
    assert [learner.log.manifest(n).kind for n in range(3)] == ["initial", "initial", "saved"]
    (event,) = learner.log.manifest(1).events
    assert event["event"] == "model restarted"
    assert "hiddenLayers = [8], now [9]" in event["changed"]
    assert f"{tmp_path} is untrained; restarting from scratch: {event['changed']}" in caplog.messages
    new = StreamingLearner(tmp_path / "new", right, query_id="q")
    new.update(iris, 0)
    assert bits(learner.model()._state) == bits(new.model()._state)
    with pytest.raises(ValueError, match=r"hiddenLayers = \[9\], now \[8\]; use a new model directory"):
        StreamingLearner(tmp_path, wrong, query_id="q").update(iris, 1)


def test_a_model_resumes_with_new_rates_but_not_with_another_shape(iris: DataFrame, tmp_path: Path) -> None:
    def update(estimator: Any, batch_id: int, dataset: DataFrame = iris) -> None:
        StreamingLearner(tmp_path, estimator, query_id="q").update(dataset, batch_id)

    update(StreamingClassifier(**SMALL, classes=[0.0, 1.0, 2.0]), 0)
    update(StreamingClassifier(stepSize=0.5), 1)
    assert VersionLog(tmp_path).manifest(2).learner["learning_rate"] == 0.5
    assert VersionLog(tmp_path).manifest(2).learner["hidden"] == [8]
    for estimator, words in (
        (
            StreamingClassifier(hiddenLayers=[9]),
            r"was created with hiddenLayers = \[8\], now \[9\]; use a new",
        ),
        (StreamingRegressor(), "as a StreamingRegressor is; got a model for classification$"),
        (StreamingClassifier(stepSize=-1.0), "^stepSize must be a number in"),
    ):
        with pytest.raises(ValueError, match=words):
            update(estimator, 2)
    with pytest.raises(ValueError, match=r"must have 4 features per row; got 1$"):
        update(StreamingClassifier(), 2, iris.select(f.array("label").alias("features"), "label"))
    with pytest.raises(ValueError, match=r"must be one of \[0.0, 1.0, 2.0\]; got 3.0$"):
        update(StreamingClassifier(), 2, iris.withColumn("label", f.col("label") + 1))
    assert VersionLog(tmp_path).head_number() == 2


def test_a_new_stream_must_know_its_classes_and_its_query(iris: DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^classes must be set"):
        StreamingLearner(tmp_path, StreamingClassifier(), query_id="q").update(iris, 0)
    with pytest.raises(ValueError, match=r"^query_id must be set outside of foreachBatch"):
        StreamingLearner(tmp_path, StreamingRegressor()).update(iris, 0)
    with pytest.raises(ValueError, match=r"^update must be one of 'sequential', 'averaged'; got 'both'"):
        StreamingLearner(tmp_path, StreamingRegressor(), update="both")
    assert VersionLog(tmp_path).head_number() is None


BAD: list[tuple[dict[str, Any], dict[str, str], str]] = [
    ({"featuresCol": "x"}, {}, r"featuresCol must be a column of \['features', 'label'\]; got 'x'$"),
    ({"labelCol": "x"}, {}, "labelCol must be a column of"),
    ({"weightCol": "x"}, {}, "weightCol must be a column of"),
    ({"featuresCol": "label"}, {}, "must have vectors or arrays of numbers; got double"),
    ({}, {"label": "'a'"}, "must have numbers; got string; encode strings with StringIndexer"),
    ({}, {"label": "label > 0"}, "must have numbers; got boolean; cast booleans to int"),
    ({}, {"label": "label * 1e300"}, r"must have integers; got 1e\+300: for a regression"),
    ({}, {"features": "array('a')"}, "must have vectors or arrays of numbers; got array<string>"),
    ({}, {"features": "if(label > 0, array(label), null)"}, "featuresCol 'features' must not contain nulls"),
    ({}, {"features": "if(label > 2, array(label), null)"}, "one feature or more per row; got null"),
    ({}, {"features": "array(label, null)"}, "featuresCol 'features' must not contain nulls; got one"),
    ({}, {"features": "array(1e300)"}, "must have finite float32 numbers"),
    (
        {},
        {"features": "if(label > 0, array(label), array(label, label))"},
        "must have 1 features per row; got 2",
    ),
    ({}, {"features": "if(label > 2, array(label), array())"}, "one feature or more per row; got an empty"),
    ({}, {"label": "if(label > 0, label, null)"}, "labelCol 'label' must not contain nulls; got one"),
    ({}, {"label": "label / 2"}, "must have integers; got 0.5: for a regression use StreamingRegressor"),
    ({}, {"label": "1"}, "must have 2 to 1000 classes; got 1$"),
    ({"classes": [0.0, 1.0]}, {}, r"must be one of \[0.0, 1.0\]; got 2.0$"),
    ({"weightCol": "w"}, {"w": "-label"}, "weightCol 'w' must have finite numbers >= 0"),
    ({"weightCol": "w"}, {"w": "if(label > 0, 1, null)"}, "weightCol 'w' must have finite numbers >= 0"),
    ({"maxIter": 0}, {}, "^maxIter must be an integer >= 1; got 0$"),
    ({"blockSize": 0}, {}, "^blockSize must be an integer >= 1; got 0$"),
    ({"stepSize": 0.0}, {}, r"^stepSize must be a number in \(0, inf\); got 0.0$"),
    ({"learner": "forest"}, {}, "^learner must be one of 'mlp', 'ensemble'; got 'forest'$"),
    ({"optimizer": "adamm"}, {}, "^optimizer must be one of"),
    ({"eta": 0.1, "weightDecay": 0.1}, {}, "^option 'eta' requires learner 'ensemble'; got learner 'mlp'$"),
    ({"layers": [5, 3]}, {}, r"^layers must go from the features, 4, to the outputs, 3; got \[5, 3\]$"),
    ({"layers": [4, 3], "hiddenLayers": [3]}, {}, "^layers and hiddenLayers must not both be set"),
]


@pytest.mark.parametrize(("params", "columns", "words"), BAD, ids=[words[:40] for _, _, words in BAD])
def test_bad_input_is_a_one_line_error(iris: DataFrame, params: Any, columns: Any, words: str) -> None:
    rows = iris.withColumn("l", f.col("label")).withColumns({k: f.expr(v) for k, v in columns.items()})
    with pytest.raises(ValueError, match=words) as error:
        StreamingClassifier(**params).fit(rows.orderBy(f.desc_nulls_first("l")).drop("l").coalesce(1))
    assert "\n" not in str(error.value)


def test_unknown_params_and_types_are_errors() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'stepsize'"):
        StreamingClassifier(stepsize=0.1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"^unknown param: 'stepsize'; did you mean 'stepSize'\?"):
        StreamingClassifier().setParams(stepsize=0.1)
    with pytest.raises(TypeError, match='given for param "maxIter"'):
        StreamingRegressor(maxIter="many")


def test_bad_rows_are_errors_and_change_nothing(fitted: Any, iris: DataFrame) -> None:
    before = bits(fitted._state)
    with pytest.raises(PythonException, match="ValueError: featuresCol 'features' must not contain nulls"):
        fitted.transform(iris.select(f.lit(None).cast("array<float>").alias("features"))).collect()
    with pytest.raises(PythonException, match="must have 4 features per row; got 1"):
        fitted.transform(iris.select(f.array("label").alias("features"))).collect()
    with pytest.raises(ValueError, match=r"must be one of \[0.0, 1.0, 2.0\]; got 7.0"):
        fitted.evaluate(iris.withColumn("label", f.lit(7)))
    with pytest.raises(ValueError, match="labelCol 'label' must not contain nulls"):
        fitted.evaluate(iris.withColumn("label", f.lit(None).cast("int")))
    with pytest.raises(ValueError, match="the frame must have rows; got none"):
        fitted.evaluate(iris.limit(0))
    with pytest.raises(ValueError, match="column 'prediction' must not be in the frame already"):
        fitted.transform(iris.withColumn("prediction", f.lit(0.0)))
    with pytest.raises(ValueError, match="a row must have 4 features; got 1"):
        fitted.predict(Vectors.dense(1.0))
    assert bits(fitted._state) == before


@pytest.mark.parametrize(
    "use",
    [
        lambda model, rows, path: model.transform(rows),
        lambda model, rows, path: model.evaluate(rows),
        lambda model, rows, path: model.predict(Vectors.dense(X[0])),
        lambda model, rows, path: model.summary,
        lambda model, rows, path: model.save(path),
    ],
)
def test_an_unfitted_model_is_an_error(iris: DataFrame, tmp_path: Path, use: Any) -> None:
    for kind in (StreamingClassificationModel, StreamingRegressionModel):
        path = tmp_path / kind.__name__
        with pytest.raises(
            ValueError, match=rf"^a {kind.__name__} must be fitted or loaded before it is used$"
        ):
            use(kind(), iris, str(path))
        assert not path.exists()


def test_a_streaming_frame_is_not_fitted(spark: SparkSession) -> None:
    stream = spark.readStream.format("rate").load().selectExpr("array(value) features", "value label")
    with pytest.raises(ValueError, match="fit requires a batch frame; got a streaming one"):
        StreamingRegressor().fit(stream)


def test_under_spark_connect_one_line_names_what_is_needed(fitted: Any, tmp_path: Path) -> None:
    remote = type("DataFrame", (), {"__module__": "pyspark.sql.connect.dataframe"})()
    session = type("SparkSession", (), {"__module__": "pyspark.sql.connect.session"})()
    path = str(tmp_path / "model")
    learner = StreamingLearner(tmp_path, StreamingRegressor(), query_id="q")
    for work, given, kind in (
        (StreamingRegressor().fit, remote, "DataFrame"),
        (fitted.transform, remote, "DataFrame"),
        (fitted.evaluate, remote, "DataFrame"),
        (lambda df: learner.update(df, 0), remote, "DataFrame"),
        (lambda df: StreamingRegressor().fitStream(df, tmp_path), remote, "DataFrame"),
        (lambda s: fitted.write().overwrite().session(s).save(path), session, "SparkSession"),
        (lambda s: StreamingClassificationModel.read().session(s).load(path), session, "SparkSession"),
    ):
        with pytest.raises(RuntimeError, match=rf"needs a classic Spark session .* got a {kind} of") as error:
            work(given)
        assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


CONNECTED = """
import sys
from pyspark.sql import SparkSession
from streaming_nn.mllib.estimators import StreamingClassifier
from streaming_nn.mllib.models import StreamingClassificationModel

spark = SparkSession.builder.remote("local[1]").getOrCreate()
rows = spark.createDataFrame([([1.0], 0.0)], "features array<double>, label double")
model = StreamingClassificationModel.fromModelDir(sys.argv[1])
for work in (
    lambda: StreamingClassifier().fit(rows),
    lambda: model.transform(rows),
    lambda: model.write().overwrite().save(sys.argv[1] + "/copy"),
    lambda: StreamingClassificationModel.load(sys.argv[1]),
):
    try:
        work()
    except RuntimeError as error:
        print("error:", error)
spark.stop()
"""


def test_a_real_connect_server_s_frames_and_sessions_are_recognized(tmp_path: Path) -> None:
    pytest.importorskip("grpc_status", reason="Spark Connect is an extra of PySpark: pyspark[connect]")
    sklearn.OnlineClassifier(**AS_ARRAYS).fit(X, Y).save(tmp_path)
    run = subprocess.run(  # one process can't have both kinds of session
        [sys.executable, "-c", CONNECTED, str(tmp_path)], capture_output=True, text=True, timeout=200
    )
    session = "a classic Spark session (SparkSession.builder.master or spark-submit)"
    errors = [line for line in run.stdout.splitlines() if "error:" in line]
    kinds = ("DataFrame", "DataFrame", "SparkSession", "SparkSession")
    assert [line[line.index("error:") :] for line in errors] == [
        f"error: streaming_nn.mllib needs {session}; got a {kind} of Spark Connect" for kind in kinds
    ], run.stderr


def test_weights_count_as_in_scikit_learn_s_api(spark: SparkSession, iris: DataFrame) -> None:
    weights = 0.5 + X[:, 0]
    weighted = iris.withColumn("w", f.lit(0.5) + vector_to_array("features")[0])
    model = StreamingClassifier(**SMALL, maxIter=1, weightCol="w").fit(weighted)
    other = sklearn.OnlineClassifier("mlp", **AS_ARRAYS).fit(X, Y, sample_weight=weights)
    assert bits(model._state) == bits(other.state_)
    found = model.evaluate(weighted)
    predictions = other.predict(X)
    expected = precision_recall_fscore_support(Y, predictions, average="weighted", sample_weight=weights)[:3]
    mine = (found.weightedPrecision, found.weightedRecall, found.weightedFMeasure)
    assert mine == pytest.approx(expected)
    assert found.accuracy == pytest.approx(np.average(predictions == Y, weights=weights))


def test_a_regression_s_scores_are_scikit_learn_s(spark: SparkSession) -> None:
    x, y = X[:, :3], X[:, 3]
    rows = frame(spark, x, y).withColumn("w", f.col("label") + 1)
    model = StreamingRegressor(maxIter=2, weightCol="w").fit(rows)
    predictions = [row.prediction for row in model.transform(rows).collect()]
    found, weights = model.evaluate(rows), y + 1
    assert found.r2 == pytest.approx(r2_score(y, predictions, sample_weight=weights))
    assert found.mae == pytest.approx(mean_absolute_error(y, predictions, sample_weight=weights))
    assert found.rmse**2 == pytest.approx(mean_squared_error(y, predictions, sample_weight=weights))
    assert found.r2 > 0.5


def test_labels_need_not_begin_at_0(spark: SparkSession) -> None:
    rows = frame(spark, X, 10 * Y - 3)
    model = StreamingClassifier(**SMALL).fit(rows)
    assert model.labels == [-3.0, 7.0, 17.0]
    assert model.evaluate(rows).accuracy > 0.9
    assert model._learner.classes == (-3, 7, 17)


def test_thresholds_decide_as_in_spark(fitted: Any, iris: DataFrame) -> None:
    forest = RandomForestClassifier(numTrees=3, seed=0).fit(iris)
    thresholds = [0.9, 0.05, 0.05]
    for model in (fitted.copy(), forest):
        rows = model.setThresholds(thresholds).transform(iris).collect()
        scaled = [np.argmax(row.probability.toArray() / thresholds) for row in rows]
        assert [row.prediction for row in rows] == scaled
    sure = fitted.copy().setThresholds([0.0, 1.0, 1.0])
    assert {row.prediction for row in sure.transform(iris).collect()} == {0.0}
    assert sure.predict(Vectors.dense(X[0])) == 0.0
    assert not fitted.isDefined("thresholds")
    with pytest.raises(ValueError, match="thresholds must be 3 numbers >= 0, one of them 0 at most"):
        fitted.copy().setThresholds([0.0, 0.0, 1.0]).transform(iris)


def test_columns_without_a_name_are_left_out(fitted: Any, iris: DataFrame) -> None:
    quiet = fitted.copy(
        {fitted.probabilityCol: "", fitted.rawPredictionCol: "", fitted.predictionCol: "label2"}
    )
    assert quiet.transform(iris).columns == ["features", "label", "label2"]


def test_layers_are_spark_s(iris: DataFrame) -> None:
    ours = StreamingClassifier(layers=[4, 5, 6, 3], maxIter=1, learner="mlp").fit(iris)
    theirs = MultilayerPerceptronClassifier(layers=[4, 5, 6, 3], maxIter=1, seed=0).fit(iris)
    assert ours._learner.hidden == (5, 6)
    layers = ours._learner.shape.views(ours._state.model.theta)
    assert sum(part.size for layer in layers for part in layer) == theirs.weights.size


def test_sparse_vectors_are_rows_too(spark: SparkSession, fitted: Any) -> None:
    dense = frame(spark, X[:5] * [1, 0, 1, 0], Y[:5])
    sparse = frame(spark, X[:5], Y[:5], kind=lambda row: Vectors.sparse(4, [0, 2], [row[0], row[2]]))
    pick = [row.prediction for row in fitted.transform(sparse).collect()]
    assert pick == [row.prediction for row in fitted.transform(dense).collect()]


def test_missing_values_are_allowed_where_the_learner_imputes_them(iris: DataFrame) -> None:
    gaps = f.expr("transform(x, v -> if(v = 1.4, double('nan'), v))")
    holes = iris.select(vector_to_array("features").alias("x"), "label").withColumn("features", gaps)
    model = StreamingClassifier(missing="impute").fit(holes)
    assert model.evaluate(holes).accuracy > 0.8
    with pytest.raises(ValueError, match="must have finite float32 numbers"):
        StreamingClassifier().fit(holes)


def test_a_stream_s_model_predicts_and_string_labels_are_indices(spark: SparkSession, tmp_path: Path) -> None:
    names = np.array(["a", "b", "c"])[Y]
    estimator = sklearn.OnlineClassifier().fit(X, names)
    estimator.save(tmp_path)
    model = StreamingClassificationModel.fromModelDir(tmp_path)
    assert model.labels == [0.0, 1.0, 2.0]
    predictions = [int(row.prediction) for row in model.transform(frame(spark)).collect()]
    assert list(np.array(["a", "b", "c"])[predictions]) == estimator.predict(X).tolist()
    with pytest.raises(
        ValueError, match="must be for regression, as a StreamingRegressionModel is; got classification"
    ):
        StreamingRegressionModel.fromModelDir(tmp_path)
    with pytest.raises(LookupError, match=r"it has no versions$"):
        StreamingRegressionModel.fromModelDir(tmp_path / "nothing")


def test_a_model_is_not_loaded_as_another_class(fitted: Any, tmp_path: Path) -> None:
    fitted.save(str(tmp_path / "model"))
    with pytest.raises(
        ValueError, match=r"must contain a streaming_nn.mllib.models.StreamingRegressionModel; got"
    ):
        StreamingRegressionModel.load(str(tmp_path / "model"))


def test_another_file_system_is_written_through_spark(
    fitted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming_nn.mllib.persistence.local_directory", lambda spark, path: None)
    path = str(tmp_path / "model")
    fitted.write().overwrite().save(path)
    loaded = StreamingClassificationModel.load(path)
    assert bits(loaded._state) == bits(fitted._state)
    assert sklearn.load(path).state_.metrics.rows == fitted._state.metrics.rows


def test_the_examples_of_the_page_run(spark: SparkSession, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "mllib.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {"spark": spark, "folder": str(tmp_path)}
    for block in blocks:
        exec(compile(block, "mllib.md", "exec"), names)
    assert names["line"].evaluate(names["points"]).r2 > 0.99
    assert names["model"].stages[-1].numFeatures == 7
    assert names["newest"].labels == [0.0, 1.0, 2.0]
    for query in spark.streams.active:
        assert query.awaitTermination(120)
    assert spark.table("predictions").count() == 150
    assert VersionLog(tmp_path / "model").manifest(1).source == {"query_id": names["query"].id, "batch_id": 0}


def several(spark: SparkSession, y: Any) -> DataFrame:
    rows = [(Vectors.dense(row.tolist()), each.tolist()) for row, each in zip(X, y, strict=True)]
    return spark.createDataFrame(spark.sparkContext.parallelize(rows, 1), ["features", "label"])


@pytest.mark.parametrize("multilabel", [False, pytest.param(True, marks=pytest.mark.merge)])
def test_arrays_of_labels_are_learned_as_in_scikit_learn_s_api(
    spark: SparkSession, tmp_path: Path, multilabel: bool
) -> None:
    y = np.stack([Y == 0, Y > 0, X[:, 0] > 6], axis=1).astype(np.float64)
    y = y if multilabel else y * X[:, :3]
    rows = several(spark, y)
    estimator: Any = (StreamingClassifier if multilabel else StreamingRegressor)(**SMALL, maxIter=1)
    model = estimator.fit(rows)
    kind: Any = sklearn.OnlineClassifier if multilabel else sklearn.OnlineRegressor
    other = kind("mlp", **AS_ARRAYS).fit(X, y)
    assert bits(model._state) == bits(other.state_)
    found = model.transform(rows).collect()
    np.testing.assert_allclose([row.prediction for row in found], other.predict(X), rtol=1e-6)
    assert model.predict(found[0].features).toArray().tolist() == found[0].prediction
    if multilabel:
        probability = np.array([row.probability.toArray() for row in found])
        np.testing.assert_allclose(probability, other.predict_proba(X), rtol=1e-6)
    model.save(str(tmp_path / "model"))
    assert bits(type(model).load(str(tmp_path / "model"))._state) == bits(model._state)
    np.testing.assert_array_equal(sklearn.load(tmp_path / "model").predict(X), other.predict(X))
    with pytest.raises(ValueError, match=r"^evaluate needs one label or target per row; got several"):
        model.evaluate(rows)
    learner = StreamingLearner(tmp_path / "stream", estimator, query_id="q")
    learner.update(rows, 0)
    with pytest.raises(ValueError, match=r"^labelCol 'label' must have 3 numbers per row; got 2"):
        learner.update(several(spark, y[:, :2]), 1)
