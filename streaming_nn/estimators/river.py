"""The learners with River's API, on dicts and pandas frames, and with the same versions as the stream."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streaming_nn.estimators import model as models
from streaming_nn.estimators.model import Model, new_model, to_python
from streaming_nn.nn import validation
from streaming_nn.nn.factory import LEARNERS, learner_from
from streaming_nn.nn.learner import Batch, point_prediction
from streaming_nn.records import categories, schema
from streaming_nn.records.labels import MAX_LENGTH, Label, integral_to_int, is_valid_label, label_key
from streaming_nn.records.reasons import NOT_FINITE, BadRecord
from streaming_nn.records.schema import MAX_CLASSES, Schema, merge_unseen, width
from streaming_nn.records.values import Rules, to_number

if TYPE_CHECKING:
    from onnx import ModelProto
    from sklearn.pipeline import Pipeline

try:
    from river.base import MiniBatchClassifier, MiniBatchRegressor
except ModuleNotFoundError:  # River's pipelines and metrics need its own classes; without River, these do

    class MiniBatchClassifier:  # type: ignore[no-redef]
        """Replaces River's class."""

    class MiniBatchRegressor:  # type: ignore[no-redef]
        """Replaces River's class."""


Array = NDArray[Any]
Columns = Mapping[str, Any]  # a feature's values, one a row: a Series or a list
STRING_COLUMNS = 16  # one-hot columns of a string feature that `categories` does not name
EXTRA = ("refuse", "ignore")
OPTIONS = {"learner"} | {field.name for learner in LEARNERS.values() for field in fields(learner)}

RULES = Rules(missing=True)  # of values: a gap is NaN, a string is a category


class _Table(NamedTuple):
    """Rows as the learner takes them."""

    x: NDArray[np.float32]  # (rows, inputs)
    unseen: Mapping[str, tuple[Label, ...]]  # by feature: values that the schema can add


