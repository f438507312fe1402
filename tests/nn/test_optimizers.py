from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import optim
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from streaming_nn.nn import optimizers
from streaming_nn.nn.optimizers import (
    FTRL,
    OPTIMIZERS,
    QUIET,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Momentum,
    Nadam,
    Nesterov,
    RMSProp,
)

pytestmark = pytest.mark.commit

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


def test_momentum_is_the_heavy_ball() -> None:
    before = theta = np.ones((1, PARAMETERS))
    for g in gradients():
        before, theta = theta, theta - 0.1 * g + 0.8 * (theta - before)  # as Polyak 1964 writes it
    np.testing.assert_allclose(descend(Momentum(0.1, 0.8), gradients()), theta, rtol=1e-12)


def test_nesterov_is_sutskevers_form() -> None:
    """Equations 3 and 4, where the gradient is taken at theta + mu v: on a bowl, so that it matters."""
    steep, rate, mu = np.linspace(0.1, 3, PARAMETERS)[None], 0.1, 0.8
    theta, v = np.ones((1, PARAMETERS)), np.zeros((1, PARAMETERS))
    optimizer = Nesterov(rate, mu)
    ours, state = theta, optimizer.init(theta)
    for _ in range(STEPS):
        v = mu * v - rate * steep * (theta + mu * v)
        theta = theta + v
        ours, state = optimizer.update(state, steep * ours, ours)
        np.testing.assert_allclose(ours, theta + mu * v, rtol=1e-9)


def test_adagrad_follows_the_formula() -> None:
    theta, squares = np.ones((1, PARAMETERS)), 0.0
    for g in gradients():
        squares = squares + g**2
        theta = theta - 0.1 * g / (np.sqrt(squares) + 1e-3)
    np.testing.assert_allclose(descend(Adagrad(0.1, 1e-3), gradients()), theta, rtol=1e-12)


def test_rmsprop_follows_the_formula() -> None:
    theta, squares = np.ones((1, PARAMETERS)), 0.0
    for g in gradients():
        squares = 0.8 * squares + 0.2 * g**2
        theta = theta - 0.1 * g / (np.sqrt(squares) + 1e-3)
    np.testing.assert_allclose(descend(RMSProp(0.1, 1e-3, 0.8), gradients()), theta, rtol=1e-12)


def test_nadam_follows_the_formula() -> None:
    theta, m, v, mu, nu = np.ones((1, PARAMETERS)), 0.0, 0.0, 0.8, 0.99
    for t, g in enumerate(gradients(), 1):
        m = mu * m + (1 - mu) * g
        v = nu * v + (1 - nu) * g**2
        m_hat = mu * m / (1 - mu ** (t + 1)) + (1 - mu) * g / (1 - mu**t)
        theta = theta - 0.1 * m_hat / (np.sqrt(v / (1 - nu**t)) + 1e-3)
    np.testing.assert_allclose(descend(Nadam(0.1, mu, nu, 1e-3), gradients()), theta, rtol=1e-12)


def test_ftrl_follows_algorithm_1() -> None:
    alpha, beta, l1, l2 = 0.3, 0.7, 0.4, 0.2
    w, z, n, zeros = np.zeros(PARAMETERS), np.zeros(PARAMETERS), np.zeros(PARAMETERS), 0
    optimizer = FTRL(alpha, beta, l1, l2)
    ours = np.zeros((1, PARAMETERS))
    state = optimizer.init(ours)
    for g in gradients()[:, 0]:
        sigma = (np.sqrt(n + g**2) - np.sqrt(n)) / alpha
        z, n = z + g - sigma * w, n + g**2
        w = np.where(np.abs(z) <= l1, 0, -(z - np.sign(z) * l1) / ((beta + np.sqrt(n)) / alpha + l2))
        ours, state = optimizer.update(state, g[None], ours)
        np.testing.assert_allclose(ours[0], w, rtol=1e-10)
        zeros += (w == 0).sum()
    assert zeros > 0


def test_ftrl_starts_at_the_initial_parameters_and_shrinks_them_by_its_lambdas() -> None:
    theta = np.random.default_rng(1).normal(size=(2, PARAMETERS))
    for optimizer in (FTRL(0.1, 0.7), FTRL(0.1, 0.7, 3.0, 2.0)):
        first, _ = optimizer.update(optimizer.init(theta), np.zeros_like(theta), theta)
        # the least of beta / alpha / 2 (w - theta)**2 + l1 |w| + l2 / 2 w**2
        shrunk = np.sign(theta) * np.maximum(np.abs(theta) * 7 - optimizer.l1, 0) / (7 + optimizer.l2)
        np.testing.assert_allclose(first, shrunk, rtol=1e-12)
    assert 0 < (first == 0).sum() < theta.size


