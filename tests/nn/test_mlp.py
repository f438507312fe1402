from dataclasses import replace
from typing import Any

import core_reference as reference
import each_member
import float64_network
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits
from sklearn.neural_network import MLPClassifier, MLPRegressor

from streaming_nn.core.ensemble import EnsembleState
from streaming_nn.nn import learner as loop
from streaming_nn.nn import metrics, state_dict
from streaming_nn.nn.learner import Batch, Counts, initial, test_then_train
from streaming_nn.nn.mlp import MLP
from streaming_nn.nn.options import LOSSES, OPTIMIZERS

pytestmark = pytest.mark.commit

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, size=(60, 4)).astype(np.float64)
LABELS = (np.arange(60) % 3).astype(np.int32)
TARGETS = (X[:, 0] * 10 + 100).astype(np.float64)


def learn(learner: MLP, model: EnsembleState, batch: Batch) -> tuple[EnsembleState, np.ndarray]:
    """Return the model after rows that are all learned, and their predictions; `model` is not changed."""
    after, output, rows = learner.learn(learner.copy(model), batch)
    assert rows == len(batch.y)
    return after, output


def learned(learner: MLP, rows: int = 60, model: EnsembleState | None = None) -> EnsembleState:
    """Return the state after some mini-batches, each checked against `predict`."""
    model = model or learner.init()
    y = TARGETS if learner.classes is None else LABELS % len(learner.classes)
    for start in range(0, rows, learner.mini_batch):
        stop = min(start + learner.mini_batch, rows)
        predictions = learner.predict(model, X[start:stop])
        model, output = learn(learner, model, Batch(X[start:stop], y[start:stop]))
        assert output.tobytes() == predictions.tobytes()
    return model


def with_moments(learner: MLP) -> EnsembleState:
    """Return an untrained model that knows the moments of X."""
    wide = X.astype(np.float64)
    return learner.init()._replace(
        rows=np.full(4, 60.0), means=wide.mean(axis=0), squares=wide.var(axis=0) * 60
    )


def scores(model: EnsembleState) -> np.ndarray:
    """Return the z-scores of X, in float32, that all of a model's columns have."""
    deviation = np.sqrt(model.squares / np.maximum(model.rows, 1)).astype(np.float32)
    return np.asarray(np.clip((X - model.means).astype(np.float32) / deviation, -5, 5))


OF_SCIKIT_LEARN = [
    ("sgd", {}, {"momentum": 0}),
    ("momentum", {"momentum": 0.8}, {"momentum": 0.8, "nesterovs_momentum": False}),
    ("nesterov", {}, {"momentum": 0.9, "nesterovs_momentum": True}),
    ("adam", {"beta1": 0.8, "beta2": 0.99}, {"solver": "adam", "beta_1": 0.8, "beta_2": 0.99}),
]


@pytest.mark.parametrize("classes", [("a", "b", "c"), None])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize(("optimizer", "options", "theirs"), OF_SCIKIT_LEARN, ids=lambda each: str(each))
def test_steps_are_those_of_scikit_learn(
    classes: Any, activation: str, optimizer: str, options: dict[str, Any], theirs: dict[str, Any]
) -> None:
    rate = 0.01 if optimizer == "adam" else 0.1
    ours = MLP(4, classes, (6, 5), activation, optimizer, rate, mini_batch=60, l2=0.01, **options)
    y, target = (LABELS, LABELS) if classes else (TARGETS, (TARGETS - TARGETS.mean()) / TARGETS.std())
    state, z = with_moments(ours), ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float64)
    model = (MLPClassifier if classes else MLPRegressor)(
        hidden_layer_sizes=ours.hidden,
        activation="logistic" if activation == "sigmoid" else activation,
        learning_rate_init=rate,
        alpha=0.01 * 60,
        batch_size=60,
        **{"solver": "sgd", **theirs},
    )
    known = {"classes": np.unique(y)} if classes else {}
    target = target if classes else target.astype(np.float64)
    model.partial_fit(z, target, **known)  # makes its arrays
    for i, (W, b) in enumerate(ours.shape.views(state.theta)):
        model.coefs_[i] = W.astype(np.float64)
        model.intercepts_[i] = b.astype(np.float64)
    del model._optimizer
    for _ in range(4):
        model.partial_fit(z, target)
        state, _ = learn(ours, state, Batch(X, y))
    near = (
        2e-4 if optimizer == "adam" else 1e-5
    )  # its steps have the size of the rate, however small the gradient
    for i, (W, b) in enumerate(ours.shape.views(state.theta)):
        np.testing.assert_allclose(W, model.coefs_[i], rtol=1e-3, atol=near)
        np.testing.assert_allclose(b, model.intercepts_[i], rtol=1e-3, atol=near)
    expected = (
        model.predict_proba(z) if classes else model.predict(z)[:, None] * TARGETS.std() + TARGETS.mean()
    )
    np.testing.assert_allclose(ours.predict(state, X), expected, rtol=1e-3, atol=10 * near)


