"""Code written by hand: a consumer loop with scikit-learn or River, and `foreachBatch` with pandas."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from kafka import KafkaConsumer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 (its usual name)

from benchmarks.queries import rate, run_plain
from benchmarks.topics import CLASSES

HIDDEN, MINI_BATCH = 64, 256


def _records(kafka: Mapping[str, str], topic: str, count: int) -> Iterator[dict[str, Any]]:
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=kafka["bootstrap.servers"],
        auto_offset_reset="earliest",
        consumer_timeout_ms=10_000,
    )
    try:
        for record, _ in zip(consumer, range(count), strict=False):
            yield json.loads(record.value)
    finally:
        consumer.close()


def _network() -> Any:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier((HIDDEN,), solver="sgd")


def sklearn_loop(kafka: Mapping[str, str], topic: str, count: int) -> float:
    """Learn `count` JSON records with `partial_fit` on 256 at a time; return records per second."""
    model, classes, X, y = _network(), np.arange(CLASSES), [], []
    started = 0.0
    for record in _records(kafka, topic, count):
        started = started or time.perf_counter()  # the consumer has its first record
        X.append(record["features"])
        y.append(record["label"])
        if len(y) == MINI_BATCH:
            model.partial_fit(np.array(X), np.array(y), classes=classes)
            X, y = [], []
    return count / (time.perf_counter() - started)


def river_loop(kafka: Mapping[str, str], topic: str, count: int) -> float:
    """Learn `count` JSON records one by one with River's logistic regressions; return records per second."""
    from river import linear_model, multiclass, preprocessing

    model = preprocessing.StandardScaler() | multiclass.OneVsRestClassifier(linear_model.LogisticRegression())
    started = 0.0
    for record in _records(kafka, topic, count):
        started = started or time.perf_counter()
        x = dict(enumerate(record["features"]))
        model.predict_one(x)
        model.learn_one(x, record["label"])
    return count / (time.perf_counter() - started)


def tutorial(spark: SparkSession, kafka: Mapping[str, str], topic: str, limit: int) -> float:
    """Learn a topic of JSON with `from_json`, `toPandas` and scikit-learn in `foreachBatch`."""
    model = _network()

    def body(frame: DataFrame, batch_id: int) -> None:
        parsed = F.from_json(F.col("value").cast("string"), "features array<float>, label int")
        pdf: Any = frame.select(parsed.alias("row")).select("row.features", "row.label").toPandas()
        X, y = np.array(pdf["features"].tolist()), pdf["label"].to_numpy()
        for start in range(0, len(y), MINI_BATCH):
            stop = start + MINI_BATCH
            model.partial_fit(X[start:stop], y[start:stop], classes=np.arange(CLASSES))

    return rate(run_plain(spark, kafka, topic, limit, body)[0])
