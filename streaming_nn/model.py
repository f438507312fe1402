"""A model in memory, behind every API: trained, used for predictions, and saved as a version of a log."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core.networks import Shape
from streaming_nn.core.sparse import SparseRows
from streaming_nn.nn import learner as loop
from streaming_nn.nn.factory import change_events, learner_from
from streaming_nn.nn.learner import Batch, Counts, Learner, State, initial, load_state
from streaming_nn.nn.preprocessing import ColumnGrowth
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.schema import Schema, schema_from
from streaming_nn.records.values import LARGE_FEATURE
from streaming_nn.versions.version import SEQUENTIAL, ManifestFields, Version
from streaming_nn.versions.version_log import VersionLog

logger = logging.getLogger(__name__)

PREDICT_ROWS = 4096  # rows predicted at once: an ensemble's members would need much memory for more


class Parent(NamedTuple):
    """The version that a model was loaded from or last saved as."""

    directory: Path
    number: int
    sha256: str


class Model(NamedTuple):
    """A learner, its state, and what a version records about them. Functions return a new one.

    `learn` may change the state's arrays in place: a model has one holder.
    """

    learner: Learner[Any]
    state: State[Any]
    start: State[Any]  # the state when the model was created, loaded or last saved
    counts: Counts = Counts()  # rows learned since then
    parent: Parent | None = None  # None: it is in no model directory yet

    def copy(self) -> "Model":
        """Return a model that shares no array which `learn` changes."""
        state = self.state._replace(model=self.learner.copy(self.state.model))
        return self._replace(state=state, start=state if self.start is self.state else self.start)


class Holder:
    """What holds a model. A shallow copy gets a state of its own."""

    _model: Model | None
    _large: frozenset[str] = frozenset()  # features with large numbers, each of which is logged once

    def _log_large(self, names: Iterable[str]) -> None:
        """Log the features, by `values.large_columns`, that have not been logged yet."""
        for name in sorted(new := frozenset(names) - self._large):
            logger.warning(LARGE_FEATURE, name)
        if new:
            self._large |= new

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the model's metrics, and the weights of its members."""
        from streaming_nn.versions.notebook import model_html

        model = getattr(self, "_model", None)
        return model_html(repr(self), loop.report(model.learner, model.state) if model else {})

    def __copy__(self) -> Self:
        """Return another holder of a copy of the model."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        if vars(self).get("_model") is not None:
            other._model = vars(self)["_model"].copy()
        return other


def new_model(learner: Learner[Any]) -> Model:
    """Return an untrained model."""
    state = initial(learner)
    return Model(learner, state, state)


def learn(
    model: Model,
    batch: Batch,
    on_predictions: Callable[[NDArray[Any]], object],
    mini_batch: int | None = None,
) -> Model:
    """Learn rows; give `on_predictions` each block's predictions (rows, outputs) from before it was learned.

    The rows may be a matrix of scipy.sparse in CSR form; it becomes an array block by block, unless the
    learner's `scale` is "sparse".
    ValueError: an invalid target for the loss. A stream counts its mini-batch as skipped.
    """
    learner: Any = model.learner
    if learner.loss == "poisson" and (batch.y < 0).any():
        row, *_ = np.argwhere(batch.y < 0)[0].tolist()
        raise ValueError(
            f"y must not be negative with loss 'poisson'; got {batch.y[row].min():g} in row {row}"
        )
    if mini_batch is not None:
        learner = replace(learner, mini_batch=mini_batch)
    owned = model.state is not model.start and len(batch.y) <= learner.mini_batch
    state, counts = loop.test_then_train(
        learner,
        model.state,
        _batches(learner, batch),
        lambda found: on_predictions(found.output),
        in_place=owned,
    )
    total = Counts(*(a + b for a, b in zip(model.counts, counts, strict=True)))
    return model._replace(state=state, counts=total)


def predict(model: Model, x: Any) -> NDArray[Any]:
    """Return the predictions (rows, outputs) for rows (rows, inputs), an array or a sparse matrix."""
    rows = PREDICT_ROWS if isinstance(x, np.ndarray) else min(PREDICT_ROWS, loop.piece_rows(model.learner))
    starts = range(0, max(1, x.shape[0]), rows)
    learner: Any = model.learner
    parts = [learner.predict(model.state.model, _rows(learner, x[start : start + rows])) for start in starts]
    return np.concatenate(parts)


def _rows(learner: Any, x: Any) -> NDArray[np.float64] | SparseRows:
    if isinstance(x, np.ndarray):
        return x
    if getattr(learner, "scale", None) != "sparse":
        dense: NDArray[np.float64] = x.toarray()
        return dense
    if not x.has_canonical_format:
        x = x.copy()
        x.sum_duplicates()
    return SparseRows(x.indptr, x.indices, x.data, x.shape[1])


def _batches(learner: Learner[Any], batch: Batch) -> Iterator[Batch]:
    rows: Any = batch.x
    size = len(batch.y) if isinstance(rows, np.ndarray) else loop.piece_rows(learner)
    for start in range(0, len(batch.y), max(1, size)):
        part = slice(start, start + size)
        weight = None if batch.weight is None else batch.weight[part]
        yield Batch(_rows(learner, rows[part]), batch.y[part], weight)


def grow(model: Model, classes: Sequence[Any]) -> Model:
    """Return the model with more classes, the old ones first. ValueError: its learner cannot grow."""
    learner = learner_from({**model.learner.options(), "classes": tuple(classes)})
    return model._replace(learner=learner, state=loop.grow(learner, model.state))


def grow_inputs(model: Model, inputs: int, growth: ColumnGrowth) -> Model:
    """Return the model with so many inputs, its columns rearranged. ValueError: its learner cannot grow."""
    learner = learner_from({**model.learner.options(), "inputs": inputs})
    return model._replace(learner=learner, state=loop.grow_inputs(learner, model.state, growth))


def weight_bytes(model: Model, inputs: int) -> int:
    """Return the bytes that the weights and their optimizers' states take with so many inputs."""
    sized: Any = learner_from({**model.learner.options(), "inputs": inputs})
    size: int = sum(sized.core.layout.sizes) * np.dtype(np.float32).itemsize
    return size


