"""Where a run resumes in its topics, and what it does about losses; without Spark or Kafka."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from kafka_topics import SCHEMA

from streaming_nn.errors import DataLossError
from streaming_nn.settings import Settings
from streaming_nn.spark.sources import offsets
from streaming_nn.spark.sources.kafka_source import KafkaPlan, KafkaSource
from streaming_nn.spark.sources.offsets import Offsets
from streaming_nn.versions.version import Manifest

pytestmark = pytest.mark.commit

HEAD = Manifest(
    4,
    kind="learned",
    schema=SCHEMA.options(),
    offsets={"t": {0: 100, 1: 50}, "other": {0: 7}},
    topic_ids={"t": "id", "other": "x"},
)
SPARK: Any = None


class Admin:
    """A broker's topics."""

    def __init__(self, beginnings: Offsets, ends: Offsets, id: str = "id") -> None:
        self._beginnings, self._ends, self.id = beginnings, ends, id
        self.existing = [*beginnings]

    def topics(self) -> list[str]:
        return self.existing

    def ids(self, topics: Iterable[str]) -> dict[str, str]:
        return dict.fromkeys(topics, self.id)

    def beginnings(self, topics: list[str]) -> Offsets:
        return self._beginnings

    def ends(self, topics: list[str]) -> Offsets:
        return self._ends


def opened(admin: Any, **train: Any) -> KafkaSource:
    source = KafkaSource(SPARK, Settings(train={"topics": ["t"], **train}))
    source.open(admin)
    return source


def test_a_new_model_begins_at_the_beginnings_or_the_ends() -> None:
    admin = Admin({"t": {0: 3}}, {"t": {0: 9}})
    begins = {"offsets": {"t": {0: 3}}, "topic_ids": {"t": "id"}, "source": {}}
    assert opened(admin).initial_position() == begins
    at_the_ends = opened(admin, starting_offsets="latest").initial_position()
    assert at_the_ends["offsets"] == {"t": {0: 9}}


def test_a_run_resumes_at_the_heads_offsets_and_at_the_beginning_of_new_partitions() -> None:
    source = opened(Admin({"t": {0: 0, 1: 0, 2: 5}}, {"t": {0: 120, 1: 50, 2: 9}}))
    assert source.resume(HEAD) == []
    assert source.starting == {"t": {0: 100, 1: 50, 2: 5}}
    assert source.backlog() == 20 + 0 + 4


def test_expired_records_stop_a_run_unless_accepted() -> None:
    admin = Admin({"t": {0: 110, 1: 50}}, {"t": {0: 120, 1: 50}})
    with pytest.raises(DataLossError, match=r"^offsets 100 to 109 of 't' partition 0 expired before"):
        opened(admin).resume(HEAD)
    source = opened(admin, accept_data_loss=True)
    assert source.resume(HEAD) == [{"event": "data loss accepted", "lost": {"t": {"0": [100, 110]}}}]
    assert source.starting == {"t": {0: 110, 1: 50}}
    assert source.backlog() == 10


def test_a_recreated_topic_stops_a_run_unless_accepted() -> None:
    admin = Admin({"t": {0: 0, 1: 0}}, {"t": {0: 500, 1: 10}}, id="new")
    with pytest.raises(DataLossError, match=r"^topic 't' was recreated: its records from partition 0"):
        opened(admin).resume(HEAD)
    source = opened(admin, accept_data_loss=True)
    assert source.resume(HEAD) == [{"event": "topic recreated", "topic": "t"}]
    assert source.starting == {"t": {0: 0, 1: 0}}, "all that it has now"
    plan = KafkaPlan(source, SPARK, {"t": {0: (0, 300), 1: (0, 10)}})
    assert plan.position["topic_ids"] == {"t": "new", "other": "x"}


def test_a_topic_that_is_recreated_during_the_run_stops_it_before_the_commit() -> None:
    admin = Admin({"t": {0: 0, 1: 0}}, {"t": {0: 120, 1: 50}})
    source = opened(admin)
    source.resume(HEAD)
    source.check(HEAD)
    admin.id = "new"
    with pytest.raises(DataLossError, match=r"^topic 't' was recreated"):
        source.check(HEAD)


def test_a_position_has_the_offsets_of_other_topics_too() -> None:
    source = opened(Admin({"t": {0: 0, 1: 0}}, {"t": {0: 120, 1: 60}}))
    source.resume(HEAD)
    plan = KafkaPlan(source, SPARK, {"t": {0: (100, 115), 1: (50, 50)}})
    assert plan.count == 15
    assert plan.position == {
        "ranges": {"t": {0: (100, 115), 1: (50, 50)}},
        "offsets": {"t": {0: 115, 1: 50}, "other": {0: 7}},
        "topic_ids": {"t": "id", "other": "x"},
    }


def matching(admin: Any, pattern: str = "t.*", **train: Any) -> KafkaSource:
    source = KafkaSource(SPARK, Settings(train={"topics_pattern": pattern, **train}))
    source.open(admin)
    return source


def test_a_pattern_learns_the_topics_that_match_it() -> None:
    admin = Admin({"t": {0: 0}, "t2": {0: 3}, "u": {0: 0}}, {"t": {0: 120}, "t2": {0: 9}, "u": {0: 4}})
    source = matching(admin)
    assert source.name == "topics 't.*'"
    assert set(source.initial_position()["topic_ids"]) == {"t", "t2"}
    assert source.resume(HEAD) == []
    assert source.starting == {"t": {0: 100}, "t2": {0: 3}}
    assert source.backlog() == 20 + 6


def test_a_topic_joins_when_spark_first_plans_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = matching(Admin({"t": {0: 0, 1: 0}}, {"t": {0: 120, 1: 50}}))
    source.resume(HEAD)
    source.checkpoint = tmp_path
    reader_ids = source.ids
    offsets.write_start(tmp_path, source.starting)
    (tmp_path / "offsets").mkdir()
    planned = {"t": {"0": 120, "1": 50}, "t-new": {"0": 7}}
    (tmp_path / "offsets" / "0").write_text(f"v1\n{{}}\n{json.dumps(planned)}")
    with caplog.at_level("INFO", "streaming_nn"):
        plan = source.plan(SPARK, 0)
    assert plan.ranges == {"t": {0: (100, 120), 1: (50, 50)}, "t-new": {0: (0, 7)}}
    assert plan.position["topic_ids"] == {"t": "id", "t-new": "id", "other": "x"}
    assert reader_ids["t-new"] == "id", "the reader has the same dict"
    assert caplog.messages == ["also training on new topic t-new, matched by train.topics_pattern"]


def test_a_topic_that_only_java_matches_ends_the_run(tmp_path: Path) -> None:
    source = matching(Admin({"t": {0: 0}}, {"t": {0: 120}}))
    with pytest.raises(ValueError, match=r"^train.topics_pattern = 't.\*' matches topic 'x' in Java"):
        source._join(["x"])


def test_a_deleted_topic_of_a_pattern_stops_the_run_unless_accepted() -> None:
    admin = Admin({"t2": {0: 0}}, {"t2": {0: 9}})
    with pytest.raises(DataLossError, match=r"^topic 't' was deleted: any records from partition 0 off"):
        matching(admin).resume(HEAD)
    source = matching(admin, accept_data_loss=True)
    assert source.resume(HEAD) == [{"event": "topic deleted", "topic": "t"}]
    plan = KafkaPlan(source, SPARK, {"t2": {0: (0, 9)}})
    assert plan.position["offsets"] == {"other": {0: 7}, "t2": {0: 9}}, "it is accepted once"
    assert plan.position["topic_ids"] == {"other": "x", "t2": "id"}
