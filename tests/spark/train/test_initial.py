"""An untrained model restarts with other settings, whatever two runs do at once."""

import logging
from pathlib import Path
from typing import Any

import pytest
from kafka_topics import labeled

from streaming_nn.errors import VersionConflictError
from streaming_nn.settings import Settings
from streaming_nn.spark.replay.plan import plan_versions
from streaming_nn.spark.train import trainer
from streaming_nn.spark.train.initial import commit_initial
from streaming_nn.spark.train.initial_schema import read_schema
from streaming_nn.versions.repair import check
from streaming_nn.versions.retention import prune
from streaming_nn.versions.version import Version
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

RECORDS = {"features": ["price", "city"], "classes": ["no", "yes"], "missing": True}
HASHED = {**RECORDS, "categories": {"city": {"hash": 4}}}
SMALL = {"learner": "mlp", "optimizer": "sgd", "hidden": [4]}


class Source:
    """A source of topics by their ids, which has some records."""

    name = "topic t"

    def __init__(self, **ids: str) -> None:
        self.ids, self.forgotten, self.looks = ids or {"t": "id"}, 0, 0

    def first_values(self, rows: int) -> list[bytes | None]:
        self.looks += 1
        return [*labeled(rows)]

    def initial_position(self) -> dict[str, Any]:
        return {"offsets": {t: {0: 5} for t in self.ids}, "topic_ids": dict(self.ids), "source": {}}

    def forget(self) -> None:
        self.forgotten += 1


def settings_of(model: Path, records: Any = RECORDS, learner: Any = SMALL, **sections: Any) -> Settings:
    return Settings(model=model, records=records, learner=learner, **sections)


def begin(settings: Settings, source: Any = None, given: Any = None) -> Version:
    """Do what a run does before it learns, and return its head."""
    log = VersionLog(settings.model)
    return trainer._begin_model(settings, log, source or Source(), given, log.head())


def learn(log: VersionLog, head: Version) -> Version:
    """Commit a version that has learned something."""
    return log.commit(head, head.tensors, kind="learned", counts={**head.manifest.counts, "received": 0})


