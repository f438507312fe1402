"""Metrics of predictions: over a window of rows, fading, and cumulative, beside two baselines.

Four predictions of each row are measured: prequential (before learning it), as served (by the version at the
micro-batch's start), and two baselines without a model: the majority class so far and the last class
(no-change), or for regression the mean so far and the last target. In every axis of 4 they are in this order;
in an axis of 2, the first two. Every row counts once, whatever its weight in learning.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import prod, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core.functions import logarithm
from streaming_nn.nn.averaging import interleave

Array = NDArray[Any]
CONFUSION_CLASSES = 100  # with more, no confusion matrix is kept or reported: it would outweigh the model
EPSILON = float(np.finfo(np.float32).eps)  # least probability in a log loss, as in scikit-learn for float32
SCORED_CLASSES = 10  # with more, no scores are kept: 6 KB of a version for each class, 40 us for 4,096 rows
OCTAVES = 16  # of a probability's odds, on each side of 1, that bins distinguish: 1:65,536 to 65,536:1
BINS_OF_TWO, BINS_OF_MORE = 8 * 2 * OCTAVES, 4 * 2 * OCTAVES  # 8 in each octave up to two classes, else 4
ROUNDING = 1e-12  # a reference's error below this part of the figures it is computed from is rounding
MOST = 1e6  # times the reference's error; beyond it a figure measures the reference rather than the model
PART_CELLS = 1 << 14  # rows times classes whose probabilities are looked at together: they stay in the cache
PART_ROWS = 512  # or so many rows: with many classes, calls would cost more than the cache gains
MAJORITY_CELLS = 1 << 15  # rows times classes looked at together: the fewer rows, the fewer classes can lead
FEW_CLASSES = 32  # up to so many, argmax takes three times as long as comparing with the maximum
_DOWN = np.arange(FEW_CLASSES, 0, -1, dtype=np.int8)[:, None]  # the first class of all has the highest rank
MIN_PROBABILITY = 1e-4  # below it a row's loss stops growing for a drift detector: no row alone is a drift
MAX_ERROR = 10.0  # deviations of the target at which a row's error stops growing for a drift detector
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


class Metrics(NamedTuple):
    """All accumulators; they are part of a version."""

    rows: NDArray[np.int64]  # () rows counted
    decay: NDArray[np.float64]  # () factor of a row's weight in `fading` at each later row
    window: Ring
    fading: ClassCounts | TargetSums
    cumulative: ClassCounts | TargetSums
    scores: Any = ()  # (2, 2, classes, bins) int64 rows: [all or those of the class, who, class, bin]
    # No classes if there are too many; () for regression, and for a model from before they were counted


def init(classes: int | None, window: int = 1000, fading: float = 0.999) -> Metrics:
    """Return the metrics of no rows; `classes` None means regression."""
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
    scored = classes if classes <= SCORED_CLASSES else 0
    bins = BINS_OF_TWO if classes <= 2 else BINS_OF_MORE
    ring = metrics.window._replace(scores=np.zeros((2, scored, len(metrics.window.y)), np.uint8))
    return metrics._replace(window=ring, scores=np.zeros((2, 2, scored, bins), np.int64))


def without_scores(metrics: Metrics) -> Metrics:
    """Return the metrics of a model whose scores are not counted."""
    return metrics._replace(window=metrics.window._replace(scores=()), scores=())


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
    bins, scores = None, metrics.scores
    if isinstance(metrics.cumulative, ClassCounts):
        y = y.astype(np.int32, copy=False)
        predictions, log_loss, bins, scores = _classes(metrics, y, output, as_served)
    else:
        y = y.astype(np.float64)
        predictions, log_loss = _targets(metrics, y, output, as_served), np.zeros((2, 0), np.float32)
    faded = _count(metrics.fading, y, predictions, log_loss, _decays(float(metrics.decay), len(y)))
    return Metrics(
        np.asarray(metrics.rows + len(y)),
        metrics.decay,
        _remember(metrics.window, int(metrics.rows), y, predictions, log_loss, bins),
        _add(metrics.fading, faded, float(metrics.decay) ** len(y)),
        _add(metrics.cumulative, _count(metrics.cumulative, y, predictions, log_loss, None), 1.0),
        scores,
    )


@lru_cache(8)
def _decays(decay: float, rows: int) -> NDArray[np.float64]:
    decays = np.float64(decay) ** np.arange(rows - 1, -1, -1, dtype=np.float64)
    decays.flags.writeable = False
    return decays


def _last(metrics: Metrics) -> Any:
    return metrics.window.y[(int(metrics.rows) - 1) % len(metrics.window.y)]  # 0 before the first row


def _classes(
    metrics: Metrics, y: Array, output: Array, as_served: Array
) -> tuple[Array, Array, Array | None, Any]:
    """Return the four predictions (4, rows), the log losses (2, rows), bins and counts of the scores."""
    rows, classes = output.shape
    predictions, right = np.empty((4, rows), np.int32), np.empty((2, rows), np.float32)
    bins, scores = None, metrics.scores
    if len(scores) and scores.size:
        bins, scores = np.empty((2, classes, rows), np.uint8), scores.copy()
    step = max(PART_ROWS, PART_CELLS // classes)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        probabilities = _finite(output[part], as_served[part])
        right[:, part] = probabilities.take(np.arange(len(y[part])) * classes + y[part], axis=1)
        columns = probabilities.reshape(-1, classes).T
        if bins is not None:
            columns = np.ascontiguousarray(columns)
            found = _bins(columns, scores.shape[3]).reshape(classes, 2, -1)
            _count_scores(scores, found, y[part])
            bins[:, :, part] = found.swapaxes(0, 1)
        predictions[:2, part] = _greatest(columns).reshape(2, -1)
    predictions[2] = _majority(metrics.cumulative.actual, y)  # type: ignore[union-attr]
    predictions[3, 0] = _last(metrics)
    predictions[3, 1:] = y[:-1]
    return predictions, -np.log(np.clip(right, EPSILON, 1 - EPSILON)), bins, scores


def _finite(output: Array, as_served: Array) -> NDArray[np.float32]:
    """Return both probabilities (2, rows * classes); one that is not finite is 0."""
    both = np.concatenate((output, as_served), dtype=np.float32).reshape(2, -1)
    known = np.isfinite(np.add.reduce(both, axis=None))
    return both if known else np.nan_to_num(both, posinf=0.0, neginf=0.0)


def _bins(probabilities: Array, bins: int) -> NDArray[np.uint32]:
    """Return the bin of each probability, of so many: a bin's odds differ by 12.5 % at most, or by 25 %.

    It is read from the odds' bits, exponent and mantissa, without a logarithm: machines round that
    differently.
    """
    octave = bins // (2 * OCTAVES)
    lowest = (127 - OCTAVES) * octave  # 127: float32 adds it to the exponent
    with np.errstate(divide="ignore"):  # the odds of 1 are infinite: the last bin's
        found: NDArray[np.uint32] = (probabilities / (1 - probabilities)).view(np.uint32)
    found >>= 24 - octave.bit_length()
    np.maximum(found, lowest, out=found)
    np.minimum(found, lowest + bins - 1, out=found)
    found -= lowest
    return found


def _count_scores(scores: Array, bins: Array, y: Array) -> None:
    """Add rows of bins (classes, 2, rows) and classes y to scores."""
    (_, who, classes, size), rows = scores.shape, len(y)
    firsts = np.arange(0, who * classes * size, size, dtype=np.uint32).reshape(who, classes).T
    index = (bins + firsts[:, :, None]).reshape(-1)
    own = index.take(y * (who * rows) + np.arange(who * rows).reshape(who, rows))
    for counts, indices in zip(scores.reshape(2, -1), (index, own.reshape(-1)), strict=True):
        counts += np.bincount(indices, None, len(counts))


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
    rows = max(1, MAJORITY_CELLS // len(seen))
    for start in range(0, len(y), rows):
        part = y[start : start + rows]
        after = seen + np.bincount(part, minlength=len(seen))
        candidates = np.flatnonzero(after >= seen.max())  # no other class can lead anywhere within this part
        if len(candidates) > 1:
            is_class = part == candidates[:, None]
            before = np.cumsum(is_class, axis=1, dtype=np.int32)
            before -= is_class
            before += (seen - seen.max())[candidates, None].astype(np.int32)
            candidates = candidates[_greatest(before)]
        predictions[start : start + rows] = candidates
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
    y, predictions = y.astype(np.intp), predictions.astype(np.intp)
    if side:
        both = _tables(y * side + predictions, side * side, weight).reshape(-1, side, side)
        confusion, correct = both[:2], both.diagonal(axis1=1, axis2=2)
    else:
        weights = (predictions == y) * (1 if weight is None else weight)
        confusion, correct = like.confusion, np.stack([np.bincount(y, each, classes) for each in weights])
    if side and weight is None:  # a sum of integers has the same bits in any order
        actual, predicted = both[0].sum(axis=1), both.sum(axis=1)
    else:
        actual, predicted = _tables(y[None], classes, weight)[0], _tables(predictions, classes, weight)
    return ClassCounts(
        actual,
        predicted,
        correct,
        confusion,
        log_loss.sum(axis=1, dtype=np.float64) if weight is None else log_loss @ weight,
    )


def _tables(indices: Array, cells: int, weight: Array | None) -> NDArray[np.float64]:
    """Count each row of indices (tables, rows) into its own table (tables, cells)."""
    tables = len(indices)
    at = (indices + np.arange(0, tables * cells, cells)[:, None]).ravel()
    weights = None if weight is None else np.concatenate([weight] * tables)
    return np.bincount(at, weights, tables * cells).reshape(tables, cells).astype(np.float64)


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


def _remember(
    ring: Ring, rows: int, y: Array, predictions: Array, log_loss: Array, bins: Array | None
) -> Ring:
    window = len(ring.y)
    kept = min(len(y), window)
    at = np.arange(rows + len(y) - kept, rows + len(y)) % window
    fresh = _copied(ring)
    fresh.y[at] = y[-kept:]
    fresh.predictions[:, at] = predictions[:, -kept:]
    if log_loss.shape[1]:
        fresh.log_loss[:, at] = log_loss[:, -kept:]
    if bins is not None:
        fresh.scores[:, :, at] = bins[:, :, -kept:]
    return fresh


def _copied(ring: Ring) -> Ring:
    return Ring(*(part.copy() if len(part) else part for part in ring))


def step_losses(metrics: Metrics, y: Array, output: Array, size: int) -> NDArray[np.float64]:
    """Return what a drift detector reads of rows that are to be counted: steps' losses and rows (2, steps).

    A step is `size` rows; the last one may be shorter. A row's loss is the log loss, or the absolute error in
    deviations of the targets so far; both are bounded.
    """
    sums, size = metrics.cumulative, min(size, len(y))
    if isinstance(sums, TargetSums):
        unit = float(np.sqrt(sums.m2 / np.maximum(sums.weight, 1))) or 1.0
        loss = np.fmin(np.abs(output[:, 0].astype(np.float64) - y) / unit, MAX_ERROR)  # NaN is MAX_ERROR too
    else:
        right = output[np.arange(len(y)), y].astype(np.float64)
        loss = -logarithm(np.minimum(np.maximum(right, MIN_PROBABILITY), 1.0))
        loss[~np.isfinite(right)] = MAX_ERROR
    steps = np.arange(len(y)) // size
    return np.stack([np.bincount(steps, loss), np.bincount(steps)])  # bincount's sums are chains


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
    scores = start.scores
    if len(scores):
        scores = scores + sum(part.scores - start.scores for part in parts)
    return Metrics(np.asarray(start.rows + rows), start.decay, window, fading, cumulative, scores)


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
    merged = _copied(start.window)
    for task, ring in enumerate(rings):
        mine = order[:, 0] == task
        source = (begin + order[mine, 1]) % window
        for whole, part in zip(merged, ring, strict=True):
            if len(part) and part.shape[-1]:
                whole[..., at[mine]] = part[..., source]
    return merged


def grow(metrics: Metrics, classes: int) -> Metrics:
    """Add classes; the old ones keep their counts. The new ones' probabilities have been 0 so far."""

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

    wide = metrics._replace(fading=wider(metrics.fading), cumulative=wider(metrics.cumulative))
    return _grow_scores(wide, classes) if len(metrics.scores) else wide


