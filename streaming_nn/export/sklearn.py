"""One member of a model as a fitted MLP of scikit-learn, with the scaler before it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core.ensemble import EnsembleState
from streaming_nn.core.networks import Shape
from streaming_nn.model import Model, class_labels, member_network
from streaming_nn.nn import validation
from streaming_nn.nn.preprocessing import Scaler, target_unit

try:
    from sklearn.impute import MissingIndicator, SimpleImputer
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import FeatureUnion, Pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler
except ImportError as error:
    raise ImportError(
        "streaming_nn.export.sklearn needs scikit-learn: pip install 'streaming_nn[arrays]'"
    ) from error

Array = NDArray[np.float64]
Layer = tuple[Array, Array]  # W (in, out) and b (out,)
ACTIVATIONS = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}
PASS_THROUGH = ("relu", "identity")  # activations with which hidden units can pass an input on unchanged


def to_sklearn(model: Model, member: int | None = None) -> Pipeline:
    """Return one member as a Pipeline: steps that scale rows, and an MLPClassifier or MLPRegressor "mlp".

    It predicts as the member alone does, but without the bound on a regression's predictions. ValueError:
    an ensemble without `member`, and options that scikit-learn's MLP lacks; docs/export.md lists them.
    """
    learner: Any = model.learner
    (shape, theta), state = member_network(model, member), model.state.model
    validation.one_of("activation of a model for scikit-learn", shape.activation, ACTIVATIONS)
    if learner.core.sees_ramps(shape):
        raise ValueError(f"member must see no ramps, which scikit-learn's scalers lack; got {member!r}")
    if not np.isfinite(theta).all():
        raise ValueError(f"member must have finite weights; got {member!r}")
    layers = _layers(shape, theta)
    options = _options(shape, learner, layers)
    if learner.classes is None:
        mlp = _regressor(learner, layers, state, options)
    else:
        mlp = _classifier(model, layers, options)
    return Pipeline([*_preprocessing(learner.scaler, state), ("mlp", mlp)])


def _layers(shape: Shape, theta: NDArray[np.float32]) -> list[Layer]:
    """Return the layers; the direct path from inputs to outputs goes through additional hidden units."""
    layers = [(W.astype(np.float64), b.astype(np.float64)) for W, b in shape.views(theta)]
    if not shape.skip:
        return layers
    skip = shape.linear_view(theta).astype(np.float64)
    *hidden, (W, b) = layers
    if not hidden:
        return [(W + skip, b)]
    validation.one_of(
        "activation of a model with a linear path, for scikit-learn", shape.activation, PASS_THROUGH
    )
    entry = np.eye(len(skip))
    if shape.activation == "relu":  # z = relu(z) - relu(-z)
        entry = np.hstack([entry, -entry])
    return [*_with_pass_through(hidden, entry), (np.vstack([W, entry.T @ skip]), b)]


def _with_pass_through(hidden: list[Layer], entry: Array) -> list[Layer]:
    """Add units to each hidden layer that pass on the inputs times `entry` (inputs, units)."""
    (V, c), *others = hidden
    units = entry.shape[1]
    layers = [(np.hstack([V, entry]), np.append(c, np.zeros(units)))]
    for W, b in others:
        zeros = np.zeros((len(W), units))
        wide = np.block([[W, zeros], [np.zeros((units, W.shape[1])), np.eye(units)]])
        layers.append((wide, np.append(b, np.zeros(units))))
    return layers


def _classifier(model: Model, layers: list[Layer], options: dict[str, Any]) -> MLPClassifier:
    """Order the outputs as scikit-learn does, by label; two classes have one output, their difference."""
    labels, order = np.unique(class_labels(model), return_index=True)
    if len(labels) < 2:
        raise ValueError(f"classes must be two or more for scikit-learn; got {labels.tolist()!r}")
    *hidden, (W, b) = layers
    if model.learner.multilabel:
        mlp = MLPClassifier(**options)
        mlp.partial_fit(np.zeros((2, len(layers[0][0]))), np.eye(2, len(b), dtype=int), classes=range(len(b)))
        return _with_layers(mlp, layers)
    if model.learner.loss == "logistic":  # of the second class against 0 of the first
        W, b = np.hstack([np.zeros_like(W), W]), np.append(0.0, b)
    W, b = W[:, order], b[order]
    if len(labels) == 2:
        W, b = W[:, 1:] - W[:, :1], b[1:] - b[:1]
    mlp = MLPClassifier(**options)
    mlp.partial_fit(np.zeros((len(labels), len(layers[0][0]))), labels, classes=labels)
    return _with_layers(mlp, [*hidden, (W, b)])


def _regressor(
    learner: Any, layers: list[Layer], state: EnsembleState, options: dict[str, Any]
) -> MLPRegressor:
    """Return the regressor; its last layer restores the unit of the targets."""
    *hidden, (W, b) = layers
    if learner.loss == "quantile" and len(b) > 1:
        raise ValueError(f"quantiles must be one for scikit-learn, which does not sort them; got {len(b)}")
    if learner.loss == "poisson":
        if "loss" not in MLPRegressor().get_params():
            raise ValueError("loss 'poisson' requires scikit-learn 1.7 or newer; upgrade it")
        options = {**options, "loss": "poisson"}
        b = b + np.log(target_unit(state, counts=True))
    else:
        unit = target_unit(state, counts=False)
        W, b = W * unit, b * unit + state.targets[:, 1]
    mlp = MLPRegressor(**options)
    mlp.partial_fit(np.zeros((1, len(layers[0][0]))), np.ones((1, len(b))) if learner.targets else [1.0])
    return _with_layers(mlp, [*hidden, (W, b)])


def _options(shape: Shape, learner: Any, layers: list[Layer]) -> dict[str, Any]:
    sizes = tuple(len(b) for _, b in layers[:-1])
    return {
        "hidden_layer_sizes": sizes,
        "activation": ACTIVATIONS[shape.activation],
        "random_state": learner.options()["seed"] % 2**32,
    }


def _with_layers(mlp: Any, layers: list[Layer]) -> Any:
    """Replace the weights; the step on zeros before made the other attributes that `fit` makes."""
    mlp.coefs_ = [np.ascontiguousarray(W) for W, _ in layers]
    mlp.intercepts_ = [b.copy() for _, b in layers]
    vars(mlp).pop("_optimizer", None)  # its moments are of that step: a later partial_fit creates it
    return mlp


def _preprocessing(scaler: Scaler, state: EnsembleState) -> list[tuple[str, Any]]:
    """Return the steps that prepare rows as the core does."""
    steps: list[tuple[str, Any]] = []
    filling, affine = scaler.filling(state), scaler.affine(state)
    if filling is not None:  # the mean of one row is the row
        steps.append(("impute", SimpleImputer(keep_empty_features=True).fit(_row(filling))))
    if affine is not None:
        shift, width, far = affine
        steps += [("scale", _scaler(_row(shift), _row(width))), ("clip", _clip(far))]
    if scaler.missing != "indicate":
        return steps
    gaps = MissingIndicator(features="all").fit(np.zeros((1, scaler.columns)))
    return [("inputs", FeatureUnion([("values", Pipeline(steps)), ("missing", gaps)]))]


def _scaler(shift: Array, width: Array) -> StandardScaler:
    scaler = StandardScaler().fit(shift)
    scaler.scale_, scaler.var_ = width[0], width[0] ** 2
    return scaler


def _clip(far: float) -> FunctionTransformer:
    bounds = {"a_min": -far, "a_max": far}
    return FunctionTransformer(np.clip, kw_args=bounds, feature_names_out="one-to-one")


def _row(values: NDArray[Any]) -> Array:
    return values.astype(np.float64)[None]
