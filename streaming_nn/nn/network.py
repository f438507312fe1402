"""A stack of networks of one shape: flat parameters in, answers and gradients out."""

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
    """The shape of a feed-forward network; its parameters are one flat vector a member of the stack.

    `layers` counts units from the inputs to the outputs. `initializer` None takes the one that fits: He's for
    the relu family, Glorot's for the others, and LeCun's for the last layer, for which, its biases too,
    `output_initializer` takes precedence. `loss` is a name, or a loss with parameters of its own. `skip` adds
    a linear model of the inputs to the last sums, its weights zero at first: the network need only learn what
    is not linear. Errors: ValueError for an unknown name.
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
            validation.whole("a layer's size", units)
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
    def places(self) -> tuple[tuple[int, int, int, int, int], ...]:
        """For each layer: where its weights begin and end, where its biases end, its fan-in and fan-out."""
        places, start = [], 0
        for fan_in, fan_out in pairwise(self.layers):
            middle = start + fan_in * fan_out
            places.append((start, middle, middle + fan_out, fan_in, fan_out))
            start = middle + fan_out
        return tuple(places)

    @cached_property
    def _cuts(self) -> tuple[tuple[Any, Any, int, int], ...]:
        every = slice(None)  # made once: a step cuts its vectors many times
        return tuple(
            ((every, slice(start, middle)), (every, None, slice(middle, end)), n, m)
            for start, middle, end, n, m in self.places
        )

    @cached_property
    def _skip_cut(self) -> tuple[slice, slice]:
        return slice(None), slice(self.places[-1][2], None)

    @property
    def biases(self) -> Spans:
        """From where to where the parameters are biases, layer by layer."""
        return tuple((middle, end) for _, middle, end, _, _ in self.places)


def size(network: Network) -> int:
    """Parameters of one member."""
    return network.places[-1][2] + (network.layers[0] * network.layers[-1] if network.skip else 0)


def initialize(network: Network, rng: np.random.Generator, members: int = 1) -> NDArray[np.float32]:
    """Draw first parameters (members, parameters); each member its own draw."""
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
    return [(theta[weights].reshape(members, n, m), theta[biases]) for weights, biases, n, m in network._cuts]


def skip_view(network: Network, theta: Array) -> Array:
    """View the weights from the inputs to the outputs: (members, inputs, outputs), no inputs without skip."""
    inputs = network.layers[0] if network.skip else 0
    return theta[network._skip_cut].reshape(len(theta), inputs, network.layers[-1])


def predict(network: Network, theta: Array, x: Array) -> Array:
    """Answer rows x (rows, inputs), or (members, rows, inputs), with (members, rows, outputs)."""
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
    """Answer rows and differentiate their mean loss, in one forward and one backward pass.

    x (rows, inputs), y (rows,) and weight (rows,) are shared by the members, or have their own axis of
    members in front; the loss says what y is. A row's loss counts `weight` times; the mean is over rows, so
    that a heavy row alone in its mini-batch stays heavy. `kept` has, for each hidden layer, what its units
    are multiplied with (rows, units): see `dropout`. Gives output (members, rows, outputs), loss (members,
    rows) without weight, and the gradient (members, parameters); all of theta's dtype.
    """
    activation = ACTIVATIONS[network.activation]
    layers = views(network, theta)
    inputs, memory = [x], []
    for layer, (W, b) in enumerate(layers[:-1]):
        z = np.matmul(x, W)
        z += b
        x, remembered = activation.forward(z)
        if kept is not None:
            x = x * kept[layer]
        inputs.append(x)
        memory.append(remembered)
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
        _summed(delta, b)
        if layer:
            delta = np.matmul(delta, layers[layer][0].swapaxes(-1, -2))
            if kept is not None:
                delta *= kept[layer - 1]
            activation.backward(delta, memory[layer - 1])
    return output, loss, slope


def dropout(network: Network, p: float, rows: int, seed: int, count: int) -> list[Array]:
    """Draw what each hidden layer's units (rows, units) are multiplied with: 0 with probability p.

    The others have 1 / (1 - p), so that predicting needs no scaling: inverted dropout (Srivastava et al.
    2014, section 10). The draw follows from seed and count alone, since the generator counts (Salmon et al.
    2011): each step has a count of its own.
    """
    sizes = [rows * units for units in network.layers[1:-1]]
    bits = np.random.Philox(key=seed % 2**128, counter=np.array([0, count, 0, 0], np.uint64))
    drawn = bits.random_raw(-(-sum(sizes) // 2)).view(np.uint32)
    kept = (drawn >= np.uint32(p * 2**32)) * np.float32(1 / (1 - p))
    ends = accumulate(sizes)
    return [kept[end - size : end].reshape(rows, -1) for size, end in zip(sizes, ends, strict=True)]


def _outer(x: Array, delta: Array, W: Array) -> None:
    """Write the gradient by one layer's W: the sum over rows of what came in times what came back."""
    if delta.shape[-2] == 1:  # the same, without the machinery of a matrix product
        np.multiply(x.swapaxes(-1, -2), delta, out=W)
    else:
        np.matmul(x.swapaxes(-1, -2), delta, out=W)


def _summed(delta: Array, b: Array) -> None:
    """Write the gradient by one layer's b, the sum over rows; as a product, that is three times as fast."""
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


def widened(network: Network, theta: Array, outputs: int) -> Array:
    """Lay theta of a network with fewer `outputs` out for this one; what is new is 0."""
    wide = np.zeros((len(theta), size(network)), theta.dtype)
    before = replace(network, layers=(*network.layers[:-1], outputs))
    for (W, b), (V, c) in zip(views(network, wide), views(before, theta), strict=True):
        W[:, :, : V.shape[2]] = V
        b[:, :, : c.shape[2]] = c
    skip_view(network, wide)[:, :, :outputs] = skip_view(before, theta)
    return wide


@lru_cache(64)
def narrow(network: Network, inputs: int) -> Network:
    """Give the shape of this network with fewer inputs."""
    return replace(network, layers=(inputs, *network.layers[1:]))


def narrowed(network: Network, theta: Array, columns: NDArray[np.bool_]) -> Array:
    """Give the parameters that a network with these inputs (inputs,) alone has of theta: a new array."""
    kept = np.flatnonzero(columns)
    shape = narrow(network, len(kept))
    part = np.empty((len(theta), size(shape)), theta.dtype)
    W, skip, rest = _by_input(shape, part)
    from_W, from_skip, rest[:] = _by_input(network, theta)
    W[:] = from_W[:, kept]
    if network.skip:
        skip[:] = from_skip[:, kept]
    return part


def put_back(network: Network, theta: Array, part: Array, columns: NDArray[np.bool_]) -> None:
    """Write what `narrowed` gave, or what has become of it, over its place in theta."""
    kept = np.flatnonzero(columns)
    W, skip, rest = _by_input(network, theta)
    from_W, from_skip, rest[:] = _by_input(narrow(network, len(kept)), part)
    W[:, kept] = from_W
    if network.skip:
        skip[:, kept] = from_skip


def _by_input(network: Network, theta: Array) -> tuple[Array, Array, Array]:
    """View theta as what has a row for each input, the first W and skip's, and the rest."""
    (weights, _, n, m), (_, middle, *_), end = network._cuts[0], network.places[0], network.places[-1][2]
    return theta[weights].reshape(len(theta), n, m), skip_view(network, theta), theta[:, middle:end]
