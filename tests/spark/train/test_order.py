"""Records are learned by (timestamp, topic, partition, offset), by the stream and by the replay."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka_topics import fill, learn, rows_of, settings_of
from numbered_records import expected, numbered
from oracles import Chain, chained
from pyspark.sql import SparkSession

from streaming_nn.kafka import admin
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.train.trainer import Trainer
from streaming_nn.versions.rollback import rollback
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge

RECORDS = 600
BEGAN = 1_700_000_000_000  # milliseconds


@pytest.mark.usefixtures("oracles")
@pytest.mark.parametrize(
    "partitions", [*(pytest.param((n,), marks=pytest.mark.nightly) for n in (5, 7)), (2, 3)]
)
def test_the_order_is_the_same_in_stream_and_replay(
    spark: SparkSession, broker: Any, tmp_path: Path, partitions: tuple[int, ...]
) -> None:
    names = [broker.topic("ordered", n) for n in partitions]
    for i, name in enumerate(names):  # some late, many in the same millisecond: no other order passes
        late = np.random.default_rng(i).integers(0, 60, RECORDS)
        fill(broker.options, name, numbered(i * RECORDS, RECORDS), timestamps=(BEGAN + late).tolist())
    settings = settings_of(
        broker.options,
        tmp_path / "model",
        names,
        records={"inputs": 1, "classes": [0, 1]},
        learner={},
        train={"max_offsets_per_trigger": 250},
    )
    learn(spark, settings, Chain())

    log = VersionLog(settings.model)
    assert rows_of(settings.model)["trained"] == RECORDS * len(names)
    assert len(log.numbers()) > 3
    chain = expected(broker.options, settings.model, names)
    assert [log.read(n).tensors["model.digest"].tobytes() for n in log.numbers()] == chain
    assert verify(spark, broker.options, log, factory=lambda options: Chain()).identical
    head = log.manifest(len(chain) - 1)
    assert head.offsets == admin.ends(broker.options, names)


@pytest.mark.usefixtures("oracles")
def test_a_learner_that_settings_cannot_name_survives_a_rollback(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    name, options = broker.topic("back"), {"inputs": 1, "classes": [0, 1]}
    settings = settings_of(broker.options, tmp_path / "model", name, records=options, learner={})
    fill(broker.options, name, numbered(0, 200))
    learn(spark, settings, Chain())
    fill(broker.options, name, numbered(200, 150))
    learn(spark, settings, Chain())
    trainer = Trainer.open(spark, settings, Chain())  # its head is version 2
    rollback(VersionLog(settings.model), 1)
    fill(broker.options, name, numbered(350, 50))
    trainer.start()
    trainer.wait()
    digest = VersionLog(settings.model).read(4).tensors["model.digest"].tobytes()
    assert digest == chained(bytes(32), [*range(200), *range(350, 400)])
