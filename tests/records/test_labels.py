"""Labels: 1.0 means 1, but 1, true and "1" are three labels."""

import json
import math

import pytest
from paths import ROOT

from streaming_nn.records.decode import decode
from streaming_nn.records.labels import (
    MAX_LENGTH,
    check_labels,
    integral_to_int,
    is_valid_label,
    label_key,
    label_to_csv,
    suggest_setting,
)
from streaming_nn.records.schema import Schema, grow_schema

pytestmark = pytest.mark.commit


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (1.0, 1),
        (-3.0, -3),
        (1, 1),
        (1.5, 1.5),
        (True, True),
        ("1.0", "1.0"),
        (None, None),
        (1e300, int(1e300)),
    ],
)
def test_a_float_without_a_fraction_is_an_integer(value, same):
    assert integral_to_int(value) == same
    assert type(integral_to_int(value)) is type(same)


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_infinity_is_not_an_integer(value):
    assert integral_to_int(value) == value


def test_labels_of_different_types_differ():
    assert len({label_key(label) for label in (1, 1.0, True, "1", 0, False)}) == 5


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ("x" * MAX_LENGTH, True),
        ("x" * (MAX_LENGTH + 1), False),
        ((1 << 63) - 1, True),
        (1 << 63, False),
        (-(1 << 63), True),
        (False, True),
        (1.5, False),
        (None, False),
    ],
)
def test_a_valid_label_is_short_and_fits_into_json(value, valid):
    assert is_valid_label(value) == valid


def test_booleans_are_in_lower_case_in_csv():
    assert [label_to_csv(label) for label in (True, False, 7, "True")] == ["true", "false", "7", "True"]


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        ("ab", "classes must be a list; got 'ab'"),
        ([1, 1.5], "classes must be strings, integers or booleans; got 1.5"),
        ([1, True, 1], "classes must differ from each other; got 1 twice"),
    ],
)
def test_invalid_labels_raise_one_line(labels, error):
    with pytest.raises(ValueError) as raised:
        check_labels("classes", labels)
    assert str(raised.value) == error


# The table of docs/records.md, generated from what the decoders do: run this file to print it

CLASSES = {"`0, 1`": (0, 1), '`"0", "1"`': ("0", "1"), "`false, true`": (False, True)}
LABELS = {
    "`1`": [1],
    "`1.0`": [1.0],
    "`true`": [True],
    'string `"1"`': ["1"],
    'string `"1.0"`, `" 1 "`': ["1.0", " 1 "],
    'string `"true"`, `"TRUE"`': ["true", "TRUE"],
    '`2`, `1.5`, `"01"`': [2, 1.5, "01"],
    'null, NaN; `"NA"`, `-9` in `na_values`': [None, math.nan, "NA", -9, -9.0],
}


def in_csv(label):
    return b"1,%s" % ("" if label is None else str(label)).encode()


def in_json(label):
    return json.dumps({"a": 1, "label": label}).encode()


def ends(label, classes, encode, **options):
    """Return how a label ends: the class, or why the record is rejected."""
    schema = Schema(1, classes, ("a",), na_values=("NA", "-9"), **options)
    decoded = decode(schema, [encode(label)], labeled=True)
    return f"`{json.dumps(classes[decoded.y[0]])}`" if len(decoded.kept) else decoded.rejected[0].reason


def all_end(labels, *options, **more):
    found = {ends(label, *options, **more) for label in labels}
    assert len(found) == 1, (labels, options, found)
    return found.pop()


def table():
    """Return the table of docs/records.md."""
    heads = [f"classes {name}" for name in CLASSES] + [f"{name}, strings" for name in CLASSES]
    lines = ["| label | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for kind, labels in LABELS.items():
        cells = [
            all_end(labels, classes, in_json, numbers_as_strings=strings).replace("label not in classes", "–")
            for strings in (False, True)
            for classes in CLASSES.values()
        ]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def test_the_table_of_labels_is_what_the_decoders_do():
    assert table() in (ROOT / "docs/records.md").read_text("utf-8")


@pytest.mark.parametrize("classes", CLASSES.values())
@pytest.mark.parametrize("kind", LABELS)
def test_csv_reads_labels_as_json_does_with_numbers_as_strings(kind, classes):
    for label in LABELS[kind]:
        if label != label:  # "nan" is a string in CSV, as it may be a class
            continue
        expected = ends(label, classes, in_json, numbers_as_strings=True)
        assert ends(label, classes, in_csv, format="csv") == expected


def test_the_class_that_is_written_exactly_so_is_the_first_choice():
    classes = ("1", 1, "true")
    for label, expected in (("1", '`"1"`'), (1, "`1`"), (" 1 ", '`"1"`'), (1.0, "`1`"), (True, '`"true"`')):
        assert ends(label, classes, in_json, numbers_as_strings=True) == expected


def test_classes_that_grow_are_found_by_how_they_are_written():
    schema = Schema(1, (), ("a",), grow=True, numbers_as_strings=True)
    records = [in_json(label) for label in ("1", 1, 1.0, "b", True, "true", " 1 ")]
    decoded = decode(schema, records, labeled=True)
    assert decoded.unseen == {"label": ("1", "b", True)}
    grown = grow_schema(schema, decoded.unseen)
    assert decode(grown, records, labeled=True).y.tolist() == [0, 0, 0, 1, 2, 2, 0]
    strict = Schema(1, (), ("a",), grow=True)
    assert decode(strict, records, labeled=True).unseen == {"label": ("1", 1, "b", True, "true", " 1 ")}


@pytest.mark.parametrize(
    ("shown", "classes", "expected"),
    [
        ("2", (0, 1), 'with records.classes = "grow" new labels become classes'),
        ("1.5", (0, 1), 'with records.classes = "grow" new labels become classes'),
        ("'c'", ("a", "b"), 'with records.classes = "grow" new labels become classes'),
        (
            "'1'",
            (0, 1),
            "the label '1' is a string, and no class is one: with records.numbers_as_strings = true it is "
            "read as the class 1",
        ),
        (
            "'true'",
            (False, True),
            "the label 'true' is a string, and no class is one: with records.numbers_as_strings = true it is "
            "read as the class True",
        ),
        (
            "'x'",
            (0, 1),
            "the label 'x' is a string, and no class is one: name such labels in records.classes",
        ),
        (
            "True",
            (0, 1),
            "the label True is a boolean, and no class is one: name such labels in records.classes",
        ),
        ("'cut...", ("a",), 'with records.classes = "grow" new labels become classes'),
        ("an array of 3 elements", ("a",), 'with records.classes = "grow" new labels become classes'),
    ],
)
def test_what_reads_a_label_that_is_in_no_class(shown, classes, expected):
    """Case 4: labels 0 and 1 in the first records, then a 2 that only the dead letters had."""
    assert suggest_setting(shown, classes) == expected


if __name__ == "__main__":
    print(table())
