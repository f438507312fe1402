import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss

from streaming_nn.nn.losses import FEW_OUTPUTS, LOSSES

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("outputs", [2, 7, FEW_OUTPUTS, FEW_OUTPUTS + 1])
def test_softmax_is_that_of_scipy(outputs: int) -> None:
    z = RNG.normal(size=(3, 5, outputs)) * 10
    np.testing.assert_allclose(LOSSES["softmax"].link(z.copy()), softmax(z, axis=-1), rtol=1e-12)


def test_softmax_answers_a_row_the_same_alone_and_among_others() -> None:
    z = RNG.normal(size=(1, 300, 7)).astype(np.float32)
    together = LOSSES["softmax"].link(z.copy())
    alone = [LOSSES["softmax"].link(z[:, row : row + 1].copy()) for row in range(300)]
    assert together.tobytes() == np.concatenate(alone, axis=1).tobytes()


def test_cross_entropy_is_that_of_scikit_learn() -> None:
    z, y = RNG.normal(size=(2, 50, 4)), RNG.integers(0, 4, 50)
    p = softmax(z, axis=-1)
    loss, _ = LOSSES["softmax"].loss(p, y)
    np.testing.assert_allclose(loss, -log_softmax(z, axis=-1)[:, np.arange(50), y], rtol=1e-10)
    assert loss[1].mean() == pytest.approx(log_loss(y, p[1], labels=range(4)))


def test_each_member_may_have_labels_of_its_own() -> None:
    p, y = softmax(RNG.normal(size=(2, 5, 3)), axis=-1), RNG.integers(0, 3, (2, 5))
    loss, delta = LOSSES["softmax"].loss(p, y)
    for member in range(2):
        alone = LOSSES["softmax"].loss(p[member : member + 1], y[member])
        assert loss[member].tolist() == alone[0][0].tolist()
        assert delta[member].tolist() == alone[1][0].tolist()


def test_a_probability_of_zero_gives_a_finite_loss() -> None:
    p = LOSSES["softmax"].link(np.array([[[-1000.0, 1000.0]]], np.float32))
    loss, delta = LOSSES["softmax"].loss(p, np.array([0]))
    assert 80 < loss[0, 0] < 90
    assert delta.tolist() == [[[-1.0, 1.0]]]


def test_huber_is_squared_near_the_target_and_absolute_further_out() -> None:
    loss, delta = LOSSES["huber"].loss(np.array([[[3.0], [1.5], [-9.0]]]), np.ones(3))
    assert loss.tolist() == [[1.5, 0.125, 9.5]]
    assert delta.tolist() == [[[1.0], [0.5], [-1.0]]]


def test_squared() -> None:
    loss, delta = LOSSES["squared"].loss(np.array([[[3.0], [1.0]]]), np.array([1.0, 1.0]))
    assert loss.tolist() == [[2.0, 0.0]]
    assert delta.tolist() == [[[2.0], [0.0]]]
