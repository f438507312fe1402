"""Prometheus' promtool: on PATH, or Debian's package in the cache folder."""

import os
import subprocess
from pathlib import Path
from shutil import rmtree, which

from streaming_nn.kafka.jars import cache


def find() -> str | None:
    """Return its path; None: there is none. With TOOLS_REQUIRED, fetch it (20 MB) by apt-get first."""
    fetched = cache() / "promtool"
    path = os.pathsep.join([os.environ.get("PATH", ""), str(fetched / "usr" / "bin")])
    if which("promtool", path=path) is None and os.environ.get("TOOLS_REQUIRED"):
        _fetch(fetched)
    return which("promtool", path=path)


def _fetch(to: Path) -> None:
    folder = to.with_name(f"promtool-{os.getpid()}")
    folder.mkdir(parents=True)
    try:
        subprocess.run(["apt-get", "-q", "download", "prometheus"], cwd=folder, check=True)
        (package,) = folder.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
        package.unlink()
        folder.rename(to)
    finally:
        rmtree(folder, ignore_errors=True)
