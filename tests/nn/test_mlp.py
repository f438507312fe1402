from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes, load_digits
from sklearn.neural_network import MLPClassifier, MLPRegressor

from streaming_nn.nn import learner as loop
from streaming_nn.nn import losses, metrics, moments, network, optimizers, state_dict
from streaming_nn.nn.learner import Batch, Counts, initial, test_then_train
from streaming_nn.nn.losses import LOSSES
from streaming_nn.nn.mlp import MLP, MLPState
from streaming_nn.nn.optimizers import OPTIMIZERS
from streaming_nn.nn.schedules import Cosine, WarmUp

pytestmark = pytest.mark.commit

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
        alpha=ours.l2,
        momentum=ours.momentum or 0,
        nesterovs_momentum=ours.optimizer == "nesterov",
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
    state = ours.init()._replace(feature_moments=moments.update(moments.init(4), X))
    z = (X - X.mean(axis=0)) / X.std(axis=0)
    model = theirs(ours, state.theta, z.astype(np.float64), target.astype(np.float64))
    after, step = ours.step(state, Batch(X, y))
    assert step.trained
    for i, (W, b) in enumerate(network.views(ours._network, after.theta)):
        np.testing.assert_allclose(W[0], model.coefs_[i], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(b[0, 0], model.intercepts_[i], rtol=1e-4, atol=1e-5)


def learned(learner: MLP, rows: int = 60, model: MLPState | None = None) -> MLPState:
    """Return the state after some mini-batches, each checked against `predict`."""
    model = model or learner.init()
    y = LABELS if learner.classes else TARGETS
    for start in range(0, rows, learner.mini_batch):
        stop = min(start + learner.mini_batch, rows)
        predictions = learner.predict(model, X[start:stop])
        model, step = learner.step(model, Batch(X[start:stop], y[start:stop]))
        assert step.trained
        assert step.output.tobytes() == predictions.tobytes()
    return model


def test_the_defaults_take_the_plain_steps_and_no_other_tensors() -> None:
    """The defaults have no more tensors than they need."""
    for learner in (MLP(4, (0, 1, 2), mini_batch=7), MLP(4, mini_batch=7, optimizer="sgd")):
        model = learner.init()
        assert {name.partition(".")[0] for name in state_dict.flatten(model)} <= {
            "theta",
            "optimizer",
            "feature_moments",
            "target_moments",
        }
        theta, memory, features, targets = model[:4]
        for start in range(0, 60, 7):
            x, y = X[start : start + 7], (LABELS if learner.classes else TARGETS)[start : start + 7]
            if targets is not None:
                targets = moments.update(targets, y[:, None])
                y = moments.standardize(targets, y[:, None], 6.0)[:, 0]
            z = moments.standardize(features, x, 5.0)
            features = moments.update(features, x)
            _, _, slope = network.gradient(learner._network, theta, z, y)
            theta, memory = OPTIMIZERS[learner.optimizer](0.003).update(memory, slope, theta)
        assert learned(learner).theta.tobytes() == theta.tobytes()


@pytest.mark.parametrize(
    "loss", [x if x in ("softmax", "squared") else pytest.param(x, marks=pytest.mark.nightly) for x in LOSSES]
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_loss_is_learned_by_every_optimizer(loss: str, optimizer: str) -> None:
    classes = {"softmax": (0, 1, 2), "logistic": (0, 1)}.get(loss)
    rate = {"adagrad": 0.1, "ftrl": 0.1, "sgd": 0.01}.get(optimizer, 0.003)
    learner = MLP(4, classes, (8, 6), "tanh", optimizer, rate, loss=loss, mini_batch=5)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(700, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32) if classes else np.exp2(np.round(x[:, 0] + 2)).astype(np.float32)
    state, rows = test_then_train(learner, initial(learner), [Batch(x, y)])
    assert rows.trained == 700
    assert learner.predict(state.model, x).dtype == np.float32
    assert mean_loss(learner, state.model, x, y) < 0.9 * mean_loss(learner, learner.init(), x, y)


def mean_loss(learner: MLP, model: MLPState, x: np.ndarray, y: np.ndarray) -> float:
    prediction = learner.predict(model, x).astype(float)
    if learner.loss == "softmax":
        return float(losses.Softmax().loss(prediction[None], y)[0].mean())
    if learner.loss == "logistic":
        return float(losses.Logistic().loss(prediction[None, :, 1:], y)[0].mean())
    output = prediction[:, learner.point]
    return float(np.abs(output - y).mean())


def test_the_logistic_loss_predicts_both_probabilities() -> None:
    learner = MLP(4, ("no", "yes"), loss="logistic", mini_batch=4)
    y = (X[:, 0] > 3).astype(np.int32)
    state, _ = test_then_train(learner, initial(learner), [Batch(X, y)] * 20)
    p = learner.predict(state.model, X)
    assert p.shape == (60, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    assert (p.argmax(axis=1) == y).mean() > 0.9
    assert learner._network.layers[-1] == 1


def test_quantiles_have_their_coverage_and_never_cross() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(12_000, 1)).astype(np.float32)
    y = (10 * x[:, 0] + (2 + x[:, 0]) * rng.normal(size=12_000)).astype(np.float32)
    quantiles = (0.1, 0.4, 0.5, 0.9)
    learner = MLP(
        1, loss="quantile", quantiles=quantiles, mini_batch=8, schedule="inverse", schedule_rows=1000
    )
    assert learner.point == 2
    model = learner.init()
    for start in range(0, 10_000, 8):
        model, step = learner.step(model, Batch(x[start : start + 8], y[start : start + 8]))
        assert (np.diff(step.output) >= 0).all()
    predictions = learner.predict(model, x[10_000:])
    below = (y[10_000:, None] <= predictions).mean(axis=0)
    np.testing.assert_allclose(below, quantiles, atol=0.04)
    width = predictions[:, 3] - predictions[:, 0]
    wide, narrow = (width[np.abs(x[10_000:, 0] - at) < 0.2].mean() for at in (0.8, -0.8))
    assert wide > 1.5 * narrow  # 2.8 to 1.2 in truth: the interval knows where the noise is


def test_predictions_whose_quantiles_cross_are_sorted() -> None:
    learner = MLP(4, loss="quantile", quantiles=(0.1, 0.5, 0.9))
    model = learned(learner, 0)._replace(feature_moments=moments.update(moments.init(4), X))
    raw = network.predict(learner._network, model.theta, moments.standardize(model.feature_moments, X, 5.0))[
        0
    ]
    assert (np.diff(raw) < 0).any()
    assert learner.predict(model, X).tolist() == np.sort(raw).tolist()  # targets have no unit yet


def test_counts_of_any_size_are_learned_by_their_means() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(8000, 1)).astype(np.float32)
    for size in (1.0, 1e4):
        mean = size * np.exp(x[:, 0])
        y = rng.poisson(mean).astype(np.float32)
        learner = MLP(1, loss="poisson", mini_batch=8)
        state, rows = test_then_train(learner, initial(learner), [Batch(x, y)])
        assert rows.trained == 8000
        far = np.abs(np.log(learner.predict(state.model, x)[:, 0] / mean))
        assert np.median(far) < 0.1


def test_a_negative_count_is_skipped() -> None:
    learner = MLP(4, loss="poisson", mini_batch=4)
    y = np.array([1, 2, 3, 4, 5, -1, 0, 0], np.float32)
    state, rows = test_then_train(learner, initial(learner), [Batch(X[:8], y)])
    assert rows == Counts(received=8, trained=4, skipped=4)
    assert np.isfinite(state.model.theta).all()


def test_the_focal_loss_is_more_of_the_rows_that_are_wrong() -> None:
    plain, focal = MLP(4, (0, 1, 2)), MLP(4, (0, 1, 2), focal_gamma=2.0)
    model = learned(plain)
    batch = Batch(X, LABELS)
    expected = network.gradient(
        replace(plain._network, loss=losses.Softmax(2.0)),
        model.theta,
        moments.standardize(model.feature_moments, X, 5.0),
        LABELS,
    )[2]
    after, _ = focal.step(model, batch)
    theta, _ = optimizers.Adam(0.003).update(model.optimizer, expected, model.theta)
    assert after.theta.tobytes() == theta.tobytes()
    assert after.theta.tobytes() != plain.step(model, batch)[0].theta.tobytes()


def step_of(learner: MLP, model: MLPState, weight: np.ndarray | None = None) -> bytes:
    return learner.step(model, Batch(X, LABELS, weight))[0].theta.tobytes()


@pytest.mark.parametrize("given", [{"a": 2.0, "c": 0.5}, (("a", 2.0), ("c", 0.5)), [["a", 2], ["c", 0.5]]])
def test_class_weights_are_weights_of_their_rows(given: Any) -> None:
    plain = MLP(4, ("a", "b", "c"))
    weighed, model = replace(plain, class_weight=given), learned(plain)
    own = np.array([2, 1, 0.5], np.float32)[LABELS]
    assert step_of(weighed, model) == step_of(plain, model, own)
    some = RNG.uniform(0.5, 2, 60).astype(np.float32)
    assert step_of(weighed, model, some) == step_of(plain, model, own * some)
    assert state_dict.flatten(weighed.init()).keys() == state_dict.flatten(plain.init()).keys()


@pytest.mark.parametrize("classes", [(1, 2, 3), (True, False), ("1", "2")])
def test_a_label_may_be_a_string(classes: tuple[Any, ...]) -> None:
    label = str(classes[1]).lower()
    assert MLP(4, classes, class_weight={label: 2}).class_weight == ((classes[1], 2.0),)
    assert MLP(4, classes, class_weight={classes[0]: 2}).class_weight == ((classes[0], 2.0),)


@pytest.mark.parametrize("how", ["balanced", "effective"])
def test_weights_by_running_counts(how: str) -> None:
    plain = MLP(4, (0, 1, 2))
    learner = replace(plain, class_weight=how, class_beta=0.9)
    model, seen = learned(plain), np.array([50.0, 5, 0])
    counted = seen + np.bincount(LABELS)  # with themselves counted in
    of_class = (
        losses.balanced_weights(counted) if how == "balanced" else losses.effective_weights(counted, 0.9)
    )
    after, _ = learner.step(model._replace(class_counts=seen), Batch(X, LABELS))
    assert after.class_counts is not None
    assert after.class_counts.tolist() == counted.tolist()
    assert after.theta.tobytes() == step_of(plain, model, of_class.astype(np.float32)[LABELS])


@pytest.mark.parametrize("how", [None, "balanced", "effective"])
def test_a_rare_class_is_recalled_where_classes_are_balanced(how: str | None) -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(6000) < 0.03).astype(np.int32)
    x = (rng.normal(size=(6000, 2)) + 1.5 * y[:, None]).astype(np.float32)
    learner = MLP(2, (0, 1), class_weight=how, mini_batch=8)
    state, _ = test_then_train(learner, initial(learner), [Batch(x, y)])
    recall = metrics.report(state.metrics)["prequential"]["cumulative"]["per_class"]["recall"][1]
    assert recall < 0.35 if how is None else recall > 0.6


