"""Metrics of predictions: over a window of rows, fading, and cumulative, beside two baselines.

Four predictions of each row are measured: prequential (before learning it), as served (by the version at the
micro-batch's start), and two baselines without a model: the majority class so far and the last class
(no-change), or for regression the mean so far and the last target. In every axis of 4 they are in this order;
in an axis of 2, the first two.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn.averaging import interleave

Array = NDArray[Any]
CONFUSION_CLASSES = 100  # with more, no confusion matrix is kept or reported: it would outweigh the model
EPSILON = float(np.finfo(np.float32).eps)  # least probability in a log loss, as in scikit-learn for float32
MAJORITY_ROWS = 512  # looked at together: the fewer, the fewer classes can lead among them
FEW_CLASSES = 32  # up to so many, argmax takes three times as long as comparing with the maximum
_DOWN = np.arange(FEW_CLASSES, 0, -1, dtype=np.int8)[:, None]  # the first class of all has the highest rank
SPANS = ("window", "fading", "cumulative")


class Ring(NamedTuple):
    """The last rows; row r is at r % window."""

    y: Array  # (window,) int32 class index, or float64 target
    predictions: Array  # (4, window) of y's dtype
    log_loss: NDArray[np.float32]  # (2, window), or (2, 0) for regression


class ClassCounts(NamedTuple):
    """Weighted counts of classified rows."""

    actual: NDArray[np.float64]  # (classes,) rows of this class
    predicted: NDArray[np.float64]  # (4, classes) rows predicted as this class
    correct: NDArray[np.float64]  # (4, classes) both
    confusion: NDArray[np.float64]  # (2, classes, classes) [actual, predicted]; (2, 0, 0) with too many
    log_loss: NDArray[np.float64]  # (2,) sum


class TargetSums(NamedTuple):
    """Weighted sums over rows with a target; moments of the target for R2."""

    weight: NDArray[np.float64]  # ()
    mean: NDArray[np.float64]  # () of the targets
    m2: NDArray[np.float64]  # () sum of squared deviations of the targets
    absolute: NDArray[np.float64]  # (4,) sum of |error|
    squared: NDArray[np.float64]  # (4,) sum of error squared


class Metrics(NamedTuple):
    """All accumulators; they are part of a version."""

    rows: NDArray[np.int64]  # () rows counted
    decay: NDArray[np.float64]  # () factor of a row's weight in `fading` at each later row
    window: Ring
    fading: ClassCounts | TargetSums
    cumulative: ClassCounts | TargetSums


def init(classes: int | None, window: int = 1000, fading: float = 0.999) -> Metrics:
    """Return the metrics of no rows; `classes` None means regression."""
    kind = np.float64 if classes is None else np.int32
    ring = Ring(
        np.zeros(window, kind),
        np.zeros((4, window), kind),
        np.zeros((2, 0 if classes is None else window), np.float32),
    )
    empty = _no_sums() if classes is None else _no_counts(classes)
    return Metrics(np.zeros((), np.int64), np.array(fading, np.float64), ring, empty, empty)


def _no_counts(classes: int) -> ClassCounts:
    side = classes if classes <= CONFUSION_CLASSES else 0
    return ClassCounts(
        np.zeros(classes),
        np.zeros((4, classes)),
        np.zeros((4, classes)),
        np.zeros((2, side, side)),
        np.zeros(2),
    )


def _no_sums() -> TargetSums:
    return TargetSums(np.zeros(()), np.zeros(()), np.zeros(()), np.zeros(4), np.zeros(4))


def update(metrics: Metrics, y: Array, output: Array, as_served: Array) -> Metrics:
    """Measure rows in their order: truth y (rows,), predictions output and as_served (rows, outputs).

    A prediction that is not finite counts as wrong: a probability as 0, a target as the mean so far. A row
    whose target is not finite is not counted.
    """
    if isinstance(metrics.cumulative, TargetSums):
        known = np.isfinite(y)
        if not known.all():
            y, output, as_served = y[known], output[known], as_served[known]
    if not len(y):
        return metrics
    if isinstance(metrics.cumulative, ClassCounts):
        y = y.astype(np.int32, copy=False)
        predictions, log_loss = _classes(metrics, y, output, as_served)
    else:
        y = y.astype(np.float64)
        predictions, log_loss = _targets(metrics, y, output, as_served), np.zeros((2, 0), np.float32)
    faded = _count(metrics.fading, y, predictions, log_loss, _decays(float(metrics.decay), len(y)))
    return Metrics(
        np.asarray(metrics.rows + len(y)),
        metrics.decay,
        _remember(metrics.window, int(metrics.rows), y, predictions, log_loss),
        _add(metrics.fading, faded, float(metrics.decay) ** len(y)),
        _add(metrics.cumulative, _count(metrics.cumulative, y, predictions, log_loss, None), 1.0),
    )


@lru_cache(8)
def _decays(decay: float, rows: int) -> NDArray[np.float64]:
    decays = np.float64(decay) ** np.arange(rows - 1, -1, -1, dtype=np.float64)
    decays.flags.writeable = False
    return decays


def _last(metrics: Metrics) -> Any:
    return metrics.window.y[(int(metrics.rows) - 1) % len(metrics.window.y)]  # 0 before the first row


def _classes(metrics: Metrics, y: Array, output: Array, as_served: Array) -> tuple[Array, Array]:
    """Return the four predictions (4, rows) and the log losses (2, rows)."""
    predictions = np.empty((4, len(y)), np.int32)
    right = np.empty((2, len(y)), np.float32)
    at = np.arange(0, output.size, output.shape[1]) + y
    for i, p in enumerate((output, as_served)):
        finite = p if np.isfinite(np.add.reduce(p, axis=None)) else np.nan_to_num(p, posinf=0.0, neginf=0.0)
        predictions[i] = _greatest(finite.T)
        right[i] = finite.take(at)
    predictions[2] = _majority(metrics.cumulative.actual, y)  # type: ignore[union-attr]
    predictions[3, 0] = _last(metrics)
    predictions[3, 1:] = y[:-1]
    return predictions, -np.log(np.clip(right, EPSILON, 1 - EPSILON))


def _greatest(figures: Array) -> Array:
    """Return the class of each column's greatest figure (classes, rows), the first of those that tie."""
    classes = len(figures)
    if classes > FEW_CLASSES:
        first: Array = figures.argmax(axis=0)
    else:
        figures = np.ascontiguousarray(figures)
        ranks = (figures == np.maximum.reduce(figures, axis=0)) * _DOWN[-classes:]
        first = classes - np.maximum.reduce(ranks, axis=0)
    return first


