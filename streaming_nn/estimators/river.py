"""The learners in River's manners: dicts and pandas frames in, and the same versions as the stream."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streaming_nn.estimators.model import Model, answers, begun, grown, learned, loaded, plain, saved
from streaming_nn.nn import validation
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, point
from streaming_nn.records import categories, schema
from streaming_nn.records.schema import (
    LONGEST,
    MAX_CLASSES,
    Label,
    Schema,
    label_key,
    nameable,
    together,
    width,
)

if TYPE_CHECKING:
    from onnx import ModelProto
    from sklearn.pipeline import Pipeline

try:
    from river.base import MiniBatchClassifier, MiniBatchRegressor
except ModuleNotFoundError:  # River's pipelines and metrics want its own classes; without it, these do

    class MiniBatchClassifier:  # type: ignore[no-redef]
        """Stands in for River's."""

    class MiniBatchRegressor:  # type: ignore[no-redef]
        """Stands in for River's."""


Array = NDArray[Any]
Columns = Mapping[str, Any]  # a feature's values, one a row: a Series or a list
TEXTS = 16  # values of a text that have a column of their own, where `categories` doesn't say otherwise
EXTRA = ("refuse", "ignore")


class _Table(NamedTuple):
    """Rows as the learner takes them."""

    x: NDArray[np.float32]  # (rows, inputs)
    unseen: Mapping[str, tuple[Label, ...]]  # values by feature that the schema may grow by


