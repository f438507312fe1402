"""What `update = "averaged"` costs in accuracy: tasks that are averaged each micro-batch, beside one task."""

import os
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from benchmarks import datasets, ours
from benchmarks.quality import DATA
from benchmarks.tell import tell
from streaming_nn.nn.learner import Batch, Learner, State, close, initial, learn_part, report
from streaming_nn.versions.environment import THREADS

MICRO_BATCHES = (100, 1_000, 10_000)
MINI_BATCH = 32
STREAMS = "elec2,covtype20k,weather,sea50k,bananas,kdd99_10pct,fried,bike_hour"
SHORT = ",".join(datasets.SHORT)


def measure(
    data: Annotated[Path, typer.Option(help="Folder of NAME/stream.npz.")] = DATA,
    streams: Annotated[str, typer.Option(help="Names, with commas.")] = "",
    tasks: Annotated[int, typer.Option(min=2, help="Tasks that are averaged.")] = 4,
    mini_batch: Annotated[int, typer.Option(min=1, help="Rows of a step.")] = MINI_BATCH,
    jobs: Annotated[int, typer.Option(help="Processes; 0: one a core.")] = 0,
    short: Annotated[bool, typer.Option("--short", help="Two short generated streams.")] = False,
) -> None:
    """Learn each stream in micro-batches of several sizes, by one task and by several; one JSON line last."""
    names = (streams or (SHORT if short else STREAMS)).split(",")
    try:
        datasets.check(names, data)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    for variable in THREADS:  # before a process of ours has loaded NumPy
        os.environ[variable] = "1"
    plan = [(name, size, many) for name, size in product(names, MICRO_BATCHES) for many in (1, tasks)]
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
    tell(line, False, _table(figures, tasks, mini_batch))


def score(folder: Path, name: str, micro_batch: int, tasks: int, mini_batch: int) -> dict[str, float]:
    """Give prequential and as-served accuracy, or mean absolute error, over the whole stream."""
    stream = datasets.dataset(name, folder)
    learner = ours.learner_of(stream, ours.DEFAULT, mini_batch, 0)
    state: State[Any] = initial(learner)
    for start in range(0, len(stream.y), micro_batch):
        rows = np.arange(start, min(start + micro_batch, len(stream.y)))
        state = learned(learner, state, stream, [rows[task::tasks] for task in range(tasks)])
    figures = report(learner, state)
    figure = "mae" if stream.classes is None else "accuracy"
    return {answers: round(figures[answers]["total"][figure], 4) for answers in ("prequential", "served")}


def learned(
    learner: Learner[Any], state: State[Any], stream: datasets.Dataset, rows: list[Any]
) -> State[Any]:
    """Learn one micro-batch, each task its own rows, as a topic's partitions are learned."""
    parts = [learn_part(learner, state, [Batch(stream.x[own], stream.y[own])]) for own in rows]
    return close(learner, state, parts)


def _table(figures: dict[str, dict[int, dict[str, Any]]], tasks: int, mini_batch: int) -> Table:
    title = f"one task / {tasks} averaged, mini-batch {mini_batch}; accuracy, or MAE of targets"
    table = Table(title=title, title_justify="left")
    table.add_column("stream")
    for size in MICRO_BATCHES:
        for answers in ("prequential", "served"):
            table.add_column(f"{answers}\n{size:,} rows", justify="right")
    for name, sizes in figures.items():
        cells = [
            f"{sizes[size]['sequential'][answers]:.3f} / {sizes[size]['averaged'][answers]:.3f}"
            for size in MICRO_BATCHES
            for answers in ("prequential", "served")
        ]
        table.add_row(name, *cells)
    return table


if __name__ == "__main__":
    typer.run(measure)
