"""Baselines and other libraries on the same rows in the same order: no model, River, scikit-learn."""

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import other_peers
from benchmarks.datasets import HIDDEN, Dataset, plain_rows
from benchmarks.learners import Predictions

Array = NDArray[Any]
CLIP = 3.0  # standard deviations; River's linear regression diverges if its inputs are not clipped
RATE = 0.003
WIDEST = 256  # columns for peers whose rows are dicts, or too slow
FOREST_ROWS = 20_000  # first rows of a stream: more take the forest minutes
TREES = 10
SKLEARN_MINI_BATCH = 32

BASELINES = ("no-change", "majority class")  # regression: the mean instead of the majority class
RIVER = ("river linear", "hoeffding tree")
FOREST = "adaptive forest"
SKLEARN = "scikit-learn"


def required(forest: bool, trees: bool = False) -> list[str]:
    """Return the names of the peers; raise ValueError if their packages are missing.

    `forest`: also River's; `trees`: also CapyMOA's ensembles and Vowpal Wabbit.
    """
    try:
        import river
        import sklearn
    except ImportError as error:
        raise ValueError(
            f"cannot run peers: {error.name} is missing; pip install river scikit-learn, or use --no-peers"
        ) from None
    del river, sklearn
    missing = [name for name in ("capymoa", "vowpalwabbit") if trees and find_spec(name) is None]
    if missing:
        raise ValueError(f"cannot run --trees: {missing[0]} is missing; pip install capymoa vowpalwabbit")
    return [
        *RIVER,
        SKLEARN,
        *([FOREST] if forest else []),
        *([other_peers.VOWPAL_WABBIT, *ENSEMBLES] if trees else []),
    ]


def learns(name: str, data: Dataset) -> bool:
    """Return whether a peer learns such a stream: its rows are not too wide, and it is made for the task."""
    if name in ENSEMBLES and name not in (
        other_peers.CLASSIFIERS if data.classes else other_peers.REGRESSORS
    ):
        return False
    return name == SKLEARN or data.x.shape[1] <= WIDEST


def run(name: str, data: Dataset, seed: int) -> Predictions:
    """Predict and learn all rows once; the forest only the first FOREST_ROWS."""
    return _RUNS[name](data, seed)


def _no_change(data: Dataset, seed: int) -> Predictions:
    """Predict the label of the row before; 0 at the first row."""
    return Predictions(np.concatenate([np.zeros(1, data.y.dtype), data.y[:-1]]), {}, 0.0)


def _majority_class(data: Dataset, seed: int) -> Predictions:
    """Predict the most frequent class so far, or the mean so far; 0 at the first row."""
    if data.classes is None:
        sums = np.cumsum(data.y, dtype=np.float64)
        return Predictions(np.concatenate([[0.0], sums[:-1] / np.arange(1, len(sums))]), {}, 0.0)
    counts, predictions = np.zeros(data.classes, int), np.empty(len(data.y), int)
    for row, label in enumerate(data.y.tolist()):
        predictions[row] = counts.argmax()
        counts[label] += 1
    return Predictions(predictions, {}, 0.0)


def model(name: str, data: Dataset, seed: int) -> Any:
    """Return the River model named in RIVER or FOREST for a stream."""
    return _MODELS[name](data, seed)


def _river(name: str, rows: int | None = None) -> Callable[[Dataset, int], Predictions]:
    def run(data: Dataset, seed: int) -> Predictions:
        learner, predictions, started = model(name, data, seed), [], time.process_time()
        for x, y in plain_rows(data, rows):
            predictions.append(learner.predict_one(x) or 0)
            learner.learn_one(x, y)
        seconds = time.process_time() - started
        return Predictions(np.array(predictions, float if data.classes is None else int), {}, seconds)

    return run


def _trees(name: str) -> Callable[[Dataset, int], Predictions]:
    return lambda data, seed: other_peers.capymoa(name, data, FOREST_ROWS)


def _linear(data: Dataset, seed: int) -> Any:
    """Return logistic regression on standardized inputs, or a linear one with clipped inputs."""
    from river import linear_model, multiclass, preprocessing

    if data.classes is None:
        return _clipped()
    learner: Any = linear_model.LogisticRegression()
    if data.classes > 2:
        learner = multiclass.OneVsRestClassifier(learner)
    return preprocessing.StandardScaler() | learner


def _clipped() -> Any:
    from river import compose, linear_model, optim, preprocessing

    linear = linear_model.LinearRegression(optimizer=optim.SGD(RATE), intercept_lr=RATE)
    clip = compose.FuncTransformer(_clip)
    return preprocessing.StandardScaler() | clip | preprocessing.TargetStandardScaler(linear)


def _clip(x: dict[int, float]) -> dict[int, float]:
    return {name: max(-CLIP, min(CLIP, value)) for name, value in x.items()}


def _tree(data: Dataset, seed: int) -> Any:
    from river import tree

    return tree.HoeffdingTreeRegressor() if data.classes is None else tree.HoeffdingTreeClassifier()


def _forest(data: Dataset, seed: int) -> Any:
    from river import forest

    kind = forest.ARFRegressor if data.classes is None else forest.ARFClassifier
    return kind(n_models=TREES, seed=seed)


def _sklearn(data: Dataset, seed: int) -> Predictions:
    """Run its MLP with its defaults and our hidden units; inputs and targets standardized as they arrive."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.preprocessing import StandardScaler

    hidden = HIDDEN.get(data.name, (64,))
    kind = MLPRegressor if data.classes is None else MLPClassifier
    model, features, targets = (
        kind(hidden_layer_sizes=hidden, random_state=seed),
        StandardScaler(),
        StandardScaler(),
    )
    predictions: list[Array] = []
    started = time.process_time()
    for start in range(0, len(data.y), SKLEARN_MINI_BATCH):
        x, y = data.x[start : start + SKLEARN_MINI_BATCH], data.y[start : start + SKLEARN_MINI_BATCH]
        prediction = model.predict(features.transform(x)) if start else np.zeros(len(y))
        if data.classes is None and start:
            prediction = targets.inverse_transform(prediction[:, None])[:, 0]
        predictions.append(prediction)
        z = features.partial_fit(x).transform(x)
        if data.classes is None:
            model.partial_fit(z, targets.partial_fit(y[:, None]).transform(y[:, None])[:, 0])
        else:
            model.partial_fit(z, y, classes=np.arange(data.classes))
    return Predictions(np.concatenate(predictions), {}, time.process_time() - started)


ENSEMBLES = tuple(dict.fromkeys([*other_peers.CLASSIFIERS, *other_peers.REGRESSORS]))  # CapyMOA's
OTHERS = (other_peers.VOWPAL_WABBIT, *ENSEMBLES)
NAMES = (*BASELINES, *RIVER, FOREST, SKLEARN)
_MODELS: dict[str, Callable[[Dataset, int], Any]] = {
    "river linear": _linear,
    "hoeffding tree": _tree,
    FOREST: _forest,
}
_RUNS: dict[str, Callable[[Dataset, int], Predictions]] = {
    "no-change": _no_change,
    "majority class": _majority_class,
    **{name: _river(name) for name in RIVER},
    FOREST: _river(FOREST, FOREST_ROWS),
    SKLEARN: _sklearn,
    other_peers.VOWPAL_WABBIT: lambda data, seed: other_peers.vowpal_wabbit(data),
    **{name: _trees(name) for name in ENSEMBLES},
}
