"""The second implementation of docs/arithmetic.md, "Metrics": row by row, one operation after the other."""

from typing import Any

import core_reference as core
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
F4 = np.float32
LEAST = F4(2.0**-23)


def measure(metrics: Any, y: Array, output: Array, as_served: Array) -> Any:
    """Return the metrics after rows; those of a regression are finite."""
    metrics = copied(metrics)
    weights, kept = fade(float(metrics.decay), len(y))
    if hasattr(metrics.cumulative, "actual"):
        scale(metrics.fading, ("actual", "predicted", "correct", "confusion", "log_loss"), kept)
    else:
        scale(metrics.fading, ("weight", "m2", "absolute", "squared"), kept)
    for truth, *predicted, weight in zip(y.tolist(), output, as_served, weights, strict=True):
        if hasattr(metrics.cumulative, "actual"):
            measure_class(metrics, truth, predicted, weight)
        else:
            measure_target(metrics, truth, [float(each[0]) for each in predicted], weight)
        metrics.rows[...] += 1
    return metrics


def copied(part: Any) -> Any:
    if isinstance(part, tuple):
        return type(part)(*map(copied, part)) if part else part
    return part.copy()


def fade(decay: float, rows: int) -> tuple[list[float], float]:
    weights = [1.0]
    for _ in range(rows):
        weights.append(weights[-1] * decay)
    return weights[-2::-1] if rows else [], weights[-1]


def scale(span: Any, names: tuple[str, ...], kept: float) -> None:
    for name in names:
        getattr(span, name)[...] = getattr(span, name) * kept


def last(metrics: Any) -> Any:
    return metrics.window.y[(int(metrics.rows) - 1) % len(metrics.window.y)].item()


def measure_class(metrics: Any, truth: int, outputs: list[Array], weight: float) -> None:
    ring, slot = metrics.window, int(metrics.rows) % len(metrics.window.y)
    seen = metrics.cumulative.actual.tolist()
    cleaned = [np.where(np.isfinite(each), each, F4(0)).astype(F4) for each in outputs]
    predictions = [*map(greatest, cleaned), seen.index(max(seen)), last(metrics)]
    losses = [log_loss(each[truth]) for each in cleaned]
    count(metrics.cumulative, truth, predictions, losses, 1.0)
    count(metrics.fading, truth, predictions, losses, weight)
    ring.y[slot], ring.predictions[:, slot], ring.log_loss[:, slot] = truth, predictions, losses
    if metrics.scores.size:
        for k, each in enumerate(cleaned):
            bins = bins_of(each, metrics.scores.shape[3])
            ring.scores[k, :, slot] = bins
            for j, found in enumerate(bins):
                metrics.scores[0, k, j, found] += 1
            metrics.scores[1, k, truth, bins[truth]] += 1


def greatest(p: Array) -> int:
    first = 0
    for j in range(len(p)):
        first = j if p[j] > p[first] else first
    return first


def log_loss(right: np.float32) -> np.float32:
    bounded = min(max(right, LEAST), F4(1) - LEAST)
    return F4(-core.one(core.logarithm, float(bounded)))


def bins_of(p: Array, bins: int) -> NDArray[np.int64]:
    """Return the bin of each probability, by the bits of its odds."""
    octave = bins // 32
    with np.errstate(divide="ignore"):
        odds = (p / (F4(1) - p)).astype(F4)
    found = (odds.view(np.uint32) >> (20 if octave == 8 else 21)).astype(np.int64) - (127 - 16) * octave
    return np.minimum(np.maximum(found, 0), bins - 1)


def count(span: Any, truth: int, predictions: list[int], losses: list[np.float32], weight: float) -> None:
    span.actual[truth] += weight
    for k, predicted in enumerate(predictions):
        span.predicted[k, predicted] += weight
        if predicted == truth:
            span.correct[k, truth] += weight
        if k < 2 and span.confusion.size:
            span.confusion[k, truth, predicted] += weight
    for k, loss in enumerate(losses):
        span.log_loss[k] += weight * float(loss)


def measure_target(metrics: Any, truth: float, outputs: list[float], weight: float) -> None:
    ring, slot, mean = (
        metrics.window,
        int(metrics.rows) % len(metrics.window.y),
        float(metrics.cumulative.mean),
    )
    predictions = [p if np.isfinite(p) else mean for p in outputs] + [mean, last(metrics)]
    add(metrics.cumulative, truth, predictions, 1.0)
    add(metrics.fading, truth, predictions, weight)
    ring.y[slot], ring.predictions[:, slot] = truth, predictions


def add(sums: Any, truth: float, predictions: list[float], weight: float) -> None:
    before, mean = float(sums.weight), float(sums.mean)
    total, delta = before + weight, truth - mean
    new = mean + delta * (weight / total) if before > 0 else truth
    sums.weight[...], sums.mean[...] = total, new
    sums.m2[...] = float(sums.m2) + weight * delta * (truth - new)
    for k, p in enumerate(predictions):
        error = abs(p - truth)
        sums.absolute[k] += weight * error
        sums.squared[k] += weight * (error * error)


# --- Merges


def power(x: float, n: int) -> float:
    return core.integer_power(x, n)


def merge(start: Any, parts: list[Any]) -> Any:
    """Return the state of tasks' states: (fading, cumulative)."""
    counts = [int(part.rows - start.rows) for part in parts]
    parts = [part for part, count in zip(parts, counts, strict=True) if count]
    counts = [count for count in counts if count]
    decay, rows = float(start.decay), sum(counts)
    cumulative, fading = start.cumulative, start.fading
    for part in parts:
        cumulative = added(cumulative, added_by(part.cumulative, start.cumulative, 1.0), 1.0)
    fresh = [added_by(p.fading, start.fading, power(decay, n)) for p, n in zip(parts, counts, strict=True)]
    total = 0.0
    for each in fresh:
        total = total + weight_of(each)
    factor = (1.0 - power(decay, rows)) / (1.0 - decay) / total
    kept = power(decay, rows)
    for each in fresh:
        scale(each, tuple(name for name in each._fields if name != "mean"), factor)
        fading, kept = added(fading, each, kept), 1.0
    return fading, cumulative


def weight_of(span: Any) -> float:
    if hasattr(span, "weight"):
        return float(span.weight)
    total = 0.0
    for each in span.actual.tolist():
        total = total + each
    return total


def added_by(now: Any, start: Any, left: float) -> Any:
    """Return what a task added to sums of which a part is left."""
    new = type(now)(*(np.maximum(a - b * left, 0.0) for a, b in zip(now, start, strict=True)))
    if not hasattr(now, "weight"):
        return new
    old = float(start.weight) * left
    weight = float(now.weight) - old
    d = (float(now.mean) - float(start.mean)) * float(now.weight) / weight
    m2 = (float(now.m2) - float(start.m2) * left) - d * d * weight / float(now.weight) * old
    figures = (weight, float(start.mean) + d, max(m2, 0.0))
    return type(now)(*map(np.array, figures), *new[3:])


def added(old: Any, new: Any, left: float) -> Any:
    both = type(old)(*(a * left + b for a, b in zip(old, new, strict=True)))
    if not hasattr(old, "weight"):
        return both
    weight = float(old.weight) * left + float(new.weight)
    d, p = float(new.mean) - float(old.mean), float(new.weight) / weight
    m2 = (float(old.m2) * left + float(new.m2)) + d * d * p * float(old.weight) * left
    return type(old)(*map(np.array, (weight, float(old.mean) + d * p, m2)), *both[3:])
