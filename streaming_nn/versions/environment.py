"""Where and when a version was written: no bit depends on it, a difference may explain a failure."""

import functools
import os
import platform
import socket
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from streaming_nn import __version__


def describe() -> dict[str, Any]:
    """Return Python, platform, CPU, NumPy, PySpark and streaming_nn."""
    return dict(_described())


@functools.cache
def _described() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "numpy": np.__version__,
        "pyspark": _installed("pyspark"),
        "streaming_nn": __version__,
    }


def now() -> str:
    """Return the time as manifests hold it: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def writer(run: str) -> dict[str, Any]:
    """Return the writer's host, process and run."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "run": run}


def differences(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what differs between two descriptions, by key: (in a, in b); None where one lacks the key."""
    return {key: (a.get(key), b.get(key)) for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "CPU part")))
    return next(models, platform.processor())


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
