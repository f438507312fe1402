"""Metrics of several targets or labels: each is measured as one target, or as two classes, is alone.

The functions are those of `metrics`, and take its state of one target or of classes too. A label that does
not apply is class 0, one that applies is class 1.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core import metrics as core
from streaming_nn.core.functions import chain_sum
from streaming_nn.nn import metrics
from streaming_nn.nn.metrics import SPANS, ClassCounts, Metrics, Ring, RowCounts, TargetSums

Array = NDArray[Any]
SURE = np.float32(2**-23)  # log loss where a probability is 0 and the label does not apply
AVERAGES = tuple(f"{rate}_{average}" for average in ("micro", "macro") for rate in metrics.PER_CLASS)


class MultiMetrics(NamedTuple):
    """The metrics of several targets or labels."""

    each: Metrics  # of each: one more axis before those of a single one
    exact: Metrics | tuple[()]  # of labels: rows whose labels are all right; its window has 1 for such a row


Measured: TypeAlias = Metrics | MultiMetrics


def init(outputs: int, multilabel: bool, window: int = 1000, fading: float = 0.999) -> MultiMetrics:
    """Return the metrics of no rows of so many labels, or targets."""
    one = metrics.init(2 if multilabel else None, window, fading)
    each = _stack([_scored(one, outputs)] * outputs)
    if not multilabel:
        return MultiMetrics(each, ())
    ring = Ring(np.zeros(window, np.uint8), np.zeros((4, window), np.uint8), np.zeros((2, 0), np.float32))
    empty = RowCounts(np.zeros(1), np.zeros(4))
    return MultiMetrics(each, Metrics(one.rows, one.decay, ring, empty, empty))


def classes(measured: Measured) -> int:
    """Return the number of classes or labels that are counted; 0 for targets."""
    counts = measured.each.cumulative if isinstance(measured, MultiMetrics) else measured.cumulative
    return len(counts.actual) if isinstance(counts, ClassCounts) else 0


def singles(measured: Measured) -> list[Metrics]:
    """Return views of the metrics of each label or target; of a single one, its own."""
    return [*_parts(measured.each)] if isinstance(measured, MultiMetrics) else [measured]


def update(measured: Measured, y: Array, output: Array, as_served: Array) -> Measured:
    """Measure rows in their order: truth y (rows,) or (rows, columns), predictions (rows, outputs)."""
    if not isinstance(measured, MultiMetrics):
        return metrics.update(measured, y, output, as_served)
    if not len(y):
        return measured
    exact, each = measured.exact, metrics.copied(measured.each)
    columns = [np.ascontiguousarray(_columns(measured, p)) for p in (output, as_served)]
    if exact:
        core.measure_labels(each, np.ascontiguousarray(y.T, np.int32), *columns)
        exact = _count_exact(exact, measured.each, y, output, as_served)
    else:
        for part, *column in zip(_parts(each), y.T, *columns, strict=True):
            metrics.measure(part, *column)
    return MultiMetrics(each, exact)


def step_losses(measured: Measured, y: Array, output: Array, size: int) -> NDArray[np.float64]:
    """Return steps' losses and rows (2, steps), as `metrics.step_losses`: the mean of targets or labels."""
    if not isinstance(measured, MultiMetrics):
        return metrics.step_losses(measured, y, output, size)
    columns = zip(_parts(measured.each), y.T, _columns(measured, output), strict=True)
    losses = np.stack([metrics.step_losses(part, of_y, p, size) for part, of_y, p in columns], axis=-1)
    return np.stack([chain_sum(losses[0]) / losses.shape[-1], losses[1, :, 0]])


def merge(start: Measured, parts: Sequence[Measured]) -> Measured:
    """Combine what tasks have counted from a common start; see `metrics.merge`."""
    if not isinstance(start, MultiMetrics):
        return metrics.merge(start, [part for part in parts if isinstance(part, Metrics)])
    several = [part for part in parts if isinstance(part, MultiMetrics)]
    tasks = zip(*(_parts(part.each) for part in several), strict=True)
    each = [metrics.merge(one, of_one) for one, of_one in zip(_parts(start.each), tasks, strict=True)]
    exact = start.exact
    if exact:
        exact = metrics.merge(exact, [part.exact for part in several if part.exact])
    return MultiMetrics(_stack(each), exact)


