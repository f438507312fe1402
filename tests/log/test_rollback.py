import threading
from pathlib import Path

import numpy as np
import pytest
from logs import AT, BY, filled, learn, tensors

from streaming_nn.log.log import Conflict, Log
from streaming_nn.log.repair import check
from streaming_nn.log.rollback import rollback, taken_over
from streaming_nn.log.thin import thin
from streaming_nn.log.version import Version


def test_old_model_new_offsets_and_metrics_that_go_on(tmp_path: Path) -> None:
    log = filled(Log(tmp_path), 4)
    learn(log, learner={"rate": 0.9}, source={"query_id": "q", "batch_id": 7}, topic_ids={"t": "id"})
    version = rollback(log, 2, BY, AT)
    head = Log(tmp_path).head()
    assert head is not None
    assert head.record == version.record
    assert head.number == 5
    np.testing.assert_array_equal(head.tensors["model.theta"], tensors(2)["model.theta"])
    np.testing.assert_array_equal(head.tensors["metrics.rows"], tensors(4)["metrics.rows"])
    record, before = head.record, log.record(4)
    assert record.kind == "rolled-back"
    assert record.taken_from == 2
    assert record.learner == {"rate": 0.1}
    assert record.offsets == before.offsets
    assert record.topic_ids == before.topic_ids
    assert record.source == before.source
    assert record.metrics == before.metrics
    assert record.ranges == {}
    assert set(record.rows.values()) == {0}
    assert record.written_by == BY
    assert record.events == [{"event": "rolled back", "from": 4, "to": 2}]
    learn(log)
    assert check(log) == []


def test_metrics_of_another_shape_can_not_go_on(tmp_path: Path) -> None:
    old, head = tensors(1), tensors(2)
    head["metrics.rows"] = np.zeros(3, np.int64)
    taken = taken_over(old, head)
    np.testing.assert_array_equal(taken["metrics.rows"], [1])
    np.testing.assert_array_equal(taken["model.theta"], [1, 1, 1, 1])
    head["metrics.rows"] = np.array([2.0])
    assert taken_over(old, head)["metrics.rows"].dtype == np.int64


def test_nothing_of_the_new_model_stays(tmp_path: Path) -> None:
    old, head = (
        {"model.a": np.zeros(1), "metrics.m": np.zeros(1)},
        {"model.b": np.ones(1), "metrics.m": np.ones(1)},
    )
    assert taken_over(old, head).keys() == {"model.a", "metrics.m"}


def test_what_can_not_be_gone_back_to(tmp_path: Path) -> None:
    log = filled(Log(tmp_path), 5)
    thin(log, keep_last=2)
    with pytest.raises(ValueError, match="version 4 is the head"):
        rollback(log, 4, BY, AT)
    with pytest.raises(LookupError, match="version 2 was thinned"):
        rollback(log, 2, BY, AT)
    with pytest.raises(LookupError, match="no version 9"):
        rollback(log, 9, BY, AT)
    assert log.head_number() == 4


def test_it_tries_until_it_is_in_while_a_trainer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, trainer = filled(Log(tmp_path), 3), Log(tmp_path)
    append, lost = Log.append, []

    def beaten(self: Log, version: Version) -> str:
        if self is log and len(lost) < 3:
            lost.append(version.number)
            learn(trainer)
        return append(self, version)

    monkeypatch.setattr(Log, "append", beaten)
    version = rollback(log, 1, BY, AT)
    assert lost == [3, 4, 5]
    assert version.number == 6
    assert version.record.offsets == log.record(5).offsets


def test_a_trainer_that_is_running_adopts_it_and_learns_its_batch_again(tmp_path: Path) -> None:
    log, stop, adopted = filled(Log(tmp_path), 3), threading.Event(), []

    def train() -> None:
        own = Log(tmp_path)
        while not stop.is_set():
            try:
                learn(own)
            except Conflict as e:
                adopted.append((e.number, e.record.kind if e.record else None))

    thread = threading.Thread(target=train)
    thread.start()
    versions = [rollback(Log(tmp_path), 1, BY, AT).number for _ in range(5)]
    stop.set()
    thread.join()
    assert [n for n in log.numbers() if log.record(n).kind == "rolled-back"] == versions
    learned = [log.record(n) for n in log.numbers() if log.record(n).kind == "learned"]
    assert [r.ranges["t"][0] for r in learned] == [(10 * i, 10 * i + 10) for i in range(len(learned))]
    assert set(adopted) <= {(number, "rolled-back") for number in versions}
    assert check(log) == []
