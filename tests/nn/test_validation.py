import re
from collections.abc import Callable

import numpy as np
import pytest

from streaming_nn.nn import validation

pytestmark = pytest.mark.commit


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (
            lambda: validation.one_of("how", "rleu", ["relu", "tanh"]),
            "must be one of 'relu', 'tanh'; got 'rleu'",
        ),
        (lambda: validation.one_of("how", ["relu"], ["relu"]), "must be one of 'relu'; got ['relu']"),
        (
            lambda: validation.known("option", ["sed"], ["seed", "clip"]),
            "option: 'sed'; did you mean 'seed'?",
        ),
        (
            lambda: validation.known("option", [3], ["seed", "clip"]),
            "option: 3; must be one of 'clip', 'seed'",
        ),
        (lambda: validation.known("option", ["seed"], []), "unknown option: 'seed'; there are none"),
        (lambda: validation.integer("inputs", 0), "must be an integer >= 1; got 0"),
        (lambda: validation.integer("inputs", 2.0), "must be an integer >= 1; got 2.0"),
        (lambda: validation.integer("inputs", True), "must be an integer >= 1; got True"),
        (
            lambda: validation.widths("hidden", "[16"),
            "hidden must be a list of integers >= 1; got '[16'",
        ),
        (lambda: validation.widths("hidden", 16), "hidden must be a list of integers >= 1; got 16"),
        (lambda: validation.widths("hidden", [16, 0]), "hidden must be an integer >= 1; got 0"),
        (lambda: validation.between("fading", 1, 0, 1), "must be a number in (0, 1); got 1"),
        (lambda: validation.between("of", 2, 0, 1, low_in=True, high_in=True), "a number in [0, 1]; got 2"),
        (lambda: validation.between("rate", "0.1", 0, np.inf), "must be a number in (0, inf); got '0.1'"),
        (lambda: validation.between("rate", float("nan"), 0, 1), "must be a number in (0, 1); got nan"),
        (lambda: validation.labels("classes", []), "must be one or more labels, all different; got ()"),
        (lambda: validation.labels("classes", ["a", "b", "a"]), "all different; got ('a', 'b', 'a')"),
        (lambda: validation.labels("classes", ["a", None]), "must be strings, numbers or booleans; got None"),
    ],
)
def test_a_wrong_value_is_one_line(check: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        check()
    assert "\n" not in str(error.value)


def test_right_values_pass() -> None:
    validation.one_of("activation", "relu", ["relu", "tanh"])
    validation.known("options", ["seed"], ["seed", "clip"])
    validation.known("options", [], [])
    validation.integer("seed", 0, 0)
    assert validation.widths("hidden", [64, 32]) == (64, 32)
    assert validation.widths("hidden", ()) == ()
    validation.between("fading", 1, 0, 1, high_in=True)
    validation.between("fading", 0, 0, 1, low_in=True)


def test_labels_become_plain_python() -> None:
    labels = validation.labels("classes", np.array([3, 5]))
    assert labels == (3, 5)
    assert [type(label) for label in labels] == [int, int]
    assert validation.labels("classes", ["no", "yes"]) == ("no", "yes")
    assert validation.labels("classes", [0, False]) == (0, False)