def grow(measured: Measured, classes: int) -> Measured:
    """Add classes or labels. A new label has applied to no row so far, and its probability has been 0."""
    if not isinstance(measured, MultiMetrics):
        return metrics.grow(measured, classes)
    parts = [_scored(part, classes) for part in _parts(measured.each)]
    return MultiMetrics(_stack(parts + [_unseen(parts[0])] * (classes - len(parts))), measured.exact)


def report(measured: Measured) -> dict[str, Any]:
    """Return all figures, ready for JSON, as `metrics.report` does for one target, or for classes.

    Those of targets are means over the targets for which they are defined. Those of labels are scikit-learn's
    of a multilabel indicator with `zero_division=0`; `log_loss`, `roc_auc` and `average_precision` are means
    over the labels. `per_target` and `per_label` have the figures of each, in the order of targets or labels.
    """
    if not isinstance(measured, MultiMetrics):
        return metrics.report(measured)
    each, parts = measured.each, [*_parts(measured.each)]
    recent = _stack([metrics.recent(part) for part in parts])
    spans = dict(zip(SPANS, (recent, each.fading, each.cumulative), strict=True))
    if measured.exact:
        exact, ranked = _exact_rates(measured.exact), [metrics.rankings(part) for part in parts]
        figures: Callable[[str, int], dict[str, Any]] = lambda span, who: _of_labels(  # noqa: E731
            spans[span], who, exact[span][who], [of_one.get((span, who), {}) for of_one in ranked]
        )
    else:
        figures = lambda span, who: _of_targets(spans[span], who)  # noqa: E731

    def scores(who: int) -> dict[str, Any]:
        return {span: figures(span, who) for span in SPANS}

    return {
        "rows": int(each.rows.max()),
        "prequential": scores(0),
        "as_served": scores(1),
        "baselines": {"majority_class" if measured.exact else "mean": scores(2), "no_change": scores(3)},
    }


def _of_targets(sums: TargetSums, who: int) -> dict[str, Any]:
    figures = [metrics.errors(one, who) for one in _parts(sums)]
    listed = {name: [each[name] for each in figures] for name in metrics.ERRORS}
    means: dict[str, Any] = {name: _mean(values) for name, values in listed.items()}
    return means if means["mae"] is None else means | {"per_target": listed}


def _of_labels(
    counts: ClassCounts, who: int, exact: float | None, rankings: list[dict[str, float | None]]
) -> dict[str, Any]:
    """Return the figures of labels' counts, whose arrays have an axis of labels first."""
    names = [name for name in metrics.RANKINGS if name in rankings[0]]
    loss = ("log_loss",) if who < 2 else ()
    if exact is None:
        return dict.fromkeys(("subset_accuracy", "hamming_loss", *AVERAGES, *loss, *names))
    rows = float(chain_sum(counts.actual[0]))
    accuracy = chain_sum(counts.correct[:, who]) / rows
    parts, wholes = metrics.fractions(
        counts.actual[:, 1], counts.predicted[:, who, 1], counts.correct[:, who, 1]
    )
    rates = metrics.ratio(parts, wholes)
    averages = *metrics.ratio(chain_sum(parts), chain_sum(wholes)), *(chain_sum(rates) / len(accuracy))
    ranked = {name: [each[name] for each in rankings] for name in names}
    undefined = np.where(wholes > 0, rates, np.nan).tolist()
    listed = {
        name: [value if value == value else None for value in values]
        for name, values in zip(metrics.PER_CLASS, undefined, strict=True)
    }
    return {
        "subset_accuracy": exact,
        "hamming_loss": float(chain_sum(1 - accuracy)) / len(accuracy),
        **dict(zip(AVERAGES, map(float, averages), strict=True)),
        **{name: float(chain_sum(counts.log_loss[:, who])) / rows / len(accuracy) for name in loss},
        **{name: _mean(values) for name, values in ranked.items()},
        "per_label": {"accuracy": accuracy.tolist(), **listed, **ranked},
    }


