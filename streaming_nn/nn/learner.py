"""The contract of a learner, and the one loop that changes a model: predict, measure, learn."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn import averaging, metrics
from streaming_nn.nn.drift import Detector
from streaming_nn.nn.metrics import Metrics

MEASURE_ROWS = 4096  # that are counted at once: bounds the answers kept, and fixes the order of sums
WATCHED = 32  # rows in a mean loss that is shown to a drift detector, or more
LEAST = 1e-4  # probability at which a row's log loss ends for the detector: no row alone is a drift
MOST = 10.0  # deviations of the target at which a row's error ends for it

S = TypeVar("S", bound=tuple[Any, ...])
C = TypeVar("C", bound=tuple[Any, ...], contravariant=True)


class Batch(NamedTuple):
    """Labeled rows, in the order in which they are learned."""

    x: NDArray[np.float32]  # (rows, inputs)
    y: NDArray[Any]  # (rows,) int32 class index, or float32 target
    weight: NDArray[np.float32] | None = None  # (rows,) None: every row weighs 1


class Step(NamedTuple):
    """What one mini-batch gave."""

    output: NDArray[np.float32]  # (rows, outputs) before the step: probabilities, or targets in their unit
    trained: bool  # False: the step was not finite; nothing of the state has changed


class Counts(NamedTuple):
    """How a micro-batch's records ended: received = trained + skipped + rejected, always."""

    received: int = 0
    trained: int = 0
    skipped: int = 0
    rejected: int = 0


