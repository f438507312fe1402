"""The learner that needs no tuning: an ensemble of networks and the mixture of their predictions."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from streaming_nn.core.ensemble import Ensemble as CoreEnsemble
from streaming_nn.core.ensemble import EnsembleState, MemberOptions
from streaming_nn.core.networks import Shape
from streaming_nn.core.structures import ACTIVATIONS
from streaming_nn.nn import class_weight, drift, validation
from streaming_nn.nn.class_weight import ClassWeight
from streaming_nn.nn.initializers import Initial
from streaming_nn.nn.networks import NetworkLearner, as_json
from streaming_nn.nn.preprocessing import REACH

REACTIONS = ("report", "raise", "restart", "fresh")
TARGET_RATE = 0.3  # factor of SGD's rates for regression
# else, with few inputs, all units' kinks start at the mean; and predictions start at the mixture's prior
INITIAL = Initial(biases="lecun_normal", last="zeros")


@dataclass(frozen=True)
class Ensemble(NetworkLearner):
    """Networks with a linear part, mixed by fixed share (Herbster & Warmuth 1998, section 5).

    `classes` holds the labels in the order of the outputs, None means regression. With `multilabel` any
    number of them applies to a row; a regression of several targets has their names in `targets`.
    `sgd_rates` has the rates of the members that learn new rows only, by SGD. `replay_rates` has, for each of
    the others, Adam's rate and how many old rows a new one weighs; they learn the new rows and `replay_rows`
    rows drawn from the last `buffer_rows` (fewer where these would take more than `buffer_bytes`). `eta` is
    the mixture's rate, and `share` the part of the weights that is redistributed evenly at each row. A member
    that diverges restarts as a copy of the best other one. `scale`, `clip` and `missing` are those of
    `Scaler`. `drift` names the detector that watches the loss, and `on_drift` the reaction to a drift.
    Errors: ValueError, one line for each option.
    """

    inputs: int
    classes: tuple[Any, ...] | None = None
    hidden: tuple[int, ...] = (64,)
    activation: str = "relu"
    sgd_rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.2)
    replay_rates: tuple[tuple[float, float], ...] = ((0.001, 1), (0.003, 1), (0.01, 1), (0.003, 8))
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
        object.__setattr__(self, "hidden", validation.widths("hidden", self.hidden))
        object.__setattr__(self, "sgd_rates", validation.sequence("sgd_rates", self.sgd_rates, "numbers"))
        object.__setattr__(self, "replay_rates", _pairs(self.replay_rates))
        self._check_outputs()
        if self.class_weight is not None:
            object.__setattr__(self, "class_weight", class_weight.validate(self.class_weight, self.classes))
        for name in ("inputs", "replay_rows", "buffer_rows", "buffer_bytes", "mini_batch", "window"):
            validation.integer(name, getattr(self, name))
        validation.integer("seed", self.seed, 0)
        validation.one_of("activation", self.activation, ACTIVATIONS)
        validation.between("class_beta", self.class_beta, 0, 1)
        validation.between("eta", self.eta, 0, np.inf)
        validation.between("share", self.share, 0, 1)
        validation.between("fading", self.fading, 0, 1)
        validation.one_of("drift", self.drift, ("none", *drift.DEFAULT_DETECTORS))
        validation.one_of("on_drift", self.on_drift, REACTIONS)
        if not self.sgd_rates and not self.replay_rates:
            raise ValueError("sgd_rates and replay_rates must have at least one member together; got none")
        for rate in self.sgd_rates:
            validation.between("sgd_rates", rate, 0, np.inf)
        _ = self.scaler  # it validates the rest

    @property
    def initial(self) -> Initial:
        """How initial parameters are drawn."""
        return INITIAL

    @cached_property
    def core(self) -> CoreEnsemble:
        """The ensemble that the core runs."""
        outputs = self.columns_of_y or (1 if self.classes is None else len(self.classes))
        loss = "huber" if self.classes is None else "logistic" if self.multilabel else "softmax"
        shape = Shape((self.scaler.width, *self.hidden, outputs), self.activation, loss, skip=True)
        return CoreEnsemble(
            shape,
            self._members,
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
    def _members(self) -> tuple[MemberOptions, ...]:
        scale = TARGET_RATE if self.classes is None else 1
        by_sgd = (MemberOptions("sgd", rate * scale) for rate in self.sgd_rates)
        return (*by_sgd, *(MemberOptions("adam", rate, emphasis) for rate, emphasis in self.replay_rates))

    @property
    def capacity(self) -> int:
        """Rows that the replay buffer holds."""
        width = self.inputs + (self.columns_of_y or 1) + 1
        return max(1, min(self.buffer_rows, self.buffer_bytes // (8 * width)))

    def options(self) -> dict[str, Any]:
        """Return the options, ready for JSON."""
        return as_json("ensemble", self)

    def members(self, state: EnsembleState) -> list[dict[str, Any]]:
        """Describe each member: its optimizer, its weight in the mixture, how often it was restarted."""
        return [
            {"member": _name(member), "weight": round(float(weight), 6), "restarts": int(restarts)}
            for member, weight, restarts in zip(self._members, state.weights, state.restarts, strict=True)
        ]


def _name(member: MemberOptions) -> str:
    replay = f", replay {member.emphasis:g}:1" if member.emphasis else ""
    return f"{member.optimizer} {member.rate:g}{replay}"


def _pairs(replay_rates: Any) -> tuple[tuple[float, float], ...]:
    every = validation.sequence("replay_rates", replay_rates, "pairs of rate and emphasis")
    pairs = tuple(tuple(pair) if isinstance(pair, (list, tuple)) else (pair,) for pair in every)
    for pair in pairs:
        if len(pair) != 2:
            raise ValueError(f"replay_rates must be pairs of rate and emphasis; got {pair!r}")
        validation.between("a rate of replay_rates", pair[0], 0, np.inf)
        validation.between("an emphasis of replay_rates", pair[1], 0, np.inf)
    return pairs
