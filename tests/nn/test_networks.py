"""What every learner of networks does with its state: learn in place, merge, be copied, stored and shared."""

import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from each_member import thetas, vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_nn.core.ensemble import RAMPS, EnsembleState
from streaming_nn.nn import averaging, replay_buffer, state_dict
from streaming_nn.nn import learner as loop
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.learner import Batch, initial, load_state, test_then_train
from streaming_nn.nn.members import default
from streaming_nn.nn.mlp import MLP
from streaming_nn.nn.networks import NetworkLearner
from streaming_nn.nn.options import OPTIMIZERS

pytestmark = pytest.mark.commit

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, size=(60, 4)).astype(np.float32)
LABELS = (np.arange(60) % 3).astype(np.int32)
TARGETS = (X[:, 0] * 10 + 100).astype(np.float32)
WEIGHT = RNG.uniform(0.5, 2, 60).astype(np.float32)
SMALL: dict[str, Any] = {"hidden": (5,), "mini_batch": 4}
SGD = [each for each in default(True) if each["optimizer"] == "sgd" and "inputs" not in each]
ADAM_AND_RAMPS = [each for each in default(True) if each not in SGD]
EVERYTHING: list[NetworkLearner] = [
    MLP(4, (0, 1, 2), dropout=0.3, class_weight="effective", schedule="step", schedule_rows=9, clip_norm=1),
    MLP(4, (0, 1), loss="logistic", dropout=0.5, optimizer="nadam", l1=0.01, warmup=20, scale="minmax"),
    MLP(4, loss="quantile", optimizer="nesterov", schedule="inverse", dropout=0.2, missing="indicate"),
    MLP(4, (0, 1, 2), optimizer="ftrl", learning_rate=0.1, l1=0.01),
    MLP(4, loss="poisson", optimizer="sgd", scale="none", clip_value=0.1, hidden=()),
    Ensemble(4, (0, 1, 2), class_weight="balanced", missing="impute", buffer_rows=20, replay_rows=5, **SMALL),
    Ensemble(4, members=SGD, scale="minmax", **SMALL),
    Ensemble(4, members=ADAM_AND_RAMPS, buffer_rows=20, on_drift="raise", drift="adwin", **SMALL),
    Ensemble(4, (0, 1), members=SGD[-1:], **SMALL),  # a single member
]
EACH = pytest.mark.parametrize("learner", EVERYTHING, ids=lambda each: each.options()["learner"])


def rows_of(learner: NetworkLearner, at: slice = slice(None), weighted: bool = False) -> Batch:
    y = TARGETS if learner.classes is None else LABELS % len(learner.classes)
    x = X.copy()
    if learner.missing != "refuse":
        x[::7, 2] = np.nan
    return Batch(x[at], y[at], WEIGHT[at] if weighted else None)


def learned(learner: NetworkLearner, at: slice = slice(0, 40)) -> EnsembleState:
    model, _, rows = learner.learn(learner.init(), rows_of(learner, at))
    assert rows == len(range(60)[at])
    return model


def bits(state: tuple[Any, ...]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in state_dict.flatten(state).items()}


@EACH
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mini_batch", [1, 7, 60, 100])
def test_many_mini_batches_are_those_one_by_one(learner: Any, weighted: bool, mini_batch: int) -> None:
    learner = replace(learner, mini_batch=mini_batch)
    many, output, rows = learner.learn(learner.init(), rows_of(learner, weighted=weighted))
    one, outputs = learner.init(), []
    for start in range(0, 60, mini_batch):
        batch = rows_of(learner, slice(start, start + mini_batch), weighted)
        outputs.append(learner.predict(one, batch.x))
        one, output_of_one, _ = learner.learn(one, batch)
        assert output_of_one.tobytes() == outputs[-1].tobytes()
    assert bits(many) == bits(one)
    assert output.tobytes() == np.concatenate(outputs).tobytes()
    assert rows == int(many.learned) == 60