def _exact_rates(exact: Metrics) -> dict[str, list[float | None]]:
    """Return the part of rows whose labels are all right, for each span and prediction."""
    rows = min(int(exact.rows), len(exact.window.y))
    right = np.count_nonzero(exact.window.predictions[:, :rows], axis=1)
    recent = RowCounts(np.array([float(rows)]), right.astype(np.float64))
    spans = zip(SPANS, (recent, exact.fading, exact.cumulative), strict=True)
    return {name: _shares(span) for name, span in spans}


def _shares(span: Any) -> list[float | None]:
    rows = float(span.actual[0])
    return [right / rows if rows else None for right in span.correct.tolist()]


def _count_exact(exact: Metrics, each: Metrics, y: Array, output: Array, as_served: Array) -> Metrics:
    """Count rows whose labels are all right; `each` has the labels' metrics from before these rows."""
    rows, window = len(y), len(exact.window.y)
    assert isinstance(each.cumulative, ClassCounts)
    absent, present = each.cumulative.actual.T
    ones = np.cumsum(y, axis=0) - y
    majority = present + ones > absent + (np.arange(rows)[:, None] - ones)
    last = np.concatenate([each.window.y[None, :, (int(exact.rows) - 1) % window], y[:-1]])
    right = np.stack([(p == y).all(axis=1) for p in (output > 0.5, as_served > 0.5, majority, last)])
    powers = np.multiply.accumulate(np.append(1.0, np.full(rows, exact.decay)))
    counted: Metrics = metrics.copied(exact)
    for span, kept, weights in (
        (counted.cumulative, 1.0, np.ones(rows)),
        (counted.fading, powers[-1], powers[-2::-1]),
    ):
        assert isinstance(span, RowCounts)
        for sums, values in ((span.actual, np.ones((1, rows))), (span.correct, right)):
            sums[...] = chain_sum(np.concatenate([(sums * kept)[:, None], weights * values], axis=1))
    latest = np.arange(max(0, rows - window), rows)
    counted.window.predictions[:, (int(exact.rows) + latest) % window] = right[:, latest]
    counted.rows[...] += rows
    return counted


def _unseen(label: Metrics) -> Metrics:
    """Return the metrics of a label that has applied to no row, from those of another label."""
    start: Metrics = metrics.copied(label)

    def counts(span: Any) -> ClassCounts:
        none = ClassCounts(*(np.zeros_like(each) for each in span))
        total = float(chain_sum(span.actual))
        for each in (none.actual, none.predicted, none.correct):
            each[..., 0] = total
        none.confusion[:, 0, 0] = total
        none.log_loss[:] = total * float(SURE)
        return none

    ring = start.window._replace(
        y=np.zeros_like(start.window.y),
        predictions=np.zeros_like(start.window.predictions),
        log_loss=np.full_like(start.window.log_loss, SURE),
    )
    grown = start._replace(window=ring, fading=counts(start.fading), cumulative=counts(start.cumulative))
    if start.scores.size:
        grown.window.scores[:, 0], grown.window.scores[:, 1] = start.scores.shape[3] - 1, 0
        grown.scores[...] = 0
        grown.scores[:, :, 0, -1] = start.rows
        grown.scores[0, :, 1, 0] = start.rows
    return grown


def _scored(one: Metrics, outputs: int) -> Metrics:
    """Return a label's metrics; without its scores if there are too many labels to count them."""
    if not len(one.scores) or outputs <= core.SCORED_CLASSES:
        return one
    ring = one.window._replace(scores=one.window.scores[:, :0])
    return one._replace(window=ring, scores=one.scores[:, :, :0])


def _columns(measured: MultiMetrics, output: Array) -> Array:
    """Return the predictions as those of single targets, or of two classes each (parts, rows, outputs)."""
    columns = np.ascontiguousarray(output.T)
    return np.stack([1 - columns, columns], axis=-1) if measured.exact else columns[..., None]


def _parts(stacked: Any) -> Iterator[Any]:
    """Yield views of a NamedTuple's arrays, of nested ones too, by their first axis."""
    return (core.part_of(stacked, i) for i in range(len(stacked[0])))


def _stack(parts: Sequence[Any]) -> Any:
    """Return the inverse of `_parts`."""
    if not isinstance(parts[0], tuple):
        return np.stack(parts)
    return type(parts[0])(*map(_stack, zip(*parts, strict=True))) if parts[0] else parts[0]


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(chain_sum(np.array(defined))) / len(defined) if defined else None
