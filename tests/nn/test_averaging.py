from decimal import Decimal, localcontext

import core_reference as reference
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_nn.nn import averaging

pytestmark = pytest.mark.commit


@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(0, 40))
def test_rows_of_tasks_are_interleaved(counts: list[int], last: int) -> None:
    order = averaging.interleave(counts, last)
    whole = sorted((((j + 0.5) / n, task, j) for task, n in enumerate(counts) for j in range(n)))
    assert [tuple(row) for row in order] == [(task, j) for _, task, j in whole][len(whole) - len(order) :]
    assert len(order) == min(last, sum(counts))


def test_shares_are_by_rows_and_even_without_any() -> None:
    assert averaging.shares([1, 3]).tolist() == [0.25, 0.75]
    assert averaging.shares([0, 5]).tolist() == [0, 1]
    assert averaging.shares([0, 0]).tolist() == [0.5, 0.5]
    assert averaging.shares([7]).tolist() == [1]


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


def test_arrays_are_averaged_in_float64_and_keep_their_dtype() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(3, 4)).astype(np.float32) for _ in range(5)]
    share = averaging.shares([1, 2, 3, 4, 5])
    mean = averaging.average_arrays(arrays, share)
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, np.average(arrays, axis=0, weights=share), rtol=1e-6)
    near = [np.full(2, 16_777_216, np.float32), np.full(2, 16_777_218, np.float32)]
    assert averaging.average_arrays(near, averaging.shares([3, 1])).tolist() == [16_777_216] * 2
    assert averaging.average_arrays(near[:1], np.ones(1)).tobytes() == near[0].tobytes()
    assert averaging.average_arrays([np.zeros((0, 3))] * 2, share[:2]).shape == (0, 3)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (0.9**10, 0.9**30, 0.9**25),  # a quarter of 10 and three quarters of 30 steps
        (1.0, 1.0, 1.0),
        (1.0, 0.9**4, 0.9**3),
        (2.0**-1022, 1.0, 2.0 ** (-1022 / 4)),  # the least that is normal
        (2.0**-1030, 1.0, 2.0 ** (-1022 / 4)),  # others count as it
        (5e-324, 0.5, 2.0 ** ((-1022 - 3) / 4)),
        (0.0, 0.5, 2.0 ** ((-1022 - 3) / 4)),
        (0.5, 0.0, 2.0 ** ((-1 - 3 * 1022) / 4)),
    ],
)
def test_powers_are_averaged_by_the_number_of_steps(one: float, other: float, expected: float) -> None:
    powers = [np.array([[one, 0.5], [0.25, 1.0]]), np.array([[other, 0.5], [0.25, 1.0]])]
    merged = averaging.average_powers(powers, averaging.shares([1, 3]))
    np.testing.assert_allclose(merged, [[expected, 0.5], [0.25, 1.0]], rtol=1e-12)


def test_the_average_of_powers_of_nearly_0_is_nearly_0() -> None:
    merged = averaging.average_powers([np.array([0.0, 5e-324])] * 3, averaging.shares([1, 2, 3]))
    assert ((merged > 0) & (merged < 4e-308)).all()
    mean = averaging.average_powers([np.zeros(1), np.ones(1)], averaging.shares([1, 1]))
    np.testing.assert_allclose(mean, 2.0**-511, rtol=1e-12)
