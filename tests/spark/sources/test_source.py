"""Sources other than topics: each row counts once despite kills, and what is wrong is reported."""

import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka_topics import fill, labeled, learn, manifests_of, rows, rows_of, settings_of
from paths import ROOT
from pyspark.sql import SparkSession

from streaming_nn.cli import app as commands
from streaming_nn.errors import TooManyRejectedError
from streaming_nn.estimators.sklearn import OnlineClassifier
from streaming_nn.mllib.models import StreamingClassificationModel
from streaming_nn.settings import Settings
from streaming_nn.spark import failpoints
from streaming_nn.spark.query import quick_checkpoint
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.train.trainer import Trainer
from streaming_nn.versions.retention import prune
from streaming_nn.versions.rollback import rollback
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge

FILES, ROWS = 10, 150


def write(folder: Path, numbers: Iterable[int], bad: bool = False) -> Path:
    """Write files of lines, each file a second younger than the one before it."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        lines = labeled(ROWS, seed=number) + ([b"bad"] if bad else [])
        path = folder / f"{number}.jsonl"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        os.utime(path, (1_000_000 + number, 1_000_000 + number))
    return folder


def of_files(folder: Path, model: Path, **sections: Any) -> Settings:
    """Settings for a model of SCHEMA that learns the lines of a directory, two files per micro-batch."""
    source = {"format": "text", "options": {"path": str(folder), "maxFilesPerTrigger": 2}}
    own = {
        "records": {"inputs": 3, "classes": [0, 1]},
        "learner": {"hidden": [8], "optimizer": "sgd", "mini_batch": 7},
        "source": source,
        **sections,
        "train": {"once": True} | sections.get("train", {}),
    }
    return Settings(model=model, **own)


def batches(model: Path) -> list[int]:
    return [manifest.source["batch_id"] for manifest in manifests_of(model)[1:]]


def command(folder: Path, model: Path, point: str = "") -> subprocess.CompletedProcess[str]:
    words = ["train", "--once", "--model", model, "--source", "text", "--source-option", f"path={folder}"]
    words += ["--source-option", "maxFilesPerTrigger=2", "--classes", "0,1", "--set", "records.inputs=3"]
    words += ["--optimizer", "sgd", "--hidden", "8", "--mini-batch", "7", "--master", "local[2]"]
    return subprocess.run(
        [sys.executable, "-m", "streaming_nn.cli.app", *map(str, words)],
        env={**os.environ, "STREAMING_NN_FAILPOINT": point},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_killed_before_and_after_a_commit_each_row_counts_once_to_the_same_bits(
    spark: SparkSession, tmp_path: Path
) -> None:
    folder, model = write(tmp_path / "in", range(FILES), bad=True), tmp_path / "model"
    heads = []
    for point in (failpoints.POINTS[0], *failpoints.POINTS[-2:]):
        killed = command(folder, model, f"{point}:2")
        assert killed.returncode == -9, (point, killed.stderr[-2000:])
        heads.append(VersionLog(model).head_number())
    # each was killed in its second micro-batch, and only a kill after the commit leaves that one learned
    assert heads == [1, 2, 4]
    last = command(folder, model)
    assert last.returncode == 0, last.stderr[-2000:]

    assert batches(model) == list(range(FILES // 2))
    assert len({manifest.source["query_id"] for manifest in manifests_of(model)[1:]}) == 1
    good = FILES * ROWS
    assert rows_of(model) == {
        "received": good + FILES,
        "trained": good,
        "skipped": 0,
        "rejected": FILES,
        "filtered": 0,
    }
    assert manifests_of(model)[-1].rejected_by_reason == {"not JSON": 2}
    learn(spark, of_files(folder, tmp_path / "whole"))
    digests = [[manifest.digest for manifest in manifests_of(each)] for each in (model, tmp_path / "whole")]
    assert digests[0] == digests[1]


def test_a_crash_before_and_after_a_commit_counts_each_row_once(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the failpoint raises, and a new trainer resumes by the same checkpoint in the same process."""
    settings = of_files(write(tmp_path / "in", range(8)), tmp_path / "model")
    heads = []
    for point in failpoints.POINTS[-2:]:
        monkeypatch.setenv(failpoints.VARIABLE, f"{point}:2:{failpoints.RAISE}")
        with pytest.raises(failpoints.SimulatedCrash, match=point):
            learn(spark, settings)
        heads.append(VersionLog(settings.model).head_number())
    assert heads == [1, 3]
    monkeypatch.delenv(failpoints.VARIABLE)
    learn(spark, settings)
    assert batches(settings.model) == list(range(4))
    assert rows_of(settings.model)["trained"] == 8 * ROWS
    learn(spark, of_files(tmp_path / "in", tmp_path / "whole"))
    digests = [
        [manifest.digest for manifest in manifests_of(each)] for each in (settings.model, tmp_path / "whole")
    ]
    assert digests[0] == digests[1]


