import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_nn.core.ensemble import Ensemble, EnsembleState, MemberOptions
from streaming_nn.core.networks import Shape
from streaming_nn.nn import replay_buffer
from streaming_nn.nn.averaging import interleave

pytestmark = pytest.mark.commit

CAPACITIES = st.sampled_from([1, 5, 64, 150])


def keeping(capacity: int) -> Ensemble:
    member = MemberOptions(Shape((2, 1), loss="squared"), emphasis=1.0)
    return Ensemble((member,), 2, replay_rows=3, capacity=capacity)


def numbered(start: int, count: int) -> np.ndarray:
    """Return rows (number, its negative)."""
    return np.stack([np.arange(start, start + count), -np.arange(start, start + count)], 1).astype(np.float64)


def append(state: EnsembleState, x: np.ndarray) -> EnsembleState:
    """Return a state that has learned the rows too, with their half as target and their double as weight."""
    after = state.copy()
    model = keeping(len(state.ring)).bind(after)
    _, trained = model.learn(
        x, x[:, 0] / 2, np.abs(x[:, 0]).astype(np.float32) * 2, mini_batch=max(len(x), 1)
    )
    assert trained.all()
    return after


def filled(capacity: int, blocks: list[int]) -> EnsembleState:
    ensemble = keeping(capacity)
    state = ensemble.init(np.zeros(ensemble.shape.parameters, np.float32))
    for count in blocks:
        state = append(state, numbered(int(state.appended), count))
    return state


@settings(max_examples=40, deadline=None)
@given(
    capacity=CAPACITIES,
    blocks=st.lists(st.integers(0, 200), max_size=6),
    count=st.sampled_from([0, 1, 9, 300]),
)
def test_the_latest_rows_are_those_learned_last(capacity: int, blocks: list[int], count: int) -> None:
    state, total = filled(capacity, blocks), sum(blocks)
    kept = replay_buffer.latest(state, count)
    numbers = np.arange(total - min(count, total, capacity), total)
    assert kept.T.tolist() == [
        numbers.tolist(),
        (-numbers).tolist(),
        (numbers / 2).tolist(),
        (numbers * 2).tolist(),
    ]
    again = replay_buffer.ring_of(replay_buffer.latest(state, capacity), total, capacity)
    assert again.tobytes() == state.ring.tobytes()


def test_a_ring_of_fewer_rows_keeps_the_last() -> None:
    rows = numbered(10, 8)
    ring = replay_buffer.ring_of(rows, 18, 5)
    assert ring[:, 0].tolist() == [15, 16, 17, 13, 14]  # row i has slot i % 5
    assert replay_buffer.ring_of(rows, 18, 0).shape == (0, 2)
    assert replay_buffer.ring_of(rows[:0], 18, 3).tolist() == [[0, 0]] * 3


@settings(max_examples=40, deadline=None)
@given(
    capacity=CAPACITIES,
    before=st.integers(0, 200),
    rows=st.lists(st.lists(st.integers(0, 90), max_size=3), min_size=1, max_size=4),
)
def test_rows_that_tasks_appended_are_interleaved(capacity: int, before: int, rows: list[list[int]]) -> None:
    start = filled(capacity, [before])
    parts = []
    for task, blocks in enumerate(rows):
        part = start
        for count in blocks:
            part = append(part, numbered(1000 * (task + 1) + int(part.appended) - before, count))
        parts.append(part)
    merged = replay_buffer.merge(start, parts)
    order = interleave([sum(blocks) for blocks in rows], 1000)
    expected = [*range(before), *(1000 * (task + 1) + row for task, row in order)][-capacity:]
    kept = replay_buffer.latest(merged, capacity)
    assert kept[:, 0].tolist() == expected
    assert kept[:, 3].tolist() == [2 * number for number in expected]
    assert int(merged.appended) == before + sum(map(sum, rows))
    assert int(merged.drawn - start.drawn) == sum(int(part.drawn - start.drawn) for part in parts)


def test_merging_keeps_dtypes_and_shapes_and_changes_nothing_that_came_in() -> None:
    start = filled(20, [15])
    parts = [append(start, numbered(15, count)) for count in (4, 30)]
    before = [[array.tobytes() for array in state] for state in (start, *parts)]
    merged = replay_buffer.merge(start, parts)
    assert [array.dtype for array in merged] == [array.dtype for array in start]
    assert [array.shape for array in merged] == [array.shape for array in start]
    assert [[array.tobytes() for array in state] for state in (start, *parts)] == before
    keeping(20).bind(merged)  # it fits


def test_the_rows_drawn_are_counted_modulo_2_to_the_64() -> None:
    start = filled(20, [15])._replace(drawn=np.array(2**64 - 4, np.uint64))
    parts = [start._replace(drawn=np.array(drawn, np.uint64)) for drawn in (2**64 - 1, 5)]
    assert int(replay_buffer.merge(start, parts).drawn) == 8  # 3 and 9 more


def test_without_a_ring_there_is_nothing_to_merge() -> None:
    start = filled(0, [7])
    merged = replay_buffer.merge(start, [append(start, numbered(7, 3)), start])
    assert merged.ring.shape == (0, 4)
    assert int(merged.appended) == 0
    assert replay_buffer.latest(start, 9).shape == (0, 4)
