"""Our learners over a stream: each mini-batch answered before it is learned, and as scorers would say."""

import time
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import HIDDEN, Dataset
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, Learner, learn

Array = NDArray[Any]
MICRO_BATCHES = (100, 1_000, 10_000)  # rows between two versions, as a scorer gets them
DEFAULT = "ensemble"
PLAIN = "mlp"
ALONE = ("sgd", "adam")  # how the names of members begin


class Answers(NamedTuple):
    """What a pass over a stream gave."""

    prequential: Array  # (rows,) class indices or targets
    served: dict[int, Array]  # rows of a micro-batch: (rows,) answers of the version at its start
    seconds: float  # of a core, answering and learning; what was served is not counted, nor other processes


def learner_of(data: Dataset, who: str, mini_batch: int, seed: int) -> Learner[Any]:
    """Make a learner with the options that it has by itself: DEFAULT, PLAIN, or one of `members`."""
    options = {
        "learner": PLAIN if who == PLAIN else DEFAULT,
        "inputs": data.x.shape[1],
        "classes": None if data.classes is None else list(range(data.classes)),
        "mini_batch": mini_batch,
        "seed": seed,
    }
    if data.name in HIDDEN:
        options["hidden"] = HIDDEN[data.name]
    learner = learner_from(options)
    if who in (PLAIN, DEFAULT):
        return learner
    return _alone(learner)[who]


def members(data: Dataset) -> list[str]:
    """Name the members of the default ensemble."""
    return list(_alone(learner_of(data, DEFAULT, 1, 0)))


def is_member(who: str) -> bool:
    """Say whether a name is one of `members`."""
    return who.split()[0] in ALONE


def _alone(learner: Learner[Any]) -> dict[str, Learner[Any]]:
    """Make a ensemble of each member alone."""
    assert isinstance(learner, Ensemble)
    names = [member["member"] for member in learner.members(learner.init())]
    followers = [replace(learner, follow=(rate,), replay=()) for rate in learner.follow]
    replayers = [replace(learner, follow=(), replay=(pair,)) for pair in learner.replay]
    return dict(zip(names, [*followers, *replayers], strict=True))


def run(learner: Learner[Any], data: Dataset, micro_batches: tuple[int, ...] = MICRO_BATCHES) -> Answers:
    """Answer and learn all rows once.

    A version is cut after the last whole mini-batch that fits into the micro-batch, so that one pass serves
    all sizes; it is up to a mini-batch older than a stream's would be.
    """
    model, seconds = learner.init(), 0.0
    versions = dict.fromkeys(micro_batches, model)
    prequential: list[Array] = []
    served: dict[int, list[Array]] = {size: [] for size in micro_batches}
    for start, stop in cuts(len(data.y), min(micro_batches, default=len(data.y)), learner.mini_batch):
        batch = Batch(data.x[start:stop], data.y[start:stop])
        for size in micro_batches:
            if begins(start, size, learner.mini_batch):
                versions[size] = model
            served[size].append(answers_of(learner, learner.predict(versions[size], batch.x)))
        began = time.process_time()
        with np.errstate(all="ignore"):
            model, output, _ = learn(learner, model, batch)
        seconds += time.process_time() - began
        prequential.append(answers_of(learner, output))
    whole = {size: np.concatenate(parts) for size, parts in served.items()}
    return Answers(np.concatenate(prequential), whole, seconds)


def cuts(rows: int, micro_batch: int, mini_batch: int) -> list[tuple[int, int]]:
    """Cut rows at the last whole mini-batch before each multiple of the micro-batch."""
    ends = [end // mini_batch * mini_batch for end in range(micro_batch, rows, micro_batch)]
    bounds = sorted({0, *ends, rows})
    return list(pairwise(bounds))


def begins(start: int, micro_batch: int, mini_batch: int) -> bool:
    """Say whether a micro-batch begins within the mini-batch that begins at row `start`."""
    nearest = -(-start // micro_batch) * micro_batch
    return nearest // mini_batch * mini_batch == start


def answers_of(learner: Learner[Any], output: Array) -> Array:
    """Take the most probable class, or the target, from outputs (rows, outputs)."""
    return output[:, 0] if learner.classes is None else output.argmax(axis=1)
