"""The replay buffer: the latest rows, which the core learns again; row number i has slot i % capacity."""

from collections.abc import Sequence

import numpy as np

from streaming_nn.core.ensemble import EnsembleState, Rows
from streaming_nn.nn.averaging import interleave


def latest(state: EnsembleState, count: int) -> Rows:
    """Return the last `count` rows appended, oldest first; at most those that are kept."""
    rows, capacity = int(state.appended), len(state.ring)
    numbers = np.arange(rows - min(count, rows, capacity), rows)
    return state.ring[numbers % max(capacity, 1)]


def ring_of(rows: Rows, appended: int, capacity: int) -> Rows:
    """Return the buffer (capacity, columns) to which `rows` were appended last, up to number `appended`."""
    ring = np.zeros((capacity, rows.shape[1]))
    kept = rows[len(rows) - min(len(rows), capacity) :]
    ring[np.arange(appended - len(kept), appended) % max(capacity, 1)] = kept
    return ring


def merge(start: EnsembleState, parts: Sequence[EnsembleState]) -> EnsembleState:
    """Append the rows that tasks have appended to a common start, as if they had come interleaved."""
    capacity = len(start.ring)
    counts = [int(part.appended - start.appended) for part in parts]
    drawn = start.drawn + sum((part.drawn - start.drawn for part in parts), np.uint64(0))
    order = interleave(counts, capacity)
    rows = np.empty((len(order), start.ring.shape[1]))
    for task, (part, count) in enumerate(zip(parts, counts, strict=True)):
        block, mine = latest(part, count), order[:, 0] == task
        rows[mine] = block[order[mine, 1] - (count - len(block))]
    total = int(start.appended) + sum(counts)
    kept = latest(start, capacity - len(rows))
    return start._replace(
        ring=ring_of(np.concatenate([kept, rows]), total, capacity),
        appended=np.asarray(total, np.int64),
        drawn=np.asarray(drawn, np.uint64),
    )
