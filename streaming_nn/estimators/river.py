"""The learners with River's API, on dicts and tables, and with the same versions as the stream."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streaming_nn import model as models
from streaming_nn.estimators import columns as of_columns
from streaming_nn.estimators import tables
from streaming_nn.estimators.columns import Columns, Encoding, shown
from streaming_nn.model import Holder, Model, new_model, to_python
from streaming_nn.nn import validation
from streaming_nn.nn.factory import LEARNERS, given, learner_from
from streaming_nn.nn.learner import Batch, point_prediction
from streaming_nn.records import schema
from streaming_nn.records.labels import MAX_LENGTH, Label, integral_to_int, is_valid_label, label_key
from streaming_nn.records.paths import column_name
from streaming_nn.records.schema import MAX_CLASSES, Schema
from streaming_nn.records.values import bounded

if TYPE_CHECKING:
    from onnx import ModelProto
    from sklearn.pipeline import Pipeline

try:
    from river.base import (
        MiniBatchClassifier,
        MiniBatchRegressor,
        MultiLabelClassifier,
        MultiTargetRegressor,
    )
except ModuleNotFoundError:  # River's pipelines and metrics need its own classes; without River, these do

    class MiniBatchClassifier:  # type: ignore[no-redef]
        """Replaces River's class."""

    class MiniBatchRegressor:  # type: ignore[no-redef]
        """Replaces River's class."""

    class MultiLabelClassifier:  # type: ignore[no-redef]
        """Replaces River's class."""

    class MultiTargetRegressor:  # type: ignore[no-redef]
        """Replaces River's class."""


Array = NDArray[Any]
Read = Callable[[Columns], tuple[NDArray[np.float64], dict[str, Any]]]  # rows, and features to be filled in
EXTRA = ("grow", "refuse", "ignore")
ABSENT = ("missing", "zero")
MAX_BYTES = 256 << 20  # of weights: 50,000 columns of the default learner with two classes
NOTHING = of_columns.columns_of((), {}, sparse=False, missing=True)
OPTIONS = {"learner"} | {field.name for learner in LEARNERS.values() for field in fields(learner)}


