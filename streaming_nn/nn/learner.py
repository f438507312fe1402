"""The base class of a learner, and the one loop that changes a model: predict, measure, learn."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core.sparse import SparseRows, concatenate
from streaming_nn.nn import averaging, metrics, multioutput
from streaming_nn.nn.drift import Detector
from streaming_nn.nn.multioutput import Measured
from streaming_nn.nn.preprocessing import ColumnGrowth
from streaming_nn.nn.series import Series, split_series
from streaming_nn.nn.state_dict import flatten, unflatten

MEASURE_ROWS = 4096  # counted at once: bounds the predictions kept, and fixes the order of sums
PIECE_BYTES = 256 << 20  # of rows that are learned at once: 4,096 rows of up to 8,192 columns
DRIFT_ROWS = 32  # rows, or more, in a mean loss that a drift detector reads

S = TypeVar("S", bound=tuple[Any, ...])


class Batch(NamedTuple):
    """Labeled rows, in the order in which they are learned."""

    x: Any  # (rows, inputs) an array of float64, or `SparseRows` where the learner's scale is "sparse"
    # (rows,) int32 class index, or float64 target; (rows, labels) int32 0 or 1, or (rows, targets) float64
    y: NDArray[Any]
    weight: NDArray[np.float32] | None = None  # (rows,) None: every row weighs 1


class ServedBatch(NamedTuple):
    """Labeled rows that a scorer has with other inputs: lagged values are older there."""

    batch: Batch
    x_served: NDArray[np.float64]  # (rows, inputs)


class Counts(NamedTuple):
    """Counts of a micro-batch: received = trained + skipped + rejected + filtered, always."""

    received: int = 0
    trained: int = 0
    skipped: int = 0
    rejected: int = 0
    filtered: int = 0  # passed over by rule: tombstones, and what `records.where` leaves out


class Learner(ABC, Generic[S]):
    """Options of a model, immutable; the model itself is the state that goes in and comes out.

    A state is a NamedTuple (nested ones too) of arrays, so that `state_dict.flatten` can write it into a
    version. A learner must have the abstract methods and the attributes below; all else has a default.
    """

    inputs: int  # features of a row
    classes: tuple[Any, ...] | None  # the labels, in the order of the outputs; None for regression
    multilabel: bool = False  # whether any number of labels applies to a row
    targets: tuple[str, ...] | None = None  # names of a regression's targets; None: one without a name
    mini_batch: int  # rows a step learns from
    window: int  # rows in the metrics' window
    fading: float  # factor of a row's weight in the fading metrics at each later row
    missing: str = "refuse"  # what a NaN in a row is; see `preprocessing.Scaler`
    loss: str | None = None  # name of the loss, where it is an option
    optional: ClassVar[tuple[str, ...]] = ()  # tensors that may be empty instead: older versions lack them

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the options, ready for JSON, from which `factory.learner_from` makes this learner."""

    @abstractmethod
    def init(self) -> S:
        """Return the state of an untrained model."""

    @abstractmethod
    def predict(self, state: S, x: NDArray[np.float64]) -> NDArray[Any]:
        """Predict rows (rows, inputs): class probabilities (float32) or targets (float64) (rows, outputs)."""

    @abstractmethod
    def learn(self, state: S, batch: Batch) -> tuple[S, NDArray[Any], int]:
        """Predict and learn rows, mini-batch by mini-batch; the state may be one that `copy` returned.

        Return the new state, which may be the same object, changed; the predictions (rows, outputs) from
        before each mini-batch was learned; and the rows that were learned: a mini-batch that is not finite is
        skipped.
        """

    def present(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return a version's tensors in the form of this release; by default, as they are."""
        return tensors

    def copy(self, state: S) -> S:
        """Return a state that `learn` may change; by default the same, which it must not change."""
        return state

    @property
    def columns_of_y(self) -> int | None:
        """The columns of y, one for each output: labels that apply or not, or targets; None: y is (rows,)."""
        if self.multilabel:
            return len(self.classes or ())
        return None if self.targets is None else len(self.targets)

    @property
    def member_shapes(self) -> tuple[Any, ...]:
        """What the layout of a model's parameters follows from, for each member; by default, nothing."""
        return ()

    @property
    def detector(self) -> Detector[Any] | None:
        """The detector that watches the prequential loss; None: drift is not detected."""
        return None

    @property
    def point(self) -> int:
        """The output that is the point prediction, where a regression has several outputs."""
        return 0

    def merge(self, start: S, parts: Sequence[S], rows: Sequence[int]) -> S:
        """Combine the models of tasks that began with `start` and trained `rows` each.

        Errors: ValueError where the state cannot be averaged, which is the default.
        """
        raise ValueError(_not_averageable(self))

    def begin_errors(self, state: S) -> NDArray[np.float64] | None:
        """Return a micro-batch's errors before its first row; None, the default: it needs none."""
        return None

    def add_errors(self, state: S, errors: NDArray[np.float64], predicted: "Predicted") -> None:
        """Add the errors of rows to those of the micro-batch; `state` has learned the rows."""

    def correct(self, state: S, errors: NDArray[np.float64], rows: int) -> None:
        """Learn from a micro-batch's errors how to correct predictions; it changes the state."""

    def without_correction(self, state: S) -> S:
        """Return a model that predicts other rows than the next ones; by default, the same."""
        return state

    def react(self, state: S) -> S:
        """Return the model to continue with after a drift was detected; by default, the same."""
        return state

    def grow(self, state: S, classes: int) -> S:
        """Return the model with an output for each of the learner's classes; `state` has the first `classes`.

        Errors: ValueError where the model cannot grow, which is the default.
        """
        raise ValueError(f"cannot add classes to learner {_name(self)!r}; train a new model")

    def grow_inputs(self, state: S, growth: ColumnGrowth) -> S:
        """Return the model with the learner's inputs; `growth` describes the columns that `state` lacks.

        Errors: ValueError where the model cannot grow, which is the default.
        """
        raise ValueError(f"cannot add inputs to learner {_name(self)!r}; train a new model")

    def describe_members(self, state: S) -> list[dict[str, Any]]:
        """Describe each member of an ensemble, ready for JSON: name, weight, restarts; by default, none."""
        return []


class DriftWatch(NamedTuple):
    """The state of the detector that watches the prequential loss, and what it has detected."""

    detector: Any  # the detector's state, a NamedTuple
    mini_batch: NDArray[np.int64]  # () rows of a step in the losses that it has read
    detected: NDArray[np.int64]  # () drifts so far
    pending: NDArray[np.float64]  # (2,) sum and rows of the losses that are still too few for a mean


class State(NamedTuple, Generic[S]):
    """All that a version holds: the model, its metrics so far, and the drift detector's state."""

    model: S
    metrics: Measured
    drift: DriftWatch | tuple[()] = ()  # () where the learner has no detector
    series: Series | tuple[()] = ()  # () where rows have no lagged values


class Part(NamedTuple, Generic[S]):
    """What one task has learned from a micro-batch's common start: all of it, or one partition's rows."""

    model: S
    metrics: Measured
    losses: NDArray[np.float64]  # (2, steps) sum and rows of each mini-batch's loss; no steps: no detector
    counts: Counts
    series: Series | tuple[()] = ()  # with the task's rows; (): unchanged


def initial(learner: Learner[S]) -> State[S]:
    """Return the state before the first row."""
    classes = None if learner.classes is None else len(learner.classes)
    if learner.columns_of_y is None:
        counts: Measured = metrics.init(classes, learner.window, learner.fading)
    else:
        counts = multioutput.init(learner.columns_of_y, learner.multilabel, learner.window, learner.fading)
    return State(learner.init(), counts, _init_drift(learner))


def load_state(learner: Learner[S], tensors: Mapping[str, NDArray[Any]]) -> State[S]:
    """Return the state of a version's tensors; one of fewer classes grows to the learner's.

    Errors: ValueError if they do not fit the learner.
    """
    own, histories = split_series(tensors)
    state = unflatten(initial(learner), learner.present(own))
    return grow(learner, state._replace(series=histories))


def continues(learner: Learner[Any], before: Learner[Any], tensors: Mapping[str, NDArray[Any]]) -> bool:
    """Return whether a learner can continue from tensors that another one has learned."""
    needed, found = flatten(initial(learner)), learner.present(split_series(tensors)[0])
    for name in learner.optional:
        if name in found and not found[name].size:
            needed[name] = found[name]
    kinds, found_kinds = ({name: (x.shape, x.dtype) for name, x in each.items()} for each in (needed, found))
    return kinds == found_kinds and learner.member_shapes == before.member_shapes


class Predicted(NamedTuple):
    """A block of rows, and what two models predicted for them."""

    batch: Batch
    output: NDArray[Any]  # (rows, outputs) by the one that had learned all rows before their mini-batch
    as_served: NDArray[Any]  # (rows, outputs) by the one at the micro-batch's start
    x_served: NDArray[np.float64] | None = None  # (rows, inputs) for that one; None: the batch's


OnPredictions = Callable[[Predicted], object]


def _ignore(predicted: Predicted) -> None:
    pass


def test_then_train(
    learner: Learner[S],
    state: State[S],
    batches: Iterable[Batch],
    on_predictions: OnPredictions = _ignore,  # noqa: PT028 (it is not a test)
    *,
    in_place: bool = False,  # noqa: PT028
) -> tuple[State[S], Counts]:
    """Learn one micro-batch: predict each mini-batch, then learn it, and measure the predictions.

    The model at the micro-batch's start predicts the same rows too, as a scorer would have done (as served).
    How the rows are divided into batches does not matter: they are regrouped, and the state has the same
    bits. `on_predictions` is called with the rows and their predictions, block by block. The state that
    came in is not changed, unless `in_place` allows it, which saves a copy; the batches must then be one
    mini-batch. Errors: ValueError for a batch that does not fit the learner.
    """
    part = learn_part(learner, state, batches, on_predictions, in_place=in_place)
    return combine(learner, state, [part]), part.counts


test_then_train.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def learn_part(
    learner: Learner[S],
    state: State[S],
    batches: Iterable[Batch | ServedBatch],
    on_predictions: OnPredictions = _ignore,
    *,
    in_place: bool = False,
) -> Part[S]:
    """Do one task's work on a micro-batch; `combine` makes the next state of all tasks' parts.

    With `in_place`, the state's model may be changed.
    """
    served = state.model
    model = served if in_place else learner.copy(served)
    part = Part(model, state.metrics, np.empty((2, 0)), Counts())
    waiting, errors = list[_Point](), learner.begin_errors(model)
    for rows in _regroup(learner, batches, piece_rows(learner)):
        piece, x_served = rows if isinstance(rows, ServedBatch) else (rows, None)
        alone = part.counts.received == 0 and len(piece.y) <= learner.mini_batch  # predicted as served
        as_served = None
        if x_served is not None or not alone:
            as_served = learner.predict(served, piece.x if x_served is None else x_served)
        model, output, trained = learner.learn(part.model, piece)
        predicted = Predicted(piece, output, output if as_served is None else as_served, x_served)
        on_predictions(predicted)
        if errors is not None:
            learner.add_errors(model, errors, predicted)
        waiting.append(_Point(piece.y, *(point_prediction(learner, each) for each in predicted[1:3])))
        part = part._replace(model=model, counts=_count(part.counts, len(piece.y), trained))
        if part.counts.received % _block_rows(learner) == 0:
            part, waiting = _measure(learner, part, waiting, bool(state.drift)), []
    if errors is not None and part.counts.received:
        learner.correct(part.model, errors, part.counts.received)
    return _measure(learner, part, waiting, bool(state.drift)) if waiting else part


class _Point(NamedTuple):
    """Rows of a block that are still to be measured, with the predictions that are."""

    y: NDArray[Any]  # (rows,)
    output: NDArray[Any]  # (rows, outputs) before they were learned
    as_served: NDArray[Any]


def _measure(learner: Learner[S], part: Part[S], waiting: list[_Point], watched: bool) -> Part[S]:
    """Count a block's predictions, and keep its losses where a drift detector reads them."""
    block = waiting[0] if len(waiting) == 1 else _Point(*map(np.concatenate, zip(*waiting, strict=True)))
    losses = part.losses
    if watched:
        new = multioutput.step_losses(part.metrics, block.y, block.output, learner.mini_batch)
        losses = np.concatenate([losses, new], axis=1)
    return part._replace(metrics=multioutput.update(part.metrics, *block), losses=losses)


def _count(counts: Counts, rows: int, trained: int) -> Counts:
    return Counts(counts.received + rows, counts.trained + trained, counts.skipped + rows - trained)


def point_prediction(learner: Learner[Any], output: NDArray[Any]) -> NDArray[Any]:
    """Return the predictions that are measured: of a regression's outputs, the one nearest to the median."""
    if learner.classes is not None or learner.targets is not None or output.shape[1] == 1:
        return output
    return output[:, learner.point : learner.point + 1]


def combine(learner: Learner[S], state: State[S], parts: Sequence[Part[S]]) -> State[S]:
    """End a micro-batch: combine the tasks' parts, check for drift, and let the model react to it.

    All parts began with `state`; they come in the order of (topic, partition). A single part is taken
    unchanged. Errors: ValueError for several parts of a learner that cannot be averaged.
    """
    parts = [part for part in parts if part.counts.received] or list(parts[:1])
    if not parts:
        return state
    model, measured, histories = parts[0].model, parts[0].metrics, parts[0].series or state.series
    if len(parts) > 1:
        model = learner.merge(
            state.model, [part.model for part in parts], [part.counts.trained for part in parts]
        )
        measured = multioutput.merge(state.metrics, [part.metrics for part in parts])
    if not state.drift:
        return State(model, measured, (), histories)
    drift = _detect(learner, state.drift, _interleave([part.losses for part in parts]))
    if drift.detected > state.drift.detected:
        model = learner.react(model)
    return State(model, measured, drift, histories)


def require_averaging(learner: Learner[Any]) -> None:
    """Raise ValueError for a learner whose state cannot be averaged, before anything is learned."""
    if type(learner).merge is Learner.merge:
        raise ValueError(_not_averageable(learner))


def _not_averageable(learner: Learner[Any]) -> str:
    return (
        f"update must be 'sequential' for learner {_name(learner)!r}: "
        "its state cannot be averaged; got 'averaged'"
    )


def _name(learner: Learner[Any]) -> Any:
    return learner.options().get("learner", type(learner).__name__)


def grow(learner: Learner[S], state: State[S]) -> State[S]:
    """Return a state of fewer classes with all of the learner's, the old ones first; the rest is unchanged.

    Errors: ValueError where the learner cannot grow.
    """
    before = multioutput.classes(state.metrics)
    if learner.classes is None or before == len(learner.classes):
        return state
    model = learner.grow(state.model, before)
    return state._replace(model=model, metrics=multioutput.grow(state.metrics, len(learner.classes)))


def grow_inputs(learner: Learner[S], state: State[S], growth: ColumnGrowth) -> State[S]:
    """Return a state of fewer inputs with all of the learner's; metrics and drift detector are unchanged.

    Errors: ValueError where the learner cannot grow.
    """
    return state._replace(model=learner.grow_inputs(state.model, growth))


def report(learner: Learner[S], state: State[S]) -> dict[str, Any]:
    """Return a version's metrics, ready for JSON: scores, the members, and the number of drifts detected."""
    figures = multioutput.report(state.metrics)
    if members := learner.describe_members(state.model):
        figures["members"] = members
    if state.drift:
        figures["drifts"] = int(state.drift.detected)
    return figures


def events(learner: Learner[S], before: State[S], after: State[S]) -> list[dict[str, Any]]:
    """Return the events of a micro-batch besides learning, ready for a version's manifest."""
    happened: list[dict[str, Any]] = []
    if before.drift and after.drift and after.drift.detected > before.drift.detected:
        happened.append({"event": "drift", "detected": int(after.drift.detected - before.drift.detected)})
    for then, now in zip(
        learner.describe_members(before.model), learner.describe_members(after.model), strict=True
    ):
        if now["restarts"] > then["restarts"]:
            happened.append({"event": "member restarted", "member": now["member"]})
    return happened


def _init_drift(learner: Learner[Any]) -> DriftWatch | tuple[()]:
    if learner.detector is None:
        return ()
    return DriftWatch(
        learner.detector.init(), np.asarray(learner.mini_batch), np.zeros((), np.int64), np.zeros(2)
    )


def _detect(learner: Learner[Any], drift: DriftWatch, losses: NDArray[np.float64]) -> DriftWatch:
    """Show the detector mean losses over DRIFT_ROWS rows or more, of whole mini-batches.

    A single row's loss varies too much. The detector restarts where the mini-batch size has changed: smaller
    mini-batches learn faster, which is not a drift.
    """
    detector = learner.detector
    assert detector is not None
    size, memory, pending = np.asarray(learner.mini_batch), drift.detector, drift.pending
    if size != drift.mini_batch:
        memory, pending = detector.init(), np.zeros(2)
    means, pending = _means(np.concatenate([pending[:, None], losses], axis=1))
    if not len(means):
        return DriftWatch(memory, size, drift.detected, pending)
    memory, indices = detector.update(memory, means)
    return DriftWatch(memory, size, np.asarray(drift.detected + len(indices)), pending)


def _means(losses: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return means over DRIFT_ROWS rows or more, of whole steps, and sum and rows of the rest."""
    means, total, rows = [], 0.0, 0.0
    for loss, count in zip(*losses.tolist(), strict=True):
        total, rows = total + loss, rows + count
        if rows >= DRIFT_ROWS:
            means.append(total / rows)
            total, rows = 0.0, 0.0
    return np.array(means), np.array([total, rows])


def _interleave(series: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return tasks' losses (2, steps) as one series: the first of each, then the second of each."""
    if len(series) == 1:
        return series[0]
    order = averaging.interleave([each.shape[1] for each in series], sum(each.shape[1] for each in series))
    return np.stack([series[task][:, step] for task, step in order], axis=1) if len(order) else series[0]


def _block_rows(learner: Learner[Any]) -> int:
    """Return the rows that are measured at once: whole mini-batches, at least MEASURE_ROWS."""
    return -(-MEASURE_ROWS // learner.mini_batch) * learner.mini_batch


def piece_rows(learner: Learner[Any]) -> int:
    """Return the rows that are learned at once: a block, or of very wide rows a part of one."""
    steps = _block_rows(learner) // learner.mini_batch
    most = max(1, PIECE_BYTES // (8 * learner.inputs * learner.mini_batch))
    return learner.mini_batch * next(some for some in range(min(steps, most), 0, -1) if steps % some == 0)


def _regroup(
    learner: Learner[S], batches: Iterable[Batch | ServedBatch], size: int
) -> Iterator[Batch | ServedBatch]:
    """Group rows into batches of `size`; only the last is shorter."""
    waiting: list[Batch | ServedBatch] = []
    lacking = size
    for batch in batches:
        rest = _validate(learner, batch)
        while _length(rest) >= lacking:
            yield _concatenate([*waiting, _slice(rest, 0, lacking)])
            rest, waiting, lacking = _slice(rest, lacking, _length(rest)), [], size
        if _length(rest):
            waiting.append(rest)
            lacking -= _length(rest)
    if waiting:
        yield _concatenate(waiting)


def _validate(learner: Learner[S], batch: Batch | ServedBatch) -> Batch | ServedBatch:
    if isinstance(batch, Batch):
        return validate_batch(learner, batch)
    x_served = validate_batch(learner, batch.batch._replace(x=batch.x_served)).x
    return ServedBatch(validate_batch(learner, batch.batch), x_served)


def _length(batch: Batch | ServedBatch) -> int:
    return len(batch.y if isinstance(batch, Batch) else batch.batch.y)


def _slice(batch: Batch | ServedBatch, start: int, stop: int) -> Batch | ServedBatch:
    if isinstance(batch, Batch):
        return _slice_batch(batch, start, stop)
    return ServedBatch(_slice_batch(batch.batch, start, stop), batch.x_served[start:stop])


def _slice_batch(batch: Batch, start: int, stop: int) -> Batch:
    x, y, weight = batch
    return Batch(x[start:stop], y[start:stop], None if weight is None else weight[start:stop])


def _concatenate(parts: list[Batch | ServedBatch]) -> Batch | ServedBatch:
    served = [part for part in parts if isinstance(part, ServedBatch)]
    if not served:
        return _concatenate_batches([part for part in parts if isinstance(part, Batch)])
    whole = _concatenate_batches([part.batch for part in served])
    return ServedBatch(whole, np.concatenate([part.x_served for part in served]))


def _concatenate_batches(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    weights = None
    if any(part.weight is not None for part in parts):
        ones = [np.ones(len(part.y), np.float32) if part.weight is None else part.weight for part in parts]
        weights = np.concatenate(ones)
    join: Callable[[Any], Any] = concatenate if isinstance(parts[0].x, SparseRows) else np.concatenate
    return Batch(join([part.x for part in parts]), np.concatenate([part.y for part in parts]), weights)


def validate_batch(learner: Learner[S], batch: Batch) -> Batch:
    """Return the batch in the learner's dtypes, contiguous (a view where it already is).

    Errors: ValueError for shapes that are not the learner's, and for a class index out of range.
    """
    x = batch.x if isinstance(batch.x, SparseRows) else np.ascontiguousarray(batch.x, np.float64)
    if len(x.shape) != 2 or x.shape[1] != learner.inputs:
        raise ValueError(f"x must be (rows, {learner.inputs}); got {x.shape}")
    y = (
        np.ascontiguousarray(batch.y, np.float64)
        if learner.classes is None
        else _indices(2 if learner.multilabel else len(learner.classes), batch.y)
    )
    if learner.columns_of_y is not None and y.shape != (len(x), learner.columns_of_y):
        kind = "label" if learner.multilabel else "target"
        raise ValueError(f"y must be ({len(x)}, {learner.columns_of_y}), a column per {kind}; got {y.shape}")
    if learner.columns_of_y is None and y.shape != (len(x),):
        raise ValueError(f"y must be ({len(x)},), one value per row of x; got {y.shape}")
    weight = None if batch.weight is None else np.ascontiguousarray(batch.weight, np.float32)
    if weight is not None and weight.shape != (len(x),):
        raise ValueError(f"weight must be ({len(x)},), one value per row of x; got {weight.shape}")
    return Batch(x, y, weight)


def _indices(classes: int, y: NDArray[Any]) -> NDArray[np.int32]:
    indices = np.asarray(y)
    if indices.dtype.kind not in "iu":
        raise ValueError(f"y must be class indices (int32); got {indices.dtype}")
    if indices.size and not (indices.min() >= 0 and indices.max() < classes):
        raise ValueError(f"y must be class indices in [0, {classes}); got {indices.min()} to {indices.max()}")
    return np.ascontiguousarray(indices, np.int32)
