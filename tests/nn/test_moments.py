from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streaming_nn.nn import moments
from streaming_nn.nn.moments import Moments

pytestmark = pytest.mark.commit

columns = arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.just(3)),
    elements=st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False),
)
NOTHING = Moments(np.zeros(3), np.zeros(3), np.zeros(3))


def of(x: np.ndarray) -> Moments:
    """Return the moments of all rows at once; NaN is left out."""
    wide = x.astype(np.float64)
    there = ~np.isnan(wide)
    rows = there.sum(axis=0).astype(np.float64)
    mean = np.where(there, wide, 0).sum(axis=0) / np.maximum(rows, 1)
    return Moments(rows, mean, (np.where(there, wide - mean, 0) ** 2).sum(axis=0))


def same(a: Moments, b: Moments, *seen: np.ndarray) -> None:
    scale = max([1.0, *(float(np.nanmax(np.abs(x), initial=0)) for x in seen)])
    assert a.rows.tolist() == b.rows.tolist()
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-9, atol=1e-9 * scale)
    np.testing.assert_allclose(a.m2, b.m2, rtol=1e-7, atol=1e-8 * scale**2)


@settings(max_examples=30, deadline=None)
@given(columns, columns, columns)
def test_merge_is_associative_and_the_same_as_seeing_all(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    every, (one, two, three) = np.concatenate([a, b, c]), map(of, (a, b, c))
    left = moments.merge(moments.merge(one, two), three)
    same(left, moments.merge(one, moments.merge(two, three)), every)
    same(left, of(every), every)


@settings(max_examples=30, deadline=None)
@given(columns, columns)
def test_subtract_is_the_inverse_of_merge(a: np.ndarray, b: np.ndarray) -> None:
    same(moments.subtract(moments.merge(of(a), of(b)), of(a)), of(b), a, b)


@settings(max_examples=30, deadline=None)
@given(columns, columns, columns)
def test_tasks_with_a_common_start_do_not_count_it_twice(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    start, tasks = of(a), [of(np.concatenate([a, each])) for each in (b, c)]
    same(moments.combine(start, tasks), of(np.concatenate([a, b, c])), a, b, c)


def test_each_column_is_merged_by_its_own_rows() -> None:
    rng = np.random.default_rng(0)
    start, one, two = (rng.normal(5, 2, size=(20, 3)) for _ in range(3))
    start[:, 0] = one[:, 0] = np.nan  # the first values of a column come in one task
    one[:, 1] = two[:, 1] = np.nan  # no new ones at all
    tasks = [of(np.concatenate([start, each])) for each in (one, two)]
    merged = moments.combine(of(start), tasks)
    assert merged.rows.tolist() == [20, 20, 60]
    same(merged, of(np.concatenate([start, one, two])), start, one, two)


def bits(state: Moments) -> list[bytes]:
    return [part.tobytes() for part in state]


def test_merging_nothing_changes_nothing() -> None:
    state = of(np.array([[1, 2, 0.1], [3, 5, 1e6]], np.float32))
    for merged in (moments.merge(state, NOTHING), moments.merge(NOTHING, state)):
        assert bits(merged) == bits(state)
    assert bits(moments.merge(NOTHING, NOTHING)) == bits(NOTHING)
    assert bits(moments.subtract(state, state)) == bits(NOTHING)
    assert bits(moments.combine(state, [state, state])) == bits(state)
    assert bits(moments.combine(NOTHING, [NOTHING])) == bits(NOTHING)


@pytest.mark.parametrize("value", [0.1, 1e-30, 3e7, -1e38])
def test_a_constant_column_keeps_no_deviation(value: float) -> None:
    x = np.full((60, 3), value, np.float32).astype(np.float64)
    start = Moments(np.full(3, 20.0), x[0], np.zeros(3))
    tasks = [Moments(np.full(3, n), x[0], np.zeros(3)) for n in (27.0, 50.0)]
    merged = moments.combine(start, tasks)
    assert merged.rows.tolist() == [57] * 3
    assert merged.m2.tolist() == [0] * 3
    assert merged.mean.tolist() == x[0].tolist()


def test_rounding_makes_no_negative_squares() -> None:
    now = Moments(np.full(3, 30.0), np.full(3, 1e6), np.array([1.0, 1e-9, 5.0]))
    before = Moments(np.full(3, 20.0), np.full(3, 1e6), np.array([1.0 + 1e-9, 2e-9, 4.0]))
    assert moments.subtract(now, before).m2.tolist() == [0, 0, 1]


def test_largest_float32_values_stay_finite() -> None:
    a = of(np.array([[3e38, -3e38, 0], [-3e38, -3e38, 3e38]], np.float32))
    b = of(np.array([[3e38, 3e38, 3e38]], np.float32))
    merged = moments.combine(a, [moments.merge(a, b), moments.merge(a, b)])
    assert all(np.isfinite(part).all() for part in merged)
    assert np.isfinite(moments.deviation(merged)).all()


def test_the_deviation_is_that_of_numpy_and_0_without_rows() -> None:
    x = np.random.default_rng(0).normal(1000, 0.5, (500, 3)).astype(np.float32)
    np.testing.assert_allclose(moments.deviation(of(x)), x.std(axis=0, dtype=np.float64))
    assert moments.deviation(NOTHING).tolist() == [0] * 3


def test_what_came_in_is_not_changed() -> None:
    one, two = of(np.ones((3, 3))), of(np.arange(6.0).reshape(2, 3))
    before = bits(one), bits(two)
    moments.merge(one, two), moments.subtract(one, two), moments.combine(one, [two, one])
    assert (bits(one), bits(two)) == before


def clusters_of(near: Moments, far: Moments = NOTHING, votes: float = 0) -> np.ndarray:
    return np.stack([*near, *far, np.full(3, float(votes))])


def test_clusters_of_tasks_are_those_of_all_rows() -> None:
    a, b, c = (np.random.default_rng(seed).normal(size=(50, 3)) for seed in range(3))
    tasks = [clusters_of(of(np.concatenate([a, new]))) for new in (b, c)]
    combined = moments.combine_clusters(clusters_of(of(a)), tasks, 20)
    same(Moments(*combined[:3]), of(np.concatenate([a, b, c])), a, b, c)
    assert not combined[3:].any()
    same(moments.scaling(combined), of(np.concatenate([a, b, c])), a, b, c)


def test_far_values_of_tasks_stay_apart() -> None:
    a, b = (np.random.default_rng(seed).normal(size=(50, 3)) for seed in range(2))
    far = of(np.full((4, 3), 1e9))
    tasks = [clusters_of(of(np.concatenate([a, b])), far, 4), clusters_of(of(a), of(np.full((2, 3), 1e9)), 2)]
    combined = moments.combine_clusters(clusters_of(of(a)), tasks, 20)
    same(Moments(*combined[:3]), of(np.concatenate([a, b])), a, b)
    assert combined[3:].tolist() == [[6] * 3, [1e9] * 3, [0] * 3, [4] * 3]


def test_a_task_that_saw_a_wild_value_alone_does_not_scale_the_others() -> None:
    a = np.random.default_rng(1).normal(size=(50, 3))
    for tasks in permutations([clusters_of(of(a)), clusters_of(of(np.full((1, 3), 1e30)))]):
        same(moments.scaling(moments.combine_clusters(clusters_of(NOTHING), tasks, 20)), of(a), a)


def test_a_column_whose_values_a_task_has_replaced_begins_with_its() -> None:
    a, b = np.random.default_rng(1).normal(size=(2, 50, 3))
    start, replaced = of(a), of(b[:40] * 1e6 + 1e9)
    assert not moments.contains(replaced, start).any()
    assert moments.contains(of(np.concatenate([a, b])), start).all()
    combined = moments.combine(start, [replaced, moments.merge(start, of(b[:10]))], 20)
    assert bits(combined) == bits(replaced)


def test_rare_values_are_counted_by_all_tasks() -> None:
    zeros, ones = of(np.zeros((90, 3))), of(np.ones((5, 3)))
    start = clusters_of(zeros, ones)
    task = clusters_of(of(np.zeros((190, 3))), of(np.ones((10, 3))))
    combined = moments.combine_clusters(start, [task, task], 20)
    assert combined[[0, 3]].tolist() == [[290] * 3, [15] * 3]
    expected = np.repeat([[0.0] * 3, [1.0] * 3], [290, 15], axis=0)
    same(moments.scaling(combined), of(expected), expected)


def test_tasks_that_met_two_values_in_another_order_have_both() -> None:
    zeros, ones = of(np.zeros((9, 3))), of(np.ones((5, 3)))
    combined = moments.combine_clusters(
        clusters_of(NOTHING), [clusters_of(zeros, ones), clusters_of(ones, zeros)], 20
    )
    assert (moments.scaling(combined).m2 > 0).all()
