"""The learners in scikit-learn's manners: arrays in, answers out, and the same versions as the stream."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.estimators import model as models
from streaming_nn.estimators.model import Model, begun, plain, saved
from streaming_nn.nn import metrics, network
from streaming_nn.nn.factory import LEARNERS, difference, learner_from
from streaming_nn.nn.learner import Batch, State, initial, point
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.schema import Schema
from streaming_nn.versions.rollback import shapes

if TYPE_CHECKING:
    from onnx import ModelProto

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.pipeline import Pipeline
    from sklearn.utils import check_array, check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        "streaming_nn.estimators.sklearn needs scikit-learn 1.6 or newer: pip install 'scikit-learn>=1.6'"
    ) from error

Array = NDArray[Any]
OWN = ("member", "random_state")  # parameters of the estimator that are no options of a learner
NO_PARAMETERS = {"inputs", "classes", "seed"}  # options that come from the rows, and from random_state


def _parameters() -> Signature:
    """List the estimators' parameters: all learners' options, None where the learner's default holds."""
    options = dict.fromkeys(field.name for kind in LEARNERS.values() for field in fields(kind))
    named: dict[str, Any] = {name: None for name in options if name not in NO_PARAMETERS}
    named |= {"mini_batch": 32, "member": None, "random_state": 0}
    return Signature(
        [
            Parameter("self", Parameter.POSITIONAL_OR_KEYWORD),
            Parameter("learner", Parameter.POSITIONAL_OR_KEYWORD, default=None),
            *(Parameter(name, Parameter.KEYWORD_ONLY, default=value) for name, value in named.items()),
        ]
    )


PARAMETERS = _parameters()


