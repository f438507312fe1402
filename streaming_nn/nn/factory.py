"""Every learner by its name, so that any process can rebuild it from a version's manifest."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from streaming_nn.nn import validation
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.learner import Learner
from streaming_nn.nn.mlp import MLP

LEARNERS: dict[str, type[MLP] | type[Ensemble]] = {"mlp": MLP, "ensemble": Ensemble}


def options(learner: Learner[Any]) -> dict[str, Any]:
    """Return a learner's options, ready for JSON, with its name under "learner"."""
    return learner.options()


def learner_from(options: Mapping[str, Any]) -> Learner[Any]:
    """Return the learner of these options; "learner" is its name.

    The default is the ensemble, or the plain network where an optimizer is named.

    Errors: ValueError for an unknown option (with the nearest known one) and for an invalid value.
    """
    given = dict(options)
    name = given.pop("learner", "mlp" if "optimizer" in given else "ensemble")
    validation.one_of("learner", name, LEARNERS)
    _check_owner(name, given)
    validation.known(f"option of learner {name!r}", given, [field.name for field in fields(LEARNERS[name])])
    if "inputs" not in given:
        raise ValueError(
            f"options of learner {name!r} must have 'inputs', the features of a row; got {sorted(given)}"
        )
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return LEARNERS[name](**values)


def changed(given: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a learner's options with the changes; another learner keeps the options that it has too.

    An optimizer, which the ensemble does not have, means the plain network, as it does for `learner_from`.
    """
    name = changes.get("learner", given.get("learner"))
    if "learner" not in changes and "optimizer" in changes and "optimizer" not in given:
        name = "mlp"
    if name != given.get("learner") and isinstance(name, str) and name in LEARNERS:
        known = {field.name for field in fields(LEARNERS[name])}
        given = {option: value for option, value in given.items() if option in known} | {"learner": name}
    return {**given, **changes}


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Describe which options differ; of two kinds of learner, only the kind."""
    names = ["learner"] if new["learner"] != old.get("learner") else list(new)
    return ", ".join(f"{k} = {old.get(k)!r}, now {new[k]!r}" for k in names if new[k] != old.get(k))


def _check_owner(name: str, given: Mapping[str, Any]) -> None:
    """Raise ValueError for an option that only another learner has, with that learner's name."""
    owners = {other: {field.name for field in fields(kind)} for other, kind in LEARNERS.items()}
    for option in given:
        others = [other for other, options in owners.items() if option in options]
        if others and name not in others:
            raise ValueError(f"option {option!r} requires learner {others[0]!r}; got learner {name!r}")
