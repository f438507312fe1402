"""The contract of a learner, and the one loop that changes a model: predict, measure, learn."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn import metrics
from streaming_nn.nn.metrics import Metrics

MEASURE_ROWS = 4096  # rows whose answers are kept before they are counted: bounds memory, and fixes the order of sums

S = TypeVar("S", bound=tuple[Any, ...])


class Batch(NamedTuple):
    """Labeled rows, in the order in which they are learned."""

    x: NDArray[np.float32]  # (rows, inputs)
    y: NDArray[Any]  # (rows,) int32 class index, or float32 target
    weight: NDArray[np.float32] | None = None  # (rows,) None: every row weighs 1


class Step(NamedTuple):
    """What one mini-batch gave."""

    output: NDArray[np.float32]  # (rows, outputs) class probabilities, or targets in their own unit; before the step
    trained: bool  # False: the step was not finite; nothing of the state has changed


class Rows(NamedTuple):
    """How a micro-batch's records ended: received = trained + skipped + rejected, always."""

    received: int = 0
    trained: int = 0
    skipped: int = 0
    rejected: int = 0


class Learner(Protocol[S]):
    """Options of a model, frozen; the model itself is the state that goes in and comes out.

    A state is a NamedTuple (nested ones too) of arrays, so that `tensors.flatten` can write it into a version.
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

    def init(self) -> S:
        """Return the state of a model that has seen nothing."""

    def predict(self, state: S, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Answer rows (rows, inputs) with (rows, outputs): class probabilities, or targets in their own unit."""

    def step(self, state: S, batch: Batch) -> tuple[S, Step]:
        """Answer one mini-batch, then learn it. Pure: the state that came in is not changed."""