def test_l1_and_l2_are_in_the_gradient_and_not_on_biases() -> None:
    plain = MLP(4, (0, 1, 2), (6,), optimizer="sgd", learning_rate=0.1)
    model = learned(plain)
    theta = model.theta
    of_weights = np.ones_like(theta)
    for start, end in plain._network.biases:
        of_weights[:, start:end] = 0
    without, _ = plain.step(model, Batch(X, LABELS))
    after, _ = replace(plain, l1=0.02, l2=0.3).step(model, Batch(X, LABELS))
    expected = without.theta - 0.1 * of_weights * (0.02 * np.sign(theta) + 0.3 * theta)
    np.testing.assert_allclose(after.theta, expected, rtol=1e-5, atol=1e-7)
    decayed, _ = replace(plain, weight_decay=0.3).step(model, Batch(X, LABELS))
    np.testing.assert_allclose(decayed.theta, without.theta - 0.03 * of_weights * theta, rtol=1e-5, atol=1e-7)
    assert replace(plain, optimizer="adamw")._steps.weight_decay == 0.01  # type: ignore[attr-defined]


def test_ftrl_applies_l1_and_l2_itself() -> None:
    learner = MLP(4, (0, 1, 2), (6,), optimizer="ftrl", learning_rate=0.1, l1=2.0, l2=0.1, mini_batch=1)
    weights, biases = np.ones(network.size(learner._network), bool), learner._network.biases
    for start, end in biases:
        weights[start:end] = False
    theta = learned(learner).theta[0]
    assert (theta[weights] == 0).mean() > 0.1
    assert (theta[~weights] != 0).all()


