"""The latest rows, kept to be learned again: a ring, and the few rows that came last, not yet in the ring.

Appending must not change the buffer that came in. A copy of the whole ring for each mini-batch could cost as
much as learning it, so new rows are first kept in `fresh`, and the ring is copied once for many of them.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn.averaging import interleave

Array = NDArray[Any]
FRESH = 64  # rows kept before the ring is copied
GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / golden ratio


class ReplayBuffer(NamedTuple):
    """Row number i (from 0) has slot i % capacity; the newest row of a slot is kept."""

    ring: NDArray[np.float32]  # (capacity, columns)
    fresh: NDArray[np.float32]  # (at most FRESH, columns) rows number `moved` up to `rows`
    moved: NDArray[np.int64]  # () rows copied into the ring
    rows: NDArray[np.int64]  # () rows appended
    draws: NDArray[np.uint64]  # () rows drawn: the state of the random draws


def init(capacity: int, columns: int) -> ReplayBuffer:
    """Return a buffer without rows."""
    ring = np.zeros((capacity, columns), np.float32)
    fresh = np.zeros((min(FRESH, capacity), columns), np.float32)
    return ReplayBuffer(ring, fresh, np.zeros((), np.int64), np.zeros((), np.int64), np.zeros((), np.uint64))


def append(buffer: ReplayBuffer, block: Array, owned: bool = False) -> ReplayBuffer:
    """Add the rows of block (rows, columns); each replaces the oldest.

    With `owned`, nobody else uses the ring that came in: it is overwritten.
    """
    moved, total = int(buffer.moved), int(buffer.rows) + len(block)
    waiting = int(buffer.rows) - moved
    if waiting + len(block) <= len(buffer.fresh):
        fresh = buffer.fresh.copy()
        fresh[waiting : waiting + len(block)] = block
        return buffer._replace(fresh=fresh, rows=np.asarray(total))
    ring, capacity = buffer.ring if owned else buffer.ring.copy(), len(buffer.ring)
    latest = np.concatenate([buffer.fresh[:waiting], block])[-capacity:]
    ring[np.arange(total - len(latest), total) % capacity] = latest
    return buffer._replace(ring=ring, moved=np.asarray(total), rows=np.asarray(total))


def rearrange(
    buffer: ReplayBuffer, capacity: int, columns: int, change: Callable[[Array], Array]
) -> ReplayBuffer:
    """Return the buffer with its rows changed to (rows, columns), and the last `capacity` of them kept."""
    rows = latest(buffer, capacity)
    empty, total = init(capacity, columns), int(buffer.rows)
    empty.ring[np.arange(total - len(rows), total) % capacity] = change(rows)
    return empty._replace(moved=buffer.rows, rows=buffer.rows, draws=buffer.draws)


def latest(buffer: ReplayBuffer, count: int) -> Array:
    """Return the last `count` rows appended, oldest first; at most those that are kept."""
    rows, moved, capacity = int(buffer.rows), int(buffer.moved), len(buffer.ring)
    numbers = np.arange(rows - min(count, rows, capacity), rows)
    block = buffer.ring[numbers % capacity]
    late = numbers >= moved
    block[late] = buffer.fresh[numbers[late] - moved]
    return block


def merge(start: ReplayBuffer, parts: Sequence[ReplayBuffer]) -> ReplayBuffer:
    """Append the rows that tasks have appended to a common start, as if they had come interleaved."""
    counts = [int(part.rows - start.rows) for part in parts]
    order = interleave(counts, len(start.ring))
    blocks = [latest(part, count) for part, count in zip(parts, counts, strict=True)]
    rows = np.empty((len(order), start.ring.shape[1]), np.float32)
    for task, block in enumerate(blocks):
        mine = order[:, 0] == task
        rows[mine] = block[order[mine, 1] - (counts[task] - len(block))]
    begin = np.asarray(start.rows + sum(counts) - len(order))  # rows that later ones replace are counted
    buffer = start._replace(rows=begin, moved=begin) if begin > start.rows else start
    draws = start.draws + sum((part.draws - start.draws for part in parts), np.uint64(0))
    return append(buffer, rows)._replace(draws=np.asarray(draws, np.uint64))


def draw(buffer: ReplayBuffer, count: int) -> tuple[Array, ReplayBuffer]:
    """Draw `count` rows, or as many as there are, evenly from all that are kept; a row may be drawn twice.

    Slots follow the multiples of the golden ratio (Weyl's sequence): any run of draws covers the buffer more
    evenly than independent ones, and a counter is the whole random state.
    """
    capacity, moved, rows = len(buffer.ring), int(buffer.moved), int(buffer.rows)
    kept = min(rows, capacity)
    count = min(count, kept)
    draws = int(buffer.draws)
    turns = _turns(count) + (draws * GOLDEN) % 2**64
    turns >>= 32
    turns *= kept
    turns >>= 32
    slots = turns.astype(np.intp)
    drawn = buffer.ring.take(slots, axis=0)
    if rows > moved:
        waiting = (slots - moved) % capacity  # index in `fresh` of a slot's newest row, if it is there
        late = waiting < rows - moved
        if np.count_nonzero(late):
            drawn[late] = buffer.fresh[waiting[late]]
    return drawn, buffer._replace(draws=np.asarray((draws + count) % 2**64, np.uint64))


@lru_cache(8)
def _turns(count: int) -> NDArray[np.uint64]:
    turns = np.arange(count, dtype=np.uint64) * np.uint64(GOLDEN)
    turns.flags.writeable = False
    return turns
