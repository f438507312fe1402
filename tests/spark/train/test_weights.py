"""Records' weights, from the topic into the model and back: learned as by hand, verified to the same bits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka_topics import fill, learn, manifests_of, rows, rows_of, settings_of
from pyspark.sql import SparkSession

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, initial, test_then_train
from streaming_nn.nn.state_dict import flatten
from streaming_nn.spark.replay.verify import verify
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge

ROWS = 600


def test_a_topic_with_weights_is_learned_by_them_and_verified(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    x, y = rows(ROWS)
    w = np.random.default_rng(1).exponential(size=ROWS).astype(np.float32)
    w[::50] = 0
    sent = [
        json.dumps({"features": a.tolist(), "label": int(b), "meta": {"w": float(c)}}).encode()
        for a, b, c in zip(x, y, w, strict=True)
    ]
    bad = b'{"features": [1, 2, 3], "label": 1, "meta": {"w": -1}}'
    topic = broker.topic("weighted")
    fill(broker.options, topic, [*sent[:100], bad, *sent[100:]], [0])
    records = {"inputs": 3, "classes": [0, 1], "weight": "meta.w"}
    settings = settings_of(broker.options, tmp_path / "model", topic, records=records)
    learn(spark, settings)

    counts = {"received": ROWS + 1, "trained": ROWS, "skipped": 0, "rejected": 1, "filtered": 0}
    assert rows_of(settings.model) == counts
    manifests = manifests_of(settings.model)
    assert manifests[1].rejected_by_reason == {"weight negative: meta.w": 1}
    log = VersionLog(settings.model)
    head = log.head()
    assert head is not None
    learner = learner_from(head.manifest.learner)
    state, _ = test_then_train(learner, initial(learner), [Batch(x, y, w)])
    for name, tensor in flatten(state).items():
        np.testing.assert_array_equal(tensor, head.tensors[name], err_msg=name)
    assert verify(spark, broker.options, log).identical