class _RiverModel:
    """What classifier and regressor share. The model and its schema are replaced together, or not at all."""

    _model: Model | None = None
    _schema: Schema
    learner: str | None
    features: Sequence[str] | None
    categories: Mapping[str, Mapping[str, int]] | None
    label: str
    extra: str
    seed: int

    def _initialize(self, parameters: Mapping[str, Any]) -> None:
        """Store the parameters under their names, which is how River clones a model, and check them."""
        self.__dict__.update(parameters)
        validation.one_of("extra", self.extra, EXTRA)
        _check_list("features", self.features)
        if not isinstance(self.categories, Mapping | None):
            raise ValueError(f"categories must map features to encodings; got {self.categories!r}")
        for name, encoding in (self.categories or {}).items():
            schema.check_encoding(name, encoding)
        self._create_learner(1, self._known_labels() or (False, True))

    def _known_labels(self) -> tuple[Any, ...] | None:
        raise NotImplementedError

    def _create_learner(self, inputs: int, classes: Any) -> Any:
        given = {
            name: to_python(name, value)
            for name, value in self.__dict__.items()
            if name in OPTIONS and value is not None
        }
        return learner_from({**given, "inputs": inputs, "classes": classes})

    def save(self, model_dir: str | Path) -> int:
        """Commit the model to the log in `model_dir` as its newest version, and return the version's number.

        A directory without versions gets the first one; else the newest must be the one that this model was
        loaded from or last saved as. `streaming-nn train` and `estimators.sklearn` resume from it. Errors:
        ValueError where the newest is another one, or no row has been learned; VersionConflictError where
        another process commits meanwhile.
        """
        self._model = models.save(self._require_model("save"), model_dir, self._schema)
        assert self._model.parent is not None
        return self._model.parent.number

    def to_onnx(self) -> "ModelProto":
        """Return the whole model, scaler and mixture, as an ONNX graph; needs onnx. See docs/export.md."""
        from streaming_nn.export.onnx import to_onnx

        return to_onnx(self._require_model("export"), self._schema)

    def to_sklearn(self, member: int | None = None) -> "Pipeline":
        """Return one member, with the scaler before it, as a fitted scikit-learn pipeline: docs/export.md."""
        from streaming_nn.export.sklearn import to_sklearn

        return to_sklearn(self._require_model("export"), member)

    def _require_model(self, action: str) -> Model:
        if self._model is None:
            raise ValueError(f"cannot {action} a model that has learned no row; learn one first")
        return self._model

    @classmethod
    def _from(cls, model: Model, described: Schema) -> Any:
        if described.features in described.categories:
            raise ValueError(f"cannot name the columns: {described.features!r} holds hashed tokens")
        options = {name: value for name, value in model.learner.options().items() if name != "inputs"}
        classes = options.pop("classes")
        known = {} if classes is None else {"classes": classes}
        names = _names(described)
        label = described.label or "label"
        build: Any = cls
        created = build(features=names, categories=described.categories, label=label, **known, **options)
        created._model, created._schema = model, replace(described, label=label)
        return created

    def _create(self, columns: Columns, classes: tuple[Any, ...] | None) -> tuple[Model, Schema]:
        """Return a new model for rows like these; names are sorted, so that their order does not matter."""
        names = tuple(sorted(columns) if self.features is None else self.features)
        if not names:
            raise ValueError("x must have one feature or more; got none")
        if self.label in names:
            raise ValueError(f"label must not be the name of a feature; got {self.label!r}")
        inferred = {name: _infer_encoding(columns[name]) for name in names if name in columns}
        encodings = {name: encoding for name, encoding in inferred.items() if encoding}
        encodings |= {name: dict(encoding) for name, encoding in (self.categories or {}).items()}
        inputs = width(names, encodings)
        assert inputs is not None
        model = new_model(self._create_learner(inputs, classes))
        missing, growing = model.learner.options()["missing"] != "refuse", classes is not None
        described = Schema(
            inputs, classes, names, self.label, missing=missing, categories=encodings, grow=growing
        )
        return model, described

    def _learn(self, columns: Columns, rows: int, y: Iterable[Any]) -> None:
        """Learn rows in the learner's mini-batches; an error leaves the model unchanged."""
        labels = self._labels(y)
        if self._model is None:
            model, described = self._create(columns, self._first_classes(labels))
        else:
            model, described = self._model, self._schema
        self._check_names(described, columns)
        described = self._with_classes(described, labels)
        table = _table(described, columns, rows)
        if table.unseen:
            described = schema.grow_schema(described, table.unseen)
            table = _table(described, columns, rows)
        if described.classes != model.learner.classes:
            model = models.grow(model, described.classes or ())
        batch = Batch(table.x, self._targets(described, labels))
        self._model = models.learn(model, batch, lambda _: None)
        self._schema = described

    def learn_one(self, x: Mapping[Any, Any], y: Any) -> None:
        """Learn one row, as a mini-batch of one."""
        self._learn(_columns(x), 1, [y])

    def learn_many(self, X: pd.DataFrame, y: pd.Series) -> None:
        """Learn rows in their order, in mini-batches of the option `mini_batch`."""
        columns = self._frame(X)
        labels = _check_index(X, y)
        if len(X):
            self._learn(columns, len(X), labels)

    def _first_classes(self, labels: Any) -> tuple[Any, ...] | None:
        raise NotImplementedError

    def _labels(self, y: Iterable[Any]) -> Any:
        raise NotImplementedError

    def _with_classes(self, described: Schema, labels: Any) -> Schema:
        return described

    def _targets(self, described: Schema, labels: Any) -> Array:
        raise NotImplementedError

    def _predict(self, columns: Columns, rows: int) -> Array:
        """Return the predictions (rows, outputs)."""
        assert self._model is not None
        self._check_names(self._schema, columns)
        return models.predict(self._model, _table(self._schema, columns, rows).x)

    def _check_names(self, described: Schema, columns: Columns) -> None:
        if self.extra == "ignore":
            return
        names = _names(described)
        extra = sorted(columns.keys() - set(names))
        if extra:
            raise ValueError(
                f"features must be among {_listed(names)}, unless extra = 'ignore'; got {_listed(extra)} too"
            )

    def _frame(self, X: Any) -> Columns:
        """Return a frame's columns; it must have all of the model's."""
        if not isinstance(X, pd.DataFrame):
            raise TypeError(f"X must be a pandas DataFrame; got {type(X).__name__}")
        names = [str(name) for name in X.columns]
        duplicates = [name for i, name in enumerate(names) if name in names[:i]]
        if duplicates:
            raise ValueError(f"X must have columns of different names; got {duplicates[0]!r} twice")
        expected = tuple(self.features or ()) if self._model is None else _names(self._schema)
        absent = [name for name in expected if name not in names]
        if absent:
            raise ValueError(f"X must have all columns of the model; got none named {_listed(absent)}")
        return {name: X.iloc[:, i] for i, name in enumerate(names)}


