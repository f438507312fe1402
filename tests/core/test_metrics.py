"""Metrics in the core: the reference's bits over shapes, sizes and wild values, and what is refused."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import metrics_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streaming_nn.core import library
from streaming_nn.core import metrics as core
from streaming_nn.nn import metrics
from streaming_nn.nn.state_dict import flatten

pytestmark = pytest.mark.commit

Array = NDArray[Any]
WILD = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1, 1 + 2**-23, 1e-30, 0.5], np.float32)


def assert_same(ours: Any, theirs: Any) -> None:
    expected = flatten(theirs)
    for name, array in flatten(ours).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
        assert array.tobytes() == expected[name].tobytes(), name


def of_classes(rng: np.random.Generator, rows: int, classes: int, wild: float) -> Iterator[Array]:
    yield rng.choice(classes, rows, p=rng.dirichlet(np.ones(classes))).astype(np.int32)
    for _ in range(2):
        p = rng.dirichlet(np.ones(classes) * 0.3, rows).astype(np.float32)
        p[rng.random(p.shape) < wild] = rng.choice(WILD)
        p[rng.random(rows) < wild] = 1 / classes
        yield p


def of_targets(rng: np.random.Generator, rows: int, wild: float) -> Iterator[Array]:
    y = rng.normal(rng.choice([0, 1e6]), rng.choice([0, 1, 1e3]), rows)
    y[rng.random(rows) < wild] = rng.choice([1e30, -3e38, 0])
    yield y
    for _ in range(2):
        p = (y + rng.normal(size=rows))[:, None]
        p[rng.random(p.shape) < wild] = rng.choice([np.nan, np.inf, -np.inf, 3e38])
        yield p


@settings(max_examples=60, deadline=None)
@given(
    classes=st.sampled_from([None, None, 1, 2, 3, 7, 10, 11, 16, 17, 40, 101]),
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    window=st.sampled_from([1, 2, 9, 64, 100]),
    fading=st.sampled_from([0.999, 0.9, 0.3, 1e-30]),
    wild=st.sampled_from([0.0, 0.0, 0.2]),
    seed=st.integers(0, 2**20),
)
def test_the_bits_are_those_of_the_reference(
    classes: int | None, sizes: list[int], window: int, fading: float, wild: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ours = theirs = metrics.init(classes, window, fading)
    with np.errstate(all="ignore"):
        for rows in sizes:
            y, *outputs = of_classes(rng, rows, classes, wild) if classes else of_targets(rng, rows, wild)
            ours = metrics.update(ours, y, *outputs)
            theirs = reference.measure(theirs, y, *outputs)
            assert_same(ours, theirs)


@pytest.fixture(params=library.runnable())
def variant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load each variant of the core in turn."""
    monkeypatch.setattr(library, "load", partial(library.load, request.param))


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("classes", [2, 10, 30, None])
def test_a_whole_block_has_the_bits_of_the_reference(classes: int | None) -> None:
    rng, start = np.random.default_rng(0), metrics.init(classes)
    rows = 500 if classes else 1500
    y, *outputs = of_classes(rng, rows, classes, 0.01) if classes else of_targets(rng, rows, 0.01)
    assert_same(metrics.update(start, y, *outputs), reference.measure(start, y, *outputs))


@pytest.mark.parametrize("classes", [3, 12, None])
def test_what_is_not_fading_has_the_same_bits_however_rows_are_cut(classes: int | None) -> None:
    rng, start = np.random.default_rng(1), metrics.init(classes, 20)
    columns = list(of_classes(rng, 150, classes, 0.05) if classes else of_targets(rng, 150, 0.05))
    whole, parts = metrics.update(start, *columns), start
    for at in (slice(0, 1), slice(1, 70), slice(70, 71), slice(71, 150)):
        parts = metrics.update(parts, *(column[at] for column in columns))
    assert_same(whole._replace(fading=()), parts._replace(fading=()))  # type: ignore[arg-type]


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("classes", [1, 2, 7, 8, 9, 15, 16, 17, 33, 100])
def test_of_equal_probabilities_the_first_is_predicted(classes: int) -> None:
    rng = np.random.default_rng(classes)
    p = rng.integers(0, 3, (200, classes)).astype(np.float32) / 2
    p[rng.random(p.shape) < 0.1] = -0.0
    ring = metrics.update(metrics.init(classes, 200), np.zeros(200, np.int32), p, p[:, ::-1]).window
    assert ring.predictions[0].tolist() == p.argmax(axis=1).tolist()
    assert ring.predictions[1].tolist() == p[:, ::-1].argmax(axis=1).tolist()


