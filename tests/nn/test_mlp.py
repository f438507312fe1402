from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits
from sklearn.neural_network import MLPClassifier, MLPRegressor

from streaming_nn.nn import metrics, network, scaling
from streaming_nn.nn.learner import Batch, initial, test_then_train
from streaming_nn.nn.mlp import MLP

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, size=(60, 4)).astype(np.float32)
LABELS = (np.arange(60) % 3).astype(np.int32)
TARGETS = (X[:, 0] * 10 + 100).astype(np.float32)


def theirs(ours: MLP, theta: np.ndarray, z: np.ndarray, y: np.ndarray) -> Any:
    """Scikit-learn's network with these first weights, after one step on z and y."""
    model = (MLPClassifier if ours.classes else MLPRegressor)(
        hidden_layer_sizes=ours.hidden,
        activation="logistic" if ours.activation == "sigmoid" else ours.activation,
        solver="sgd",
        learning_rate_init=ours.learning_rate,
        alpha=0,
        momentum=0,
        batch_size=len(z),
    )
    model.partial_fit(z, y, **({"classes": np.unique(y)} if ours.classes else {}))  # makes its arrays
    for i, (W, b) in enumerate(network.views(ours._network, theta)):
        model.coefs_[i][:] = W[0]
        model.intercepts_[i][:] = b[0, 0]
    return model.partial_fit(z, y)


@pytest.mark.parametrize("classes", [("a", "b", "c"), None])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_a_step_is_that_of_scikit_learn(classes: Any, activation: str) -> None:
    ours = MLP(4, classes, (6, 5), activation, "sgd", 0.1, mini_batch=60)
    y, target = (LABELS, LABELS) if classes else (TARGETS, (TARGETS - TARGETS.mean()) / TARGETS.std())
    state = ours.init()._replace(features=scaling.update(scaling.init(4), X))
    z = (X - X.mean(axis=0)) / X.std(axis=0)
    model = theirs(ours, state.theta, z.astype(np.float64), target.astype(np.float64))
    after, step = ours.step(state, Batch(X, y))
    assert step.trained
    for i, (W, b) in enumerate(network.views(ours._network, after.theta)):
        np.testing.assert_allclose(W[0], model.coefs_[i], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(b[0, 0], model.intercepts_[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "optimizer", "rate"), [("relu", "adam", 0.003), ("tanh", "sgd", 0.05)]
)
def test_it_learns_digits(activation: str, optimizer: str, rate: float) -> None:
    digits = load_digits()
    learner = MLP(64, tuple(range(10)), (64,), activation, optimizer, rate, mini_batch=8)
    order = np.random.default_rng(0).permutation(np.tile(np.arange(1797), 3))
    batch = Batch(digits.data[order].astype(np.float32), digits.target[order].astype(np.int32))
    state, rows = test_then_train(learner, initial(learner), [batch])
    report = metrics.report(state.metrics)
    assert rows.trained == len(order)
    assert report["prequential"]["window"]["accuracy"] > 0.95
    assert report["served"]["total"]["accuracy"] < 0.3  # by weights that had seen nothing


def test_it_learns_a_regression_in_the_targets_own_unit() -> None:
    data = load_diabetes()
    order = np.random.default_rng(0).permutation(np.tile(np.arange(442), 10))
    batch = Batch(data.data[order].astype(np.float32), data.target[order].astype(np.float32))
    learner = MLP(10, mini_batch=4)
    report = metrics.report(test_then_train(learner, initial(learner), [batch])[0].metrics)
    assert report["prequential"]["window"]["mae"] < 0.65 * report["baselines"]["mean"]["window"]["mae"]


def test_no_answer_is_further_than_six_deviations_from_the_mean() -> None:
    learner = MLP(4, mini_batch=10)
    state, _ = test_then_train(learner, initial(learner), [Batch(X, TARGETS)])
    wild = state.model._replace(theta=state.model.theta * 1000)
    answers = learner.predict(wild, X)
    assert np.abs(answers - TARGETS.mean()).max() == pytest.approx(6 * TARGETS.std(), rel=1e-3)


def test_first_weights_follow_the_seed() -> None:
    one, same, other = (MLP(4, ("a", "b"), seed=seed).init().theta.tobytes() for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_probabilities_sum_to_one() -> None:
    learner = MLP(4, ("a", "b", "c"))
    p = learner.predict(learner.init(), X)
    assert p.shape == (60, 3)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": 0}, "^inputs must be a whole number >= 1; got 0$"),
        ({"classes": ()}, r"^classes must be one or more labels, all different; got \(\)$"),
        ({"hidden": (64, 0)}, "^hidden must be a whole number >= 1; got 0$"),
        ({"activation": "rleu"}, "^activation must be one of 'identity', .*; got 'rleu'$"),
        ({"optimizer": "adm"}, "^optimizer must be one of 'sgd', .*; got 'adm'$"),
        ({"learning_rate": 0}, r"^learning_rate must be a number in \(0, inf\); got 0$"),
        ({"mini_batch": 0}, "^mini_batch must be a whole number >= 1; got 0$"),
        ({"clip": -1.0}, r"^clip must be a number in \(0, inf\); got -1.0$"),
        ({"initializer": "he"}, "^initializer must be one of .*; got 'he'$"),
        ({"seed": -1}, "^seed must be a whole number >= 0; got -1$"),
        ({"window": 0}, "^window must be a whole number >= 1; got 0$"),
        ({"fading": 1.0}, r"^fading must be a number in \(0, 1\); got 1.0$"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLP(**{"inputs": 3, **options})
