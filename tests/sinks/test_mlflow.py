"""Metrics to MLflow's REST API, of a server that notes what it gets; test_mlflow_server.py has a real one."""

import base64
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from shown_models import GrowingModel
from waiting import until

from streaming_nn.settings import Settings
from streaming_nn.sinks import sink as sinks
from streaming_nn.sinks.mlflow import MLflowSink
from streaming_nn.sinks.mlflow_registry import alias_of
from streaming_nn.sinks.sink import Sinks
from streaming_nn.versions.version import Manifest

pytestmark = pytest.mark.commit

START = datetime(2026, 1, 1, tzinfo=UTC)
ABSENT = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment\nat length"}


class Server(HTTPServer):
    """A tracking server without an experiment; `failing` is what it sends instead, with its status."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[tuple[str, dict[str, Any]]] = []
        self.authorization: str | None = None
        self.failing: tuple[int, bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def of(self, path: str) -> list[dict[str, Any]]:
        """Return the values of each call."""
        return [values for name, values in self.received if name == path]

    def steps(self) -> list[int]:
        """Return the version of each point."""
        batches = self.of("runs/log-batch")
        return [batch["metrics"][0]["step"] for batch in batches]


RESPONSES = {
    "experiments/create": {"experiment_id": "7"},
    "runs/create": {"run": {"info": {"run_id": "abc"}}},
}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.respond(404, json.dumps(ABSENT).encode())

    def do_POST(self) -> None:
        values = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.removeprefix("/api/2.0/mlflow/")
        if self.server.failing is None:
            self.server.received.append((path, values))
        self.respond(200, json.dumps(RESPONSES.get(path, {})).encode())

    def respond(self, status: int, body: bytes) -> None:
        self.server.authorization = self.headers["Authorization"]
        status, body = self.server.failing or (status, body)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    for name in ("TOKEN", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=[0.01], daemon=True).start()
        yield running
        running.shutdown()


def manifest(number: int, second: float) -> Manifest:
    return Manifest(
        number,
        learner={"learner": "mlp", "hidden": [8], "mini_batch": 4, "members": [{"optimizer": "sgd"}]},
        schema={"features": ["a", "b"], "label": "y", "classes": [1]},
        metrics={
            "rows": 10 * number,
            "prequential": {"window": {"accuracy": 0.5, "mcc": None}, "cumulative": {"accuracy": 0.1}},
            "members": [{"member": "sgd 0.1", "weight": 0.25}],
        },
        counts={"received": 3, "trained": 2, "skipped": 0, "rejected": 1, "filtered": 0},
        seconds={"learn": 0.5},
        written_at=(START + timedelta(seconds=second)).isoformat(),
    )


def written(sink: MLflowSink, seconds: list[float]) -> None:
    first = sink.position() + 1
    for number, second in enumerate(seconds, first):
        sink.write(manifest(number, second))
        assert sink.position() == number


def test_one_version_in_ten_seconds_is_logged_and_the_last_one(server: Server, tmp_path: Path) -> None:
    sink = MLflowSink(server.uri, "fraud", tmp_path)
    assert sink.position() == -1
    written(sink, [0, 1, 9.9, 10, 12, 20, 21])
    assert server.steps() == [0, 3, 5]
    assert MLflowSink(server.uri, "fraud", tmp_path).position() == 5
    sink.close()
    assert server.steps() == [0, 3, 5, 6]
    again = MLflowSink(server.uri, "fraud", tmp_path)
    written(again, [22, 31, 1])  # the clock was set back
    assert server.steps() == [0, 3, 5, 6, 8, 9]
    again.close()
    assert len(server.of("runs/create")) == 1, "a restart resumes the run"
    statuses = [values["status"] for values in server.of("runs/update")]
    assert statuses == ["RUNNING", "FINISHED", "RUNNING", "FINISHED"]
    assert {values["run_id"] for values in server.of("runs/update")} == {"abc"}


def test_a_point_has_the_windows_figures_and_the_records_since_the_last_one(
    server: Server, tmp_path: Path
) -> None:
    sink = MLflowSink(server.uri, "fraud", tmp_path / "model")
    written(sink, [0, 4, 10])
    assert server.of("experiments/create") == [{"name": "fraud"}]
    (run,) = server.of("runs/create")
    assert (run["experiment_id"], run["run_name"]) == ("7", "model")
    first, second = server.of("runs/log-batch")
    assert {each["key"]: each["value"] for each in first["params"]} == {
        "update": "sequential",
        "learner": "mlp",
        "hidden": "[8]",
        "members.0": '{"optimizer": "sgd"}',
        "records.features": '["a", "b"]',
        "records.label": "y",
    }
    assert second["params"] == []
    assert {each["key"]: each["value"] for each in second["metrics"]} == {
        "rows": 20,
        "prequential.window.accuracy": 0.5,
        "members.0.weight": 0.25,
        "seconds.learn": 0.5,
        "mini_batch": 4,
        "records.received": 6,
        "records.trained": 4,
        "records.skipped": 0,
        "records.rejected": 2,
        "records.filtered": 0,
    }
    at = round(START.timestamp() * 1000) + 10_000
    assert {(each["step"], each["timestamp"]) for each in second["metrics"]} == {(2, at)}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"USERNAME": "me"}, None),
        ({"USERNAME": "me", "PASSWORD": "pä"}, f"Basic {base64.b64encode('me:pä'.encode()).decode()}"),
        ({"USERNAME": "me", "PASSWORD": "p", "TOKEN": "t"}, "Bearer t"),
    ],
)
def test_password_and_token_are_mlflows_own_variables(
    server: Server,
    tmp_path: Path,
    variables: dict[str, str],
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    written(MLflowSink(server.uri, "fraud", tmp_path), [0])
    assert server.authorization == expected


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (502, b"<html>", ConnectionError, r"the server responds 502 Bad Gateway"),
        (200, b"<html>", ConnectionError, r"cannot read the response: Expecting value"),
        (500, b'{"error_code": "INTERNAL_ERROR", "message": "full"}', ConnectionError, "full"),
        (404, json.dumps(ABSENT).encode(), LookupError, r"no such .*; to begin another run delete .*mlflow-"),
    ],
)
def test_a_version_that_fails_is_written_again(
    server: Server, tmp_path: Path, status: int, body: bytes, kind: type[Exception], message: str
) -> None:
    sink = MLflowSink(server.uri, "fraud", tmp_path)
    written(sink, [0])
    server.failing = status, body
    with pytest.raises(kind, match=f"(?s)^{message}"):
        sink.write(manifest(1, 10))
    assert sink.position() == 0
    sink.close()  # raises nothing
    server.failing = None
    written(sink, [10, 20])
    assert server.steps() == [0, 1, 2]


def test_a_server_that_is_down_delays_no_learning_and_gets_the_versions_later(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sinks, "POLL", 0.005)
    monkeypatch.setattr(sinks, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(sinks, "LONGEST_WAIT", 0.02)
    server.failing = 503, b""
    model = GrowingModel(tmp_path / "model", classes=[0, 1, 2])
    with caplog.at_level("INFO", "streaming_nn"):
        running = Sinks(model.log, [MLflowSink(server.uri, "fraud", model.log.directory)])
        model.learn(2)
        until(lambda: bool(caplog.messages))
        server.failing = None
        until(lambda: server.steps() == [0])
        running.stop(drain=5)
    assert server.steps() == [0, 2]
    assert caplog.messages == [
        f"mlflow {server.uri}: ConnectionError: the server responds 503 Service Unavailable; "
        "retrying, learning continues",
        f"mlflow {server.uri}: resumed after version 0",
    ]


@pytest.mark.parametrize("uri", ["127.0.0.1:5000", "sqlite:///a.db", "http://me:secret@host", "http://"])
def test_the_setting_is_a_url_of_a_server(uri: str) -> None:
    with pytest.raises(ValueError, match="must be a URL without a user"):
        Settings.model_validate({"metrics": {"mlflow": uri}})


def test_a_tag_is_an_alias_unless_mlflow_reserves_it() -> None:
    assert [alias_of(tag) for tag in ("production", "2026-01.b", "v1.0", "vote")] == [
        "production",
        "2026-01-b",
        "v1-0",
        "vote",
    ]
    for tag in ("Latest", "v1", "V22"):
        with pytest.raises(ValueError, match="which MLflow reserves"):
            alias_of(tag)
