"""What is measured: one pass of one learner over one stream is a task; tasks run side by side."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import ours, peers
from benchmarks.datasets import Dataset, dataset
from benchmarks.marks import curve, marks, recoveries

ONLY_MINI_BATCH = {"mnist70k": 32}  # at 1 a pass over images takes an hour
WIDEST = 256  # columns that River is given: its rows are dicts
FEW_ROWS = 5_000  # up to here the forest runs once a seed: its draw can decide, and a pass takes seconds


class Task(NamedTuple):
    """One pass."""

    stream: str
    who: str
    mini_batch: int  # 0: it is not ours to choose
    seed: int


def planned(
    data: Dataset, mini_batches: list[int], seeds: int, others: list[str], members: bool
) -> list[Task]:
    """Say what to run on a stream."""
    sizes = [ONLY_MINI_BATCH[data.name]] if data.name in ONLY_MINI_BATCH else mini_batches
    mine = [ours.DEFAULT, ours.PLAIN, *(ours.members(data) if members else [])]
    tasks = [Task(data.name, who, size, seed) for size in sizes for who in mine for seed in range(seeds)]
    tasks += [Task(data.name, who, 0, 0) for who in peers.BASELINES]
    for who in others:
        if who == peers.SKLEARN or data.x.shape[1] <= WIDEST:
            seeded = who == peers.SKLEARN or (who == peers.FOREST and len(data.y) <= FEW_ROWS)
            tasks += [Task(data.name, who, 0, seed) for seed in range(seeds if seeded else 1)]
    return tasks


def measured(task: Task, folder: Path) -> dict[str, Any]:
    """Run a task, and give its figures; `head` is the score over the rows that the forest gets."""
    data = dataset(task.stream, folder)
    mine = task.mini_batch > 0
    if mine:
        sizes = ours.MICRO_BATCHES if task.who in (ours.DEFAULT, ours.PLAIN) else ()
        learner = ours.learner_of(data, task.who, task.mini_batch, task.seed)
        answers = ours.run(learner, data, sizes)
    else:
        answers = peers.run(task.who, data, task.seed)
    mark = marks(data.y[: len(answers.prequential)], answers.prequential, data.classes)
    judged = min(data.judged, len(mark))
    served = {size: marks(data.y, answer, data.classes) for size, answer in answers.served.items()}
    return {
        **task._asdict(),
        "rows": len(mark),
        "score": float(np.mean(mark[-judged:])),
        "served": {size: float(np.mean(each[-judged:])) for size, each in served.items()},
        "head": float(np.mean(mark[: peers.FOREST_ROWS])),
        "rows_per_second": len(mark) / answers.seconds if answers.seconds else None,
        "recovery": recoveries(mark, data.drift_at) if data.classes else [],
        "curve": curve(mark) if task.seed == 0 else [],
    }


def task_of(result: dict[str, Any]) -> Task:
    """Give the task whose figures these are."""
    return Task(*(result[field] for field in Task._fields))


def results(
    tasks: list[Task], folder: Path, jobs: int, done: Callable[[Task], None] = lambda task: None
) -> Iterator[dict[str, Any]]:
    """Run tasks in `jobs` processes, and give what they measured as it comes; "error" says why it failed."""
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        running = {pool.submit(measured, task, folder): task for task in tasks}
        for future in as_completed(running):
            task = running[future]
            done(task)
            error = future.exception()
            if isinstance(error, Exception):
                yield {**task._asdict(), "error": f"{type(error).__name__}: {error}".splitlines()[0]}
            else:
                yield future.result()
