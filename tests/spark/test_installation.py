"""Variables that lead to another Spark, or to none: one line each, which names the variable."""

import os
import sys
from pathlib import Path

import pytest

from streaming_nn.doctor import _spark
from streaming_nn.settings import Settings
from streaming_nn.spark import installation
from streaming_nn.spark.installation import check, problems, required

pytestmark = pytest.mark.commit

VARIABLES = (
    *("SPARK_HOME", "SPARK_CONF_DIR", "PYSPARK_SUBMIT_ARGS", "PYTHONPATH"),
    *("SPARK_REMOTE", "SPARK_API_MODE", "SPARK_CONNECT_MODE_ENABLED"),
)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def spark_home(directory: Path, jar: str | None = None, release: str | None = None) -> Path:
    """Return what looks like an installation of Spark."""
    for folder in ("bin", "jars"):
        (directory / folder).mkdir(parents=True)
    (directory / "bin" / "spark-submit").touch(0o755)
    if jar is not None:
        (directory / "jars" / jar).touch()
    if release is not None:
        (directory / "RELEASE").write_text(release)
    return directory


def detail(options: dict[str, str] | None = None) -> str:
    """Return the one line of the error, and check that `doctor` has it too."""
    with pytest.raises(ValueError) as error:
        check(options or {})
    (finding,) = _spark(Settings(spark=options or {}))
    assert not finding.ok
    assert str(error.value) == f"{finding.detail}; {finding.fix}"
    assert "\n" not in str(error.value)
    return str(error.value)


def test_without_variables_there_is_no_problem() -> None:
    assert list(problems({})) == []
    (finding,) = _spark(Settings())
    assert finding.ok
    assert finding.detail.startswith(f"Spark {required()}, ")


