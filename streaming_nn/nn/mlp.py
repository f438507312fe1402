"""The plain learner: one multilayer perceptron, standardised inputs, one optimizer."""

from dataclasses import asdict, dataclass
from functools import cached_property
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn import checks, network, scaling
from streaming_nn.nn.learner import Batch, Step
from streaming_nn.nn.network import Network
from streaming_nn.nn.optimizers import OPTIMIZERS, SGD, Adam
from streaming_nn.nn.scaling import Scaling

TARGET_CLIP = 6.0  # z-score past which no target pulls and no answer goes: one outlier must not throw all


class MLPState(NamedTuple):
    """The model."""

    theta: NDArray[np.float32]  # (1, parameters)
    optimizer: Any  # the optimizer's own NamedTuple
    features: Scaling  # (inputs,)
    targets: Scaling | None  # (1,) for regression


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron that learns online; options only, the model is `MLPState`.

    `classes` holds the labels in the order of the outputs, None means regression. `clip` bounds the inputs'
    z-scores. `window` and `fading` are those of the metrics. Errors: ValueError, one line for each option.
    """

    inputs: int
    classes: tuple[Any, ...] | None = None
    hidden: tuple[int, ...] = (64,)
    activation: str = "relu"
    optimizer: str = "adam"
    learning_rate: float = 0.003
    mini_batch: int = 32
    clip: float = 5.0
    initializer: str | float | None = None
    seed: int = 0
    window: int = 1000
    fading: float = 0.999

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if self.classes is not None:
            object.__setattr__(self, "classes", checks.labels("classes", self.classes))
        checks.whole("inputs", self.inputs)
        for units in self.hidden:
            checks.whole("hidden", units)
        checks.one_of("optimizer", self.optimizer, OPTIMIZERS)
        checks.whole("mini_batch", self.mini_batch)
        checks.between("clip", self.clip, 0, np.inf)
        checks.whole("seed", self.seed, 0)
        checks.whole("window", self.window)
        checks.between("fading", self.fading, 0, 1)
        _ = self._network, self._steps  # they check the rest

    @cached_property
    def _network(self) -> Network:
        outputs = 1 if self.classes is None else len(self.classes)
        loss = "squared" if self.classes is None else "softmax"
        return Network((self.inputs, *self.hidden, outputs), self.activation, loss, self.initializer)

    @cached_property
    def _steps(self) -> SGD | Adam:
        return OPTIMIZERS[self.optimizer](self.learning_rate)

    def options(self) -> dict[str, Any]:
        """Give the options, ready for JSON."""
        options = {"learner": "mlp", **asdict(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}

    def init(self) -> MLPState:
        """Return a model that has seen nothing; its weights are drawn from `seed`."""
        theta = network.initialize(self._network, np.random.default_rng(self.seed))
        targets = scaling.init(1) if self.classes is None else None
        return MLPState(theta, self._steps.init(theta), scaling.init(self.inputs), targets)

    def predict(self, state: MLPState, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Answer rows (rows, inputs) with (rows, outputs): class probabilities, or targets."""
        with np.errstate(all="ignore"):
            z = scaling.standardize(state.features, x, self.clip)
            return _in_unit(state.targets, network.predict(self._network, state.theta, z)[0])

    def step(self, state: MLPState, batch: Batch) -> tuple[MLPState, Step]:
        """Answer one mini-batch, then learn it; where anything is not finite, nothing of the state changes.

        Targets are standardised with themselves counted in: the answer has been given, and so the first
        mini-batch has a unit already.
        """
        x, y, weight = batch
        features, targets = scaling.update(state.features, x), state.targets
        if targets is not None:
            targets = scaling.update(targets, y[:, None])
            y = scaling.standardize(targets, y[:, None], TARGET_CLIP)[:, 0]
        z = scaling.standardize(state.features, x, self.clip)
        output, loss, slope = network.gradient(self._network, state.theta, z, y, weight)
        theta, optimizer = self._steps.update(state.optimizer, slope, state.theta)
        step = Step(_in_unit(state.targets, output[0]), _finite(loss, slope, theta, features, targets))
        return (MLPState(theta, optimizer, features, targets) if step.trained else state), step


def _in_unit(targets: Scaling | None, output: NDArray[np.float32]) -> NDArray[np.float32]:
    if targets is None:
        return output
    return scaling.restore(targets, output.clip(-TARGET_CLIP, TARGET_CLIP))


def _finite(loss: Any, slope: Any, theta: Any, features: Scaling, targets: Scaling | None) -> bool:
    """Tell whether a step may stand: a sum is finite only where all of its parts are."""
    loss, slope, theta = loss.reshape(-1), slope.reshape(-1), theta.reshape(-1)
    total = loss.dot(loss) + slope.dot(slope) + theta.dot(theta) + np.add.reduce(features.m2)
    return isfinite(total if targets is None else total + targets.m2[0])
