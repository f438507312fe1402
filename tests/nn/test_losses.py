from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, softmax
from sklearn.metrics import log_loss, mean_pinball_loss, mean_poisson_deviance
from sklearn.utils.class_weight import compute_class_weight

from streaming_nn.nn import losses
from streaming_nn.nn.losses import FEW_OUTPUTS, Absolute, Huber, Logistic, Poisson, Quantile, Softmax, Squared

pytestmark = pytest.mark.commit

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("outputs", [2, 7, FEW_OUTPUTS, FEW_OUTPUTS + 1])
def test_softmax_is_that_of_scipy(outputs: int) -> None:
    z = RNG.normal(size=(3, 5, outputs)) * 10
    np.testing.assert_allclose(Softmax().link(z.copy()), softmax(z, axis=-1), rtol=1e-12)


def test_softmax_predicts_a_row_the_same_alone_and_among_others() -> None:
    z = RNG.normal(size=(1, 300, 7)).astype(np.float32)
    together = Softmax().link(z.copy())
    alone = [Softmax().link(z[:, row : row + 1].copy()) for row in range(300)]
    assert together.tobytes() == np.concatenate(alone, axis=1).tobytes()


def test_cross_entropy_is_that_of_scikit_learn() -> None:
    z, y = RNG.normal(size=(2, 50, 4)), RNG.integers(0, 4, 50)
    p = softmax(z, axis=-1)
    loss, _ = Softmax().loss(p, y)
    np.testing.assert_allclose(loss, -log_softmax(z, axis=-1)[:, np.arange(50), y], rtol=1e-10)
    assert loss[1].mean() == pytest.approx(log_loss(y, p[1], labels=range(4)))


def test_each_member_may_have_other_labels() -> None:
    p, y = softmax(RNG.normal(size=(2, 5, 3)), axis=-1), RNG.integers(0, 3, (2, 5))
    loss, delta = Softmax().loss(p, y)
    for member in range(2):
        alone = Softmax().loss(p[member : member + 1], y[member])
        assert loss[member].tolist() == alone[0][0].tolist()
        assert delta[member].tolist() == alone[1][0].tolist()


def test_a_probability_of_zero_gives_a_finite_loss() -> None:
    p = Softmax().link(np.array([[[-1000.0, 1000.0]]], np.float32))
    loss, delta = Softmax().loss(p, np.array([0]))
    assert 80 < loss[0, 0] < 90
    assert delta.tolist() == [[[-1.0, 1.0]]]


def test_huber_is_squared_near_the_target_and_absolute_further_out() -> None:
    loss, delta = Huber().loss(np.array([[[3.0], [1.5], [-9.0]]]), np.ones(3))
    assert loss.tolist() == [[1.5, 0.125, 9.5]]
    assert delta.tolist() == [[[1.0], [0.5], [-1.0]]]


def test_squared() -> None:
    loss, delta = Squared().loss(np.array([[[3.0], [1.0]]]), np.array([1.0, 1.0]))
    assert loss.tolist() == [[2.0, 0.0]]
    assert delta.tolist() == [[[2.0], [0.0]]]


def test_a_loss_is_a_value() -> None:
    assert Huber(2.0) == Huber(2.0) != Huber()
    assert hash(Quantile((0.1, 0.9))) == hash(Quantile([0.1, 0.9]))  # type: ignore[arg-type]


def test_huber_turns_absolute_at_its_delta() -> None:
    loss, delta = Huber(3.0).loss(np.array([[[3.0], [8.0]]]), np.ones(2))
    assert loss.tolist() == [[0.5 * 2**2, 3 * (7 - 1.5)]]
    assert delta.tolist() == [[[2.0], [3.0]]]


def test_absolute() -> None:
    loss, delta = Absolute().loss(np.array([[[3.0], [1.0], [-9.0]]]), np.ones(3))
    assert loss.tolist() == [[2.0, 0.0, 10.0]]
    assert delta.tolist() == [[[1.0], [0.0], [-1.0]]]


@pytest.mark.parametrize("loss", [Squared(), Absolute(), Huber(), Poisson(), Logistic()])
def test_several_outputs_sum_their_losses(loss: Any) -> None:
    z, y = RNG.normal(size=(3, 20, 4)), RNG.integers(0, 2, (20, 4))
    output = loss.link(z)
    total, delta = loss.loss(output, y)
    for i in range(4):
        part, slope = loss.loss(output[..., i : i + 1], y[:, i])
        total = total - part
        np.testing.assert_allclose(delta[..., i : i + 1], slope)
    np.testing.assert_allclose(total, 0, atol=1e-12)


def test_logistic_is_that_of_scikit_learn() -> None:
    z, y = RNG.normal(size=(2, 50, 1)) * 5, RNG.integers(0, 2, 50)
    p = Logistic().link(z.copy())
    np.testing.assert_allclose(p, expit(z), rtol=1e-10)
    loss, delta = Logistic().loss(p, y)
    assert loss[1].mean() == pytest.approx(log_loss(y, p[1, :, 0]))
    np.testing.assert_allclose(delta[..., 0], p[..., 0] - y)


def test_logistic_is_softmax_of_two_outputs_the_first_at_zero() -> None:
    z, y = RNG.normal(size=(1, 50, 1)), RNG.integers(0, 2, 50)
    two = softmax(np.concatenate([np.zeros_like(z), z], axis=-1), axis=-1)
    for gamma in (0.0, 0.5, 2.0):
        one, slope = Logistic(gamma).loss(expit(z), y)
        other, slopes = Softmax(gamma).loss(two, y)
        np.testing.assert_allclose(one, other, rtol=1e-12)
        np.testing.assert_allclose(slope[..., 0], slopes[..., 1], rtol=1e-10)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0, 5.0])
