"""The steps that every run shares: combine what tasks learned, grow, commit, and notice a rollback."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka_topics import SCHEMA, rows
from numpy.testing import assert_array_equal

from streaming_nn.core import library
from streaming_nn.errors import VersionConflictError
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import (
    Batch,
    Counts,
    State,
    combine,
    initial,
    learn_part,
    load_state,
    test_then_train,
)
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.schema import Schema
from streaming_nn.settings import Settings
from streaming_nn.spark.rejected import DeadLetter
from streaming_nn.spark.tasks import TaskResult
from streaming_nn.spark.train.micro_batch import (
    Work,
    add_counts,
    combine_results,
    commit_learned,
    learn_tasks,
)
from streaming_nn.spark.train.resume import resume_learner
from streaming_nn.versions.rollback import rollback
from streaming_nn.versions.version import Version, state_digest
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

LEARNER = learner_from({"inputs": 3, "classes": [0, 1], "hidden": [4], "mini_batch": 4})
LETTER = DeadLetter("not JSON", "", "", "t", 0, 7, None, b"x", None)


def result(seed: int, **fields: Any) -> TaskResult:
    part = learn_part(LEARNER, initial(LEARNER), [Batch(*rows(50, seed))])
    return TaskResult("t", seed, part, {"not JSON": 1}, 3, [LETTER], 0.5 + seed)._replace(**fields)


def digest(state: State[Any]) -> str:
    return state_digest(flatten(state))


def test_results_are_combined_in_their_order() -> None:
    work = Work(LEARNER, SCHEMA, initial(LEARNER), averaged=True)
    results = [result(0), result(1)]
    learned = combine_results(work, results)
    parts = [each.part for each in results if each.part is not None]
    assert digest(learned.state) == digest(combine(LEARNER, initial(LEARNER), parts))
    assert learned.counts == Counts(received=108, trained=100, rejected=2, filtered=6)
    assert learned.rejected == {"not JSON": 2}
    assert learned.dead_letters == [LETTER, LETTER]
    assert learned.seconds == 1.5


def test_no_results_are_an_empty_micro_batch() -> None:
    learned = combine_results(Work(LEARNER, SCHEMA, initial(LEARNER)), [])
    assert (learned.counts, learned.seconds) == (Counts(), 0.0)
    assert digest(learned.state) == digest(initial(LEARNER))


def test_the_rows_of_one_task_are_learned_as_by_test_then_train() -> None:
    batch = Batch(*rows(60))
    state, counts = learn_tasks(LEARNER, initial(LEARNER), [[batch]])
    expected, _ = test_then_train(LEARNER, initial(LEARNER), [batch])
    assert (digest(state), counts) == (digest(expected), Counts(60, 60))
    assert add_counts([]) == Counts()


def test_unseen_labels_become_classes_of_schema_and_learner() -> None:
    schema = Schema(3, ("no",), grow=True)
    learner = learner_from({"inputs": 3, "classes": ["no"], "hidden": [4]})
    work = Work(learner, schema, initial(learner)).grow({"label": ["yes"]})
    assert work.schema.classes == work.learner.classes == ("no", "yes")
    grown = load_state(work.learner, flatten(work.state))
    assert_array_equal(grown.metrics.cumulative.actual, [0, 0])


def committed(directory: Path) -> tuple[VersionLog, Version]:
    log = VersionLog(directory)
    fields: dict[str, Any] = {"learner": LEARNER.options(), "schema": SCHEMA.options()}
    return log, log.commit(None, flatten(initial(LEARNER)), offsets={"t": {0: 0}}, **fields)


def learn_next(log: VersionLog, head: Version, seed: int, **fields: Any) -> Version | None:
    before = load_state(LEARNER, head.tensors)
    after, counts = learn_tasks(LEARNER, before, [[Batch(*rows(50, seed))]])
    return commit_learned(log, head, LEARNER, before, after, counts, kind="learned", **fields)


def test_a_version_has_what_was_learned(tmp_path: Path) -> None:
    log, head = committed(tmp_path)
    events = [{"event": "topic recreated", "topic": "t"}]
    version = learn_next(log, head, 0, events=events, offsets={"t": {0: 50}})
    assert version is not None
    manifest = log.read(1).manifest
    assert manifest == version.manifest
    assert manifest.counts == Counts(50, 50)._asdict()
    assert manifest.metrics["rows"] == 50
    assert (manifest.kind, manifest.events, manifest.offsets) == ("learned", events, {"t": {0: 50}})
    assert manifest.schema == SCHEMA.options(), "inherited"


def test_a_version_names_what_settings_and_release_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, head = committed(tmp_path)
    changed = resume_learner(Settings(learner={"eta": 0.5, "mini_batch": 8}), head)
    before = load_state(changed, head.tensors)
    after, counts = learn_tasks(changed, before, [[Batch(*rows(50, 0))]])
    monkeypatch.setattr(library, "ARITHMETIC", library.ARITHMETIC + 1)
    version = commit_learned(log, head, changed, before, after, counts, kind="learned")
    assert version is not None
    assert version.manifest.events == [
        {"event": "arithmetic changed", "from": library.ARITHMETIC - 1, "to": library.ARITHMETIC},
        {"event": "learner changed", "changed": "eta = 0.25, now 0.5"},
    ]
    again = commit_learned(log, version, changed, before, after, counts, kind="learned")
    assert again is not None
    assert again.manifest.events == []


def test_a_version_names_the_values_by_which_its_schema_has_grown(tmp_path: Path) -> None:
    schema = Schema(2, ("no",), ("city",), categories={"city": {"one_hot": 2}}, label="bought", grow=True)
    learner = learner_from({"inputs": 2, "classes": ["no"], "hidden": [4]})
    log = VersionLog(tmp_path)
    head = log.commit(None, flatten(initial(learner)), learner=learner.options(), schema=schema.options())
    work = Work(learner, schema, initial(learner)).grow({"bought": ["yes"], "city": ["a", "b"]})
    grown = commit_learned(
        log, head, work.learner, work.start, work.start, Counts(), schema=work.schema.options()
    )
    assert grown is not None
    event = {"event": "schema grown", "classes": ["yes"], "categories": {"city": ["a", "b"]}}
    assert grown.manifest.events == [event]
    again = commit_learned(
        log, grown, work.learner, work.start, work.start, Counts(), schema=work.schema.options()
    )
    assert again is not None
    assert again.manifest.events == []


def test_a_rollback_meanwhile_is_no_error_and_nothing_is_committed(tmp_path: Path) -> None:
    log, first = committed(tmp_path)
    head = learn_next(log, first, 0)
    assert head is not None
    rollback(VersionLog(tmp_path), 0)
    assert learn_next(log, head, 1) is None
    assert log.manifest(log.head_number() or 0).kind == "rolled-back"


def test_another_commit_meanwhile_is_an_error(tmp_path: Path) -> None:
    log, head = committed(tmp_path)
    assert learn_next(VersionLog(tmp_path), head, 0) is not None
    with pytest.raises(VersionConflictError) as caught:
        learn_next(log, head, 1)
    assert caught.value.number == 1
    assert np.array_equal(log.read(1).tensors["metrics.rows"], 50)
