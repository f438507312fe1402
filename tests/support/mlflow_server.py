"""A local MLflow tracking server, of an installation of its own: its requirements differ from ours."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen


def find() -> str | None:
    """Return the path of the `mlflow` that .ci/nightly installs, with its server; None: there is none."""
    return os.environ.get("MLFLOW_SERVER")


@contextmanager
def serving(directory: Path, timeout: float = 120) -> Iterator[str]:
    """Serve on 127.0.0.1, with all files in `directory`, in this block; yield the server's address."""
    server = find()
    assert server is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = ["--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "artifacts"]
    command = [server, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *files]
    home = {"HOME": str(directory), "PATH": os.environ["PATH"]}
    off = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, env=home | off, stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, time.monotonic() + timeout)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _wait(address: str, process: subprocess.Popen[bytes], deadline: float) -> None:
    while True:
        assert process.poll() is None, "see server.log"
        assert time.monotonic() < deadline, "see server.log"
        try:
            with urlopen(address, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.1)
