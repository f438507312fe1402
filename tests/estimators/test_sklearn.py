import subprocess
import sys
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from each_member import thetas
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from streaming_nn.estimators.river import RiverClassifier
from streaming_nn.estimators.sklearn import OnlineClassifier, OnlineRegressor, load
from streaming_nn.nn import metrics
from streaming_nn.nn.factory import LEARNERS, learner_from
from streaming_nn.nn.learner import Batch, initial, report, test_then_train
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.reasons import FROM_DATES
from streaming_nn.versions.version import state_digest
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

X, DIGITS = load_digits(return_X_y=True)
XD, TARGETS = load_diabetes(return_X_y=True)
SMALL: dict[str, Any] = {"learner": "mlp", "hidden": (8,), "mini_batch": 8}

WEIGHTS = "a weight scales a row's gradient; a duplicate row is scaled, predicted and learned twice"
ONE_PASS = "one small network sees 200 rows once, in mini-batches of 32: seven steps; the ensemble passes"
EXPECTED = {
    "ensemble": {
        "check_sample_weight_equivalence_on_dense_data": WEIGHTS,
        "check_sample_weight_equivalence_on_sparse_data": WEIGHTS,
    },
    "mlp": {
        "check_class_weight_classifiers": ONE_PASS,
        "check_sample_weight_equivalence_on_dense_data": WEIGHTS,
        "check_sample_weight_equivalence_on_sparse_data": WEIGHTS,
        "check_classifiers_train": ONE_PASS,
        "check_regressors_train": ONE_PASS,
    },
}


@parametrize_with_checks(
    [kind(learner) for kind in (OnlineClassifier, OnlineRegressor) for learner in EXPECTED],
    expected_failed_checks=lambda estimator: EXPECTED[estimator.learner],
    xfail_strict=True,
)
def test_scikit_learn_s_own_checks_pass(estimator: Any, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    close = estimator_checks.assert_allclose_dense_sparse

    def as_close_as_floats_are(x: Any, y: Any, rtol: float = 1e-7, **rest: Any) -> None:
        # scikit-learn's tolerance is one for float64. Probabilities here are float32, and the position of a
        # row in a product decides, on some of OpenBLAS's kernels, in which order its last bit is added up.
        single = any(np.asarray(predictions).dtype == np.float32 for predictions in (x, y))
        close(x, y, rtol=max(rtol, 1e-6) if single else rtol, **rest)

    monkeypatch.setattr(estimator_checks, "assert_allclose_dense_sparse", as_close_as_floats_are)
    check(estimator)


def test_missing_values_are_allowed_where_the_learner_imputes_them() -> None:
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
    estimator = OnlineClassifier(missing="impute").fit(holes, DIGITS)
    assert estimator.score(holes, DIGITS) > 0.7
    with pytest.raises(ValueError, match="Input X contains NaN"):
        OnlineClassifier().fit(holes, DIGITS)


def test_all_quantiles_are_predicted() -> None:
    quantiles = (0.1, 0.5, 0.9)
    estimator = OnlineRegressor("mlp", loss="quantile", quantiles=quantiles, mini_batch=4)
    predictions = estimator.test_then_train(XD, TARGETS)
    three = estimator.predict_quantiles(XD)
    assert predictions.shape == (len(XD),)
    assert three.shape == (len(XD), 3)
    assert estimator.predict(XD).tolist() == three[:, 1].tolist()
    below = [(three[:, i] >= TARGETS).mean() for i in range(3)]
    assert below[0] < 0.3 < below[1] < 0.7 < below[2]


def bits(state: Any) -> dict[str, bytes]:
    return {name: tensor.tobytes() for name, tensor in flatten(state).items()}


def chunks(rows: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, rows, size)]


@pytest.mark.parametrize("name", LEARNERS)
def test_it_learns_to_the_bit_what_a_stream_learns(name: str) -> None:
    learner = learner_from({"learner": name, "inputs": 64, "classes": list(range(10)), "seed": 3})
    state, estimator = initial(learner), OnlineClassifier(name, random_state=3)
    for rows in chunks(500, 100):
        state, _ = test_then_train(learner, state, [Batch(X[rows], DIGITS[rows])])
        estimator.partial_fit(X[rows], DIGITS[rows], classes=range(10))
    assert estimator.learner_ == learner
    assert bits(estimator.state_) == bits(state)


