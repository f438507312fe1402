from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_nn.nn import network
from streaming_nn.nn.activations import ACTIVATIONS
from streaming_nn.nn.losses import LOSSES, Huber, Logistic, Loss, Quantile, Softmax
from streaming_nn.nn.network import Network

pytestmark = pytest.mark.commit

MEMBERS, ROWS = 3, 5
ALL_LOSSES: list[str | Loss] = [*LOSSES, Softmax(2.0), Logistic(0.5), Huber(0.1), Quantile((0.2, 0.7))]


def problem(net: Network, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return theta (members, parameters) in float64, x, y, and a weight a row."""
    rng = np.random.default_rng(seed)
    theta = network.initialize(net, rng, MEMBERS).astype(np.float64)
    theta += rng.normal(size=theta.shape) * 0.1  # biases too
    x = rng.normal(size=(ROWS, net.layers[0]))
    return theta, x, truth(net, rng), rng.uniform(0.5, 2, ROWS)


def truth(net: Network, rng: np.random.Generator) -> np.ndarray:
    """Return y (rows,): a class, 0 or 1, a count, or a number."""
    if isinstance(net._loss, (Softmax, Logistic)):
        return rng.integers(0, max(2, net.layers[-1]), ROWS)
    return rng.poisson(2, ROWS) if net.loss == "poisson" else rng.normal(size=ROWS)


def shape(
    loss: str | Loss, activation: str = "tanh", hidden: tuple[int, ...] = (6, 5), skip: bool = False
) -> Network:
    made = LOSSES[loss]() if isinstance(loss, str) else loss
    outputs = len(made.quantiles) if isinstance(made, Quantile) else 3 if isinstance(made, Softmax) else 1
    return Network((4, *hidden, outputs), activation, loss, skip=skip)


def differences(net: Network, theta: np.ndarray, mean_loss: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the gradient of each member's mean loss by finite differences."""
    slope, step = np.empty_like(theta), 1e-6
    for i in range(network.size(net)):
        away = np.zeros_like(theta)
        away[:, i] = step
        slope[:, i] = (mean_loss(theta + away) - mean_loss(theta - away)) / (2 * step)
    return slope


@pytest.mark.parametrize("loss", ALL_LOSSES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [pytest.param((6,), marks=pytest.mark.nightly), (), (5, 4, 3)])
@pytest.mark.parametrize("rows", [pytest.param(1, marks=pytest.mark.nightly), ROWS])
@pytest.mark.parametrize("skip", [False, True])
def test_gradient_is_that_of_finite_differences(
    loss: str | Loss, activation: str, hidden: tuple[int, ...], rows: int, skip: bool
) -> None:
    net = shape(loss, activation, hidden, skip)
    theta, x, y, weight = problem(net)
    x, y, weight = x[:rows], y[:rows], weight[:rows]

    def mean_loss(at: np.ndarray) -> np.ndarray:
        return (network.gradient(net, at, x, y)[1] * weight).mean(axis=1)

    slope, expected = network.gradient(net, theta, x, y, weight)[2], differences(net, theta, mean_loss)
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-7 * max(1, np.abs(slope).max()))