@given(seed=st.integers(0, 100), classes=st.integers(1, 7))
def test_the_majority_before_each_row(seed: int, classes: int) -> None:
    y = np.random.default_rng(seed).integers(0, classes, 100).astype(np.int32)
    p = np.ones((100, classes), np.float32)
    ring = metrics.update(metrics.init(classes, 100), y, p, p).window
    expected = [np.bincount(y[:i], minlength=classes).argmax() for i in range(100)]
    assert ring.predictions[2].tolist() == expected


@pytest.mark.parametrize("p", [0.0, 1e-30, 1e-7, 1.0, 1 + 2**-23])
@pytest.mark.parametrize("classes", [2, 5])
def test_probabilities_of_any_size_have_a_bin(classes: int, p: float) -> None:
    """The mean of members' probabilities can exceed 1 by its rounding."""
    output = np.full((1, classes), p, np.float32)
    state = metrics.update(metrics.init(classes), np.zeros(1, np.int32), output, output)
    last = state.scores.shape[3] - 1
    assert (state.window.scores[..., 0] == (last if p > 0.5 else 0)).all()
    assert state.scores[0, :, :, last if p > 0.5 else 0].tolist() == [[1] * classes] * 2


@pytest.mark.parametrize("wrong", [-1, 3, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("where", ["y", "the last row"])
def test_a_class_that_does_not_exist_is_refused_and_nothing_is_counted(wrong: int, where: str) -> None:
    y, p = np.zeros(5, np.int32), np.ones((5, 3), np.float32)
    state = metrics.update(metrics.init(3, 4), y, p, p)
    if where == "y":
        y[3] = wrong
    else:
        state.window.y[0] = wrong
    counted = reference.copied(state)
    with pytest.raises(ValueError, match=r"y must be class indices in \[0, 3\)"):
        core.measure_classes(counted, y, p, p)
    assert_same(counted, state)


def test_a_window_with_a_class_that_does_not_exist_has_no_report() -> None:
    y, p = np.zeros(5, np.int32), np.ones((5, 3), np.float32)
    state = metrics.update(metrics.init(3, 4), y, p, p)
    state.window.predictions[2, 1] = 7
    with pytest.raises(ValueError, match="class indices"):
        metrics.report(state)


def spoilt(state: metrics.Metrics, name: str, array: Array) -> metrics.Metrics:
    if name in metrics.Metrics._fields:
        return state._replace(**{name: array})
    group, field = name.split(".")
    return state._replace(**{group: getattr(state, group)._replace(**{field: array})})


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("rows", np.array(-1)),
        ("rows", np.array(2**62)),
        ("rows", np.array(0, np.int32)),
        ("window.y", np.zeros(3, np.int32)),
        ("window.y", np.zeros(0, np.int32)),
        ("window.predictions", np.zeros((4, 4), np.int64)),
        ("window.log_loss", np.zeros((2, 3), np.float32)),
        ("window.scores", np.zeros((2, 3, 3), np.uint8)),
        ("fading.actual", np.zeros(2)),
        ("cumulative.confusion", np.zeros((2, 3, 2))),
        ("cumulative.log_loss", np.zeros(3)),
        ("scores", np.zeros((2, 2, 3, 127), np.int64)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, array: Array) -> None:
    p = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="must be"):
        metrics.update(spoilt(metrics.init(3, 4), name, array), np.zeros(2, np.int32), p, p)


def test_scores_of_many_classes_are_refused() -> None:
    state, p = metrics.init(11, 4), np.ones((2, 11), np.float32)
    ring = state.window._replace(scores=np.zeros((2, 11, 4), np.uint8))
    state = state._replace(window=ring, scores=np.zeros((2, 2, 11, 128), np.int64))
    with pytest.raises(ValueError, match="up to 10 classes; got 11"):
        metrics.update(state, np.zeros(2, np.int32), p, p)


def test_other_shapes_of_predictions_are_refused() -> None:
    p = np.ones((2, 3), np.float32)
    for output, served in ((p[:, :2], p), (p, p[:1])):
        with pytest.raises(ValueError, match="must be float32"):
            metrics.update(metrics.init(3), np.zeros(2, np.int32), output, served)


def test_losses_of_no_rows_and_of_classes_that_do_not_exist() -> None:
    p = np.ones((2, 3), np.float32)
    assert metrics.step_losses(metrics.init(3), np.zeros(0, np.int32), p[:0], 5).shape == (2, 0)
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match="class indices"):
            metrics.step_losses(metrics.init(3), np.array([0, wrong]), p, 1)
    for other in (metrics.init(3), metrics.init(None)):
        with pytest.raises(ValueError, match="size must be >= 1; got 0"):
            metrics.step_losses(other, np.zeros(2, np.int32), p, 0)