class Learner(Protocol[S]):
    """Options of a model, frozen; the model itself is the state that goes in and comes out.

    A state is a NamedTuple (nested ones too) of arrays, so that `tensors.flatten` can write it into a
    version.
    """

    @property
    def inputs(self) -> int:
        """Features a row has."""

    @property
    def classes(self) -> tuple[Any, ...] | None:
        """The labels, in the order of the outputs; None for regression."""

    @property
    def mini_batch(self) -> int:
        """Counts a step learns from."""

    @property
    def window(self) -> int:
        """Counts in the metrics' window."""

    @property
    def fading(self) -> float:
        """What a row's weight in the fading metrics is multiplied with at each later row."""

    def options(self) -> dict[str, Any]:
        """Give the options, ready for JSON, from which `learners.learner_from` makes this learner."""

    def init(self) -> S:
        """Return the state of a model that has seen nothing."""

    def predict(self, state: S, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Answer rows (rows, inputs) with (rows, outputs): class probabilities, or targets."""

    def step(self, state: S, batch: Batch) -> tuple[S, Step]:
        """Answer one mini-batch, then learn it. Pure: the state that came in is not changed."""


class Watch(NamedTuple):
    """The detector that watches the prequential loss, and what it has found."""

    detector: Any  # the detector's own NamedTuple
    mini_batch: NDArray[np.int64]  # () rows of a step in the losses that it has seen
    found: NDArray[np.int64]  # () drifts so far
    waiting: NDArray[np.float64]  # (2,) sum and rows of the losses that are too few yet for a mean


class State(NamedTuple, Generic[S]):
    """All that a version holds: the model, how well it has answered so far, and what watches for drift."""

    model: S
    metrics: Metrics
    watch: Watch | tuple[()] = ()  # () where the learner has no detector


class Part(NamedTuple, Generic[S]):
    """What one task has made of a micro-batch's common start: all of it, or one partition's rows."""

    model: S
    metrics: Metrics
    losses: NDArray[np.float64]  # (2, steps) sum and rows of each mini-batch's loss; no steps: unwatched
    rows: Counts


def initial(learner: Learner[S]) -> State[S]:
    """Return the state that has seen nothing."""
    classes = None if learner.classes is None else len(learner.classes)
    counts = metrics.init(classes, learner.window, learner.fading)
    return State(learner.init(), counts, _watch(learner))


Hear = Callable[[NDArray[np.float32]], object]


def _unheard(output: NDArray[np.float32]) -> None:
    pass


def test_then_train(
    learner: Learner[S],
    state: State[S],
    batches: Iterable[Batch],
    answered: Hear = _unheard,  # noqa: PT028 (it is no test)
) -> tuple[State[S], Counts]:
    """Learn one micro-batch: answer each mini-batch, then learn it, and count how good the answers were.

    The same rows are answered by the model in force at the start too: that is what a scorer would have said
    (as served). Batches may come cut in any way: they are cut anew, and the state has the same bits.
    `answered` is given the answers (rows, outputs) from before learning, block by block. Errors: ValueError
    for a batch that does not fit the learner; the state that came in is never changed.
    """
    part = learn_part(learner, state, batches, answered)
    return close(learner, state, [part]), part.rows


test_then_train.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def learn_part(
    learner: Learner[S], state: State[S], batches: Iterable[Batch], answered: Hear = _unheard
) -> Part[S]:
    """Do one task's work on a micro-batch; `close` makes the next state of what all tasks give."""
    model, counted, rows = state.model, state.metrics, Counts()
    watched, losses = bool(state.watch), []
    for block in _recut(learner, batches):
        with np.errstate(all="ignore"):  # what is not finite, `step` finds itself
            model, output, trained = learn(learner, model, block)
            answered(output)
            output, served = point(learner, output), point(learner, learner.predict(state.model, block.x))
            if watched:
                losses.append(_losses(counted, block.y, output, learner.mini_batch))
        counted = metrics.update(counted, block.y, output, served)
        received = len(block.y)
        rows = Counts(rows.received + received, rows.trained + trained, rows.skipped + received - trained)
    return Part(model, counted, np.concatenate([np.empty((2, 0)), *losses], axis=1), rows)


def point(learner: Learner[Any], output: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the answers that count: of a regression's several outputs, the one that is nearest to a median."""
    if learner.classes is not None or output.shape[1] == 1:
        return output
    point = getattr(learner, "point", 0)
    return output[:, point : point + 1]


def close(learner: Learner[S], state: State[S], parts: Sequence[Part[S]]) -> State[S]:
    """End a micro-batch: put the tasks' parts together, look for drift, and let the model react to it.

    `state` is the one that all parts began with; they come in the order of (topic, partition). One part is
    taken as it is. Errors: ValueError where several parts can't be merged.
    """
    parts = [part for part in parts if part.rows.received] or list(parts[:1])
    if not parts:
        return state
    model, counted = parts[0].model, parts[0].metrics
    if len(parts) > 1:
        model = merging(learner).merge(
            state.model, [part.model for part in parts], [part.rows.trained for part in parts]
        )
        counted = metrics.merge(state.metrics, [part.metrics for part in parts])
    if not state.watch:
        return State(model, counted)
    watch = _watched(learner, state.watch, _side_by_side([part.losses for part in parts]))
    if watch.found > state.watch.found and isinstance(learner, Reacts):
        model = learner.react(model)
    return State(model, counted, watch)


@runtime_checkable
class Merges(Protocol[S]):
    """A learner whose state, learned by several tasks from one start, can be put together again."""

    def merge(self, start: S, parts: Sequence[S], rows: Sequence[int]) -> S:
        """Combine the models of tasks that trained so many `rows` each."""


@runtime_checkable
class Runs(Protocol[S]):
    """A learner that does many steps faster than one by one."""

    def steps(self, state: S, batches: Iterable[Batch]) -> tuple[S, list[Step]]:
        """Do what `step` would, batch by batch; give the last state, and all steps."""


@runtime_checkable
class Reacts(Protocol[S]):
    """A learner that does something about a drift; what, is an option of its own."""

    def react(self, state: S) -> S:
        """Return the model that goes on after a drift was found."""


@runtime_checkable
class Grows(Protocol[S]):
    """A learner whose model can take up more classes."""

    def grow(self, state: S, classes: int) -> S:
        """Return the model of `classes` classes before, with the outputs of this learner's classes."""


def merging(learner: Learner[S]) -> Merges[S]:
    """Give the learner, which can merge. ValueError: it can't."""
    if not isinstance(learner, Merges):
        raise ValueError(
            f"update must be 'sequential' for learner {learner.options().get('learner')!r}: "
            "its state can't be merged; got 'averaged'"
        )
    return learner


def grown(learner: Learner[S], state: State[S]) -> State[S]:
    """Give a state of fewer classes the learner's classes, the old ones first; the rest stays as it was.

    Errors: ValueError where the learner can't grow.
    """
    before = len(state.metrics.total.actual) if isinstance(state.metrics.total, metrics.ClassCounts) else 0
    if learner.classes is None or before == len(learner.classes):
        return state
    if not isinstance(learner, Grows):
        raise ValueError(f"classes can't grow for learner {learner.options().get('learner')!r}")
    counts = metrics.grown(state.metrics, len(learner.classes))
    return state._replace(model=learner.grow(state.model, before), metrics=counts)


@runtime_checkable
class Mixes(Protocol[C]):
    """A learner of several members."""

    def members(self, state: C) -> list[dict[str, Any]]:
        """Describe each member, ready for JSON: its name, its weight in the mixture, its restarts."""


def report(learner: Learner[S], state: State[S]) -> dict[str, Any]:
    """Give a version's figures, ready for JSON: those of the metrics, the members', and the drifts found."""
    figures = metrics.report(state.metrics)
    if isinstance(learner, Mixes):
        figures["members"] = learner.members(state.model)
    if state.watch:
        figures["drifts"] = int(state.watch.found)
    return figures


def events(learner: Learner[S], before: State[S], after: State[S]) -> list[dict[str, Any]]:
    """Say what happened in a micro-batch besides learning, ready for a version's record."""
    happened: list[dict[str, Any]] = []
    if before.watch and after.watch and after.watch.found > before.watch.found:
        happened.append({"event": "drift", "found": int(after.watch.found - before.watch.found)})
    if isinstance(learner, Mixes):
        for then, now in zip(learner.members(before.model), learner.members(after.model), strict=True):
            if now["restarts"] > then["restarts"]:
                happened.append({"event": "member restarted", "member": now["member"]})
    return happened


def _detector(learner: Learner[Any]) -> Detector[Any] | None:
    return getattr(learner, "detector", None)  # learners of a caller's own need not have one


def _watch(learner: Learner[Any]) -> Watch | tuple[()]:
    detector = _detector(learner)
    if detector is None:
        return ()
    return Watch(detector.init(), np.asarray(learner.mini_batch), np.zeros((), np.int64), np.zeros(2))


def _watched(learner: Learner[Any], watch: Watch, losses: NDArray[np.float64]) -> Watch:
    """Show the detector mean losses over WATCHED rows or more, of whole mini-batches.

    One row's loss varies too much to be judged. It starts afresh with another size of mini-batch: smaller
    ones learn faster, which is no drift.
    """
    detector = _detector(learner)
    assert detector is not None
    size, memory, waiting = np.asarray(learner.mini_batch), watch.detector, watch.waiting
    if size != watch.mini_batch:
        memory, waiting = detector.init(), np.zeros(2)
    means, waiting = _means(np.concatenate([waiting[:, None], losses], axis=1))
    memory, found = detector.update(memory, means)
    return Watch(memory, size, np.asarray(watch.found + len(found)), waiting)


def _means(losses: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give means over WATCHED rows or more, of whole steps, and sum and rows of what is too few yet."""
    means, total, rows = [], 0.0, 0.0
    for loss, count in zip(*losses.tolist(), strict=True):
        total, rows = total + loss, rows + count
        if rows >= WATCHED:
            means.append(total / rows)
            total, rows = 0.0, 0.0
    return np.array(means), np.array([total, rows])


def _side_by_side(series: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Give tasks' losses (2, steps) as one series: the first of each, then the second of each."""
    if len(series) == 1:
        return series[0]
    order = averaging.interleaved([each.shape[1] for each in series], sum(each.shape[1] for each in series))
    return np.stack([series[task][:, step] for task, step in order], axis=1) if len(order) else series[0]


def _losses(counted: Metrics, y: NDArray[Any], output: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    """Give each mini-batch's loss and rows: log loss, or absolute error in deviations of the target."""
    if isinstance(counted.total, metrics.ClassCounts):
        loss = -np.log(np.maximum(output[np.arange(len(y)), y], LEAST), dtype=np.float64)
    else:
        spread = float(np.sqrt(counted.total.m2 / np.maximum(counted.total.weight, 1))) or 1.0
        loss = np.minimum(np.abs(output[:, 0] - y, dtype=np.float64) / spread, MOST)
    loss = np.nan_to_num(loss, nan=MOST)
    starts = np.arange(0, len(y), size)
    return np.stack([np.add.reduceat(loss, starts), np.minimum(size, len(y) - starts)])


def learn(learner: Learner[S], model: S, block: Batch) -> tuple[S, NDArray[np.float32], int]:
    """Answer and learn a block, mini-batch by mini-batch; give model, answers and rows trained."""
    size = learner.mini_batch
    many = learner.steps if isinstance(learner, Runs) else partial(_steps, learner)
    model, steps = many(model, (_rows(block, start, start + size) for start in range(0, len(block.y), size)))
    trained = sum(len(step.output) for step in steps if step.trained)
    return model, np.concatenate([step.output for step in steps]), trained


def _steps(learner: Learner[S], model: S, batches: Iterable[Batch]) -> tuple[S, list[Step]]:
    steps = []
    for batch in batches:
        model, step = learner.step(model, batch)
        steps.append(step)
    return model, steps


def _recut(learner: Learner[S], batches: Iterable[Batch]) -> Iterator[Batch]:
    """Cut batches anew into blocks: whole mini-batches, at least MEASURE_ROWS; only the last is shorter."""
    size = -(-MEASURE_ROWS // learner.mini_batch) * learner.mini_batch
    waiting: list[Batch] = []
    lacking = size
    for batch in batches:
        rest = fitting(learner, batch)
        while len(rest.y) >= lacking:
            yield _joined([*waiting, _rows(rest, 0, lacking)])
            rest, waiting, lacking = _rows(rest, lacking, len(rest.y)), [], size
        if len(rest.y):
            waiting.append(rest)
            lacking -= len(rest.y)
    if waiting:
        yield _joined(waiting)


def _rows(batch: Batch, start: int, stop: int) -> Batch:
    x, y, weight = batch
    return Batch(x[start:stop], y[start:stop], None if weight is None else weight[start:stop])


def _joined(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    weights = None
    if any(part.weight is not None for part in parts):
        ones = [np.ones(len(part.y), np.float32) if part.weight is None else part.weight for part in parts]
        weights = np.concatenate(ones)
    return Batch(
        np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts]), weights
    )


def fitting(learner: Learner[S], batch: Batch) -> Batch:
    """Give the batch in the learner's dtypes, contiguous (a view where it is so already).

    Errors: ValueError for other shapes than the learner's, and for a class index out of range.
    """
    x = np.ascontiguousarray(batch.x, np.float32)
    if x.ndim != 2 or x.shape[1] != learner.inputs:
        raise ValueError(f"x must be (rows, {learner.inputs}); got {x.shape}")
    y = (
        np.ascontiguousarray(batch.y, np.float32)
        if learner.classes is None
        else _indices(learner.classes, batch.y)
    )
    if y.shape != x.shape[:1]:
        raise ValueError(f"y must be ({len(x)},), as x has rows; got {y.shape}")
    weight = None if batch.weight is None else np.ascontiguousarray(batch.weight, np.float32)
    if weight is not None and weight.shape != y.shape:
        raise ValueError(f"weight must be ({len(x)},), as x has rows; got {weight.shape}")
    return Batch(x, y, weight)


def _indices(classes: tuple[Any, ...], y: NDArray[Any]) -> NDArray[np.int32]:
    indices = np.asarray(y)
    if indices.dtype.kind not in "iu":
        raise ValueError(f"y must be class indices (int32); got {indices.dtype}")
    if indices.size and not (indices.min() >= 0 and indices.max() < len(classes)):
        raise ValueError(
            f"y must be class indices in [0, {len(classes)}); got {indices.min()} to {indices.max()}"
        )
    return np.ascontiguousarray(indices, np.int32)