def _grow_scores(metrics: Metrics, classes: int) -> Metrics:
    wide, scores, ring = _with_scores(metrics, classes), metrics.scores, metrics.window.scores
    before, bins = scores.shape[2:]
    if wide.scores.size and scores.size:
        joined = bins // wide.scores.shape[3]
        wide.scores[:, :, :before] = scores.reshape(2, 2, before, -1, joined).sum(axis=4)
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
    spans = dict(zip(SPANS, (_recent(metrics), metrics.fading, metrics.cumulative), strict=True))
    rankings = _rankings(metrics)
    baseline = "mean" if isinstance(metrics.cumulative, TargetSums) else "majority_class"

    def scores(who: int) -> dict[str, Any]:
        return {name: _scores(span, who) | rankings.get((name, who), {}) for name, span in spans.items()}

    return {
        "rows": int(metrics.rows),
        "prequential": scores(0),
        "as_served": scores(1),
        "baselines": {baseline: scores(2), "no_change": scores(3)},
    }


def _recent(metrics: Metrics) -> ClassCounts | TargetSums:
    rows = min(int(metrics.rows), len(metrics.window.y))
    y, predictions, log_loss = (part[..., :rows] for part in metrics.window[:3])
    if rows:
        return _count(metrics.cumulative, y, predictions, log_loss, None)
    return (
        _no_sums()
        if isinstance(metrics.cumulative, TargetSums)
        else _no_counts(len(metrics.cumulative.actual))
    )


