"""The warning of a width that makes tens of megabytes per second."""

import logging
from itertools import pairwise
from typing import Any

import pytest
from paths import ROOT

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import initial
from streaming_nn.nn.state_dict import flatten
from streaming_nn.spark.train import write_rate
from streaming_nn.spark.train.write_rate import LIMIT, WriteRate

pytestmark = pytest.mark.commit


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(write_rate, "time", clock)
    return clock


def run(clock: Clock, sizes: list[tuple[float, int]]) -> None:
    rate = WriteRate()
    for (before, _), (at, size) in pairwise([(0.0, 0), *sizes]):
        clock.now += at - before
        rate.committed(size)


def size_of(**options: Any) -> int:
    return sum(tensor.nbytes for tensor in flatten(initial(learner_from(options))).values())


def test_the_documentation_has_the_sizes_of_versions() -> None:
    text = (ROOT / "docs" / "versions.md").read_text("utf-8")
    usual = size_of(inputs=64, classes=list(range(10)))
    assert f"64 features and 10 classes writes {usual / 1e6:.1f} MB per version" in text
    assert f"{round(usual * 86_400, -10) // 10**9} GB per day" in text
    assert f"10 GB hold about {int(10e9 / usual) // 100 * 100:,} versions" in text
    assert f"10,000 columns is {size_of(inputs=10_000, classes=[0, 1]) / 1e6:.0f} MB" in text
    assert f"({size_of(inputs=10_000, classes=[0, 1], learner='mlp') / 1e6:.0f} MB) they are" in text


# scikit-learn#6818
def test_ten_thousand_columns_warn_once_and_sixty_four_never(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, write_rate.__name__)
    for inputs in (64, 10_000):
        caplog.clear()
        size = size_of(inputs=inputs, classes=[0, 1])
        expected = [f"versions take {size / 1e6:.0f} MB per second, {size / 1e6:.1f} MB each"][
            : inputs // 10_000
        ]
        run(clock, [(float(second), size) for second in range(1, 60)])
        assert [record.getMessage().split(":")[0] for record in caplog.records] == expected
    assert "train.trigger" in caplog.text
    assert "learner.learner = 'mlp'" in caplog.text


@pytest.mark.parametrize(
    ("sizes", "warned"),
    [
        ([(1.0, 100 * LIMIT)], False),  # a run that is short
        ([(10.0, 10 * LIMIT)], False),
        ([(10.0, 10 * LIMIT + 1)], True),
        ([(20.0, 10 * LIMIT), (30.0, 10 * LIMIT)], False),
        ([(20.0, 10 * LIMIT), (30.0, 11 * LIMIT)], True),  # it became wider
        ([(3600.0, 10 * LIMIT)], False),  # it waited for records
    ],
)
def test_the_rate_is_that_of_a_window(
    sizes: list[tuple[float, int]], warned: bool, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    run(clock, sizes)
    assert bool(caplog.records) == warned
