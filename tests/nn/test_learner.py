from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from streaming_nn.nn import learner as loop
from streaming_nn.nn import metrics, state_dict
from streaming_nn.nn.learner import Batch, Counts, Learner, State, initial, test_then_train
from streaming_nn.nn.mlp import MLP

pytestmark = pytest.mark.commit

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3)).astype(np.float64)
Y = RNG.integers(0, 3, 200).astype(np.int32)
WEIGHT = RNG.uniform(0.5, 2, 200).astype(np.float32)
CLASSIFIER = MLP(inputs=3, classes=("a", "b", "c"), hidden=(5,), mini_batch=8, window=50)
REGRESSOR = MLP(inputs=3, hidden=(5,), mini_batch=8, window=50)


def bits(state: State[Any]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in state_dict.flatten(state).items()}


def cut(batch: Batch, cuts: list[int]) -> list[Batch]:
    columns = [[None] * (len(cuts) + 1) if part is None else np.split(part, sorted(cuts)) for part in batch]
    return [Batch(*parts) for parts in zip(*columns, strict=True)]


@settings(max_examples=60, deadline=None)
@given(
    learner=st.sampled_from([CLASSIFIER, REGRESSOR]),
    mini_batch=st.sampled_from([1, 7, 8, 64]),
    rows=st.integers(1, 200),
    weighted=st.booleans(),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_any_cut_gives_the_same_bits(
    learner: MLP, mini_batch: int, rows: int, weighted: bool, cuts: list[int]
) -> None:
    learner = replace(learner, mini_batch=mini_batch)
    batch = Batch(X[:rows], Y[:rows], WEIGHT[:rows] if weighted else None)
    with mock.patch.object(loop, "MEASURE_ROWS", 30):  # several blocks
        whole, counted = test_then_train(learner, initial(learner), [batch])
        pieces, again = test_then_train(learner, initial(learner), cut(batch, cuts))
    assert counted == again == Counts(rows, rows, 0, 0)
    assert bits(whole) == bits(pieces)


@pytest.mark.parametrize("learner", [CLASSIFIER, REGRESSOR])
@pytest.mark.parametrize("piece_bytes", [1, 24 * 16, 24 * 50, 24 * 10_000])
def test_very_wide_rows_are_learned_in_pieces_of_a_block(learner: MLP, piece_bytes: int) -> None:
    y = Y if learner.classes else Y.astype(np.float64)
    whole, counted = test_then_train(learner, initial(learner), [Batch(X, y, WEIGHT)])
    heard: list[Any] = []
    with mock.patch.object(loop, "PIECE_BYTES", piece_bytes):
        pieces, again = test_then_train(learner, initial(learner), [Batch(X, y, WEIGHT)], heard.append)
    assert max(len(found.output) for found in heard) == {1: 8, 24 * 16: 16, 24 * 50: 32}.get(piece_bytes, 200)
    assert counted == again == Counts(200, 200)
    assert bits(pieces) == bits(whole)


def test_pieces_are_whole_mini_batches_that_divide_a_block() -> None:
    for inputs, mini_batch, rows in (
        *((3, 32, 4096), (8192, 32, 4096), (8193, 32, 2048), (1 << 20, 32, 32)),
        *((1 << 30, 32, 32), (1 << 20, 1, 32), (1 << 20, 100, 100), (3, 5000, 5000)),
    ):
        learner = MLP(inputs=inputs, hidden=(1,), mini_batch=mini_batch)
        assert loop.piece_rows(learner) == rows


@pytest.mark.parametrize("learner", [CLASSIFIER, REGRESSOR])
@pytest.mark.parametrize("measure", [16, 4096])
def test_the_loop_predicts_then_measures_then_learns(learner: MLP, measure: int) -> None:
    y = Y if learner.classes else Y.astype(np.float64)
    before, _ = test_then_train(learner, initial(learner), [Batch(X[:50], y[:50])])
    heard: list[Any] = []
    with mock.patch.object(loop, "MEASURE_ROWS", measure):
        after, _ = test_then_train(learner, before, [Batch(X, y)], heard.append)
    model, outputs = learner.copy(before.model), []
    for start in range(0, 200, 8):
        batch = Batch(X[start : start + 8], y[start : start + 8])
        outputs.append(learner.predict(model, batch.x))
        model, output, _ = learner.learn(model, batch)
        assert output.tobytes() == outputs[-1].tobytes()
    heard_outputs = np.concatenate([found.output for found in heard])
    assert heard_outputs.tobytes() == np.concatenate(outputs).tobytes()
    assert_array_equal(np.concatenate([found.batch.x for found in heard]), X)
    served = learner.predict(before.model, X)
    assert np.concatenate([found.as_served for found in heard]).tobytes() == served.tobytes()
    expected = metrics.report(metrics.update(before.metrics, y, np.concatenate(outputs), served))
    assert after.model.theta.tobytes() == model.theta.tobytes()
    got = metrics.report(after.metrics)
    for way in ("prequential", "as_served"):
        for span in ("window", "fading", "cumulative"):
            for figure, value in expected[way][span].items():
                if isinstance(value, float):
                    assert got[way][span][figure] == pytest.approx(value, rel=1e-5), (way, span, figure)
                elif figure == "confusion":
                    np.testing.assert_allclose(got[way][span][figure], value, rtol=1e-9)


def test_as_served_and_prequential_differ() -> None:
    learner = replace(CLASSIFIER, mini_batch=1, learning_rate=0.03)
    state, _ = test_then_train(learner, initial(learner), [Batch(X, (X[:, 0] > 0).astype(np.int32))])
    report = metrics.report(state.metrics)
    assert (
        report["prequential"]["cumulative"]["accuracy"] > report["as_served"]["cumulative"]["accuracy"] + 0.1
    )


@pytest.mark.parametrize("batches", [[], [Batch(X[:0], Y[:0])]])
def test_no_rows_change_nothing(batches: list[Batch]) -> None:
    state = initial(CLASSIFIER)
    after, rows = test_then_train(CLASSIFIER, state, batches)
    assert bits(after) == bits(state)
    assert rows == Counts()


def test_what_came_in_is_not_changed() -> None:
    state, _ = test_then_train(CLASSIFIER, initial(CLASSIFIER), [Batch(X, Y)])
    before, batch = bits(state), Batch(X.copy(), Y.copy(), WEIGHT.copy())
    test_then_train(CLASSIFIER, state, [batch])
    assert bits(state) == before
    assert [part.tolist() for part in batch if part is not None] == [X.tolist(), Y.tolist(), WEIGHT.tolist()]


@pytest.mark.parametrize("learner", [CLASSIFIER, REGRESSOR])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(learner: MLP, poison: float) -> None:
    y = Y if learner.classes else Y.astype(np.float64)
    state, _ = test_then_train(learner, initial(learner), [Batch(X, y)])
    x = X.copy()
    x[9, 1] = poison  # in the second mini-batch
    after, rows = test_then_train(learner, state, [Batch(x[:20], y[:20])])
    assert rows == Counts(received=20, trained=12, skipped=8, rejected=0)
    kept = np.r_[:8, 16:20]
    clean, _ = test_then_train(learner, state, [Batch(x[kept], y[kept])])
    assert [part.tobytes() for part in state_dict.flatten(after.model).values()] == [
        part.tobytes() for part in state_dict.flatten(clean.model).values()
    ]
    assert int(after.metrics.rows) == 220
    assert all(np.isfinite(part).all() for part in state_dict.flatten(after).values())


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_target_or_weight_that_is_not_finite_is_skipped(poison: float) -> None:
    for column in (1, 2):
        parts: list[Any] = [X[:8], Y[:8].astype(np.float64), WEIGHT[:8].copy()]
        parts[column][3] = poison
        after, rows = test_then_train(REGRESSOR, initial(REGRESSOR), [Batch(*parts)])
        assert rows == Counts(received=8, skipped=8)
        assert after.model.theta.tobytes() == initial(REGRESSOR).model.theta.tobytes()


class Counting(Learner[tuple[np.ndarray]]):
    """A custom learner whose weights are a count: all that the loop requires of a learner."""

    inputs, classes, mini_batch, window, fading = 3, ("a", "b", "c"), 4, 10, 0.9

    def options(self) -> dict[str, Any]:
        return {}

    def init(self) -> tuple[np.ndarray]:
        return (np.zeros(200),)

    def predict(self, state: tuple[np.ndarray], x: np.ndarray) -> np.ndarray:
        return np.full((len(x), 3), 1 / 3, np.float32)

    def learn(self, state: tuple[np.ndarray], batch: Batch) -> tuple[tuple[np.ndarray], np.ndarray, int]:
        seen = np.bincount(batch.x[:, 0].astype(int), minlength=200)
        return (state[0] + seen,), self.predict(state, batch.x), len(batch.y)


class InPlace(Counting):
    """The same, whose count is changed in place."""

    def copy(self, state: tuple[np.ndarray]) -> tuple[np.ndarray]:
        return (state[0].copy(),)

    def learn(self, state: tuple[np.ndarray], batch: Batch) -> tuple[tuple[np.ndarray], np.ndarray, int]:
        np.add.at(state[0], batch.x[:, 0].astype(int), 1)
        return state, self.predict(state, batch.x), len(batch.y)


NUMBERED = Batch(np.repeat(np.arange(200, dtype=np.float64)[:, None], 3, axis=1), Y)


@pytest.mark.parametrize("learner", [Counting(), InPlace()])
def test_a_custom_learner_sees_every_row_once(learner: Counting) -> None:
    start = initial(learner)
    state, rows = test_then_train(learner, start, cut(NUMBERED, [3, 50, 51]))
    assert state.model[0].tolist() == [1] * 200
    assert rows.trained == int(state.metrics.rows) == 200
    assert not start.model[0].any()


def test_a_pure_learner_needs_no_copy() -> None:
    state = Counting().init()
    assert Counting().copy(state) is state
    assert not np.shares_memory(InPlace().copy(state)[0], state[0])


@pytest.mark.parametrize("learner", [CLASSIFIER, REGRESSOR])
def test_a_mini_batch_may_be_learned_in_place_with_the_same_bits(learner: MLP) -> None:
    y = Y if learner.classes else Y.astype(np.float64)
    state, _ = test_then_train(learner, initial(learner), [Batch(X[:50], y[:50])])
    batch = Batch(X[50:58], y[50:58])
    copied, counts = test_then_train(learner, state, [batch])
    assert not np.shares_memory(copied.model.theta, state.model.theta)
    before = bits(state)
    changed, again = test_then_train(learner, state, [batch], in_place=True)
    assert (bits(changed), again) == (bits(copied), counts)
    assert changed.model.theta is state.model.theta
    assert bits(state) != before


def test_a_mini_batch_is_predicted_once_where_the_model_is_the_one_served() -> None:
    with mock.patch.object(MLP, "predict", side_effect=AssertionError("predicted")):
        test_then_train(CLASSIFIER, initial(CLASSIFIER), [Batch(X[:8], Y[:8])])
        with pytest.raises(AssertionError, match="predicted"):
            test_then_train(CLASSIFIER, initial(CLASSIFIER), [Batch(X[:9], Y[:9])])


@pytest.mark.parametrize(
    ("learner", "batch", "message"),
    [
        (CLASSIFIER, Batch(X[:, :2], Y), r"^x must be \(rows, 3\); got \(200, 2\)$"),
        (CLASSIFIER, Batch(X[0], Y[:1]), r"^x must be \(rows, 3\); got \(3,\)$"),
        (CLASSIFIER, Batch(X, Y[:5]), r"^y must be \(200,\), one value per row of x; got \(5,\)$"),
        (
            CLASSIFIER,
            Batch(X, Y, WEIGHT[:5]),
            r"^weight must be \(200,\), one value per row of x; got \(5,\)$",
        ),
        (CLASSIFIER, Batch(X, Y + 1), r"^y must be class indices in \[0, 3\); got 1 to 3$"),
        (CLASSIFIER, Batch(X, Y - 1), r"^y must be class indices in \[0, 3\); got -1 to 1$"),
        (CLASSIFIER, Batch(X, Y / 2), r"^y must be class indices \(int32\); got float64$"),
        (REGRESSOR, Batch(X, Y[:, None]), r"^y must be \(200,\), one value per row of x; got \(200, 1\)$"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(learner: MLP, batch: Batch, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        test_then_train(learner, initial(learner), [batch])


def test_a_batch_that_fits_is_not_copied() -> None:
    batch = loop.validate_batch(CLASSIFIER, Batch(X, Y, WEIGHT))
    assert all(np.shares_memory(ours, given) for ours, given in zip(batch, (X, Y, WEIGHT), strict=True))
    other = loop.validate_batch(CLASSIFIER, Batch(np.asfortranarray(X, np.float64), Y.astype(np.int64)))
    assert [str(other.x.dtype), str(other.y.dtype)] == ["float64", "int32"]
    assert other.x.flags.c_contiguous


def test_a_micro_batch_without_a_task_changes_nothing() -> None:
    state, _ = test_then_train(CLASSIFIER, initial(CLASSIFIER), [Batch(X, Y)])
    assert loop.combine(CLASSIFIER, state, []) is state
    empty = loop.learn_part(CLASSIFIER, state, [])
    assert bits(loop.combine(CLASSIFIER, state, [empty, empty])) == bits(state)
