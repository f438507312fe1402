import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_nn.nn import averaging
from streaming_nn.nn.optimizers import Adam

pytestmark = pytest.mark.commit


@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(0, 40))
def test_rows_of_tasks_are_interleaved(counts: list[int], last: int) -> None:
    order = averaging.interleave(counts, last)
    whole = sorted((((j + 0.5) / n, task, j) for task, n in enumerate(counts) for j in range(n)))
    assert [tuple(row) for row in order] == [(task, j) for _, task, j in whole][len(whole) - len(order) :]
    assert len(order) == min(last, sum(counts))


def test_powers_are_averaged_by_the_number_of_steps() -> None:
    adam, rng = Adam(0.01), np.random.default_rng(0)
    theta = rng.normal(size=(2, 5)).astype(np.float32)

    def after(steps: int) -> object:
        state, at = adam.init(theta), theta
        for _ in range(steps):
            at, state = adam.update(state, rng.normal(size=theta.shape).astype(np.float32), at)
        return state

    parts = [after(10), after(30)]
    merged = averaging.average_states(parts, averaging.shares([1, 3]))  # type: ignore[type-var]
    np.testing.assert_allclose(merged.power1, 0.9**25)  # 1/4 of 10 and 3/4 of 30 steps
    np.testing.assert_allclose(merged.m, 0.25 * parts[0].m + 0.75 * parts[1].m, rtol=1e-6)
    assert merged.m.dtype == np.float32


def test_no_rows_share_evenly() -> None:
    np.testing.assert_array_equal(averaging.shares([0, 0]), [0.5, 0.5])
