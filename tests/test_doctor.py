"""The doctor on machines where something is missing; Java and the broker are fakes, so no JVM starts."""

import json
import shutil
import socket
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
from paths import ROOT

from streaming_nn import doctor
from streaming_nn.doctor import Finding, diagnose, main
from streaming_nn.kafka import jars
from streaming_nn.kafka.broker import Broker
from streaming_nn.settings import Settings, load

pytestmark = pytest.mark.commit


class FakeAdmin:
    """Replaces `KafkaAdmin`: a broker with these topics, each with one partition of 7 offsets."""

    existing = ("labeled", "unlabeled", "predictions")
    allowed = frozenset({"READ", "WRITE", "DESCRIBE", "CREATE"})

    def __init__(self, options: dict[str, str], patience: float) -> None:
        assert options["bootstrap.servers"]

    def partitions(self, topics: list[str]) -> dict[str, list[int]]:
        if missing := [topic for topic in topics if topic not in self.existing]:
            raise LookupError(f"topic {missing[0]!r} does not exist")
        return {topic: [0] for topic in topics}

    def rights(self, topics: list[str]) -> dict[str, set[str]]:
        return {topic: set(self.allowed) for topic in topics}

    def beginnings(self, topics: list[str]) -> dict[str, dict[int, int]]:
        return {topic: {0: 3} for topic in topics}

    def ends(self, topics: list[str]) -> dict[str, dict[int, int]]:
        return {topic: {0: 10} for topic in topics}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A machine on which every check is ok."""
    java(tmp_path / "jre", monkeypatch)
    cached(tmp_path / "cache", monkeypatch)
    monkeypatch.setattr(doctor, "KafkaAdmin", FakeAdmin)
    monkeypatch.chdir(tmp_path)
    return settings(tmp_path)


def settings(folder: Path, **flags: Any) -> Settings:
    given = {"model": folder / "model", "kafka": {"bootstrap.servers": "localhost:9092"}}
    return load("/dev/null", {**given, **flags})


def java(home: Path, monkeypatch: pytest.MonkeyPatch, version: str = "17.0.9") -> None:
    """Let JAVA_HOME contain a program that prints what `java -version` prints."""
    (home / "bin").mkdir(parents=True)
    program = home / "bin" / "java"
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(home))


def cached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the cache contain one jar, with its digest in the list; return the jar."""
    folder.mkdir()
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # of b"hello"
    monkeypatch.setattr(jars, "sums", lambda name: {"a/one/1/one-1.jar": digest})
    monkeypatch.setenv("STREAMING_NN_CACHE", str(folder))
    jar = jars._home("connector") / "a/one/1/one-1.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"hello")
    return jar


def named(findings: list[Finding], name: str) -> Finding:
    (finding,) = (finding for finding in findings if finding.name == name)
    return finding


def failed(check: Any, given: Settings, name: str) -> Finding:
    """Return the finding of one check, which must fail with a fix in one line."""
    finding = named(list(check(given)), name)
    assert not finding.ok
    assert finding.detail
    assert finding.fix
    assert "\n" not in finding.detail + finding.fix
    return finding


def test_a_healthy_machine_has_nothing_to_fix(healthy: Settings) -> None:
    before = sorted(Path.cwd().rglob("*"))
    findings = diagnose(healthy)
    assert [finding for finding in findings if not finding.ok or finding.fix] == []
    names = {finding.name for finding in findings}
    assert {"java", "worker python", "pyspark", "connector jars", "ports", "broker", "model", "disk"} <= names
    detail = named(findings, "topic labeled").detail
    assert detail == "1 partition, 7 offsets, for train, score; this user may READ and DESCRIBE"
    assert "does not exist yet" in named(findings, "topic dead-letters").detail
    assert sorted(Path.cwd().rglob("*")) == before, "a file remained"


def test_main_prints_one_object_and_returns_the_exit_code(healthy: Settings, capsys: Any) -> None:
    assert main(healthy, as_json=True) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["ok"] is True
    assert set(printed["findings"][0]) == {"name", "ok", "detail", "fix"}


