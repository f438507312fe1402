"""Compile the core again if its sources are newer; CORE_LIBRARIES names a directory of other libraries."""

import os
from pathlib import Path

from streaming_nn.core import build_backend, library


def refresh() -> None:
    if os.environ.get("CORE_LIBRARIES"):
        library.FOLDER = Path(os.environ["CORE_LIBRARIES"])
        return
    sources = [*build_backend.FOLDER.glob("*.[ch]"), build_backend.FOLDER / "build_backend.py"]
    newest = max(path.stat().st_mtime for path in sources)
    libraries = [build_backend.library(variant) for variant in build_backend.variants()]
    if not all(path.exists() and path.stat().st_mtime > newest for path in libraries):
        build_backend.compile_core()