def _rankings(metrics: Metrics) -> dict[tuple[str, int], dict[str, float | None]]:
    """Return the figures that need scores by span, and by whose they are; none for regression."""
    if isinstance(metrics.cumulative, TargetSums):
        return {}
    keys, scores = list(product(("window", "cumulative"), (0, 1))), metrics.scores
    if not len(scores) or not scores.size:
        return dict.fromkeys(keys, dict.fromkeys(RANKINGS))
    ring, rows = metrics.window, min(int(metrics.rows), len(metrics.window.y))
    recent = np.zeros_like(scores)
    _count_scores(recent, ring.scores[:, :, :rows].swapaxes(0, 1), ring.y[:rows])
    return dict(zip(keys, _rank(np.concatenate((recent, scores), axis=1)), strict=True))


def _scores(span: ClassCounts | TargetSums, who: int) -> dict[str, Any]:
    if isinstance(span, TargetSums):
        return _errors(span, who)
    figures = _rates(span, who)
    if who < 2 and len(span.actual) <= CONFUSION_CLASSES and figures["accuracy"] is not None:
        figures["per_class"] = _listed(*_per_class(span, who))
        figures["confusion"] = span.confusion[who].tolist()
    return figures


def _errors(sums: TargetSums, who: int) -> dict[str, Any]:
    if not sums.weight:
        return dict.fromkeys(("mae", "rmse", "r2"))
    squared = float(sums.squared[who])
    rounding = float(sums.weight * (ROUNDING * sums.mean) ** 2)
    return {
        "mae": float(sums.absolute[who] / sums.weight),
        "rmse": float(np.sqrt(squared / sums.weight)),
        "r2": _gain(squared, float(sums.m2), rounding),
    }


