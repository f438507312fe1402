import re
from typing import Any

import numpy as np
import pytest

from streaming_nn.nn import class_weight

pytestmark = pytest.mark.commit


@pytest.mark.parametrize("given", [{"a": 2, "c": 0.5}, (("a", 2.0), ("c", 0.5)), [["a", 2], ["c", 0.5]]])
def test_a_mapping_and_pairs_are_the_same(given: Any) -> None:
    pairs = class_weight.validate(given, ("a", "b", "c"))
    assert pairs == (("a", 2.0), ("c", 0.5))
    assert [type(weight) for _, weight in pairs] == [float, float]
    assert class_weight.per_class(pairs, ("a", "b", "c")) == (2, 1, 0.5)  # 1 without one


@pytest.mark.parametrize("name", ["balanced", "effective"])
def test_a_name_stays(name: str) -> None:
    assert class_weight.validate(name, (0, 1)) == name
    assert class_weight.per_class(name, (0, 1)) == name
    assert class_weight.per_class(None, (0, 1)) is None
    assert class_weight.per_class(None, None) is None


@pytest.mark.parametrize(
    ("classes", "label", "found"),
    [
        ((1, 2, 3), "2", 2),
        ((True, False), "false", False),
        (("1", "2"), "2", "2"),
        (("2", 2), "2", "2"),  # a label as it is comes first
        (("2", 2), 2, 2),
        ((1, True), True, True),  # 1 and True are two labels
        ((1, True), 1, 1),
        ((0.5, 1.5), "1.5", 1.5),
    ],
)
def test_a_label_may_be_a_string(classes: tuple[Any, ...], label: Any, found: Any) -> None:
    pairs = class_weight.validate({label: 2}, classes)
    assert [(type(one), one, weight) for one, weight in pairs] == [(type(found), found, 2.0)]
    weights = class_weight.per_class(pairs, classes)
    assert weights == tuple(2.0 if (type(c), c) == (type(found), found) else 1.0 for c in classes)


@pytest.mark.parametrize(
    ("given", "classes", "message"),
    [
        ("balanced", None, "class_weight must be left out without classes; got 'balanced'"),
        ({0: 1}, None, "class_weight must be left out without classes; got {0: 1}"),
        ("even", (0, 1), "class_weight must be one of 'balanced', 'effective'; got 'even'"),
        (3, (0, 1), "class_weight must map labels to weights, or be a name; got 3"),
        ([1], (0, 1), "class_weight must be pairs of label and weight; got [1]"),
        ([(0, 1, 2)], (0, 1), "class_weight must be pairs of label and weight; got [(0, 1, 2)]"),
        ({"c": 1}, ("a", "b"), "class_weight must be for labels among ('a', 'b'); got 'c'"),
        ({True: 1}, (0, 1), "class_weight must be for labels among (0, 1); got True"),
        ({0: -1}, (0, 1), "class_weight must be a number in [0, inf); got -1"),
        ({0: np.inf}, (0, 1), "class_weight must be a number in [0, inf); got inf"),
        ({0: "2"}, (0, 1), "class_weight must be a number in [0, inf); got '2'"),
    ],
)
def test_what_is_wrong_is_one_line(given: Any, classes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        class_weight.validate(given, classes)
