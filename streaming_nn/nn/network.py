"""A stack of networks of one shape: flat parameters in, predictions and gradients out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn import initializers, validation
from streaming_nn.nn.activations import ACTIVATIONS
from streaming_nn.nn.losses import LOSSES, Loss, Quantile
from streaming_nn.nn.optimizers import Spans

Array = NDArray[Any]


@dataclass(frozen=True)
class Network:
    """The shape of a feed-forward network; its parameters are one flat vector per member of the stack.

    `layers` has the units of each layer from inputs to outputs. `initializer` None depends on the activation:
    He's for the relu family, Glorot's for the others, and LeCun's for the last layer. `output_initializer`
    takes precedence for weights and biases of the last layer. `loss` is a name, or a loss with parameters.
    `skip` adds a linear model of the inputs to the last sums, its weights initially zero: the network need
    only learn what is not linear. Errors: ValueError for an unknown name.
    """

    layers: tuple[int, ...]
    activation: str = "relu"
    loss: str | Loss = "softmax"
    initializer: str | float | None = None
    bias_initializer: str | float = 0.0
    output_initializer: str | float | None = None
    skip: bool = False

    def __post_init__(self) -> None:
        if len(self.layers) < 2:
            raise ValueError(f"layers must have at least inputs and outputs; got {self.layers!r}")
        for units in self.layers:
            validation.integer("a layer's size", units)
        validation.one_of("activation", self.activation, ACTIVATIONS)
        if not hasattr(self.loss, "link"):
            validation.one_of("loss", self.loss, LOSSES)
        if self.initializer is not None:
            initializers.check("initializer", self.initializer)
        if self.output_initializer is not None:
            initializers.check("output_initializer", self.output_initializer)
        initializers.check("bias_initializer", self.bias_initializer)
        if isinstance(self._loss, Quantile) and self.layers[-1] != len(self._loss.quantiles):
            raise ValueError(f"layers must end with an output for each quantile; got {self.layers!r}")

    @cached_property
    def _loss(self) -> Loss:
        return LOSSES[self.loss]() if isinstance(self.loss, str) else self.loss

    @cached_property
    def slices(self) -> tuple[tuple[int, int, int, int, int], ...]:
        """Each layer's start and end of weights, end of biases, fan-in and fan-out."""
        slices, start = [], 0
        for fan_in, fan_out in pairwise(self.layers):
            middle = start + fan_in * fan_out
            slices.append((start, middle, middle + fan_out, fan_in, fan_out))
            start = middle + fan_out
        return tuple(slices)

    @cached_property
    def _view_slices(self) -> tuple[tuple[Any, Any, int, int], ...]:
        every = slice(None)  # created once: a step slices its vectors many times
        return tuple(
            ((every, slice(start, middle)), (every, None, slice(middle, end)), n, m)
            for start, middle, end, n, m in self.slices
        )

    @cached_property
    def _skip_slices(self) -> tuple[slice, slice]:
        return slice(None), slice(self.slices[-1][2], None)

    @property
    def biases(self) -> Spans:
        """The slices of parameters that are biases, layer by layer."""
        return tuple((middle, end) for _, middle, end, _, _ in self.slices)


def size(network: Network) -> int:
    """Return the number of parameters of one member."""
    return network.slices[-1][2] + (network.layers[0] * network.layers[-1] if network.skip else 0)


def initialize(network: Network, rng: np.random.Generator, members: int = 1) -> NDArray[np.float32]:
    """Draw initial parameters (members, parameters), each member's independently."""
    theta = np.empty((members, size(network)), np.float32)
    for layer, (W, b) in enumerate(views(network, theta)):
        W[:] = initializers.draw(_initializer(network, layer), rng, W.shape)
        b[:] = initializers.draw(_bias_initializer(network, layer), rng, b.shape, W.shape[1:])
    skip_view(network, theta)[:] = 0
    return theta


def _initializer(network: Network, layer: int) -> str | float:
    last = layer == len(network.layers) - 2
    if last and network.output_initializer is not None:
        return network.output_initializer
    if network.initializer is not None:
        return network.initializer
    if last:
        return "lecun_normal"
    return "he_normal" if ACTIVATIONS[network.activation].gain == 2 else "glorot_uniform"


def _bias_initializer(network: Network, layer: int) -> str | float:
    if layer == len(network.layers) - 2 and network.output_initializer is not None:
        return network.output_initializer
    return network.bias_initializer


