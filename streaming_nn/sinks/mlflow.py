"""Metrics as a run of an MLflow tracking server.

Importing MLflow's client would take 3 s of CPU and 90 MB in a job that learns, so this uses the REST API:
https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

import base64
import hashlib
import json
import os
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from streaming_nn.versions import atomic_files
from streaming_nn.versions.diff import flat_numbers
from streaming_nn.versions.version import Manifest

EVERY = 10.0  # seconds between two points of a metric: MLflow's pages get slow with many
PATIENCE = 10.0  # seconds that the server may take before a request fails, to be retried later
SPANS = {"fading", "cumulative", "per_class", "per_label", "per_target"}  # of metrics, that are left out
LONGEST = 6000  # characters of a parameter
REFUSED = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE"}  # such as of a deleted run


class MLflowSink:
    """Logs the metrics of at most one version in 10 seconds, and those of the last one, to the model's run.

    A restart resumes the run. A crash may log a version again, which MLflow recognizes by its step and time.
    """

    def __init__(self, uri: str, experiment: str, model: str | Path) -> None:
        self.name = f"mlflow {uri}"
        self._run = Run(uri, experiment, model)
        self._number: int | None = None  # the last version that was written
        self._at = 0.0  # when the last one that was logged was committed
        self._pending: Manifest | None = None  # the last version, if it was not logged
        self._counts = Counter[str]()  # of records since the last one that was logged

    def position(self) -> int:
        """Return the last version that was written; in a new process the last one that was logged."""
        if self._number is None:
            state = self._run.state()
            self._number, self._at = state["position"], state["at"]
        return self._number

    def write(self, manifest: Manifest) -> None:
        """Log the version if the last one is 10 seconds older. ConnectionError, LookupError: it was not."""
        if manifest.number <= self.position():
            return
        counts = Counter(self._counts)  # not the sum, which drops zeros
        counts.update(manifest.counts)
        self._pending = manifest
        if abs((manifest.time or 0.0) - self._at) >= EVERY:  # a machine's clock may be set back
            self._log(manifest, counts)
        else:
            self._counts = counts
        self._number = manifest.number

    def _log(self, manifest: Manifest, counts: Counter[str]) -> None:
        at = manifest.time or self._at  # of a version that was lost
        self._run.log(manifest, at, metrics(manifest, counts))
        self._at, self._pending, self._counts = at, None, Counter()

    def close(self) -> None:
        """Log the last version, and end the run; what fails is left to the next process."""
        with suppress(ConnectionError, LookupError, OSError):
            if self._pending is not None:
                self._log(self._pending, self._counts)
            self._run.end()


class Run:
    """A model's run in an experiment of a server; a file in the model directory has its id and the position.

    Every method that sends raises ConnectionError if the server does not respond, LookupError if it refuses.
    """

    def __init__(self, uri: str, experiment: str, model: str | Path) -> None:
        key = hashlib.sha256(f"{uri} {experiment}".encode()).hexdigest()[:12]
        self._file = Path(model) / "sinks" / f"mlflow-{key}.json"
        self.uri, self.experiment, self.model = uri, experiment, Path(model)
        self._api = f"{uri.rstrip('/')}/api/2.0/mlflow/"
        self._is_running = False  # whether its status is that of a run under way

    def state(self) -> dict[str, Any]:
        """Return its id (None: there is none), the last version that was logged, and its time."""
        try:
            state: dict[str, Any] = json.loads(atomic_files.read(self._file))
        except FileNotFoundError:
            return {"run": None, "position": -1, "at": 0.0}
        return state

    def identify(self, at: float) -> str:
        """Return its id; create it, as of this time, and its experiment, if they do not exist."""
        if (run := self.state()["run"]) is not None:
            return str(run)
        try:
            found = self._get(f"experiments/get-by-name?experiment_name={quote(self.experiment, safe='')}")
            experiment = found["experiment"]["experiment_id"]
        except LookupError:
            experiment = self._post("experiments/create", name=self.experiment)["experiment_id"]
        model = self.model.absolute()
        tags = _pairs({"streaming_nn.model": str(model), "mlflow.source.name": "streaming-nn train"})
        start = {"start_time": round(at * 1000), "run_name": model.name, "tags": tags}
        run = str(self._post("runs/create", experiment_id=experiment, **start)["run"]["info"]["run_id"])
        self._save(run, -1, 0.0)
        return run

    def log(self, manifest: Manifest, at: float, values: dict[str, float]) -> None:
        """Log a version's metrics; with the first ones, the learner's options as parameters."""
        run, time_ms = self.identify(at), round(at * 1000)
        if not self._is_running:
            self._post("runs/update", run_id=run, status="RUNNING")
            self._is_running = True
        points = [
            {"key": name, "value": value, "timestamp": time_ms, "step": manifest.number}
            for name, value in values.items()
        ]
        first = self.state()["position"] < 0
        params = _pairs(parameters(manifest)) if first else []
        self._post("runs/log-batch", run_id=run, metrics=points, params=params)
        self._save(run, manifest.number, at)

    def end(self) -> None:
        """Set its status to finished."""
        if self._is_running:
            run, now = self.state()["run"], round(time.time() * 1000)
            self._post("runs/update", run_id=run, status="FINISHED", end_time=now)
            self._is_running = False

    def _save(self, run: str, number: int, at: float) -> None:
        atomic_files.put(self._file, json.dumps({"run": run, "position": number, "at": at}).encode())

    def _get(self, path: str) -> Any:
        return self._send(Request(self._api + path))

    def _post(self, path: str, **values: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        return self._send(Request(self._api + path, json.dumps(values).encode(), headers))

    def _send(self, request: Request) -> Any:
        if authorization := _authorization():
            request.add_header("Authorization", authorization)
        try:
            with urlopen(request, timeout=PATIENCE) as response:
                return json.load(response)
        except HTTPError as error:
            code, message = _reason(error)
            if code in REFUSED:
                raise LookupError(f"{message}; to begin another run delete {self._file}") from None
            raise ConnectionError(message) from None
        except URLError as error:
            raise ConnectionError(f"cannot reach the server: {error.reason}") from None
        except (OSError, ValueError) as error:
            raise ConnectionError(f"cannot read the response: {error}") from None


def metrics(manifest: Manifest, counts: Counter[str]) -> dict[str, float]:
    """Return a version's figures of the window, by the names that `versions diff` has, and these counts."""
    found = dict(flat_numbers(manifest.metrics, without=SPANS))
    for i, member in enumerate(manifest.metrics.get("members", ())):
        found[f"members.{i}.weight"] = member["weight"]
    found |= dict(flat_numbers(manifest.seconds, "seconds."))
    found |= {f"records.{name}": number for name, number in counts.items()}
    if (size := manifest.learner.get("mini_batch")) is not None:
        found["mini_batch"] = size
    return found


def parameters(manifest: Manifest) -> dict[str, str]:
    """Return the learner's options, and the fields of its rows, as strings."""
    learner = {
        name: value for name, value in manifest.learner.items() if name not in ("mini_batch", "members")
    }
    members = {f"members.{i}": member for i, member in enumerate(manifest.learner.get("members", ()))}
    fields = {f"records.{name}": manifest.schema.get(name) for name in ("features", "label")}
    options = {"update": manifest.update} | learner | members | fields
    return {name: _text(value)[:LONGEST] for name, value in options.items() if value is not None}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _pairs(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": name, "value": value} for name, value in values.items()]


def _reason(error: HTTPError) -> tuple[str, str]:
    """Return the code and the message of an error of the server; of a proxy, its status."""
    try:
        values = json.load(error)
        return str(values["error_code"]), str(values.get("message"))
    except (OSError, ValueError, TypeError, KeyError):
        return "", f"the server responds {error.code} {error.reason}"


def _authorization() -> str:
    """Return the header of MLflow's own variables; "" without them."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return f"Bearer {token}"
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    if user is None or password is None:
        return ""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
