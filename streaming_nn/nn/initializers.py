"""Initial weights and biases: random matrices whose variance keeps a signal's size from layer to layer."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn import validation

Array = NDArray[Any]
Shape = tuple[int, int, int]  # members, rows, columns
Initializer = Callable[[np.random.Generator, Shape, tuple[int, int]], Array]  # with fan-in and fan-out


def _normal(variance: Callable[[int, int], float]) -> Initializer:
    def draw(rng: np.random.Generator, shape: Shape, fans: tuple[int, int]) -> Array:
        weights: Array = rng.standard_normal(shape) * variance(*fans) ** 0.5
        return weights

    return draw


def _uniform(variance: Callable[[int, int], float]) -> Initializer:
    def draw(rng: np.random.Generator, shape: Shape, fans: tuple[int, int]) -> Array:
        limit = (3 * variance(*fans)) ** 0.5
        return rng.uniform(-limit, limit, shape)

    return draw


def _orthogonal(rng: np.random.Generator, shape: Shape, fans: tuple[int, int]) -> Array:
    members, rows, columns = shape
    tall = rng.standard_normal((members, max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q *= np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]  # else the draw is not uniform over rotations
    return q if rows >= columns else q.swapaxes(1, 2)


def _glorot(fan_in: int, fan_out: int) -> float:
    return 2 / (fan_in + fan_out)


def _he(fan_in: int, fan_out: int) -> float:
    return 2 / fan_in


def _lecun(fan_in: int, fan_out: int) -> float:
    return 1 / fan_in


INITIALIZERS: dict[str, Initializer] = {
    "glorot_uniform": _uniform(_glorot),  # Glorot & Bengio 2010, equation 16
    "glorot_normal": _normal(_glorot),  # the same, equation 12
    "he_uniform": _uniform(_he),
    "he_normal": _normal(_he),  # He et al. 2015, equation 10
    "lecun_uniform": _uniform(_lecun),
    "lecun_normal": _normal(_lecun),  # LeCun et al. 1998, equation 16
    "orthogonal": _orthogonal,  # Saxe et al. 2014
    "zeros": lambda rng, shape, fans: np.zeros(shape),
}


def check(name: str, how: str | float) -> None:
    """Raise ValueError where `how` is neither an initializer's name nor a number."""
    if isinstance(how, str):
        validation.one_of(name, how, INITIALIZERS)
    else:
        validation.between(name, how, -np.inf, np.inf)


def draw(
    how: str | float, rng: np.random.Generator, shape: Shape, fans: tuple[int, int] | None = None
) -> Array:
    """Draw parameters (members, rows, columns), float64; a number instead of a name means that constant.

    `fans` are the layer's fan-in and fan-out, for its biases; the default, for a matrix, is rows and columns.
    """
    if isinstance(how, str):
        return INITIALIZERS[how](rng, shape, fans or shape[1:])
    return np.full(shape, float(how))