def _gain(error: float, reference: float, rounding: float = ROUNDING) -> float | None:
    """Return the part of the reference's error that is avoided; None where that error is next to nothing."""
    undefined = reference <= rounding or error > MOST * reference
    return None if undefined else float(1 - error / reference)


RANKINGS = ("roc_auc", "average_precision")
PER_CLASS = ("precision", "recall", "f1")
AVERAGES = tuple(f"{rate}_{average}" for average in ("macro", "weighted") for rate in PER_CLASS)


def _rates(counts: ClassCounts, who: int) -> dict[str, Any]:
    rows = counts.actual.sum()
    losses = ("log_loss",) if who < 2 else ()
    if not rows:
        names = ("accuracy", "balanced_accuracy", *AVERAGES, "kappa", "kappa_temporal", "mcc", *losses)
        return dict.fromkeys(names)
    rates, wholes = _per_class(counts, who)
    actual, predicted = counts.actual / rows, counts.predicted[who] / rows
    accuracy, chance = counts.correct[who].sum() / rows, actual @ predicted
    averages = *rates[:, wholes[2] > 0].mean(axis=1), *rates @ actual
    return {
        "accuracy": float(accuracy),
        "balanced_accuracy": float(rates[1].sum() / np.count_nonzero(actual)),
        **dict(zip(AVERAGES, map(float, averages), strict=True)),
        "kappa": _gain(1 - accuracy, 1 - chance),
        "kappa_temporal": _gain(1 - accuracy, 1 - counts.correct[3].sum() / rows),
        "mcc": _correlation(accuracy - chance, 1 - actual @ actual, 1 - predicted @ predicted),
        **{name: float(counts.log_loss[who] / rows) for name in losses},
    }


