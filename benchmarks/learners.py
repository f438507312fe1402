"""Our learners on a stream: each mini-batch is predicted before it is learned, and also as served."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import HIDDEN, Dataset
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, Learner, initial, test_then_train

Array = NDArray[Any]
MICRO_BATCHES = (100, 1_000, 10_000)  # rows between two versions, as a scorer gets them
DEFAULT = "ensemble"
PLAIN = "mlp"
MEMBERS = ("sgd", "adam")  # prefixes of the members' names


class Predictions(NamedTuple):
    """The result of a pass over a stream."""

    prequential: Array  # (rows,) class indices or targets
    as_served: dict[int, Array]  # rows of a micro-batch: (rows,) predictions of the version at its start
    seconds: float  # of CPU for predicting and learning, without the predictions as served
    led: Mapping[str, int] = {}  # member: rows of the blocks after which it had the largest weight


def learner_for(data: Dataset, name: str, mini_batch: int, seed: int) -> Learner[Any]:
    """Return a learner with its default options: DEFAULT, PLAIN, or one of `members`."""
    options = {
        "learner": PLAIN if name == PLAIN else DEFAULT,
        "inputs": data.x.shape[1],
        "classes": None if data.classes is None else list(range(data.classes)),
        "mini_batch": mini_batch,
        "seed": seed,
    }
    if data.name in HIDDEN:
        options["hidden"] = HIDDEN[data.name]
    learner = learner_from(options)
    if name in (PLAIN, DEFAULT):
        return learner
    return _ensembles_of_one(learner)[name]


def members(data: Dataset) -> list[str]:
    """Return the names of the default ensemble's members."""
    return list(_ensembles_of_one(learner_for(data, DEFAULT, 1, 0)))


def is_member(name: str) -> bool:
    """Return whether a name is one of `members`."""
    return name.split()[0] in MEMBERS


def _ensembles_of_one(learner: Learner[Any]) -> dict[str, Learner[Any]]:
    """Return an ensemble for each member alone, by its name."""
    assert isinstance(learner, Ensemble)
    names = [member["member"] for member in learner.describe_members(learner.init())]
    return {
        name: replace(learner, members=(each,)) for name, each in zip(names, learner.described, strict=True)
    }


def run(learner: Learner[Any], data: Dataset, micro_batches: tuple[int, ...] = MICRO_BATCHES) -> Predictions:
    """Predict and learn all rows once.

    A version ends after the last whole mini-batch that fits into the micro-batch, so that one pass serves
    all sizes; it is up to one mini-batch older than in a stream. Of targets, whose versions correct their
    predictions, there is a pass for each size, and the prequential ones are of a version per mini-batch.
    """
    model, seconds = learner.init(), 0.0
    versions = dict.fromkeys(micro_batches, learner.copy(model))
    prequential: list[Array] = []
    as_served: dict[int, list[Array]] = {size: [] for size in micro_batches}
    led = Counter[str]()
    for start, stop in cut(len(data.y), min(micro_batches, default=len(data.y)), learner.mini_batch):
        batch = Batch(data.x[start:stop], data.y[start:stop])
        for size in micro_batches:
            if starts_micro_batch(start, size, learner.mini_batch):
                versions[size] = learner.copy(model)
            as_served[size].append(predictions_of(learner, learner.predict(versions[size], batch.x)))
        started = time.process_time()
        model, output, _ = learner.learn(model, batch)
        seconds += time.process_time() - started
        prequential.append(predictions_of(learner, output))
        if described := learner.describe_members(model):
            led[max(described, key=lambda member: member["weight"])["member"]] += stop - start
    whole = {size: np.concatenate(parts) for size, parts in as_served.items()}
    if learner.begin_errors(model) is not None:  # versions correct their predictions
        whole = {size: by_versions(learner, data, size) for size in micro_batches}
        prequential = [by_versions(learner, data, learner.mini_batch)]
    return Predictions(np.concatenate(prequential), whole, seconds, led)


def by_versions(learner: Learner[Any], data: Dataset, rows: int) -> Array:
    """Return what versions of so many rows each predict for the rows of the next one."""
    state, found = initial(learner), list[Array]()
    for start in range(0, len(data.y), rows):
        batch = Batch(data.x[start : start + rows], data.y[start : start + rows])
        state, _ = test_then_train(
            learner, state, [batch], lambda predicted: found.append(predicted.as_served)
        )
    return predictions_of(learner, np.concatenate(found))


def cut(rows: int, micro_batch: int, mini_batch: int) -> list[tuple[int, int]]:
    """Cut rows at the last whole mini-batch before each multiple of the micro-batch."""
    ends = [end // mini_batch * mini_batch for end in range(micro_batch, rows, micro_batch)]
    bounds = sorted({0, *ends, rows})
    return list(pairwise(bounds))


def starts_micro_batch(start: int, micro_batch: int, mini_batch: int) -> bool:
    """Return whether a micro-batch starts within the mini-batch that starts at row `start`."""
    nearest = -(-start // micro_batch) * micro_batch
    return nearest // mini_batch * mini_batch == start


def predictions_of(learner: Learner[Any], output: Array) -> Array:
    """Return the most probable class, or the target, from outputs (rows, outputs)."""
    return output[:, 0] if learner.classes is None else output.argmax(axis=1)
