import numpy as np
import pytest

from streaming_nn.core.networks import Shape
from streaming_nn.core.structures import ACTIVATIONS
from streaming_nn.nn import initializers
from streaming_nn.nn.initializers import INITIALIZERS, RELU_FAMILY, Initial, draw_input, initialize

pytestmark = pytest.mark.commit

VARIANCE = {
    "glorot_uniform": 2 / (200 + 300),
    "glorot_normal": 2 / (200 + 300),
    "he_uniform": 2 / 200,
    "he_normal": 2 / 200,
    "lecun_uniform": 1 / 200,
    "lecun_normal": 1 / 200,
}
LAYER = Shape((200, 300))
SMALL = Shape((4, 6, 5, 3), "tanh", skip=True)


def thetas(shape: Shape, how: Initial, members: int, seed: int = 1) -> np.ndarray:
    """Return the parameters of members of one shape (members, parameters)."""
    return initialize([shape] * members, [how] * members, seed).reshape(members, -1)


def drawn(shape: Shape, how: Initial, members: int = 1, seed: int = 1) -> list[list[np.ndarray]]:
    """Return each layer's weights (members, inputs, outputs) and biases (members, outputs)."""
    layers = zip(*(shape.views(theta) for theta in thetas(shape, how, members, seed)), strict=True)
    return [[np.stack(parts) for parts in zip(*layer, strict=True)] for layer in layers]


@pytest.mark.parametrize("name", VARIANCE)
def test_variance_is_that_of_the_paper(name: str) -> None:
    ((W, b),) = drawn(LAYER, Initial(name, name), 8)
    assert W.var() == pytest.approx(VARIANCE[name], rel=0.02)
    assert b.var() == pytest.approx(VARIANCE[name], rel=0.08)  # the spread of their layer
    assert abs(W.mean()) < 1e-3
    spread = np.abs(W).max() / W.std()
    assert (spread < 3**0.5 + 0.01) if name.endswith("uniform") else (spread > 3.5)


@pytest.mark.parametrize("units", [(20, 6), (6, 20), (6, 6)])
def test_orthogonal_has_orthonormal_rows_or_columns(units: tuple[int, int]) -> None:
    ((W, b),) = drawn(Shape(units), Initial("orthogonal", "orthogonal"), 2)
    product = W.swapaxes(1, 2) @ W if units[0] > units[1] else W @ W.swapaxes(1, 2)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(6), (2, 6, 6)), atol=1e-6)
    np.testing.assert_allclose((b * b).sum(axis=1), 1, rtol=1e-6)


def test_constants() -> None:
    ((W, b),) = drawn(Shape((2, 3)), Initial("zeros", 0.5))
    assert W.tolist() == [[[0] * 3] * 2]
    assert b.tolist() == [[0.5] * 3]
    ((W, b),) = drawn(Shape((2, 3)), Initial(-0.25, "zeros"))
    assert W.tolist() == [[[-0.25] * 3] * 2]
    assert b.tolist() == [[0] * 3]


def deviations(shape: Shape, how: Initial) -> list[float]:
    return [float(W.std()) for W, _ in drawn(shape, how)]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_default_is_that_of_the_activation_and_lecuns_at_the_end(activation: str) -> None:
    shape = Shape((200, 300, 100, 200), activation)
    he, glorot = (2 / 200, 2 / 300), (2 / 500, 2 / 400)
    expected = [*(he if activation in RELU_FAMILY else glorot), 1 / 100]
    assert deviations(shape, Initial()) == pytest.approx(np.sqrt(expected), rel=0.03)
    assert all(not b.any() for _, b in drawn(shape, Initial()))


def test_the_last_layer_may_be_another() -> None:
    (V, c), (U, d), (W, b) = drawn(SMALL, Initial("he_normal", "lecun_normal", "zeros"))
    assert all(part.all() for part in (V, c, U, d))
    assert not W.any()
    assert not b.any()


