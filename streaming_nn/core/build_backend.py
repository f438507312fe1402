"""The build backend (PEP 517): setuptools, which also gets the compiled core.

A C compiler is taken from `CC` or from PATH; without one, `ziglang` from PyPI is a build requirement.
The libraries are written beside their sources, where an editable installation loads them. The loader
imports this module, so what only a build needs is imported there.
"""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
COMPILERS = ("cc", "gcc", "clang")
ZIG = "ziglang>=0.13"
ZIG_CC = (sys.executable, "-m", "ziglang", "cc")
FLAGS = (
    *(
        "-std=c11",
        "-O3",
        "-g0",  # zig's default is debugging information, with the paths of the build
        "-fPIC",
        "-shared",
        "-fvisibility=hidden",
        "-Wall",
        "-Wno-psabi",
        "-Werror=implicit-function-declaration",
    ),
    "-ffp-contract=off",  # a product and a sum are rounded apart, on every machine: docs/arithmetic.md
    *("-fno-math-errno", "-fno-trapping-math"),  # changes no bits; else few loops are vectorized
)
# on Linux nothing is linked: memcpy and memset come from the C library of the process, whatever its version
LINKED = {"linux": ("-nostdlib",), "darwin": ("-undefined", "dynamic_lookup")}
GLIBC = "manylinux_2_17"  # the oldest that has a Python wheel for AArch64
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
# each variant of the core has the same bits; the loader takes the first one that the CPU can run
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {"avx512": AVX512, "avx2": ("-mavx2",), "baseline": ()},
    "aarch64": {"baseline": ()},
    "arm64": {"baseline": ()},
}

Settings = Mapping[str, Any] | None


def compiler() -> list[str] | None:
    """Return the command of the C compiler; None: there is none."""
    from shlex import split
    from shutil import which

    given = os.environ.get("CC")
    if given:
        return split(given)
    return next(([name] for name in COMPILERS if which(name)), None)


def variants(machine: str | None = None) -> dict[str, tuple[str, ...]]:
    """Return the variants for a CPU (default: this one's), each with its flags; the fastest first."""
    return VARIANTS.get(machine or platform.machine(), {"baseline": ()})


def library(variant: str, folder: Path = FOLDER) -> Path:
    """Return the path of a variant's library."""
    return folder / f"core.{variant}.so"


def sources() -> list[Path]:
    """Return the C files."""
    return sorted(FOLDER.glob("*.c"))


def command(
    compiler: Sequence[str], flags: Sequence[str], output: Path, system: str = sys.platform
) -> list[str]:
    """Return the command that compiles the core for a system."""
    linked = LINKED.get(system, ())
    return [*compiler, *FLAGS, *flags, *map(str, sources()), "-o", str(output), *linked]


def compile_core(folder: Path = FOLDER) -> None:
    """Compile each variant. Errors: CalledProcessError if the compiler fails."""
    from subprocess import run

    for variant, flags in variants().items():
        path = library(variant, folder)
        unfinished = path.with_suffix(f".{os.getpid()}")  # a process that has loaded the old one keeps it
        run(command(compiler() or ZIG_CC, flags, unfinished), check=True)
        unfinished.replace(path)


def _setuptools() -> Any:
    return import_module("setuptools.build_meta")


def _compiler_required() -> list[str]:
    return [] if compiler() else [ZIG]


def platform_tag() -> str:
    """Return the platform for which the wheel is built: of Linux, any with glibc 2.17 or newer."""
    from sysconfig import get_platform

    tag = get_platform().replace("-", "_").replace(".", "_")
    if tag.startswith("linux_") and platform.libc_ver()[0] == "glibc":
        return tag.replace("linux", GLIBC, 1)
    return tag


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """Return what a build requires besides setuptools."""
    return [*_setuptools().get_requires_for_build_wheel(config_settings), *_compiler_required()]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """Return what an editable build requires besides setuptools."""
    return [*_setuptools().get_requires_for_build_editable(config_settings), *_compiler_required()]


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    """Return what a source distribution requires besides setuptools: nothing is compiled."""
    required: list[str] = _setuptools().get_requires_for_build_sdist(config_settings)
    return required


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Settings = None) -> str:
    """Write the metadata of a wheel; return the directory's name."""
    return str(_setuptools().prepare_metadata_for_build_wheel(metadata_directory, config_settings))


def prepare_metadata_for_build_editable(metadata_directory: str, config_settings: Settings = None) -> str:
    """Write the metadata of an editable wheel; return the directory's name."""
    return str(_setuptools().prepare_metadata_for_build_editable(metadata_directory, config_settings))


def build_wheel(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """Compile the core, and build a wheel for this platform and any Python 3; return its name."""
    compile_core()
    settings = {**(config_settings or {}), "--build-option": ["--plat-name", platform_tag()]}
    return str(_setuptools().build_wheel(wheel_directory, settings, metadata_directory))


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """Compile the core beside its sources, and build an editable wheel; return its name."""
    compile_core()
    return str(_setuptools().build_editable(wheel_directory, config_settings, metadata_directory))


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    """Build a source distribution; return its name."""
    return str(_setuptools().build_sdist(sdist_directory, config_settings))


if __name__ == "__main__":
    compile_core()