def test_the_defaults_have_no_more_elements_than_they_need() -> None:
    classifier, regressor = MLP(4, (0, 1, 2)).init(), MLP(4, optimizer="sgd").init()
    for model in (classifier, regressor):
        assert {name for name in model._fields if not getattr(model, name).size} >= {
            *("low", "high", "class_rows", "ring"),
        }
    assert classifier.targets.shape == (0, 3)
    assert len(regressor.first) == len(regressor.second) == 0
    seconds = [MLP(4, optimizer=name).init().second.size for name in ("momentum", "adagrad", "ftrl")]
    assert seconds == [0, 0, regressor.theta.size]
    everything = MLP(4, (0, 1), scale="minmax", class_weight="balanced").init()
    assert everything.low.shape == everything.high.shape == (4,)
    assert everything.class_rows.tolist() == [0, 0]


@pytest.mark.parametrize(
    "loss", [x if x in ("softmax", "squared") else pytest.param(x, marks=pytest.mark.nightly) for x in LOSSES]
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_loss_is_learned_by_every_optimizer(loss: str, optimizer: str) -> None:
    classes = {"softmax": (0, 1, 2), "logistic": (0, 1)}.get(loss)
    rate = {"adagrad": 0.1, "ftrl": 0.1, "sgd": 0.05}.get(optimizer, 0.003)
    learner = MLP(4, classes, (8, 6), "tanh", optimizer, rate, loss=loss, mini_batch=5)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(700, 4)).astype(np.float64)
    y = (x[:, 0] > 0).astype(np.int32) if classes else np.exp2(np.round(x[:, 0] + 2)).astype(np.float64)
    state, rows = test_then_train(learner, initial(learner), [Batch(x, y)])
    assert rows.trained == 700
    assert learner.predict(state.model, x).dtype == (np.float32 if learner.classes else np.float64)
    assert mean_loss(learner, state.model, x, y) < 0.9 * mean_loss(learner, learner.init(), x, y)


def mean_loss(learner: MLP, model: EnsembleState, x: np.ndarray, y: np.ndarray) -> float:
    prediction = learner.predict(model, x).astype(float)
    if learner.classes is not None:
        return float(-np.log(prediction[np.arange(len(y)), y]).mean())
    return float(np.abs(prediction[:, learner.point] - y).mean())


def test_the_logistic_loss_predicts_both_probabilities() -> None:
    learner = MLP(4, ("no", "yes"), loss="logistic", mini_batch=4)
    y = (X[:, 0] > 3).astype(np.int32)
    state, _ = test_then_train(learner, initial(learner), [Batch(X, y)] * 20)
    p = learner.predict(state.model, X)
    assert p.shape == (60, 2)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    assert (p.argmax(axis=1) == y).mean() > 0.9
    assert learner.shape.units == (4, 64, 1)
    _, output = learn(learner, state.model, Batch(X[:4], y[:4]))
    assert output.tobytes() == p[:4].tobytes()


