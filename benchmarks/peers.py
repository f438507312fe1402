"""What others answer on the same rows in the same order: no model at all, River, scikit-learn."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import HIDDEN, Dataset, plain_rows
from benchmarks.ours import Answers

Array = NDArray[Any]
CLIP = 3.0  # deviations at which River's linear regression has its inputs clipped: it diverges without
RATE = 0.003
FOREST_ROWS = 20_000  # of a stream: a forest takes minutes for more
TREES = 10
SKLEARN_MINI_BATCH = 32

BASELINES = ("last", "majority")  # for regression the majority is the mean
RIVER = ("river linear", "hoeffding tree")
FOREST = "adaptive forest"
SKLEARN = "scikit-learn"


def needed(forest: bool) -> list[str]:
    """Name the peers; ValueError where their packages are missing."""
    try:
        import river
        import sklearn
    except ImportError as error:
        raise ValueError(f"peers need {error.name}: pip install river scikit-learn, or --no-peers") from None
    del river, sklearn
    return [*RIVER, SKLEARN, *([FOREST] if forest else [])]


def run(who: str, data: Dataset, seed: int) -> Answers:
    """Answer and learn all rows once; the forest only the first FOREST_ROWS."""
    return _RUNS[who](data, seed)


def _last(data: Dataset, seed: int) -> Answers:
    """Answer with the row before; 0 at the first."""
    return Answers(np.concatenate([np.zeros(1, data.y.dtype), data.y[:-1]]), {}, 0.0)


def _majority(data: Dataset, seed: int) -> Answers:
    """Answer with the most frequent class so far, or the mean so far; 0 at the first row."""
    if data.classes is None:
        sums = np.cumsum(data.y, dtype=np.float64)
        return Answers(np.concatenate([[0.0], sums[:-1] / np.arange(1, len(sums))]), {}, 0.0)
    counts, answers = np.zeros(data.classes, int), np.empty(len(data.y), int)
    for row, label in enumerate(data.y.tolist()):
        answers[row] = counts.argmax()
        counts[label] += 1
    return Answers(answers, {}, 0.0)


def model(who: str, data: Dataset, seed: int) -> Any:
    """Make the River model of RIVER or FOREST for a stream."""
    return _MODELS[who](data, seed)


def _river(who: str, rows: int | None = None) -> Callable[[Dataset, int], Answers]:
    def run(data: Dataset, seed: int) -> Answers:
        learner, answers, began = model(who, data, seed), [], time.process_time()
        for x, y in plain_rows(data, rows):
            answers.append(learner.predict_one(x) or 0)
            learner.learn_one(x, y)
        seconds = time.process_time() - began
        return Answers(np.array(answers, float if data.classes is None else int), {}, seconds)

    return run


def _linear(data: Dataset, seed: int) -> Any:
    """Logistic regression on standardised inputs; or linear, targets standardised too, inputs clipped."""
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


def _sklearn(data: Dataset, seed: int) -> Answers:
    """Its own MLP with its own defaults, our hidden units, inputs and targets standardised as they come."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.preprocessing import StandardScaler

    hidden = HIDDEN.get(data.name, (64,))
    kind = MLPRegressor if data.classes is None else MLPClassifier
    model, features, targets = (
        kind(hidden_layer_sizes=hidden, random_state=seed),
        StandardScaler(),
        StandardScaler(),
    )
    answers: list[Array] = []
    began = time.process_time()
    for start in range(0, len(data.y), SKLEARN_MINI_BATCH):
        x, y = data.x[start : start + SKLEARN_MINI_BATCH], data.y[start : start + SKLEARN_MINI_BATCH]
        answer = model.predict(features.transform(x)) if start else np.zeros(len(y))
        if data.classes is None and start:
            answer = targets.inverse_transform(answer[:, None])[:, 0]
        answers.append(answer)
        z = features.partial_fit(x).transform(x)
        if data.classes is None:
            model.partial_fit(z, targets.partial_fit(y[:, None]).transform(y[:, None])[:, 0])
        else:
            model.partial_fit(z, y, classes=np.arange(data.classes))
    return Answers(np.concatenate(answers), {}, time.process_time() - began)


NAMES = (*BASELINES, *RIVER, FOREST, SKLEARN)
_MODELS: dict[str, Callable[[Dataset, int], Any]] = {
    "river linear": _linear,
    "hoeffding tree": _tree,
    FOREST: _forest,
}
_RUNS: dict[str, Callable[[Dataset, int], Answers]] = {
    "last": _last,
    "majority": _majority,
    **{who: _river(who) for who in RIVER},
    FOREST: _river(FOREST, FOREST_ROWS),
    SKLEARN: _sklearn,
}