def test_rows_of_files_are_learned_as_arrays_are(spark: SparkSession, tmp_path: Path) -> None:
    learn(spark, of_files(write(tmp_path / "in", [0, 1]), tmp_path / "model"))
    estimator = OnlineClassifier("mlp", hidden=(8,), optimizer="sgd", mini_batch=7)
    x, y = zip(*(rows(ROWS, seed=number) for number in (0, 1)), strict=True)
    estimator.partial_fit(np.concatenate(x), np.concatenate(y), classes=[0, 1])
    head = VersionLog(tmp_path / "model").head()
    assert head is not None
    np.testing.assert_array_equal(head.tensors["model.theta"], estimator.state_.model.theta)


def test_new_files_are_learned_and_old_ones_are_not(spark: SparkSession, tmp_path: Path) -> None:
    folder, model = write(tmp_path / "in", range(4)), tmp_path / "model"
    settings = of_files(folder, model)
    learn(spark, settings)
    learn(spark, settings)
    write(folder, [4])
    rollback(VersionLog(model), 1)
    learn(spark, settings.model_copy(update={"records": Settings().records}))
    assert [manifest.kind for manifest in manifests_of(model)] == [
        *("initial", "saved", "saved", "rolled-back", "saved")
    ]
    assert rows_of(model)["trained"] == 5 * ROWS
    assert batches(model) == [0, 1, 1, 2]
    assert StreamingClassificationModel.fromModelDir(model).numFeatures == 3


def test_a_missing_checkpoint_stops_the_run(spark: SparkSession, tmp_path: Path) -> None:
    folder, model = write(tmp_path / "in", range(2)), tmp_path / "model"
    settings = of_files(folder, model)
    learn(spark, settings)
    (model / "sources" / "text").rename(tmp_path / "away")
    with pytest.raises(
        ValueError,
        match=r"version 1 learned batch 0 with another checkpoint than the one now in .*/text",
    ):
        learn(spark, settings)
    assert VersionLog(model).head_number() == 1
    (model / "sources" / "text").rename(tmp_path / "not that one")
    (tmp_path / "away").rename(model / "sources" / "text")
    learn(spark, settings)
    assert VersionLog(model).head_number() == 1
    other = settings.source.model_copy(update={"checkpoint": "sources/again"})
    learn(spark, settings.model_copy(update={"source": other}))
    assert rows_of(model)["trained"] == 4 * ROWS, "another checkpoint is another source"


