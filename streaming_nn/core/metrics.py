"""Predictions measured by the core, in place, in the arrays that `streaming_nn.nn.metrics` names."""

import ctypes
from collections.abc import Callable, Iterator
from ctypes import Structure, c_double, c_int64, c_long, c_void_p
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streaming_nn.core import library
from streaming_nn.core.library import MOST_ROWS, address

SCORED_CLASSES = 10  # with more, no scores are counted: 6 KB of a version for each class
OCTAVES = 16  # of a probability's odds, on each side of 1, that bins distinguish: 1:65,536 to 65,536:1
BINS_OF_TWO, BINS_OF_MORE = 8 * 2 * OCTAVES, 4 * 2 * OCTAVES  # 8 in each octave up to two classes, else 4

F4, F8, I1, I4, I8 = (np.dtype(each) for each in ("f4", "f8", "u1", "i4", "i8"))
Array = NDArray[Any]


class ClassCounts(Structure):
    """Weighted counts of classified rows."""

    _fields_ = (
        ("classes", c_int64),
        *((name, c_void_p) for name in ("actual", "predicted", "correct", "confusion", "log_loss")),
    )


class ClassMetrics(Structure):
    """The metrics of a classifier."""

    _fields_ = (
        ("window", c_int64),
        ("bins", c_int64),
        ("decay", c_double),
        *((name, c_void_p) for name in ("rows", "ring_y", "ring_predictions", "ring_losses", "ring_scores")),
        ("fading", ClassCounts),
        ("cumulative", ClassCounts),
        ("scores", c_void_p),
    )


class TargetSums(Structure):
    """Weighted sums over rows with a target."""

    _fields_ = tuple((name, c_void_p) for name in ("weight", "mean", "m2", "absolute", "squared"))


class TargetMetrics(Structure):
    """The metrics of a regression."""

    _fields_ = (
        ("window", c_int64),
        ("decay", c_double),
        *((name, c_void_p) for name in ("rows", "ring_y", "ring_predictions")),
        ("fading", TargetSums),
        ("cumulative", TargetSums),
    )


def measure_classes(
    metrics: Any, y: NDArray[np.int32], output: NDArray[np.float32], as_served: NDArray[np.float32]
) -> None:
    """Measure rows of classes y (rows,): output and as_served are probabilities (rows, classes).

    Errors: ValueError for a class that does not exist, and for arrays of another shape or dtype.
    """
    rows, classes = len(y), len(metrics.cumulative.actual)
    weights = np.empty(rows)
    _require_classes(
        library.load().core_measure_classes(
            ctypes.byref(_class_metrics(metrics)),
            address(y, I4, (rows,)),
            address(output, F4, (rows, classes)),
            address(as_served, F4, (rows, classes)),
            c_long(rows),
            address(weights, F8, (rows,)),
        ),
        classes,
    )


def measure_labels(
    metrics: Any, y: NDArray[np.int32], output: NDArray[np.float32], as_served: NDArray[np.float32]
) -> None:
    """Measure rows of labels y (labels, rows); each label is two classes of output (labels, rows, 2).

    The metrics' arrays have one more axis, of labels, before those of a label. Errors: as `measure_classes`.
    """
    (labels, rows), weights, core = y.shape, np.empty(y.shape[1]), library.load()
    of_rows = [
        address(y, I4, (labels, rows)).value,
        *(address(each, F4, (labels, rows, 2)).value for each in (output, as_served)),
    ]
    for i, structure in enumerate(_structures(metrics, labels, _class_metrics)):
        at = (c_void_p(first + i * size * rows) for first, size in zip(of_rows, (4, 8, 8), strict=True))
        failed = core.core_measure_classes(
            ctypes.byref(structure), *at, c_long(rows), address(weights, F8, (rows,))
        )
        _require_classes(failed, 2)


def _structures(metrics: Any, count: int, structure_of: Callable[[Any], Structure]) -> Iterator[Structure]:
    """Yield the structure of each part of metrics with one more axis; two are checked, the others follow."""
    arrays = [*_arrays(metrics)]
    if not all(len(array) == count and array.flags.c_contiguous for array in arrays):
        raise ValueError(f"metrics must have {count} parts side by side; got other shapes")
    found = [structure_of(part_of(metrics, i)) for i in range(min(count, 2))]
    yield from found
    if count > 2:  # all fields have 8 bytes; addresses move on by the same step
        first, second = (np.frombuffer(bytes(each), np.int64) for each in found)
        for i in range(2, count):
            yield type(found[0]).from_buffer_copy((first + i * (second - first)).tobytes())


def part_of(metrics: Any, i: int) -> Any:
    """Return views of arrays, in nested NamedTuples, at an index of their first axis."""
    if isinstance(metrics, tuple):
        return type(metrics)(*[part_of(each, i) for each in metrics]) if metrics else metrics
    return metrics[i, ...]


def _arrays(part: Any) -> Iterator[Array]:
    if isinstance(part, tuple):
        for each in part:
            yield from _arrays(each)
    else:
        yield part


