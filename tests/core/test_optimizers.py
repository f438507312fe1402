"""Optimizers and schedules: the reference's bits for all options; scikit-learn, River and the formulas."""

import ctypes
from collections.abc import Callable
from math import cos, pi
from typing import Any

import core_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from river import optim
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from streaming_nn.core import library, structures

pytestmark = pytest.mark.commit

Array = NDArray[Any]
State = dict[str, Array]


def initial(theta: Array) -> State:
    return {
        "theta": theta.copy(),
        "first": np.zeros_like(theta),
        "second": np.zeros_like(theta),
        "powers": np.ones(2),
    }


def take_step(
    options: structures.Optimizer,
    state: State,
    gradient: Array,
    factor: float = 1.0,
    biases: bool = False,
    variant: str | None = None,
) -> None:
    shape = gradient.shape
    library.load(variant).core_update(
        ctypes.byref(options),
        ctypes.c_double(factor),
        library.address(state["powers"], "f8", (2,), written=True),
        *(library.address(state[name], "f4", shape, written=True) for name in ("theta", "first", "second")),
        library.address(gradient.copy(), "f4", shape, written=True),
        ctypes.c_long(len(gradient)),
        ctypes.c_int(biases),
    )


SIZES = st.sampled_from([0.0, 1e-30, 3e-29, 1e-12, 0.01, 1.0, 1e6, 1e18])


@pytest.mark.parametrize("variant", library.runnable())
@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(structures.OPTIMIZERS),
    rate=st.sampled_from([1e-3, 0.5, 100.0]),
    extra=st.dictionaries(
        st.sampled_from(["weight_decay", "l1", "l2", "clip_value"]), st.sampled_from([0.01, 0.5, 3.0])
    ),
    sizes=st.lists(SIZES, min_size=1, max_size=4),
    count=st.integers(1, 20),
    biases=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_the_bits_are_those_of_the_reference(
    variant: str,
    name: str,
    rate: float,
    extra: dict[str, float],
    sizes: list[float],
    count: int,
    biases: bool,
    seed: int,
) -> None:
    options, rng = structures.optimizer(name, rate, **extra), np.random.default_rng(seed)
    ours = initial(rng.normal(size=count).astype(np.float32))
    theirs = {name: array.copy() for name, array in ours.items()}
    with np.errstate(all="ignore"):
        for size in sizes:
            gradient = (rng.normal(size=count) * size).astype(np.float32)
            take_step(options, ours, gradient, 0.7, biases, variant)
            constants = reference.begin_step(options, 0.7, theirs["powers"])
            changed = reference.adjusted(options, gradient, theirs["theta"], biases)
            reference.take_step(options, constants, theirs, slice(None), changed, biases)
    for each, array in ours.items():
        assert array.tobytes() == theirs[each].tobytes(), each


def gradients(steps: int = 12) -> list[Array]:
    return list(np.random.default_rng(1).normal(size=(steps, 7)).astype(np.float32))


def descend(name: str, start: float = 1.0, biases: bool = False, **options: float) -> Array:
    """Return parameters that were `start` after a step for each gradient."""
    optimizer, state = structures.optimizer(name, 0.1, **options), initial(np.full(7, start, np.float32))
    if name == "ftrl":
        state["first"][:] = -start * optimizer.beta / optimizer.rate
    for gradient in gradients():
        take_step(optimizer, state, gradient, biases=biases)
    return state["theta"]


def test_adagrad_and_rmsprop_follow_their_formulas() -> None:
    theta, squares, faded, decaying = np.ones(7), np.zeros(7), np.zeros(7), np.ones(7)
    for g in gradients():
        squares = squares + g**2
        theta = theta - 0.1 * g / (np.sqrt(squares) + 1e-3)
        faded = 0.8 * faded + 0.2 * g**2
        decaying = decaying - 0.1 * g / (np.sqrt(faded) + 1e-3)
    np.testing.assert_allclose(descend("adagrad", epsilon=1e-3), theta, rtol=1e-4)
    np.testing.assert_allclose(descend("rmsprop", epsilon=1e-3, beta2=0.8), decaying, rtol=1e-4)


def test_nadam_follows_the_formula() -> None:
    theta, m, v, mu, nu = np.ones(7), np.zeros(7), np.zeros(7), 0.8, 0.99
    for t, g in enumerate(gradients(), 1):
        m = mu * m + (1 - mu) * g
        v = nu * v + (1 - nu) * g**2
        m_hat = mu * m / (1 - mu ** (t + 1)) + (1 - mu) * g / (1 - mu**t)
        theta = theta - 0.1 * m_hat / (np.sqrt(v / (1 - nu**t)) + 1e-3)
    np.testing.assert_allclose(descend("nadam", momentum=mu, beta2=nu, epsilon=1e-3), theta, rtol=1e-4)


