"""When a run stops by itself, and its error message."""

import logging
from typing import Any

import pytest

from streaming_nn.errors import TooManyRejectedError, TooManySkippedError
from streaming_nn.nn.learner import Counts
from streaming_nn.records.schema import Schema
from streaming_nn.settings import Train
from streaming_nn.spark.rejected import DeadLetter
from streaming_nn.spark.train.circuit_breaker import CircuitBreaker
from streaming_nn.spark.train.micro_batch import Learned
from streaming_nn.versions.version import Manifest

pytestmark = pytest.mark.commit

SCHEMA = Schema(3, (0, 1))
HEAD = Manifest(7)
FIRST = Manifest(0, kind="initial")
FRAMED = b'\0\0\0\0\2{"features":[1,2,3],"label":1}'


def learned(
    received: int, rejected: int = 0, skipped: int = 0, filtered: int = 0, value: bytes | None = None
) -> Learned:
    counts = Counts(received, received - rejected - skipped - filtered, skipped, rejected, filtered)
    state: Any = None
    letter = DeadLetter("not JSON", "", "", "t", 0, 0, None, value, None)
    return Learned(state, counts, {"not JSON": rejected} if rejected else {}, [letter] * rejected, 0.1)


def test_a_share_is_checked_over_a_hundred_records() -> None:
    breaker = CircuitBreaker(Train(max_rejected=0.5))
    for _ in range(99):
        breaker.check(learned(1, rejected=1), SCHEMA, HEAD)
    with pytest.raises(TooManyRejectedError) as caught:
        breaker.check(learned(1, rejected=1), SCHEMA, HEAD)
    assert str(caught.value) == (
        "100 of 100 records cannot be learned, more than train.max_rejected = 0.5 allows: 1 not JSON. "
        "Nothing of this batch is learned or lost; version 7 is the last one"
    )


def test_a_checked_share_is_forgotten() -> None:
    breaker = CircuitBreaker(Train(max_rejected=0.5))
    for _ in range(5):
        breaker.check(learned(100, rejected=50), SCHEMA, HEAD)
    with pytest.raises(TooManyRejectedError, match=r"^51 of 100 records"):
        breaker.check(learned(100, rejected=51), SCHEMA, HEAD)


def test_the_share_is_of_the_records_that_are_not_filtered() -> None:
    breaker = CircuitBreaker(Train(max_rejected=0.5))
    breaker.check(learned(1000, rejected=50, filtered=900), SCHEMA, HEAD)
    with pytest.raises(TooManyRejectedError, match=r"^51 of 100 records"):
        breaker.check(learned(1000, rejected=51, filtered=900), SCHEMA, HEAD)


def test_consecutive_micro_batches_without_a_finite_step_stop_the_run() -> None:
    breaker = CircuitBreaker(Train(max_skipped_batches=3))
    for micro_batch in (learned(9, skipped=9), learned(9, skipped=9), learned(9, skipped=8), learned(0)):
        breaker.check(micro_batch, SCHEMA, HEAD)
    for _ in range(2):
        breaker.check(learned(9, skipped=9), SCHEMA, HEAD)
    with pytest.raises(TooManySkippedError, match=r"no step was finite in 3 consecutive micro-batches"):
        breaker.check(learned(9, skipped=9), SCHEMA, HEAD)


def test_the_error_shows_a_record_and_the_settings_that_read_it() -> None:
    with pytest.raises(TooManyRejectedError) as caught:
        CircuitBreaker(Train()).check(learned(300, rejected=300, value=FRAMED), SCHEMA, FIRST)
    _, first, last = str(caught.value).splitlines()
    assert first == f"  the first: {FRAMED!r}"
    assert last == '  with records.framing = "confluent", 300 of 300 would be read'
    with pytest.raises(TooManyRejectedError, match=r'"confluent" in a new model directory, 300 of 300'):
        CircuitBreaker(Train()).check(learned(300, rejected=300, value=FRAMED), SCHEMA, HEAD)


def test_a_model_s_first_records_that_are_all_rejected_are_explained(caplog: Any) -> None:
    breaker = CircuitBreaker(Train())
    for micro_batch, head in (
        (learned(9, 9, value=FRAMED), HEAD),
        (learned(9, 8), FIRST),
        (learned(0), FIRST),
    ):
        breaker.check(micro_batch, SCHEMA, head)
    assert not caplog.messages
    caplog.set_level(logging.WARNING)
    breaker.check(learned(9, 9, value=FRAMED), SCHEMA, FIRST)
    (message,) = caplog.messages
    assert message.splitlines()[0] == "none of the first records can be learned: 9 not JSON"
    assert message.endswith('with records.framing = "confluent", 9 of 9 would be read')
