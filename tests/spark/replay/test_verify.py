"""Verify: a range, a difference and its reason by the task alone; and on a real broker and a real Spark."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka_topics import rows, rows_of
from logs import prune_all_but
from pyspark.sql import SparkSession

from streaming_nn.core import library
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, Learner, initial
from streaming_nn.nn.state_dict import flatten, unflatten
from streaming_nn.settings import Settings
from streaming_nn.spark.replay import verify as module
from streaming_nn.spark.replay.tasks import Replayed
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.train.micro_batch import learn_tasks
from streaming_nn.versions.rollback import rollback
from streaming_nn.versions.version import Manifest, Tensors, state_digest
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

NO_SPARK: Any = None


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Learn chunks from `filling.rows` instead of a topic; return offsets that the topic shall not have."""
    x, y = rows(100)
    absent: set[int] = set()

    def learn_chunk(
        spark: object,
        kafka: object,
        chunk: Sequence[Manifest],
        learners: Mapping[int, tuple[Learner[Any], ...]],
        states: Sequence[Tensors],
        digests: Mapping[int, str],
    ) -> list[Replayed]:
        replayed = []
        state = unflatten(initial(learners[chunk[0].number][0]), states[0])
        for manifest in chunk:
            begin, end = manifest.ranges["t"][0]
            offsets = [offset for offset in range(begin, end) if offset not in absent]
            if not offsets:
                continue
            (learner,) = learners[manifest.number]
            state, counts = learn_tasks(learner, state, [[Batch(x[offsets], y[offsets])]])
            digest = state_digest(flatten(state))
            replayed.append(Replayed(manifest.number, 0, digest, counts, {}, flatten(state)))
            if digest != digests[manifest.number]:
                break
        return replayed

    monkeypatch.setattr(module, "learn_chunk", learn_chunk)
    monkeypatch.setattr(module, "check_available", lambda kafka, manifests: None)
    return absent


@pytest.mark.usefixtures("missing")
def test_by_default_all_versions_are_verified(log: VersionLog) -> None:
    reached: list[int] = []
    result = verify(NO_SPARK, {}, log, progress=reached.append)
    assert (result.first, result.last, result.rows) == (1, 5, 50)
    assert result.identical
    assert reached == [5]


@pytest.mark.usefixtures("missing")
def test_a_range_starts_from_the_nearest_kept_version(log: VersionLog) -> None:
    result = verify(NO_SPARK, {}, log, 4, 5)
    assert (result.identical, result.first, result.last, result.rows) == (True, 4, 5, 20)
    assert prune_all_but(log, [2, 4]) == [1, 3]
    result = verify(NO_SPARK, {}, log, 4, 5)
    assert (result.identical, result.first, result.last, result.rows) == (True, 3, 5, 30)