def test_quantiles_have_their_coverage_and_never_cross() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(12_000, 1)).astype(np.float64)
    y = (10 * x[:, 0] + (2 + x[:, 0]) * rng.normal(size=12_000)).astype(np.float64)
    quantiles = (0.1, 0.4, 0.5, 0.9)
    learner = MLP(
        1, loss="quantile", quantiles=quantiles, mini_batch=8, schedule="inverse", schedule_rows=1000
    )
    assert learner.point == 2
    model, output = learn(learner, learner.init(), Batch(x[:10_000], y[:10_000]))
    assert (np.diff(output) >= 0).all()
    predictions = learner.predict(model, x[10_000:])
    below = (y[10_000:, None] <= predictions).mean(axis=0)
    np.testing.assert_allclose(below, quantiles, atol=0.05)
    width = predictions[:, 3] - predictions[:, 0]
    wide, narrow = (width[np.abs(x[10_000:, 0] - at) < 0.2].mean() for at in (0.8, -0.8))
    assert wide > 1.5 * narrow  # 2.8 to 1.2 in truth: the interval knows where the noise is


def test_predictions_whose_quantiles_cross_are_sorted() -> None:
    learner = MLP(4, loss="quantile", quantiles=(0.1, 0.5, 0.9))
    model = with_moments(learner)
    raw = learner.shape.predict(model.theta, scores(model))
    assert (np.diff(raw) < 0).any()
    assert learner.predict(model, X).tolist() == np.sort(raw).tolist()  # targets have no unit yet


def test_counts_of_any_size_are_learned_by_their_means() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(8000, 1)).astype(np.float64)
    for size in (1.0, 1e4):
        mean = size * np.exp(x[:, 0])
        y = rng.poisson(mean).astype(np.float64)
        learner = MLP(1, loss="poisson", mini_batch=8)
        state, rows = test_then_train(learner, initial(learner), [Batch(x, y)])
        assert rows.trained == 8000
        far = np.abs(np.log(learner.predict(state.model, x)[:, 0] / mean))
        assert np.median(far) < 0.1


def test_a_negative_count_is_skipped() -> None:
    learner = MLP(4, loss="poisson", mini_batch=4)
    y = np.array([1, 2, 3, 4, 5, -1, 0, 0], np.float64)
    state, rows = test_then_train(learner, initial(learner), [Batch(X[:8], y)])
    assert rows == Counts(received=8, trained=4, skipped=4)
    assert np.isfinite(state.model.theta).all()


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("softmax", {"focal_gamma": 2.0}),
        ("logistic", {"focal_gamma": 0.5}),
        ("huber", {"huber_delta": 0.3}),
        ("quantile", {"quantiles": (0.2, 0.7)}),
        ("poisson", {}),
        ("absolute", {}),
    ],
)
def test_a_step_follows_the_loss_in_float64(loss: str, options: dict[str, Any]) -> None:
    """The slope along a step of SGD is that of the mean loss, by finite differences."""
    classes = {"softmax": (0, 1, 2), "logistic": (0, 1)}.get(loss)
    learner = MLP(4, classes, (6,), "tanh", "sgd", 1e-3, mini_batch=60, loss=loss, **options)
    model, y = with_moments(learner), (LABELS % len(classes) if classes else np.abs(TARGETS))
    after, _ = learn(learner, model, Batch(X, y))
    step = (after.theta.astype(np.float64) - model.theta) / -1e-3
    unit = {"poisson": y / y.mean()}.get(loss, y if classes else (y - y.mean()) / y.std())
    z, theta = scores(model).astype(np.float64), model.theta.astype(np.float64)

    def loss_at(part: float) -> float:
        p = float64_network.predict(learner.shape, theta + part * step, z)
        return float(float64_network.losses(learner.shape, p, unit[:, None]).mean())

    slope = (loss_at(1e-6) - loss_at(-1e-6)) / 2e-6
    assert slope == pytest.approx(step @ step, rel=3e-3)
    assert slope > 1e-4


