"""Tasks: one task is one pass of one learner over one stream; tasks run in parallel."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import learners, peers
from benchmarks.datasets import Dataset, dataset
from benchmarks.scores import curve, recoveries, score_rows

ONLY_MINI_BATCH = {"mnist70k": 32}  # at 1 a pass over images takes an hour
FEW_ROWS = 5_000  # up to here the forest runs once per seed: its draw can decide, and a pass takes seconds


class Task(NamedTuple):
    """One pass."""

    stream: str
    learner: str
    mini_batch: int  # 0: a peer, which has no such option
    seed: int


def plan(data: Dataset, mini_batches: list[int], seeds: int, others: list[str], members: bool) -> list[Task]:
    """Return the tasks of a stream."""
    sizes = [ONLY_MINI_BATCH[data.name]] if data.name in ONLY_MINI_BATCH else mini_batches
    ours = [learners.DEFAULT, learners.PLAIN, *(learners.members(data) if members else [])]
    tasks = [Task(data.name, name, size, seed) for size in sizes for name in ours for seed in range(seeds)]
    tasks += [Task(data.name, name, 0, 0) for name in peers.BASELINES]
    for name in others:
        if peers.learns(name, data):
            seeded = name == peers.SKLEARN or (name == peers.FOREST and len(data.y) <= FEW_ROWS)
            tasks += [Task(data.name, name, 0, seed) for seed in range(seeds if seeded else 1)]
    return tasks


def measure(task: Task, folder: Path) -> dict[str, Any]:
    """Run a task and return its results; `head` is the score over the rows that the forest gets."""
    data = dataset(task.stream, folder)
    if task.mini_batch:
        sizes = learners.MICRO_BATCHES if task.learner in (learners.DEFAULT, learners.PLAIN) else ()
        learner = learners.learner_for(data, task.learner, task.mini_batch, task.seed)
        predictions = learners.run(learner, data, sizes)
    else:
        predictions = peers.run(task.learner, data, task.seed)
    scores = score_rows(data.y[: len(predictions.prequential)], predictions.prequential, data.classes)
    last = min(data.scored_rows, len(scores))
    as_served = {size: score_rows(data.y, y, data.classes) for size, y in predictions.as_served.items()}
    return {
        **task._asdict(),
        "rows": len(scores),
        "score": float(np.mean(scores[-last:])),
        "as_served": {size: float(np.mean(each[-last:])) for size, each in as_served.items()},
        "head": float(np.mean(scores[: peers.FOREST_ROWS])),
        "rows_per_second": len(scores) / predictions.seconds if predictions.seconds else None,
        "recovery": recoveries(scores, data.drift_at) if data.classes else [],
        "led": {name: rows / len(scores) for name, rows in predictions.led.items()},
        "curve": curve(scores) if task.seed == 0 else [],
    }


def task_of(result: dict[str, Any]) -> Task:
    """Return the task that these results belong to."""
    return Task(*(result[field] for field in Task._fields))


def results(
    tasks: list[Task], folder: Path, jobs: int, finished: Callable[[Task], None] = lambda task: None
) -> Iterator[dict[str, Any]]:
    """Run tasks in `jobs` processes and yield their results as they finish; "error": why a task failed."""
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        running = {pool.submit(measure, task, folder): task for task in tasks}
        for future in as_completed(running):
            task = running[future]
            finished(task)
            error = future.exception()
            if isinstance(error, Exception):
                yield {**task._asdict(), "error": f"{type(error).__name__}: {error}".splitlines()[0]}
            else:
                yield future.result()
