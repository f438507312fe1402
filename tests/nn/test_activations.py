import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, log_expit

from streaming_nn.nn.activations import ACTIVATIONS

pytestmark = pytest.mark.commit

Z = np.array([-30.0, -3.0, -1.0, -0.1, 0.2, 1.0, 4.0, 30.0])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_backward_is_the_derivative(name: str) -> None:
    activation, step = ACTIVATIONS[name], 1e-6
    above, below = activation.forward(Z + step)[0], activation.forward(Z - step)[0]
    _, kept = activation.forward(Z.copy())
    slope = activation.backward(np.full_like(Z, 2.0), kept)
    np.testing.assert_allclose(slope, 2 * (above - below) / (2 * step), atol=1e-8)


@pytest.mark.parametrize(
    ("name", "at_minus_1", "at_2"),
    [
        ("identity", -1, 2),
        ("sigmoid", 1 / (1 + np.e), 1 / (1 + np.exp(-2))),
        ("tanh", np.tanh(-1), np.tanh(2)),
        ("relu", 0, 2),
        ("leaky_relu", -0.01, 2),
        ("elu", 1 / np.e - 1, 2),
        ("gelu", -0.15880801, 1.95459769),  # its definition with tanh, worked out by hand
        ("softplus", np.log(1 + 1 / np.e), np.log(1 + np.exp(2))),
    ],
)
def test_values(name: str, at_minus_1: float, at_2: float) -> None:
    h, _ = ACTIVATIONS[name].forward(np.array([-1.0, 2.0]))
    np.testing.assert_allclose(h, [at_minus_1, at_2], rtol=1e-6)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8))
def test_formulas(values: list[float]) -> None:
    z = np.array(values)
    expected = {
        "identity": z,
        "sigmoid": expit(z),
        "tanh": np.tanh(z),
        "relu": np.where(z > 0, z, 0),
        "leaky_relu": np.where(z > 0, z, 0.01 * z),
        "elu": np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1),
        "gelu": z * expit(2 * np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)),  # (1 + tanh(u)) / 2 is expit(2 u)
        "softplus": -log_expit(-z),
    }
    assert expected.keys() == ACTIVATIONS.keys()
    for name, h in expected.items():
        np.testing.assert_allclose(ACTIVATIONS[name].forward(z.copy())[0], h, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("size", [8, 5000])  # relu's backward pass goes two ways
def test_float32_stays_float32_and_extremes_stay_finite(name: str, size: int) -> None:
    z = np.linspace(-500, 500, size, dtype=np.float32)
    h, kept = ACTIVATIONS[name].forward(z)
    delta = ACTIVATIONS[name].backward(np.ones(size, np.float32), kept)
    assert h.dtype == delta.dtype == np.float32
    assert np.isfinite(h).all()
    assert np.isfinite(delta).all()