def step_of(learner: MLP, model: EnsembleState, weight: np.ndarray | None = None) -> bytes:
    y = TARGETS if learner.classes is None else LABELS % len(learner.classes)
    return learn(replace(learner, mini_batch=60), model, Batch(X, y, weight))[0].theta.tobytes()


WEIGHTED = [MLP(4, ("a", "b", "c")), MLP(4, ("a", "b"), loss="logistic")]


@pytest.mark.parametrize("plain", WEIGHTED)
@pytest.mark.parametrize("given", [{"b": 2.0, "a": 0.5}, (("b", 2.0), ("a", 0.5)), [["b", 2], ["a", 0.5]]])
def test_class_weights_are_weights_of_their_rows(plain: MLP, given: Any) -> None:
    assert plain.classes is not None
    weighed, model = replace(plain, class_weight=given), learned(plain)
    own = np.array([0.5, 2, 1], np.float32)[LABELS % len(plain.classes)]
    assert step_of(weighed, model) == step_of(plain, model, own)
    assert step_of(weighed, model) != step_of(plain, model)
    some = RNG.uniform(0.5, 2, 60).astype(np.float32)
    assert step_of(weighed, model, some) == step_of(plain, model, own * some)
    assert [array.shape for array in weighed.init()] == [array.shape for array in plain.init()]


@pytest.mark.parametrize("plain", WEIGHTED)
@pytest.mark.parametrize("how", ["balanced", "effective"])
def test_weights_by_running_counts(plain: MLP, how: str) -> None:
    assert plain.classes is not None
    classes = len(plain.classes)
    learner = replace(plain, class_weight=how, class_beta=0.9, mini_batch=60)
    model, seen, y = learned(plain), np.array([50.0, 5, 0])[:classes], LABELS % classes
    counted = seen + np.bincount(y)  # with themselves counted in
    if how == "balanced":
        of_class = counted.sum() / (classes * counted)
    else:
        of_class = 1 / (1 - 0.9**counted)
        of_class *= classes / of_class.sum()
    after, _ = learn(learner, model._replace(class_rows=seen), Batch(X, y))
    assert after.class_rows.tolist() == counted.tolist()
    expected = np.frombuffer(step_of(plain, model, of_class.astype(np.float32)[y]), np.float32)
    np.testing.assert_allclose(after.theta, expected, rtol=1e-5, atol=1e-7)


def test_a_class_without_rows_takes_no_part_in_the_balance() -> None:
    plain = MLP(4, (0, 1, 2))
    model, y = learned(plain), LABELS % 2
    weighed = replace(plain, class_weight="balanced", mini_batch=60)
    after, _ = learn(weighed, model._replace(class_rows=np.array([30.0, 0, 0])), Batch(X, y))
    own = np.array([90 / (2 * 70), 90 / (2 * 20)], np.float32)[y]
    expected, _ = learn(replace(plain, mini_batch=60), model, Batch(X, y, own))
    assert after.theta.tobytes() == expected.theta.tobytes()


@pytest.mark.parametrize("how", [None, "balanced", "effective"])
def test_a_rare_class_is_recalled_where_classes_are_balanced(how: str | None) -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(6000) < 0.03).astype(np.int32)
    x = (rng.normal(size=(6000, 2)) + 1.5 * y[:, None]).astype(np.float64)
    learner = MLP(2, (0, 1), class_weight=how, mini_batch=8)
    state, _ = test_then_train(learner, initial(learner), [Batch(x, y)])
    recall = metrics.report(state.metrics)["prequential"]["cumulative"]["per_class"]["recall"][1]
    assert recall < 0.35 if how is None else recall > 0.6


def of_weights(learner: MLP) -> np.ndarray:
    """Return 1 for weights and 0 for biases, as a vector of parameters."""
    vector = np.zeros(learner.shape.parameters, np.float32)
    for W, _ in learner.shape.views(vector):
        W[...] = 1
    return vector