def _majority(seen: Array, y: Array) -> Array:
    """Return the most frequent class before each row; the first of those that tie."""
    predictions = np.empty(len(y), np.int32)
    for start in range(0, len(y), MAJORITY_ROWS):
        part = y[start : start + MAJORITY_ROWS]
        after = seen + np.bincount(part, minlength=len(seen))
        candidates = np.flatnonzero(after >= seen.max())  # no other class can lead anywhere within this part
        if len(candidates) > 1:
            is_class = part == candidates[:, None]
            before = np.cumsum(is_class, axis=1, dtype=np.int32)
            before -= is_class
            before += (seen - seen.max())[candidates, None].astype(np.int32)
            candidates = candidates[_greatest(before)]
        predictions[start : start + MAJORITY_ROWS] = candidates
        seen = after
    return predictions


def _targets(metrics: Metrics, y: Array, output: Array, as_served: Array) -> Array:
    """Return the four predictions (4, rows)."""
    predictions = np.empty((4, len(y)))
    total = metrics.cumulative
    assert isinstance(total, TargetSums)
    before = np.cumsum(y) - y + total.mean * total.weight
    predictions[2] = before / np.maximum(total.weight + np.arange(len(y)), 1)
    predictions[3, 0] = _last(metrics)
    predictions[3, 1:] = y[:-1]
    for i, prediction in enumerate((output, as_served)):
        predictions[i] = np.where(np.isfinite(prediction[:, 0]), prediction[:, 0], predictions[2])
    return predictions