@pytest.mark.parametrize("mini_batch", [None, 1, 100])
def test_the_predictions_of_test_then_train_are_those_that_the_metrics_count(mini_batch: int | None) -> None:
    testing, learning = OnlineClassifier(), OnlineClassifier(mini_batch=mini_batch or 32)
    for rows in chunks(400, 200):
        predictions = testing.test_then_train(X[rows], DIGITS[rows], classes=range(10), mini_batch=mini_batch)
        learning.partial_fit(X[rows], DIGITS[rows], classes=range(10))
        assert learning.state_.metrics.window.predictions[0, rows].tolist() == predictions.tolist()
    a, b = flatten(testing.state_), flatten(learning.state_)
    assert a.keys() == b.keys()
    for tensor in a:
        np.testing.assert_array_equal(a[tensor], b[tensor], tensor)


def test_a_regressor_predicts_before_it_learns_too() -> None:
    testing, learning = OnlineRegressor(), OnlineRegressor()
    predictions = testing.test_then_train(XD, TARGETS)
    learning.partial_fit(XD, TARGETS)
    assert bits(testing.state_) == bits(learning.state_)
    error = (predictions - TARGETS.astype(np.float32))[-1000:]
    assert testing.loss_ == pytest.approx(float(np.mean(error**2)), rel=1e-5)


def test_loss_is_the_window_of_the_metrics() -> None:
    estimator = OnlineClassifier(window=100).fit(X[:300], DIGITS[:300])
    figures = metrics.report(estimator.state_.metrics)
    assert estimator.loss_ == figures["prequential"]["window"]["log_loss"]


def test_fit_starts_from_scratch_and_learns_once() -> None:
    once = OnlineClassifier(**SMALL).fit(X[:200], DIGITS[:200])
    again = OnlineClassifier(**SMALL).fit(X[200:], DIGITS[200:]).fit(X[:200], DIGITS[:200])
    assert bits(once.state_) == bits(again.state_)
    assert once.state_.metrics.rows == 200


def test_random_state_is_the_seed() -> None:
    def weights(random_state: Any) -> bytes:
        fitted = OnlineClassifier(**SMALL, random_state=random_state).fit(X[:50], DIGITS[:50])
        return bits(fitted.state_)["model.theta"]

    assert weights(1) == weights(1) != weights(2)
    assert weights(np.random.RandomState(5)) == weights(np.random.RandomState(5))


@pytest.mark.parametrize("labels", [list("abc"), [3, 1, 2], [1.0, 0.0, 2.0], [True, False]])
def test_labels_of_any_kind_come_back(labels: list[Any]) -> None:
    y = np.array(labels)[DIGITS % len(labels)]
    estimator = OnlineClassifier(**SMALL).fit(X, y)
    assert estimator.classes_.tolist() == sorted(labels)
    assert set(estimator.predict(X).tolist()) <= set(labels)
    assert estimator.score(X, y) > 1 / len(labels)


@pytest.mark.parametrize(
    "options",
    [
        {"learner": "mlp"},
        {"members": ({"optimizer": "sgd", "learning_rate": 0.1},)},
        {"members": [{"optimizer": "adam", "learning_rate": 0.01, "replay": 1}]},
    ],
)
def test_coefs_give_the_predictions_of_a_single_member(options: Any) -> None:
    estimator = OnlineClassifier(**options, hidden=(9, 7), mini_batch=4).fit(X, DIGITS)
    scaling = estimator.state_.model
    deviation = np.sqrt(scaling.squares / scaling.rows)
    deviation[deviation == 0] = 1
    z = a = np.clip((X - scaling.means) / deviation, -5, 5)
    *hidden, (W, b) = zip(estimator.coefs_, estimator.intercepts_, strict=True)
    for V, c in hidden:
        a = np.maximum(a @ V + c, 0)
    score = a @ W + b
    if len(estimator.skip_coef_):
        score += z @ estimator.skip_coef_
    assert (score.argmax(axis=1) == estimator.predict(X)).all()
    assert estimator.score(X, DIGITS) > 0.5


