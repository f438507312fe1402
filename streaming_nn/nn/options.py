"""The options that belong to an optimizer, a loss or a schedule: their defaults and bounds."""

from collections.abc import Mapping
from itertools import pairwise
from math import inf
from typing import Any, NamedTuple

from streaming_nn.nn import validation


class Option(NamedTuple):
    """A number: its default, and the bounds between which it must be."""

    default: float
    low: float = 0.0
    high: float = inf
    low_in: bool = False  # whether the bound is allowed
    high_in: bool = False


MOMENTUM = Option(0.9, high=1.0, low_in=True)
EPSILON = Option(1e-8)
DECAY = Option(0.0, low_in=True)
ADAM = {"beta1": MOMENTUM, "beta2": Option(0.999, high=1.0, low_in=True), "epsilon": EPSILON}
FOCAL = {"focal_gamma": Option(0.0, low_in=True)}
ROWS = Option(100_000, 1, low_in=True)

Table = Mapping[str, Mapping[str, Option]]
OPTIMIZERS: Table = {
    "sgd": {"weight_decay": DECAY},
    "momentum": {"momentum": MOMENTUM, "weight_decay": DECAY},
    "nesterov": {"momentum": MOMENTUM, "weight_decay": DECAY},
    "adagrad": {"epsilon": EPSILON, "weight_decay": DECAY},
    "rmsprop": {"rho": MOMENTUM, "epsilon": EPSILON, "weight_decay": DECAY},
    "adam": {**ADAM, "weight_decay": DECAY},
    "adamw": {**ADAM, "weight_decay": Option(0.01, low_in=True)},
    "nadam": {**ADAM, "weight_decay": DECAY},
    "ftrl": {"beta": Option(1.0)},
}
LOSSES: Table = {
    "softmax": FOCAL,
    "logistic": FOCAL,
    "squared": {},
    "absolute": {},
    "huber": {"huber_delta": Option(1.0)},
    "quantile": {},
    "poisson": {},
}
SCHEDULES: Table = {
    "constant": {},
    "inverse": {"rows": Option(10_000, 1, low_in=True), "power": Option(0.5)},
    "step": {"rows": ROWS, "drop": Option(0.5, high=1.0)},
    "cosine": {
        "rows": ROWS,
        "growth": Option(2.0, 1.0, low_in=True),
        "least": Option(0.0, high=1.0, low_in=True, high_in=True),
    },
}
QUANTILES = (0.05, 0.5, 0.95)  # of the loss "quantile"
IN_THE_CORE = {"beta1": "momentum", "rho": "beta2"}  # optimizers' options with another name there


def values(
    kind: str, table: Mapping[str, Option], given: Mapping[str, Any], prefix: str = ""
) -> dict[str, float]:
    """Return the value of each option in the table: the one given, or its default where that is None.

    `kind` is what the options belong to, such as "loss 'huber'". Errors: ValueError for a value out of
    bounds, and for one of an option that is not in the table.
    """
    for name, value in sorted(given.items()):
        if value is not None and name not in table:
            raise ValueError(f"{prefix}{name} must be left out with {kind}; got {value!r}")
    found = {}
    for name, (default, *bounds) in table.items():
        value = given.get(name)
        if value is not None and name == "rows":
            validation.integer(prefix + name, value)
        elif value is not None:
            low, high, low_in, high_in = bounds
            validation.between(prefix + name, value, low, high, low_in=bool(low_in), high_in=bool(high_in))
        found[name] = default if value is None else value
    return found


def in_the_core(given: Mapping[str, float]) -> dict[str, float]:
    """Return an optimizer's options by the names that the core has for them."""
    return {IN_THE_CORE.get(name, name): value for name, value in given.items()}


def quantiles(given: Any) -> tuple[float, ...]:
    """Return quantiles as a tuple; ValueError unless they ascend between 0 and 1."""
    found = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    for quantile in found:
        validation.between("quantiles", quantile, 0, 1)
    if not found or any(a >= b for a, b in pairwise(found)):
        raise ValueError(f"quantiles must be at least one, in ascending order; got {found!r}")
    return found
