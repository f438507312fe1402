import json
from collections.abc import Iterator
from typing import Any

import drift_reference
import metrics_reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from streaming_nn.core import metrics as core
from streaming_nn.nn import metrics
from streaming_nn.nn.averaging import interleave
from streaming_nn.nn.metrics import Metrics

pytestmark = pytest.mark.commit

WINDOW, FADING = 20, 0.9
SPANS = ("window", "fading", "cumulative")


def probabilities(rng: np.random.Generator, rows: int, classes: int) -> np.ndarray:
    p = rng.dirichlet(np.ones(classes) * 0.3, rows).astype(np.float32)
    return p / p.sum(axis=1, keepdims=True)


def counted(classes: int | None, cuts: list[int], *columns: np.ndarray) -> Metrics:
    state = metrics.init(classes, WINDOW, FADING)
    for parts in zip(*(np.split(column, sorted(cuts)) for column in columns), strict=True):
        state = metrics.update(state, *parts)
    return state


def spans(rows: int) -> Iterator[tuple[str, slice, np.ndarray]]:
    """Yield each span's name, its rows, and their weight."""
    yield "window", slice(max(0, rows - WINDOW), rows), np.ones(min(rows, WINDOW))
    yield "fading", slice(0, rows), FADING ** np.arange(rows - 1, -1, -1.0)
    yield "cumulative", slice(0, rows), np.ones(rows)


def majority(y: np.ndarray, classes: int) -> np.ndarray:
    return np.array([np.bincount(y[:i], minlength=classes).argmax() for i in range(len(y))])


def last(y: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], y[:-1]]).astype(y.dtype)


def rates(y: np.ndarray, prediction: np.ndarray, weight: np.ndarray, reference: float) -> dict[str, float]:
    """Scikit-learn's figures for these predictions."""
    figures = {"accuracy": oracle.accuracy_score(y, prediction, sample_weight=weight)}
    present = np.unique(y)
    recalls = [np.average(prediction[y == c] == c, weights=weight[y == c]) for c in present]
    figures["balanced_accuracy"] = np.mean(recalls)
    for average in ("macro", "weighted"):
        three = oracle.precision_recall_fscore_support(
            y, prediction, average=average, sample_weight=weight, zero_division=0
        )
        names = (f"precision_{average}", f"recall_{average}", f"f1_{average}")
        figures |= dict(zip(names, three[:3], strict=True))
    if len(set(y) | set(prediction)) > 1:
        figures["kappa"] = oracle.cohen_kappa_score(y, prediction, sample_weight=weight)
    figures["mcc"] = None
    if len(present) > 1 and len(set(prediction)) > 1:
        figures["mcc"] = oracle.matthews_corrcoef(y, prediction, sample_weight=weight)
    if reference < 1:
        figures["kappa_temporal"] = (figures["accuracy"] - reference) / (1 - reference)
    return figures


