"""What wild values spoil: streams with outliers, sentinels, offsets and heavy tails, beside clean ones."""

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from benchmarks import learners, peers
from benchmarks.datasets import Dataset
from benchmarks.output import Json, print_results
from benchmarks.scores import score_rows
from benchmarks.threads import one_thread
from streaming_nn.versions.environment import describe

Array = NDArray[Any]
AFTER = 2_000  # rows after the spoiling until predictions are scored
SCORED = 2_000  # rows that are scored
LATEST = 2_000  # the last row at which something happens
ROWS = LATEST + AFTER + SCORED
LONG = 500  # rows of a stretch of sentinels
MOMENTS = (1, 5, 50, 150, LATEST)  # rows, counted from 1, with one wild value
SIZES = (1e3, 1e6, 1e12, 1e30)  # of one wild value, in deviations
SENTINELS = (-999.0, 1e9)
SHARES = (0.01, 0.05, 0.2)  # of rows with a sentinel
OFFSETS = (1e6, 1e9, 1e12, 1e15)  # beside a deviation of 1
FACTORS = (1e-3, 0.1, 10.0, 1e3)  # of a change of scale
LOSS = 0.01  # accuracy that may be lost
EXCESS = 1.1  # times the clean MAE that is allowed
OURS = (learners.DEFAULT, learners.PLAIN)
PEERS = (peers.RIVER[0], peers.SKLEARN)
SHORT = ("value 1e+12 at 5", "target 1e+12 at 5")


class Spoilt(NamedTuple):
    """A stream, and the rows that are scored: 2,000 rows after it was spoilt, and not spoilt themselves."""

    data: Dataset
    scored: NDArray[np.bool_]  # (rows,)


def clean(regression: bool, seed: int = 0) -> Dataset:
    """Return the stream that is spoilt: five standard normal columns, of which the first matters most."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, 5))
    score = x[:, 0] + 0.5 * x[:, 1] * x[:, 2] + 0.3 * rng.normal(size=ROWS)
    if regression:
        return Dataset("clean target", x, score, None)  # type: ignore[arg-type]
    return Dataset("clean", x, (score > 0).astype(np.int32), 2)  # type: ignore[arg-type]


def spoilt_streams() -> Iterator[Spoilt]:
    """Yield the spoilt streams, each named after what was done to the first column, or to the target."""
    for regression in (False, True):
        what, original = "target" if regression else "value", clean(regression)
        values = original.y if regression else original.x[:, 0].astype(np.float64)
        for size in SIZES:
            for row in MOMENTS:
                yield _replaced(original, f"{what} {size:g} at {row}", values, size, _only(row))
        for sentinel in SENTINELS:
            for share in SHARES:
                often = np.random.default_rng(1).random(ROWS) < share
                yield _replaced(original, f"{what} {sentinel:g} in {share:.0%}", values, sentinel, often, 0)
            stretch = (np.arange(ROWS) >= LATEST - LONG) & (np.arange(ROWS) < LATEST)
            yield _replaced(original, f"{what} {sentinel:g} for {LONG} rows", values, sentinel, stretch)
            yield _replaced(original, f"{what} {sentinel:g} once", values, sentinel, _only(1000))
    yield from _spoilt_columns(clean(False))


def _spoilt_columns(original: Dataset) -> Iterator[Spoilt]:
    column = original.x[:, 0].astype(np.float64)
    row = np.arange(ROWS)
    for rows in (300, LATEST):
        still = np.where(row < rows, 5.0, column)
        yield _with_column(original, f"constant, moves at {rows}", still, rows)
        for size in SIZES:
            wild = np.where(row == rows - 1, size, still)
            yield _with_column(original, f"constant, {size:g}, moves at {rows}", wild, rows)
    for offset in OFFSETS:
        yield _with_column(original, f"offset {offset:g}", column + offset, 0)
    for factor in FACTORS:
        changed = np.where(row < LATEST, column, column * factor)
        yield _with_column(original, f"scale times {factor:g}", changed, LATEST)
    yield _with_column(original, "log-normal", np.exp(column), 0)
    yield _with_column(original, "Cauchy", np.tan(np.pi * (_rank(column) - 0.5)), 0)


def _rank(x: Array) -> Array:
    """Return the part of the values that are smaller, in (0, 1)."""
    return (x.argsort().argsort() + 0.5) / len(x)


def _only(row: int) -> NDArray[np.bool_]:
    only: NDArray[np.bool_] = np.arange(1, ROWS + 1) == row
    return only


def _replaced(
    original: Dataset, name: str, values: Array, value: float, where: Array, at: int | None = None
) -> Spoilt:
    """Replace some rows' values of the first column, or of a regression's target."""
    last = int(np.flatnonzero(where)[-1]) + 1 if at is None else at
    new = np.where(where, value, values)
    spoilt = (
        original._replace(name=name, y=new) if original.classes is None else _in_column(original, name, new)
    )
    return Spoilt(spoilt, _scored(last) & ~where)


def _with_column(original: Dataset, name: str, column: Array, at: int) -> Spoilt:
    return Spoilt(_in_column(original, name, column), _scored(at))


def _in_column(original: Dataset, name: str, column: Array) -> Dataset:
    return original._replace(name=name, x=np.column_stack([column, original.x[:, 1:]]))


def _scored(at: int) -> NDArray[np.bool_]:
    row = np.arange(ROWS)
    scored: NDArray[np.bool_] = (row >= at + AFTER) & (row < at + AFTER + SCORED)
    return scored


def predictions(name: str, data: Dataset, mini_batch: int, seed: int) -> Array | None:
    """Return a learner's prequential predictions (rows,); None if it failed."""
    with np.errstate(all="ignore"):
        if name in OURS:
            learner = learners.learner_for(data, name, mini_batch, seed)
            return learners.run(learner, data, ()).prequential
        try:
            return peers.run(name, data, seed).prequential
        except (ValueError, OverflowError):  # a value or a weight that is not finite
            return None


