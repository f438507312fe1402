"""What the bits of a version depend on: the same wheels, kernel and threads give the same bits."""

import contextlib
import ctypes
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

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
)
KERNELS = ("OPENBLAS_CORETYPE", "MKL_CBWR", "NPY_DISABLE_CPU_FEATURES")


def describe() -> dict[str, Any]:
    """Return Python, NumPy, its BLAS, the CPU, settings of threads and kernels, PySpark and streaming_nn."""
    return _fixed() | {
        "threads": {name: os.environ[name] for name in THREADS if name in os.environ},
        "kernels": {name: os.environ[name] for name in KERNELS if name in os.environ},
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


@functools.cache
def _fixed() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "numpy": np.__version__,
        "blas": _blas(),
        "cpu": _cpu(),
        "cpu_features": _cpu_features(),
        "pyspark": _installed("pyspark"),
        "streaming_nn": __version__,
    }


def _blas() -> dict[str, str]:
    config: Any = np.show_config(mode="dicts")
    blas = config.get("Build Dependencies", {}).get("blas", {}) if config else {}
    return {"name": str(blas.get("name", "")), "version": str(blas.get("version", "")), "kernel": _kernel()}


def _kernel() -> str:
    """Return the kernel that NumPy's OpenBLAS chose for this CPU, which decides the bits; "" if unknown."""
    for library in Path(np.__file__).parent.parent.glob("numpy.libs/*openblas*"):
        with contextlib.suppress(OSError, AttributeError):
            corename = ctypes.CDLL(str(library)).scipy_openblas_get_corename64_
            corename.restype = ctypes.c_char_p
            return str(corename().decode())
    return ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "CPU part")))
    return next(models, platform.processor())


def _cpu_features() -> list[str]:
    """Return the features by which NumPy dispatches and OpenBLAS chooses its kernel."""
    config: Any = np.show_config(mode="dicts")
    return list(config.get("SIMD Extensions", {}).get("found", [])) if config else []


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