@pytest.mark.parametrize("name", sorted(INITIALIZERS.keys() - {"zeros"}))
def test_every_member_and_layer_is_another_draw_and_the_seed_decides(name: str) -> None:
    shape = Shape((6, 6, 6))
    one, same, other = (thetas(shape, Initial(name, name), 3, seed) for seed in (1, 1, 2**40))
    assert one.tobytes() == same.tobytes()
    parts = [part for each in (one, other) for theta in each for part in shape.views(theta)]
    assert len({W.tobytes() for W, _ in parts}) == len({b.tobytes() for _, b in parts}) == 12
    few = thetas(shape, Initial(name, name), 2)
    assert one[:2].tobytes() == few.tobytes()  # members do not depend on how many there are


def test_a_member_is_drawn_by_its_own_shape_and_initializers_whatever_the_others_are() -> None:
    shapes = [SMALL, Shape((4, 2)), Shape((9, 6, 5, 3), "relu")]
    hows = [Initial(biases="he_normal"), Initial("orthogonal"), Initial("glorot_uniform", 0.5)]
    whole = np.split(initialize(shapes, hows, 3), np.cumsum([shape.parameters for shape in shapes]))
    *each, rest = whole
    assert not len(rest)
    for k, (shape, how, theta) in enumerate(zip(shapes, hows, each, strict=True)):
        assert theta.tobytes() == thetas(shape, how, k + 1, seed=3)[k].tobytes()


def test_half_of_the_ramps_count_as_inputs() -> None:
    shape, how = Shape((7 + 393, 300, 200)), Initial("he_normal", "he_normal", "lecun_normal")
    theta = initialize([shape], [how], 1, 7)
    (W, b), (V, _) = shape.views(theta)
    assert W.var() == pytest.approx(2 / (7 + 196), rel=0.03)
    assert b.var() == pytest.approx(2 / (7 + 196), rel=0.3)
    assert V.var() == pytest.approx(1 / 300, rel=0.03)  # of the other layers, all do


def test_padding_and_the_linear_part_are_0() -> None:
    theta = thetas(SMALL, Initial(1.0, 1.0), 2)
    assert np.count_nonzero(theta[1]) == 4 * 6 + 6 + 6 * 5 + 5 + 5 * 3 + 3
    assert not SMALL.linear_view(theta[1]).any()


def test_the_weights_of_an_added_input_depend_on_seed_member_and_number_alone() -> None:
    draws = {
        (seed, member, index): draw_input(SMALL, Initial(), seed, member, index).tobytes()
        for seed in (0, 1)
        for member in (0, 1)
        for index in (3, 4, 5)
    }
    assert len(set(draws.values())) == len(draws)
    wider = SMALL.with_units((9, *SMALL.units[1:]))
    assert draw_input(wider, Initial(), 1, 1, 4).tobytes() == draws[1, 1, 4]


@pytest.mark.parametrize("name", ["he_normal", "lecun_uniform", "glorot_normal"])
def test_the_spread_of_an_added_input_is_that_of_a_layer_which_ends_with_it(name: str) -> None:
    shape = Shape((10, 2000, 1))
    weights = draw_input(shape, Initial(name), 0, 0, 9)
    ((W, _), _) = drawn(shape, Initial(name))
    assert weights.shape == (2000,)
    assert weights.std() == pytest.approx(W.std(), rel=0.06)


def test_added_inputs_may_be_constant() -> None:
    assert draw_input(SMALL, Initial(0.5), 0, 0, 7).tolist() == [0.5] * 6


def test_wrong_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^initializer must be one of 'glorot_uniform', .*; got 'gloro'$"):
        initializers.check("initializer", "gloro")
    with pytest.raises(ValueError, match=r"^initializer must be a number in \(-inf, inf\); got nan$"):
        initializers.check("initializer", float("nan"))
    with pytest.raises(ValueError, match=r"^bias_initializer must be one of .*; got 'he'$"):
        Initial(None, "he").check()
    with pytest.raises(ValueError, match=r"^initializer must be a number in .*; got inf$"):
        Initial(float("inf")).check()
    Initial().check()