def score(predicted: Array | None, y: Array, scored: NDArray[np.bool_], classes: int | None) -> float:
    """Return the accuracy or MAE of the scored rows; 0 or infinite for a learner that failed."""
    if predicted is None or (classes is None and not np.isfinite(predicted[scored]).all()):
        return float("inf") if classes is None else 0.0
    return float(score_rows(y[scored], predicted[scored], classes).mean())


def is_met(clean_score: float, spoilt_score: float, classes: int | None) -> bool:
    """Return whether a spoilt stream is predicted about as well as the clean one."""
    return spoilt_score <= EXCESS * clean_score if classes is None else spoilt_score >= clean_score - LOSS


def measure(
    learners_: Annotated[str, typer.Option("--learners", help="Comma-separated names.")] = ",".join(
        (*OURS, *PEERS)
    ),
    mini_batch: Annotated[int, typer.Option(min=1, help="Rows per step of our learners.")] = 1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    short: Annotated[bool, typer.Option("--short", help="Two streams.")] = False,
    json_: Json = False,
) -> None:
    """Learn each stream, clean and spoilt; a table, and one JSON line last. Exit code 2: unknown learner."""
    names = learners_.split(",")
    for name in names:
        if name not in (*OURS, *PEERS):
            typer.echo(f"error: learners must be among {', '.join((*OURS, *PEERS))}; got {name!r}", err=True)
            raise typer.Exit(2)
    one_thread()
    streams = [each for each in spoilt_streams() if not short or each.data.name in SHORT]
    figures = {name: _figures(name, streams, mini_batch, seed) for name in names}
    met = {name: sum(each["met"] for each in by_stream.values()) for name, by_stream in figures.items()}
    line = {"benchmark": "outliers", "mini_batch": mini_batch, "streams": len(streams), "met": met}
    line |= {"learners": figures, "environment": describe()}
    print_results(line, json_, _table(figures, met))


def _figures(name: str, streams: list[Spoilt], mini_batch: int, seed: int) -> dict[str, dict[str, Any]]:
    originals = {data.classes: data for data in (clean(False), clean(True))}
    of_clean = {classes: predictions(name, data, mini_batch, seed) for classes, data in originals.items()}
    figures = {}
    for data, scored in streams:
        classes, truth = data.classes, originals[data.classes].y
        before = score(of_clean[classes], truth, scored, classes)
        after = score(predictions(name, data, mini_batch, seed), truth, scored, classes)
        figures[data.name] = {"clean": before, "spoilt": after, "met": is_met(before, after, classes)}
    return figures


def _table(figures: dict[str, dict[str, dict[str, Any]]], met: dict[str, int]) -> Table:
    title = "accuracy, or MAE of a target, of the rows 2,000 after the spoiling: clean → spoilt (*: missed)"
    table = Table("stream", *figures, title=title)
    for stream in next(iter(figures.values())):
        table.add_row(stream, *(_cell(by_stream[stream]) for by_stream in figures.values()))
    table.add_row("met", *(f"{met[name]} of {len(figures[name])}" for name in figures))
    return table


def _cell(figures: dict[str, Any]) -> str:
    mark = "" if figures["met"] else " *"
    spoilt = figures["spoilt"]
    return f"{figures['clean']:.3f} → " + (f"{spoilt:.3f}" if spoilt < 1e3 else f"{spoilt:.1e}") + mark


if __name__ == "__main__":
    typer.run(measure)
