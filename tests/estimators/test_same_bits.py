"""The same rows in the same mini-batches give the same bits in every API and in the stream."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kafka import KafkaProducer
from pyspark.sql import SparkSession

from streaming_nn.estimators import river, sklearn
from streaming_nn.mllib.estimators import StreamingClassifier, StreamingRegressor
from streaming_nn.mllib.streaming_learner import StreamingLearner
from streaming_nn.records.decode import encode
from streaming_nn.records.schema import Schema
from streaming_nn.settings import Settings
from streaming_nn.spark.train.trainer import Trainer
from streaming_nn.versions.version import state_digest
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge  # a broker, a Spark session and twelve micro-batches for each

NAMES = ("a", "b", "c")
BATCHES = np.split(
    np.arange(300), 3
)  # the micro-batches: a version each; 100 is not a multiple of a mini-batch of 8
X = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
SIDE = (X @ np.array([1, -2, 0.5]) > 0).astype(np.int32)
PRICE = (X @ np.array([3, 1, -1]) + 7).astype(np.float32)
COMMON: dict[str, Any] = {"hidden": [8], "mini_batch": 8}
OPTIONS: dict[str, dict[str, Any]] = {
    "ensemble": COMMON,
    "mlp": {**COMMON, "optimizer": "adam", "learning_rate": 0.01},
}
CASES = [(learner, regression) for learner in OPTIONS for regression in (False, True)]


def by_sklearn(folder: Path, options: dict[str, Any], y: Any, classes: Any) -> None:
    kind = sklearn.OnlineRegressor if classes is None else sklearn.OnlineClassifier
    model, more = kind(**options, random_state=3), {} if classes is None else {"classes": classes}
    for rows in BATCHES:
        model.partial_fit(X[rows], y[rows], **more)
        model.save(folder)


def by_river(folder: Path, options: dict[str, Any], y: Any, classes: Any) -> None:
    kind = river.RiverRegressor if classes is None else river.RiverClassifier
    more = {} if classes is None else {"classes": classes}
    model: Any = kind(**options, **more, seed=3, missing="refuse", features=NAMES)
    table, label = pd.DataFrame(X, columns=NAMES), pd.Series(y)
    for rows in BATCHES:
        model.learn_many(table.iloc[rows], label.iloc[rows])
        model.save(folder)


def by_mllib(spark: SparkSession, folder: Path, options: dict[str, Any], y: Any, classes: Any) -> None:
    names = {"hidden": "hiddenLayers", "mini_batch": "blockSize", "learning_rate": "stepSize"}
    params = {names.get(name, name): value for name, value in options.items()}
    kind = StreamingRegressor if classes is None else StreamingClassifier
    more = {} if classes is None else {"classes": list(map(float, classes))}
    learner = StreamingLearner(folder, kind(**params, **more, seed=3), query_id="q")
    for batch_id, rows in enumerate(BATCHES):
        made = [(x.tolist(), float(label)) for x, label in zip(X[rows], y[rows], strict=True)]
        schema = "features array<float>, label double"
        learner.update(spark.createDataFrame(spark.sparkContext.parallelize(made, 1), schema), batch_id)


def by_stream(
    spark: SparkSession, broker: Any, folder: Path, options: dict[str, Any], y: Any, classes: Any
) -> None:
    topic = broker.topic("rows")
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for value in encode(Schema(3, classes, format="packed"), X, y):
        producer.send(topic, value)
    producer.flush(30)
    producer.close()
    kind: dict[str, Any] = {"regression": True} if classes is None else {"classes": list(classes)}
    settings = Settings(
        model=folder,
        kafka=broker.options,
        records={"format": "packed", "inputs": 3, **kind},
        learner={**options, "seed": 3},
        train={"topics": [topic], "once": True, "max_offsets_per_trigger": len(BATCHES[0])},
    )
    trainer = Trainer.open(spark, settings)
    trainer.start()
    trainer.wait()


def digests(folder: Path) -> Sequence[str]:
    """Return the digest of each version that has learned rows: version 0 of mllib and stream has not."""
    log = VersionLog(folder)
    learned = [log.read(number) for number in log.numbers()]
    return [state_digest(v.tensors) for v in learned if v.manifest.counts.get("trained")]


@pytest.mark.parametrize(("learner", "regression"), CASES)
def test_three_apis_and_the_stream_learn_the_same_bits(
    spark: SparkSession, broker: Any, tmp_path: Path, learner: str, regression: bool
) -> None:
    y, classes = (PRICE, None) if regression else (SIDE, (0, 1))
    task = OPTIONS[learner], y, classes
    by_sklearn(tmp_path / "sklearn", *task)
    by_river(tmp_path / "river", *task)
    by_mllib(spark, tmp_path / "mllib", *task)
    by_stream(spark, broker, tmp_path / "stream", *task)
    found = {api: digests(tmp_path / api) for api in ("sklearn", "river", "mllib", "stream")}
    assert len(set(found["sklearn"])) == len(BATCHES)
    assert all(each == found["sklearn"] for each in found.values()), found
