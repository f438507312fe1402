"""More than one hand on a model directory: another trainer, or somebody who rolls back."""

from pathlib import Path
from typing import Any

import pytest
from filling import fill, labeled, learn, learned_ranges, records_of, rows_of, seamless, settings_of
from pyspark.sql import SparkSession

from streaming_nn.log.environment import writer
from streaming_nn.log.log import Conflict, Log
from streaming_nn.log.rollback import rollback
from streaming_nn.stream.replay import verify
from streaming_nn.stream.train import Trainer


def test_of_two_trainers_one_loses_and_names_the_winner(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("two", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic)
    fill(broker.options, topic, labeled(500))
    learn(spark, settings)
    loser = Trainer(spark, settings)  # it has read the head, and then sleeps
    fill(broker.options, topic, labeled(500, seed=1))
    winner = learn(spark, settings)
    loser.start()
    with pytest.raises(Conflict, match=winner.run):
        loser.wait()
    assert rows_of(settings.model)["trained"] == 1000
    assert all(seamless(ranges) for ranges in learned_ranges(settings.model).values())


def test_a_live_trainer_adopts_a_rollback_and_learns_its_batch_again(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("back", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic)
    fill(broker.options, topic, labeled(2500))
    learn(spark, settings)
    trainer = Trainer(spark, settings)  # its head is the last version so far
    log = Log(settings.model)
    back = rollback(log, 1, writer("test"), "2026-01-01T00:00:00.000+00:00")
    fill(broker.options, topic, labeled(700, seed=1))
    trainer.start()
    trainer.wait()

    kinds = [r.kind for r in records_of(settings.model)]
    assert kinds[back.number :] == ["rolled-back", "learned"]
    assert rows_of(settings.model)["trained"] == 3200
    assert all(seamless(ranges) for ranges in learned_ranges(settings.model).values())
    assert verify(spark, broker.options, log).identical


def test_retention_leaves_stubs_and_replay_goes_over_them(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("thin", 2)
    settings = settings_of(
        broker.options, tmp_path / "model", topic, train={"keep_versions": 2, "max_offsets_per_trigger": 300}
    )
    fill(broker.options, topic, labeled(1500))
    trainer = learn(spark, settings)
    kept = [r.number for r in records_of(settings.model) if r.kept]
    assert kept == [0, trainer.head.number - 1, trainer.head.number]
    assert verify(spark, broker.options, trainer.log, trainer.head.number - 2).identical
