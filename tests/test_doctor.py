"""The doctor on machines where something is missing; Java and the broker are stand-ins, so no JVM starts."""

import json
import shutil
import socket
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
from paths import ROOT

from streaming_nn import doctor
from streaming_nn.doctor import Finding, diagnose, main
from streaming_nn.kafka import jars
from streaming_nn.settings import Settings, load


class Connection:
    """Stands for `KafkaAdmin`: a broker that has these topics, with one partition of 7 offsets each."""

    there = ("labeled", "unlabeled", "predictions")
    allowed = frozenset({"READ", "WRITE", "DESCRIBE", "CREATE"})

    def __init__(self, options: dict[str, str], patience: float) -> None:
        assert options["bootstrap.servers"]

    def partitions(self, topics: list[str]) -> dict[str, list[int]]:
        if missing := [topic for topic in topics if topic not in self.there]:
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
    """A machine on which all is well."""
    java(tmp_path / "jre", monkeypatch)
    cached(tmp_path / "cache", monkeypatch)
    monkeypatch.setattr(doctor, "KafkaAdmin", Connection)
    monkeypatch.chdir(tmp_path)
    return settings(tmp_path)


def settings(folder: Path, **flags: Any) -> Settings:
    given = {"model": folder / "model", "kafka": {"bootstrap.servers": "localhost:9092"}}
    return load("/dev/null", {**given, **flags})


def java(home: Path, monkeypatch: pytest.MonkeyPatch, version: str = "17.0.9") -> None:
    """Let JAVA_HOME hold a program that says what `java -version` does."""
    (home / "bin").mkdir(parents=True)
    program = home / "bin" / "java"
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(home))


def cached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the cache hold a set of one jar, as its list says; return the jar."""
    folder.mkdir()
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # of b"hello"
    monkeypatch.setattr(jars, "sums", lambda name: {"a/one/1/one-1.jar": digest})
    monkeypatch.setenv("STREAMING_NN_CACHE", str(folder))
    jar = jars._home("connector") / "a/one/1/one-1.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"hello")
    return jar


def found(findings: list[Finding], name: str) -> Finding:
    (finding,) = (finding for finding in findings if finding.name == name)
    return finding


def broken(look: Any, given: Settings, name: str) -> Finding:
    """What one look finds, which must be wrong and must come with its mend in one line."""
    finding = found(list(look(given)), name)
    assert not finding.ok
    assert finding.said
    assert finding.mend
    assert "\n" not in finding.said + finding.mend
    return finding


def test_a_healthy_machine_has_nothing_to_mend(healthy: Settings) -> None:
    before = sorted(Path.cwd().rglob("*"))
    findings = diagnose(healthy)
    assert [finding for finding in findings if not finding.ok or finding.mend] == []
    names = {finding.name for finding in findings}
    assert {"java", "worker python", "pyspark", "connector jars", "ports", "broker", "model", "disk"} <= names
    said = found(findings, "topic labeled").said
    assert said == "1 partitions, 7 offsets, for train, score; this user may READ and DESCRIBE"
    assert "does not exist yet" in found(findings, "topic dead-letters").said
    assert sorted(Path.cwd().rglob("*")) == before, "something stayed behind"


def test_main_gives_one_object_and_the_exit_code(healthy: Settings, capsys: Any) -> None:
    assert main(healthy, as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is True
    assert set(said["findings"][0]) == {"name", "ok", "said", "mend"}


def test_main_prints_a_table_with_the_mend(
    healthy: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(
        doctor, "diagnose", lambda given, jobs: [Finding("java", False, "none [x]", "get it")]
    )
    assert main(healthy) == 1
    said = capsys.readouterr().out
    assert "java" in said
    assert "none [x]" in said
    assert "get it" in said


def test_no_java(healthy: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = broken(doctor._java, healthy, "java")
    assert "none is on PATH" in finding.said
    assert "openjdk-17" in finding.mend


def test_an_old_java(healthy: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java(tmp_path / "old", monkeypatch, "11.0.2")
    assert "is Java 11" in broken(doctor._java, healthy, "java").said


def test_a_python_without_the_packages(
    healthy: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'ModuleNotFoundError: No module named pyspark' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(doctor.sys, "executable", str(program))
    assert "No module named pyspark" in broken(doctor._python, healthy, "worker python").said


def test_the_versions_are_those_of_the_project() -> None:
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
    finding = found(list(doctor._versions(healthy)), "pyspark")
    assert finding.ok is ok
    assert found(list(doctor._versions(healthy)), "numpy").ok, "20 is more than 2, and not less"
    assert "pyspark>=4.2.0,<4.2.1" in finding.mend or ok


def test_a_package_that_is_not_there(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise doctor.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", version)
    assert "pip install 'pyarrow>=18'" in broken(doctor._versions, healthy, "pyarrow").mend


def test_jars_that_are_missing_or_damaged(
    healthy: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jar = cached(tmp_path / "another", monkeypatch)
    jar.write_bytes(b"hellO")  # of the same size
    assert "one-1.jar is not the recorded file" in broken(doctor._jars, healthy, "connector jars").said
    jar.unlink()
    assert "1 of 1 are not in" in broken(doctor._jars, healthy, "connector jars").said


@pytest.fixture
def taken() -> Iterator[str]:
    """A port on which somebody listens, but no Kafka broker."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield str(server.getsockname()[1])


