"""The plain learner: one multilayer perceptron, standardised inputs, one optimizer."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from streaming_nn.core import structures
from streaming_nn.core.ensemble import Ensemble as CoreEnsemble
from streaming_nn.core.ensemble import MemberOptions
from streaming_nn.core.networks import Shape
from streaming_nn.nn import class_weight, drift, options, validation
from streaming_nn.nn.class_weight import ClassWeight
from streaming_nn.nn.initializers import Initial
from streaming_nn.nn.networks import NetworkLearner, as_json, as_lists
from streaming_nn.nn.preprocessing import REACH

REACTIONS = ("report", "raise", "fresh")
OF_CLASSES = ("softmax", "logistic")
OF_LOSSES = ("quantiles", "huber_delta", "focal_gamma")
OF_OPTIMIZERS = ("momentum", "beta1", "beta2", "epsilon", "rho", "beta", "weight_decay")
OF_SCHEDULES = ("rows", "power", "drop", "growth", "least")


@dataclass(frozen=True)
class MLP(NetworkLearner):
    """A multilayer perceptron that learns online; options only, the model is an `EnsembleState`.

    `classes` holds the labels in the order of the outputs, None means regression. With `multilabel` any
    number of them applies to a row; a regression of several targets has their names in `targets`. `window`
    and `fading` are those of the metrics. An option that is None has the default of what it belongs to:
    `loss` of the task (softmax, logistic with `multilabel`, or squared), `initializer` of the activation,
    `quantiles` and the like of the loss, `momentum` and the like of the optimizer, and all that begin with
    `schedule_` of the schedule.

    Targets, and with them `huber_delta`, are in standard deviations; for the Poisson loss in running means.
    `warmup` and the schedules count rows. `l1` and `l2` are part of the gradient, `weight_decay` is not, and
    none of them changes biases. `class_weight` maps labels to weights (1 for the others), or is computed from
    the rows seen of each class: "balanced", or "effective" with `class_beta`. `scale`, `clip` and `missing`
    are those of `Scaler`; `drift` names the detector that watches the loss, and `on_drift` the reaction to a
    drift. Errors: ValueError, one line for each option.

    `options` has the values of all options that apply, so that a manifest depends on no default. From it,
    those that are the default of what they belong to become None again: so another optimizer has its own.
    """

    inputs: int
    classes: tuple[Any, ...] | None = None
    hidden: tuple[int, ...] = (64,)
    activation: str = "relu"
    optimizer: str = "adam"
    learning_rate: float = 0.003
    mini_batch: int = 32
    clip: float = 5.0
    initializer: str | float | None = None
    seed: int = 0
    window: int = 1000
    fading: float = 0.999
    bias_initializer: str | float = 0.0
    loss: str | None = None
    quantiles: tuple[float, ...] | None = None  # of loss "quantile", one output each
    huber_delta: float | None = None  # of "huber": where it turns from squared to absolute
    focal_gamma: float | None = None  # of "softmax" and "logistic": how much less a good prediction counts
    momentum: float | None = None  # of optimizer "momentum" and "nesterov"
    beta1: float | None = None  # of "adam", "adamw" and "nadam", as beta2 is
    beta2: float | None = None
    epsilon: float | None = None  # of those, "adagrad" and "rmsprop"
    rho: float | None = None  # of "rmsprop": the decay of its squares
    beta: float | None = None  # of "ftrl", whose alpha is the learning rate
    schedule: str = "constant"
    schedule_rows: int | None = None  # of "inverse", "step" and "cosine": of one unit, step or period
    schedule_power: float | None = None  # of "inverse"
    schedule_drop: float | None = None  # of "step": the rate's factor at each step
    schedule_growth: float | None = None  # of "cosine": each period's length in the one before
    schedule_least: float | None = None  # of "cosine": the rate's factor at a period's end
    warmup: int = 0  # rows
    l1: float = 0.0
    l2: float = 0.0
    weight_decay: float | None = None  # 0.01 with "adamw", else 0
    dropout: float = 0.0  # probability that a hidden unit is left out of a step
    clip_value: float | None = None  # bound of each component of a gradient
    clip_norm: float | None = None  # bound of a gradient's norm
    class_weight: ClassWeight = None
    class_beta: float = 0.999
    scale: str = "standard"
    missing: str = "refuse"
    drift: str = "none"
    on_drift: str = "report"
    multilabel: bool = False
    targets: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", validation.widths("hidden", self.hidden))
        self._check_outputs()
        if self.quantiles is not None:
            object.__setattr__(self, "quantiles", options.quantiles(self.quantiles))
        if self.class_weight is not None:
            object.__setattr__(self, "class_weight", class_weight.validate(self.class_weight, self.classes))
        validation.integer("inputs", self.inputs)
        validation.one_of("optimizer", self.optimizer, options.OPTIMIZERS)
        validation.between("learning_rate", self.learning_rate, 0, np.inf)
        validation.one_of("schedule", self.schedule, options.SCHEDULES)
        validation.one_of("activation", self.activation, structures.ACTIVATIONS)
        validation.integer("mini_batch", self.mini_batch)
        validation.one_of("drift", self.drift, ("none", *drift.DEFAULT_DETECTORS))
        validation.one_of("on_drift", self.on_drift, REACTIONS)
        validation.integer("seed", self.seed, 0)
        validation.integer("window", self.window)
        validation.between("fading", self.fading, 0, 1)
        self._validate_regularization()
        self.initials[0].check()
        _ = self.scaler, self.core  # they validate the rest
        for name, value in self._defaults().items():
            if getattr(self, name) == value:
                object.__setattr__(self, name, None)

    def _defaults(self) -> dict[str, Any]:
        """Return what the options have that are None, of those that apply."""
        loss = self.loss or self._default_loss()
        found: dict[str, Any] = {"loss": self._default_loss()}
        if loss == "quantile":
            found["quantiles"] = options.QUANTILES
        for table in (options.LOSSES[loss], options.OPTIMIZERS[self.optimizer]):
            found |= {name: option.default for name, option in table.items()}
        schedule = options.SCHEDULES[self.schedule]
        return found | {f"schedule_{name}": option.default for name, option in schedule.items()}

    def _validate_regularization(self) -> None:
        validation.integer("warmup", self.warmup, 0)
        for name in ("l1", "l2"):
            validation.between(name, getattr(self, name), 0, np.inf, low_in=True)
        validation.between("dropout", self.dropout, 0, 1, low_in=True)
        if self.dropout and not self.hidden:
            raise ValueError(f"dropout must be 0 without hidden units; got {self.dropout!r}")
        for name in ("clip_value", "clip_norm"):
            if getattr(self, name) is not None:
                validation.between(name, getattr(self, name), 0, np.inf)
        validation.between("class_beta", self.class_beta, 0, 1)
        if self.optimizer == "ftrl" and (self.schedule != "constant" or self.warmup):
            raise ValueError(
                "schedule must be 'constant' and warmup 0 with 'ftrl', which adapts its rates itself; "
                f"got {self.schedule!r} and {self.warmup}"
            )

    @property
    def initials(self) -> tuple[Initial]:
        """How initial parameters are drawn."""
        return (Initial(self.initializer, self.bias_initializer),)

    @cached_property
    def core(self) -> CoreEnsemble:
        """The network as an ensemble of one."""
        return CoreEnsemble(
            (
                MemberOptions(
                    self._shape(), self.optimizer, self.learning_rate, options=self._optimizer_options()
                ),
            ),
            self.inputs,
            self.scale,
            self.missing,
            self.clip,
            REACH,
            schedule=self._schedule(),
            class_weight=class_weight.per_class(self.class_weight, self.classes),
            class_beta=self.class_beta,
            dropout=self.dropout,
            point=self.point,
            seed=self.seed,
        )

    def _shape(self) -> Shape:
        loss = self.loss or self._default_loss()
        if self.classes is None:
            validation.one_of(
                "loss without classes", loss, [n for n in options.LOSSES if n not in OF_CLASSES]
            )
        else:
            validation.one_of("loss with classes", loss, OF_CLASSES)
        if self.multilabel and loss != "logistic":
            raise ValueError(f"loss must be 'logistic' with multilabel; got {loss!r}")
        if loss == "logistic" and not self.multilabel and self.classes is not None and len(self.classes) != 2:
            raise ValueError(f"classes must be two with loss 'logistic'; got {self.classes!r}")
        if loss == "quantile" and self.targets is not None:
            raise ValueError(f"targets must be left out with loss 'quantile'; got {self.targets!r}")
        if self.quantiles is not None and loss != "quantile":
            raise ValueError(f"quantiles must be left out with loss {loss!r}; got {self.quantiles!r}")
        given = {name: getattr(self, name) for name in ("huber_delta", "focal_gamma")}
        of_loss: dict[str, Any] = options.values(f"loss {loss!r}", options.LOSSES[loss], given)
        if loss == "quantile":
            of_loss["quantiles"] = self._quantiles
        outputs = len(self._quantiles) if loss == "quantile" else self.columns_of_y or 1
        if loss == "softmax" and self.classes is not None:
            outputs = len(self.classes)
        return Shape((self.scaler.width, *self.hidden, outputs), self.activation, loss, **of_loss)

    def _default_loss(self) -> str:
        if self.classes is None:
            return "squared"
        return "logistic" if self.multilabel else "softmax"

    @property
    def _quantiles(self) -> tuple[float, ...]:
        return self.quantiles or options.QUANTILES

    def _optimizer_options(self) -> dict[str, float]:
        given = {name: getattr(self, name) for name in OF_OPTIMIZERS}
        table = options.OPTIMIZERS[self.optimizer]
        found = options.values(f"optimizer {self.optimizer!r}", table, given)
        clips = {"clip_value": self.clip_value or 0.0, "clip_norm": self.clip_norm or 0.0}
        return options.in_the_core(found) | clips | {"l1": self.l1, "l2": self.l2}

    def _schedule(self) -> structures.Schedule:
        given = {name: getattr(self, "schedule_" + name) for name in OF_SCHEDULES}
        table, kind = options.SCHEDULES[self.schedule], f"schedule {self.schedule!r}"
        return structures.schedule(
            self.schedule, self.warmup, **options.values(kind, table, given, "schedule_")
        )

    @property
    def point(self) -> int:
        """The output that is the point prediction: of quantiles, the one nearest to the median."""
        if self.loss != "quantile":
            return 0
        return int(np.abs(np.array(self._quantiles) - 0.5).argmin())

    def options(self) -> dict[str, Any]:
        """Return the options, ready for JSON; those that are None have their values, where they apply."""
        given = as_json("mlp", self)
        return given | {
            name: as_lists(value) for name, value in self._defaults().items() if given[name] is None
        }
