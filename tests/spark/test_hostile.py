"""Two hundred hostile records among good ones, through every job: each is accounted for, all runs end."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hostile import corpus
from kafka_topics import fill, labeled, learn, manifests_of, read, rows_of, settings_of
from pyspark.sql import SparkSession

from streaming_nn.kafka import admin
from streaming_nn.settings import Settings
from streaming_nn.spark.replay.backtest import open_trials, run_trials
from streaming_nn.spark.replay.plan import plan_topic, plan_versions
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.score.realtime.scorer import RealTimeScorer
from streaming_nn.spark.score.scorer import FILTERED_RECORD, Scorer
from streaming_nn.versions.version import add_up
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.nightly

GOOD = 300
ANY_TIME = {"message.timestamp.after.max.ms": str((1 << 63) - 1)}
Position = tuple[int, int]  # partition, offset


@pytest.fixture
def settings(broker: Any, tmp_path: Path) -> Settings:
    topic = broker.topic("hostile", 2, ANY_TIME)
    dead_letters = broker.topic("dead", config={"max.message.bytes": "100000"})
    records = corpus()
    fill(broker.options, topic, labeled(GOOD))
    fill(
        broker.options,
        topic,
        [record.value for record in records],
        keys=[record.key for record in records],
        headers=[record.headers for record in records],
        timestamps=[record.timestamp or 1_790_000_000_000 for record in records],
    )
    return settings_of(
        broker.options,
        tmp_path / "model",
        topic,
        train={"max_offsets_per_trigger": 200, "max_rejected": 1.0, "dead_letters": dead_letters},
        score={"topic": topic, "predictions": broker.topic("predictions"), "once": True},
        spark={"spark.master": "local[2]"},
    )


def positions(settings: Settings) -> dict[Position, bytes | None]:
    """Return the value of each record of the topic."""
    return {(r.partition, r.offset): r.value for r in read(settings.kafka, settings.score.topic)}


def predicted(settings: Settings) -> dict[Position, dict[str, Any]]:
    values = [json.loads(record.value) for record in read(settings.kafka, settings.score.predictions)]
    return {(value["partition"], value["offset"]): value for value in values}


def test_each_record_is_learned_rejected_or_filtered_by_every_job(
    spark: SparkSession, settings: Settings, tmp_path: Path
) -> None:
    sent = positions(settings)
    assert len(sent) == GOOD + 200
    learn(spark, settings)
    counts = rows_of(settings.model)
    assert counts["received"] == len(sent)
    assert all(add_up(manifest.counts) for manifest in manifests_of(settings.model))
    assert counts["filtered"] == list(sent.values()).count(None)

    letters = read(settings.kafka, settings.train.dead_letters)
    headers = [dict(letter.headers) for letter in letters]  # of two with one name, ours is the last
    origins = [(int(h["streaming_nn.partition"]), int(h["streaming_nn.offset"])) for h in headers]
    assert len(set(origins)) == len(origins) == counts["rejected"]
    for letter, origin, header in zip(letters, origins, headers, strict=True):
        value = sent[origin]
        assert value is not None
        cut = header.get("streaming_nn.cut", b"")
        assert value.startswith(letter.value) if b"value" in cut else letter.value == value

    result = verify(spark, settings.kafka, VersionLog(settings.model))
    assert (result.identical, result.rows) == (True, len(sent))
    plan = plan_topic(spark, settings, settings.score.topic)
    (again,) = run_trials(spark, settings.kafka, plan, open_trials(plan, [], tmp_path / "again"))
    recorded = plan_versions(VersionLog(settings.model))
    trials = run_trials(spark, settings.kafka, recorded, open_trials(recorded, [], tmp_path / "same"))
    assert [each.counts for each in (again, *trials)] == [counts] * 3

    scorer = Scorer.open(spark, settings)
    scorer.start()
    scorer.wait()
    found = predicted(settings)
    assert set(found) == {position for position, value in sent.items() if value is not None}
    assert scorer.outcomes.total() == len(sent)
    assert scorer.outcomes[FILTERED_RECORD] == counts["filtered"]
    errors = Counter("error" in prediction for prediction in found.values())
    assert errors[True] <= counts["rejected"], "labels are not read"


@pytest.mark.timeout(300)
def test_real_time_predictions_are_those_of_the_batch_engine(spark: SparkSession, settings: Settings) -> None:
    learn(spark, settings)
    scorer = Scorer.open(spark, settings)
    scorer.start()
    scorer.wait()
    batch = predicted(settings)
    other = f"{settings.score.predictions}-realtime"
    admin.create(settings.kafka, other)
    realtime = {
        "predictions": other,
        "once": False,
        "realtime_batch": "5 seconds",
        "checkpoint": str(settings.model / "realtime"),
    }
    settings = settings.model_copy(update={"score": settings.score.model_copy(update=realtime)})
    live = RealTimeScorer.open(spark, settings)
    live.start()
    try:
        for _ in range(12):
            assert not live.wait(5)
            if len(predicted(settings)) == len(batch):
                break
    finally:
        live.stop()
    found = predicted(settings)
    assert set(found) == set(batch)
    assert {p: found[p].get("error") for p in found} == {p: batch[p].get("error") for p in batch}
    assert {p: found[p]["prediction"] for p in found} == {p: batch[p]["prediction"] for p in batch}
