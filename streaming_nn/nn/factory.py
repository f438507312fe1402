"""Every learner by its name, so that any process can rebuild it from a version's manifest."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from streaming_nn.nn import validation
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.learner import Learner
from streaming_nn.nn.mlp import MLP
from streaming_nn.nn.networks import as_json

LEARNERS: dict[str, type[MLP] | type[Ensemble]] = {"mlp": MLP, "ensemble": Ensemble}

OF_STREAM = ("mini_batch", "inputs", "classes")  # options that a run changes as records come


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


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without those that are None, or that follow from others: as a user gives them."""
    learner: Any = learner_from(options)
    name = next(name for name, kind in LEARNERS.items() if kind is type(learner))
    return {option: value for option, value in as_json(name, learner).items() if value is not None}


def changed(recorded: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a learner's options with the changes; another learner keeps the options that it has too.

    An optimizer, which the ensemble does not have, means the plain network, as it does for `learner_from`.
    What followed from an option that changes, such as an optimizer's own options, follows from the new one.
    """
    whole = recorded.get("learner") in LEARNERS and "inputs" in recorded  # as a manifest has them
    options = given(recorded) if whole else dict(recorded)
    name = changes.get("learner", options.get("learner"))
    if "learner" not in changes and "optimizer" in changes and "optimizer" not in options:
        name = "mlp"
    if name != options.get("learner") and isinstance(name, str) and name in LEARNERS:
        known = {field.name for field in fields(LEARNERS[name])}
        options = {option: value for option, value in options.items() if option in known} | {"learner": name}
    return {**options, **changes}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return which options differ, by name: before and now; of two kinds of learner, only the kind.

    Of members, what all of them have changed alike has its own name; else it is what the first one changed.
    """
    names = ["learner"] if new.get("learner") != old.get("learner") else list(new)
    found = {name: (old.get(name), new[name]) for name in names if new[name] != old.get(name)}
    then, now = found.get("members", (None, None))
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        del found["members"]
        of_each = [
            {key: (a[key], b[key]) for key in b if key in a and a[key] != b[key]}
            for a, b in zip(then, now, strict=True)
        ]
        first = next(i for i, each in enumerate(of_each) if each)
        alike = all(each == of_each[0] for each in of_each)
        found |= {key if alike else f"members[{first}].{key}": pair for key, pair in of_each[first].items()}
    return found


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Describe which options differ."""
    return ", ".join(f"{name} = {a!r}, now {b!r}" for name, (a, b) in differences(old, new).items())


def change_events(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the event of options that settings have changed: not those that follow from the stream."""
    before, now = ({k: v for k, v in each.items() if k not in OF_STREAM} for each in (old, new))
    return [{"event": "learner changed", "changed": difference(before, now)}] if before != now else []


def _check_owner(name: str, given: Mapping[str, Any]) -> None:
    """Raise ValueError for an option that only another learner has, with that learner's name."""
    owners = {other: {field.name for field in fields(kind)} for other, kind in LEARNERS.items()}
    for option in given:
        others = [other for other, options in owners.items() if option in options]
        if others and name not in others:
            raise ValueError(f"option {option!r} requires learner {others[0]!r}; got learner {name!r}")