@pytest.mark.parametrize(("name", "clip"), [("clip_value", 0.01), ("clip_norm", 0.05)])
def test_gradients_are_clipped_after_the_penalties(name: str, clip: float) -> None:
    plain = MLP(4, (0, 1, 2), optimizer="sgd", learning_rate=1.0, l2=0.5)
    model = learned(plain)
    step = plain.step(model, Batch(X, LABELS))[0].theta - model.theta
    clipped = replace(plain, **{name: clip}).step(model, Batch(X, LABELS))[0].theta - model.theta
    expected = getattr(optimizers, f"clip_by_{name[5:]}")(step, clip)
    np.testing.assert_allclose(clipped, expected, atol=1e-6)
    assert np.abs(step - expected).max() > 1e-3


@pytest.mark.parametrize(
    "options", [{"clip_value": 1.0}, {"clip_norm": 1.0}, {"dropout": 0.5}, {"warmup": 9}]
)
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_clipping_does_not_hide_a_step_that_is_not_finite(options: dict[str, Any], poison: float) -> None:
    learner = MLP(4, mini_batch=10, class_weight=None, **options)
    model = learned(learner)
    y = TARGETS[:10].copy()
    y[3] = poison
    with np.errstate(all="ignore"):  # as the loop does
        after, step = learner.step(model, Batch(X[:10], y))
    assert not step.trained
    assert after is model


