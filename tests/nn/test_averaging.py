from decimal import Decimal, localcontext

import core_reference as reference
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_nn.nn import averaging
from streaming_nn.nn.optimizers import Adam

pytestmark = pytest.mark.commit


@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(0, 40))
def test_rows_of_tasks_are_interleaved(counts: list[int], last: int) -> None:
    order = averaging.interleave(counts, last)
    whole = sorted((((j + 0.5) / n, task, j) for task, n in enumerate(counts) for j in range(n)))
    assert [tuple(row) for row in order] == [(task, j) for _, task, j in whole][len(whole) - len(order) :]
    assert len(order) == min(last, sum(counts))


def test_powers_are_averaged_by_the_number_of_steps() -> None:
    adam, rng = Adam(0.01), np.random.default_rng(0)
    theta = rng.normal(size=(2, 5)).astype(np.float32)

    def after(steps: int) -> object:
        state, at = adam.init(theta), theta
        for _ in range(steps):
            at, state = adam.update(state, rng.normal(size=theta.shape).astype(np.float32), at)
        return state

    parts = [after(10), after(30)]
    merged = averaging.average_states(parts, averaging.shares([1, 3]))  # type: ignore[type-var]
    np.testing.assert_allclose(merged.power1, 0.9**25)  # 1/4 of 10 and 3/4 of 30 steps
    np.testing.assert_allclose(merged.m, 0.25 * parts[0].m + 0.75 * parts[1].m, rtol=1e-6)
    assert merged.m.dtype == np.float32


def test_no_rows_share_evenly() -> None:
    np.testing.assert_array_equal(averaging.shares([0, 0]), [0.5, 0.5])


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=6))
def test_shares_are_quotients_of_integers(rows: list[int]) -> None:
    total = sum(rows)
    expected = [row / total for row in rows] if total else [1 / len(rows)] * len(rows)
    assert averaging.shares(rows).tolist() == expected


PARTS = st.lists(st.tuples(st.floats(0.01, 1), st.integers(0, 50)), min_size=1, max_size=6)


@given(parts=PARTS, dtype=st.sampled_from([np.float32, np.float64]))
def test_a_mean_is_a_chain_in_float64_rounded_once(parts: list[tuple[float, int]], dtype: type) -> None:
    share = averaging.shares([rows for _, rows in parts])
    total = 0.0
    for (value, _), each in zip(parts, share.tolist(), strict=True):
        total = total + float(dtype(value)) * each
    mean = averaging.average_arrays([np.array([value], dtype) for value, _ in parts], share)
    assert mean.dtype == dtype
    assert mean.tolist() == [dtype(total)]


@given(parts=PARTS, steps=st.integers(0, 10**6))
def test_a_mean_power_has_the_bits_of_the_reference(parts: list[tuple[float, int]], steps: int) -> None:
    share = averaging.shares([rows for _, rows in parts])
    powers = [np.array([value, 0.999**steps, 0.9**steps]) for value, _ in parts]
    total = np.zeros(3)
    for power, each in zip(powers, share.tolist(), strict=True):
        total = total + reference.logarithm(np.maximum(power, 2.0**-1022)) * each
    expected = reference.exponential(total)
    assert averaging.average_powers(powers, share).tobytes() == expected.tobytes()


@pytest.mark.parametrize("steps", [(1, 5), (10, 1000), (3, 20_000)])
def test_a_mean_power_is_the_power_of_the_mean_number_of_steps(steps: tuple[int, int]) -> None:
    share = averaging.shares([1, 3])
    with localcontext() as context:
        context.prec = 60
        exact = float(Decimal("0.999") ** ((Decimal(steps[0]) + 3 * Decimal(steps[1])) / 4))
    powers = [np.array(float(Decimal("0.999") ** each)) for each in steps]
    np.testing.assert_allclose(averaging.average_powers(powers, share), exact, rtol=1e-13)


def test_a_power_that_has_become_zero_stays_next_to_zero() -> None:
    powers = [np.array([0.0, 5e-324]), np.array([0.0, 0.0])]
    mean = averaging.average_powers(powers, averaging.shares([1, 1]))
    assert ((mean >= 0) & (mean < 1e-300)).all()
