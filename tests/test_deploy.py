"""The commands of docs/deploy.md, run as they are, with other hosts and directories."""

import os
import re
import subprocess
import sys
import tomllib
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyspark
import pytest
import yaml
from exit_codes import FINAL
from paths import ROOT
from typer.main import get_command

from streaming_nn.cli.app import app
from streaming_nn.kafka import admin, jars, options
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

PAGE = (ROOT / "docs" / "deploy.md").read_text()
SPARK = Path(pyspark.__file__).parent


def submit() -> str:
    """Return the block of the page that calls spark-submit, as a script."""
    return block("export PYSPARK_PYTHON=")


def block(begins: str) -> str:
    """Return the page's indented block that begins with these words."""
    start = PAGE.index(f"    {begins}")
    lines = takewhile(lambda line: line.startswith("    "), PAGE[start:].splitlines())
    return "\n".join(line.removeprefix("    ") for line in lines)


def test_the_packages_are_those_of_our_list_of_jars() -> None:
    (named,) = re.findall(r"--packages (\S+)", submit())
    connector = {":".join(jars.coordinates(path)) for path in jars.sums("connector")}
    assert named in connector
    assert named.endswith(f":{pyspark.__version__}")


def test_supervisors_do_not_restart_what_would_end_the_same_way() -> None:
    (systemd,) = re.findall(r"(?m)^RestartPreventExitStatus=(.*)$", block("[Service]"))
    assert {int(code) for code in systemd.split()} == FINAL
    (rule,) = yaml.safe_load(block("backoffLimit:"))["podFailurePolicy"]["rules"]
    assert set(rule["onExitCodes"]["values"]) == FINAL


def test_the_options_of_a_secured_client_are_valid() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    client = options.flat(tomllib.loads(text)["kafka"])
    options.check(client | {"sasl.password": "secret"})
    assert client.keys() <= options.SUPPORTED | {"bootstrap.servers"}


def test_spark_s_operator_starts_a_command_with_its_flags() -> None:
    spec = yaml.safe_load(block("apiVersion: spark.apache.org"))["spec"]
    command: Any = get_command(app)
    name, *words = spec["driverArgs"]
    settings = command.commands[name].make_context(name, words).params
    conf = spec["sparkConf"]
    assert settings["master"] == conf["spark.kubernetes.driver.master"]
    volume = "spark.kubernetes.driver.volumes.persistentVolumeClaim.model.mount.path"
    assert str(settings["model"]).startswith(f"{conf[volume]}/")
    assert spec["runtimeVersions"]["sparkVersion"] == pyspark.__version__


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_spark_submit_learns(broker: Any, tmp_path: Path) -> None:
    """With Spark's own resolver for the connector; the exit code comes through it too."""
    topic = broker.topic("submitted", 2)
    produce = [sys.executable, "-m", "producers", "sea", "--topic", topic, "--records", "1200"]
    subprocess.run([*produce, "--kafka", f"bootstrap.servers={broker.bootstrap}"], check=True)
    script = submit().replace("spark://spark:7077", "local[2]").replace("/shared/model", "model")
    script = script.replace("kafka:9092", broker.bootstrap)
    script = script.replace("/opt/streaming-nn/bin/python", sys.executable)
    script = script.replace("--packages", "--conf spark.jars.ivy=$PWD/ivy --packages")
    if mirror := os.environ.get("STREAMING_NN_MAVEN"):
        script = script.replace("--packages", f"--repositories {mirror} --packages")

    def ends(*flags: str) -> int:
        ran = subprocess.run(
            ["sh", "-c", f"{script} {' '.join(flags)}"],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": f"{SPARK / 'bin'}{os.pathsep}{os.environ['PATH']}",
                "SPARK_HOME": str(SPARK),
                "SPARK_LOCAL_IP": "127.0.0.1",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        (tmp_path / "said").write_text(ran.stdout + ran.stderr)
        return ran.returncode

    learn = f"--topic {topic} --set train.dead_letters=dead-{topic} --once"
    assert ends(learn) == 0, (tmp_path / "said").read_text()[-3000:]
    assert list((tmp_path / "ivy").rglob("*spark-sql-kafka*.jar")), "the connector came from elsewhere"
    head = VersionLog(tmp_path / "model").head()
    assert head is not None
    assert head.manifest.offsets == admin.ends(broker.options, [topic])
    assert head.manifest.metrics["rows"] == 1200
    assert ends(learn, "--hidden 9") == 2, "another structure takes another model directory"
    printed = (tmp_path / "said").read_text()
    assert "streaming-nn: model model was created with members[0].hidden = [64], now [9]" in printed
