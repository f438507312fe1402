"""Optimizers: pure steps on a flat vector of parameters, or on a stack of such vectors."""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn import validation

Array = NDArray[Any]
Memory = TypeVar("Memory", bound=tuple[Any, ...])
QUIET = 1e-16  # added to a gradient: moments that decay to subnormal numbers (1e-38) slow CPUs down fourfold

Rate = float | tuple[float, ...]  # one for all members, or one per member
Spans = tuple[tuple[int, int], ...]  # slices of parameters: start and stop


class Optimizer(Protocol[Memory]):
    """Options of an optimizer, immutable; its memory is the state that goes in and comes out."""

    def init(self, theta: Array) -> Memory:
        """Return the state before the first step."""

    def update(
        self, state: Memory, gradient: Array, theta: Array, factor: float = 1.0
    ) -> tuple[Array, Memory]:
        """Take one step at `factor` times the rate: new theta (members, parameters) and new state.

        What came in is not changed.
        """


def clip_by_value(gradient: Array, most: float) -> Array:
    """Clip each component of a gradient to [-most, most]."""
    return np.clip(gradient, -most, most)


def clip_by_norm(gradient: Array, most: float) -> Array:
    """Scale each member's gradient to norm `most`, where it is greater (Pascanu et al. 2013, algorithm 1).

    The members are the rows. Where a square overflows the dtype, the gradient becomes 0.
    """
    length = np.sqrt(np.einsum("ij,ij->i", gradient, gradient))[:, None]
    shorter: Array = gradient * (most / np.maximum(length, most))
    return shorter


@lru_cache(32)
def penalty(spared: Spans, value: float, parameters: int, dtype: Any) -> Array:
    """Return (parameters,) of `value`, except 0 where `spared`; read-only."""
    values = np.full(parameters, value, dtype)
    for start, end in spared:
        values[start:end] = 0
    values.flags.writeable = False
    return values


@dataclass(frozen=True)
class _Descent:
    """What every optimizer has: a rate, and weight decay separate from the gradient.

    Each step reduces every parameter by `weight_decay` times the rate (Loshchilov & Hutter 2019, algorithms 1
    and 2), except those in `spared`, such as biases.
    """

    learning_rate: Rate = 0.05
    weight_decay: float = field(default=0.0, kw_only=True)
    spared: Spans = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        for each in self.learning_rate if isinstance(self.learning_rate, tuple) else (self.learning_rate,):
            validation.between("learning_rate", each, 0, np.inf)
        validation.between("weight_decay", self.weight_decay, 0, np.inf, low_in=True)

    @cached_property
    def _rate(self) -> Any:
        rate = self.learning_rate
        return np.array(rate, np.float32)[:, None] if isinstance(rate, tuple) else rate

    def _scaled(self, factor: float) -> Any:
        return self._rate if factor == 1 else self._rate * factor

    def _descend(self, theta: Array, step: Array, rate: Any) -> Array:
        """Return theta - step with weight decay; overwrites step."""
        if self.weight_decay:
            step += theta * (rate * penalty(self.spared, self.weight_decay, theta.shape[1], theta.dtype))
        return np.subtract(theta, step, out=step)


class SGDState(NamedTuple):
    """The empty memory of plain gradient descent."""


@dataclass(frozen=True)
class SGD(_Descent):
    """Stochastic gradient descent: theta - learning_rate * gradient (Robbins & Monro 1951)."""

    def init(self, theta: Array) -> SGDState:
        """Return the empty state."""
        return SGDState()

    def update(
        self, state: SGDState, gradient: Array, theta: Array, factor: float = 1.0
    ) -> tuple[Array, SGDState]:
        """Take one step."""
        rate = self._scaled(factor)
        return self._descend(theta, gradient * rate, rate), state


class Velocity(NamedTuple):
    """The velocity of the parameters."""

    velocity: Array  # (members, parameters)