def test_l1_and_l2_are_in_the_gradient_and_not_on_biases() -> None:
    plain = MLP(4, (0, 1, 2), (6,), optimizer="sgd", learning_rate=0.1, mini_batch=60)
    model = learned(plain)
    theta, weights = model.theta, of_weights(plain)
    without, _ = learn(plain, model, Batch(X, LABELS))
    after, _ = learn(replace(plain, l1=0.02, l2=0.3), model, Batch(X, LABELS))
    expected = without.theta - 0.1 * weights * (0.02 * np.sign(theta) + 0.3 * theta)
    np.testing.assert_allclose(after.theta, expected, rtol=1e-5, atol=1e-7)
    decayed, _ = learn(replace(plain, weight_decay=0.3), model, Batch(X, LABELS))
    expected = without.theta - 0.03 * weights * theta
    np.testing.assert_allclose(decayed.theta, expected, rtol=1e-5, atol=1e-7)


def test_adamw_is_adam_with_decay() -> None:
    adam = MLP(4, (0, 1, 2))
    model = learned(adam)
    assert step_of(replace(adam, optimizer="adamw"), model) == step_of(
        replace(adam, weight_decay=0.01), model
    )
    assert step_of(replace(adam, optimizer="adamw", weight_decay=0.0), model) == step_of(adam, model)


def test_ftrl_applies_l1_and_l2_itself() -> None:
    learner = MLP(4, (0, 1, 2), (6,), optimizer="ftrl", learning_rate=0.1, l1=2.0, l2=0.1, mini_batch=1)
    layers = learner.shape.views(learned(learner).theta)
    assert np.mean([weight == 0 for W, _ in layers for weight in W.flat]) > 0.1
    assert all(b.all() for _, b in layers)


@pytest.mark.parametrize(("name", "clip"), [("clip_value", 0.01), ("clip_norm", 0.05)])
def test_gradients_are_clipped_after_the_penalties(name: str, clip: float) -> None:
    plain = MLP(4, (0, 1, 2), optimizer="sgd", learning_rate=1.0, l2=0.5, mini_batch=60)
    model = learned(plain)
    options: dict[str, Any] = {name: clip}
    clipping = replace(plain, **options)
    step, clipped = (
        learn(each, model, Batch(X, LABELS))[0].theta - model.theta for each in (plain, clipping)
    )
    norm = np.linalg.norm(step)
    expected = np.clip(step, -clip, clip) if name == "clip_value" else step * (clip / norm)
    np.testing.assert_allclose(clipped, expected, atol=1e-6)
    assert np.abs(step - expected).max() > 1e-3
    options[name] = 2 * float(norm)
    far = replace(plain, **options)
    assert step_of(far, model) == step_of(plain, model)


@pytest.mark.parametrize(
    "options", [{}, {"clip_value": 1.0}, {"clip_norm": 1.0}, {"dropout": 0.5}, {"warmup": 9}]
)
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_clipping_does_not_hide_a_step_that_is_not_finite(options: dict[str, Any], poison: float) -> None:
    learner = MLP(4, mini_batch=10, **options)
    model, y = learned(learner), TARGETS.copy()
    y[3] = poison
    after, output, rows = learner.learn(learner.copy(model), Batch(X[:10], y[:10]))
    assert rows == 0
    assert [array.tobytes() for array in after] == [array.tobytes() for array in model]
    assert output.tobytes() == learner.predict(model, X[:10]).tobytes()
    after, _, rows = learner.learn(learner.copy(model), Batch(X[:25], y[:25]))
    assert rows == 15  # the mini-batches after it are learned
    y[3], y[22] = TARGETS[3], poison
    assert learner.learn(learner.copy(model), Batch(X[:25], y[:25]))[2] == 20


def test_a_network_that_diverged_keeps_its_state() -> None:
    learner = MLP(4, (0, 1, 2), mini_batch=10)
    model = learned(learner)
    sick = model._replace(theta=model.theta * np.float32(np.nan))
    after, output, rows = learner.learn(learner.copy(sick), Batch(X[:10], LABELS[:10]))
    assert rows == 0
    assert [array.tobytes() for array in after] == [array.tobytes() for array in sick]
    np.testing.assert_allclose(output, 1 / 3)


