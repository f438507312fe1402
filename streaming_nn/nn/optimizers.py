"""Optimizers: pure steps on a flat vector of parameters, or on a stack of such vectors."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn import checks

Array = NDArray[Any]
Memory = TypeVar("Memory", bound=tuple[Any, ...])
QUIET = 1e-18  # added to a gradient: moments that fade to subnormal numbers slow many CPUs down

Rate = float | tuple[float, ...]  # one for all members, or one each


class Optimizer(Protocol[Memory]):
    """Options of an optimizer, frozen; what it remembers is the state that goes in and comes out."""

    def init(self, theta: Array) -> Memory:
        """Return the state before the first step."""

    def update(self, state: Memory, gradient: Array, theta: Array) -> tuple[Array, Memory]:
        """Take one step: new theta (members, parameters) and new state; what came in is not changed."""


def _check_rate(rate: Rate) -> None:
    for each in rate if isinstance(rate, tuple) else (rate,):
        checks.between("learning_rate", each, 0, np.inf)


def _rate_array(rate: Rate) -> Any:
    return np.array(rate, np.float32)[:, None] if isinstance(rate, tuple) else rate


class SGDState(NamedTuple):
    """Plain gradient descent remembers nothing."""


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: theta - learning_rate * gradient (Robbins & Monro 1951)."""

    learning_rate: Rate = 0.05

    def __post_init__(self) -> None:
        _check_rate(self.learning_rate)

    @cached_property
    def _rate(self) -> Any:
        return _rate_array(self.learning_rate)

    def init(self, theta: Array) -> SGDState:
        """Return the empty state."""
        return SGDState()

    def update(self, state: SGDState, gradient: Array, theta: Array) -> tuple[Array, SGDState]:
        """Take one step."""
        step = gradient * self._rate
        return np.subtract(theta, step, out=step), state


class AdamState(NamedTuple):
    """Running moments of the gradient."""

    power1: NDArray[np.float64]  # (members, 1) beta1 to the number of steps
    power2: NDArray[np.float64]  # (members, 1) beta2 to the number of steps
    m: Array  # (members, parameters) first moment
    v: Array  # (members, parameters) second moment


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1)."""

    learning_rate: Rate = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _check_rate(self.learning_rate)
        checks.between("beta1", self.beta1, 0, 1, low_in=True)
        checks.between("beta2", self.beta2, 0, 1, low_in=True)
        checks.between("epsilon", self.epsilon, 0, np.inf)

    @cached_property
    def _rate(self) -> Any:
        return _rate_array(self.learning_rate)

    def init(self, theta: Array) -> AdamState:
        """Return moments of zero."""
        one = np.ones((len(theta), 1))
        return AdamState(one, one, np.zeros_like(theta), np.zeros_like(theta))

    def update(self, state: AdamState, gradient: Array, theta: Array) -> tuple[Array, AdamState]:
        """Take one step; the bias corrections are folded into rate and epsilon (section 2, last lines)."""
        power1, power2 = state.power1 * self.beta1, state.power2 * self.beta2
        gradient = gradient + QUIET
        m = state.m * self.beta1
        v = state.v * self.beta2
        step = gradient * (1 - self.beta1)
        m += step
        gradient *= gradient
        gradient *= 1 - self.beta2
        v += gradient
        root = np.sqrt(1 - power2)
        np.sqrt(v, out=step)
        step += (self.epsilon * root).astype(theta.dtype)
        np.divide(m, step, out=step)
        step *= (self._rate * root / (1 - power1)).astype(theta.dtype)
        return np.subtract(theta, step, out=step), AdamState(power1, power2, m, v)


OPTIMIZERS: dict[str, type[SGD] | type[Adam]] = {"sgd": SGD, "adam": Adam}
