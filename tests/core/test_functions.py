"""The elementary functions: equal to the reference's bits, and within a bound of the exact values."""

import ctypes
from decimal import Decimal, localcontext
from typing import Any

import core_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from streaming_nn.core import functions, library
from streaming_nn.core.functions import FUNCTIONS as NAMES

pytestmark = pytest.mark.commit

RANGES: dict[str, tuple[float, float]] = {
    "exp": (-708.0, 709.0),
    "expm1": (-30.0, 30.0),
    "log": (1e-300, 1e300),
    "log1p": (-0.99, 1e6),
    "tanh": (-25.0, 25.0),
    "sigmoid": (-700.0, 700.0),
    "softplus": (-700.0, 700.0),
    "erf": (-7.0, 7.0),
    "cospi": (0.0, 2.0),
}
BOUND = 2.0**-50  # relative error


def exact(name: str, x: float) -> Decimal:
    with localcontext() as context:
        context.prec = 60
        v, one = Decimal(x), Decimal(1)
        if name == "exp":
            return v.exp()
        if name == "expm1":
            return v.exp() - 1
        if name == "log":
            return v.ln()
        if name == "log1p":
            return (1 + v).ln()
        if name == "tanh":
            e = (2 * v).exp()
            return (e - 1) / (e + 1)
        if name == "sigmoid":
            return one / (1 + (-v).exp())
        if name == "softplus":
            return (1 + v.exp()).ln() if v > -50 else v.exp() - (2 * v).exp() / 2
        if name == "erf":
            return error_function(v)
        angle = v * Decimal("3.14159265358979323846264338327950288419716939937510582")
        total = term = one
        for n in range(1, 40):
            term *= -angle * angle / ((2 * n - 1) * (2 * n))
            total += term
        return total


def error_function(x: Decimal) -> Decimal:
    """Return erf(x) by its series; its terms are up to 10^21 for |x| = 7, so 60 digits leave 38."""
    total = term = x
    for n in range(1, 250):
        term *= -x * x / n
        total += term / (2 * n + 1)
    return total * 2 / Decimal("3.14159265358979323846264338327950288419716939937510582097494").sqrt()


def samples(name: str) -> NDArray[np.float64]:
    rng, (low, high) = np.random.default_rng(0), RANGES[name]
    if low == 1e-300:
        spread = np.exp(rng.uniform(np.log(low), np.log(high), 100))
        return np.concatenate([spread, 1 + rng.uniform(-0.4, 0.6, 100), [1.0, low, high, 2**-0.5, 2**0.5]])
    small = rng.uniform(-1, 1, 60) * 10.0 ** rng.uniform(-12, 0, 60)
    some = np.concatenate([rng.uniform(low, high, 100), small, [low, high, 0.25, 0.5, 1e-20]])
    return some[(some >= low) & (some <= high)]


@pytest.mark.parametrize("name", NAMES)
def test_the_error_is_within_the_bound(name: str) -> None:
    x = samples(name)
    for value, result in zip(x.tolist(), functions.apply(name, x).tolist(), strict=True):
        truth = exact(name, value)
        # a cosine near its zero is exact to the same bound beside 1, as its argument's error is
        least = Decimal(1) if name == "cospi" else Decimal(10) ** -300
        assert abs(Decimal(result) - truth) <= Decimal(BOUND) * max(abs(truth), least), (value, result)


@pytest.mark.parametrize("variant", library.runnable())
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_bits_are_those_of_the_reference(variant: str, data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(NAMES) - 1))
    low, high = RANGES[NAMES[which]]
    x = data.draw(arrays(np.float64, st.integers(1, 9), elements=st.floats(low, high)))
    with np.errstate(all="ignore"):
        assert functions.apply(NAMES[which], x, variant).tobytes() == reference.FUNCTIONS[which](x).tobytes()


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("exp", 0.0, 1.0),
        ("exp", -np.inf, float(np.exp(-708.0))),
        ("exp", np.inf, float(np.exp(709.0))),
        ("expm1", -0.0, 0.0),
        ("log", 1.0, 0.0),
        ("log", 2.0**-1000, -1000 * float(np.log(2))),
        ("tanh", np.inf, 1.0),
        ("tanh", -np.inf, -1.0),
        ("sigmoid", 0.0, 0.5),
        ("sigmoid", np.inf, 1.0),
        ("softplus", np.inf, np.inf),
        ("erf", np.inf, 1.0),
        ("erf", -np.inf, -1.0),
        ("cospi", 0.5, 0.0),
        ("cospi", 1.0, -1.0),
        ("cospi", 2.0, 1.0),
    ],
)
def test_ends_and_special_values(name: str, x: float, y: float) -> None:
    assert functions.apply(name, np.array([x]))[0] == pytest.approx(y, rel=1e-15, abs=0)


@pytest.mark.parametrize("name", NAMES)
def test_not_a_number_stays_one(name: str) -> None:
    assert np.isnan(functions.apply(name, np.array([np.nan]))).all()


def test_an_unknown_function_is_refused() -> None:
    x: NDArray[Any] = np.zeros(1)
    at = library.address(x, "f8", (1,))
    assert library.load().core_function(len(NAMES), at, at, ctypes.c_long(1)) == 1


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_arrays_keep_their_shape(shape: tuple[int, ...]) -> None:
    x = np.full(shape, 2.0)
    for function, expected in ((functions.exponential, np.exp(2.0)), (functions.logarithm, np.log(2.0))):
        y = function(x)
        assert (y.shape, y.dtype) == (shape, np.float64)
        np.testing.assert_allclose(y, expected, rtol=1e-15)
    np.testing.assert_array_equal(x, 2.0)


def test_an_array_in_another_order_or_dtype() -> None:
    x = np.arange(1.0, 7.0).reshape(2, 3)
    np.testing.assert_array_equal(functions.logarithm(x.T), functions.logarithm(x).T)
    np.testing.assert_array_equal(functions.logarithm(x[:, ::2]), functions.logarithm(x)[:, ::2])
    with pytest.raises(ValueError, match="must be float64"):
        functions.exponential(np.zeros(3, np.float32))  # type: ignore[arg-type]


def chain(values: list[float]) -> float:
    total = 0.0
    for value in values:
        total = total + value
    return total


TERMS = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.sampled_from([1e16, 1.0, -1e16, -0.0])


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(), shape=st.tuples(st.integers(0, 40), st.integers(0, 3)), axis=st.sampled_from([0, 1, -1])
)
def test_a_sum_is_a_chain_from_plus_zero(data: st.DataObject, shape: tuple[int, int], axis: int) -> None:
    x = data.draw(arrays(np.float64, shape, elements=TERMS))
    for each in (x, np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2]):
        expected = [chain(line) for line in (x if axis else x.T).tolist()]
        assert functions.chain_sum(each, axis).tobytes() == np.array(expected, np.float64).tobytes()


@pytest.mark.parametrize("size", [7, 128, 129, 10_000])
def test_a_sum_of_many_is_not_pairwise(size: int) -> None:
    x = np.random.default_rng(0).normal(size=(3, size)) * 10.0 ** (np.arange(size) % 30)
    assert functions.chain_sum(x).tolist() == [chain(line) for line in x.tolist()]
    assert functions.chain_sum(np.full(1, -0.0)).tobytes() == np.zeros(()).tobytes()
