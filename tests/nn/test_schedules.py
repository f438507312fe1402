from math import cos, pi
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streaming_nn.nn.schedules import SCHEDULES, Constant, Cosine, InverseScaling, Step, WarmUp

pytestmark = pytest.mark.commit

ROWS = st.integers(0, 10**12)


@given(rows=ROWS)
def test_constant_and_the_formulas(rows: int) -> None:
    assert Constant().factor(rows) == 1
    assert InverseScaling(100, 0.7).factor(rows) == pytest.approx((1 + rows / 100) ** -0.7)
    assert Step(10**9, 0.3).factor(rows) == pytest.approx(0.3 ** (rows // 10**9))


def cosine(rows: int, period: float, growth: float, least: float) -> float:
    """Equation 5 of the paper, its restarts counted one by one."""
    while rows >= period:
        rows, period = rows - period, period * growth
    return least + 0.5 * (1 - least) * (1 + cos(pi * rows / period))


@given(
    rows=st.integers(0, 100_000),
    period=st.integers(100, 5_000),
    growth=st.sampled_from([1, 1.25, 1.5, 2, 3]),
    least=st.sampled_from([0, 0.1, 1]),
)
@example(rows=700, period=100, growth=2, least=0)  # a restart to the row
@example(rows=699, period=100, growth=2, least=0)
def test_cosine_with_restarts_is_equation_5(rows: int, period: int, growth: float, least: float) -> None:
    expected = cosine(rows, period, growth, least)
    got = Cosine(period, growth, least).factor(rows)
    # a period that is no whole number can end a rounding error before or after a row
    assert got == pytest.approx(expected, abs=1e-7) or {round(got, 6), round(expected, 6)} == {1, least}


@given(rows=ROWS, warmup=st.integers(1, 10**6))
def test_warm_up_rises_linearly_and_then_starts_the_next_schedule(rows: int, warmup: int) -> None:
    then = Step(1000, 0.5)
    factor = WarmUp(warmup, then).factor(rows)
    assert factor == ((rows + 1) / warmup if rows < warmup else then.factor(rows - warmup))


@pytest.mark.parametrize("kind", SCHEDULES.values())
@given(rows=ROWS)
def test_no_factor_is_negative_or_more_than_one(kind: Any, rows: int) -> None:
    assert 0 <= kind().factor(rows) <= 1
    assert 0 < kind().factor(0) <= 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Step(0), "^a schedule's rows must be an integer >= 1; got 0$"),
        (lambda: WarmUp(0), "^a schedule's rows must be an integer >= 1; got 0$"),
        (lambda: InverseScaling(power=0), r"^a schedule's power must be a number in \(0, inf\); got 0$"),
        (lambda: Step(drop=1.5), r"^a schedule's drop must be a number in \(0, 1\); got 1.5$"),
        (lambda: Cosine(growth=0.5), r"^a schedule's growth must be a number in \[1, inf\); got 0.5$"),
        (lambda: Cosine(least=2), r"^a schedule's least must be a number in \[0, 1\]; got 2$"),
    ],
)
def test_invalid_options_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
