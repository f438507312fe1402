"""Golden version files: `python tests/support/golden.py` writes those of the present arithmetic.

A later release must open them, predict and resume to the same bits. They hold generated data only.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.model import describe
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, Learner, State, initial, load_state, report, test_then_train
from streaming_nn.nn.state_dict import flatten
from streaming_nn.versions.version import Manifest, Version, decode, encode, state_digest

FOLDER = Path(__file__).parents[1] / "versions" / "golden"
EXPECTED = FOLDER / "expected.json"
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


def learner_of(name: str) -> Learner[Any]:
    return learner_from({"inputs": INPUTS, **MODELS[name]})


def rows(name: str) -> Batch:
    """Return rows whose bits depend on integers alone: multiples of 1/64."""
    rng, learner = np.random.RandomState(len(name)), learner_of(name)  # its stream never changes
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


def resumed(name: str, version: Version) -> dict[str, str]:
    """Return what a version predicts, and the digest of its state after more rows, both as strings."""
    learner, (x, y, _) = learner_from(version.manifest.learner), rows(name)
    state: State[Any] = load_state(learner, version.tensors)
    predictions = learner.predict(state.model, x[ROWS:])
    state, _ = test_then_train(learner, state, [Batch(x[ROWS:], y[ROWS:])])
    return {"predictions": predictions.tobytes().hex(), "digest": state_digest(flatten(state))}


def write() -> None:
    expected = {}
    for name in MODELS:
        learner, (x, y, _) = learner_of(name), rows(name)
        state, _ = test_then_train(learner, initial(learner), [Batch(x[:ROWS], y[:ROWS])])
        fields: dict[str, Any] = {"learner": learner.options(), "metrics": report(learner, state)}
        manifest = Manifest(0, "saved", schema=describe(learner).options(), nonce="0", **fields)
        data = encode(Version(manifest, flatten(state)))
        (FOLDER / f"{name}.safetensors").write_bytes(data)
        version = decode(data)
        expected[name] = resumed(name, version)
    EXPECTED.write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    write()
