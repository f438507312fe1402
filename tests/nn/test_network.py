import numpy as np
import pytest

from streaming_nn.nn import network
from streaming_nn.nn.activations import ACTIVATIONS
from streaming_nn.nn.losses import LOSSES
from streaming_nn.nn.network import Network

MEMBERS, ROWS = 3, 5


def problem(net: Network, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Give theta (members, parameters) in float64, x, y, and a weight a row."""
    rng = np.random.default_rng(seed)
    theta = network.initialize(net, rng, MEMBERS).astype(np.float64)
    theta += rng.normal(size=theta.shape) * 0.1  # biases too
    x = rng.normal(size=(ROWS, net.layers[0]))
    y = rng.integers(0, net.layers[-1], ROWS) if net.loss == "softmax" else rng.normal(size=ROWS)
    return theta, x, y, rng.uniform(0.5, 2, ROWS)


def shape(
    loss: str, activation: str = "tanh", hidden: tuple[int, ...] = (6, 5), skip: bool = False
) -> Network:
    return Network((4, *hidden, 3 if loss == "softmax" else 1), activation, loss, skip=skip)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (6,), (6, 5)])
@pytest.mark.parametrize("rows", [1, ROWS])
@pytest.mark.parametrize("skip", [False, True])
def test_gradient_is_that_of_finite_differences(
    loss: str, activation: str, hidden: tuple[int, ...], rows: int, skip: bool
) -> None:
    net = shape(loss, activation, hidden, skip)
    theta, x, y, weight = problem(net)
    x, y, weight = x[:rows], y[:rows], weight[:rows]

    def mean_loss(at: np.ndarray) -> np.ndarray:
        return (network.gradient(net, at, x, y)[1] * weight).mean(axis=1)

    slope = network.gradient(net, theta, x, y, weight)[2]
    expected, step = np.empty_like(slope), 1e-6
    for i in range(network.size(net)):
        away = np.zeros_like(theta)
        away[:, i] = step
        expected[:, i] = (mean_loss(theta + away) - mean_loss(theta - away)) / (2 * step)
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("loss", LOSSES)
def test_members_do_not_touch_each_other(loss: str) -> None:
    net = shape(loss)
    theta, x, y, weight = problem(net)
    together = network.gradient(net, theta, x, y, weight)
    for i in range(MEMBERS):
        alone = network.gradient(net, theta[i : i + 1], x, y, weight)
        for stacked, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(stacked[i], one[0], rtol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_members_may_have_rows_of_their_own(loss: str) -> None:
    net = shape(loss)
    theta, x, y, _ = problem(net)
    own_x, own_y = np.stack([x, x[::-1], 2 * x]), np.stack([y, y[::-1], y])
    together = network.gradient(net, theta, own_x, own_y)
    for i in range(MEMBERS):
        alone = network.gradient(net, theta[i : i + 1], own_x[i], own_y[i])
        for stacked, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(stacked[i], one[0], rtol=1e-12)


def test_members_may_weigh_rows_each_in_its_own_way() -> None:
    net = shape("softmax", skip=True)
    theta, x, y, _ = problem(net)
    weight = np.random.default_rng(1).uniform(0.5, 2, (MEMBERS, ROWS))
    together = network.gradient(net, theta, x, y, weight)[2]
    for i in range(MEMBERS):
        alone = network.gradient(net, theta[i : i + 1], x, y, weight[i])[2]
        np.testing.assert_allclose(together[i], alone[0], rtol=1e-12)


def test_skip_adds_a_linear_model_that_starts_at_zero() -> None:
    plain, net = shape("squared"), shape("squared", skip=True)
    end = network.size(plain)
    assert network.size(net) == end + 4
    first = network.initialize(net, np.random.default_rng(0), MEMBERS)
    same = network.initialize(plain, np.random.default_rng(0), MEMBERS)
    assert first[:, :end].tolist() == same.tolist()
    assert not network.skip_view(net, first).any()
    theta, x, _, _ = problem(net)
    linear = x @ network.skip_view(net, theta)
    expected = network.predict(plain, theta[:, :end], x) + linear
    np.testing.assert_allclose(network.predict(net, theta, x), expected, rtol=1e-12)


def test_the_last_layer_may_start_in_its_own_way() -> None:
    net = Network((4, 6, 3), output_initializer="zeros")
    (V, _), (W, _) = network.views(net, network.initialize(net, np.random.default_rng(0)))
    assert V.all()
    assert not W.any()


@pytest.mark.parametrize("skip", [False, True])
def test_the_answer_is_the_one_that_predict_gives(skip: bool) -> None:
    net = shape("softmax", "relu", skip=skip)
    theta, x, y, _ = problem(net)
    assert network.gradient(net, theta, x, y)[0].tobytes() == network.predict(net, theta, x).tobytes()


def test_a_row_of_weight_2_counts_as_two_and_a_mean_is_over_rows() -> None:
    net = shape("softmax")
    theta, x, y, _ = problem(net)
    heavy = network.gradient(net, theta, x[:2], y[:2], np.array([2.0, 1.0]))[2]
    twice = network.gradient(net, theta, x[[0, 0, 1]], y[[0, 0, 1]])[2]
    np.testing.assert_allclose(heavy * 2, twice * 3, rtol=1e-12)


def test_nothing_that_came_in_is_changed() -> None:
    net = shape("softmax", "relu")
    given = problem(net)
    before = [array.copy() for array in given]
    network.gradient(net, *given)
    network.predict(net, *given[:2])
    assert [array.tolist() for array in given] == [array.tolist() for array in before]


def test_float32_stays_float32() -> None:
    net = shape("softmax", "relu")
    theta, x, y, weight = problem(net)
    narrow = network.gradient(net, *(a.astype(np.float32) for a in (theta, x)), y, weight.astype(np.float32))
    wide = network.gradient(net, theta, x, y, weight)
    for one, other in zip(narrow, wide, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_views_cover_the_vector_and_are_no_copies() -> None:
    net = Network((2, 3, 1), loss="squared")
    theta = np.zeros((2, network.size(net)), np.float32)
    assert network.size(net) == 2 * 3 + 3 + 3 * 1 + 1
    layers = network.views(net, theta)
    assert [(W.shape, b.shape) for W, b in layers] == [((2, 2, 3), (2, 1, 3)), ((2, 3, 1), (2, 1, 1))]
    for W, b in layers:
        W += 1
        b += 1
    assert theta.tolist() == np.ones_like(theta).tolist()


def test_first_weights_follow_the_seed_and_the_activation() -> None:
    net = Network((400, 300, 200, 10), "relu", bias=0.1)
    theta = network.initialize(net, np.random.default_rng(3), 2)
    assert theta.dtype == np.float32
    assert theta.tobytes() == network.initialize(net, np.random.default_rng(3), 2).tobytes()
    assert theta[0].tobytes() != theta[1].tobytes()
    (V, b), (W, _), (U, _) = network.views(net, theta)
    assert b.min() == b.max() == np.float32(0.1)
    assert V.var() == pytest.approx(2 / 400, rel=0.02)
    assert W.var() == pytest.approx(2 / 300, rel=0.02)
    assert U.var() == pytest.approx(1 / 200, rel=0.1)
    (V, _), *_ = network.views(net, network.initialize(Network(net.layers, "tanh"), np.random.default_rng(3)))
    assert V.var() == pytest.approx(2 / 700, rel=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": (3,)}, r"^layers must have at least inputs and outputs; got \(3,\)$"),
        ({"layers": (3, 0, 2)}, "^a layer's size must be a whole number >= 1; got 0$"),
        ({"activation": "rleu"}, "^activation must be one of 'identity', .*; got 'rleu'$"),
        ({"loss": "hinge"}, "^loss must be one of 'softmax', .*; got 'hinge'$"),
        ({"initializer": "he"}, "^initializer must be one of .*; got 'he'$"),
        ({"output_initializer": "he"}, "^output_initializer must be one of .*; got 'he'$"),
        ({"bias": float("inf")}, "^bias must be a number in .*; got inf$"),
    ],
)
def test_wrong_options_are_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Network(**{"layers": (3, 2), **options})  # type: ignore[arg-type]
