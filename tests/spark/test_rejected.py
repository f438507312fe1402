"""Rejected records: what of them is kept, cut and counted."""

from collections import Counter

import pytest

from streaming_nn.nn.learner import Counts
from streaming_nn.spark.rejected import (
    MAX_REASONS,
    OTHER,
    DeadLetter,
    add_not_learned,
    count_reason,
    cut,
    pack_dead_letters,
    size,
    sum_reasons,
    unpack_dead_letters,
)

pytestmark = pytest.mark.commit

HEADERS = '[{"key":"a","value":"eA=="}]'  # 28 bytes


def letter(key: bytes | None = b"k" * 40, value: bytes | None = b"v" * 400) -> DeadLetter:
    return DeadLetter("not a number", "price", "'x'", "t", 1, 7, key, value, HEADERS)


def test_a_dead_letter_that_fits_is_unchanged() -> None:
    assert size(letter()) == 468
    assert cut(letter(), 468) == letter()


@pytest.mark.parametrize("budget", [467, 200, 112, 111, 50, 3, 1, 0, -1])
def test_a_dead_letter_is_cut_to_what_fits(budget: int) -> None:
    less = cut(letter(), budget)
    assert size(less) <= max(budget, 0)
    assert less[:6] == letter()[:6], "its reason and place are whole"
    assert letter().value.startswith(less.value)  # type: ignore[union-attr, arg-type]
    assert letter().key.startswith(less.key)  # type: ignore[union-attr, arg-type]
    assert less.headers in (HEADERS, None)
    names = ["key"] * (budget < 160) + ["headers"] * (budget < 112) + ["value"]
    assert less.cut == ", ".join(names)


def test_a_null_stays_null_and_is_not_cut() -> None:
    less = cut(letter(None, b"v" * 400), 200)
    assert (less.key, less.cut) == (None, "value")
    assert cut(DeadLetter("r", "", "", "t", 0, 0, None, None, None), 0).cut == ""


def test_what_was_cut_once_stays_so() -> None:
    first = cut(letter(b"k" * 400, b"v" * 40), 200)
    assert first.cut == "key"
    assert cut(first, 60).cut == "key, headers"


def test_dead_letters_are_packed_as_they_are() -> None:
    letters = [letter(), cut(letter(None), 100), letter(b"", None)]
    assert unpack_dead_letters(pack_dead_letters(letters)) == letters


def test_reasons_are_bounded() -> None:
    counts: Counter[str] = Counter()
    for label in range(1000):
        count_reason(counts, f"label not in classes: {label}")
        count_reason(counts, "not JSON")
    assert len(counts) == MAX_REASONS
    assert counts["not JSON"] == 1000
    assert counts[OTHER] == 1000 - (MAX_REASONS - 2)
    assert sum_reasons([counts, counts, {"new": 1}]) == {
        name: 2 * n + (name == OTHER) for name, n in counts.items()
    }


def test_received_is_the_sum() -> None:
    counts = add_not_learned(Counts(10, 8, 2), {"a": 3, "b: x": 4}, 5)
    assert counts == Counts(received=22, trained=8, skipped=2, rejected=7, filtered=5)