class _RiverModel(Holder):
    """What classifiers and regressors share. Model and columns are replaced together, or not at all."""

    _model: Model | None = None
    _columns: Columns = NOTHING
    _base: Schema  # what a version's schema has beside the columns and the classes
    learner: str | None
    features: Sequence[str] | None
    categories: Mapping[str, Mapping[str, int]] | None
    label: str
    extra: str
    absent: str
    max_bytes: int
    missing: str | None
    seed: int

    def _initialize(self, parameters: Mapping[str, Any]) -> None:
        """Store the parameters under their names, which is how River clones a model, and check them."""
        self.__dict__.update(parameters)
        validation.one_of("extra", self.extra, EXTRA)
        validation.one_of("absent", self.absent, ABSENT)
        validation.integer("max_bytes", self.max_bytes)
        _check_list("features", self.features)
        if not isinstance(self.categories, Mapping | None):
            raise ValueError(f"categories must map features to encodings; got {self.categories!r}")
        for name, encoding in (self.categories or {}).items():
            schema.check_encoding(name, encoding)
        self._create_learner(1, self._any_outputs())

    def _unit_test_skips(self) -> set[str]:
        """Name River's checks that do not apply: many rows are read at once, and learned in mini-batches."""
        return {"check_learn_many_matches_learn_one"}

    def _any_outputs(self) -> Mapping[str, Any]:
        """Return the options of a learner's outputs, before a row is learned."""
        raise NotImplementedError

    def _create_learner(self, inputs: int, outputs: Mapping[str, Any]) -> Any:
        given = {
            name: to_python(name, value)
            for name, value in self.__dict__.items()
            if name in OPTIONS and value is not None
        }
        return learner_from({**given, "inputs": inputs, **outputs})

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

    @property
    def _schema(self) -> Schema:
        """The schema of a version: of a stream's records that have the same features."""
        classes = self._require_model("describe").learner.classes
        return self._columns.schema(replace(self._base, classes=classes))

    @classmethod
    def _from(cls, model: Model, described: Schema) -> Any:
        if described.features in described.categories:
            raise ValueError(f"cannot name the columns: {described.features!r} holds hashed tokens")
        if described.datetimes or described.arrays:
            (name, *_) = [*described.datetimes, *described.arrays]
            raise ValueError(f"cannot read dicts for a model of dates or arrays of records; got {name!r}")
        if described.lags:
            raise ValueError("cannot read dicts for a model with lags; use estimators.sklearn, or ONNX")
        options = given(model.learner.options())
        classes, *_ = (options.pop(name, None) for name in ("classes", "inputs", "multilabel", "targets"))
        known = {} if classes is None else {"classes": classes}
        columns = of_columns.columns_from(described)
        label = described.label if isinstance(described.label, str) else "label"
        all_sparse = bool(columns.numbers) and not np.isnan(columns.blank).any()
        build: Any = cls
        created = build(
            features=tuple(name for name in columns.features if name in columns) or None,
            categories=described.categories,
            label=label,
            absent="zero" if all_sparse else "missing",
            **known,
            **options,
        )
        created._model, created._columns = model, columns
        created._base = replace(described, label=described.label or model.learner.targets or label)
        return created

    def _create(
        self, features: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> tuple[Model, Columns, Schema]:
        """Return a new model for rows like these; names are sorted, so that their order does not matter."""
        encodings = self._encodings(features)
        if self.features is not None:
            names = tuple(map(of_columns.path_of, self.features))
            encodings |= {name: each for name, each in self._given_encodings().items() if name in names}
        elif self.absent == "zero":
            names = tuple(sorted([*encodings, *_with_values(features, encodings)]))
        else:
            names = tuple(sorted(features))
        label, classes = outputs.get("targets") or self.label, outputs.get("classes")
        self._check_first_names(names, (label,) if isinstance(label, str) else label)
        missing = self.missing not in (None, "refuse")
        columns = of_columns.columns_of(names, encodings, self.absent == "zero", missing)
        base = Schema(
            classes=classes,
            label=label,
            missing=missing,
            grow=classes is not None,
            multilabel=outputs.get("multilabel", False),
            **columns.options(),
        )
        least = new_model(self._create_learner(1, outputs))
        size = models.weight_bytes(least, columns.inputs)  # before so many weights are made
        if size > self.max_bytes:
            raise self._size_error(size, columns.inputs)
        return new_model(self._create_learner(columns.inputs, outputs)), columns, base

    def _encodings(self, features: Mapping[str, Any]) -> dict[str, Encoding]:
        """Return the encodings of those features that are categories."""
        given = self._given_encodings()
        found = {name: given.get(name) or of_columns.infer_encoding(features[name]) for name in features}
        return {name: encoding for name, encoding in found.items() if encoding}

    def _given_encodings(self) -> dict[str, Encoding]:
        return {of_columns.path_of(name): dict(each) for name, each in (self.categories or {}).items()}

    def _check_first_names(self, names: Sequence[str], labels: Sequence[str]) -> None:
        _check_label(labels, names)
        if self.extra == "grow":
            return
        if not names:
            raise ValueError("x must have one feature or more; got none")
        for name in map(of_columns.path_of, self.categories or ()):
            if name not in names:
                raise ValueError(f"categories must be among the features, {_listed(names)}; got {name!r}")

    def _check_known(self, columns: Columns, features: Iterable[str]) -> None:
        new = sorted(name for name in features if name not in columns) if self.extra == "refuse" else ()
        if new:
            known = [name for name in columns.features if name in columns]
            raise ValueError(
                f"features must be among {_listed(known)}, unless extra = 'grow' or 'ignore'; "
                f"got {_listed(new)} too"
            )

    def _grow(
        self, model: Model, columns: Columns, base: Schema, features: Mapping[str, Any]
    ) -> tuple[Model, Columns]:
        """Return the model and its columns with those of the features that are new.

        A number joins once it has a value that is neither missing nor 0, which is what it was until then.
        """
        self._check_known(columns, features)
        new = {name: features[name] for name in sorted(features) if name not in columns}
        new = new if self.extra == "grow" else {}
        turned = self._turned(model, columns, features)
        encodings = self._encodings({**new, **turned})
        numbers = _with_values(new, encodings)
        if not numbers and not encodings:
            return model, columns
        self._check_growth(base, [*numbers, *encodings], encodings)
        grown = self._add(model, columns, numbers, encodings)
        if grown.inputs > columns.inputs:
            model = models.grow_inputs(model, grown.inputs, grown.growth(columns))
        for name in turned:
            after = grown.drop(name)
            model, grown = models.grow_inputs(model, after.inputs, grown.cut(name)), after
        return model, grown

    def _turned(self, model: Model, columns: Columns, features: Mapping[str, Any]) -> dict[str, Any]:
        """Return the features that turn out to be categories: so far they have always been missing, or 0."""
        found = {
            name: values
            for name, values in features.items()
            if name in columns.numbers and of_columns.infer_encoding(values)
        }
        if not found:
            return {}
        learner: Any = model.learner
        never = learner.scaler.without_values(model.state.model, columns.blank == 0)
        return {name: values for name, values in found.items() if never[columns.numbers[name]]}

    def _check_growth(self, base: Schema, names: Sequence[str], encodings: Iterable[str]) -> None:
        _check_label(base.labels, names)
        if isinstance(base.features, str) or base.format != "json":
            kind = "arrays" if isinstance(base.features, str) else f"of format {base.format!r}"
            raise ValueError(f"features must be the model's, whose records are {kind}; got {names[0]!r} too")
        for name in () if base.missing else encodings:
            raise ValueError(f"feature {name!r} must be a number to be added with missing = 'refuse'")

    def _add(
        self, model: Model, columns: Columns, numbers: Sequence[str], encodings: Mapping[str, Encoding]
    ) -> Columns:
        """Return the columns with more features, and unless `max_bytes` is near with some for later ones."""
        lacking = max(0, len(numbers) - len(columns.unused))
        for added in (max(lacking, columns.inputs // of_columns.STEP) if lacking else 0, lacking):
            grown = columns.add(numbers, encodings, added)
            size = models.weight_bytes(model, grown.inputs) if grown.inputs > columns.inputs else 0
            if size <= self.max_bytes:
                return grown
        raise self._size_error(size, grown.inputs)

    def _size_error(self, size: int, inputs: int) -> ValueError:
        return ValueError(
            f"max_bytes must be {size:,} or more for the weights of {inputs:,} columns; got "
            f"{self.max_bytes:,}: raise it, hash the names of the features, or set extra = 'ignore'"
        )

    def _learn(self, read: Read, y: Iterable[Any], weight: NDArray[np.float32] | None) -> None:
        """Learn rows in the learner's mini-batches; an error leaves the model unchanged."""
        labels = self._labels(y)
        if self._model is None:
            model, columns, base = self._create(read(NOTHING)[1], self._outputs(labels))
        else:
            model, columns, base = self._model, self._columns, self._base
        x, features = read(columns)
        if features:
            model, grown = self._grow(model, columns, base, features)
            if grown is not columns:
                columns = grown
                x, features = read(columns)
            if unseen := columns.fill(x, features):
                columns = columns.learn_values(unseen)
                columns.fill(x, {name: features[name] for name in unseen})
        if not base.missing:
            columns.refuse_missing(x, features)
        model = self._with_classes(model, base, labels)
        batch = Batch(x, self._targets(model, labels), weight)
        self._model = models.learn(model, batch, lambda _: None)
        self._columns, self._base = columns, base
        if features:  # a row of usual numbers has none
            self._log_large(columns.large(x))

    def learn_one(self, x: Mapping[Any, Any], y: Any, w: float = 1.0) -> None:
        """Learn one row, as a mini-batch of one; its loss counts `w` times."""
        self._learn(_dict_reader(x), [y], _weights(w, 1))

    def learn_many(self, X: Any, y: Any, w: Any = 1.0) -> None:
        """Learn rows in their order, in mini-batches of the option `mini_batch`.

        X is a pandas DataFrame, or a table of polars or Arrow, and y a series of the same library. A row's
        loss counts `w` times: one number, or a series with one for each row.
        """
        read, labels = _table_reader(X), self._labels_of(X, y)
        rows = len(labels)
        weight = _weights(w if np.isscalar(w) else tables.series(X, "w", w), rows)
        if rows:
            self._learn(read, labels, weight)

    def _labels_of(self, X: Any, y: Any) -> Any:
        """Return a label for each row of a table."""
        return tables.series(X, "y", y)

    def _outputs(self, labels: Any) -> Mapping[str, Any]:
        """Return the options of a learner's outputs, by the first labels."""
        raise NotImplementedError

    def _labels(self, y: Iterable[Any]) -> Any:
        raise NotImplementedError

    def _with_classes(self, model: Model, base: Schema, labels: Any) -> Model:
        return model

    def _targets(self, model: Model, labels: Any) -> Array:
        raise NotImplementedError

    def _predict(self, read: Read) -> Array:
        """Return the predictions (rows, outputs); features that the model does not know are ignored."""
        assert self._model is not None
        x, features = read(self._columns)
        if features:
            self._check_known(self._columns, features)
            turned = self._turned(self._model, self._columns, features)  # until learned, they are absent
            self._columns.fill(x, {name: features[name] for name in features if name not in turned})
        if not self._base.missing:
            self._columns.refuse_missing(x, features)
        return models.predict(self._model, x)


class _Labeled(_RiverModel):
    """What classifiers share: labels become classes when they are first seen."""

    classes: Sequence[Any] | None

    def _classes(self) -> tuple[Any, ...]:
        assert self._model is not None
        return self._model.learner.classes or ()

    def _known_labels(self) -> tuple[Any, ...] | None:
        return None if self.classes is None else tuple(_label(y, "classes") for y in self.classes)

    def _any_outputs(self) -> Mapping[str, Any]:
        return {"classes": self._known_labels() or (False, True)}

    def _with_labels(self, model: Model, base: Schema, labels: Sequence[Any]) -> Model:
        """Return the model with the new labels as classes, in the order of their first appearance."""
        classes = model.learner.classes or ()
        known = set(map(label_key, classes))
        new = tuple({label_key(y): y for y in labels if label_key(y) not in known}.values())
        if not new:
            return model
        if not base.grow:
            raise ValueError(f"y must be one of {_listed(classes)}; got {shown(new[0])}")
        _check_valid(new)
        if len({*classes, *new}) < len(classes) + len(new):  # no dict of probabilities can hold both
            raise ValueError(f"y must not be both numbers and booleans; got {_listed({*classes, *new})}")
        if len(classes) + len(new) > MAX_CLASSES:
            raise ValueError(f"classes must be {MAX_CLASSES:,} at most; got {len(classes) + len(new):,}")
        return models.grow(model, (*classes, *new))


class _MultiOutput(_RiverModel):
    """What models of several targets or labels share: y is a dict, or for a table another table."""

    def _labels_of(self, X: Any, y: Any) -> list[dict[Any, Any]]:
        if tables.rows(y) != tables.rows(X):
            raise ValueError(f"y must have {tables.rows(X)} rows, as X has; got {tables.rows(y)}")
        if isinstance(X, pd.DataFrame) and not y.index.equals(X.index):
            raise ValueError("y must have the index of X; got a different index")
        names, columns = zip(*tables.columns(y), strict=True)
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


class RiverClassifier(_Labeled, MiniBatchClassifier):
    """A classifier that learns dicts and frames in their order, once each; the default needs no tuning.

    `learner` is "ensemble" (see nn/ensemble.py) or "mlp", one network (see nn/mlp.py); None: the ensemble,
    or the network where an `optimizer` is named. The parameters after `seed` are their options; one that is
    None has the learner's default. `features` are the names of the first columns; None: those of the first
    rows, sorted, so that their order does not matter. `categories` defines how features that are not numbers
    become columns, {"city": {"hash": 32}, "kind": {"one_hot": 16}}, as in records.Schema; string features
    that it does not name have {"one_hot": 16}. `classes` are labels known beforehand; others become classes
    when they are first seen. `label` is the label's name in frames and records. The same rows give the same
    model, to the bit, as in a stream with that `seed`.

    Features come and go. `extra` is what to do with one that the model does not know: "grow", it gets a
    column once it has a value that is not 0; "refuse", an error; or "ignore". A number that a row lacks is 0
    if its feature appeared later than the first rows, as words do, otherwise missing; with absent = "zero" it
    is always 0. A number that is None or NaN is missing, and its running mean is imputed; a category that is
    missing is all zeros. With missing = "refuse" both are errors. A ValueError is raised where the
    weights and their optimizers' states would take more than `max_bytes`.

    Tables are those of pandas, polars or Arrow, with any of the columns in any order; predictions for a table
    are one of the same library. Invalid input is a ValueError (TypeError if it is not a dict or a table), and
    the model is unchanged.

    It is a `river.base.MiniBatchClassifier` where River is installed; River is not needed.
    """

    _multiclass = True

    def __init__(
        self,
        learner: str | None = None,
        *,
        features: Sequence[str] | None = None,
        categories: Mapping[str, Mapping[str, int]] | None = None,
        classes: Sequence[Any] | None = None,
        label: str = "label",
        extra: str = "grow",
        absent: str = "missing",
        max_bytes: int = MAX_BYTES,
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
        members: Sequence[Mapping[str, Any]] | None = None,
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
        read = _dict_reader(x)
        if self._model is None:
            return {}
        probabilities = _normalize(self._predict(read))[0].tolist()
        return dict(zip(self._classes(), probabilities, strict=True))

    def predict_many(self, X: Any) -> Any:
        """Predict labels: a series like X, with its index if it has one; None before a row is learned."""
        read = _table_reader(X)
        if self._model is None:
            return tables.series_like(X, pd.Series([None] * tables.rows(X), dtype=object, name=self.label))
        best = _normalize(self._predict(read)).argmax(axis=1)
        labels = np.array([*self._classes(), None], object)[best]
        return tables.series_like(X, pd.Series(labels, dtype=object, name=self.label).infer_objects())

    def predict_proba_many(self, X: Any) -> Any:
        """Predict a probability for each label: a table like X, with its index if it has one."""
        read = _table_reader(X)
        if self._model is None:
            return tables.frame_like(X, (), np.empty((tables.rows(X), 0)))
        return tables.frame_like(X, self._classes(), _normalize(self._predict(read)))

    def _outputs(self, labels: Sequence[Any]) -> Mapping[str, Any]:
        """Return the initial classes: the known ones, or the first label."""
        if known := self._known_labels():
            return {"classes": known}
        _check_valid(labels[:1])
        return {"classes": (labels[0],)}

    def _labels(self, y: Iterable[Any]) -> Sequence[Any]:
        return list(map(_label, y))

    def _with_classes(self, model: Model, base: Schema, labels: Sequence[Any]) -> Model:
        return self._with_labels(model, base, labels)

    def _targets(self, model: Model, labels: Sequence[Any]) -> Array:
        indices = {label_key(label): index for index, label in enumerate(model.learner.classes or ())}
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
        extra: str = "grow",
        absent: str = "missing",
        max_bytes: int = MAX_BYTES,
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
        members: Sequence[Mapping[str, Any]] | None = None,
        replay_rows: int | None = None,
        buffer_rows: int | None = None,
        buffer_bytes: int | None = None,
        eta: float | None = None,
        share: float | None = None,
    ) -> None:
        self._initialize({name: value for name, value in locals().items() if name != "self"})

    def predict_one(self, x: Mapping[Any, Any], **_: Any) -> float:
        """Predict one row's target; 0.0 before a row is learned."""
        read = _dict_reader(x)
        return 0.0 if self._model is None else float(self._point(read)[0])

    def predict_many(self, X: Any) -> Any:
        """Predict targets: a series like X, with its index if it has one; 0.0 before a row is learned."""
        read = _table_reader(X)
        zeros = np.zeros(tables.rows(X))
        targets = zeros if self._model is None else self._point(read)
        return tables.series_like(X, pd.Series(targets, name=self.label))

    def _point(self, read: Read) -> Array:
        """Predict targets (rows,); of quantiles, the one nearest to the median."""
        assert self._model is not None
        return point_prediction(self._model.learner, self._predict(read))[:, 0]

    def _any_outputs(self) -> Mapping[str, Any]:
        return {}

    def _outputs(self, labels: Array) -> Mapping[str, Any]:
        return {}

    def _labels(self, y: Iterable[Any]) -> Array:
        return _finite_targets(y)

    def _targets(self, model: Model, labels: Array) -> Array:
        return labels


class RiverMultiLabelClassifier(_MultiOutput, _Labeled, MultiLabelClassifier):
    """A classifier of several labels: y is a dict of them, true for those that apply.

    Parameters are as for `RiverClassifier`; `label` is the name of the array of labels in records. A label
    that a row's dict lacks does not apply to it. It is a `river.base.MultiLabelClassifier`.
    """

    __init__ = RiverClassifier.__init__

    def predict_one(self, x: Mapping[Any, Any], **_: Any) -> dict[Any, bool]:
        """Predict for each label seen or known whether it applies; {} before a row is learned."""
        return {label: p[True] > 0.5 for label, p in self.predict_proba_one(x).items()}

    def predict_proba_one(self, x: Mapping[Any, Any], **_: Any) -> dict[Any, dict[bool, float]]:
        """Predict the probability that each label applies, and that it does not."""
        read = _dict_reader(x)
        if self._model is None:
            return {}
        pairs = zip(self._classes(), self._predict(read)[0].tolist(), strict=True)
        return {label: {False: 1 - p, True: p} for label, p in pairs}

    def predict_many(self, X: Any) -> Any:
        """Predict which labels apply: a table like X of booleans, a column for each label."""
        output, classes = self._output(X)
        return tables.frame_like(X, classes, output > 0.5)

    def predict_proba_many(self, X: Any) -> Any:
        """Predict the probability that each label applies: a table like X."""
        output, classes = self._output(X)
        return tables.frame_like(X, classes, output)

    def _output(self, X: Any) -> tuple[NDArray[np.float64], tuple[Any, ...]]:
        read = _table_reader(X)
        if self._model is None:
            return np.empty((tables.rows(X), 0)), ()
        return self._predict(read).astype(np.float64), self._classes()

    def _any_outputs(self) -> Mapping[str, Any]:
        return {**super()._any_outputs(), "multilabel": True}

    def _outputs(self, labels: Sequence[Mapping[Any, bool]]) -> Mapping[str, Any]:
        found = self._known_labels() or tuple(labels[0])
        if not found:
            raise ValueError("y must have a label or more in the first row; got none")
        _check_valid(found)
        return {"classes": found, "multilabel": True}

    def _labels(self, y: Iterable[Any]) -> Sequence[dict[Any, bool]]:
        return [{_label(key): _flag(key, each) for key, each in _mapping(row).items()} for row in y]

    def _with_classes(self, model: Model, base: Schema, labels: Any) -> Model:
        return self._with_labels(model, base, [label for row in labels for label in row])

    def _targets(self, model: Model, labels: Sequence[Mapping[Any, bool]]) -> Array:
        classes = model.learner.classes or ()
        return np.array([[row.get(label, False) for label in classes] for row in labels], np.int32)


class RiverMultiTargetRegressor(_MultiOutput, MultiTargetRegressor):  # type: ignore[misc]
    """A regressor of several targets: y is a dict of numbers; parameters as for `RiverClassifier`.

    The first row's names are the targets. It is a `river.base.MultiTargetRegressor`.
    """

    __init__ = RiverRegressor.__init__

    def predict_one(self, x: Mapping[Any, Any], **_: Any) -> dict[Any, float]:
        """Predict one row's targets; {} before a row is learned."""
        read = _dict_reader(x)
        if self._model is None:
            return {}
        return dict(zip(self._names(), self._predict(read)[0].tolist(), strict=True))

    def predict_many(self, X: Any) -> Any:
        """Predict targets: a table like X, a column for each."""
        read = _table_reader(X)
        if self._model is None:
            return tables.frame_like(X, (), np.empty((tables.rows(X), 0)))
        return tables.frame_like(X, self._names(), self._predict(read).astype(np.float64))

    def _names(self) -> list[str]:
        assert self._model is not None
        return [column_name(name) for name in self._model.learner.targets or ()]

    def _any_outputs(self) -> Mapping[str, Any]:
        return {"targets": ("y",)}

    def _outputs(self, labels: Sequence[Mapping[str, float]]) -> Mapping[str, Any]:
        if not labels[0]:
            raise ValueError("y must have a target or more; got none")
        return {"targets": tuple(labels[0])}

    def _labels(self, y: Iterable[Any]) -> Sequence[dict[str, float]]:
        rows = [{of_columns.name_of(key): each for key, each in _mapping(row).items()} for row in y]
        for row in rows:
            row.update(zip(row, _finite_targets(row.values()).tolist(), strict=True))
        return rows

    def _targets(self, model: Model, labels: Sequence[Mapping[str, float]]) -> Array:
        names = model.learner.targets or ()
        for row in labels:
            if row.keys() != {*names}:
                raise ValueError(f"y must have the targets {_listed(names)}; got {_listed(row)}")
        return np.array([[row[name] for name in names] for row in labels], np.float64)


RiverModel: TypeAlias = (
    RiverClassifier | RiverRegressor | RiverMultiLabelClassifier | RiverMultiTargetRegressor
)


def load(model_dir: str | Path) -> RiverModel:
    """Read the newest version of a model directory, by any writer; `save` commits to the same directory.

    Where it was trained on arrays without names, the columns are called features[0], features[1] and so on.
    Errors: LookupError: there is no version; DamagedVersionError: it is damaged; ValueError: its columns have
    no names.
    """
    model, described = models.load(model_dir)
    learner = model.learner
    if learner.columns_of_y is not None:
        several = RiverMultiLabelClassifier if learner.multilabel else RiverMultiTargetRegressor
        return several._from(model, described)  # type: ignore[no-any-return]
    kind = RiverRegressor if learner.classes is None else RiverClassifier
    return kind._from(model, described)  # type: ignore[no-any-return]


def _check_list(name: str, value: Any) -> None:
    if value is not None and (isinstance(value, str) or not isinstance(value, Iterable)):
        raise ValueError(f"{name} must be a list, or None; got {value!r}")


def _dict_reader(x: Any) -> Read:
    """Return a function that reads one row, a dict or a Series."""
    if not isinstance(x, Mapping | pd.Series):
        raise TypeError(f"x must be a dict of features; got {type(x).__name__}")
    row = x if isinstance(x, Mapping) else dict(x.items())
    return lambda columns: columns.row(row)


def _table_reader(X: Any) -> Read:
    """Return a function that reads a table's rows."""
    features, rows = tables.columns(X), tables.rows(X)
    return lambda columns: columns.rows(features, rows)


def _finite_targets(values: Any) -> NDArray[np.float64]:
    """Return targets (rows,); ValueError for one that is not a number, or not finite."""
    targets = of_columns.numbers_of("y", values)
    bad = ~np.isfinite(bounded(targets))
    if bad.any():
        raise ValueError(f"y must be finite; got {targets[bad][0]}")
    return targets


def _weights(w: Any, rows: int) -> NDArray[np.float32] | None:
    """Return the weights of rows (rows,), from one for all of them or one for each; None: each weighs 1."""
    if type(w) in (float, int) and w == 1:
        return None
    given = w if isinstance(w, pd.Series) else [w]
    values = of_columns.numbers_of("w", given)
    weight = bounded(values).astype(np.float32)
    bad = ~((weight >= 0) & np.isfinite(weight))
    if bad.any():
        raise ValueError(f"w must be a number of 0 or more; got {shown([*given][int(bad.argmax())])}")
    return np.broadcast_to(weight, rows)


def _with_values(features: Mapping[str, Any], encodings: Mapping[str, Encoding]) -> list[str]:
    """Return the numbers that have a value; what is missing or 0 is as if it was absent."""
    numbers = (name for name in features if name not in encodings)
    return [name for name in numbers if of_columns.has_value(name, features[name])]


def _label(value: Any, what: str = "y") -> Label:
    """Return a label in Python's own types, 1 for 1.0: a record's labels are not floats."""
    value = integral_to_int(of_columns.to_label_type(value))
    if isinstance(value, str | int):  # booleans are integers here
        return value
    raise ValueError(f"{what} must be a string, an integer or a boolean; got {shown(value)}")


def _check_valid(labels: Iterable[Label]) -> None:
    """Raise ValueError for labels that cannot become classes: every version's manifest has the classes."""
    for label in labels:
        if not is_valid_label(label):
            raise ValueError(
                f"a class label must be a string of {MAX_LENGTH} characters at most, or an integer of "
                f"64 bits; got {shown(label)}"
            )


def _normalize(output: Array) -> NDArray[np.float64]:
    """Return probabilities that sum to 1 in float64 too."""
    wide = output.astype(np.float64)
    probabilities: NDArray[np.float64] = wide / wide.sum(axis=1, keepdims=True)
    return probabilities


def _check_label(labels: Sequence[str], features: Sequence[str]) -> None:
    for name in labels:
        if name in features:
            raise ValueError(
                f"label must not be the name of a feature; got {name!r}: set label to another name"
            )


def _mapping(y: Any) -> Mapping[Any, Any]:
    if not isinstance(y, Mapping):
        raise TypeError(f"y must be a dict; got {type(y).__name__}")
    return y


def _flag(label: Any, value: Any) -> bool:
    """Return whether a label applies."""
    if value not in (0, 1):
        raise ValueError(f"y must be true or false for each label; got {shown(value)} for {shown(label)}")
    return bool(value)


def _listed(names: Iterable[Hashable]) -> str:
    return ", ".join(map(repr, names))
