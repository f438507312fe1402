import numpy as np
import pytest

from streaming_nn.nn import initializers

pytestmark = pytest.mark.commit

VARIANCE = {
    "glorot_uniform": 2 / (200 + 300),
    "glorot_normal": 2 / (200 + 300),
    "he_uniform": 2 / 200,
    "he_normal": 2 / 200,
    "lecun_uniform": 1 / 200,
    "lecun_normal": 1 / 200,
}


@pytest.mark.parametrize("name", VARIANCE)
def test_variance_is_that_of_the_paper(name: str) -> None:
    W = initializers.draw(name, np.random.default_rng(1), (2, 200, 300))
    assert W.shape == (2, 200, 300)
    assert W.var() == pytest.approx(VARIANCE[name], rel=0.02)
    assert abs(W.mean()) < 1e-3
    spread = np.abs(W).max() / W.std()
    assert (spread < 3**0.5 + 0.01) if name.endswith("uniform") else (spread > 3.5)


@pytest.mark.parametrize("shape", [(2, 20, 6), (2, 6, 20)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape: tuple[int, int, int]) -> None:
    W = initializers.draw("orthogonal", np.random.default_rng(1), shape)
    assert W.shape == shape
    product = W.swapaxes(1, 2) @ W if shape[1] > shape[2] else W @ W.swapaxes(1, 2)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(6), (2, 6, 6)), atol=1e-12)


@pytest.mark.parametrize("name", VARIANCE)
def test_biases_have_the_spread_of_their_layer(name: str) -> None:
    b = initializers.draw(name, np.random.default_rng(1), (50, 1, 300), (200, 300))
    assert b.shape == (50, 1, 300)
    assert b.var() == pytest.approx(VARIANCE[name], rel=0.05)


def test_orthogonal_biases_are_a_unit_vector() -> None:
    b = initializers.draw("orthogonal", np.random.default_rng(1), (2, 1, 9), (5, 9))
    np.testing.assert_allclose((b * b).sum(axis=(1, 2)), 1, rtol=1e-12)


def test_constants() -> None:
    assert initializers.draw("zeros", np.random.default_rng(0), (1, 2, 3)).tolist() == [[[0] * 3] * 2]
    assert initializers.draw(0.5, np.random.default_rng(0), (1, 2, 3)).tolist() == [[[0.5] * 3] * 2]


def test_wrong_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^initializer must be one of 'glorot_uniform', .*; got 'gloro'$"):
        initializers.check("initializer", "gloro")
    with pytest.raises(ValueError, match=r"^initializer must be a number in \(-inf, inf\); got nan$"):
        initializers.check("initializer", float("nan"))
