"""Endless handwritten digits: scikit-learn's 1,797 real images, reshuffled and shifted by a pixel."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from producers.streams import BLOCK, Block, Stream, checked_drift, concepts

SIDE = 8  # pixels; values are 0 to 16
MOVES = np.array([(0, 1), (2, 1), (1, 0), (1, 2), (1, 1), (1, 1), (1, 1), (1, 1)])  # (1, 1) does not move


def digits(seed: int, drift_at: tuple[int, ...] = ()) -> Stream:
    """Stream 64 pixels (0 to 16) and the digit: each epoch in a new order, half the images moved by a pixel.

    At a drift, the images are mirrored and the labels permuted, as if the data came from another office: the
    model is wrong until it has learned the new concept. The next drift returns to the first concept.
    """
    images, labels = _load()
    return Stream(SIDE * SIDE, tuple(range(10)), _blocks(images, labels, seed, checked_drift(drift_at)))


def _load() -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Read the file that scikit-learn comes with; importing scikit-learn would take a second."""
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise ValueError("digits needs scikit-learn: pip install 'streaming_nn[demo]'")
    table = np.loadtxt(Path(found.origin).parent / "datasets/data/digits.csv.gz", np.float32, delimiter=",")
    return table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1].astype(np.int32)


def _blocks(
    images: NDArray[np.float32], labels: NDArray[np.int32], seed: int, drift_at: tuple[int, ...]
) -> Iterator[Block]:
    rng = np.random.default_rng(seed)
    permuted = np.array([_permuted_labels(k) for k in range(len(drift_at) + 1)])
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    queue, start = np.empty(0, np.int64), 0
    while True:
        while len(queue) < BLOCK:
            queue = np.concatenate([queue, rng.permutation(len(images))])
        picked, queue = queue[:BLOCK], queue[BLOCK:]
        concept = concepts(start, BLOCK, drift_at)
        x = _shifted(padded, picked, rng)
        x = np.where((concept % 2 == 1)[:, None, None], x[:, :, ::-1], x)
        y = permuted[concept, labels[picked]]
        yield Block(x.reshape(BLOCK, SIDE * SIDE), y)
        start += BLOCK


def _shifted(
    padded: NDArray[np.float32], picked: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float32]:
    down, right = MOVES[rng.integers(0, len(MOVES), len(picked))].T[:, :, None, None]
    pixel = np.arange(SIDE)
    moved: NDArray[np.float32] = padded[picked[:, None, None], down + pixel[:, None], right + pixel]
    return moved


def _permuted_labels(concept: int) -> NDArray[np.int32]:
    """Return the label of each digit in a concept: in an odd one no digit keeps its label."""
    digits = np.arange(10, dtype=np.int32)
    return digits if concept % 2 == 0 else np.roll(digits, concept)
