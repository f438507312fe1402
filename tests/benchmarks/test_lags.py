"""The short form measures each kind of lags; with a version per row, both kinds are the same."""

import pytest
from running import short_line

pytestmark = pytest.mark.nightly


def test_the_short_form_prints_its_line() -> None:
    line = short_line("lags")
    assert (line["benchmark"], line["lags"]) == ("lags", [1, 24])
    cases = {(case["version_rows"], case["as_of"]): case for case in line["cases"]}
    assert len(cases) == 9
    figures = {key: (case["prequential"], case["as_served"]) for key, case in cases.items()}
    assert figures[1, "row"] == figures[1, "version"]
    of_rows = [case["prequential"] for (_, kind), case in cases.items() if kind == "row"]
    assert min(of_rows) < max(of_rows) < 1.05 * min(of_rows)  # they differ by what each version adds
    for kind in ("none", "row", "version"):
        prequential, as_served = figures[1, kind]
        assert prequential == as_served > 0
    assert figures[100, "row"][1] > figures[1, "row"][1]
