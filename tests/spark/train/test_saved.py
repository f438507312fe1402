"""A model that began in memory is trained in a stream, and loaded again: one log for all writers."""

from pathlib import Path
from typing import Any

import pytest
from kafka_topics import fill, labeled, learn, manifests_of, rows, settings_of
from pyspark.sql import SparkSession

from streaming_nn.estimators import river
from streaming_nn.estimators.sklearn import OnlineClassifier, load
from streaming_nn.records.decode import encode_named
from streaming_nn.spark.replay.verify import verify
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge


def test_arrays_and_stream_learn_one_model_in_turns(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    topic = broker.topic("turns", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic)
    OnlineClassifier("mlp", hidden=(4,)).partial_fit(*rows(300, seed=1), classes=[0, 1]).save(settings.model)
    fill(broker.options, topic, labeled(700))
    learn(spark, settings.model_copy(update={"learner": {}}))
    estimator = load(settings.model)
    assert estimator.state_.metrics.rows == 300 + 700
    estimator.partial_fit(*rows(200, seed=2)).save(settings.model)
    fill(broker.options, topic, labeled(100, seed=3))
    learn(spark, settings.model_copy(update={"learner": {}}))

    manifests = manifests_of(settings.model)
    assert sum(manifest.counts["trained"] for manifest in manifests) == 300 + 700 + 200 + 100
    assert [manifest.kind for manifest in manifests].count("saved") == 2
    assert manifests[-1].metrics["rows"] == 1300
    assert verify(spark, settings.kafka, VersionLog(settings.model)).identical


def test_frames_and_stream_grow_one_model_in_turns(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    topic = broker.topic("named_turns", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic, records={}, learner={})
    model = river.RiverClassifier(
        hidden=4, categories={"shop": {"hash": 3}}, features=["price", "city", "shop"], label="sold"
    )
    for i in range(40):
        model.learn_one({"price": i, "city": ("Bern", "Biel")[i % 2], "shop": i % 7}, i % 2 == 1)
        model.learn_one({"price": i, "shop": "at home"}, i % 3 == 1)
    model.save(settings.model)

    sold: list[dict[str, Any]] = [{"price": i, "city": "Chur", "shop": 3} for i in range(300)]
    sold += [{"city": "Biel"}] * 100
    records = encode_named(model._schema, sold, ["later", False] * 200)
    fill(broker.options, topic, records)
    learn(spark, settings)
    loaded = river.load(settings.model)
    assert isinstance(loaded, river.RiverClassifier)
    assert loaded._schema.vocabulary == {"city": ("Bern", "Biel", "Chur")}
    assert list(loaded.predict_proba_one(sold[0])) == [False, True, "later"]
    loaded.learn_one({"price": 7, "city": "Genf", "garden": True}, "never")  # a feature more
    loaded.save(settings.model)
    fill(broker.options, topic, records)
    gardens = encode_named(loaded._schema, [{"price": 2, "garden": i % 3} for i in range(100)], [True] * 100)
    fill(broker.options, topic, gardens)
    learn(spark, settings)

    head = manifests_of(settings.model)[-1]
    assert head.metrics["rows"] == 80 + 400 + 1 + 500
    assert head.schema["features"] == ["price", "city", "shop", "garden", "unused#21"]
    assert head.schema["sparse"] == ["garden", "unused#21"]
    assert head.schema["classes"] == [False, True, "later", "never"]
    assert head.schema["vocabulary"] == {"city": ["Bern", "Biel", "Chur", "Genf"]}
    assert verify(spark, settings.kafka, VersionLog(settings.model)).identical
