import re
from typing import Any

import pytest

from streaming_nn.core import structures
from streaming_nn.nn import options
from streaming_nn.nn.options import LOSSES, OPTIMIZERS, SCHEDULES

pytestmark = pytest.mark.commit

TABLES = {"optimizer": OPTIMIZERS, "loss": LOSSES, "schedule": SCHEDULES}
EVERY = [
    (kind, owner, name)
    for kind, table in TABLES.items()
    for owner, own in table.items()
    for name in own
    if name != "rows"
]


def values(kind: str, owner: str, **given: Any) -> dict[str, float]:
    return options.values(f"{kind} {owner!r}", TABLES[kind][owner], given)


def test_the_names_are_those_of_the_core() -> None:
    assert set(OPTIMIZERS) == {*structures.OPTIMIZERS, "adamw"}
    assert set(LOSSES) == set(structures.LOSSES)
    assert set(SCHEDULES) == set(structures.SCHEDULES)


@pytest.mark.parametrize(
    ("kind", "owner", "expected"),
    [
        ("optimizer", "sgd", {"weight_decay": 0}),
        ("optimizer", "nesterov", {"momentum": 0.9, "weight_decay": 0}),
        ("optimizer", "adagrad", {"epsilon": 1e-8, "weight_decay": 0}),
        ("optimizer", "rmsprop", {"rho": 0.9, "epsilon": 1e-8, "weight_decay": 0}),
        ("optimizer", "adam", {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0}),
        ("optimizer", "adamw", {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01}),
        ("optimizer", "ftrl", {"beta": 1}),
        ("loss", "squared", {}),
        ("loss", "huber", {"huber_delta": 1}),
        ("loss", "logistic", {"focal_gamma": 0}),
        ("schedule", "constant", {}),
        ("schedule", "inverse", {"rows": 10_000, "power": 0.5}),
        ("schedule", "step", {"rows": 100_000, "drop": 0.5}),
        ("schedule", "cosine", {"rows": 100_000, "growth": 2, "least": 0}),
    ],
)
def test_what_is_left_out_has_its_default(kind: str, owner: str, expected: dict[str, float]) -> None:
    assert values(kind, owner) == values(kind, owner, rows=None, momentum=None, other=None) == expected


@pytest.mark.parametrize(("kind", "owner", "name"), EVERY)
def test_a_value_within_the_bounds_is_taken_and_others_are_one_line(kind: str, owner: str, name: str) -> None:
    default, low, high, low_in, high_in = TABLES[kind][owner][name]
    assert low <= default if low_in else low < default
    assert default <= high
    inside = (low + min(high, low + 1)) / 2
    assert values(kind, owner, **{name: inside})[name] == inside
    for value, is_in in ((low, low_in), (high, high_in)):
        if is_in:
            assert values(kind, owner, **{name: value})[name] == value
    wrong: list[Any] = [low - 1, high + 1, float("nan"), float("inf"), "0.5", True]
    for value in wrong + [bound for bound, is_in in ((low, low_in), (high, high_in)) if not is_in]:
        with pytest.raises(
            ValueError, match=rf"^{name} must be a number in .*; got {re.escape(repr(value))}$"
        ):
            values(kind, owner, **{name: value})


@pytest.mark.parametrize("owner", ["inverse", "step", "cosine"])
@pytest.mark.parametrize("rows", [0, -1, 2.0, True, "5"])
def test_a_schedules_rows_are_counted(owner: str, rows: Any) -> None:
    message = rf"^rows must be an integer >= 1; got {re.escape(repr(rows))}$"
    with pytest.raises(ValueError, match=message):
        values("schedule", owner, rows=rows)
    assert values("schedule", owner, rows=1)["rows"] == 1


def test_an_option_of_another_must_be_left_out() -> None:
    with pytest.raises(ValueError, match=r"^momentum must be left out with optimizer 'adam'; got 0.5$"):
        values("optimizer", "adam", momentum=0.5)
    with pytest.raises(ValueError, match=r"^beta must be left out with optimizer 'sgd'; got 0$"):
        values("optimizer", "sgd", rho=1, beta=0)  # the first by name
    with pytest.raises(ValueError, match=r"^schedule_drop must be left out with schedule 'cosine'; got 0.1$"):
        options.values("schedule 'cosine'", SCHEDULES["cosine"], {"drop": 0.1}, "schedule_")
    with pytest.raises(ValueError, match=r"^schedule_least must be a number in \[0, 1\]; got 2$"):
        options.values("schedule 'cosine'", SCHEDULES["cosine"], {"least": 2}, "schedule_")


def test_quantiles_ascend_between_0_and_1() -> None:
    assert options.quantiles([0.1, 0.9]) == options.quantiles((0.1, 0.9)) == (0.1, 0.9)
    assert options.quantiles(0.5) == (0.5,)
    for wrong in ([], [0.5, 0.5], [0.9, 0.1]):
        message = (
            rf"^quantiles must be at least one, in ascending order; got {re.escape(repr(tuple(wrong)))}$"
        )
        with pytest.raises(ValueError, match=message):
            options.quantiles(wrong)
    for outside in (0, 1, 1.5, "0.5", None):
        message = rf"^quantiles must be a number in \(0, 1\); got {re.escape(repr(outside))}$"
        with pytest.raises(ValueError, match=message):
            options.quantiles([outside])
