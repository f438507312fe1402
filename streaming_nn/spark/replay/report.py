"""What tries came to, side by side: tables for a person, one JSON object for a program."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from streaming_nn.spark.replay.trials import Outcome

ANSWERS = {"prequential": "prequential", "served": "as served"}
SPANS = ("window", "total")
CLASSES = {"accuracy": max, "f1_macro": max, "log_loss": min}  # figures, and which of them is the best
SHORT = {"f1_macro": "F1", "log_loss": "log loss"}
TARGETS = {"mae": min, "rmse": min, "r2": max}


class Figure(NamedTuple):
    """One number that is compared."""

    answers: str  # prequential or served
    span: str  # window or total
    name: str

    def of(self, metrics: dict[str, Any]) -> float | None:
        """Take it out of a version's metrics; None where no row has made it."""
        value: float | None = metrics.get(self.answers, {}).get(self.span, {}).get(self.name)
        return value


def figures(outcomes: Iterable[Outcome], span: str) -> list[Figure]:
    """Name what is compared over a span of rows: of classes, or of targets."""
    names = _names(outcomes)
    return [Figure(answers, span, name) for answers in ANSWERS for name in names]


def _names(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    first = next(iter(outcomes))
    return TARGETS if "mae" in first.metrics.get("prequential", {}).get("total", {}) else CLASSES


def best(outcomes: list[Outcome], figure: Figure) -> list[str]:
    """Name those whose figure is the best; several where it is the same."""
    values = {o.name: figure.of(o.metrics) for o in outcomes}
    found = {name: value for name, value in values.items() if value is not None}
    if not found:
        return []
    top = _names(outcomes)[figure.name](found.values())
    return [name for name, value in found.items() if value == top]


def as_json(outcomes: list[Outcome]) -> dict[str, Any]:
    """Give all of it as JSON-able values: figures, baselines, and the best of each figure."""
    compared = [figure for span in SPANS for figure in figures(outcomes, span)]
    return {
        "replay": "tried",
        "tries": [
            {
                "name": o.name,
                "options": o.changes,
                "directory": str(o.directory) if o.directory else None,
                "rows": o.rows,
                **{answers: _plain(o.metrics, answers) for answers in ANSWERS},
                "remarks": o.remarks,
            }
            for o in outcomes
        ],
        "baselines": {name: _scalars(spans) for name, spans in outcomes[0].metrics["baselines"].items()},
        "best": {".".join(figure): best(outcomes, figure) for figure in compared},
    }


def _plain(metrics: dict[str, Any], answers: str) -> dict[str, Any]:
    return _scalars(metrics.get(answers, {}))


def _scalars(spans: dict[str, Any]) -> dict[str, Any]:
    """The numbers of each span, without the figures of each class and the confusion."""
    return {
        span: {name: value for name, value in scores.items() if not isinstance(value, dict | list)}
        for span, scores in spans.items()
    }


def tables(outcomes: list[Outcome]) -> list[Table]:
    """Give a table for the window and one for all rows: a line each try, then the baselines.

    Where the window holds all rows, one table says it all.
    """
    pairs = zip(figures(outcomes, "window"), figures(outcomes, "total"), strict=True)
    same = all(a.of(o.metrics) == b.of(o.metrics) for a, b in pairs for o in outcomes)
    return [_table(outcomes, span) for span in SPANS[same:]]


def _table(outcomes: list[Outcome], span: str) -> Table:
    title = "over the last rows (the metrics' window)" if span == "window" else "over all rows"
    several = len(outcomes) > 1
    caption = "* the best" if several else None
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left", box=None)
    table.add_column(f"\n{outcomes[0].rows['trained']:,} rows", overflow="fold")  # a name, an option a line
    compared = figures(outcomes, span)
    for figure in compared:
        table.add_column(_heading(figure), justify="right", no_wrap=True)
    leaders = {figure: best(outcomes, figure) if several else [] for figure in compared}
    for o in outcomes:
        cells = [_marked(figure.of(o.metrics), o.name in leaders[figure]) for figure in compared]
        table.add_row(o.name.replace(",", ",\n"), *cells)
    table.add_row()
    for name, spans in outcomes[0].metrics["baselines"].items():
        values = [spans[span].get(figure.name) for figure in compared]
        table.add_row(f"({name})", *(_marked(value, False) for value in values))
    return table


def _heading(figure: Figure) -> str:
    """A figure's name, under what it is of where it is the first such one."""
    group = ANSWERS[figure.answers] if figure.name in ("accuracy", "mae") else ""
    return f"{group}\n{SHORT.get(figure.name, figure.name)}"


def _marked(value: float | None, leads: bool) -> str:
    text = "–" if value is None else f"{value:.4g}" if abs(value) >= 100 else f"{value:.4f}"
    return f"[bold]{text}*[/bold]" if leads else f"{text} "


def show(outcomes: list[Outcome], wanted_json: bool) -> None:
    """Print the tables; with JSON they go to stderr, and the one object is stdout's last line."""
    console = Console(stderr=wanted_json)
    for table in tables(outcomes):
        console.print(table)
    for o in outcomes:
        lost = [f"{n:,} rows {why}" for why, n in o.rows.items() if why in ("skipped", "rejected") and n]
        if said := "; ".join([*([str(o.directory)] if o.directory else []), *o.remarks, *lost]):
            console.print(f"{o.name}: {said}", markup=False, highlight=False, soft_wrap=True)
    if wanted_json:
        print(json.dumps(as_json(outcomes)), flush=True)
