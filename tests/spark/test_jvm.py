"""How Spark's JVM starts, or does not: its launcher is a script here, so no JVM starts."""

import io
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark import SparkContext
from pyspark.sql import SparkSession

from streaming_nn.kafka import java
from streaming_nn.spark import jvm, session, temporary
from streaming_nn.spark.installation import required
from streaming_nn.spark.jvm import NOISE, Relay, started

pytestmark = pytest.mark.commit

Launcher = Callable[[str, int], None]


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    """Return a function that lets SPARK_HOME be an installation whose launcher prints a page and ends."""
    for name in jvm.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(SparkContext, "_gateway", None)
    monkeypatch.setattr(jvm, "_relay", None)
    for folder in ("bin", "jars"):
        (tmp_path / "home" / folder).mkdir(parents=True)
    (tmp_path / "home" / "jars" / f"spark-core_2.13-{required()}.jar").touch()

    def prints(page: str, status: int) -> None:
        (tmp_path / "page").write_text(page)
        script = tmp_path / "home" / "bin" / "spark-submit"
        script.write_text(f"#!/bin/sh\ncat '{tmp_path}/page' >&2\nexit {status}\n")
        script.chmod(0o755)
        monkeypatch.setenv("SPARK_HOME", str(tmp_path / "home"))

    return prints


FRAMES = "".join(f"\tat org.apache.spark.Some.where(Some.scala:{n})\n" for n in range(50))


# delta#91
@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("Error: Missing application resource.\n\nUsage: spark-submit [options]\n", "Error: Missing app"),
        (
            f"{NOISE}\n{jvm.EXCEPTION}java.lang.IllegalArgumentException: spark.x must be y\n{FRAMES}",
            "java.lang.IllegalArgumentException: spark.x must be y",
        ),
        (
            "Picked up JAVA_TOOL_OPTIONS: -Dx=1\nInvalid maximum heap size: -Xmxabc\n"
            "Error: Could not create the Java Virtual Machine.\n",
            "Invalid maximum heap size: -Xmxabc",
        ),
        (
            "WARNING: a b\n12:00:00 ERROR DiskBlockManager: Failed to create local dir in /x.\njava.io.E: e\n"
            + FRAMES,
            "Failed to create local dir in /x.",
        ),
        ("/conf/spark-env.sh: line 1: syntax error\n\xff\xfe\n", "/conf/spark-env.sh: line 1: syntax error"),
        ("", "[JAVA_GATEWAY_EXITED] Java gateway process exited"),
    ],
    ids=["usage", "exception", "heap", "logged", "script", "nothing"],
)
def test_a_jvm_that_does_not_start_ends_in_one_line(
    page: str, reason: str, launcher: Launcher, capfd: pytest.CaptureFixture[str]
) -> None:
    launcher(page, 1)
    with pytest.raises(RuntimeError) as error, started({"spark.master": "local[1]"}):
        pytest.fail("it did not start")
    assert str(error.value).startswith(f"Spark did not start: {reason}")
    assert str(error.value).endswith(" (it read SPARK_HOME)")
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == "", "the page is dropped"


def test_a_full_disk_is_named(launcher: Launcher) -> None:
    launcher(f"{jvm.EXCEPTION}java.io.IOException: No space left on device\n{FRAMES}", 1)
    with pytest.raises(RuntimeError) as error, started({"spark.master": "local[1]"}):
        pytest.fail("it did not start")
    where = f"No space left on device; it writes to {temporary.directory()} ("
    assert str(error.value).startswith(f"Spark did not start: {where}")


def test_the_session_reports_it(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher("hello\n", 3)
    monkeypatch.setattr(java, "find", lambda: Path("java"))
    monkeypatch.setattr(session, "_ours", lambda progress: {})
    monkeypatch.setattr(SparkSession, "_instantiatedSession", None)
    monkeypatch.setattr(logging.getLogger(), "filters", [])
    with pytest.raises(RuntimeError, match=r"^Spark did not start: hello \(it read SPARK_HOME"):
        session.session()


def test_a_launcher_that_cannot_run_is_named(launcher: Launcher, tmp_path: Path) -> None:
    launcher("", 0)
    (tmp_path / "home" / "bin" / "spark-submit").write_text("#!/no/such/shell\n")
    with (
        pytest.raises(RuntimeError, match=r"No such file or directory: '.*/home/./bin/spark-submit'"),
        started({}),
    ):
        pytest.fail("it did not start")


def test_lines_are_relayed_without_the_noise(capsys: pytest.CaptureFixture[str]) -> None:
    """The module jdk.incubator.vector, of which each JVM of Spark warns."""
    relay = Relay(io.StringIO(f"first\n{NOISE}\nlast, cut"))
    relay.hold()
    relay.start()
    relay.join()
    assert capsys.readouterr().err == ""
    assert relay.take() == ["first\n", "last, cut"]
    relay = Relay(io.StringIO(f"{NOISE}\nas it comes\n"))
    relay.start()
    relay.join()
    assert capsys.readouterr().err == "as it comes\n"


def test_what_a_query_s_thread_throws_at_its_end_is_not_relayed(capsys: pytest.CaptureFixture[str]) -> None:
    cause = "Caused by: Y: already stopped\n\t... 8 more\n"
    thrown = f'{jvm.QUERY_THREAD} for [id = 1]" java.lang.X: why\n{FRAMES}{cause}'
    relay = Relay(io.StringIO(f"before\n{thrown}after\n\tindented\n"))
    relay.start()
    relay.join()
    assert capsys.readouterr().err == "before\nafter\n\tindented\n"


def test_lines_of_a_start_are_printed_after_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    relay = Relay(io.StringIO("WARNING: of the start\n"))
    monkeypatch.setattr(SparkContext, "_gateway", object())
    monkeypatch.setattr(jvm, "_relay", relay)
    with started({}):
        relay.start()
        relay.join()
        assert capsys.readouterr().err == ""
    assert capsys.readouterr().err == "WARNING: of the start\n"
    with pytest.raises(KeyboardInterrupt), started({}):
        raise KeyboardInterrupt
    assert relay.take() == []


def test_a_jvm_of_spark_submit_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SparkContext, "_gateway", object())
    monkeypatch.setattr(jvm, "_relay", None)
    monkeypatch.setattr(jvm, "launch_gateway", lambda *_: pytest.fail("it started another one"))
    with started({}):
        pass