class _OnlineMLP(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What classifier and regressor share. Parameters are stored as given and checked where rows come in."""

    _model: Model
    _asked: dict[str, Any]  # the options that the model was made or has gone on with
    learner: str | None
    missing: str | None
    member: int | None
    random_state: Any

    def __init__(self, *args: Any, **parameters: Any) -> None:
        given = PARAMETERS.bind(self, *args, **parameters)
        given.apply_defaults()
        self.__dict__.update({name: value for name, value in given.arguments.items() if name != "self"})

    __init__.__signature__ = PARAMETERS  # type: ignore[attr-defined]  # scikit-learn reads it

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._missing_allowed()
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_model")

    @property
    def learner_(self) -> Any:
        """The options that are in force."""
        check_is_fitted(self)
        return self._model.learner

    @property
    def state_(self) -> State[Any]:
        """The model and its metrics."""
        check_is_fitted(self)
        return self._model.state

    @property
    def coefs_(self) -> list[Array]:
        """Weights of each layer of `member`, (units before, units after), for standardised features."""
        return [W[0].copy() for W, _ in network.views(self._shape(), self._theta())]

    @property
    def intercepts_(self) -> list[Array]:
        """Biases of each layer of `member`."""
        return [b[0, 0].copy() for _, b in network.views(self._shape(), self._theta())]

    @property
    def skip_coef_(self) -> Array:
        """Weights of `member` from the inputs right to the outputs; (0, outputs) for a network without."""
        view: Array = network.skip_view(self._shape(), self._theta())[0].copy()
        return view

    def _shape(self) -> network.Network:
        return self.learner_.shape  # type: ignore[no-any-return]

    def _theta(self) -> Array:
        """Give the parameters of the chosen member (1, parameters)."""
        check_is_fitted(self)
        try:
            return models.theta_of(self._model, self.member)
        except ValueError as error:  # so that hasattr() says no
            raise AttributeError(f"coefs_ and intercepts_ are those of one member: {error}") from None

    def _span(self) -> dict[str, Any]:
        window: dict[str, Any] = metrics.report(self.state_.metrics)["prequential"]["window"]
        return window

    def save(self, model_dir: str | Path) -> int:
        """Append the model to the log in `model_dir` as its newest version, and return the version's number.

        A folder without versions gets the first one; else the newest must be the one that this model was
        loaded from or last saved as. `streaming-nn train` goes on from it, and `score` answers with it.
        Errors: ValueError where the newest is another one, VersionConflictError where somebody appends meanwhile.
        """
        check_is_fitted(self)
        self._model = saved(self._model, model_dir, self._schema())
        assert self._model.place is not None
        return self._model.place.number

    def to_onnx(self) -> "ModelProto":
        """Give the whole model, scaler and mixture, as an ONNX graph: see docs/export.md. It takes onnx."""
        from streaming_nn.export.onnx import to_onnx

        check_is_fitted(self)
        return to_onnx(self._model, self._schema())

    def to_sklearn(self, member: int | None = None) -> Pipeline:
        """Give one member, and the scaler before it, as scikit-learn's own, fitted: see docs/export.md.

        Without a `member` it is the one that the parameter chooses. ValueError: what scikit-learn lacks.
        """
        from streaming_nn.export.sklearn import to_sklearn

        check_is_fitted(self)
        return to_sklearn(self._model, self.member if member is None else member)

    def _schema(self) -> Schema:
        """Say what a stream's records look like, so that it can go on: the columns' names are the fields'."""
        loaded: Schema | None = getattr(self, "_loaded", None)
        if loaded is not None:
            return loaded
        names = getattr(self, "feature_names_in_", None)
        fields = "features" if names is None else tuple(map(str, names))
        missing = self._missing_allowed()
        return Schema(self.learner_.inputs, self.learner_.classes, fields, missing=missing)

    def _adopt(self, model: Model, schema: Schema) -> None:
        options = {"random_state": model.learner.options().get("seed", 0), **model.learner.options()}
        self.set_params(**{name: options[name] for name in self.get_params() if name in options})
        self._enter(model)
        self._loaded = schema
        if isinstance(schema.features, tuple):
            self.feature_names_in_ = np.array(schema.columns, object)

    def _enter(self, model: Model) -> None:
        self._model, self._asked, self.n_features_in_ = model, self._options(), model.learner.inputs

    def _options(self) -> dict[str, Any]:
        """Give the learner's options as they have been set; None leaves one to the learner's own default."""
        given = {name: value for name, value in self.get_params(deep=False).items() if name not in OWN}
        return {name: plain(name, value) for name, value in given.items() if value is not None}

    def _begin(self, inputs: int, classes: list[Any] | None) -> None:
        learner = learner_from(
            {**self._options(), "inputs": inputs, "classes": classes, "seed": _seed(self.random_state)}
        )
        self._enter(begun(learner))
        self.__dict__.pop("_loaded", None)

    def _go_on(self) -> None:
        """Take over what has been set since; ValueError where the model would have to be another one."""
        asked = self._options()
        if asked == self._asked:
            return
        kept = {k: v for k, v in self.learner_.options().items() if k not in self.get_params(deep=False)}
        learner = learner_from({**kept, **asked})
        if shapes(flatten(initial(learner))) != shapes(flatten(self.state_)):
            changes = difference(self.learner_.options(), learner.options())
            raise ValueError(f"partial_fit can't go on with {changes}: fit begins a new model")
        self._model, self._asked = self._model._replace(learner=learner), asked

    def _batch(self, X: Any, y: Any, sample_weight: Any, anew: bool, classes: Any = None) -> Batch:
        """Check rows, and make the model ready to learn them."""
        with np.errstate(over="ignore"):  # what is too large for float32 is told, not warned of
            X, y = validate_data(self, X, y, reset=anew, y_numeric=_is_regressor(self), **self._rows_as())
        weight = sample_weight
        if weight is not None:
            weight = _check_sample_weight(weight, X, dtype=np.float32, ensure_non_negative=True)
        if anew:
            self._begin(X.shape[1], self._labels(y, classes))
        else:
            self._go_on()
        return Batch(X, self._targets(y), weight)

    def _rows_as(self) -> dict[str, Any]:
        """Say what scikit-learn is to make of a table."""
        finite = "allow-nan" if self._missing_allowed() else True
        return {"dtype": np.float32, "order": "C", "ensure_all_finite": finite}

    def _missing_allowed(self) -> bool:
        return self.missing not in (None, "refuse")

    def _labels(self, y: Array, classes: Any) -> list[Any] | None:
        raise NotImplementedError

    def _targets(self, y: Array) -> Array:
        raise NotImplementedError

    def _learned(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        anew: bool,
        classes: Any = None,
        mini_batch: int | None = None,
    ) -> Array:
        """Learn rows, and give the answers (rows, outputs) from before each mini-batch was learned."""
        outputs: list[Array] = []
        with _all_or_nothing(self):
            batch = self._batch(X, y, sample_weight, anew, classes)
            self._model = models.learned(self._model, batch, outputs.append, mini_batch)
        return np.concatenate(outputs)

    def _answered(self, X: Any) -> Array:
        check_is_fitted(self)
        with np.errstate(over="ignore"):
            x = validate_data(self, X, reset=False, **self._rows_as())
        return models.answers(self._model, x)


class OnlineMLPClassifier(ClassifierMixin, _OnlineMLP):  # type: ignore[misc]
    """A classifier that learns rows in their order, once each; the default needs no tuning.

    `learner` is "ensemble" (see nn/ensemble.py) or "mlp", one network (see nn/mlp.py); None: the ensemble,
    or the network where an `optimizer` is named. The other parameters are their options, and one that is None
    has the learner's default. `mini_batch` rows are answered and learned at a time. With `random_state` a
    number, the same rows give the same model, to the bit, as in a stream with that `seed`. `member` chooses
    whose weights `coefs_` and `intercepts_` show. Bad input is a ValueError, and the model stays what it was.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "OnlineMLPClassifier":
        """Begin a new model, and learn the rows once, in their order."""
        self._learned(X, y, sample_weight, anew=True)
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> "OnlineMLPClassifier":
        """Learn more rows; the first call must say all `classes` that there will be."""
        self._same_classes(classes)
        self._learned(X, y, sample_weight, not hasattr(self, "_model"), classes)
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
        self._same_classes(classes)
        anew = not hasattr(self, "_model")
        return self._named(self._learned(X, y, sample_weight, anew, classes, mini_batch))

    def predict(self, X: Any) -> Array:
        """Answer rows with labels (rows,)."""
        return self._named(self._answered(X))

    def predict_proba(self, X: Any) -> Array:
        """Answer rows with probabilities (rows, classes) in the order of `classes_`."""
        return self._answered(X)

    @property
    def loss_(self) -> float:
        """Mean log loss of the last `window` rows, each answered before it was learned."""
        return float(self._span()["log_loss"])

    @property
    def classes_(self) -> Array:
        """The labels in the order of the outputs."""
        check_is_fitted(self)
        return _array_of(self.learner_.classes)

    def _named(self, output: Array) -> Array:
        labels: Array = self.classes_[output.argmax(axis=1)]
        return labels

    def _same_classes(self, classes: Any) -> None:
        fitted = hasattr(self, "_model")
        if not fitted and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if fitted and classes is not None and set(np.unique(classes).tolist()) != set(self.classes_.tolist()):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, "
                f"was: {self.classes_!r}"
            )

    def _labels(self, y: Array, classes: Any) -> list[Any]:
        check_classification_targets(y)
        labels = [_whole(label) for label in np.unique(y if classes is None else classes).tolist()]
        if len(labels) < 2:
            raise ValueError(f"classes must be two or more; got {len(labels)} class: {labels}")
        return labels

    def _targets(self, y: Array) -> Array:
        check_classification_targets(y)
        labels, inverse = np.unique(y, return_inverse=True)
        places = {label: place for place, label in enumerate(self.learner_.classes)}
        if any(label not in places for label in labels.tolist()):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. "
                f"'y' has {labels}."
            )
        found: Array = np.array([places[label] for label in labels.tolist()], np.int32)[inverse]
        return found


class OnlineMLPRegressor(RegressorMixin, _OnlineMLP):  # type: ignore[misc]
    """A regressor that learns rows in their order, once each; parameters as for `OnlineMLPClassifier`."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "OnlineMLPRegressor":
        """Begin a new model, and learn the rows once, in their order."""
        self._learned(X, y, sample_weight, anew=True)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "OnlineMLPRegressor":
        """Learn more rows."""
        self._learned(X, y, sample_weight, anew=not hasattr(self, "_model"))
        return self

    def test_then_train(
        self, X: Any, y: Any, sample_weight: Any = None, mini_batch: int | None = None
    ) -> Array:
        """Learn as `partial_fit` does; return the answers to each mini-batch from before it was learned."""
        anew = not hasattr(self, "_model")
        return self._point(self._learned(X, y, sample_weight, anew, None, mini_batch))

    def predict(self, X: Any) -> Array:
        """Answer rows with targets (rows,); of quantiles, the one that is nearest to the median."""
        return self._point(self._answered(X))

    def predict_quantiles(self, X: Any) -> Array:
        """Answer rows with all outputs (rows, outputs): with loss "quantile", one each of `quantiles`."""
        return self._answered(X)

    def _point(self, output: Array) -> Array:
        return point(self.learner_, output)[:, 0]

    @property
    def loss_(self) -> float:
        """Mean squared error of the last `window` rows, each answered before it was learned."""
        return float(self._span()["rmse"]) ** 2

    def _labels(self, y: Array, classes: Any) -> None:
        return None

    def _targets(self, y: Array) -> Array:
        with np.errstate(over="ignore"):
            return check_array(y, ensure_2d=False, dtype=np.float32, input_name="y")  # type: ignore[no-any-return]


def load(model_dir: str | Path) -> OnlineMLPClassifier | OnlineMLPRegressor:
    """Read the newest version of a model directory, whoever wrote it; `save` into the same one goes on.

    LookupError: there is no version; DamagedVersionError: it is not whole.
    """
    model, schema = models.loaded(model_dir)
    estimator = OnlineMLPRegressor() if model.learner.classes is None else OnlineMLPClassifier()
    estimator._adopt(model, schema)
    return estimator


@contextmanager
def _all_or_nothing(estimator: _OnlineMLP) -> Iterator[None]:
    """Put every attribute back where something was wrong: states are never changed, only exchanged."""
    before = dict(estimator.__dict__)
    try:
        yield
    except BaseException:
        estimator.__dict__.clear()
        estimator.__dict__.update(before)
        raise


def _is_regressor(estimator: _OnlineMLP) -> bool:
    return isinstance(estimator, OnlineMLPRegressor)


def _seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _whole(label: Any) -> Any:
    """Give 1 for 1.0: scikit-learn's labels may be floats, a record's are not."""
    return int(label) if isinstance(label, float) and label.is_integer() else label


def _array_of(labels: tuple[Any, ...]) -> Array:
    return np.array(labels, None if len(set(map(type, labels))) == 1 else object)
