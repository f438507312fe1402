"""Activation functions, each with the one array that its backward pass needs.

`forward(z)` may overwrite z; `backward(delta, kept)` multiplies delta (the loss's gradient by h) by h'(z),
in place.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
SMALL = 2048  # values
SLOPE = 0.01  # of leaky relu, left of 0
GELU = float(np.sqrt(2 / np.pi))  # and CUBE: the tanh form in Hendrycks & Gimpel 2016, section 2
CUBE = 0.044715


class Activation(NamedTuple):
    """One activation function and its derivative."""

    forward: Callable[[Array], tuple[Array, Array]]  # z -> (h, kept)
    backward: Callable[[Array, Array], Array]  # (delta, kept) -> delta * h'(z)
    gain: float  # weights' variance times fan-in that keeps the signal's size (He et al. 2015, section 2.2)


def _identity(z: Array) -> tuple[Array, Array]:
    return z, z


def _identity_backward(delta: Array, h: Array) -> Array:
    return delta


def sigmoid(z: Array) -> Array:
    """Return 1 / (1 + exp(-z)), computed by tanh, which cannot overflow. Overwrites z."""
    z *= 0.5
    np.tanh(z, out=z)
    z += 1
    z *= 0.5
    return z


def _sigmoid(z: Array) -> tuple[Array, Array]:
    h = sigmoid(z)
    return h, h


def _sigmoid_backward(delta: Array, h: Array) -> Array:
    delta *= h
    delta *= 1 - h
    return delta


def _tanh(z: Array) -> tuple[Array, Array]:
    h = np.tanh(z, out=z)
    return h, h


def _tanh_backward(delta: Array, h: Array) -> Array:
    delta *= 1 - h * h
    return delta


@lru_cache(8)
def _zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    return np.zeros(shape, dtype)


def _relu(z: Array) -> tuple[Array, Array]:
    h = np.maximum(z, _zeros(z.shape, z.dtype), out=z)  # two to four times as fast as with a scalar 0
    return h, h


def _relu_backward(delta: Array, h: Array) -> Array:
    delta *= np.sign(h) if h.size < SMALL else h > 0  # the same bits; each is the fast one at its size
    return delta


def _leaky_relu(z: Array) -> tuple[Array, Array]:
    h = np.maximum(z, SLOPE * z)
    return h, h


def _leaky_relu_backward(delta: Array, h: Array) -> Array:
    delta *= np.where(h > 0, delta.dtype.type(1), delta.dtype.type(SLOPE))
    return delta


def _elu(z: Array) -> tuple[Array, Array]:
    h = np.where(z > 0, z, np.expm1(np.minimum(z, 0)))
    return h, h


def _elu_backward(delta: Array, h: Array) -> Array:
    delta *= np.minimum(h, 0) + 1
    return delta


def _gelu_tanh(z: Array) -> Array:
    return np.tanh(GELU * (z + CUBE * z * z * z))


def _gelu(z: Array) -> tuple[Array, Array]:
    return 0.5 * z * (1 + _gelu_tanh(z)), z


def _gelu_backward(delta: Array, z: Array) -> Array:
    t = _gelu_tanh(z)
    delta *= 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * GELU * (1 + 3 * CUBE * z * z)
    return delta


def _softplus(z: Array) -> tuple[Array, Array]:
    h = np.logaddexp(z, 0)
    return h, h


def _softplus_backward(delta: Array, h: Array) -> Array:
    delta *= -np.expm1(-h)
    return delta


ACTIVATIONS = {
    "identity": Activation(_identity, _identity_backward, 1),
    "sigmoid": Activation(_sigmoid, _sigmoid_backward, 1),
    "tanh": Activation(_tanh, _tanh_backward, 1),
    "relu": Activation(_relu, _relu_backward, 2),
    "leaky_relu": Activation(_leaky_relu, _leaky_relu_backward, 2),
    "elu": Activation(_elu, _elu_backward, 2),
    "gelu": Activation(_gelu, _gelu_backward, 2),
    "softplus": Activation(_softplus, _softplus_backward, 1),
}