class RiverClassifier(_RiverModel, MiniBatchClassifier):
    """A classifier that learns dicts and frames in their order, once each; the default needs no tuning.

    `learner` is "ensemble" (see nn/ensemble.py) or "mlp", one network (see nn/mlp.py); None: the ensemble,
    or the network where an `optimizer` is named. The parameters after `seed` are their options; one that is
    None has the learner's default. `features` are the names of the columns; None: those of the first rows,
    sorted, so that their order does not matter. `categories` defines how features that are not numbers become
    columns, {"city": {"hash": 32}, "kind": {"one_hot": 16}}, as in records.Schema; string features that it
    does not name have {"one_hot": 16}, booleans {"one_hot": 2}. `classes` are labels known beforehand; others
    become classes when they are first seen. `label` is the label's name in frames and records. `extra` is
    what to do with a feature that the model does not know: "refuse", an error, or "ignore". The same rows
    give the same model, to the bit, as in a stream with that `seed`.

    A number that is None, NaN or not in a dict is missing, and its running mean is imputed; a category that
    is missing is all zeros. With missing = "refuse" both are errors. A frame must have all columns. Invalid
    input is a ValueError (TypeError if it is not a dict or a frame), and the model is unchanged.

    It is a `river.base.MiniBatchClassifier` where River is installed; River is not needed.
    """

    _multiclass = True
    classes: Sequence[Any] | None

    def __init__(
        self,
        learner: str | None = None,
        *,
        features: Sequence[str] | None = None,
        categories: Mapping[str, Mapping[str, int]] | None = None,
        classes: Sequence[Any] | None = None,
        label: str = "label",
        extra: str = "refuse",
        seed: int = 0,
        hidden: Sequence[int] | int | None = None,
        activation: str | None = None,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        mini_batch: int | None = None,
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
        missing: str = "impute",
        drift: str | None = None,
        on_drift: str | None = None,
        sgd_rates: Sequence[float] | None = None,
        replay_rates: Sequence[tuple[float, float]] | None = None,
        replay_rows: int | None = None,
        buffer_rows: int | None = None,
        buffer_bytes: int | None = None,
        eta: float | None = None,
        share: float | None = None,
    ) -> None:
        parameters = {name: value for name, value in locals().items() if name != "self"}
        _check_list("classes", classes)
        if classes is None and not isinstance(class_weight, str | None):
            raise ValueError("classes must be set where class_weight names them; got None")
        self._initialize(parameters)

    def predict_one(self, x: Mapping[Any, Any], **_: Any) -> Any:
        """Predict one row's label; None before a row is learned."""
        probabilities = self.predict_proba_one(x)
        return max(probabilities, key=probabilities.__getitem__) if probabilities else None

    def predict_proba_one(self, x: Mapping[Any, Any], **_: Any) -> dict[Any, float]:
        """Predict the probability of each label seen or known; {} before a row is learned."""
        columns = _columns(x)
        if self._model is None:
            return {}
        probabilities = _normalize(self._predict(columns, 1))[0].tolist()
        return dict(zip(self._classes(), probabilities, strict=True))

    def predict_many(self, X: pd.DataFrame) -> pd.Series:
        """Predict labels: a Series with the index of X; None before a row is learned."""
        columns = self._frame(X)
        if self._model is None:
            return pd.Series([None] * len(X), X.index, object, self.label)
        best = _normalize(self._predict(columns, len(X))).argmax(axis=1)
        labels = np.array([*self._classes(), None], object)[best]
        return pd.Series(labels, X.index, object, self.label).infer_objects()

    def predict_proba_many(self, X: pd.DataFrame) -> pd.DataFrame:
        """Predict a probability for each label: a frame with the index of X."""
        columns = self._frame(X)
        if self._model is None:
            return pd.DataFrame(index=X.index)
        probabilities = _normalize(self._predict(columns, len(X)))
        return pd.DataFrame(probabilities, X.index, list(self._classes()))

    def _classes(self) -> tuple[Any, ...]:
        assert self._model is not None
        return self._model.learner.classes or ()

    def _known_labels(self) -> tuple[Any, ...] | None:
        return None if self.classes is None else tuple(_label(y, "classes") for y in self.classes)

    def _first_classes(self, labels: Sequence[Any]) -> tuple[Any, ...]:
        """Return the initial classes: the known ones, or the first label."""
        if known := self._known_labels():
            return known
        _check_valid(labels[:1])
        return (labels[0],)

    def _labels(self, y: Iterable[Any]) -> Sequence[Any]:
        return list(map(_label, y))

    def _with_classes(self, described: Schema, labels: Sequence[Any]) -> Schema:
        """Return the schema with the new labels as classes, in the order of their first appearance."""
        classes = described.classes or ()
        known = set(map(label_key, classes))
        new = tuple({label_key(y): y for y in labels if label_key(y) not in known}.values())
        if not new:
            return described
        if not described.grow:
            raise ValueError(f"y must be one of {_listed(classes)}; got {_shown(new[0])}")
        _check_valid(new)
        if len({*classes, *new}) < len(classes) + len(new):  # no dict of probabilities can hold both
            raise ValueError(f"y must not be both numbers and booleans; got {_listed({*classes, *new})}")
        if len(classes) + len(new) > MAX_CLASSES:
            raise ValueError(f"classes must be {MAX_CLASSES:,} at most; got {len(classes) + len(new):,}")
        return schema.grow_schema(described, {str(described.label): new})

    def _targets(self, described: Schema, labels: Sequence[Any]) -> Array:
        indices = {label_key(label): index for index, label in enumerate(described.classes or ())}
        return np.array([indices[label_key(label)] for label in labels], np.int32)


