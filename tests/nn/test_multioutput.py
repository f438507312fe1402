from typing import Any

import numpy as np
import pytest
from sklearn import metrics as oracle

from streaming_nn.nn import metrics, multioutput
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, grow, initial, test_then_train
from streaming_nn.nn.multioutput import MultiMetrics
from streaming_nn.nn.state_dict import flatten

pytestmark = pytest.mark.commit

WINDOW, FADING, ROWS = 20, 0.9, 50
SPANS = {
    "window": (slice(ROWS - WINDOW, ROWS), np.ones(WINDOW)),
    "fading": (slice(0, ROWS), FADING ** np.arange(ROWS - 1, -1, -1.0)),
    "cumulative": (slice(0, ROWS), np.ones(ROWS)),
}


def of_targets(seed: int = 0, targets: int = 3) -> list[np.ndarray]:
    """Return truth, predictions, and predictions as served (rows, targets)."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(ROWS, targets)) * 10.0 ** np.arange(targets)
    return [y, *(y + rng.normal(size=(2, ROWS, targets)))]


def of_labels(seed: int = 0, labels: int = 4) -> list[np.ndarray]:
    """Return truth and probabilities (rows, labels); the last label never applies, nor is it predicted."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, (ROWS, labels)).astype(np.int32)
    p = np.clip(y * 0.4 + rng.uniform(0, 0.6, (2, ROWS, labels)), 0, 1).astype(np.float32)
    y[:, -1], p[:, :, -1] = 0, 0.1
    return [y, *p]


def counted(columns: list[np.ndarray], multilabel: bool, cuts: tuple[int, ...] = (7, 8, 31)) -> Any:
    state: Any = multioutput.init(columns[0].shape[1], multilabel, WINDOW, FADING)
    for part in zip(*(np.split(each, cuts) for each in columns), strict=True):
        state = multioutput.update(state, *part)
    return state


def scores(report: dict[str, Any], name: str) -> Any:
    return report.get(name) or report["baselines"][name]


def test_targets_have_scikit_learns_means() -> None:
    y, output, served = of_targets()
    report = multioutput.report(counted([y, output, served], False))
    truth = y.astype(np.float64)
    means = np.array([truth[:i].mean(axis=0) if i else np.zeros(3) for i in range(ROWS)])
    last = np.concatenate([np.zeros((1, 3)), truth[:-1]])
    predictions = {"prequential": output, "as_served": served, "mean": means, "no_change": last}
    assert report["rows"] == ROWS
    for span, (at, weight) in SPANS.items():
        for name, prediction in predictions.items():
            got, args = scores(report, name)[span], (truth[at], prediction[at], weight)
            assert got["mae"] == pytest.approx(oracle.mean_absolute_error(*args[:2], sample_weight=weight))
            rmse = oracle.root_mean_squared_error(*args[:2], sample_weight=weight)
            assert got["rmse"] == pytest.approx(rmse)
            assert got["r2"] == pytest.approx(oracle.r2_score(*args[:2], sample_weight=weight))
            each = oracle.mean_absolute_error(*args[:2], sample_weight=weight, multioutput="raw_values")
            assert got["per_target"]["mae"] == pytest.approx(each)


