"""A run whose steps are never finite stops; what it has learned is safe."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka_topics import fill, rows_of, settings_of
from oracles import Stuck
from pyspark.sql import SparkSession

from streaming_nn.errors import TooManySkippedError
from streaming_nn.records.decode import encode
from streaming_nn.records.schema import Schema
from streaming_nn.spark.train.trainer import Trainer
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge

ONE = Schema(inputs=1, classes=(0, 1))


@pytest.mark.usefixtures("oracles")
def test_too_many_micro_batches_without_a_finite_step_stop_the_run(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("stuck")
    fill(broker.options, topic, encode(ONE, np.arange(1000)[:, None], np.zeros(1000, np.int32)))
    train = {"max_skipped_batches": 3, "max_offsets_per_trigger": 100}
    own: dict[str, Any] = {"records": {"inputs": 1, "classes": [0, 1]}, "learner": {}}
    settings = settings_of(broker.options, tmp_path / "model", topic, train=train, **own)
    trainer = Trainer.open(spark, settings, Stuck(1000))
    trainer.start()
    with pytest.raises(
        TooManySkippedError, match=r"no step was finite in 3 consecutive micro-batches.*version 2 is the la"
    ):
        trainer.wait()
    rows = {"received": 200, "trained": 0, "skipped": 200, "rejected": 0, "filtered": 0}
    assert rows_of(settings.model) == rows
    assert VersionLog(settings.model).head_number() == 2
