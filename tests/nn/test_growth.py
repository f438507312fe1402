"""Columns that are added to a model: as if they had been constant, or missing, until then."""

from typing import Any

import numpy as np
import pytest
from each_member import thetas, vectors

from streaming_nn.core.ensemble import RAMPS, EnsembleState
from streaming_nn.core.networks import Shape
from streaming_nn.nn import learner as loop
from streaming_nn.nn import replay_buffer
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.initializers import draw_input
from streaming_nn.nn.learner import Batch, Learner, State, initial, test_then_train
from streaming_nn.nn.members import default
from streaming_nn.nn.networks import NetworkLearner
from streaming_nn.nn.preprocessing import ColumnGrowth
from streaming_nn.nn.state_dict import flatten, unflatten

pytestmark = pytest.mark.commit

RNG = np.random.default_rng(3)
X = RNG.normal(size=(160, 3)).astype(np.float32)
Y = (X[:, 0] > X[:, 1]).astype(np.int32)
CHOICES: list[dict[str, Any]] = [
    {"learner": "ensemble", "missing": "impute"},
    {"learner": "ensemble", "missing": "indicate", "scale": "minmax"},
    {"learner": "ensemble", "missing": "refuse", "buffer_bytes": 3200},
    {
        "learner": "ensemble",
        "missing": "indicate",
        "hidden": None,
        "members": [
            {"optimizer": "ftrl", "learning_rate": 0.1, "hidden": [8], "inputs": "ramps"},
            {"optimizer": "adam", "learning_rate": 0.01, "hidden": [5, 3], "replay": 1, "activation": "tanh"},
            {
                "optimizer": "momentum",
                "learning_rate": 0.02,
                "hidden": [4],
                "inputs": "ramps",
                "linear": False,
            },
        ],
    },
    {"learner": "mlp", "optimizer": "adam", "learning_rate": 0.01, "missing": "impute"},
    {"learner": "mlp", "optimizer": "ftrl", "learning_rate": 0.1, "missing": "refuse"},
    {
        "learner": "mlp",
        "optimizer": "momentum",
        "learning_rate": 0.01,
        "missing": "indicate",
        "hidden": (8, 4),
    },
    {"learner": "mlp", "optimizer": "sgd", "learning_rate": 0.1, "missing": "refuse", "scale": "none"},
    {"learner": "mlp", "optimizer": "adagrad", "learning_rate": 0.1, "missing": "impute", "hidden": ()},
]


def trained(options: dict[str, Any], x: Any = X, y: Any = Y) -> tuple[NetworkLearner, State[EnsembleState]]:
    small = {"hidden": (8,), "mini_batch": 4, "classes": (0, 1), "seed": 5}
    learner: Any = learner_from({**small, **options, "inputs": x.shape[1]})
    state, _ = test_then_train(learner, initial(learner), [Batch(x, y)])
    return learner, state


def grown(learner: NetworkLearner, state: State[EnsembleState], origin: list[int], fill: float) -> Any:
    wide = learner_from({**learner.options(), "inputs": len(origin)})
    new = ColumnGrowth(learner.inputs, np.array(origin, np.intp), np.full(len(origin), fill, np.float32))
    return wide, loop.grow_inputs(wide, state, new)


def inputs_of(learner: NetworkLearner, shape: Shape, columns: list[int]) -> list[int]:
    """Return the inputs of columns in a member's network: the columns, their indicators, their ramps."""
    width, inputs = learner.core.width, list(columns)
    inputs += [learner.inputs + column for column in columns if width > learner.inputs]
    sees_ramps = shape.units[0] > width
    return inputs + [width + column * RAMPS + i for column in columns for i in range(RAMPS) if sees_ramps]


def bits(state: Any) -> dict[str, bytes]:
    return {name: tensor.tobytes() for name, tensor in flatten(state).items()}


def fill_of(options: dict[str, Any]) -> float:
    return 0.0 if options["missing"] == "refuse" else np.nan


@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_predictions_of_rows_without_the_new_columns_stay(options: dict[str, Any]) -> None:
    learner, state = trained(options)
    fill = fill_of(options)
    wide, after = grown(learner, state, [-1, 2, 0, 1, -1], fill)
    x = np.full((len(X), 5), fill, np.float32)
    x[:, [2, 3, 1]] = X
    if options["missing"] != "indicate":  # a new indicator is 1 where its column is missing, its weight 0
        x[::2, 0] = 0.0
    np.testing.assert_allclose(
        wide.predict(after.model, x), learner.predict(state.model, X), rtol=2e-4, atol=2e-5
    )


@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_columns_added_at_once_or_one_by_one_are_the_same(options: dict[str, Any]) -> None:
    learner, state = trained(options)
    once, at_once = grown(learner, state, [0, 1, 2, -1, -1], fill_of(options))
    one, step = grown(learner, state, [0, 1, 2, -1], fill_of(options))
    two, twice = grown(one, step, [0, 1, 2, 3, -1], fill_of(options))
    assert once == two
    assert bits(at_once) == bits(twice)


