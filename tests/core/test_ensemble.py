"""Steps of an ensemble: the reference's bits over shapes and options, and what must hold."""

from typing import Any

import core_reference as reference
import numpy as np
import pytest
from core_steps import learn, predict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streaming_nn.core import networks, structures
from streaming_nn.core.ensemble import RAMPS, Ensemble, EnsembleState, MemberOptions, Model
from streaming_nn.core.networks import Shape
from streaming_nn.core.sparse import SparseRows, concatenate

pytestmark = pytest.mark.commit

Array = NDArray[Any]

OPTIMIZERS = st.sampled_from([*structures.OPTIMIZERS, "adamw"])
RATES, EMPHASES = st.sampled_from([0.001, 0.1, 1.0]), st.sampled_from([0.0, 0.5, 1.0, 8.0])
PENALTIES = st.dictionaries(
    st.sampled_from(["weight_decay", "l1", "l2", "clip_value", "clip_norm"]),
    st.sampled_from([0.01, 0.5]),
    max_size=2,
)


def draw_ensemble(data: st.DataObject, scales: tuple[str, ...] = structures.SCALES) -> Ensemble:
    loss = data.draw(st.sampled_from(structures.LOSSES))
    columns, outputs = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4))
    missing, scale = (data.draw(st.sampled_from(each)) for each in (structures.MISSING, scales))
    capacity = data.draw(st.integers(0, 24))
    of_loss: dict[str, Any] = {}
    if loss == "quantile":
        of_loss["quantiles"] = tuple((k + 1) / (outputs + 1) for k in range(outputs))
    width, sees_ramps = columns * (2 if missing == "indicate" else 1), st.just(False)
    if capacity and scale != "sparse":
        sees_ramps = st.booleans()

    def draw_shape() -> Shape:
        inputs = width + (RAMPS * columns if data.draw(sees_ramps) else 0)
        units = (inputs, *data.draw(st.lists(st.integers(1, 9), max_size=2)), outputs)
        activation, skip = data.draw(st.sampled_from(structures.ACTIVATIONS)), data.draw(st.booleans())
        return Shape(units, activation, loss, skip, **of_loss)

    shapes = [draw_shape() for _ in range(data.draw(st.integers(1, 2)))]
    member = st.builds(MemberOptions, st.sampled_from(shapes), OPTIMIZERS, RATES, EMPHASES, PENALTIES)
    weights: list[Any] = [None]
    if loss == "softmax" or (loss == "logistic" and outputs == 1):
        classes = 2 if loss == "logistic" else outputs
        weights += ["balanced", "effective", tuple(0.5 * k for k in range(classes))]
    return Ensemble(
        tuple(data.draw(st.lists(member, min_size=1, max_size=3))),
        columns,
        scale=scale,
        missing=missing,
        clip=3.0,
        reach=data.draw(st.sampled_from([0.0, 2.0])),
        replay_rows=data.draw(st.integers(0, 4)),
        capacity=capacity,
        schedule=structures.schedule(data.draw(st.sampled_from(structures.SCHEDULES)), 3, rows=5),
        class_weight=data.draw(st.sampled_from(weights)),
        dropout=data.draw(st.sampled_from([0.0, 0.4])),
        point=data.draw(st.integers(0, outputs - 1)),
        seed=data.draw(st.integers(0, 2**64 - 1)),
    )


def initial(ensemble: Ensemble, seed: int = 0) -> Array:
    thetas = []
    for k, shape in enumerate(ensemble.shapes):
        theta = np.zeros(shape.parameters, np.float32)
        for layer, (W, b) in enumerate(shape.views(theta)):
            W[:] = networks.draw("normal", W.shape[0] ** -0.5, seed, k, layer, 0, W.shape)
            b[:] = networks.draw("uniform", 0.1, seed, k, layer, W.size, (1, len(b)))[0]
        thetas.append(theta)
    return np.concatenate(thetas)


