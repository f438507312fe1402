"""What a backtest learns: which versions, from which state, and how a topic is cut. Mostly without a JVM."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kafka_topics import fill, labeled, settings_of
from logs import prune_all_but
from pyspark.sql import Row, SparkSession

from streaming_nn.spark.replay.plan import ReplayPlan, _cut_manifests, parse_time, plan_topic, plan_versions
from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

START = 1_700_000_000_000  # milliseconds since 1970: 2023-11-14T22:13:20


def numbers(plan: ReplayPlan) -> list[int]:
    return [manifest.number for manifest in plan.manifests]


def test_by_default_all_versions_are_learned_beside_the_recorded_metrics(log: VersionLog) -> None:
    plan = plan_versions(log)
    assert numbers(plan) == [1, 2, 3, 4, 5]
    assert (plan.parent.number, plan.shift, plan.start) == (0, 0, None)
    assert plan.recorded is not None
    assert plan.recorded.metrics == log.manifest(5).metrics
    assert plan.recorded.counts == {"received": 50, "trained": 50, "skipped": 0, "rejected": 0, "filtered": 0}
    assert plan.identity == {"model": log.sha256(0), "first": 1, "begins": 0}


def test_a_later_range_starts_with_the_version_before_it(log: VersionLog) -> None:
    plan = plan_versions(log, 3, 4)
    assert numbers(plan) == [3, 4]
    assert (plan.parent.number, plan.shift) == (2, 2)
    assert plan.start is not None
    assert plan.start.number == 2
    assert plan.recorded is None, "the original's metrics are over other rows"


def test_if_the_version_before_is_pruned_the_nearest_kept_one_is_the_start(log: VersionLog) -> None:
    assert prune_all_but(log, [2, 4]) == [1, 3]
    plan = plan_versions(log, 4)
    assert plan.start is not None
    assert (plan.start.number, plan.parent.number, plan.identity["begins"]) == (2, 3, 2)


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        ("2026-01-01T00:02", "2026-01-01T00:05", [2, 3, 4]),
        (None, "2026-01-01T00:03", [1, 2]),
        ("2026-01-01T01:04+01:00", None, [4, 5]),
    ],
)
def test_an_interval_is_of_the_times_at_which_versions_were_written(
    since: str | None, until: str | None, expected: list[int], log: VersionLog
) -> None:
    begin, end = (text and parse_time(text) for text in (since, until))
    assert numbers(plan_versions(log, since=begin or None, until=end or None)) == expected


def test_an_interval_without_versions_is_an_error(log: VersionLog) -> None:
    interval = {"since": parse_time("2001-01-01"), "until": parse_time("2001-01-02")}
    message = "no version was written from 2001-01-01T00:00:00.* to 2001.*; they are from 2026-01-01T00:01"
    with pytest.raises(ValueError, match=message) as caught:
        plan_versions(log, **interval)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("first", "last"), [(0, 1), (3, 2), (1, 999)])
def test_versions_that_do_not_exist_are_an_error(first: int, last: int, log: VersionLog) -> None:
    with pytest.raises(ValueError, match=f"from 1 to 5, the first not after the last; got {first} to {last}"):
        plan_versions(log, first, last)


def test_a_model_without_learned_versions_is_an_error(tmp_path: Path) -> None:
    log = VersionLog(tmp_path / "model")
    with pytest.raises(ValueError, match="there is no version yet"):
        plan_versions(log)
    log.commit(None, {})
    with pytest.raises(ValueError, match="versions must be 1 or more, and there is only 0"):
        plan_versions(log)


def test_a_model_that_starts_with_a_trained_state_has_no_comparable_metrics(
    log: VersionLog, tmp_path: Path
) -> None:
    copy, source = VersionLog(tmp_path / "copy"), log.read(2)
    first = copy.commit(None, source.tensors, learner=source.manifest.learner)
    copy.commit(first, log.read(3).tensors)
    assert plan_versions(copy).recorded is None


def test_damaged_versions_have_the_options_of_their_neighbors(log: VersionLog) -> None:
    head = log.head()
    assert head is not None
    damaged = log.commit(head, {}, kind="damaged", learner={}, schema={}, counts=head.manifest.counts)
    log.commit(damaged, head.tensors, kind="repaired", restored_from=5, learner=head.manifest.learner)
    plan = plan_versions(log)
    assert plan.manifests[5].kind == "damaged"
    assert plan.manifests[5].learner == head.manifest.learner
    assert plan.manifests[5].schema == head.manifest.schema
    assert plan.recorded is not None
    assert plan.recorded.counts["received"] == 50, "a damaged version counts nothing"
    assert plan_versions(log, 1, 6).recorded is None


def test_micro_batches_of_a_topic_follow_each_other_in_every_partition() -> None:
    parent = Manifest(0, offsets={"t": {0: 5, 1: 0}}, topic_ids={"t": "id"}, learner={"seed": 1})
    cuts = [
        Row(version=1, partition=0, until=9, records=4),
        Row(version=1, partition=1, until=6, records=6),
        Row(version=2, partition=1, until=10, records=3),
    ]
    first, second = _cut_manifests(parent, "t", cuts)
    assert (first.number, first.ranges, first.offsets) == (
        1,
        {"t": {0: (5, 9), 1: (0, 6)}},
        {"t": {0: 9, 1: 6}},
    )
    assert (second.ranges, second.offsets) == ({"t": {0: (9, 9), 1: (6, 10)}}, {"t": {0: 9, 1: 10}})
    assert [manifest.counts["received"] for manifest in (first, second)] == [10, 3]
    unchanged = {"number": 0, "ranges": {}, "offsets": parent.offsets, "counts": parent.counts}
    assert replace(second, **unchanged) == replace(parent, **unchanged)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T14:00", datetime(2026, 1, 31, 14, tzinfo=UTC)),
        ("2026-01-31T14:00:05+02:00", datetime(2026, 1, 31, 12, 0, 5, tzinfo=UTC)),
    ],
)
def test_a_time_without_a_zone_is_utc(text: str, expected: datetime) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize("text", ["soon", "", "2026-13-01", "14:00"])
def test_a_bad_time_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="a time must be like") as caught:
        parse_time(text)
    assert "\n" not in str(caught.value)


@pytest.mark.nightly
def test_an_interval_of_a_topic_is_cut_by_its_records_timestamps(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("interval", 2)
    fill(broker.options, topic, labeled(600), timestamps=[START + i * 1000 for i in range(600)])
    train = {"max_offsets_per_trigger": 150}
    settings = settings_of(broker.options, tmp_path / "none", topic, records={}, train=train)
    since, until = (parse_time(f"2023-11-14T22:{minute}") for minute in (15, 20))  # 100 and 400 s after START
    plan = plan_topic(spark, settings, topic, since, until)
    assert [manifest.counts["received"] for manifest in plan.manifests] == [150, 150]
    assert plan.manifests[0].ranges == {topic: {0: (50, 125), 1: (50, 125)}}
    assert plan.bounds == {"begins": {"0": 50, "1": 50}, "ends": {"0": 200, "1": 200}}
    with pytest.raises(ValueError, match=f"topic '{topic}' has no records from 2033"):
        plan_topic(spark, settings, topic, parse_time("2033-01-01"))
    assert not settings.model.exists()
