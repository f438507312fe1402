"""`update = "averaged"`: a task per partition, combined in the driver; verified by one task."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka_topics import fill, labeled, learn, learned_ranges, rows, rows_of, seamless, settings_of
from oracles import Counting
from pyspark.sql import SparkSession

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, combine, initial, learn_part
from streaming_nn.nn.state_dict import flatten
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.train.trainer import Trainer
from streaming_nn.versions.version import state_digest
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge


def test_averaged_tasks_are_verified_by_one_task(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    topic = broker.topic("averaged", 3)
    values: list[bytes | None] = [*labeled(2400)]
    values[10] = b"no JSON"
    fill(broker.options, topic, values)
    settings = settings_of(broker.options, tmp_path / "model", topic, train={"update": "averaged"})
    learn(spark, settings)
    log = VersionLog(settings.model)
    head = log.head()
    assert head is not None
    assert head.manifest.update == "averaged"
    assert rows_of(settings.model) == {
        "received": 2400,
        "trained": 2399,
        "skipped": 0,
        "rejected": 1,
        "filtered": 0,
    }
    assert all(seamless(ranges) for ranges in learned_ranges(settings.model).values())
    assert head.manifest.metrics["rows"] == 2399

    result = verify(spark, broker.options, log)
    assert result.identical, result

    x, y = rows(2400)  # record i went to partition i % 3
    state = initial(learner_from(head.manifest.learner))
    for number in range(1, head.number + 1):
        record, parts = log.manifest(number), []
        learner = learner_from(record.learner)  # each version with the mini-batch that was chosen for it
        for partition, (begin, end) in sorted(record.ranges[topic].items()):
            mine = np.arange(partition, 2400, 3)[begin:end]
            mine = mine[mine != 10]
            parts.append(learn_part(learner, state, [Batch(x[mine], y[mine])]))
        state = combine(learner, state, parts)
        assert state_digest(flatten(state)) == record.digest, number
    assert head.tensors["model.weights"].tolist() == state.model.weights.tolist()


def test_one_partition_is_learned_the_same_averaged_or_sequential(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic, digests = broker.topic("one"), []
    fill(broker.options, topic, labeled(1500))
    for update in ("averaged", "sequential"):
        settings = settings_of(broker.options, tmp_path / update, topic, train={"update": update})
        learn(spark, settings)
        log = VersionLog(settings.model)
        digests.append([log.manifest(n).digest for n in log.numbers()])
    assert digests[0] == digests[1]


def test_an_averaged_run_waits_for_an_empty_topic(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    topic = broker.topic("empty", 2)
    train = {"update": "averaged", "once": False, "trigger": "0 seconds"}
    trainer = Trainer.open(spark, settings_of(broker.options, tmp_path / "model", topic, train=train))
    trainer.start()
    try:
        trainer.drain()
        fill(broker.options, topic, labeled(100))
        trainer.drain()
    finally:
        trainer.stop()
    assert rows_of(trainer.log.directory)["trained"] == 100


def test_a_learner_that_cannot_be_averaged_is_refused_first(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:

    topic = broker.topic("refused", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic, train={"update": "averaged"})
    with pytest.raises(ValueError, match=r"^update must be 'sequential' for learner 'counting'.*'averaged'$"):
        Trainer.open(spark, settings, Counting(100))
    assert VersionLog(settings.model).head_number() is None
