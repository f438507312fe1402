"""Networks in the compiled core: their layout, initial weights, predictions and gradients."""

import ctypes
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core import library, structures
from streaming_nn.core.structures import Network

PADDING = 8  # floats: rows of weights are a multiple of it
KINDS = ("constant", "uniform", "normal", "orthogonal")  # how weights are drawn

Floats = NDArray[np.float32]


class Layer(NamedTuple):
    """Where a layer's parameters are in the vector."""

    inputs: int
    outputs: int
    row: int  # floats of a row of weights, those of the linear part included
    weights: int  # offset of its weights (inputs, row)
    biases: int  # offset of its biases (padded outputs)
    linear: int | None  # column of the linear part's weights


def padded(columns: int) -> int:
    """Return the least multiple of PADDING that is not less."""
    return -(-columns // PADDING) * PADDING


class Shape:
    """A network's shape and loss, as `structures.network` takes them, and the layout of its parameters.

    A vector of parameters has, for each layer, its weights, a row per input, and its biases; rows and biases
    are padded with zeros. Of the first layer with `skip`, a row ends with the weights of the linear part,
    padded too.
    """

    def __init__(
        self,
        units: Sequence[int],
        activation: str = "relu",
        loss: str = "softmax",
        skip: bool = False,
        *,
        huber_delta: float = 1.0,
        focal_gamma: float = 0.0,
        quantiles: Sequence[float] = (),
    ) -> None:
        self.units, self.activation, self.loss, self.skip = tuple(units), activation, loss, skip
        self.options: dict[str, Any] = {
            "huber_delta": huber_delta,
            "focal_gamma": focal_gamma,
            "quantiles": tuple(quantiles),
        }
        self.structure: Network = structures.network(self.units, activation, loss, skip, **self.options)
        self._core = library.load()
        self._core.core_parameters.restype = self._core.core_pass_bytes.restype = ctypes.c_long

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Each layer's part of the parameters."""
        layers, offset = [], 0
        for i, (inputs, outputs) in enumerate(zip(self.units, self.units[1:], strict=False)):
            linear = padded(outputs) if self.skip and i == 0 else None
            row = padded(outputs) + (0 if linear is None else padded(self.units[-1]))
            layers.append(Layer(inputs, outputs, row, offset, offset + inputs * row, linear))
            offset += inputs * row + padded(outputs)
        return tuple(layers)

    @cached_property
    def parameters(self) -> int:
        """Floats of a vector of parameters, padding included."""
        return int(self._core.core_parameters(ctypes.byref(self.structure)))

    @property
    def spans(self) -> list[tuple[int, int, bool]]:
        """Where weights and biases are in a vector: start, stop, and whether they are biases."""
        ends = [(each.weights, each.biases, each.biases + padded(each.outputs)) for each in self.layers]
        return [span for a, b, c in ends for span in ((a, b, False), (b, c, True))]

    @property
    def targets(self) -> int:
        """Values of y per row."""
        return 1 if self.loss in ("softmax", "quantile") else self.units[-1]

    def work(self, rows: int, dropout: float = 0.0) -> NDArray[np.uint8]:
        """Return memory for a pass over some rows."""
        size = self._core.core_pass_bytes(
            ctypes.byref(self.structure), ctypes.c_long(rows), ctypes.c_double(dropout)
        )
        return aligned(size)

    def views(self, theta: Floats) -> list[tuple[Floats, Floats]]:
        """View a vector of parameters as each layer's weights (inputs, outputs) and biases (outputs,)."""
        return [
            (
                theta[each.weights : each.biases].reshape(each.inputs, each.row)[:, : each.outputs],
                theta[each.biases : each.biases + each.outputs],
            )
            for each in self.layers
        ]

    def linear_view(self, theta: Floats) -> Floats:
        """View the linear part's weights (inputs, outputs); no inputs without `skip`."""
        first = self.layers[0]
        rows = theta[first.weights : first.biases].reshape(first.inputs, first.row)
        if first.linear is None:
            return rows[:0, : self.units[-1]]
        return rows[:, first.linear : first.linear + self.units[-1]]

    @property
    def key(self) -> tuple[Any, ...]:
        """What is equal for equal shapes."""
        return self.units, self.activation, self.loss, self.skip, *self.options.items()

    def with_units(self, units: Sequence[int]) -> "Shape":
        """Return a shape with other units and the same options."""
        return Shape(units, self.activation, self.loss, self.skip, **self.options)

    def predict(self, theta: Floats, x: Floats) -> Floats:
        """Predict rows x (rows, inputs); return (rows, outputs). Errors: ValueError for other arrays."""
        rows = len(x)
        outputs = np.empty((rows, self.units[-1]), np.float32)
        work = self.work(rows)
        if rows:
            self._core.core_outputs(
                ctypes.byref(self.structure),
                library.address(theta, "f4", (self.parameters,)),
                library.address(x, "f4", (rows, self.units[0])),
                ctypes.c_long(rows),
                library.address(outputs, "f4", outputs.shape, written=True),
                library.address(work, "u1", work.shape, written=True),
            )
        return outputs

    def gradient(
        self,
        theta: Floats,
        x: Floats,
        y: Floats,
        weight: Floats | None = None,
        dropout: float = 0.0,
        key: int = 0,
    ) -> tuple[Floats, NDArray[np.float64], Floats]:
        """Return outputs (rows, outputs), losses (rows,) and the gradient of the weighted mean loss.

        y is (rows, targets). Errors: ValueError for other arrays, and for a class index out of range.
        """
        rows = len(x)
        self.check_targets(y, rows)
        outputs = np.empty((rows, self.units[-1]), np.float32)
        losses, slope = np.empty(rows), np.empty(self.parameters, np.float32)
        weight = np.ones(rows, np.float32) if weight is None else weight
        work = self.work(rows, dropout)
        self._core.core_gradient(
            ctypes.byref(self.structure),
            library.address(theta, "f4", (self.parameters,)),
            library.address(x, "f4", (rows, self.units[0])),
            library.address(y, "f4", (rows, self.targets)),
            library.address(weight, "f4", (rows,)),
            ctypes.c_long(rows),
            ctypes.c_double(dropout),
            ctypes.c_uint64(key),
            library.address(outputs, "f4", outputs.shape, written=True),
            library.address(losses, "f8", (rows,), written=True),
            library.address(slope, "f4", (self.parameters,), written=True),
            library.address(work, "u1", work.shape, written=True),
        )
        return outputs, losses, slope

    def check_targets(self, y: Floats, rows: int) -> None:
        """Raise ValueError unless there are rows, and each y of a class is an index of an output."""
        if rows < 1:
            raise ValueError("rows must be at least one; got none")
        classes = self.units[-1]
        if self.loss == "softmax" and not bool(np.all((y >= 0) & (y < classes))):
            raise ValueError(f"y must be class indices in [0, {classes}); got {y.min()} to {y.max()}")


def aligned(size: int) -> NDArray[np.uint8]:
    """Return memory that starts at a cache line."""
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]


def draw(kind: str, size: float, seed: int, a: int, b: int, start: int, shape: tuple[int, int]) -> Floats:
    """Draw weights (rows, columns) as numbers `start` and on of the sequence (seed, a, b).

    `kind` is one of KINDS; `size` is the constant, the bound of uniform numbers, or the deviation of normal
    ones.
    """
    w = np.empty(shape, np.float32)
    work = np.empty(w.size if kind == "orthogonal" else 0)
    library.load().core_draw(
        ctypes.c_int32(KINDS.index(kind)),
        ctypes.c_double(size),
        *(ctypes.c_uint64(each % 2**64) for each in (seed, a, b, start)),
        library.address(w, "f4", shape, written=True),
        *(ctypes.c_long(each) for each in (*shape, shape[1])),
        library.address(work, "f8", work.shape, written=True),
    )
    return w