def test_ftrl_follows_algorithm_1() -> None:
    alpha, beta, l1, l2, zeros = 0.3, 0.7, 0.4, 0.2, 0
    w, z, n = np.zeros(7), np.zeros(7), np.zeros(7)
    options = structures.optimizer("ftrl", alpha, beta=beta, l1=l1, l2=l2)
    state = initial(np.zeros(7, np.float32))
    for g in gradients(40):
        sigma = (np.sqrt(n + g**2) - np.sqrt(n)) / alpha
        z, n = z + g - sigma * w, n + g**2
        w = np.where(np.abs(z) <= l1, 0, -(z - np.sign(z) * l1) / ((beta + np.sqrt(n)) / alpha + l2))
        take_step(options, state, g)
        np.testing.assert_allclose(state["theta"], w, rtol=1e-3, atol=1e-5)
        zeros += (w == 0).sum()
    assert zeros > 0


def test_ftrl_starts_at_the_initial_parameters_and_shrinks_them_by_its_lambdas() -> None:
    theta = np.random.default_rng(1).normal(size=30).astype(np.float32)
    for l1, l2 in ((0.0, 0.0), (3.0, 2.0)):
        options, state = structures.optimizer("ftrl", 0.1, beta=0.7, l1=l1, l2=l2), initial(theta)
        state["first"][:] = -(theta * np.float32(7))
        take_step(options, state, np.zeros(30, np.float32))
        # the least of beta / alpha / 2 (w - theta)**2 + l1 |w| + l2 / 2 w**2
        shrunk = np.sign(theta) * np.maximum(np.abs(theta) * 7 - l1, 0) / (7 + l2)
        np.testing.assert_allclose(state["theta"], shrunk, rtol=1e-5, atol=1e-6)
    assert 0 < (state["theta"] == 0).sum() < 30


@pytest.mark.parametrize("penalty", ["l1", "l2", "weight_decay"])
@pytest.mark.parametrize("name", structures.OPTIMIZERS)
def test_penalties_are_not_applied_to_biases(name: str, penalty: str) -> None:
    if (name, penalty) == ("ftrl", "weight_decay"):
        return
    plain = descend(name)
    assert descend(name, biases=True, **{penalty: 2.0}).tolist() == plain.tolist()
    assert descend(name, **{penalty: 2.0}).tolist() != plain.tolist()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (descend("sgd"), lambda theta: SGDOptimizer(theta, 0.1, momentum=0, nesterov=False)),
        (
            descend("momentum", momentum=0.7),
            lambda theta: SGDOptimizer(theta, 0.1, momentum=0.7, nesterov=False),
        ),
        (
            descend("nesterov", momentum=0.7),
            lambda theta: SGDOptimizer(theta, 0.1, momentum=0.7, nesterov=True),
        ),
        # scikit-learn corrects epsilon's bias in another way; a small one shows that all else is equal
        (
            descend("adam", beta2=0.99, epsilon=1e-12),
            lambda theta: AdamOptimizer(theta, 0.1, 0.9, 0.99, 1e-12),
        ),
    ],
)
def test_scikit_learn_descends_the_same(ours: Array, theirs: Any) -> None:
    theta = np.ones(7)
    optimizer = theirs([theta])
    for gradient in gradients():
        optimizer.update_params([theta], [gradient.astype(np.float64)])
    np.testing.assert_allclose(ours, theta, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("sgd", {}, optim.SGD(0.1)),
        ("momentum", {"momentum": 0.7}, optim.Momentum(0.1, 0.7)),
        ("nesterov", {"momentum": 0.7}, optim.NesterovMomentum(0.1, 0.7)),
        # River adds epsilon to the squares; a small one shows that all else is equal
        ("adagrad", {"epsilon": 1e-15}, optim.AdaGrad(0.1, 1e-30)),
        ("rmsprop", {"epsilon": 1e-15, "beta2": 0.8}, optim.RMSProp(0.1, 0.8, 1e-30)),
        ("adam", {"beta2": 0.99, "epsilon": 1e-15}, optim.Adam(0.1, 0.9, 0.99, 1e-15)),
        # River keeps a weight where algorithm 1 makes it 0, so they differ with l1
        ("ftrl", {"beta": 0.7, "l2": 0.2}, optim.FTRLProximal(0.1, 0.7, 0, 0.2)),
    ],
)
def test_river_descends_the_same(name: str, options: dict[str, float], theirs: Any) -> None:
    start = 0.0 if name == "ftrl" else 1.0
    w: dict[Any, float] = dict.fromkeys(range(7), start)
    for gradient in gradients():
        if name != "ftrl":
            theirs.look_ahead(w)
        theirs.step(w, dict(enumerate(gradient.astype(np.float64))))
    if name == "ftrl":  # which moves w only where the next gradient is at hand
        theirs.step(w, dict(enumerate(np.zeros(7))))
    elif name == "nesterov":
        theirs.look_ahead(w)
    np.testing.assert_allclose(descend(name, start, **options), [*w.values()], rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "sgd",
        "adam",
        *(
            pytest.param(name, marks=pytest.mark.nightly)
            for name in structures.OPTIMIZERS[1:]
            if name != "adam"
        ),
    ],
)
def test_it_finds_the_minimum_of_a_quadratic(name: str) -> None:
    options, state = structures.optimizer(name, 0.02), initial(np.ones(3, np.float32))
    if name == "ftrl":
        state["first"][:] = -options.beta / options.rate
    for step in range(10_000):
        gradient = state["theta"] - np.array([1.5, 2, 1], np.float32)
        take_step(options, state, gradient, 1.0 if step < 5000 or name == "ftrl" else 0.1)
    np.testing.assert_allclose(state["theta"], [1.5, 2, 1], atol=0.01)


