"""Files of LIBSVM: each line is a record, and one that cannot be read is a rejected one."""

import io
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_svmlight_file

from streaming_nn.settings import Records, Source
from streaming_nn.spark.sources.libsvm_files import LibsvmFiles, find, parse

pytestmark = pytest.mark.commit

GOOD = ["1 2:0.5 3:-1e3", "-1 1:2", "3", "+0.5 qid:3 1:2 4:1 # a comment", "  1\t2:.5  "]
BAD = [
    "1 0:5",
    "1 3:1 2:1",
    "1 2:1 2:1",
    "x 1:2",
    "1 1:a",
    "1,2 1:3",
    "1 1:1_0",
    "1 1:2:3",
    "1 -1:3",
    "1 2 3",
]
BAD += ["{}", "1 1:1 99999999999999999999:1", "1 \u0663:2", "1 1:\u0663", ":"]


def test_lines_are_those_of_scikit_learn() -> None:
    x, y = load_svmlight_file(io.BytesIO("\n".join(GOOD).encode()), n_features=4, zero_based=False)
    found = LibsvmFiles(4).rows(pa.array(GOOD))
    assert found.field("label").to_pylist() == y.tolist()
    np.testing.assert_array_equal(found.field("features").to_pylist(), x.toarray())


def test_indices_from_0_on_are_those_of_scikit_learn() -> None:
    lines = ["1 0:5 3:-1e3", "2", "-1 1:2"]
    x, y = load_svmlight_file(io.BytesIO("\n".join(lines).encode()), n_features=4, zero_based=True)
    files = find(Source(format="libsvm", options={"numFeatures": "4", "zeroBased": "True"}), Records())
    assert files is not None
    found = files.rows(pa.array([*lines, "1 4:1", "1 -1:1", "1 0:1 0:1"]))
    assert found.field("label").to_pylist()[:3] == y.tolist()
    np.testing.assert_array_equal(found.field("features").to_pylist()[:3], x.toarray())
    assert (len(found[3]["features"]), found.is_null().to_pylist()) == (5, [False] * 4 + [True] * 2)
    with pytest.raises(
        ValueError, match=r"^option zeroBased of source 'libsvm' must be true or false; got 'yes'$"
    ):
        find(Source(format="libsvm", options={"numFeatures": "4", "zeroBased": "yes"}), Records())


def test_numbers_that_are_not_finite_are_left_to_the_rules_of_values() -> None:
    found = parse("nan 1:NaN 2:-inf")
    assert found is not None
    assert math.isnan(found.label)
    assert (math.isnan(found.values[0]), found.values[1]) == (True, -math.inf)


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_none(line: str) -> None:
    assert parse(line) is None
    found = LibsvmFiles(4).rows(pa.array(["1 1:1", line, None, "2 4:1"], pa.string()))
    assert found.is_null().to_pylist() == [False, True, True, False]
    assert found.to_pylist()[3] == {"label": 2, "features": [0, 0, 0, 1]}


def test_an_index_beyond_the_width_makes_another_width() -> None:
    found = LibsvmFiles(2).rows(pa.array(["1 1:5 3:1", "1 2:1 2000000000:7", "0"]))
    assert [*map(len, found.field("features").to_pylist())] == [3, 3, 2]
    assert LibsvmFiles(2).rows(pa.array([], pa.string())).type == found.type


@pytest.mark.parametrize(
    ("options", "inputs", "width"),
    [({"numFeatures": "780"}, None, 780), ({"NUMFEATURES": "3"}, 9, 3), ({}, 9, 9)],
)
def test_the_number_of_features_is_an_option_or_that_of_the_records(
    options: dict[str, str], inputs: int | None, width: int
) -> None:
    files = find(Source(format="LibSVM", options=options), Records(inputs=inputs))
    assert files == LibsvmFiles(width)
    assert find(Source(format="text", options=options), Records()) is None


@pytest.mark.parametrize("given", [{}, {"numFeatures": "many"}, {"numFeatures": "0"}, {"numfeatures": "-1"}])
def test_without_it_the_error_names_the_option(given: dict[str, Any]) -> None:
    shown = next((repr(value) for value in given.values()), "none")
    with pytest.raises(
        ValueError, match=f"^source 'libsvm' must have .* numFeatures, an integer; got {shown}$"
    ):
        find(Source(format="libsvm", options=given), Records())
