from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_nn.nn import replay_buffer
from streaming_nn.nn.averaging import interleave
from streaming_nn.nn.replay_buffer import FRESH, ReplayBuffer

pytestmark = pytest.mark.commit


def numbered(start: int, count: int) -> np.ndarray:
    """Return rows that hold their number."""
    return np.stack([np.arange(start, start + count), -np.arange(start, start + count)], 1).astype(np.float32)


def filled(capacity: int, blocks: list[int]) -> ReplayBuffer:
    kept = replay_buffer.init(capacity, 2)
    for count in blocks:
        kept = replay_buffer.append(kept, numbered(int(kept.rows), count))
    return kept


@settings(max_examples=100, deadline=None)
@given(
    capacity=st.sampled_from([1, 5, FRESH, 150]),
    blocks=st.lists(st.integers(0, 200), max_size=12),
    count=st.integers(1, 300),
)
def test_draws_are_those_of_one_plain_ring(capacity: int, blocks: list[int], count: int) -> None:
    kept = filled(capacity, blocks)
    ring: dict[int, int] = {number % capacity: number for number in range(sum(blocks))}
    turns = range(7, 7 + min(count, len(ring)))
    slots = [((turn * 0x9E3779B97F4A7C15 % 2**64) >> 32) * len(ring) >> 32 for turn in turns]
    drawn, after = replay_buffer.draw(kept._replace(draws=np.asarray(np.uint64(7))), count)
    assert drawn[:, 0].tolist() == [ring[slot] for slot in slots]
    assert (drawn[:, 1] == -drawn[:, 0]).all()
    assert int(after.draws) == 7 + len(slots)
    assert int(after.rows) == sum(blocks)


def test_draws_come_evenly() -> None:
    kept = filled(100, [250])
    drawn, _ = replay_buffer.draw(kept, 100)
    numbers, times = np.unique(drawn[:, 0], return_counts=True)
    assert numbers.min() >= 150
    assert len(numbers) > 80  # of independent draws, 63 would be expected
    assert times.max() <= 2


def test_an_owned_ring_is_overwritten_with_the_same_rows() -> None:
    kept = filled(100, [90])
    copied = replay_buffer.append(kept, numbered(90, FRESH + 1))
    assert copied.ring is not kept.ring
    assert replay_buffer.append(kept, numbered(90, FRESH + 1), owned=True).ring is kept.ring
    assert copied.ring.tolist() == kept.ring.tolist()


@pytest.mark.parametrize("count", [1, FRESH + 1])
def test_nothing_that_came_in_is_changed(count: int) -> None:
    kept = filled(100, [90])
    before: list[Any] = [array.tolist() for array in kept]
    replay_buffer.append(kept, numbered(90, count))
    replay_buffer.draw(kept, 10)[0][:] = 0
    assert [array.tolist() for array in kept] == before


def test_dtypes_stay() -> None:
    first = replay_buffer.init(100, 2)
    later = replay_buffer.draw(filled(100, [90, 3]), 5)[1]
    assert [array.dtype for array in later] == [array.dtype for array in first]
    assert [array.shape for array in later] == [array.shape for array in first]


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.sampled_from([1, 5, FRESH, 150]),
    before=st.integers(0, 200),
    rows=st.lists(st.lists(st.integers(0, 90), max_size=3), min_size=1, max_size=4),
)
def test_rows_that_tasks_appended_are_interleaved(capacity: int, before: int, rows: list[list[int]]) -> None:
    start = filled(capacity, [before])
    parts = []
    for task, blocks in enumerate(rows):
        part = start
        for count in blocks:
            part = replay_buffer.append(part, numbered(1000 * (task + 1) + int(part.rows) - before, count))
        parts.append(part)
    merged = replay_buffer.merge(start, parts)
    order = interleave([sum(blocks) for blocks in rows], 1000)
    expected = [*range(before), *(1000 * (task + 1) + row for task, row in order)][-capacity:]
    assert replay_buffer.latest(merged, capacity)[:, 0].tolist() == expected
    assert int(merged.rows) == before + sum(map(sum, rows))
