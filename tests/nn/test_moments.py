import numpy as np
import pytest
from hypothesis import given
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


def seen(x: np.ndarray, *cuts: int) -> Moments:
    state = moments.init(x.shape[1])
    for part in np.split(x, cuts):
        state = moments.update(state, part)
    return state


def same(a: Moments, b: Moments, scale: float) -> None:
    assert a.rows == b.rows
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-9, atol=1e-9 * scale)
    np.testing.assert_allclose(a.m2, b.m2, rtol=1e-7, atol=1e-9 * scale**2)


@given(columns, st.integers(0, 40))
def test_moments_are_those_of_numpy(x: np.ndarray, cut: int) -> None:
    state, wide, scale = seen(x, cut), x.astype(np.float64), max(1.0, float(np.abs(x).max()))
    assert state.rows == len(x)
    np.testing.assert_allclose(state.mean, wide.mean(axis=0), rtol=1e-9, atol=1e-9 * scale)
    np.testing.assert_allclose(state.m2 / len(x), wide.var(axis=0), rtol=1e-7, atol=1e-9 * scale**2)


@given(columns)
def test_rows_that_come_one_by_one_have_the_same_moments(x: np.ndarray) -> None:
    scale = max(1.0, float(np.abs(x).max()))
    same(seen(x, *range(1, len(x))), seen(x), scale)


@given(columns, columns, columns)
def test_merge_is_associative_and_the_same_as_seeing_all(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    every = np.concatenate([a, b, c])
    scale = max(1.0, float(np.abs(every).max()))
    one, two, three = seen(a), seen(b), seen(c)
    left = moments.merge(moments.merge(one, two), three)
    same(left, moments.merge(one, moments.merge(two, three)), scale)
    same(left, seen(every), scale)


def test_merging_nothing_changes_nothing() -> None:
    state = seen(np.array([[1.0, 2.0], [3.0, 5.0]], np.float32))
    for merged in (moments.merge(state, moments.init(2)), moments.merge(moments.init(2), state)):
        assert [part.tolist() for part in merged] == [part.tolist() for part in state]
    assert moments.merge(moments.init(2), moments.init(2)).rows == 0


def test_z_scores_have_mean_0_and_deviation_1() -> None:
    x = np.random.default_rng(0).normal(1000, 0.5, (5000, 4)).astype(np.float32)
    z = moments.standardize(seen(x, 100, 3000), x, 9)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=1e-3)


def test_before_any_row_all_is_zero() -> None:
    assert moments.standardize(moments.init(2), np.ones((3, 2), np.float32), 5).tolist() == [[0, 0]] * 3


@pytest.mark.parametrize("value", [0.1, 1e-30, 3e7, -1e38])
def test_a_constant_column_has_no_deviation_whatever_its_cut(value: float) -> None:
    x = np.full((1000, 1), value, np.float32)
    assert seen(x, 1, 7, 300).m2[0] == 0
    assert moments.deviation(seen(x)).tolist() == [1]
    assert moments.standardize(seen(x), x, 5).max() == 0


def test_a_constant_column_that_starts_to_change_has_bounded_scores() -> None:
    state = seen(np.full((10_000, 1), 3, np.float32))
    for _ in range(100):
        moving = np.array([[1e6], [3.0]], np.float32)
        assert np.abs(moments.standardize(state, moving, 5)).max() <= 5
        state = moments.update(state, moving)
    assert np.isfinite(moments.standardize(state, moving, 5)).all()


def test_largest_float32_values_stay_finite() -> None:
    x = np.array([[3e38], [-3e38], [3e38]], np.float32)
    state = seen(x, 1)
    assert np.isfinite(state.m2).all()
    with np.errstate(over="ignore"):
        assert np.isfinite(moments.standardize(state, x, 5)).all()


def test_what_came_in_is_not_changed() -> None:
    state = seen(np.ones((3, 2), np.float32))
    before = [part.copy() for part in state]
    x = np.arange(4, dtype=np.float32).reshape(2, 2)
    moments.update(state, x)
    moments.merge(state, state)
    moments.standardize(state, x, 5)
    assert [part.tolist() for part in state] == [part.tolist() for part in before]
    assert x.tolist() == [[0, 1], [2, 3]]


def test_restore_is_the_inverse_of_standardize() -> None:
    x = np.random.default_rng(0).normal(50, 7, size=(40, 3)).astype(np.float32)
    seen = moments.update(moments.init(3), x)
    again = moments.restore(seen, moments.standardize(seen, x, 100))
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, x, rtol=1e-5)


def test_an_outlier_is_clipped_once_the_deviations_are_known() -> None:
    x = np.random.default_rng(0).normal(50, 7, size=(100, 3)).astype(np.float32)
    x[:, 2] = 4
    extreme = np.array([[1e9, 51, 9], [50, -1e9, 4]], np.float32)
    early = moments.update(moments.init(3), x[:99])
    assert moments.clip_outliers(early, extreme, 10) is extreme
    seen = moments.update(moments.init(3), x)
    mean, sd = x.mean(axis=0), x.std(axis=0)
    expected = [[mean[0] + 10 * sd[0], 51, 9], [50, mean[1] - 10 * sd[1], 4]]
    np.testing.assert_allclose(moments.clip_outliers(seen, extreme, 10), expected, rtol=1e-5)
    assert np.isnan(moments.clip_outliers(seen, np.full((1, 3), np.nan, np.float32), 10)).all()
