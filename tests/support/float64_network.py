"""A network in float64 by the textbook's formulas: predictions and losses, for finite differences."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core.networks import Shape

Array = NDArray[Any]
ACTIVATIONS: dict[str, Any] = {
    "identity": lambda z: z,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.maximum(z, 0.01 * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "gelu": lambda z: z / 2 * (1 + np.vectorize(math.erf)(z / np.sqrt(2))),
    "softplus": lambda z: np.logaddexp(z, 0),
}


def predict(shape: Shape, theta: Array, x: Array) -> Array:
    """Predict rows (rows, inputs) with a vector of parameters of float64."""
    *hidden, (W, b) = shape.views(theta)
    h = x.astype(np.float64)
    for V, c in hidden:
        h = ACTIVATIONS[shape.activation](h @ V + c)
    z = h @ W + b + (x @ shape.linear_view(theta) if shape.skip else 0)
    if shape.loss == "softmax":
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))
    if shape.loss == "logistic":
        return np.asarray(1 / (1 + np.exp(-z)))
    return np.asarray(np.exp(z) if shape.loss == "poisson" else z)


def losses(shape: Shape, p: Array, y: Array) -> Array:
    """Return the loss of each row (rows,) of predictions p (rows, outputs), given y (rows, targets)."""
    gamma, error = shape.options["focal_gamma"], p - y
    if shape.loss == "softmax":
        right = p[np.arange(len(y)), y[:, 0].astype(int)]
        return np.asarray(-((1 - right) ** gamma) * np.log(right))
    if shape.loss == "logistic":
        right = np.where(y == 1, p, 1 - p)
        return np.asarray((-((1 - right) ** gamma) * np.log(right)).sum(axis=1))
    if shape.loss == "quantile":
        levels = np.array(shape.options["quantiles"])
        return np.asarray(np.maximum(levels * (y - p), (levels - 1) * (y - p)).sum(axis=1))
    if shape.loss == "huber":
        far, size = shape.options["huber_delta"], np.abs(error)
        return np.where(size <= far, error**2 / 2, far * (size - far / 2)).sum(axis=1)
    each = {
        "squared": error**2 / 2,
        "absolute": np.abs(error),
        "poisson": p - y * np.log(np.maximum(p, 1e-300)),
    }
    return np.asarray(each[shape.loss].sum(axis=1))