def test_labels_have_scikit_learns_figures() -> None:
    y, output, served = of_labels()
    report = multioutput.report(counted([y, output, served], True))
    majority = np.array([2 * y[:i].sum(axis=0) > i for i in range(ROWS)])
    last = np.concatenate([np.zeros((1, 4), np.int32), y[:-1]])
    predictions = {
        "prequential": output > 0.5,
        "as_served": served > 0.5,
        "majority_class": majority,
        "no_change": last,
    }
    for span, (at, weight) in SPANS.items():
        for name, prediction in predictions.items():
            got, args = scores(report, name)[span], (y[at], prediction[at].astype(np.int32))
            exact = oracle.accuracy_score(*args, sample_weight=weight)
            assert got["subset_accuracy"] == pytest.approx(exact), (span, name)
            assert got["hamming_loss"] == pytest.approx(oracle.hamming_loss(*args, sample_weight=weight))
            for average in ("micro", "macro"):
                expected = oracle.precision_recall_fscore_support(
                    *args, average=average, sample_weight=weight, zero_division=0
                )
                names = [f"{rate}_{average}" for rate in ("precision", "recall", "f1")]
                assert [got[each] for each in names] == pytest.approx(expected[:3])
            f1 = oracle.f1_score(*args, average=None, sample_weight=weight, zero_division=0)
            assert [each or 0.0 for each in got["per_label"]["f1"]] == pytest.approx(f1)
            assert got["per_label"]["f1"][-1] is None
        losses = [
            oracle.log_loss(y[at, i], output[at, i], sample_weight=weight, labels=[0, 1]) for i in range(4)
        ]
        assert report["prequential"][span]["log_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    areas = [oracle.roc_auc_score(y[:, i], output[:, i]) for i in range(3)]
    assert report["prequential"]["cumulative"]["roc_auc"] == pytest.approx(np.mean(areas), abs=0.01)
    assert report["prequential"]["cumulative"]["per_label"]["roc_auc"][-1] is None


def test_before_the_first_row_figures_are_undefined() -> None:
    for multilabel in (False, True):
        report = multioutput.report(multioutput.init(2, multilabel))
        assert set(report["prequential"]["window"].values()) == {None}


@pytest.mark.parametrize("multilabel", [False, True])
def test_each_is_measured_as_it_is_alone(multilabel: bool) -> None:
    columns = of_labels() if multilabel else of_targets()
    state = counted(columns, multilabel)
    for i in range(columns[0].shape[1]):
        alone: Any = metrics.init(2 if multilabel else None, WINDOW, FADING)
        y, *outputs = (each[:, i] for each in columns)
        wide = [np.stack([1 - p, p], axis=1) if multilabel else p[:, None] for p in outputs]
        for part in zip(*(np.split(each, (7, 8, 31)) for each in (y, *wide)), strict=True):
            alone = metrics.update(alone, *part)
        for name, tensor in flatten(alone).items():
            np.testing.assert_array_equal(flatten(state.each)[name][i], tensor)


def test_steps_losses_are_the_means_of_targets() -> None:
    columns = of_targets()
    state = counted([each[:30] for each in columns], False)
    y, output = (each[30:] for each in columns[:2])
    each = [
        metrics.step_losses(part, y[:, i], output[:, i : i + 1], 8)
        for i, part in enumerate(multioutput._parts(state.each))
    ]
    losses = multioutput.step_losses(state, y, output, 8)
    np.testing.assert_allclose(losses, np.mean(each, axis=0), rtol=1e-15)
    assert losses[1].tolist() == [8, 8, 4]


@pytest.mark.parametrize("multilabel", [False, True])
def test_merged_tasks_count_as_their_rows_interleaved(multilabel: bool) -> None:
    columns = of_labels() if multilabel else of_targets()
    start = counted([each[:10] for each in columns], multilabel, (4,))
    tasks = [[each[10 + i :: 2] for each in columns] for i in (0, 1)]
    merged: Any = multioutput.merge(start, [multioutput.update(start, *task) for task in tasks])
    whole: Any = multioutput.update(start, *(each[10:] for each in columns))
    for state in (merged, whole):
        assert state.each.rows.tolist() == [ROWS] * columns[0].shape[1]
    for who in ("prequential", "as_served"):
        for span in SPANS:
            got, expected = multioutput.report(merged)[who][span], multioutput.report(whole)[who][span]
            for name, value in expected.items():
                if not name.startswith("per_"):
                    assert got[name] == pytest.approx(value, rel=1e-9, abs=0.1 if span == "fading" else 0), (
                        name
                    )
    if multilabel:
        assert merged.exact.cumulative.correct[:2].tolist() == whole.exact.cumulative.correct[:2].tolist()
        same = merged.exact.window.predictions[:2] == whole.exact.window.predictions[:2]
        assert same.all()


def test_a_new_label_has_applied_to_no_row_so_far() -> None:
    y, output, served = of_labels()
    absent = np.zeros((ROWS, 1))
    grown = multioutput.grow(counted([y, output, served], True), 5)
    direct = counted(
        [np.append(each, absent, axis=1).astype(each.dtype) for each in (y, output, served)], True
    )
    assert isinstance(grown, MultiMetrics)
    for name, tensor in flatten(direct).items():
        np.testing.assert_allclose(flatten(grown)[name], tensor, rtol=1e-6, err_msg=name)


def test_scores_of_labels_are_counted_up_to_ten_of_them() -> None:
    y, output, served = of_labels(labels=10)
    state = counted([y, output, served], True)
    assert state.each.scores.shape == (10, 2, 2, 2, 256)
    grown: Any = multioutput.grow(state, 11)
    assert grown.each.scores.shape == (11, 2, 2, 0, 256)
    assert {k: v.shape for k, v in flatten(grown).items()} == {
        k: v.shape for k, v in flatten(multioutput.init(11, True, WINDOW)).items()
    }
    assert multioutput.report(grown)["prequential"]["window"]["roc_auc"] is None


ALONE: dict[str, Any] = {"optimizer": "sgd", "inputs": 4, "hidden": [], "initializer": 0.0, "mini_batch": 8}


def rows_of(columns: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 4))
    return x, x @ rng.normal(size=(4, columns))


