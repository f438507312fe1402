"""An ensemble in the compiled core: its options, its state as named arrays, and its whole steps."""

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import local
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core import library, structures
from streaming_nn.core.library import MOST_ROWS, address
from streaming_nn.core.networks import Floats, Shape, aligned
from streaming_nn.core.sparse import SparseRows

RAMPS = 23  # of a column, at most: inputs of the members that see them; 24 hours have so many between them
RAMPED = 48  # columns that have ramps, at most: bounds the bytes of wide rows
PREDICTED = 48  # rows predicted at once: their sums stay in the cache
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
Rows = NDArray[np.float64]
OPTIONAL = ("exponents", "correction")  # arrays of a state without elements where a model goes without
STATELESS = ("sgd",)  # optimizers without a state; those that have one vector of it, at most
ONE_VECTOR = (*STATELESS, "momentum", "nesterov", "adagrad", "rmsprop")


def ramp_inputs(columns: int) -> int:
    """Return the inputs that a member which sees ramps has more than one which sees none."""
    return RAMPS * min(columns, RAMPED)


@dataclass(frozen=True)
class MemberOptions:
    """One network that learns: its shape and optimizer, and how many drawn rows a new one weighs.

    With an emphasis of 0 it learns new rows only.
    """

    shape: Shape
    optimizer: str = "sgd"
    rate: float = 0.01
    emphasis: float = 0.0
    options: dict[str, float] = field(default_factory=dict)  # as `structures.optimizer` takes them

    @cached_property
    def structure(self) -> structures.Optimizer:
        """The optimizer as the core reads it."""
        return structures.optimizer(self.optimizer, self.rate, **self.options)

    def first(self, theta: Floats) -> Floats:
        """Return the first vector of the optimizer's state, before its first step from these weights."""
        if self.optimizer != "ftrl":
            return np.zeros_like(theta)
        return -(theta * np.float32(self.structure.beta / self.rate))


@dataclass(frozen=True)
class Layout:
    """Where members' parameters are in the vectors of a state, which follow each other there."""

    shapes: tuple[Shape, ...]
    optimizers: tuple[str, ...]

    def thetas(self, theta: Floats) -> list[Floats]:
        """View parameters of all members as each one's."""
        return [part for part in self._parts(theta, ()) if part is not None]

    def firsts(self, first: Floats) -> list[Floats | None]:
        """View the first vectors of the optimizers' states as each member's; None: it has none."""
        return self._parts(first, STATELESS)

    def seconds(self, second: Floats) -> list[Floats | None]:
        """View the second vectors of the optimizers' states as each member's; None: it has none."""
        return self._parts(second, ONE_VECTOR)

    @cached_property
    def sizes(self) -> tuple[int, int, int]:
        """Floats of theta, first and second, padding included."""
        return self._size(()), self._size(STATELESS), self._size(ONE_VECTOR)

    def _size(self, without: tuple[str, ...]) -> int:
        return sum(
            shape.parameters
            for shape, name in zip(self.shapes, self.optimizers, strict=True)
            if name not in without
        )

    def _parts(self, vector: Floats, without: tuple[str, ...]) -> list[Floats | None]:
        parts, start = list[Floats | None](), 0
        for shape, name in zip(self.shapes, self.optimizers, strict=True):
            if name in without:
                parts.append(None)
                continue
            parts.append(vector[start : start + shape.parameters])
            start += shape.parameters
        return parts


class _Arrays(NamedTuple):
    theta: Floats  # (parameters,) of all members, one after the other
    first: Floats  # (parameters of those with an optimizer's state,) velocities, squares or first moments
    second: Floats  # (parameters of those with two vectors of state,)
    powers: NDArray[np.float64]  # (members, 2) Adam's betas to the number of steps
    weights: NDArray[np.float64]  # (members,) of the linear mixture
    exponents: NDArray[np.float64]  # (members,) of the geometric mixture; (0,): there is only the linear one
    restarts: NDArray[np.int64]  # (members,)
    rows: NDArray[np.float64]  # (columns,) values of each input that scale it
    means: NDArray[np.float64]  # (columns,)
    squares: NDArray[np.float64]  # (columns,) sums of squared deviations
    clusters: NDArray[np.float64]  # (7, columns) count, mean, squares of near and of far values; votes
    low: Rows  # (columns,) least values, of "minmax"
    high: Rows  # (columns,) largest values, of "minmax"
    knots: Rows  # (ramped, RAMPS + 1) between which each column's ramps rise; infinite: none
    correction: Rows  # (4, targets) what is added to predictions, and its sums; (0,): nothing is
    targets: NDArray[np.float64]  # (targets, 3) count, mean, squared deviations of a regression's targets
    target_clusters: NDArray[np.float64]  # (7, targets)
    class_rows: NDArray[np.float64]  # (classes,) rows learned of each class, where they weigh classes
    learned: NDArray[np.int64]  # () rows learned
    boost: NDArray[np.float64]  # () of the rates since a drift
    ring: Rows  # (capacity, columns + targets + 1) replay buffer: inputs, targets, weight
    appended: NDArray[np.int64]  # () rows appended to it
    drawn: NDArray[np.uint64]  # () rows drawn from it


