"""One thread for the peers of a benchmark: NumPy's products use as many as there are cores."""

import os

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
)


def one_thread() -> None:
    """Set the environment of processes that are started from now on to one thread of a BLAS."""
    for variable in VARIABLES:
        os.environ[variable] = "1"
