import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from streaming_nn import __version__
from streaming_nn.versions.environment import describe, differences, writer

pytestmark = pytest.mark.commit


def test_describe_holds_where_a_version_was_written() -> None:
    it = describe()
    assert json.loads(json.dumps(it)) == it
    assert it["python"] == platform.python_version()
    assert it["numpy"] == np.__version__
    assert it["streaming_nn"] == __version__
    assert it["cpu"]
    it["python"] = "another"
    assert describe()["python"] == platform.python_version()


def test_describe_does_not_import_spark() -> None:
    imports = "import sys; from streaming_nn.versions.environment import describe"
    script = f"{imports}; describe(); print('pyspark' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_differences_are_by_key() -> None:
    a = {"cpu": "x", "numpy": "2.1", "spark": {}}
    assert differences(a, a) == {}
    assert differences(a, {"cpu": "y", "numpy": "2.1"}) == {"cpu": ("x", "y"), "spark": ({}, None)}


def test_writer_has_host_process_and_run() -> None:
    assert writer("blue") == {"host": platform.node(), "pid": os.getpid(), "run": "blue"}