@pytest.mark.parametrize("loss", ["squared", "absolute", "huber", "poisson"])
def test_targets_of_a_linear_model_are_learned_as_each_is_alone(loss: str) -> None:
    x, y = rows_of(3)
    y = np.abs(y) if loss == "poisson" else y
    learner = learner_from({**ALONE, "loss": loss, "targets": ["a", "b", "c"]})
    together, _ = test_then_train(learner, initial(learner), [Batch(x, y)])
    output = learner.predict(together.model, x)
    assert output.shape == (40, 3)
    alone = learner_from({**ALONE, "loss": loss})
    for i in range(3):
        state, _ = test_then_train(alone, initial(alone), [Batch(x, y[:, i])])
        np.testing.assert_array_equal(alone.predict(state.model, x)[:, 0], output[:, i])


def test_labels_of_a_linear_model_are_learned_as_each_is_alone() -> None:
    x, y = rows_of(3)
    y = (y > 0).astype(np.int32)
    learner = learner_from({**ALONE, "classes": ["a", "b", "c"], "multilabel": True})
    together, _ = test_then_train(learner, initial(learner), [Batch(x, y)])
    output = learner.predict(together.model, x)
    alone = learner_from({**ALONE, "loss": "logistic", "classes": [0, 1]})
    for i in range(3):
        state, _ = test_then_train(alone, initial(alone), [Batch(x, y[:, i])])
        np.testing.assert_array_equal(alone.predict(state.model, x)[:, 1], output[:, i])


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam"}])
def test_rows_in_pieces_give_the_same_bits(options: dict[str, Any]) -> None:
    x, y = rows_of(2)
    common = {"inputs": 4, "hidden": [8], "mini_batch": 4, "drift": "adwin", **options}
    for outputs in ({"targets": ["a", "b"]}, {"classes": ["a", "b"], "multilabel": True}):
        learner = learner_from({**common, **outputs})
        of_y = y if "targets" in outputs else (y > 0).astype(np.int32)
        whole, counts = test_then_train(learner, initial(learner), [Batch(x, of_y)])
        pieces = [Batch(x[i : i + 7], of_y[i : i + 7]) for i in range(0, 40, 7)]
        cut, _ = test_then_train(learner, initial(learner), pieces)
        assert counts.trained == 40
        for name, tensor in flatten(whole).items():
            np.testing.assert_array_equal(flatten(cut)[name], tensor, err_msg=name)


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam", "learning_rate": 0.03}])
def test_a_model_of_labels_gets_another_label(options: dict[str, Any]) -> None:
    x, y = rows_of(2)
    y = (y > 0).astype(np.int32)
    few: dict[str, Any] = {"inputs": 4, "hidden": [8], "mini_batch": 4, "multilabel": True, **options}
    learner = learner_from({**few, "classes": ["a", "b"]})
    more = learner_from({**few, "classes": ["a", "b", "c"]})
    state, _ = test_then_train(learner, initial(learner), [Batch(x, y)])
    grown = grow(more, state)
    before, after = learner.predict(state.model, x), more.predict(grown.model, x)
    np.testing.assert_array_equal(after[:, :2], before)
    wide = np.append(y, y[:, :1], axis=1)
    for _ in range(5):
        grown, counts = test_then_train(more, grown, [Batch(x, wide)])
        assert counts.trained == 40
    learned = more.predict(grown.model, x)[:, 2] > 0.5
    assert (learned == wide[:, 2]).mean() > 0.8
    if not options:
        assert set(np.unique(grown.model.ring[:, 4:7]).tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"targets": []}, r"targets must be one or more names, all different; got \(\)"),
        ({"targets": ["a", "a"]}, "targets must be one or more names, all different"),
        ({"targets": "ab"}, "targets must be a list of names; got 'ab'"),
        ({"targets": ["a"], "classes": [0, 1]}, "targets must be left out with classes"),
        ({"multilabel": True}, "classes must be the labels with multilabel; got none"),
        ({"multilabel": 1, "classes": [0, 1]}, "multilabel must be true or false; got 1"),
        (
            {"multilabel": True, "classes": [0, 1], "class_weight": "balanced"},
            "class_weight must be left out with multilabel; got 'balanced'",
        ),
        (
            {"learner": "mlp", "multilabel": True, "classes": [0, 1], "loss": "softmax"},
            "loss must be 'logistic' with multilabel; got 'softmax'",
        ),
        (
            {"learner": "mlp", "targets": ["a"], "loss": "quantile"},
            "targets must be left out with loss 'quantile'",
        ),
    ],
)
def test_an_option_that_does_not_fit_is_refused_in_one_line(options: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=f"^{error}"):
        learner_from({"inputs": 2, **options})