class EnsembleState(_Arrays):
    """The model; the core writes all of it in place. What no option needs has no elements.

    It remembers the addresses of its arrays, for each thread: see `Ensemble.bind`.
    """

    def copy(self) -> "EnsembleState":
        """Return a copy that shares no memory."""
        return EnsembleState._make(array.copy() for array in self)

    def __getstate__(self) -> None:
        """Pickle the arrays only."""


@dataclass(frozen=True)
class Ensemble:
    """Networks that learn side by side; a network alone is an ensemble of one member.

    `columns` is the width of a row as it comes; with `missing` "indicate" a shape has twice as many inputs.
    A member whose shape has RAMPS more for each of the first RAMPED columns sees ramps; they need a ring.
    All shapes have the same outputs and loss. `class_weight` is a weight per class, "balanced" or
    "effective". Errors: ValueError, one line.
    """

    members: tuple[MemberOptions, ...]
    columns: int
    scale: str = "standard"
    missing: str = "refuse"
    clip: float = 5.0
    reach: float = 0.0
    eta: float = 0.25
    share: float = 0.003
    replay_rows: int = 0
    capacity: int = 0
    schedule: structures.Schedule = field(default_factory=structures.schedule)
    class_weight: str | tuple[float, ...] | None = None
    class_beta: float = 0.999
    dropout: float = 0.0
    point: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("members must be at least one; got none")
        inputs = (self.width, self.width + ramp_inputs(self.columns))
        for shape in self.shapes:
            if shape.units[0] not in inputs:
                raise ValueError(f"a shape must have {inputs[0]} or {inputs[1]} inputs; got {shape.units[0]}")
            if (shape.units[-1], shape.loss) != (self.shape.units[-1], self.shape.loss):
                raise ValueError(
                    f"all shapes must have {self.shape.units[-1]} outputs and loss {self.shape.loss!r}; "
                    f"got {shape.units[-1]} and {shape.loss!r}"
                )
        if self.class_weight is not None and not self.classes:
            raise ValueError(f"class_weight must be left out with loss {self.shape.loss!r} and these outputs")
        if isinstance(self.class_weight, tuple) and len(self.class_weight) != self.classes:
            raise ValueError(f"class_weight must be one per class; got {len(self.class_weight)}")
        if not 0 <= self.point < self.shape.units[-1]:
            raise ValueError(f"point must be an output; got {self.point}")
        for name in ("replay_rows", "capacity"):
            if not 0 <= getattr(self, name) < structures.MOST_UNITS:
                raise ValueError(f"{name} must be in [0, 2**31); got {getattr(self, name)}")
        if self.ramped and (self.capacity < 1 or self.scale == "sparse"):
            raise ValueError(f"ramps need a ring and another scale than 'sparse'; got scale {self.scale!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1); got {self.dropout}")
        _ = self.structure

    @property
    def width(self) -> int:
        """Inputs of a member that sees no ramps."""
        return self.columns * (2 if self.missing == "indicate" else 1)

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Each member's shape; equal ones are one object."""
        one: dict[Any, Shape] = {}
        return tuple(one.setdefault(member.shape.key, member.shape) for member in self.members)

    @property
    def shape(self) -> Shape:
        """The first member's shape, whose outputs and loss are those of all."""
        return self.shapes[0]

    def sees_ramps(self, shape: Shape) -> bool:
        """Return whether a member of this shape sees ramps."""
        return shape.units[0] > self.width

    @cached_property
    def ramped(self) -> int:
        """Columns that have ramps; 0 if no member sees them."""
        return min(self.columns, RAMPED) if any(map(self.sees_ramps, self.shapes)) else 0

    @cached_property
    def layout(self) -> "Layout":
        """Where each member's parameters are."""
        return Layout(self.shapes, tuple(member.optimizer for member in self.members))

    @property
    def classes(self) -> int:
        """Classes that may have weights; 0: there are none."""
        if self.shape.loss == "logistic":
            return 2 if self.shape.units[-1] == 1 else 0
        return self.shape.units[-1] if self.shape.loss == "softmax" else 0

    @property
    def is_classification(self) -> bool:
        """Whether predictions are probabilities."""
        return self.shape.loss in ("softmax", "logistic")

    @property
    def is_corrected(self) -> bool:
        """Whether predictions are corrected by the last error."""
        return len(self.members) > 1 and self.shape.loss in ("squared", "absolute", "huber")

    def output(self, rows: int) -> NDArray[Any]:
        """Return memory for predictions: probabilities in float32, targets in float64."""
        return np.empty((rows, self.shape.units[-1]), np.float32 if self.is_classification else np.float64)

    @cached_property
    def structure(self) -> structures.Options:
        """The options as the core reads them."""
        given = self.class_weight if isinstance(self.class_weight, tuple) else ()
        weighting = "given" if given else self.class_weight or "none"
        networks = [ctypes.pointer(shape.structure) for shape in self.shapes]
        return structures.Options(
            networks=(type(networks[0]) * len(networks))(*networks),
            schedule=self.schedule,
            columns=self.columns,
            scale=structures.SCALES.index(self.scale),
            missing=structures.MISSING.index(self.missing),
            members=len(self.members),
            replay_rows=self.replay_rows,
            capacity=self.capacity,
            weighting=structures.WEIGHTINGS.index(weighting),
            point=self.point,
            ramped=self.ramped,
            ramps=RAMPS,
            clip=self.clip,
            reach=self.reach,
            eta=self.eta,
            share=self.share,
            dropout=self.dropout,
            class_beta=self.class_beta,
            class_weights=(ctypes.c_double * max(len(given), 1))(*given),
            seed=self.seed % 2**64,
        )

    def init(self, theta: Floats) -> EnsembleState:
        """Return an untrained model with these weights (parameters,) of all members."""
        members, columns, targets = len(self.members), self.columns, self.shape.targets
        spans = columns if self.scale == "minmax" else 0
        _, first, second = self.layout.sizes
        state = EnsembleState(
            theta=theta.copy(),
            first=np.zeros(first, np.float32),
            second=np.zeros(second, np.float32),
            powers=np.ones((members, 2)),
            weights=np.full(members, 1 / members),
            exponents=np.full(members if self.is_classification and members > 1 else 0, 1 / members),
            restarts=np.zeros(members, np.int64),
            rows=np.zeros(columns),
            means=np.zeros(columns),
            squares=np.zeros(columns),
            clusters=np.zeros((7, columns)),
            low=np.full(spans, np.inf),
            high=np.full(spans, -np.inf),
            knots=np.full((self.ramped, RAMPS + 1), np.inf),
            correction=np.zeros((4, targets) if self.is_corrected else 0),
            targets=np.zeros((0 if self.is_classification else targets, 3)),
            target_clusters=np.zeros((7, 0 if self.is_classification else targets)),
            class_rows=np.zeros(self.classes if isinstance(self.class_weight, str) else 0),
            learned=np.zeros((), np.int64),
            boost=np.zeros(()),
            ring=np.zeros((self.capacity, columns + targets + 1)),
            appended=np.zeros((), np.int64),
            drawn=np.zeros((), np.uint64),
        )
        parts = zip(self.members, self.layout.thetas(theta), self.layout.firsts(state.first), strict=True)
        for member, each, first_of_member in parts:
            if first_of_member is not None:
                first_of_member[:] = member.first(each)
        return state

    def settle(self, state: EnsembleState) -> None:
        """Compute FTRL's parameters from its state, after that was averaged: by a step with gradient 0."""
        core = library.load()
        for k, (member, *vectors) in enumerate(self._vectors(state)):
            if member.optimizer != "ftrl":
                continue
            for start, stop, biases in self.shapes[k].spans:
                parts = [each[start:stop] for each in vectors if each is not None]
                gradient = np.zeros(stop - start, np.float32)
                core.core_update(
                    ctypes.byref(member.structure),
                    ctypes.c_double(1.0),
                    address(state.powers[k], "f8", (2,)),
                    *(address(each, FLOAT32, (stop - start,)) for each in (*parts, gradient)),
                    ctypes.c_long(stop - start),
                    ctypes.c_int(biases),
                )

    def bind(self, state: EnsembleState, initial: Floats | None = None) -> "Model":
        """Return the ensemble bound to a state: the same one for as long as state and thread are the same.

        Errors: ValueError for a state that does not fit.
        """
        threads: local = vars(state).setdefault("threads", local())
        model: Model | None = vars(threads).get("model")
        if model is None or model.ensemble is not self:
            model = threads.model = Model(self, state, initial)
        return model

    def pointers(self, state: EnsembleState, initial: Floats) -> tuple[Any, structures.State]:
        """Return the addresses of a state's arrays, after checking each of them. Errors: ValueError."""
        arrays: tuple[NDArray[Any], ...] = state
        without = [name for name in OPTIONAL if not len(getattr(state, name))]
        for name, array, (dtype, shape) in zip(state._fields, arrays, self._layout, strict=True):
            address(array, dtype, (0,) if name in without else shape)
        for name in ("appended", "learned"):
            if not 0 <= getattr(state, name) < MOST_ROWS:
                raise ValueError(f"{name} must be in [0, {MOST_ROWS}); got {getattr(state, name)}")
        address(initial, "f4", state.theta.shape)
        members = (structures.Member * len(self.members))(*self._member_structures(state, initial))
        names = (each[0] for each in structures.State._fields_)
        fields = {name: None if name in without else getattr(state, name).ctypes.data for name in names}
        return members, structures.State(**fields)

    def _member_structures(self, state: EnsembleState, initial: Floats) -> Sequence[structures.Member]:
        def at(array: Floats | None) -> int | None:
            return None if array is None else array.ctypes.data

        initials = self.layout.thetas(initial)
        return [
            structures.Member(
                optimizer=member.structure,
                emphasis=member.emphasis,
                theta=at(theta),
                first=at(first),
                second=at(second),
                initial=at(initials[k]),
                powers=state.powers[k].ctypes.data,
            )
            for k, (member, theta, first, second) in enumerate(self._vectors(state))
        ]

    def _vectors(
        self, state: EnsembleState
    ) -> Iterable[tuple[MemberOptions, Floats, Floats | None, Floats | None]]:
        """Return each member with its parameters and its optimizer's vectors."""
        layout = self.layout
        vectors = layout.thetas(state.theta), layout.firsts(state.first), layout.seconds(state.second)
        return zip(self.members, *vectors, strict=True)

    def set_knots(self, state: EnsembleState, before: int) -> None:
        """Set the knots again, if rows appended to the ring since there were `before` make that due."""
        if not self.ramped:
            return
        core = library.load()
        core.core_knots_bytes.restype = ctypes.c_long
        _, fields = self.pointers(state, state.theta)
        work = aligned(int(core.core_knots_bytes(ctypes.byref(self.structure))))
        core.core_set_knots(
            ctypes.byref(self.structure),
            ctypes.byref(fields),
            ctypes.c_long(before),
            ctypes.c_void_p(work.ctypes.data),
        )

    @cached_property
    def _layout(self) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
        template = self.init(np.zeros(self.layout.sizes[0], np.float32))
        return [(array.dtype, array.shape) for array in template]


