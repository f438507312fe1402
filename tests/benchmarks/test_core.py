"""The short form starts, finishes and prints its line; ratios hold only on a machine without other load."""

from functools import partial
from pathlib import Path

import pytest
from running import short_line

pytest.importorskip("river")

from benchmarks import core

pytestmark = pytest.mark.commit

KEYS = ("times_sklearn_32", "times_sklearn_256", "gemm_share", "times_river_1", "times_arf_min")


@pytest.mark.nightly
def test_the_short_form_prints_its_line(tmp_path: Path) -> None:
    tuned = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "2"}
    line = short_line("core", "--data", str(tmp_path), **tuned)
    assert line["benchmark"] == "core"
    assert all(line[key] > 0 for key in KEYS)
    assert line["gemm_share"] < 1


def test_cases_alternate_and_reverse_their_order_each_round() -> None:
    order: list[str] = []

    def turn(name: str) -> float:
        order.append(name)
        return float(len(order))

    figures = core._in_turns({name: partial(turn, name) for name in "abc"}, 2)
    assert "".join(order) == "abccba"
    assert figures == {"a": [1, 6], "b": [2, 5], "c": [3, 4]}
    assert core._ratio(figures, "a", "b") == (1 / 2 + 6 / 5) / 2


def test_the_share_is_relative_to_the_fastest_product() -> None:
    assert core._share({"ours": [3.0, 4.0], "512": [4.0, 9.0], "1024": [6.0, 8.0]}) == (3 / 6 + 4 / 8) / 2