def draw_rows(ensemble: Ensemble, rng: np.random.Generator, rows: int) -> tuple[Array, Array, Array]:
    shape = ensemble.shape
    x = rng.normal(size=(rows, ensemble.columns)) * 3 + 7
    x[rng.random(x.shape) < 0.1] = 0
    x[rng.random(x.shape) < 0.05] = -0.0
    if ensemble.missing != "refuse":
        x[rng.random(x.shape) < 0.2] = np.nan
    y: Array = rng.normal(size=(rows, shape.targets)) * 20 - 5
    if shape.loss == "softmax":
        y = rng.integers(0, shape.units[-1], (rows, 1))
    if shape.loss in ("logistic", "poisson"):
        y = rng.integers(0, 2, (rows, shape.targets))
    return x, y.astype(np.float64), rng.random(rows).astype(np.float32) * 2


def assert_same(ours: EnsembleState, theirs: EnsembleState) -> None:
    for name, array in ours._asdict().items():
        np.testing.assert_array_equal(array, getattr(theirs, name), err_msg=name)
        assert array.tobytes() == getattr(theirs, name).tobytes(), name


def learn_both(
    ensemble: Ensemble, steps: list[tuple[Array, Array, Array | None]], state: EnsembleState
) -> EnsembleState:
    """Learn steps by the core and by the reference, compare all bits; return the core's state."""
    start, theirs = initial(ensemble, 1), state.copy()
    with np.errstate(all="ignore"):
        for x, y, weight in steps:
            assert predict(ensemble, state, x).tobytes() == reference.predict(ensemble, theirs, x).tobytes()
            output, trained = learn(ensemble, state, x, y, weight, mini_batch=len(x), initial=start)
            expected, taken = reference.learn(ensemble, theirs, x, y, weight, start)
            np.testing.assert_array_equal(output, expected)
            assert output.tobytes() == expected.tobytes()
            assert trained.tolist() == [taken]
            assert_same(state, theirs)
    return state


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 2**20), wild=st.sampled_from([0, 0, 0, 1e20, np.inf, 3e38]))
def test_the_bits_are_those_of_the_reference(data: st.DataObject, seed: int, wild: float) -> None:
    ensemble, rng, steps = draw_ensemble(data), np.random.default_rng(seed), []
    for size in data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)):
        x, y, weight = draw_rows(ensemble, rng, size)
        if wild and rng.random() < 0.4:
            x[0, 0] = wild
        steps.append((x, y, weight if rng.random() < 0.5 else None))
    state = ensemble.init(initial(ensemble))
    state.correction[:1] = rng.normal(size=state.correction[:1].shape)
    state.boost[...] = data.draw(st.sampled_from([0.0, 1.0]))
    state.appended[...] = data.draw(st.sampled_from([0, 30, 4090])) if ensemble.capacity else 0
    learn_both(ensemble, steps, state)


def default_ensemble(shape: Shape, columns: int, **options: Any) -> Ensemble:
    members = [MemberOptions(shape, "sgd", rate) for rate in (0.003, 0.01, 0.03, 0.1, 0.2)]
    members += [
        MemberOptions(shape, "adam", rate, new)
        for rate, new in ((0.001, 1), (0.003, 1), (0.01, 1), (0.003, 8))
    ]
    seeing_ramps = shape.with_units((shape.units[0] + RAMPS * columns, *shape.units[1:]))
    members += [MemberOptions(seeing_ramps, "sgd", 0.03), MemberOptions(seeing_ramps, "adam", 0.003, 1)]
    given_options = {"reach": 10.0, "replay_rows": 32, "capacity": 5000} | options
    return Ensemble(tuple(members), columns, **given_options)


def by_entries(x: Array) -> SparseRows:
    rows, columns = np.nonzero(x)
    return SparseRows(np.searchsorted(rows, range(len(x) + 1)), columns, x[rows, columns], x.shape[1])


