"""A model in memory, behind any face: learned, asked, and saved as a version that a stream goes on from."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn import learner as loop
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, Counts, Hear, Learner, State, initial
from streaming_nn.nn.state_dict import flatten, unflatten
from streaming_nn.records.schema import Schema, schema_from
from streaming_nn.versions.version import SEQUENTIAL, Version
from streaming_nn.versions.version_log import VersionLog

ANSWERED = 4096  # rows that are answered at a time: a ensemble's members would need much memory for more


class Place(NamedTuple):
    """The version that a model goes on from."""

    directory: Path
    number: int
    sha256: str


class Model(NamedTuple):
    """A learner and its state, and what there is to tell when it is saved. Never changed, only exchanged."""

    learner: Learner[Any]
    state: State[Any]
    begin: State[Any]  # as it was when it was made, loaded or last saved
    rows: Counts = Counts()  # learned since then
    place: Place | None = None  # None: it is in no folder yet


def begun(learner: Learner[Any]) -> Model:
    """Return the model that has seen nothing."""
    state = initial(learner)
    return Model(learner, state, state)


def learned(model: Model, batch: Batch, answered: Hear, mini_batch: int | None = None) -> Model:
    """Learn rows; `answered` is given the answers (rows, outputs) from before each mini-batch was learned.

    ValueError: a target that the loss can't have. A stream counts its mini-batch as skipped.
    """
    learner: Any = model.learner
    if getattr(learner, "loss", None) == "poisson" and (batch.y < 0).any():
        row = int((batch.y < 0).argmax())
        raise ValueError(f"y must not be negative with loss 'poisson'; got {batch.y[row]:g} in row {row}")
    if mini_batch is not None:
        learner = replace(learner, mini_batch=mini_batch)
    state, rows = loop.test_then_train(learner, model.state, [batch], answered)
    return model._replace(state=state, rows=Counts(*(a + b for a, b in zip(model.rows, rows, strict=True))))


def answers(model: Model, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Answer rows (rows, inputs) with (rows, outputs)."""
    starts = range(0, max(1, len(x)), ANSWERED)
    parts = [model.learner.predict(model.state.model, x[start : start + ANSWERED]) for start in starts]
    return np.concatenate(parts)


def grown(model: Model, classes: Sequence[Any]) -> Model:
    """Let the model take up new classes, which stand after the old ones. ValueError: its learner can't."""
    learner = learner_from({**model.learner.options(), "classes": tuple(classes)})
    return model._replace(learner=learner, state=loop.grown(learner, model.state))


def saved(model: Model, model_dir: str | Path, schema: Schema) -> Model:
    """Append the model to the log in `model_dir` as its newest version; return it with its new place.

    A folder without versions gets the first one; else the newest must be the one that the model was loaded
    from or last saved as. Errors: ValueError where it is another one, VersionConflictError where somebody appends
    meanwhile.
    """
    log = VersionLog(model_dir)
    head = log.head()
    news: dict[str, Any] = {
        "kind": "saved",
        "learner": model.learner.options(),
        "schema": schema.options(),
        "counts": model.rows._asdict(),
        "update": SEQUENTIAL,
        "metrics": loop.report(model.learner, model.state),
        "events": loop.events(model.learner, model.begin, model.state),
    }
    if head is not None:
        _check_parent(model, log, head)
    version = log.commit(head, flatten(model.state), **news)
    place = Place(log.directory.resolve(), version.number, version.sha256)
    return Model(model.learner, model.state, model.state, Counts(), place)


def _check_parent(model: Model, log: VersionLog, head: Version) -> None:
    if model.place != Place(log.directory.resolve(), head.number, head.sha256):
        raise ValueError(
            f"model {log.directory}: its newest version, {head.number}, is not what this model goes on from: "
            "load it first, or save into another folder"
        )


def loaded(model_dir: str | Path, number: int | None = None) -> tuple[Model, Schema]:
    """Read a version of a model directory, whoever wrote it, and the schema of its records; None: the newest.

    LookupError: there is no such version; DamagedVersionError: it is not whole.
    """
    log = VersionLog(model_dir)
    version = log.head() if number is None else log.read(number)
    if version is None:
        raise LookupError(f"model {log.directory}: there is no version yet, so there is nothing to load")
    learner = learner_from(version.manifest.learner)
    state = unflatten(initial(learner), version.tensors)
    place = Place(log.directory.resolve(), version.number, version.sha256)
    described = version.manifest.schema
    schema = schema_from(described) if described else Schema(learner.inputs, learner.classes)
    return Model(learner, state, state, Counts(), place), schema


def thetas(model: Model) -> NDArray[np.float32]:
    """Give the parameters of all members (members, parameters)."""
    tensors = flatten(model.state.model)
    return np.concatenate([theta for name, theta in tensors.items() if name.split(".")[-1] == "theta"])


def theta_of(model: Model, member: int | None) -> NDArray[np.float32]:
    """Give the parameters of one member (1, parameters); None is the only one there is, else a ValueError."""
    theta = thetas(model)
    if member is None and len(theta) == 1:
        return theta
    if not isinstance(member, int | np.integer) or not 0 <= member < len(theta):
        raise ValueError(f"member must be one of {_members(model, len(theta))}; got {member!r}")
    return theta[member : member + 1]


def _members(model: Model, count: int) -> str:
    """Name the members: "0 (sgd 0.003), 1 (sgd 0.01)"; the plain network's one is 0."""
    members = getattr(model.learner, "members", None)
    if members is None:
        return ", ".join(map(str, range(count)))
    return ", ".join(f"{i} ({each['member']})" for i, each in enumerate(members(model.state.model)))


def labels(model: Model) -> NDArray[Any]:
    """Give the classes in the order of the outputs, as an array; ValueError: they are of several types."""
    classes = model.learner.classes or ()
    if len(set(map(type, classes))) > 1:
        raise ValueError(f"classes must be of one type to be exported; got {classes!r}")
    return np.array(classes)


def plain(name: str, value: Any) -> Any:
    """Give an option in Python's own types, as a version holds it; one number is one hidden layer."""
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    if name == "hidden" and isinstance(value, int):
        return (value,)
    return tuple(plain("", each) for each in value) if isinstance(value, list | tuple) else value
