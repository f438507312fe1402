"""Permutation importance of a version's fields (Breiman 2001; Fisher, Rudin, Dominici 2019).

It is computed from the version alone, on the rows in its replay buffer, so training pays nothing for it.
These rows have been learned: a field by which the model has learned single rows seems more important.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Learner, load_state, point_prediction
from streaming_nn.nn.replay_buffer import latest
from streaming_nn.records.schema import schema_from
from streaming_nn.versions.version import Version

ROWS = 1_000  # at most
PREDICTIONS = 100_000  # of rows, in all: the default ensemble takes 0.1 s for 54 columns, 2.3 s for 784
FIELDS = 2_000  # with more, too few rows are left for each
LEAST = 1e-15  # of a probability: a loss is finite


class FieldImportance(NamedTuple):
    """By how much the loss grows if a field's values are exchanged between rows."""

    field: str  # its name, or that of the column
    loss: float  # mean increase: of the log loss; of a regression, of the absolute error, in deviations
    error: float  # its standard error, over the rows


class Importance(NamedTuple):
    """Of a version."""

    version: int
    rows: int
    fields: list[FieldImportance]  # the most important first


def importance(version: Version, most: int | None = None) -> Importance:
    """Return the importance of each field, or of the `most` important ones; the columns of a field are one.

    ValueError: the version has no replay buffer (learner "mlp" has none unless `replay` is set), no rows yet,
    or more than 2,000 fields.
    """
    learner = learner_from(version.manifest.learner)
    if "model.ring" not in version.tensors or not len(version.tensors["model.ring"]):
        raise ValueError(
            f"version {version.number} has no replay buffer, on whose rows importance is measured"
        )
    groups = _groups(version, learner)
    if len(groups) > FIELDS:
        raise ValueError(f"fields must be at most {FIELDS} for their importance; got {len(groups)}")
    model: Any = learner.without_correction(load_state(learner, version.tensors).model)
    rows = latest(model, min(ROWS, max(PREDICTIONS // len(groups), 1)))
    if len(rows) < 2:
        raise ValueError(f"version {version.number} has learned too few rows: {len(rows)}")
    x, y = np.ascontiguousarray(rows[:, : learner.inputs]), rows[:, learner.inputs : -1]
    before = _losses(learner, model, x, y)
    order = _derangement(len(x))
    found = []
    for name, columns in groups.items():
        kept = x[:, columns].copy()
        x[:, columns] = kept[order]
        increase = _losses(learner, model, x, y) - before
        x[:, columns] = kept
        found.append(FieldImportance(name, float(increase.mean()), float(increase.std() / len(x) ** 0.5)))
    found.sort(key=lambda each: -each.loss)
    return Importance(version.number, len(x), found[:most])


def _groups(version: Version, learner: Learner[Any]) -> dict[str, slice]:
    """Return the columns of each field; those of one hashed string are fields of their own."""
    fields: dict[str, list[str]] = {}
    if version.manifest.schema:
        schema = schema_from(version.manifest.schema)
        fields = schema.columns_of_fields | {column: [column] for column in schema.lag_columns}
    if len(fields) < 2 or sum(map(len, fields.values())) != learner.inputs:
        return {f"features[{i}]": slice(i, i + 1) for i in range(learner.inputs)}
    ends = np.cumsum([len(columns) for columns in fields.values()]).tolist()
    return {name: slice(end - len(fields[name]), end) for name, end in zip(fields, ends, strict=True)}


def _derangement(rows: int) -> NDArray[np.int64]:
    """Return an order in which each row has another one's value: random neighbors, shifted by one."""
    order = np.random.default_rng(0).permutation(rows)
    shifted = np.empty(rows, np.int64)
    shifted[order] = np.roll(order, 1)
    return shifted


def _losses(learner: Learner[Any], model: Any, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Return each row's loss."""
    output = np.asarray(learner.predict(model, x), np.float64)
    losses: NDArray[np.float64]
    if learner.multilabel:
        losses = -np.log(np.maximum(np.where(y > 0, output, 1 - output), LEAST)).sum(axis=1)
    elif learner.classes is not None:
        losses = -np.log(np.maximum(output[np.arange(len(x)), y[:, 0].astype(int)], LEAST))
    else:
        errors = np.abs(point_prediction(learner, output) - y)
        losses = (errors / np.maximum(y.std(axis=0), np.finfo(float).tiny)).mean(axis=1)
    return losses