def test_a_schedule_counts_rows_whatever_the_mini_batch() -> None:
    plain = MLP(4, (0, 1, 2), optimizer="sgd", learning_rate=0.1, mini_batch=7)
    learner = replace(plain, schedule="cosine", schedule_rows=20, schedule_growth=1.5, warmup=15)
    schedule, model, expected = WarmUp(15, Cosine(20, 1.5)), learner.init(), plain.init()
    for start in range(0, 60, 7):
        batch = Batch(X[start : start + 7], LABELS[start : start + 7])
        model, _ = learner.step(model, batch)
        slower = replace(plain, learning_rate=0.1 * schedule.factor(start))
        expected, _ = slower.step(expected, batch)
        np.testing.assert_allclose(model.theta, expected.theta, rtol=1e-5, atol=1e-7)
    assert int(model.rows) == 60  # type: ignore[arg-type]


def test_dropout_predicts_with_the_full_network_and_learns_with_a_part() -> None:
    plain = MLP(4, (0, 1, 2), (9, 8), optimizer="sgd", learning_rate=0.1)
    learner = replace(plain, dropout=0.5)
    model = learned(learner)
    assert int(model.rows) == 60  # type: ignore[arg-type]
    z = moments.standardize(model.feature_moments, X, 5.0)
    kept = network.dropout(plain._network, 0.5, 60, plain.seed, 60)
    slope = network.gradient(plain._network, model.theta, z, LABELS, None, kept)[2]
    assert step_of(learner, model) == (model.theta - slope * 0.1).tobytes()


EVERYTHING = [
    MLP(4, (0, 1, 2), dropout=0.3, class_weight="effective", schedule="step", schedule_rows=9, clip_norm=1),
    MLP(4, (0, 1), loss="logistic", dropout=0.5, optimizer="nadam", l1=0.01, warmup=20),
    MLP(4, loss="quantile", optimizer="nesterov", schedule="inverse", dropout=0.2),
]


@settings(max_examples=30, deadline=None)
@given(learner=st.sampled_from(EVERYTHING), cut=st.integers(1, 59), mini_batch=st.sampled_from([1, 4]))
def test_a_model_resumes_from_its_tensors_with_the_same_bits(learner: MLP, cut: int, mini_batch: int) -> None:
    """Dropout, schedules and counts are in the state, and nowhere else."""
    learner = replace(learner, mini_batch=mini_batch)
    cut -= cut % mini_batch
    y = TARGETS if learner.classes is None else LABELS % len(learner.classes)
    whole, _ = test_then_train(learner, initial(learner), [Batch(X, y)])
    part, _ = test_then_train(learner, initial(learner), [Batch(X[:cut], y[:cut])])
    again = replace(learner)
    read = state_dict.unflatten(initial(again), {k: v.copy() for k, v in state_dict.flatten(part).items()})
    rest, _ = test_then_train(again, read, [Batch(X[cut:], y[cut:])])
    one, other = state_dict.flatten(whole.model), state_dict.flatten(rest.model)
    assert {name: one[name].tobytes() for name in one} == {name: other[name].tobytes() for name in other}


