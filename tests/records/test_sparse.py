"""Fields that are 0 where a record lacks them, as words are in a bag of words."""

import json

import numpy as np
import pytest

from streaming_nn.records.decode import decode
from streaming_nn.records.schema import Schema

pytestmark = pytest.mark.commit


def records(*rows: object) -> list[bytes]:
    return [json.dumps(row).encode() for row in rows]


@pytest.mark.parametrize("missing", [False, True])
def test_an_absent_field_is_0_if_it_is_sparse(missing: bool) -> None:
    schema = Schema(3, None, ("a", "b", "c.d"), missing=missing, sparse=("b", "c.d"))
    rows = records({"a": 1}, {"a": 2, "b": 3}, {"a": 4, "c": {"d": 5}, "b": 6}, {"a": 7, "c": {}})
    decoded = decode(schema, rows, labeled=False)
    assert decoded.x.tolist() == [[1, 0, 0], [2, 3, 0], [4, 6, 5], [7, 0, 0]]
    assert not decoded.rejected


def test_a_null_is_a_missing_value_in_a_sparse_field_too() -> None:
    row = records({"a": 1, "b": None})
    assert len(decode(Schema(2, None, ("a", "b"), sparse=("b",)), row, labeled=False).rejected) == 1
    allowed = decode(Schema(2, None, ("a", "b"), sparse=("b",), missing=True), row, labeled=False)
    assert np.isnan(allowed.x[0, 1])


def test_a_record_with_none_of_the_fields_is_rejected() -> None:
    schema = Schema(2, None, ("a", "b"), sparse=("a", "b"))
    (rejected,) = decode(schema, records({"other": 1}), labeled=False).rejected
    assert rejected.reason == "no feature field"


def test_a_field_that_is_not_sparse_is_still_required() -> None:
    schema = Schema(2, None, ("a", "b"), sparse=("b",))
    (rejected,) = decode(schema, records({"b": 1}), labeled=False).rejected
    assert (rejected.reason, rejected.field) == ("field missing", "a")


def test_sparse_numbers_stand_beside_categories() -> None:
    schema = Schema(
        3,
        None,
        ("word", "city"),
        missing=True,
        sparse=("word",),
        categories={"city": {"one_hot": 2}},
        vocabulary={"city": ("Bern",)},
    )
    decoded = decode(schema, records({"city": "Bern"}, {"word": 2}), labeled=False)
    assert decoded.x.tolist() == [[0, 1, 0], [2, 0, 0]]