@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_a_new_column_is_learned(options: dict[str, Any]) -> None:
    learner, state = trained(options)
    wide, after = grown(learner, state, [0, 1, 2, -1], fill_of(options))
    theta = {name: part.copy() for name, part in flatten(after.model).items() if "theta" in name}
    x = RNG.normal(size=(600, 4)).astype(np.float32)
    y = (x[:, 3] > 0).astype(np.int32)
    later, counts = test_then_train(wide, after, [Batch(x, y)])
    assert counts.trained == 600
    right = wide.predict(later.model, x).argmax(axis=1) == y
    assert right.mean() > 0.8
    for name, part in theta.items():  # the state that came in is not changed
        assert np.array_equal(flatten(after.model)[name], part)


@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_the_order_of_arrival_decides_the_weights_and_not_the_position(options: dict[str, Any]) -> None:
    learner, state = trained(options)
    fill = fill_of(options)
    one, first = grown(learner, state, [0, 1, 2, -1], fill)
    before, second = grown(one, first, [-1, 0, 1, 2, 3], fill)  # the newest comes first
    after, end = grown(one, first, [0, 1, 2, 3, -1], fill)
    ours, theirs = thetas(before, second.model), thetas(after, end.model)
    assert [shape.key for shape in before.core.shapes] == [shape.key for shape in after.core.shapes]
    for shape, here, there in zip(after.core.shapes, ours, theirs, strict=True):
        (W, _), (V, _) = shape.views(here)[0], shape.views(there)[0]
        moves = inputs_of(after, shape, [4, 0, 1, 2, 3])
        assert len(W) == len(moves)
        assert W.tobytes() == V[moves].tobytes()


@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_what_was_there_keeps_its_bits_and_the_rest_starts_as_the_optimizer_does(
    options: dict[str, Any],
) -> None:
    learner, state = trained(options)
    wide, after = grown(learner, state, [-1, 2, 0, 1, -1], fill_of(options))
    moved, new_columns = [2, 3, 1], [0, 4]  # the old columns, and the new ones
    fresh, found = wide.core.init(after.model.theta), set()
    for name in ("theta", "first", "second"):
        of_members = (
            vectors(*each, name) for each in ((wide, after.model), (learner, state.model), (wide, fresh))
        )
        shapes = zip(wide.core.shapes, learner.core.shapes, strict=True)
        for member, ((shape, before), vector, old, start) in enumerate(zip(shapes, *of_members, strict=True)):
            if vector is None or old is None or start is None:
                assert vector is old is start is None
                continue
            found.add(name)
            positions, new = inputs_of(wide, shape, moved), inputs_of(wide, shape, new_columns)
            assert len(positions) + len(new) == shape.units[0]
            layers = zip(shape.views(vector), before.views(old), strict=True)
            for layer, ((W, b), (V, c)) in enumerate(layers):
                assert b.tobytes() == c.tobytes()
                assert (W[positions] if layer == 0 else W).tobytes() == V.tobytes()
            linear, then = shape.linear_view(vector), before.linear_view(old)
            assert linear[positions if len(linear) else []].tobytes() == then.tobytes()
            assert not linear[new if len(linear) else []].any()
            first, expected = (shape.views(each)[0][0] for each in (vector, start))
            if name == "theta":
                how = wide.initials[member], wide.seed, member
                drawn = [draw_input(shape, *how, learner.inputs + number) for number in range(2)]
                assert first[new_columns].tobytes() == np.stack(drawn).tobytes()
                assert not first[new[2:]].any()  # of the new indicators, of the new ramps
            else:
                assert first[new].tobytes() == expected[new].tobytes()
    assert after.model.knots[moved if wide.core.ramped else []].tobytes() == state.model.knots.tobytes()
    assert np.isinf(after.model.knots[new_columns if wide.core.ramped else []]).all()
    assert np.isfinite(state.model.knots[:, :16]).all()
    assert found >= {"theta"} | ({"first", "second"} if options["learner"] == "ensemble" else set())
    for name in ("powers", "weights", "restarts", "learned", "boost", "appended", "drawn", "class_rows"):
        assert getattr(after.model, name).tobytes() == getattr(state.model, name).tobytes(), name


@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_a_grown_model_shares_no_memory_with_the_one_before(options: dict[str, Any]) -> None:
    learner, state = trained(options)
    wide, more_columns = grown(learner, state, [0, 1, 2, -1], fill_of(options))
    wider = learner_from({**learner.options(), "classes": [0, 1, 2]})
    more_classes = loop.grow(wider, state)
    for after in (more_columns, more_classes):
        for name, array in flatten(after.model).items():
            assert not np.shares_memory(array, flatten(state.model)[name]), name
    before = bits(state.model)
    wide.learn(more_columns.model, Batch(np.tile(X[:, :1], (1, 4)), Y))  # in place, as estimators do
    wider.learn(more_classes.model, Batch(X, Y + 1))
    assert bits(state.model) == before


def test_members_draw_other_weights_for_a_new_column() -> None:
    wide, after = grown(*trained({"learner": "ensemble", "missing": "impute"}), [0, 1, 2, -1], np.nan)
    of_members = zip(wide.core.shapes, thetas(wide, after.model), strict=True)
    rows = {shape.views(theta)[0][0][3].tobytes() for shape, theta in of_members}
    assert len(rows) == len(wide.core.members) == len(default(regression=False))


