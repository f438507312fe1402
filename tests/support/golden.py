"""Golden version files: `python tests/support/golden.py` writes those of the present arithmetic.

They are in a folder of its number, which stays when there is a later one: a later release must open them,
predict and resume, with the same arithmetic to the same bits. They hold generated data only.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core.library import ARITHMETIC
from streaming_nn.model import describe
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import (
    Batch,
    Counts,
    Learner,
    State,
    initial,
    load_state,
    report,
    test_then_train,
)
from streaming_nn.nn.state_dict import flatten
from streaming_nn.versions.version import Manifest, Version, decode, encode, state_digest

FOLDER = Path(__file__).parents[1] / "versions" / "golden"  # a folder for each arithmetic
SMALL = {"hidden": [5], "buffer_rows": 40, "window": 50}
MODELS: dict[str, dict[str, Any]] = {
    "classes": {**SMALL, "classes": ["a", "b", "c"], "missing": "indicate", "mini_batch": 4},
    "targets": {**SMALL, "on_drift": "raise", "mini_batch": 1},
    "two_targets": {**SMALL, "targets": ["u", "v"], "mini_batch": 2},
    "multilabel": {**SMALL, "classes": ["a", "b"], "multilabel": True, "mini_batch": 2},
    "minmax": {
        "optimizer": "nadam",
        "hidden": [6, 4],
        "window": 50,
        "activation": "gelu",
        "classes": [False, True],
        "loss": "logistic",
        "class_weight": "balanced",
        "scale": "minmax",
        "dropout": 0.2,
        "schedule": "cosine",
        "mini_batch": 8,
    },
    "quantiles": {
        "optimizer": "ftrl",
        "hidden": [4],
        "window": 50,
        "loss": "quantile",
        "l1": 0.01,
        "drift": "adwin",
        "mini_batch": 3,
    },
}
INPUTS, ROWS, MORE = 4, 200, 60
EXPECTED = "expected.json"  # of each folder: what its files predict, and the digests of what follows


class Resumed(NamedTuple):
    """What a version predicts, and its state after more rows."""

    predictions: NDArray[Any]  # (rows, outputs)
    counts: Counts
    digest: str

    def as_text(self) -> dict[str, str]:
        return {"predictions": self.predictions.tobytes().hex(), "digest": self.digest}


def rows(name: str, learner: Learner[Any]) -> Batch:
    """Return rows whose bits depend on integers alone: multiples of 1/64."""
    rng = np.random.RandomState(len(name))  # its stream never changes
    x = rng.randint(-200, 200, (ROWS + MORE, INPUTS)) / 64
    y: NDArray[Any] = x[:, 0] * 2 - x[:, 1] + 10
    if learner.classes is not None:
        y = (x[:, 0] > 0).astype(np.int32) + (len(learner.classes) > 2) * (x[:, 1] > 0)
    if learner.columns_of_y is not None:
        y = x[:, :2] * 2 - x[:, 2:]
        y = (y > 0).astype(np.int32) if learner.multilabel else y
    if learner.missing != "refuse":
        x[rng.randint(0, 9, x.shape) == 0] = np.nan
    return Batch(x, y.astype(np.float64 if learner.classes is None else np.int32))


def resumed(name: str, version: Version) -> Resumed:
    """Predict by a version, and learn more rows after it."""
    learner: Learner[Any] = learner_from(version.manifest.learner)
    x, y, _ = rows(name, learner)
    state: State[Any] = load_state(learner, version.tensors)
    predictions = learner.predict(state.model, x[ROWS:])
    state, counts = test_then_train(learner, state, [Batch(x[ROWS:], y[ROWS:])])
    return Resumed(predictions, counts, state_digest(flatten(state)))


def write() -> None:
    folder, expected = FOLDER / str(ARITHMETIC), {}
    folder.mkdir(exist_ok=True)
    for name, options in MODELS.items():
        learner: Learner[Any] = learner_from({"inputs": INPUTS, **options})
        x, y, _ = rows(name, learner)
        state, _ = test_then_train(learner, initial(learner), [Batch(x[:ROWS], y[:ROWS])])
        fields: dict[str, Any] = {"learner": learner.options(), "metrics": report(learner, state)}
        manifest = Manifest(0, "saved", schema=describe(learner).options(), nonce="0", **fields)
        data = encode(Version(manifest, flatten(state)))
        (folder / f"{name}.safetensors").write_bytes(data)
        expected[name] = resumed(name, decode(data)).as_text()
    (folder / EXPECTED).write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    write()