@pytest.mark.parametrize(
    "loss", ["squared", "absolute", "huber", "poisson", "logistic", Logistic(2.0)], ids=str
)
def test_several_outputs_have_a_label_each(loss: str | Loss) -> None:
    """Among them are labels that may hold together: the logistic loss of 0 or 1 for each."""
    net, rng = Network((4, 6, 3), "tanh", loss), np.random.default_rng(0)
    theta, x, _, weight = problem(net)
    y = rng.integers(0, 2, (ROWS, 3))
    _, losses, slope = network.gradient(net, theta, x, y, weight)
    assert losses.shape == (MEMBERS, ROWS)

    def mean_loss(at: np.ndarray) -> np.ndarray:
        return (network.gradient(net, at, x, y)[1] * weight).mean(axis=1)

    np.testing.assert_allclose(slope, differences(net, theta, mean_loss), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dropout_has_the_gradient_of_the_network_that_is_left(activation: str) -> None:
    net = Network((4, 6, 5, 3), activation, skip=True)
    theta, x, y, weight = problem(net)
    kept = network.dropout(net, 0.4, ROWS, seed=1, count=7)

    def mean_loss(at: np.ndarray) -> np.ndarray:
        return (network.gradient(net, at, x, y, None, kept)[1] * weight).mean(axis=1)

    slope = network.gradient(net, theta, x, y, weight, kept)[2]
    np.testing.assert_allclose(slope, differences(net, theta, mean_loss), rtol=1e-5, atol=1e-7)


def test_dropping_nothing_changes_no_bit() -> None:
    net = Network((4, 6, 5, 3))
    theta, x, y, weight = problem(net)
    kept = network.dropout(net, 0.0, ROWS, seed=1, count=7)
    plain, dropped = (network.gradient(net, theta, x, y, weight, k) for k in (None, kept))
    assert [part.tobytes() for part in plain] == [part.tobytes() for part in dropped]


def test_dropout_drops_its_part_and_keeps_the_mean() -> None:
    net = Network((4, 301, 100, 3))
    first, second = network.dropout(net, 0.3, 99, seed=1, count=7)
    assert (first.shape, second.shape) == ((99, 301), (99, 100))
    for kept in (first, second):
        assert kept.dtype == np.float32
        assert np.unique(kept).tolist() == [0, np.float32(1 / 0.7)]
        assert kept.mean() == pytest.approx(1, abs=0.02)
        assert np.abs(kept.mean(axis=0) - 1).max() < 0.35  # 5 deviations: no unit always, no row always
        assert np.abs(kept.mean(axis=1) - 1).max() < 0.35


@given(seed=st.integers(0, 2**130), count=st.integers(0, 2**62), rows=st.integers(1, 40))
def test_dropout_follows_from_seed_and_count(seed: int, count: int, rows: int) -> None:
    net = Network((4, 33, 30, 3))

    def drawn(seed: int, count: int) -> bytes:
        return b"".join(part.tobytes() for part in network.dropout(net, 0.5, rows, seed, count))

    assert drawn(seed, count) == drawn(seed, count)
    assert len({drawn(seed, count), drawn(seed + 1, count), drawn(seed, count + 1)}) == 3


@pytest.mark.parametrize("loss", ALL_LOSSES, ids=str)
def test_members_do_not_touch_each_other(loss: str | Loss) -> None:
    net = shape(loss)
    theta, x, y, weight = problem(net)
    together = network.gradient(net, theta, x, y, weight)
    for i in range(MEMBERS):
        alone = network.gradient(net, theta[i : i + 1], x, y, weight)
        for stacked, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(stacked[i], one[0], rtol=1e-12)


@pytest.mark.parametrize("loss", ALL_LOSSES, ids=str)
def test_members_may_have_other_rows(loss: str | Loss) -> None:
    net = shape(loss)
    theta, x, y, _ = problem(net)
    own_x, own_y = np.stack([x, x[::-1], 2 * x]), np.stack([y, y[::-1], y])
    together = network.gradient(net, theta, own_x, own_y)
    for i in range(MEMBERS):
        alone = network.gradient(net, theta[i : i + 1], own_x[i], own_y[i])
        for stacked, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(stacked[i], one[0], rtol=1e-12)


def test_members_may_weigh_rows_differently() -> None:
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


def test_the_last_layer_may_have_another_initializer() -> None:
    net = Network((4, 6, 3), bias_initializer="lecun_normal", output_initializer="zeros")
    (V, b), (W, c) = network.views(net, network.initialize(net, np.random.default_rng(0)))
    assert V.all()
    assert b.all()
    assert not W.any()
    assert not c.any()


@pytest.mark.parametrize("skip", [False, True])
def test_a_steps_output_is_that_of_predict(skip: bool) -> None:
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


def test_views_cover_the_vector_and_are_not_copies() -> None:
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
    net = Network((400, 300, 200, 10), "relu", bias_initializer=0.1)
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


def test_biases_may_be_drawn_with_their_layers_spread() -> None:
    net = Network((400, 300, 200, 10), bias_initializer="glorot_normal")
    (_, b), (_, c), _ = network.views(net, network.initialize(net, np.random.default_rng(3), 50))
    assert b.var() == pytest.approx(2 / 700, rel=0.05)
    assert c.var() == pytest.approx(2 / 500, rel=0.05)


def test_biases_are_where_the_slices_are() -> None:
    net = Network((4, 6, 3), skip=True)
    theta = np.zeros((1, network.size(net)))
    for start, end in net.biases:
        theta[:, start:end] = 1
    for W, b in network.views(net, theta):
        assert not W.any()
        assert b.all()
    assert not network.skip_view(net, theta).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": (3,)}, r"^layers must have at least inputs and outputs; got \(3,\)$"),
        ({"layers": (3, 0, 2)}, "^a layer's size must be an integer >= 1; got 0$"),
        ({"activation": "rleu"}, "^activation must be one of 'identity', .*; got 'rleu'$"),
        ({"loss": "hinge"}, "^loss must be one of 'softmax', .*; got 'hinge'$"),
        ({"initializer": "he"}, "^initializer must be one of .*; got 'he'$"),
        ({"output_initializer": "he"}, "^output_initializer must be one of .*; got 'he'$"),
        ({"bias_initializer": float("inf")}, "^bias_initializer must be a number in .*; got inf$"),
        ({"loss": "quantile"}, r"^layers must end with an output for each quantile; got \(3, 2\)$"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Network(**{"layers": (3, 2), **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("hidden", [(), (6,), (5, 4)])
@pytest.mark.parametrize("skip", [False, True])
def test_a_network_of_some_inputs_is_the_whole_one_where_the_others_are_0(
    hidden: tuple[int, ...], skip: bool
) -> None:
    columns = np.array([True, False, True, True, False])
    whole = Network((5, *hidden, 3), skip=skip)
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(2, network.size(whole)))
    x, y = rng.normal(size=(ROWS, 5)) * columns, rng.integers(0, 3, ROWS)
    part = network.select_inputs(whole, theta, columns)
    output, _, slope = network.gradient(network.with_inputs(whole, 3), part, x[:, columns], y)
    expected, _, full = network.gradient(whole, theta, x, y)
    np.testing.assert_allclose(output, expected)
    np.testing.assert_allclose(slope, network.select_inputs(whole, full, columns))
    back = np.zeros_like(theta)
    network.restore_inputs(whole, back, slope, columns)
    np.testing.assert_allclose(back, full)  # the others' weights have no gradient
