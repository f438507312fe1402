"""Each scaling, with and without missing values, against NumPy on all rows at once."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streaming_nn.nn import moments
from streaming_nn.nn.moments import SETTLED, Moments
from streaming_nn.nn.preprocessing import MAX_ACTIVE, MISSING, SCALES, Inputs, Spans, Unscaled
from streaming_nn.nn.state_dict import flatten, unflatten

pytestmark = pytest.mark.commit

EVERY = list(product(SCALES, MISSING))
GAPS = [(scale, missing) for scale, missing in EVERY if missing != "refuse"]
numbers = st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False)
full = arrays(np.float32, st.tuples(st.integers(0, 30), st.just(3)), elements=numbers)
gappy = arrays(
    np.float32, st.tuples(st.integers(0, 30), st.just(3)), elements=st.one_of(numbers, st.just(np.nan))
)


def seen(inputs: Inputs, x: np.ndarray, *cuts: int) -> object:
    state = inputs.init()
    for part in np.split(x, cuts):
        state = inputs.update(state, part)
    return state


def same(a: object, b: object, size: float) -> None:
    first, second = flatten(a), flatten(b)  # type: ignore[arg-type]
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype
        scale = size**2 if name.endswith("m2") else size
        np.testing.assert_allclose(tensor, second[name], rtol=1e-9, atol=1e-9 * scale, err_msg=name)


def size_of(*parts: np.ndarray) -> float:
    return max(1.0, *(float(np.nanmax(np.abs(part), initial=1.0)) for part in parts))


def rows_for(missing: str) -> st.SearchStrategy[np.ndarray]:
    return full if missing == "refuse" else gappy


@given(full, full, st.integers(0, 30))
def test_the_default_has_the_bits_of_the_plain_moments(x: np.ndarray, more: np.ndarray, cut: int) -> None:
    inputs, state = Inputs(3), moments.init(3)
    for part in np.split(x, [cut]):
        state = moments.update(state, part)
    ours = seen(inputs, x, cut)
    assert type(ours) is Moments
    for a, b in zip(ours, state, strict=True):
        assert a.tobytes() == b.tobytes()
        assert a.dtype == b.dtype
    with np.errstate(over="ignore"):  # as in the learners: by a deviation of 1e-38 all is past the clip
        expected = moments.standardize(state, more, 5.0)
        assert inputs.prepare(ours, more).tobytes() == expected.tobytes()


@pytest.mark.parametrize(("scale", "missing"), EVERY)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_parts_merge_to_the_whole_in_any_grouping(scale: str, missing: str, data: st.DataObject) -> None:
    inputs = Inputs(3, scale, missing=missing)
    parts = [data.draw(rows_for(missing)) for _ in range(3)]
    one, two, three = (seen(inputs, part) for part in parts)
    left = inputs.merge(inputs.merge(one, two), three)
    size = size_of(*parts)
    same(left, inputs.merge(one, inputs.merge(two, three)), size)
    same(left, seen(inputs, np.concatenate(parts)), size)


@pytest.mark.parametrize(("scale", "missing"), EVERY)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_tasks_with_a_common_start_are_merged_without_counting_it_twice(
    scale: str, missing: str, data: st.DataObject
) -> None:
    inputs = Inputs(3, scale, missing=missing)
    before, one, two = (data.draw(rows_for(missing)) for _ in range(3))
    start, size = seen(inputs, before), size_of(before, one, two)
    tasks = [inputs.update(start, part) for part in (one, two)]
    if scale != "minmax":
        same(inputs.subtract(tasks[0], start), seen(inputs, one), size)
    merged = inputs.combine(start, tasks)
    same(merged, seen(inputs, np.concatenate([before, one, two])), size)


@pytest.mark.parametrize(("scale", "missing"), GAPS)
@given(x=gappy, cut=st.integers(0, 30))
@settings(max_examples=12, deadline=None)
def test_missing_values_count_in_no_column(scale: str, missing: str, x: np.ndarray, cut: int) -> None:
    state, size = seen(Inputs(3, scale, missing=missing), x, cut), size_of(x)
    moments = state.moments if isinstance(state, Spans) else state
    for column in range(3):
        there = x[~np.isnan(x[:, column]), column].astype(np.float64)
        assert moments.rows[column] == len(there)
        if len(there):
            np.testing.assert_allclose(moments.mean[column], there.mean(), rtol=1e-9, atol=1e-9 * size)
            np.testing.assert_allclose(
                moments.m2[column] / len(there), there.var(), rtol=1e-7, atol=1e-9 * size**2
            )
            if isinstance(state, Spans):
                assert (state.low[column], state.high[column]) == (there.min(), there.max())


@pytest.mark.parametrize(("scale", "missing"), EVERY)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_what_is_prepared_is_finite_and_within_bounds(scale: str, missing: str, data: st.DataObject) -> None:
    inputs = Inputs(3, scale, clip=4, missing=missing)
    state, x = seen(inputs, data.draw(rows_for(missing))), data.draw(rows_for(missing))
    with np.errstate(over="ignore"):
        z = inputs.prepare(state, x)
    assert z.shape == (len(x), inputs.width)
    assert z.dtype == np.float32
    assert np.isfinite(z).all()
    if scale != "none":
        assert np.abs(z[:, :3]).max(initial=0) <= {"standard": 4, "minmax": 1}[scale]
    if missing == "indicate":
        np.testing.assert_array_equal(z[:, 3:], np.isnan(x))
    assert np.isfinite(inputs.check(state))
    assert np.isfinite(inputs.check_rows(x))


@pytest.mark.parametrize(("scale", "missing"), GAPS)
def test_a_missing_value_is_the_running_mean(scale: str, missing: str) -> None:
    inputs = Inputs(2, scale, missing=missing)
    state = seen(inputs, np.array([[1, 5], [3, np.nan], [8, 6]], np.float32))
    gap, mean = np.array([[np.nan, np.nan]], np.float32), np.array([[4, 5.5]], np.float32)
    np.testing.assert_array_equal(inputs.prepare(state, gap)[:, :2], inputs.prepare(state, mean)[:, :2])
    if scale == "standard":
        assert inputs.prepare(state, gap)[:, :2].tolist() == [[0, 0]]


@pytest.mark.parametrize("missing", MISSING[1:])
def test_without_missing_values_the_scores_are_those_of_the_plain_moments(missing: str) -> None:
    x = np.random.default_rng(0).normal(3, 2, (500, 4)).astype(np.float32)
    plain, gaps = Inputs(4, reach=2.0), Inputs(4, missing=missing, reach=2.0)
    z = plain.prepare(seen(plain, x, 150, 300), x)
    np.testing.assert_array_equal(gaps.prepare(seen(gaps, x, 150, 300), x)[:, :4], z)


def test_minmax_goes_from_least_to_largest() -> None:
    inputs = Inputs(2, "minmax")
    state = seen(inputs, np.array([[0, 7], [10, 7], [4, 7]], np.float32))
    x = np.array([[0, 7], [5, 7], [10, 7.5], [99, 99]], np.float32)
    assert inputs.prepare(state, x).tolist() == [[-1, 0], [0, 0], [1, 0.5], [1, 1]]
    assert inputs.prepare(inputs.init(), x).tolist() == [[0, 0]] * 4


@pytest.mark.parametrize(("low", "high"), [(-3e38, 3e38), (0, 1e-45), (1e-45, 3e-45), (1e30, 1.0000001e30)])
def test_minmax_of_the_widest_and_the_narrowest_spans(low: float, high: float) -> None:
    x = np.array([[low], [high]], np.float32)
    inputs = Inputs(1, "minmax")
    z = inputs.prepare(seen(inputs, x), x)
    assert np.isfinite(z).all()
    assert -1 <= z[0, 0] <= z[1, 0] <= 1


def test_none_changes_nothing_and_has_no_statistics() -> None:
    inputs, x = Inputs(2, "none"), np.array([[1e30, -3]], np.float32)
    state = inputs.update(inputs.init(), x)
    assert state == Unscaled()
    assert inputs.prepare(state, x) is x
    assert inputs.check(state) == 0


@pytest.mark.parametrize(("scale", "missing"), [c for c in EVERY if c != ("none", "refuse")])
def test_an_outlier_is_clipped_in_a_column_with_enough_rows(scale: str, missing: str) -> None:
    x = np.random.default_rng(0).normal(50, 7, (100, 2)).astype(np.float32)
    extreme = np.array([[1e9, 51]], np.float32)
    clipping, open_ = Inputs(2, scale, missing=missing, reach=10.0), Inputs(2, scale, missing=missing)
    for inputs, expected in ((clipping, 150), (open_, 1e9)):
        state = inputs.update(seen(inputs, x), extreme)
        moments = state.moments if isinstance(state, Spans) else state
        assert moments.mean[0] < expected / 50 + 60
        assert (moments.mean[0] > 1e6) == (inputs is open_)
        if isinstance(state, Spans):
            assert (state.high[0] > 1e8) == (inputs is open_)
    if missing != "refuse":
        x[:50, 0] = np.nan  # whether a column is settled depends on its own count
        assert clipping.update(seen(clipping, x), extreme) is not None
        state = clipping.update(seen(clipping, x), extreme)
        assert (state.moments if isinstance(state, Spans) else state).mean[0] > 1e6


@pytest.mark.parametrize("missing", MISSING)
def test_a_constant_column_has_no_deviation_whatever_its_cut(missing: str) -> None:
    x = np.full((300, 2), 0.1, np.float32)
    if missing != "refuse":
        x[:150, 1] = np.nan
    inputs = Inputs(2, missing=missing)
    state = seen(inputs, x, 1, 7, 160)
    assert state.m2.tolist() == [0, 0]
    assert inputs.prepare(state, x)[:, :2].tolist() == [[0, 0]] * 300


@pytest.mark.parametrize(("scale", "missing"), EVERY)
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_detected(scale: str, missing: str, bad: float) -> None:
    inputs = Inputs(2, scale, missing=missing)
    x = np.array([[1, 2], [bad, 3]], np.float32)
    may_be = np.isnan(bad) and missing != "refuse"
    with np.errstate(all="ignore"):
        assert np.isfinite(inputs.check_rows(x)) == may_be
        if scale != "none" or missing != "refuse":
            start = inputs.update(inputs.init(), x[:1])
            assert np.isfinite(inputs.check(inputs.update(start, x[1:]))) == may_be


@pytest.mark.parametrize(("scale", "missing"), EVERY)
def test_what_came_in_is_not_changed_and_goes_through_tensors(scale: str, missing: str) -> None:
    inputs = Inputs(2, scale, missing=missing)
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    state = seen(inputs, x)
    before = {name: tensor.copy() for name, tensor in flatten(state).items()}
    after = inputs.update(state, x + 1)
    inputs.subtract(after, state), inputs.merge(state, after), inputs.prepare(state, x)
    assert x.tolist() == [[0, 1], [2, 3], [4, 5]]
    for name, tensor in flatten(state).items():
        np.testing.assert_array_equal(tensor, before[name])
    again = unflatten(inputs.init(), flatten(after))
    assert type(again) is type(after)
    np.testing.assert_array_equal(inputs.prepare(again, x), inputs.prepare(after, x))


@pytest.mark.parametrize("reach", [None, 10.0])
@pytest.mark.parametrize(("scale", "missing"), EVERY)
def test_preparing_and_updating_in_one_gives_the_bits_of_both(
    scale: str, missing: str, reach: float | None
) -> None:
    inputs, rng = Inputs(3, scale, missing=missing, reach=reach), np.random.default_rng(0)
    for early in (0, 1, 99, 500):  # before and after the deviations are trusted
        state = seen(inputs, rng.normal(size=(early, 3)).astype(np.float32))
        x = rng.normal(size=(40, 3)).astype(np.float32)
        x[3, 1], x[30, 2] = 1e9, -1e9  # the one is counted, the other only prepared
        for count in (1, 8):
            z, after = inputs.prepare_and_update(state, x, count)
            np.testing.assert_array_equal(z, inputs.prepare(state, x))
            for name, tensor in flatten(inputs.update(state, x[:count])).items():
                np.testing.assert_array_equal(flatten(after)[name], tensor)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"columns": 0}, "columns must be an integer >= 1; got 0"),
        ({"scale": "robust"}, "scale must be one of 'standard', 'minmax', 'none'; got 'robust'"),
        ({"missing": "drop"}, "missing must be one of 'refuse', 'impute', 'indicate'; got 'drop'"),
        ({"clip": 0}, r"clip must be a number in (0, inf); got 0"),
        ({"reach": -1}, r"reach must be a number in (0, inf); got -1"),
    ],
)
def test_a_wrong_option_is_one_line(options: dict[str, object], error: str) -> None:
    with pytest.raises(ValueError) as raised:
        Inputs(**{"columns": 2, **options})  # type: ignore[arg-type]
    assert str(raised.value) == error


@settings(max_examples=12, deadline=None)
@given(
    case=st.sampled_from([each for each in EVERY if each[0] != "none"]),
    base=arrays(np.float32, 5, elements=numbers),
    first=arrays(np.bool_, 5),
    later=arrays(np.bool_, 5),
    rows=st.integers(1, 3),
)
def test_inactive_columns_are_those_that_never_changed(
    case: tuple[str, str], base: np.ndarray, first: np.ndarray, later: np.ndarray, rows: int
) -> None:
    inputs = Inputs(5, case[0], missing=case[1])
    x = np.tile(base, (SETTLED + rows, 1))
    x[40, first] += 3
    x[-1, later] -= 3
    state, new = seen(inputs, x[:SETTLED], 7, 50), x[SETTLED:]
    z = inputs.prepare(state, new)
    active = inputs.active_columns(state, z)
    most = first.sum() + inputs.width - 5 > MAX_ACTIVE * inputs.width
    none = inputs.width == 5 and not (first | later).any()
    if most or none:
        assert active is None
    else:
        assert active is not None
        assert active[:5].tolist() == (x != x[0]).any(axis=0).tolist()
        assert active[5:].all()
        assert not z[:, ~active].any()
    assert inputs.active_columns(seen(inputs, x[: SETTLED - 1]), z) is None


@pytest.mark.parametrize("missing", MISSING)
def test_a_column_that_is_not_scaled_is_always_active(missing: str) -> None:
    inputs = Inputs(5, "none", missing=missing)
    x = np.full((SETTLED, 5), 3, np.float32)
    state = seen(inputs, x)
    assert inputs.active_columns(state, inputs.prepare(state, x[:1])) is None


@pytest.mark.parametrize(("scale", "missing"), EVERY)
def test_columns_without_values_are_always_missing_or_sparse_and_0(scale: str, missing: str) -> None:
    x = np.array([[1, 0, 0, 2], [3, 0, 0, 4]], np.float32)
    sparse = np.array([False, False, True, True])
    inputs = Inputs(4, scale, missing=missing)
    never = inputs.without_values(seen(inputs, x), sparse)
    assert never.tolist() == [False, False, (scale, missing) != ("none", "refuse"), False]
    if missing != "refuse":
        x[:, 0] = np.nan
        assert inputs.without_values(seen(inputs, x), sparse).tolist() == [True, False, True, False]
        assert inputs.without_values(inputs.init(), sparse).all()