def test_each_member_has_its_own_coefs() -> None:
    estimator = OnlineClassifier(hidden=(9,)).fit(X[:300], DIGITS[:300])
    model = estimator.state_.model
    for member, theta in enumerate(thetas(estimator._model.learner, model)):
        estimator.set_params(member=member)
        layers = zip(estimator.coefs_, estimator.intercepts_, strict=True)
        parts = [*(part.ravel() for layer in layers for part in layer), estimator.skip_coef_.ravel()]
        assert sorted(value for value in np.concatenate(parts) if value) == sorted(theta[theta != 0])


def test_coefs_of_an_ensemble_require_a_member() -> None:
    estimator = OnlineClassifier().fit(X[:100], DIGITS[:100])
    with pytest.raises(AttributeError, match=r"member must be one of 0 \(sgd .*; got None$"):
        _ = estimator.coefs_
    assert not hasattr(estimator.set_params(member=99), "intercepts_")


def frame() -> pd.DataFrame:
    return pd.DataFrame(XD, columns=[f"c{i}" for i in range(10)])


def attributes(estimator: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(estimator).items() if name != "state_"}


GOOD, LABELS = X[:20], DIGITS[:20]
NAN = np.where(np.arange(64) == 3, np.nan, GOOD)


@pytest.mark.parametrize(
    ("x", "y", "more", "words"),
    [
        (GOOD[:, :5], LABELS, {}, "X has 5 features, but OnlineClassifier is expecting 64 features"),
        (NAN, LABELS, {}, "Input X contains NaN"),
        (GOOD * 1e300, LABELS, {}, "too large for dtype"),
        (
            np.full(GOOD.shape, 10**400, object),
            LABELS,
            {},
            "^Input contains an integer that is too large for float64$",
        ),
        (
            pd.DataFrame(GOOD).assign(t=pd.Timestamp(0)),
            LABELS,
            {},
            "^X must have numbers; got dates or durat",
        ),
        (pd.DataFrame({0: [pd.Timestamp(0, tz="UTC")]}), LABELS[:1], {}, "^X must have numbers; got dates"),
        (np.zeros(GOOD.shape, "M8[s]"), LABELS, {}, "^X must have numbers; got dates"),
        (np.zeros(GOOD.shape, "m8[s]"), LABELS, {}, "^X must have numbers; got dates"),
        (
            GOOD,
            np.zeros(len(GOOD), "M8[s]"),
            {},
            "^y must have numbers; got dates or durations: make numbers",
        ),
        (np.full((20, 64), "red"), LABELS, {}, "could not convert string to float: .*'red'"),
        (GOOD, LABELS[:-1], {}, "inconsistent numbers of samples"),
        (GOOD, LABELS + 5, {}, "`y` has classes not in `self.classes_`"),
        (GOOD, LABELS, {"classes": range(9)}, "is not the same as on last call to partial_fit"),
        (GOOD, LABELS, {"sample_weight": -np.ones(20)}, "Negative values in data passed to `sample_weight`"),
    ],
)
@pytest.mark.parametrize("how", ["partial_fit", "test_then_train"])
def test_bad_input_is_an_error_and_changes_nothing(x: Any, y: Any, more: Any, words: str, how: str) -> None:
    estimator = OnlineClassifier(**SMALL).partial_fit(X[:100], DIGITS[:100], classes=range(10))
    state, before = bits(estimator.state_), attributes(estimator)
    with pytest.raises(ValueError, match=words):
        getattr(estimator, how)(x, y, **more)
    assert bits(estimator.state_) == state
    assert attributes(estimator) == before


