"""Metrics of predictions: over a window of rows, fading, and cumulative, beside two baselines.

Four predictions of each row are measured: prequential (before learning it), as served (by the version at the
micro-batch's start), and two baselines without a model: the majority class so far and the last class
(no-change), or for regression the mean so far and the last target. In every axis of 4 they are in this order;
in an axis of 2, the first two. Every row counts once, whatever its weight in learning.
"""

from collections.abc import Callable, Sequence
from itertools import product
from math import sqrt
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core import metrics as core
from streaming_nn.core.functions import chain_sum, integer_power, logarithm
from streaming_nn.nn.averaging import interleave

Array = NDArray[Any]
CONFUSION_CLASSES = 100  # with more, no confusion matrix is kept or reported: it would outweigh the model
ROUNDING = 1e-12  # a reference's error below this part of the figures it is computed from is rounding
MOST = 1e6  # times the reference's error; beyond it a figure measures the reference rather than the model
SPANS = ("window", "fading", "cumulative")


class Ring(NamedTuple):
    """The last rows; row r is at r % window."""

    y: Array  # (window,) int32 class index, or float64 target
    predictions: Array  # (4, window) of y's dtype
    log_loss: NDArray[np.float32]  # (2, window), or (2, 0) for regression
    scores: Any = ()  # (2, classes, window) uint8 bin of each class's probability; see Metrics.scores


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


class RowCounts(NamedTuple):
    """Weighted counts of rows of several labels."""

    actual: NDArray[np.float64]  # (1,) rows
    correct: NDArray[np.float64]  # (4,) rows whose labels are all predicted as they are


Span: TypeAlias = ClassCounts | TargetSums | RowCounts


class Metrics(NamedTuple):
    """All accumulators; they are part of a version."""

    rows: NDArray[np.int64]  # () rows counted
    decay: NDArray[np.float64]  # () factor of a row's weight in `fading` at each later row
    window: Ring
    fading: Span
    cumulative: Span
    scores: Any = ()  # (2, 2, classes, bins) int64 rows: [all or those of the class, who, class, bin]
    # No classes if there are too many; () for regression


def init(classes: int | None, window: int = 1000, fading: float = 0.999) -> Metrics:
    """Return the metrics of no rows; `classes` None means regression. Several targets: see `multioutput`."""
    kind = np.float64 if classes is None else np.int32
    ring = Ring(
        np.zeros(window, kind),
        np.zeros((4, window), kind),
        np.zeros((2, 0 if classes is None else window), np.float32),
    )
    empty = _no_sums() if classes is None else _no_counts(classes)
    metrics = Metrics(np.zeros((), np.int64), np.array(fading, np.float64), ring, empty, empty)
    return metrics if classes is None else _with_scores(metrics, classes)


