from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import RandomForestClassifier
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import StandardScaler, StringIndexer, VectorAssembler
from pyspark.ml.linalg import Vectors
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import DataFrame, SparkSession
from sklearn.datasets import load_iris
from sklearn.metrics import precision_recall_fscore_support

from streaming_nn import arrays
from streaming_nn.log.log import Log
from streaming_nn.mllib import (
    StreamingLearner,
    StreamingMLPClassificationModel,
    StreamingMLPClassifier,
    StreamingMLPRegressor,
)
from streaming_nn.nn.learner import Batch, close, initial, learn_part
from streaming_nn.nn.learners import learner_from
from streaming_nn.nn.tensors import flatten

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
def fitted(iris: DataFrame) -> StreamingMLPClassificationModel:
    model: StreamingMLPClassificationModel = StreamingMLPClassifier(**SMALL).fit(iris)
    return model


def bits(state: Any) -> dict[str, bytes]:
    return {name: tensor.tobytes() for name, tensor in flatten(state).items()}


@pytest.mark.parametrize("kind", [Vectors.dense, list])
def test_one_partition_and_one_pass_are_the_arrays_to_the_bit(spark: SparkSession, kind: Any) -> None:
    model = StreamingMLPClassifier(**SMALL, maxIter=1).fit(frame(spark, kind=kind))
    other = arrays.OnlineMLPClassifier("mlp", **AS_ARRAYS).fit(X, Y)
    assert model._learner == other.learner_
    assert bits(model._state) == bits(other.state_)


def test_answers_are_those_of_the_arrays(fitted: Any, iris: DataFrame) -> None:
    other = arrays.OnlineMLPClassifier("mlp", **AS_ARRAYS)
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
    model = StreamingMLPClassifier(**SMALL, maxIter=2).fit(frame(spark, slices=3))
    learner = learner_from({**AS_ARRAYS, "inputs": 4, "classes": [0, 1, 2]})
    state = initial(learner)
    for _ in range(2):
        thirds = [Batch(X[rows], Y[rows].astype(np.int32)) for rows in np.split(np.arange(150), 3)]
        state = close(learner, state, [learn_part(learner, state, [batch]) for batch in thirds])
    assert bits(model._state) == bits(state)


def test_figures_are_scikit_learn_s(fitted: Any, iris: DataFrame) -> None:
    found = fitted.evaluate(iris)
    answers = [row.prediction for row in fitted.transform(iris).collect()]
    assert found.accuracy == pytest.approx(np.mean(np.array(answers) == Y))
    assert found.accuracy > 0.9
    macro = precision_recall_fscore_support(Y, answers, average="macro")[:3]
    assert (found.precision, found.recall, found.f1) == pytest.approx(macro)


def test_five_points_on_a_line(spark: SparkSession) -> None:
    points = frame(spark, np.arange(5.0)[:, None], 2 * np.arange(5.0) + 1)
    line = StreamingMLPRegressor(hiddenLayers=[], stepSize=0.1, maxIter=200).fit(points)
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
    loaded = StreamingMLPClassificationModel.load(path)
    assert bits(loaded._state) == bits(fitted._state)
    assert loaded.uid == fitted.uid
    assert loaded.summary == fitted.summary
    assert loaded.getHiddenLayers() == [8]
    assert loaded.transform(iris).collect() == fitted.transform(iris).collect()
    assert arrays.load(path).predict(X).tolist() == [
        row.prediction for row in loaded.transform(iris).collect()
    ]
    arrays.load(path).partial_fit(X, Y).save(path)
    assert bits(StreamingMLPClassificationModel.load(path)._state) != bits(fitted._state)
    assert not list(tmp_path.rglob("*.pkl"))


