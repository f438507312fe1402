"""The tasks of a stream: which learners run, and how often."""

from collections import Counter

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.datasets import Dataset
from benchmarks.tasks import plan

pytestmark = pytest.mark.commit

OTHERS = [*peers.RIVER, peers.SKLEARN, peers.FOREST]


def stream(rows: int, columns: int) -> Dataset:
    return Dataset("some", np.zeros((rows, columns), np.float32), np.zeros(rows, np.int32), 2)


@pytest.mark.parametrize(("rows", "forests"), [(5_000, 3), (5_001, 1)])
def test_seeded_learners_run_once_per_seed_and_the_forest_if_it_is_cheap(rows: int, forests: int) -> None:
    tasks = plan(stream(rows, 4), [1, 8], 3, OTHERS, members=False)
    assert len(set(tasks)) == len(tasks)
    runs = Counter((task.learner, task.mini_batch) for task in tasks)
    ours = {(name, size): 3 for name in ("ensemble", "mlp") for size in (1, 8)}
    once = {(name, 0): 1 for name in (*peers.BASELINES, *peers.RIVER)}
    assert runs == {**ours, **once, (peers.SKLEARN, 0): 3, (peers.FOREST, 0): forests}


def test_river_gets_no_wide_rows() -> None:
    wide = plan(stream(10, 257), [1], 1, OTHERS, members=False)
    assert {task.learner for task in wide if not task.mini_batch} == {*peers.BASELINES, peers.SKLEARN}
