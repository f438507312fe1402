"""What `pip install` brings, far from this checkout: all of both packages, and a demo that works with it."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]

PACKAGES = ("streaming_nn", "producers")
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", *PACKAGES)  # as in docker-compose.yml
PATHS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "SPARK_HOME")  # by which another Python's modules come in

# imports every module there is (one needs the extra onnx), and prints from which files they came
EVERYTHING = """
import importlib, json, pkgutil, sys
import streaming_nn, producers
for package in (streaming_nn, producers):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        try:
            importlib.import_module(module.name)
        except (ModuleNotFoundError, ValueError) as error:
            if "pip install 'streaming_nn[" not in str(error):  # an extra that is not installed here
                raise
print(json.dumps({name: getattr(module, "__file__", None) for name, module in sys.modules.items()}))
"""


class Installed:
    """A Python environment that holds what a user's would, and an empty folder to run it in."""

    def __init__(self, folder: Path) -> None:
        self.home, self.bin, self.wheels = folder / "empty", folder / "venv" / "bin", folder / "wheels"
        self.home.mkdir()
        self.environment = {name: value for name, value in os.environ.items() if name not in PATHS}
        # an environment that is made in one is made of what that one was made of
        subprocess.run([sys.executable, "-m", "venv", self.bin.parent], check=True)

    def run(self, program: str, *words: str | Path) -> str:
        ran = subprocess.run(
            [self.bin / program, *words],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        return ran.stdout

    @property
    def wheel(self) -> Path:
        (wheel,) = self.wheels.iterdir()
        return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    installed, source = Installed(folder), folder / "source"
    source.mkdir()
    for name in BUILT_FROM:  # a copy: setuptools builds in its sources, and takes in what it left there
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    installed.run("python", "-m", "pip", "wheel", "--no-deps", "--wheel-dir", installed.wheels, source)
    installed.run("python", "-m", "pip", "install", "--no-compile", f"{installed.wheel}[demo,onnx]")
    return installed


def files_of(package: str) -> set[str]:
    """Name what of a package is in the checkout, its data and its mark of being typed among it."""
    found = (path for path in (ROOT / package).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts}


def test_the_wheel_holds_all_of_both_packages_and_nothing_else(installed: Installed) -> None:
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    wanted = files_of("streaming_nn") | files_of("producers")
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert {name.rpartition(".")[2] for name in wanted} >= {"py", "pyi", "sha256", "properties", "typed"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_everything_is_imported_from_the_installation(installed: Installed) -> None:
    came: dict[str, Any] = json.loads(installed.run("python", "-c", EVERYTHING).splitlines()[-1])
    ours = {name: Path(path) for name, path in came.items() if name.partition(".")[0] in PACKAGES}
    assert len(ours) > 50, "modules were not found"
    assert {name: path for name, path in ours.items() if not path.is_relative_to(installed.bin.parent)} == {}
    assert [path for path in came.values() if path and Path(path).is_relative_to(ROOT)] == []


def test_the_demo_runs_from_an_empty_folder(installed: Installed) -> None:
    printed = installed.run("streaming-nn", "demo", "--seconds", "10", "--json")
    summary = json.loads(printed.splitlines()[-1])
    assert summary["accounted"] is True
    assert summary["verify"] == "identical"
    assert summary["produced_labeled"] > 5000
    assert list(installed.home.iterdir()) == []
