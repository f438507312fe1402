"""Members of other shapes, inputs and initializers beside each other: each is what it is alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from each_member import thetas, vectors

from streaming_nn.core.ensemble import RAMPS, EnsembleState
from streaming_nn.nn import learner as loop
from streaming_nn.nn import members, state_dict
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.factory import given, learner_from
from streaming_nn.nn.learner import Batch, initial, test_then_train

pytestmark = pytest.mark.commit

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, size=(150, 3))
X[::9, 1] = np.nan
Y = ((X[:, 0] - 3) * (X[:, 2] - 3) > 0).astype(np.int32) + (X[:, 2] > 5)
TARGETS = X[:, 0] * X[:, 2] + 100
MEMBERS: list[dict[str, Any]] = [
    {"optimizer": "sgd", "learning_rate": 0.05, "hidden": (5,)},
    {"optimizer": "adam", "learning_rate": 0.01, "replay": 1, "hidden": (9, 3), "activation": "tanh"},
    {"optimizer": "ftrl", "learning_rate": 0.1, "hidden": (), "inputs": "ramps"},
    {"optimizer": "adam", "learning_rate": 0.003, "replay": 8, "hidden": (5,), "inputs": "ramps"},
    {"optimizer": "momentum", "learning_rate": 0.01, "hidden": (4,), "linear": False, "initializer": 0.1},
]
SMALL: dict[str, Any] = {"replay_rows": 5, "buffer_rows": 40, "mini_batch": 4, "missing": "impute"}
CLASSIFIER = Ensemble(3, ("a", "b", "c"), members=[*MEMBERS, {**MEMBERS[0], "focal_gamma": 2.0}], **SMALL)
REGRESSOR = Ensemble(3, members=[*MEMBERS, {**MEMBERS[0], "huber_delta": 0.3}], **SMALL)
BOTH = pytest.mark.parametrize("learner", [CLASSIFIER, REGRESSOR], ids=["classes", "targets"])


def rows(learner: Ensemble, at: slice) -> Batch:
    return Batch(X[at], (Y if learner.classes else TARGETS)[at])


def after(learner: Ensemble, at: slice, state: EnsembleState | None = None) -> EnsembleState:
    learned, _, trained = learner.learn(learner.copy(state or learner.init()), rows(learner, at))
    assert trained == len(Y[at])
    return learned


def alone(learner: Ensemble, member: int) -> Ensemble:
    return replace(learner, members=[learner.described[member]])


def part_of(learner: Ensemble, state: EnsembleState, member: int) -> EnsembleState:
    """Return a state of a member alone: its part of the vectors, and what all share."""
    of_member = {name: vectors(learner, state, name)[member] for name in ("theta", "first", "second")}
    none = np.zeros(0, np.float32)
    sees_ramps = learner.described[member]["inputs"] == "ramps"
    return state._replace(
        **{name: none if part is None else part for name, part in of_member.items()},
        powers=state.powers[[member]],
        restarts=state.restarts[[member]],
        weights=np.ones(1),
        exponents=np.zeros(0),
        correction=np.zeros(0),
        knots=state.knots if sees_ramps else state.knots[:0],
    ).copy()


def assert_parts(learner: Ensemble, state: EnsembleState, expected: list[EnsembleState]) -> None:
    """Check that each member of the state is, to the bit, the one of a state of it alone."""
    for member, theirs in enumerate(expected):
        for name, array in part_of(learner, state, member)._asdict().items():
            assert array.tobytes() == getattr(theirs, name).tobytes(), (member, name)


@BOTH
def test_each_learns_as_it_does_alone_and_predictions_are_mixed_by_weights(learner: Ensemble) -> None:
    state, singles = learner.init(), [alone(learner, k) for k in range(6)]
    each = [part_of(learner, state, k) for k in range(6)]
    for start in range(0, 140, 4):
        batch = rows(learner, slice(start, start + 4))
        weights, exponents = state.weights.copy(), state.exponents.copy()
        state, output, _ = learner.learn(state, batch)
        found = [single.learn(one, batch) for single, one in zip(singles, each, strict=True)]
        each = [one for one, _, _ in found]
        owns = np.stack([own for _, own, _ in found])
        mixed = np.tensordot(weights, owns, 1)
        if learner.classes:
            powers = (np.maximum(owns, 1e-4) ** exponents[:, None, None]).prod(axis=0)
            mixed = (mixed + powers / powers.sum(axis=1, keepdims=True)) / 2
        np.testing.assert_allclose(output, mixed, rtol=1e-4, atol=1e-6)
    assert_parts(learner, state, each)
    assert np.isfinite(state.knots[:, :16]).all()
    assert len({theta.tobytes() for theta in thetas(learner, state)}) == 6
    assert len(set(state.weights.tolist())) == 6


@BOTH
def test_each_is_drawn_by_its_own_shape_and_initializers(learner: Ensemble) -> None:
    others = replace(learner, members=[*learner.described[:1], *learner.described[2:]])
    ours, theirs = (thetas(each, each.init()) for each in (learner, others))
    assert (
        ours[0].tobytes()
        == theirs[0].tobytes()
        == thetas(alone(learner, 0), alone(learner, 0).init())[0].tobytes()
    )
    W, _ = learner.core.shapes[4].views(ours[4])[0]
    assert set(W.ravel().tolist()) == {float(np.float32(0.1))}


@BOTH
@pytest.mark.parametrize(("first", "second", "third"), [(20, 28, 39), (40, 44, 52), (20, 60, 70)])
def test_each_is_merged_as_alone(learner: Ensemble, first: int, second: int, third: int) -> None:
    start = after(learner, slice(first))
    parts = [after(learner, cut, start) for cut in (slice(first, second), slice(second, third))]
    counts = [second - first, third - second]
    merged = learner.merge(start, parts, counts)
    expected = [
        alone(learner, k).merge(
            part_of(learner, start, k), [part_of(learner, part, k) for part in parts], counts
        )
        for k in range(6)
    ]
    assert_parts(learner, merged, expected)


def test_each_gets_new_classes_as_alone() -> None:
    state = after(CLASSIFIER, slice(100))
    wider = replace(CLASSIFIER, classes=("a", "b", "c", "d", "e"))
    grown = wider.grow(state, 3)
    assert_parts(wider, grown, [alone(wider, k).grow(part_of(CLASSIFIER, state, k), 3) for k in range(6)])
    for shape, theta in zip(wider.core.shapes, thetas(wider, grown), strict=True):
        *_, (W, b) = shape.views(theta)
        assert b[3:].tolist() == [b[:3].min()] * 2
        assert b[:3].any()
        assert not W[:, 3:].any()
        assert not shape.linear_view(theta)[:, 3:].any()
    x, y = X[:64] + 20, np.full(64, 4, np.int32)
    for _ in range(10):
        grown, _, _ = wider.learn(grown, Batch(x, y))
    assert (wider.predict(grown, x).argmax(axis=1) == 4).mean() > 0.9


WEIGHTS = np.array([0.15, 0.3, 0.1, 0.1, 0.05, 0.3])
TWINS = replace(  # members 0, 2, 5 have one shape, and 1 and 4
    CLASSIFIER,
    members=[MEMBERS[0], MEMBERS[1], {**MEMBERS[0], "learning_rate": 0.01}, *MEMBERS[2:0:-1], MEMBERS[0]],
)


@pytest.mark.parametrize(
    ("on_drift", "sources"),
    [("restart", {2: 5, 3: None, 4: 1}), ("fresh", {4: None})],
)
def test_a_drift_restarts_members_as_the_best_of_their_shape(
    on_drift: str, sources: dict[int, int | None]
) -> None:
    learner = replace(TWINS, on_drift=on_drift)
    state = after(learner, slice(60))._replace(weights=WEIGHTS)
    reacted = learner.react(state)
    check_restarts(learner, reacted, state, sources)


def test_a_merge_restarts_members_as_the_best_of_their_shape() -> None:
    start = after(TWINS, slice(60))._replace(weights=WEIGHTS)
    broken = [start._replace(restarts=np.array(each)) for each in ([1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1])]
    merged = TWINS.merge(start, broken, [1, 1])
    check_restarts(TWINS, merged, TWINS.merge(start, [start, start], [1, 1]), {0: 2, 3: None, 5: 2})


def check_restarts(
    learner: Ensemble, after: EnsembleState, before: EnsembleState, sources: dict[int, int | None]
) -> None:
    """Check that the members restarted from the others `sources`, None: from scratch."""
    assert (after.restarts - before.restarts).tolist() == [int(k in sources) for k in range(6)]
    was, now, drawn = (thetas(learner, each) for each in (before, after, learner.init()))
    for member in range(6):
        first, second = (vectors(learner, after, name)[member] for name in ("first", "second"))
        if member not in sources:
            ours, theirs = (part_of(learner, each, member) for each in (after, before))
            assert all(a.tobytes() == b.tobytes() for a, b in zip(ours, theirs, strict=True))
            continue
        source = sources[member]
        assert now[member].tobytes() == (drawn[member] if source is None else was[source]).tobytes()
        assert after.powers[member].tolist() == [1, 1]
        assert second is None or not second.any()
        if first is not None:
            ftrl = learner.described[member]["optimizer"] == "ftrl"
            expected = -now[member] * np.float32(1 / 0.1) if ftrl else np.zeros_like(now[member])
            np.testing.assert_array_equal(first, expected)


@BOTH
def test_a_mixed_ensemble_resumes_from_its_manifest_and_tensors_with_the_same_bits(learner: Ensemble) -> None:
    state, _ = test_then_train(learner, initial(learner), [rows(learner, slice(100))])
    again: Any = learner_from(learner.options())
    assert again == learner
    assert again.described == learner.described
    read = loop.load_state(again, {name: each.copy() for name, each in state_dict.flatten(state).items()})
    one, other = (
        test_then_train(learner, each, [rows(learner, slice(100, 150))])[0] for each in (state, read)
    )
    for name, array in state_dict.flatten(one).items():
        assert array.tobytes() == state_dict.flatten(other)[name].tobytes(), name


def test_the_default_members_see_ramps_but_of_sparse_rows() -> None:
    dense, sparse = Ensemble(3, ("a", "b")), Ensemble(3, ("a", "b"), scale="sparse")
    plain = len(sparse.described)
    assert [member["inputs"] for member in dense.described] == ["plain"] * plain + ["ramps"] * 2
    assert dense.described[:plain] == sparse.described
    names = [each["member"] for each in dense.describe_members(dense.init())]
    assert names[plain:] == ["sgd 0.03, ramps", "adam 0.003, replay 4:1, ramps"]
    assert [shape.units[0] for shape in dense.core.shapes] == [3] * plain + [3 + 3 * RAMPS] * 2
    for learner in (dense, sparse):
        assert "members" not in given(learner.options())
        again: Any = learner_from(learner.options())
        assert (again.members, again) == (None, learner)
    without = learner_from({**dense.options(), "members": sparse.options()["members"]})
    assert (
        given(without.options())["members"] == sparse.options()["members"]
    )  # those of a version from before
    with pytest.raises(
        ValueError, match=r"^inputs of members must be 'plain' with scale 'sparse'; got 'ramps'$"
    ):
        Ensemble(3, members=members.default(True), scale="sparse")


def test_ramps_help_where_the_target_is_no_smooth_function_of_a_column() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, (2000, 2))
    y, errors = 10 * np.floor(x[:, 0]) % 20 + x[:, 1], []
    for ramps in (True, False):
        learner = Ensemble(2, members=members.default(True, ramps), mini_batch=8)
        state, _ = test_then_train(learner, initial(learner), [Batch(x, y)])
        errors.append(loop.report(learner, state)["prequential"]["window"]["mae"])
    assert errors[0] < 0.8 * errors[1]