def test_main_prints_a_table_with_the_fix(
    healthy: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(
        doctor, "diagnose", lambda given, jobs: [Finding("java", False, "none [x]", "get it")]
    )
    assert main(healthy) == 1
    printed = capsys.readouterr().out
    assert "java" in printed
    assert "none [x]" in printed
    assert "get it" in printed


def test_no_java(healthy: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = failed(doctor._java, healthy, "java")
    assert "none is on PATH" in finding.detail
    assert "openjdk-17" in finding.fix


def test_an_old_java(healthy: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java(tmp_path / "old", monkeypatch, "11.0.2")
    assert "is Java 11" in failed(doctor._java, healthy, "java").detail


def test_variables_of_another_spark(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # spark-pmml#21, kafka-python#1201: doctor reported ok
    monkeypatch.setenv("SPARK_HOME", "/nowhere")
    finding = failed(doctor._spark, healthy, "spark")
    assert (finding.detail, finding.fix.partition(":")[0]) == (
        "SPARK_HOME is '/nowhere', which has no bin/spark-submit",
        "unset SPARK_HOME",
    )


def test_a_python_without_the_packages(
    healthy: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'ModuleNotFoundError: No module named pyspark' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(doctor.sys, "executable", str(program))
    assert "No module named pyspark" in failed(doctor._python, healthy, "worker python").detail


def test_the_versions_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, (oldest, too_new) in doctor.VERSIONS.items():
        (wanted,) = (line for line in project["dependencies"] if line.startswith(name))
        if "==" in wanted:
            assert wanted.endswith(f"=={oldest}")
            assert too_new is not None
        else:
            limits = wanted.removeprefix(name)
            assert limits == f">={oldest}" + (f",<{too_new}" if too_new else "")


@pytest.mark.parametrize(
    ("pyspark", "ok"), [("4.2.0", True), ("4.2", True), ("4.1.9", False), ("4.2.1", False), ("5.0", False)]
)
def test_versions_are_compared_as_numbers(
    healthy: Settings, monkeypatch: pytest.MonkeyPatch, pyspark: str, ok: bool
) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: pyspark if name == "pyspark" else "20.0.1")
    finding = named(list(doctor._versions(healthy)), "pyspark")
    assert finding.ok is ok
    assert named(list(doctor._versions(healthy)), "numpy").ok, "20 is more than 2, and not less"
    assert "pyspark>=4.2.0,<4.2.1" in finding.fix or ok


def test_a_missing_package(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise doctor.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", version)
    assert "pip install 'pyarrow>=18'" in failed(doctor._versions, healthy, "pyarrow").fix


def test_missing_and_damaged_jars(healthy: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jar = cached(tmp_path / "another", monkeypatch)
    jar.write_bytes(b"hellO")  # of the same size
    assert "one-1.jar is not the recorded file" in failed(doctor._jars, healthy, "connector jars").detail
    jar.unlink()
    assert "1 of 1 are not in" in failed(doctor._jars, healthy, "connector jars").detail


@pytest.fixture
def taken() -> Iterator[str]:
    """A port on which a server listens that is not a Kafka broker."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield str(server.getsockname()[1])


def test_a_port_in_use(tmp_path: Path, taken: str) -> None:
    given = settings(tmp_path, spark={"spark.driver.port": taken})
    assert "spark.driver.port" in failed(doctor._ports, given, f"port {taken}").fix
    ui = settings(tmp_path, spark={"spark.ui.enabled": "true", "spark.ui.port": taken})
    assert "spark.ui.port" in failed(doctor._ports, ui, f"port {taken}").fix
    off = settings(tmp_path, spark={"spark.ui.port": taken})
    assert [finding.ok for finding in doctor._ports(off)] == [True]


def test_a_broker_that_does_not_respond(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TIMEOUT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        servers = f"127.0.0.1:{server.getsockname()[1]}"  # nobody listens there after the block
    given = settings(tmp_path, kafka={"bootstrap.servers": servers})
    finding = failed(doctor._kafka, given, "broker")
    assert servers in finding.detail
    assert servers in finding.fix


def test_no_broker_and_contradicting_options(tmp_path: Path) -> None:
    assert "--bootstrap" in failed(doctor._kafka, load("/dev/null"), "broker").fix
    given = settings(tmp_path, kafka={"bootstrap.servers": "x:1", "sasl.username": "me"})
    assert "security.protocol" in failed(doctor._kafka, given, "broker").detail


def test_another_source_than_kafka_needs_no_broker(tmp_path: Path, healthy: Settings) -> None:
    given = settings(tmp_path, kafka={}, source={"format": "text"})
    assert [finding.ok for finding in doctor._kafka(given, ("train",))] == [True]
    assert "--bootstrap" in failed(partial(doctor._kafka, jobs=("score",)), given, "broker").fix
    both = healthy.model_copy(update={"source": given.source})
    assert not {finding.name for finding in doctor._kafka(both)} & {"topic labeled"}


@pytest.mark.parametrize(
    ("port", "create"),
    [
        (9092, "streaming-nn broker topics"),
        (9093, "kafka-topics.sh --bootstrap-server localhost:9092 --create --topic"),
        (None, "kafka-topics.sh --bootstrap-server localhost:9092 --create --topic"),
    ],
)
def test_a_missing_topic(
    healthy: Settings, tmp_path: Path, port: int | None, create: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker on this machine need not be the embedded one."""
    running = None if port is None else SimpleNamespace(port=port)
    monkeypatch.setattr(Broker, "find", lambda directory: running)
    given = settings(tmp_path, train={"topics": ["labeled", "more"]}, metrics={"topic": "figures"})
    by_producers = ", or let the producers create it: --create-topics"
    assert failed(doctor._kafka, given, "topic more").fix == f"{create} more{by_producers}"
    finding = failed(doctor._kafka, given, "topic figures")
    assert "needed by the metrics" in finding.detail
    assert finding.fix == f"{create} figures"
    assert named(list(doctor._kafka(given)), "topic labeled").ok


def test_topics_that_this_user_may_not_describe(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(self: FakeAdmin, topics: list[str]) -> dict[str, list[int]]:
        raise PermissionError("Kafka refuses this client: Topic authorization failed")

    monkeypatch.setattr(FakeAdmin, "partitions", deny)
    fix = failed(doctor._kafka, healthy, "topic labeled").fix
    assert fix.startswith(
        "kafka-acls.sh --bootstrap-server localhost:9092 --add --allow-principal User:NAME "
    )
    assert fix.endswith(" --operation Read --operation Describe --topic labeled")


def test_missing_rights(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeAdmin, "allowed", frozenset({"READ", "DESCRIBE"}))
    assert named(list(doctor._kafka(healthy)), "topic unlabeled").ok
    finding = failed(doctor._kafka, healthy, "topic predictions")
    assert finding.detail == "this user may not WRITE, needed by score; it may DESCRIBE and READ"
    assert finding.fix.endswith("--operation Write --topic predictions")


def test_checks_for_one_job(healthy: Settings) -> None:
    def topics(job: str) -> set[str]:
        return {finding.name for finding in doctor._kafka(healthy, (job,))} - {"broker"}

    assert topics("train") == {"topic labeled", "topic dead-letters"}
    assert topics("score") == {"topic labeled", "topic unlabeled", "topic predictions"}


def test_a_model_that_is_a_file(healthy: Settings) -> None:
    healthy.model.write_text("not a folder")
    finding = failed(doctor._model, healthy, "model")
    assert str(healthy.model) in finding.detail
    assert healthy.model.read_text() == "not a folder"


def test_a_model_directory_without_hard_links(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(95, "Operation not supported")

    healthy.model.mkdir()
    monkeypatch.setattr(doctor.atomic_files.os, "link", link)
    assert "hard links" in failed(doctor._model, healthy, "model").detail
    assert list(healthy.model.iterdir()) == []


def test_a_file_system_without_exclusive_creation(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.atomic_files.os, "link", shutil.copyfile)
    assert "atomic exclusive creation" in failed(doctor._model, healthy, "model").detail


def test_a_model_that_exists_or_will_be_created(healthy: Settings) -> None:
    (finding,) = doctor._model(healthy)
    assert "will be created" in finding.detail
    assert not healthy.model.exists()
    Path("model/versions").mkdir(parents=True)
    (finding,) = doctor._model(load("/dev/null", {"model": "model"}))
    assert finding.ok
    assert "will be created" not in finding.detail


def test_a_full_disk(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(100 << 30, 99 << 30, 1 << 29)  # type: ignore[attr-defined]
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    finding = failed(doctor._disk, healthy, "disk")
    assert "0.5 GiB free" in finding.detail
    assert "keep_bytes" in finding.fix
    assert "TMPDIR" in failed(doctor._disk, healthy, "temporary files").fix