@EACH
def test_rows_may_be_in_any_order_of_memory_and_wider_numbers(learner: NetworkLearner) -> None:
    batch = rows_of(learner, weighted=True)
    wide = np.repeat(batch.x, 2, axis=1)[:, ::2]
    expected, output, _ = learner.learn(learner.init(), batch)
    each: list[Any] = [np.asfortranarray(batch.x), wide, batch.x.astype(np.float64)]
    for x in each:
        y, weight = batch.y.astype(np.float64), np.repeat(WEIGHT, 2)[::2]
        found, same, _ = learner.learn(learner.init(), Batch(x, y, weight))
        assert bits(found) == bits(expected)
        assert same.tobytes() == output.tobytes()
        assert learner.predict(found, x).tobytes() == learner.predict(expected, batch.x).tobytes()


@EACH
def test_a_copy_is_learned_in_place_and_what_it_was_made_of_stays(learner: NetworkLearner) -> None:
    model = learned(learner)
    before, batch = bits(model), rows_of(learner, slice(40, 60), weighted=True)
    given_rows = [part.tobytes() for part in batch if part is not None]
    copy = learner.copy(model)
    assert type(copy) is EnsembleState
    assert bits(copy) == before
    assert not any(np.shares_memory(a, b) for a, b in zip(copy, model, strict=True))
    theta = copy.theta
    after, _, _ = learner.learn(copy, batch)
    assert after is copy
    assert after.theta is theta
    assert bits(model) == before != bits(after)
    assert [part.tobytes() for part in batch if part is not None] == given_rows


@EACH
def test_nothing_but_learning_changes_a_state(learner: Any) -> None:
    model = learned(learner)
    before = bits(model)
    learner.predict(model, X)
    parts = [learner.learn(learner.copy(model), rows_of(learner, at))[0] for at in (slice(9), slice(9, 50))]
    between = [bits(part) for part in parts]
    merged = learner.merge(model, parts, [9, 41])
    reacted = learner.react(merged)
    for each in (merged, reacted):
        learner.learn(learner.copy(each), rows_of(learner))
    learner.learn(merged, rows_of(learner))  # its arrays are its own, or shared with none that is kept
    assert bits(model) == before
    assert [bits(part) for part in parts] == between


@EACH
def test_a_state_from_a_file_may_be_read_only(learner: Any) -> None:
    model = learned(learner)
    stored = state_dict.flatten(model)
    arrays = {
        name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)
        for name, array in stored.items()
    }
    read = state_dict.unflatten(learner.init(), arrays)
    assert type(read) is EnsembleState
    assert not any(array.flags.writeable for array in read if array.size)
    assert learner.predict(read, X).tobytes() == learner.predict(model, X).tobytes()
    learner.react(read)
    with pytest.raises(ValueError, match="must be writeable; got a read-only one"):
        learner.learn(read, rows_of(learner))
    one, other = (learner.learn(learner.copy(each), rows_of(learner))[0] for each in (read, model))
    assert bits(one) == bits(other)
    merged = learner.merge(read, [read, read], [1, 1])
    learner.learn(learner.copy(merged), rows_of(learner))


@EACH
def test_learner_and_state_are_pickled_with_options_and_arrays_only(learner: Any) -> None:
    model = learned(learner)
    learner.predict(model, X)  # so that addresses are remembered
    again, read = pickle.loads(pickle.dumps((learner, model)))
    assert again == learner
    assert again.options() == learner.options()
    assert type(read) is EnsembleState
    assert not vars(read)
    assert bits(read) == bits(model)
    assert len(pickle.dumps(learner)) == len(pickle.dumps(replace(learner)))
    one, other = (
        each.learn(each.copy(state), rows_of(learner)) for each, state in ((again, read), (learner, model))
    )
    assert bits(one[0]) == bits(other[0])
    assert one[1].tobytes() == other[1].tobytes()


