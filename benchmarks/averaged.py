"""What `update = "averaged"` costs in accuracy: tasks averaged after each micro-batch, beside one task."""

import os
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from benchmarks import datasets, learners
from benchmarks.output import print_results
from benchmarks.quality import DATA
from benchmarks.threads import one_thread
from streaming_nn.nn.learner import Batch, Learner, State, combine, initial, learn_part, report

MICRO_BATCHES = (100, 1_000, 10_000)
MINI_BATCH = 32
STREAMS = "elec2,covtype20k,weather,sea50k,bananas,kdd99_10pct,fried,bike_hour"
SHORT = ",".join(datasets.SHORT)


def measure(
    data: Annotated[Path, typer.Option(help="Directory of NAME/stream.npz.")] = DATA,
    streams: Annotated[str, typer.Option(help="Comma-separated names.")] = "",
    tasks: Annotated[int, typer.Option(min=2, help="Tasks to average.")] = 4,
    mini_batch: Annotated[int, typer.Option(min=1, help="Rows per step.")] = MINI_BATCH,
    jobs: Annotated[int, typer.Option(help="Processes; 0: one per core.")] = 0,
    short: Annotated[bool, typer.Option("--short", help="Two short generated streams.")] = False,
) -> None:
    """Learn each stream in micro-batches of several sizes, with one and with several tasks."""
    names = (streams or (SHORT if short else STREAMS)).split(",")
    try:
        datasets.check(names, data)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    one_thread()
    plan = [(name, size, count) for name, size in product(names, MICRO_BATCHES) for count in (1, tasks)]
    with ProcessPoolExecutor(jobs or os.cpu_count() or 1, get_context("spawn")) as pool:
        running = {each: pool.submit(score, data, *each, mini_batch) for each in plan}
        found = {each: future.result() for each, future in running.items()}
    figures = {
        name: {
            size: {"sequential": found[name, size, 1], "averaged": found[name, size, tasks]}
            for size in MICRO_BATCHES
        }
        for name in names
    }
    line = {"benchmark": "averaged", "tasks": tasks, "mini_batch": mini_batch, "streams": figures}
    print_results(line, False, _table(figures, tasks, mini_batch))


def score(folder: Path, name: str, micro_batch: int, tasks: int, mini_batch: int) -> dict[str, float]:
    """Return prequential and as-served accuracy, or mean absolute error, over the whole stream."""
    stream = datasets.dataset(name, folder)
    learner = learners.learner_for(stream, learners.DEFAULT, mini_batch, 0)
    state: State[Any] = initial(learner)
    for start in range(0, len(stream.y), micro_batch):
        rows = np.arange(start, min(start + micro_batch, len(stream.y)))
        state = learn_micro_batch(learner, state, stream, [rows[task::tasks] for task in range(tasks)])
    figures = report(learner, state)
    figure = "mae" if stream.classes is None else "accuracy"
    return {how: round(figures[how]["cumulative"][figure], 4) for how in ("prequential", "as_served")}


def learn_micro_batch(
    learner: Learner[Any], state: State[Any], stream: datasets.Dataset, rows: list[Any]
) -> State[Any]:
    """Learn one micro-batch, each task its rows, as a topic's partitions are learned."""
    parts = [learn_part(learner, state, [Batch(stream.x[part], stream.y[part])]) for part in rows]
    return combine(learner, state, parts)


def _table(figures: dict[str, dict[int, dict[str, Any]]], tasks: int, mini_batch: int) -> Table:
    title = f"one task / {tasks} averaged, mini-batch {mini_batch}; accuracy, or MAE of targets"
    table = Table(title=title, title_justify="left")
    table.add_column("stream")
    for size in MICRO_BATCHES:
        for how in ("prequential", "as_served"):
            table.add_column(f"{how}\n{size:,} rows", justify="right")
    for name, sizes in figures.items():
        cells = [
            f"{sizes[size]['sequential'][how]:.3f} / {sizes[size]['averaged'][how]:.3f}"
            for size in MICRO_BATCHES
            for how in ("prequential", "as_served")
        ]
        table.add_row(name, *cells)
    return table


if __name__ == "__main__":
    typer.run(measure)
