"""Learners that show what they were given: one counts each record, one remembers their order."""

import hashlib
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn.learner import Batch, Learner

Floats = NDArray[np.float32]


class Counts(NamedTuple):
    counts: NDArray[np.int32]  # (records,) how often each was learned


@dataclass(frozen=True)
class Counting(Learner[Counts]):
    """Counts how often it has learned each record; a record's only feature is its number."""

    records: int
    inputs: int = 1
    classes: tuple[int, ...] = (0, 1)
    mini_batch: int = 1000
    window: int = 100
    fading: float = 0.999

    def options(self) -> dict[str, Any]:
        return {"learner": "counting", **asdict(self), "classes": list(self.classes)}

    def init(self) -> Counts:
        return Counts(np.zeros(self.records, np.int32))

    def predict(self, state: Counts, x: Floats) -> Floats:
        return np.full((len(x), 2), 0.5, np.float32)

    def learn(self, state: Counts, batch: Batch) -> tuple[Counts, Floats, int]:
        counts = state.counts.copy()
        np.add.at(counts, batch.x[:, 0].astype(np.int64), 1)
        return Counts(counts), self.predict(state, batch.x), len(batch.y)


@dataclass(frozen=True)
class Fatal(Counting):
    """Counts, but kills the process it runs in at its first block past `after` records, once."""

    marker: str = ""  # a file that marks it as done
    after: int = 3000

    def learn(self, state: Counts, batch: Batch) -> tuple[Counts, Floats, int]:
        if state.counts.sum() + len(batch.y) > self.after and not Path(self.marker).exists():
            Path(self.marker).write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().learn(state, batch)


class Link(NamedTuple):
    digest: NDArray[np.uint8]  # (32,) sha256 of all records so far, in their order


@dataclass(frozen=True)
class Chain(Learner[Link]):
    """Remembers the order of all that it has learned, as a chain of hashes."""

    inputs: int = 1
    classes: tuple[int, ...] = (0, 1)
    mini_batch: int = 7
    window: int = 100
    fading: float = 0.999

    def options(self) -> dict[str, Any]:
        return {"learner": "chain", **asdict(self), "classes": list(self.classes)}

    def init(self) -> Link:
        return Link(np.zeros(32, np.uint8))

    def predict(self, state: Link, x: Floats) -> Floats:
        return np.full((len(x), 2), 0.5, np.float32)

    def learn(self, state: Link, batch: Batch) -> tuple[Link, Floats, int]:
        digest = chained(state.digest.tobytes(), batch.x[:, 0].tolist())
        return Link(np.frombuffer(digest, np.uint8)), self.predict(state, batch.x), len(batch.y)


def chained(digest: bytes, numbers: Iterable[float]) -> bytes:
    """Continue `digest` over records with these numbers."""
    for number in numbers:
        digest = hashlib.sha256(digest + str(int(number)).encode()).digest()
    return digest


def counting_from(options: Mapping[str, Any]) -> Counting:
    """Return the learner of a manifest's options."""
    return Counting(options["records"])


@dataclass(frozen=True)
class Stuck(Counting):
    """Never takes a finite step."""

    def learn(self, state: Counts, batch: Batch) -> tuple[Counts, Floats, int]:
        return state, self.predict(state, batch.x), 0
