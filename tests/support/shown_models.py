"""Model directories for the page: learned without Spark, by the steps that the trainer takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, Learner, State, combine, initial, learn_part
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.schema import Schema
from streaming_nn.spark.samples import NewestRows
from streaming_nn.spark.train.micro_batch import commit_learned
from streaming_nn.versions.version import Version
from streaming_nn.versions.version_log import VersionLog

INPUTS = 4


class GrowingModel:
    """A model directory to which `learn` appends versions."""

    def __init__(self, directory: Path, seed: int = 0, **options: Any) -> None:
        defaults = {"inputs": INPUTS, "hidden": [8], "mini_batch": 4, "window": 100}
        self.learner: Learner[Any] = learner_from(defaults | options)
        self.log = VersionLog(directory)
        self.rng = np.random.default_rng(seed)
        self.state: State[Any] = initial(self.learner)
        first = flatten(self.state)
        self.head: Version = self.log.commit(None, first, learner=self.learner.options())

    def learn(
        self,
        versions: int,
        rows: int = 50,
        rejected: Sequence[dict[str, Any]] = (),
        changed: bool = False,
        **fields: Any,
    ) -> Version:
        """Append versions of random rows whose class, or target, follows from them; return the head.

        With `changed`, from the rows with the opposite sign.
        """
        for _ in range(versions):
            x, kept = self._inputs(rows), NewestRows(self.learner, 16)
            part = learn_part(
                self.learner, self.state, [Batch(x, self._targets(-x if changed else x))], kept.add
            )
            after = combine(self.learner, self.state, [part])
            fields["samples"] = {"rows": kept.rows(), "rejected": list(rejected)}
            learned = commit_learned(
                self.log, self.head, self.learner, self.state, after, part.counts, **fields
            )
            assert learned is not None
            self.head, self.state = learned, after
        return self.head

    def _inputs(self, rows: int) -> NDArray[np.float64]:
        return self.rng.normal(size=(rows, INPUTS))

    def _targets(self, x: NDArray[np.float64]) -> NDArray[Any]:
        classes = self.learner.options()["classes"]
        return x[:, 0] + x[:, 1] if classes is None else (x[:, 0] > 0).astype(int) + (x[:, 1] > 1)


class PictureModel(GrowingModel):
    """One of pictures of 8 by 8 pixels: which half is bright."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, inputs=64, classes=["left", "right"])
        self.schema = Schema(64, ("left", "right")).options()

    def learn(self, versions: int, rows: int = 50, **fields: Any) -> Version:
        """Append versions of random pictures."""
        return super().learn(versions, rows, schema=self.schema, **fields)

    def _inputs(self, rows: int) -> NDArray[np.float64]:
        self.right = self.rng.integers(2, size=rows)
        pixels = self.rng.integers(0, 9, (rows, 8, 2, 4)).astype(np.float64)
        pixels[np.arange(rows), :, self.right] += 4
        return pixels.reshape(rows, 64)

    def _targets(self, x: NDArray[np.float64]) -> NDArray[Any]:
        return self.right
