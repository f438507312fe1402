"""Losses, each with its link: from the last sums z to the prediction, and from that and y to the gradient.

A loss is a value: its name in `LOSSES` and its parameters define it, so that a version's manifest can hold
it. `link(z)` may overwrite z. `loss(output, y)` returns each row's loss and its gradient by z; both for a
stack of members.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn import validation
from streaming_nn.nn.activations import sigmoid

Array = NDArray[Any]
FEW_OUTPUTS = 32
LEAST = 1e-37  # bound of probabilities in a logarithm: the least that float32 holds in full precision
STEEP = 30.0  # Poisson: bound of z, at a mean of 1e13, so that its exponential stays finite


class Loss(Protocol):
    """Parameters of a loss, immutable."""

    def link(self, z: Array) -> Array:
        """Convert the last sums z (members, rows, outputs) to predictions of the same shape."""

    def loss(self, output: Array, y: Array) -> tuple[Array, Array]:
        """Return the loss (members, rows) and its gradient by z, of output's shape."""


@lru_cache(64)
def _row_starts(members: int, rows: int, outputs: int) -> NDArray[np.intp]:
    starts = np.arange(0, members * rows * outputs, outputs, dtype=np.intp).reshape(members, rows)
    starts.flags.writeable = False
    return starts


def _softmax(z: Array) -> Array:
    # Reducing and broadcasting over few outputs is slow; over the rows it is up to four times as fast.
    axis = -2 if z.shape[-1] <= FEW_OUTPUTS and z.shape[-2] > 1 else -1
    p = np.ascontiguousarray(z.swapaxes(-1, -2)) if axis == -2 else z
    p -= np.maximum.reduce(p, axis=axis, keepdims=True)
    np.exp(p, out=p)
    p /= np.add.reduce(p, axis=axis, keepdims=True)
    return np.ascontiguousarray(p.swapaxes(-1, -2)) if axis == -2 else p


def _log_loss(right: Array) -> Array:
    loss = np.log(np.maximum(right, LEAST))
    return np.negative(loss, out=loss)


def _focus(right: Array, loss: Array, gamma: float) -> tuple[Array, Array]:
    """Return the focal loss, and the factor by which the log loss's gradient becomes its gradient."""
    wrong = 1 - right
    easy = wrong**gamma
    slope = np.maximum(wrong, LEAST) ** (gamma - 1)
    return easy * loss, easy + gamma * right * slope * loss


@dataclass(frozen=True)
class _Focal:
    """`focal_gamma` above 0: rows that are predicted well count less (Lin et al. 2017, equation 4)."""

    focal_gamma: float = 0.0

    def __post_init__(self) -> None:
        validation.between("focal_gamma", self.focal_gamma, 0, np.inf, low_in=True)


@dataclass(frozen=True)
class Softmax(_Focal):
    """Cross-entropy of one class among the outputs; y (rows,) or (members, rows) has its index."""

    def link(self, z: Array) -> Array:
        """Return probabilities that sum to 1."""
        return _softmax(z)

    def loss(self, p: Array, y: Array) -> tuple[Array, Array]:
        """Return -log p[y], and p less one at y."""
        at = _row_starts(*p.shape) + y
        delta = p.copy()
        chosen = delta.reshape(-1)
        right = chosen[at]
        chosen[at] = right - 1
        loss = _log_loss(right)
        if self.focal_gamma:
            loss, factor = _focus(right, loss, self.focal_gamma)
            delta *= factor[..., None]
        return loss, delta


@dataclass(frozen=True)
class Logistic(_Focal):
    """Log loss of a binary label for each output: one output, or several independent labels.

    y is 0 or 1: (rows,) for one output, (rows, outputs) for several.
    """

    def link(self, z: Array) -> Array:
        """Return each output's probability of 1."""
        return sigmoid(z)

    def loss(self, p: Array, y: Array) -> tuple[Array, Array]:
        """Return the log losses' sum over the outputs, and p - y."""
        truth = _labels_like(p, y)
        right = np.where(truth == 1, p, 1 - p)
        delta, loss = p - truth, _log_loss(right)
        if self.focal_gamma:
            loss, factor = _focus(right, loss, self.focal_gamma)
            delta *= factor
        return np.add.reduce(loss, axis=-1), delta


def _labels_like(output: Array, y: Array) -> Array:
    """Return y with an axis of outputs, if there is one output only, in the output's dtype."""
    truth = y[..., None] if output.shape[-1] == 1 else y
    return truth.astype(output.dtype, copy=False)


class _Identity:
    """The prediction is the sum itself."""

    def link(self, z: Array) -> Array:
        """Return z."""
        return z


