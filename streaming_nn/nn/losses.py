"""Losses, each with its link: from the network's last sums z to the answer, and from answer and truth to the
gradient.

A loss is a value: its name in `LOSSES` and its parameters say all of it, so that a version's record can hold
it. `link(z)` may overwrite z. `loss(output, y)` gives each row's loss and its gradient by z; both for a stack
of members.
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
LEAST = 1e-37  # probability whose logarithm is still taken: the least that float32 holds in full precision
STEEP = 30.0  # Poisson: z ends here, at a mean of 1e13, so that its exponential stays finite


class Loss(Protocol):
    """Parameters of a loss, frozen."""

    def link(self, z: Array) -> Array:
        """Turn last sums z (members, rows, outputs) into the answer, of the same shape."""

    def loss(self, output: Array, y: Array) -> tuple[Array, Array]:
        """Give the loss (members, rows) and its gradient by z, of output's shape."""


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
    """Give the focal loss, and what the log loss's gradient is multiplied with to become its gradient."""
    wrong = 1 - right
    easy = wrong**gamma
    slope = np.maximum(wrong, LEAST) ** (gamma - 1)
    return easy * loss, easy + gamma * right * slope * loss


@dataclass(frozen=True)
class _Focal:
    """`focal_gamma` above 0: rows that are answered well already count less (Lin et al. 2017, equation 4)."""

    focal_gamma: float = 0.0

    def __post_init__(self) -> None:
        validation.between("focal_gamma", self.focal_gamma, 0, np.inf, low_in=True)


@dataclass(frozen=True)
class Softmax(_Focal):
    """Cross-entropy of one class among the outputs; y (rows,) or (members, rows) has its index."""

    def link(self, z: Array) -> Array:
        """Give probabilities that sum to 1."""
        return _softmax(z)

    def loss(self, p: Array, y: Array) -> tuple[Array, Array]:
        """Give -log p[y], and p less one at y."""
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
    """Log loss of yes or no for each output: one output, or labels that may hold together.

    y is 0 or 1: (rows,) for one output, (rows, outputs) for several.
    """

    def link(self, z: Array) -> Array:
        """Give each output's probability of 1."""
        return sigmoid(z)

    def loss(self, p: Array, y: Array) -> tuple[Array, Array]:
        """Give the log losses' sum over the outputs, and p - y."""
        truth = _truth(p, y)
        right = np.where(truth == 1, p, 1 - p)
        delta, loss = p - truth, _log_loss(right)
        if self.focal_gamma:
            loss, factor = _focus(right, loss, self.focal_gamma)
            delta *= factor
        return np.add.reduce(loss, axis=-1), delta


def _truth(output: Array, y: Array) -> Array:
    """Give y an axis of outputs, where there is one output only, and the output's dtype."""
    truth = y[..., None] if output.shape[-1] == 1 else y
    return truth.astype(output.dtype, copy=False)


class _Straight:
    """The answer is the sum itself."""

    def link(self, z: Array) -> Array:
        """Give z."""
        return z


@dataclass(frozen=True)
class Squared(_Straight):
    """Half the squared error: its least is at the mean. y (rows,), or (rows, outputs) for several outputs."""

    def loss(self, output: Array, y: Array) -> tuple[Array, Array]:
        """Give half the squares' sum over the outputs, and the errors."""
        delta = output - _truth(output, y)
        return 0.5 * np.add.reduce(delta * delta, axis=-1), delta


@dataclass(frozen=True)
class Absolute(_Straight):
    """The absolute error: its least is at the median. y as for `Squared`."""

    def loss(self, output: Array, y: Array) -> tuple[Array, Array]:
        """Give the absolute errors' sum over the outputs, and the errors' signs."""
        error = output - _truth(output, y)
        return np.add.reduce(np.abs(error), axis=-1), np.sign(error)


@dataclass(frozen=True)
class Huber(_Straight):
    """Squared for errors up to `huber_delta`, absolute further out (Huber 1964). y as for `Squared`."""

    huber_delta: float = 1.0

    def __post_init__(self) -> None:
        validation.between("huber_delta", self.huber_delta, 0, np.inf)

    def loss(self, output: Array, y: Array) -> tuple[Array, Array]:
        """Give the losses' sum over the outputs, and the errors, bounded."""
        error = output - _truth(output, y)
        delta = error.clip(-self.huber_delta, self.huber_delta)
        return np.add.reduce(delta * (error - 0.5 * delta), axis=-1), delta


@dataclass(frozen=True)
class Quantile(_Straight):
    """One output for each of `quantiles` (Koenker & Bassett 1978); two of them make an interval.

    y (rows,) is the same for all outputs. Nothing keeps the outputs from crossing; `uncrossed` sorts an
    answer.
    """

    quantiles: tuple[float, ...] = (0.05, 0.5, 0.95)

    def __post_init__(self) -> None:
        object.__setattr__(self, "quantiles", ascending(self.quantiles))

    def loss(self, output: Array, y: Array) -> tuple[Array, Array]:
        """Give the losses' sum over the quantiles; an output's slope is the part it leaves out, signed."""
        error = output - y[..., None].astype(output.dtype, copy=False)
        delta = (error > 0) - np.array(self.quantiles, output.dtype)
        return np.add.reduce(delta * error, axis=-1), delta


def ascending(quantiles: Any) -> tuple[float, ...]:
    """Check quantiles, and give them as a tuple; ValueError unless they ascend between 0 and 1."""
    given = tuple(quantiles) if isinstance(quantiles, (tuple, list)) else (quantiles,)
    for quantile in given:
        validation.between("quantiles", quantile, 0, 1)
    if not given or any(a >= b for a, b in pairwise(given)):
        raise ValueError(f"quantiles must be one or more, ascending; got {given!r}")
    return given


def uncrossed(answer: Array) -> Array:
    """Sort each row's quantiles: that brings none further from the truth (Chernozhukov et al. 2010)."""
    return np.sort(answer, axis=-1)


@dataclass(frozen=True)
class Poisson:
    """Counts, whose mean is the answer: its logarithm is the sum. y as for `Squared`, not negative.

    Only the truth's own logarithms are missing from the log likelihood: they move nothing.
    """

    def link(self, z: Array) -> Array:
        """Give exp(z)."""
        np.clip(z, -STEEP, STEEP, out=z)
        return np.exp(z, out=z)

    def loss(self, mean: Array, y: Array) -> tuple[Array, Array]:
        """Give the sum of mean - y log(mean) over the outputs, and mean - y; a negative y is no number."""
        truth = _truth(mean, y)
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


def balanced(counts: Array) -> Array:
    """Give each class the weight rows / (classes * its rows), of the classes seen; 1 to the others."""
    seen = counts > 0
    return np.where(seen, counts.sum() / (max(seen.sum(), 1) * np.maximum(counts, 1)), 1.0)


def effective(counts: Array, beta: float) -> Array:
    """Weigh classes by the inverse of their effective number of rows (Cui et al. 2019, proposition 1).

    The weights of the classes seen are 1 in the mean; the others' are 1.
    """
    seen = counts > 0
    inverse = np.where(seen, -1 / np.expm1(np.maximum(counts, 1) * np.log(beta)), 0.0)
    return np.where(seen, inverse * (seen.sum() / max(inverse.sum(), 1)), 1.0)