DAYS = [date(2024, 5, 1), date(2024, 5, 2)]
COLUMNS_OF_DATES = [
    *(pl.DataFrame({"a": column}) for column in (DAYS, [time(1), time(2)], [timedelta(1), timedelta(2)])),
    pl.DataFrame({"a": pl.Series(DAYS, dtype=pl.Datetime)}),
    pa.table({"a": DAYS}),
    pa.RecordBatch.from_pydict({"a": [timedelta(1), timedelta(2)]}),
    pd.DataFrame({"a": DAYS}),
    pd.DataFrame({"a": pd.period_range("2024-05", periods=2, freq="M")}),
    pd.DataFrame({"a": pd.Categorical(pd.to_datetime(DAYS))}),
    [[day] for day in DAYS],
    [[np.datetime64(day)] for day in DAYS],
]


@pytest.mark.parametrize("column", COLUMNS_OF_DATES)
def test_dates_are_refused_in_every_kind_of_table(column: Any) -> None:
    with pytest.raises(ValueError, match=f"^X must have numbers; got dates or durations: {FROM_DATES}$"):
        OnlineRegressor(**SMALL).fit(column, [1, 2])


@pytest.mark.parametrize("series", [pl.Series(DAYS), pa.array(DAYS), pd.Series(DAYS), DAYS])
def test_dates_are_refused_as_targets(series: Any) -> None:
    with pytest.raises(ValueError, match=f"^y must have numbers; got dates or durations: {FROM_DATES}$"):
        OnlineRegressor(**SMALL).fit([[1], [2]], series)


def test_tables_of_all_libraries_are_learned_alike() -> None:
    rows, targets = (
        {"a": [1.0, 2.0, 4.0], "b": [True, False, True]},
        {"u": [1.0, 2.0, 3.0], "v": [3.0, 2.0, 0.5]},
    )
    models = [
        OnlineRegressor(**SMALL).fit(table(rows), table(targets))
        for table in (pd.DataFrame, pl.DataFrame, pa.table)
    ]
    assert [model.learner_.targets for model in models] == [("u", "v")] * 3
    assert [model.feature_names_in_.tolist() for model in models] == [["a", "b"]] * 3
    assert bits(models[0].state_) == bits(models[1].state_) == bits(models[2].state_)


def test_the_error_names_a_missing_column() -> None:
    estimator = OnlineRegressor(**SMALL).fit(frame(), TARGETS)
    state, before = bits(estimator.state_), attributes(estimator)
    for call in (estimator.predict, lambda x: estimator.partial_fit(x, TARGETS)):
        with pytest.raises(ValueError, match="yet now missing:\\n- c3"):
            call(frame().drop(columns="c3"))
    assert bits(estimator.state_) == state
    assert attributes(estimator) == before


def test_a_failed_fit_keeps_the_old_model() -> None:
    estimator = OnlineRegressor(**SMALL).fit(frame(), TARGETS)
    before = estimator.predict(frame())
    for x, y in ((XD[:, :4], TARGETS * np.nan), (XD[:, :4], TARGETS * 1e300)):
        with pytest.raises(ValueError, match="Input y contains"):
            estimator.fit(x, y)
        assert estimator.predict(frame()).tolist() == before.tolist()
    assert estimator.feature_names_in_.tolist() == frame().columns.tolist()


def test_the_first_partial_fit_requires_all_classes() -> None:
    with pytest.raises(ValueError, match=r"classes must be passed on the first call to partial_fit\.$"):
        OnlineClassifier().partial_fit(X, DIGITS)
    with pytest.raises(ValueError, match="got 1 class"):
        OnlineClassifier().fit(X[:10], np.ones(10))


@pytest.mark.parametrize(
    "use", [lambda e: e.predict(X), lambda e: e.coefs_, lambda e: e.loss_, lambda e: e.save("nowhere")]
)
def test_an_unfitted_model_is_an_error(use: Any) -> None:
    with pytest.raises(NotFittedError, match="not fitted yet"):
        use(OnlineClassifier())


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"learner": "forest"}, "learner must be one of 'mlp', 'ensemble'; got 'forest'"),
        ({"learner": "mlp", "eta": 0.1}, "option 'eta' requires learner 'ensemble'"),
        ({"mini_batch": 0}, "mini_batch must be an integer >= 1; got 0"),
        ({"activation": "rleu"}, "activation must be one of"),
    ],
)
def test_parameters_are_checked_when_rows_come_in(parameters: Any, words: str) -> None:
    estimator = OnlineClassifier(**parameters)
    assert clone(estimator).get_params() == estimator.get_params()
    with pytest.raises(ValueError, match=words):
        estimator.fit(X, DIGITS)