@EACH
@settings(max_examples=8, deadline=None)
@given(cut=st.integers(1, 59), mini_batch=st.sampled_from([1, 4]))
def test_a_model_resumes_from_its_tensors_with_the_same_bits(learner: Any, cut: int, mini_batch: int) -> None:
    """Dropout, schedules and counts are in the state, and nowhere else."""
    learner = replace(learner, mini_batch=mini_batch)
    cut -= cut % mini_batch
    part, _ = test_then_train(learner, initial(learner), [rows_of(learner, slice(cut))])
    whole, _ = test_then_train(learner, part, [rows_of(learner, slice(cut, 60))])
    again = replace(learner)
    read = load_state(again, {name: array.copy() for name, array in state_dict.flatten(part).items()})
    rest, _ = test_then_train(again, read, [rows_of(learner, slice(cut, 60))])
    assert bits(whole.model) == bits(rest.model)


@EACH
def test_a_state_of_other_options_is_refused(learner: Any) -> None:
    wider = replace(learner, hidden=(9, 9))
    model = learned(learner)
    for use in (wider.predict, lambda state, x: wider.learn(state, rows_of(wider))):
        with pytest.raises(ValueError, match=r"^an array must be float32 of shape"):
            use(model, X)
    learner.predict(model, X)  # it is still bound to its own


@EACH
def test_threads_share_a_state_and_predict_the_same(learner: NetworkLearner) -> None:
    model, x = learned(learner), np.tile(X, (50, 1))
    expected = learner.predict(model, x).tobytes()
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda _: learner.predict(model, x).tobytes(), range(12))
        assert set(found) == {expected}


@EACH
def test_no_rows_are_nothing(learner: NetworkLearner) -> None:
    model = learned(learner)
    before, none = bits(model), rows_of(learner, slice(0))
    after, output, rows = learner.learn(model, none)
    assert rows == 0
    assert output.shape == learner.predict(model, X[:0]).shape == (0, learner.predict(model, X).shape[1])
    assert bits(after) == before