def _with_scores(metrics: Metrics, classes: int) -> Metrics:
    """Return the metrics with the scores of no rows."""
    scored = classes if classes <= core.SCORED_CLASSES else 0
    bins = core.BINS_OF_TWO if classes <= 2 else core.BINS_OF_MORE
    ring = metrics.window._replace(scores=np.zeros((2, scored, len(metrics.window.y)), np.uint8))
    return metrics._replace(window=ring, scores=np.zeros((2, 2, scored, bins), np.int64))


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
    whose target is not finite is not counted. Errors: ValueError for a class that does not exist.
    """
    if not len(y):
        return metrics
    counted: Metrics = copied(metrics)
    measure(counted, y, output, as_served)
    return counted


def measure(counted: Metrics, y: Array, output: Array, as_served: Array) -> None:
    """Measure rows as `update` does, in place."""
    in_core: Callable[..., None] = core.measure_classes
    predictions, dtype = [output, as_served], "f4"
    if isinstance(counted.cumulative, TargetSums):
        known = np.isfinite(y)
        in_core, predictions, y = core.measure_targets, [each[known, 0] for each in predictions], y[known]
        dtype = "f8"
    if len(y):
        truth = np.ascontiguousarray(y, counted.window.y.dtype)
        in_core(counted, truth, *(np.ascontiguousarray(each, dtype) for each in predictions))


def copied(part: Any) -> Any:
    """Return a copy of arrays, or of nested NamedTuples of them."""
    if not isinstance(part, tuple):
        return part.copy()
    return type(part)(*map(copied, part)) if part else part


def step_losses(metrics: Metrics, y: Array, output: Array, size: int) -> NDArray[np.float64]:
    """Return what a drift detector reads of rows that are to be counted: steps' losses and rows (2, steps).

    A step is `size` rows; the last one may be shorter. A row's loss is the log loss, or the absolute error in
    deviations of the targets so far; both are bounded.
    """
    sums = metrics.cumulative
    if isinstance(sums, ClassCounts):
        probabilities = np.ascontiguousarray(output, np.float32)
        return core.class_losses(np.ascontiguousarray(y, np.int32), probabilities, size)
    assert isinstance(sums, TargetSums)
    unit = sqrt(float(sums.m2) / max(float(sums.weight), 1.0)) or 1.0
    targets, predictions = (np.ascontiguousarray(each, np.float64) for each in (y, output[:, 0]))
    return core.target_losses(targets, predictions, unit, size)


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
            cumulative = _add(cumulative, since(part.cumulative, start.cumulative, 1.0), 1.0)
            fresh.append(since(part.fading, start.fading, integer_power(decay, count)))
    weight = (
        (1 - integer_power(decay, rows)) / (1 - decay) / _total(np.array([_weight(each) for each in fresh]))
    )
    fading, kept = start.fading, integer_power(decay, rows)
    for each in fresh:
        fading, kept = _add(fading, _scaled(each, weight), kept), 1.0
    window = _merged(start, [part.window for part in parts], counts)
    scores = start.scores
    if len(scores):
        scores = scores + sum(part.scores - start.scores for part in parts)
    return Metrics(np.asarray(start.rows + rows), start.decay, window, fading, cumulative, scores)


def _add(old: Span, new: Span, kept: float) -> Span:
    """Add two accumulators, the old one's weight multiplied by `kept`."""
    if not isinstance(old, TargetSums):
        return type(old)(*(a * kept + b for a, b in zip(old, new, strict=True)))
    assert isinstance(new, TargetSums)
    weight, delta = old.weight * kept + new.weight, new.mean - old.mean
    part = new.weight / weight
    return TargetSums(
        np.asarray(weight),
        np.asarray(old.mean + delta * part),
        np.asarray(old.m2 * kept + new.m2 + delta * delta * part * old.weight * kept),
        old.absolute * kept + new.absolute,
        old.squared * kept + new.squared,
    )


def _weight(span: Span) -> float:
    return float(span.weight) if isinstance(span, TargetSums) else _total(span.actual)


def _scaled(span: Span, by: float) -> Span:
    if not isinstance(span, TargetSums):
        return type(span)(*(part * by for part in span))
    return TargetSums(
        *(part if name == "mean" else np.asarray(part * by) for name, part in span._asdict().items())
    )


def since(now: Span, before: Span, kept: float) -> Span:
    """Return what has been added to `before`, of which `kept` is left: the inverse of `_add`."""
    if not isinstance(now, TargetSums):
        return type(now)(*(np.maximum(a - b * kept, 0) for a, b in zip(now, before, strict=True)))
    assert isinstance(before, TargetSums)
    old = before.weight * kept
    weight = now.weight - old
    delta = (now.mean - before.mean) * now.weight / weight  # from the old mean to that of what was added
    m2 = now.m2 - before.m2 * kept - delta * delta * weight / now.weight * old
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
    merged: Ring = copied(start.window)
    for task, ring in enumerate(rings):
        mine = order[:, 0] == task
        source = (begin + order[mine, 1]) % window
        for whole, part in zip(merged, ring, strict=True):
            if len(part) and part.shape[-1]:
                whole[..., at[mine]] = part[..., source]
    return merged


def grow(metrics: Metrics, classes: int) -> Metrics:
    """Add classes; the old ones keep their counts. The new ones' probabilities have been 0 so far."""

    def wider(counts: Span) -> ClassCounts:
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

    wide = metrics._replace(fading=wider(metrics.fading), cumulative=wider(metrics.cumulative))
    return _grow_scores(wide, classes)


def _grow_scores(metrics: Metrics, classes: int) -> Metrics:
    wide, scores, ring = _with_scores(metrics, classes), metrics.scores, metrics.window.scores
    before, bins = scores.shape[2:]
    if wide.scores.size and scores.size:
        joined = bins // wide.scores.shape[3]
        parts = scores.reshape(2, 2, before, -1, joined)
        wide.scores[:, :, :before] = sum(parts[..., i] for i in range(joined))
        wide.scores[0, :, before:, 0] = metrics.rows
        wide.window.scores[:, :before] = ring // joined
    return wide