class Model:
    """An ensemble bound to a state: the state's arrays are checked once, for many calls.

    The calls share memory to work in, so one thread uses a model at a time. If all of several members
    diverge, they restart with `initial` (parameters,), by default the parameters that the state has
    now. Errors: ValueError for a state that does not fit.
    """

    def __init__(self, ensemble: Ensemble, state: EnsembleState, initial: Floats | None = None) -> None:
        self.ensemble = ensemble
        self._arrays = tuple(state)  # not the state itself, which may hold this model: a cycle would stay
        self.initial = state.theta.copy() if initial is None else initial
        self._core = library.load()
        self._core.core_step_bytes.restype = ctypes.c_long
        self._members, fields = ensemble.pointers(state, self.initial)
        self._options, self._state = ctypes.byref(ensemble.structure), ctypes.byref(fields)
        self._writeable = all(array.flags.writeable for array in state)
        self._work, self._most = aligned(0), 0

    def predict(self, x: Rows | SparseRows) -> NDArray[Any]:
        """Predict rows x (rows, columns); return probabilities (float32) or targets (rows, outputs)."""
        given = self._given(x)
        rows = len(x)
        output = self.ensemble.output(rows)
        most = max(min(rows, PREDICTED), 1)
        self._core.core_predict(
            self._options,
            self._members,
            self._state,
            ctypes.byref(given),
            ctypes.c_long(rows),
            ctypes.c_long(most),
            ctypes.c_void_p(output.ctypes.data),
            self._memory(most),
        )
        return output

    def learn(
        self, x: Rows | SparseRows, y: NDArray[Any], weight: Floats | None = None, *, mini_batch: int
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Predict and learn rows, mini-batch by mini-batch; the state is changed in place.

        x is (rows, columns), y (rows,) or (rows, targets): class indices, or targets; weight (rows,). Return
        the predictions from before each step (rows, outputs), and which steps were taken: one with a value
        that is not finite is not. Errors: ValueError for arrays of another shape or dtype.
        """
        if mini_batch < 1:
            raise ValueError(f"mini_batch must be >= 1; got {mini_batch}")
        if not self._writeable:
            raise ValueError("a state that the core writes must be writeable; got a read-only one")
        rows, shape, given = len(x), self.ensemble.shape, self._given(x)
        truth = np.ascontiguousarray(y, np.float64).reshape(rows, shape.targets)
        output = self.ensemble.output(rows)
        trained = np.zeros(-(-rows // mini_batch), np.bool_)
        most = max(min(mini_batch, rows), 1)
        self._core.core_learn(
            self._options,
            self._members,
            self._state,
            ctypes.byref(given),
            ctypes.c_void_p(truth.ctypes.data),
            None if weight is None else address(weight, FLOAT32, (rows,)),
            ctypes.c_long(rows),
            ctypes.c_long(most),
            ctypes.c_void_p(output.ctypes.data),
            ctypes.c_void_p(trained.ctypes.data),
            self._memory(most),
        )
        return output, trained

    def begin_errors(self) -> Rows:
        """Return the errors (3, targets) of a micro-batch that begins with this state."""
        errors = np.empty((3, self.ensemble.shape.targets))
        self._core.core_begin_errors(self._options, self._state, ctypes.c_void_p(errors.ctypes.data))
        return errors

    def add_errors(self, errors: Rows, y: Rows, output: Rows, as_served: Rows) -> None:
        """Add errors of rows y, predicted before they were learned, and as served: (rows, targets) each."""
        shape = (len(output), self.ensemble.shape.targets)
        self._core.core_add_errors(
            self._options,
            self._state,
            *(address(each, FLOAT64, shape) for each in (y.reshape(shape), output, as_served)),
            ctypes.c_long(len(y)),
            address(errors, FLOAT64, (3, shape[1])),
        )

    def correct(self, errors: Rows, rows: int) -> None:
        """Set the correction after a micro-batch of so many rows; the state is changed in place."""
        at = address(errors, FLOAT64, (3, self.ensemble.shape.targets))
        self._core.core_correct(self._options, self._state, at, ctypes.c_long(rows))

    def _given(self, x: Rows | SparseRows) -> structures.Given:
        columns = self.ensemble.columns
        if not isinstance(x, SparseRows):
            return structures.Given(address(x, FLOAT64, (len(x), columns)))
        if x.columns != columns or self.ensemble.scale != "sparse":
            raise ValueError(
                f"sparse rows need scale 'sparse' and {columns} columns; "
                f"got {self.ensemble.scale!r} and {x.columns}"
            )
        return structures.Given(*(each.ctypes.data for each in (x.values, x.starts, x.indices)))

    def _memory(self, most: int) -> ctypes.c_void_p:
        """Return memory for steps of so many rows: 0 at first, then the same until there are more."""
        if most > self._most:
            self._work = aligned(int(self._core.core_step_bytes(self._options, ctypes.c_long(most))))
            self._most = most
        return ctypes.c_void_p(self._work.ctypes.data)