@dataclass(frozen=True)
class Squared(_Identity):
    """Half the squared error: its least is at the mean. y (rows,), or (rows, outputs) for several outputs."""

    def loss(self, output: Array, y: Array) -> tuple[Array, Array]:
        """Return half the squares' sum over the outputs, and the errors."""
        delta = output - _labels_like(output, y)
        return 0.5 * np.add.reduce(delta * delta, axis=-1), delta


@dataclass(frozen=True)
class Absolute(_Identity):
    """The absolute error: its least is at the median. y as for `Squared`."""

    def loss(self, output: Array, y: Array) -> tuple[Array, Array]:
        """Return the absolute errors' sum over the outputs, and the errors' signs."""
        error = output - _labels_like(output, y)
        return np.add.reduce(np.abs(error), axis=-1), np.sign(error)


@dataclass(frozen=True)
class Huber(_Identity):
    """Squared for errors up to `huber_delta`, absolute further out (Huber 1964). y as for `Squared`."""

    huber_delta: float = 1.0

    def __post_init__(self) -> None:
        validation.between("huber_delta", self.huber_delta, 0, np.inf)

    def loss(self, output: Array, y: Array) -> tuple[Array, Array]:
        """Return the losses' sum over the outputs, and the errors, bounded."""
        error = output - _labels_like(output, y)
        delta = error.clip(-self.huber_delta, self.huber_delta)
        return np.add.reduce(delta * (error - 0.5 * delta), axis=-1), delta


@dataclass(frozen=True)
class Quantile(_Identity):
    """One output for each of `quantiles` (Koenker & Bassett 1978); two of them make an interval.

    y (rows,) is the same for all outputs. The outputs may cross; `sort_quantiles` sorts a
    prediction.
    """

    quantiles: tuple[float, ...] = (0.05, 0.5, 0.95)

    def __post_init__(self) -> None:
        object.__setattr__(self, "quantiles", validate_quantiles(self.quantiles))

    def loss(self, output: Array, y: Array) -> tuple[Array, Array]:
        """Return the losses' sum over the quantiles; the slopes are quantile-weighted signs."""
        error = output - y[..., None].astype(output.dtype, copy=False)
        delta = (error > 0) - np.array(self.quantiles, output.dtype)
        return np.add.reduce(delta * error, axis=-1), delta


def validate_quantiles(quantiles: Any) -> tuple[float, ...]:
    """Return quantiles as a tuple; ValueError unless they ascend between 0 and 1."""
    given = tuple(quantiles) if isinstance(quantiles, (tuple, list)) else (quantiles,)
    for quantile in given:
        validation.between("quantiles", quantile, 0, 1)
    if not given or any(a >= b for a, b in pairwise(given)):
        raise ValueError(f"quantiles must be at least one, in ascending order; got {given!r}")
    return given


def sort_quantiles(prediction: Array) -> Array:
    """Sort each row's quantiles: this never increases the error (Chernozhukov et al. 2010)."""
    return np.sort(prediction, axis=-1)


@dataclass(frozen=True)
class Poisson:
    """Counts, whose mean is the prediction: its logarithm is the sum. y as for `Squared`, not negative.

    The log likelihood's terms of y alone are left out: they have no gradient.
    """

    def link(self, z: Array) -> Array:
        """Return exp(z)."""
        np.clip(z, -STEEP, STEEP, out=z)
        return np.exp(z, out=z)

    def loss(self, mean: Array, y: Array) -> tuple[Array, Array]:
        """Return the sum of mean - y log(mean) over the outputs, and mean - y; NaN where y is negative."""
        truth = _labels_like(mean, y)
        loss = np.add.reduce(mean - truth * np.log(mean), axis=-1)
        return np.where(np.minimum.reduce(truth, axis=-1) < 0, np.nan, loss), mean - truth


LOSSES: dict[str, Callable[..., Loss]] = {
    "softmax": Softmax,
    "logistic": Logistic,
    "squared": Squared,
    "absolute": Absolute,
    "huber": Huber,
    "quantile": Quantile,
    "poisson": Poisson,
}


def balanced_weights(counts: Array) -> Array:
    """Return each class's weight, rows / (classes * its rows), of the classes seen; 1 for the others."""
    seen = counts > 0
    return np.where(seen, counts.sum() / (max(seen.sum(), 1) * np.maximum(counts, 1)), 1.0)


def effective_weights(counts: Array, beta: float) -> Array:
    """Weigh classes by the inverse of their effective number of rows (Cui et al. 2019, proposition 1).

    The weights of the classes seen are 1 in the mean; the others' are 1.
    """
    seen = counts > 0
    inverse = np.where(seen, -1 / np.expm1(np.maximum(counts, 1) * np.log(beta)), 0.0)
    return np.where(seen, inverse * (seen.sum() / max(inverse.sum(), 1)), 1.0)
