"""The short form compares both learners at each mark; its accuracies mean nothing."""

import pytest
from running import short_line

pytestmark = pytest.mark.nightly


def test_the_short_form_prints_its_line() -> None:
    line = short_line("plasticity")
    assert line["benchmark"] == "plasticity"
    assert [case["rows"] for case in line["cases"][:2]] == [1_024, 3_072]
    first, *others = line["cases"]
    assert first["accuracy"] == first["fresh"] > 0.7  # nothing was learned before the fresh one began
    assert all(0 < case["accuracy"] < 1 for case in others)