def after_rows(name: str, rows: int) -> float:
    """Return a schedule's factor after some rows, as docs/mlp.md describes it, with 15 rows of warm-up."""
    if rows < 15:
        return (rows + 1) / 15
    units = (rows - 15) / 20
    if name == "inverse":
        return float((1 + units) ** -0.7)
    if name == "step":
        return float(0.3 ** int(units))
    length = 1.0
    while name == "cosine" and units >= length:
        units, length = units - length, length * 1.5
    return float(0.1 + 0.45 * (1 + np.cos(np.pi * units / length))) if name == "cosine" else 1.0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("constant", {}),
        ("inverse", {"schedule_rows": 20, "schedule_power": 0.7}),
        ("step", {"schedule_rows": 20, "schedule_drop": 0.3}),
        ("cosine", {"schedule_rows": 20, "schedule_growth": 1.5, "schedule_least": 0.1}),
    ],
)
def test_a_schedule_counts_rows_whatever_the_mini_batch(name: str, options: dict[str, Any]) -> None:
    plain = MLP(4, (0, 1, 2), optimizer="sgd", learning_rate=0.1, mini_batch=7)
    learner = replace(plain, schedule=name, warmup=15, **options)
    model, expected = learner.init(), plain.init()
    for start in range(0, 60, 7):
        batch = Batch(X[start : start + 7], LABELS[start : start + 7])
        model, _ = learn(learner, model, batch)
        slower = replace(plain, learning_rate=0.1 * after_rows(name, start))
        expected, _ = learn(slower, expected, batch)
        np.testing.assert_allclose(model.theta, expected.theta, rtol=1e-5, atol=1e-7)
    assert int(model.learned) == 60


def test_dropout_predicts_with_the_full_network_and_learns_with_a_part() -> None:
    plain = MLP(4, (0, 1, 2), (200,), optimizer="sgd", learning_rate=0.1, mini_batch=1)
    learner = replace(plain, dropout=0.4)
    model = learned(plain)
    masks = []
    for each, start in ((learner, model), (learner, model._replace(learned=np.array(99)))):
        after, output = learn(each, start, Batch(X[:1], LABELS[:1]))
        assert output.tobytes() == plain.predict(model, X[:1]).tobytes()
        (V, c), (W, b) = each.shape.views(model.theta)
        (_, then), (U, d) = each.shape.views(after.theta)
        z = scores(model)[0]
        h = np.maximum(z @ V + c, 0)
        learns = np.any(U != W, axis=1)
        assert not learns[h == 0].any()
        assert 0.45 < learns[h > 0].mean() < 0.75
        assert (then[~learns] == c[~learns]).all()
        logits = (h * learns / 0.6) @ W + b
        p = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(d, b - 0.1 * (p - np.eye(3)[LABELS[0]]), rtol=1e-4, atol=1e-5)
        masks.append(learns.tobytes())
    assert masks[0] != masks[1]  # other units at another row
    assert step_of(learner, model) == step_of(learner, model)
    assert step_of(replace(learner, seed=1), model) != step_of(learner, model)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_new_classes_leave_what_was_learned_as_it_was(optimizer: str) -> None:
    rate = {"adagrad": 0.2, "ftrl": 0.2, "sgd": 0.1}.get(optimizer, 0.02)
    learner = MLP(4, (0, 1, 2), (6,), optimizer=optimizer, learning_rate=rate, class_weight="balanced")
    state, _ = test_then_train(learner, initial(learner), [Batch(X, LABELS)])
    wider = replace(learner, classes=(0, 1, 2, "new", "newer"))
    grown = loop.grow(wider, state)
    assert state_dict.flatten(grown).keys() == state_dict.flatten(initial(wider)).keys()
    p, q = learner.predict(state.model, X), wider.predict(grown.model, X)
    np.testing.assert_allclose(q[:, :3] / q[:, :3].sum(axis=1, keepdims=True), p, rtol=1e-4)
    *_, (W, b) = wider.shape.views(grown.model.theta)
    assert not W[:, 3:].any()
    assert b[3:].tolist() == [b[:3].min()] * 2
    assert grown.model.class_rows.tolist() == [20, 20, 20, 0, 0]
    fresh = wider.core.init(grown.model.theta)  # nothing pulls the new ones away
    for name in ("first", "second"):
        (ours,), (theirs,) = (each_member.vectors(wider, each, name) for each in (grown.model, fresh))
        assert (ours is None) == (theirs is None) == (getattr(state.model, name).size == 0)
        if ours is not None and theirs is not None:
            (*_, (V, c)), (*_, (U, d)) = wider.shape.views(ours), wider.shape.views(theirs)
            assert V[:, 3:].tobytes() == U[:, 3:].tobytes()
            assert c[3:].tobytes() == d[3:].tobytes()
    for _ in range(40):
        grown, rows = test_then_train(wider, grown, [Batch(X[:32] + 20, np.full(32, 4, np.int32))])
        assert rows.skipped == 0
    assert (wider.predict(grown.model, X[:32] + 20).argmax(axis=1) == 4).mean() > 0.9


