"""Which mini-batch is chosen for a stream of some rate, on a machine of some speed."""

import pytest

from streaming_nn.spark.train.batch_size import HIGH_LOAD, LOW_LOAD, BatchSizeController, initial_size

pytestmark = pytest.mark.commit


def settle(
    controller: BatchSizeController, rate: float, step: float, row: float, batches: int = 40
) -> list[int]:
    """Feed a stream of `rate` records per second to a machine on which a step costs `step + row * size`."""
    sizes = []
    for _ in range(batches):
        records = rate * 0.5
        seconds = records / controller.size * (step + row * controller.size)
        sizes.append(controller.update(round(records), seconds, 0.5, behind=False))
    return sizes


@pytest.mark.parametrize(
    ("rate", "size"), [(500, 1), (1_000, 1), (3_000, 4), (10_000, 16), (30_000, 32), (1e6, 32)]
)
def test_the_smallest_size_that_keeps_up_is_chosen(rate: float, size: int) -> None:
    step, row = 200e-6, 10e-6  # about those of an ensemble
    controller = BatchSizeController(32, 32)
    sizes = settle(controller, rate, step, row)
    assert sizes[-1] == size
    assert len(set(sizes[10:])) == 1, "it does not oscillate"
    share = rate / size * (step + row * size)
    assert share <= HIGH_LOAD or size == controller.cap
    assert size == 1 or 2 * share >= LOW_LOAD  # half the size might not keep up


def test_a_backlog_is_learned_at_the_cap_and_forgotten() -> None:
    controller = BatchSizeController(32, 1)
    assert controller.update(100_000, 20.0, 20.0, behind=True) == 32
    assert settle(controller, 500, 200e-6, 10e-6)[-1] == 1


def test_it_steps_up_before_it_falls_behind() -> None:
    controller = BatchSizeController(32, 32)
    settle(controller, 500, 200e-6, 10e-6)
    assert settle(controller, 4_000, 200e-6, 10e-6, 3)[0] > 1


def test_a_pause_moves_it_by_one_step_only() -> None:
    controller = BatchSizeController(32, 32)
    before = settle(controller, 10_000, 200e-6, 10e-6)[-1]
    assert controller.update(100, 0.002, 10.0, behind=False) == before // 2
    assert settle(controller, 10_000, 200e-6, 10e-6)[-1] in (before // 2, before)


def test_a_cap_need_not_be_a_power_of_two() -> None:
    assert BatchSizeController(100, 100).update(1_000, 1e-6, 1.0, behind=False) == 64
    assert BatchSizeController(100, 64).update(1_000, 1_000.0, 1.0, behind=False) == 100


@pytest.mark.parametrize(
    ("rows", "cap", "size"), [(0, 32, 1), (2_000, 32, 1), (2_001, 32, 2), (9_000, 32, 8)]
)
def test_a_small_first_micro_batch_is_learned_in_small_steps(rows: int, cap: int, size: int) -> None:
    assert initial_size(rows, cap) == size
    assert initial_size(10**9, 32) == 32
    assert initial_size(10**9, 20) == 20