def test_ramps_of_a_new_column_change_no_prediction_once_they_have_knots() -> None:
    learner, state = trained({"learner": "ensemble", "missing": "impute"})
    wide, after = grown(learner, state, [0, -1, 1, 2], np.nan)
    x = np.insert(X, 1, np.nan, axis=1)
    x[::2, 1] = 0.0
    placed = after.model._replace(knots=after.model.knots.copy())
    placed.knots[1] = np.linspace(-1, 1, RAMPS + 1)
    assert wide.predict(placed, x).tobytes() == wide.predict(after.model, x).tobytes()


def test_only_columns_that_had_ramps_before_and_have_some_after_keep_theirs() -> None:
    x = RNG.normal(size=(40, 50)).astype(np.float32)
    learner, state = trained({"learner": "ensemble", "missing": "impute"}, x, Y[:40])
    wide, after = grown(learner, state, [49, -1, *range(49)], np.nan)  # 46 and 47 are the 49th and 50th now
    assert after.model.knots.shape == state.model.knots.shape == (48, RAMPS + 1)
    assert after.model.knots[2:].tobytes() == state.model.knots[:46].tobytes()
    assert np.isfinite(state.model.knots[:, :16]).all()
    assert np.isinf(after.model.knots[:2]).all()
    seen = 0
    parts = zip(learner.core.shapes, thetas(learner, state.model), thetas(wide, after.model), strict=True)
    for shape, theta, found in parts:
        if shape.units[0] > 50:
            (W, _), *_ = shape.with_units((51 + 48 * RAMPS, *shape.units[1:])).views(found)
            ((V, _), *_), seen = shape.views(theta), seen + 1
            assert not W[51 : 51 + 2 * RAMPS].any()
            assert W[51 + 2 * RAMPS :].tobytes() == V[50 : 50 + 46 * RAMPS].tobytes()
    assert seen == 2


def test_a_grown_model_resumes_from_its_tensors_and_merges() -> None:
    learner, state = trained({"learner": "ensemble", "missing": "indicate", "buffer_rows": 60})
    wide, after = grown(learner, state, [0, 1, -1, 2], np.nan)
    again = unflatten(initial(wide), {name: tensor.copy() for name, tensor in flatten(after).items()})
    x = RNG.normal(size=(40, 4)).astype(np.float32)
    one, other = (test_then_train(wide, each, [Batch(x, Y[:40])])[0] for each in (after, again))
    assert bits(one) == bits(other)
    parts = [loop.learn_part(wide, after, [Batch(x[cut], Y[cut])]) for cut in (slice(0, 10), slice(10, 40))]
    merged = loop.combine(wide, after, parts).model
    assert np.isfinite(wide.predict(merged, x)).all()
    assert int(merged.appended) == 200


def test_a_column_of_zeros_has_the_statistics_and_replayed_rows_of_one_that_was_always_there() -> None:
    options = {"learner": "ensemble", "missing": "impute", "buffer_rows": 100}
    wide_x = np.concatenate([X, np.zeros((len(X), 2), np.float32)], axis=1)
    _, always = trained(options, wide_x)
    learner, state = trained(options)
    _, after = grown(learner, state, [0, 1, 2, -1, -1], 0.0)
    expected, found = always.model, after.model
    for name in ("rows", "means", "squares", "ring", "appended", "drawn"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes(), name


def test_a_buffer_whose_rows_are_wider_keeps_the_newest() -> None:
    options = {"learner": "ensemble", "missing": "impute", "buffer_bytes": 8 * 5 * 100}
    learner, state = trained(options)
    wide, after = grown(learner, state, [0, 1, 2, -1, -1], np.nan)
    assert wide.capacity == 71
    kept = replay_buffer.latest(after.model, 100)
    assert kept.shape == (71, 7)
    assert np.array_equal(kept[:, :3], X[-71:])
    assert np.isnan(kept[:, 3:5]).all()
    assert np.array_equal(kept[:, 5], Y[-71:])


def test_two_new_columns_have_different_weights() -> None:
    learner, state = trained({"learner": "mlp", "missing": "impute"})
    wide, after = grown(learner, state, [0, 1, 2, -1, -1], np.nan)
    W, _ = wide.shape.views(after.model.theta)[0]
    assert not np.allclose(W[3], W[4])
    assert 0.1 < W[3:].std() < 2


def test_a_learner_without_growth_names_itself() -> None:
    class Fixed(Learner[Any]):
        def options(self) -> dict[str, Any]:
            return {"learner": "fixed"}

        def init(self) -> Any:
            return ()

        def predict(self, state: Any, x: Any) -> Any:
            return x

        def learn(self, state: Any, batch: Any) -> Any:
            return state, batch.x, 0

    with pytest.raises(ValueError, match="cannot add inputs to learner 'fixed'; train a new model"):
        Fixed().grow_inputs((), ColumnGrowth(1, np.array([0, -1]), np.zeros(2, np.float32)))