@EACH
def test_tasks_are_merged_field_by_field(learner: NetworkLearner) -> None:
    start = learned(learner, slice(20))
    cuts = [slice(20, 30), slice(30, 60)]
    one, other = (learner.learn(learner.copy(start), rows_of(learner, cut))[0] for cut in cuts)
    merged = learner.merge(start, [one, other], [10, 30])
    optimizers = {member.optimizer for member in learner.core.members}
    for name in ("theta", "first", "second"):
        mean = 0.25 * getattr(one, name) + 0.75 * getattr(other, name)
        if name == "theta" and optimizers == {"ftrl"}:  # it is computed from the averages of the others
            z, n = merged.first, merged.second
            far = np.where(bias_mask(learner), np.abs(z), np.maximum(np.abs(z) - 0.01, 0))
            mean = -np.sign(z) * far / ((1 + np.sqrt(n)) / 0.1)
            assert mean.any()
        np.testing.assert_allclose(getattr(merged, name), mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(merged.powers, one.powers**0.25 * other.powers**0.75, rtol=1e-12)
    x, y = rows_of(learner)[:2]
    wide = x.astype(np.float64)
    np.testing.assert_allclose(merged.means, np.nanmean(wide, axis=0), rtol=1e-9)
    np.testing.assert_allclose(merged.squares / merged.rows, np.nanvar(wide, axis=0), rtol=1e-9)
    assert merged.rows.tolist() == (~np.isnan(x)).sum(axis=0).tolist()
    if len(merged.low):
        assert merged.low.tolist() == np.nanmin(x, axis=0).tolist()
        assert merged.high.tolist() == np.nanmax(x, axis=0).tolist()
    if learner.classes is None:
        truth = TARGETS.astype(np.float64)
        np.testing.assert_allclose(merged.targets, [[60, truth.mean(), truth.var() * 60]], rtol=1e-9)
    if len(merged.class_rows):
        assert merged.class_rows.tolist() == np.bincount(y).tolist()
    assert int(merged.learned) == 60
    assert int(merged.appended) == (60 if len(merged.ring) else 0)
    assert merged.restarts.tolist() == start.restarts.tolist()
    for name, array in state_dict.flatten(merged).items():
        before = getattr(start, name)
        assert (array.dtype, array.shape) == (before.dtype, before.shape), name
    learner.learn(merged, rows_of(learner))


@pytest.mark.parametrize(
    ("first", "second", "third", "when"),
    [
        (20, 28, 39, "in the merge"),
        (40, 55, 70, "in the merge"),  # the second time
        (40, 44, 52, "before"),
        (10, 50, 60, "by a task too"),
    ],
)
def test_knots_are_placed_from_the_merged_buffer(first: int, second: int, third: int, when: str) -> None:
    learner = Ensemble(4, (0, 1, 2), buffer_rows=37, missing="impute", **SMALL)
    x, y, _ = rows_of(learner)
    x, y = np.concatenate([x, x + 1]), np.concatenate([y, y])
    start, _, _ = learner.learn(learner.init(), Batch(x[:first], y[:first]))
    cuts = slice(first, second), slice(second, third)
    parts = [learner.learn(learner.copy(start), Batch(x[cut], y[cut]))[0] for cut in cuts]
    merged = learner.merge(start, parts, [second - first, third - second])
    same = [part.knots.tobytes() == start.knots.tobytes() for part in parts]
    assert same == [when != "by a task too", True]
    if when == "before":
        assert np.isfinite(start.knots[:, :16]).all()
        assert merged.knots.tobytes() == start.knots.tobytes()
        return
    kept = replay_buffer.latest(merged, 37)[:, :4]
    assert len(kept) == min(37, third)
    for column, knots in zip(kept.T, merged.knots, strict=True):
        values = np.sort(column[~np.isnan(column)])
        if len(values) > RAMPS + 1:  # all different
            values = values[np.arange(16) * (len(values) - 1) // 15]
        assert knots[np.isfinite(knots)].tolist() == values.tolist()


def bias_mask(learner: NetworkLearner) -> np.ndarray:
    """Return which of a vector's parameters are biases."""
    mask: np.ndarray = np.zeros(learner.shape.parameters, np.float32)
    for _, b in learner.shape.views(mask):
        b[...] = 1
    return mask.astype(bool)


@EACH
def test_a_part_alone_and_beside_parts_without_rows_is_what_was_learned(
    learner: NetworkLearner,
) -> None:
    state = initial(learner)._replace(model=learned(learner, slice(20)))
    part = loop.learn_part(learner, state, [rows_of(learner, slice(20, 60))])
    empty = loop.learn_part(learner, state, [])
    assert bits(loop.combine(learner, state, [part]).model) == bits(part.model)
    assert bits(loop.combine(learner, state, [empty, part, empty]).model) == bits(part.model)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "nadam"])
def test_powers_that_many_steps_have_made_subnormal_still_merge_and_learn(optimizer: str) -> None:
    learner = MLP(4, (0, 1, 2), (2,), optimizer=optimizer, beta1=0.01, beta2=0.005, mini_batch=1)
    start, few = learner.init(), learned(learner, slice(3))
    many, _, _ = learner.learn(learned(learner, slice(60)), Batch(np.tile(X, (2, 1)), np.tile(LABELS, 2)))
    subnormal = learned(learner, slice(60))._replace(powers=np.array([[5e-324, 3e-310]]))
    assert many.powers.tolist() == [[0, 0]]
    for part in (many, subnormal):
        merged = learner.merge(start, [part, few], [1, 1])
        np.testing.assert_allclose(
            np.log(merged.powers), (np.log(few.powers) + np.log(2.0**-1022)) / 2, rtol=1e-12
        )
        assert (learner.merge(start, [part, part], [1, 1]).powers < 1e-307).all()
        after, _, rows = learner.learn(merged, rows_of(learner))
        assert rows == 60
        assert np.isfinite(after.theta).all()