def report(metrics: Metrics) -> dict[str, Any]:
    """Return all figures, ready for JSON; None where a figure is undefined, as all are before the first row.

    Averages are those of scikit-learn with `zero_division=0`: "macro" over the classes that occur as truth or
    prediction; `balanced_accuracy` is over those that occur as truth. `roc_auc` and `average_precision` are
    those of the second of two classes, or the mean of each class against the rest; of the window's rows and
    of all, not fading, and up to 10 classes. `kappa`, `kappa_temporal` (against the last class: Bifet et al.
    2015, section 3.2) and `r2` are undefined where their reference makes no error, or next to none. Confusion
    matrices have the true classes in their rows; they and the figures of each class are left out above 100
    classes.
    """
    spans = dict(zip(SPANS, (recent(metrics), metrics.fading, metrics.cumulative), strict=True))
    ranked = rankings(metrics)
    baseline = "mean" if isinstance(metrics.cumulative, TargetSums) else "majority_class"

    def scores(who: int) -> dict[str, Any]:
        return {name: _scores(span, who) | ranked.get((name, who), {}) for name, span in spans.items()}

    return {
        "rows": int(metrics.rows),
        "prequential": scores(0),
        "as_served": scores(1),
        "baselines": {baseline: scores(2), "no_change": scores(3)},
    }


def recent(metrics: Metrics) -> Span:
    """Count the rows of the window."""
    rows = min(int(metrics.rows), len(metrics.window.y))
    y, *columns = (np.ascontiguousarray(part[..., :rows]) for part in metrics.window[:3])
    if isinstance(metrics.cumulative, TargetSums):
        sums = _no_sums()
        core.add_targets(sums, y, columns[0])
        return sums
    assert isinstance(metrics.cumulative, ClassCounts)
    counts = _no_counts(len(metrics.cumulative.actual))
    core.count_classes(counts, y, *columns)
    return counts


def rankings(metrics: Metrics) -> dict[tuple[str, int], dict[str, float | None]]:
    """Return the figures that need scores by span, and by whose they are; none for regression."""
    if isinstance(metrics.cumulative, TargetSums):
        return {}
    keys, scores = list(product(("window", "cumulative"), (0, 1))), metrics.scores
    if not scores.size:
        return dict.fromkeys(keys, dict.fromkeys(RANKINGS))
    ring, rows = metrics.window, min(int(metrics.rows), len(metrics.window.y))
    recent = np.zeros_like(scores)
    _count_scores(recent, ring.scores[:, :, :rows].swapaxes(0, 1), ring.y[:rows])
    return dict(zip(keys, _rank(np.concatenate((recent, scores), axis=1)), strict=True))


def _count_scores(scores: Array, bins: Array, y: Array) -> None:
    """Add rows of bins (classes, 2, rows) and classes y to scores."""
    (_, who, classes, size), rows = scores.shape, len(y)
    firsts = np.arange(0, who * classes * size, size, dtype=np.uint32).reshape(who, classes).T
    index = (bins + firsts[:, :, None]).reshape(-1)
    own = index.take(y * (who * rows) + np.arange(who * rows).reshape(who, rows))
    for counts, indices in zip(scores.reshape(2, -1), (index, own.reshape(-1)), strict=True):
        counts += np.bincount(indices, None, len(counts))


def _scores(span: Span, who: int) -> dict[str, Any]:
    if isinstance(span, TargetSums):
        return errors(span, who)
    assert isinstance(span, ClassCounts)
    figures = _rates(span, who)
    if who < 2 and len(span.actual) <= CONFUSION_CLASSES and figures["accuracy"] is not None:
        figures["per_class"] = _listed(*_per_class(span, who))
        figures["confusion"] = span.confusion[who].tolist()
    return figures


def errors(sums: TargetSums, who: int) -> dict[str, Any]:
    """Return the figures of a target."""
    if not sums.weight:
        return dict.fromkeys(ERRORS)
    squared = float(sums.squared[who])
    least = float(ROUNDING * sums.mean)
    rounding = float(sums.weight) * (least * least)
    return {
        "mae": float(sums.absolute[who] / sums.weight),
        "rmse": float(np.sqrt(squared / sums.weight)),
        "r2": _gain(squared, float(sums.m2), rounding),
    }


def _gain(error: float, reference: float, rounding: float = ROUNDING) -> float | None:
    """Return the part of the reference's error that is avoided; None where that error is next to nothing."""
    undefined = reference <= rounding or error > MOST * reference
    return None if undefined else float(1 - error / reference)


ERRORS = ("mae", "rmse", "r2")
RANKINGS = ("roc_auc", "average_precision")
PER_CLASS = ("precision", "recall", "f1")
AVERAGES = tuple(f"{rate}_{average}" for average in ("macro", "weighted") for rate in PER_CLASS)


