import pytest
from running import short_line

from benchmarks import freshness

pytestmark = pytest.mark.commit


def test_times_end_at_the_version_and_at_the_first_prediction_by_it_or_a_later_one() -> None:
    sent = [(0.0, None), (1.0, None), (2.0, None), (3.0, None)]
    learned = [(1, 2, 2.5), (2, 4, 3.5)]  # version 1 holds offsets 0 and 1
    predicted = [(2.0, 0), (4.0, 2), (4.5, 1)]  # version 2 predicted before version 1 did
    found = freshness.figures(sent, learned, predicted, since=1.0)
    assert found["records"] == 3
    assert found["to_version_p50_ms"] == 1500.0  # 1.5, 1.5 and 0.5 s
    assert found["to_score_p50_ms"] == 2000.0  # 3, 2 and 1 s


@pytest.mark.nightly
def test_the_short_form_prints_its_line() -> None:
    line = short_line("freshness")
    assert 0 < line["to_version_p50_ms"] <= line["to_version_p99_ms"]
    assert line["to_version_p50_ms"] < line["to_score_p50_ms"]
