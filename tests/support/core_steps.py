"""Steps of the core, with the state and the initial parameters given for each call."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core.ensemble import Ensemble, EnsembleState, Model

Array = NDArray[Any]


def learn(
    ensemble: Ensemble,
    state: EnsembleState,
    x: Array,
    y: Array,
    weight: Array | None = None,
    *,
    mini_batch: int,
    initial: Array | None = None,
) -> tuple[Array, NDArray[np.bool_]]:
    return Model(ensemble, state, initial).learn(x, y, weight, mini_batch=mini_batch)


def predict(ensemble: Ensemble, state: EnsembleState, x: Array) -> Array:
    return Model(ensemble, state).predict(x)