def test_focal_loss_is_equation_4(gamma: float) -> None:
    p, y = softmax(RNG.normal(size=(2, 50, 4)), axis=-1), RNG.integers(0, 4, 50)
    right = p[:, np.arange(50), y]
    loss, _ = Softmax(gamma).loss(p, y)
    np.testing.assert_allclose(loss, -((1 - right) ** gamma) * np.log(right), rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("kind", [Softmax, Logistic])
def test_a_certain_prediction_has_a_finite_focal_loss(kind: Any, gamma: float) -> None:
    z = np.array([[[-1000.0, 1000.0]]] * 2, np.float32)
    for y in (np.array([0]), np.array([1])) if kind is Softmax else (np.array([[0, 1]]), np.array([[1, 0]])):
        loss, delta = kind(gamma).loss(kind().link(z.copy()), y)
        assert np.isfinite(loss).all()
        assert np.isfinite(delta).all()
        assert loss.dtype == delta.dtype == np.float32


def test_quantiles_are_the_pinball_loss_of_scikit_learn() -> None:
    quantiles = (0.05, 0.5, 0.8)
    output, y = RNG.normal(size=(2, 40, 3)), RNG.normal(size=40)
    loss, _ = Quantile(quantiles).loss(output, y)
    expected = sum(mean_pinball_loss(y, output[1, :, i], alpha=q) for i, q in enumerate(quantiles))
    assert loss[1].mean() == pytest.approx(expected)


@given(st.integers(1, 60), st.floats(0.01, 0.99), st.integers(0, 99))
def test_the_least_pinball_loss_is_at_the_quantile(rows: int, quantile: float, seed: int) -> None:
    y = np.random.default_rng(seed).normal(size=rows)
    at = np.quantile(y, quantile, method="inverted_cdf")
    slope = [
        Quantile((quantile,)).loss(np.full((1, rows, 1), at + side), y)[1].sum() for side in (-1e-9, 1e-9)
    ]
    assert slope[0] <= 1e-9  # going up makes it no worse
    assert slope[1] >= -1e-9


@given(st.integers(0, 999))
def test_sorting_never_increases_the_error_of_quantiles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prediction, truth = rng.normal(size=(5, 4)), np.sort(rng.normal(size=(5, 4)))
    sorted_ = losses.sort_quantiles(prediction)
    assert (np.diff(sorted_) >= 0).all()
    for power in (1, 2, 3):
        before, after = ((np.abs(a - truth) ** power).sum(axis=1) for a in (prediction, sorted_))
        assert (after <= before + 1e-12).all()


def test_poisson_is_half_the_deviance_of_scikit_learn_except_terms_of_y() -> None:
    z, y = RNG.normal(size=(2, 50, 1)), RNG.poisson(3, 50).astype(float)
    mean = Poisson().link(z.copy())
    np.testing.assert_allclose(mean, np.exp(z))
    loss, _ = Poisson().loss(mean, y)
    best, _ = Poisson().loss(np.maximum(y, 1e-300)[None, :, None], y)
    half = mean_poisson_deviance(y, mean[1, :, 0]) / 2
    assert (loss[1] - best[0]).mean() == pytest.approx(half)


def test_poisson_stays_finite_and_refuses_negative_counts() -> None:
    mean = Poisson().link(np.array([[[-1e9], [1e9], [0]]], np.float32))
    loss, delta = Poisson().loss(mean, np.array([3, 0, -1], np.float32))
    assert loss.dtype == delta.dtype == np.float32
    assert np.isfinite(loss).tolist() == [[True, True, False]]
    assert np.isfinite(delta).all()


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=20))
def test_class_weights_from_counts(counts: list[int]) -> None:
    n = np.array(counts, float)
    seen = n > 0
    balanced, effective = losses.balanced_weights(n), losses.effective_weights(n, 0.999)
    for weights in (balanced, effective):
        assert np.isfinite(weights).all()
        assert weights[~seen].tolist() == [1] * (~seen).sum()
    if not seen.any():
        return
    y = np.repeat(np.flatnonzero(seen), np.minimum(n[seen], 50).astype(int))
    theirs = compute_class_weight("balanced", classes=np.unique(y), y=y)
    np.testing.assert_allclose(losses.balanced_weights(np.bincount(y, minlength=len(n)))[seen], theirs)
    expected = (1 - 0.999) / (1 - 0.999 ** n[seen])  # proposition 1; their sum is that of no weights
    np.testing.assert_allclose(effective[seen], expected * seen.sum() / expected.sum(), rtol=1e-9)


def test_effective_numbers_are_between_no_weights_and_balanced_ones() -> None:
    counts = np.array([10.0, 1000.0])
    np.testing.assert_allclose(losses.effective_weights(counts, 1e-9), [1, 1])
    balanced = losses.balanced_weights(counts)
    np.testing.assert_allclose(
        losses.effective_weights(counts, 1 - 1e-9), balanced / balanced.mean(), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Softmax(-1.0), r"^focal_gamma must be a number in \[0, inf\); got -1.0$"),
        (lambda: Logistic(-1.0), r"^focal_gamma must be a number in \[0, inf\); got -1.0$"),
        (lambda: Huber(0), r"^huber_delta must be a number in \(0, inf\); got 0$"),
        (lambda: Quantile((0.5, 1.0)), r"^quantiles must be a number in \(0, 1\); got 1.0$"),
        (
            lambda: Quantile((0.9, 0.1)),
            r"^quantiles must be at least one, in ascending order; got \(0.9, 0.1\)$",
        ),
        (lambda: Quantile(()), r"^quantiles must be at least one, in ascending order; got \(\)$"),
    ],
)
def test_invalid_options_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