def save(model: Model, model_dir: str | Path, schema: Schema) -> Model:
    """Commit the model to the log in `model_dir` as its newest version; return it with that as its parent.

    A directory without versions gets the first one; else the newest must be the model's parent. Errors:
    ValueError where it is another one, VersionConflictError where another process commits meanwhile.
    """
    log = VersionLog(model_dir)
    head = log.head()
    fields: ManifestFields = {
        "kind": "saved",
        "learner": model.learner.options(),
        "schema": schema.options(),
        "counts": model.counts._asdict(),
        "update": SEQUENTIAL,
        "metrics": loop.report(model.learner, model.state),
        "events": loop.events(model.learner, model.start, model.state),
    }
    if head is not None:
        _check_parent(model, log, head)
        fields["events"] = [*change_events(head.manifest.learner, fields["learner"]), *fields["events"]]
    version = log.commit(head, flatten(model.state), **fields)
    return Model(model.learner, model.state, model.state, Counts(), _parent(log, version))


def _parent(log: VersionLog, version: Version) -> Parent:
    return Parent(log.directory.resolve(), version.number, version.sha256)


def _check_parent(model: Model, log: VersionLog, head: Version) -> None:
    if model.parent != _parent(log, head):
        raise ValueError(
            f"cannot save to {log.directory}: its newest version, {head.number}, is not this model's parent; "
            "load it first, or save to another directory"
        )


def load(model_dir: str | Path, number: int | None = None) -> tuple[Model, Schema]:
    """Read a version of a model directory and the schema of its records; `number` None: the newest version.

    LookupError: there is no such version; DamagedVersionError: it is damaged.
    """
    log = VersionLog(model_dir)
    version = log.head() if number is None else log.read(number)
    if version is None:
        raise LookupError(f"cannot load a model from {log.directory}: it has no versions")
    learner = learner_from(version.manifest.learner)
    state = load_state(learner, version.tensors)
    options = version.manifest.schema
    schema = schema_from(options) if options else describe(learner)
    return Model(learner, state, state, Counts(), _parent(log, version)), schema


def describe(
    learner: Learner[Any], features: str | tuple[str, ...] = "features", missing: bool = False
) -> Schema:
    """Return the schema of records that such a learner learns."""
    label = learner.targets or "label"
    return Schema(
        learner.inputs, learner.classes, features, label, missing=missing, multilabel=learner.multilabel
    )


def parameters(model: Model) -> list[NDArray[np.float32]]:
    """Return each member's parameters (parameters,)."""
    learner: Any = model.learner
    thetas: list[NDArray[np.float32]] = learner.core.layout.thetas(model.state.model.theta)
    return thetas


def member_network(model: Model, member: int | None) -> tuple[Shape, NDArray[np.float32]]:
    """Return the shape and the parameters (parameters,) of one member.

    `member` None: the only member. ValueError: there is no such member, or there are several.
    """
    learner, thetas = cast("Any", model.learner), parameters(model)
    if member is None and len(thetas) == 1:
        member = 0
    elif not isinstance(member, int | np.integer) or not 0 <= member < len(thetas):
        raise ValueError(f"member must be one of {_describe_members(model, len(thetas))}; got {member!r}")
    return learner.core.shapes[member], thetas[member]


def _describe_members(model: Model, count: int) -> str:
    """Describe the members: "0 (sgd 0.003), 1 (sgd 0.01)"; a plain network has one, 0."""
    members = model.learner.describe_members(model.state.model)
    if not members:
        return ", ".join(map(str, range(count)))
    return ", ".join(f"{i} ({each['member']})" for i, each in enumerate(members))


def class_labels(model: Model) -> NDArray[Any]:
    """Return the classes in the order of the outputs, as an array; ValueError: they are of several types."""
    classes = model.learner.classes or ()
    if len(set(map(type, classes))) > 1:
        raise ValueError(f"classes must be of one type to be exported; got {classes!r}")
    return np.array(classes)


def to_python(name: str, value: Any) -> Any:
    """Return an option in Python's own types, as a manifest has it; a single number is one hidden layer."""
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    if name == "hidden" and isinstance(value, int):
        return (value,)
    return tuple(to_python("", each) for each in value) if isinstance(value, list | tuple) else value
