from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import learners
from benchmarks.datasets import SHORT, Dataset, dataset
from benchmarks.scores import score_rows
from streaming_nn.nn import metrics
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.learner import Batch, initial, test_then_train

pytestmark = pytest.mark.commit


def short(name: str) -> Dataset:
    return dataset(name, Path())


def stream_report(learner: Any, data: Dataset, micro_batch: int) -> dict[str, Any]:
    """Return a stream's own metrics, with a version every `micro_batch` rows."""
    state = initial(learner)
    for start in range(0, len(data.y), micro_batch):
        rows = slice(start, start + micro_batch)
        state, _ = test_then_train(learner, state, [Batch(data.x[rows], data.y[rows])])
    return metrics.report(state.metrics)


@pytest.mark.merge
@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("learner_name", ["ensemble", "mlp"])
@pytest.mark.parametrize(("mini_batch", "micro_batch"), [(1, 100), (10, 200), (32, 96), (32, 960)])
def test_scores_are_those_of_a_stream(
    name: str, learner_name: str, mini_batch: int, micro_batch: int
) -> None:
    data = short(name)
    learner = learners.learner_for(data, learner_name, mini_batch, 0)
    predictions = learners.run(learner, data, (micro_batch,))
    served = stream_report(learner, data, micro_batch)
    report = served if data.classes else stream_report(learner, data, mini_batch)
    figure = "accuracy" if data.classes else "mae"
    for how, ours, expected in (
        ("prequential", predictions.prequential, report),
        ("as_served", predictions.as_served[micro_batch], served),
    ):
        mean = float(score_rows(data.y, ours, data.classes).mean())
        assert mean == pytest.approx(expected[how]["cumulative"][figure], rel=1e-4), how


@pytest.mark.parametrize(("mini_batch", "micro_batch"), [(32, 100), (8, 100), (1, 7), (64, 10)])
def test_cuts_never_break_a_mini_batch(mini_batch: int, micro_batch: int) -> None:
    cuts = learners.cut(1000, micro_batch, mini_batch)
    assert cuts[0][0] == 0
    assert cuts[-1][1] == 1000
    assert all(before[1] == after[0] for before, after in pairwise(cuts))
    assert all(start % mini_batch == 0 for start, _ in cuts)
    starts = [start for start, _ in cuts if learners.starts_micro_batch(start, micro_batch * 3, mini_batch)]
    expected = {end // mini_batch * mini_batch for end in range(0, 1000, micro_batch * 3)}
    assert starts == sorted(expected)


def test_members_are_those_of_the_default_ensemble() -> None:
    data = short("sea-short")
    default = learners.learner_for(data, learners.DEFAULT, 8, 3)
    assert isinstance(default, Ensemble)
    names = learners.members(data)
    assert len(names) == len(default.described)
    assert all(map(learners.is_member, names))
    assert not any(map(learners.is_member, (learners.DEFAULT, learners.PLAIN)))
    alone = [learners.learner_for(data, name, 8, 3) for name in names]
    assert [each.described for each in alone] == [(member,) for member in default.described]
    assert all(replace(each, members=None) == default for each in alone)
    assert all(np.isfinite(learners.run(each, data, ()).prequential).all() for each in alone[:1])
