"""More outputs or inputs for a model: new parameters beside those that have been learned."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core.ensemble import Ensemble, EnsembleState
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
    shape = ensemble.shape
    before = shape.with_units((*shape.units[:-1], classes))

    def add(theta: Floats) -> Floats:
        return _move(before, shape, theta, slice(None), slice(None))

    grown = _change(ensemble, state, add)
    for theta in grown.theta:
        _, biases = shape.views(theta)[-1]
        biases[classes:] = biases[:classes].min()
    counted = state.class_rows
    if len(counted):
        counted = np.append(counted, np.zeros(shape.units[-1] - classes))
    grown = _start_new(ensemble, grown._replace(class_rows=counted), before, add)
    if before.targets == shape.targets:
        return grown
    rows, labels = replay_buffer.latest(state, ensemble.capacity), ensemble.columns + before.targets
    wide = np.insert(rows, [labels] * (shape.targets - before.targets), 0, axis=1)
    return grown._replace(ring=replay_buffer.ring_of(wide, int(state.appended), ensemble.capacity))


def add_columns(learner: "NetworkLearner", state: EnsembleState, columns: ColumnGrowth) -> EnsembleState:
    """Return the state with all of the learner's columns.

    The new columns' weights are drawn: the k-th after n columns is number n + k. Those of their indicators
    are 0, as are those of the linear part.
    """
    ensemble, shape, growth = learner.core, learner.core.shape, learner.scaler.prepared_growth(columns)
    before = shape.with_units((growth.before, *shape.units[1:]))
    new = growth.origin >= 0

    def add(theta: Floats) -> Floats:
        return _move(before, shape, theta, new, growth.origin[new])

    grown = _change(ensemble, state, add)
    for member, theta in enumerate(grown.theta):
        weights, _ = shape.views(theta)[0]
        for k, column in enumerate(np.flatnonzero(columns.origin < 0)):
            weights[column] = draw_input(shape, learner.initial, learner.seed, member, columns.before + k)
    grown = _start_new(ensemble, learner.scaler.grow(grown, columns), before, add)
    rows = ColumnGrowth(  # of the replay buffer: the columns, then targets and weight
        columns.before + (others := shape.targets + 1),
        np.append(columns.origin, columns.before + np.arange(others)),
        np.append(columns.fill, np.zeros(others)),
    )
    kept = replay_buffer.latest(state, ensemble.capacity)
    ring = replay_buffer.ring_of(rows.move(kept, rows.fill), int(state.appended), ensemble.capacity)
    return grown._replace(ring=ring)


def _change(ensemble: Ensemble, state: EnsembleState, add: Callable[[Floats], Floats]) -> EnsembleState:
    """Add parameters to every vector of a state; the new ones are 0."""

    def each(vectors: Floats) -> Floats:
        return np.array([add(vector) for vector in vectors], np.float32).reshape(
            len(vectors), ensemble.shape.parameters
        )

    return state._replace(theta=each(state.theta), first=each(state.first), second=each(state.second))


def _start_new(
    ensemble: Ensemble, state: EnsembleState, before: Shape, add: Callable[[Floats], Floats]
) -> EnsembleState:
    """Return the state with the optimizers' values of new parameters, which have taken no step."""
    new = add(np.ones(before.parameters, np.float32)) == 0
    first = state.first.copy()
    for k, member in enumerate(ensemble.members):
        row, _ = ensemble.rows_of(k)
        if row is not None:
            first[row] = np.where(new, member.first(state.theta[k]), first[row])
    return state._replace(first=first)


def _move(
    before: Shape,
    shape: Shape,
    theta: Floats,
    to: slice | NDArray[np.bool_],
    origin: slice | NDArray[np.intp],
) -> Floats:
    """Return a vector in the layout of `shape`; its inputs `to` are those at `origin` of the shape before."""
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
