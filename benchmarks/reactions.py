"""What is worth doing about a drift: each `on_drift` over the streams whose drifts are known."""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from benchmarks import datasets, ours
from benchmarks.marks import marks, recoveries
from benchmarks.quality import DATA
from benchmarks.tell import Json, tell
from streaming_nn.nn.ensemble import REACTIONS, Ensemble
from streaming_nn.nn.learner import Batch, State, initial, report, test_then_train
from streaming_nn.versions.environment import THREADS, describe

AFTER = 1_000  # rows from a drift on over which accuracy is told
SHORT = "sea-short"


def measure(
    data: Annotated[Path, typer.Option(help="Folder of NAME/stream.npz.")] = DATA,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    mini_batch: Annotated[int, typer.Option(min=1, help="Rows of a step.")] = 1,
    micro_batch: Annotated[int, typer.Option(min=1, help="Rows between reactions.")] = 500,
    jobs: Annotated[int, typer.Option(help="Processes; 0: one a core.")] = 0,
    short: Annotated[bool, typer.Option("--short", help="One short generated stream, one seed.")] = False,
    json_: Json = False,
) -> None:
    """Learn each stream with each reaction to a drift; a table, and one JSON line last."""
    seeds, names = (1, [SHORT]) if short else (seeds, drifting(data))
    for variable in THREADS:  # before a process of ours has loaded NumPy
        os.environ[variable] = "1"
    plan = list(product(names, REACTIONS, range(seeds)))
    with ProcessPoolExecutor(jobs or os.cpu_count() or 1, get_context("spawn")) as pool:
        running = {each: pool.submit(score, data, *each, mini_batch, micro_batch) for each in plan}
        found = {each: future.result() for each, future in running.items()}
    figures = {
        name: {how: means([found[name, how, seed] for seed in range(seeds)]) for how in REACTIONS}
        for name in names
    }
    line = {"benchmark": "reactions", "seeds": seeds, "mini_batch": mini_batch, "micro_batch": micro_batch}
    line |= {"streams": figures, "environment": describe()}
    tell(line, json_, _table(figures, mini_batch, micro_batch))


def drifting(folder: Path) -> list[str]:
    """Name the streams with known drifts: those of the folder, then the generated ones."""
    known = {*datasets.KNOWN_DRIFT, *datasets.DRIFTING}
    return [name for name in datasets.names(folder) if name in known]


def score(
    folder: Path, name: str, on_drift: str, seed: int, mini_batch: int, micro_batch: int
) -> dict[str, Any]:
    """Learn a stream once, and give its figures, prequential.

    They are the accuracy over all rows and over those after each drift, the rows until it is what it was,
    and the drifts found.
    """
    data = datasets.dataset(name, folder)
    learner = ours.learner_of(data, ours.DEFAULT, mini_batch, seed)
    assert isinstance(learner, Ensemble)
    learner = replace(learner, on_drift=on_drift)
    state: State[Any] = initial(learner)
    answers: list[Any] = []
    for start in range(0, len(data.y), micro_batch):
        rows = slice(start, start + micro_batch)
        batch = Batch(data.x[rows], data.y[rows])
        state, _ = test_then_train(learner, state, [batch], lambda output: answers.append(output.argmax(1)))
    mark = marks(data.y, np.concatenate(answers), data.classes)
    return {
        "accuracy": float(mark.mean()),
        "after": [float(mark[row : row + AFTER].mean()) for row in data.drift_at],
        "recovery": recoveries(mark, data.drift_at),
        "found": report(learner, state)["drifts"],
    }


def means(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Give the means over the seeds, and the standard deviation of the accuracy."""
    accuracies = [run["accuracy"] for run in runs]
    by_drift = {
        figure: [round(fmean(each), 4) for each in zip(*(run[figure] for run in runs), strict=True)]
        for figure in ("after", "recovery")
    }
    return {
        "accuracy": round(fmean(accuracies), 4),
        "spread": round(stdev(accuracies), 4) if len(runs) > 1 else 0.0,
        **by_drift,
        "found": round(fmean(run["found"] for run in runs), 1),
    }


def _table(figures: dict[str, dict[str, dict[str, Any]]], mini_batch: int, micro_batch: int) -> Table:
    title = f"mini-batch {mini_batch}, a reaction after {micro_batch:,} rows at the soonest; means over seeds"
    after = f"{AFTER:,} rows after each drift"
    table = Table("stream", "on_drift", "accuracy", after, "rows until it is back", "found", title=title)
    for name, ways in figures.items():
        for how, each in ways.items():
            table.add_row(
                name,
                how,
                f"{each['accuracy']:.4f} ± {each['spread']:.4f}",
                ", ".join(f"{share:.3f}" for share in each["after"]),
                ", ".join(f"{rows:,.0f}" for rows in each["recovery"]),
                f"{each['found']:.1f}",
            )
    return table


if __name__ == "__main__":
    typer.run(measure)
