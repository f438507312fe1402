"""Products: the reference's bits in every shape, in every variant; padding of PADDING columns."""

import ctypes

import core_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streaming_nn.core import library

pytestmark = pytest.mark.commit

Array = NDArray[np.float32]


def multiply(x: Array, w: Array, variant: str | None = None) -> Array:
    return _call("core_product", x, w, (len(x), w.shape[1]), x.shape[1], variant)


def multiply_transposed(x: Array, d: Array, variant: str | None = None) -> Array:
    return _call("core_product_transposed", x, d, (x.shape[1], d.shape[1]), len(x), variant)


def _call(name: str, x: Array, w: Array, shape: tuple[int, int], terms: int, variant: str | None) -> Array:
    """Return the product of this shape, each element a chain of so many terms."""
    core, m = library.load(variant), w.shape[1]
    z = np.full(shape, np.nan, np.float32)
    work = np.empty(core.core_product_work(ctypes.c_long(terms), ctypes.c_long(m)), np.float32)
    arrays = [library.address(a, "f4", a.shape) for a in (x, w, z, work)]
    getattr(core, name)(*arrays[:3], *map(ctypes.c_long, (*x.shape, m)), arrays[3])
    return z


def values(seed: int, shape: tuple[int, int]) -> Array:
    """Return normal numbers, and zeros of both signs among them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape).astype(np.float32)
    x[rng.random(shape) < 0.2] = 0
    x[rng.random(shape) < 0.1] = -0.0
    return x


@pytest.mark.parametrize("variant", library.runnable())
@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 20), n=st.integers(1, 12), vectors=st.integers(1, 13), seed=st.integers(0, 2**20))
def test_the_bits_are_those_of_the_reference(
    variant: str, rows: int, n: int, vectors: int, seed: int
) -> None:
    x, w = values(seed, (rows, n)), values(seed + 1, (n, 8 * vectors))
    assert multiply(x, w, variant).tobytes() == reference.product(x, w).tobytes()
    d = values(seed + 2, (rows, 8 * vectors))
    transposed = np.ascontiguousarray(x.T)
    assert multiply_transposed(x, d, variant).tobytes() == reference.product(transposed, d).tobytes()


@pytest.mark.parametrize("variant", library.runnable())
def test_panels_have_the_same_bits(variant: str) -> None:
    x, w = values(0, (50, 200)), values(1, (200, 88))
    assert multiply(x, w, variant).tobytes() == reference.product(x, w).tobytes()


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 9), seed=st.integers(0, 2**20))
def test_an_element_does_not_depend_on_what_is_computed_beside_it(rows: int, seed: int) -> None:
    x, w = values(seed, (rows, 7)), values(seed + 1, (7, 40))
    whole = multiply(x, w)
    assert multiply(x[:1], w).tobytes() == whole[:1].tobytes()
    assert multiply(x, np.ascontiguousarray(w[:, 24:32])).tobytes() == whole[:, 24:32].tobytes()


def test_it_is_close_to_the_product_in_float64() -> None:
    x, w = values(3, (40, 300)), values(4, (300, 16))
    exact = x.astype(np.float64) @ w.astype(np.float64)
    assert np.abs(multiply(x, w) - exact).max() < 300 * 2.0**-24 * np.abs(exact).max()


@pytest.mark.parametrize("wild", [np.inf, -np.inf, np.nan, 3e38])
def test_what_is_not_finite_is_not_hidden_by_a_zero(wild: float) -> None:
    x, w = np.array([[0.0, 1.0]], np.float32), np.zeros((2, 8), np.float32)
    w[0] = wild
    z = multiply(x, w)
    assert np.isnan(z).all() == (not np.isfinite(wild))
