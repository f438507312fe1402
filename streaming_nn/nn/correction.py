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
    """Errors of a micro-batch without the correction, each bounded to 1 unit of its target."""

    rows: int = 0
    as_served: Doubles = np.zeros(0)  # (targets,) sums over the rows
    last: Doubles = np.zeros(0)  # (targets,) of the last row, from before it was learned


def add(
    errors: Errors, correction: Doubles, unit: Doubles, y: Doubles, output: Doubles, as_served: Doubles
) -> Errors:
    """Add the errors of rows y (rows, targets), served by a version with this correction.

    `unit` (targets,) are the targets' deviations in it. An error that is not finite counts as 0.
    """

    def of(y: Doubles, predictions: Doubles) -> Doubles:
        with np.errstate(invalid="ignore", over="ignore"):
            error = ((y - predictions) + correction[0]) / unit
        return np.where(np.isfinite(error), np.clip(error, -1.0, 1.0), 0.0)

    before = errors.as_served[None] if errors.rows else np.zeros((1, len(unit)))
    total = chain_sum(np.concatenate([before, of(y, as_served)]), axis=0)
    return Errors(errors.rows + len(y), total, of(y[-1:], output[-1:])[0])


def after(correction: Doubles, errors: Errors, unit: Doubles) -> Doubles:
    """Return the correction (4, targets) of the version after a micro-batch.

    Its rows are what is added; sums of the last errors' squares, and of their products with the errors as
    served; the last error. `unit` (targets,) are the targets' deviations with it. The part is the
    slope, without a constant, of the errors as served by the last error of the version that served them.
    """
    _, squares, products, last = correction
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