@pytest.mark.parametrize("learner", [*EVERYTHING, MLP(4, (0, 1, 2), optimizer="ftrl", learning_rate=0.1)])
def test_tasks_are_merged_field_by_field(learner: MLP) -> None:
    y = TARGETS if learner.classes is None else LABELS % len(learner.classes)
    start, _ = test_then_train(learner, initial(learner), [Batch(X[:20], y[:20])])
    cuts = [slice(20, 30), slice(30, 60)]
    parts = [loop.learn_part(learner, start, [Batch(X[cut], y[cut])]) for cut in cuts]
    merged = loop.combine(learner, start, parts).model
    one, other = (part.model for part in parts)
    if learner.optimizer == "ftrl":  # theta is computed from z and n
        z, n = (0.25 * a + 0.75 * b for a, b in zip(one.optimizer, other.optimizer, strict=True))
        np.testing.assert_allclose(merged.theta, -z / ((1 + np.sqrt(n)) / 0.1), rtol=1e-4, atol=1e-6)
    else:
        np.testing.assert_allclose(merged.theta, 0.25 * one.theta + 0.75 * other.theta, rtol=1e-4, atol=1e-6)
        for ours, a, b in zip(merged.optimizer, one.optimizer, other.optimizer, strict=True):
            mean = a**0.25 * b**0.75 if a.dtype == np.float64 else 0.25 * a + 0.75 * b  # powers, or moments
            np.testing.assert_allclose(ours, mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(merged.feature_moments.mean, X.mean(axis=0, dtype=float), rtol=1e-6)
    assert merged.rows is None or (merged.rows == 60 and merged.rows.dtype == np.int64)
    assert merged.class_counts is None or merged.class_counts.tolist() == np.bincount(y).tolist()
    single = loop.combine(learner, start, parts[:1]).model
    assert single.theta.tobytes() == one.theta.tobytes()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_new_classes_leave_what_was_learned_as_it_was(optimizer: str) -> None:
    rate = 0.2 if optimizer in ("adagrad", "ftrl") else 0.02
    learner = MLP(4, (0, 1, 2), (6,), optimizer=optimizer, learning_rate=rate, class_weight="balanced")
    state, _ = test_then_train(learner, initial(learner), [Batch(X, LABELS)])
    wider = replace(learner, classes=(0, 1, 2, "new", "newer"))
    grown = loop.grow(wider, state)
    assert state_dict.flatten(grown).keys() == state_dict.flatten(initial(wider)).keys()
    p, q = learner.predict(state.model, X), wider.predict(grown.model, X)
    np.testing.assert_allclose(q[:, :3] / q[:, :3].sum(axis=1, keepdims=True), p, rtol=1e-4)
    *_, (W, b) = network.views(wider._network, grown.model.theta)
    assert not W[0, :, 3:].any()
    assert b[0, 0, 3:].tolist() == [b[0, 0, :3].min()] * 2
    still, _ = wider._steps.update(grown.model.optimizer, np.zeros_like(grown.model.theta), grown.model.theta)
    new = network.add_outputs(wider._network, np.ones_like(state.model.theta), 3) == 0
    np.testing.assert_allclose(still[new], grown.model.theta[new], atol=1e-6)  # nothing pulls them away
    for _ in range(40):
        grown, rows = test_then_train(wider, grown, [Batch(X[:32] + 20, np.full(32, 4, np.int32))])
        assert rows.skipped == 0
    assert (wider.predict(grown.model, X[:32] + 20).argmax(axis=1) == 4).all()


@pytest.mark.parametrize("hidden", [(), (5,), (8, 7, 6), (8, 8, 8, 8, 8, 8)])
def test_networks_of_any_depth_learn(hidden: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 4)).astype(np.float32)
    y = (x[:, 0] > x[:, 1]).astype(np.int32)
    learner = MLP(4, (0, 1), hidden, mini_batch=8)
    state, _ = test_then_train(learner, initial(learner), [Batch(x, y)])
    assert metrics.report(state.metrics)["prequential"]["window"]["accuracy"] > 0.8


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
    assert report["as_served"]["cumulative"]["accuracy"] < 0.3  # by weights that had seen nothing


