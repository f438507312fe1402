"""An exported member predicts in scikit-learn as the member does alone."""

import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from exported import ENSEMBLE, MLP, rows, rows_to_scale, trained, with_outliers
from sklearn.base import clone
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline

from streaming_nn.core.structures import MISSING, SCALES
from streaming_nn.estimators import river, sklearn
from streaming_nn.export.sklearn import ACTIVATIONS, PASS_THROUGH, to_sklearn
from streaming_nn.model import Model, member_network, predict
from streaming_nn.nn.members import default, title
from streaming_nn.nn.preprocessing import target_unit

pytestmark = pytest.mark.commit

PLAIN = len(default(regression=False, ramps=False))  # members that see no ramps; they are the first
THREE, TWO = ("c", "a", "b"), (7, 3)


def alone(model: Model, member: int | None, x: np.ndarray) -> np.ndarray:
    """Return what a member predicts alone: probabilities in the order of classes, or unbounded targets."""
    learner, state = model.learner, model.state.model
    shape, theta = member_network(model, member)
    output = shape.predict(theta, prepared(model, x))
    if learner.classes is None:
        counts = learner.loss == "poisson"
        return output * target_unit(state, counts) + (0 if counts else state.targets[:, 1])
    return np.hstack([1 - output, output]) if output.shape[1] == 1 else output


def prepared(model: Model, x: np.ndarray) -> np.ndarray:
    """Return rows as the network gets them: imputed, scaled, clipped, with indicators."""
    scaler, state = model.learner.scaler, model.state.model
    filling, affine = scaler.filling(state), scaler.affine(state)
    z = x.astype(np.float64) if filling is None else np.where(np.isnan(x), filling, x)
    if affine is not None:
        origin, width, far = affine
        z = np.clip((z - origin) / width, -far, far)
    if scaler.missing == "indicate":
        z = np.hstack([z, np.isnan(x)])
    return z.astype(np.float32)


def check(model: Model, member: int | None, x: np.ndarray) -> Pipeline:
    pipeline, expected = to_sklearn(model, member), alone(model, member, x)
    if model.learner.classes is None:
        np.testing.assert_allclose(pipeline.predict(x), expected[:, 0], rtol=1e-5, atol=1e-5 * expected.std())
        return pipeline
    named = np.array(model.learner.classes)
    assert pipeline.classes_.tolist() == sorted(named.tolist())
    np.testing.assert_allclose(pipeline.predict_proba(x), expected[:, named.argsort()], rtol=0, atol=1e-5)
    sure = np.sort(expected)[:, -1] - np.sort(expected)[:, -2] > 1e-4
    assert pipeline.predict(x)[sure].tolist() == named[expected.argmax(axis=1)][sure].tolist()
    return pipeline


@pytest.mark.parametrize("classes", [THREE, TWO, (True, False), None])
@pytest.mark.parametrize("member", [0, 4, PLAIN - 1])
def test_a_member_of_the_ensemble(member: int, classes: Any) -> None:
    pipeline = check(trained(**ENSEMBLE, classes=classes), member, with_outliers(rows(100, False, 5)))
    assert [*pipeline.named_steps] == ["scale", "clip", "mlp"]
    assert type(pipeline["mlp"]) is (MLPRegressor if classes is None else MLPClassifier)


@pytest.mark.parametrize("network", [MLP, {**MLP, "loss": "poisson"}, ENSEMBLE], ids=str)
def test_several_targets(network: dict[str, Any]) -> None:
    model = trained(**network, targets=("u", "v", "w"))
    x, member = rows(100, False, 5), 4 if network is ENSEMBLE else None
    pipeline, expected = to_sklearn(model, member), alone(model, member, x)
    np.testing.assert_allclose(pipeline.predict(x), expected, rtol=1e-5, atol=1e-5 * expected.std())


@pytest.mark.parametrize("network", [MLP, ENSEMBLE], ids=str)
def test_several_labels(network: dict[str, Any]) -> None:
    model = trained(**network, classes=THREE, multilabel=True)
    x, member = rows(100, False, 5), 4 if network is ENSEMBLE else None
    pipeline, expected = to_sklearn(model, member), alone(model, member, x)
    np.testing.assert_allclose(pipeline.predict_proba(x), expected, rtol=0, atol=1e-5)
    assert pipeline.predict(x).tolist() == (pipeline.predict_proba(x) > 0.5).astype(int).tolist()


@pytest.mark.parametrize("activation", PASS_THROUGH)
@pytest.mark.parametrize("hidden", [(), (5,), (5, 3), (4, 4, 2)])
def test_the_linear_path_goes_through_hidden_units(hidden: Any, activation: str) -> None:
    model = trained(**ENSEMBLE | {"hidden": hidden}, classes=THREE, activation=activation)
    pipeline = check(model, 2, with_outliers(rows(100, False, 5)))
    more = {"relu": 8, "identity": 4}[activation]  # of 4 inputs
    assert pipeline["mlp"].hidden_layer_sizes == tuple(units + more for units in hidden)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "task",
    [
        {"loss": "softmax", "classes": THREE},
        {"loss": "softmax", "classes": TWO},
        {"loss": "logistic", "classes": TWO},
        {"loss": "huber"},
        {"loss": "quantile", "quantiles": (0.9,)},
    ],
    ids=lambda task: f"{task['loss']}-{len(task.get('classes', '-'))}",
)
def test_the_plain_network(task: dict[str, Any], activation: str) -> None:
    check(trained(**MLP, **task, activation=activation), None, with_outliers(rows(100, False, 5)))