def _rates(counts: ClassCounts, who: int) -> dict[str, Any]:
    rows = _total(counts.actual)
    losses = ("log_loss",) if who < 2 else ()
    if not rows:
        names = ("accuracy", "balanced_accuracy", *AVERAGES, "kappa", "kappa_temporal", "mcc", *losses)
        return dict.fromkeys(names)
    rates, wholes = _per_class(counts, who)
    actual, predicted = counts.actual / rows, counts.predicted[who] / rows
    accuracy, no_change = (_total(counts.correct[each]) / rows for each in (who, 3))
    chance = _total(actual * predicted)
    occur = wholes[2] > 0
    averages = *chain_sum(rates[:, occur]) / np.count_nonzero(occur), *chain_sum(rates * actual)
    return {
        "accuracy": accuracy,
        "balanced_accuracy": _total(rates[1]) / np.count_nonzero(actual),
        **dict(zip(AVERAGES, map(float, averages), strict=True)),
        "kappa": _gain(1 - accuracy, 1 - chance),
        "kappa_temporal": _gain(1 - accuracy, 1 - no_change),
        "mcc": _correlation(accuracy - chance, *(1 - _total(each * each) for each in (actual, predicted))),
        **{name: float(counts.log_loss[who] / rows) for name in losses},
    }


def _total(x: Array) -> float:
    return float(chain_sum(x))


def _per_class(counts: ClassCounts, who: int) -> tuple[Array, Array]:
    """Return the classes' rates (3, classes), 0 where undefined, and the rows that they are parts of."""
    actual, predicted, correct = counts.actual, counts.predicted[who], counts.correct[who]
    parts, wholes = fractions(actual, predicted, correct)
    return ratio(parts, wholes), wholes


def fractions(actual: Array, predicted: Array, correct: Array) -> tuple[Array, Array]:
    """Return numerators and denominators (3, ...) of precision, recall and F1."""
    parts = np.stack((correct, correct, 2 * correct))
    return parts, np.stack((predicted, actual, actual + predicted))


def ratio(parts: Array, wholes: Array) -> Array:
    """Return parts / wholes, 0 where a whole is 0."""
    return np.divide(parts, wholes, out=np.zeros_like(parts), where=wholes > 0)


def _listed(rates: Array, wholes: Array) -> dict[str, list[float | None]]:
    return {
        name: [rate if whole > 0 else None for rate, whole in zip(*each, strict=True)]
        for name, *each in zip(PER_CLASS, rates.tolist(), wholes.tolist(), strict=True)
    }


def _correlation(covariance: float, truth: float, prediction: float) -> float | None:
    """Return the Matthews correlation of any number of classes (Gorodkin 2004, R_K).

    None where truth or predictions are of one class.
    """
    return None if min(truth, prediction) <= ROUNDING else covariance / sqrt(truth * prediction)


def _rank(scores: Array) -> list[dict[str, float | None]]:
    """Return ROC AUC and average precision of scores (2, n, classes, bins): all rows, and those of the class.

    Of two classes they are the second's, of more the mean over those for which they are defined. The rows of
    a bin are taken as evenly mixed, so a figure lies between those of the best and the worst order in each
    bin. The last bin has the highest scores.
    """
    rows, own = scores[:, :, scores.shape[2] == 2 :].astype(np.float64)
    rest = rows - own
    below = np.cumsum(rest, axis=2) - rest / 2
    owns, rests = chain_sum(own), chain_sum(rest)
    areas = _mean(chain_sum(own * below), owns * rests)
    precisions = _mean(chain_sum(own * _precision(own, rows)), owns)
    return [dict(zip(RANKINGS, each, strict=True)) for each in zip(areas, precisions, strict=True)]


def _precision(own: Array, rows: Array) -> Array:
    """Return the mean precision (n, classes, bins) at a bin's own rows, by descending score.

    The k-th of n own rows among m is expected at k * (m + 1) / (n + 1). The mean over k is taken as an
    integral, which is 0.011 off where a row has a bin for itself, less with more.
    """
    found, seen = (np.cumsum(each[..., ::-1], axis=2)[..., ::-1] - each for each in (own, rows))
    step, n = (rows + 1) / (own + 1), np.maximum(own, 1)
    growth = logarithm((seen + step * (n + 0.5)) / (seen + step / 2))
    precision: Array = 1 / step + (found - seen / step) / (step * n) * growth
    return precision


def _mean(parts: Array, wholes: Array) -> list[float | None]:
    """Return the mean over the classes of parts / wholes (n, classes) where that is defined."""
    defined = wholes > 0
    sums = chain_sum(ratio(parts, wholes))
    pairs = zip(sums.tolist(), np.count_nonzero(defined, axis=1).tolist(), strict=True)
    return [total / count if count else None for total, count in pairs]