def test_a_port_that_is_taken(tmp_path: Path, taken: str) -> None:
    given = settings(tmp_path, spark={"spark.driver.port": taken})
    assert "spark.driver.port" in broken(doctor._ports, given, f"port {taken}").mend
    ui = settings(tmp_path, spark={"spark.ui.enabled": "true", "spark.ui.port": taken})
    assert "spark.ui.port" in broken(doctor._ports, ui, f"port {taken}").mend
    off = settings(tmp_path, spark={"spark.ui.port": taken})
    assert [finding.ok for finding in doctor._ports(off)] == [True]


def test_a_broker_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        servers = f"127.0.0.1:{server.getsockname()[1]}"  # nobody listens there after the block
    given = settings(tmp_path, kafka={"bootstrap.servers": servers})
    finding = broken(doctor._kafka, given, "broker")
    assert servers in finding.said
    assert servers in finding.mend


def test_no_broker_named_and_options_that_contradict(tmp_path: Path) -> None:
    assert "--bootstrap" in broken(doctor._kafka, load("/dev/null"), "broker").mend
    given = settings(tmp_path, kafka={"bootstrap.servers": "x:1", "sasl.username": "me"})
    assert "security.protocol" in broken(doctor._kafka, given, "broker").said


def test_another_source_than_topics_needs_no_broker(tmp_path: Path, healthy: Settings) -> None:
    given = settings(tmp_path, kafka={}, source={"format": "text"})
    assert [finding.ok for finding in doctor._kafka(given, ("train",))] == [True]
    assert "--bootstrap" in broken(partial(doctor._kafka, jobs=("score",)), given, "broker").mend
    named = healthy.model_copy(update={"source": given.source})
    assert not {finding.name for finding in doctor._kafka(named)} & {"topic labeled"}


def test_a_topic_that_is_not_there(healthy: Settings, tmp_path: Path) -> None:
    given = settings(tmp_path, train={"topics": ["labeled", "more"]}, metrics={"topic": "figures"})
    assert "--create --topic more" in broken(doctor._kafka, given, "topic more").mend
    assert "the metrics needs it" in broken(doctor._kafka, given, "topic figures").said
    assert found(list(doctor._kafka(given)), "topic labeled").ok


def test_topics_that_may_not_be_seen(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Connection, topics: list[str]) -> dict[str, list[int]]:
        raise PermissionError("Kafka refuses this client: Topic authorization failed")

    monkeypatch.setattr(Connection, "partitions", refused)
    mend = broken(doctor._kafka, healthy, "topic labeled").mend
    assert mend.startswith(
        "kafka-acls.sh --bootstrap-server localhost:9092 --add --allow-principal User:NAME "
    )
    assert mend.endswith(" --operation Read --operation Describe --topic labeled")


def test_rights_that_are_missing(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "allowed", frozenset({"READ", "DESCRIBE"}))
    assert found(list(doctor._kafka(healthy)), "topic unlabeled").ok
    finding = broken(doctor._kafka, healthy, "topic predictions")
    assert finding.said == "this user may not WRITE, which score needs; it may DESCRIBE and READ"
    assert finding.mend.endswith("--operation Write --topic predictions")


def test_one_job_alone(healthy: Settings) -> None:
    def topics(job: str) -> set[str]:
        return {finding.name for finding in doctor._kafka(healthy, (job,))} - {"broker"}

    assert topics("train") == {"topic labeled", "topic dead-letters"}
    assert topics("score") == {"topic labeled", "topic unlabeled", "topic predictions"}


def test_a_model_directory_that_is_a_file(healthy: Settings) -> None:
    healthy.model.write_text("not a folder")
    finding = broken(doctor._model, healthy, "model")
    assert str(healthy.model) in finding.said
    assert healthy.model.read_text() == "not a folder"


def test_a_model_directory_without_hard_links(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(95, "Operation not supported")

    healthy.model.mkdir()
    monkeypatch.setattr(doctor.atomic_files.os, "link", link)
    assert "hard links" in broken(doctor._model, healthy, "model").said
    assert list(healthy.model.iterdir()) == []


def test_a_file_system_that_gives_a_name_twice(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.atomic_files.os, "link", shutil.copyfile)
    assert "taken twice" in broken(doctor._model, healthy, "model").said


def test_a_model_that_is_there_or_will_be_made(healthy: Settings) -> None:
    (finding,) = doctor._model(healthy)
    assert "will be made" in finding.said
    assert not healthy.model.exists()
    Path("model/versions").mkdir(parents=True)
    (finding,) = doctor._model(load("/dev/null", {"model": "model"}))
    assert finding.ok
    assert "will be made" not in finding.said


def test_a_disk_that_is_full(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(100 << 30, 99 << 30, 1 << 29)  # type: ignore[attr-defined]
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    finding = broken(doctor._disk, healthy, "disk")
    assert "0.5 GiB free" in finding.said
    assert "keep_versions" in finding.mend
    assert "TMPDIR" in broken(doctor._disk, healthy, "temporary files").mend