@pytest.mark.usefixtures("missing")
def test_versions_of_an_older_arithmetic_name_the_releases_that_have_it(
    log: VersionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, then = log.read(1), library.ARITHMETIC
    monkeypatch.setattr(library, "ARITHMETIC", then + 1)
    monkeypatch.setattr(library, "RELEASES", {then: "0.1.0", then + 1: "0.3.0"})
    head = log.read(5)
    learner = learner_from(head.manifest.learner)
    x, y = rows(100)
    state, counts = learn_tasks(
        learner, unflatten(initial(learner), head.tensors), [[Batch(x[50:60], y[50:60])]]
    )
    log.commit(head, flatten(state), ranges={"t": {0: (50, 60)}}, counts=counts._asdict(), kind="learned")
    with pytest.raises(ValueError) as caught:
        verify(NO_SPARK, {}, log)
    assert str(caught.value) == (
        f"versions 1 to 5 were learned by arithmetic {then}, and this release has {then + 1}; verify with "
        "streaming_nn>=0.1.0,<0.3.0, and later versions with --from 6"
    )
    with pytest.raises(ValueError, match=f"version 2 was learned by arithmetic {then}"):
        verify(NO_SPARK, {}, log, 2, 2)
    result = verify(NO_SPARK, {}, log, 6)
    assert (result.identical, result.first, result.last) == (True, 6, 6)
    rolled = rollback(log, one.number).manifest
    assert rolled.events[0] == {"event": "rolled back", "from": 6, "to": 1}, "the head has this arithmetic"
    assert verify(NO_SPARK, {}, log, 6, 7).identical


@pytest.mark.parametrize(("first", "last"), [(0, 1), (3, 2), (1, 6)])
def test_versions_that_do_not_exist_are_an_error(first: int, last: int, log: VersionLog) -> None:
    with pytest.raises(ValueError, match=f"from 1 to 5, the first not after the last; got {first} to {last}"):
        verify(NO_SPARK, {}, log, first, last)


@pytest.mark.usefixtures("missing")
def test_a_model_that_has_learned_nothing_is_identical(log: VersionLog, tmp_path: Path) -> None:
    empty, first = VersionLog(tmp_path / "empty"), log.read(0)
    with pytest.raises(ValueError, match="there is no version yet"):
        verify(NO_SPARK, {}, empty)
    empty.commit(None, first.tensors, learner=first.manifest.learner)
    result = verify(NO_SPARK, {}, empty)
    assert (result.identical, result.first, result.last, result.rows) == (True, 1, 0, 0)


@pytest.mark.usefixtures("missing")
def test_a_difference_is_reported_with_its_version_and_tensor(log: VersionLog) -> None:
    def factory(options: Mapping[str, Any]) -> Learner[Any]:
        return learner_from({**options, "learning_rate": 0.5})

    result = verify(NO_SPARK, {}, log, 2, factory=factory)
    assert (result.different, result.rows) == (2, 10), "the replay ends at the first difference"
    assert result.reason.startswith("its tensors differ: ")
    assert "by up to" in result.reason
    assert result.machine == []
    prune_all_but(log)
    assert verify(NO_SPARK, {}, log, 1, 2, factory=factory).reason == "its tensors differ"


def test_a_version_whose_records_are_missing_differs(log: VersionLog, missing: set[int]) -> None:
    missing |= {23, 24}
    result = verify(NO_SPARK, {}, log)
    assert result.different == 3
    assert result.reason.startswith("its counts are {'received': 8, ")
    missing |= set(range(20, 30))
    result = verify(NO_SPARK, {}, log)
    assert (result.different, result.reason) == (3, "the topic has none of its records")


@pytest.mark.usefixtures("missing")
def test_a_difference_names_what_differs_about_the_machine(log: VersionLog) -> None:
    head = log.head()
    assert head is not None
    counts = {"received": 1, "trained": 1, "skipped": 0, "rejected": 0, "filtered": 0}
    batch = {"ranges": {"t": {0: (50, 51)}}, "counts": counts}
    log.commit(head, head.tensors, environment={"numpy": "1.0"}, **batch)
    result = verify(NO_SPARK, {}, log)
    assert result.different == 6
    assert f"numpy is {np.__version__!r}; recorded is '1.0'" in result.machine


@pytest.mark.usefixtures("missing")
def test_restored_versions_are_read_and_versions_without_records_compared(log: VersionLog) -> None:
    rollback(log, 2)
    head = log.head()
    assert head is not None
    empty = log.commit(head, head.tensors, ranges={"t": {0: (50, 50)}})
    assert verify(NO_SPARK, {}, log).identical
    changed = {name: tensor + 1 for name, tensor in empty.tensors.items()}
    log.commit(empty, changed, ranges={"t": {0: (50, 50)}})
    assert verify(NO_SPARK, {}, log).different == 8


@pytest.mark.merge
def test_verify_confirms_the_same_bits_and_reports_others(spark: SparkSession, model: Settings) -> None:
    log = VersionLog(model.model)
    result = verify(spark, model.kafka, log)
    assert result.identical, result
    received = rows_of(model.model)["received"]
    assert (result.first, result.last, result.rows) == (1, log.head_number(), received)
    part = verify(spark, model.kafka, log, 5, 5)
    assert (part.identical, part.first, part.rows) == (True, 5, log.manifest(5).counts["received"])
    other = verify(
        spark, model.kafka, log, factory=lambda options: learner_from({**options, "learning_rate": 0.3})
    )
    assert (other.identical, other.different) == (False, 1)
    assert re.match(r"its tensors differ: [\w.]+ by up to \d", other.reason)