@pytest.mark.parametrize("hidden", [(), (5,), (8, 7, 6), (8, 8, 8, 8, 8, 8)])
def test_networks_of_any_depth_learn(hidden: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 4)).astype(np.float64)
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
    batch = Batch(digits.data[order].astype(np.float64), digits.target[order].astype(np.int32))
    state, rows = test_then_train(learner, initial(learner), [batch])
    report = metrics.report(state.metrics)
    assert rows.trained == len(order)
    assert report["prequential"]["window"]["accuracy"] > 0.95
    assert report["as_served"]["cumulative"]["accuracy"] < 0.3  # by weights that had seen nothing


def test_it_learns_a_regression_in_the_targets_own_unit() -> None:
    data = load_diabetes()
    order = np.random.default_rng(0).permutation(np.tile(np.arange(442), 10))
    batch = Batch(data.data[order].astype(np.float64), data.target[order].astype(np.float64))
    learner = MLP(10, mini_batch=4)
    report = metrics.report(test_then_train(learner, initial(learner), [batch])[0].metrics)
    assert report["prequential"]["window"]["mae"] < 0.65 * report["baselines"]["mean"]["window"]["mae"]


def test_no_prediction_is_further_than_six_deviations_from_the_mean() -> None:
    learner = MLP(4, mini_batch=10)
    state, _ = test_then_train(learner, initial(learner), [Batch(X, TARGETS)])
    wild = state.model._replace(theta=state.model.theta * np.float32(1000))
    predictions = learner.predict(wild, X)
    assert np.abs(predictions - TARGETS.mean()).max() == pytest.approx(6 * TARGETS.std(), rel=1e-3)


def test_first_weights_follow_the_seed_and_the_initializers() -> None:
    one, same, other = (MLP(4, ("a", "b"), seed=seed).init().theta.tobytes() for seed in (1, 1, 2))
    assert one == same
    assert one != other
    learner = MLP(4, ("a", "b"), (3,), initializer=0.25, bias_initializer=-1.0)
    (V, c), (W, b) = learner.shape.views(learner.init().theta)
    assert {*V.flat, *W.flat} == {0.25}
    assert {*c, *b} == {-1}