def test_an_optimizer_alone_means_the_plain_network() -> None:
    estimator = clone(OnlineClassifier(optimizer="sgd", learning_rate=0.1, hidden=8)).fit(X, DIGITS)
    assert estimator.get_params()["learner"] is None
    assert (
        estimator.learner_
        == OnlineClassifier("mlp", optimizer="sgd", learning_rate=0.1, hidden=8).fit(X, DIGITS).learner_
    )
    assert OnlineClassifier(hidden=8).fit(X, DIGITS).learner_.options()["learner"] == "ensemble"


def test_an_ensemble_cannot_become_a_plain_network() -> None:
    estimator = OnlineClassifier(hidden=8).fit(X, DIGITS).set_params(optimizer="sgd")
    with pytest.raises(
        ValueError, match=r"with learner = 'ensemble', now 'mlp': call fit, which trains a new model$"
    ):
        estimator.partial_fit(X, DIGITS)


def test_parameters_may_have_numpy_s_types() -> None:
    options = OnlineClassifier("mlp", hidden=np.int64(5), mini_batch=np.int64(4)).fit(X, DIGITS).learner_
    assert options == OnlineClassifier("mlp", hidden=[5], mini_batch=4).fit(X, DIGITS).learner_
    assert options.hidden == (5,)


def test_a_parameter_set_between_two_calls_is_used_if_the_model_can_continue() -> None:
    estimator = OnlineClassifier(**SMALL).partial_fit(X, DIGITS, classes=range(10))
    estimator.set_params(learning_rate=0.5).partial_fit(X[:100], DIGITS[:100])
    assert estimator.learner_.learning_rate == 0.5
    state = estimator.state_
    with pytest.raises(ValueError, match=r"hidden = \[8\], now \[9\]: call fit, which trains a new model"):
        estimator.set_params(hidden=(9,)).partial_fit(X[:100], DIGITS[:100])
    assert bits(estimator.state_) == bits(state)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_loaded_model_learns_as_if_it_had_not_been_saved(name: str, tmp_path: Path) -> None:
    straight = OnlineClassifier(name, hidden=(8,), random_state=4)
    straight.partial_fit(X[:300], DIGITS[:300], classes=range(10))
    assert straight.save(tmp_path / "model") == 0
    loaded = load(tmp_path / "model")
    assert loaded.get_params()["hidden"] == [8]
    for estimator in (straight, loaded):
        estimator.partial_fit(X[300:500], DIGITS[300:500])
    assert loaded.learner_ == straight.learner_
    assert bits(loaded.state_) == bits(straight.state_)
    assert (loaded.predict(X) == straight.predict(X)).all()
    assert loaded.save(tmp_path / "model") == 1


def test_a_version_s_manifest_has_parent_counts_and_metrics(tmp_path: Path) -> None:
    estimator = OnlineClassifier(**SMALL).fit(X[:100], DIGITS[:100] > 4)
    estimator.save(tmp_path)
    estimator.partial_fit(X[100:250], DIGITS[100:250] > 4)
    estimator.save(tmp_path)
    log = VersionLog(tmp_path)
    first, second = log.manifest(0), log.manifest(1)
    assert second.parent_sha256 == log.sha256(0)
    assert [record.counts["trained"] for record in (first, second)] == [100, 150]
    assert second.metrics == report(estimator.learner_, estimator.state_)
    assert second.schema["classes"] == [False, True]
    assert second.kind == "saved"


def test_a_loaded_model_shows_what_a_user_gives_and_a_change_is_an_event(tmp_path: Path) -> None:
    OnlineClassifier(hidden=(4,)).fit(X[:50], DIGITS[:50]).save(tmp_path)
    loaded = load(tmp_path)
    assert (loaded.hidden, loaded.members, loaded.optimizer) == ([4], None, None)
    loaded.set_params(eta=0.5).partial_fit(X[50:60], DIGITS[50:60]).save(tmp_path)
    changed = {"event": "learner changed", "changed": "eta = 0.25, now 0.5"}
    assert VersionLog(tmp_path).manifest(1).events == [changed]
    assert loaded.set_params(hidden=[8]).fit(X[:50], DIGITS[:50]).learner_.described[3]["hidden"] == (8,)


