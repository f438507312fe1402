"""Prometheus' promtool: on PATH, or Debian's package in the cache folder."""

import os
import subprocess
from pathlib import Path
from shutil import rmtree, which

from benchmarks import emulator
from streaming_nn import cache


def find() -> str | None:
    """Return its path; None: there is none. With TOOLS_REQUIRED, fetch it (20 MB) first, by apt-get."""
    fetched = cache.folder() / "promtool"
    path = os.pathsep.join([os.environ.get("PATH", ""), str(fetched / "usr" / "bin")])
    if which("promtool", path=path) is None and os.environ.get("TOOLS_REQUIRED"):
        _fetch(fetched)
    return which("promtool", path=path)


def _fetch(to: Path) -> None:
    folder = to.with_name(f"promtool-{os.getpid()}")
    folder.mkdir(parents=True)
    try:
        download = ["download", f"prometheus:{emulator.architecture()}"]
        subprocess.run([*emulator.apt_get(folder / "apt"), *download], cwd=folder, check=True)
        (package,) = folder.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
        package.unlink()
        rmtree(folder / "apt")
        folder.rename(to)
    finally:
        rmtree(folder, ignore_errors=True)
