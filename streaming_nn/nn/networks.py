"""Networks that learn in the compiled core: what `MLP` and `Ensemble` do with their options."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core.ensemble import RAMPS, EnsembleState, Model, Rows
from streaming_nn.core.ensemble import Ensemble as CoreEnsemble
from streaming_nn.core.functions import chain_sum, exponential, logarithm
from streaming_nn.core.networks import Shape
from streaming_nn.core.sparse import SparseRows
from streaming_nn.nn import averaging, drift, growth, moments, replay_buffer, validation
from streaming_nn.nn.class_weight import ClassWeight
from streaming_nn.nn.initializers import Initial, initialize
from streaming_nn.nn.learner import Batch, Learner, Predicted
from streaming_nn.nn.preprocessing import ColumnGrowth, Scaler

Floats = NDArray[np.float32]
VECTORS = ("model.theta", "model.first", "model.second")  # tensors with parameters of all members


class NetworkLearner(Learner[EnsembleState]):
    """A learner whose model is an ensemble of networks; one network is an ensemble of one member."""

    optional = ("model.exponents", "model.correction")
    class_weight: ClassWeight
    scale: str
    clip: float
    drift: str
    on_drift: str
    seed: int

    @property
    @abstractmethod
    def core(self) -> CoreEnsemble:
        """The ensemble that the core runs."""

    @cached_property
    def scaler(self) -> Scaler:
        """The preprocessing of rows."""
        return Scaler(self.inputs, self.scale, self.clip, self.missing)

    @cached_property
    def detector(self) -> Any:
        """The detector that watches the loss; None: drift is not detected."""
        return None if self.drift == "none" else drift.DEFAULT_DETECTORS[self.drift]

    @property
    @abstractmethod
    def initials(self) -> Sequence[Initial]:
        """How each member's initial parameters are drawn."""

    @property
    def shape(self) -> Shape:
        """The shape of the first member's network; outputs and loss are those of all members."""
        return self.core.shapes[0]

    @property
    def member_shapes(self) -> tuple[Any, ...]:
        """Each member's units, and whether it has a linear part: what its layout follows from."""
        return tuple((shape.units, shape.skip) for shape in self.core.shapes)

    @cached_property
    def initial_parameters(self) -> Floats:
        """The parameters (parameters,) of all members of an untrained model."""
        return initialize(self.core.shapes, self.initials, self.seed, self.core.width)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the options only."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def init(self) -> EnsembleState:
        """Return an untrained model."""
        return self.core.init(self.initial_parameters)

    def present(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return a version's tensors in the form of this release.

        Arithmetic 1 had no knots, no geometric mixture, no correction, and a row of each vector per member.
        """
        if "model.knots" in tensors:
            return tensors
        vectors = {name: tensors[name].ravel() for name in VECTORS if name in tensors}
        without = {"model.knots": np.zeros((0, RAMPS + 1)), **dict.fromkeys(self.optional, np.zeros(0))}
        return {**tensors, **vectors, **without}

    def copy(self, state: EnsembleState) -> EnsembleState:
        """Return a model that `learn` may change."""
        return state.copy()

    def predict(self, state: EnsembleState, x: Rows | SparseRows) -> NDArray[Any]:
        """Predict rows (rows, inputs): probabilities of classes or labels, or targets (rows, outputs).

        Of two classes, the logistic loss has the probabilities of both. Quantiles that crossed are sorted.
        """
        return self._of_classes(self._bound(state).predict(_contiguous(x)))

    def learn(self, state: EnsembleState, batch: Batch) -> tuple[EnsembleState, NDArray[Any], int]:
        """Predict and learn rows, mini-batch by mini-batch, and change the state.

        Return it, the predictions from before each mini-batch was learned, and the rows that were learned:
        of a mini-batch with a value that is not finite, none are.
        """
        x, y, weight = batch
        given = None if weight is None else np.ascontiguousarray(weight, np.float32)
        output, trained = self._bound(state).learn(_contiguous(x), y, given, mini_batch=self.mini_batch)
        count = len(y) if trained.all() else _trained_rows(trained, self.mini_batch, len(y))
        return state, self._of_classes(output), count

    def begin_errors(self, state: EnsembleState) -> Rows | None:
        """Return a micro-batch's errors before its first row; None: predictions are not corrected."""
        return self._bound(state).begin_errors() if len(state.correction) else None

    def add_errors(self, state: EnsembleState, errors: Rows, predicted: Predicted) -> None:
        """Add the errors of rows to those of the micro-batch."""
        self._bound(state).add_errors(errors, predicted.batch.y, predicted.output, predicted.as_served)

    def correct(self, state: EnsembleState, errors: Rows, rows: int) -> None:
        """Learn from a micro-batch's errors how to correct predictions; it changes the state."""
        self._bound(state).correct(errors, rows)

    def without_correction(self, state: EnsembleState) -> EnsembleState:
        """Return a model that adds nothing to its predictions, for other rows than the next ones."""
        return state._replace(correction=_without_last(state.correction))

    def _bound(self, state: EnsembleState) -> Model:
        return self.core.bind(state, self.initial_parameters)

    def _check_outputs(self) -> None:
        """Check classes, multilabel and targets, and make tuples of them. Errors: ValueError."""
        if type(self.multilabel) is not bool:
            raise ValueError(f"multilabel must be true or false; got {self.multilabel!r}")
        for name, check in (("classes", validation.labels), ("targets", validation.names)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check(name, getattr(self, name)))
        if self.multilabel and self.classes is None:
            raise ValueError("classes must be the labels with multilabel; got none")
        if self.targets is not None and self.classes is not None:
            raise ValueError(f"targets must be left out with classes; got {self.targets!r}")
        if self.multilabel and self.class_weight is not None:
            raise ValueError(f"class_weight must be left out with multilabel; got {self.class_weight!r}")

    def _of_classes(self, output: NDArray[Any]) -> NDArray[Any]:
        if self.classes is None or self.multilabel or output.shape[1] == len(self.classes):
            return output
        return np.concatenate([1 - output, output], axis=1)

    def react(self, state: EnsembleState) -> EnsembleState:
        """React as `on_drift` requires.

        "report": not at all; "raise": raise the rates for a while; "restart": restart the worse half of the
        members as copies of the best; "fresh": restart the worst member from scratch.
        """
        if self.on_drift == "report":
            return state
        if self.on_drift == "raise":
            return state._replace(boost=np.ones(()))
        ranks = state.weights.argsort(kind="stable")
        if self.on_drift == "restart":
            return self._restart(state, np.isin(np.arange(len(ranks)), ranks[: len(ranks) // 2]))
        return self._restart(state, np.arange(len(ranks)) == ranks[0], from_scratch=True)

    def _restart(
        self, state: EnsembleState, bad: NDArray[np.bool_], *, from_scratch: bool = False
    ) -> EnsembleState:
        """Restart bad members as copies of the best other one of their shape; without one, from scratch.

        Their optimizers start again, and their restarts are counted.
        """
        core = self.core
        restarted = state._replace(
            theta=state.theta.copy(),
            first=state.first.copy(),
            second=state.second.copy(),
            powers=np.where(bad[:, None], 1.0, state.powers),
            restarts=state.restarts + bad,
        )
        before, after, initial = map(
            core.layout.thetas, (state.theta, restarted.theta, self.initial_parameters)
        )
        firsts, seconds = core.layout.firsts(restarted.first), core.layout.seconds(restarted.second)
        for k in map(int, np.flatnonzero(bad)):
            alike = np.array([shape is core.shapes[k] for shape in core.shapes]) & ~bad
            best = np.where(alike, state.weights, -1.0).argmax()
            after[k][:] = before[best] if alike.any() and not from_scratch else initial[k]
            if (first := firsts[k]) is not None:
                first[:] = core.members[k].first(after[k])
            if (second := seconds[k]) is not None:
                second[:] = 0
        return restarted

    def merge(
        self, start: EnsembleState, parts: Sequence[EnsembleState], rows: Sequence[int]
    ) -> EnsembleState:
        """Combine what tasks have learned from `start`; docs/averaged.md has the rule of each field.

        A member that one of them had to restart is restarted from the combined ones.
        """
        share = averaging.shares(rows)

        def mean(name: str) -> Any:
            return averaging.average_arrays([getattr(part, name) for part in parts], share)

        def summed(name: str) -> Any:
            return sum((getattr(part, name) - getattr(start, name) for part in parts), getattr(start, name))

        def clusters(name: str) -> Any:
            states = [getattr(part, name) for part in parts]
            return moments.combine_clusters(getattr(start, name), states, self.core.reach)

        of_inputs, of_targets = clusters("clusters"), clusters("target_clusters")
        inputs = moments.scaling(of_inputs)
        merged = replay_buffer.merge(start, parts)._replace(
            knots=start.knots.copy(),
            theta=mean("theta"),
            first=mean("first"),
            second=mean("second"),
            powers=averaging.average_powers([part.powers for part in parts], share),
            weights=self._merged_weights(start, parts),
            exponents=mean("exponents"),
            correction=_without_last(start.correction),
            rows=inputs.rows,
            means=inputs.mean,
            squares=inputs.m2,
            clusters=of_inputs,
            low=reduce(_least, (part.low for part in parts)),
            high=-reduce(_least, (-part.high for part in parts)),
            targets=np.stack(moments.scaling(of_targets), axis=-1),
            target_clusters=of_targets,
            class_rows=summed("class_rows"),
            learned=np.asarray(summed("learned")),
            boost=drift.decay_boost(start.boost, sum(rows)),
        )
        self.core.settle(merged)
        self.core.set_knots(merged, int(start.appended))
        bad = np.any([part.restarts > start.restarts for part in parts], axis=0)
        return self._restart(merged, bad) if bad.any() else merged

    def _merged_weights(self, start: EnsembleState, parts: Sequence[EnsembleState]) -> NDArray[np.float64]:
        """Multiply the weights by what each task has multiplied them with, and redistribute as for a row."""
        if len(start.weights) == 1:
            return start.weights
        before = logarithm(start.weights)
        moved = chain_sum(np.stack([logarithm(part.weights) - before for part in parts], axis=-1))
        new = start.weights * exponential(moved - moved.max())
        share = self.core.share
        return new * ((1 - share) / chain_sum(new)) + share / len(new)

    def grow(self, state: EnsembleState, classes: int) -> EnsembleState:
        """Add an output for each new class to each member: with weights 0, and the least of the biases."""
        return growth.add_classes(self.core, state.copy(), classes)

    def grow_inputs(self, state: EnsembleState, columns: ColumnGrowth) -> EnsembleState:
        """Add columns to each member: their weights are drawn, those of their indicators 0."""
        return growth.add_columns(self, state.copy(), columns)


def _least(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lesser numbers, of equal ones the first: NumPy's minimum of 0 and -0 depends on the CPU."""
    return np.where(b < a, b, a)


def _without_last(correction: Rows) -> Rows:
    """Return a correction after which nothing is added: of several tasks, no row is the last one."""
    found = correction.copy()
    found[::3] = 0.0
    return found


def _contiguous(x: Any) -> Rows | SparseRows:
    return x if isinstance(x, SparseRows) else np.ascontiguousarray(x, np.float64)


def _trained_rows(trained: NDArray[np.bool_], mini_batch: int, rows: int) -> int:
    sizes = np.minimum(mini_batch, rows - mini_batch * np.arange(len(trained)))
    return int(sizes[trained].sum())


def as_json(name: str, learner: Any) -> dict[str, Any]:
    """Return a learner's options, ready for JSON, with its name under "learner"."""
    return {
        "learner": name,
        **{field.name: as_lists(getattr(learner, field.name)) for field in fields(learner)},
    }


def as_lists(value: Any) -> Any:
    """Return a value with lists in place of tuples, as JSON has them."""
    if isinstance(value, Mapping):
        return {name: as_lists(each) for name, each in value.items()}
    return [as_lists(each) for each in value] if isinstance(value, tuple) else value