def test_columns_names_are_the_fields_of_a_record(tmp_path: Path) -> None:
    estimator = OnlineRegressor(**SMALL).fit(frame(), TARGETS)
    estimator.save(tmp_path)
    assert VersionLog(tmp_path).manifest(0).schema["features"] == list(frame())
    loaded = load(tmp_path)
    assert isinstance(loaded, OnlineRegressor)
    assert loaded.feature_names_in_.tolist() == list(frame())
    assert loaded.predict(frame()).tolist() == estimator.predict(frame()).tolist()


def test_a_model_cannot_be_saved_after_another_s_versions(tmp_path: Path) -> None:
    first = OnlineClassifier(**SMALL).fit(X, DIGITS)
    first.save(tmp_path)
    second = load(tmp_path)
    first.save(tmp_path)
    for estimator in (second, OnlineClassifier(**SMALL).fit(X, DIGITS), clone(first).fit(X, DIGITS)):
        with pytest.raises(ValueError, match=r"its newest version, 1, is not this model's parent"):
            estimator.save(tmp_path)
    with pytest.raises(ValueError, match="is not this model's parent"):
        first.fit(X[:, :5], DIGITS).save(tmp_path)


def test_an_empty_directory_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"^cannot load a model from .*: it has no versions$"):
        load(tmp_path)


def loaded_modules(code: str) -> set[str]:
    code += "; import sys; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.nightly
def test_the_module_needs_neither_spark_nor_kafka() -> None:
    assert not {"pyspark", "py4j", "kafka"} & loaded_modules("import streaming_nn.estimators.sklearn")


def test_without_scikit_learn_one_line_names_what_to_install() -> None:
    code = "import sys; sys.modules['sklearn'] = None; import streaming_nn.estimators.sklearn"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stderr.splitlines()[-1] == (
        "ImportError: streaming_nn.estimators.sklearn needs scikit-learn 1.6 or newer: "
        "pip install 'scikit-learn>=1.6'"
    )


def test_a_model_survives_joblib(tmp_path: Path) -> None:
    """What public reports do with a model, and what works."""
    import joblib

    estimator = OnlineClassifier(**SMALL).partial_fit(X[:100], DIGITS[:100], classes=range(10))
    joblib.dump(estimator, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib")
    for each in (estimator, again):
        each.partial_fit(X[100:200], DIGITS[100:200])
    assert bits(again.state_) == bits(estimator.state_)


@pytest.mark.nightly
def test_other_processes_fit_and_predict_the_same_bits() -> None:
    from joblib import Parallel, delayed

    here = OnlineClassifier(**SMALL).fit(X[:200], DIGITS[:200])
    fitted = Parallel(n_jobs=2)(delayed(clone(here).fit)(X[:200], DIGITS[:200]) for _ in range(2))
    assert [bits(each.state_) for each in fitted] == [bits(here.state_)] * 2
    predicted = Parallel(n_jobs=2)(delayed(here.predict_proba)(X[200:300]) for _ in range(2))
    assert all((each == here.predict_proba(X[200:300])).all() for each in predicted)


def digest(model: Any) -> str:
    return state_digest(flatten(model.state_))


def several_of(kind: Any) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4)).astype(np.float32)
    y = x @ rng.normal(size=(4, 3))
    return x, y if kind is OnlineRegressor else (y > 0).astype(int)


@pytest.mark.parametrize("kind", [OnlineClassifier, OnlineRegressor])
@pytest.mark.parametrize("options", [{}, {**SMALL, "learning_rate": 0.03}])
def test_several_targets_or_labels_are_learned(kind: Any, options: dict[str, Any], tmp_path: Path) -> None:
    """Public case 35: several targets, multilabel."""
    x, y = several_of(kind)
    estimator = kind(**options).fit(x, y).partial_fit(x, y)
    assert estimator.predict(x).shape == y.shape
    assert estimator.score(x, y) > 0.6
    assert estimator.test_then_train(x[:5], y[:5]).shape == (5, 3)
    estimator.save(tmp_path)
    loaded = load(tmp_path)
    np.testing.assert_array_equal(loaded.predict(x), estimator.predict(x))
    for each in (loaded, estimator):
        each.partial_fit(x[:9], y[:9])
    assert digest(loaded) == digest(estimator)
    assert loaded.save(tmp_path) == 1


