"""Whole commands with a temporary directory of any name, and on disks that are full."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kafka_topics import fill, labeled, read, unlabeled
from paths import ROOT

from streaming_nn.versions.version_log import VersionLog

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]

ODD = "t p%20#c+ü's"


def run(words: list[str], kafka: dict[str, str], temporary: Path, *before: str) -> Any:
    """Run one of our commands with a temporary directory; `before` are words that run it in other ways."""
    command = [*before, sys.executable, "-m", "streaming_nn.cli.app", *words]
    command += ["--bootstrap", kafka["bootstrap.servers"], "--master", "local[2]"]
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def of_model(model: Path, topic: str) -> list[str]:
    return ["train", "--model", str(model), "--topic", topic, "--once", "--hidden", "8"]


def test_commands_take_a_temporary_directory_of_any_name(broker: Any, tmp_path: Path) -> None:
    kafka, temporary = broker.options, tmp_path / ODD
    temporary.mkdir()
    topic, new, predictions = (broker.topic(name) for name in ("known", "new", "predictions"))
    fill(kafka, topic, [*labeled(300), b"bad"])
    fill(kafka, new, unlabeled(50))
    ran = run(of_model(tmp_path / "model", topic), kafka, temporary)
    assert ran.returncode == 0, ran.stderr
    assert VersionLog(tmp_path / "model").manifest(1).counts["trained"] == 300
    topics = ["--topic", new, "--predictions", predictions]
    ran = run(["score", "--model", str(tmp_path / "model"), *topics, "--once"], kafka, temporary)
    assert ran.returncode == 0, ran.stderr
    assert len(read(kafka, predictions)) == 50
    assert [path.name for path in temporary.iterdir() if not path.name.startswith("hsperfdata")] == []


def on_small_disk(folder: Path, size: str) -> list[str]:
    """Return words that run what follows with a small disk in a new folder; skip if that is not allowed."""
    folder.mkdir()
    words = [*("unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size={size} small "$0" && exec "$@"')]
    words.append(str(folder))
    if not shutil.which("unshare") or subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("a user may not mount a disk here")
    return words


def test_a_full_disk_under_the_model_is_named(broker: Any, tmp_path: Path) -> None:
    """Cases 36 and 37: delta#91."""
    topic, model = broker.topic("known"), tmp_path / "disk" / "model"
    fill(broker.options, topic, labeled(300))
    small = on_small_disk(tmp_path / "disk", "64k")
    (tmp_path / "tmp").mkdir()
    ran = run(of_model(model, topic), broker.options, tmp_path / "tmp", *small)
    assert ran.returncode == 1, ran.stderr
    last = ran.stderr.splitlines()[-1]
    assert last.startswith(f"streaming-nn: {model}/versions/"), ran.stderr
    assert last.endswith("No space left on device")


def padded(value: bytes) -> bytes:
    return value[:-1] + b', "pad": "%s"}' % (b"x" * 10_000)


SCHEMA = ["--classes", "0,1", "--set", "records.inputs=3"]


@pytest.mark.parametrize(
    ("size", "more"),
    [("64k", []), ("12m", []), ("12m", SCHEMA)],
    ids=["before Spark starts", "while it infers", "while it learns"],
)
def test_a_full_disk_under_the_temporary_files_is_named(
    size: str, more: list[str], broker: Any, tmp_path: Path
) -> None:
    """Spark itself takes 10 MB; with `where` records are read ahead as they are, 20 MB of them."""
    topic, temporary = broker.topic("known"), tmp_path / "disk"
    fill(broker.options, topic, [padded(value) for value in labeled(2000)])
    small = on_small_disk(temporary, size)
    words = [*of_model(tmp_path / "model", topic), "--set", "records.where=label >= 0", *more]
    ran = run(words, broker.options, temporary, *small)
    assert ran.returncode == 1, ran.stderr
    last = ran.stderr.splitlines()[-1]
    assert "No space left on device" in last, ran.stderr
    assert str(temporary) in last
