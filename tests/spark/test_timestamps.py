"""A record whose time Spark cannot read, since its microseconds exceed 64 bits, is learned and predicted."""

import json
from pathlib import Path
from typing import Any

import pytest
from kafka_topics import fill, labeled, learn, manifests_of, read, rows, rows_of, settings_of, unlabeled
from numpy.testing import assert_allclose
from pyspark.sql import SparkSession

from streaming_nn.errors import UnreadableRecordError
from streaming_nn.settings import Settings
from streaming_nn.spark.replay.backtest import open_trials, run_trials
from streaming_nn.spark.replay.plan import plan_topic
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.score.realtime.scorer import RealTimeScorer
from streaming_nn.spark.score.scorer import Scorer
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge

NOW = 1_790_000_000_000
# Spark's KafkaIllegalStateException; brokers before 4.0 accept any CreateTime
TIMES = [NOW + i for i in range(300)]
TIMES[7], TIMES[8], TIMES[150] = 1_790_000_000_000_000_000, (1 << 63) - 1, 0
ANY_TIME = {"message.timestamp.after.max.ms": str((1 << 63) - 1)}


@pytest.fixture
def settings(broker: Any, tmp_path: Path) -> Settings:
    topic = broker.topic("stamped", 2, ANY_TIME)
    score = {"topic": broker.topic("unlabeled", 2, ANY_TIME), "predictions": broker.topic("predictions")}
    fill(broker.options, topic, labeled(300), timestamps=TIMES)
    fill(broker.options, score["topic"], unlabeled(300), timestamps=TIMES)
    return settings_of(
        broker.options,
        tmp_path / "model",
        topic,
        records={},
        train={"max_offsets_per_trigger": 100},
        score={**score, "once": True},
        spark={"spark.master": "local[2]"},
    )


def as_on_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sources.kafka_source", "train.executor", "score.scorer"):
        monkeypatch.setattr(f"streaming_nn.spark.{module}.on_one_machine", lambda spark: False)


def predicted(settings: Settings) -> set[tuple[int, int]]:
    values = [json.loads(record.value) for record in read(settings.kafka, settings.score.predictions)]
    return {(value["partition"], value["offset"]) for value in values}


def test_a_record_in_nanoseconds_is_learned_replayed_and_predicted(
    spark: SparkSession, settings: Settings, tmp_path: Path
) -> None:
    learn(spark, settings)
    assert rows_of(settings.model)["trained"] == 300
    result = verify(spark, settings.kafka, VersionLog(settings.model))
    assert (result.identical, result.rows) == (True, 300)
    plan = plan_topic(spark, settings, settings.train.topics[0])
    (outcome,) = run_trials(spark, settings.kafka, plan, open_trials(plan, [], tmp_path / "trial"))
    assert outcome.counts["trained"] == 300
    assert len(manifests_of(tmp_path / "trial")) == 4, "three micro-batches of 100"
    scorer = Scorer.open(spark, settings)
    scorer.start()
    scorer.wait()
    assert predicted(settings) == {(p, offset) for p in (0, 1) for offset in range(150)}


@pytest.mark.nightly
def test_real_time_predictions_go_on_after_it(spark: SparkSession, settings: Settings) -> None:
    learn(spark, settings)
    realtime = settings.score.model_copy(update={"once": False, "realtime_batch": "5 seconds"})
    scorer = RealTimeScorer.open(spark, settings.model_copy(update={"score": realtime}))
    scorer.start()
    try:
        assert not scorer.wait(20)
        assert predicted(settings) == {(p, offset) for p in (0, 1) for offset in range(150)}
        fill(settings.kafka, settings.score.topic, unlabeled(20, seed=1))
        assert not scorer.wait(10)
        assert len(predicted(settings)) == 320
    finally:
        scorer.stop()


def test_on_a_cluster_the_run_ends_with_a_line_that_names_the_time(
    spark: SparkSession, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_on_a_cluster(monkeypatch)
    with pytest.raises(UnreadableRecordError, match=r"beyond the year 294,247 .* one machine"):
        learn(spark, settings)
    assert VersionLog(settings.model).head_number() == 0


@pytest.mark.parametrize("reader", ["ours", "of Spark"])
def test_a_version_has_the_times_of_its_records_and_its_newest_rows(
    spark: SparkSession, broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    if reader == "of Spark":
        as_on_a_cluster(monkeypatch)
    topic, model = broker.topic("sampled", 1), tmp_path / "model"
    fill(broker.options, topic, [*labeled(100), b"{"], timestamps=[NOW + 7 * i for i in range(101)])
    learn(spark, settings_of(broker.options, model, topic, train={"max_offsets_per_trigger": 60}))
    x, y = rows(100)
    first, second = manifests_of(model)[1:]
    for manifest, begin, until in ((first, 0, 60), (second, 60, 101)):
        assert manifest.record_times == [NOW + 7 * begin, NOW + 7 * (until - 1)]
        newest = slice(min(until, 100) - 16, min(until, 100))
        kept = manifest.samples["rows"]
        assert_allclose([row["inputs"] for row in kept], x[newest], rtol=1e-5)
        assert [row["label"] for row in kept] == y[newest].tolist()
    assert first.samples["rejected"] == []
    (rejected,) = second.samples["rejected"]
    assert (rejected["topic"], rejected["offset"], rejected["value"]) == (topic, 100, "{")
    settings = settings_of(broker.options, tmp_path / "other", topic, metrics={"samples": 0})
    learn(spark, settings)
    assert [manifest.samples for manifest in manifests_of(settings.model)] == [{}, {}]
