"""Scores of predictions, as Spark ML's summaries have them."""
# ruff: noqa: N802, N815  (Spark's names)

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class TrainingSummary:
    """How well the model predicted rows before it learned them."""

    totalIterations: int
    objectiveHistory: tuple[float, ...]  # after each pass: log loss or RMSE over `window` rows
    metrics: dict[str, Any]  # as in a version's manifest


@dataclass(frozen=True)
class ClassificationSummary:
    """Scores of a classification; rows count by their weights. Scores by label are in the order of `labels`.

    `precision`, `recall` and `f1` are means over the labels that occur or were predicted, as in the stream;
    those that begin with `weighted` weigh a label by its rows, as in Spark.
    """

    labels: tuple[float, ...]
    confusion: tuple[tuple[float, ...], ...]  # [actual][predicted]: rows

    @property
    def accuracy(self) -> float:
        """Part of the rows whose label was predicted."""
        return float(np.trace(self._counts) / self._counts.sum())

    @property
    def precisionByLabel(self) -> tuple[float, ...]:
        """Part of the rows predicted to have a label that have it."""
        return _rates(np.diag(self._counts), self._counts.sum(axis=0))

    @property
    def recallByLabel(self) -> tuple[float, ...]:
        """Part of the rows with a label that were predicted to have it."""
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
        """Mean precision weighted by the labels' rows."""
        return self._weighted(self.precisionByLabel)

    @property
    def weightedRecall(self) -> float:
        """Mean recall weighted by the labels' rows."""
        return self._weighted(self.recallByLabel)

    @property
    def weightedFMeasure(self) -> float:
        """Mean F1 weighted by the labels' rows."""
        return self._weighted(self.fMeasureByLabel)

    @property
    def _counts(self) -> Array:
        return np.array(self.confusion, np.float64)

    def _mean(self, rates: Sequence[float]) -> float:
        occurs = self._counts.sum(axis=0) + self._counts.sum(axis=1) > 0
        return float(np.array(rates)[occurs].mean())

    def _weighted(self, rates: Sequence[float]) -> float:
        return float(np.array(rates) @ self._counts.sum(axis=1) / self._counts.sum())


def _rates(part: Array, of: Array) -> tuple[float, ...]:
    return tuple(np.divide(part, of, out=np.zeros(len(of)), where=of > 0).tolist())


@dataclass(frozen=True)
class RegressionSummary:
    """Scores of a regression; rows count by their weights."""

    mae: float  # mean absolute error
    rmse: float  # root mean squared error
    r2: float  # part of the variance that is explained; nan where the variance is 0
