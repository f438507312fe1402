"""Metrics and registered models on a real MLflow server, of the installation that MLFLOW_SERVER names."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow_server
import numpy as np
import pytest
from shown_models import INPUTS, GrowingModel
from typer.testing import CliRunner

from streaming_nn.cli.versions import app
from streaming_nn.model import load, predict
from streaming_nn.records.schema import Schema
from streaming_nn.sinks.mlflow import MLflowSink
from streaming_nn.sinks.mlflow_registry import connect
from streaming_nn.versions.diff import flat_numbers
from streaming_nn.versions.version_log import VersionLog

missing = mlflow_server.find() is None and not os.environ.get("TOOLS_REQUIRED")
pytestmark = [pytest.mark.nightly, pytest.mark.skipif(missing, reason="MLFLOW_SERVER names no server")]

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server.serving(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri


@pytest.fixture
def experiment(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an experiment of this test, which the settings have."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("STREAMING_NN_METRICS__MLFLOW", server)
    name = "-".join(tmp_path.parts[-2:])
    monkeypatch.setenv("STREAMING_NN_METRICS__EXPERIMENT", name)
    return name


@pytest.fixture
def client(server: str, experiment: str) -> Any:
    return connect(server)


@pytest.fixture
def model(tmp_path: Path) -> GrowingModel:
    return GrowingModel(tmp_path / "model", classes=["a", "b", "c"], learner="ensemble")


def learn(model: GrowingModel, seconds: list[float]) -> None:
    schema = Schema(INPUTS, model.learner.options()["classes"]).options()
    for each in seconds:
        model.learn(1, schema=schema, written_at=(START + timedelta(seconds=each)).isoformat())


def write(sink: MLflowSink, log: VersionLog) -> None:
    while log.has(sink.position() + 1):
        sink.write(log.manifest(sink.position() + 1))
    sink.close()


def test_a_model_is_one_run_with_a_point_per_ten_seconds_and_the_last_version(
    server: str, client: Any, experiment: str, model: GrowingModel
) -> None:
    learn(model, [0, 1, 5, 10, 14, 20, 21])
    write(MLflowSink(server, experiment, model.log.directory), model.log)
    learn(model, [22, 31, 45])
    write(MLflowSink(server, experiment, model.log.directory), model.log)

    found = client.get_experiment_by_name(experiment)
    (run,) = client.search_runs([found.experiment_id])
    assert (run.info.run_name, run.info.status) == ("model", "FINISHED")
    assert run.data.params["learner"] == "ensemble"
    assert run.data.tags["streaming_nn.model"] == str(model.log.directory)
    assert run.data.params["classes"] == '["a", "b", "c"]'
    # version 0 was committed now; the others have times of their own
    points = client.get_metric_history(run.info.run_id, "prequential.window.accuracy")
    logged = {point.step: point for point in points}
    manifests = {number: model.log.manifest(number) for number in logged}
    assert {n: point.value for n, point in logged.items()} == {
        n: dict(flat_numbers(m.metrics))["prequential.window.accuracy"] for n, m in manifests.items()
    }
    assert sorted(logged) == [1, 4, 6, 7, 9, 10]


def run_versions(model: GrowingModel, *arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--model", str(model.log.directory)])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_a_tag_registers_the_version_once_with_its_signature(
    server: str, client: Any, experiment: str, model: GrowingModel
) -> None:
    import mlflow
    from mlflow.pyfunc import load_model

    learn(model, [0, 1, 2])
    for tag in ("production", "v1.0", "production"):
        run_versions(model, "tag", tag, "2")
    found = client.search_model_versions(f"name = '{experiment}'")
    (registered,) = found
    digest = model.log.manifest(2).digest
    assert {**registered.tags} == {"version": "2", "digest": digest, "model": str(model.log.directory)}
    for alias in ("production", "v1-0"):
        assert client.get_model_version_by_alias(experiment, alias).version == registered.version

    learn(model, [3])
    run_versions(model, "tag", "production")
    newest = client.get_model_version_by_alias(experiment, "production")
    assert newest.tags["version"] == "4"
    assert client.get_model_version_by_alias(experiment, "v1-0").version == registered.version

    mlflow.set_tracking_uri(server)
    loaded = load_model(f"models:/{experiment}@v1-0")
    shown = loaded.metadata.signature
    assert [(each.name, each.type, each.shape) for each in shown.inputs] == [
        ("features", np.float32, (-1, INPUTS))
    ]
    assert [(each.name, each.shape) for each in shown.outputs] == [
        ("label", (-1,)),
        ("probabilities", (-1, 3)),
    ]
    learned, _ = load(model.log.directory, 2)
    rows = np.random.default_rng(1).normal(size=(20, INPUTS)).astype(np.float32)
    predicted = loaded.predict({"features": rows})
    expected = predict(learned, rows)
    np.testing.assert_allclose(predicted["probabilities"], expected, atol=1e-5)


def test_a_deleted_run_is_reported_with_what_begins_another(
    server: str, client: Any, experiment: str, model: GrowingModel
) -> None:
    learn(model, [0])
    sink = MLflowSink(server, experiment, model.log.directory)
    write(sink, model.log)
    (file,) = (model.log.directory / "sinks").iterdir()
    client.delete_run(json.loads(file.read_text())["run"])
    learn(model, [20])
    with pytest.raises(LookupError, match=f"to begin another run delete {file}"):
        write(sink, model.log)
    file.unlink()
    write(MLflowSink(server, experiment, model.log.directory), model.log)
    found = client.get_experiment_by_name(experiment)
    (run,) = client.search_runs([found.experiment_id])
    assert len(client.get_metric_history(run.info.run_id, "rows")) == 2
