"""`mini_batch = "auto"`: the chosen size is in each manifest, and replays; on a slow stream it decreases."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from kafka_topics import fill, labeled, learn, manifests_of, settings_of
from pyspark.sql import SparkSession

from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.train.batch_size import BatchSizeController
from streaming_nn.spark.train.trainer import Trainer
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge


@dataclass
class Listed(BatchSizeController):
    """Chooses the sizes of a list, whatever it measures."""

    sizes: Iterator[int] = field(default_factory=lambda: iter((7, 32, 4)))

    def update(self, records: int, seconds: float, since: float, behind: bool) -> int:
        self.size = next(self.sizes)
        return self.size


def test_the_chosen_sizes_are_recorded_and_replayed(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    topic = broker.topic("chosen")
    settings = settings_of(broker.options, tmp_path / "model", topic, train={"max_offsets_per_trigger": 60})
    fill(broker.options, topic, labeled(160))
    trainer = Trainer.open(spark, settings)
    trainer.batch_size = Listed(cap=32, size=1)
    trainer.start()
    trainer.wait()
    assert [manifest.learner["mini_batch"] for manifest in manifests_of(settings.model)][1:] == [1, 7, 32]
    assert verify(spark, broker.options, VersionLog(settings.model)).identical


@pytest.mark.nightly
def test_a_slow_stream_is_learned_in_small_steps(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    topic = broker.topic("slow")
    settings = settings_of(
        broker.options, tmp_path / "model", topic, train={"once": False, "trigger": "100 milliseconds"}
    )
    fill(broker.options, topic, labeled(2500))
    trainer = Trainer.open(spark, settings)
    trainer.start()
    try:
        trainer.drain()
        for i in range(60):  # on a busy machine it takes longer until there is time
            fill(broker.options, topic, labeled(40, seed=i))
            trainer.drain()
            if i >= 4 and manifests_of(settings.model)[-1].learner["mini_batch"] < 32:
                break
            time.sleep(0.5)  # 40 rows in half a second are few
    finally:
        trainer.stop()
    sizes = [manifest.learner["mini_batch"] for manifest in manifests_of(settings.model)][1:]
    assert sizes[0] == 1, "a small first micro-batch"
    assert sizes[1] == 32, "a backlog"
    assert sizes[-1] < 32
    assert all(later >= size // 2 for size, later in pairwise(sizes[1:])), "at most halved at once"
    assert {manifest.mini_batch_cap for manifest in manifests_of(settings.model)} == {32}

    fill(broker.options, topic, labeled(3000, seed=9))
    learn(spark, settings_of(broker.options, settings.model, topic))  # once: a backlog, at the cap
    head = VersionLog(settings.model).head()
    assert head is not None
    assert head.manifest.learner["mini_batch"] == 32
    assert verify(spark, broker.options, VersionLog(settings.model)).identical

    fixed = settings_of(broker.options, settings.model, topic, learner={"mini_batch": 4})
    assert Trainer.open(spark, fixed).batch_size is None
    again = settings_of(broker.options, settings.model, topic, learner={"mini_batch": "auto"})
    assert Trainer.open(spark, again).batch_size is not None