def views(network: Network, theta: Array) -> list[tuple[Array, Array]]:
    """View theta (members, parameters) as each layer's W (members, in, out) and b (members, 1, out)."""
    members = len(theta)
    return [
        (theta[weights].reshape(members, n, m), theta[biases])
        for weights, biases, n, m in network._view_slices
    ]


def skip_view(network: Network, theta: Array) -> Array:
    """View the weights from the inputs to the outputs: (members, inputs, outputs), no inputs without skip."""
    inputs = network.layers[0] if network.skip else 0
    return theta[network._skip_slices].reshape(len(theta), inputs, network.layers[-1])


def predict(network: Network, theta: Array, x: Array) -> Array:
    """Predict rows x (rows, inputs) or (members, rows, inputs); return (members, rows, outputs)."""
    forward = ACTIVATIONS[network.activation].forward
    *hidden, (W, b) = views(network, theta)
    inputs = x
    for V, c in hidden:
        z = np.matmul(x, V)
        z += c
        x, _ = forward(z)
    z = np.matmul(x, W)
    z += b
    if network.skip:
        z += np.matmul(inputs, skip_view(network, theta))
    return network._loss.link(z)


def gradient(
    network: Network,
    theta: Array,
    x: Array,
    y: Array,
    weight: Array | None = None,
    kept: Sequence[Array] | None = None,
) -> tuple[Array, Array, Array]:
    """Predict rows and differentiate their mean loss, in one forward and one backward pass.

    x (rows, inputs), y (rows,) and weight (rows,) are shared by the members, or have a leading axis of
    members; the meaning of y depends on the loss. A row's loss counts `weight` times; the mean is over rows,
    so that a heavy row alone in its mini-batch stays heavy. `kept` has the factors of each hidden layer's
    units (rows, units): see `dropout`. Return output (members, rows, outputs), loss (members, rows) without
    weight, and the gradient (members, parameters); all of theta's dtype.
    """
    activation = ACTIVATIONS[network.activation]
    layers = views(network, theta)
    inputs, saved = [x], []
    for layer, (W, b) in enumerate(layers[:-1]):
        z = np.matmul(x, W)
        z += b
        x, for_backward = activation.forward(z)
        if kept is not None:
            x = x * kept[layer]
        inputs.append(x)
        saved.append(for_backward)
    z = np.matmul(x, layers[-1][0])
    z += layers[-1][1]
    if network.skip:
        z += np.matmul(inputs[0], skip_view(network, theta))
    output = network._loss.link(z)
    loss, delta = network._loss.loss(output, y)
    _average(delta, weight)
    slope = np.empty_like(theta)
    slopes = views(network, slope)
    if network.skip:
        _outer(inputs[0], delta, skip_view(network, slope))
    for layer in range(len(layers) - 1, -1, -1):
        W, b = slopes[layer]
        _outer(inputs[layer], delta, W)
        _sum_rows(delta, b)
        if layer:
            delta = np.matmul(delta, layers[layer][0].swapaxes(-1, -2))
            if kept is not None:
                delta *= kept[layer - 1]
            activation.backward(delta, saved[layer - 1])
    return output, loss, slope


