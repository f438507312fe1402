"""The outcomes of trials beside each other: tables for a person, one JSON object for a program."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from streaming_nn.nn.figures import CLASSES, LABELS, TARGETS, leading
from streaming_nn.spark.replay.trials import Outcome

PREDICTIONS = {"prequential": "prequential", "as_served": "as served"}
SPANS = ("window", "cumulative")
SHORT = {
    "f1_macro": "F1",
    "log_loss": "log loss",
    "subset_accuracy": "subset acc.",
    "hamming_loss": "Hamming",
}
NOT_LEARNED = ("skipped", "rejected", "filtered")  # counts that are named if there are any


class Metric(NamedTuple):
    """A metric that is compared."""

    predictions: str  # prequential or as_served
    span: str  # window or cumulative
    name: str

    def of(self, metrics: dict[str, Any]) -> float | None:
        """Return its value in a version's metrics; None: no row was counted."""
        value: float | None = metrics.get(self.predictions, {}).get(self.span, {}).get(self.name)
        return value


def compared_metrics(outcomes: Iterable[Outcome], span: str) -> list[Metric]:
    """Return what is compared over a span of rows."""
    names = _names(outcomes)
    return [Metric(predictions, span, name) for predictions in PREDICTIONS for name in names]


def _names(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    first = next(iter(outcomes))
    cumulative = first.metrics.get("prequential", {}).get("cumulative", {})
    return leading(cumulative)


def best(outcomes: list[Outcome], metric: Metric) -> list[str]:
    """Return the names of the trials with the best value; several if they are equal."""
    values = {o.name: metric.of(o.metrics) for o in outcomes}
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return []
    top = _names(outcomes)[metric.name](known.values())
    return [name for name, value in known.items() if value == top]


def as_json(outcomes: list[Outcome]) -> dict[str, Any]:
    """Return everything as JSON-able values: metrics, baselines, and the best trials by metric."""
    compared = [metric for span in SPANS for metric in compared_metrics(outcomes, span)]
    return {
        "trials": [
            {
                "name": o.name,
                "options": o.changes,
                "directory": str(o.directory) if o.directory else None,
                "counts": o.counts,
                **{name: _scalars(o.metrics.get(name, {})) for name in PREDICTIONS},
                "remarks": o.remarks,
            }
            for o in outcomes
        ],
        "baselines": {name: _scalars(spans) for name, spans in outcomes[0].metrics["baselines"].items()},
        "best": {".".join(metric): best(outcomes, metric) for metric in compared},
    }


def _scalars(spans: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of each span, without those of each class and the confusion matrix."""
    return {
        span: {name: value for name, value in scores.items() if not isinstance(value, dict | list)}
        for span, scores in spans.items()
    }


def tables(outcomes: list[Outcome]) -> list[Table]:
    """Return a table for the window and one for all rows: a line per trial, then the baselines.

    If the window holds all rows, there is one table.
    """
    pairs = zip(*(compared_metrics(outcomes, span) for span in SPANS), strict=True)
    same = all(a.of(o.metrics) == b.of(o.metrics) for a, b in pairs for o in outcomes)
    return [_table(outcomes, span) for span in SPANS[same:]]


def _table(outcomes: list[Outcome], span: str) -> Table:
    title = "over the last rows (the metrics' window)" if span == "window" else "over all rows"
    several = len(outcomes) > 1
    caption = "* the best" if several else None
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left", box=None)
    rows = f"{outcomes[0].counts['trained']:,} rows"
    table.add_column(f"\n{rows}", overflow="fold")  # of names, each with one option per line
    compared = compared_metrics(outcomes, span)
    for metric in compared:
        table.add_column(_heading(metric), justify="right", no_wrap=True)
    leaders = {metric: best(outcomes, metric) if several else [] for metric in compared}
    for o in outcomes:
        cells = [_format(metric.of(o.metrics), o.name in leaders[metric]) for metric in compared]
        table.add_row(o.name.replace(",", ",\n"), *cells)
    table.add_row()
    for name, spans in outcomes[0].metrics["baselines"].items():
        values = [spans[span].get(metric.name) for metric in compared]
        table.add_row(f"({name})", *(_format(value, False) for value in values))
    return table


def _heading(metric: Metric) -> str:
    """Return a metric's name, below the kind of predictions if it is the first of that kind."""
    first = any(metric.name == next(iter(names)) for names in (CLASSES, LABELS, TARGETS))
    group = PREDICTIONS[metric.predictions] if first else ""
    return f"{group}\n{SHORT.get(metric.name, metric.name)}"


def _format(value: float | None, leads: bool) -> str:
    text = "–" if value is None else f"{value:.4g}" if abs(value) >= 100 else f"{value:.4f}"
    return f"[bold]{text}*[/bold]" if leads else f"{text} "


def show(outcomes: list[Outcome], wanted_json: bool) -> None:
    """Print the tables; with JSON they go to stderr, and the object is the last line of stdout."""
    console = Console(stderr=wanted_json)
    for table in tables(outcomes):
        console.print(table)
    for o in outcomes:
        lost = [f"{n:,} rows {why}" for why, n in o.counts.items() if why in NOT_LEARNED and n]
        directory = [str(o.directory)] if o.directory else []
        if remarks := "; ".join([*directory, *o.remarks, *lost]):
            console.print(f"{o.name}: {remarks}", markup=False, highlight=False, soft_wrap=True)
    if wanted_json:
        print(json.dumps(as_json(outcomes)), flush=True)
