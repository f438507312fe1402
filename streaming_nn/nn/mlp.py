"""The plain learner: one multilayer perceptron, standardised inputs, one optimizer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn import averaging, drift, losses, moments, network, optimizers, validation
from streaming_nn.nn.learner import Batch, Learner, Step
from streaming_nn.nn.losses import LOSSES, Loss
from streaming_nn.nn.moments import Moments
from streaming_nn.nn.network import Network
from streaming_nn.nn.optimizers import OPTIMIZERS, Optimizer
from streaming_nn.nn.preprocessing import ColumnGrowth, Inputs
from streaming_nn.nn.schedules import SCHEDULES, Schedule, WarmUp

Array = NDArray[Any]
TARGET_CLIP = 6.0  # bound of targets' and predictions' z-scores: one outlier must not spoil all weights
REACTIONS = ("report", "raise", "fresh")
OF_CLASSES = ("softmax", "logistic")
OF_LOSSES = ("quantiles", "huber_delta", "focal_gamma")
OF_OPTIMIZERS = ("momentum", "beta1", "beta2", "epsilon", "rho", "beta", "weight_decay")
OF_SCHEDULES = ("rows", "power", "drop", "growth", "least")


class MLPState(NamedTuple):
    """The model; what no option requires is None, and is not in a version."""

    theta: NDArray[np.float32]  # (1, parameters)
    optimizer: Any  # the optimizer's state, a NamedTuple
    feature_moments: Any  # (inputs,) the statistics of `Inputs`
    target_moments: Moments | None  # (1,) for regression
    rows: NDArray[np.int64] | None = None  # () learned; schedule, warm-up and dropout depend on it
    class_counts: NDArray[np.float64] | None = None  # (classes,) rows learned of each
    rate_boost: NDArray[np.float64] | None = None  # () of the rate since a drift


@dataclass(frozen=True)
class MLP(Learner[MLPState]):
    """A multilayer perceptron that learns online; options only, the model is `MLPState`.

    `classes` holds the labels in the order of the outputs, None means regression. `window` and `fading` are
    those of the metrics. An option that is None has the default of what it belongs to: `loss` of the task
    (softmax or squared), `initializer` of the activation, `quantiles` and the like of the loss, `momentum`
    and the like of the optimizer, and all that begin with `schedule_` of the schedule.

    Targets, and with them `huber_delta`, are in standard deviations; for the Poisson loss in running means.
    `warmup` and the schedules count rows. `l1` and `l2` are part of the gradient, `weight_decay` is not, and
    none of them changes biases. `class_weight` maps labels to weights (1 for the others), or is computed from
    the rows seen of each class: "balanced", or "effective" with `class_beta`. `scale`, `clip` and `missing`
    are those of `Inputs`; `drift` names the detector that watches the loss, and `on_drift` the reaction to a
    drift. Errors: ValueError, one line for each option.
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
    bias_initializer: str | float = 0.0
    loss: str | None = None
    quantiles: tuple[float, ...] | None = None  # of loss "quantile", one output each
    huber_delta: float | None = None  # of "huber": where it turns from squared to absolute
    focal_gamma: float | None = None  # of "softmax" and "logistic": how much less a good prediction counts
    momentum: float | None = None  # of optimizer "momentum" and "nesterov"
    beta1: float | None = None  # of "adam", "adamw" and "nadam", as beta2 is
    beta2: float | None = None
    epsilon: float | None = None  # of those, "adagrad" and "rmsprop"
    rho: float | None = None  # of "rmsprop": the decay of its squares
    beta: float | None = None  # of "ftrl", whose alpha is the learning rate
    schedule: str = "constant"
    schedule_rows: int | None = None  # of "inverse", "step" and "cosine": of one unit, step or period
    schedule_power: float | None = None  # of "inverse"
    schedule_drop: float | None = None  # of "step": the rate's factor at each step
    schedule_growth: float | None = None  # of "cosine": each period's length in the one before
    schedule_least: float | None = None  # of "cosine": the rate's factor at a period's end
    warmup: int = 0  # rows
    l1: float = 0.0
    l2: float = 0.0
    weight_decay: float | None = None  # 0.01 with "adamw", else 0
    dropout: float = 0.0  # probability that a hidden unit is left out of a step
    clip_value: float | None = None  # bound of each component of a gradient
    clip_norm: float | None = None  # bound of a gradient's norm
    class_weight: str | Mapping[Any, float] | Sequence[tuple[Any, float]] | None = None
    class_beta: float = 0.999
    scale: str = "standard"
    missing: str = "refuse"
    drift: str = "none"
    on_drift: str = "report"

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", validation.widths("hidden", self.hidden))
        if self.classes is not None:
            object.__setattr__(self, "classes", validation.labels("classes", self.classes))
        if self.quantiles is not None:
            object.__setattr__(self, "quantiles", losses.validate_quantiles(self.quantiles))
        if self.class_weight is not None:
            object.__setattr__(self, "class_weight", _class_weight(self.class_weight, self.classes))
        validation.integer("inputs", self.inputs)
        validation.one_of("optimizer", self.optimizer, OPTIMIZERS)
        validation.one_of("schedule", self.schedule, SCHEDULES)
        validation.integer("mini_batch", self.mini_batch)
        validation.one_of("drift", self.drift, ("none", *drift.DEFAULT_DETECTORS))
        validation.one_of("on_drift", self.on_drift, REACTIONS)
        validation.integer("seed", self.seed, 0)
        validation.integer("window", self.window)
        validation.between("fading", self.fading, 0, 1)
        self._validate_regularization()
        _ = self._inputs, self._network, self._steps, self._schedule  # they validate the rest

    def _validate_regularization(self) -> None:
        validation.integer("warmup", self.warmup, 0)
        for name in ("l1", "l2"):
            validation.between(name, getattr(self, name), 0, np.inf, low_in=True)
        validation.between("dropout", self.dropout, 0, 1, low_in=True)
        if self.dropout and not self.hidden:
            raise ValueError(f"dropout must be 0 without hidden units; got {self.dropout!r}")
        for name in ("clip_value", "clip_norm"):
            if getattr(self, name) is not None:
                validation.between(name, getattr(self, name), 0, np.inf)
        validation.between("class_beta", self.class_beta, 0, 1)
        if self.optimizer == "ftrl" and (self.schedule != "constant" or self.warmup):
            raise ValueError(
                "schedule must be 'constant' and warmup 0 with 'ftrl', which adapts its rates itself; "
                f"got {self.schedule!r} and {self.warmup}"
            )

    @cached_property
    def detector(self) -> Any:
        """The detector that watches the loss; None: drift is not detected."""
        return None if self.drift == "none" else drift.DEFAULT_DETECTORS[self.drift]

    @cached_property
    def _inputs(self) -> Inputs:
        return Inputs(self.inputs, self.scale, self.clip, self.missing)

    @cached_property
    def _network(self) -> Network:
        loss = self._loss
        if self.classes is None:
            outputs = len(loss.quantiles) if isinstance(loss, losses.Quantile) else 1
        else:
            outputs = 1 if isinstance(loss, losses.Logistic) else len(self.classes)
        layers = (self._inputs.width, *self.hidden, outputs)
        return Network(layers, self.activation, loss, self.initializer, self.bias_initializer)

    @cached_property
    def _loss(self) -> Loss:
        name = self.loss or ("squared" if self.classes is None else "softmax")
        if self.classes is None:
            validation.one_of("loss without classes", name, [n for n in LOSSES if n not in OF_CLASSES])
        else:
            validation.one_of("loss with classes", name, OF_CLASSES)
        if name == "logistic" and self.classes is not None and len(self.classes) != 2:
            raise ValueError(f"classes must be two with loss 'logistic'; got {self.classes!r}")
        kind = LOSSES[name]
        return kind(**self._given(kind, f"loss {name!r}", OF_LOSSES))

    @cached_property
    def _steps(self) -> Optimizer[Any]:
        kind = OPTIMIZERS[self.optimizer]
        given = self._given(kind, f"optimizer {self.optimizer!r}", OF_OPTIMIZERS)
        if self.optimizer == "ftrl":
            given |= {"l1": self.l1, "l2": self.l2}
        steps: Optimizer[Any] = kind(self.learning_rate, spared=self._network.biases, **given)
        return steps

    @cached_property
    def _schedule(self) -> Schedule | None:
        """The schedule; None where the rate is constant."""
        kind = SCHEDULES[self.schedule]
        given = self._given(kind, f"schedule {self.schedule!r}", OF_SCHEDULES, "schedule_")
        if self.warmup:
            return WarmUp(self.warmup, kind(**given))
        return None if self.schedule == "constant" else kind(**given)

    def _given(self, kind: Any, of: str, names: Iterable[str], prefix: str = "") -> dict[str, Any]:
        """Return the options of `kind` that are not None; ValueError for one that `kind` does not have."""
        given = {name: getattr(self, prefix + name) for name in names}
        given = {name: value for name, value in given.items() if value is not None}
        for name in sorted(given.keys() - {field.name for field in fields(kind)}):
            raise ValueError(f"{prefix}{name} must be left out with {of}; got {given[name]!r}")
        return given

    @property
    def point(self) -> int:
        """The output that is the point prediction: of quantiles, the one nearest to the median."""
        if isinstance(self._loss, losses.Quantile):
            return int(np.abs(np.array(self._loss.quantiles) - 0.5).argmin())
        return 0

    @property
    def shape(self) -> Network:
        """The shape of the network; with it, parameters can be viewed as layers."""
        return self._network

    @property
    def scaler(self) -> Inputs:
        """The preprocessing of rows."""
        return self._inputs

    def options(self) -> dict[str, Any]:
        """Return the options, ready for JSON."""
        options = {"learner": "mlp", **asdict(self)}
        if isinstance(self.class_weight, tuple):
            options["class_weight"] = [list(pair) for pair in self.class_weight]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}

    def init(self) -> MLPState:
        """Return an untrained model; its weights are drawn from `seed`."""
        theta = network.initialize(self._network, np.random.default_rng(self.seed))
        return MLPState(
            theta,
            self._steps.init(theta),
            self._inputs.init(),
            moments.init(1) if self.classes is None else None,
            np.zeros((), np.int64) if self._schedule or self.dropout else None,
            np.zeros(len(self.classes)) if self.classes and isinstance(self.class_weight, str) else None,
            np.zeros(()) if self.on_drift == "raise" else None,
        )

    def predict(self, state: MLPState, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict rows (rows, inputs): class probabilities or targets (rows, outputs).

        The logistic loss has the probabilities of both classes. Quantiles that crossed are sorted.
        """
        with np.errstate(all="ignore"):
            z = self._inputs.prepare(state.feature_moments, x)
            return self._restore(state.target_moments, network.predict(self._network, state.theta, z)[0])

    def step(self, state: MLPState, batch: Batch) -> tuple[MLPState, Step]:
        """Predict one mini-batch, then learn it; where anything is not finite, the state is unchanged.

        Targets are standardised by moments that include them: the prediction is made before, and so the first
        mini-batch has a unit already. Class weights from counts include the mini-batch as well.
        """
        x, y, weight = batch
        features = self._inputs.update(state.feature_moments, x)
        targets, counts = state.target_moments, state.class_counts
        if targets is not None:
            targets = moments.update(targets, y[:, None])
            y = self._standardize(targets, y[:, None])[:, 0]
        if self.class_weight is not None:
            counts, weight = self._weigh(counts, y, weight)
        z = self._inputs.prepare(state.feature_moments, x)
        output, loss, slope = self._gradient(state, z, y, weight)
        theta, optimizer = self._update(state, slope)
        seen = self._inputs.check(features)
        step = Step(
            self._restore(state.target_moments, output[0]), _finite(loss, slope, theta, seen, targets)
        )
        if not step.trained:
            return state, step
        rows = None if state.rows is None else np.asarray(state.rows + len(y))
        boost = drift.decay_boost(state.rate_boost, len(y))
        return MLPState(theta, optimizer, features, targets, rows, counts, boost), step

    def react(self, state: MLPState) -> MLPState:
        """React as `on_drift` requires: not at all, raise the rate for a while, or restart from scratch."""
        if self.on_drift == "raise":
            return state._replace(rate_boost=np.ones(()))
        if self.on_drift == "fresh":
            new = self.init()
            return state._replace(theta=new.theta, optimizer=new.optimizer)
        return state

    def merge(self, start: MLPState, parts: Sequence[MLPState], rows: Sequence[int]) -> MLPState:
        """Combine what tasks have learned from `start`; docs/averaged.md has the rule of each field."""
        share = averaging.shares(rows)
        theta = averaging.average_arrays([part.theta for part in parts], share)
        optimizer = averaging.average_states([part.optimizer for part in parts], share)
        if self.optimizer == "ftrl":  # its parameters are computed from its state, by a step with gradient 0
            theta, optimizer = self._steps.update(optimizer, np.zeros_like(theta), theta)
        targets = [part.target_moments for part in parts if part.target_moments is not None]
        return MLPState(
            theta,
            optimizer,
            self._inputs.combine(start.feature_moments, [part.feature_moments for part in parts]),
            None if start.target_moments is None else moments.combine(start.target_moments, targets),
            _summed(start.rows, [part.rows for part in parts]),
            _summed(start.class_counts, [part.class_counts for part in parts]),
            drift.decay_boost(start.rate_boost, sum(rows)),
        )

    def grow(self, state: MLPState, classes: int) -> MLPState:
        """Add an output for each new class: with weights 0, and the least of the biases."""
        theta = network.add_outputs(self._network, state.theta, classes)
        _, bias = network.views(self._network, theta)[-1]
        bias[:, :, classes:] = bias[:, :, :classes].min(axis=2, keepdims=True)
        counts = state.class_counts
        if counts is not None:
            counts = np.append(counts, np.zeros(self._network.layers[-1] - classes))
        change = partial(network.add_outputs, self._network, outputs=classes)
        memory = self._grow_optimizer(state, theta, change)
        return state._replace(theta=theta, optimizer=memory, class_counts=counts)

    def grow_inputs(self, state: MLPState, growth: ColumnGrowth) -> MLPState:
        """Add columns: their weights are drawn, those of their indicators 0."""
        before, origin, _ = self._inputs.prepared_growth(growth)
        change = partial(network.add_inputs, self._network, origin=origin, before=before)
        theta = change(state.theta)
        draw_inputs(self._network, theta, growth, self.seed)
        return state._replace(
            theta=theta,
            optimizer=self._grow_optimizer(state, theta, change),
            feature_moments=self._inputs.grow(state.feature_moments, growth),
        )

    def _grow_optimizer(self, state: MLPState, theta: Array, change: Callable[[Array], Array]) -> Any:
        """Return the optimizer's state for a theta with more parameters; the new ones have taken no step."""
        new = change(np.ones_like(state.theta)) == 0
        memory = [
            np.where(new, first, change(part)) if part.shape == state.theta.shape else part
            for part, first in zip(state.optimizer, self._steps.init(theta), strict=True)
        ]
        return type(state.optimizer)(*memory)

    def _gradient(self, state: MLPState, z: Array, y: Array, weight: Array | None) -> tuple[Any, Any, Any]:
        """Return predictions, losses and gradient; with dropout, the predictions are the full network's."""
        if not self.dropout:
            return network.gradient(self._network, state.theta, z, y, weight)
        assert state.rows is not None
        kept = network.dropout(self._network, self.dropout, len(z), self.seed, int(state.rows))
        _, loss, slope = network.gradient(self._network, state.theta, z, y, weight, kept)
        return network.predict(self._network, state.theta, z), loss, slope

    def _update(self, state: MLPState, slope: Array) -> tuple[Array, Any]:
        """Take the optimizer's step by the gradient, with penalties added, then clipped."""
        if not self._adjusted:
            return self._steps.update(state.optimizer, slope, state.theta)
        if self.optimizer != "ftrl":
            slope = self._penalize(slope, state.theta)
        if self.clip_value is not None:
            slope = optimizers.clip_by_value(slope, self.clip_value)
        if self.clip_norm is not None:
            slope = optimizers.clip_by_norm(slope, self.clip_norm)
        factor = drift.rate_factor(state.rate_boost)
        if self._schedule is not None and state.rows is not None:
            factor *= self._schedule.factor(int(state.rows))
        return self._steps.update(state.optimizer, slope, state.theta, factor)

    @cached_property
    def _adjusted(self) -> bool:
        """Whether gradient or rate are adjusted before a step; computed once, since most are not."""
        clips = self.clip_value is not None or self.clip_norm is not None
        scheduled = self._schedule is not None or self.on_drift == "raise"
        return scheduled or clips or self.l1 > 0 or self.l2 > 0

    def _penalize(self, slope: Array, theta: Array) -> Array:
        """Add the gradients of l1 * |theta| and of l2 / 2 * theta squared."""
        spared, (_, parameters) = self._network.biases, theta.shape
        if self.l1:
            slope = slope + np.sign(theta) * optimizers.penalty(spared, self.l1, parameters, theta.dtype)
        if self.l2:
            slope = slope + theta * optimizers.penalty(spared, self.l2, parameters, theta.dtype)
        return slope

    def _weigh(self, counts: Array | None, y: Array, weight: Array | None) -> tuple[Any, Array]:
        """Count classes y (rows,), and multiply the rows' weights by those of their classes."""
        if counts is None:
            of_class = self._fixed_weights
        else:
            counts = counts + np.bincount(y, minlength=len(counts))
            balanced = self.class_weight == "balanced"
            of_class = (
                losses.balanced_weights(counts)
                if balanced
                else losses.effective_weights(counts, self.class_beta)
            )
        of_row = of_class.astype(np.float32)[y]
        return counts, of_row if weight is None else of_row * weight

    @cached_property
    def _fixed_weights(self) -> Array:
        assert isinstance(self.class_weight, tuple)
        given = {(type(label), label): weight for label, weight in self.class_weight}
        return np.array([given.get((type(label), label), 1.0) for label in self.classes or ()])

    def _standardize(self, targets: Moments, y: Array) -> Array:
        if isinstance(self._loss, losses.Poisson):
            return y / mean_of_counts(targets)
        return moments.standardize(targets, y, TARGET_CLIP)

    def _restore(self, targets: Moments | None, output: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert the network's output to the learner's: both classes, targets in their unit, sorted."""
        if targets is None:
            logistic = isinstance(self._loss, losses.Logistic)
            return np.concatenate([1 - output, output], axis=1) if logistic else output
        if isinstance(self._loss, losses.Poisson):
            return output * mean_of_counts(targets)
        prediction = moments.restore(targets, output.clip(-TARGET_CLIP, TARGET_CLIP))
        return losses.sort_quantiles(prediction) if prediction.shape[1] > 1 else prediction


def _summed(start: Any, parts: Sequence[Any]) -> Any:
    """Sum what each part has counted since the start; None where nothing is counted."""
    return None if start is None else np.asarray(sum((part - start for part in parts), start))


def draw_inputs(shape: Network, theta: Array, growth: ColumnGrowth, seed: int) -> None:
    """Draw the first layer's weights of new columns, in place: the k-th after n columns is number n + k."""
    W = network.first_weights(shape, theta)
    for k, column in enumerate(np.flatnonzero(growth.origin < 0)):
        W[:, column] = network.draw_input(shape, growth.before + k, seed, len(theta))


def mean_of_counts(targets: Moments) -> NDArray[np.float32]:
    """Return the mean of counts, the unit of the Poisson loss; 1 where all have been 0."""
    return np.where(targets.mean > 0, targets.mean, 1).astype(np.float32)


def _class_weight(given: Any, classes: tuple[Any, ...] | None) -> Any:
    """Validate class weights; return pairs, or a name. A label may be a string, as a key must be in TOML."""
    if classes is None:
        raise ValueError(f"class_weight must be left out without classes; got {given!r}")
    if isinstance(given, str):
        validation.one_of("class_weight", given, ("balanced", "effective"))
        return given
    if not isinstance(given, (Mapping, tuple, list)):
        raise ValueError(f"class_weight must map labels to weights, or be a name; got {given!r}")
    pairs = []
    listed = given.items() if isinstance(given, Mapping) else given
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in listed):
        raise ValueError(f"class_weight must be pairs of label and weight; got {given!r}")
    for label, weight in listed:
        same = [c for c in classes if (type(c), c) == (type(label), label)] or [
            c for c in classes if (str(c).lower() if isinstance(c, bool) else str(c)) == label
        ]
        if not same:
            raise ValueError(f"class_weight must be for labels among {classes!r}; got {label!r}")
        validation.between("class_weight", weight, 0, np.inf, low_in=True)
        pairs.append((same[0], float(weight)))
    return tuple(pairs)


def _finite(loss: Any, slope: Any, theta: Any, seen: Any, targets: Moments | None) -> bool:
    """Return whether a step is finite: a sum is finite only where all of its parts are."""
    loss, slope, theta = loss.reshape(-1), slope.reshape(-1), theta.reshape(-1)
    total = loss.dot(loss) + slope.dot(slope) + theta.dot(theta) + seen
    return isfinite(total if targets is None else total + targets.m2[0])
