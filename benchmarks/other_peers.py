"""Vowpal Wabbit and CapyMOA, where they are installed: how fast they predict and learn rows in memory."""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any

from benchmarks.datasets import Dataset

VOWPAL_WABBIT, CAPYMOA_FOREST = "vowpal wabbit", "capymoa's forest"
TREES = 10
Rates = dict[str, Callable[[], float]]


def linear(data: Dataset) -> Rates:
    """Return what measures Vowpal Wabbit's linear learner, by name, if it is installed."""
    known = find_spec("vowpalwabbit") is not None
    return {VOWPAL_WABBIT: partial(vowpal_wabbit_rate, data)} if known else {}


def forests(data: Dataset) -> Rates:
    """Return what measures CapyMOA's forest, by name, if it is installed; it needs Java too."""
    known = find_spec("capymoa") is not None
    return {CAPYMOA_FOREST: partial(capymoa_forest_rate, data)} if known else {}


def vowpal_wabbit_rate(data: Dataset) -> float:
    """Return rows per CPU second of its linear learner; the rows are lines of text in memory.

    A class against the rest by the logistic loss, or the squared loss; else its defaults. Learning predicts
    first, so that one call does both.
    """
    from vowpalwabbit import Workspace

    options = f"--oaa {data.classes} --loss_function logistic" if data.classes else ""
    lines = [
        f"{target + 1 if data.classes else target} | " + " ".join(f"{j}:{v:.9g}" for j, v in enumerate(row))
        for row, target in zip(data.x.tolist(), data.y.tolist(), strict=True)
    ]
    workspace = Workspace(f"--quiet {options}")
    started = time.process_time()
    for line in lines:
        workspace.learn(line)
    return len(lines) / (time.process_time() - started)


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
