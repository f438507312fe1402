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
    z -= np.maximum.reduce(z, axis=-1, keepdims=True)
    np.exp(z, out=z)
    z /= np.add.reduce(z, axis=-1, keepdims=True)
    return z


def _cross_entropy(p: Array, y: Array) -> tuple[Array, Array]:
    at = _row_starts(*p.shape) + y  # y (rows,) or (members, rows): index of each row's class
    delta = p.copy()
    chosen = delta.reshape(-1)
    right = chosen[at]
    chosen[at] = right - 1
    return -np.log(np.maximum(right, np.finfo(p.dtype).tiny)), delta


def _identity(z: Array) -> Array:
    return z


def _squared(output: Array, y: Array) -> tuple[Array, Array]:
    delta = output - y[..., None]
    return 0.5 * np.add.reduce(delta * delta, axis=-1), delta


LOSSES = {
    "softmax": Loss(_softmax, _cross_entropy),
    "squared": Loss(_identity, _squared),
}