@pytest.mark.parametrize("name", structures.OPTIMIZERS)
def test_parameters_stay_finite_whatever_the_gradients(name: str) -> None:
    options = structures.optimizer(name, 1e30, epsilon=1e-38)
    state = initial(np.array([0, 1, -1, 1e19, -1e-30], np.float32))
    for size in (1e18, -1e18, 1e18, 0, 1e-20, -1e18):
        take_step(options, state, np.full(5, size, np.float32))
        assert np.isfinite(state["theta"]).all()
        assert np.abs(state["theta"]).max() <= 2.0**64


@pytest.mark.parametrize("name", ["momentum", "nesterov", "rmsprop", "adam", "nadam"])
def test_moments_do_not_become_subnormal(name: str) -> None:
    options, state = structures.optimizer(name, 0.1), initial(np.ones(3, np.float32))
    take_step(options, state, np.array([1e-12, 1.0, 1e-18], np.float32))
    for _ in range(3000):
        take_step(options, state, np.zeros(3, np.float32))
    for array in (state["first"], state["second"]):
        assert not ((array != 0) & (np.abs(array) < 1e-30)).any()


def cosine(rows: float, period: float, growth: float = 1.0, least: float = 0.0) -> float:
    """Return the factor by Loshchilov & Hutter 2017, equation 5, going from period to period."""
    length = period
    while rows >= length:
        rows, length = rows - length, length * growth
    return least + (1 - least) / 2 * (1 + cos(pi * rows / length))


@pytest.mark.parametrize(
    ("ours", "formula"),
    [
        (structures.schedule(), lambda rows: 1),
        (structures.schedule("inverse", rows=100, power=0.7), lambda rows: (1 + rows / 100) ** -0.7),
        (structures.schedule("step", rows=50, drop=0.3), lambda rows: 0.3 ** (rows // 50)),
        (
            structures.schedule("cosine", rows=40, growth=1, least=0.1),
            lambda rows: cosine(rows, 40, least=0.1),
        ),
        (structures.schedule("cosine", rows=40, growth=1.5), lambda rows: cosine(rows, 40, 1.5)),
        (structures.schedule("cosine", rows=7, growth=1.001), lambda rows: cosine(rows, 7, 1.001)),
        (
            structures.schedule("inverse", 30, rows=100, power=1),
            lambda rows: (rows + 1) / 30 if rows < 30 else 1 / (1 + (rows - 30) / 100),
        ),
        (
            structures.schedule("cosine", 5, rows=9),
            lambda rows: (rows + 1) / 5 if rows < 5 else cosine(rows - 5, 9, 2.0),
        ),
    ],
)
def test_schedules_follow_their_formulas_and_the_bits_of_the_reference(
    ours: structures.Schedule, formula: Callable[[int], float]
) -> None:
    core = library.load().core_schedule
    core.restype = ctypes.c_double
    for rows in (0, 1, 4, 5, 29, 30, 39, 40, 41, 99, 100, 119, 120, 1000, 12345):
        factor = core(ctypes.byref(ours), ctypes.c_double(rows))
        assert factor == reference.schedule_factor(ours, float(rows))
        assert factor == pytest.approx(formula(rows), rel=1e-6, abs=1e-9)
