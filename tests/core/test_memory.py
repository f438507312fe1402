"""The property tests again, in a core that checks its memory accesses and undefined behaviour."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from streaming_nn.core import build_backend

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]

FLAGS = ("-O1", "-g", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
NAMES = ("functions", "product", "networks", "optimizers", "ensemble", "metrics")
TESTS = [f"test_{name}.py" for name in NAMES]


def sanitized(folder: Path) -> dict[str, str]:
    """Build each variant with gcc's sanitizers; return the environment in which they are loaded."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not on PATH")
    for variant, flags in build_backend.variants().items():
        command = build_backend.command([gcc], (*flags, *FLAGS), build_backend.library(variant, folder))
        subprocess.run([each for each in command if each != "-nostdlib"], check=True)
    found = subprocess.run([gcc, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    return os.environ | {
        "CORE_LIBRARIES": str(folder),
        "LD_PRELOAD": found.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
    }


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = sanitized(folder)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_property_tests_read_and_write_no_other_memory(tmp_path: Path) -> None:
    tests = [str(ROOT / "tests" / "core" / name) for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tier", "commit", *tests]
    ran = subprocess.run(
        command, cwd=ROOT, env=sanitized(tmp_path), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert " passed" in ran.stdout


HEAD = """
import ctypes, os, numpy as np
from pathlib import Path
from streaming_nn.core import library
library.FOLDER = Path(os.environ["CORE_LIBRARIES"])
"""
BEYOND_AN_ARRAY = """
core = library.load(None, library.FOLDER)
x, y = np.zeros(4), np.zeros(4)
core.core_function(0, *(ctypes.c_void_p(each.ctypes.data) for each in (x, y)), ctypes.c_long(400))
"""
BETWEEN_PARTS_OF_MEMORY_TO_WORK_IN = """
from streaming_nn.core import networks
shape, kept = networks.Shape((3, 8, 2)), []
make = shape.work
shape.work = lambda rows: kept.append(make(rows)) or kept[-1]
shape.predict(np.zeros(shape.parameters, np.float32), np.zeros((5, 3), np.float32))
kept[-1].tobytes()
"""


@pytest.mark.parametrize(
    ("code", "error"),
    [(BEYOND_AN_ARRAY, "heap-buffer-overflow"), (BETWEEN_PARTS_OF_MEMORY_TO_WORK_IN, "use-after-poison")],
)
def test_an_access_to_other_memory_is_found(tmp_path: Path, code: str, error: str) -> None:
    ran = run([sys.executable, "-c", HEAD + code], tmp_path)
    assert ran.returncode != 0
    assert error in ran.stderr, ran.stderr[-3000:]