class _OnlineMLP:
    """What classifier and regressor share. The model and its schema are exchanged together, or not at all."""

    _model: Model | None = None
    _schema: Schema

    def __init__(
        self,
        learner: str | None = None,
        *,
        features: Sequence[str] | None = None,
        categories: Mapping[str, Mapping[str, int]] | None = None,
        label: str = "label",
        extra: str = "refuse",
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.learner = learner
        self.features = features
        self.categories = categories
        self.label = label
        self.extra = extra
        self.seed = seed
        self.options = options
        validation.one_of("extra", extra, EXTRA)
        _check_list("features", features)
        if not isinstance(categories, Mapping | None):
            raise ValueError(f"categories must map features to how each is encoded; got {categories!r}")
        for name, how in (categories or {}).items():
            schema.encoding(name, how)
        self._learner(1, self._known_labels() or (False, True))

    def _known_labels(self) -> tuple[Any, ...] | None:
        raise NotImplementedError

    def _learner(self, inputs: int, classes: Any) -> Any:
        """Make the learner; unless told otherwise it fills in what is missing, as in a stream with gaps."""
        given = {"missing": "impute", **{name: plain(name, value) for name, value in self.options.items()}}
        own = {"seed": self.seed, "inputs": inputs, "classes": classes}
        kind = {} if self.learner is None else {"learner": self.learner}
        return learner_from({**given, **own, **kind})

    def save(self, model_dir: str | Path) -> int:
        """Append the model to the log in `model_dir` as its newest version, and return the version's number.

        A folder without versions gets the first one; else the newest must be the one that this model was
        loaded from or last saved as. `streaming-nn train` goes on from it, `streaming_nn.estimators.sklearn` too.
        Errors: ValueError where the newest is another one, or where nothing has been learned; VersionConflictError where
        somebody appends meanwhile.
        """
        self._model = saved(self._begun("saved"), model_dir, self._schema)
        assert self._model.place is not None
        return self._model.place.number

    def to_onnx(self) -> "ModelProto":
        """Give the whole model, scaler and mixture, as an ONNX graph: see docs/export.md. It takes onnx."""
        from streaming_nn.export.onnx import to_onnx

        return to_onnx(self._begun("exported"), self._schema)

    def to_sklearn(self, member: int | None = None) -> "Pipeline":
        """Give one member, and the scaler before it, as scikit-learn's own, fitted: see docs/export.md."""
        from streaming_nn.export.sklearn import to_sklearn

        return to_sklearn(self._begun("exported"), member)

    def _begun(self, what: str) -> Model:
        if self._model is None:
            raise ValueError(f"a model must have learned a row before it is {what}")
        return self._model

    @classmethod
    def _from(cls, model: Model, described: Schema) -> Any:
        if described.features in described.categories:
            raise ValueError(f"columns can't have names where {described.features!r} holds hashed tokens")
        options = {name: value for name, value in model.learner.options().items() if name != "inputs"}
        classes = options.pop("classes")
        known = {} if classes is None else {"classes": classes}
        names = _names(described)
        label = described.label or "label"
        made = cls(features=names, categories=described.categories, label=label, **known, **options)
        made._model, made._schema = model, replace(described, label=label)
        return made

    def _begin(self, columns: Columns, classes: tuple[Any, ...] | None) -> tuple[Model, Schema]:
        """Make a model for rows like these; names are sorted, so that their order plays no part."""
        names = tuple(sorted(columns) if self.features is None else self.features)
        if not names:
            raise ValueError("x must have one feature or more; got none")
        if self.label in names:
            raise ValueError(f"label must not be the name of a feature; got {self.label!r}")
        found = {name: _kind(name, columns[name]) for name in names if name in columns}
        coded = {name: how for name, how in found.items() if how} | dict(self.categories or {})
        inputs = width(names, coded)
        assert inputs is not None
        model = begun(self._learner(inputs, classes))
        missing, growing = model.learner.options()["missing"] != "refuse", classes is not None
        described = Schema(
            inputs, classes, names, self.label, missing=missing, categories=coded, grow=growing
        )
        return model, described

    def _learned(self, columns: Columns, rows: int, y: Iterable[Any]) -> None:
        """Learn rows, in mini-batches of the learner's; a step that fails leaves the model as it was."""
        labels = self._labels(y)
        if self._model is None:
            model, described = self._begin(columns, self._first(labels))
        else:
            model, described = self._model, self._schema
        self._check_names(described, columns)
        described = self._with_classes(described, labels)
        table = _table(described, columns, rows)
        if table.unseen:
            described = schema.grown(described, table.unseen)
            table = _table(described, columns, rows)
        if described.classes != model.learner.classes:
            model = grown(model, described.classes or ())
        self._model = learned(model, Batch(table.x, self._targets(described, labels)), lambda _: None)
        self._schema = described

    def learn_one(self, x: Mapping[Any, Any], y: Any) -> None:
        """Learn one row, as a mini-batch of one."""
        self._learned(_columns(x), 1, [y])

    def learn_many(self, X: pd.DataFrame, y: pd.Series) -> None:
        """Learn rows in their order, in mini-batches of the option `mini_batch`."""
        columns = self._frame(X)
        answers = _aligned(X, y)
        if len(X):
            self._learned(columns, len(X), answers)

    def _first(self, labels: Any) -> tuple[Any, ...] | None:
        raise NotImplementedError

    def _labels(self, y: Iterable[Any]) -> Any:
        raise NotImplementedError

    def _with_classes(self, described: Schema, labels: Any) -> Schema:
        return described

    def _targets(self, described: Schema, labels: Any) -> Array:
        raise NotImplementedError

    def _answered(self, columns: Columns, rows: int) -> Array:
        """Answer rows with (rows, outputs)."""
        assert self._model is not None
        self._check_names(self._schema, columns)
        return answers(self._model, _table(self._schema, columns, rows).x)

    def _check_names(self, described: Schema, columns: Columns) -> None:
        if self.extra == "ignore":
            return
        names = _names(described)
        extra = sorted(columns.keys() - set(names))
        if extra:
            raise ValueError(
                f"features must be among {_listed(names)}, or extra = 'ignore'; got {_listed(extra)} too"
            )

    def _frame(self, X: Any) -> Columns:
        """Give a frame's columns; the model's own must all be there."""
        if not isinstance(X, pd.DataFrame):
            raise TypeError(f"X must be a pandas DataFrame; got {type(X).__name__}")
        names = [str(name) for name in X.columns]
        doubles = [name for i, name in enumerate(names) if name in names[:i]]
        if doubles:
            raise ValueError(f"X must have columns of different names; got {doubles[0]!r} twice")
        expected = tuple(self.features or ()) if self._model is None else _names(self._schema)
        lacking = [name for name in expected if name not in names]
        if lacking:
            raise ValueError(f"X must have all columns of the model; it lacks {_listed(lacking)}")
        return {name: X.iloc[:, i] for i, name in enumerate(names)}


class OnlineMLPClassifier(_OnlineMLP, MiniBatchClassifier):
    """A classifier that learns dicts and frames in their order, once each; the default needs no tuning.

    `learner` is "ensemble" (see nn/ensemble.py) or "mlp", one network (see nn/mlp.py); None: the ensemble,
    or the network where an `optimizer` is named. `options` are theirs, `mini_batch` and `hidden` for example.
    `features` are the names of the columns; None: those of the first rows, sorted, so that their order plays
    no part. `categories` says how features that are no numbers become columns, {"city": {"hash": 32}, "kind":
    {"one_hot": 16}}, as in records.Schema; texts that it does not name have {"one_hot": 16}, booleans
    {"one_hot": 2}. `classes` are labels known beforehand; others become classes when they are first seen.
    `label` is the name of the answer in frames and records. `extra` says what is done about a feature that
    the model does not know: "refuse", an error, or "ignore". The same rows give the same model, to the bit,
    as in a stream with that `seed`.

    A number that is None, NaN or not in a dict is missing, and its running mean is filled in; a category that
    is missing is all zeros. With missing = "refuse" both are errors. A frame must have all columns. Bad input
    is a ValueError (TypeError where it is no dict or frame), and the model stays what it was.

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
        extra: str = "refuse",
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.classes = classes
        _check_list("classes", classes)
        if classes is None and not isinstance(options.get("class_weight"), str | None):
            raise ValueError("classes must be known where class_weight names them; got None")
        super().__init__(
            learner,
            features=features,
            categories=categories,
            label=label,
            extra=extra,
            seed=seed,
            **options,
        )

    def predict_one(self, x: Mapping[Any, Any], **_: Any) -> Any:
        """Answer one row with a label; None where nothing has been learned."""
        probabilities = self.predict_proba_one(x)
        return max(probabilities, key=probabilities.__getitem__) if probabilities else None

    def predict_proba_one(self, x: Mapping[Any, Any], **_: Any) -> dict[Any, float]:
        """Answer one row with the probability of each label seen or known; none before a row is learned."""
        columns = _columns(x)
        if self._model is None:
            return {}
        shares = _shares(self._answered(columns, 1))[0].tolist()
        return dict(zip(self._labels_known(), shares, strict=True))

    def predict_many(self, X: pd.DataFrame) -> pd.Series:
        """Answer rows with labels, a Series with the index of X; None where nothing has been learned."""
        columns = self._frame(X)
        if self._model is None:
            return pd.Series([None] * len(X), X.index, object, self.label)
        best = _shares(self._answered(columns, len(X))).argmax(axis=1)
        labels = np.array([*self._labels_known(), None], object)[best]
        return pd.Series(labels, X.index, object, self.label).infer_objects()

    def predict_proba_many(self, X: pd.DataFrame) -> pd.DataFrame:
        """Answer rows with a probability for each label: a frame with the index of X."""
        columns = self._frame(X)
        if self._model is None:
            return pd.DataFrame(index=X.index)
        shares = _shares(self._answered(columns, len(X)))
        return pd.DataFrame(shares, X.index, list(self._labels_known()))

    def _labels_known(self) -> tuple[Any, ...]:
        assert self._model is not None
        return self._model.learner.classes or ()

    def _known_labels(self) -> tuple[Any, ...] | None:
        return None if self.classes is None else tuple(_label(y, "classes") for y in self.classes)

    def _first(self, labels: Sequence[Any]) -> tuple[Any, ...]:
        """Give the classes to begin with: the known ones, or the first label."""
        if known := self._known_labels():
            return known
        _check_nameable(labels[:1])
        return (labels[0],)

    def _labels(self, y: Iterable[Any]) -> Sequence[Any]:
        return list(map(_label, y))

    def _with_classes(self, described: Schema, labels: Sequence[Any]) -> Schema:
        """Let the classes take up the labels that are new, in the order of their first appearance."""
        classes = described.classes or ()
        known = set(map(label_key, classes))
        new = tuple({label_key(y): y for y in labels if label_key(y) not in known}.values())
        if not new:
            return described
        if not described.grow:
            raise ValueError(f"y must be one of {_listed(classes)}; got {_shown(new[0])}")
        _check_nameable(new)
        if len({*classes, *new}) < len(classes) + len(new):  # no dict of probabilities can hold both
            raise ValueError(f"y must not be both numbers and booleans; got {_listed({*classes, *new})}")
        if len(classes) + len(new) > MAX_CLASSES:
            raise ValueError(f"classes may be {MAX_CLASSES:,} at most; got {len(classes) + len(new):,}")
        return schema.grown(described, {str(described.label): new})

    def _targets(self, described: Schema, labels: Sequence[Any]) -> Array:
        places = {label_key(label): place for place, label in enumerate(described.classes or ())}
        return np.array([places[label_key(label)] for label in labels], np.int32)


class OnlineMLPRegressor(_OnlineMLP, MiniBatchRegressor):
    """A regressor that learns dicts and frames in their order; parameters as for `OnlineMLPClassifier`."""

    def predict_one(self, x: Mapping[Any, Any], **_: Any) -> float:
        """Answer one row; 0.0 where nothing has been learned."""
        columns = _columns(x)
        return 0.0 if self._model is None else float(self._targeted(columns, 1)[0])

    def predict_many(self, X: pd.DataFrame) -> pd.Series:
        """Answer rows: a Series with the index of X; 0.0 where nothing has been learned."""
        columns = self._frame(X)
        nothing = np.zeros(len(X), np.float32)
        found = nothing if self._model is None else self._targeted(columns, len(X))
        return pd.Series(found, X.index, name=self.label)

    def _targeted(self, columns: Columns, rows: int) -> Array:
        """Give one answer a row; of quantiles, the one that is nearest to the median."""
        assert self._model is not None
        return point(self._model.learner, self._answered(columns, rows))[:, 0]

    def _known_labels(self) -> None:
        return None

    def _learner(self, inputs: int, classes: Any) -> Any:
        return super()._learner(inputs, None)

    def _first(self, labels: Array) -> None:
        return None

    def _labels(self, y: Iterable[Any]) -> Array:
        wide = _numbers("y", y)
        bad = ~np.isfinite(_float32(wide))
        if bad.any():
            raise ValueError(f"y must be finite; got {wide[bad][0]}")
        return wide

    def _targets(self, described: Schema, labels: Array) -> Array:
        return _float32(labels)


def load(model_dir: str | Path) -> OnlineMLPClassifier | OnlineMLPRegressor:
    """Read the newest version of a model directory, whoever wrote it; `save` into the same one goes on.

    Where it learned arrays without names, the columns are called features[0], features[1] and so on.
    Errors: LookupError: there is no version; DamagedVersionError: it is not whole; ValueError: it has no columns to name.
    """
    model, described = loaded(model_dir)
    kind = OnlineMLPRegressor if model.learner.classes is None else OnlineMLPClassifier
    return kind._from(model, described)  # type: ignore[no-any-return]


def _check_list(name: str, value: Any) -> None:
    if value is not None and (isinstance(value, str) or not isinstance(value, Iterable)):
        raise ValueError(f"{name} must be a list, or None; got {value!r}")


def _names(described: Schema) -> tuple[str, ...]:
    return described.features if isinstance(described.features, tuple) else described.columns


def _columns(x: Any) -> Columns:
    """Give one row, a dict or a Series, as columns."""
    if not isinstance(x, Mapping | pd.Series):
        raise TypeError(f"x must be a dict of features; got {type(x).__name__}")
    return {str(name): (value,) for name, value in x.items()}


def _aligned(X: pd.DataFrame, y: Any) -> pd.Series:
    if not isinstance(y, pd.Series):
        raise TypeError(f"y must be a pandas Series; got {type(y).__name__}")
    if not y.index.equals(X.index):
        raise ValueError(
            f"y must have the index of X, with {len(X)} rows; got {len(y)} rows of another index"
        )
    return y


def _kind(name: str, values: Any) -> dict[str, int] | None:
    """Tell how a feature is encoded, by its first value that is there; None for a number."""
    if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype):
        return {"one_hot": TEXTS}
    first = next((value for value in values if not _missing(value)), 0.0)
    if isinstance(first, str):
        return {"one_hot": TEXTS}
    return {"one_hot": 2} if isinstance(first, bool | np.bool_) else None


def _table(described: Schema, columns: Columns, rows: int) -> _Table:
    """Give the columns as the schema orders and encodes them. ValueError: what can't be learned, by name."""
    names = _names(described)
    wide, unseen, at = np.zeros((rows, described.inputs)), list[dict[str, tuple[Label]]](), 0
    for name in names:
        values = columns.get(name, (None,) * rows)
        if name in described.categories:
            end = at + sum(described.categories[name].values())
            new = _coded(described, name, list(map(_own, values)), wide[:, at:end])
            unseen += [{name: (value,)} for value in new]
        else:
            end = at + 1
            wide[:, at] = _numbers(f"feature {name!r}", values)
            _check_missing(described, name, np.isnan(wide[:, at]).any())
        at = end
    x = _float32(wide)
    if np.isinf(x).any():
        _, place = np.argwhere(np.isinf(x))[0]
        raise ValueError(f"feature {described.columns[place]!r} must be finite; got {wide[np.isinf(x)][0]}")
    return _Table(x, together(unseen))


def _coded(described: Schema, name: str, values: Sequence[Any], block: Array) -> list[Label]:
    """Write a category's columns, and give the values that are new."""
    coded = categories.code(described, name, values, block)
    if coded.bad:
        value = values[min(coded.bad)]
        _check_missing(described, name, value is None)
        raise ValueError(f"feature {name!r} must be a text, a whole number or a boolean; got {_shown(value)}")
    room = described.categories[name].get("one_hot", 0) - len(described.vocabulary.get(name, ()))
    return [*dict.fromkeys(value for _, value in coded.unseen)][:room]


def _check_missing(described: Schema, name: str, missing: Any) -> None:
    if missing and not described.missing:
        raise ValueError(f"feature {name!r} must be there, as the learner refuses what is missing; got none")


def _numbers(what: str, values: Any) -> Array:
    """Give numbers as float64, NaN for a missing one."""
    if isinstance(values, pd.Series) and values.dtype.kind in "iuf":
        numbers: Array = values.to_numpy(np.float64, na_value=np.nan)
        return numbers
    return np.array([_number(what, value) for value in values], np.float64)


def _number(what: str, value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is not bool and isinstance(value, Real):
        try:
            return float(value)
        except OverflowError:  # a whole number that no float64 holds
            return np.inf
    if _missing(value):
        return np.nan
    raise ValueError(f"{what} must be a number; got {_shown(value)}")


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def _own(value: Any) -> Any:
    """Give a category's value in Python's own types, None where it is missing."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if _missing(value) else value


def _label(value: Any, what: str = "y") -> Label:
    """Give a label in Python's own types, 1 for 1.0: a record's labels are no floats."""
    value = _own(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str | int):  # booleans are whole numbers here
        return value
    raise ValueError(f"{what} must be a text, a whole number or a boolean; got {_shown(value)}")


def _check_nameable(labels: Iterable[Label]) -> None:
    """Refuse labels that can't become classes, as classes are in every version."""
    for label in labels:
        if not nameable(label):
            raise ValueError(
                f"a y that becomes a class must be a text of {LONGEST} characters at most, or a whole number "
                f"of 64 bits; got {_shown(label)}"
            )


def _shares(output: Array) -> NDArray[np.float64]:
    """Give probabilities whose sum is 1 in float64 too."""
    wide = output.astype(np.float64)
    shares: NDArray[np.float64] = wide / wide.sum(axis=1, keepdims=True)
    return shares


def _float32(wide: Array) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is told
        return wide.astype(np.float32)


def _shown(value: Any) -> str:
    return " ".join(repr(value).split())[:80]


def _listed(names: Iterable[Hashable]) -> str:
    return ", ".join(map(repr, names))