class RiverRegressor(_RiverModel, MiniBatchRegressor):
    """A regressor that learns dicts and frames in their order; parameters as for `RiverClassifier`."""

    def __init__(
        self,
        learner: str | None = None,
        *,
        features: Sequence[str] | None = None,
        categories: Mapping[str, Mapping[str, int]] | None = None,
        label: str = "label",
        extra: str = "refuse",
        seed: int = 0,
        hidden: Sequence[int] | int | None = None,
        activation: str | None = None,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        mini_batch: int | None = None,
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
        missing: str = "impute",
        drift: str | None = None,
        on_drift: str | None = None,
        sgd_rates: Sequence[float] | None = None,
        replay_rates: Sequence[tuple[float, float]] | None = None,
        replay_rows: int | None = None,
        buffer_rows: int | None = None,
        buffer_bytes: int | None = None,
        eta: float | None = None,
        share: float | None = None,
    ) -> None:
        self._initialize({name: value for name, value in locals().items() if name != "self"})

    def predict_one(self, x: Mapping[Any, Any], **_: Any) -> float:
        """Predict one row's target; 0.0 before a row is learned."""
        columns = _columns(x)
        return 0.0 if self._model is None else float(self._point(columns, 1)[0])

    def predict_many(self, X: pd.DataFrame) -> pd.Series:
        """Predict targets: a Series with the index of X; 0.0 before a row is learned."""
        columns = self._frame(X)
        zeros = np.zeros(len(X), np.float32)
        targets = zeros if self._model is None else self._point(columns, len(X))
        return pd.Series(targets, X.index, name=self.label)

    def _point(self, columns: Columns, rows: int) -> Array:
        """Predict targets (rows,); of quantiles, the one nearest to the median."""
        assert self._model is not None
        return point_prediction(self._model.learner, self._predict(columns, rows))[:, 0]

    def _known_labels(self) -> None:
        return None

    def _create_learner(self, inputs: int, classes: Any) -> Any:
        return super()._create_learner(inputs, None)

    def _first_classes(self, labels: Array) -> None:
        return None

    def _labels(self, y: Iterable[Any]) -> Array:
        wide = _numbers("y", y)
        bad = ~np.isfinite(_float32(wide))
        if bad.any():
            raise ValueError(f"y must be finite; got {wide[bad][0]}")
        return wide

    def _targets(self, described: Schema, labels: Array) -> Array:
        return _float32(labels)


def load(model_dir: str | Path) -> RiverClassifier | RiverRegressor:
    """Read the newest version of a model directory, by any writer; `save` commits to the same directory.

    Where it was trained on arrays without names, the columns are called features[0], features[1] and so on.
    Errors: LookupError: there is no version; DamagedVersionError: it is damaged; ValueError: its columns have
    no names.
    """
    model, described = models.load(model_dir)
    kind = RiverRegressor if model.learner.classes is None else RiverClassifier
    return kind._from(model, described)  # type: ignore[no-any-return]


def _check_list(name: str, value: Any) -> None:
    if value is not None and (isinstance(value, str) or not isinstance(value, Iterable)):
        raise ValueError(f"{name} must be a list, or None; got {value!r}")


def _names(described: Schema) -> tuple[str, ...]:
    return described.features if isinstance(described.features, tuple) else described.columns


def _columns(x: Any) -> Columns:
    """Return one row, a dict or a Series, as columns."""
    if not isinstance(x, Mapping | pd.Series):
        raise TypeError(f"x must be a dict of features; got {type(x).__name__}")
    return {str(name): (value,) for name, value in x.items()}


