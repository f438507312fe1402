from dataclasses import replace
from typing import Any
from unittest import mock

import core_reference
import numpy as np
import pytest
from each_member import thetas, vectors, with_theta
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_nn.core.ensemble import EnsembleState
from streaming_nn.nn import learner as loop
from streaming_nn.nn import metrics, moments, replay_buffer, state_dict
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.learner import Batch, Counts, Learner, initial, test_then_train
from streaming_nn.nn.mlp import MLP
from streaming_nn.nn.moments import Moments
from streaming_nn.nn.preprocessing import REACH, inputs_moments, targets_moments

pytestmark = pytest.mark.commit

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, size=(300, 3)).astype(np.float64)
Y = ((X[:, 0] - 3) * (X[:, 1] - 3) > 0).astype(np.int32) + (X[:, 2] > 5)
TARGETS = (X[:, 0] * X[:, 1] + 100).astype(np.float64)
WEIGHT = RNG.uniform(0.5, 2, 300).astype(np.float32)
SGD = [{"optimizer": "sgd", "learning_rate": rate} for rate in (0.01, 0.1)]
ADAM = [{"optimizer": "adam", "learning_rate": r, "replay": weight} for r, weight in ((0.003, 1), (0.01, 8))]
SMALL: dict[str, Any] = {
    "hidden": (5,),
    "members": (*SGD, *ADAM),
    "replay_rows": 6,
    "buffer_rows": 70,
    "mini_batch": 8,
    "window": 50,
}
CLASSIFIER = Ensemble(3, ("a", "b", "c"), **SMALL)
REGRESSOR = Ensemble(3, **SMALL)
WIDTHS = (5, 9, 1, 5)  # of members that differ
MIXED = Ensemble(
    3,
    ("a", "b", "c"),
    members=[{**each, "hidden": (width,)} for each, width in zip(SMALL["members"], WIDTHS, strict=True)],
    **{name: value for name, value in SMALL.items() if name not in ("hidden", "members")},
)
BOTH = pytest.mark.parametrize("learner", [CLASSIFIER, REGRESSOR])


def truth(learner: Ensemble) -> np.ndarray:
    return Y if learner.classes else TARGETS


def bits(state: tuple[Any, ...]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in state_dict.flatten(state).items()}


def after(learner: Ensemble, rows: int) -> EnsembleState:
    batch = Batch(X[:rows], truth(learner)[:rows])
    return test_then_train(learner, initial(learner), [batch])[0].model


def learn(learner: Ensemble, model: EnsembleState, batch: Batch) -> tuple[EnsembleState, np.ndarray]:
    """Return the model after rows that are all learned, and their predictions; `model` is not changed."""
    after, output, rows = learner.learn(learner.copy(model), batch)
    assert rows == len(batch.y)
    return after, output


