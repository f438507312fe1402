"""More outputs or inputs for a model: new parameters beside those that have been learned."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core.ensemble import RAMPED, RAMPS, Ensemble, EnsembleState, Layout, ramp_inputs
from streaming_nn.core.networks import Shape
from streaming_nn.nn import replay_buffer
from streaming_nn.nn.initializers import draw_input
from streaming_nn.nn.preprocessing import ColumnGrowth

if TYPE_CHECKING:
    from streaming_nn.nn.networks import NetworkLearner

Floats = NDArray[np.float32]


def add_classes(ensemble: Ensemble, state: EnsembleState, classes: int) -> EnsembleState:
    """Return the state with all of the ensemble's outputs; it has the first `classes` of them.

    The new outputs' weights are 0, and their biases the least of the others'. New labels of several have
    applied to none of the rows that are kept.
    """
    shape, everything = ensemble.shape, slice(None)
    before = [each.with_units((*each.units[:-1], classes)) for each in ensemble.shapes]
    moves = [
        _Move(old, new, everything, everything) for old, new in zip(before, ensemble.shapes, strict=True)
    ]
    grown = _change(ensemble, state, moves)
    for after, theta in zip(ensemble.shapes, ensemble.layout.thetas(grown.theta), strict=True):
        _, biases = after.views(theta)[-1]
        biases[classes:] = biases[:classes].min()
    counted = state.class_rows
    if len(counted):
        counted = np.append(counted, np.zeros(shape.units[-1] - classes))
    grown = _start_new(ensemble, grown._replace(class_rows=counted), moves)
    if (targets := before[0].targets) == shape.targets:
        return grown
    rows, labels = replay_buffer.latest(state, ensemble.capacity), ensemble.columns + targets
    wide = np.insert(rows, [labels] * (shape.targets - targets), 0, axis=1)
    return grown._replace(ring=replay_buffer.ring_of(wide, int(state.appended), ensemble.capacity))


def add_columns(learner: "NetworkLearner", state: EnsembleState, columns: ColumnGrowth) -> EnsembleState:
    """Return the state with all of the learner's columns.

    The new columns' weights are drawn: the k-th after n columns is number n + k. Those of their indicators
    and ramps are 0, as are those of the linear part.
    """
    ensemble = learner.core
    moves = [
        _of_inputs(ensemble, shape, learner.scaler.prepared_growth(columns), columns)
        for shape in ensemble.shapes
    ]
    grown = _change(ensemble, state, moves)
    for member, (shape, theta) in enumerate(
        zip(ensemble.shapes, ensemble.layout.thetas(grown.theta), strict=True)
    ):
        weights, _ = shape.views(theta)[0]
        for k, column in enumerate(np.flatnonzero(columns.origin < 0)):
            how = learner.initials[member]
            weights[column] = draw_input(shape, how, learner.seed, member, columns.before + k)
    grown = _start_new(ensemble, learner.scaler.grow(grown, columns), moves)
    rows = ColumnGrowth(  # of the replay buffer: the columns, then targets and weight
        columns.before + (others := ensemble.shape.targets + 1),
        np.append(columns.origin, columns.before + np.arange(others)),
        np.append(columns.fill, np.zeros(others)),
    )
    kept = replay_buffer.latest(state, ensemble.capacity)
    ring = replay_buffer.ring_of(rows.move(kept, rows.fill), int(state.appended), ensemble.capacity)
    return grown._replace(ring=ring, knots=_knots(ensemble, state, columns))


class _Move(NamedTuple):
    """Where a member's parameters go: its inputs `to` are those at `origin` of the shape before."""

    before: Shape
    after: Shape
    to: slice | NDArray[np.bool_]
    origin: slice | NDArray[np.intp]


def _of_inputs(ensemble: Ensemble, shape: Shape, prepared: ColumnGrowth, columns: ColumnGrowth) -> _Move:
    origin, inputs = prepared.origin, prepared.before
    if ensemble.sees_ramps(shape):
        ramped = _ramped(ensemble, columns)
        ramps = ramped[:, None] * RAMPS + np.arange(RAMPS) + inputs
        origin = np.append(origin, np.where(ramped[:, None] < 0, -1, ramps))
        inputs += ramp_inputs(columns.before)
    return _Move(shape.with_units((inputs, *shape.units[1:])), shape, origin >= 0, origin[origin >= 0])


def _ramped(ensemble: Ensemble, columns: ColumnGrowth) -> NDArray[np.intp]:
    """Return where the columns that have ramps had theirs before; -1: nowhere."""
    origin = columns.origin[: min(ensemble.columns, RAMPED)]
    return np.where(origin < min(columns.before, RAMPED), origin, -1)


def _knots(ensemble: Ensemble, state: EnsembleState, columns: ColumnGrowth) -> NDArray[np.float64]:
    if not ensemble.ramped:
        return state.knots
    ramped = _ramped(ensemble, columns)
    return np.where(ramped[:, None] < 0, np.inf, state.knots[ramped])


def _change(ensemble: Ensemble, state: EnsembleState, moves: Sequence[_Move]) -> EnsembleState:
    """Add parameters to every vector of a state; the new ones are 0."""
    before = Layout(tuple(move.before for move in moves), ensemble.layout.optimizers)

    def grow(parts: Sequence[Floats | None]) -> Floats:
        moved = [_move(move, part) for move, part in zip(moves, parts, strict=True) if part is not None]
        return np.concatenate([np.zeros(0, np.float32), *moved])

    return state._replace(
        theta=grow(before.thetas(state.theta)),
        first=grow(before.firsts(state.first)),
        second=grow(before.seconds(state.second)),
    )


def _start_new(ensemble: Ensemble, state: EnsembleState, moves: Sequence[_Move]) -> EnsembleState:
    """Return the state with the optimizers' values of new parameters, which have taken no step."""
    started = state._replace(first=state.first.copy())
    thetas, firsts = ensemble.layout.thetas(state.theta), ensemble.layout.firsts(started.first)
    for move, member, theta, first in zip(moves, ensemble.members, thetas, firsts, strict=True):
        if first is not None:
            new = _move(move, np.ones(move.before.parameters, np.float32)) == 0
            first[:] = np.where(new, member.first(theta), first)
    return started


def _move(move: _Move, theta: Floats) -> Floats:
    """Return a vector in the layout of the shape after."""
    before, shape, to, origin = move
    wide = np.zeros(shape.parameters, np.float32)
    layers = zip(shape.views(wide), before.views(theta), strict=True)
    for layer, ((W, b), (V, c)) in enumerate(layers):
        b[: len(c)] = c
        if layer == 0:
            W[to, : V.shape[1]] = V[origin]
        else:
            W[:, : V.shape[1]] = V
    linear, then = shape.linear_view(wide), before.linear_view(theta)
    if shape.skip:
        linear[to, : then.shape[1]] = then[origin]
    return wide
