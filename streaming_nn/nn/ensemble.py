"""The learner that needs no tuning: an ensemble of networks and the mixture of their predictions."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache, partial
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn import averaging, drift, moments, network, replay_buffer, validation
from streaming_nn.nn.learner import Batch, Learner, Step
from streaming_nn.nn.mlp import TARGET_CLIP, draw_inputs
from streaming_nn.nn.moments import Moments
from streaming_nn.nn.network import Network
from streaming_nn.nn.optimizers import SGD, Adam
from streaming_nn.nn.preprocessing import ColumnGrowth, Inputs
from streaming_nn.nn.replay_buffer import ReplayBuffer

Array = NDArray[Any]
MIN_PROBABILITY = 1e-4  # below it a row's log loss in the mixture stops growing: no row alone decides
MAX_LOSS = 10.0  # loss of a row for a member that diverged; the bound of a regression's absolute error too
MAX_GRADIENT = 1e4  # norm of a gradient above which its member has diverged, for rows of weight 1
REACH = 2.0  # times the clip: how far a value may move the running mean and deviation
REACTIONS = ("report", "raise", "restart", "fresh")
TARGET_RATE = 0.3  # factor of SGD's rates for regression


class Members(NamedTuple):
    """Networks that are trained by the same optimizer."""

    theta: NDArray[np.float32]  # (members, parameters)
    optimizer: Any  # the optimizer's state, a NamedTuple


class EnsembleState(NamedTuple):
    """The model; in an axis of members, those trained by SGD come first."""

    sgd_members: Members
    replay_members: Members
    weights: NDArray[np.float64]  # (members,) of the mixture; sum to 1
    restarts: NDArray[np.int64]  # (members,)
    feature_moments: Any  # (inputs,) the statistics of `Inputs`
    target_moments: Moments | None  # (1,) for regression
    replay_buffer: ReplayBuffer  # rows of x, y and weight, side by side
    rate_boost: NDArray[np.float64] | None = None  # () of the rates since a drift; None: never raised


class ActiveColumns(NamedTuple):
    """The columns that have ever changed, where enough others never have: the others' weights learn nothing.

    With it goes a state whose members have `shape`; `full` is the state that it was cut from.
    """

    columns: NDArray[np.bool_]  # (width,)
    shape: Network
    full: EnsembleState


@dataclass(frozen=True)
class Ensemble(Learner[EnsembleState]):
    """Networks with a linear part, mixed by fixed share (Herbster & Warmuth 1998, section 5).

    `sgd_rates` has the rates of the members that learn new rows only, by SGD. `replay_rates` has, for each of
    the others, Adam's rate and how many old rows a new one weighs; they learn the new rows and `replay_rows`
    rows drawn from the last `buffer_rows` (fewer where these would take more than `buffer_bytes`). `eta` is
    the mixture's rate, and `share` the part of the weights that is redistributed evenly at each row. A member
    that diverges restarts as a copy of the best other one. `scale`, `clip` and `missing` are those of
    `Inputs`. `drift` names the detector that watches the loss, and `on_drift` the reaction to a drift.
    Errors: ValueError, one line for each option.
    """

    inputs: int
    classes: tuple[Any, ...] | None = None
    hidden: tuple[int, ...] = (64,)
    activation: str = "relu"
    sgd_rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.2)
    replay_rates: tuple[tuple[float, float], ...] = ((0.001, 1), (0.003, 1), (0.01, 1), (0.003, 8))
    replay_rows: int = 32
    buffer_rows: int = 5000
    buffer_bytes: int = 8 << 20
    eta: float = 0.25
    share: float = 0.003
    mini_batch: int = 32
    scale: str = "standard"
    clip: float = 5.0
    missing: str = "refuse"
    drift: str = "page_hinkley"
    on_drift: str = "report"
    seed: int = 0
    window: int = 1000
    fading: float = 0.999

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", validation.widths("hidden", self.hidden))
        object.__setattr__(self, "sgd_rates", validation.sequence("sgd_rates", self.sgd_rates, "numbers"))
        object.__setattr__(self, "replay_rates", _pairs(self.replay_rates))
        if self.classes is not None:
            object.__setattr__(self, "classes", validation.labels("classes", self.classes))
        for name in ("inputs", "replay_rows", "buffer_rows", "buffer_bytes", "mini_batch", "window"):
            validation.integer(name, getattr(self, name))
        validation.integer("seed", self.seed, 0)
        validation.between("clip", self.clip, 0, np.inf)  # before REACH is multiplied with it
        validation.between("eta", self.eta, 0, np.inf)
        validation.between("share", self.share, 0, 1)
        validation.between("fading", self.fading, 0, 1)
        validation.one_of("drift", self.drift, ("none", *drift.DEFAULT_DETECTORS))
        validation.one_of("on_drift", self.on_drift, REACTIONS)
        if not self.sgd_rates and not self.replay_rates:
            raise ValueError("sgd_rates and replay_rates must have at least one member together; got none")
        for rate in self.sgd_rates:
            validation.between("sgd_rates", rate, 0, np.inf)
        _ = self._inputs, self._network  # they validate the rest

    @cached_property
    def _network(self) -> Network:
        outputs = 1 if self.classes is None else len(self.classes)
        loss = "huber" if self.classes is None else "softmax"
        layers = (self._inputs.width, *self.hidden, outputs)
        return Network(
            layers,
            self.activation,
            loss,
            bias_initializer="lecun_normal",  # else, with few inputs, all units' kinks start at the mean
            output_initializer="zeros",
            skip=True,
        )

    @cached_property
    def _inputs(self) -> Inputs:
        return Inputs(self.inputs, self.scale, self.clip, self.missing, REACH * self.clip)

    @cached_property
    def _scaled_sgd_rates(self) -> tuple[float, ...]:
        scale = TARGET_RATE if self.classes is None else 1
        return tuple(rate * scale for rate in self.sgd_rates)

    @cached_property
    def _sgd(self) -> SGD:
        return SGD(self._scaled_sgd_rates)

    @cached_property
    def _adam(self) -> Adam:
        return Adam(tuple(rate for rate, _ in self.replay_rates))

    @cached_property
    def detector(self) -> Any:
        """The detector that watches the loss; None: drift is not detected."""
        return None if self.drift == "none" else drift.DEFAULT_DETECTORS[self.drift]

    @property
    def capacity(self) -> int:
        """Rows that the replay buffer holds."""
        return max(1, min(self.buffer_rows, self.buffer_bytes // (4 * (self.inputs + 2))))

    @property
    def shape(self) -> Network:
        """The shape of a member's network; with it, parameters can be viewed as layers."""
        return self._network

    @property
    def scaler(self) -> Inputs:
        """The preprocessing of rows."""
        return self._inputs

    def options(self) -> dict[str, Any]:
        """Return the options, ready for JSON."""
        options = {"learner": "ensemble", **asdict(self)}
        options["replay_rates"] = [list(pair) for pair in self.replay_rates]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}

    def init(self) -> EnsembleState:
        """Return an untrained model; each member's weights are another draw from `seed`."""
        theta = self._initial_theta()
        members, split = len(theta), len(self.sgd_rates)
        return EnsembleState(
            Members(theta[:split], self._sgd.init(theta[:split])),
            Members(theta[split:], self._adam.init(theta[split:])),
            np.full(members, 1 / members),
            np.zeros(members, np.int64),
            self._inputs.init(),
            moments.init(1) if self.classes is None else None,
            replay_buffer.init(self.capacity, self.inputs + 2),
            np.zeros(()) if self.on_drift == "raise" else None,
        )

    def _initial_theta(self) -> NDArray[np.float32]:
        members = len(self.sgd_rates) + len(self.replay_rates)
        return network.initialize(self._network, np.random.default_rng(self.seed), members)

    def predict(self, state: EnsembleState, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict rows (rows, inputs): class probabilities or targets (rows, outputs)."""
        with np.errstate(all="ignore"):
            z = self._inputs.prepare(state.feature_moments, x)
            state = state._replace(  # the optimizers' states need not be cut
                sgd_members=Members(state.sgd_members.theta, ()),
                replay_members=Members(state.replay_members.theta, ()),
            )
            z, state, active = self._select_active(z, len(x), state, None)
            shape = active.shape if active else self._network
            predictions = [network.predict(shape, group.theta, z) for group in state[:2]]
            return self._mix(state, np.concatenate(predictions))

    def step(self, state: EnsembleState, batch: Batch) -> tuple[EnsembleState, Step]:
        """Predict one mini-batch, then learn it; where a row is not finite, the state is unchanged."""
        state, (step,) = self.steps(state, [batch])
        return state, step

    def steps(self, state: EnsembleState, batches: Iterable[Batch]) -> tuple[EnsembleState, list[Step]]:
        """Take a step per batch; return the last state and all steps, with the bits of `step`.

        The replay buffer's ring is copied once, not for every 64 rows: a copy can take a tenth of the time.
        From one step to the next, members stay without the weights of inactive columns.
        """
        given, steps, active = state.replay_buffer.ring, [], None
        with np.errstate(all="ignore"):
            for batch in batches:
                state, active, step = self._step(
                    state, active, batch, owned=state.replay_buffer.ring is not given
                )
                steps.append(step)
        return self._restore_columns(state, active), steps

    def _step(
        self, state: EnsembleState, active: ActiveColumns | None, batch: Batch, owned: bool
    ) -> tuple[EnsembleState, ActiveColumns | None, Step]:
        rows, count = _side_by_side(batch), len(batch.y)
        old, kept = replay_buffer.draw(state.replay_buffer, self.replay_rows)
        both = np.concatenate([rows, old])
        z, features = self._inputs.prepare_and_update(state.feature_moments, both[:, :-2], count)
        z, state, active = self._select_active(z, count, state, active)
        shape = active.shape if active else self._network
        y, weight = self._labels(state.target_moments, both), both[:, -1]
        predictions, slopes = self._gradients(shape, state, z, y, weight, count)
        targets = (
            None if state.target_moments is None else moments.update(state.target_moments, batch.y[:, None])
        )
        step = Step(self._mix(state, predictions), self._finite(features, targets, rows))
        if not step.trained:
            return state, active, step
        loss = self._losses(predictions, y[:count]) @ weight[:count].astype(np.float64)
        bad = _diverged(loss, slopes, weight)
        if bad is not None:
            loss[bad] = MAX_LOSS * rows[:, -1].sum()
        factor = drift.rate_factor(state.rate_boost)
        learned = EnsembleState(
            _update(self._sgd, state.sgd_members, slopes[0], factor),
            _update(self._adam, state.replay_members, slopes[1], factor),
            _update_weights(state.weights, self.eta * loss, 1 - (1 - self.share) ** count),
            state.restarts,
            features,
            targets,
            replay_buffer.append(kept, rows, owned),
            drift.decay_boost(state.rate_boost, count),
        )
        if bad is None:
            return learned, active, step
        return self._restart(self._restore_columns(learned, active), bad), None, step

    def _select_active(
        self, z: Array, count: int, state: EnsembleState, active: ActiveColumns | None
    ) -> tuple[Array, EnsembleState, ActiveColumns | None]:
        """Return rows and state without inactive columns; the first `count` rows are new.

        A product with fewer columns can have other last bits, so the choice depends on the state and the
        rows alone, and not on `active`, the previous one, which only saves time.
        """
        columns = self._inputs.active_columns(state.feature_moments, z[:count])
        if columns is None:
            return z, self._restore_columns(state, active), None
        if active is None or not np.array_equal(columns, active.columns):
            full = self._restore_columns(state, active)
            active = ActiveColumns(columns, network.with_inputs(self._network, int(columns.sum())), full)
            cut = partial(network.select_inputs, self._network, columns=columns)
            state = full._replace(
                sgd_members=_each(cut, full.sgd_members), replay_members=_each(cut, full.replay_members)
            )
        return z.compress(columns, axis=1), state, active  # in C order, as z: products' bits depend on it

    def _restore_columns(self, state: EnsembleState, active: ActiveColumns | None) -> EnsembleState:
        """Return the state with the weights of inactive columns restored."""
        if active is None:
            return state
        put = partial(_restore, self._network, active.columns)
        return state._replace(
            sgd_members=put(active.full.sgd_members, state.sgd_members),
            replay_members=put(active.full.replay_members, state.replay_members),
        )

    def _labels(self, targets: Moments | None, rows: Array) -> Array:
        """Return class indices, or standardised targets."""
        if targets is None:
            return rows[:, -2].astype(np.intp)
        return moments.standardize(targets, rows[:, -2:-1], TARGET_CLIP)[:, 0]

    def _gradients(
        self, shape: Network, state: EnsembleState, z: Array, y: Array, weight: Array, count: int
    ) -> tuple[Array, tuple[Array, Array]]:
        """Return the members' predictions of the first `count` rows, the new ones, and the gradients.

        The members with replay predict the new rows once more, apart from the old ones: a product with more
        rows can have other last bits, and `predict` must have the same ones.
        """
        sgd_members, replay_members = state[:2]
        new, _, slope = network.gradient(shape, sgd_members.theta, z[:count], y[:count], weight[:count])
        replayed = network.predict(shape, replay_members.theta, z[:count])
        emphasis = _emphasis(self.replay_rates, count, len(z) - count)
        _, _, replay_slope = network.gradient(shape, replay_members.theta, z, y, emphasis * weight)
        return np.concatenate([new, replayed]), (slope, replay_slope)

    def _finite(self, features: Any, targets: Moments | None, rows: Array) -> bool:
        """Return whether all input is finite: a sum is finite only where all of its parts are."""
        total = self._inputs.check(features) + self._inputs.check_rows(rows[:, :-2])
        total += np.add.reduce(rows[:, -2:], axis=None)
        return isfinite(total if targets is None else total + targets.m2[0])

    def _losses(self, predictions: Array, y: Array) -> NDArray[np.float64]:
        """Return each member's loss at each row (members, rows): log loss or absolute error; both bounded."""
        if self.classes is None:
            error: NDArray[np.float64] = np.abs(predictions[:, :, 0] - y, dtype=np.float64)
            return np.minimum(error, MAX_LOSS, out=error)
        right: NDArray[np.float64] = predictions[:, np.arange(len(y)), y].astype(np.float64)
        np.log(np.maximum(right, MIN_PROBABILITY), out=right)
        return np.negative(right, out=right)

    def _mix(self, state: EnsembleState, predictions: Array) -> NDArray[np.float32]:
        """Average the members' predictions (members, rows, outputs); one that is not finite has weight 0."""
        weight, targets = state.weights, state.target_moments
        if not isfinite(np.add.reduce(predictions, axis=None)):
            mixed = _mix_finite(weight, predictions, 1 / predictions.shape[2] if targets is None else 0.0)
        else:
            if targets is not None:
                predictions = predictions.clip(-TARGET_CLIP, TARGET_CLIP)
            mixed = weight.astype(np.float32) @ predictions.reshape(len(predictions), -1)
            mixed = mixed.reshape(predictions.shape[1:])
        return mixed if targets is None else moments.restore(targets, mixed)

    def members(self, state: EnsembleState) -> list[dict[str, Any]]:
        """Describe each member: its optimizer, its weight in the mixture, how often it was restarted."""
        names = [f"sgd {rate:g}" for rate in self._scaled_sgd_rates]
        names += [f"adam {rate:g}, replay {new:g}:1" for rate, new in self.replay_rates]
        return [
            {"member": name, "weight": round(float(weight), 6), "restarts": int(restarts)}
            for name, weight, restarts in zip(names, state.weights, state.restarts, strict=True)
        ]

    def react(self, state: EnsembleState) -> EnsembleState:
        """React as `on_drift` requires.

        "report": not at all; "raise": raise the rates for a while; "restart": restart the worse half of the
        members as copies of the best; "fresh": restart the worst member from scratch.
        """
        if self.on_drift == "report":
            return state
        if self.on_drift == "raise":
            return state._replace(rate_boost=np.ones(()))
        ranks = state.weights.argsort(kind="stable")
        if self.on_drift == "restart":
            return self._restart(state, np.isin(np.arange(len(ranks)), ranks[: len(ranks) // 2]))
        return self._restart_from_scratch(state, np.arange(len(ranks)) == ranks[0])

    def merge(
        self, start: EnsembleState, parts: Sequence[EnsembleState], rows: Sequence[int]
    ) -> EnsembleState:
        """Combine what tasks have learned from `start`; docs/averaged.md has the rule of each field.

        A member that one of them had to restart is restarted from the combined ones.
        """
        share = averaging.shares(rows)
        moved = np.sum([np.log(part.weights) - np.log(start.weights) for part in parts], axis=0)
        targets = [part.target_moments for part in parts if part.target_moments is not None]
        merged = EnsembleState(
            averaging.average_states([part.sgd_members for part in parts], share),
            averaging.average_states([part.replay_members for part in parts], share),
            _update_weights(start.weights, -moved, self.share),
            start.restarts,
            self._inputs.combine(start.feature_moments, [part.feature_moments for part in parts]),
            None if start.target_moments is None else moments.combine(start.target_moments, targets),
            replay_buffer.merge(start.replay_buffer, [part.replay_buffer for part in parts]),
            drift.decay_boost(start.rate_boost, sum(rows)),
        )
        bad = np.any([part.restarts > start.restarts for part in parts], axis=0)
        return self._restart(merged, bad) if bad.any() else merged

    def grow(self, state: EnsembleState, classes: int) -> EnsembleState:
        """Add an output for each new class to each member: with weights 0, and the least of the biases."""
        return state._replace(
            sgd_members=self._add_outputs(state.sgd_members, classes),
            replay_members=self._add_outputs(state.replay_members, classes),
        )

    def grow_inputs(self, state: EnsembleState, growth: ColumnGrowth) -> EnsembleState:
        """Add columns to each member: their weights are drawn, those of their indicators 0."""
        (before, origin, _), split = self._inputs.prepared_growth(growth), len(self.sgd_rates)
        change = partial(network.add_inputs, self._network, origin=origin, before=before)
        sgd, replay = _each(change, state.sgd_members), _each(change, state.replay_members)
        theta = np.concatenate([sgd.theta, replay.theta])
        draw_inputs(self._network, theta, growth, self.seed)
        rows = ColumnGrowth(  # of the replay buffer: the columns, then y and weight
            growth.before + 2,
            np.append(growth.origin, [growth.before, growth.before + 1]),
            np.append(growth.fill, np.zeros(2, np.float32)),
        )
        return state._replace(
            sgd_members=sgd._replace(theta=theta[:split]),
            replay_members=replay._replace(theta=theta[split:]),
            feature_moments=self._inputs.grow(state.feature_moments, growth),
            replay_buffer=replay_buffer.rearrange(
                state.replay_buffer, self.capacity, self.inputs + 2, lambda x: rows.move(x, rows.fill)
            ),
        )

    def _add_outputs(self, members: Members, classes: int) -> Members:
        wide = _each(lambda part: network.add_outputs(self._network, part, classes), members)
        _, bias = network.views(self._network, wide.theta)[-1]
        bias[:, :, classes:] = bias[:, :, :classes].min(axis=2, keepdims=True)
        return wide

    def _restart(self, state: EnsembleState, bad: NDArray[np.bool_]) -> EnsembleState:
        """Restart bad members as copies of the best good one, or from scratch if all are bad."""
        if bad.all():
            return self._restart_from_scratch(state, bad)
        theta = np.concatenate([state.sgd_members.theta, state.replay_members.theta])
        theta[bad] = theta[np.where(bad, -1.0, state.weights).argmax()]
        return self._with_theta(state, theta, bad)

    def _restart_from_scratch(self, state: EnsembleState, bad: NDArray[np.bool_]) -> EnsembleState:
        """Restart bad members from scratch."""
        theta = np.concatenate([state.sgd_members.theta, state.replay_members.theta])
        return self._with_theta(state, np.where(bad[:, None], self._initial_theta(), theta), bad)

    def _with_theta(self, state: EnsembleState, theta: Array, bad: NDArray[np.bool_]) -> EnsembleState:
        split = len(self.sgd_rates)
        return state._replace(
            sgd_members=_with(state.sgd_members, theta[:split], bad[:split], self._sgd),
            replay_members=_with(state.replay_members, theta[split:], bad[split:], self._adam),
            restarts=state.restarts + bad,
        )


def _pairs(replay_rates: Any) -> tuple[tuple[float, float], ...]:
    every = validation.sequence("replay_rates", replay_rates, "pairs of rate and emphasis")
    pairs = tuple(tuple(pair) if isinstance(pair, (list, tuple)) else (pair,) for pair in every)
    for pair in pairs:
        if len(pair) != 2:
            raise ValueError(f"replay_rates must be pairs of rate and emphasis; got {pair!r}")
        validation.between("a rate of replay_rates", pair[0], 0, np.inf)
        validation.between("an emphasis of replay_rates", pair[1], 0, np.inf)
    return pairs


def _side_by_side(batch: Batch) -> NDArray[np.float32]:
    x, y, weight = batch
    rows = np.empty((len(x), x.shape[1] + 2), np.float32)
    rows[:, :-2] = x
    rows[:, -2] = y  # a class index up to 2**24 is exact
    rows[:, -1] = 1 if weight is None else weight
    return rows


@lru_cache(64)
def _emphasis(replay_rates: tuple[tuple[float, float], ...], new: int, old: int) -> NDArray[np.float32]:
    """Return the weights (members, new + old) of new and old rows in a mean; a member's have mean 1."""
    emphasis = np.ones((len(replay_rates), new + old), np.float32)
    emphasis[:, :new] = np.array([each for _, each in replay_rates], np.float32)[:, None]
    emphasis /= emphasis.mean(axis=1, keepdims=True)
    emphasis.flags.writeable = False
    return emphasis


def _diverged(loss: Array, slopes: Sequence[Array], weight: Array) -> NDArray[np.bool_] | None:
    """Return which members (members,) have diverged; None, which is quick to find, if no member has."""
    most = (MAX_GRADIENT * max(1.0, float(np.maximum.reduce(weight)))) ** 2
    squares = np.concatenate([np.vecdot(slope, slope) for slope in slopes])
    if np.maximum.reduce(squares) < most and isfinite(np.add.reduce(loss)):
        return None
    return ~(np.isfinite(loss) & (squares < most))


def _update(optimizer: SGD | Adam, members: Members, slope: Array, factor: float) -> Members:
    theta, memory = optimizer.update(members.optimizer, slope, members.theta, factor)
    return Members(theta, memory)


def _update_weights(weight: Array, loss: Array, redistributed: float) -> NDArray[np.float64]:
    """Take fixed share's step: weights fall with the loss, then a part of them is redistributed evenly."""
    new: NDArray[np.float64] = weight * np.exp(np.minimum.reduce(loss) - loss)
    new *= (1 - redistributed) / float(np.add.reduce(new))
    new += redistributed / len(new)
    return new


def _mix_finite(weight: Array, predictions: Array, default: float) -> NDArray[np.float32]:
    """Mix as `_mix` does; probabilities are within the clip of targets, which leaves them unchanged."""
    finite = np.logical_and.reduce(np.isfinite(predictions), axis=2)  # (members, rows)
    predictions = np.where(finite[:, :, None], predictions, 0).clip(-TARGET_CLIP, TARGET_CLIP)
    weights = weight[:, None] * finite
    total = weights.sum(axis=0)
    weights = weights / np.where(total > 0, total, 1)
    mixed = np.add.reduce(weights[:, :, None] * predictions, axis=0)
    mixed[total == 0] = default
    narrow: NDArray[np.float32] = mixed.astype(np.float32)
    return narrow


def _with(members: Members, theta: Array, bad: NDArray[np.bool_], optimizer: SGD | Adam) -> Members:
    """Replace theta, and reset the optimizer's state of the bad members."""
    pairs = zip(members.optimizer, optimizer.init(theta), strict=True)
    memory = [np.where(bad[:, None], first, now) for now, first in pairs]
    return Members(theta, type(members.optimizer)(*memory))


def _each(change: Callable[[Array], Array], members: Members) -> Members:
    """Change theta, and the optimizer's state of each parameter."""
    memory = (change(part) if part.shape == members.theta.shape else part for part in members.optimizer)
    return Members(change(members.theta), type(members.optimizer)(*memory))


def _restore(shape: Network, columns: NDArray[np.bool_], full: Members, part: Members) -> Members:
    """Return the full members, with what has been learned of the weights of some columns alone."""

    def put(now: Array, then: Array) -> Array:
        if now.shape == then.shape:
            return now
        then = then.copy()
        network.restore_inputs(shape, then, now, columns)
        return then

    memory = map(put, part.optimizer, full.optimizer)
    return Members(put(part.theta, full.theta), type(part.optimizer)(*memory))
