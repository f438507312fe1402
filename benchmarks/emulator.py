"""An AArch64 machine in a folder: Debian's Python for it, and NumPy's own wheels, run by Debian's qemu.

apt and dpkg are needed, and no rights: package lists and packages are kept in the folder, and nothing is
installed.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import copytree, ignore_patterns, rmtree, which

from streaming_nn import cache
from streaming_nn.core.build_wheels import LINUX_AARCH64, ROOT, commands

KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCE = f"deb [signed-by={KEYS}] http://deb.debian.org/debian bookworm main"
QEMU = "qemu-user-static"
PACKAGES = ("python3-minimal", "libpython3.11-stdlib", "libstdc++6")
PYTHON = "3.11"  # bookworm's
WHEELS = ("safetensors", "pydantic_core", "typing_extensions")  # what a model directory needs beside NumPy
TAGS = ("manylinux_2_17_aarch64", "manylinux_2_28_aarch64")
NUMPY = {"newest": "numpy", "oldest": "numpy==2.0.*"}  # of what pyproject.toml allows


def home() -> Path:
    """Return the folder of the machine; it does not exist before `fetch`."""
    return cache.folder() / "aarch64"


def emulator(machine: str) -> str | None:
    """Return the path of qemu for a machine: on PATH, or fetched; None: there is none."""
    fetched = str(home() / "qemu" / "usr" / "bin")
    path = os.pathsep.join([os.environ.get("PATH", ""), fetched])
    return which(f"qemu-{machine}", path=path) or which(f"qemu-{machine}-static", path=path)


def fetch() -> None:
    """Fetch the machine (80 MB) unless it is there. Errors: CalledProcessError, where apt or pip fails."""
    if home().exists():
        return
    folder = home().with_name(f"aarch64-{os.getpid()}")
    try:
        _unpack(folder)
        for name, numpy in NUMPY.items():
            tags = [word for tag in TAGS for word in ("--platform", tag)]
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps"]
            to = ["--target", str(folder / name), "--only-binary=:all:", "--python-version", PYTHON]
            subprocess.run([*pip, *to, *tags, numpy, *WHEELS], check=True)
        folder.rename(home())
    finally:
        rmtree(folder, ignore_errors=True)


def architecture() -> str:
    """Return Debian's name of this machine's architecture."""
    here = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True)
    return here.stdout.strip()


def apt_get(apt: Path) -> list[str]:
    """Return the command `apt-get` for AArch64 and this machine, with its lists in a new folder."""
    for name in ("lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True)
    (apt / "sources.list").write_text(SOURCE)
    (apt / "status").touch()  # nothing is installed yet
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": f"arm64,{architecture()}",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "1",
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": apt / "lists",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
    }
    command = [
        "apt-get",
        "-q",
        "-y",
        *(word for key, value in settings.items() for word in ("-o", f"{key}={value}")),
    ]
    subprocess.run([*command, "update"], check=True, stdout=sys.stderr)
    return command


def _unpack(folder: Path) -> None:
    """Unpack the packages with all that they depend on: qemu, for this machine, apart."""
    apt = folder / "apt"
    install = ["install", "--download-only", "--no-install-recommends", f"{QEMU}:{architecture()}", *PACKAGES]
    subprocess.run([*apt_get(apt), *install], check=True, stdout=sys.stderr)
    for package in (apt / "cache" / "archives").glob("*.deb"):
        to = folder / ("qemu" if package.name.startswith(QEMU) else "root")
        subprocess.run(["dpkg-deb", "-x", package, to], check=True)
    rmtree(apt)


def packages(folder: Path) -> Path:
    """Write the package with a core for the machine, compiled by zig, to a folder; return the folder."""
    copytree(ROOT / "streaming_nn", folder / "streaming_nn", ignore=ignore_patterns("__pycache__", "*.so"))
    for command in commands(LINUX_AARCH64, folder / "streaming_nn" / "core").values():
        subprocess.run(command, check=True)
    return folder


def python(words: Sequence[str], numpy: str, *paths: Path) -> str:
    """Run Python on the machine, with one of NUMPY and modules from other paths; return what it prints."""
    qemu = emulator("aarch64")
    if qemu is None:
        raise FileNotFoundError("qemu for AArch64 must be fetched, or on PATH; got none")
    path = os.pathsep.join(map(str, (home() / numpy, *paths)))
    root = home() / "root"
    environment = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.defpath}
    ran = subprocess.run(
        [qemu, "-L", root, root / "usr" / "bin" / f"python{PYTHON}", *words],
        cwd=root,  # Python looks for modules there first
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return ran.stdout
