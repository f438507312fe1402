"""The short form of the scoring benchmark starts, finishes and prints its line."""

import pytest
from running import short_line

pytestmark = pytest.mark.nightly


@pytest.mark.timeout(600)
def test_the_short_form_prints_its_line() -> None:
    line = short_line("score")
    assert line["benchmark"] == "score"
    assert line["lost"] == 0
    assert 0 < line["p50_ms"] <= line["p99_ms"]
    assert line["passthrough_p50_ms"] > 0
    assert line["reload_s"] > 0
    hard = line["restarts"]["hard"]
    assert 0 < hard["duplicates"] < hard["sent"]
    assert 0 <= hard["duplicates_most_s"] < 60
    assert line["throughput_ratio"] > 0
