"""Killed at every step of a micro-batch, and at any moment: each record still counts once."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka_topics import fill, learn, learned_ranges, manifests_of, read, rows_of, seamless, settings_of
from oracles import Counting, counting_from
from paths import ROOT
from pyspark.sql import SparkSession

from streaming_nn.kafka import admin
from streaming_nn.kafka.broker import Broker
from streaming_nn.records.decode import encode
from streaming_nn.records.schema import Schema
from streaming_nn.spark import failpoints
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.train.trainer import Trainer
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge

SCHEMA = Schema(inputs=1, classes=(0, 1))
KILLED = -9
SEED = 20


def numbered(count: int, bad: Collection[int] = ()) -> list[bytes]:
    values = encode(SCHEMA, np.arange(count)[:, None], np.zeros(count, np.int32))
    return [b"bad" if i in bad else value for i, value in enumerate(values)]


class Process:
    """A trainer in another process; `started` is set when its query runs."""

    def __init__(self, request: dict[str, Any], folder: Path, point: str = "") -> None:
        environment = {**os.environ, "TMPDIR": str(folder), "STREAMING_NN_FAILPOINT": point}
        script = ROOT / "tests" / "support" / "counting_trainer.py"
        self.log = folder / "trainer.log"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, script, json.dumps(request)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.started, self.printed = threading.Event(), list[str]()
        self.listening = threading.Thread(target=self._listen, daemon=True)
        self.listening.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed.append(line.strip())
            self.started.set()

    def ended(self, seconds: float = 180) -> int:
        try:
            code = self.process.wait(seconds)
            self.listening.join(10)
            return code
        finally:
            self.process.kill()

    def killed_after(self, seconds: float) -> int:
        assert self.started.wait(120), self.log.read_text()[-2000:]
        time.sleep(seconds)
        self.process.kill()
        return self.ended()


def counts_of(model: Path) -> np.ndarray[Any, Any]:
    head = VersionLog(model).head()
    assert head is not None
    return head.tensors["model.counts"]


@pytest.mark.smoke
@pytest.mark.usefixtures("oracles")
def test_a_crash_at_each_failpoint_loses_and_repeats_nothing(
    spark: SparkSession, broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the failpoint raises, and a new trainer opens the model directory in the same process."""
    count, bad = 2_500, set(range(7, 2_500, 501))
    topic, model = broker.topic("crashed", 2), tmp_path / "model"
    fill(broker.options, topic, numbered(count, bad))
    settings = settings_of(
        broker.options,
        model,
        topic,
        records={"inputs": 1, "classes": [0, 1]},
        learner={},
        train={"max_offsets_per_trigger": 250},
    )
    heads = []
    for point in failpoints.POINTS:
        monkeypatch.setenv(failpoints.VARIABLE, f"{point}:2:{failpoints.RAISE}")
        with pytest.raises(failpoints.SimulatedCrash, match=point):
            learn(spark, settings, Counting(count))
        heads.append(VersionLog(model).head_number())
    # each crashed in its second micro-batch, and only a crash after the commit leaves that one learned
    assert heads == [1, 2, 3, 4, 6]
    monkeypatch.delenv(failpoints.VARIABLE)
    learn(spark, settings, Counting(count))
    check_counts(broker, topic, model, count, bad)
    assert verify(spark, broker.options, VersionLog(model), factory=counting_from).identical