def _count(
    like: ClassCounts | TargetSums, y: Array, predictions: Array, log_loss: Array, weight: Array | None
) -> ClassCounts | TargetSums:
    if isinstance(like, TargetSums):
        return _sums(y, predictions, np.ones(len(y)) if weight is None else weight)
    return _counts(like, y, predictions, log_loss, weight)


def _counts(
    like: ClassCounts, y: Array, predictions: Array, log_loss: Array, weight: Array | None
) -> ClassCounts:
    classes, side = len(like.actual), like.confusion.shape[1]

    def tables(indices: Any, cells: int) -> Array:
        return np.stack([np.bincount(index, weight, cells) for index in indices]).astype(np.float64)

    y, predictions = y.astype(np.intp), predictions.astype(np.intp)
    if side:
        both = tables(y * side + predictions, side * side).reshape(-1, side, side)
        confusion, correct = both[:2], both.diagonal(axis1=1, axis2=2)
    else:
        weights = (predictions == y) * (1 if weight is None else weight)
        confusion, correct = like.confusion, np.stack([np.bincount(y, each, classes) for each in weights])
    return ClassCounts(
        tables([y], classes)[0],
        tables(predictions, classes),
        correct,
        confusion,
        log_loss.sum(axis=1, dtype=np.float64) if weight is None else log_loss @ weight,
    )


def _sums(y: Array, predictions: Array, weight: Array) -> TargetSums:
    total = weight.sum()
    mean = (weight @ y) / total
    error = np.abs(predictions - y)
    return TargetSums(
        np.asarray(total),
        np.asarray(mean),
        np.asarray(weight @ (y - mean) ** 2),
        error @ weight,
        error**2 @ weight,
    )


def _add(
    old: ClassCounts | TargetSums, new: ClassCounts | TargetSums, kept: float
) -> ClassCounts | TargetSums:
    """Add two accumulators, the old one's weight multiplied by `kept`."""
    if isinstance(old, ClassCounts):
        return ClassCounts(*(a * kept + b for a, b in zip(old, new, strict=True)))
    assert isinstance(new, TargetSums)
    weight, delta = old.weight * kept + new.weight, new.mean - old.mean
    part = new.weight / weight
    return TargetSums(
        np.asarray(weight),
        np.asarray(old.mean + delta * part),
        np.asarray(old.m2 * kept + new.m2 + delta**2 * part * old.weight * kept),
        old.absolute * kept + new.absolute,
        old.squared * kept + new.squared,
    )


def _remember(ring: Ring, rows: int, y: Array, predictions: Array, log_loss: Array) -> Ring:
    window = len(ring.y)
    kept = min(len(y), window)
    at = np.arange(rows + len(y) - kept, rows + len(y)) % window
    fresh = Ring(*(part.copy() for part in ring))
    fresh.y[at] = y[-kept:]
    fresh.predictions[:, at] = predictions[:, -kept:]
    if log_loss.shape[1]:
        fresh.log_loss[:, at] = log_loss[:, -kept:]
    return fresh


