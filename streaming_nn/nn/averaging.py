"""The rules by which the states of several tasks, learned from one common state, become one state.

Each task starts with the same state and learns other rows (`update = "averaged"`). Weights are averaged by
rows trained (McMahan et al. 2017, algorithm 1); counts are the start's plus what each task has added.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core.functions import chain_sum, exponential, logarithm

Array = NDArray[Any]

SMALLEST = float(np.finfo(np.float64).tiny)  # normal number, whose logarithm is defined


def shares(rows: Sequence[int]) -> NDArray[np.float64]:
    """Return each task's share of the rows (tasks,); they sum to 1, and are equal where no task has any."""
    total = sum(rows)
    return np.asarray(rows, np.float64) / total if total else np.full(len(rows), 1 / len(rows))


def average_arrays(arrays: Sequence[Array], share: NDArray[np.float64]) -> Array:
    """Average arrays of one shape, in float64 and in the order given; the result has their dtype."""
    total = np.zeros(arrays[0].shape)
    for array, part in zip(arrays, share, strict=True):
        total += array.astype(np.float64) * part
    return np.asarray(total, arrays[0].dtype)


def average_powers(powers: Sequence[NDArray[np.float64]], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average rates to the power of a number of steps: return the rate to the power of the mean number.

    A power that has become 0, or nearly so, is taken as the least normal number.
    """
    logs = [logarithm(np.maximum(each, SMALLEST)) * part for each, part in zip(powers, share, strict=True)]
    return exponential(chain_sum(np.stack(logs), axis=0))


def interleave(counts: Sequence[int], last: int) -> NDArray[np.intp]:
    """Order rows of several tasks as if they had come interleaved; return the `last` ones as (rows, 2).

    A row is (task, its index among the task's `counts[task]` rows): row j of n came at (j + 1/2) / n.
    """
    task = np.repeat(np.arange(len(counts)), [min(count, last) for count in counts])
    row = np.concatenate([np.arange(max(count - last, 0), count) for count in counts])
    when = (row + 0.5) / np.asarray(counts, np.float64)[task]
    order = np.lexsort((task, when))[-last:] if last else np.empty(0, np.intp)
    return np.stack([task[order], row[order]], axis=1)
