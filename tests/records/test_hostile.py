"""Whatever a record's bytes are: it is learned, rejected with a reason, or filtered, in every format."""

from typing import Any

import pytest
from hostile import corpus
from numpy.testing import assert_array_equal

from streaming_nn.records import reasons
from streaming_nn.records.decode import Decoded, decode
from streaming_nn.records.schema import Schema

pytestmark = pytest.mark.commit

VALUES = [record.value for record in corpus()]
SCHEMAS: dict[str, dict[str, Any]] = {
    "json": {},
    "json, missing": {"missing": True, "numbers_as_strings": True},
    "json, named": {"features": ("a", "b.c", "features"), "missing": True},
    "json, categories": {"features": ("a", "features"), "categories": {"features": {"hash": 2}}},
    "json, target": {"classes": None},
    "json, growing": {"classes": (), "grow": True},
    "packed": {"format": "packed"},
    "csv": {"format": "csv"},
    "csv, named": {"format": "csv", "features": ("a", "b", "c")},
}


def positions(decoded: Decoded) -> list[int]:
    rejected = [rejection.position for rejection in decoded.rejected]
    return sorted([*decoded.kept, *rejected, *decoded.waiting, *decoded.filtered])


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("name", SCHEMAS)
def test_each_record_ends_in_one_way(name: str, labeled: bool) -> None:
    schema = Schema(**{"inputs": 3, "classes": (0, 1), **SCHEMAS[name]})
    decoded = decode(schema, VALUES, labeled)
    assert positions(decoded) == list(range(len(VALUES)))
    assert len(decoded.filtered) >= VALUES.count(None)
    for rejection in decoded.rejected:
        assert rejection.reason
        for text in (rejection.reason, rejection.field, rejection.value, reasons.key(rejection)):
            assert text.isprintable(), "it is part of a line"
            assert len(text) < 200


def test_two_hundred_records_of_each_kind() -> None:
    decoded = decode(Schema(3, (0, 1)), VALUES, labeled=True)
    assert len(VALUES) == 200
    assert len(decoded.kept) > 20
    assert len({reasons.key(rejection) for rejection in decoded.rejected}) > 15


def test_a_record_is_decoded_alone_as_among_others() -> None:
    schema = Schema(3, (0, 1))
    together = decode(schema, VALUES, labeled=True)
    alone = [decode(schema, [value], labeled=True) for value in VALUES]
    assert [i for i, each in enumerate(alone) if len(each.kept)] == together.kept.tolist()
    assert_array_equal(together.x, [each.x[0] for each in alone if len(each.kept)])
    found = [each.rejected[0]._replace(position=i) for i, each in enumerate(alone) if each.rejected]
    assert found == together.rejected
