import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from streaming_nn.mllib.summary import ClassificationSummary

pytestmark = pytest.mark.commit

ROW = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 5))


@given(st.lists(ROW, min_size=1, max_size=30))
def test_figures_are_scikit_learn_s(rows: list[tuple[int, int, int]]) -> None:
    actual, predicted, weights = map(list, zip(*rows, strict=True))
    confusion = np.zeros((4, 4))
    np.add.at(confusion, (actual, predicted), weights)
    found = ClassificationSummary((0.0, 1.0, 2.0, 3.0), tuple(map(tuple, confusion.tolist())))

    def scores(average: str | None) -> tuple[object, ...]:
        labels = [0, 1, 2, 3] if average is None else None
        given = {"average": average, "labels": labels, "sample_weight": weights, "zero_division": 0}
        return tuple(precision_recall_fscore_support(actual, predicted, **given)[:3])

    assert found.accuracy == pytest.approx(accuracy_score(actual, predicted, sample_weight=weights))
    assert (found.precision, found.recall, found.f1) == pytest.approx(scores("macro"))
    weighted = (found.weightedPrecision, found.weightedRecall, found.weightedFMeasure)
    assert weighted == pytest.approx(scores("weighted"))
    by_label = [found.precisionByLabel, found.recallByLabel, found.fMeasureByLabel]
    np.testing.assert_allclose(by_label, scores(None))
