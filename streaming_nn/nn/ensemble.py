"""The learner that needs no tuning: an ensemble of networks and the mixture of their predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from streaming_nn.core.ensemble import Ensemble as CoreEnsemble
from streaming_nn.core.ensemble import EnsembleState
from streaming_nn.core.structures import ACTIVATIONS
from streaming_nn.nn import class_weight, drift, members, validation
from streaming_nn.nn.class_weight import ClassWeight
from streaming_nn.nn.initializers import Initial
from streaming_nn.nn.members import Member
from streaming_nn.nn.networks import NetworkLearner, as_json, as_lists
from streaming_nn.nn.preprocessing import REACH

REACTIONS = ("report", "raise", "restart", "fresh")


@dataclass(frozen=True)
class Ensemble(NetworkLearner):
    """Networks with a linear part, mixed by fixed share (Herbster & Warmuth 1998, section 5).

    `classes` holds the labels in the order of the outputs, None means regression. With `multilabel` any
    number of them applies to a row; a regression of several targets has their names in `targets`.
    `members` describes each network; None: those of `members.default`. `hidden` and `activation`, where they
    are given, are those of all members. A member with `replay` learns the new rows and `replay_rows` rows
    drawn from the last `buffer_rows` (fewer where these would take more than `buffer_bytes`). `eta` is
    the mixture's rate, and `share` the part of the weights that is redistributed evenly at each row. A member
    that diverges restarts as a copy of the best other one. `scale`, `clip` and `missing` are those of
    `Scaler`. `drift` names the detector that watches the loss, and `on_drift` the reaction to a drift.
    Errors: ValueError, one line for each option.

    `options` has the whole description of each member, so that a manifest depends on no default. From it,
    members that are the default ones become None again.
    """

    inputs: int
    classes: tuple[Any, ...] | None = None
    hidden: tuple[int, ...] | None = None
    activation: str | None = None
    members: Sequence[Mapping[str, Any]] | None = None
    replay_rows: int = 32
    buffer_rows: int = 5000
    buffer_bytes: int = 16 << 20
    eta: float = 0.25
    share: float = 0.003
    mini_batch: int = 32
    scale: str = "standard"
    clip: float = 5.0
    missing: str = "refuse"
    class_weight: ClassWeight = None
    class_beta: float = 0.999
    drift: str = "page_hinkley"
    on_drift: str = "report"
    seed: int = 0
    window: int = 1000
    fading: float = 0.999
    multilabel: bool = False
    targets: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        self._check_outputs()
        self._complete_members()
        if self.class_weight is not None:
            object.__setattr__(self, "class_weight", class_weight.validate(self.class_weight, self.classes))
        for name in ("inputs", "replay_rows", "buffer_rows", "buffer_bytes", "mini_batch", "window"):
            validation.integer(name, getattr(self, name))
        validation.integer("seed", self.seed, 0)
        validation.between("class_beta", self.class_beta, 0, 1)
        validation.between("eta", self.eta, 0, np.inf)
        validation.between("share", self.share, 0, 1)
        validation.between("fading", self.fading, 0, 1)
        validation.one_of("drift", self.drift, ("none", *drift.DEFAULT_DETECTORS))
        validation.one_of("on_drift", self.on_drift, REACTIONS)
        _ = self.scaler  # it validates the rest
        if self.scale == "sparse" and any(member["inputs"] == "ramps" for member in self.described):
            raise ValueError("inputs of members must be 'plain' with scale 'sparse'; got 'ramps'")

    def _complete_members(self) -> None:
        """Check members, and what is given for all of them; the default ones are None, others complete."""
        if self.hidden is not None:
            object.__setattr__(self, "hidden", validation.widths("hidden", self.hidden))
        if self.activation is not None:
            validation.one_of("activation", self.activation, ACTIVATIONS)
        if self.members is None:
            return
        found = self.described
        alike = product((None, found[0]["hidden"]), (None, found[0]["activation"]))
        of_all = [{"hidden": hidden, "activation": activation} for hidden, activation in alike]
        default = [each for each in of_all if found == self._complete(self._default_members, each)]
        given = {**default[0], "members": None} if default else {**of_all[0], "members": found}
        for name, value in given.items():
            object.__setattr__(self, name, value)

    @cached_property
    def described(self) -> tuple[Member, ...]:
        """The whole description of each member."""
        given = self._default_members if self.members is None else self.members
        return self._complete(given, {"hidden": self.hidden, "activation": self.activation})

    @property
    def _default_members(self) -> tuple[Member, ...]:
        return members.default(self.classes is None, self.scale != "sparse")

    def _complete(self, given: Any, of_all: Mapping[str, Any]) -> tuple[Member, ...]:
        loss = "huber" if self.classes is None else "logistic" if self.multilabel else "softmax"
        return members.complete(given, loss, of_all)

    @property
    def initials(self) -> tuple[Initial, ...]:
        """How each member's initial parameters are drawn."""
        return tuple(map(members.initial, self.described))

    @cached_property
    def core(self) -> CoreEnsemble:
        """The ensemble that the core runs."""
        outputs = self.columns_of_y or (1 if self.classes is None else len(self.classes))
        sizes = self.inputs, self.scaler.width, outputs
        return CoreEnsemble(
            tuple(members.in_the_core(each, *sizes) for each in self.described),
            self.inputs,
            self.scale,
            self.missing,
            self.clip,
            REACH,
            self.eta,
            self.share,
            self.replay_rows,
            self.capacity,
            class_weight=class_weight.per_class(self.class_weight, self.classes),
            class_beta=self.class_beta,
        )

    @property
    def capacity(self) -> int:
        """Rows that the replay buffer holds."""
        width = self.inputs + (self.columns_of_y or 1) + 1
        return max(1, min(self.buffer_rows, self.buffer_bytes // (8 * width)))

    def options(self) -> dict[str, Any]:
        """Return the options, ready for JSON, with the whole description of each member."""
        options = as_json("ensemble", self) | {"members": [as_lists(each) for each in self.described]}
        return {name: value for name, value in options.items() if name not in ("hidden", "activation")}

    def describe_members(self, state: EnsembleState) -> list[dict[str, Any]]:
        """Describe each member: its optimizer, its weight and exponent in the mixtures, its restarts."""
        described = [
            {"member": members.title(member), "weight": round(float(weight), 6), "restarts": int(restarts)}
            for member, weight, restarts in zip(self.described, state.weights, state.restarts, strict=True)
        ]
        for member, exponent in zip(described, state.exponents, strict=False):  # a regression has none
            member["exponent"] = round(float(exponent), 6)
        return described
