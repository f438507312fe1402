"""Labels and categories that are new in the stream: the schema grows, and a replay learns the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka_topics import fill, learn, manifests_of, rows_of, settings_of
from pyspark.sql import SparkSession

from streaming_nn.records.decode import encode_named
from streaming_nn.records.schema import Schema
from streaming_nn.spark.replay.verify import verify

pytestmark = pytest.mark.merge

CITIES = ["Bern", "Biel", "Chur", "Genf"]
SHOP = Schema(4, ("no", "yes"), ("price", "city"), categories={"city": {"one_hot": 3}})


def shop(count: int, labels: list[str], seed: int) -> list[bytes]:
    rng = np.random.default_rng(seed)
    rows = [{"price": float(rng.normal()), "city": CITIES[rng.integers(len(labels))]} for _ in range(count)]
    return encode_named(SHOP, rows, [labels[rng.integers(len(labels))] for _ in range(count)])


def test_unseen_labels_and_categories_become_classes_and_columns(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic, model = broker.topic("growing", 2), tmp_path / "model"
    records = {"features": ["price", "city"], "categories": {"city": {"one_hot": 3}}, "classes": "grow"}
    settings = settings_of(broker.options, model, topic, records=records, learner={"hidden": [4]})
    fill(broker.options, topic, shop(400, ["no", "yes"], 0))
    learn(spark, settings)
    fill(broker.options, topic, [*shop(400, ["no", "yes", "maybe", "never"], 1), b"no JSON"])
    trainer = learn(spark, settings)
    assert trainer.work.schema.classes[:2] == ("no", "yes")
    assert set(trainer.work.schema.classes[2:]) == {"maybe", "never"}
    (vocabulary,) = trainer.work.schema.vocabulary.values()
    assert set(vocabulary[:2]) == {"Bern", "Biel"}
    assert len(vocabulary) == 3
    assert rows_of(model) == {"received": 801, "trained": 800, "skipped": 0, "rejected": 1, "filtered": 0}
    head = manifests_of(model)[-1]
    assert head.learner["classes"] == list(trainer.work.schema.classes) == head.schema["classes"]
    assert verify(spark, broker.options, trainer.log).identical
