"""The correction of a regression's predictions by the model's last error: docs/arithmetic.md, "Correction".

Errors of a series last: of an hour that had more than predicted, the next one often has too. A version adds a
part of its last error to all its predictions. The part is learned from the errors of what versions served, so
it is large only where the next version comes before the errors have changed.
"""

from typing import NamedTuple

import numpy as np

from streaming_nn.core.functions import chain_sum
from streaming_nn.nn.moments import Doubles

KEPT = 0.999  # of the sums, at each micro-batch
PRIOR = 10.0  # squares that are added to the sum: the part of a model with few versions is small


class Errors(NamedTuple):
    """Errors of a micro-batch as they are without the correction, each bounded to 1 unit of its target."""

    correction: Doubles  # (4, targets) of the version at the start
    unit: Doubles  # (targets,) its targets' deviations
    rows: int
    as_served: Doubles  # (targets,) sums over the rows
    last: Doubles  # (targets,) of the last row, from before it was learned


def begin(correction: Doubles, unit: Doubles) -> Errors:
    """Return the errors of no rows; `correction` (4, targets) and `unit` (targets,) are the version's."""
    return Errors(correction, unit, 0, np.zeros(len(unit)), np.zeros(len(unit)))


def add(errors: Errors, y: Doubles, output: Doubles, as_served: Doubles) -> Errors:
    """Add the errors of rows, y (rows,) or (rows, targets). One that is not finite counts as 0."""

    def of(y: Doubles, predictions: Doubles) -> Doubles:
        with np.errstate(invalid="ignore", over="ignore"):
            error = ((y - predictions) + errors.correction[0]) / errors.unit
        return np.where(np.isfinite(error), np.clip(error, -1.0, 1.0), 0.0)

    y = y.reshape(output.shape)
    total = chain_sum(np.concatenate([errors.as_served[None], of(y, as_served)]), axis=0)
    return errors._replace(rows=errors.rows + len(y), as_served=total, last=of(y[-1:], output[-1:])[0])


def after(errors: Errors, unit: Doubles) -> Doubles:
    """Return the correction (4, targets) of the version after a micro-batch; `unit` is that version's.

    Its rows are what is added; sums of the last errors' squares, and of their products with the errors as
    served; the last error. The part that is added is the slope, without a constant, of the errors as served
    by the last error of the version that served them.
    """
    _, squares, products, last = errors.correction
    squares = KEPT * squares + last * last
    products = KEPT * products + last * (errors.as_served / errors.rows)
    part = products / (squares + PRIOR)
    part = np.where(part > 0.0, np.where(part < 1.0, part, 1.0), 0.0)  # also where it is -0
    return np.stack([part * errors.last * unit, squares, products, errors.last])


def without_last(correction: Doubles) -> Doubles:
    """Return the correction of a version that no single row was learned last: nothing is added."""
    found = correction.copy()
    found[::3] = 0.0
    return found
