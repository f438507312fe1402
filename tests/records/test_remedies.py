"""Settings that are tried on records that were rejected."""

import json

import pytest

from streaming_nn.records.decode import decode
from streaming_nn.records.remedies import Sample, apply, fields_of, guesses, has_ambiguous_marks
from streaming_nn.records.schema import Schema

pytestmark = pytest.mark.commit

NAMED = Schema(2, (0, 1), ("price", "size"))


def sample_of(schema, *records, labeled=True):
    blobs = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    return Sample(schema, blobs, decode(schema, blobs, labeled).rejected, labeled)


def test_settings_are_applied_as_the_settings_file_has_them():
    assert apply(NAMED, {"framing": "gzip"}).framing == "gzip"
    assert apply(NAMED, {"classes": "grow"}) == Schema(2, (), ("price", "size"), grow=True)
    assert apply(NAMED, {"regression": True}) == Schema(2, None, ("price", "size"))
    assert apply(NAMED, {"features": ["a", "b", "c"]}).inputs == 3
    grown = apply(NAMED, {"categories": {"size": {"one_hot": 4}}})
    assert (grown.inputs, grown.vocabulary) == (5, {"size": ()})
    with pytest.raises(ValueError, match="csv_columns need format 'csv'"):
        apply(NAMED, {"csv_columns": ["price", "size", "label"]})


def test_fields_are_found_in_objects_of_objects():
    record = {"a": {"b.c": 1, "d": [1, 2]}, "": 2, "e": {}}
    assert fields_of(record) == {'a."b.c"': 1, "a.d": [1, 2]}
    deep: dict = {}
    for _ in range(50):
        deep = {"x": deep}
    assert len(fields_of(deep)) == 1


def test_every_guess_is_a_setting_that_may_be_tried():
    sample = sample_of(NAMED, {"Price": "1", "payload": {"after": {"size": "x"}, "op": "c"}}, b"\0\0\0\0\1{}")
    found = list(guesses(sample))
    assert {"framing": "confluent"} in found
    assert {"features": ["Price", "payload.after.size"]} in found
    assert all(isinstance(guess, dict) and guess for guess in found)


def test_what_a_format_alone_has_is_reset():
    lines = Schema(1, (0, 1), ("a",), format="csv", csv_columns=("a", "label"))
    assert {"format": "json", "csv_columns": ()} in list(guesses(sample_of(lines, {"a": 1, "label": 0})))


@pytest.mark.parametrize(
    ("texts", "ambiguous"),
    [
        (["1,234"], True),
        (["1,234", "5"], True),
        (["1,2345"], False),
        (["1,234", "0,5"], False),
        (["12"], False),
    ],
)
def test_a_comma_before_three_digits_may_be_either_mark(texts, ambiguous):
    sample = sample_of(NAMED, *({"price": text, "size": 1, "label": 0} for text in texts))
    assert has_ambiguous_marks(sample) is ambiguous