def merge(start: Metrics, parts: Sequence[Metrics]) -> Metrics:
    """Combine what tasks have counted from a common start, as if their rows had come interleaved.

    Cumulative sums are exact. The window holds the last rows in that order. A fading figure is the tasks'
    mean, weighted by their rows' weights, and all together weigh as much as that many rows do in one task.
    Baselines are as each task saw them: the class before a row is the one before it in its partition.
    """
    counts = [int(part.rows - start.rows) for part in parts]
    rows, decay = sum(counts), float(start.decay)
    if not rows:
        return start
    cumulative, fresh = start.cumulative, []
    for part, count in zip(parts, counts, strict=True):
        if count:
            cumulative = _add(cumulative, _since(part.cumulative, start.cumulative, 1.0), 1.0)
            fresh.append(_since(part.fading, start.fading, decay**count))
    weight = (1 - decay**rows) / (1 - decay) / sum(_weight(each) for each in fresh)
    fading, kept = start.fading, decay**rows
    for each in fresh:
        fading, kept = _add(fading, _scaled(each, weight), kept), 1.0
    window = _merged(start, [part.window for part in parts], counts)
    return Metrics(np.asarray(start.rows + rows), start.decay, window, fading, cumulative)


def _weight(span: ClassCounts | TargetSums) -> float:
    return float(span.weight if isinstance(span, TargetSums) else span.actual.sum())


def _scaled(span: ClassCounts | TargetSums, by: float) -> ClassCounts | TargetSums:
    if isinstance(span, ClassCounts):
        return ClassCounts(*(part * by for part in span))
    return TargetSums(
        *(part if name == "mean" else np.asarray(part * by) for name, part in span._asdict().items())
    )


def _since(
    now: ClassCounts | TargetSums, before: ClassCounts | TargetSums, kept: float
) -> ClassCounts | TargetSums:
    """Return what has been added to `before`, of which `kept` is left: the inverse of `_add`."""
    if isinstance(now, ClassCounts):
        return ClassCounts(*(np.maximum(a - b * kept, 0) for a, b in zip(now, before, strict=True)))
    assert isinstance(before, TargetSums)
    old = before.weight * kept
    weight = now.weight - old
    delta = (now.mean - before.mean) * now.weight / weight  # from the old mean to that of what was added
    m2 = now.m2 - before.m2 * kept - delta**2 * weight / now.weight * old
    return TargetSums(
        np.asarray(weight),
        np.asarray(before.mean + delta),
        np.asarray(np.maximum(m2, 0)),
        np.maximum(now.absolute - before.absolute * kept, 0),
        np.maximum(now.squared - before.squared * kept, 0),
    )


def _merged(start: Metrics, rings: Sequence[Ring], counts: Sequence[int]) -> Ring:
    window, begin = len(start.window.y), int(start.rows)
    order = interleave(counts, window)
    at = np.arange(begin + sum(counts) - len(order), begin + sum(counts)) % window
    merged = Ring(*(part.copy() for part in start.window))
    for task, ring in enumerate(rings):
        mine = order[:, 0] == task
        source = (begin + order[mine, 1]) % window
        for whole, part in zip(merged, ring, strict=True):
            if part.shape[-1]:
                whole[..., at[mine]] = part[..., source]
    return merged


def grow(metrics: Metrics, classes: int) -> Metrics:
    """Add classes; the old ones keep their counts."""

    def wider(counts: ClassCounts | TargetSums) -> ClassCounts:
        assert isinstance(counts, ClassCounts)
        more = classes - len(counts.actual)
        side = [(0, 0), (0, more), (0, more)]
        confusion = np.pad(counts.confusion, side) if counts.confusion.size else counts.confusion
        if classes > CONFUSION_CLASSES:
            confusion = np.zeros((2, 0, 0))
        return ClassCounts(
            np.pad(counts.actual, (0, more)),
            np.pad(counts.predicted, [(0, 0), (0, more)]),
            np.pad(counts.correct, [(0, 0), (0, more)]),
            confusion,
            counts.log_loss,
        )

    return metrics._replace(fading=wider(metrics.fading), cumulative=wider(metrics.cumulative))


