"""A model that was begun in NumPy goes on in a stream, and comes back: one log, whoever appends to it."""

from pathlib import Path
from typing import Any

from filling import fill, labeled, learn, records_of, rows, settings_of
from pyspark.sql import SparkSession

from streaming_nn.arrays import OnlineMLPClassifier, load
from streaming_nn.log.log import Log
from streaming_nn.stream.replay import verify


def test_arrays_and_stream_learn_one_model_in_turns(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    topic = broker.topic("turns", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic)
    OnlineMLPClassifier("mlp", hidden=(4,)).partial_fit(*rows(300, seed=1), classes=[0, 1]).save(
        settings.model
    )
    fill(broker.options, topic, labeled(700))
    learn(spark, settings.model_copy(update={"learner": {}}))
    estimator = load(settings.model)
    assert estimator.state_.metrics.rows == 300 + 700
    estimator.partial_fit(*rows(200, seed=2)).save(settings.model)
    fill(broker.options, topic, labeled(100, seed=3))
    learn(spark, settings.model_copy(update={"learner": {}}))

    records = records_of(settings.model)
    assert sum(record.rows["trained"] for record in records) == 300 + 700 + 200 + 100
    assert [record.kind for record in records].count("saved") == 2
    assert records[-1].metrics["rows"] == 1300
    assert verify(spark, settings.kafka, Log(settings.model)).identical