# spark-pmml#21, kafka-python#1201
@pytest.mark.parametrize(
    ("jar", "release"),
    [
        ("spark-core_2.13-3.5.1.jar", None),
        ("spark-core_2.12-3.5.1.jar", "Spark 4.2.0 built for Hadoop"),
        (None, "Spark 3.5.1 (git revision fd86f85e18) built for Hadoop 3.3.4"),
    ],
)
def test_spark_home_of_another_version(
    jar: str | None, release: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = spark_home(tmp_path / "spark 3", jar, release)
    monkeypatch.setenv("SPARK_HOME", str(home))
    assert detail() == (
        f"SPARK_HOME is '{home}', which is Spark 3.5.1; must be {required()}; "
        f"unset SPARK_HOME: pip has installed Spark {required()} with pyspark"
    )


@pytest.mark.parametrize("jar", [f"spark-core_2.13-{required()}.jar", None], ids=["release", "source tree"])
def test_spark_home_of_the_same_version(
    jar: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_HOME", str(spark_home(tmp_path, jar)))
    check({})


@pytest.mark.parametrize("kind", ["missing", "empty", "a file", "no right", ""])
def test_spark_home_without_spark(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / kind
    if kind == "empty":
        home.mkdir()
    elif kind == "a file":
        home.touch()
    elif kind == "no right":
        spark_home(home)
        (home / "bin" / "spark-submit").chmod(0o644)
    value = str(home) if kind else ""
    monkeypatch.setenv("SPARK_HOME", value)
    monkeypatch.chdir(spark_home(tmp_path / "here"))  # "" is not the current directory
    assert detail().startswith(f"SPARK_HOME is {value!r}, which has no bin/spark-submit; unset SPARK_HOME")


def test_a_pyspark_of_another_version_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyspark").mkdir()
    (tmp_path / "pyspark" / "__init__.py").touch()
    (tmp_path / "pyspark" / "version.py").write_text('__version__: str = "3.5.1"\n')
    monkeypatch.setattr(installation, "find_spec", lambda name: Found(tmp_path / name / "__init__.py"))
    assert detail().endswith(f"got 3.5.1, which is in {tmp_path}; pip install pyspark=={required()}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/elsewhere", str(tmp_path)]))
    assert detail().endswith(f"got 3.5.1, which is in {tmp_path} by PYTHONPATH; unset PYTHONPATH")
    monkeypatch.setattr(installation, "find_spec", lambda name: None)
    check({})  # the import reports it


class Found:
    def __init__(self, origin: Path) -> None:
        self.origin = str(origin)


# delta#91
@pytest.mark.parametrize(
    "text", ["", "--master local[2]", "--packages a:b:1", "pyspark-shell --master local"]
)
def test_submit_arguments_must_end_in_pyspark_shell(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", text)
    assert detail().startswith("PYSPARK_SUBMIT_ARGS must end in pyspark-shell; add pyspark-shell at its end")


def test_submit_arguments_are_words_of_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--conf 'spark.x=s3cret pyspark-shell")
    assert detail() == "PYSPARK_SUBMIT_ARGS cannot be read: No closing quotation; correct or unset it"
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--conf 'spark.x=a b' pyspark-shell ")
    check({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SPARK_REMOTE", "sc://spark:15002"),
        ("SPARK_API_MODE", "Connect"),
        ("SPARK_CONNECT_MODE_ENABLED", "1"),
    ],
)
def test_spark_connect_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert detail().startswith(f"{name} is {value!r}: a session of Spark Connect")
    monkeypatch.setenv(name, "classic")
    assert not list(problems({})) or name != "SPARK_API_MODE"


# delta#91
@pytest.mark.parametrize(
    "line",
    ["spark.eventLog.enabled true", "spark.eventLog.enabled=TRUE", "  spark.eventLog.enabled : true  "],
)
def test_an_event_log_needs_its_folder(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "event log"
    defaults = tmp_path / "spark-defaults.conf"
    defaults.write_text(f"# spark.eventLog.dir /nowhere\n\n{line}\nspark.eventLog.dir {folder.as_uri()}\n")
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    assert detail() == (
        f"spark.eventLog.enabled is true in {defaults} (SPARK_CONF_DIR), and spark.eventLog.dir is "
        f"'{folder}', which is not a directory; create it, or set spark.eventLog.enabled = false under "
        "[spark]"
    )
    check({"spark.eventLog.enabled": "false"})
    check({"spark.eventLog.dir": "s3a://logs/"})
    folder.mkdir()
    check({})


def test_an_event_log_of_the_settings_or_of_spark_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": "/nowhere/log"}
    assert detail(options).startswith("spark.eventLog.enabled is true in the settings, and")
    home = spark_home(tmp_path)
    (home / "conf").mkdir()
    (home / "conf" / "spark-defaults.conf").write_text("".join(f"{k} {v}\n" for k, v in options.items()))
    monkeypatch.setenv("SPARK_HOME", str(home))
    assert f"in {home}/conf/spark-defaults.conf (SPARK_HOME), and" in detail()


def test_without_variables_the_defaults_are_those_of_pyspark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark reads the folder conf of the pyspark that is imported, and none in the current directory."""
    text = "spark.eventLog.enabled true\nspark.eventLog.dir /nowhere/log\n"
    for folder in (here := tmp_path / "here", tmp_path / "pyspark"):
        (folder / "conf").mkdir(parents=True)
    (here / "conf" / "spark-defaults.conf").write_text(text)
    monkeypatch.chdir(here)
    check({})
    monkeypatch.setattr(installation, "find_spec", lambda name: Found(tmp_path / name / "__init__.py"))
    check({})
    (tmp_path / "pyspark" / "conf" / "spark-defaults.conf").write_text(text)
    assert f"in {tmp_path}/pyspark/conf/spark-defaults.conf (pyspark), and" in detail()


@pytest.mark.parametrize("text", [None, "", "spark.eventLog.enabled", "[spark]\neventLog = true", "\0\xff"])
def test_a_file_of_defaults_without_an_event_log(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    if text is not None:
        (tmp_path / "spark-defaults.conf").write_text(text, "latin-1")
    check({})


def test_the_check_imports_no_spark() -> None:
    code = "import streaming_nn.spark.installation, sys; sys.exit('pyspark' in sys.modules)"
    assert os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", code) == 0