def report(metrics: Metrics) -> dict[str, Any]:
    """Return all figures, ready for JSON; None where no row has been counted yet.

    Averages are those of scikit-learn with `zero_division=0`: "macro" over the classes that occur as truth or
    prediction. Kappa-temporal compares with the last class (Bifet et al. 2015, section 3.2); both kappas are
    0 where undefined. Confusion matrices have the true classes in their rows; they and the figures of each
    class are left out above 100 classes.
    """
    spans = dict(zip(SPANS, (_recent(metrics), metrics.fading, metrics.cumulative), strict=True))
    baseline = "mean" if isinstance(metrics.cumulative, TargetSums) else "majority_class"
    return {
        "rows": int(metrics.rows),
        "prequential": {name: _scores(span, 0) for name, span in spans.items()},
        "as_served": {name: _scores(span, 1) for name, span in spans.items()},
        "baselines": {
            baseline: {name: _scores(span, i) for name, span in spans.items()}
            for i, baseline in enumerate((baseline, "no_change"), 2)
        },
    }


def _recent(metrics: Metrics) -> ClassCounts | TargetSums:
    rows = min(int(metrics.rows), len(metrics.window.y))
    y, predictions, log_loss = (part[..., :rows] for part in metrics.window)
    if rows:
        return _count(metrics.cumulative, y, predictions, log_loss, None)
    return (
        _no_sums()
        if isinstance(metrics.cumulative, TargetSums)
        else _no_counts(len(metrics.cumulative.actual))
    )


def _scores(span: ClassCounts | TargetSums, who: int) -> dict[str, Any]:
    return _errors(span, who) if isinstance(span, TargetSums) else _rates(span, who)


def _errors(sums: TargetSums, who: int) -> dict[str, Any]:
    if not sums.weight:
        return dict.fromkeys(("mae", "rmse", "r2"))
    squared = float(sums.squared[who])
    r2 = 1 - squared / float(sums.m2) if sums.m2 > 0 else float(squared == 0)  # as scikit-learn, force_finite
    return {
        "mae": float(sums.absolute[who] / sums.weight),
        "rmse": float(np.sqrt(squared / sums.weight)),
        "r2": r2,
    }


AVERAGES = (
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
)


def _rates(counts: ClassCounts, who: int) -> dict[str, Any]:
    rows = counts.actual.sum()
    names = ("accuracy", *AVERAGES, "kappa", "kappa_temporal", *(("log_loss",) if who < 2 else ()))
    if not rows:
        return dict.fromkeys(names)
    each = _per_class(counts, who)
    present = counts.actual + counts.predicted[who] > 0
    accuracy = counts.correct[who].sum() / rows
    chance = counts.actual @ counts.predicted[who] / rows**2
    values = [
        accuracy,
        *(rate[present].mean() for rate in each.values()),
        *(rate @ counts.actual / rows for rate in each.values()),
        _beyond(accuracy, chance),
        _beyond(accuracy, counts.correct[3].sum() / rows),
        *(counts.log_loss[who : who + 1] / rows if who < 2 else ()),
    ]
    scores: dict[str, Any] = dict(zip(names, map(float, values), strict=True))
    if who < 2 and len(counts.actual) <= CONFUSION_CLASSES:
        scores["per_class"] = {name: rate.tolist() for name, rate in each.items()}
        scores["confusion"] = counts.confusion[who].tolist()
    return scores


def _per_class(counts: ClassCounts, who: int) -> dict[str, Array]:
    actual, predicted, correct = counts.actual, counts.predicted[who], counts.correct[who]

    def rate(part: Array, of: Array) -> Array:
        return np.divide(part, of, out=np.zeros_like(part), where=of > 0)

    return {
        "precision": rate(correct, predicted),
        "recall": rate(correct, actual),
        "f1": rate(2 * correct, actual + predicted),
    }


def _beyond(accuracy: Any, reference: Any) -> Any:
    """Return the accuracy's gain over the reference, as a part of the possible gain."""
    return (accuracy - reference) / (1 - reference) if 1 - reference > 1e-12 else 0.0
