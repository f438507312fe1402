"""The networks of an ensemble: each is described by itself, as a version's manifest holds it."""

from collections.abc import Mapping
from math import inf
from typing import Any

from streaming_nn.core.ensemble import MemberOptions, ramp_inputs
from streaming_nn.core.networks import Shape
from streaming_nn.core.structures import ACTIVATIONS
from streaming_nn.nn import initializers, options, validation
from streaming_nn.nn.initializers import Initial

INPUTS = ("plain", "ramps")  # what a member sees: the prepared rows, or their columns' ramps too
TARGETS = ("level",)  # what it learns: the class or the target itself
HIDDEN, ACTIVATION = (64,), "relu"
SGD_RATES = (0.003, 0.03, 0.1, 0.2)
TARGET_RATE = 0.3  # factor of SGD's rates for regression
REPLAY_RATES = (0.001, 0.01)  # Adam's
BIASES = "lecun_normal"  # with few inputs, all units' kinks would start at the mean else
OUTPUTS = "zeros"  # so that predictions start at the mixture's prior
OF_SHAPES = ("hidden", "activation", "linear", "loss", "huber_delta", "focal_gamma")
OF_DRAWS = ("initializer", "bias_initializer", "output_initializer")
OF_LOSSES = {name for table in options.LOSSES.values() for name in table}
OF_OPTIMIZERS = {name for table in options.OPTIMIZERS.values() for name in table}
KEYS = {
    "inputs",
    "target",
    "optimizer",
    "learning_rate",
    "replay",
    *OF_SHAPES,
    *OF_DRAWS,
    *OF_LOSSES,
    *OF_OPTIMIZERS,
}

Member = dict[str, Any]  # all of KEYS that belong to its optimizer and its loss


def default(regression: bool, ramps: bool = True) -> tuple[Member, ...]:
    """Return what the default members have of their own; with `ramps` also those that see them."""
    factor = TARGET_RATE if regression else 1
    by_sgd = [{"optimizer": "sgd", "learning_rate": rate * factor} for rate in SGD_RATES]
    by_adam = [{"optimizer": "adam", "learning_rate": rate, "replay": 1} for rate in REPLAY_RATES]
    with_ramps: list[Member] = [
        {"optimizer": "sgd", "learning_rate": 0.03 * factor, "inputs": "ramps"},
        {"optimizer": "adam", "learning_rate": 0.003, "replay": 4, "inputs": "ramps", "hidden": (64, 32)},
    ]
    return (*by_sgd, *by_adam, *(with_ramps if ramps else ()))


def complete(given: Any, loss: str, of_all: Mapping[str, Any]) -> tuple[Member, ...]:
    """Return each member's whole description; `of_all` has what is given for all of them, or None.

    `loss` is the one that the mixture has. Errors: ValueError, which names the member and its key.
    """
    members = validation.sequence("members", given, "tables, one for each member")
    if not members:
        raise ValueError("members must be one or more; got none")
    return tuple(_complete(f"members[{i}]", member, loss, of_all) for i, member in enumerate(members))


def _complete(name: str, given: Any, loss: str, of_all: Mapping[str, Any]) -> Member:
    if not isinstance(given, Mapping):
        raise ValueError(f"{name} must be a table, such as {default(False)[0]}; got {given!r}")
    validation.known(f"option of {name}", given, KEYS)
    known = {key: value for key, value in of_all.items() if value is not None}
    member = {"hidden": HIDDEN, "activation": ACTIVATION, **given, **known}
    hidden, activation = validation.widths(f"{name}.hidden", member["hidden"]), member["activation"]
    validation.one_of(f"{name}.activation", activation, ACTIVATIONS)
    optimizer, rate = member.get("optimizer"), member.get("learning_rate")
    validation.one_of(f"{name}.optimizer", optimizer, options.OPTIMIZERS)
    validation.between(f"{name}.learning_rate", rate, 0, inf)
    whole = {
        "inputs": member.get("inputs", "plain"),
        "hidden": hidden,
        "activation": activation,
        "linear": member.get("linear", True),
        "initializer": member.get("initializer", initializers.of_hidden(activation)),
        "bias_initializer": member.get("bias_initializer", BIASES),
        "output_initializer": member.get("output_initializer", OUTPUTS),
        "loss": member.get("loss", loss),
        **_values(f"{name}.", "loss", loss, options.LOSSES, OF_LOSSES, given),
        "optimizer": optimizer,
        "learning_rate": rate,
        **_values(f"{name}.", "optimizer", optimizer, options.OPTIMIZERS, OF_OPTIMIZERS, given),
        "replay": member.get("replay", 0),
        "target": member.get("target", "level"),
    }
    validation.one_of(f"{name}.inputs", whole["inputs"], INPUTS)
    validation.one_of(f"{name}.target", whole["target"], TARGETS)
    validation.one_of(f"{name}.loss", whole["loss"], (loss,))
    validation.between(f"{name}.replay", whole["replay"], 0, inf, low_in=True)
    if type(whole["linear"]) is not bool:
        raise ValueError(f"{name}.linear must be true or false; got {whole['linear']!r}")
    for key in ("initializer", "bias_initializer", "output_initializer"):
        initializers.check(f"{name}.{key}", whole[key])
    return whole


def _values(
    prefix: str, kind: str, name: Any, table: options.Table, names: set[str], given: Mapping[str, Any]
) -> dict[str, float]:
    """Return the values of the options that belong to a member's loss or optimizer."""
    chosen = {key: given.get(key) for key in names}
    return options.values(f"{kind} {name!r}", table[name], chosen, prefix)


def initial(member: Member) -> Initial:
    """Return how a member's parameters are drawn."""
    return Initial(*(member[key] for key in OF_DRAWS))


def in_the_core(member: Member, columns: int, width: int, outputs: int) -> MemberOptions:
    """Return what the core reads of a member; `width` are the inputs of one that sees no ramps."""
    of_loss = {key: member[key] for key in options.LOSSES[member["loss"]]}
    of_optimizer = {key: member[key] for key in options.OPTIMIZERS[member["optimizer"]]}
    inputs = width + (ramp_inputs(columns) if member["inputs"] == "ramps" else 0)
    units = (inputs, *member["hidden"], outputs)
    return MemberOptions(
        Shape(units, member["activation"], member["loss"], skip=member["linear"], **of_loss),
        member["optimizer"],
        member["learning_rate"],
        member["replay"],
        options.in_the_core(of_optimizer),
    )


def title(member: Member) -> str:
    """Return a member's name in metrics and events."""
    replay = f", replay {member['replay']:g}:1" if member["replay"] else ""
    ramps = ", ramps" if member["inputs"] == "ramps" else ""
    return f"{member['optimizer']} {member['learning_rate']:g}{replay}{ramps}"
