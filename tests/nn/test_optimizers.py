from typing import Any

import numpy as np
import pytest
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from streaming_nn.nn.optimizers import OPTIMIZERS, SGD, Adam

STEPS, PARAMETERS = 30, 7


def gradients(members: int = 1) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(STEPS, members, PARAMETERS))


def descend(optimizer: Any, gradients: np.ndarray) -> np.ndarray:
    theta = np.ones_like(gradients[0])
    state = optimizer.init(theta)
    for gradient in gradients:
        theta, state = optimizer.update(state, gradient, theta)
    return theta


def test_sgd_follows_the_formula() -> None:
    expected = 1 - 0.1 * gradients().sum(axis=0)
    np.testing.assert_allclose(descend(SGD(0.1), gradients()), expected, rtol=1e-12)


def test_adam_follows_algorithm_1() -> None:
    theta, m, v, rate, beta1, beta2, epsilon = np.ones((1, PARAMETERS)), 0.0, 0.0, 0.1, 0.8, 0.99, 1e-3
    for t, g in enumerate(gradients(), 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        theta = theta - rate * m_hat / (np.sqrt(v_hat) + epsilon)
    np.testing.assert_allclose(descend(Adam(rate, beta1, beta2, epsilon), gradients()), theta, rtol=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SGD(0.1), lambda theta: SGDOptimizer(theta, 0.1, momentum=0, nesterov=False)),
        # scikit-learn corrects epsilon's bias in another way; a small one shows that all else is equal
        (Adam(0.1, 0.9, 0.99, 1e-12), lambda theta: AdamOptimizer(theta, 0.1, 0.9, 0.99, 1e-12)),
    ],
)
def test_scikit_learn_descends_the_same(ours: Any, theirs: Any) -> None:
    theta = np.ones((1, PARAMETERS))
    optimizer = theirs([theta])
    for gradient in gradients():
        optimizer.update_params([theta], [gradient])
    np.testing.assert_allclose(descend(ours, gradients()), theta, rtol=1e-9)


@pytest.mark.parametrize("kind", OPTIMIZERS.values())
def test_each_member_may_have_a_rate_of_its_own(kind: Any) -> None:
    rates = (0.003, 0.01, 0.3)
    together = descend(kind(rates), gradients(3))
    for i, rate in enumerate(rates):
        np.testing.assert_allclose(together[i], descend(kind(rate), gradients(3)[:, i : i + 1])[0], rtol=1e-6)


@pytest.mark.parametrize("kind", OPTIMIZERS.values())
def test_update_is_pure_and_keeps_float32(kind: Any) -> None:
    optimizer, theta = kind(0.1), np.ones((1, 3), np.float32)
    gradient = np.array([[0.0, 1e-3, -2.0]], np.float32)
    state = optimizer.init(theta)
    _, state = optimizer.update(state, gradient, theta)
    before = [part.copy() for part in (theta, gradient, *state)]
    new, newer = optimizer.update(state, gradient, theta)
    assert new.dtype == np.float32
    assert [part.dtype for part in newer] == [part.dtype for part in state]
    assert [part.tolist() for part in (theta, gradient, *state)] == [part.tolist() for part in before]


def test_moments_that_fade_out_do_not_become_subnormal() -> None:
    adam, theta = Adam(0.01), np.ones((1, 2), np.float32)
    state = adam.init(theta)
    for _ in range(10):
        theta, state = adam.update(state, np.ones_like(theta), theta)
    state = state._replace(v=state.v * np.float32(1e-35))  # as after 80,000 steps
    for _ in range(1500):
        theta, state = adam.update(state, np.zeros_like(theta), theta)
    for _ in range(5):
        again, state = adam.update(state, np.zeros_like(theta), theta)
    least = np.finfo(np.float32).tiny
    assert state.m.min() > least
    assert state.v.min() > least
    assert again.tobytes() == theta.tobytes()  # and they move nothing


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(0), r"^learning_rate must be a number in \(0, inf\); got 0$"),
        (lambda: Adam((0.1, -1.0)), r"^learning_rate must be a number in \(0, inf\); got -1.0$"),
        (lambda: Adam(beta1=1.0), r"^beta1 must be a number in \[0, 1\); got 1.0$"),
        (lambda: Adam(beta2=-0.1), r"^beta2 must be a number in \[0, 1\); got -0.1$"),
        (lambda: Adam(epsilon=0), r"^epsilon must be a number in \(0, inf\); got 0$"),
    ],
)
def test_wrong_options_are_told(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
