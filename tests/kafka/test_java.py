from pathlib import Path

import pytest

from streaming_nn.kafka import java

pytestmark = pytest.mark.commit


def fake_java(directory: Path, output: str, status: int = 0) -> Path:
    program = directory / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{output}' >&2\nexit {status}\n")
    program.chmod(0o755)
    return program


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")


@pytest.mark.parametrize(
    ("output", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "25-ea" 2025-09-16', 25),
        ("no such thing", None),
    ],
)
def test_the_major_version_is_read(tmp_path: Path, output: str, major: int | None) -> None:
    assert java.version(fake_java(tmp_path, output)) == major


def test_without_java_the_error_has_the_command_that_installs_it() -> None:
    with pytest.raises(
        RuntimeError, match=r"none is on PATH: install it with `sudo apt install.*macOS"
    ) as error:
        java.find()
    assert "\n" not in str(error.value)


def test_a_java_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(fake_java(tmp_path, 'openjdk version "11.0.2"').parent))
    with pytest.raises(
        RuntimeError, match=r"17 or newer is needed; PATH has .*java, which is Java 11: install"
    ):
        java.find()


def test_java_home_comes_first_as_it_does_for_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(fake_java(tmp_path / "path", 'openjdk version "21.0.1"').parent))
    assert java.find() == tmp_path / "path" / "bin" / "java"
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "missing"))
    with pytest.raises(RuntimeError, match=r"JAVA_HOME is .*missing, which does not run"):
        java.find()
    fake_java(tmp_path / "home", 'openjdk version "17.0.1"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert java.find() == tmp_path / "home" / "bin" / "java"


def test_the_stub_of_macos_is_not_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = fake_java(
        tmp_path, "The operation could not be completed. Unable to locate a Java Runtime.", status=1
    )
    monkeypatch.setenv("PATH", str(stub.parent))
    with pytest.raises(RuntimeError, match="does not run: install it"):
        java.find()
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-Xbogus")
    with pytest.raises(RuntimeError, match="does not run with JDK_JAVA_OPTIONS: install it"):
        java.find()
