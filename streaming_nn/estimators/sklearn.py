"""The learners with scikit-learn's API, on NumPy arrays, and with the same versions as the stream."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from streaming_nn import model as models
from streaming_nn.core.networks import Shape
from streaming_nn.model import Holder, Model, new_model, to_python
from streaming_nn.nn import multioutput
from streaming_nn.nn.factory import difference, given, learner_from
from streaming_nn.nn.learner import Batch, State, continues, point_prediction
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.labels import integral_to_int
from streaming_nn.records.reasons import FROM_DATES
from streaming_nn.records.schema import Schema
from streaming_nn.records.values import LARGE, bounded, large_columns

if TYPE_CHECKING:
    from onnx import ModelProto

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.pipeline import Pipeline
    from sklearn.utils import check_array, check_random_state, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        "streaming_nn.estimators.sklearn needs scikit-learn 1.6 or newer: pip install 'scikit-learn>=1.6'"
    ) from error

Array = NDArray[Any]
DATES = ("M", "m")  # kinds of NumPy's types of dates and durations, whose nanoseconds would be learned
MOMENTS = (date, time, timedelta, np.datetime64, np.timedelta64, pd.Period)  # in a column of objects
NOT_OPTIONS = ("member", "random_state")  # parameters of the estimator that are not options of a learner


class _OnlineModel(Holder, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What classifier and regressor share. Parameters are stored as given and checked where rows come in."""

    _model: Model
    _used_options: dict[str, Any]  # the options that the model was created or last trained with
    learner: str | None
    missing: str | None
    member: int | None
    random_state: Any

    def __init__(
        self,
        learner: str | None = None,
        *,
        hidden: Sequence[int] | int | None = None,
        activation: str | None = None,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        mini_batch: int = 32,
        clip: float | None = None,
        initializer: str | float | None = None,
        window: int | None = None,
        fading: float | None = None,
        bias_initializer: str | float | None = None,
        loss: str | None = None,
        quantiles: Sequence[float] | None = None,
        huber_delta: float | None = None,
        focal_gamma: float | None = None,
        momentum: float | None = None,
        beta1: float | None = None,
        beta2: float | None = None,
        epsilon: float | None = None,
        rho: float | None = None,
        beta: float | None = None,
        schedule: str | None = None,
        schedule_rows: int | None = None,
        schedule_power: float | None = None,
        schedule_drop: float | None = None,
        schedule_growth: float | None = None,
        schedule_least: float | None = None,
        warmup: int | None = None,
        l1: float | None = None,
        l2: float | None = None,
        weight_decay: float | None = None,
        dropout: float | None = None,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        class_weight: str | Mapping[Any, float] | Sequence[tuple[Any, float]] | None = None,
        class_beta: float | None = None,
        scale: str | None = None,
        missing: str | None = None,
        drift: str | None = None,
        on_drift: str | None = None,
        members: Sequence[Mapping[str, Any]] | None = None,
        replay_rows: int | None = None,
        buffer_rows: int | None = None,
        buffer_bytes: int | None = None,
        eta: float | None = None,
        share: float | None = None,
        member: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.__dict__.update({name: value for name, value in locals().items() if name != "self"})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._missing_allowed()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = _is_regressor(self)
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_model")

    @property
    def learner_(self) -> Any:
        """The learner, with the options in use."""
        check_is_fitted(self)
        return self._model.learner

    @property
    def state_(self) -> State[Any]:
        """A copy of the model and its metrics."""
        check_is_fitted(self)
        return self._model.copy().state

    @property
    def coefs_(self) -> list[Array]:
        """Weights of each layer of `member`, (units before, units after), for standardised features."""
        shape, theta = self._network()
        return [W.copy() for W, _ in shape.views(theta)]

    @property
    def intercepts_(self) -> list[Array]:
        """Biases of each layer of `member`."""
        shape, theta = self._network()
        return [b.copy() for _, b in shape.views(theta)]

    @property
    def skip_coef_(self) -> Array:
        """Weights of `member` from the inputs directly to the outputs; (0, outputs) for a network without."""
        shape, theta = self._network()
        view: Array = shape.linear_view(theta).copy()
        return view

    def _network(self) -> tuple[Shape, Array]:
        """Return the shape and the parameters (parameters,) of the chosen member."""
        check_is_fitted(self)
        try:
            return models.member_network(self._model, self.member)
        except ValueError as error:  # so that hasattr() is False
            raise AttributeError(f"coefs_ and intercepts_ need one member: {error}") from None

    def _window_metrics(self) -> dict[str, Any]:
        window: dict[str, Any] = multioutput.report(self.state_.metrics)["prequential"]["window"]
        return window

    def save(self, model_dir: str | Path) -> int:
        """Commit the model to the log in `model_dir` as its newest version, and return the version's number.

        A directory without versions gets the first one; else the newest must be the one that this model was
        loaded from or last saved as. `streaming-nn train` resumes from it, and `score` predicts with it.
        Errors: ValueError where the newest is another one, VersionConflictError where another process commits
        meanwhile.
        """
        check_is_fitted(self)
        self._model = models.save(self._model, model_dir, self._schema())
        assert self._model.parent is not None
        return self._model.parent.number

    def to_onnx(self) -> "ModelProto":
        """Return the whole model, scaler and mixture, as an ONNX graph; needs onnx. See docs/export.md."""
        from streaming_nn.export.onnx import to_onnx

        check_is_fitted(self)
        return to_onnx(self._model, self._schema())

    def to_sklearn(self, member: int | None = None) -> Pipeline:
        """Return one member, with the scaler before it, as a fitted scikit-learn pipeline (docs/export.md).

        `member` None: the one that the parameter chooses. ValueError: an option that scikit-learn lacks.
        """
        from streaming_nn.export.sklearn import to_sklearn

        check_is_fitted(self)
        return to_sklearn(self._model, self.member if member is None else member)

    def _schema(self) -> Schema:
        """Return the schema of a stream that resumes from this model; its fields have the columns' names."""
        loaded: Schema | None = getattr(self, "_loaded_schema", None)
        if loaded is not None:
            return loaded
        names = getattr(self, "feature_names_in_", None)
        fields = "features" if names is None else tuple(map(str, names))
        return models.describe(self.learner_, fields, self._missing_allowed())

    def _adopt(self, model: Model, schema: Schema) -> None:
        options = given(model.learner.options())
        options["random_state"] = options["seed"]
        self.set_params(**{name: options[name] for name in self.get_params() if name in options})
        self._set_model(model)
        self._loaded_schema = schema
        if isinstance(schema.features, tuple):
            self.feature_names_in_ = np.array(schema.input_columns, object)

    def _set_model(self, model: Model) -> None:
        self._model, self._used_options = model, self._options()
        self.n_features_in_ = model.learner.inputs

    def _options(self) -> dict[str, Any]:
        """Return the learner's options that are set; one that is None has the learner's default."""
        given = {
            name: value for name, value in self.get_params(deep=False).items() if name not in NOT_OPTIONS
        }
        return {name: to_python(name, value) for name, value in given.items() if value is not None}

    def _create(self, inputs: int, outputs: Mapping[str, Any]) -> None:
        learner = learner_from(
            {**self._options(), "inputs": inputs, **outputs, "seed": _seed(self.random_state)}
        )
        self._set_model(new_model(learner))
        self.__dict__.pop("_loaded_schema", None)

    def _update_options(self) -> None:
        """Use the options set since the last call; ValueError where they need a new model."""
        options = self._options()
        if options == self._used_options:
            return
        kept = {k: v for k, v in self.learner_.options().items() if k not in self.get_params(deep=False)}
        learner = learner_from({**kept, **options})
        if not continues(learner, self.learner_, flatten(self.state_)):
            changes = difference(self.learner_.options(), learner.options())
            raise ValueError(f"cannot partial_fit with {changes}: call fit, which trains a new model")
        self._model, self._used_options = self._model._replace(learner=learner), options

    def _batch(self, X: Any, y: Any, sample_weight: Any, new: bool, classes: Any = None) -> Batch:
        """Check rows, and make the model ready to learn them; `new`: create a new one."""
        names = _column_names(y)
        with _validating(X=X, y=y):
            options = {"y_numeric": _is_regressor(self), "multi_output": True, **self._validation()}
            X, y = validate_data(self, X, y, reset=new, **options)
            y = _one_or_several(y)
            weight = sample_weight
            if weight is not None:
                weight = _check_sample_weight(weight, X, dtype=np.float32, ensure_non_negative=True)
        _refuse_large("X", X)
        if new:
            self._create(X.shape[1], self._outputs(y, names, classes))
        else:
            self._update_options()
        return Batch(X, self._targets(y), weight)

    def _validation(self) -> dict[str, Any]:
        """Return the options of scikit-learn's validate_data."""
        finite = "allow-nan" if self._missing_allowed() else True
        return {"dtype": np.float64, "order": "C", "ensure_all_finite": finite, "accept_sparse": "csr"}

    def _missing_allowed(self) -> bool:
        return self.missing not in (None, "refuse")

    def _outputs(self, y: Array, names: list[str] | None, classes: Any) -> dict[str, Any]:
        """Return the options of a learner for such targets; `names` are those of the columns of y."""
        raise NotImplementedError

    def _targets(self, y: Array) -> Array:
        raise NotImplementedError

    def _learn(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        new: bool,
        classes: Any = None,
        mini_batch: int | None = None,
    ) -> Array:
        """Learn rows, and return the predictions (rows, outputs) from before each mini-batch was learned."""
        outputs: list[Array] = []
        with _all_or_nothing(self):
            batch = self._batch(X, y, sample_weight, new, classes)
            self._model = models.learn(self._model, batch, outputs.append, mini_batch)
        if found := _large_columns(batch.x):
            names = self._schema().columns
            self._log_large(names[i] for i in found)
        return np.concatenate(outputs)

    def _predict(self, X: Any) -> Array:
        check_is_fitted(self)
        with _validating(X=X):
            x = validate_data(self, X, reset=False, **self._validation())
        _refuse_large("X", x)
        return models.predict(self._model, x)


class OnlineClassifier(ClassifierMixin, _OnlineModel):  # type: ignore[misc]
    """A classifier that learns rows in their order, once each; the default needs no tuning.

    `learner` is "ensemble" (see nn/ensemble.py) or "mlp", one network (see nn/mlp.py); None: the ensemble,
    or the network where an `optimizer` is named. The other parameters are their options; one that is None
    has the learner's default. `mini_batch` rows are predicted and learned at a time. With an integer
    `random_state` the same rows give the same model, to the bit, as in a stream with that `seed`. `member`
    chooses whose weights `coefs_` and `intercepts_` show. y may be a multilabel indicator (rows, labels):
    then predictions are one too, and `classes` are the labels in the order of its columns, by default their
    names, or their numbers. X may be a matrix of scipy.sparse: it is learned as
    the same array is, by its entries with `scale="sparse"`, else made dense piece by piece. Invalid input is
    a ValueError; the model is unchanged.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "OnlineClassifier":
        """Train a new model: learn the rows once, in their order."""
        self._learn(X, y, sample_weight, new=True)
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> "OnlineClassifier":
        """Learn more rows; the first call must have all `classes` that will occur, or an indicator."""
        self._check_classes(y, classes)
        self._learn(X, y, sample_weight, not hasattr(self, "_model"), classes)
        return self

    def test_then_train(
        self,
        X: Any,
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
        mini_batch: int | None = None,
    ) -> Array:
        """Learn as `partial_fit` does; return the labels predicted before each mini-batch was learned."""
        self._check_classes(y, classes)
        new = not hasattr(self, "_model")
        return self._to_labels(self._learn(X, y, sample_weight, new, classes, mini_batch))

    def predict(self, X: Any) -> Array:
        """Predict labels (rows,); of a multilabel model an indicator (rows, labels)."""
        return self._to_labels(self._predict(X))

    def predict_proba(self, X: Any) -> Array:
        """Predict probabilities (rows, classes), in the order of `classes_`."""
        return self._predict(X)

    @property
    def loss_(self) -> float:
        """Mean log loss of the last `window` rows, each predicted before it was learned."""
        return float(self._window_metrics()["log_loss"])

    @property
    def classes_(self) -> Array:
        """The labels in the order of the outputs."""
        check_is_fitted(self)
        return _array_of(self.learner_.classes)

    def _to_labels(self, output: Array) -> Array:
        if self.learner_.multilabel:
            return (output > 0.5).astype(int)
        labels: Array = self.classes_[output.argmax(axis=1)]
        return labels

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _check_classes(self, y: Any, classes: Any) -> None:
        fitted, indicator = hasattr(self, "_model"), len(getattr(y, "shape", None) or np.shape(y)) == 2
        if not fitted and classes is None and not indicator:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if fitted and classes is not None and set(np.unique(classes).tolist()) != set(self.classes_.tolist()):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, "
                f"was: {self.classes_!r}"
            )

    def _outputs(self, y: Array, names: list[str] | None, classes: Any) -> dict[str, Any]:
        if y.ndim == 2:
            given = classes if classes is not None else names or range(y.shape[1])
            labels = [*map(integral_to_int, np.asarray(given).tolist())]
            if len(labels) != y.shape[1]:
                raise ValueError(f"classes must be one per column of y, {y.shape[1]}; got {len(labels)}")
            return {"classes": labels, "multilabel": True}
        check_classification_targets(y)
        labels = [integral_to_int(label) for label in np.unique(y if classes is None else classes).tolist()]
        if len(labels) < 2:
            raise ValueError(f"classes must be two or more; got {len(labels)} class: {labels}")
        return {"classes": labels}

    def _targets(self, y: Array) -> Array:
        if self.learner_.multilabel or y.ndim == 2:
            return _indicator(y, len(self.classes_), self.learner_.multilabel)
        check_classification_targets(y)
        labels, inverse = np.unique(y, return_inverse=True)
        indices = {label: index for index, label in enumerate(self.learner_.classes)}
        if any(label not in indices for label in labels.tolist()):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. "
                f"'y' has {labels}."
            )
        classes: Array = np.array([indices[label] for label in labels.tolist()], np.int32)[inverse]
        return classes


class OnlineRegressor(RegressorMixin, _OnlineModel):  # type: ignore[misc]
    """A regressor that learns rows in their order, once each; parameters as for `OnlineClassifier`.

    y may have several targets (rows, targets): then predictions have as many.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "OnlineRegressor":
        """Train a new model: learn the rows once, in their order."""
        self._learn(X, y, sample_weight, new=True)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "OnlineRegressor":
        """Learn more rows."""
        self._learn(X, y, sample_weight, new=not hasattr(self, "_model"))
        return self

    def test_then_train(
        self, X: Any, y: Any, sample_weight: Any = None, mini_batch: int | None = None
    ) -> Array:
        """Learn as `partial_fit` does; return the predictions from before each mini-batch was learned."""
        new = not hasattr(self, "_model")
        return self._point(self._learn(X, y, sample_weight, new, None, mini_batch))

    def predict(self, X: Any) -> Array:
        """Predict targets (rows,) or (rows, targets); of quantiles, the one nearest to the median."""
        return self._point(self._predict(X))

    def predict_quantiles(self, X: Any) -> Array:
        """Predict all outputs (rows, outputs): with loss "quantile", one for each of `quantiles`."""
        return self._predict(X)

    def _point(self, output: Array) -> Array:
        if self.learner_.targets:
            return np.asarray(output, np.float64)
        return point_prediction(self.learner_, output)[:, 0]

    @property
    def loss_(self) -> float:
        """Mean squared error of the last `window` rows, each predicted before it was learned."""
        window = self._window_metrics()
        each = window["per_target"]["rmse"] if self.learner_.targets else [window["rmse"]]
        return float(np.mean(np.square(each)))

    def _outputs(self, y: Array, names: list[str] | None, classes: Any) -> dict[str, Any]:
        return {"targets": names or [f"y{i}" for i in range(y.shape[1])]} if y.ndim == 2 else {}

    def _targets(self, y: Array) -> Array:
        targets: Array = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        _refuse_large("y", targets)
        columns = len(self.learner_.targets or ())
        if (targets.shape[1] if targets.ndim == 2 else 0) != columns:
            raise ValueError(
                f"y must have as many targets as before, {columns or 1}; got shape {targets.shape}"
            )
        return targets


def load(model_dir: str | Path) -> OnlineClassifier | OnlineRegressor:
    """Read the newest version of a model directory, by any writer; `save` commits to the same directory.

    LookupError: there is no version; DamagedVersionError: it is damaged.
    """
    model, schema = models.load(model_dir)
    estimator = OnlineRegressor() if model.learner.classes is None else OnlineClassifier()
    estimator._adopt(model, schema)
    return estimator


@contextmanager
def _all_or_nothing(estimator: _OnlineModel) -> Iterator[None]:
    """Restore every attribute after an error: states are never changed, only replaced."""
    before = dict(estimator.__dict__)
    try:
        yield
    except BaseException:
        estimator.__dict__.clear()
        estimator.__dict__.update(before)
        raise


@contextmanager
def _validating(**given: Any) -> Iterator[None]:
    """Raise ValueError in one line where NumPy does not: for dates, and for integers beyond float64."""
    for name, values in given.items():
        if any(map(_is_of_dates, _dtypes(values))):
            raise _dates_error(name)
    try:
        yield
    except OverflowError:
        raise ValueError("Input contains an integer that is too large for float64") from None
    except TypeError:
        for name, values in given.items():
            if any(isinstance(value, MOMENTS) for value in np.asarray(values, object).flat):
                raise _dates_error(name) from None
        raise


def _dates_error(name: str) -> ValueError:
    return ValueError(f"{name} must have numbers; got dates or durations: {FROM_DATES}")


def _dtypes(values: Any) -> Iterable[Any]:
    """Return the types of a table's columns, or of an array: those of pandas, polars, Arrow or NumPy."""
    if isinstance(values, pa.Table | pa.RecordBatch):
        return values.schema.types  # type: ignore[no-any-return]  # Arrow has no types
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return [values.type]
    if hasattr(values, "columns"):
        return values.dtypes  # type: ignore[no-any-return]
    if isinstance(values, list | tuple):  # of NumPy's dates, which it would convert
        values = np.asarray(values[:1])
    return [getattr(values, "dtype", None)]


def _is_of_dates(dtype: Any) -> bool:
    if isinstance(dtype, pa.DataType):
        return bool(pa.types.is_temporal(dtype))
    if isinstance(dtype, pd.CategoricalDtype):
        dtype = dtype.categories.dtype
    if hasattr(dtype, "is_temporal"):  # of polars
        return bool(dtype.is_temporal())
    return getattr(dtype, "kind", "") in DATES


def _column_names(y: Any) -> list[str] | None:
    """Return the names of a table's columns; None: it is an array."""
    names = getattr(y, "column_names", None)  # of Arrow, whose `columns` are values
    names = getattr(y, "columns", None) if names is None else names
    return None if names is None else [*map(str, names)]


def _one_or_several(y: Any) -> Array:
    """Return y as an array: (rows,) of one column, with a warning as in scikit-learn, or (rows, columns)."""
    y = y.toarray() if hasattr(y, "toarray") else y
    several: Array = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
    return several


def _indicator(y: Array, labels: int, multilabel: bool) -> Array:
    """Return a multilabel indicator as integers; ValueError if it is none, or not of these labels."""
    if not multilabel or y.ndim != 2 or y.shape[1] != labels:
        expected = f"(rows, {labels}), a multilabel indicator" if multilabel else "(rows,), as before"
        raise ValueError(f"y must be {expected}; got shape {y.shape}")
    if not np.isin(y, (0, 1)).all():
        raise ValueError("y must be a multilabel indicator of 0 and 1; got other values")
    return y.astype(np.int32)


def _refuse_large(name: str, values: Any) -> None:
    """Raise ValueError, as scikit-learn does, for a number beyond float32, which gradients have."""
    if np.isinf(bounded(values if isinstance(values, np.ndarray) else values.data)).any():
        raise ValueError(f"Input {name} contains infinity or a value too large for dtype('float32').")


def _large_columns(x: Any) -> list[int]:
    """Return the columns of an array or a sparse matrix whose numbers may be identifiers."""
    if isinstance(x, np.ndarray):
        return large_columns(x)
    columns: list[int] = np.unique(x.indices[np.abs(x.data) >= LARGE]).tolist()
    return columns


def _is_regressor(estimator: _OnlineModel) -> bool:
    return isinstance(estimator, OnlineRegressor)


def _seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _array_of(labels: tuple[Any, ...]) -> Array:
    return np.array(labels, None if len(set(map(type, labels))) == 1 else object)