def test_the_same_settings_resume(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    first = begin(settings)
    assert (first.number, first.manifest.kind, first.manifest.events) == (0, "initial", [])
    assert begin(settings).sha256 == first.sha256
    inferred = settings_of(tmp_path / "inferred", {})
    begin(inferred)
    again = Source()
    assert begin(inferred, again).number == 0
    assert again.looks == 0, "what was inferred stays"


CHANGES = {
    "categories": ({"records": HASHED}, "records.categories = {}, now {'city': {'hash': 4}}"),
    "fields": ({"records": RECORDS | {"features": ["a"]}}, "records.features = ['price', 'city'], now ['a']"),
    "a framing": (
        {"records": RECORDS | {"framing": "gzip"}},
        "records.framing = 'none', now 'gzip'",
    ),
    "no longer set": (
        {"records": {name: RECORDS[name] for name in ("features", "classes")}},
        "records.missing = True, now False",
    ),
    "classes": (
        {"records": RECORDS | {"features": "features", "classes": "grow"}},
        "records.classes = ['no', 'yes'], now 'grow'",
    ),
    "more classes": (
        {"records": RECORDS | {"classes": ["no", "yes", "maybe"]}},
        "records.classes = ['no', 'yes'], now ['no', 'yes', 'maybe']",
    ),
    "a regression": (
        {"records": {"features": ["price", "city"], "regression": True}},
        "records.regression = true",
    ),
    "the learner": ({"learner": SMALL | {"hidden": [5]}}, "learner: hidden = [4], now [5]"),
    "the update": (
        {"train": {"update": "averaged"}},
        "train.update = 'sequential', now 'averaged'",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_other_settings_begin_again(case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    changed, expected = CHANGES[case]
    begin(settings_of(tmp_path))
    source = Source()
    head = begin(settings_of(tmp_path, **changed), source)
    assert (head.number, head.manifest.kind, source.forgotten) == (1, "initial", 1)
    assert head.manifest.events == [{"event": "model restarted", "changed": expected}]
    assert f"{tmp_path} is untrained; restarting from scratch: {expected}" in caplog.messages
    assert begin(settings_of(tmp_path, **changed)).sha256 == head.sha256
    assert list(check(VersionLog(tmp_path))) == []


def test_classes_that_grow_begin_again(tmp_path: Path) -> None:
    begin(settings_of(tmp_path, {}))
    head = begin(settings_of(tmp_path, {"classes": "grow"}))
    assert head.manifest.events[0]["changed"] == "records.classes = [0, 1], now 'grow'"
    assert head.manifest.schema["grow"]
    assert begin(settings_of(tmp_path, {"classes": "grow"})).number == 1


@pytest.mark.parametrize(
    ("now", "pattern", "expected"),
    [
        ({"u": "id"}, "", "topics t, now u"),
        ({"t": "id", "u": "other"}, "", "topics t, now t, u"),
        ({"t": "new"}, "", "topic 't' was recreated"),
        ({"t": "id", "u": "other"}, "[tu]", None),
        ({"u": "other"}, "[tu]", "topics t, now u"),
    ],
)
def test_other_topics_begin_again(
    now: dict[str, str], pattern: str, expected: str | None, tmp_path: Path
) -> None:
    train = {"topics_pattern": pattern} if pattern else {}
    begin(settings_of(tmp_path, train=train))
    head = begin(settings_of(tmp_path, train=train), Source(**now))
    assert [event["changed"] for event in head.manifest.events] == ([] if expected is None else [expected])
    if expected:
        assert head.manifest.offsets == {topic: {0: 5} for topic in now}


def test_a_model_that_has_learned_something_does_not_begin_again(tmp_path: Path) -> None:
    """Case 12: only a directory that holds nothing but version 0 restarts."""
    log = VersionLog(tmp_path)
    head = learn(log, begin(settings_of(tmp_path)))
    assert begin(settings_of(tmp_path, HASHED)).sha256 == head.sha256
    with pytest.raises(ValueError, match=r"was created with records.categories = {}, now .*: 4.*use a new"):
        trainer._resume_work(settings_of(tmp_path, HASHED), head, None, None)


def test_a_backtest_s_first_version_is_not_replaced(tmp_path: Path) -> None:
    settings, log = settings_of(tmp_path), VersionLog(tmp_path)
    first = begin(settings_of(tmp_path / "other"))
    event = {"event": "backtest", "of": {}, "trial": {}}
    manifest = first.manifest
    log.commit(None, first.tensors, learner=manifest.learner, schema=manifest.schema, events=[event])
    assert begin(settings_of(tmp_path, HASHED)).number == 0
    assert begin(settings).number == 0


def test_a_run_that_slept_does_not_learn_on_top_of_another_beginning(tmp_path: Path) -> None:
    log, slept = VersionLog(tmp_path), begin(settings_of(tmp_path))
    head = begin(settings_of(tmp_path, HASHED))
    with pytest.raises(VersionConflictError, match=r"version 1 .* was committed"):
        learn(log, slept)
    assert log.head_number() == head.number == 1
    assert list(check(log)) == []


def test_a_run_that_restarts_does_not_replace_what_another_has_learned(tmp_path: Path) -> None:
    log, slept = VersionLog(tmp_path), begin(settings_of(tmp_path))
    learn(log, slept)
    other = settings_of(tmp_path, HASHED)
    with pytest.raises(VersionConflictError, match=r"version 1 .* was committed"):
        commit_initial(other, log, read_schema(Source(), other), {}, None, slept, "records")
    head = log.head()
    assert head is not None
    assert head.manifest.kind == "learned"


@pytest.mark.parametrize("times", [1, 3])
def test_a_replay_begins_after_the_last_beginning(times: int, tmp_path: Path) -> None:
    log = VersionLog(tmp_path)
    for hidden in range(times + 1):
        head = begin(settings_of(tmp_path, learner=SMALL | {"hidden": [4 + hidden]}))
    assert log.initial_number() == head.number == times
    with pytest.raises(ValueError, match=f"versions must be {times + 1} or more, and there is only {times}"):
        plan_versions(log)
    for _ in range(3):
        head = learn(log, head)
    plan = plan_versions(log)
    assert [manifest.number for manifest in plan.manifests] == [times + 1, times + 2, times + 3]
    assert (plan.parent.number, plan.start) == (times, None)
    assert plan.recorded is not None
    with pytest.raises(ValueError, match=f"versions must be from {times + 1} to {times + 3}"):
        plan_versions(log, first=times)


def test_the_beginning_is_never_pruned(tmp_path: Path) -> None:
    log = VersionLog(tmp_path)
    begin(settings_of(tmp_path))
    head = begin(settings_of(tmp_path, learner=SMALL | {"hidden": [5]}))
    for _ in range(12):
        head = learn(log, head)
    prune(log, 1)
    assert log.files()[:2] == [0, 1]
    assert log.read(1).manifest.kind == "initial"
