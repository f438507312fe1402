"""Each member's part of the vectors that a state has of all members."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core.ensemble import EnsembleState
from streaming_nn.nn.networks import NetworkLearner

Floats = NDArray[np.float32]


def thetas(learner: NetworkLearner, state: EnsembleState) -> list[Floats]:
    """Return views of each member's parameters."""
    return learner.core.layout.thetas(state.theta)


def vectors(learner: NetworkLearner, state: EnsembleState, name: str) -> list[Floats | None]:
    """Return views of each member's part of "theta", "first" or "second"; None: its optimizer has none."""
    parts: list[Floats | None] = getattr(learner.core.layout, f"{name}s")(getattr(state, name))
    return parts


def with_theta(learner: NetworkLearner, state: EnsembleState, member: int, theta: Any) -> EnsembleState:
    """Return the state with other parameters of one member."""
    changed = state._replace(theta=state.theta.copy())
    thetas(learner, changed)[member][:] = theta
    return changed