def check_counts(broker: Any, topic: str, model: Path, count: int, bad: Collection[int]) -> None:
    """Check that each record was learned once or is a dead letter, and that the ranges have no gaps."""
    wanted = np.ones(count, np.int32)
    wanted[sorted(bad)] = 0
    np.testing.assert_array_equal(counts_of(model), wanted)
    good = count - len(bad)
    assert rows_of(model) == {
        "received": count,
        "trained": good,
        "skipped": 0,
        "rejected": len(bad),
        "filtered": 0,
    }
    assert manifests_of(model)[-1].metrics["rows"] == good
    found = learned_ranges(model)
    assert {p: (r[0][0], r[-1][1]) for (_, p), r in found.items()} == dict.fromkeys(
        range(len(found)), (0, count // len(found))
    )
    assert all(seamless(ranges) for ranges in found.values())
    names = ("streaming_nn.partition", "streaming_nn.offset")
    letters = read(broker.options, f"dead-{topic}")
    positions = {tuple(value for name, value in letter.headers if name in names) for letter in letters}
    assert len(positions) == len(bad), "at least once each: a batch that is learned again sends them again"


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("oracles")
def test_every_record_counts_once_after_kills_around_the_commit(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    """SIGKILL to processes whose tasks learn; a trainer in this process then learns the rest."""
    count, bad = 30_000, set(range(37, 30_000, 2_999))
    topic, model = broker.topic("counted", 5), tmp_path / "model"
    fill(broker.options, topic, numbered(count, bad))
    request = {"kafka": broker.options, "model": str(model), "topic": topic, "records": count, "limit": 5_000}

    heads = []
    for point in failpoints.POINTS[2:]:  # the others are crashed in process, above
        process = Process({**request, "driver_records": 0}, tmp_path, f"{point}:2")
        assert process.ended() == KILLED, (point, process.log.read_text()[-2000:])
        heads.append(VersionLog(model).head_number())
    # each was killed in its second micro-batch, and only a kill after the commit leaves that one learned
    assert heads == [1, 2, 4]

    sections: dict[str, Any] = {
        "records": {"inputs": 1, "classes": [0, 1]},
        "learner": {},
        "train": {"max_offsets_per_trigger": 5_000},
    }
    learn(spark, settings_of(broker.options, model, topic, **sections), Counting(count))
    check_counts(broker, topic, model, count, bad)
    result = verify(spark, broker.options, VersionLog(model), factory=counting_from)
    assert result.identical, result
    assert result.rows == count


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("oracles")
def test_every_record_counts_once_after_kills_at_any_moment(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    count, bad = 100_000, set(range(37, 100_000, 9_001))
    topic, model = broker.topic("counted", 5), tmp_path / "model"
    fill(broker.options, topic, numbered(count, bad))
    request = {"kafka": broker.options, "model": str(model), "topic": topic, "records": count, "limit": 5_000}

    moments = random.Random(SEED)
    for _ in range(3):
        Process(request, tmp_path).killed_after(moments.uniform(0, 3))
    last = Process(request, tmp_path)
    assert last.ended(300) == 0, last.log.read_text()[-2000:]
    assert last.printed == ["started", "learned"]

    check_counts(broker, topic, model, count, bad)
    assert verify(spark, broker.options, VersionLog(model), factory=counting_from).identical


@pytest.mark.nightly
@pytest.mark.usefixtures("oracles")
def test_a_killed_worker_is_retried(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    count, marker = 12_000, tmp_path / "killed"
    topic, model = broker.topic("retried", 3), tmp_path / "model"
    fill(broker.options, topic, numbered(count))
    process = Process(
        {
            "kafka": broker.options,
            "model": str(model),
            "topic": topic,
            "records": count,
            "limit": 6_000,
            "driver_records": 0,  # learned in tasks, however few they are
            "master": "local[2,3]",
            "marker": str(marker),
        },
        tmp_path,
    )
    assert process.ended() == 0, process.log.read_text()[-2000:]
    assert marker.exists(), "no worker was killed, so nothing was retried"
    assert int(marker.read_text()) != process.process.pid
    np.testing.assert_array_equal(counts_of(model), np.ones(count, np.int32))
    assert rows_of(model)["trained"] == count
    assert verify(spark, broker.options, VersionLog(model), factory=counting_from).identical


@pytest.mark.nightly
@pytest.mark.usefixtures("oracles")
def test_a_broker_may_be_restarted_during_a_run(spark: SparkSession, tmp_path: Path) -> None:
    """The run may survive it or end with an error in one line; the next run loses nothing."""
    count, model = 20_000, tmp_path / "model"
    running = Broker.start(tmp_path / "broker")
    try:
        kafka = {"bootstrap.servers": running.bootstrap}
        admin.create(kafka, "rows", 3)
        fill(kafka, "rows", numbered(count))
        settings = settings_of(
            kafka,
            model,
            "rows",
            records={"inputs": 1, "classes": [0, 1]},
            learner={},
            train={"max_offsets_per_trigger": 1_000},
        )
        trainer = Trainer.open(spark, settings, Counting(count))
        trainer.start()
        while (VersionLog(model).head_number() or 0) < 3:
            time.sleep(0.05)
        running.stop()
        stopped_at = VersionLog(model).head_number()
        running = Broker.start(tmp_path / "broker", running.port)
        message = ""
        try:
            assert trainer.wait(150), "it neither ends nor continues"
        except (ConnectionError, RuntimeError) as error:
            message = str(error)
        finally:
            trainer.stop()
        assert "\n" not in message
        assert stopped_at is not None
        assert stopped_at < 20, "all was learned before the restart"
        again = Trainer.open(spark, settings, Counting(count))
        again.start()
        assert again.wait(150)
        np.testing.assert_array_equal(counts_of(model), np.ones(count, np.int32))
        assert rows_of(model)["trained"] == count
        assert verify(spark, kafka, VersionLog(model), factory=counting_from).identical
    finally:
        running.stop()