def test_a_merge_without_any_rows_learned_is_the_start() -> None:
    learner = MLP(4, (0, 1, 2), optimizer="ftrl", learning_rate=0.1)
    start = learned(learner)
    merged = learner.merge(start, [start, start], [0, 0])
    np.testing.assert_allclose(merged.theta, start.theta, rtol=1e-6)
    same = start._replace(theta=merged.theta)
    assert bits(merged) == bits(same)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_member_starts_again_as_its_optimizer_does(optimizer: str) -> None:
    learner = MLP(4, (0, 1, 2), optimizer=optimizer, learning_rate=0.1, on_drift="fresh")
    model = learned(learner)
    assert model.theta.tobytes() != learner.init().theta.tobytes()
    fresh, start = learner.react(model), learner.init()
    for name in ("theta", "first", "second", "powers"):
        assert getattr(fresh, name).tobytes() == getattr(start, name).tobytes(), name
    for name in ("rows", "means", "squares", "learned", "weights"):  # what is known of the rows stays
        assert getattr(fresh, name).tobytes() == getattr(model, name).tobytes(), name


WEIGHTS = np.array([0.1, 0.4, 0.2, 0.3])
FOUR = Ensemble(
    4,
    (0, 1, 2),
    members=[
        *({"optimizer": "sgd", "learning_rate": rate} for rate in (0.01, 0.1)),
        *({"optimizer": "adam", "learning_rate": 0.003, "replay": new} for new in (1, 8)),
    ],
    **SMALL,
)


@pytest.mark.parametrize(
    ("on_drift", "restarted"),
    [("report", []), ("raise", []), ("restart", [0, 2]), ("fresh", [0])],
)
def test_the_reaction_to_a_drift(on_drift: str, restarted: list[int]) -> None:
    learner = replace(FOUR, on_drift=on_drift)
    model = learned(learner)._replace(weights=WEIGHTS)
    after = learner.react(model)
    assert float(after.boost) == (on_drift == "raise")
    assert np.flatnonzero(after.restarts).tolist() == restarted
    before, found, start = (thetas(learner, each) for each in (model, after, learner.init()))
    for member in range(4):
        source = {"restart": before[1], "fresh": start[member]}
        expected = source[on_drift] if member in restarted else before[member]
        assert found[member].tobytes() == expected.tobytes()
    assert (after.powers[2] == 1).all() == (2 in restarted)
    firsts = vectors(learner, after, "first")
    assert firsts[2].any() == (2 not in restarted)
    assert firsts[3].any()
    assert after.weights.tolist() == WEIGHTS.tolist()


def test_a_single_member_is_never_a_copy_of_itself() -> None:
    one = Ensemble(4, (0, 1), members=SGD[-1:], on_drift="restart", **SMALL)
    model = learned(one)
    assert bits(one.react(model)) == bits(model)
    fresh = replace(one, on_drift="fresh")
    assert fresh.react(model).theta.tobytes() == one.init().theta.tobytes()
    broken = model._replace(restarts=model.restarts + 1)
    merged = one.merge(model, [broken, model], [1, 1])
    assert merged.theta.tobytes() == one.init().theta.tobytes()


def test_members_that_tasks_restarted_are_copies_of_the_best_other_one() -> None:
    start = learned(FOUR)._replace(weights=WEIGHTS)
    parts = [start._replace(restarts=np.array(each)) for each in ([0, 1, 0, 0], [1, 2, 0, 0])]
    merged = FOUR.merge(start, parts, [1, 1])  # member 1 has the largest weight of all, 3 of the others
    assert merged.restarts.tolist() == [1, 1, 0, 0]
    found = [theta.tobytes() for theta in thetas(FOUR, merged)]
    assert found[0] == found[1] == found[3] != found[2]


