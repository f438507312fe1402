"""The build backend: compilers, tags; whole builds in the nightly tier."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from paths import ROOT

from streaming_nn.core import build_backend
from streaming_nn.core.library import ARITHMETIC

pytestmark = pytest.mark.commit

BUILT_FROM = ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "streaming_nn", "producers")


def program(folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("names", "variable", "found"),
    [
        ((), None, None),
        (("cc", "gcc", "clang"), None, ["cc"]),
        (("clang",), None, ["clang"]),
        (("cc",), "zig cc -target x86_64-linux-gnu", ["zig", "cc", "-target", "x86_64-linux-gnu"]),
        (("cc",), "", ["cc"]),
        (("make", "tcc"), None, None),
    ],
)
def test_the_compiler_is_the_variable_or_the_first_on_the_path(
    names: tuple[str, ...],
    variable: str | None,
    found: list[str] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ls", *names):
        program(tmp_path / "bin", name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CC", raising=False)
    if variable is not None:
        monkeypatch.setenv("CC", variable)
    assert build_backend.compiler() == found


@pytest.mark.parametrize("hook", ["wheel", "editable", "sdist"])
def test_zig_is_required_only_where_something_is_compiled_without_a_compiler(
    hook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    required = getattr(build_backend, f"get_requires_for_build_{hook}")
    setuptools = SimpleNamespace(**{required.__name__: lambda settings: ["what setuptools requires"]})
    monkeypatch.setattr(build_backend, "_setuptools", lambda: setuptools)
    monkeypatch.setenv("CC", "a compiler")
    assert required() == ["what setuptools requires"]
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (build_backend.ZIG in required()) == (hook != "sdist")


@pytest.mark.parametrize(
    ("system", "libc", "tag"),
    [
        ("linux-x86_64", "glibc", "manylinux_2_17_x86_64"),
        ("linux-aarch64", "glibc", "manylinux_2_17_aarch64"),
        ("linux-x86_64", "", "linux_x86_64"),
        ("macosx-11.0-arm64", "", "macosx_11_0_arm64"),
    ],
)
def test_the_platform_of_a_wheel(system: str, libc: str, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_platform", lambda: system)
    monkeypatch.setattr(build_backend.platform, "libc_ver", lambda: (libc, ""))
    assert build_backend.platform_tag() == tag


def test_every_machine_has_a_variant_for_any_of_its_cpus() -> None:
    for machine in ("x86_64", "aarch64", "arm64", "riscv64"):
        assert list(build_backend.variants(machine))[-1] == "baseline"


def test_nothing_beside_the_c_library_of_the_process_is_needed() -> None:
    if sys.platform != "linux":
        pytest.skip("only ELF is read")
    for variant in build_backend.variants():
        content = build_backend.library(variant).read_bytes()
        assert b"GLIBC_" not in content
        assert b"libm.so" not in content


def copy_of_the_source(folder: Path) -> Path:
    """Return a copy of what is committed or added, without what was built in the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *BUILT_FROM],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().splitlines():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((ROOT / name).read_bytes())
    return folder


def environment(folder: Path, with_compiler: bool) -> dict[str, str]:
    """Return an environment whose PATH has what pip needs, and a C compiler or none."""
    given = {name: value for name, value in os.environ.items() if name not in ("CC", "PYTHONPATH")}
    if not with_compiler:
        (folder / "bin").mkdir()
        for name in ("git", "sh"):
            (folder / "bin" / name).symlink_to(f"/usr/bin/{name}")
        given["PATH"] = str(folder / "bin")
    return given


LOADS = """
from streaming_nn.core import library
core = library.load()
print(core._name, core.core_arithmetic())
"""


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("with_compiler", [True, False], ids=["compiler", "zig"])
@pytest.mark.parametrize("editable", [True, False], ids=["editable", "wheel"])
def test_pip_installs_a_core_that_loads(with_compiler: bool, editable: bool, tmp_path: Path) -> None:
    source, venv = copy_of_the_source(tmp_path / "source"), tmp_path / "venv"
    environ = environment(tmp_path, with_compiler)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    install = [venv / "bin" / "python", "-m", "pip", "install", "-q", "--no-deps", "numpy"]
    subprocess.run(install, env=environ, check=True)
    what = ["-e", source] if editable else [source]
    subprocess.run([*install[:-1], *what], env=environ, check=True)
    loaded = subprocess.run(
        [venv / "bin" / "python", "-c", LOADS], env=environ, cwd=tmp_path, capture_output=True, check=True
    )
    path, arithmetic = loaded.stdout.split()
    assert int(arithmetic) == ARITHMETIC
    assert Path(path.decode()).is_relative_to(source if editable else venv)


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_wheel_from_the_source_distribution_is_for_any_python_3_of_this_platform(tmp_path: Path) -> None:
    source, built = copy_of_the_source(tmp_path / "source"), tmp_path / "built"
    build_backend.library("baseline", source / "streaming_nn" / "core").write_bytes(b"of another machine")
    code = "import build_backend, sys; print(getattr(build_backend, sys.argv[1])(sys.argv[2]))"
    environ = {**os.environ, "PYTHONPATH": str(source / "streaming_nn" / "core")}
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = venv / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "setuptools>=77"], check=True)
    built.mkdir()
    subprocess.run([python, "-c", code, "build_sdist", built], cwd=source, env=environ, check=True)
    (sdist,) = built.iterdir()
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert not [name for name in names if name.endswith(".so")]
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    subprocess.run([python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", built, unpacked], check=True)
    (wheel,) = built.glob("*.whl")
    assert wheel.stem.endswith(f"-py3-none-{build_backend.platform_tag()}")
    held = zipfile.ZipFile(wheel).namelist()
    assert {
        f"streaming_nn/core/{path.name}" for path in map(build_backend.library, build_backend.variants())
    } <= {*held}
