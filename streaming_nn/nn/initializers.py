"""First weights: random matrices whose spread keeps a signal's size from layer to layer."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn import checks

Array = NDArray[Any]
Initializer = Callable[
    [np.random.Generator, tuple[int, int, int]], Array
]  # shape: (members, fan-in, fan-out)


def _normal(variance: Callable[[int, int], float]) -> Initializer:
    def draw(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
        weights: Array = rng.standard_normal(shape) * variance(*shape[1:]) ** 0.5
        return weights

    return draw


def _uniform(variance: Callable[[int, int], float]) -> Initializer:
    def draw(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
        limit = (3 * variance(*shape[1:])) ** 0.5
        return rng.uniform(-limit, limit, shape)

    return draw


def _orthogonal(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    members, fan_in, fan_out = shape
    tall = rng.standard_normal((members, max(fan_in, fan_out), min(fan_in, fan_out)))
    q, r = np.linalg.qr(tall)
    q *= np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]  # else the draw is not uniform over rotations
    return q if fan_in >= fan_out else q.swapaxes(1, 2)


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
    "zeros": lambda rng, shape: np.zeros(shape),
}


def check(name: str, how: str | float) -> None:
    """Raise ValueError where `how` is neither an initializer's name nor a number."""
    if isinstance(how, str):
        checks.one_of(name, how, INITIALIZERS)
    else:
        checks.between(name, how, -np.inf, np.inf)


def draw(how: str | float, rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """Draw weights (members, fan-in, fan-out), float64; a number instead of a name means that constant."""
    return INITIALIZERS[how](rng, shape) if isinstance(how, str) else np.full(shape, float(how))