def test_ftrl_applies_no_lambdas_to_biases() -> None:
    plain, spared = FTRL(0.1), FTRL(0.1, l1=2.0, l2=3.0, spared=((2, 5),))
    one, other = descend(plain, gradients()), descend(spared, gradients())
    assert one[:, 2:5].tolist() == other[:, 2:5].tolist()
    assert (one != other)[:, [0, 1, 5, 6]].all()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SGD(0.1), lambda theta: SGDOptimizer(theta, 0.1, momentum=0, nesterov=False)),
        (Momentum(0.1, 0.7), lambda theta: SGDOptimizer(theta, 0.1, momentum=0.7, nesterov=False)),
        (Nesterov(0.1, 0.7), lambda theta: SGDOptimizer(theta, 0.1, momentum=0.7, nesterov=True)),
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


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SGD(0.1), optim.SGD(0.1)),
        (Momentum(0.1, 0.7), optim.Momentum(0.1, 0.7)),
        (Nesterov(0.1, 0.7), optim.NesterovMomentum(0.1, 0.7)),
        # River adds epsilon to the squares; a small one shows that all else is equal
        (Adagrad(0.1, 1e-15), optim.AdaGrad(0.1, 1e-30)),
        (RMSProp(0.1, 1e-15, 0.8), optim.RMSProp(0.1, 0.8, 1e-30)),
        (Adam(0.1, 0.9, 0.99, 1e-15), optim.Adam(0.1, 0.9, 0.99, 1e-15)),
        # River keeps a weight where algorithm 1 makes it 0, so that l1 would tell them apart
        (FTRL(0.1, 0.7, 0, 0.2), optim.FTRLProximal(0.1, 0.7, 0, 0.2)),
    ],
)
def test_river_descends_the_same(ours: Any, theirs: Any) -> None:
    w: dict[Any, float] = dict.fromkeys(range(PARAMETERS), 0.0 if isinstance(ours, FTRL) else 1.0)
    theta = np.array([[*w.values()]])
    state = ours.init(theta)
    for gradient in gradients():
        theta, state = ours.update(state, gradient, theta)
        if not isinstance(ours, FTRL):
            theirs.look_ahead(w)
        theirs.step(w, dict(enumerate(gradient[0])))
    if isinstance(ours, FTRL):  # which moves w only where the next gradient is at hand
        theirs.step(w, dict(enumerate(np.zeros(PARAMETERS))))
    elif isinstance(ours, Nesterov):
        theirs.look_ahead(w)
    np.testing.assert_allclose(theta[0], [w[i] for i in range(PARAMETERS)], rtol=1e-9)


RATED = [kind for name, kind in OPTIMIZERS.items() if name != "ftrl"]


@pytest.mark.parametrize("kind", RATED)
@given(factor=st.floats(1e-3, 10))
def test_a_factor_scales_the_rate(kind: Any, factor: float) -> None:
    theta, gradient = np.ones((1, PARAMETERS)), gradients()[0]
    optimizer = kind(0.1)
    scaled, state = optimizer.update(optimizer.init(theta), gradient, theta, factor)
    other = replace(optimizer, learning_rate=0.1 * factor)
    expected, same = other.update(other.init(theta), gradient, theta)
    np.testing.assert_allclose(scaled, expected, rtol=1e-12)
    assert [part.tolist() for part in state] == [part.tolist() for part in same]


@pytest.mark.parametrize("kind", RATED)
def test_weight_decay_is_separate_from_the_gradient_and_spares_biases(kind: Any) -> None:
    theta, gradient = np.full((1, PARAMETERS), 2.0), gradients()[0]
    plain = replace(kind(0.1), weight_decay=0.0)
    decaying = replace(plain, weight_decay=0.3, spared=((1, 3), (6, 7)))
    without, state = plain.update(plain.init(theta), gradient, theta, 0.5)
    decayed, same = decaying.update(decaying.init(theta), gradient, theta, 0.5)
    expected = without - np.array([1, 0, 0, 1, 1, 1, 0]) * 0.1 * 0.5 * 0.3 * 2  # algorithms 1 and 2
    np.testing.assert_allclose(decayed, expected, rtol=1e-12)
    assert [part.tolist() for part in state] == [part.tolist() for part in same]


