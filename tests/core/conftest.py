"""The core is compiled again where its sources are newer than its libraries."""

from streaming_nn.core import build_backend


def pytest_configure() -> None:
    sources = [*build_backend.FOLDER.glob("*.[ch]"), build_backend.FOLDER / "build_backend.py"]
    newest = max(path.stat().st_mtime for path in sources)
    libraries = [build_backend.library(variant) for variant in build_backend.variants()]
    if not all(path.exists() and path.stat().st_mtime > newest for path in libraries):
        build_backend.compile_core()
