import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scores import curve, over_window, recoveries, score_rows

pytestmark = pytest.mark.commit


@given(st.lists(st.integers(0, 1), min_size=1, max_size=60), st.integers(1, 20))
def test_a_window_is_the_mean_of_its_last_rows(scores: list[int], rows: int) -> None:
    slow = [np.mean(scores[max(0, end - rows) : end]) for end in range(1, len(scores) + 1)]
    np.testing.assert_allclose(over_window(np.array(scores, float), rows), slow, atol=1e-12)


def test_scores_are_hits_or_absolute_errors() -> None:
    assert score_rows(np.array([1, 0, 2]), np.array([1, 1, 2]), 3).tolist() == [1, 0, 1]
    assert score_rows(np.array([1.5, -1.0]), np.array([1.0, 1.0]), None).tolist() == [0.5, 2.0]
    with pytest.raises(ValueError, match="predictions must be finite; got 1 others"):
        score_rows(np.zeros(2), np.array([0.0, np.nan]), None)


def test_recovery_is_counted_from_the_drift() -> None:
    right, wrong = [1.0] * 100, [0.0] * 20
    scores = np.array(right + wrong + right)  # a window of 10 recovers 10 rows after the last wrong one
    assert recoveries(scores, (100,), rows=10) == [20 + 10]


def test_a_drift_without_effect_takes_no_rows() -> None:
    assert recoveries(np.ones(100), (50, 80), rows=10) == [0, 0]
    assert recoveries(np.ones(100), (), rows=10) == []


def test_a_recovery_ends_at_the_next_drift() -> None:
    scores = np.array([1.0] * 50 + [0.0] * 30 + [0.0] * 20)
    assert recoveries(scores, (50, 80), rows=10) == [30, 0]  # at 80 the accuracy could not fall further
    assert recoveries(scores[:60], (50, 80), rows=10) == [10]


def test_a_curve_ends_with_the_last_window() -> None:
    scores = np.random.default_rng(0).integers(0, 2, 3000).astype(float)
    points = curve(scores)
    assert len(points) <= 200
    assert points[0][0] == 500
    assert points[-1] == [3000, round(float(scores[-500:].mean()), 5)]
