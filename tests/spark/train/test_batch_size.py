import pytest

from streaming_nn.spark.train.batch_size import FULL, ROOM, BatchSizeController, first


def settle(pace: BatchSizeController, rate: float, step: float, row: float, batches: int = 40) -> list[int]:
    """Feed a stream of `rate` records a second to a machine on which a step costs `step + row * size`."""
    sizes = []
    for _ in range(batches):
        records = rate * 0.5
        seconds = records / pace.size * (step + row * pace.size)
        sizes.append(pace.note(round(records), seconds, 0.5, behind=False))
    return sizes


@pytest.mark.parametrize(
    ("rate", "size"), [(500, 1), (1_000, 1), (3_000, 4), (10_000, 16), (30_000, 32), (1e6, 32)]
)
def test_the_smallest_that_keeps_up_is_taken(rate: float, size: int) -> None:
    step, row = 200e-6, 10e-6  # a ensemble's, about
    pace = BatchSizeController(32, 32)
    sizes = settle(pace, rate, step, row)
    assert sizes[-1] == size
    assert len(set(sizes[10:])) == 1  # it comes to rest
    share = rate / size * (step + row * size)
    assert share <= FULL or size == pace.cap
    assert size == 1 or 2 * share >= ROOM  # half the size might not fit


def test_a_backlog_is_learned_at_the_cap_and_forgotten() -> None:
    pace = BatchSizeController(32, 1)
    assert pace.note(100_000, 20.0, 20.0, behind=True) == 32
    assert settle(pace, 500, 200e-6, 10e-6)[-1] == 1


def test_it_steps_up_before_it_falls_behind() -> None:
    pace = BatchSizeController(32, 32)
    settle(pace, 500, 200e-6, 10e-6)
    assert settle(pace, 4_000, 200e-6, 10e-6, 3)[0] > 1


def test_a_pause_moves_it_by_one_step_only() -> None:
    pace = BatchSizeController(32, 32)
    before = settle(pace, 10_000, 200e-6, 10e-6)[-1]
    assert pace.note(100, 0.002, 10.0, behind=False) == before // 2
    assert settle(pace, 10_000, 200e-6, 10e-6)[-1] in (before // 2, before)


def test_any_cap() -> None:
    assert (
        BatchSizeController(100, 100)._next(1e-9) == 64
        or BatchSizeController(100, 100, rate=1.0)._next(1e-9) == 64
    )
    pace = BatchSizeController(100, 64, rate=1.0)
    assert pace._next(1.0) == 100


@pytest.mark.parametrize(
    ("rows", "cap", "size"), [(0, 32, 1), (2_000, 32, 1), (2_001, 32, 2), (9_000, 32, 8)]
)
def test_a_first_micro_batch_is_learned_in_small_steps_where_it_is_small(
    rows: int, cap: int, size: int
) -> None:
    assert first(rows, cap) == size
    assert first(10**9, 32) == 32
    assert first(10**9, 20) == 20
