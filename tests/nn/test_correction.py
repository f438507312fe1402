"""The correction of a regression by its last error, beside a slow one by the formula."""

from dataclasses import replace
from typing import Any

import core_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.learner import Batch, Predicted, State, combine, initial, learn_part, test_then_train
from streaming_nn.nn.mlp import MLP

pytestmark = pytest.mark.commit

Array = NDArray[Any]
SMALL: dict[str, Any] = {"hidden": (4,), "buffer_rows": 50, "mini_batch": 1}
ONE, TWO = Ensemble(2, **SMALL), Ensemble(2, targets=("u", "v"), **SMALL)


def lasting(rows: int, kept: float, seed: int = 0) -> tuple[Array, Array]:
    """Return rows and targets whose noise is `kept` times the one before plus an innovation."""
    rng = np.random.default_rng(seed)
    noise, x = rng.normal(size=rows), rng.normal(size=(rows, 2))
    for t in range(1, rows):
        noise[t] += kept * noise[t - 1]
    return x, 50 + 3 * x[:, 0] - x[:, 1] + noise


def served(learner: Ensemble, x: Array, y: Array, rows: int) -> tuple[Array, State[Any]]:
    """Return what versions of so many rows each predict (rows, targets), and the last state."""
    state, found = initial(learner), []
    for start in range(0, len(y), rows):
        batch = Batch(x[start : start + rows], y[start : start + rows])
        found.append(learner.predict(state.model, batch.x))
        state, _ = test_then_train(learner, state, [batch])
    return np.concatenate(found), state


def without(learner: Ensemble, x: Array, y: Array, rows: int) -> tuple[Array, Array, Array]:
    """Return predictions as served and prequential ones without a correction, and each version's unit."""
    state, found, output, units = learner.init(), [], [], []
    for start in range(0, len(y), rows):
        batch = Batch(x[start : start + rows], y[start : start + rows])
        found.append(learner.predict(state, batch.x))
        state, of_rows, _ = learner.learn(state, batch)
        output.append(of_rows)
        count, _, squares = state.targets.T
        units.append(np.where(squares > 0, np.sqrt(squares / count), 1.0))
    return np.concatenate(found), np.concatenate(output), np.array(units)


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("learner", [ONE, TWO], ids=["one target", "two"])
def test_it_is_the_formula(learner: Ensemble, rows: int) -> None:
    x, y = lasting(140, 0.9)
    y = np.column_stack([y, y[::-1] * 1e-3]) if learner is TWO else y
    plain, output, units = without(learner, x, y, rows)
    found, state = served(learner, x, y, rows)
    truth, targets = y.reshape(len(y), -1), plain.shape[1]
    expected, squares, products = plain.copy(), np.zeros(targets), np.zeros(targets)
    last, unit = np.zeros(targets), np.ones(targets)
    for version, start in enumerate(range(0, len(y), rows)):
        at = slice(start, start + rows)
        part = np.clip(products / (squares + 10), 0, 1)
        if version:
            expected[at] += part * last * units[version - 1]
        errors = np.clip((truth[at] - plain[at]) / unit, -1, 1).mean(axis=0)
        squares, products = 0.999 * squares + last**2, 0.999 * products + last * errors
        last = np.clip((truth[at] - output[at]) / unit, -1, 1)[-1]
        unit = units[version]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert (np.abs(found - plain) > 1e-3).mean() > 0.3
    np.testing.assert_allclose(state.model.correction[1:], [squares, products, last], rtol=1e-6, atol=1e-9)


def test_errors_that_last_fall_where_each_row_has_a_version() -> None:
    x, y = lasting(4000, 0.9)
    errors = {}
    for rows in (1, 100):
        plain, _, _ = without(ONE, x, y, rows)
        found, _ = served(ONE, x, y, rows)
        errors[rows] = [np.abs(each[1000:, 0] - y[1000:]).mean() for each in (plain, found)]
    assert errors[1][1] < 0.7 * errors[1][0]
    assert errors[1][1] < 1.25 * np.sqrt(2 / np.pi)  # of the innovations alone
    assert errors[100][1] < 1.01 * errors[100][0]


