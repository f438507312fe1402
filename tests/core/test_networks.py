"""Networks: the reference's bits for every activation, loss and shape; float64 and its finite differences."""

from typing import Any

import core_reference as reference
import float64_network
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streaming_nn.core import library, networks, structures
from streaming_nn.core.networks import Shape

pytestmark = pytest.mark.commit

Array = NDArray[Any]


def draw_shape(data: st.DataObject) -> Shape:
    loss = data.draw(st.sampled_from(structures.LOSSES))
    hidden = data.draw(st.lists(st.integers(1, 20), max_size=3))
    units = (data.draw(st.integers(1, 12)), *hidden, data.draw(st.integers(1, 10)))
    options: dict[str, Any] = {"skip": data.draw(st.booleans())}
    if loss == "huber":
        options["huber_delta"] = data.draw(st.sampled_from([0.1, 1.0, 1.5]))
    if loss in ("softmax", "logistic"):
        options["focal_gamma"] = data.draw(st.sampled_from([0.0, 0.5, 2.0]))
    if loss == "quantile":
        options["quantiles"] = tuple((k + 1) / (units[-1] + 1) for k in range(units[-1]))
    return Shape(units, data.draw(st.sampled_from(structures.ACTIVATIONS)), loss, **options)


def draw_theta(shape: Shape, rng: np.random.Generator, size: float = 0.5) -> Array:
    theta = np.zeros(shape.parameters, np.float32)
    for part in parts(shape, theta):
        part[...] = rng.normal(size=part.shape) * size
    return theta


def parts(shape: Shape, theta: Array) -> list[Array]:
    """View all parameters but the padding."""
    return [*(each for pair in shape.views(theta) for each in pair), shape.linear_view(theta)]


def draw_rows(shape: Shape, rng: np.random.Generator, rows: int) -> tuple[Array, Array]:
    x = rng.normal(size=(rows, shape.units[0])).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = 0
    y: Array = rng.normal(size=(rows, shape.targets))
    if shape.loss == "softmax":
        y = rng.integers(0, shape.units[-1], (rows, 1))
    if shape.loss in ("logistic", "poisson"):
        y = rng.integers(0, 2, (rows, shape.targets))
    return x, y.astype(np.float32)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=40, deadline=None)
@given(data=st.data())
def test_the_bits_are_those_of_the_reference(data: st.DataObject) -> None:
    shape, rows = draw_shape(data), data.draw(st.integers(1, 15))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**20)))
    theta = draw_theta(shape, rng, data.draw(st.sampled_from([0.1, 1.0, 30.0])))
    x, y = draw_rows(shape, rng, rows)
    weight = rng.random(rows).astype(np.float32) if data.draw(st.booleans()) else None
    dropout = data.draw(st.sampled_from([0.0, 0.5])) if len(shape.units) > 2 else 0.0
    key = data.draw(st.integers(0, 2**64 - 1))
    with np.errstate(all="ignore"):
        expected = reference.gradient(shape, theta, x, y, weight, dropout, key)
    for ours, theirs in zip(shape.gradient(theta, x, y, weight, dropout, key), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        ours, theirs = (np.where(np.isnan(each), 0, each) for each in (ours, theirs))
        assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("variant", ["baseline", None])
@pytest.mark.parametrize(("units", "rows"), [((300, 40, 3), 40), ((40, 130, 90, 12), 13), ((700, 8), 50)])
def test_large_layers_have_the_bits_of_the_reference(
    units: tuple[int, ...], rows: int, variant: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = library.load(variant)
    monkeypatch.setattr(library, "load", lambda: core)
    shape, rng = Shape(units, skip=True), np.random.default_rng(0)
    theta, (x, y) = draw_theta(shape, rng, 0.1), draw_rows(shape, rng, rows)
    for ours, theirs in zip(shape.gradient(theta, x, y), reference.gradient(shape, theta, x, y), strict=True):
        assert ours.tobytes() == theirs.tobytes()


@settings(max_examples=40, deadline=None)
@given(data=st.data(), cut=st.integers(1, 6))
def test_predictions_do_not_depend_on_how_rows_are_cut(data: st.DataObject, cut: int) -> None:
    shape, rng = draw_shape(data), np.random.default_rng(0)
    theta, (x, y) = draw_theta(shape, rng), draw_rows(shape, rng, 7)
    whole = shape.predict(theta, x)
    parts = [shape.predict(theta, x[:cut]), shape.predict(theta, np.ascontiguousarray(x[cut:]))]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert shape.gradient(theta, x, y)[0].tobytes() == whole.tobytes()


def loss_at(shape: Shape, theta: Array, x: Array, y: Array, weight: Array) -> float:
    """Return the weighted mean loss in float64."""
    wide = theta.astype(np.float64)
    rows = float64_network.losses(shape, float64_network.predict(shape, wide, x), y)
    return float((rows * weight).mean())


@pytest.mark.parametrize("activation", structures.ACTIVATIONS)
@pytest.mark.parametrize("loss", structures.LOSSES)
def test_outputs_losses_and_gradients_are_those_of_float64(activation: str, loss: str) -> None:
    options: dict[str, Any] = {"quantiles": (0.1, 0.5, 0.9)} if loss == "quantile" else {}
    if loss in ("softmax", "logistic"):
        options["focal_gamma"] = 1.5
    shape, rng = Shape((4, 6, 5, 3), activation, loss, skip=True, **options), np.random.default_rng(3)
    theta, (x, y) = draw_theta(shape, rng), draw_rows(shape, rng, 9)
    weight = rng.random(9).astype(np.float32)
    outputs, losses, slope = shape.gradient(theta, x, y, weight)
    expected = float64_network.predict(shape, theta.astype(np.float64), x)
    np.testing.assert_allclose(outputs, expected, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(losses, float64_network.losses(shape, expected, y), rtol=2e-5, atol=2e-6)
    along = rng.normal(size=(20, len(theta)))  # derivatives along directions: as good as by each parameter
    for direction in along:
        step = direction * (2.0**-20 * (theta != 0))
        higher, lower = (loss_at(shape, theta + sign * step, x, y, weight) for sign in (1, -1))
        np.testing.assert_allclose(slope @ step * 2, higher - lower, rtol=2e-3, atol=1e-10)


@pytest.mark.parametrize(("sum_of_other", "is_zero"), [(-30.0, False), (-36.0, True), (-100.0, True)])
def test_a_slope_that_changes_nothing_is_zero(sum_of_other: float, is_zero: bool) -> None:
    """Rows that a network is sure of have gradients of exactly 0, not of subnormal numbers."""
    shape = Shape((2, 3, 2), "relu", "softmax")
    theta = draw_theta(shape, np.random.default_rng(0))
    _, (V, c) = shape.views(theta)
    V[...], c[...] = 0, (0, sum_of_other)
    outputs, _, gradient = shape.gradient(theta, np.ones((1, 2), np.float32), np.zeros((1, 1), np.float32))
    assert outputs[0, 1] == pytest.approx(np.exp(sum_of_other))
    assert (gradient == 0).all() == is_zero


def test_a_gradient_leaves_padding_zero() -> None:
    shape, rng = Shape((3, 5, 9, 2), "sigmoid", skip=True), np.random.default_rng(0)
    theta, (x, y) = draw_theta(shape, rng), draw_rows(shape, rng, 4)
    slope = shape.gradient(theta, x, y)[2]
    for part in parts(shape, slope):
        part[...] = 0
    assert not slope.any()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((2, 3), np.float32), np.array([[0], [2]], np.float32), r"class indices in \[0, 2\)"),
        (np.zeros((2, 3), np.float32), np.array([[0], [-1]], np.float32), "class indices"),
        (np.zeros((2, 3), np.float32), np.array([[0], [np.nan]], np.float32), "class indices"),
        (np.zeros((2, 4), np.float32), np.zeros((2, 1), np.float32), r"shape \(2, 3\)"),
        (np.zeros((2, 3)), np.zeros((2, 1), np.float32), "must be float32"),
        (np.zeros((2, 3), np.float32), np.zeros((1, 1), np.float32), r"shape \(2, 1\)"),
        (np.zeros((0, 3), np.float32), np.zeros((0, 1), np.float32), "at least one"),
    ],
)
def test_other_rows_are_refused(x: Array, y: Array, message: str) -> None:
    shape = Shape((3, 4, 2))
    with pytest.raises(ValueError, match=message):
        shape.gradient(np.zeros(shape.parameters, np.float32), x, y)