def test_an_estimator_is_saved_with_its_params(tmp_path: Path, spark: SparkSession) -> None:
    estimator = StreamingMLPClassifier(**SMALL, replay=None, classWeight={1: 2.0}, labelCol="y")
    estimator.write().overwrite().save(str(tmp_path / "estimator"))
    loaded = StreamingMLPClassifier.load(str(tmp_path / "estimator"))
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


def test_a_pipeline_goes_there_and_back(table: DataFrame, tmp_path: Path) -> None:
    stages = [
        StringIndexer(inputCol="name", outputCol="label"),
        VectorAssembler(inputCols=["a", "b", "c", "d"], outputCol="raw"),
        StandardScaler(inputCol="raw", outputCol="features", withMean=True),
        StreamingMLPClassifier(**SMALL),
    ]
    model = Pipeline(stages=stages).fit(table)
    assert MulticlassClassificationEvaluator(metricName="accuracy").evaluate(model.transform(table)) > 0.9
    model.write().overwrite().save(str(tmp_path / "pipeline"))
    loaded = PipelineModel.load(str(tmp_path / "pipeline"))
    assert loaded.transform(table).collect() == model.transform(table).collect()


def test_a_forest_makes_the_features_of_the_network(table: DataFrame) -> None:
    stages = [
        StringIndexer(inputCol="name", outputCol="label"),
        VectorAssembler(inputCols=["a", "b", "c", "d"], outputCol="raw"),
        RandomForestClassifier(
            featuresCol="raw",
            numTrees=5,
            seed=0,
            probabilityCol="forest",
            predictionCol="forestSays",
            rawPredictionCol="votes",
        ),
        StreamingMLPClassifier(**SMALL, featuresCol="forest"),
    ]
    model = Pipeline(stages=stages).fit(table)
    assert model.stages[-1].numFeatures == 3
    assert MulticlassClassificationEvaluator(metricName="accuracy").evaluate(model.transform(table)) > 0.9


def test_cross_validation_tries_params(iris: DataFrame) -> None:
    estimator = StreamingMLPClassifier(**SMALL)
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


def test_a_stream_is_learned_exactly_once_and_answered(spark: SparkSession, tmp_path: Path) -> None:
    source, model_dir = tmp_path / "source", tmp_path / "model"
    estimator = StreamingMLPClassifier(**SMALL, classes=[0.0, 1.0, 2.0])
    other = arrays.OnlineMLPClassifier("mlp", **AS_ARRAYS)
    for rows in np.split(np.arange(150), 3):
        frame(spark, X[rows], Y[rows], kind=list).write.mode("append").parquet(str(source))
        stream = spark.readStream.schema("features array<double>, label double").parquet(str(source))
        query = estimator.fitStream(stream, model_dir, availableNow=True)
        query.awaitTermination(120)
        other.partial_fit(X[rows], Y[rows], classes=range(3))
        model = StreamingMLPClassificationModel.fromModelDir(model_dir)
        assert bits(model._state) == bits(other.state_)
    log = Log(model_dir)
    assert [log.record(n).source for n in range(1, 4)] == [
        {"query_id": query.id, "batch_id": n} for n in range(3)
    ]
    answered = model.transform(stream).writeStream.format("memory").queryName("answered")
    answered.trigger(availableNow=True).start().awaitTermination(120)
    assert spark.table("answered").filter("prediction is not null").count() == 150


def test_a_batch_that_is_in_is_left_out(spark: SparkSession, iris: DataFrame, tmp_path: Path) -> None:
    estimator = StreamingMLPClassifier(**SMALL, classes=[0.0, 1.0, 2.0])
    for _ in range(2):
        learner = StreamingLearner(tmp_path, estimator, query_id="q")
        for batch_id in (0, 1, 1, 0):
            learner.update(iris, batch_id)
        assert learner.log.head_number() == 2
    StreamingLearner(tmp_path, estimator, query_id="another").update(iris, 0)
    StreamingLearner(tmp_path, estimator, query_id="q").update(iris, 1)
    assert Log(tmp_path).head_number() == 3
