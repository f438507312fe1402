"""Every learner by its name, so that any process can make it again from a version's record."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from streaming_nn.nn import checks
from streaming_nn.nn.learner import Learner
from streaming_nn.nn.mlp import MLP
from streaming_nn.nn.portfolio import Portfolio

LEARNERS: dict[str, type[MLP] | type[Portfolio]] = {"mlp": MLP, "portfolio": Portfolio}


def options(learner: Learner[Any]) -> dict[str, Any]:
    """Give a learner's options, ready for JSON, with its name under "learner"."""
    return learner.options()


def learner_from(options: Mapping[str, Any]) -> Learner[Any]:
    """Make a learner from its options; "learner" names it.

    Where it is missing, it is the portfolio, or the plain network where an optimizer is named.

    Errors: ValueError for an unknown name (the nearest known one is told) and for an option out of range.
    """
    given = dict(options)
    name = given.pop("learner", "mlp" if "optimizer" in given else "portfolio")
    checks.one_of("learner", name, LEARNERS)
    _check_owner(name, given)
    checks.known(f"options of {name!r}", given, [field.name for field in fields(LEARNERS[name])])
    if "inputs" not in given:
        raise ValueError(
            f"options of {name!r} must have 'inputs', the features of a row; got {sorted(given)}"
        )
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return LEARNERS[name](**values)


def _check_owner(name: str, given: Mapping[str, Any]) -> None:
    """Raise ValueError for an option that only another learner has, and name that one."""
    owners = {other: {field.name for field in fields(kind)} for other, kind in LEARNERS.items()}
    for option in given:
        others = [other for other, options in owners.items() if option in options]
        if others and name not in others:
            raise ValueError(f"option {option!r} must come with learner {others[0]!r}; got {name!r}")