def learn_entries(ensemble: Ensemble, steps: list[tuple[Array, Array, Array | None]]) -> None:
    """Learn steps by entries, by arrays and by the reference, and compare all bits."""
    start = initial(ensemble, 1)
    state = ensemble.init(start)
    dense, theirs, model = state.copy(), state.copy(), Model(ensemble, state, start)
    with np.errstate(all="ignore"):
        for x, y, weight in steps:
            expected = reference.predict(ensemble, theirs, x)
            assert model.predict(by_entries(x)).tobytes() == expected.tobytes()
            output, trained = model.learn(by_entries(x), y, weight, mini_batch=len(x))
            learn(ensemble, dense, x, y, weight, mini_batch=len(x), initial=start)
            expected, taken = reference.learn(ensemble, theirs, x, y, weight, start)
            assert output.tobytes() == expected.tobytes()
            assert trained.tolist() == [taken]
            assert_same(state, theirs)
            assert_same(dense, theirs)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=15)
@given(data=st.data(), seed=st.integers(0, 2**20), wild=st.sampled_from([0, 0, 1e20, np.inf]))
def test_sparse_rows_have_the_bits_of_arrays_and_of_the_reference(
    data: st.DataObject, seed: int, wild: float
) -> None:
    ensemble, rng, steps = draw_ensemble(data, ("sparse",)), np.random.default_rng(seed), []
    for size in data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)):
        x, y, weight = draw_rows(ensemble, rng, size)
        x[rng.random(x.shape) < rng.choice([0.3, 0.9])] = rng.choice([0.0, -0.0])
        if wild and rng.random() < 0.4:
            x[0, 0] = wild
        steps.append((x, y, weight if rng.random() < 0.5 else None))
    learn_entries(ensemble, steps)


def test_sparse_rows_of_many_columns_have_the_bits_of_the_reference() -> None:
    shape = Shape((130, 4, 3), skip=True)
    members = (MemberOptions(shape, "sgd", 0.1), MemberOptions(shape, "adam", 0.01, 8.0))
    ensemble = Ensemble(members, 130, "sparse", reach=20.0, replay_rows=3, capacity=7)
    rng, steps = np.random.default_rng(0), []
    for size in (1, 2, 8, 3, 9, 1):  # the ring turns, also within a step
        x, y, _ = draw_rows(ensemble, rng, size)
        steps.append((np.where(rng.random(x.shape) < 0.97, 0, x), y, None))
    learn_entries(ensemble, steps)


def test_weights_of_inputs_that_are_0_rest_whatever_the_optimizer() -> None:
    for name in structures.OPTIMIZERS:
        member = MemberOptions(Shape((3, 2)), name, 0.1, options={"l2": 0.1})
        ensemble = Ensemble((member,), 3, scale="sparse")
        state = ensemble.init(initial(ensemble))
        ((W, _),) = ensemble.shape.views(state.theta)
        model = Model(ensemble, state)
        for used in (0, 1, 0, 0):
            before = W.copy()
            model.learn(np.eye(3)[[used]], np.zeros(1), mini_batch=1)
            assert [(W[k] != before[k]).any() for k in range(3)] == [k == used for k in range(3)]


def test_the_gradient_of_resting_weights_is_0_where_its_norm_is_clipped() -> None:
    member = MemberOptions(Shape((3, 2)), "momentum", 0.1, options={"l2": 0.1, "clip_norm": 0.01})
    ensemble = Ensemble((member,), 3, scale="sparse")
    steps = [(np.eye(3)[[used]] * 9, np.zeros(1), None) for used in (0, 1, 2, 0)]
    learn_entries(ensemble, [(x, y[:, None], weight) for x, y, weight in steps])