def test_weights_of_a_merge_multiply_what_each_task_did() -> None:
    start = learned(FOUR)._replace(weights=WEIGHTS)
    factors = np.array([[1, 2, 3, 4], [5, 1, 1, 2], [1, 1, 1, 1]])
    parts = [start._replace(weights=WEIGHTS * each / (WEIGHTS * each).sum()) for each in factors]
    merged = FOUR.merge(start, parts, [1, 2, 3])
    expected = WEIGHTS * factors.prod(axis=0)
    expected = expected / expected.sum() * (1 - FOUR.share) + FOUR.share / 4
    np.testing.assert_allclose(merged.weights, expected, rtol=1e-12)
    assert merged.weights.sum() == pytest.approx(1)


def test_weights_that_are_far_apart_are_merged_to_finite_ones() -> None:
    start = learned(FOUR)._replace(weights=np.array([1 - 3e-10, 1e-10, 1e-10, 1e-10]))
    low = start._replace(weights=np.array([1e-300, 1.0, 1e-290, 1e-10]))
    merged = FOUR.merge(start, [low] * 5, [1] * 5)
    assert np.isfinite(merged.weights).all()
    assert merged.weights.sum() == pytest.approx(1)
    assert merged.weights.argmax() == 1
    assert merged.weights.min() >= FOUR.share / 4 * 0.999


def test_a_boost_decays_in_a_merge_as_in_steps() -> None:
    learner = replace(FOUR, on_drift="raise")
    start = learner.react(learned(learner))
    parts = [learner.learn(learner.copy(start), rows_of(learner, at))[0] for at in (slice(20), slice(20, 60))]
    merged = learner.merge(start, parts, [20, 40])
    whole, _, _ = learner.learn(learner.copy(start), rows_of(learner))
    assert float(merged.boost) == pytest.approx(float(whole.boost)) == pytest.approx(0.5 ** (60 / 500))
    assert learner.merge(start, parts, [9000, 0]).boost == 0


def test_averages_are_in_the_order_of_the_tasks() -> None:
    learner = MLP(4, (0, 1, 2))
    start = learned(learner)
    parts = [learner.learn(learner.copy(start), rows_of(learner, slice(n, n + 20)))[0] for n in (0, 20, 40)]
    merged, share = learner.merge(start, parts, [20, 20, 20]), averaging.shares([20, 20, 20])
    theta = averaging.average_arrays([part.theta for part in parts], share)
    assert merged.theta.tobytes() == theta.tobytes()


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_rows_of_mini_batches_that_are_not_finite_are_not_counted(poison: float) -> None:
    learner = MLP(4, (0, 1, 2), mini_batch=8)
    for row, rows in ((0, 52), (59, 56), (56, 56), (8, 52)):  # the last mini-batch has 4
        x = X.copy()
        x[row, 1] = poison
        model, _, trained = learner.learn(learner.init(), Batch(x, LABELS))
        assert trained == int(model.learned) == rows
    x = np.full_like(X, poison)
    model, output, trained = learner.learn(learner.init(), Batch(x, LABELS))
    assert trained == 0
    assert bits(model) == bits(learner.init())
    assert np.isfinite(output).all()


def test_a_state_that_is_replaced_is_freed_at_once() -> None:
    """A cycle would keep states of megabytes until the garbage collection of old objects."""
    learner = Ensemble(3, (0, 1), (4,), buffer_rows=9)
    state, x, y = initial(learner), np.ones((8, 3), np.float32), np.zeros(8, np.int32)
    gc.disable()
    try:
        state, _ = test_then_train(learner, state, [Batch(x, y)])
        before = weakref.ref(state.model.theta)
        state, _ = test_then_train(learner, state, [Batch(x, y)])
        assert before() is None
    finally:
        gc.enable()
