"""The session: what it does to the process that starts it."""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from kafka_topics import fill, labeled, learn, settings_of
from py4j.java_gateway import GatewayClient
from pyspark.sql import SparkSession
from waiting import until

from streaming_nn.records import registry
from streaming_nn.spark import jvm
from streaming_nn.spark.session import _ours, running, session

pytestmark = pytest.mark.commit


class Cut:
    """A connection that Ctrl-C interrupts."""

    socket = None

    def send_command(self, command: str) -> str:
        raise KeyboardInterrupt

    def close(self, *_: object) -> None:
        pass


def jvms_of(leader: int) -> list[int]:
    """Return Spark's JVMs in the session of another process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()  # of one that has ended there is none
        except OSError:
            continue
        if int(words[3]) == leader and command.endswith(b"\0pyspark-shell\0"):
            found.append(int(folder.name))
    return found


@pytest.mark.nightly
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_no_jvm_behind(number: signal.Signals) -> None:
    code = (
        "import signal; from streaming_nn.spark.session import session\n"
        "def end(*_): raise KeyboardInterrupt\n"
        f"signal.signal({int(number)}, end); session()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    until(lambda: jvms_of(process.pid))
    os.kill(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert stderr.rstrip().endswith(b"KeyboardInterrupt")
    until(lambda: not jvms_of(process.pid))


@pytest.mark.nightly
def test_a_start_and_its_end_print_nothing() -> None:
    """Not even the JVM's warning of incubator modules."""
    code = "from streaming_nn.spark.session import session; session({'spark.master': 'local[1]'}).stop()"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.nightly
@pytest.mark.parametrize(("job", "under_way"), [("train", "version 1 "), ("score", "scoring ")])
def test_a_signal_that_also_ends_the_jvm_ends_a_run_without_an_error(
    job: str, under_way: str, spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    """As systemd does. The JVM ends at once; the next run learns what this one has not finished."""
    topic, unlabeled, predictions = (broker.topic(name) for name in ("known", "unlabeled", "predictions"))
    fill(broker.options, topic, labeled(300))
    if job == "score":
        learn(spark, settings_of(broker.options, tmp_path / "model", topic))
    command = [sys.executable, "-m", "streaming_nn.cli.app", job, "--model", str(tmp_path / "model")]
    command += ["--bootstrap", broker.bootstrap, "--topic", topic if job == "train" else unlabeled]
    command += ["--predictions", predictions] if job == "score" else []
    with (tmp_path / "stderr").open("w+") as stderr:
        process = subprocess.Popen(command, stderr=stderr, start_new_session=True)
        until(lambda: under_way in (tmp_path / "stderr").read_text())
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(60) == 0
    lines = (tmp_path / "stderr").read_text().splitlines()
    assert lines[-1].startswith("stopping"), lines


@pytest.mark.merge
@pytest.mark.usefixtures("spark")
def test_ctrl_c_logs_no_traceback_of_py4j(caplog: pytest.LogCaptureFixture) -> None:
    """py4j logs it with a traceback, to the root logger; other errors are still logged."""
    client = GatewayClient.__new__(GatewayClient)
    client._get_connection = Cut  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        client.send_command("c")
    assert caplog.records == []
    try:
        raise ValueError("ours")
    except ValueError:
        logging.exception("something else")
        logging.exception("Exception while sending command.")
    assert [record.msg for record in caplog.records] == ["something else"]


def test_spark_does_not_start_on_the_main_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """There it installs its own handler of Ctrl-C, before it runs."""
    monkeypatch.setattr(SparkSession.Builder, "getOrCreate", lambda self: threading.current_thread())
    monkeypatch.setattr(jvm, "_hold", lambda options: None)
    assert session() not in (threading.main_thread(), None)


def test_an_unknown_master_is_reported_before_spark_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SparkSession.Builder, "getOrCreate", lambda self: pytest.fail("it started"))
    with pytest.raises(ValueError, match=r"spark\.master must begin with one of local, .*; got 'foo'"):
        session({"spark.master": "foo"})


def test_a_session_whose_jvm_has_ended_stops_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended:
        def stop(self) -> None:
            raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(SparkSession.Builder, "getOrCreate", lambda self: Ended())
    monkeypatch.setattr(jvm, "_hold", lambda options: None)
    with running() as spark:
        pass
    with pytest.raises(ConnectionRefusedError):
        spark.stop()


@pytest.mark.merge
def test_workers_are_this_python(spark: SparkSession) -> None:
    found = spark.sparkContext.parallelize([0], 1).map(lambda _: sys.executable).collect()
    assert found == [sys.executable]


def test_executors_get_the_user_of_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(registry.USER, "me")
    monkeypatch.setenv(registry.PASSWORD, "s3cret")
    options = _ours()
    assert options["spark.executorEnv.STREAMING_NN_REGISTRY_USER"] == "me"
    key = "spark.executorEnv.STREAMING_NN_REGISTRY_PASSWORD"
    assert options[key] == "s3cret"
    assert re.search(options["spark.redaction.regex"], key)  # Spark redacts it everywhere
    monkeypatch.delenv(registry.PASSWORD)
    assert key not in _ours()
