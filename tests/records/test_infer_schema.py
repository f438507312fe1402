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


def rows_of(**fields):
    """Return 40 records with these fields, lists in turns."""
    return [
        json.dumps({"features": [i, 1.5]} | {n: v[i % len(v)] for n, v in fields.items()}).encode()
        for i in range(40)
    ]


REGRESSION = {"regression": True}
MISSING = "target in 'label': 40 label missing: label"
WRONG = "target in 'label': 40 label not a number: label"
SEVERAL = {"regression": True, "label": ("a", "b")}


@pytest.mark.parametrize(
    ("fields", "options", "error", "remedy"),
    [
        ({"y": [0.5, 2]}, REGRESSION, MISSING, 'records.label = "y"'),
        ({"target": [3]}, REGRESSION, MISSING, 'records.label = "target"'),
        ({"Label": [0.5]}, REGRESSION, MISSING, 'records.label = "Label"'),
        (
            {"targets": [[1, 2.5]]},
            REGRESSION,
            MISSING,
            'records.label = ["targets.0", "targets.1"]',
        ),
        (
            {"label": [{"a.b": 1, "c": 2}]},
            REGRESSION,
            WRONG,
            'records.label = ["label.\\"a.b\\"", "label.c"]',
        ),
        ({"label": [[0.5]]}, REGRESSION, WRONG, 'records.label = "label.0"'),
        (
            {"label": ["1,5", "2"]},
            REGRESSION,
            WRONG,
            'records.numbers_as_strings = true and records.decimal = ","',
        ),
        (
            {"label": ["b", "a"]},
            REGRESSION,
            WRONG,
            'records.regression = false and records.classes = ["a", "b"]',
        ),
        (
            {"a": [1], "B": [2]},
            SEVERAL,
            "target in 'a', 'b': 40 label missing: b",
            'records.label = ["a", "B"]',
        ),
        (
            {"a": [1], "B": [0]},
            {"label": ("a", "b"), "multilabel": True},
            "label in 'a', 'b': 40 label missing: b",
            'records.label = ["a", "B"]',
        ),
        ({"tags": [["x"], []]}, {"multilabel": True}, "label in 'label'; set", 'records.label = "tags"'),
        (
            {"target": [0.5, 2]},
            {},
            "label in 'label'; set",
            'records.label = "target" and records.regression = true',
        ),
        (
            {"label": [[0.5, 2]]},
            {},
            "label in 'label'; set",
            'records.label = ["label.0", "label.1"] and records.regression = true',
        ),
    ],
)
def test_a_target_that_no_record_has_is_an_error_with_the_setting(fields, options, error, remedy):
    with pytest.raises(ValueError) as raised:
        infer_schema(rows_of(**fields), **options)
    first, _, last = str(raised.value).splitlines()
    assert first.startswith(f"no record has a {error}")
    assert last == f"  with {remedy}, 40 of 40 would be read"


def test_targets_may_be_integers_strings_or_missing_in_half_of_the_records():
    assert infer_schema(rows_of(label=[3, None]), regression=True).remarks == ()
    assert infer_schema(rows_of(a=[1], b=[0.5, True]), **SEVERAL).remarks == ()
    inferred = infer_schema(rows_of(label=[None, 2.5, None]), regression=True)
    assert inferred.remarks[0] == "27 of 40 records lack a target: 27 label missing: label"
    assert (inferred.inputs, inferred.records) == (2, 40)


def test_integers_and_fractions_are_numbers_to_predict():
    with pytest.raises(ValueError, match=r"has numbers such as 1\.5: set regression, or the classes"):
        infer_schema(rows_of(label=[1, 2, 3, 1.5]))
    assert infer_schema(rows_of(label=[*range(20)])).remarks == ()
    assert infer_schema(rows_of(label=[*range(40)])).remarks == (
        "label 'label' has 40 distinct integers in 40 records: if it is a number to predict, set regression",
    )
    values = [b'{"features":[1],"label":%d}' % i for i in range(1001)]
    with pytest.raises(
        ValueError, match="1,001 distinct values in 1,001 records: set classes, or regression"
    ):
        infer_schema(values)
