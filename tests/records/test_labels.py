"""Labels: 1.0 means 1, but 1, true and "1" are three labels."""

import pytest

from streaming_nn.records.labels import (
    MAX_LENGTH,
    check_labels,
    integral_to_int,
    is_valid_label,
    label_key,
    label_to_csv,
)

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