def _per_class(counts: ClassCounts, who: int) -> tuple[Array, Array]:
    """Return the classes' rates (3, classes), 0 where undefined, and the rows that they are parts of."""
    actual, predicted, correct = counts.actual, counts.predicted[who], counts.correct[who]
    parts = np.stack((correct, correct, 2 * correct))
    wholes = np.stack((predicted, actual, actual + predicted))
    return np.divide(parts, wholes, out=np.zeros_like(parts), where=wholes > 0), wholes


def _listed(rates: Array, wholes: Array) -> dict[str, list[float | None]]:
    return {
        name: [rate if whole > 0 else None for rate, whole in zip(*each, strict=True)]
        for name, *each in zip(PER_CLASS, rates.tolist(), wholes.tolist(), strict=True)
    }


def _correlation(covariance: float, *variances: float) -> float | None:
    """Return the Matthews correlation of any number of classes (Gorodkin 2004, R_K).

    None where truth or predictions are of one class.
    """
    return None if min(variances) <= ROUNDING else float(covariance / sqrt(prod(variances)))


def _rank(scores: Array) -> list[dict[str, float | None]]:
    """Return ROC AUC and average precision of scores (2, n, classes, bins): all rows, and those of the class.

    Of two classes they are the second's, of more the mean over those for which they are defined. The rows of
    a bin are taken as evenly mixed, so a figure lies between those of the best and the worst order in each
    bin. The last bin has the highest scores.
    """
    rows, own = scores[:, :, scores.shape[2] == 2 :].astype(np.float64)
    rest = rows - own
    below = np.cumsum(rest, axis=2) - rest / 2
    owns, rests = own.sum(axis=2), rest.sum(axis=2)
    areas = _mean((own * below).sum(axis=2), owns * rests)
    precisions = _mean((own * _precision(own, rows)).sum(axis=2), owns)
    return [dict(zip(RANKINGS, each, strict=True)) for each in zip(areas, precisions, strict=True)]


def _precision(own: Array, rows: Array) -> Array:
    """Return the mean precision (n, classes, bins) at a bin's own rows, by descending score.

    The k-th of n own rows among m is expected at k * (m + 1) / (n + 1). The mean over k is taken as an
    integral, which is 0.011 off where a row has a bin for itself, less with more.
    """
    found, seen = (np.cumsum(each[..., ::-1], axis=2)[..., ::-1] - each for each in (own, rows))
    step, n = (rows + 1) / (own + 1), np.maximum(own, 1)
    growth = np.log((seen + step * (n + 0.5)) / (seen + step / 2))
    precision: Array = 1 / step + (found - seen / step) / (step * n) * growth
    return precision


def _mean(parts: Array, wholes: Array) -> list[float | None]:
    """Return the mean over the classes of parts / wholes (n, classes) where that is defined."""
    defined = wholes > 0
    sums = np.divide(parts, wholes, out=np.zeros_like(parts), where=defined).sum(axis=1)
    pairs = zip(sums.tolist(), defined.sum(axis=1).tolist(), strict=True)
    return [total / count if count else None for total, count in pairs]
