"""Vowpal Wabbit and CapyMOA, where they are installed: what they predict, and how fast they learn."""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any

import numpy as np

from benchmarks.datasets import Dataset
from benchmarks.learners import Predictions

VOWPAL_WABBIT, CAPYMOA_FOREST = "vowpal wabbit", "capymoa's forest"
TREES = 10
Rates = dict[str, Callable[[], float]]
MOST_SECONDS = 1_800.0  # of CPU time; a pass that takes more ends there
Kinds = dict[str, tuple[str, dict[str, int]]]  # by name: CapyMOA's class, and options that it gets
CLASSIFIERS: Kinds = {
    "adaptive random forest 30": ("AdaptiveRandomForestClassifier", {"ensemble_size": 30}),
    "streaming random patches 30": ("StreamingRandomPatches", {"ensemble_size": 30}),
    "leveraging bagging 30": ("LeveragingBagging", {"ensemble_size": 30}),
    "boosted trees 100": ("StreamingGradientBoostedTrees", {"boosting_iterations": 100}),
}
REGRESSORS: Kinds = {
    "adaptive random forest 30": ("AdaptiveRandomForestRegressor", {"ensemble_size": 30}),
    "soknl 30": ("SOKNL", {"ensemble_size": 30}),
    "boosted trees": ("StreamingGradientBoostedRegression", {}),
}


def linear(data: Dataset) -> Rates:
    """Return what measures Vowpal Wabbit's linear learner, by name, if it is installed."""
    known = find_spec("vowpalwabbit") is not None
    return {VOWPAL_WABBIT: partial(vowpal_wabbit_rate, data)} if known else {}


def forests(data: Dataset) -> Rates:
    """Return what measures CapyMOA's forest, by name, if it is installed; it needs Java too."""
    known = find_spec("capymoa") is not None
    return {CAPYMOA_FOREST: partial(capymoa_forest_rate, data)} if known else {}


def capymoa(name: str, data: Dataset, rows: int) -> Predictions:
    """Predict and learn the first rows by one of CapyMOA's ensembles; after MOST_SECONDS it ends."""
    from capymoa import classifier, regressor
    from capymoa.stream import NumpyStream

    kind, options = (CLASSIFIERS if data.classes else REGRESSORS)[name]
    library: Any = classifier if data.classes else regressor
    x, y = data.x[:rows], data.y[:rows]
    stream = NumpyStream(x, y, target_type="categorical" if data.classes else "numeric")
    names = stream.get_schema().get_label_values() if data.classes else []
    learner, found, started = getattr(library, kind)(stream.get_schema(), **options), [], time.process_time()
    while stream.has_more_instances() and time.process_time() - started < MOST_SECONDS:
        row = stream.next_instance()
        predicted = learner.predict(row)
        found.append(0 if predicted is None else int(names[predicted]) if data.classes else predicted)
        learner.train(row)
    seconds = time.process_time() - started
    return Predictions(np.array(found, int if data.classes else float), {}, seconds)


def vowpal_wabbit(data: Dataset) -> Predictions:
    """Predict and learn all rows by its linear learner, as `vowpal_wabbit_rate` does."""
    workspace, lines, found = _workspace(data), _lines(data), []
    started = time.process_time()
    for line in lines:
        found.append(workspace.predict(line) - (1 if data.classes else 0))
        workspace.learn(line)
    seconds = time.process_time() - started
    return Predictions(np.array(found, int if data.classes else float), {}, seconds)


def vowpal_wabbit_rate(data: Dataset) -> float:
    """Return rows per CPU second of its linear learner; the rows are lines of text in memory.

    A class against the rest by the logistic loss, or the squared loss; else its defaults. Learning predicts
    first, so that one call does both.
    """
    workspace, lines = _workspace(data), _lines(data)
    started = time.process_time()
    for line in lines:
        workspace.learn(line)
    return len(lines) / (time.process_time() - started)


def _workspace(data: Dataset) -> Any:
    from vowpalwabbit import Workspace

    options = f"--oaa {data.classes} --loss_function logistic" if data.classes else ""
    return Workspace(f"--quiet {options}")


def _lines(data: Dataset) -> list[str]:
    return [
        f"{target + 1 if data.classes else target} | " + " ".join(f"{j}:{v:.9g}" for j, v in enumerate(row))
        for row, target in zip(data.x.tolist(), data.y.tolist(), strict=True)
    ]


def capymoa_forest_rate(data: Dataset) -> float:
    """Return rows per CPU second of its adaptive random forest of TREES trees, Java's threads included.

    It learns the rows twice, from scratch; the second pass counts, whose code Java has compiled. Java runs in
    another process.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_second_pass, data).result()


def _second_pass(data: Dataset) -> float:
    from capymoa import classifier, regressor
    from capymoa.stream import NumpyStream

    kind: Any = regressor.AdaptiveRandomForestRegressor
    if data.classes:
        kind = classifier.AdaptiveRandomForestClassifier
    rate = 0.0
    for _ in range(2):
        stream = NumpyStream(data.x, data.y, target_type="categorical" if data.classes else "numeric")
        forest = kind(stream.get_schema(), ensemble_size=TREES)
        started = time.process_time()
        while stream.has_more_instances():
            row = stream.next_instance()
            forest.predict(row)
            forest.train(row)
        rate = len(data.y) / (time.process_time() - started)
    return rate
