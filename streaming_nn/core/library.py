"""The compiled library: of its variants the fastest that this CPU can run (`load`).

It is loaded by ctypes, which releases the GIL while one of its functions runs.
"""

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streaming_nn.core import build_backend

MOST_ROWS = 2**62  # so that no sum of counts overflows
RELEASES = {
    1: "0.1.0",
    2: "0.2.0",
}  # number of docs/arithmetic.md: the first release of streaming_nn that has it
ARITHMETIC = max(RELEASES)  # the number that the library must have
VECTORS = {"baseline": 0, "avx2": 1, "avx512": 2}  # the least that `core_vectors` must return
BUILD = "pip install -e ."  # in a checkout


FOLDER = build_backend.FOLDER  # of the libraries


@lru_cache
def load(variant: str | None = None, folder: Path | None = None) -> ctypes.CDLL:
    """Return the library of a variant; by default of the fastest that this CPU can run.

    Errors: ImportError, one line, if it was not built, or from other sources than these.
    """
    folder = folder or FOLDER
    if variant is None:
        variant = runnable(folder)[0]
    return _open(build_backend.library(variant, folder))


def runnable(folder: Path | None = None) -> list[str]:
    """Return the variants that this CPU can run, the fastest first."""
    widest = load("baseline", folder).core_vectors()
    return [name for name in build_backend.variants() if VECTORS[name] <= widest]


def _open(path: Path) -> ctypes.CDLL:
    try:
        core = ctypes.CDLL(str(path))
    except OSError as error:
        why = f"{path} does not exist" if not path.exists() else str(error)
        raise ImportError(
            f"cannot load the compiled core: {why}; run `pip install -e .` in a checkout"
        ) from None
    found = core.core_arithmetic()
    if found != ARITHMETIC:
        raise ImportError(
            f"the compiled core must have arithmetic {ARITHMETIC}; got {found} from {path}; run `{BUILD}`"
        )
    return core


def releases(arithmetic: int, wrote: str | None) -> str:
    """Return which releases have an arithmetic, as pip takes it; `wrote` is one that has it, if known."""
    first, after = RELEASES.get(arithmetic) or wrote, RELEASES.get(arithmetic + 1)
    if first is None:
        return "another release of streaming_nn"
    return f"streaming_nn>={first}" + (f",<{after}" if after else "")


def address(
    array: NDArray[Any], dtype: DTypeLike, shape: tuple[int, ...], written: bool = False
) -> ctypes.c_void_p:
    """Return an array's address. Errors: ValueError unless dtype, shape and C order are as required."""
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        order = "" if array.flags.c_contiguous else ", not in C order"
        raise ValueError(
            f"an array must be {np.dtype(dtype)} of shape {shape} in C order; "
            f"got {array.dtype} of shape {array.shape}{order}"
        )
    if written and not array.flags.writeable:
        raise ValueError("an array that the core writes must be writeable; got a read-only one")
    return ctypes.c_void_p(array.ctypes.data)
