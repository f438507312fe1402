import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.marks import curve, marks, over_window, recoveries


@given(st.lists(st.integers(0, 1), min_size=1, max_size=60), st.integers(1, 20))
def test_a_window_is_the_mean_of_its_last_rows(mark: list[int], rows: int) -> None:
    slow = [np.mean(mark[max(0, end - rows) : end]) for end in range(1, len(mark) + 1)]
    np.testing.assert_allclose(over_window(np.array(mark, float), rows), slow, atol=1e-12)


def test_marks_are_hits_or_distances() -> None:
    assert marks(np.array([1, 0, 2]), np.array([1, 1, 2]), 3).tolist() == [1, 0, 1]
    assert marks(np.array([1.5, -1.0]), np.array([1.0, 1.0]), None).tolist() == [0.5, 2.0]
    with pytest.raises(ValueError, match="answers must be finite; got 1 others"):
        marks(np.zeros(2), np.array([0.0, np.nan]), None)


def test_recovery_counts_from_the_drift_to_the_return() -> None:
    right, wrong = [1.0] * 100, [0.0] * 20
    mark = np.array(right + wrong + right)  # a window of 10 is whole again 10 rows after the last wrong one
    assert recoveries(mark, (100,), rows=10) == [20 + 10]


def test_a_drift_that_nobody_felt_takes_no_rows() -> None:
    assert recoveries(np.ones(100), (50, 80), rows=10) == [0, 0]
    assert recoveries(np.ones(100), (), rows=10) == []


def test_a_recovery_ends_at_the_next_drift() -> None:
    mark = np.array([1.0] * 50 + [0.0] * 30 + [0.0] * 20)
    assert recoveries(mark, (50, 80), rows=10) == [30, 0]  # at 80 there was nothing left to lose
    assert recoveries(mark[:60], (50, 80), rows=10) == [10]


def test_a_curve_ends_with_the_last_window() -> None:
    mark = np.random.default_rng(0).integers(0, 2, 3000).astype(float)
    points = curve(mark)
    assert len(points) <= 200
    assert points[0][0] == 500
    assert points[-1] == [3000, round(float(mark[-500:].mean()), 5)]