def test_adamw_is_adam_that_decays() -> None:
    decaying = descend(Adam(0.1, weight_decay=0.01), gradients())
    assert descend(AdamW(0.1), gradients()).tolist() == decaying.tolist()
    assert decaying.tolist() != descend(Adam(0.1), gradients()).tolist()


@pytest.mark.parametrize("kind", OPTIMIZERS.values())
def test_it_finds_the_minimum_of_a_quadratic(kind: Any) -> None:
    optimizer, theta = replace(kind(0.02), weight_decay=0.0), np.ones((2, 3))
    state = optimizer.init(theta)
    for step in range(10_000):
        theta, state = optimizer.update(
            state, theta - [1.5, 2, 1], theta, 1.0 if step < 5000 or kind is FTRL else 0.1
        )
    np.testing.assert_allclose(theta, [[1.5, 2, 1]] * 2, atol=0.01)


@given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4), st.floats(1e-3, 1e3))
def test_clipping(parts: list[float], most: float) -> None:
    gradient = np.array([parts, [1e-9, 0, 0, 0]])
    by_value = optimizers.clip_by_value(gradient, most)
    assert by_value.tolist() == [[min(max(part, -most), most) for part in row] for row in gradient.tolist()]
    by_norm, length = optimizers.clip_by_norm(gradient, most), np.linalg.norm(gradient[0])
    np.testing.assert_allclose(by_norm[0], gradient[0] * min(1, most / max(length, 1e-300)), rtol=1e-12)
    assert by_norm[1].tolist() == gradient[1].tolist()  # shorter already: not a bit changes
    assert optimizers.clip_by_norm(gradient.astype(np.float32), most).dtype == np.float32


@pytest.mark.parametrize("clip", [optimizers.clip_by_value, optimizers.clip_by_norm])
def test_clipping_keeps_nan(clip: Callable[[np.ndarray, float], np.ndarray]) -> None:
    assert np.isnan(clip(np.array([[np.nan, 1.0]]), 1.0)[0, 0])


@pytest.mark.parametrize("kind", OPTIMIZERS.values())
def test_each_member_may_have_another_rate(kind: Any) -> None:
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


def test_moments_that_decay_do_not_become_subnormal() -> None:
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
    added = np.float32(QUIET) ** 2 * np.float32(1 - adam.beta2)
    assert added > least  # nor what is added to v at each step without a gradient


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(0), r"^learning_rate must be a number in \(0, inf\); got 0$"),
        (lambda: Adam((0.1, -1.0)), r"^learning_rate must be a number in \(0, inf\); got -1.0$"),
        (lambda: Adam(beta1=1.0), r"^beta1 must be a number in \[0, 1\); got 1.0$"),
        (lambda: Adam(beta2=-0.1), r"^beta2 must be a number in \[0, 1\); got -0.1$"),
        (lambda: Adam(epsilon=0), r"^epsilon must be a number in \(0, inf\); got 0$"),
        (lambda: SGD(weight_decay=-1), r"^weight_decay must be a number in \[0, inf\); got -1$"),
        (lambda: Nesterov(momentum=1), r"^momentum must be a number in \[0, 1\); got 1$"),
        (lambda: Adagrad(epsilon=0), r"^epsilon must be a number in \(0, inf\); got 0$"),
        (lambda: RMSProp(rho=1), r"^rho must be a number in \[0, 1\); got 1$"),
        (lambda: FTRL(beta=0), r"^beta must be a number in \(0, inf\); got 0$"),
        (lambda: FTRL(l1=-1), r"^l1 must be a number in \[0, inf\); got -1$"),
        (lambda: FTRL(l2=-1), r"^l2 must be a number in \[0, inf\); got -1$"),
        (lambda: FTRL(weight_decay=0.1), "^weight_decay must be 0 with 'ftrl', which has l2; got 0.1$"),
        (
            lambda: FTRL().update(FTRL().init(np.ones((1, 1))), np.ones((1, 1)), np.ones((1, 1)), 0.5),
            "^factor must be 1 with 'ftrl', which adapts its rates itself; got 0.5$",
        ),
    ],
)
def test_invalid_options_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