@pytest.mark.parametrize(
    ("outputs", "y", "error"),
    [
        ({"targets": ["a", "b"]}, np.zeros(3), r"y must be \(3, 2\), a column per target; got \(3,\)"),
        (
            {"classes": ["a", "b"], "multilabel": True},
            np.zeros((3, 3), int),
            r"y must be \(3, 2\), a column per label; got \(3, 3\)",
        ),
        (
            {"classes": ["a", "b"], "multilabel": True},
            np.full((3, 2), 2),
            r"y must be class indices in \[0, 2\)",
        ),
        ({}, np.zeros((3, 1)), r"y must be \(3,\), one value per row of x; got \(3, 1\)"),
    ],
)
def test_a_y_of_another_shape_is_refused(outputs: dict[str, Any], y: np.ndarray, error: str) -> None:
    learner = learner_from({"inputs": 2, **outputs})
    with pytest.raises(ValueError, match=f"^{error}"):
        test_then_train(learner, initial(learner), [Batch(np.zeros((3, 2)), y)])


def test_right_rows_fade_by_the_written_arithmetic() -> None:
    y, output, served = of_labels()
    right, rows = [0.0] * 4, 0.0
    majority = np.array([2 * y[:i].sum(axis=0) > i for i in range(ROWS)])
    last = np.concatenate([np.zeros((1, 4), np.int32), y[:-1]])
    for block in np.split(np.arange(ROWS), (7, 8, 31)):
        weights = [1.0]
        for _ in block:
            weights.append(weights[-1] * FADING)
        right, rows = [each * weights[-1] for each in right], rows * weights[-1]
        for i, weight in zip(block, weights[-2::-1], strict=True):
            rows += weight
            for k, p in enumerate((output > 0.5, served > 0.5, majority, last)):
                right[k] += weight * (p[i] == y[i]).all()
    exact = counted([y, output, served], True).exact
    assert exact.fading.correct.tolist() == right
    assert exact.fading.actual.tolist() == [rows]
