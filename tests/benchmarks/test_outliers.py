import numpy as np
import pytest
from running import short_line

from benchmarks import outliers

pytestmark = pytest.mark.commit


@pytest.mark.nightly
def test_the_short_form_prints_only_its_line() -> None:
    line = short_line("outliers", "--learners", "ensemble")
    assert (line["benchmark"], line["streams"]) == ("outliers", 2)
    assert set(line["learners"]["ensemble"]) == set(outliers.SHORT)


def test_each_stream_differs_from_its_original_where_it_is_not_scored_or_in_all_rows() -> None:
    names = []
    for data, scored in outliers.spoilt_streams():
        original = outliers.clean(data.classes is None)
        changed = (data.x != original.x).any(axis=1) | (data.y != original.y)
        names.append(data.name)
        assert changed.any(), data.name
        assert 1_500 < scored.sum() <= outliers.SCORED, data.name
        if not data.name.startswith(("offset", "scale", "log", "Cauchy")):
            assert not (changed & scored).any(), data.name
        np.testing.assert_array_equal(data.x[:, 1:], original.x[:, 1:])
    assert len(names) == len(set(names)) >= 20
    assert {"value 1e+30 at 1", "target -999 in 20%", "constant, 1e+12, moves at 300"} <= set(names)


def test_one_value_is_replaced_at_its_row() -> None:
    (spoilt,) = (each for each in outliers.spoilt_streams() if each.data.name == "value 1e+06 at 150")
    original = outliers.clean(False)
    assert np.argwhere(spoilt.data.x != original.x).tolist() == [[149, 0]]
    assert spoilt.data.x[149, 0] == 1e6
    assert np.flatnonzero(spoilt.scored)[[0, -1]].tolist() == [2150, 4149]


@pytest.mark.parametrize(
    ("before", "after", "classes", "met"),
    [(0.9, 0.891, 2, True), (0.9, 0.889, 2, False), (1.0, 1.09, None, True), (1.0, 1.11, None, False)],
)
def test_the_target(before: float, after: float, classes: int | None, met: bool) -> None:
    assert outliers.is_met(before, after, classes) is met


def test_a_learner_that_failed_misses_its_target() -> None:
    rows, y = np.ones(2, bool), np.zeros(2)
    assert not outliers.is_met(0.5, outliers.score(None, y, rows, 2), 2)
    assert not outliers.is_met(0.5, outliers.score(np.array([np.nan, 0]), y, rows, None), None)
    assert outliers.score(np.array([1.0, 0]), y, rows, None) == 0.5
