"""Model directories recorded by the product's own loop, whose versions any machine can replay.

`python -m benchmarks.replayed DIRECTORY` learns them again and prints each version's digest. It needs only
NumPy, safetensors and the compiled core, so that it runs where Java and Spark do not: see
benchmarks.emulator.
"""

import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn import model as models
from streaming_nn.model import Model
from streaming_nn.nn import learner as loop
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch
from streaming_nn.nn.preprocessing import ColumnGrowth
from streaming_nn.nn.state_dict import flatten
from streaming_nn.versions.version import state_digest
from streaming_nn.versions.version_log import VersionLog

VERSIONS, ROWS = 8, 300  # after the first one, which is untrained; of each
NUMBERS, KINDS = 5, 4  # columns, and values of a category that is one-hot
Array = NDArray[Any]


class Recording(NamedTuple):
    """The options of a learner, and what becomes of its stream."""

    name: str
    options: dict[str, Any]
    grows: bool = False  # a class, then a column
    tasks: int = 1  # whose parts of a version are averaged


RECORDINGS = (
    Recording(
        "classes",
        {
            "classes": ("a", "b", "c"),
            "mini_batch": 8,
            "missing": "indicate",
            "class_weight": "balanced",
            "on_drift": "restart",
        },
        grows=True,
    ),
    Recording("one row a step", {"classes": (False, True), "mini_batch": 1, "missing": "impute"}),
    Recording("regression", {"mini_batch": 32, "missing": "impute", "drift": "adwin", "on_drift": "raise"}),
    Recording("targets", {"targets": ("t", "u"), "mini_batch": 4, "missing": "impute"}),
    Recording("labels", {"classes": ("a", "b", "c"), "multilabel": True, "missing": "impute"}),
    Recording(
        "averaged",
        {"classes": ("a", "b", "c"), "mini_batch": 8, "scale": "minmax", "missing": "impute"},
        tasks=3,
    ),
    Recording("averaged regression", {"mini_batch": 8, "missing": "impute"}, tasks=2),
    Recording(
        "network",
        {
            "optimizer": "adam",
            "learning_rate": 0.02,
            "mini_batch": 8,
            "classes": ("a", "b", "c"),
            "hidden": (20, 10),
            "activation": "gelu",
            "dropout": 0.2,
            "schedule": "cosine",
            "clip_norm": 1.0,
            "missing": "impute",
            "drift": "page_hinkley",
            "on_drift": "fresh",
        },
        grows=True,
    ),
)


def record(directory: Path) -> None:
    """Write a model directory for each recording, and in it the rows that each version learned."""
    for number, recording in enumerate(RECORDINGS):
        folder = directory / recording.name
        learner = learner_from({**recording.options, "inputs": NUMBERS + KINDS})
        model = _save(models.new_model(learner), folder)
        for version, (x, y) in enumerate(stream(recording, np.random.default_rng(number)), 1):
            np.savez(_rows_of(folder, version), x=x, y=y)
            model = _save(advance(model, x, y, recording.tasks), folder)


def learn_again(folder: Path) -> list[str]:
    """Return the digest of each version of a recorded model directory, from its parent and its rows."""
    head = VersionLog(folder).head_number()
    tasks = next(each.tasks for each in RECORDINGS if each.name == folder.name)
    start, _ = models.load(folder, 0)
    digests = [_digest(models.new_model(start.learner))]
    for parent in range(head or 0):
        model, _ = models.load(folder, parent)
        with np.load(_rows_of(folder, parent + 1)) as rows:
            digests.append(_digest(advance(model, rows["x"], rows["y"], tasks)))
    return digests


def recorded(folder: Path) -> list[str]:
    """Return the digest of each version as it was recorded."""
    log = VersionLog(folder)
    return [log.manifest(number).digest for number in range((log.head_number() or 0) + 1)]


def advance(model: Model, x: Array, y: Array, tasks: int = 1) -> Model:
    """Return the model after a version's rows; a class or a column that it does not know is added before.

    Of n tasks, each learns every n-th row, and they are averaged.
    """
    learner = model.learner
    if learner.classes and y.ndim == 1 and y.max() == len(learner.classes):
        model = models.grow(model, (*learner.classes, "new"))
    if x.shape[1] > learner.inputs:  # so far, all of its values have been missing
        origin, fill = np.append(np.arange(learner.inputs), -1), np.full(x.shape[1], np.nan)
        model = models.grow_inputs(model, x.shape[1], ColumnGrowth(learner.inputs, origin, fill))
    if tasks == 1:
        return models.learn(model, Batch(x, y), lambda _: None)
    batches = [Batch(np.ascontiguousarray(x[task::tasks]), y[task::tasks]) for task in range(tasks)]
    parts = [loop.learn_part(model.learner, model.state, [batch]) for batch in batches]
    return model._replace(state=loop.combine(model.learner, model.state, parts))


def stream(recording: Recording, random: np.random.Generator) -> Iterator[tuple[Array, Array]]:
    """Yield the rows and targets of each version.

    The columns are numbers, some of them missing and one far from the others, and a one-hot category. Halfway
    the targets change signs, which the detector sees. If the model grows, a class and a column are added.
    """
    for version in range(1, VERSIONS + 1):
        numbers = random.normal(0, 3, (ROWS, NUMBERS))
        score = numbers[:, :3] * (1 if version <= VERSIONS // 2 else -5)
        numbers += 1e6
        numbers[random.random(numbers.shape) < 0.1] = np.nan
        numbers[0, version % NUMBERS] = 1e9
        if recording.tasks > 1:
            numbers[:, 0] = random.choice([0.0, -0.0], ROWS)  # the least of tasks' zeros
        columns = [numbers, np.eye(KINDS)[random.integers(KINDS, size=ROWS)]]
        if recording.grows and version > VERSIONS - 2:
            columns.append(random.normal(size=(ROWS, 1)))
        yield np.hstack(columns), targets(recording, score, version)


def targets(recording: Recording, score: Array, version: int) -> Array:
    """Return the targets: labels, classes or numbers."""
    classes, names = recording.options.get("classes"), recording.options.get("targets")
    if recording.options.get("multilabel"):
        return (score > 0).astype(np.int32)
    if not classes:
        return np.ascontiguousarray(score[:, : len(names)] if names else score[:, 0])
    y: Array = score[:, : len(classes)].argmax(axis=1).astype(np.int32)
    if recording.grows and version > 2:
        y[np.abs(score[:, 0]) < 0.5] = len(classes)
    return y


def _save(model: Model, folder: Path) -> Model:
    return models.save(model, folder, models.describe(model.learner, missing=True))


def _rows_of(folder: Path, version: int) -> Path:
    return folder / f"rows-{version}.npz"


def _digest(model: Model) -> str:
    return state_digest(flatten(model.state))


if __name__ == "__main__":
    digests = {folder.name: learn_again(folder) for folder in sorted(Path(sys.argv[1]).iterdir())}
    print(json.dumps({"machine": platform.machine(), "numpy": np.__version__, "digests": digests}))
