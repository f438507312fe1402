"""Elementary functions and sums of float64, with the bits of docs/arithmetic.md."""

import ctypes

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core import library

Doubles = NDArray[np.float64]

# in the order of functions.c
FUNCTIONS = ("exp", "expm1", "log", "log1p", "tanh", "sigmoid", "softplus", "erf", "cospi")


def exponential(x: Doubles) -> Doubles:
    """Return exp(x) of each element; beyond -708 and 709 its value there."""
    return apply("exp", x)


def logarithm(x: Doubles) -> Doubles:
    """Return log(x) of each element, which must be a normal, positive number; NaN of NaN."""
    return apply("log", x)


def cosine_of_pi(x: Doubles) -> Doubles:
    """Return cos(pi * x) of each element, which must be in [0, 2]; NaN of NaN."""
    return apply("cospi", x)


def chain_sum(x: Doubles, axis: int = -1) -> Doubles:
    """Return the sum along an axis: from +0 on, one element after the other, each sum rounded.

    NumPy's own sum adds in an order that depends on its version, on the CPU and on the layout. Each of the
    sums that `np.add.accumulate` returns is the one before plus an element.
    """
    if axis != -1:
        x = np.moveaxis(x, axis, -1)
    if not x.shape[-1]:
        return np.zeros(x.shape[:-1])
    return np.asarray(np.add.accumulate(x, axis=-1)[..., -1] + 0.0)  # +0, where all are -0


def integer_power(x: float, n: int) -> float:
    """Return x to the power of n >= 0, by squaring from the lowest bit on."""
    power = 1.0
    while n:
        if n & 1:
            power *= x
        x *= x
        n >>= 1
    return power


def apply(name: str, x: Doubles, variant: str | None = None) -> Doubles:
    """Return a function of each element, by a variant of the core. Errors: ValueError unless x is float64."""
    x = np.ascontiguousarray(x).reshape(np.shape(x))
    y = np.empty_like(x)
    pointers = (library.address(each, np.float64, x.shape) for each in (x, y))
    library.load(variant).core_function(FUNCTIONS.index(name), *pointers, ctypes.c_long(x.size))
    return y
