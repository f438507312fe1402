"""How good answers are, as Spark ML's summaries say it."""
# ruff: noqa: N802, N815  (Spark's names)

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class TrainingSummary:
    """How the model answered rows before it learned them."""

    totalIterations: int
    objectiveHistory: tuple[float, ...]  # after each pass: log loss or RMSE over `window` rows
    metrics: dict[str, Any]  # as in a version's record


@dataclass(frozen=True)
class ClassificationSummary:
    """How good a classification's answers are; rows count by their weights. By label: in `labels`' order.

    `precision`, `recall` and `f1` are means over the labels that occur or were predicted, as in the stream;
    what begins with `weighted` weighs a label by its rows, as in Spark.
    """

    labels: tuple[float, ...]
    confusion: tuple[tuple[float, ...], ...]  # rows of a label (down) that were predicted to be one (across)

    @property
    def accuracy(self) -> float:
        """Part of the rows whose label was predicted."""
        return float(np.trace(self._counts) / self._counts.sum())

    @property
    def precisionByLabel(self) -> tuple[float, ...]:
        """Part of the rows predicted to be a label that are."""
        return _rates(np.diag(self._counts), self._counts.sum(axis=0))

    @property
    def recallByLabel(self) -> tuple[float, ...]:
        """Part of the rows of a label that were predicted to be it."""
        return _rates(np.diag(self._counts), self._counts.sum(axis=1))

    @property
    def fMeasureByLabel(self) -> tuple[float, ...]:
        """Harmonic means of precision and recall."""
        both = self._counts.sum(axis=0) + self._counts.sum(axis=1)
        return _rates(2 * np.diag(self._counts), both)

    @property
    def precision(self) -> float:
        """Mean precision of the labels."""
        return self._mean(self.precisionByLabel)

    @property
    def recall(self) -> float:
        """Mean recall of the labels."""
        return self._mean(self.recallByLabel)

    @property
    def f1(self) -> float:
        """Mean F1 of the labels."""
        return self._mean(self.fMeasureByLabel)

    @property
    def weightedPrecision(self) -> float:
        """Mean precision, a label weighing its rows."""
        return self._weighted(self.precisionByLabel)

    @property
    def weightedRecall(self) -> float:
        """Mean recall, a label weighing its rows."""
        return self._weighted(self.recallByLabel)

    @property
    def weightedFMeasure(self) -> float:
        """Mean F1, a label weighing its rows."""
        return self._weighted(self.fMeasureByLabel)

    @property
    def _counts(self) -> Array:
        return np.array(self.confusion, np.float64)

    def _mean(self, rates: Sequence[float]) -> float:
        there = self._counts.sum(axis=0) + self._counts.sum(axis=1) > 0
        return float(np.array(rates)[there].mean())

    def _weighted(self, rates: Sequence[float]) -> float:
        return float(np.array(rates) @ self._counts.sum(axis=1) / self._counts.sum())


def _rates(part: Array, of: Array) -> tuple[float, ...]:
    return tuple(np.divide(part, of, out=np.zeros(len(of)), where=of > 0).tolist())


@dataclass(frozen=True)
class RegressionSummary:
    """How good a regression's answers are; rows count by their weights."""

    mae: float  # mean absolute error
    rmse: float  # root mean squared error
    r2: float  # part of the variance that is explained; nan where there is none
