"""Ramps of numeric columns: where their knots are, how high they are, and what a network learns by them."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from core_steps import learn
from numpy.typing import NDArray

from streaming_nn.core.ensemble import RAMPED, RAMPS, Ensemble, EnsembleState, MemberOptions
from streaming_nn.core.networks import Shape

pytestmark = pytest.mark.commit

Array = NDArray[Any]
RNG = np.random.default_rng(0)
QUANTILES = 16  # knots of a column with more values than there can be knots
PLACED = [32, 64, 128, 256, 512, 1024, 2048, *range(4096, 13_000, 4096)]  # rows appended when knots are


def seeing(columns: int, capacity: int = 5000, **options: Any) -> Ensemble:
    """Return a linear network that sees the ramps."""
    width = columns * (2 if options.get("missing") == "indicate" else 1)
    shape = Shape((width + RAMPS * min(columns, RAMPED), 1), "identity", "squared")
    return Ensemble((MemberOptions(shape),), columns, capacity=capacity, **options)


def after(x: Array, mini_batch: int = 32, **options: Any) -> EnsembleState:
    """Return the state after rows (rows, columns)."""
    ensemble = seeing(x.shape[1], **options)
    state = ensemble.init(np.zeros(ensemble.shape.parameters, np.float32))
    _, trained = learn(ensemble, state, x, np.zeros(len(x)), mini_batch=mini_batch)
    assert trained.all()
    return state


def at_each_fifteenth(values: Array) -> list[float]:
    quantiles: list[float] = np.sort(values)[np.arange(QUANTILES) * (len(values) - 1) // 15].tolist()
    return padded(quantiles)


def padded(knots: list[float]) -> list[float]:
    return knots + [np.inf] * (RAMPS + 1 - len(knots))


@pytest.mark.parametrize("rows", [32, 128])
def test_knots_are_quantiles_of_the_column(rows: int) -> None:
    x = RNG.normal(3, [1, 1e-3, 1e9], (rows, 3))
    quantiles = np.quantile(x, np.linspace(0, 1, QUANTILES), axis=0, method="lower")
    assert after(x).knots.tolist() == list(map(padded, quantiles.T.tolist()))


def test_there_are_none_before_there_are_rows_enough() -> None:
    assert np.isinf(after(RNG.normal(size=(31, 2)), mini_batch=1).knots).all()
    assert np.isfinite(
        after(RNG.normal(size=(33, 2)), mini_batch=33).knots[:, :QUANTILES]
    ).all()  # at the end of a step


def test_knots_are_placed_after_twice_as_many_rows_each_time_and_then_after_each_4096() -> None:
    x, mini_batch = RNG.normal(size=(PLACED[-1] + 320, 1)), 16
    ensemble = seeing(1, capacity=64)
    state, moved = ensemble.init(np.zeros(ensemble.shape.parameters, np.float32)), []
    for start in range(0, len(x), mini_batch):
        before = state.knots.copy()
        learn(ensemble, state, x[start : start + mini_batch], np.zeros(mini_batch), mini_batch=mini_batch)
        if (state.knots != before).any():
            moved.append(start + mini_batch)
            kept = x[max(0, moved[-1] - 64) : moved[-1]]  # the buffer
            assert state.knots[0].tolist() == at_each_fifteenth(kept[:, 0])
    assert moved == PLACED


def test_of_many_rows_each_of_a_thousand_that_are_spread_over_the_buffer_counts() -> None:
    x = RNG.normal(size=(2048, 1)).cumsum(axis=0)  # so that quantiles of the oldest or newest are others
    assert after(x).knots[0].tolist() == at_each_fifteenth(x[::2, 0])


GAP = np.nan
FEW: dict[str, tuple[Array, list[float]]] = {
    "all of three": (np.resize([7.0, -1, 3], 64), [-1, 3, 7]),
    "all of twenty-four": (np.resize(np.arange(24.0) ** 2, 64), (np.arange(24.0) ** 2).tolist()),
    "quantiles of twenty-five": (np.resize(np.arange(25.0), 64), []),
    "none of two": (np.resize([0.0, 1], 64), []),
    "none of one": (np.full(64, 5.0), []),
    "none of what is missing": (np.full(64, GAP), []),
    "both zeros are one": (np.resize([0.0, -0.0, 1], 64), []),
    "with gaps between them": (np.resize([3.0, GAP, 1, 2, GAP], 64), [1, 2, 3]),
    "quantiles that are equal are one": (
        np.append(np.zeros(39), np.arange(25.0) + 1),
        [0, 4, 8, 12, 16, 20, 25],
    ),
}


@pytest.mark.parametrize("name", FEW)
def test_knots_of_columns_with_few_values(name: str) -> None:
    column, expected = FEW[name]
    if name == "quantiles of twenty-five":
        expected = at_each_fifteenth(column)
        assert len(set(expected)) == QUANTILES + 1  # and infinity
    state = after(np.column_stack([np.arange(64.0), column]), missing="impute")
    assert state.knots[1].tolist() == padded(expected[: RAMPS + 1])
    assert np.isfinite(state.knots[0, :QUANTILES]).all()
    assert not np.signbit(state.knots[1][state.knots[1] == 0]).any()


def through(state: EnsembleState, x: Array, missing: str = "refuse") -> Array:
    """Return the ramps (rows, columns * RAMPS) of rows, as outputs of a network with weights 1."""
    columns = x.shape[1]
    width, ramps = columns * (2 if missing == "indicate" else 1), RAMPS * min(columns, RAMPED)
    shape = Shape((width + ramps, ramps), "identity", "squared")
    ensemble = Ensemble((MemberOptions(shape),), columns, "none", missing, capacity=1)
    theta = np.zeros(shape.parameters, np.float32)
    ((W, _),) = shape.views(theta)
    W[width:] = np.eye(ramps)
    known = {name: getattr(state, name) for name in ("knots", "rows", "means", "squares", "clusters")}
    return ensemble.bind(ensemble.init(theta)._replace(**known)).predict(x)


@pytest.mark.parametrize("missing", ["refuse", "impute", "indicate"])
def test_a_ramp_rises_from_0_at_its_knot_to_1_at_the_next_one(missing: str) -> None:
    seen = np.column_stack(
        [RNG.normal(size=64) * 1e6, np.resize([1.0, 4, 9], 64), np.resize([0.0, 1], 64), RNG.random(64)]
    )
    state = after(seen, scale="none")
    x = np.concatenate([seen, seen * 3, seen * -1, (seen[1:] + seen[:-1]) / 2])
    if missing != "refuse":
        x[::5, 0] = x[::3, 1] = np.nan
    heights = through(state, x, missing).reshape(len(x), 4, RAMPS)
    given = np.where(np.isnan(x), state.means, x)  # a gap is the mean
    for j in range(4):
        for i, (low, high) in enumerate(pairwise(state.knots[j])):
            expected = np.clip((given[:, j] - low) / (high - low), 0, 1) if np.isfinite(high) else 0
            np.testing.assert_allclose(heights[:, j, i], expected, rtol=1e-6, atol=1e-6)
    assert heights[:, 0, : QUANTILES - 1].any(axis=0).all()
    assert np.count_nonzero(heights.any(axis=0)) == 2 * (QUANTILES - 1) + 2


def test_a_ramp_whose_width_is_no_number_in_float32_is_0_and_its_weights_rest() -> None:
    far, near = np.resize([-3e38, 3e38, 3.2e38], 64), np.resize([0.0, 1e-60, 1], 64)
    x = np.column_stack([far, near])
    state = after(x, scale="none")
    assert state.knots[:, :3].tolist() == [[-3e38, 3e38, 3.2e38], [0, 1e-60, 1]]
    heights = through(state, x).reshape(64, 2, RAMPS)
    assert not heights[:, :, 0].any()
    assert heights[:3, 0, 1].tolist() == heights[:3, 1, 1].tolist() == [0, 0, 1]
    ensemble = seeing(2)
    state = ensemble.init(np.ones(ensemble.shape.parameters, np.float32))
    learn(ensemble, state, x, near, mini_batch=8)
    ((W, _),) = ensemble.shape.views(state.theta)
    ramps = W[2:].reshape(2, RAMPS)
    assert (ramps[:, 0] == 1).all()
    assert (ramps[:, 1] != 1).all()


def test_columns_after_the_first_48_have_no_ramps() -> None:
    x = RNG.normal(size=(32, RAMPED + 3))
    state = after(x)
    assert state.knots.shape == (RAMPED, RAMPS + 1) == (48, 24)
    assert np.isfinite(state.knots[:, :QUANTILES]).all()
    moved = x.copy()
    moved[:, RAMPED:] += 9
    assert through(state, moved).tobytes() == through(state, x).tobytes()


def test_weights_of_ramps_without_knots_rest() -> None:
    x = np.column_stack([RNG.normal(size=96), np.resize([0.0, 1], 96), np.resize([0.0, 1, 2], 96)])
    shape = Shape((3 + 3 * RAMPS, 1), "identity", "squared", skip=True)
    member = MemberOptions(shape, "adam", 0.1, options={"l2": 0.1})
    ensemble = Ensemble((member,), 3, capacity=96)
    start = np.ones(shape.parameters, np.float32)
    state = ensemble.init(start)
    learn(ensemble, state, x, x.sum(axis=1), mini_batch=8)
    (first,), (second,) = ensemble.layout.firsts(state.first), ensemble.layout.seconds(state.second)
    for vector, rest in ((state.theta, 1), (first, 0), (second, 0)):
        assert vector is not None
        ((W, _),) = shape.views(vector)
        ramps = np.concatenate([W, shape.linear_view(vector)], axis=1)[3:].reshape(3, RAMPS, -1)
        assert (ramps[1] == rest).all()  # of two values
        assert (ramps[2, 2:] == rest).all()
        assert (ramps[0, : QUANTILES - 1] != rest).all()
        assert (ramps[0, QUANTILES - 1 :] == rest).all()
        assert (ramps[2, :2] != rest).all()


def test_a_linear_network_learns_a_curve_by_them() -> None:
    x = RNG.uniform(-3, 3, (3000, 1))
    y, errors = np.sin(2 * x[:, 0]), []
    for inputs in (1, 1 + RAMPS):
        shape = Shape((inputs, 1), "identity", "squared")
        ensemble = Ensemble((MemberOptions(shape, "adam", 0.03),), 1, capacity=500)
        state = ensemble.init(np.zeros(shape.parameters, np.float32))
        output, _ = learn(ensemble, state, x, y, mini_batch=8)
        errors.append(np.abs(output[1500:, 0] - y[1500:]).mean())
    assert errors[0] > 0.5
    assert errors[1] < 0.1
