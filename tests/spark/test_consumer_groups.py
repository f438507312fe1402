"""The lag of jobs as Kafka's own tool shows it."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kafka_tools import describe_group
from kafka_topics import fill, labeled, settings_of, unlabeled
from pyspark.sql import SparkSession

from streaming_nn.cli.score import _show as show_scorer
from streaming_nn.cli.train import _show as show_trainer
from streaming_nn.spark.score.scorer import Scorer
from streaming_nn.spark.train.trainer import Trainer

pytestmark = pytest.mark.nightly


def test_kafkas_own_tool_shows_the_lag_of_trainer_and_scorer(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    kafka, topic, group = broker.options, broker.topic("labeled", 2), "streaming-nn"
    score = {"topic": broker.topic("unlabeled", 2), "predictions": broker.topic("predictions"), "once": True}
    settings = settings_of(kafka, tmp_path / "model", topic, score=score, metrics={"group": group})
    fill(kafka, topic, labeled(300))
    fill(kafka, score["topic"], unlabeled(50))
    with ExitStack() as stack:
        trainer = Trainer.open(spark, settings)
        show_trainer(None, trainer, stack, False)
        trainer.start()
        trainer.wait()
    with ExitStack() as stack:
        scorer = Scorer.open(spark, settings)
        show_scorer(None, scorer, stack, False)
        scorer.start()
        scorer.wait()
    fill(kafka, topic, labeled(7), [1])

    names = ("GROUP", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", "CONSUMER-ID")
    found = {
        (row["TOPIC"], row["PARTITION"]): tuple(row[name] for name in names)
        for row in describe_group(broker.bootstrap, group)
    }
    assert found == {
        (topic, "0"): (group, "150", "150", "0", "-"),
        (topic, "1"): (group, "150", "157", "7", "-"),
        (score["topic"], "0"): (group, "25", "25", "0", "-"),
        (score["topic"], "1"): (group, "25", "25", "0", "-"),
    }
