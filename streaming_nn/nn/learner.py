"""The contract of a learner, and the one loop that changes a model: predict, measure, learn."""

from collections.abc import Iterable, Iterator
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn import metrics
from streaming_nn.nn.metrics import Metrics

MEASURE_ROWS = (
    4096  # rows whose answers are kept before they are counted: bounds memory, and fixes the order of sums
)

S = TypeVar("S", bound=tuple[Any, ...])


class Batch(NamedTuple):
    """Labeled rows, in the order in which they are learned."""

    x: NDArray[np.float32]  # (rows, inputs)
    y: NDArray[Any]  # (rows,) int32 class index, or float32 target
    weight: NDArray[np.float32] | None = None  # (rows,) None: every row weighs 1


class Step(NamedTuple):
    """What one mini-batch gave."""

    output: NDArray[
        np.float32
    ]  # (rows, outputs) class probabilities, or targets in their own unit; before the step
    trained: bool  # False: the step was not finite; nothing of the state has changed


class Rows(NamedTuple):
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
        """Rows a step learns from."""

    @property
    def window(self) -> int:
        """Rows in the metrics' window."""

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


class State(NamedTuple, Generic[S]):
    """All that a version holds: the model, and how well it has answered so far."""

    model: S
    metrics: Metrics


def initial(learner: Learner[S]) -> State[S]:
    """Return the state that has seen nothing."""
    classes = None if learner.classes is None else len(learner.classes)
    return State(learner.init(), metrics.init(classes, learner.window, learner.fading))


def test_then_train(learner: Learner[S], state: State[S], batches: Iterable[Batch]) -> tuple[State[S], Rows]:
    """Learn one micro-batch: answer each mini-batch, then learn it, and count how good the answers were.

    The same rows are answered by the model in force at the start too: that is what a scorer would have said
    (as served). Batches may come cut in any way: they are cut anew, and the state has the same bits. Errors:
    ValueError for a batch that does not fit the learner; the state that came in is never changed.
    """
    model, counted, rows = state.model, state.metrics, Rows()
    for block in _recut(learner, batches):
        with np.errstate(all="ignore"):  # what is not finite, `step` finds itself
            model, output, trained = _learn(learner, model, block)
        counted = metrics.update(counted, block.y, output, learner.predict(state.model, block.x))
        received = len(block.y)
        rows = Rows(rows.received + received, rows.trained + trained, rows.skipped + received - trained)
    return State(model, counted), rows


test_then_train.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def _learn(learner: Learner[S], model: S, block: Batch) -> tuple[S, NDArray[np.float32], int]:
    """Answer and learn a block, mini-batch by mini-batch; give model, answers and rows trained."""
    x, y, weight = block
    size, outputs, trained = learner.mini_batch, [], 0
    for start in range(0, len(y), size):
        stop = start + size
        batch = Batch(x[start:stop], y[start:stop], None if weight is None else weight[start:stop])
        model, step = learner.step(model, batch)
        outputs.append(step.output)
        trained += len(batch.y) if step.trained else 0
    return model, np.concatenate(outputs), trained


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
