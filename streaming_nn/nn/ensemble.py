"""The learner that needs no tuning: networks that learn side by side, and the mixture of their answers."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache, partial
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn import averaging, drift, moments, network, replay_buffer, validation
from streaming_nn.nn.learner import Batch, Step
from streaming_nn.nn.mlp import TARGET_CLIP
from streaming_nn.nn.moments import Scaling
from streaming_nn.nn.network import Network
from streaming_nn.nn.optimizers import SGD, Adam
from streaming_nn.nn.preprocessing import Inputs
from streaming_nn.nn.replay_buffer import Buffer

Array = NDArray[Any]
LEAST = 1e-4  # probability at which a row's log loss in the mixture ends: no row alone decides
MOST = 10.0  # loss of a row for a member that diverged; a regression's absolute error ends here too
HOPELESS = 1e4  # norm of a gradient past which its member has diverged, for rows of weight 1
REACH = 2.0  # times the clip: how far a value may pull the running mean and deviation
REACTIONS = ("report", "raise", "restart", "fresh")
TARGET_RATE = 0.3  # SGD's rates for regression are this much smaller


class Members(NamedTuple):
    """Networks that learn alike."""

    theta: NDArray[np.float32]  # (members, parameters)
    optimizer: Any  # the optimizer's own NamedTuple


class EnsembleState(NamedTuple):
    """The model; where members are counted, followers come first."""

    followers: Members
    replayers: Members
    weight: NDArray[np.float64]  # (members,) of the mixture; sums to 1
    restarts: NDArray[np.int64]  # (members,)
    features: Any  # (inputs,) the statistics of `Inputs`
    targets: Scaling | None  # (1,) for regression
    buffer: Buffer  # rows of x, y and weight, side by side
    boost: NDArray[np.float64] | None = None  # () of the rates since a drift; None where none is raised


class Awake(NamedTuple):
    """The columns that have ever moved, where enough others never have: their weights learn nothing.

    A state of theirs has members of `shape`; `whole` is the state that it was taken from, for the others.
    """

    columns: NDArray[np.bool_]  # (width,)
    shape: Network
    whole: EnsembleState


@dataclass(frozen=True)
class Ensemble:
    """Networks with a linear part, mixed by fixed share (Herbster & Warmuth 1998, section 5).

    `follow` has the rates of the members that learn the new rows only, by SGD. `replay` has, for each of the
    others, Adam's rate and how many old rows a new one weighs; they learn the new rows and `replayed` rows
    drawn from the last `buffer_rows` (fewer where these would take more than `buffer_bytes`). `eta` is the
    mixture's rate, and `share` the part of the weights that is dealt out evenly again at each row. A member
    that diverges goes on from the best other one. `scale`, `clip` and `missing` are those of `Inputs`.
    `drift` names what watches the loss, and `on_drift` what is done about it. Errors: ValueError, one line
    for each option.
    """

    inputs: int
    classes: tuple[Any, ...] | None = None
    hidden: tuple[int, ...] = (64,)
    activation: str = "relu"
    follow: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.2)
    replay: tuple[tuple[float, float], ...] = ((0.001, 1), (0.003, 1), (0.01, 1), (0.003, 8))
    replayed: int = 32
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
        object.__setattr__(self, "follow", validation.several("follow", self.follow, "numbers"))
        object.__setattr__(self, "replay", _pairs(self.replay))
        if self.classes is not None:
            object.__setattr__(self, "classes", validation.labels("classes", self.classes))
        for name in ("inputs", "replayed", "buffer_rows", "buffer_bytes", "mini_batch", "window"):
            validation.whole(name, getattr(self, name))
        validation.whole("seed", self.seed, 0)
        validation.between("clip", self.clip, 0, np.inf)  # before what is computed of it
        validation.between("eta", self.eta, 0, np.inf)
        validation.between("share", self.share, 0, 1)
        validation.between("fading", self.fading, 0, 1)
        validation.one_of("drift", self.drift, ("none", *drift.WATCHING))
        validation.one_of("on_drift", self.on_drift, REACTIONS)
        if not self.follow and not self.replay:
            raise ValueError("follow and replay must have one member or more; got none")
        for rate in self.follow:
            validation.between("follow", rate, 0, np.inf)
        _ = self._inputs, self._network  # they check the rest

    @cached_property
    def _network(self) -> Network:
        outputs = 1 if self.classes is None else len(self.classes)
        loss = "huber" if self.classes is None else "softmax"
        layers = (self._inputs.width, *self.hidden, outputs)
        return Network(
            layers,
            self.activation,
            loss,
            bias_initializer="lecun_normal",  # else all kinks of few inputs' units begin at the mean
            output_initializer="zeros",
            skip=True,
        )

    @cached_property
    def _inputs(self) -> Inputs:
        return Inputs(self.inputs, self.scale, self.clip, self.missing, REACH * self.clip)

    @cached_property
    def _sgd_rates(self) -> tuple[float, ...]:
        scale = TARGET_RATE if self.classes is None else 1
        return tuple(rate * scale for rate in self.follow)

    @cached_property
    def _sgd(self) -> SGD:
        return SGD(self._sgd_rates)

    @cached_property
    def _adam(self) -> Adam:
        return Adam(tuple(rate for rate, _ in self.replay))

    @cached_property
    def detector(self) -> Any:
        """What watches the loss; None: nothing does."""
        return None if self.drift == "none" else drift.WATCHING[self.drift]

    @property
    def capacity(self) -> int:
        """Rows that are kept for replay."""
        return max(1, min(self.buffer_rows, self.buffer_bytes // (4 * (self.inputs + 2))))

    @property
    def shape(self) -> Network:
        """The shape of a member's network, by which its parameters can be viewed as layers."""
        return self._network

    @property
    def scaler(self) -> Inputs:
        """How rows come to the network."""
        return self._inputs

    def options(self) -> dict[str, Any]:
        """Give the options, ready for JSON."""
        options = {"learner": "ensemble", **asdict(self)}
        options["replay"] = [list(pair) for pair in self.replay]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}

    def init(self) -> EnsembleState:
        """Return a model that has seen nothing; every member's weights are another draw from `seed`."""
        theta = self._first()
        members, split = len(theta), len(self.follow)
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

    def _first(self) -> NDArray[np.float32]:
        members = len(self.follow) + len(self.replay)
        return network.initialize(self._network, np.random.default_rng(self.seed), members)

    def predict(self, state: EnsembleState, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Answer rows (rows, inputs) with (rows, outputs): class probabilities, or targets."""
        with np.errstate(all="ignore"):
            z = self._inputs.prepare(state.features, x)
            state = state._replace(  # what optimizers remember need not be cut
                followers=Members(state.followers.theta, ()), replayers=Members(state.replayers.theta, ())
            )
            z, state, awake = self._awake(z, len(x), state, None)
            shape = awake.shape if awake else self._network
            answers = [network.predict(shape, group.theta, z) for group in state[:2]]
            return self._mixed(state, np.concatenate(answers))

    def step(self, state: EnsembleState, batch: Batch) -> tuple[EnsembleState, Step]:
        """Answer one mini-batch, then learn it; where a row is not finite, nothing of the state changes."""
        state, (step,) = self.steps(state, [batch])
        return state, step

    def steps(self, state: EnsembleState, batches: Iterable[Batch]) -> tuple[EnsembleState, list[Step]]:
        """Do and give what `step` would, batch by batch.

        The buffer's ring is copied once, not for every 64 rows: a copy can take a tenth of the time. Members
        stay without the weights of columns that rest from one step to the next.
        """
        came, steps, awake = state.buffer.ring, [], None
        with np.errstate(all="ignore"):
            for batch in batches:
                state, awake, step = self._step(state, awake, batch, own=state.buffer.ring is not came)
                steps.append(step)
        return self._whole(state, awake), steps

    def _step(
        self, state: EnsembleState, awake: Awake | None, batch: Batch, own: bool
    ) -> tuple[EnsembleState, Awake | None, Step]:
        rows, count = _side_by_side(batch), len(batch.y)
        old, kept = replay_buffer.draw(state.buffer, self.replayed)
        both = np.concatenate([rows, old])
        z, features = self._inputs.prepare_and_update(state.features, both[:, :-2], count)
        z, state, awake = self._awake(z, count, state, awake)
        shape = awake.shape if awake else self._network
        y, weight = self._truth(state.targets, both), both[:, -1]
        answers, slopes = self._gradients(shape, state, z, y, weight, count)
        targets = None if state.targets is None else moments.update(state.targets, batch.y[:, None])
        step = Step(self._mixed(state, answers), self._finite(features, targets, rows))
        if not step.trained:
            return state, awake, step
        loss = self._losses(answers, y[:count]) @ weight[:count].astype(np.float64)
        bad = _hopeless(loss, slopes, weight)
        if bad is not None:
            loss[bad] = MOST * rows[:, -1].sum()
        factor = drift.raised(state.boost)
        learned = EnsembleState(
            _moved(self._sgd, state.followers, slopes[0], factor),
            _moved(self._adam, state.replayers, slopes[1], factor),
            _reweighed(state.weight, self.eta * loss, 1 - (1 - self.share) ** count),
            state.restarts,
            features,
            targets,
            replay_buffer.append(kept, rows, own),
            drift.faded(state.boost, count),
        )
        if bad is None:
            return learned, awake, step
        return self._restarted(self._whole(learned, awake), bad), None, step

    def _awake(
        self, z: Array, count: int, state: EnsembleState, awake: Awake | None
    ) -> tuple[Array, EnsembleState, Awake | None]:
        """Leave out the columns that rest: give the rows, of which the first `count` are new, and the state.

        A product with fewer columns can have other last bits, so this follows from the state and the rows
        alone, and not from `awake`, by which it is only cheaper.
        """
        columns = self._inputs.awake(state.features, z[:count])
        if columns is None:
            return z, self._whole(state, awake), None
        if awake is None or not np.array_equal(columns, awake.columns):
            whole = self._whole(state, awake)
            awake = Awake(columns, network.narrow(self._network, int(columns.sum())), whole)
            cut = partial(network.narrowed, self._network, columns=columns)
            state = whole._replace(
                followers=_each(cut, whole.followers), replayers=_each(cut, whole.replayers)
            )
        return z.compress(columns, axis=1), state, awake  # in C order, as z: products' bits depend on it

    def _whole(self, state: EnsembleState, awake: Awake | None) -> EnsembleState:
        """Give the state with the weights of columns that rest put back."""
        if awake is None:
            return state
        put = partial(_put_back, self._network, awake.columns)
        return state._replace(
            followers=put(awake.whole.followers, state.followers),
            replayers=put(awake.whole.replayers, state.replayers),
        )

    def _truth(self, targets: Scaling | None, rows: Array) -> Array:
        """Give class indices, or standardised targets."""
        if targets is None:
            return rows[:, -2].astype(np.intp)
        return moments.standardize(targets, rows[:, -2:-1], TARGET_CLIP)[:, 0]

    def _gradients(
        self, shape: Network, state: EnsembleState, z: Array, y: Array, weight: Array, count: int
    ) -> tuple[Array, tuple[Array, Array]]:
        """Give the members' answers to the first `count` rows, which are the new ones, and the gradients.

        The members that replay answer once more, apart from the old rows: a product with more rows can have
        other last bits, and `predict` must say what this says.
        """
        followers, replayers = state[:2]
        new, _, slope = network.gradient(shape, followers.theta, z[:count], y[:count], weight[:count])
        replayed = network.predict(shape, replayers.theta, z[:count])
        emphasis = _emphasis(self.replay, count, len(z) - count)
        _, _, replay_slope = network.gradient(shape, replayers.theta, z, y, emphasis * weight)
        return np.concatenate([new, replayed]), (slope, replay_slope)

    def _finite(self, features: Any, targets: Scaling | None, rows: Array) -> bool:
        """Tell whether all that came in is finite: a sum is finite only where all of its parts are."""
        total = self._inputs.check(features) + self._inputs.check_rows(rows[:, :-2])
        total += np.add.reduce(rows[:, -2:], axis=None)
        return isfinite(total if targets is None else total + targets.m2[0])

    def _losses(self, answers: Array, y: Array) -> NDArray[np.float64]:
        """Give each member's loss at each row (members, rows): log loss, or absolute error; both bounded."""
        if self.classes is None:
            error: NDArray[np.float64] = np.abs(answers[:, :, 0] - y, dtype=np.float64)
            return np.minimum(error, MOST, out=error)
        right: NDArray[np.float64] = answers[:, np.arange(len(y)), y].astype(np.float64)
        np.log(np.maximum(right, LEAST), out=right)
        return np.negative(right, out=right)

    def _mixed(self, state: EnsembleState, answers: Array) -> NDArray[np.float32]:
        """Weigh the members' answers (members, rows, outputs); one that is not finite has no say."""
        weight, targets = state.weight, state.targets
        if not isfinite(np.add.reduce(answers, axis=None)):
            mixed = _mixed_of_finite(weight, answers, 1 / answers.shape[2] if targets is None else 0.0)
        else:
            if targets is not None:
                answers = answers.clip(-TARGET_CLIP, TARGET_CLIP)
            mixed = weight.astype(np.float32) @ answers.reshape(len(answers), -1)
            mixed = mixed.reshape(answers.shape[1:])
        return mixed if targets is None else moments.restore(targets, mixed)

    def members(self, state: EnsembleState) -> list[dict[str, Any]]:
        """Describe each member: its optimizer, its weight in the mixture, how often it was restarted."""
        names = [f"sgd {rate:g}" for rate in self._sgd_rates]
        names += [f"adam {rate:g}, replay {new:g}:1" for rate, new in self.replay]
        return [
            {"member": name, "weight": round(float(weight), 6), "restarts": int(restarts)}
            for name, weight, restarts in zip(names, state.weight, state.restarts, strict=True)
        ]

    def react(self, state: EnsembleState) -> EnsembleState:
        """Do what `on_drift` says.

        Nothing; raise the rates for a while; let the worse half go on from the best; or the worst afresh.
        """
        if self.on_drift == "report":
            return state
        if self.on_drift == "raise":
            return state._replace(boost=np.ones(()))
        ranks = state.weight.argsort(kind="stable")
        if self.on_drift == "restart":
            return self._restarted(state, np.isin(np.arange(len(ranks)), ranks[: len(ranks) // 2]))
        return self._fresh(state, np.arange(len(ranks)) == ranks[0])

    def merge(
        self, start: EnsembleState, parts: Sequence[EnsembleState], rows: Sequence[int]
    ) -> EnsembleState:
        """Combine what tasks have learned from `start`; docs/averaged.md has the rule of each field.

        A member that one of them had to restart is restarted from the combined ones.
        """
        share = averaging.shares(rows)
        moved = np.sum([np.log(part.weight) - np.log(start.weight) for part in parts], axis=0)
        targets = [part.targets for part in parts if part.targets is not None]
        merged = EnsembleState(
            averaging.averaged([part.followers for part in parts], share),
            averaging.averaged([part.replayers for part in parts], share),
            _reweighed(start.weight, -moved, self.share),
            start.restarts,
            self._inputs.combined(start.features, [part.features for part in parts]),
            None if start.targets is None else moments.combined(start.targets, targets),
            replay_buffer.merge(start.buffer, [part.buffer for part in parts]),
            drift.faded(start.boost, sum(rows)),
        )
        bad = np.any([part.restarts > start.restarts for part in parts], axis=0)
        return self._restarted(merged, bad) if bad.any() else merged

    def grow(self, state: EnsembleState, classes: int) -> EnsembleState:
        """Give each member an output for each class that is new: no weights, and the least of the biases."""
        return state._replace(
            followers=self._wider(state.followers, classes), replayers=self._wider(state.replayers, classes)
        )

    def _wider(self, members: Members, classes: int) -> Members:
        wide = _each(lambda part: network.widened(self._network, part, classes), members)
        _, bias = network.views(self._network, wide.theta)[-1]
        bias[:, :, classes:] = bias[:, :, :classes].min(axis=2, keepdims=True)
        return wide

    def _restarted(self, state: EnsembleState, bad: NDArray[np.bool_]) -> EnsembleState:
        """Let bad members go on from the best good one, or from the first weights where none is good."""
        if bad.all():
            return self._fresh(state, bad)
        theta = np.concatenate([state.followers.theta, state.replayers.theta])
        theta[bad] = theta[np.where(bad, -1.0, state.weight).argmax()]
        return self._put(state, theta, bad)

    def _fresh(self, state: EnsembleState, bad: NDArray[np.bool_]) -> EnsembleState:
        """Let bad members begin anew."""
        theta = np.concatenate([state.followers.theta, state.replayers.theta])
        return self._put(state, np.where(bad[:, None], self._first(), theta), bad)

    def _put(self, state: EnsembleState, theta: Array, bad: NDArray[np.bool_]) -> EnsembleState:
        split = len(self.follow)
        return state._replace(
            followers=_with(state.followers, theta[:split], bad[:split], self._sgd),
            replayers=_with(state.replayers, theta[split:], bad[split:], self._adam),
            restarts=state.restarts + bad,
        )


def _pairs(replay: Any) -> tuple[tuple[float, float], ...]:
    every = validation.several("replay", replay, "pairs of rate and emphasis")
    pairs = tuple(tuple(pair) if isinstance(pair, (list, tuple)) else (pair,) for pair in every)
    for pair in pairs:
        if len(pair) != 2:
            raise ValueError(f"replay must be pairs of rate and emphasis; got {pair!r}")
        validation.between("replay's rate", pair[0], 0, np.inf)
        validation.between("replay's emphasis", pair[1], 0, np.inf)
    return pairs


def _side_by_side(batch: Batch) -> NDArray[np.float32]:
    x, y, weight = batch
    rows = np.empty((len(x), x.shape[1] + 2), np.float32)
    rows[:, :-2] = x
    rows[:, -2] = y  # a class index up to 2**24 is exact
    rows[:, -1] = 1 if weight is None else weight
    return rows


@lru_cache(64)
def _emphasis(replay: tuple[tuple[float, float], ...], new: int, old: int) -> NDArray[np.float32]:
    """Give the weights (members, new + old) of new and old rows in a mean; a member's have mean 1."""
    emphasis = np.ones((len(replay), new + old), np.float32)
    emphasis[:, :new] = np.array([each for _, each in replay], np.float32)[:, None]
    emphasis /= emphasis.mean(axis=1, keepdims=True)
    emphasis.flags.writeable = False
    return emphasis


def _hopeless(loss: Array, slopes: Sequence[Array], weight: Array) -> NDArray[np.bool_] | None:
    """Tell which members have diverged; None, which is soon told, where none has."""
    most = (HOPELESS * max(1.0, float(np.maximum.reduce(weight)))) ** 2
    squares = np.concatenate([np.vecdot(slope, slope) for slope in slopes])
    if np.maximum.reduce(squares) < most and isfinite(np.add.reduce(loss)):
        return None
    return ~(np.isfinite(loss) & (squares < most))


def _moved(optimizer: SGD | Adam, members: Members, slope: Array, factor: float) -> Members:
    theta, memory = optimizer.update(members.optimizer, slope, members.theta, factor)
    return Members(theta, memory)


def _reweighed(weight: Array, loss: Array, dealt: float) -> NDArray[np.float64]:
    """Take fixed share's step: weights fall with the loss, then a part of them is dealt out evenly."""
    new: NDArray[np.float64] = weight * np.exp(np.minimum.reduce(loss) - loss)
    new *= (1 - dealt) / float(np.add.reduce(new))
    new += dealt / len(new)
    return new


def _mixed_of_finite(weight: Array, answers: Array, otherwise: float) -> NDArray[np.float32]:
    """Mix as `_mixed` does; probabilities are within the clip of targets, so that it does them no harm."""
    finite = np.logical_and.reduce(np.isfinite(answers), axis=2)  # (members, rows)
    answers = np.where(finite[:, :, None], answers, 0).clip(-TARGET_CLIP, TARGET_CLIP)
    say = weight[:, None] * finite
    total = say.sum(axis=0)
    say = say / np.where(total > 0, total, 1)
    mixed = np.add.reduce(say[:, :, None] * answers, axis=0)
    mixed[total == 0] = otherwise
    narrow: NDArray[np.float32] = mixed.astype(np.float32)
    return narrow


def _with(members: Members, theta: Array, bad: NDArray[np.bool_], optimizer: SGD | Adam) -> Members:
    """Put in theta, and forget what the optimizer remembers of the bad members."""
    pairs = zip(members.optimizer, optimizer.init(theta), strict=True)
    memory = [np.where(bad[:, None], first, now) for now, first in pairs]
    return Members(theta, type(members.optimizer)(*memory))


def _each(change: Callable[[Array], Array], members: Members) -> Members:
    """Change theta, and what the optimizer remembers of each parameter."""
    memory = (change(part) if part.shape == members.theta.shape else part for part in members.optimizer)
    return Members(change(members.theta), type(members.optimizer)(*memory))


def _put_back(shape: Network, columns: NDArray[np.bool_], whole: Members, part: Members) -> Members:
    """Give the whole members, with what has been learned of the weights of some columns alone."""

    def put(now: Array, then: Array) -> Array:
        if now.shape == then.shape:
            return now
        then = then.copy()
        network.put_back(shape, then, now, columns)
        return then

    memory = map(put, part.optimizer, whole.optimizer)
    return Members(put(part.theta, whole.theta), type(part.optimizer)(*memory))