def test_slices_of_sparse_rows_are_rows_and_wrong_ones_are_one_line() -> None:
    x = np.random.default_rng(0).random((7, 5)) * (np.random.default_rng(1).random((7, 5)) < 0.3)
    rows = by_entries(x)
    for part in (slice(0, 3), slice(3, 7), slice(5, 99), slice(4, 2)):
        ours, theirs = rows[part], by_entries(x[part])
        assert ours.shape == x[part].shape
        for name in ("starts", "indices", "values"):
            assert getattr(ours, name).tolist() == getattr(theirs, name).tolist()
    assert concatenate([rows[:3], rows[3:]]).starts.tolist() == rows.starts.tolist()
    for starts, indices, values, error in (
        ([0, 1], [2], [1.0, 2.0], "values must be one per index"),
        ([0, 2, 1, 3], [0, 1, 2], [1.0] * 3, "starts must go from 0 upwards"),
        ([1, 2], [0, 1], [1.0] * 2, "starts must go from 0 upwards"),
        ([0, 3], [0, 1], [1.0] * 2, "starts must end at 2"),
        ([0, 1], [5], [1.0], r"indices must be in \[0, 5\)"),
        ([0, 1], [-1], [1.0], r"indices must be in \[0, 5\)"),
        ([0, 2, 3], [1, 1, 0], [1.0] * 3, "indices must ascend"),
    ):
        with pytest.raises(ValueError, match=error):
            SparseRows(starts, indices, values, 5)
    model = Model(*(lambda e: (e, e.init(initial(e))))(Ensemble((MemberOptions(Shape((5, 2))),), 5)))
    with pytest.raises(
        ValueError, match="sparse rows need scale 'sparse' and 5 columns; got 'standard' and 5"
    ):
        model.predict(rows)


def test_a_stretch_of_the_default_ensemble_has_the_bits_of_the_reference() -> None:
    ensemble, rng = default_ensemble(Shape((5, 24, 3), skip=True), 5, capacity=30), np.random.default_rng(0)
    steps = [draw_rows(ensemble, rng, size) for size in (1, 1, 2, 8, 3, 1, 16, 40, 60)]
    learn_both(ensemble, [(x, y, None) for x, y, _ in steps], ensemble.init(initial(ensemble)))


@pytest.mark.parametrize("name", [*structures.OPTIMIZERS, "adamw"])
@pytest.mark.parametrize("scale", ["none", "standard"])
def test_rows_that_are_mostly_zero_have_the_bits_of_the_reference(name: str, scale: str) -> None:
    shape, penalties = Shape((20, 9, 3), skip=True), {"l2": 0.1, "clip_value": 1.0}
    members = (MemberOptions(shape, name, 0.05), MemberOptions(shape, name, 0.01, 1.0, penalties))
    ensemble = Ensemble(members, 20, scale=scale, replay_rows=3, capacity=8, reach=10.0)
    rng, steps = np.random.default_rng(0), []
    for size in (1, 1, 4, 1, 6, 14):
        x, y, weight = draw_rows(ensemble, rng, size)
        x[:, rng.random(20) < 0.7] = 0
        x[:, 5] = -0.0
        x[:, 6:9] = 3
        steps.append((x, y, weight))
    learn_both(ensemble, steps, ensemble.init(initial(ensemble)))


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_how_calls_are_cut_at_mini_batches_does_not_matter(sizes: list[int]) -> None:
    ensemble, rng = default_ensemble(Shape((3, 8, 2)), 3, capacity=20), np.random.default_rng(1)
    start, size = initial(ensemble), 4
    x, y, weight = draw_rows(ensemble, rng, size * sum(sizes))
    whole, parts, at = ensemble.init(start), ensemble.init(start), 0
    output, _ = learn(ensemble, whole, x, y, weight, mini_batch=size, initial=start)
    outputs = []
    for count in sizes:
        end = at + count * size
        part = (np.ascontiguousarray(each[at:end]) for each in (x, y, weight))
        outputs.append(learn(ensemble, parts, *part, mini_batch=size, initial=start)[0])
        at = end
    assert_same(whole, parts)
    assert np.concatenate(outputs).tobytes() == output.tobytes()


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("wild", [1e3, 1e30])
@pytest.mark.parametrize("row", [0, 1, 4, 60])
def test_a_wild_value_does_not_scale_the_others_by_the_reference_too(
    row: int, wild: float, size: int
) -> None:
    ensemble = Ensemble((MemberOptions(Shape((2, 1), loss="huber"), "sgd", 0.01),), 2, reach=20.0)
    rng = np.random.default_rng(row)
    x, y, _ = draw_rows(ensemble, rng, 80)
    x[row, 0] = y[row] = wild
    steps = [(x[at : at + size], y[at : at + size], None) for at in range(0, 80, size)]
    state = learn_both(ensemble, steps, ensemble.init(initial(ensemble)))
    others = np.delete(np.column_stack([x, y]), row, axis=0)[3:].astype(np.float64)
    scaled = np.sqrt(np.append(state.squares / state.rows, state.targets[0, 2] / state.targets[0, 0]))
    np.testing.assert_allclose(scaled, others.std(axis=0), rtol=0.2)


