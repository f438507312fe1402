"""The benchmark of sparse rows runs, and its entries are its arrays."""

import numpy as np
import pytest
from running import short_line

from benchmarks import sparse


@pytest.mark.commit
def test_entries_are_those_of_the_arrays() -> None:
    words = sparse.hashed_words(40, 100, units=True)
    dense = np.zeros_like(words.x)
    dense[np.repeat(np.arange(100), np.diff(words.entries.starts)), words.entries.indices] = (
        words.entries.values
    )
    assert np.array_equal(dense, words.x)
    assert 0.3 < words.y.mean() < 0.7


@pytest.mark.merge
def test_the_short_form_has_every_case() -> None:
    cases = short_line("sparse")["cases"]
    assert [(case["learner"], case["scale"]) for case in cases] == [
        (name, scale) for name in sparse.LEARNERS for scale in sparse.SCALES
    ]
    assert all(case["learn"] > 0 and 0 < case["log_loss"] < 2 for case in cases)
