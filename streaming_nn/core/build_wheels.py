"""Build the wheels of all platforms on one machine: `python -m streaming_nn.core.build_wheels DIRECTORY`.

It needs a checkout, pip, and `ziglang`, which compiles the core for each platform. All else in a wheel is the
same on each of them, and is taken from the wheel that pip builds for this machine.
"""

import re
import sys
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from shutil import copy, copytree, ignore_patterns
from subprocess import run
from tempfile import TemporaryDirectory
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile

from streaming_nn.core import build_backend

ROOT = build_backend.FOLDER.parent.parent
SOURCE = ("pyproject.toml", "README.md", "LICENSE", "streaming_nn", "producers")  # of a wheel
MUSL, MACOS = "musllinux_1_2", "macosx_11_0"


class Platform(NamedTuple):
    """A CPU and an operating system."""

    machine: str  # of build_backend.VARIANTS
    system: str  # as sys.platform
    target: str  # as zig calls it

    @property
    def tags(self) -> list[str]:
        """The tags of the wheel. On Linux the core links nothing, so one library serves glibc and musl."""
        systems = (MACOS,) if self.system == "darwin" else (build_backend.GLIBC, MUSL)
        return [f"{system}_{self.machine}" for system in systems]


LINUX_AARCH64 = Platform("aarch64", "linux", "aarch64-linux-gnu.2.17")
PLATFORMS = (
    Platform("x86_64", "linux", "x86_64-linux-gnu.2.17"),
    LINUX_AARCH64,
    Platform("x86_64", "darwin", "x86_64-macos.11.0"),
    Platform("arm64", "darwin", "aarch64-macos.11.0"),
)


def main(directory: Path) -> list[Path]:
    """Build a wheel for each platform in a directory; return their paths.

    Errors: CalledProcessError if pip or zig fails.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        wheel = build_here(Path(folder))
        return [build_for(platform, wheel, directory) for platform in PLATFORMS]


def build_here(folder: Path) -> Path:
    """Build the wheel of this machine from a copy of the checkout, without what was built in it before."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCE:
        if (ROOT / name).is_dir():
            copytree(ROOT / name, source / name, ignore=ignore_patterns("__pycache__", "*.so"))
        else:
            copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps"]
    run([*pip, "-w", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def build_for(platform: Platform, wheel: Path, directory: Path) -> Path:
    """Return a wheel for a platform: another one's, with its core and tags."""
    stem = "-".join(wheel.name.split("-")[:2])  # name and version
    with ZipFile(wheel) as given:
        files = {name: given.read(name) for name in given.namelist() if not name.endswith((".so", "/RECORD"))}
    with TemporaryDirectory() as folder:
        for variant, command in commands(platform, Path(folder)).items():
            run(command, check=True)
            library = build_backend.library(variant, Path(folder))
            files[f"streaming_nn/core/{library.name}"] = library.read_bytes()
    about, listed = f"{stem}.dist-info/WHEEL", f"{stem}.dist-info/RECORD"
    kept = re.sub(r"(?m)^(Tag|Root-Is-Purelib): .*\n", "", files[about].decode()).rstrip()
    files[about] = "\n".join(
        [kept, "Root-Is-Purelib: false", *(f"Tag: py3-none-{tag}" for tag in platform.tags), ""]
    ).encode()
    files[listed] = record(files, listed)
    path = directory / f"{stem}-py3-none-{'.'.join(platform.tags)}.whl"
    with ZipFile(path, "w", ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


def commands(platform: Platform, folder: Path) -> dict[str, list[str]]:
    """Return the command that compiles each variant of the core into a folder."""
    zig = [*build_backend.ZIG_CC, "-target", platform.target]
    return {
        variant: build_backend.command(zig, flags, build_backend.library(variant, folder), platform.system)
        for variant, flags in build_backend.variants(platform.machine).items()
    }


def record(files: dict[str, bytes], own_name: str) -> bytes:
    """Return a wheel's list of files, each with its hash and size; its own line has neither."""
    lines = []
    for name, content in files.items():
        digest = urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}\n")
    return "".join([*lines, f"{own_name},,\n"]).encode()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m streaming_nn.core.build_wheels DIRECTORY")
    for built in main(Path(sys.argv[1])):
        print(built)