def stream_of(*parts: Any) -> Array:
    return np.concatenate([np.broadcast_to(part, np.shape(part) or (1,)) for part in parts]).astype(float)


NORMAL = np.random.default_rng(5).normal(size=200)
COLUMNS = {
    "a constant that moves": (np.full(100, 5.0), NORMAL, 1.0),
    "a constant, a wild value, then it moves": (np.full(100, 5.0), 1e12, NORMAL, 1.0),
    "a sentinel for a stretch": (NORMAL, np.full(90, -999.0), NORMAL, 1.0),
    "a sentinel in a fifth of the rows": (
        np.where(np.arange(400) % 5 == 2, 1e9, np.resize(NORMAL, 400)),
        1.0,
    ),
    "a sentinel from the first row on": (np.where(np.arange(400) % 5 == 0, 1e9, np.resize(NORMAL, 400)), 1.0),
    "another unit": (NORMAL, NORMAL * 1e6, 1e6),
    "rare ones": (np.arange(400) % 50 == 7, np.sqrt(0.02 * 0.98)),
    "rare ones after a wild value": (0.0, 1e9, np.arange(400) % 50 == 7, np.sqrt(0.02 * 0.98)),
    "counts": (np.arange(400) % 50 // 47, 0.24),
}


@pytest.mark.parametrize(
    "size", [64, pytest.param(1, marks=pytest.mark.nightly), pytest.param(7, marks=pytest.mark.nightly)]
)
@pytest.mark.parametrize("name", COLUMNS)
def test_the_scale_of_a_column(name: str, size: int) -> None:
    *parts, expected = COLUMNS[name]
    x, ensemble = stream_of(*parts)[:, None], Ensemble((MemberOptions(Shape((1, 2))),), 1, reach=20.0)
    y = np.zeros((len(x), 1))
    steps = [(x[at : at + size], y[at : at + size], None) for at in range(0, len(x), size)]
    state = learn_both(ensemble, steps, ensemble.init(initial(ensemble)))
    ratio = np.sqrt(state.squares[0] / state.rows[0]) / expected
    assert 0.4 < ratio < 3


def test_values_that_are_not_far_have_the_moments_of_all() -> None:
    x = np.random.default_rng(1).normal(3, 2, (500, 3))
    ensemble = Ensemble((MemberOptions(Shape((3, 2))),), 3, reach=20.0)
    state, y = ensemble.init(initial(ensemble)), np.zeros(500)
    learn(ensemble, state, x, y, None, mini_batch=8, initial=initial(ensemble))
    np.testing.assert_allclose(state.rows, 500, atol=3)
    np.testing.assert_allclose(state.means, x.mean(axis=0), rtol=0.02)
    np.testing.assert_allclose(np.sqrt(state.squares / state.rows), x.std(axis=0), rtol=0.01)


def test_a_bound_model_has_the_bits_of_separate_calls_whatever_the_sizes() -> None:
    ensemble, rng = default_ensemble(Shape((3, 8, 2)), 3, capacity=20), np.random.default_rng(1)
    start = initial(ensemble)
    once, bound = ensemble.init(start), ensemble.init(start)
    model = Model(ensemble, bound, start)
    for size in (1, 7, 2, 60, 1):
        x, y, weight = draw_rows(ensemble, rng, size)
        expected = learn(ensemble, once, x, y, weight, mini_batch=size, initial=start)
        for ours, theirs in zip(model.learn(x, y, weight, mini_batch=size), expected, strict=True):
            assert ours.tobytes() == theirs.tobytes()
        assert model.predict(x).tobytes() == predict(ensemble, once, x).tobytes()
    assert_same(bound, once)


def test_a_step_predicts_what_predict_does() -> None:
    ensemble, rng = default_ensemble(Shape((3, 8, 2)), 3), np.random.default_rng(2)
    start = initial(ensemble)
    state = ensemble.init(start)
    for _ in range(5):
        x, y, weight = draw_rows(ensemble, rng, 70)
        predicted = predict(ensemble, state, x)
        output, _ = learn(ensemble, state, x, y, weight, mini_batch=70, initial=start)
        assert output.tobytes() == predicted.tobytes()


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize(
    ("x", "y", "weight"),
    [(np.nan, 0, 1), (np.inf, 0, 1), (-np.inf, 0, 1), (0, 2, 1), (0, -1, 1), (0, np.nan, 1), (0, 0, np.inf)],
)
def test_a_step_with_a_value_that_cannot_be_learned_changes_nothing(
    members: int, x: float, y: float, weight: float
) -> None:
    ensemble = Ensemble(
        (MemberOptions(Shape((2, 4, 2)), "adam", 0.1, 1.0),) * members, 2, replay_rows=3, capacity=4
    )
    start = initial(ensemble)
    state, rng = ensemble.init(start), np.random.default_rng(0)
    learn(ensemble, state, *draw_rows(ensemble, rng, 12), mini_batch=4, initial=start)
    before = state.copy()
    rows, truth, weights = draw_rows(ensemble, rng, 3)
    rows[1, 1] += x
    truth[1] = y
    weights[1] *= np.float32(weight)
    output, trained = learn(ensemble, state, rows, truth, weights, mini_batch=3, initial=start)
    assert not trained.any()
    assert_same(state, before)
    assert np.isfinite(output).all()


def test_a_network_alone_refuses_a_step_that_is_too_large_and_others_restart_it() -> None:
    x, y = np.ones((1, 1)), np.ones((1, 1))
    weight = np.full(1, 3e38, np.float32)
    for members in (1, 2):
        ensemble = Ensemble(
            (MemberOptions(Shape((1, 1), loss="poisson"), "sgd", 0.1),) * members, 1, scale="none"
        )
        start = np.full((members, ensemble.shape.parameters), 0.5, np.float32)
        start[-1] = 0.25 if members == 2 else 29  # a gradient of exp(29) times the weight
        start = start.ravel()
        state = ensemble.init(start)
        if members == 2:
            state.theta[len(state.theta) // 2 :] = 29
        _, trained = learn(
            ensemble, state, x, y, weight if members == 1 else None, mini_batch=1, initial=start
        )
        assert trained.tolist() == [members == 2]
        assert state.restarts.tolist() == ([0] if members == 1 else [0, 1])
    one, other = ensemble.layout.thetas(state.theta)
    assert one.tobytes() == other.tobytes()


def classes_stream(rows: int, columns: int = 6, classes: int = 3) -> tuple[Array, Array]:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(rows, columns))
    y = (x[:, :classes] + 0.3 * rng.normal(size=(rows, classes))).argmax(axis=1).astype(np.int32)
    return x * 3 + 5, y


def test_a_large_offset_does_not_hide_a_small_spread() -> None:
    x, y = classes_stream(1500)
    shifted = x + 1e12
    ensemble = default_ensemble(Shape((6, 16, 3), skip=True), 6)
    start, accuracies = initial(ensemble), []
    for rows in (x, shifted):
        outputs, _ = learn(ensemble, ensemble.init(start), rows, y, mini_batch=1, initial=start)
        accuracies.append((outputs.argmax(axis=1) == y)[500:].mean())
    assert accuracies[1] > accuracies[0] - 0.02


PAIR = MemberOptions(Shape((2, 2)))
SEEING_RAMPS = MemberOptions(Shape((2 + 2 * RAMPS, 2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": 3}, f"must have 3 or {3 + 3 * RAMPS} inputs; got 2"),
        ({"missing": "indicate"}, f"must have 4 or {4 + 2 * RAMPS} inputs; got 2"),
        ({"members": (PAIR, MemberOptions(Shape((2, 3))))}, "must have 2 outputs and loss 'softmax'; got 3"),
        (
            {"members": (PAIR, MemberOptions(Shape((2, 2), loss="logistic")))},
            "2 outputs and loss 'softmax'; got 2 and 'logistic'",
        ),
        ({"members": (SEEING_RAMPS,)}, "need a ring and another scale than 'sparse'; got scale 'standard'"),
        (
            {"members": (SEEING_RAMPS,), "scale": "sparse", "capacity": 9},
            "need a ring .*; got scale 'sparse'",
        ),
        ({"members": ()}, "at least one"),
        ({"class_weight": (1.0,)}, "one per class"),
        ({"point": 2}, "point must be an output"),
        ({"replay_rows": -1}, "replay_rows must be in"),
        ({"capacity": 2**31}, "capacity must be in"),
        ({"dropout": 1.0}, r"in \[0, 1\)"),
        ({"scale": "robust"}, "not in tuple"),
    ],
)
def test_other_options_are_refused(options: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {"members": (PAIR,), "columns": 2}
    with pytest.raises(ValueError, match=message):
        Ensemble(**(usual | options))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("theta", np.zeros(7, np.float32)),
        ("weights", np.zeros(1, np.float32)),
        ("ring", np.zeros((4, 4), np.float32)),
        ("appended", np.array(-1)),
        ("appended", np.array(2**62)),
        ("learned", np.array(-1)),
        ("drawn", np.zeros((), np.int64)),
        ("means", np.zeros(3)),
    ],
)
def test_a_state_that_does_not_fit_is_refused(name: str, array: Array) -> None:
    ensemble = Ensemble((MemberOptions(Shape((2, 2)), "adam"),), 2, capacity=4)
    start = initial(ensemble)
    state = ensemble.init(start)._replace(**{name: array})
    with pytest.raises(ValueError, match="must be"):
        predict(ensemble, state, np.zeros((1, 2)))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
@given(data=st.data(), seed=st.integers(0, 2**20), part=st.sampled_from([0.01, 0.3, 1.0]))
def test_any_state_is_survived(data: st.DataObject, seed: int, part: float) -> None:
    """Files may be damaged or made by others: whatever their bits are, no other memory is touched."""
    ensemble, rng = draw_ensemble(data), np.random.default_rng(seed)
    start = initial(ensemble)
    state = ensemble.init(start)
    for array in state:
        wild = rng.integers(0, 256, array.nbytes, np.uint8).view(array.dtype).reshape(array.shape)
        array[...] = np.where(rng.random(array.shape) < part, wild, array)
    for counter in (state.appended, state.learned):
        counter[...] = abs(int(counter)) % 2**62
    rows = draw_rows(ensemble, rng, 5)
    for _ in range(2):
        output, trained = learn(ensemble, state, *rows, mini_batch=3, initial=start)
        assert output.shape == predict(ensemble, state, rows[0]).shape
        assert trained.shape == (2,)


def differing(optimizers: tuple[str, ...], shapes: tuple[Shape, ...]) -> Ensemble:
    members = [MemberOptions(*each, 0.1) for each in zip(shapes, optimizers, strict=True)]
    return Ensemble(tuple(members), 3, capacity=9)


NARROW, WIDE, RAMPED = (Shape((inputs, units, 2)) for inputs, units in ((3, 4), (3, 9), (3 + 3 * RAMPS, 4)))


def test_members_are_one_after_the_other_in_the_vectors_that_their_optimizers_have() -> None:
    ensemble = differing(("sgd", "adam", "momentum", "sgd"), (NARROW, WIDE, RAMPED, Shape(NARROW.units)))
    assert ensemble.shapes[0] is ensemble.shapes[3]  # equal ones are one
    sizes = [shape.parameters for shape in ensemble.shapes]
    assert ensemble.layout.sizes == (sum(sizes), sizes[1] + sizes[2], sizes[1])
    state = ensemble.init(np.arange(sum(sizes), dtype=np.float32))
    for vector, parts, has in (
        (state.theta, ensemble.layout.thetas(state.theta), (0, 1, 2, 3)),
        (state.first, ensemble.layout.firsts(state.first), (1, 2)),
        (state.second, ensemble.layout.seconds(state.second), (1,)),
    ):
        found = [k for k, part in enumerate(parts) if part is not None]
        assert found == list(has)
        assert [len(parts[k]) for k in found] == [sizes[k] for k in found]
        assert np.concatenate([parts[k] for k in found]).tolist() == vector.tolist()
        assert all(np.shares_memory(parts[k], vector) for k in found)


@pytest.mark.parametrize("optimizer", ["adam", "ftrl"])
@pytest.mark.parametrize(
    ("bad", "sources"),
    [
        ([2], {2: 0}),  # the best of its shape, not the best of all
        ([0, 4], {0: 2, 4: 2}),
        ([1], {1: None}),  # the only one of its shape
        ([0, 2, 4], dict.fromkeys((0, 2, 4))),  # all of its shape
        ([0, 1, 2, 3, 4], dict.fromkeys(range(5))),
    ],
)
def test_a_member_that_diverges_restarts_as_the_best_of_its_shape(
    bad: list[int], sources: dict[int, int | None], optimizer: str
) -> None:
    ensemble, rng = (
        differing((optimizer,) * 5, (NARROW, WIDE, NARROW, RAMPED, NARROW)),
        np.random.default_rng(0),
    )
    start = initial(ensemble)
    state = ensemble.init(initial(ensemble, 1))
    learn(ensemble, state, *draw_rows(ensemble, rng, 40), mini_batch=4, initial=start)
    state.weights[:] = [0.2, 0.4, 0.05, 0.25, 0.1]
    for k in bad:
        ensemble.layout.thetas(state.theta)[k][0] = np.nan
    before = state.copy()
    learn(ensemble, state, *draw_rows(ensemble, rng, 2), mini_batch=2, initial=start)
    assert state.restarts.tolist() == [int(k in bad) for k in range(5)]
    layout = ensemble.layout
    thetas, initials = layout.thetas(state.theta), layout.thetas(start)
    firsts, seconds = layout.firsts(state.first), layout.seconds(state.second)
    for k in range(5):
        if k not in sources:
            assert thetas[k].tobytes() != layout.thetas(before.theta)[k].tobytes()  # it has learned
            assert np.isfinite(thetas[k]).all()
            continue
        best = sources[k]
        assert thetas[k].tobytes() == (initials[k] if best is None else thetas[best]).tobytes()
        expected = np.float32(1 / 0.1) * -thetas[k] if optimizer == "ftrl" else np.zeros_like(thetas[k])
        np.testing.assert_array_equal(firsts[k], expected)
        assert not np.any(seconds[k])
        assert state.powers[k].tolist() == [1, 1]


def test_no_rows_are_nothing() -> None:
    ensemble = Ensemble((MemberOptions(Shape((2, 2))),), 2)
    state = ensemble.init(initial(ensemble))
    before, none = state.copy(), np.zeros((0, 2))
    output, trained = learn(ensemble, state, none, none[:, :1], mini_batch=3, initial=state.theta)
    assert output.shape == predict(ensemble, state, none).shape == (0, 2)
    assert trained.shape == (0,)
    assert_same(state, before)


def test_a_rare_zero_without_a_sign_has_the_references_bits() -> None:
    """Rows of one column: 5 is near, 0 far; four rows and more count equal far values without adding each."""
    ensemble = Ensemble((MemberOptions(Shape((1, 2), "identity", "softmax"), "sgd", 0.1),), 1, reach=20.0)
    columns = [[5.0] * 8, [-0.0], [0.0, 5, 5, 5, 5]]
    steps = [(np.array(each)[:, None], np.zeros((len(each), 1)), None) for each in columns]
    learned = learn_both(ensemble, steps, ensemble.init(initial(ensemble)))
    assert learned.clusters[4].tobytes() == np.zeros(1).tobytes()