class Slow:
    """A reference ensemble: one member, one row at a time, in float64, by the papers' formulas."""

    def __init__(self, learner: Ensemble) -> None:
        self.options, self.draws = learner, 0
        self.rows: list[Any] = []
        self.clusters = np.zeros((4, 7))  # of x and y
        self.theta = [theta.astype(np.float64) for theta in thetas(learner, learner.init())]
        self.m, self.v, self.steps = ([0.0] * len(self.theta) for _ in range(3))
        self.weights = np.full(len(self.theta), 1 / len(self.theta))
        self.exponents = self.weights.copy()

    def moments(self, column: int, new: list[Any] | None = None) -> tuple[float, float]:
        clusters = self.clusters[column].copy()
        core_reference.add_column(clusters, [float(y) for _, y, _ in new or []], REACH)
        rows, mean, squares = core_reference.moments_of(clusters)
        return mean, (squares / max(rows, 1)) ** 0.5 or 1.0

    def count(self, batch: list[Any]) -> None:
        new = np.array([np.append(x, y) for x, y, _ in batch], np.float64)
        for column in range(4):
            core_reference.add_column(self.clusters[column], new[:, column].tolist(), REACH)
        self.rows += batch

    def standardized(self, x: np.ndarray, y: float, batch: list[Any]) -> tuple[np.ndarray, float]:
        columns = [self.moments(column) for column in range(3)]
        z = [np.clip((v - mean) / sd, -5, 5) for v, (mean, sd) in zip(x, columns, strict=True)]
        mean, sd = self.moments(3, batch)  # a target's unit is known once it is there
        t = y if self.options.classes else np.clip((y - mean) / sd, -6, 6)
        return np.array(z) * bool(self.rows), t

    def predict(self, i: int, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = self.options.core.shapes[i]
        (V, b), (W, c) = shape.views(self.theta[i])
        h = np.maximum(z @ V + b, 0)
        out = h @ W + c + z @ shape.linear_view(self.theta[i])
        return h, np.exp(out) / np.exp(out).sum() if self.options.classes else out

    def slope(self, i: int, z: np.ndarray, t: float) -> np.ndarray:
        shape = self.options.core.shapes[i]
        (_, _), (W, _) = shape.views(self.theta[i])
        h, out = self.predict(i, z)
        error = out - np.eye(len(out))[int(t)] if self.options.classes else np.clip(out - t, -1, 1)
        back = (W @ error) * (h > 0)
        slope: np.ndarray = np.zeros_like(self.theta[i])
        (by_v, by_b), (by_w, by_c) = shape.views(slope)
        by_v[...], by_b[...], by_w[...], by_c[...] = np.outer(z, back), back, np.outer(h, error), error
        shape.linear_view(slope)[...] = np.outer(z, error)
        return slope

    def drawn(self) -> list[Any]:
        capacity = self.options.capacity
        kept = min(len(self.rows), capacity)
        numbers = range(len(self.rows))
        ring = {n % capacity: self.rows[n] for n in numbers}
        turns = range(self.draws, self.draws + min(self.options.replay_rows, kept))
        self.draws += len(turns)
        return [ring[((turn * 0x9E3779B97F4A7C15 % 2**64) >> 32) * kept >> 32] for turn in turns]

    def step(self, batch: list[Any]) -> np.ndarray:
        options, k, old = self.options, len(batch), self.drawn()
        new = [(*self.standardized(x, y, batch), w) for x, y, w in batch]
        kept = [(*self.standardized(x, y, batch), w) for x, y, w in old]
        predictions = np.array([[self.predict(i, z)[1] for z, _, _ in new] for i in range(len(self.theta))])
        if options.classes is None:
            mixed = np.tensordot(self.weights, np.clip(predictions, -6, 6), 1)
            mean, sd = self.moments(3) if self.rows else (0.0, 1.0)
            mixed = mean + sd * mixed
        else:
            powers = np.maximum(predictions, 1e-4) ** self.exponents[:, None, None]
            geometric = powers.prod(axis=0) / powers.prod(axis=0).sum(axis=1, keepdims=True)
            mixed = (np.tensordot(self.weights, predictions, 1) + geometric) / 2
            for p, q, (_, t, w) in zip(geometric, predictions.swapaxes(0, 1), new, strict=True):
                error = p - np.eye(len(p))[int(t)]
                self.exponents = self.exponents - 0.004 * w * (np.log(np.maximum(q, 1e-4)) @ error)
        loss = np.zeros(len(self.theta))
        for i, own in enumerate(predictions):
            for (_, t, w), out in zip(new, own, strict=True):
                each = -np.log(max(out[int(t)], 1e-4)) if options.classes else min(abs(out[0] - t), 10)
                loss[i] += w * each
        self.learn(new, kept)
        self.weights = self.weights * np.exp(-options.eta * loss)
        self.weights /= self.weights.sum()
        for _ in range(k):
            self.weights = (1 - options.share) * self.weights + options.share / len(self.weights)
        self.count(batch)
        return mixed

    def learn(self, new: list[Any], kept: list[Any]) -> None:
        options = self.options
        for i, member in enumerate(options.described):
            rate, emphasis = member["learning_rate"], member["replay"]
            if not emphasis:
                slope = sum(w * self.slope(i, z, t) for z, t, w in new) / len(new)
                self.theta[i] = self.theta[i] - rate * slope
                continue
            slope = sum(emphasis * w * self.slope(i, z, t) for z, t, w in new)
            slope += sum(w * self.slope(i, z, t) for z, t, w in kept)
            slope /= emphasis * len(new) + len(kept)
            self.steps[i] += 1
            self.m[i] = 0.9 * self.m[i] + 0.1 * slope
            self.v[i] = 0.999 * self.v[i] + 0.001 * slope**2
            m, v = self.m[i] / (1 - 0.9 ** self.steps[i]), self.v[i] / (1 - 0.999 ** self.steps[i])
            self.theta[i] = self.theta[i] - rate * m / (np.sqrt(v) + 1e-8)


@pytest.mark.parametrize("learner", [CLASSIFIER, REGRESSOR, MIXED])
@pytest.mark.parametrize("weighted", [False, True])
def test_steps_match_a_slow_reference_implementation(learner: Ensemble, weighted: bool) -> None:
    slow, state, y, wild = Slow(learner), learner.init(), truth(learner), X.copy()
    wild[105, 1] = 500
    for start in range(0, 120, 8):
        at = slice(start, start + 8)
        weight = WEIGHT[at] if weighted else np.ones(8, np.float32)
        state, output = learn(learner, state, Batch(wild[at], y[at], weight if weighted else None))
        expected = slow.step(list(zip(wild[at], y[at], weight, strict=True)))
        np.testing.assert_allclose(output, expected, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(state.weights, slow.weights, rtol=1e-2)
    np.testing.assert_allclose(state.theta, np.concatenate(slow.theta), atol=2e-3)
    assert state.weights.max() > 1.2 * state.weights.min()
    if learner.classes:
        np.testing.assert_allclose(state.exponents, slow.exponents, atol=1e-4)
        assert np.ptp(state.exponents) > 0.01
    assert state.restarts.tolist() == [0, 0, 0, 0]


@settings(max_examples=20, deadline=None)
@given(
    learner=st.sampled_from([CLASSIFIER, REGRESSOR]),
    mini_batch=st.sampled_from([1, 7, 8, 80]),
    rows=st.integers(1, 200),
    weighted=st.booleans(),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_any_cut_gives_the_same_bits(
    learner: Ensemble, mini_batch: int, rows: int, weighted: bool, cuts: list[int]
) -> None:
    learner = replace(learner, mini_batch=mini_batch)
    batch = Batch(X[:rows], truth(learner)[:rows], WEIGHT[:rows] if weighted else None)
    columns = [[None] * (len(cuts) + 1) if part is None else np.split(part, sorted(cuts)) for part in batch]
    with mock.patch.object(loop, "MEASURE_ROWS", 30):  # several blocks
        whole, counted = test_then_train(learner, initial(learner), [batch])
        pieces = [Batch(*parts) for parts in zip(*columns, strict=True)]
        cut, again = test_then_train(learner, initial(learner), pieces)
    assert counted == again == Counts(rows, rows, 0, 0)
    assert bits(whole) == bits(cut)


@pytest.mark.parametrize("hidden", [(), (64,), (16, 8)])
@pytest.mark.parametrize("mini_batch", [1, 3, 32])
@pytest.mark.parametrize("classes", [None, ("a", "b"), ("a", "b", "c")])
def test_a_step_predicts_what_predict_returns(hidden: Any, mini_batch: int, classes: Any) -> None:
    learner = Ensemble(3, classes, hidden, mini_batch=mini_batch)
    state = learner.init()
    y = TARGETS if classes is None else Y % len(classes)
    for start in range(0, 150, mini_batch):
        batch = Batch(X[start : start + mini_batch], y[start : start + mini_batch])
        served = learner.predict(state, batch.x)
        state, output = learn(learner, state, batch)
        assert output.tobytes() == served.tobytes()
        assert output.dtype == (np.float32 if learner.classes else np.float64)


@BOTH
def test_it_resumes_from_its_tensors_with_the_same_bits(learner: Ensemble) -> None:
    batch = Batch(X, truth(learner))
    state, _ = test_then_train(learner, initial(learner), [batch])
    again = state_dict.unflatten(initial(learner), state_dict.flatten(state))
    first, second = (test_then_train(learner, each, [batch])[0] for each in (state, again))
    assert bits(first) == bits(second)


@BOTH
@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("member", [0, 3])
def test_a_member_that_diverges_restarts_as_a_copy_of_the_best(
    learner: Ensemble, poison: float, member: int
) -> None:
    state = after(learner, 100)
    sick = with_theta(learner, state, member, poison)
    well, output = learn(learner, sick, Batch(X[100:108], truth(learner)[100:108]))
    assert np.isfinite(output).all()
    assert well.restarts.tolist() == [int(i == member) for i in range(4)]
    assert all(np.isfinite(array).all() for array in state_dict.flatten(well).values())
    best = np.where(np.arange(4) == member, -1, well.weights).argmax()
    of_members, firsts, seconds = (vectors(learner, well, name) for name in ("theta", "first", "second"))
    assert of_members[member].tobytes() == of_members[best].tobytes()
    assert well.weights[member] < state.weights[member]
    if member == 3:
        assert not firsts[3].any()
        assert not seconds[3].any()
        assert well.powers[3].tolist() == [1, 1]
    assert firsts[2].any()
    assert (well.powers[2] < 1).all()
    if not np.isfinite(poison) and learner.classes:
        np.testing.assert_allclose(output.sum(axis=1), 1, rtol=1e-5)


@BOTH
def test_a_diverged_member_never_restarts_as_a_copy_of_itself(learner: Ensemble) -> None:
    state = with_theta(learner, after(learner, 100), 0, np.nan)
    sick = state._replace(weights=np.array([0.997, 0.001, 0.001, 0.001]))
    well, _ = learn(learner, sick, Batch(X[:1], truth(learner)[:1]))
    assert well.weights.argmax() == 0  # still: one row takes no more than a factor
    assert np.isfinite(well.theta).all()


@BOTH
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_member_that_is_not_finite_has_weight_0(learner: Ensemble, poison: float) -> None:
    state = after(learner, 100)
    theta = thetas(learner, state)[1].copy()
    *_, (_, bias) = learner.shape.views(theta)
    bias[0] = poison
    weights = np.where(np.arange(4) == 1, 0, state.weights)
    without = state._replace(weights=weights / weights.sum(), exponents=state.exponents.copy())
    without.exponents[1:2] = 0  # a regression has none
    expected = learner.predict(without, X)
    found = learner.predict(with_theta(learner, state, 1, theta), X)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_exponents_descend_the_geometric_mixtures_log_loss() -> None:
    """The step of one row is -0.004 times the slope that finite differences of the log loss have."""
    before = after(CLASSIFIER, 100)

    def loss(exponents: np.ndarray) -> float:
        mixed = CLASSIFIER.predict(before._replace(exponents=exponents), X[100:101]).astype(np.float64)
        linear = CLASSIFIER.predict(before._replace(exponents=np.zeros(0)), X[100:101])
        return float(-np.log((2 * mixed - linear)[0, Y[100]]))

    learned, _ = learn(CLASSIFIER, before, Batch(X[100:101], Y[100:101]))
    step = 0.05  # predictions are float32
    slopes = [
        (loss(before.exponents + step * one) - loss(before.exponents - step * one)) / (2 * step)
        for one in np.eye(4)
    ]
    np.testing.assert_allclose(learned.exponents, before.exponents - 0.004 * np.array(slopes), atol=2e-6)
    assert np.abs(learned.exponents - before.exponents).max() > 1e-4


@pytest.mark.parametrize("rows", [32, 64, 100])
def test_steps_of_the_exponents_by_many_rows_are_those_of_32(rows: int) -> None:
    before, batch = after(CLASSIFIER, 50), Batch(np.repeat(X[50:51], rows, 0), np.repeat(Y[50:51], rows))
    learned, _ = learn(replace(CLASSIFIER, mini_batch=rows), before, batch)
    fewer = Batch(batch.x[:16], batch.y[:16])
    half, _ = learn(replace(CLASSIFIER, mini_batch=16), before, fewer)
    moved, half_moved = learned.exponents - before.exponents, half.exponents - before.exponents
    np.testing.assert_allclose(moved, 2 * half_moved, rtol=1e-9, atol=1e-12)
    assert np.abs(moved).max() > 1e-3


def test_a_row_that_is_not_finite_gets_a_default_prediction() -> None:
    wrong = np.full((1, 3), np.nan, np.float32)
    np.testing.assert_allclose(CLASSIFIER.predict(after(CLASSIFIER, 100), wrong), [[1 / 3] * 3])
    regression = REGRESSOR.predict(after(REGRESSOR, 104), wrong)
    assert regression.item() == pytest.approx(TARGETS[:104].mean(), rel=1e-5)


def first_layers(learner: Ensemble, state: EnsembleState) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each member's first weights (inputs, units) and biases (units,)."""
    of_members = zip(learner.core.shapes, thetas(learner, state), strict=True)
    return [shape.views(theta)[0] for shape, theta in of_members]


def test_the_first_prediction_is_even_and_units_of_few_inputs_have_different_kinks() -> None:
    learner = replace(CLASSIFIER, inputs=1, hidden=(400,))
    state = learner.init()
    x = np.linspace(-3, 3, 50, dtype=np.float64)[:, None]
    np.testing.assert_allclose(learner.predict(state, x), 1 / 3)
    V, b = (np.concatenate(each, axis=None) for each in zip(*first_layers(learner, state), strict=True))
    bends = -b / V  # where a unit of one input turns on; all at 0, the mean, if no bias were drawn
    assert np.quantile(bends, [0.2, 0.8]) == pytest.approx([-1, 1], abs=0.15)


def test_members_restart_from_scratch_where_all_diverge() -> None:
    state = after(CLASSIFIER, 100)
    sick = state._replace(theta=state.theta * np.float32(np.nan))
    well, output = learn(CLASSIFIER, sick, Batch(X[:8], Y[:8]))
    np.testing.assert_allclose(output, 1 / 3)
    assert well.restarts.tolist() == [1, 1, 1, 1]
    assert well.theta.tobytes() == CLASSIFIER.init().theta.tobytes()
    assert (well.powers == 1).all()
    assert not well.first.any()
    assert well.weights.sum() == pytest.approx(1)
    assert int(well.learned) == 108


def test_rates_that_explode_are_survived() -> None:
    learner = replace(
        REGRESSOR, members=(SGD[0], {"optimizer": "sgd", "learning_rate": 900.0}, *ADAM), mini_batch=1
    )
    state, rows = test_then_train(learner, initial(learner), [Batch(X, TARGETS)])
    assert rows.trained == 300
    assert state.model.restarts[1] > 0
    assert state.model.restarts[[0, 2, 3]].tolist() == [0, 0, 0]
    assert all(np.isfinite(array).all() for array in state_dict.flatten(state.model).values())
    report = metrics.report(state.metrics)
    assert report["prequential"]["window"]["mae"] < report["baselines"]["mean"]["window"]["mae"]


@pytest.mark.parametrize(
    ("learner", "column"),
    [(one, p) for one in (CLASSIFIER, REGRESSOR) for p in ("x", "weight")] + [(REGRESSOR, "y")],
)
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_skipped_with_its_mini_batch(
    learner: Ensemble, column: str, poison: float
) -> None:
    state = after(learner, 100)
    batch = Batch(X[:8].copy(), truth(learner)[:8].copy(), np.ones(8, np.float32))
    getattr(batch, column)[3] = poison
    same, output, rows = learner.learn(learner.copy(state), batch)
    assert rows == 0
    assert bits(same) == bits(state)
    assert np.isfinite(output).all()


def test_heavy_rows_are_not_a_divergence() -> None:
    state = after(CLASSIFIER, 100)
    well, _ = learn(CLASSIFIER, state, Batch(X[:8], Y[:8], np.full(8, 1e6, np.float32)))
    assert not well.restarts.any()


def test_the_mixture_converges_to_the_best_member() -> None:
    learner = Ensemble(
        3,
        ("a", "b", "c"),
        members=(
            {"optimizer": "sgd", "learning_rate": 1e-6},
            {"optimizer": "adam", "learning_rate": 0.01, "replay": 1},
        ),
        mini_batch=4,
    )
    state, _ = test_then_train(learner, initial(learner), [Batch(X, Y)])
    assert state.model.weights[1] > 0.9
    report = metrics.report(state.metrics)
    majority = report["baselines"]["majority_class"]["cumulative"]["accuracy"]
    assert report["prequential"]["cumulative"]["accuracy"] > majority + 0.05


@pytest.mark.parametrize("members", [SGD, ADAM])
@BOTH
def test_members_of_one_kind_are_enough(learner: Ensemble, members: Any) -> None:
    learner = replace(learner, members=members)
    model = after(learner, 100)
    assert model.weights.shape == (2,)
    assert np.isfinite(learner.predict(model, X)).all()


def test_the_buffer_is_bounded_in_rows_and_in_bytes() -> None:
    assert Ensemble(8).capacity == 5000
    wide = Ensemble(784)
    assert wide.capacity == len(wide.init().ring) == 2668
    assert wide.init().ring.nbytes <= 16 << 20
    assert Ensemble(8, buffer_bytes=1).capacity == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": 0}, "^inputs must be an integer >= 1; got 0$"),
        ({"classes": ()}, r"^classes must be one or more labels, all different; got \(\)$"),
        ({"scale": "z"}, r"^scale must be one of 'standard', 'minmax', 'none', 'sparse'; got 'z'$"),
        ({"missing": "drop"}, r"^missing must be one of 'refuse', 'impute', 'indicate'; got 'drop'$"),
        ({"drift": "ddm"}, r"^drift must be one of 'none', 'page_hinkley', 'adwin'; got 'ddm'$"),
        (
            {"on_drift": "panic"},
            r"^on_drift must be one of 'report', 'raise', 'restart', 'fresh'; got 'panic'$",
        ),
        ({"hidden": (0,)}, "^hidden must be an integer >= 1; got 0$"),
        ({"classes": 3}, "^classes must be a list of labels; got 3$"),
        ({"classes": [[1]]}, r"^classes must be strings, numbers or booleans; got \[1\]$"),
        ({"clip": "a"}, r"^clip must be a number in \(0, inf\); got 'a'$"),
        ({"buffer_rows": 0}, "^buffer_rows must be an integer >= 1; got 0$"),
        ({"eta": 0}, r"^eta must be a number in \(0, inf\); got 0$"),
        ({"share": 1.0}, r"^share must be a number in \(0, 1\); got 1.0$"),
        ({"class_weight": "balanced"}, "^class_weight must be left out without classes; got 'balanced'$"),
        (
            {"classes": (0, 1), "class_weight": {2: 1}},
            r"^class_weight must be for labels among \(0, 1\); got 2$",
        ),
        ({"class_beta": 0}, r"^class_beta must be a number in \(0, 1\); got 0$"),
        ({"seed": -1}, "^seed must be an integer >= 0; got -1$"),
        ({"activation": "rleu"}, "^activation must be one of 'identity', .*; got 'rleu'$"),
        ({"clip": 0}, r"^clip must be a number in \(0, inf\); got 0$"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ensemble(**{"inputs": 3, **options})


def parts(learner: Ensemble, start: Any, tasks: int, rows: int = 100) -> list[loop.Part[Any]]:
    """Let each of `tasks` tasks learn every n-th row, from one start."""
    y = truth(learner)
    cuts = [slice(50 + task, 50 + rows, tasks) for task in range(tasks)]
    return [loop.learn_part(learner, start, [Batch(X[cut], y[cut])]) for cut in cuts]


@BOTH
def test_one_averaged_task_is_sequential(learner: Ensemble) -> None:
    start = test_then_train(learner, initial(learner), [Batch(X[:50], truth(learner)[:50])])[0]
    whole, rows = test_then_train(learner, start, [Batch(X[50:150], truth(learner)[50:150])])
    (part,) = parts(learner, start, 1)
    assert bits(loop.combine(learner, start, [part])) == bits(whole)
    assert part.counts == rows


@BOTH
def test_each_field_of_the_state_is_merged_by_its_rule(learner: Ensemble) -> None:
    start = test_then_train(learner, initial(learner), [Batch(X[:50], truth(learner)[:50])])[0]
    each = parts(learner, start, 4)
    merged = loop.combine(learner, start, each).model
    models, share = [part.model for part in each], [part.counts.trained / 100 for part in each]
    for name in ("theta", "first", "second", "exponents"):
        mean = sum(s * getattr(m, name).astype(float) for s, m in zip(share, models, strict=True))
        np.testing.assert_allclose(getattr(merged, name), mean, rtol=1e-5, atol=1e-8)
    steps = np.log(merged.powers[2:]) / np.log([0.9, 0.999])
    np.testing.assert_allclose(
        steps, 7 + sum(s * -(-p.counts.trained // 8) for s, p in zip(share, each, strict=True))
    )
    assert (merged.powers[:2] == 1).all()
    before, added = inputs_moments(start.model), X[50:150].astype(float)
    expected = moments.merge(before, Moments(np.full(3, 100.0), added.mean(axis=0), added.var(axis=0) * 100))
    np.testing.assert_allclose([merged.rows, merged.means, merged.squares], expected, rtol=1e-9)
    if learner.classes is None:
        wide, before = TARGETS[50:150, None].astype(float), targets_moments(start.model)
        new = Moments(np.array([100.0]), wide.mean(axis=0), wide.var(axis=0) * 100)
        np.testing.assert_allclose(merged.targets, np.transpose(moments.merge(before, new)), rtol=1e-9)
    assert int(merged.appended) == int(merged.learned) == 150
    in_order = replay_buffer.latest(merged, 70)
    assert in_order[:, :3].tolist() == X[80:150].tolist()  # in the stream's order
    moved = sum(np.log(m.weights) - np.log(start.model.weights) for m in models)
    new = start.model.weights * np.exp(moved - moved.max())
    expected = new / new.sum() * (1 - learner.share) + learner.share / len(new)
    np.testing.assert_allclose(merged.weights, expected)
    assert merged.weights.sum() == pytest.approx(1)
    assert merged.restarts.tolist() == [0, 0, 0, 0]


def test_a_member_that_one_task_restarted_is_restarted_from_the_merged_ones() -> None:
    start = test_then_train(CLASSIFIER, initial(CLASSIFIER), [Batch(X[:50], Y[:50])])[0]
    each = parts(CLASSIFIER, start, 2)
    broken = each[0].model._replace(restarts=np.array([0, 0, 0, 1]))
    merged = loop.combine(CLASSIFIER, start, [each[0]._replace(model=broken), each[1]]).model
    assert merged.restarts.tolist() == [0, 0, 0, 1]
    of_members, firsts, seconds = (vectors(CLASSIFIER, merged, name) for name in ("theta", "first", "second"))
    assert of_members[3].tobytes() == of_members[merged.weights[:3].argmax()].tobytes()
    assert not firsts[3].any()
    assert not seconds[3].any()
    assert merged.powers[3].tolist() == [1, 1]
    assert firsts[2].any()
    happened = loop.events(CLASSIFIER, start, start._replace(model=merged))
    assert happened == [{"event": "member restarted", "member": "adam 0.01, replay 8:1"}]


@pytest.mark.merge
@BOTH
def test_a_drift_is_detected_reported_and_reacted_to(learner: Ensemble) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(6000, 3)).astype(np.float64)
    y = (x[:, 0] > 0).astype(np.int32) if learner.classes else (x[:, 0] * 3).astype(np.float64)
    y[3000:] = 1 - y[3000:] if learner.classes else -y[3000:] + 20
    for how in ("report", "raise", "restart", "fresh"):
        watching = replace(learner, on_drift=how, mini_batch=4)
        state = initial(watching)
        happened = []
        for begin in range(0, 6000, 200):
            batch = Batch(x[begin : begin + 200], y[begin : begin + 200])
            after, _ = test_then_train(watching, state, [batch])
            happened += [(begin, event) for event in loop.events(watching, state, after)]
            state = after
        drifts = [begin for begin, event in happened if event["event"] == "drift"]
        assert any(3000 <= begin < 4000 for begin in drifts), (how, happened)
        assert loop.report(watching, state)["drifts"] >= len(drifts)
        restarted = [begin for begin, event in happened if event["event"] == "member restarted"]
        assert bool(restarted) == (how in ("restart", "fresh"))
        assert bool(state.model.boost) == (how == "raise")
        assert set(restarted) <= set(drifts)


def test_another_mini_batch_size_resets_the_detector() -> None:
    watching = replace(CLASSIFIER, drift="adwin")
    state = test_then_train(watching, initial(watching), [Batch(X, Y)])[0]
    other = replace(watching, mini_batch=2)
    resumed = test_then_train(watching, state, [Batch(X[:40], Y[:40])])[0]
    reset = test_then_train(other, state, [Batch(X[:40], Y[:40])])[0]
    assert reset.drift
    assert resumed.drift
    assert int(reset.drift.detector.width) == 1  # a mean over 32 rows; 8 rows are pending
    assert reset.drift.pending[1] == 8
    assert int(resumed.drift.detector.width) == 10  # of 340 rows, 12 of which are pending besides 8
    assert int(reset.drift.mini_batch) == 2


def test_losses_are_averaged_over_32_rows() -> None:
    watching, seen = replace(CLASSIFIER, mini_batch=10), []

    class Spy:
        def init(self) -> tuple[()]:
            return ()

        def update(self, state: tuple[()], values: np.ndarray) -> tuple[tuple[()], np.ndarray]:
            seen.extend(values.tolist())
            return state, np.zeros(0, np.int64)

    with mock.patch.object(Ensemble, "detector", Spy()):
        state, losses = initial(watching), []
        for cut in np.split(np.arange(300), [25, 31, 200]):
            outputs, model = [], watching.copy(state.model)
            for start in range(0, len(cut), 10):
                rows = cut[start : start + 10]
                model, output, _ = watching.learn(model, Batch(X[rows], Y[rows]))
                outputs.append(-np.log(output[np.arange(len(rows)), Y[rows]]))
            losses += outputs
            state = test_then_train(watching, state, [Batch(X[cut], Y[cut])])[0]
    expected, bin_ = [], np.empty(0)
    for loss in losses:
        bin_ = np.append(bin_, loss)
        if len(bin_) >= 32:
            expected.append(bin_.mean())
            bin_ = np.empty(0)
    np.testing.assert_allclose(seen, expected, rtol=1e-5)
    assert state.drift
    np.testing.assert_allclose(state.drift.pending, [bin_.sum(), len(bin_)], rtol=1e-5)


@pytest.mark.parametrize("classes", [("a", "b", "c", "d"), ("a", "b", "c", "d", "e", "f")])
def test_new_classes_leave_what_was_learned_as_it_was(classes: tuple[str, ...]) -> None:
    state = test_then_train(CLASSIFIER, initial(CLASSIFIER), [Batch(X, Y)])[0]
    wider = replace(CLASSIFIER, classes=classes)
    grown = loop.grow(wider, state)
    old, new = CLASSIFIER.predict(state.model, X), wider.predict(grown.model, X)
    assert new.shape == (300, len(classes))
    assert (new[:, 3:] <= new[:, :3].max(axis=1, keepdims=True)).all()  # the new ones do not take over
    resumed = test_then_train(wider, grown, [Batch(X, Y)])[0]
    again = state_dict.unflatten(initial(wider), state_dict.flatten(resumed))
    assert bits(again) == bits(resumed)
    x, y = X[:64] + 20, np.full(64, len(classes) - 1, np.int32)
    for _ in range(30):
        resumed = test_then_train(wider, resumed, [Batch(x, y)])[0]
    assert (wider.predict(resumed.model, x).argmax(axis=1) == len(classes) - 1).mean() > 0.9
    one = replace(CLASSIFIER, members=SGD[1:])
    bare = test_then_train(one, initial(one), [Batch(X, Y)])[0]
    ours = loop.grow(replace(one, classes=classes), bare).model
    p, q = one.predict(bare.model, X), replace(one, classes=classes).predict(ours, X)
    np.testing.assert_allclose(q[:, :3] / q[:, :3].sum(axis=1, keepdims=True), p, rtol=1e-4, atol=1e-6)
    assert old.shape == (300, 3)


class Bare(Learner[tuple[()]]):
    """A learner with the abstract methods and the attributes only."""

    inputs, classes, mini_batch, window, fading = 3, (0, 1, 2), 8, 10, 0.9

    def options(self) -> dict[str, Any]:
        return {"learner": "bare"}

    def init(self) -> tuple[()]:
        return ()

    def predict(self, state: tuple[()], x: np.ndarray) -> np.ndarray:
        return np.full((len(x), 3), 1 / 3, np.float32)

    def learn(self, state: tuple[()], batch: Batch) -> tuple[tuple[()], np.ndarray, int]:
        return state, self.predict(state, batch.x), len(batch.y)


def test_a_learner_without_averaging_or_growth_is_refused() -> None:
    bare = Bare()
    refused = (
        r"^update must be 'sequential' for learner 'bare': its state cannot be averaged; got 'averaged'$"
    )
    with pytest.raises(ValueError, match=refused):
        loop.require_averaging(bare)
    state = initial(bare)
    each = [loop.learn_part(bare, state, [Batch(X[cut], Y[cut])]) for cut in (slice(0, 9), slice(9, 20))]
    with pytest.raises(ValueError, match=refused):
        loop.combine(bare, state, each)
    with pytest.raises(ValueError, match=r"^cannot add classes to learner 'bare'; train a new model$"):
        loop.grow(bare, state._replace(metrics=metrics.init(2)))
    for learner in (CLASSIFIER, MLP(3)):
        loop.require_averaging(learner)


def test_the_defaults_of_a_learner_do_nothing() -> None:
    bare = Bare()
    state, counts = test_then_train(bare, initial(bare), [Batch(X, Y)])
    assert counts == Counts(300, 300, 0, 0)
    assert state.drift == ()
    assert (bare.detector, bare.point, bare.missing, bare.loss) == (None, 0, "refuse", None)
    assert bare.react(()) == ()
    assert bare.describe_members(()) == []
    assert loop.events(bare, state, state) == []
    assert not {"members", "drifts"} & loop.report(bare, state).keys()
    assert bare.copy(()) == ()


@BOTH
@pytest.mark.parametrize("scale", ["standard", "minmax", "none"])
@pytest.mark.parametrize("missing", ["refuse", "impute", "indicate"])
def test_any_scale_and_what_is_missing_is_learned(learner: Ensemble, scale: str, missing: str) -> None:
    given = replace(learner, scale=scale, missing=missing)
    x, y = X.copy(), truth(learner)
    x[::7, 1] = np.nan
    state, rows = initial(given), Counts()
    for _ in range(3):
        state, rows = test_then_train(given, state, [Batch(x, y)])
    assert np.isfinite(given.predict(state.model, X)).all()
    if missing == "refuse":
        assert rows.skipped > 200  # every mini-batch of 8 that holds a 7th row
        assert rows.skipped + rows.trained == 300
    else:
        assert rows == Counts(300, 300, 0, 0)
        assert np.isfinite(given.predict(state.model, x)).all()
        each = parts(given, state, 3)
        merged = loop.combine(given, state, each)
        assert np.isfinite(given.predict(merged.model, x)).all()
    again = state_dict.unflatten(initial(given), state_dict.flatten(state))
    assert bits(again) == bits(state)


@pytest.mark.parametrize("low", [(0.0, -0.0), (-0.0, 0.0), (1.0, -2.0)])
def test_least_and_largest_of_tasks_are_the_first_of_equal_ones(low: tuple[float, float]) -> None:
    given = replace(CLASSIFIER, scale="minmax")
    start = initial(given).model
    tasks = [start._replace(low=np.full(3, value), high=np.full(3, value)) for value in low]
    merged = given.merge(start, tasks, [1, 1])
    assert merged.low.tobytes() == np.full(3, min(low)).tobytes()  # Python's: the first of equal ones
    assert merged.high.tobytes() == np.full(3, max(low)).tobytes()


def test_a_missing_value_is_predicted_as_the_columns_mean() -> None:
    given = replace(CLASSIFIER, missing="impute")
    state = test_then_train(given, initial(given), [Batch(X, Y)])[0].model
    gap, mean = X[:5].copy(), X[:5].copy()
    gap[:, 0] = np.nan
    mean[:, 0] = state.means[0]
    np.testing.assert_allclose(given.predict(state, gap), given.predict(state, mean), rtol=1e-5)


def test_training_may_start_with_one_class() -> None:
    alone = replace(CLASSIFIER, classes=("a",))
    state = test_then_train(alone, initial(alone), [Batch(X[:50], np.zeros(50, np.int32))])[0]
    assert alone.predict(state.model, X[:2]).tolist() == [[1.0], [1.0]]
    both = replace(CLASSIFIER, classes=("a", "b"))
    resumed = test_then_train(both, loop.grow(both, state), [Batch(X, (X[:, 0] > 3).astype(np.int32))])[0]
    predictions = both.predict(resumed.model, X).argmax(axis=1)
    assert (predictions == (X[:, 0] > 3)).mean() > 0.8


def test_rates_are_raised_after_a_drift_and_decay() -> None:
    raising = replace(CLASSIFIER, on_drift="raise", members=SGD)
    state = test_then_train(raising, initial(raising), [Batch(X[:96], Y[:96])])[0].model
    raised = raising.react(state)
    batch = Batch(X[96:104], Y[96:104])
    calm, wild = (learn(raising, model, batch)[0] for model in (state, raised))
    moved = wild.theta.astype(float) - state.theta
    np.testing.assert_allclose(moved, 3 * (calm.theta.astype(float) - state.theta), atol=1e-6)
    assert float(wild.boost) == pytest.approx(0.5 ** (8 / 500))
    assert calm.boost == 0
    later, _ = learn(raising, raised, Batch(np.tile(batch.x, (700, 1)), np.tile(batch.y, 700)))
    assert later.boost == 0


def partly_constant(rows: int) -> np.ndarray:
    """Rows of 10 columns: X in three, two that start to change at 150 and 210, and five that never do."""
    x = np.tile(np.arange(10, dtype=np.float64), (rows, 1))
    x[:, [1, 4, 8]] = X[:rows]
    x[150:, 2] += X[150:rows, 0]
    x[210:, 9] -= X[210:rows, 1]
    return x


CONSTANT = [0, 3, 5, 6, 7]


def with_ten_inputs(learner: Ensemble, **options: Any) -> Ensemble:
    return replace(learner, inputs=10, **options)


@BOTH
@pytest.mark.parametrize("options", [{}, {"scale": "minmax"}, {"missing": "impute"}], ids=str)
def test_constant_columns_change_no_weight(learner: Ensemble, options: dict[str, Any]) -> None:
    learner = with_ten_inputs(learner, **options)
    state, _ = learn(learner, learner.init(), Batch(partly_constant(300), truth(learner)))
    changed = [(W != V).any(axis=1) for W, V in first_weights(learner, state)]
    assert [np.flatnonzero(each).tolist() for each in changed] == [[1, 2, 4, 8, 9]] * 4


def first_weights(learner: Ensemble, state: EnsembleState) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each member's first weights (inputs, units) now and before any row."""
    now, before = first_layers(learner, state), first_layers(learner, learner.init())
    return [(W, V) for (W, _), (V, _) in zip(now, before, strict=True)]


@settings(max_examples=6, deadline=None)
@given(
    learner=st.sampled_from([CLASSIFIER, REGRESSOR]),
    mini_batch=st.sampled_from([1, 7, 80]),
    bad=st.sets(st.integers(0, 299), max_size=3),
    cuts=st.lists(st.integers(0, 300), max_size=8),
)
def test_any_cut_gives_the_same_bits_while_columns_start_to_change(
    learner: Ensemble, mini_batch: int, bad: set[int], cuts: list[int]
) -> None:
    learner = with_ten_inputs(learner, mini_batch=mini_batch)
    x = partly_constant(300)
    x[sorted(bad), 6] = np.inf  # of a constant column: the step is skipped, and the column stays constant
    pieces = zip(np.split(x, sorted(cuts)), np.split(truth(learner), sorted(cuts)), strict=True)
    with mock.patch.object(loop, "MEASURE_ROWS", 30):
        whole, counted = test_then_train(learner, initial(learner), [Batch(x, truth(learner))])
        cut, again = test_then_train(learner, initial(learner), [Batch(*piece) for piece in pieces])
    assert counted == again
    assert (counted.skipped > 0) == bool(bad)
    assert bits(whole) == bits(cut)
    for W, V in first_weights(learner, whole.model):
        assert W[CONSTANT].tobytes() == V[CONSTANT].tobytes()


@BOTH
@pytest.mark.parametrize("mini_batch", [1, 8])
def test_predict_and_learn_agree_while_columns_are_constant(learner: Ensemble, mini_batch: int) -> None:
    learner, state = with_ten_inputs(learner, mini_batch=mini_batch), with_ten_inputs(learner).init()
    for start in range(0, 240, mini_batch):
        at = slice(start, start + mini_batch)
        served = learner.predict(state, partly_constant(300)[at])
        state, output = learn(learner, state, Batch(partly_constant(300)[at], truth(learner)[at]))
        assert output.tobytes() == served.tobytes()


@BOTH
def test_a_stream_of_constant_columns_is_learned(learner: Ensemble) -> None:
    x = np.full((300, 10), 7, np.float64)
    state, rows = test_then_train(
        with_ten_inputs(learner), initial(with_ten_inputs(learner)), [Batch(x, truth(learner))]
    )
    assert rows == Counts(300, 300, 0, 0)
    window = metrics.report(state.metrics)["prequential"]["window"]
    if learner.classes is None:
        assert window["mae"] < 1.1 * np.abs(TARGETS[-50:] - TARGETS.mean()).mean()
    else:
        assert window["accuracy"] == (Y[-50:] == np.bincount(Y).argmax()).mean()


@BOTH
@pytest.mark.parametrize("member", [0, 3])
def test_a_member_restarts_with_all_columns_while_some_are_constant(learner: Ensemble, member: int) -> None:
    learner, x, y = with_ten_inputs(learner), partly_constant(300), truth(learner)
    state, _ = learn(learner, learner.init(), Batch(x[:128], y[:128]))
    theta = thetas(learner, state)[member].copy()
    (V, _), (_, b) = learner.shape.views(theta)
    V[0] = b[:] = np.nan  # of column 0, which is constant: no prediction depends on it
    healed, output = learn(learner, with_theta(learner, state, member, theta), Batch(x[128:136], y[128:136]))
    assert np.isfinite(output).all()
    assert healed.restarts.tolist() == [int(i == member) for i in range(4)]
    assert all(np.isfinite(tensor).all() for tensor in state_dict.flatten(healed).values())


WEIGHTS_OF_CLASSES: list[Any] = [{"b": 2.0, "a": 0.5}, "balanced", "effective"]


@pytest.mark.parametrize("given", WEIGHTS_OF_CLASSES, ids=str)
def test_class_weights_are_weights_of_new_and_of_replayed_rows(given: Any) -> None:
    learner = replace(CLASSIFIER, class_beta=0.9, class_weight=given)
    start = after(CLASSIFIER, 100)
    seen = np.array([60.0, 30, 10])
    counted = seen + np.bincount(Y[100:108], minlength=3)
    of_class = {
        "balanced": counted.sum() / (3 * counted),
        "effective": 1 / (1 - 0.9**counted) * 3 / (1 / (1 - 0.9**counted)).sum(),
    }.get(str(learner.class_weight), np.array([0.5, 2, 1]))
    # the plain ensemble, with the classes' weights as weights of the rows, those in the ring too
    plain, ring = start.copy(), start.ring.copy()
    ring[:, 4] *= of_class[ring[:, 3].astype(int)].astype(np.float32)
    own = of_class.astype(np.float32)[Y[100:108]]
    expected, output = learn(CLASSIFIER, plain._replace(ring=ring), Batch(X[100:108], Y[100:108], own))
    weighed = start._replace(class_rows=seen) if isinstance(learner.class_weight, str) else start
    found, same = learn(learner, weighed, Batch(X[100:108], Y[100:108]))
    assert same.tobytes() == output.tobytes()
    np.testing.assert_allclose(found.theta, expected.theta, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-6)
    assert found.class_rows.tolist() == (counted.tolist() if len(found.class_rows) else [])
    slot = np.arange(100, 108) % 70
    assert found.ring[slot, 4].tolist() == [1] * 8  # the ring has the rows as they came


@pytest.mark.parametrize("how", [None, "balanced"])
def test_a_rare_class_is_recalled_where_classes_are_balanced(how: str | None) -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(3000) < 0.03).astype(np.int32)
    x = (rng.normal(size=(3000, 3)) + 1.2 * y[:, None]).astype(np.float32)
    learner = replace(CLASSIFIER, classes=(0, 1), class_weight=how)
    state, _ = test_then_train(learner, initial(learner), [Batch(x, y)])
    recall = metrics.report(state.metrics)["prequential"]["cumulative"]["per_class"]["recall"][1]
    assert recall < 0.4 if how is None else recall > 0.6


def test_weighted_classes_are_merged_and_grow() -> None:
    learner = replace(CLASSIFIER, class_weight="balanced")
    start = test_then_train(learner, initial(learner), [Batch(X[:50], Y[:50])])[0]
    merged = loop.combine(learner, start, parts(learner, start, 3)).model
    assert merged.class_rows.tolist() == np.bincount(Y[:150]).tolist()
    wider = replace(learner, classes=("a", "b", "c", "d"))
    grown = loop.grow(wider, start)
    assert grown.model.class_rows.tolist() == [*np.bincount(Y[:50], minlength=3), 0]
    learn(wider, grown.model, Batch(X, np.full(300, 3, np.int32)))