def dropout(network: Network, p: float, rows: int, seed: int, count: int) -> list[Array]:
    """Draw the factors of each hidden layer's units (rows, units): 0 with probability p.

    The others are 1 / (1 - p), so that predicting needs no scaling: inverted dropout (Srivastava et al. 2014,
    section 10). The draw depends on seed and count alone, as the generator is counter-based (Salmon et al.
    2011): each step has another count.
    """
    sizes = [rows * units for units in network.layers[1:-1]]
    bits = np.random.Philox(key=seed % 2**128, counter=np.array([0, count, 0, 0], np.uint64))
    drawn = bits.random_raw(-(-sum(sizes) // 2)).view(np.uint32)
    kept = (drawn >= np.uint32(p * 2**32)) * np.float32(1 / (1 - p))
    ends = accumulate(sizes)
    return [kept[end - size : end].reshape(rows, -1) for size, end in zip(sizes, ends, strict=True)]


def _outer(x: Array, delta: Array, W: Array) -> None:
    """Write the gradient of one layer's W: the sum over rows of input times delta."""
    if delta.shape[-2] == 1:  # the same, without the overhead of a matrix product
        np.multiply(x.swapaxes(-1, -2), delta, out=W)
    else:
        np.matmul(x.swapaxes(-1, -2), delta, out=W)


def _sum_rows(delta: Array, b: Array) -> None:
    """Write the gradient of one layer's b, the sum over rows; three times as fast as a matrix product."""
    if delta.shape[-2] == 1:
        b[...] = delta
    else:
        np.matmul(_ones(delta.shape[-2], delta.dtype), delta, out=b)


@lru_cache(8)
def _ones(rows: int, dtype: Any) -> Array:
    ones = np.ones((1, rows), dtype)
    ones.flags.writeable = False
    return ones


def _average(delta: Array, weight: Array | None) -> None:
    rows = delta.shape[-2]
    if weight is not None:
        delta *= weight[..., None]
    if rows > 1:
        delta *= 1 / rows


def add_outputs(network: Network, theta: Array, outputs: int) -> Array:
    """Return theta of a network with fewer `outputs` in the layout of this one; new parameters are 0."""
    wide = np.zeros((len(theta), size(network)), theta.dtype)
    before = replace(network, layers=(*network.layers[:-1], outputs))
    for (W, b), (V, c) in zip(views(network, wide), views(before, theta), strict=True):
        W[:, :, : V.shape[2]] = V
        b[:, :, : c.shape[2]] = c
    skip_view(network, wide)[:, :, :outputs] = skip_view(before, theta)
    return wide


def add_inputs(network: Network, theta: Array, origin: NDArray[np.intp], before: int) -> Array:
    """Return theta of a network with `before` inputs in the layout of this one; new parameters are 0.

    `origin` (inputs,) has each input's index before, -1 for a new one.
    """
    old = origin >= 0
    wide = np.zeros((len(theta), size(network)), theta.dtype)
    W, skip, rest = _by_input(network, wide)
    from_W, from_skip, rest[:] = _by_input(with_inputs(network, before), theta)
    W[:, old] = from_W[:, origin[old]]
    if network.skip:
        skip[:, old] = from_skip[:, origin[old]]
    return wide


def draw_input(network: Network, index: int, seed: int, members: int) -> Array:
    """Draw the first layer's weights (members, units) of an input that was added as number `index`.

    The draw depends on seed and index alone: the order in which inputs come decides, not how many at once.
    """
    units = network.layers[1]
    rng = np.random.default_rng([seed, index])
    return initializers.draw(_initializer(network, 0), rng, (members, 1, units), (index + 1, units))[:, 0]


def first_weights(network: Network, theta: Array) -> Array:
    """View the first layer's weights (members, inputs, units)."""
    return _by_input(network, theta)[0]


@lru_cache(64)
def with_inputs(network: Network, inputs: int) -> Network:
    """Return the shape of this network with another number of inputs."""
    return replace(network, layers=(inputs, *network.layers[1:]))


def select_inputs(network: Network, theta: Array, columns: NDArray[np.bool_]) -> Array:
    """Return the parameters of a network with only these inputs (inputs,), copied from theta."""
    kept = np.flatnonzero(columns)
    shape = with_inputs(network, len(kept))
    part = np.empty((len(theta), size(shape)), theta.dtype)
    W, skip, rest = _by_input(shape, part)
    from_W, from_skip, rest[:] = _by_input(network, theta)
    W[:] = from_W[:, kept]
    if network.skip:
        skip[:] = from_skip[:, kept]
    return part


def restore_inputs(network: Network, theta: Array, part: Array, columns: NDArray[np.bool_]) -> None:
    """Write back into theta the parameters that `select_inputs` returned, as they are now."""
    kept = np.flatnonzero(columns)
    W, skip, rest = _by_input(network, theta)
    from_W, from_skip, rest[:] = _by_input(with_inputs(network, len(kept)), part)
    W[:, kept] = from_W
    if network.skip:
        skip[:, kept] = from_skip


def _by_input(network: Network, theta: Array) -> tuple[Array, Array, Array]:
    """View theta as the arrays with a row per input, the first W and skip's, and the rest."""
    (weights, _, n, m), (_, middle, *_), end = (
        network._view_slices[0],
        network.slices[0],
        network.slices[-1][2],
    )
    return theta[weights].reshape(len(theta), n, m), skip_view(network, theta), theta[:, middle:end]
