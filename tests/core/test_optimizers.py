"""Optimizers and schedules: the reference's bits for all options; nn's steps and factors beside them."""

import ctypes
from typing import Any

import core_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streaming_nn.core import build_backend, library, structures
from streaming_nn.nn import optimizers, schedules

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


@pytest.mark.parametrize("variant", build_backend.variants())
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


NN: dict[str, tuple[Any, dict[str, float]]] = {
    "sgd": (optimizers.SGD(0.1, weight_decay=0.02), {"weight_decay": 0.02}),
    "momentum": (optimizers.Momentum(0.1, 0.8), {"momentum": 0.8}),
    "nesterov": (optimizers.Nesterov(0.1, 0.8), {"momentum": 0.8}),
    "adagrad": (optimizers.Adagrad(0.1, 1e-6), {"epsilon": 1e-6}),
    "rmsprop": (optimizers.RMSProp(0.1, rho=0.7), {"beta2": 0.7}),
    "adam": (optimizers.Adam(0.1, 0.8, 0.99), {"momentum": 0.8, "beta2": 0.99}),
    "adamw": (optimizers.AdamW(0.1), {}),
    "nadam": (optimizers.Nadam(0.1), {}),
    "ftrl": (optimizers.FTRL(0.1, l1=0.02, l2=0.1), {"l1": 0.02, "l2": 0.1}),
}


@pytest.mark.parametrize("name", NN)
def test_steps_are_those_of_nn(name: str) -> None:
    like, given_options = NN[name]
    options, rng = structures.optimizer(name, 0.1, **given_options), np.random.default_rng(1)
    theta = rng.normal(size=40).astype(np.float32)
    ours, (wide, memory) = initial(theta), (theta[None].astype(np.float64), None)
    memory = like.init(wide)
    if name == "ftrl":
        ours["first"][:] = memory.z[0]
    for _ in range(12):
        gradient = rng.normal(size=40).astype(np.float32)
        take_step(options, ours, gradient)
        wide, memory = like.update(memory, gradient[None].astype(np.float64), wide)
        np.testing.assert_allclose(ours["theta"], wide[0], rtol=2e-4, atol=2e-6)


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


@pytest.mark.parametrize(
    ("ours", "like"),
    [
        (structures.schedule(), schedules.Constant()),
        (structures.schedule("inverse", rows=100, power=0.7), schedules.InverseScaling(100, 0.7)),
        (structures.schedule("step", rows=50, drop=0.3), schedules.Step(50, 0.3)),
        (structures.schedule("cosine", rows=40, growth=1, least=0.1), schedules.Cosine(40, 1, 0.1)),
        (structures.schedule("cosine", rows=40, growth=1.5), schedules.Cosine(40, 1.5)),
        (structures.schedule("cosine", rows=7, growth=1.001), schedules.Cosine(7, 1.001)),
        (
            structures.schedule("inverse", 30, rows=100, power=1),
            schedules.WarmUp(30, schedules.InverseScaling(100, 1)),
        ),
        (structures.schedule("cosine", 5, rows=9), schedules.WarmUp(5, schedules.Cosine(9))),
    ],
)
def test_schedules_are_those_of_nn_and_the_bits_of_the_reference(
    ours: structures.Schedule, like: schedules.Schedule
) -> None:
    core = library.load().core_schedule
    core.restype = ctypes.c_double
    for rows in (0, 1, 4, 5, 29, 30, 39, 40, 41, 99, 100, 119, 120, 1000, 12345, 10**7):
        factor = core(ctypes.byref(ours), ctypes.c_double(rows))
        assert factor == reference.schedule_factor(ours, float(rows))
        assert factor == pytest.approx(like.factor(rows), rel=1e-6, abs=1e-9)
