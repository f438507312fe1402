"""The number of columns and the classes are inferred by majority, never from a single record."""

import json

import numpy as np
import pytest
from record_values import keys_of

from streaming_nn.records.decode import decode, encode
from streaming_nn.records.infer_schema import infer_schema
from streaming_nn.records.schema import Schema

pytestmark = pytest.mark.commit

DIGITS = Schema(3, (0, 1, 2))
PACKED = Schema(3, (0, 1, 2), format="packed")
NONE = "cannot infer the schema: none of {} records could be decoded as json with features 'features'"


def test_infer_schema_counts_columns_and_accepts_missing_values():
    values = [b'{"a":null,"b":"x","label":0}', b'{"a":1,"label":0}', b'{"a":1,"b":[],"label":1}']
    options = {"features": ["a", "b"], "categories": {"b": {"hash": 5}}}
    inferred = infer_schema(values, **options, missing=True, grow=True)
    assert (inferred.inputs, inferred.classes, inferred.records) == (6, (0,), 2)
    with pytest.raises(ValueError, match="none of 3 records could be decoded as json"):
        infer_schema(values, **options)
    assert infer_schema([b'{"features":[1]}'], grow=True).classes == ()
    assert (
        infer_schema([b'{"t":{"a":1}}'], features="t", categories={"t": {"hash": 5}}, label=None).inputs == 5
    )


def test_infer_schema_takes_the_majority():
    x, y = np.ones((100, 3), np.float32), np.arange(100) % 3
    values = [
        *encode(DIGITS, x, y),
        b"no",
        b'{"features":[1,2],"label":1}',
        b'{"features":[1,2,3],"label":"?"}',
    ]
    inferred = infer_schema(values)
    assert (inferred.inputs, inferred.classes, inferred.records) == (3, (0, 1, 2), 102)
    assert inferred.remarks == (
        "2 columns in 1 of 102 records",
        "1 of 103 records cannot be decoded: 1 not JSON",
        "label is a string in 1 records: not a class",
    )
    assert infer_schema(values, regression=True).classes is None
    assert infer_schema(encode(PACKED, x, y), format="packed")[:2] == (3, (0, 1, 2))
    named = Schema(2, ("n", "y"), features=("a", "b.c"), label="b.l")
    inferred = infer_schema(encode(named, x[:, :2], y % 2), features=["a", "b.c"], label="b.l")
    assert (inferred.inputs, inferred.classes) == (2, ("n", "y"))
    assert infer_schema(encode(Schema(3, label=None), x), label=None)[:2] == (3, None)


def test_infer_schema_remarks_only_labels_that_never_become_a_growing_class():
    labels = ["a", "a", "a", 1, True, 1.5]
    values = [b'{"features":[1],"label":%s}' % json.dumps(label).encode() for label in labels]
    inferred = infer_schema(values, grow=True)
    assert (inferred.classes, inferred.remarks) == (
        ("a",),
        ("label is a number with a fraction in 1 records: not a class",),
    )
    decoded = decode(Schema(1, inferred.classes, grow=True), values, labeled=True)
    assert decoded.unseen == {"label": (1, True)}
    assert keys_of(decoded.rejected) == [(5, "label not in classes: 1.5")]


def test_labels_that_are_written_alike_are_no_remark_if_strings_are_read():
    values = [b'{"features":[1],"label":%s}' % label for label in (b"0", b"1", b"1", b'"1"', b"1.0", b'"x"')]
    inferred = infer_schema(values, numbers_as_strings=True)
    assert (inferred.classes, inferred.remarks) == ((0, 1), ("label is a string in 1 records: not a class",))
    assert infer_schema(values).remarks == ("label is a string in 2 records: not a class",)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (
            [b"no", b"{}"],
            f"{NONE.format(2)}: 1 not JSON, 1 field missing: features\n  the first: b'no'",
        ),
        ([], NONE.format(0)),
        (
            [b'{"features":[1],"label":1.5}'] * 2,
            "label 'label' has numbers such as 1.5: set regression, or the classes",
        ),
        (
            [b'{"features":[1]}'],
            "no record has a label in 'label'; set the label's field, or none\n"
            "  the first: b'{\"features\":[1]}'\n  its fields are features",
        ),
        ([b'{"features":[1],"label":1}'], "label 'label' has 1 distinct values in 1 records: set classes"),
    ],
)
def test_infer_schema_raises_for_records_without_a_schema(values, error):
    with pytest.raises(ValueError) as raised:
        infer_schema(values)
    assert str(raised.value) == error