def test_it_learns_a_regression_in_the_targets_own_unit() -> None:
    data = load_diabetes()
    order = np.random.default_rng(0).permutation(np.tile(np.arange(442), 10))
    batch = Batch(data.data[order].astype(np.float32), data.target[order].astype(np.float32))
    learner = MLP(10, mini_batch=4)
    report = metrics.report(test_then_train(learner, initial(learner), [batch])[0].metrics)
    assert report["prequential"]["window"]["mae"] < 0.65 * report["baselines"]["mean"]["window"]["mae"]


def test_no_prediction_is_further_than_six_deviations_from_the_mean() -> None:
    learner = MLP(4, mini_batch=10)
    state, _ = test_then_train(learner, initial(learner), [Batch(X, TARGETS)])
    wild = state.model._replace(theta=state.model.theta * 1000)
    predictions = learner.predict(wild, X)
    assert np.abs(predictions - TARGETS.mean()).max() == pytest.approx(6 * TARGETS.std(), rel=1e-3)


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
        ({"inputs": 0}, "^inputs must be an integer >= 1; got 0$"),
        ({"classes": ()}, r"^classes must be one or more labels, all different; got \(\)$"),
        ({"hidden": (64, 0)}, "^hidden must be an integer >= 1; got 0$"),
        ({"activation": "rleu"}, "^activation must be one of 'identity', .*; got 'rleu'$"),
        ({"optimizer": "adm"}, "^optimizer must be one of 'sgd', .*; got 'adm'$"),
        ({"learning_rate": 0}, r"^learning_rate must be a number in \(0, inf\); got 0$"),
        ({"mini_batch": 0}, "^mini_batch must be an integer >= 1; got 0$"),
        ({"clip": -1.0}, r"^clip must be a number in \(0, inf\); got -1.0$"),
        ({"initializer": "he"}, "^initializer must be one of .*; got 'he'$"),
        ({"seed": -1}, "^seed must be an integer >= 0; got -1$"),
        ({"window": 0}, "^window must be an integer >= 1; got 0$"),
        ({"fading": 1.0}, r"^fading must be a number in \(0, 1\); got 1.0$"),
        ({"loss": "hinge"}, "^loss without classes must be one of 'squared', .*; got 'hinge'$"),
        ({"loss": "softmax"}, "^loss without classes must be one of 'squared', .*; got 'softmax'$"),
        (
            {"loss": "huber", "classes": (0, 1)},
            "^loss with classes must be one of 'softmax', 'logistic'; got 'huber'$",
        ),
        ({"loss": "logistic", "classes": (0, 1, 2)}, r"^classes must be two with .*; got \(0, 1, 2\)$"),
        ({"quantiles": (0.1, 0.9)}, r"^quantiles must be left out with loss 'squared'; got \(0.1, 0.9\)$"),
        (
            {"loss": "quantile", "quantiles": (0.5, 0.5)},
            r"^quantiles must be at least one, in ascending order; got .*$",
        ),
        ({"huber_delta": 2.0}, "^huber_delta must be left out with loss 'squared'; got 2.0$"),
        ({"loss": "huber", "huber_delta": 0}, r"^huber_delta must be a number in \(0, inf\); got 0$"),
        ({"focal_gamma": 2.0}, "^focal_gamma must be left out with loss 'squared'; got 2.0$"),
        ({"momentum": 0.5}, "^momentum must be left out with optimizer 'adam'; got 0.5$"),
        ({"beta1": 0.5, "optimizer": "sgd"}, "^beta1 must be left out with optimizer 'sgd'; got 0.5$"),
        ({"optimizer": "momentum", "momentum": 1}, r"^momentum must be a number in \[0, 1\); got 1$"),
        ({"weight_decay": -1}, r"^weight_decay must be a number in \[0, inf\); got -1$"),
        ({"schedule": "linear"}, "^schedule must be one of 'constant', .*; got 'linear'$"),
        ({"schedule_rows": 5}, "^schedule_rows must be left out with schedule 'constant'; got 5$"),
        ({"schedule": "step", "schedule_rows": 0}, "^a schedule's rows must be an integer >= 1; got 0$"),
        ({"warmup": -1}, "^warmup must be an integer >= 0; got -1$"),
        ({"optimizer": "ftrl", "warmup": 5}, "^schedule must be 'constant' and warmup 0 with 'ftrl', .* 5$"),
        ({"optimizer": "ftrl", "schedule": "step"}, "^schedule must be 'constant' .* 'step' and 0$"),
        ({"l1": -1}, r"^l1 must be a number in \[0, inf\); got -1$"),
        ({"l2": "1"}, r"^l2 must be a number in \[0, inf\); got '1'$"),
        ({"dropout": 1.0}, r"^dropout must be a number in \[0, 1\); got 1.0$"),
        ({"dropout": 0.5, "hidden": ()}, "^dropout must be 0 without hidden units; got 0.5$"),
        ({"clip_norm": 0}, r"^clip_norm must be a number in \(0, inf\); got 0$"),
        ({"clip_value": -1}, r"^clip_value must be a number in \(0, inf\); got -1$"),
        ({"class_beta": 1}, r"^class_beta must be a number in \(0, 1\); got 1$"),
        ({"class_weight": "balanced"}, "^class_weight must be left out without classes; got 'balanced'$"),
        (
            {"classes": (0, 1), "class_weight": "even"},
            "^class_weight must be one of 'balanced', 'effective'; got 'even'$",
        ),
        (
            {"classes": ("a", "b"), "class_weight": {"c": 1}},
            r"^class_weight must be for labels among \('a', 'b'\); got 'c'$",
        ),
        ({"classes": (0, 1), "class_weight": {0: -1}}, r"^class_weight must be a number in .*; got -1$"),
        (
            {"classes": (0, 1), "class_weight": [1]},
            r"^class_weight must be pairs of label and weight; got \[1\]$",
        ),
        ({"classes": (0, 1), "class_weight": 3}, "^class_weight must map labels to weights, .*; got 3$"),
        ({"bias_initializer": "he"}, "^bias_initializer must be one of .*; got 'he'$"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLP(**{"inputs": 3, **options})


def test_the_median_of_the_quantiles_is_measured() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2000, 2)).astype(np.float32)
    y = (x[:, 0] + rng.exponential(size=2000)).astype(np.float32)
    learner = MLP(2, loss="quantile", quantiles=(0.05, 0.5, 0.95), mini_batch=8, window=500)
    state, rows = test_then_train(learner, initial(learner), [Batch(x, y)])
    assert rows.trained == 2000
    predictions = learner.predict(state.model, x[-500:])
    assert predictions.shape == (500, 3)
    assert ((predictions[:, 0] < y[-500:]) & (y[-500:] < predictions[:, 2])).mean() > 0.8
    mae = metrics.report(state.metrics)["prequential"]["window"]["mae"]
    far = np.abs(predictions - y[-500:, None]).mean(axis=0)
    assert abs(mae - far[1]) < 0.1 < min(abs(mae - far[0]), abs(mae - far[2]))


@pytest.mark.parametrize("on_drift", ["report", "raise", "fresh"])
def test_a_drift_is_detected_and_reacted_to(on_drift: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(6000, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    y[3000:] = 1 - y[3000:]
    learner = MLP(3, (0, 1), (8,), mini_batch=8, drift="page_hinkley", on_drift=on_drift, missing="impute")
    x[::9, 2] = np.nan
    state, found = initial(learner), []
    for begin in range(0, 6000, 200):
        after, _ = test_then_train(learner, state, [Batch(x[begin : begin + 200], y[begin : begin + 200])])
        if after.drift.detected > state.drift.detected:
            found.append(begin)
            if on_drift == "fresh":
                assert after.model.theta.tobytes() == learner.init().theta.tobytes()
            assert (after.model.rate_boost is not None) == (on_drift == "raise")
            assert after.model.rate_boost is None or after.model.rate_boost == 1
        state = after
    assert found
    assert all(3000 <= begin < 3600 for begin in found)
    assert metrics.report(state.metrics)["prequential"]["window"]["accuracy"] > 0.8
