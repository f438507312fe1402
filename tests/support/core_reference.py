"""The second implementation of docs/arithmetic.md: NumPy, one operation after the other, slow.

Only + - * /, square roots, comparisons and the bits of numbers are used, each of which IEEE 754 defines: no
reduction, no product of matrices, no function of NumPy's that another machine computes otherwise.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
F4 = np.float32


# --- Functions of float64


def bits(x: Array) -> NDArray[np.uint64]:
    return np.asarray(x, np.float64).view(np.uint64)


def from_bits(x: NDArray[np.uint64]) -> Array:
    return x.view(np.float64)


LOG2E = float.fromhex("0x1.71547652b82fep0")
LN2_HIGH = float.fromhex("0x1.62e42feep-1")
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
SHIFT = 1.5 * 2.0**52
PI = float.fromhex("0x1.921fb54442d18p1")
FACTORIAL = [1.0]
for n in range(1, 17):
    FACTORIAL.append(FACTORIAL[-1] * n)


def horner(x: Array, coefficients: list[float]) -> Array:
    """Evaluate a polynomial; the coefficient of the highest power comes first."""
    p = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        p = p * x + c
    return p


def exp_series(r: Array) -> Array:
    return horner(r, [1.0 / FACTORIAL[n] for n in range(13, 1, -1)])


def exponential(x: Array) -> Array:
    x = np.where(x < -708.0, -708.0, x)
    x = np.where(x > 709.0, 709.0, x)
    shifted = x * LOG2E + SHIFT
    k = shifted - SHIFT
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    p = 1.0 + (r + r * r * exp_series(r))
    return p * from_bits((bits(shifted) + np.uint64(1023)) << np.uint64(52))


def exponential_minus_1(x: Array) -> Array:
    return np.where(np.abs(x) < 0.35, x + x * x * exp_series(x), exponential(x) - 1.0)


def log_series(f: Array) -> Array:
    return horner(f * f, [2.0 / n for n in range(23, 1, -2)] + [2.0])


def logarithm(x: Array) -> Array:
    low = np.uint64(0x3FE6A09E00000000)
    b = bits(x) - low
    k = (b.view(np.int64) >> 52).astype(np.float64)
    m = from_bits((b & np.uint64(0x000FFFFFFFFFFFFF)) + low)
    f = (m - 1.0) / (m + 1.0)
    return np.where(x == x, k * LN2_HIGH + (f * log_series(f) + k * LN2_LOW), x)


def logarithm_1_plus(x: Array) -> Array:
    f = x / (2.0 + x)
    return np.where(np.abs(f) < 0.17, f * log_series(f), logarithm(1.0 + x))


def hyperbolic_tangent(x: Array) -> Array:
    size = np.abs(x)
    e = exponential_minus_1(2.0 * np.where(size > 20.0, 20.0, size))
    t = e / (e + 2.0)
    return np.where(x < 0, -t, t)


def sigmoid(x: Array) -> Array:
    e = exponential(-np.abs(x))
    return np.where(x < 0, e / (1.0 + e), 1.0 / (1.0 + e))


def softplus(x: Array) -> Array:
    more = logarithm_1_plus(exponential(-np.abs(x)))
    return np.where(x > 0, x + more, more)


def power(x: Array, y: Array | float) -> Array:
    return np.where(x > 0, exponential(y * logarithm(x)), 0.0)


def cosine_of_pi(t: Array) -> Array:
    t = np.where(t > 1.0, 2.0 - t, t)
    sign = np.where(t > 0.5, -1.0, 1.0)
    t = np.where(t > 0.5, 1.0 - t, t)
    x = PI * np.where(t > 0.25, 0.5 - t, t)
    signed = [(-1) ** (n // 2) / FACTORIAL[n] for n in range(17)]
    cosine = horner(x * x, signed[16::-2])
    sine = horner(x * x, signed[15::-2])
    return sign * np.where(t > 0.25, x * sine, cosine)


FUNCTIONS = (
    exponential,
    exponential_minus_1,
    logarithm,
    logarithm_1_plus,
    hyperbolic_tangent,
    sigmoid,
    softplus,
    cosine_of_pi,
)


# --- Products


def product(x: Array, w: Array) -> Array:
    """Return x (rows, n) times w (n, m): each element one chain over n, from +0, in float32."""
    z = np.zeros((len(x), w.shape[1]), F4)
    for i in range(x.shape[1]):
        z = z + x[:, i : i + 1] * w[i]
    return z