def test_errors_without_memory_stay_as_they_are() -> None:
    x, y = lasting(4000, 0.0)
    plain, _, _ = without(ONE, x, y, 1)
    found, _ = served(ONE, x, y, 1)
    before, now = (np.abs(each[500:, 0] - y[500:]).mean() for each in (plain, found))
    assert now < 1.005 * before


@pytest.mark.parametrize("wild", [1e6, -1e300, np.nan])
def test_a_wild_target_moves_the_next_prediction_by_one_deviation_at_most(wild: float) -> None:
    x, y = lasting(600, 0.9)
    _, state = served(ONE, x, y, 1)
    unit = np.sqrt(state.model.targets[0, 2] / state.model.targets[0, 0])
    after_it, _ = test_then_train(ONE, state, [Batch(x[:1], np.array([wild]))])
    assert np.abs(after_it.model.correction[0]) <= 1.001 * unit
    assert np.isfinite(after_it.model.correction).all()


def test_the_state_that_came_in_is_not_changed_and_batches_do_not_matter() -> None:
    x, y = lasting(9000, 0.5)
    learner = replace(ONE, mini_batch=32)
    _, start = served(learner, x[:640], y[:640], 64)
    before = start.model.correction.tobytes()
    one, _ = test_then_train(learner, start, [Batch(x, y)])
    other, _ = test_then_train(learner, start, [Batch(x[:77], y[:77]), Batch(x[77:], y[77:])])
    assert start.model.correction.tobytes() == before
    assert one.model.correction.tobytes() == other.model.correction.tobytes() != before


def test_after_several_tasks_nothing_is_added() -> None:
    x, y = lasting(300, 0.9)
    _, start = served(ONE, x, y, 1)
    assert start.model.correction[0] != 0
    parts = [learn_part(ONE, start, [Batch(x[cut], y[cut])]) for cut in (slice(0, 9), slice(9, 20))]
    merged = combine(ONE, start, parts).model.correction
    assert merged[::3].tolist() == [[0], [0]]
    assert merged[1:3].tobytes() == start.model.correction[1:3].tobytes()


@pytest.mark.parametrize(
    "learner", [Ensemble(2, (0, 1), **SMALL), MLP(2), replace(ONE, members=[ONE.described[0]])], ids=repr
)
def test_classes_and_one_network_have_none(learner: Any) -> None:
    assert learner.init().correction.size == 0


def test_in_place_it_is_the_same() -> None:
    x, y = lasting(50, 0.9)
    one = other = initial(ONE)
    for at in range(50):
        batch = Batch(x[at : at + 1], y[at : at + 1])
        one, _ = test_then_train(ONE, one, [batch])
        other, _ = test_then_train(ONE, other, [batch], in_place=True)
    assert one.model.correction.tobytes() == other.model.correction.tobytes()
    assert one.model.correction.all()


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**20), targets=st.integers(1, 3), wild=st.sampled_from([0, 1e300, np.nan, np.inf])
)
def test_the_bits_are_those_of_the_reference(seed: int, targets: int, wild: float) -> None:
    rng, learner = np.random.default_rng(seed), Ensemble(1, targets=tuple("uvw"[:targets]), **SMALL)
    state = learner.init()
    for _ in range(8):
        before = state.targets.copy()
        state.targets[:] = rng.integers(0, 3, (targets, 1)) * rng.random((targets, 3)) * 9
        y, output, as_served = rng.normal(size=(3, int(rng.integers(1, 5)), targets)) * rng.choice(
            [0, 1e-3, 2]
        )
        if wild and rng.random() < 0.3:
            output[-1, 0] = as_served[0, 0] = wild
        expected = state.correction.copy()
        after, unit = state.targets.copy(), state._replace(targets=before)
        with np.errstate(all="ignore"):
            reference.correct(expected, before, after, y, output, as_served)
        errors = learner.begin_errors(unit)
        assert errors is not None
        for cut in (slice(0, 1), slice(1, None)):
            learner.add_errors(state, errors, Predicted(Batch(None, y[cut]), output[cut], as_served[cut]))
        learner.correct(state, errors, len(y))
        assert state.correction.tobytes() == expected.tobytes()
