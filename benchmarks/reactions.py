"""What to do about a drift: each `on_drift` on the streams with known drifts."""

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

from benchmarks import datasets, learners
from benchmarks.output import Json, print_results
from benchmarks.quality import DATA
from benchmarks.scores import recoveries, score_rows
from benchmarks.threads import one_thread
from streaming_nn.nn.ensemble import REACTIONS, Ensemble
from streaming_nn.nn.learner import Batch, State, initial, report, test_then_train
from streaming_nn.versions.environment import describe

AFTER = 1_000  # rows after a drift over which accuracy is measured
SHORT = "sea-short"


def measure(
    data: Annotated[Path, typer.Option(help="Directory of NAME/stream.npz.")] = DATA,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    mini_batch: Annotated[int, typer.Option(min=1, help="Rows per step.")] = 1,
    micro_batch: Annotated[int, typer.Option(min=1, help="Rows between reactions.")] = 500,
    jobs: Annotated[int, typer.Option(help="Processes; 0: one per core.")] = 0,
    short: Annotated[bool, typer.Option("--short", help="One short generated stream, one seed.")] = False,
    json_: Json = False,
) -> None:
    """Learn each stream with each reaction to a drift; a table, and one JSON line last."""
    seeds, names = (1, [SHORT]) if short else (seeds, drifting(data))
    one_thread()
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
    print_results(line, json_, _table(figures, mini_batch, micro_batch))


def drifting(folder: Path) -> list[str]:
    """Return the names of the streams with known drifts: those of the directory, then the generated ones."""
    known = {*datasets.KNOWN_DRIFT, *datasets.DRIFTING}
    return [name for name in datasets.names(folder) if name in known]


def score(
    folder: Path, name: str, on_drift: str, seed: int, mini_batch: int, micro_batch: int
) -> dict[str, Any]:
    """Learn a stream once and return its prequential figures.

    They are the accuracy over all rows and over those after each drift, the rows until it has recovered,
    and the drifts detected.
    """
    data = datasets.dataset(name, folder)
    learner = learners.learner_for(data, learners.DEFAULT, mini_batch, seed)
    assert isinstance(learner, Ensemble)
    learner = replace(learner, on_drift=on_drift)
    state: State[Any] = initial(learner)
    predictions: list[Any] = []
    for start in range(0, len(data.y), micro_batch):
        rows = slice(start, start + micro_batch)
        batch = Batch(data.x[rows], data.y[rows])
        state, _ = test_then_train(
            learner, state, [batch], lambda found: predictions.append(found.output.argmax(1))
        )
    scores = score_rows(data.y, np.concatenate(predictions), data.classes)
    return {
        "accuracy": float(scores.mean()),
        "after": [float(scores[row : row + AFTER].mean()) for row in data.drift_at],
        "recovery": recoveries(scores, data.drift_at),
        "detected": report(learner, state)["drifts"],
    }


def means(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the means over the seeds, and the standard deviation of the accuracy."""
    accuracies = [run["accuracy"] for run in runs]
    by_drift = {
        figure: [round(fmean(each), 4) for each in zip(*(run[figure] for run in runs), strict=True)]
        for figure in ("after", "recovery")
    }
    return {
        "accuracy": round(fmean(accuracies), 4),
        "spread": round(stdev(accuracies), 4) if len(runs) > 1 else 0.0,
        **by_drift,
        "detected": round(fmean(run["detected"] for run in runs), 1),
    }


def _table(figures: dict[str, dict[str, dict[str, Any]]], mini_batch: int, micro_batch: int) -> Table:
    title = f"mini-batch {mini_batch}, at most one reaction per {micro_batch:,} rows; means over seeds"
    after = f"{AFTER:,} rows after each drift"
    table = Table("stream", "on_drift", "accuracy", after, "rows until recovery", "detected", title=title)
    for name, reactions in figures.items():
        for how, each in reactions.items():
            table.add_row(
                name,
                how,
                f"{each['accuracy']:.4f} ± {each['spread']:.4f}",
                ", ".join(f"{share:.3f}" for share in each["after"]),
                ", ".join(f"{rows:,.0f}" for rows in each["recovery"]),
                f"{each['detected']:.1f}",
            )
    return table


if __name__ == "__main__":
    typer.run(measure)
