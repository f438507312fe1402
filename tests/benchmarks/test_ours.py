from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import ours
from benchmarks.datasets import SHORT, Dataset, dataset
from benchmarks.marks import marks
from streaming_nn.nn import metrics
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.learner import Batch, initial, test_then_train


def short(name: str) -> Dataset:
    return dataset(name, Path())


def streamed(learner: Any, data: Dataset, micro_batch: int) -> dict[str, Any]:
    """What a stream's own metrics say, with a version each `micro_batch` rows."""
    state = initial(learner)
    for start in range(0, len(data.y), micro_batch):
        rows = slice(start, start + micro_batch)
        state, _ = test_then_train(learner, state, [Batch(data.x[rows], data.y[rows])])
    return metrics.report(state.metrics)


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("who", ["ensemble", "mlp"])
@pytest.mark.parametrize(("mini_batch", "micro_batch"), [(1, 100), (10, 200), (32, 96), (32, 960)])
def test_figures_are_those_of_a_stream(name: str, who: str, mini_batch: int, micro_batch: int) -> None:
    data = short(name)
    learner = ours.learner_of(data, who, mini_batch, 0)
    answers = ours.run(learner, data, (micro_batch,))
    report = streamed(learner, data, micro_batch)
    figure = "accuracy" if data.classes else "mae"
    for way, mine in (("prequential", answers.prequential), ("served", answers.served[micro_batch])):
        mean = float(marks(data.y, mine, data.classes).mean())
        assert mean == pytest.approx(report[way]["total"][figure], rel=1e-4), way


@pytest.mark.parametrize(("mini_batch", "micro_batch"), [(32, 100), (8, 100), (1, 7), (64, 10)])
def test_cuts_never_break_a_mini_batch(mini_batch: int, micro_batch: int) -> None:
    cuts = ours.cuts(1000, micro_batch, mini_batch)
    assert cuts[0][0] == 0
    assert cuts[-1][1] == 1000
    assert all(before[1] == after[0] for before, after in pairwise(cuts))
    assert all(start % mini_batch == 0 for start, _ in cuts)
    begun = [start for start, _ in cuts if ours.begins(start, micro_batch * 3, mini_batch)]
    wanted = {end // mini_batch * mini_batch for end in range(0, 1000, micro_batch * 3)}
    assert begun == sorted(wanted)


def test_members_are_those_of_the_default_portfolio() -> None:
    data = short("sea-short")
    default = ours.learner_of(data, ours.DEFAULT, 8, 3)
    assert isinstance(default, Ensemble)
    names = ours.members(data)
    assert len(names) == len(default.follow) + len(default.replay)
    assert all(map(ours.is_member, names))
    assert not any(map(ours.is_member, (ours.DEFAULT, ours.PLAIN)))
    alone = [ours.learner_of(data, name, 8, 3) for name in names]
    assert [each.follow for each in alone if each.follow] == [(rate,) for rate in default.follow]
    assert [each.replay for each in alone if each.replay] == [(pair,) for pair in default.replay]
    assert all(replace(each, follow=default.follow, replay=default.replay) == default for each in alone)
    assert all(np.isfinite(ours.run(each, data, ()).prequential).all() for each in alone[:1])
