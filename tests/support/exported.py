"""Small trained models for the tests of the exports, of any options."""

from typing import Any

import numpy as np

from streaming_nn.model import Model, learn, new_model
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch

COLUMNS = 4  # one of them constant, one far from 0
ENSEMBLE = {"learner": "ensemble", "hidden": (5,)}
MLP = {"learner": "mlp", "hidden": (6, 5), "learning_rate": 0.02}


def rows(count: int, gaps: bool, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal((0, 1000, 0, -1), (2, 5, 0, 1), (count, COLUMNS))
    if gaps:
        x[np.random.default_rng(seed + 1).random(x.shape) < 0.2] = np.nan
        x[:, 2] = np.nan  # never seen
    return x.astype(np.float32)


def trained(**options: Any) -> Model:
    """Return a model of `COLUMNS` inputs that has learned 200 rows."""
    learner = learner_from({**options, "inputs": COLUMNS})
    x = rows(200, options.get("missing", "refuse") != "refuse")
    total = np.nan_to_num(x[:, 0]) + np.sin(np.nan_to_num(x[:, 3]) * 3)
    if learner.columns_of_y is not None:
        y = total[:, None] * np.arange(1, learner.columns_of_y + 1) - np.nan_to_num(x[:, 3:])
        y = (y > 0).astype(np.int32) if learner.multilabel else np.abs(y + 9).astype(np.float32)
    elif learner.classes is None:
        y = np.abs(total * 20 + 100).astype(np.float32)
    else:
        y = np.digitize(total, np.linspace(-2, 2, len(learner.classes) + 1)[1:-1]).astype(np.int32)
    return learn(new_model(learner), Batch(x, y, None), lambda _: None)


def with_outliers(x: np.ndarray) -> np.ndarray:
    """Add outliers to the rows, so that clipping matters."""
    return np.concatenate([x, x[:20] * 50, -x[:20] * 50])


def rows_to_scale(scale: str, missing: str) -> np.ndarray:
    """Return rows for any scaling; those for "none" are not large."""
    x = rows(100, missing != "refuse", 5)
    if scale == "none":
        x[:, 1] -= 1000  # no network predicts anything useful for inputs that large
        return x
    return with_outliers(x)
