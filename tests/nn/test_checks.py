import re
from collections.abc import Callable

import numpy as np
import pytest

from streaming_nn.nn import checks


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: checks.one_of("how", "rleu", ["relu", "tanh"]), "must be one of 'relu', 'tanh'; got 'rleu'"),
        (lambda: checks.one_of("how", ["relu"], ["relu"]), "must be one of 'relu'; got ['relu']"),
        (lambda: checks.known("options", ["sed"], ["seed", "clip"]), "ones, such as 'seed'; got 'sed'"),
        (lambda: checks.known("options", [3], ["seed", "clip"]), "known ones, such as 'clip'; got 3"),
        (lambda: checks.known("options", ["seed"], []), "known ones, and there are none; got 'seed'"),
        (lambda: checks.whole("inputs", 0), "must be a whole number >= 1; got 0"),
        (lambda: checks.whole("inputs", 2.0), "must be a whole number >= 1; got 2.0"),
        (lambda: checks.whole("inputs", True), "must be a whole number >= 1; got True"),
        (lambda: checks.widths("hidden", "[16"), "hidden must be a list of whole numbers >= 1; got '[16'"),
        (lambda: checks.widths("hidden", 16), "hidden must be a list of whole numbers >= 1; got 16"),
        (lambda: checks.widths("hidden", [16, 0]), "hidden must be a whole number >= 1; got 0"),
        (lambda: checks.between("fading", 1, 0, 1), "must be a number in (0, 1); got 1"),
        (lambda: checks.between("of", 2, 0, 1, low_in=True, high_in=True), "a number in [0, 1]; got 2"),
        (lambda: checks.between("rate", "0.1", 0, np.inf), "must be a number in (0, inf); got '0.1'"),
        (lambda: checks.between("rate", float("nan"), 0, 1), "must be a number in (0, 1); got nan"),
        (lambda: checks.labels("classes", []), "must be one or more labels, all different; got ()"),
        (lambda: checks.labels("classes", ["a", "b", "a"]), "all different; got ('a', 'b', 'a')"),
        (lambda: checks.labels("classes", ["a", None]), "must be strings, numbers or booleans; got None"),
    ],
)
def test_a_wrong_value_is_one_line(check: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        check()
    assert "\n" not in str(error.value)


def test_right_values_pass() -> None:
    checks.one_of("activation", "relu", ["relu", "tanh"])
    checks.known("options", ["seed"], ["seed", "clip"])
    checks.known("options", [], [])
    checks.whole("seed", 0, 0)
    assert checks.widths("hidden", [64, 32]) == (64, 32)
    assert checks.widths("hidden", ()) == ()
    checks.between("fading", 1, 0, 1, high_in=True)
    checks.between("fading", 0, 0, 1, low_in=True)


def test_labels_become_plain_python() -> None:
    labels = checks.labels("classes", np.array([3, 5]))
    assert labels == (3, 5)
    assert [type(label) for label in labels] == [int, int]
    assert checks.labels("classes", ["no", "yes"]) == ("no", "yes")
    assert checks.labels("classes", [0, False]) == (0, False)
