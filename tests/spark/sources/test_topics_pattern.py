"""Topics and partitions that appear at any moment, on a real broker: learned once each, and replayed."""

import json
from pathlib import Path
from typing import Any

import pytest
from kafka_topics import (
    fill,
    labeled,
    learn,
    learned_ranges,
    manifests_of,
    read,
    rows_of,
    seamless,
    settings_of,
)
from pyspark.sql import SparkSession

from streaming_nn.errors import DataLossError
from streaming_nn.kafka import admin
from streaming_nn.spark.replay.backtest import open_trials, run_trials
from streaming_nn.spark.replay.plan import plan_versions
from streaming_nn.spark.replay.trials import parse_trials
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.score.scorer import Scorer
from streaming_nn.spark.train.trainer import Trainer
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge


def test_new_topics_join_a_pattern(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    kafka, name = broker.options, broker.topic("many")
    first, other, late = f"{name}.a", f"{name}.dead", f"{name}.b"
    for topic in (first, other):
        admin.create(kafka, topic)
        fill(kafka, topic, labeled(200))
    settings = settings_of(kafka, tmp_path / "model", first)
    train = settings.train.model_copy(
        update={"topics_pattern": rf"{name}\..*", "dead_letters": other, "once": False}
    )
    trainer = Trainer.open(spark, settings.model_copy(update={"train": train}))
    try:
        trainer.start()
        trainer.drain()
        admin.create(kafka, late, 2)
        fill(kafka, late, labeled(300, seed=1))
        admin.create(kafka, f"not-{name}.c")
        trainer.drain()
    finally:
        trainer.stop()
    log = VersionLog(settings.model)
    head = log.manifest(log.head_number() or 0)
    assert head.offsets == {first: {0: 200}, late: {0: 150, 1: 150}}, "the dead-letter topic is never learned"
    assert head.topic_ids == admin.ids(kafka, [first, late])
    assert rows_of(settings.model)["trained"] == 500
    assert all(seamless(ranges) for ranges in learned_ranges(settings.model).values())

    result = verify(spark, kafka, log)
    assert (result.identical, result.rows) == (True, 500)


@pytest.mark.nightly
def test_a_deleted_topic_of_a_pattern_stops_the_run_unless_accepted(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    kafka, name = broker.options, broker.topic("some")
    topics = [f"{name}.a", f"{name}.b"]
    for topic in topics:
        admin.create(kafka, topic)
        fill(kafka, topic, labeled(200))
    settings = settings_of(kafka, tmp_path / "model", topics)
    train = settings.train.model_copy(update={"topics_pattern": rf"{name}\..*"})
    once = settings.model_copy(update={"train": train})
    learn(spark, once)
    admin.delete(kafka, topics[1])
    with pytest.raises(DataLossError, match=rf"^topic '{topics[1]}' was deleted"):
        Trainer.open(spark, once)
    fill(kafka, topics[0], labeled(10, seed=3))
    accepting = train.model_copy(update={"accept_data_loss": True})
    learn(spark, settings.model_copy(update={"train": accepting}))
    assert manifests_of(settings.model)[-1].events[0] == {"event": "topic deleted", "topic": topics[1]}
    learn(spark, once)  # it is accepted once
    assert rows_of(settings.model)["trained"] == 410


# ippontech/spark-kafka-source#6
def test_partitions_may_be_added_before_the_first_micro_batch(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("wider", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic)
    fill(broker.options, topic, labeled(200))
    trainer = Trainer.open(spark, settings)
    admin.add_partitions(broker.options, topic, 3)
    fill(broker.options, topic, labeled(300, seed=3))
    trainer.start()
    trainer.wait()
    assert rows_of(settings.model)["trained"] == 500
    assert all(seamless(ranges) for ranges in learned_ranges(settings.model).values())
    assert verify(spark, broker.options, VersionLog(settings.model)).identical


# ippontech/spark-kafka-source#6
def test_partitions_may_be_added_while_a_scorer_runs_and_before_it_resumes(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    """Each record is predicted, and what was trained from all partitions is replayed alike."""
    kafka, topic, predictions = broker.options, broker.topic("wider"), broker.topic("predictions")
    fill(kafka, topic, labeled(100))
    score = {"topic": topic, "predictions": predictions}
    settings = settings_of(kafka, tmp_path / "model", topic, score=score)
    learn(spark, settings)
    for partitions in (2, 3, 3):  # added while it runs, then before it resumes
        scorer = Scorer.open(spark, settings)
        scorer.start()
        try:
            scorer.drain()
            if len(admin.partitions(kafka, [topic])[topic]) < partitions:
                admin.add_partitions(kafka, topic, partitions)
                fill(kafka, topic, labeled(95, seed=partitions))
            if partitions == 2:
                scorer.drain()
        finally:
            scorer.stop()
    predicted = [json.loads(record.value) for record in read(kafka, predictions)]
    assert len({(p["partition"], p["offset"]) for p in predicted}) == 290
    learn(spark, settings)
    log = VersionLog(settings.model)
    assert verify(spark, kafka, log).rows == 290
    plan = plan_versions(log)
    runs = open_trials(plan, parse_trials(["hidden=[4]"]), tmp_path / "trials")
    assert run_trials(spark, kafka, plan, runs)[-1].counts["trained"] == 290
