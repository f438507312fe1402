"""Several writers of a model directory: another trainer, or a rollback."""

import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka_topics import fill, labeled, learn, learned_ranges, manifests_of, rows_of, seamless, settings_of
from pyspark.sql import SparkSession
from waiting import until

from streaming_nn.errors import VersionConflictError
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.train.trainer import Trainer
from streaming_nn.versions.rollback import rollback
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge


def test_one_of_two_trainers_stops_and_names_the_other(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("two", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic)
    fill(broker.options, topic, labeled(500))
    learn(spark, settings)
    loser = Trainer.open(spark, settings)  # it has read the head, and then waits
    fill(broker.options, topic, labeled(500, seed=1))
    winner = learn(spark, settings)
    loser.start()
    with pytest.raises(VersionConflictError, match=winner.log.run):
        loser.wait()
    assert rows_of(settings.model)["trained"] == 1000
    assert all(seamless(ranges) for ranges in learned_ranges(settings.model).values())


def test_a_running_trainer_adopts_a_rollback_and_learns_its_batch_again(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("back", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic)
    fill(broker.options, topic, labeled(2500))
    learn(spark, settings)
    trainer = Trainer.open(spark, settings)  # its head is the last version so far
    log = VersionLog(settings.model)
    back = rollback(log, 1)
    fill(broker.options, topic, labeled(700, seed=1))
    trainer.start()
    trainer.wait()

    kinds = [m.kind for m in manifests_of(settings.model)]
    assert kinds[back.number :] == ["rolled-back", "learned"]
    assert rows_of(settings.model)["trained"] == 3200
    assert all(seamless(ranges) for ranges in learned_ranges(settings.model).values())
    assert verify(spark, broker.options, log).identical


def test_pruned_versions_are_passed_by_verify(
    spark: SparkSession, broker: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streaming_nn")
    topic = broker.topic("pruned", 2)
    settings = settings_of(
        broker.options, tmp_path / "model", topic, train={"keep_bytes": 1, "max_offsets_per_trigger": 300}
    )
    fill(broker.options, topic, labeled(1500))
    trainer = learn(spark, settings)
    kept = [m.number for m in manifests_of(settings.model) if m.kept]
    assert kept == [0, trainer.head.number]
    assert "versions are kept up to 1 B (train.keep_bytes)" in caplog.text
    assert verify(spark, broker.options, trainer.log, trainer.head.number - 2).identical


CLI = [sys.executable, "-m", "streaming_nn.cli.app"]
Started = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def trainer(broker: Any, tmp_path: Path) -> Iterator[Started]:
    """Start `streaming-nn train` in its own process group; none outlives the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(topic: str, *flags: str, failpoint: str = "") -> subprocess.Popen[str]:
        command = [*CLI, "train", "--model", "model", "--bootstrap", broker.bootstrap, "--topic", topic]
        command += ["--master", "local[1]", "--trigger", "200 milliseconds", "--classes", "0,1"]
        command += ["--set", "records.inputs=3", "--set", f"train.dead_letters=dead-{topic}", *flags]
        with (tmp_path / f"stderr-{len(processes)}").open("w") as stderr:
            process = subprocess.Popen(
                command,
                cwd=tmp_path,
                env={**os.environ, "STREAMING_NN_FAILPOINT": failpoint},
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def suspended(process: subprocess.Popen[str]) -> bool:
    """Return whether a signal has stopped the process."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the state of a process in /proc")
@pytest.mark.parametrize("moment", ["between two micro-batches", "before it commits"])
def test_a_trainer_that_was_suspended_while_another_trained_and_pruned_stops(
    spark: SparkSession, broker: Any, tmp_path: Path, trainer: Started, moment: str
) -> None:
    """Real processes: the first one's number is taken and pruned when it continues, so it must stop."""
    topic, log, stderr = broker.topic("suspended", 2), VersionLog(tmp_path / "model"), tmp_path / "stderr-0"
    fill(broker.options, topic, labeled(600))
    if moment == "between two micro-batches":
        first = trainer(topic)
        until(lambda: "version 1 " in stderr.read_text(), stderr.read_text)
        os.killpg(first.pid, signal.SIGSTOP)
    else:
        first = trainer(topic, failpoint="before-commit:2:SIGSTOP")
        until(lambda: log.head_number() == 1, stderr.read_text)
    fill(broker.options, topic, labeled(1000, seed=1))
    until(lambda: suspended(first), stderr.read_text)
    assert log.head_number() == 1

    second = trainer(topic, "--once", "--max-offsets", "200")
    assert second.wait(120) == 0, (tmp_path / "stderr-1").read_text()[-2000:]
    assert log.head_number() == 6
    prune = [*CLI, "versions", "prune", "--keep", "1 B", "--model", "model"]
    subprocess.run(prune, cwd=tmp_path, check=True)
    assert not log.manifest(2).kept, "its number must be pruned"
    os.killpg(first.pid, signal.SIGCONT)
    assert first.wait(120) == 3, stderr.read_text()[-2000:]

    (line,) = (line for line in stderr.read_text().splitlines() if line.startswith("streaming-nn: "))
    by = log.manifest(2).written_by
    assert by["pid"] == second.pid
    winner = f"by host {socket.gethostname()}, process {second.pid}, run {by['run']}, at "
    assert re.match(rf"streaming-nn: version \d of model .*{re.escape(winner)}", line), line
    assert "Traceback" not in stderr.read_text()

    assert log.head_number() == 6, "the loser has committed nothing"
    assert rows_of(log.directory) == {
        "received": 1600,
        "trained": 1600,
        "skipped": 0,
        "rejected": 0,
        "filtered": 0,
    }
    found = learned_ranges(log.directory)
    assert {partition: (r[0][0], r[-1][1]) for partition, r in found.items()} == {
        (topic, p): (0, 800) for p in range(2)
    }
    assert all(seamless(ranges) for ranges in found.values())
    result = verify(spark, broker.options, log)
    assert (result.identical, result.rows) == (True, 1600), result