@dataclass(frozen=True)
class Momentum(_Descent):
    """The heavy ball (Polyak 1964): each step adds `momentum` times the one before."""

    momentum: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        validation.between("momentum", self.momentum, 0, 1, low_in=True)

    def init(self, theta: Array) -> Velocity:
        """Return a velocity of zero."""
        return Velocity(np.zeros_like(theta))

    def update(
        self, state: Velocity, gradient: Array, theta: Array, factor: float = 1.0
    ) -> tuple[Array, Velocity]:
        """Take one step."""
        rate = self._scaled(factor)
        velocity = self._velocity(state, gradient, rate)
        return self._descend(theta, np.negative(velocity), rate), Velocity(velocity)

    def _velocity(self, state: Velocity, gradient: Array, rate: Any) -> Array:
        velocity: Array = state.velocity * self.momentum
        velocity -= (gradient + QUIET) * rate
        return velocity


@dataclass(frozen=True)
class Nesterov(Momentum):
    """Nesterov's momentum as in Sutskever et al. 2013, equations 3 and 4.

    Theta is the point to which the velocity will have led, where the gradient is taken: so it is the gradient
    of the prediction that was made.
    """

    def update(
        self, state: Velocity, gradient: Array, theta: Array, factor: float = 1.0
    ) -> tuple[Array, Velocity]:
        """Take one step."""
        rate = self._scaled(factor)
        velocity = self._velocity(state, gradient, rate)
        step = gradient * rate
        step -= velocity * self.momentum
        return self._descend(theta, step, rate), Velocity(velocity)


class SquaresState(NamedTuple):
    """Squares of the gradients so far."""

    v: Array  # (members, parameters)


@dataclass(frozen=True)
class Adagrad(_Descent):
    """Adagrad (Duchi et al. 2011, figure 1, diagonal): rates fall with the gradients' squares."""

    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        validation.between("epsilon", self.epsilon, 0, np.inf)

    def init(self, theta: Array) -> SquaresState:
        """Return squares of zero."""
        return SquaresState(np.zeros_like(theta))

    def update(
        self, state: SquaresState, gradient: Array, theta: Array, factor: float = 1.0
    ) -> tuple[Array, SquaresState]:
        """Take one step."""
        v = self._squares(state.v, gradient)
        rate = self._scaled(factor)
        step: Array = gradient / (np.sqrt(v) + self.epsilon)
        step *= rate
        return self._descend(theta, step, rate), SquaresState(v)

    def _squares(self, v: Array, gradient: Array) -> Array:
        squares = gradient * gradient
        squares += v
        return squares


@dataclass(frozen=True)
class RMSProp(Adagrad):
    """RMSProp (Tieleman & Hinton 2012, lecture 6.5): as Adagrad, its squares decay by `rho` per step."""

    learning_rate: Rate = 0.001
    rho: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        validation.between("rho", self.rho, 0, 1, low_in=True)

    def _squares(self, v: Array, gradient: Array) -> Array:
        squares: Array = gradient + QUIET
        squares *= squares
        squares *= 1 - self.rho
        squares += v * self.rho
        return squares


class AdamState(NamedTuple):
    """Running moments of the gradient."""

    power1: NDArray[np.float64]  # (members, 1) beta1 to the number of steps
    power2: NDArray[np.float64]  # (members, 1) beta2 to the number of steps
    m: Array  # (members, parameters) first moment
    v: Array  # (members, parameters) second moment


