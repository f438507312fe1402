import re
from collections.abc import Callable

import numpy as np
import pytest

from streaming_nn.nn import validation


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (
            lambda: validation.one_of("how", "rleu", ["relu", "tanh"]),
            "must be one of 'relu', 'tanh'; got 'rleu'",
        ),
        (lambda: validation.one_of("how", ["relu"], ["relu"]), "must be one of 'relu'; got ['relu']"),
        (lambda: validation.known("options", ["sed"], ["seed", "clip"]), "ones, such as 'seed'; got 'sed'"),
        (lambda: validation.known("options", [3], ["seed", "clip"]), "known ones, such as 'clip'; got 3"),
        (lambda: validation.known("options", ["seed"], []), "known ones, and there are none; got 'seed'"),
        (lambda: validation.whole("inputs", 0), "must be a whole number >= 1; got 0"),
        (lambda: validation.whole("inputs", 2.0), "must be a whole number >= 1; got 2.0"),
        (lambda: validation.whole("inputs", True), "must be a whole number >= 1; got True"),
        (
            lambda: validation.widths("hidden", "[16"),
            "hidden must be a list of whole numbers >= 1; got '[16'",
        ),
        (lambda: validation.widths("hidden", 16), "hidden must be a list of whole numbers >= 1; got 16"),
        (lambda: validation.widths("hidden", [16, 0]), "hidden must be a whole number >= 1; got 0"),
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
    validation.whole("seed", 0, 0)
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
