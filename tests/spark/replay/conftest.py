"""What the tests of replays share: a model that has learned a topic, and a log of versions without Spark."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kafka_topics
import pytest
from kafka_topics import SCHEMA, fill, labeled, rows
from pyspark.sql import SparkSession

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, initial, report, test_then_train
from streaming_nn.nn.state_dict import flatten
from streaming_nn.settings import Settings
from streaming_nn.versions.version_log import VersionLog

MLP = {"learner": "mlp", "hidden": [8]}
VERSIONS, ROWS = 5, 10  # of `log`: learned versions, and the rows of each


@pytest.fixture(scope="session")
def model(spark: SparkSession, broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return settings of a model of three partitions, with rejected records and two mini-batch sizes."""
    topic = broker.topic("past", 3)
    settings = kafka_topics.settings_of(
        broker.options,
        tmp_path_factory.mktemp("past") / "model",
        topic,
        learner=MLP | {"mini_batch": 32},
        train={"max_offsets_per_trigger": 300},
    )
    fill(broker.options, topic, [*labeled(900), b"{", b"nothing"])
    kafka_topics.learn(spark, settings)
    fill(broker.options, topic, labeled(900, seed=1))
    kafka_topics.learn(spark, settings.model_copy(update={"learner": MLP | {"mini_batch": 7}}))
    return settings


@pytest.fixture
def log(tmp_path: Path) -> VersionLog:
    """Return the log of a model that has learned `kafka_topics.rows`, a version per minute of 2026-01-01."""
    log, learner = VersionLog(tmp_path / "model"), learner_from(MLP | {"inputs": 3, "classes": [0, 1]})
    x, y = rows(VERSIONS * ROWS)
    state, midnight = initial(learner), datetime(2026, 1, 1, tzinfo=UTC)
    head = log.commit(
        None,
        flatten(state),
        learner=learner.options(),
        schema=SCHEMA.options(),
        offsets={"t": {0: 0}},
        topic_ids={"t": "id"},
        written_at=midnight.isoformat(),
    )
    for number in range(1, VERSIONS + 1):
        begin, end = (number - 1) * ROWS, number * ROWS
        state, _ = test_then_train(learner, state, [Batch(x[begin:end], y[begin:end])])
        head = log.commit(
            head,
            flatten(state),
            offsets={"t": {0: end}},
            ranges={"t": {0: (begin, end)}},
            counts={"received": ROWS, "trained": ROWS, "skipped": 0, "rejected": 0, "filtered": 0},
            metrics=report(learner, state),
            written_at=(midnight + timedelta(minutes=number)).isoformat(),
        )
    return log