@dataclass(frozen=True)
class Adam(_Descent):
    """Adam (Kingma & Ba 2015, algorithm 1)."""

    learning_rate: Rate = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        validation.between("beta1", self.beta1, 0, 1, low_in=True)
        validation.between("beta2", self.beta2, 0, 1, low_in=True)
        validation.between("epsilon", self.epsilon, 0, np.inf)

    def init(self, theta: Array) -> AdamState:
        """Return moments of zero."""
        one = np.ones((len(theta), 1))
        return AdamState(one, one, np.zeros_like(theta), np.zeros_like(theta))

    def update(
        self, state: AdamState, gradient: Array, theta: Array, factor: float = 1.0
    ) -> tuple[Array, AdamState]:
        """Take one step; the bias corrections are folded into rate and epsilon (section 2, last lines)."""
        power1, power2 = state.power1 * self.beta1, state.power2 * self.beta2
        gradient = gradient + QUIET
        m = state.m * self.beta1
        v = state.v * self.beta2
        step = gradient * (1 - self.beta1)
        m += step
        ahead = self._ahead(m, step, power1)
        gradient *= gradient
        gradient *= 1 - self.beta2
        v += gradient
        root = np.sqrt(1 - power2)
        np.sqrt(v, out=step)
        step += (self.epsilon * root).astype(theta.dtype)
        np.divide(ahead, step, out=step)
        rate = self._scaled(factor)
        step *= (rate * root / (1 - power1)).astype(theta.dtype)
        return self._descend(theta, step, rate), AdamState(power1, power2, m, v)

    def _ahead(self, m: Array, fresh: Array, power1: Array) -> Array:
        """Return the moment to step along; `fresh` is what the gradient has just added to it."""
        return m


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2, with lambda times alpha)."""

    weight_decay: float = field(default=0.01, kw_only=True)


@dataclass(frozen=True)
class Nadam(Adam):
    """Adam with Nesterov's momentum (Dozat 2016), its mu the constant beta1."""

    def _ahead(self, m: Array, fresh: Array, power1: Array) -> Array:
        later = self.beta1 * (1 - power1) / (1 - power1 * self.beta1)
        ahead: Array = m * later.astype(m.dtype) + fresh
        return ahead


class FTRLState(NamedTuple):
    """The state from which the parameters are computed."""

    z: Array  # (members, parameters) sum of gradients, less the movement so far
    n: Array  # (members, parameters) sum of their squares


@dataclass(frozen=True)
class FTRL(_Descent):
    """FTRL-proximal (McMahan et al. 2013, algorithm 1), `learning_rate` its alpha.

    `l1` and `l2` are lambda 1 and 2, except of parameters in `spared`. Beta pulls towards the initial
    parameters, where the algorithm has 0, at which a network cannot start. The rates fall by the algorithm's
    rule; a factor other than 1 is a ValueError.
    """

    learning_rate: Rate = 0.1
    beta: float = 1.0
    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        validation.between("beta", self.beta, 0, np.inf)
        validation.between("l1", self.l1, 0, np.inf, low_in=True)
        validation.between("l2", self.l2, 0, np.inf, low_in=True)
        if self.weight_decay:
            raise ValueError(f"weight_decay must be 0 with 'ftrl', which has l2; got {self.weight_decay!r}")

    def init(self, theta: Array) -> FTRLState:
        """Return the z of theta without lambdas, and squares of zero."""
        return FTRLState(-theta * (self.beta / self._rate), np.zeros_like(theta))

    def update(
        self, state: FTRLState, gradient: Array, theta: Array, factor: float = 1.0
    ) -> tuple[Array, FTRLState]:
        """Take one step."""
        if factor != 1:
            raise ValueError(f"factor must be 1 with 'ftrl', which adapts its rates itself; got {factor!r}")
        l1, l2 = self._lambdas(theta)
        n = state.n + gradient * gradient
        root = np.sqrt(n)
        sigma = (root - np.sqrt(state.n)) / self._rate
        z = state.z + gradient - sigma * theta
        strength = (self.beta + root) / self._rate + l2
        new = np.sign(z) * np.maximum(np.abs(z) - l1, 0) / -strength
        return new, FTRLState(z, n)

    def _lambdas(self, theta: Array) -> tuple[Array, Array]:
        _, parameters = theta.shape
        l1 = penalty(self.spared, self.l1, parameters, theta.dtype)
        return l1, penalty(self.spared, self.l2, parameters, theta.dtype)


OPTIMIZERS: dict[str, type[Any]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": Adagrad,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": Nadam,
    "ftrl": FTRL,
}
