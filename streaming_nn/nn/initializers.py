"""Initial weights and biases: random matrices whose variance keeps a signal's size from layer to layer.

They are drawn by the core, from a key for each layer and member: docs/arithmetic.md, "Initial parameters".
"""

from collections.abc import Callable, Sequence
from math import inf, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core import networks
from streaming_nn.core.networks import Shape
from streaming_nn.nn import validation

Floats = NDArray[np.float32]
RELU_FAMILY = ("relu", "leaky_relu", "elu", "gelu", "softplus")  # half of a signal is lost in them


class Initializer(NamedTuple):
    """How weights are drawn, and their variance by a layer's fan-in and fan-out."""

    kind: str  # one of `networks.KINDS`
    variance: Callable[[int, int], float]

    def size(self, fan_in: int, fan_out: int) -> float:
        """Return the bound of uniform numbers, the deviation of normal ones."""
        variance = self.variance(fan_in, fan_out)
        return sqrt(3 * variance) if self.kind == "uniform" else sqrt(variance)


def _glorot(fan_in: int, fan_out: int) -> float:
    return 2 / (fan_in + fan_out)


def _he(fan_in: int, fan_out: int) -> float:
    return 2 / fan_in


def _lecun(fan_in: int, fan_out: int) -> float:
    return 1 / fan_in


INITIALIZERS = {
    "glorot_uniform": Initializer("uniform", _glorot),  # Glorot & Bengio 2010, equation 16
    "glorot_normal": Initializer("normal", _glorot),  # the same, equation 12
    "he_uniform": Initializer("uniform", _he),
    "he_normal": Initializer("normal", _he),  # He et al. 2015, equation 10
    "lecun_uniform": Initializer("uniform", _lecun),
    "lecun_normal": Initializer("normal", _lecun),  # LeCun et al. 1998, equation 16
    "orthogonal": Initializer("orthogonal", lambda fan_in, fan_out: 1.0),  # Saxe et al. 2014
    "zeros": Initializer("constant", lambda fan_in, fan_out: 0.0),
}


def check(name: str, how: str | float) -> None:
    """Raise ValueError where `how` is neither an initializer's name nor a number."""
    if isinstance(how, str):
        validation.one_of(name, how, INITIALIZERS)
    else:
        validation.between(name, how, -inf, inf)


def of_hidden(activation: str) -> str:
    """Return the initializer of hidden layers' weights: He's for the relu family, Glorot's for the others."""
    return "he_normal" if activation in RELU_FAMILY else "glorot_uniform"


class Initial(NamedTuple):
    """How a network's parameters are drawn: names of initializers, or constants.

    `weights` None depends on the activation, see `of_hidden`, and is LeCun's for the last layer. `last` takes
    precedence for weights and biases of the last layer.
    """

    weights: str | float | None = None
    biases: str | float = 0.0
    last: str | float | None = None

    def check(self) -> None:
        """Raise ValueError for one that is neither an initializer's name nor a number."""
        if self.weights is not None:
            check("initializer", self.weights)
        check("bias_initializer", self.biases)

    def of_weights(self, shape: Shape, layer: int) -> str | float:
        """Return the initializer of a layer's weights."""
        is_last = layer == len(shape.layers) - 1
        if is_last and self.last is not None:
            return self.last
        if self.weights is not None:
            return self.weights
        if is_last:
            return "lecun_normal"
        return of_hidden(shape.activation)

    def of_biases(self, shape: Shape, layer: int) -> str | float:
        """Return the initializer of a layer's biases."""
        is_last = layer == len(shape.layers) - 1
        return self.last if is_last and self.last is not None else self.biases


def initialize(
    shapes: Sequence[Shape], hows: Sequence[Initial], seed: int, width: int | None = None
) -> Floats:
    """Draw initial parameters (parameters,) of members, one after the other; those of linear parts are 0.

    Inputs after the first `width` are ramps, of which half count as inputs: so many are 1 in the mean.
    """
    return np.concatenate(
        [_initialize(*each, seed, k, width) for k, each in enumerate(zip(shapes, hows, strict=True))]
    )


def _initialize(shape: Shape, how: Initial, seed: int, member: int, width: int | None) -> Floats:
    theta = np.zeros(shape.parameters, np.float32)
    for layer, (W, b) in enumerate(shape.views(theta)):
        ramps = 0 if layer or width is None else len(W) - width
        fans = len(W) - ramps + ramps // 2, W.shape[1]
        W[:] = _draw(how.of_weights(shape, layer), seed, 2 * layer, member, 0, W.shape, fans)
        b[:] = _draw(how.of_biases(shape, layer), seed, 2 * layer + 1, member, 0, (1, len(b)), fans)[0]
    return theta


def draw_input(shape: Shape, how: Initial, seed: int, member: int, index: int) -> Floats:
    """Draw the first layer's weights (units,) of an input that was added as number `index`.

    The draw depends on seed, member and index alone: the order in which inputs come decides, not how many at
    once.
    """
    units, key = shape.units[1], 2 * len(shape.layers)
    weights = _draw(
        how.of_weights(shape, 0), seed, key, member, index * units, (1, units), (index + 1, units)
    )
    drawn: Floats = weights[0]
    return drawn


def _draw(
    how: str | float, seed: int, a: int, b: int, start: int, shape: tuple[int, int], fans: tuple[int, ...]
) -> Floats:
    """Draw weights (rows, columns) of a layer with these fan-in and fan-out; a number means that constant."""
    if not isinstance(how, str):
        return np.full(shape, how, np.float32)
    initializer = INITIALIZERS[how]
    return networks.draw(initializer.kind, initializer.size(fans[0], fans[1]), seed, a, b, start, shape)