def _class_metrics(metrics: Any) -> ClassMetrics:
    ring, window, classes = metrics.window, _window(metrics), len(metrics.cumulative.actual)
    scored = metrics.scores.size > 0
    bins = BINS_OF_TWO if classes <= 2 else BINS_OF_MORE
    if scored and classes > SCORED_CLASSES:
        raise ValueError(f"scores must be of up to {SCORED_CLASSES} classes; got {classes}")
    return ClassMetrics(
        window,
        bins,
        float(metrics.decay),
        _written(metrics.rows, I8, ()),
        _written(ring.y, I4, (window,)),
        _written(ring.predictions, I4, (4, window)),
        _written(ring.log_loss, F4, (2, window)),
        _written(ring.scores, I1, (2, classes, window)) if scored else None,
        _class_counts(metrics.fading, classes),
        _class_counts(metrics.cumulative, classes),
        _written(metrics.scores, I8, (2, 2, classes, bins)) if scored else None,
    )


def count_classes(
    counts: Any, y: NDArray[np.int32], predictions: NDArray[np.int32], losses: NDArray[np.float32]
) -> None:
    """Count rows: y (rows,), predictions (4, rows) and log losses (2, rows). Errors: as `measure_classes`."""
    rows, classes = len(y), len(counts.actual)
    _require_classes(
        library.load().core_count_classes(
            ctypes.byref(_class_counts(counts, classes)),
            address(y, I4, (rows,)),
            address(predictions, I4, (4, rows)),
            address(losses, F4, (2, rows)),
            c_long(rows),
            c_long(rows),
        ),
        classes,
    )


def measure_targets(
    metrics: Any, y: NDArray[np.float64], output: NDArray[np.float64], as_served: NDArray[np.float64]
) -> None:
    """Measure rows of finite targets y (rows,); output and as_served are predictions (rows,).

    Errors: ValueError.
    """
    ring, rows, window = metrics.window, len(y), _window(metrics)
    weights = np.empty(rows)
    structure = TargetMetrics(
        window,
        float(metrics.decay),
        _written(metrics.rows, I8, ()),
        _written(ring.y, F8, (window,)),
        _written(ring.predictions, F8, (4, window)),
        _target_sums(metrics.fading),
        _target_sums(metrics.cumulative),
    )
    library.load().core_measure_targets(
        ctypes.byref(structure),
        address(y, F8, (rows,)),
        address(output, F8, (rows,)),
        address(as_served, F8, (rows,)),
        c_long(rows),
        address(weights, F8, (rows,)),
    )


def add_targets(sums: Any, y: NDArray[np.float64], predictions: NDArray[np.float64]) -> None:
    """Add rows: y (rows,) and predictions (4, rows). Errors: ValueError."""
    rows = len(y)
    library.load().core_add_targets(
        ctypes.byref(_target_sums(sums)),
        address(y, F8, (rows,)),
        address(predictions, F8, (4, rows)),
        c_long(rows),
        c_long(rows),
    )


def class_losses(y: NDArray[np.int32], output: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    """Return losses and rows (2, steps) of steps of `size` rows, for a drift detector: of classes y (rows,).

    Output has their probabilities (rows, classes). Errors: as `measure_classes`.
    """
    rows, classes = output.shape
    sums = _no_losses(rows, size)
    failed = library.load().core_class_losses(
        address(y, I4, (rows,)),
        address(output, F4, (rows, classes)),
        c_long(rows),
        c_long(classes),
        c_long(size),
        address(sums, F8, sums.shape),
    )
    _require_classes(failed, classes)
    return sums


def target_losses(
    y: NDArray[np.float64], output: NDArray[np.float64], unit: float, size: int
) -> NDArray[np.float64]:
    """Return the same of targets y (rows,), with predictions output (rows,), in this unit."""
    rows = len(y)
    sums = _no_losses(rows, size)
    library.load().core_target_losses(
        address(y, F8, (rows,)),
        address(output, F8, (rows,)),
        c_long(rows),
        c_double(unit),
        c_long(size),
        address(sums, F8, sums.shape),
    )
    return sums


def _no_losses(rows: int, size: int) -> NDArray[np.float64]:
    if size < 1:
        raise ValueError(f"size must be >= 1; got {size}")
    return np.empty((2, -(-rows // size)))


def _class_counts(counts: Any, classes: int) -> ClassCounts:
    return ClassCounts(
        classes,
        _written(counts.actual, F8, (classes,)),
        _written(counts.predicted, F8, (4, classes)),
        _written(counts.correct, F8, (4, classes)),
        _written(counts.confusion, F8, (2, classes, classes)) if counts.confusion.size else None,
        _written(counts.log_loss, F8, (2,)),
    )


def _target_sums(sums: Any) -> TargetSums:
    single = (_written(each, F8, ()) for each in (sums.weight, sums.mean, sums.m2))
    return TargetSums(*single, *(_written(each, F8, (4,)) for each in (sums.absolute, sums.squared)))


def _window(metrics: Any) -> int:
    if not 0 <= metrics.rows < MOST_ROWS:
        raise ValueError(f"rows must be in [0, {MOST_ROWS}); got {metrics.rows}")
    if not len(metrics.window.y):
        raise ValueError("window must be >= 1; got 0")
    return len(metrics.window.y)


def _written(array: Array, dtype: DTypeLike, shape: tuple[int, ...]) -> int | None:
    return address(array, dtype, shape, written=True).value


def _require_classes(failed: int, classes: int) -> None:
    if failed:
        raise ValueError(f"y must be class indices in [0, {classes}); got values outside it")