def test_columns_of_a_frame_name_the_targets_and_the_labels() -> None:
    x, y = several_of(OnlineRegressor)
    frame = pd.DataFrame(y, columns=["u", "v", "w"])
    assert OnlineRegressor(**SMALL).fit(x, frame).learner_.targets == ("u", "v", "w")
    labels = OnlineClassifier(**SMALL).partial_fit(x, (frame > 0).astype(int))
    assert labels.classes_.tolist() == ["u", "v", "w"]
    assert labels.predict_proba(x).shape == (400, 3)
    named = OnlineClassifier(**SMALL).partial_fit(x, (y > 0).astype(int), classes=["c", "a", "b"])
    assert named.classes_.tolist() == ["c", "a", "b"]


def test_the_loss_of_several_is_scikit_learns_mean() -> None:
    x, y = several_of(OnlineRegressor)
    model = OnlineRegressor(**SMALL, window=400)
    predicted = model.test_then_train(x, y)
    assert model.loss_ == pytest.approx(((predicted - y.astype(np.float32)) ** 2).mean())


@pytest.mark.parametrize(
    ("kind", "first", "then", "error"),
    [
        (OnlineRegressor, 3, np.zeros(400), r"y must have as many targets as before, 3; got shape \(400,\)"),
        (OnlineRegressor, 3, np.zeros((400, 2)), "y must have as many targets as before, 3"),
        (OnlineRegressor, 1, np.zeros((400, 2)), "y must have as many targets as before, 1"),
        (OnlineClassifier, 3, np.zeros(400, int), r"y must be \(rows, 3\), a multilabel indicator"),
        (OnlineClassifier, 3, np.full((400, 3), 2), "y must be a multilabel indicator of 0 and 1"),
        (OnlineClassifier, 1, np.zeros((400, 2), int), r"y must be \(rows,\), as before; got shape"),
    ],
)
def test_another_number_of_targets_is_refused(kind: Any, first: int, then: Any, error: str) -> None:
    x, y = several_of(kind)
    model = kind(**SMALL).fit(x, y[:, :first].squeeze())
    before = digest(model)
    with pytest.raises(ValueError, match=f"^{error}"):
        model.partial_fit(x, then)
    assert digest(model) == before


@pytest.mark.parametrize("kind", [pd.DataFrame, np.asarray, sparse.csr_matrix])
def test_a_number_that_may_be_an_identifier_is_logged_once_for_each_feature(
    kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = OnlineRegressor(**SMALL)
    for row in ([1, 2, 3], [1, 2.0**53 + 2, 3], [-(2.0**53), 2.0**60, 3]):
        table = kind([row])
        model.partial_fit(table.rename(columns="f{}".format) if kind is pd.DataFrame else table, [1.0])
    found = [record.args for record in caplog.records if "2^53 or more" in record.getMessage()]
    names = ("f1", "f0") if kind is pd.DataFrame else ("features[1]", "features[0]")
    assert found == [(name,) for name in names]


def test_booleans_are_0_and_1_as_in_numpy() -> None:
    """In records they are labels of their own; SGDClassifier too compares labels as NumPy does."""
    models = [OnlineClassifier(**SMALL).partial_fit([[1], [2]], [0, 1], classes=[0, 1]) for _ in range(2)]
    for model, labels in zip(models, ([True, False], [1, 0]), strict=True):
        model.partial_fit([[1], [2]], labels)
    assert bits(models[0].state_) == bits(models[1].state_)
    assert models[0].classes_.tolist() == [0, 1]
    with pytest.raises(ValueError, match="y must not be both numbers and booleans"):
        RiverClassifier(classes=[0, 1]).learn_one({"x": 1}, True)
