"""The cache folder of this machine: jars, compiled classes, indexes of logs. All of it can be deleted."""

import os
from pathlib import Path


def folder() -> Path:
    """Return the cache folder: STREAMING_NN_CACHE, else streaming_nn in XDG_CACHE_HOME or ~/.cache."""
    chosen = os.environ.get("STREAMING_NN_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "streaming_nn"
