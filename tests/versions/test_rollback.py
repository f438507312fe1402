import threading
from pathlib import Path

import numpy as np
import pytest
from logs import filled, learn, prune_all_but, tensors

from streaming_nn.errors import VersionConflictError
from streaming_nn.versions.environment import writer
from streaming_nn.versions.repair import check
from streaming_nn.versions.rollback import combine_tensors, rollback
from streaming_nn.versions.version import Version
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit


def test_rollback_has_the_old_model_and_the_heads_offsets_and_metrics(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 4)
    learn(log, learner={"rate": 0.9}, source={"query_id": "q", "batch_id": 7}, topic_ids={"t": "id"})
    version = rollback(log, 2)
    head = VersionLog(tmp_path).head()
    assert head is not None
    assert head.manifest == version.manifest
    assert head.number == 5
    np.testing.assert_array_equal(head.tensors["model.theta"], tensors(2)["model.theta"])
    np.testing.assert_array_equal(head.tensors["metrics.rows"], tensors(4)["metrics.rows"])
    manifest, before = head.manifest, log.manifest(4)
    assert manifest.kind == "rolled-back"
    assert manifest.restored_from == 2
    assert manifest.learner == {"rate": 0.1}
    assert manifest.offsets == before.offsets
    assert manifest.topic_ids == before.topic_ids
    assert manifest.source == before.source
    assert manifest.metrics == before.metrics
    assert manifest.ranges == {}
    assert set(manifest.counts.values()) == {0}
    assert manifest.written_by == writer(log.run)
    assert manifest.events == [{"event": "rolled back", "from": 4, "to": 2}]
    learn(log)
    assert check(log) == []


def test_metrics_of_another_shape_are_those_of_the_old_version(tmp_path: Path) -> None:
    old, head = tensors(1), tensors(2)
    head["metrics.rows"] = np.zeros(3, np.int64)
    taken = combine_tensors(old, head)
    np.testing.assert_array_equal(taken["metrics.rows"], [1])
    np.testing.assert_array_equal(taken["model.theta"], [1, 1, 1, 1])
    head["metrics.rows"] = np.array([2.0])
    assert combine_tensors(old, head)["metrics.rows"].dtype == np.int64


def test_no_tensor_of_the_new_model_stays(tmp_path: Path) -> None:
    old, head = (
        {"model.a": np.zeros(1), "metrics.m": np.zeros(1)},
        {"model.b": np.ones(1), "metrics.m": np.ones(1)},
    )
    assert combine_tensors(old, head).keys() == {"model.a", "metrics.m"}


def test_versions_that_cannot_be_rolled_back_to(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 5)
    prune_all_but(log, [3])
    with pytest.raises(ValueError, match="cannot roll back to version 4: it is the head"):
        rollback(log, 4)
    with pytest.raises(LookupError, match="version 2 was pruned"):
        rollback(log, 2)
    with pytest.raises(LookupError, match="no version 9"):
        rollback(log, 9)
    assert log.head_number() == 4


def test_rollback_retries_while_a_trainer_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, trainer = filled(VersionLog(tmp_path), 3), VersionLog(tmp_path)
    append, lost = VersionLog.append, []

    def beaten(self: VersionLog, version: Version) -> str:
        if self is log and len(lost) < 3:
            lost.append(version.number)
            learn(trainer)
        return append(self, version)

    monkeypatch.setattr(VersionLog, "append", beaten)
    version = rollback(log, 1)
    assert lost == [3, 4, 5]
    assert version.number == 6
    assert version.manifest.offsets == log.manifest(5).offsets


def test_a_running_trainer_adopts_the_version_and_learns_its_batch_again(tmp_path: Path) -> None:
    log, stop, adopted = filled(VersionLog(tmp_path), 3), threading.Event(), []

    def train() -> None:
        own = VersionLog(tmp_path)
        while not stop.is_set():
            try:
                learn(own)
            except VersionConflictError as e:
                adopted.append((e.number, e.manifest.kind if e.manifest else None))

    thread = threading.Thread(target=train)
    thread.start()
    versions = [rollback(VersionLog(tmp_path), 1).number for _ in range(5)]
    stop.set()
    thread.join()
    assert [n for n in log.numbers() if log.manifest(n).kind == "rolled-back"] == versions
    learned = [log.manifest(n) for n in log.numbers() if log.manifest(n).kind == "learned"]
    assert [r.ranges["t"][0] for r in learned] == [(10 * i, 10 * i + 10) for i in range(len(learned))]
    assert set(adopted) <= {(number, "rolled-back") for number in versions}
    assert check(log) == []