@pytest.mark.nightly
def test_files_and_topics_can_take_turns(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    topic, model = broker.topic("live", 2), tmp_path / "model"
    folder = write(tmp_path / "in", range(3))
    files = of_files(folder, model, learner={"hidden": [8]})
    topics = settings_of(broker.options, model, topic)
    fill(broker.options, topic, labeled(300, seed=8))
    learn(spark, files)
    learn(spark, topics)
    write(folder, [3], bad=True)
    sent = files.train.model_copy(update={"dead_letters": topics.train.dead_letters})
    learn(spark, files.model_copy(update={"train": sent, "kafka": broker.options}))
    fill(broker.options, topic, labeled(200, seed=9))
    learn(spark, topics)
    found = manifests_of(model)
    assert [manifest.kind for manifest in found] == [
        "initial",
        "saved",
        "saved",
        "learned",
        "saved",
        "learned",
    ]
    assert sum(found[-1].offsets[topic].values()) == 500
    assert rows_of(model) == {
        "received": 4 * ROWS + 501,
        "trained": 4 * ROWS + 500,
        "skipped": 0,
        "filtered": 0,
    } | {"rejected": 1}
    result = verify(spark, broker.options, VersionLog(model))
    assert (result.identical, result.rows) == (True, 500)
    assert prune(VersionLog(model), keep_bytes=0) == [1, 3], "2 and 4 are where learned ones begin"
    assert verify(spark, broker.options, VersionLog(model)).identical


def test_versions_without_a_topic_cannot_be_replayed(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    keeping = of_files(write(tmp_path / "in", range(6)), model, train={"keep_bytes": 1})
    learn(spark, keeping)
    assert [manifest.kept for manifest in manifests_of(model)] == [True, False, False, True]
    assert commands.run(["verify", "--model", str(model)]) == 2
    assert "its versions were not learned from a topic (kind saved)" in capsys.readouterr().err


def test_too_many_bad_rows_stop_the_run(spark: SparkSession, tmp_path: Path) -> None:
    folder = write(tmp_path / "in", range(2))
    (folder / "bad").write_text("no\n" * 1000)
    os.utime(folder / "bad", (1_000_002, 1_000_002))
    settings = of_files(folder, tmp_path / "model")
    with pytest.raises(
        TooManyRejectedError, match=r"1,000 of 1,000 records cannot be learned, .*: 1,000 not JSON\. "
    ):
        learn(spark, settings)
    assert VersionLog(tmp_path / "model").head_number() == 1
    (folder / "bad").write_text("")
    assert learn(spark, settings).head.number == 1


@pytest.mark.nightly
def test_averaged_tasks_train_on_a_table(spark: SparkSession, tmp_path: Path) -> None:
    x, y = rows(900)
    table = [(*map(float, row), ("no", "yes")[label]) for row, label in zip(x, y, strict=True)]
    frame = spark.createDataFrame(table, ["a", "b", "c", "sold"])
    frame.repartition(3).write.parquet(str(tmp_path / "in"))
    heads = []
    for name in ("once", "again"):
        settings = Settings(
            model=tmp_path / name,
            records={"features": ["a", "b", "c"], "label": "sold"},
            learner={"hidden": [8], "mini_batch": 4},
            source={"format": "parquet", "options": {"path": str(tmp_path / "in")}},
            train={"once": True, "update": "averaged"},
        )
        heads.append(learn(spark, settings).head.manifest)
    assert heads[0].counts["trained"] == 900
    assert heads[0].learner["classes"] == ["no", "yes"]
    assert heads[0].metrics["prequential"]["window"]["accuracy"] > 0.7
    assert heads[0].digest == heads[1].digest


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_the_commands_of_the_docs_run(spark: SparkSession, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "records.md").read_text()
    (script,) = re.findall(r"```sh\n(streaming-nn train.*?)```", page, re.DOTALL)
    houses = [(100.0 + i, 20 + i % 9, 2020, 1990 + i % 5, i % 9 > 4) for i in range(300)]
    table = spark.createDataFrame(houses, ["price", "size", "year", "built", "sold"])
    table.write.parquet(str(tmp_path / "sales"))
    table.write.json(str(tmp_path / "in"))
    script = script.replace("streaming-nn ", f"{sys.executable} -m streaming_nn.cli.app ")
    script = script.replace("--once", "--once --master local[2]")
    subprocess.run(script, shell=True, check=True, cwd=tmp_path, timeout=240)
    for model, inputs in (("lines", 2), ("table", 3)):
        assert rows_of(tmp_path / model)["trained"] == 300
        assert manifests_of(tmp_path / model)[-1].schema["inputs"] == inputs


@pytest.mark.nightly
def test_the_rate_source_is_learned_as_it_arrives(spark: SparkSession, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "records.md").read_text()
    (source,) = re.findall(r"```toml\n(\[source\].*?)```", page, re.DOTALL)
    settings = Settings(
        model=tmp_path / "model",
        records={"features": ["a", "b"], "classes": [False, True]},
        **tomllib.loads(source),
        train={"trigger": "500 milliseconds"},
    )
    for _ in range(2):
        trainer = Trainer.open(spark, settings)
        before = trainer.head.number
        trainer.start()
        while trainer.head.number < before + 3:
            assert not trainer.wait(0.2)
        trainer.stop()
    found = manifests_of(tmp_path / "model")
    ids = batches(tmp_path / "model")
    assert ids == sorted(set(ids))
    assert all(manifest.counts["rejected"] == 0 for manifest in found)
    assert found[-1].metrics["rows"] == rows_of(tmp_path / "model")["trained"] > 500
    assert found[-1].mini_batch_cap == 32


@pytest.mark.nightly
def test_the_log_of_a_file_source_is_kept_once_or_twice(spark: SparkSession, tmp_path: Path) -> None:
    """By default Spark keeps each copy for 10 minutes: 21 here, and every copy has every file ever read."""
    folder, checkpoint = tmp_path / "in", tmp_path / "checkpoint"
    folder.mkdir()
    lines = spark.readStream.format("text").option("maxFilesPerTrigger", 1).load(str(folder))
    stream = lines.writeStream.foreachBatch(lambda frame, batch_id: None)
    for numbers in (range(105), range(105, 210)):
        for number in numbers:
            (folder / f"{number}").write_text("x\n")
        with quick_checkpoint(spark, checkpoint.as_uri()):
            query = (
                stream.option("checkpointLocation", checkpoint.as_uri()).trigger(availableNow=True).start()
            )
        query.awaitTermination()
        time.sleep(10)  # cleanupDelay: what is younger is kept
    names = [path.name for path in (checkpoint / "sources" / "0").iterdir() if path.suffix != ".crc"]
    assert 1 <= len([name for name in names if name.endswith(".compact")]) <= 2
    assert len(names) < 150