def _check_index(X: pd.DataFrame, y: Any) -> pd.Series:
    if not isinstance(y, pd.Series):
        raise TypeError(f"y must be a pandas Series; got {type(y).__name__}")
    if not y.index.equals(X.index):
        raise ValueError(
            f"y must have the index of X, with {len(X)} rows; got {len(y)} rows of another index"
        )
    return y


def _infer_encoding(values: Any) -> dict[str, int] | None:
    """Return a feature's encoding by its first value that is not missing; None for a number."""
    if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype):
        return {"one_hot": STRING_COLUMNS}
    first = next((value for value in values if not _missing(value)), 0.0)
    if isinstance(first, str):
        return {"one_hot": STRING_COLUMNS}
    return {"one_hot": 2} if isinstance(first, bool | np.bool_) else None


def _table(described: Schema, columns: Columns, rows: int) -> _Table:
    """Return the columns as the schema orders and encodes them. ValueError: a feature's invalid value."""
    names = _names(described)
    wide, unseen, start = np.zeros((rows, described.inputs)), list[dict[str, tuple[Label]]](), 0
    for name in names:
        values = columns.get(name, (None,) * rows)
        if name in described.categories:
            end = start + sum(described.categories[name].values())
            new = _encode(described, name, list(map(_to_label_type, values)), wide[:, start:end])
            unseen += [{name: (value,)} for value in new]
        else:
            end = start + 1
            wide[:, start] = _numbers(f"feature {name!r}", values)
            _check_missing(described, name, np.isnan(wide[:, start]).any())
        start = end
    x = _float32(wide)
    if np.isinf(x).any():
        _, column = np.argwhere(np.isinf(x))[0]
        raise ValueError(f"feature {described.columns[column]!r} must be finite; got {wide[np.isinf(x)][0]}")
    return _Table(x, merge_unseen(unseen))


def _encode(described: Schema, name: str, values: Sequence[Any], block: Array) -> list[Label]:
    """Write a category's columns into `block`, and return the values that are new."""
    encoded = categories.encode_column(described, name, values, block)
    if encoded.bad:
        value = values[min(encoded.bad)]
        _check_missing(described, name, value is None)
        raise ValueError(f"feature {name!r} must be a string, an integer or a boolean; got {_shown(value)}")
    room = described.categories[name].get("one_hot", 0) - len(described.vocabulary.get(name, ()))
    return [*dict.fromkeys(value for _, value in encoded.unseen)][:room]


def _check_missing(described: Schema, name: str, missing: Any) -> None:
    if missing and not described.missing:
        raise ValueError(f"feature {name!r} must not be missing with missing = 'refuse'; got no value")


def _numbers(what: str, values: Any) -> Array:
    """Return numbers as float64, NaN for a missing one."""
    if isinstance(values, pd.Series) and values.dtype.kind in "iuf":
        numbers: Array = values.to_numpy(np.float64, na_value=np.nan)
        return numbers
    return np.array([_number(what, value) for value in values], np.float64)


def _number(what: str, value: Any) -> float:
    if type(value) is float:
        return value
    try:
        return to_number(value, RULES)
    except BadRecord as error:
        if error.reason == NOT_FINITE:  # an integer that does not fit into float64
            return np.inf
        raise ValueError(f"{what} must be a number; got {_shown(value)}") from None


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def _to_label_type(value: Any) -> Any:
    """Return a category's value in Python's own types, None where it is missing."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if _missing(value) else value


def _label(value: Any, what: str = "y") -> Label:
    """Return a label in Python's own types, 1 for 1.0: a record's labels are not floats."""
    value = integral_to_int(_to_label_type(value))
    if isinstance(value, str | int):  # booleans are integers here
        return value
    raise ValueError(f"{what} must be a string, an integer or a boolean; got {_shown(value)}")


def _check_valid(labels: Iterable[Label]) -> None:
    """Raise ValueError for labels that cannot become classes: every version's manifest has the classes."""
    for label in labels:
        if not is_valid_label(label):
            raise ValueError(
                f"a class label must be a string of {MAX_LENGTH} characters at most, or an integer of "
                f"64 bits; got {_shown(label)}"
            )


def _normalize(output: Array) -> NDArray[np.float64]:
    """Return probabilities that sum to 1 in float64 too."""
    wide = output.astype(np.float64)
    probabilities: NDArray[np.float64] = wide / wide.sum(axis=1, keepdims=True)
    return probabilities


def _float32(wide: Array) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # a value that is too large becomes infinite, which is an error
        return wide.astype(np.float32)


def _shown(value: Any) -> str:
    return " ".join(repr(value).split())[:80]


def _listed(names: Iterable[Hashable]) -> str:
    return ", ".join(map(repr, names))