def test_the_first_weights_are_those_of_the_specification() -> None:
    learner = MLP(4, ("a", "b"), (3,), "tanh", seed=7, bias_initializer="lecun_normal")
    (V, c), (W, b) = learner.shape.views(learner.init().theta)
    bound = (3 * 2 / (4 + 3)) ** 0.5
    assert V.tobytes() == reference.draw("uniform", bound, 7, 0, 0, 0, (4, 3)).tobytes()
    assert c.tobytes() == reference.draw("normal", 4**-0.5, 7, 1, 0, 0, (1, 3)).tobytes()
    assert W.tobytes() == reference.draw("normal", 3**-0.5, 7, 2, 0, 0, (3, 2)).tobytes()
    assert b.tobytes() == reference.draw("normal", 3**-0.5, 7, 3, 0, 0, (1, 2)).tobytes()


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
        ({"schedule": "step", "schedule_rows": 0}, "^schedule_rows must be an integer >= 1; got 0$"),
        (
            {"schedule_growth": 2.0, "schedule": "step"},
            "^schedule_growth must be left out .*; got 2.0$",
        ),
        (
            {"schedule": "cosine", "schedule_least": 2},
            r"^schedule_least must be .* in \[0, 1\]; got 2$",
        ),
        (
            {"schedule": "step", "schedule_drop": 1.0},
            r"^schedule_drop must be .* in \(0, 1\); got 1.0$",
        ),
        ({"scale": "z"}, "^scale must be one of 'standard', 'minmax', 'none', 'sparse'; got 'z'$"),
        ({"missing": "drop"}, "^missing must be one of 'refuse', 'impute', 'indicate'; got 'drop'$"),
        ({"drift": "ddm"}, "^drift must be one of 'none', 'page_hinkley', 'adwin'; got 'ddm'$"),
        ({"on_drift": "restart"}, "^on_drift must be one of 'report', 'raise', 'fresh'; got 'restart'$"),
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
    x = rng.normal(size=(2000, 2)).astype(np.float64)
    y = (x[:, 0] + rng.exponential(size=2000)).astype(np.float64)
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
    x = rng.normal(size=(6000, 3)).astype(np.float64)
    y = (x[:, 0] > 0).astype(np.int32)
    y[3000:] = 1 - y[3000:]
    learner = MLP(3, (0, 1), (8,), mini_batch=8, drift="page_hinkley", on_drift=on_drift, missing="impute")
    x[::9, 2] = np.nan
    state, found = initial(learner), []
    for begin in range(0, 6000, 200):
        after, _ = test_then_train(learner, state, [Batch(x[begin : begin + 200], y[begin : begin + 200])])
        assert state.drift
        assert after.drift
        if after.drift.detected > state.drift.detected:
            found.append(begin)
            is_fresh = after.model.theta.tobytes() == learner.init().theta.tobytes()
            assert is_fresh == (on_drift == "fresh")
            assert after.model.first.any() == (on_drift != "fresh")
            assert (after.model.powers == 1).all() == (on_drift == "fresh")
            assert after.model.boost == (on_drift == "raise")
            assert after.model.learned == begin + 200
        state = after
    assert found
    assert all(3000 <= begin < 3600 for begin in found)
    assert metrics.report(state.metrics)["prequential"]["window"]["accuracy"] > 0.8


def test_raised_rates_are_three_times_as_high_and_decay() -> None:
    learner = MLP(4, (0, 1, 2), optimizer="sgd", learning_rate=0.01, on_drift="raise", mini_batch=8)
    model, batch = learned(learner), Batch(X[:8], LABELS[:8])
    raised = learner.react(model)
    assert model.boost == 0
    calm, wild = (learn(learner, each, batch)[0] for each in (model, raised))
    np.testing.assert_allclose(wild.theta - model.theta, 3 * (calm.theta - model.theta), atol=1e-6)
    assert float(wild.boost) == pytest.approx(0.5 ** (8 / 500))
    assert calm.boost == 0
    later, _ = learn(learner, raised, Batch(np.tile(X[:8], (700, 1)), np.tile(LABELS[:8], 700)))
    assert later.boost == 0


@pytest.mark.parametrize("on_drift", ["report", "raise", "fresh"])
def test_a_reaction_changes_nothing_that_came_in(on_drift: str) -> None:
    learner = MLP(4, (0, 1, 2), on_drift=on_drift)
    model = learned(learner)
    before = [array.tobytes() for array in model]
    learn(learner, learner.react(model), Batch(X, LABELS))
    assert [array.tobytes() for array in model] == before