@pytest.mark.parametrize(
    ("units", "options", "message"),
    [
        ((3,), {}, "at least inputs and outputs"),
        ((3, 0, 2), {}, r"each in \[1, 2\*\*31\)"),
        ((3, 2**31), {}, "inputs and outputs"),
        ((3, 2), {"loss": "quantile", "quantiles": (0.5,)}, "one per output"),
        ((3, 2), {"activation": "swish"}, "not in tuple"),
    ],
)
def test_other_shapes_are_refused(units: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Shape(units, **options)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(networks.KINDS),
    seed=st.integers(0, 2**64 - 1),
    a=st.integers(0, 9),
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
)
def test_draws_have_the_bits_of_the_reference(kind: str, seed: int, a: int, rows: int, columns: int) -> None:
    ours = networks.draw(kind, 0.7, seed, a, 1, 5, (rows, columns))
    assert ours.tobytes() == reference.draw(kind, 0.7, seed, a, 1, 5, (rows, columns)).tobytes()


def test_draws_have_their_distribution() -> None:
    normal = networks.draw("normal", 2.0, 1, 2, 3, 0, (300, 200))
    assert abs(normal.mean()) < 0.03
    assert abs(normal.std() - 2) < 0.03
    assert 0.94 < (np.abs(normal) < 4).mean() < 0.97
    uniform = networks.draw("uniform", 2.0, 1, 2, 3, 0, (300, 200))
    assert -2 <= uniform.min() < -1.999
    assert 1.999 < uniform.max() < 2
    assert abs(uniform.std() - 4 / 12**0.5) < 0.01


@pytest.mark.parametrize("shape", [(20, 8), (8, 20), (9, 9), (1, 4)])
def test_an_orthogonal_draw_is_orthogonal(shape: tuple[int, int]) -> None:
    q = networks.draw("orthogonal", 1.0, 0, 0, 0, 0, shape).astype(np.float64)
    narrow = q if shape[0] >= shape[1] else q.T
    np.testing.assert_allclose(narrow.T @ narrow, np.eye(min(shape)), atol=1e-6)


def test_a_part_of_a_sequence_is_drawn_alone() -> None:
    whole = networks.draw("normal", 1.0, 4, 0, 0, 0, (6, 3))
    np.testing.assert_array_equal(networks.draw("normal", 1.0, 4, 0, 0, 9, (3, 3)), whole[3:])
