"""The options that the compiled core reads: C structures, with the names that they have in Python."""

from collections.abc import Sequence
from ctypes import POINTER, Structure, c_double, c_int32, c_uint64, c_void_p

ACTIVATIONS = ("identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "softplus")
LOSSES = ("softmax", "logistic", "squared", "absolute", "huber", "quantile", "poisson")
OPTIMIZERS = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "nadam", "ftrl")  # from 1 on
SCHEDULES = ("constant", "inverse", "step", "cosine")
SCALES = ("standard", "minmax", "none", "sparse")
MISSING = ("refuse", "impute", "indicate")
WEIGHTINGS = ("none", "given", "balanced", "effective")  # of classes
MOST_UNITS = 2**31  # a count is an int32


class Network(Structure):
    """A network's shape and loss."""

    _fields_ = (
        ("units", POINTER(c_int32)),
        ("layers", c_int32),
        ("activation", c_int32),
        ("skip", c_int32),
        ("loss", c_int32),
        ("huber_delta", c_double),
        ("focal_gamma", c_double),
        ("quantiles", POINTER(c_double)),
    )


class Schedule(Structure):
    """The factor of the rate after a number of rows."""

    _fields_ = (
        ("kind", c_int32),
        ("reserved", c_int32),
        *((name, c_double) for name in ("warmup", "rows", "power", "drop", "growth", "least")),
    )


class Optimizer(Structure):
    """An optimizer's options; `momentum` is also Adam's beta1, and `beta2` RMSProp's rho."""

    _fields_ = (
        ("kind", c_int32),
        ("reserved", c_int32),
        *((name, c_double) for name in ("rate", "weight_decay", "momentum", "beta2", "epsilon")),
        *((name, c_double) for name in ("beta", "l1", "l2", "clip_value", "clip_norm")),
    )


class Options(Structure):
    """An ensemble's options."""

    _fields_ = (
        ("networks", POINTER(POINTER(Network))),
        ("schedule", Schedule),
        *((name, c_int32) for name in ("columns", "scale", "missing", "members", "replay_rows", "capacity")),
        *((name, c_int32) for name in ("weighting", "point", "ramped", "ramps")),
        *((name, c_double) for name in ("clip", "reach", "eta", "share", "dropout", "class_beta")),
        ("class_weights", POINTER(c_double)),
        ("seed", c_uint64),
    )


class Given(Structure):
    """The addresses of rows as they come; `starts` and `columns` are those of entries by row."""

    _fields_ = (("values", c_void_p), ("starts", c_void_p), ("columns", c_void_p))


class Member(Structure):
    """A member's optimizer, and the addresses of its vectors."""

    _fields_ = (
        ("optimizer", Optimizer),
        ("emphasis", c_double),
        *((name, c_void_p) for name in ("theta", "first", "second", "initial", "powers")),
    )


class State(Structure):
    """The addresses of what changes besides the members; `ensemble.EnsembleState` has the shapes."""

    _fields_ = tuple(
        (name, c_void_p)
        for name in (
            *("weights", "exponents", "restarts", "rows", "means", "squares", "clusters", "low", "high"),
            *("knots", "correction", "targets", "target_clusters", "class_rows", "learned", "boost"),
            *("ring", "appended", "drawn"),
        )
    )


def network(
    units: Sequence[int],
    activation: str = "relu",
    loss: str = "softmax",
    skip: bool = False,
    *,
    huber_delta: float = 1.0,
    focal_gamma: float = 0.0,
    quantiles: Sequence[float] = (),
) -> Network:
    """Return a network's structure; `units` are from inputs to outputs. Errors: ValueError."""
    if len(units) < 2 or min(units) < 1 or max(units) >= MOST_UNITS:
        raise ValueError(f"units must be at least inputs and outputs, each in [1, 2**31); got {tuple(units)}")
    if loss == "quantile" and len(quantiles) != units[-1]:
        raise ValueError(f"quantiles must be one per output; got {len(quantiles)} for {units[-1]} outputs")
    return Network(
        (c_int32 * len(units))(*units),
        len(units) - 1,
        ACTIVATIONS.index(activation),
        skip,
        LOSSES.index(loss),
        huber_delta,
        focal_gamma,
        (c_double * max(len(quantiles), 1))(*quantiles),
    )


def optimizer(
    name: str,
    rate: float,
    *,
    weight_decay: float | None = None,
    momentum: float = 0.9,
    beta2: float | None = None,
    epsilon: float = 1e-8,
    beta: float = 1.0,
    l1: float = 0.0,
    l2: float = 0.0,
    clip_value: float = 0.0,
    clip_norm: float = 0.0,
) -> Optimizer:
    """Return an optimizer's structure; what is not given has a default of `streaming_nn.nn.options`."""
    if weight_decay is None:
        weight_decay = 0.01 if name == "adamw" else 0.0
    if beta2 is None:
        beta2 = 0.9 if name == "rmsprop" else 0.999
    kind = 1 + OPTIMIZERS.index("adam" if name == "adamw" else name)
    return Optimizer(
        kind, 0, rate, weight_decay, momentum, beta2, epsilon, beta, l1, l2, clip_value, clip_norm
    )


def schedule(
    name: str = "constant",
    warmup: int = 0,
    *,
    rows: float = 1.0,
    power: float = 0.5,
    drop: float = 0.5,
    growth: float = 2.0,
    least: float = 0.0,
) -> Schedule:
    """Return a schedule's structure."""
    return Schedule(SCHEDULES.index(name), 0, warmup, rows, power, drop, growth, least)