def test_counts_are_predicted_by_the_exponential() -> None:
    model = trained(**MLP, loss="poisson")
    x = rows(100, False, 5)
    expected = predict(model, x)[:, 0]
    np.testing.assert_allclose(to_sklearn(model).predict(x), expected, rtol=1e-5)


@pytest.mark.parametrize(("scale", "missing"), list(product(SCALES, MISSING)))
@pytest.mark.parametrize("kind", [MLP, ENSEMBLE], ids=lambda kind: kind["learner"])
def test_every_scaling_with_every_way_to_handle_missing_values(
    kind: dict[str, Any], scale: str, missing: str
) -> None:
    x = rows_to_scale(scale, missing)
    model = trained(**kind, classes=THREE, scale=scale, missing=missing)
    pipeline = check(model, 0, x)
    assert check(model, 0, x[:1])
    assert pipeline.n_features_in_ == x.shape[1]


def test_it_can_be_cloned_and_learn_more() -> None:
    model, x = trained(**ENSEMBLE, classes=THREE), rows(200, False)
    pipeline, y = to_sklearn(model, 1), np.array(THREE)[np.arange(200) % 3]
    again = clone(pipeline).fit(x, y)
    assert again["mlp"].hidden_layer_sizes == pipeline["mlp"].hidden_layer_sizes
    z, mlp = pipeline[:-1].transform(x), pipeline["mlp"]
    before = mlp.intercepts_[-1].copy()
    mlp.partial_fit(z, y)  # one mini-batch: Adam's first step is the rate, near enough
    np.testing.assert_allclose(np.abs(mlp.intercepts_[-1] - before), mlp.learning_rate_init, rtol=0.02)


def test_the_pipeline_shares_no_array_with_the_model() -> None:
    model, x = trained(**MLP, classes=THREE), rows(50, False, 5)
    before = predict(model, x)
    for array in (*(mlp := to_sklearn(model)["mlp"]).coefs_, *mlp.intercepts_):
        array[:] = 0
    assert predict(model, x).tobytes() == before.tobytes()


TITLES = [title({"replay": 0, "inputs": "plain", **member}) for member in default(regression=False)]
ENSEMBLE_MEMBERS = (
    f"^member must be one of {re.escape(', '.join(f'{i} ({t})' for i, t in enumerate(TITLES)))}; got "
)


@pytest.mark.parametrize(
    ("options", "member", "error"),
    [
        ({**ENSEMBLE, "classes": TWO}, None, ENSEMBLE_MEMBERS + "None$"),
        ({**ENSEMBLE, "classes": TWO}, PLAIN + 2, ENSEMBLE_MEMBERS + f"{PLAIN + 2}$"),
        ({**ENSEMBLE, "classes": TWO}, PLAIN, f"^member must see no ramps, which .*; got {PLAIN}$"),
        ({**ENSEMBLE, "classes": TWO}, "best", ENSEMBLE_MEMBERS + "'best'$"),
        (MLP, 1, r"^member must be one of 0; got 1$"),
        (
            {**MLP, "activation": "gelu"},
            None,
            r"^activation of a model for scikit-learn must be one of 'identity', .*; got 'gelu'$",
        ),
        (
            {**ENSEMBLE, "activation": "tanh"},
            0,
            r"^activation of a model with a linear path, for scikit-learn must be one of 'relu', 'identity'; "
            "got 'tanh'$",
        ),
        ({**MLP, "loss": "quantile"}, None, r"^quantiles must be one for scikit-learn, .*; got 3$"),
        ({**MLP, "classes": ("a", 1)}, None, r"^classes must be of one type to be exported; got \('a', 1\)$"),
        ({**MLP, "classes": ("a",)}, None, r"^classes must be two or more for scikit-learn; got \['a'\]$"),
    ],
)
def test_what_scikit_learn_lacks_is_a_one_line_error(options: Any, member: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        to_sklearn(trained(**options), member)


def test_a_member_that_is_not_finite_is_refused() -> None:
    model = trained(**ENSEMBLE)
    member_network(model, 1)[1][3] = np.nan
    check(model, 0, rows(20, False))
    with pytest.raises(ValueError, match=r"^member must have finite weights; got 1$"):
        to_sklearn(model, 1)


def test_both_apis_export_the_same(tmp_path: Path) -> None:
    X, y = pd.DataFrame(rows(200, False), columns=["a", "b", "c", "d"]), rows(200, False)[:, 0]
    estimator = sklearn.OnlineRegressor(hidden=(4,)).fit(X, y)
    estimator.save(tmp_path)
    x = X.to_numpy()
    expected = estimator.to_sklearn(3).predict(x)
    assert estimator.set_params(member=3).to_sklearn().predict(x).tolist() == expected.tolist()
    assert river.load(tmp_path).to_sklearn(3).predict(x).tolist() == expected.tolist()
    with pytest.raises(ValueError, match=re.escape("member must be one of 0 (sgd 0.0009)")):
        river.load(tmp_path).to_sklearn()
    with pytest.raises(ValueError, match=r"^cannot export a model that has learned no row; learn one first$"):
        river.RiverRegressor().to_sklearn(0)