@settings(max_examples=5, deadline=None)
@given(
    classes=st.integers(2, 6),
    rows=st.integers(1, 60),
    seed=st.integers(0, 1000),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_classification_is_that_of_scikit_learn(classes: int, rows: int, seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    y = rng.choice(classes, rows, p=rng.dirichlet(np.ones(classes))).astype(np.int32)
    output, served = probabilities(rng, rows, classes), probabilities(rng, rows, classes)
    report = metrics.report(counted(classes, cuts, y, output, served))
    assert report["rows"] == rows
    predictions = {
        "prequential": output.argmax(axis=1),
        "as_served": served.argmax(axis=1),
        "majority_class": majority(y, classes),
        "no_change": last(y),
    }
    for span, at, weight in spans(rows):
        reference = oracle.accuracy_score(y[at], predictions["no_change"][at], sample_weight=weight)
        for name, prediction in predictions.items():
            got = (report.get(name) or report["baselines"][name])[span]
            for figure, value in rates(y[at], prediction[at], weight, reference).items():
                assert got[figure] == pytest.approx(value, abs=1e-9), (name, span, figure)
        for name, p in (("prequential", output), ("as_served", served)):
            got = report[name][span]
            loss = oracle.log_loss(y[at], p[at], sample_weight=weight, labels=range(classes))
            assert got["log_loss"] == pytest.approx(loss, rel=1e-5)
            prediction = predictions[name][at]
            table = oracle.confusion_matrix(y[at], prediction, labels=range(classes), sample_weight=weight)
            np.testing.assert_allclose(got["confusion"], table, atol=1e-9)
            each = oracle.precision_recall_fscore_support(
                y[at], prediction, labels=range(classes), sample_weight=weight, zero_division=0
            )
            for figure, values in zip(("precision", "recall", "f1"), each[:3], strict=True):
                rates_of = [0 if rate is None else rate for rate in got["per_class"][figure]]
                np.testing.assert_allclose(rates_of, values, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 60),
    seed=st.integers(0, 1000),
    origin=st.sampled_from([0.0, 1e4]),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_regression_is_that_of_scikit_learn(rows: int, seed: int, origin: float, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    y = (origin + rng.normal(size=rows)).astype(np.float32)
    output, served = (y[:, None] + rng.normal(size=(2, rows, 1)) * [[[0.3]], [[2]]]).astype(np.float32)
    report = metrics.report(counted(None, cuts, y, output, served))
    truth = y.astype(np.float64)
    predictions = {
        "prequential": output[:, 0],
        "as_served": served[:, 0],
        "mean": np.array([truth[:i].mean() if i else 0.0 for i in range(rows)]),
        "no_change": last(truth),
    }
    for span, at, weight in spans(rows):
        for name, prediction in predictions.items():
            got = (report.get(name) or report["baselines"][name])[span]
            mae = oracle.mean_absolute_error(truth[at], prediction[at], sample_weight=weight)
            mse = oracle.mean_squared_error(truth[at], prediction[at], sample_weight=weight)
            assert got["mae"] == pytest.approx(mae, rel=1e-6)
            assert got["rmse"] == pytest.approx(mse**0.5, rel=1e-6)
            if len(truth[at]) > 1:
                r2 = oracle.r2_score(truth[at], prediction[at], sample_weight=weight)
                assert got["r2"] == (pytest.approx(r2, rel=1e-5, abs=1e-5) if r2 > -1e6 else None)


def test_more_than_100_classes_have_no_confusion_matrix() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 101, 500).astype(np.int32), probabilities(rng, 500, 101)
    state = counted(101, [200], y, p, p)
    assert state.cumulative.confusion.shape == (2, 0, 0)  # type: ignore[union-attr]
    total = metrics.report(state)["prequential"]["cumulative"]
    assert not {"confusion", "per_class"} & total.keys()
    assert total["accuracy"] == pytest.approx(oracle.accuracy_score(y, p.argmax(axis=1)))
    expected = oracle.f1_score(y, p.argmax(axis=1), average="macro", zero_division=0)
    assert total["f1_macro"] == pytest.approx(expected)


@pytest.mark.parametrize("classes", [3, None])
def test_before_any_row_the_figures_are_null(classes: int | None) -> None:
    report = metrics.report(metrics.init(classes, WINDOW, FADING))
    assert report["rows"] == 0
    for span in SPANS:
        assert set(report["prequential"][span].values()) == {None}
        assert set(report["baselines"]["no_change"][span].values()) == {None}


@pytest.mark.parametrize("classes", [3, None])
def test_a_report_is_strict_json(classes: int | None) -> None:
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 3, 50), probabilities(rng, 50, 3)
    report = metrics.report(counted(classes, [7], y, p, p))
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_where_a_figure_is_undefined_it_is_null() -> None:
    sure = np.tile(np.array([[1, 0]], np.float32), (5, 1))
    total = metrics.report(counted(2, [], np.zeros(5, np.int32), sure, sure))["prequential"]["cumulative"]
    assert (total["accuracy"], total["balanced_accuracy"], total["f1_macro"]) == (1, 1, 1)
    for undefined in ("kappa", "kappa_temporal", "mcc", "roc_auc", "average_precision"):
        assert total[undefined] is None, undefined
    assert total["per_class"] == {"precision": [1, None], "recall": [1, None], "f1": [1, None]}


def ranked(y: np.ndarray, scores: np.ndarray) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Return the figures of class 1, and scikit-learn's of the worst order in each bin, this and the best."""
    p = np.stack([1 - scores, scores], axis=1)
    bins = metrics_reference.bins_of(p[:, 1], core.BINS_OF_TWO)
    untied = bins + 1e-4 * np.arange(len(y)) / len(y)
    orders = (untied - 0.25 * y, scores, untied + 0.25 * y)
    found = metrics.report(counted(2, [len(y) // 3], y, p, p))["prequential"]["cumulative"]
    exact = {
        "roc_auc": [oracle.roc_auc_score(y, order) for order in orders],
        "average_precision": [oracle.average_precision_score(y, order) for order in orders],
    }
    return {name: found[name] for name in exact}, exact


def of_logits(logits: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(2, 300),
    seed=st.integers(0, 1000),
    spread=st.sampled_from([0.01, 0.3, 3.0, 30.0]),
    middle=st.sampled_from([-9.0, 0.0, 4.0]),
    values=st.sampled_from([0, 1, 2, 7]),
)
def test_ranking_lies_between_the_best_and_the_worst_order_in_each_bin(
    rows: int, seed: int, spread: float, middle: float, values: int
) -> None:
    """`values` different scores, so that many tie as exactly equal; 0: all differ."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(rows) < rng.integers(1, rows)).astype(np.int32)
    of = rng.integers(0, min(values, rows), rows) if values else np.arange(rows)
    scores = of_logits(middle + spread * (rng.normal(size=rows)[of] + y * (not values)))
    ours, exact = ranked(y, scores)
    for name, (worst, exactly, best) in exact.items():
        assert worst - 0.011 <= ours[name] <= best + 0.011, name  # a mean over ranks is taken as an integral
        if name == "roc_auc":
            assert abs(ours[name] - exactly) <= (best - worst) / 2 + 1e-9


@pytest.mark.parametrize("distance", [0.5, 2.0])
@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("share", [0.5, 0.001])
def test_ranking_is_that_of_scikit_learn(share: float, spread: float, distance: float) -> None:
    # river#354, river#1953: 1 positive in 1,000
    rng = np.random.default_rng(0)
    y = (rng.random(50_000) < share).astype(np.int32)
    logits = np.log(share / (1 - share)) + spread * (rng.normal(size=len(y)) + distance * y)
    ours, exact = ranked(y, of_logits(logits))
    for name in exact:
        assert ours[name] == pytest.approx(exact[name][1], abs=0.01), name


def test_equal_scores_rank_like_chance() -> None:
    y = np.array([0, 1] * 500, np.int32)
    ours, _ = ranked(y, np.full(1000, 0.3, np.float32))
    assert ours["roc_auc"] == 0.5
    assert ours["average_precision"] == pytest.approx(0.5, abs=0.001)


@given(rows=st.integers(1, 60), seed=st.integers(0, 100), classes=st.integers(3, 10))
@settings(max_examples=15, deadline=None)
def test_of_several_classes_each_is_ranked_against_the_rest(rows: int, seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, classes - 1, rows).astype(np.int32), probabilities(rng, rows, classes)
    bins = metrics_reference.bins_of(p, core.BINS_OF_MORE)
    state = counted(classes, [rows // 2], y, p, p)
    report = metrics.report(state)["as_served"]
    for span, at, _ in spans(rows):
        if span != "fading":
            present = [c for c in set(y[at]) if len(set(y[at])) > 1]
            exact = [oracle.roc_auc_score(y[at] == c, bins[at, c]) for c in present]
            expected = pytest.approx(np.mean(exact)) if exact else None
            assert report[span]["roc_auc"] == expected
    assert state.scores[1].sum() == 2 * rows
    assert state.scores[0].sum() == 2 * rows * classes


@pytest.mark.parametrize("classes", [2, 3, 10, 11, 100])
def test_scores_take_few_bytes_and_end_with_many_classes(classes: int) -> None:
    state = metrics.init(classes)
    size = state.scores.nbytes + state.window.scores.nbytes
    assert size <= (61_000 if classes <= core.SCORED_CLASSES else 0) + 20_000 * (classes == 2) or not size
    p = probabilities(np.random.default_rng(0), 50, classes)
    report = metrics.report(metrics.update(state, np.arange(50) % classes, p, p))
    assert (report["prequential"]["window"]["roc_auc"] is None) == (classes > core.SCORED_CLASSES)


DEGENERATE = {  # targets and predictions of a regression; classes and probabilities
    "no rows": (np.zeros(0), np.zeros(0), np.zeros(0, int), np.zeros((0, 2))),
    "one row": (np.ones(1), np.zeros(1), np.zeros(1, int), np.array([[0.3, 0.7]])),
    # scikit-learn operon#15: r2 = -1.8e29
    "constant": (np.full(4000, 7), np.full(4000, 6.9), np.ones(4000, int), np.full((4000, 2), 0.5)),
    "constant, huge": (np.full(4000, 1e30), np.ones(4000), np.ones(4000, int), np.ones((4000, 2))),
    "zeros": (np.zeros(4000), np.full(4000, 1e-9), np.zeros(4000, int), np.zeros((4000, 2))),
    "constant at last": (
        np.r_[np.arange(500) % 9, np.full(40_000, 7.1)],
        np.full(40_500, 7),
        np.r_[np.arange(500) % 2, np.ones(40_000, int)],
        np.full((40_500, 2), 0.5),
    ),
    "zeros at last": (
        np.r_[np.arange(500) % 9, np.zeros(40_000)],
        np.full(40_500, 0.01),
        np.r_[np.arange(500) % 2, np.zeros(40_000, int)],
        np.full((40_500, 2), 0.5),
    ),
    "not finite": (np.full(100, np.nan), np.ones(100), np.zeros(100, int), np.full((100, 2), np.nan)),
    "sure and wrong": (np.arange(99), np.full(99, np.inf), np.arange(99) % 2, np.tile([[1, 0]], (99, 1))),
}


def figures(report: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(report, dict):
        for name, value in report.items():
            yield from figures(value, f"{path}.{name}")
    elif isinstance(report, list):
        for value in report:
            yield from figures(value, path)
    else:
        yield path, report


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("classes", [2, None])
def test_figures_are_of_sensible_size_or_null(name: str, classes: int | None) -> None:
    targets, predictions, indices, p = DEGENERATE[name]
    p, size = p.astype(np.float32), len(targets)
    y, output = (indices, p) if classes else (targets.astype(np.float32), np.float32(predictions)[:, None])
    start = metrics.init(classes, WINDOW, 0.999)
    with np.errstate(invalid="ignore"):
        whole = metrics.update(start, y, output, output)
        parts = [metrics.update(start, y[i::2], output[i::2], output[i::2]) for i in (0, 1)]
    for state in (whole, metrics.merge(start, parts)):
        report = metrics.report(state)
        json.dumps(report, allow_nan=False)
        for path, value in figures(report):
            kind = path.split(".")[-1]
            if value is not None and kind not in ("rows", "confusion", "mae", "rmse"):
                assert -1e6 <= value <= 16, (path, value)
            if kind == "r2" and name.startswith(("no rows", "one row", "constant, huge", "zeros", "not")):
                assert value is None or size > 4000, path
            if kind in ("kappa", "mcc", "roc_auc") and name in ("one row", "constant", "zeros"):
                assert value is None or kind == "kappa", path


def test_probabilities_that_are_not_finite_count_as_wrong_and_poison_nothing() -> None:
    bad = np.array([[np.nan, np.nan], [np.inf, 0.5], [0.1, 0.9]], np.float32)
    state = counted(2, [], np.array([1, 0, 1], np.int32), bad, bad)
    total = metrics.report(state)["as_served"]["cumulative"]
    assert total["accuracy"] == pytest.approx(1 / 3)
    worst = -np.log(np.finfo(np.float32).eps)
    assert total["log_loss"] == pytest.approx((2 * worst - np.log(0.9)) / 3, rel=1e-5)


def test_targets_that_are_not_finite_are_not_counted() -> None:
    y = np.array([1.0, np.nan, 3.0, np.inf, 5.0], np.float32)
    output = np.array([[0.0], [0.0], [np.nan], [0.0], [4.0]], np.float32)
    report = metrics.report(counted(None, [3], y, output, output))
    assert report["rows"] == 3
    assert report["prequential"]["cumulative"]["mae"] == pytest.approx(
        (1 + 2 + 1) / 3
    )  # 2: the mean so far was 1
    assert report["baselines"]["no_change"]["cumulative"]["mae"] == pytest.approx((1 + 2 + 2) / 3)


def test_update_is_pure() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 3, 50).astype(np.int32), probabilities(rng, 50, 3)
    state = counted(3, [], y, p, p)
    before: Any = json.dumps(metrics.report(state))
    metrics.update(state, y, p, p)
    assert json.dumps(metrics.report(state)) == before


def parts_of(start: Metrics, classes: int | None, rows: list[int]) -> tuple[list[Metrics], list[Any]]:
    """Count other rows in each task from a common start; return their metrics, and the rows."""
    rng = np.random.default_rng(7)
    columns = []
    for count in rows:
        if classes:
            columns.append((rng.integers(0, classes, count), *(probabilities(rng, count, classes),) * 2))
        else:
            y = rng.normal(5, 2, count)
            columns.append((y, (y + rng.normal(size=count))[:, None], np.full((count, 1), 4.0)))
    return [metrics.update(start, *column) for column in columns], columns


@pytest.mark.parametrize("classes", [3, None])
@given(rows=st.lists(st.integers(0, 40), min_size=1, max_size=4), before=st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_several_tasks_count_what_one_would(classes: int | None, rows: list[int], before: int) -> None:
    start = metrics.init(classes, WINDOW, FADING)
    start = metrics.update(start, *parts_of(start, classes, [before])[1][0])
    parts, columns = parts_of(start, classes, rows)
    merged = metrics.merge(start, parts)
    order = interleave(rows, sum(rows))
    inorder = [np.array([columns[t][c][r] for t, r in order]) for c in range(3)]
    whole = metrics.update(start, *inorder) if sum(rows) else start
    assert int(merged.rows) == int(whole.rows) == before + sum(rows)
    for name in merged.cumulative._fields:
        ours, one = getattr(merged.cumulative, name), getattr(whole.cumulative, name)
        pick = slice(0, 2) if name in ("predicted", "correct", "absolute", "squared") else slice(None)
        if ours.ndim:  # baselines differ: each task saw other rows before
            ours, one = ours[pick], one[pick]
        np.testing.assert_allclose(ours, one, rtol=1e-7, atol=1e-7, err_msg=name)
    np.testing.assert_array_equal(merged.window.y, whole.window.y)
    np.testing.assert_array_equal(merged.window.predictions[:2], whole.window.predictions[:2])
    np.testing.assert_array_equal(merged.window.scores, whole.window.scores)
    np.testing.assert_array_equal(merged.scores, whole.scores)
    weigh = [m.fading.weight if classes is None else m.fading.actual.sum() for m in (merged, whole)]
    np.testing.assert_allclose(*weigh, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("classes", [3, 101, None])
@given(
    rows=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    before=st.integers(0, 30),
    fading=st.sampled_from([0.999, 0.9, 0.1]),
)
@settings(max_examples=15, deadline=None)
def test_merged_sums_have_the_bits_of_the_reference(
    classes: int | None, rows: list[int], before: int, fading: float
) -> None:
    start = metrics.init(classes, WINDOW, fading)
    start = metrics.update(start, *parts_of(start, classes, [before])[1][0])
    parts, _ = parts_of(start, classes, rows)
    merged = metrics.merge(start, parts)
    expected = metrics_reference.merge(start, parts) if sum(rows) else (start.fading, start.cumulative)
    for ours, theirs in zip((merged.fading, merged.cumulative), expected, strict=True):
        for name, array in ours._asdict().items():
            assert array.tobytes() == getattr(theirs, name).tobytes(), name


@pytest.mark.parametrize("left", [1.0, 0.9, 0.999**100])
@pytest.mark.parametrize("seed", range(20))
def test_sums_of_targets_are_taken_apart_and_added_in_the_order_of_the_reference(
    seed: int, left: float
) -> None:
    rng = np.random.default_rng(seed)

    def draw(rows: float, squares: float) -> metrics.TargetSums:
        three = (rows * rng.uniform(1, 2), rng.uniform(-10, 10), squares * rng.uniform(1, 2))
        return metrics.TargetSums(*map(np.array, three), *rng.uniform(0, 100, (2, 4)))

    start, now = draw(50, 1e3), draw(150, 4e4)
    new = metrics.since(now, start, left)
    both = metrics._add(start, new, left)
    expected = metrics_reference.added_by(now, start, left)
    for ours, theirs in ((new, expected), (both, metrics_reference.added(start, expected, left))):
        for name, array in ours._asdict().items():
            assert array.tobytes() == getattr(theirs, name).tobytes(), name


def test_one_averaged_task_fades_like_a_sequential_one() -> None:
    start = metrics.init(3, WINDOW, FADING)
    (part,), _ = parts_of(start, 3, [33])
    merged = metrics.merge(start, [part, start])
    np.testing.assert_allclose(merged.fading.actual, part.fading.actual, rtol=1e-9)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (1, 3), (3, 5), (2, 3), (2, 10), (10, 11), (11, 12)])
def test_new_classes_have_no_counts_and_old_ones_keep_theirs(before: int, after: int) -> None:
    start = metrics.init(before, WINDOW, FADING)
    (part,), columns = parts_of(start, before, [33])
    wider = metrics.grow(part, after)
    y, output, _ = columns[0]
    padded = [np.pad(output, [(0, 0), (0, after - before)])] * 2
    direct = metrics.update(metrics.init(after, WINDOW, FADING), y, *padded)
    for ours, fresh in zip(wider.cumulative, direct.cumulative, strict=True):
        np.testing.assert_allclose(ours, fresh)
    np.testing.assert_array_equal(wider.scores, direct.scores)
    np.testing.assert_array_equal(wider.window.scores, direct.window.scores)
    assert metrics.report(wider)["prequential"] == metrics.report(direct)["prequential"]


@pytest.mark.parametrize("classes", [3, None])
@given(rows=st.integers(1, 60), size=st.integers(1, 70), before=st.integers(0, 30), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_losses_of_steps_have_the_bits_of_the_reference(
    classes: int | None, rows: int, size: int, before: int, seed: int
) -> None:
    start = metrics.init(classes, WINDOW, FADING)
    state = metrics.update(start, *parts_of(start, classes, [before])[1][0])
    _, ((y, output, _),) = parts_of(state, classes, [rows])
    output = output.astype(np.float32)
    wild = np.random.default_rng(seed).random(output.shape)
    for least, value in ((0.5, 0), (0.6, 1 + 2**-23), (0.7, np.nan), (0.8, np.inf)):
        output[(wild > least) & (wild < least + 0.1)] = value
    if classes is None:
        y = y.astype(np.float32)
        y[::13], y[5::17] = np.nan, np.inf
    sums: Any = state.cumulative
    moments = None if classes else (float(sums.weight), float(sums.m2))
    with np.errstate(invalid="ignore"):
        losses = metrics.step_losses(state, y, output, size)
    expected = drift_reference.step_losses(y, output, size, moments)
    assert losses.tobytes() == np.array(expected, np.float64).tobytes()
    assert losses[1].sum() == rows
    assert (losses[0] <= 10 * losses[1]).all()
