"""When a run stops by itself, and what the error says."""

from typing import Any

import pytest

from streaming_nn.errors import TooManyRejectedError, TooManySkippedError
from streaming_nn.nn.learner import Counts
from streaming_nn.settings import Train
from streaming_nn.spark.train.circuit_breaker import CircuitBreaker
from streaming_nn.spark.train.micro_batch import Learned

pytestmark = pytest.mark.commit


def learned(received: int, rejected: int = 0, skipped: int = 0, filtered: int = 0) -> Learned:
    counts = Counts(received, received - rejected - skipped - filtered, skipped, rejected, filtered)
    state: Any = None
    return Learned(state, counts, {"not JSON": rejected} if rejected else {}, [], 0.1)


def test_a_share_is_checked_over_a_hundred_records() -> None:
    breaker = CircuitBreaker(Train(max_rejected=0.5))
    for _ in range(99):
        breaker.check(learned(1, rejected=1), 7)
    with pytest.raises(TooManyRejectedError) as caught:
        breaker.check(learned(1, rejected=1), 7)
    assert str(caught.value) == (
        "100 of 100 records cannot be learned (not JSON: 1), more than train.max_rejected = 0.5 allows: is "
        "the schema right? Nothing of this batch is learned or lost; version 7 is the last one"
    )


def test_a_checked_share_is_forgotten() -> None:
    breaker = CircuitBreaker(Train(max_rejected=0.5))
    for _ in range(5):
        breaker.check(learned(100, rejected=50), 7)
    with pytest.raises(TooManyRejectedError, match=r"^51 of 100 records"):
        breaker.check(learned(100, rejected=51), 7)


def test_the_share_is_of_the_records_that_are_not_filtered() -> None:
    breaker = CircuitBreaker(Train(max_rejected=0.5))
    breaker.check(learned(1000, rejected=50, filtered=900), 7)
    with pytest.raises(TooManyRejectedError, match=r"^51 of 100 records"):
        breaker.check(learned(1000, rejected=51, filtered=900), 7)


def test_consecutive_micro_batches_without_a_finite_step_stop_the_run() -> None:
    breaker = CircuitBreaker(Train(max_skipped_batches=3))
    for micro_batch in (learned(9, skipped=9), learned(9, skipped=9), learned(9, skipped=8), learned(0)):
        breaker.check(micro_batch, 7)
    for _ in range(2):
        breaker.check(learned(9, skipped=9), 7)
    with pytest.raises(TooManySkippedError, match=r"no step was finite in 3 consecutive micro-batches"):
        breaker.check(learned(9, skipped=9), 7)
