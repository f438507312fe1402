"""Each scaling, with and without missing values, against NumPy on all rows at once."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streaming_nn.core.ensemble import Ensemble, EnsembleState, MemberOptions
from streaming_nn.core.networks import Shape
from streaming_nn.core.structures import MISSING, SCALES
from streaming_nn.nn import preprocessing
from streaming_nn.nn.preprocessing import ColumnGrowth, Scaler

pytestmark = pytest.mark.commit

EVERY = list(product(SCALES, MISSING))
GAPS = [(scale, missing) for scale, missing in EVERY if missing != "refuse"]
numbers = st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False)
full = arrays(np.float64, st.tuples(st.integers(0, 30), st.just(3)), elements=numbers)
gappy = arrays(
    np.float64, st.tuples(st.integers(0, 30), st.just(3)), elements=st.one_of(numbers, st.just(np.nan))
)


def through(scaler: Scaler) -> Ensemble:
    """Return a network whose outputs are the prepared columns, up to 6 in size, once its weights are 1."""
    shape = Shape((scaler.width, scaler.width), "identity", "squared")
    return Ensemble((MemberOptions(shape),), scaler.columns, scaler.scale, scaler.missing, scaler.clip)


def seen(scaler: Scaler, x: np.ndarray, *cuts: int) -> EnsembleState:
    """Return the state after these rows; targets of 0, which it has predicted already, change no weight."""
    network = through(scaler)
    state = network.init(np.zeros(network.shape.parameters, np.float32))
    model = network.bind(state)
    for part in np.split(x, cuts):
        _, trained = model.learn(
            np.ascontiguousarray(part), np.zeros((len(part), scaler.width)), mini_batch=max(len(part), 1)
        )
        assert trained.all()
    assert not state.theta.any()
    return state


def prepared(scaler: Scaler, state: EnsembleState, x: np.ndarray) -> np.ndarray:
    """Return rows (rows, width) as the core prepares them."""
    network, theta = through(scaler), np.zeros_like(state.theta)
    ((W, _),) = network.shape.views(theta)
    W[...] = np.eye(scaler.width)
    return network.bind(state._replace(theta=theta)).predict(x)


def by_hand(scaler: Scaler, state: EnsembleState, x: np.ndarray) -> np.ndarray:
    """Return rows (rows, width) as exports prepare them."""
    gaps, filling, affine = np.isnan(x), scaler.filling(state), scaler.affine(state)
    z = x if filling is None else np.where(gaps, filling, x)
    if affine is not None:
        origin, width, bound = affine
        assert [str(each.dtype) for each in (origin, width)] == ["float64", "float32"]
        with np.errstate(over="ignore"):
            z = np.clip((z - origin).astype(np.float32) / width, -bound, bound)
    return np.concatenate([z, gaps], axis=1) if scaler.missing == "indicate" else z


def rows_for(missing: str) -> st.SearchStrategy[np.ndarray]:
    return full if missing == "refuse" else gappy


@pytest.mark.parametrize(("scale", "missing"), EVERY)
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_exports_prepare_rows_as_the_core_does(scale: str, missing: str, data: st.DataObject) -> None:
    scaler = Scaler(3, scale, 4, missing)
    state, x = seen(scaler, data.draw(rows_for(missing)), 5), data.draw(rows_for(missing))
    if scale == "none":
        x = np.clip(x, -6, 6)
        state = state._replace(means=np.clip(state.means, -6, 6))
    z = prepared(scaler, state, x)
    assert z.shape == (len(x), scaler.width)
    np.testing.assert_array_equal(z, by_hand(scaler, state, x).astype(np.float32))
    if scale != "none":
        assert np.abs(z[:, :3]).max(initial=0) <= (1 if scale == "minmax" else 4)
    if missing == "indicate":
        np.testing.assert_array_equal(z[:, 3:], np.isnan(x))


@pytest.mark.parametrize(("scale", "missing"), EVERY)
@given(data=st.data(), cut=st.integers(0, 30))
@settings(max_examples=10, deadline=None)
def test_statistics_are_those_of_numpy_and_missing_values_count_in_no_column(
    scale: str, missing: str, data: st.DataObject, cut: int
) -> None:
    x = data.draw(rows_for(missing))
    state, size = (
        seen(Scaler(3, scale, missing=missing), x, cut),
        max(1.0, *np.nanmax(np.abs(x), initial=1.0, axis=0)),
    )
    for column in range(3):
        there = x[~np.isnan(x[:, column]), column].astype(np.float64)
        there = there[there != 0] if scale == "sparse" else there
        assert state.rows[column] == len(there)
        if not len(there):
            continue
        np.testing.assert_allclose(state.means[column], there.mean(), rtol=1e-9, atol=1e-9 * size)
        squares = state.squares[column] / len(there)
        np.testing.assert_allclose(squares, there.var(), rtol=1e-7, atol=1e-9 * size**2)
        if scale == "minmax":
            assert (state.low[column], state.high[column]) == (there.min(), there.max())
    assert (len(state.low) == 3) == (scale == "minmax")


@pytest.mark.parametrize("missing", MISSING)
def test_z_scores_have_mean_0_and_deviation_1(missing: str) -> None:
    x = np.random.default_rng(0).normal(1000, 0.5, (3000, 4)).astype(np.float64)
    scaler = Scaler(4, missing=missing)
    z = prepared(scaler, seen(scaler, x, 100, 2000), x)[:, :4]
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=1e-3)


@pytest.mark.parametrize(("scale", "missing"), GAPS)
def test_a_missing_value_is_the_running_mean_or_0_of_sparse_rows(scale: str, missing: str) -> None:
    scaler = Scaler(2, scale, missing=missing)
    state = seen(scaler, np.array([[1, 5], [3, np.nan], [8, 6]], np.float64))
    filling = scaler.filling(state)
    assert filling is not None
    assert filling.tolist() == ([0, 0] if scale == "sparse" else [4, 5.5])
    gap, mean = np.array([[np.nan, np.nan]], np.float64), filling[None]
    np.testing.assert_array_equal(prepared(scaler, state, gap)[:, :2], prepared(scaler, state, mean)[:, :2])
    if scale == "standard":
        assert prepared(scaler, state, gap)[:, :2].tolist() == [[0, 0]]


@pytest.mark.parametrize("scale", SCALES)
def test_where_missing_values_are_refused_nothing_is_imputed(scale: str) -> None:
    scaler = Scaler(2, scale)
    assert scaler.filling(seen(scaler, np.ones((3, 2), np.float64))) is None


def test_sparse_values_are_in_units_of_their_root_mean_square_and_zeros_stay() -> None:
    x = np.random.default_rng(0).normal(2, 3, (200, 3)) * (np.random.default_rng(1).random((200, 3)) < 0.1)
    scaler = Scaler(3, "sparse")
    z = prepared(scaler, seen(scaler, x, 70), x)
    units = [np.sqrt(np.mean(column[column != 0] ** 2)) for column in x.T]
    np.testing.assert_allclose(z, x / units, rtol=1e-6)
    new = np.array([[0, 3, -1e30]], np.float64)
    assert prepared(scaler, seen(scaler, x[:0]), new).tolist() == [[0, 3, -5]]


def test_minmax_goes_from_least_to_largest() -> None:
    scaler = Scaler(2, "minmax")
    state = seen(scaler, np.array([[0, 7], [10, 7], [4, 7]], np.float64))
    x = np.array([[0, 7], [5, 7], [10, 7.5], [99, 99]], np.float64)
    assert prepared(scaler, state, x).tolist() == [[-1, 0], [0, 0], [1, 0.5], [1, 1]]


@pytest.mark.parametrize("scale", ["standard", "minmax"])
def test_before_any_row_all_is_zero(scale: str) -> None:
    scaler = Scaler(2, scale)
    nothing = seen(scaler, np.zeros((0, 2), np.float64))
    x = np.array([[0, 7], [99, -1e30]], np.float64)
    assert prepared(scaler, nothing, x).tolist() == by_hand(scaler, nothing, x).tolist() == [[0, 0]] * 2


@pytest.mark.parametrize(("low", "high"), [(-3e38, 3e38), (0, 1e-45), (1e-45, 3e-45), (1e30, 1.0000001e30)])
@pytest.mark.parametrize("scale", ["standard", "minmax"])
def test_the_widest_and_the_narrowest_spans(scale: str, low: float, high: float) -> None:
    x = np.array([[low], [high]], np.float64)
    scaler = Scaler(1, scale)
    z = prepared(scaler, seen(scaler, x), x)
    assert np.isfinite(z).all()
    assert -1 <= z[0, 0] <= z[1, 0] <= 1
    np.testing.assert_array_equal(z, by_hand(scaler, seen(scaler, x), x))


def test_none_has_no_scale() -> None:
    scaler = Scaler(2, "none")
    assert scaler.affine(seen(scaler, np.array([[3, -3]], np.float64))) is None


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("value", [0.1, 1e-30, 3e7, -1e38])
def test_a_constant_column_has_no_deviation_whatever_its_cut(missing: str, value: float) -> None:
    x = np.full((300, 2), value, np.float64)
    if missing != "refuse":
        x[:150, 1] = np.nan
    scaler = Scaler(2, missing=missing)
    state = seen(scaler, x, 1, 7, 160)
    assert state.squares.tolist() == [0, 0]
    assert prepared(scaler, state, x)[:, :2].tolist() == [[0, 0]] * 300
    affine = scaler.affine(state)
    assert affine is not None
    assert affine[1].tolist() == [1, 1]


def test_a_constant_column_that_starts_to_change_has_bounded_scores() -> None:
    scaler, moving = Scaler(1), np.array([[1e6], [3.0]], np.float64)
    x = np.concatenate([np.full((1000, 1), 3, np.float64), np.tile(moving, (20, 1))])
    for rows in range(1000, 1040, 8):
        assert np.abs(prepared(scaler, seen(scaler, x[:rows], 1000), moving)).max() <= 5


@pytest.mark.parametrize(("scale", "missing"), EVERY)
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_refused(scale: str, missing: str, bad: float) -> None:
    scaler = Scaler(2, scale, missing=missing)
    state, x = seen(scaler, np.ones((1, 2), np.float64)), np.array([[1, 2], [bad, 3]], np.float64)
    before = [array.tobytes() for array in state]
    _, trained = through(scaler).bind(state).learn(x, np.zeros((2, scaler.width)), mini_batch=2)
    may_be = bool(np.isnan(bad)) and missing != "refuse"
    assert trained.tolist() == [may_be]
    assert ([array.tobytes() for array in state] == before) == (not may_be)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"columns": 0}, "inputs must be an integer >= 1; got 0"),
        ({"scale": "robust"}, "scale must be one of 'standard', 'minmax', 'none', 'sparse'; got 'robust'"),
        ({"missing": "drop"}, "missing must be one of 'refuse', 'impute', 'indicate'; got 'drop'"),
        ({"clip": 0}, r"clip must be a number in (0, inf); got 0"),
        ({"clip": np.inf}, r"clip must be a number in (0, inf); got inf"),
    ],
)
def test_a_wrong_option_is_one_line(options: dict[str, object], error: str) -> None:
    with pytest.raises(ValueError) as raised:
        Scaler(**{"columns": 2, **options})  # type: ignore[arg-type]
    assert str(raised.value) == error


@pytest.mark.parametrize(("scale", "missing"), EVERY)
def test_columns_without_values_are_always_missing_or_sparse_and_0(scale: str, missing: str) -> None:
    x = np.array([[1, 0, 0, 2], [3, 0, 0, 4]], np.float64)
    sparse = np.array([False, False, True, True])
    scaler = Scaler(4, scale, missing=missing)
    only_0 = scale == "sparse"  # it does not count zeros
    assert scaler.without_values(seen(scaler, x), sparse).tolist() == [False, only_0, True, False]
    assert scaler.without_values(seen(scaler, x[:0]), sparse).all()
    if missing != "refuse":
        x[:, 0] = np.nan
        assert scaler.without_values(seen(scaler, x), sparse).tolist() == [True, only_0, True, False]


@pytest.mark.parametrize(("scale", "missing"), EVERY)
@pytest.mark.parametrize("rows", [0, 9])
def test_new_columns_have_the_statistics_of_their_fill_in_all_rows(
    scale: str, missing: str, rows: int
) -> None:
    fills = [0.0, 0.0] if missing == "refuse" else [0.0, np.nan]
    x = np.random.default_rng(0).normal(5, 2, (rows, 3)).astype(np.float64)
    wide = np.insert(x[:, [2, 0, 1]], [0, 2], np.asarray(fills, np.float64), axis=1)
    growth = ColumnGrowth(3, np.array([-1, 2, 0, -1, 1]), np.array([fills[0], 0, 0, fills[1], 0], np.float64))
    wider, state = Scaler(5, scale, missing=missing), seen(Scaler(3, scale, missing=missing), x, 4)
    before = [array.tobytes() for array in state]
    grown, always = wider.grow(state, growth), seen(wider, wide, 4)
    for name in ("rows", "means", "squares", "low", "high"):
        found, expected = getattr(grown, name), getattr(always, name)
        assert (found.dtype, found.tolist()) == (expected.dtype, expected.tolist()), name
    assert [array.tobytes() for array in state] == before


@pytest.mark.parametrize("scale", SCALES)
def test_new_columns_have_had_their_fill_in_every_row_though_each_other_one_has_gaps(scale: str) -> None:
    x = np.array([[1, np.nan], [np.nan, 2], [3, np.nan], [np.nan, np.nan]], np.float64)
    wide = np.insert(x, 2, 0, axis=1)
    growth = ColumnGrowth(2, np.array([0, 1, -1]), np.zeros(3, np.float64))
    wider = Scaler(3, scale, missing="impute")
    grown, always = wider.grow(seen(Scaler(2, scale, missing="impute"), x), growth), seen(wider, wide)
    assert grown.rows.tolist() == always.rows.tolist() == [2, 1, 0 if scale == "sparse" else 4]
    assert grown.low.tolist() == always.low.tolist()


def test_a_growth_moves_columns_and_fills_new_ones() -> None:
    growth = ColumnGrowth(3, np.array([2, -1, 0, -1]), np.array([9, 0, 9, np.nan], np.float64))
    rows = np.arange(6, dtype=np.float64).reshape(2, 3)
    np.testing.assert_array_equal(growth.move(rows, growth.fill), [[2, 0, 0, np.nan], [5, 0, 3, np.nan]])
    assert growth.move(np.array([1.0, 2.0, 3.0]), 7).tolist() == [3, 7, 1, 7]
    assert growth.move(rows, growth.fill).dtype == np.float64


def test_prepared_rows_have_the_new_values_and_then_their_indicators() -> None:
    growth = ColumnGrowth(2, np.array([1, -1, 0, -1]), np.array([0, 0, 0, np.nan], np.float64))
    assert Scaler(4, missing="impute").prepared_growth(growth) is growth
    wide = Scaler(4, missing="indicate").prepared_growth(growth)
    assert wide.before == 4
    assert wide.origin.tolist() == [1, -1, 0, -1, 3, -1, 2, -1]
    assert wide.fill.tolist() == [0, 0, 0, 0, 0, 0, 0, 1]  # a column that was missing was always indicated


def test_the_unit_of_targets_is_their_deviation_and_of_counts_their_mean() -> None:
    scaler, y = Scaler(1), np.array([2, 4, 9], np.float64)
    state = seen(scaler, np.zeros((0, 1), np.float64))
    assert preprocessing.target_unit(state, False) == preprocessing.target_unit(state, True) == 1
    known = state._replace(targets=np.array([[3, y.mean(), y.var() * 3]]))
    assert preprocessing.target_unit(known, False) == pytest.approx(y.std())
    assert preprocessing.target_unit(known, True) == 5
    constant = state._replace(targets=np.array([[3, 0.0, 0.0]]))
    assert preprocessing.target_unit(constant, False) == preprocessing.target_unit(constant, True) == 1
