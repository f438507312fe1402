import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from streaming_nn import __version__
from streaming_nn.versions.environment import THREADS, describe, differences, writer

pytestmark = pytest.mark.commit


def test_describe_holds_what_the_bits_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREADS:  # a Spark session that another test has started leaves some
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    it = describe()
    assert json.loads(json.dumps(it)) == it
    assert it["python"] == platform.python_version()
    assert it["numpy"] == np.__version__
    assert it["streaming_nn"] == __version__
    assert it["blas"]["name"]
    assert it["cpu"]
    assert it["threads"] == {"OPENBLAS_NUM_THREADS": "1"}
    assert describe() == it


def test_describe_holds_the_kernel_that_openblas_uses() -> None:
    if not describe()["blas"]["kernel"]:
        pytest.skip("this NumPy does not bundle OpenBLAS")
    script = "from streaming_nn.versions.environment import describe; print(describe()['blas']['kernel'])"
    env = os.environ | {"OPENBLAS_CORETYPE": "Nehalem"}
    out = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == (
        "Nehalem" if platform.machine() == "x86_64" else describe()["blas"]["kernel"]
    )


def test_describe_does_not_import_spark() -> None:
    imports = "import sys; from streaming_nn.versions.environment import describe"
    script = f"{imports}; describe(); print('pyspark' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_differences_are_by_key() -> None:
    a = {"cpu": "x", "numpy": "2.1", "threads": {}}
    assert differences(a, a) == {}
    assert differences(a, {"cpu": "y", "numpy": "2.1"}) == {"cpu": ("x", "y"), "threads": ({}, None)}


def test_writer_has_host_process_and_run() -> None:
    assert writer("blue") == {"host": platform.node(), "pid": os.getpid(), "run": "blue"}
