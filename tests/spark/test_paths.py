"""Any path that the file system allows, for every job."""

from pathlib import Path
from typing import Any

import pytest
from kafka_topics import fill, labeled, learn, read, rows_of, settings_of, unlabeled
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from streaming_nn.cli.export import export
from streaming_nn.cli.versions import app as versions
from streaming_nn.settings import Settings
from streaming_nn.spark.query import local, url
from streaming_nn.spark.replay.backtest import open_trials, run_trials
from streaming_nn.spark.replay.plan import plan_versions
from streaming_nn.spark.replay.trials import parse_trials
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.score.scorer import Scorer
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge

ODD = "a b%20#c?d:e,f=é'\"\\&;$(g)[1]{2}*\n-h" + "i" * 200
LINK = "-link to: it"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A relative path through a symbolic link to a directory with an odd name."""
    (tmp_path / ODD).mkdir()
    (tmp_path / LINK).symlink_to(ODD)
    monkeypatch.chdir(tmp_path)
    return Path(LINK)


def test_every_job_takes_any_path(spark: SparkSession, broker: Any, folder: Path) -> None:
    kafka = broker.options
    topic, new, predictions = (broker.topic(name) for name in ("known", "new", "predictions"))
    fill(kafka, topic, labeled(300))
    fill(kafka, new, unlabeled(50))
    score = {"topic": new, "predictions": predictions, "once": True}
    settings = settings_of(kafka, folder / ODD, topic, score=score)
    learn(spark, settings)
    assert rows_of(settings.model)["trained"] == 300
    for expected in (50, 80):
        scorer = Scorer.open(spark, settings)
        scorer.start()
        scorer.wait()
        assert len(read(kafka, predictions)) == expected, "it resumes where its checkpoint is"
        fill(kafka, new, unlabeled(30))
    log = VersionLog(settings.model)
    assert verify(spark, kafka, log).identical
    plan = plan_versions(log)
    runs = open_trials(plan, parse_trials(["hidden=[4]"]), folder / "trials")
    assert run_trials(spark, kafka, plan, runs)[-1].counts["trained"] == 300
    model = ["--model", str(settings.model)]
    for command in (["list"], ["show"], ["check"], ["tag", "best"], ["prune"], ["repair"]):
        assert CliRunner().invoke(versions, [*command, *model]).exit_code == 0
    export(to=folder / f"{'x' * 250}.onnx", model=settings.model)
    assert not Path(str(folder).replace(" ", "%20")).exists()


@pytest.mark.parametrize("name", ["in put%20", pytest.param("ä,b", marks=pytest.mark.nightly)])
def test_a_source_keeps_its_position_under_any_path(
    name: str, spark: SparkSession, folder: Path, tmp_path: Path
) -> None:
    """The model's path is any; in that of the input Spark reads globs, and takes no colon."""
    (tmp_path / name).mkdir()
    for part in range(2):
        (tmp_path / name / f"{part}.json").write_bytes(b"\n".join(labeled(200, seed=part)))
        settings = Settings(
            model=folder / "model",
            records={"inputs": 3, "classes": [0, 1]},
            source={"format": "json", "options": {"path": str(tmp_path / name)}},
            train={"once": True},
            learner={"hidden": [8]},
        )
        learn(spark, settings)
        assert rows_of(settings.model)["trained"] == 200 * (part + 1)
    assert (folder / "model" / "sources" / "json" / "metadata").is_file()


def test_a_path_is_not_decoded(spark: SparkSession, folder: Path) -> None:
    path = folder.resolve()
    assert local(spark, url(path)) == path
    assert local(spark, str(path)) == path
    assert local(spark, "here/a:b#c") == Path("here/a:b#c")
    assert local(spark, "file:/a%20b?c") == Path("/a%20b?c")
    assert local(spark, "file://host/a") == Path("/a")
    assert local(spark, "hdfs://host/a") is None
    assert local(spark, "s3a:/a") is None
