"""Losses, each with its link: from the network's last sums z to the answer, and from answer and truth to the
gradient.

`link(z)` may overwrite z. `loss(output, y)` gives each row's loss and its gradient by z; both for a stack of
members.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FEW_OUTPUTS = 32
LEAST = 1e-37  # probability whose logarithm is still taken: the least that float32 holds in full precision


class Loss(NamedTuple):
    """One loss with its link."""

    link: Callable[[Array], Array]  # z (members, rows, outputs) -> output, same shape
    loss: Callable[
        [Array, Array], tuple[Array, Array]
    ]  # (output, y) -> loss (members, rows), delta like output


@lru_cache(64)
def _row_starts(members: int, rows: int, outputs: int) -> NDArray[np.intp]:
    starts = np.arange(0, members * rows * outputs, outputs, dtype=np.intp).reshape(members, rows)
    starts.flags.writeable = False
    return starts


def _softmax(z: Array) -> Array:
    # Reducing and broadcasting over few outputs is slow; over the rows it is up to four times as fast.
    axis = -2 if z.shape[-1] <= FEW_OUTPUTS else -1
    p = np.ascontiguousarray(z.swapaxes(-1, -2)) if axis == -2 else z
    p -= np.maximum.reduce(p, axis=axis, keepdims=True)
    np.exp(p, out=p)
    p /= np.add.reduce(p, axis=axis, keepdims=True)
    return np.ascontiguousarray(p.swapaxes(-1, -2)) if axis == -2 else p


def _cross_entropy(p: Array, y: Array) -> tuple[Array, Array]:
    at = _row_starts(*p.shape) + y  # y (rows,) or (members, rows): index of each row's class
    delta = p.copy()
    chosen = delta.reshape(-1)
    right = chosen[at]
    chosen[at] = right - 1
    loss = np.log(np.maximum(right, LEAST))
    return np.negative(loss, out=loss), delta


def _identity(z: Array) -> Array:
    return z


def _squared(output: Array, y: Array) -> tuple[Array, Array]:
    delta = output - y[..., None]
    return 0.5 * np.add.reduce(delta * delta, axis=-1), delta


def _huber(output: Array, y: Array) -> tuple[Array, Array]:
    error = output - y[..., None]
    delta = error.clip(-1, 1)
    return np.add.reduce(delta * (error - 0.5 * delta), axis=-1), delta


LOSSES = {
    "softmax": Loss(_softmax, _cross_entropy),
    "squared": Loss(_identity, _squared),
    "huber": Loss(_identity, _huber),  # Huber 1964, with k = 1: squared near 0, absolute further out
}
