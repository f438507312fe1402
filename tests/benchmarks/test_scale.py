"""The short form starts two clusters, finishes and prints its line; its ratios mean nothing."""

import pytest
from running import short_line

pytestmark = pytest.mark.nightly


@pytest.mark.timeout(600)
def test_the_short_form_prints_its_line() -> None:
    line = short_line("scale")
    assert line["benchmark"] == "scale"
    assert line["speedup_2"] > 0
    assert set(line["per_s"]) == {
        f"{what}_{executors}" for what in ("images", "numbers", "numbers_only_read") for executors in (1, 2)
    }
    assert line["state_mb"] > 0
