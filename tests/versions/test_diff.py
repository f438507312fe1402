import json
from pathlib import Path

import numpy as np
import pytest
from logs import filled, learn, prune_all_but

from streaming_nn.versions.diff import diff
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit


def test_diff_reports_what_differs_and_by_how_much(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 3)
    learn(log, learner={"rate": 0.5, "layers": {"hidden": [8]}})
    result = diff(log, 1, 3)
    assert json.loads(json.dumps(result)) == result
    assert result["versions"] == [1, 3]
    assert not result["identical"]
    assert result["learner"] == {"layers.hidden": ["(absent)", [8]], "rate": [0.1, 0.5]}
    assert result["metrics"] == {"accuracy": [0.0, 0.2], "rows": [10, 30]}
    assert result["offsets"] == {"t": {"0": [10, 30]}}
    assert result["schema"] == {}
    theta = result["tensors"]["model.theta"]
    assert theta == {"distance": 4.0, "relative": 2.0, "largest": 2.0, "shapes": [[4], [4]]}


def test_a_version_is_identical_to_itself(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 2)
    result = diff(log, 1, 1)
    assert result["identical"]
    assert result["metrics"] == result["learner"] == result["offsets"] == {}
    assert {t["distance"] for t in result["tensors"].values()} == {0.0}


def test_tensors_with_other_shapes_names_or_non_finite_numbers(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 1)
    tensors = {
        "same": np.array([np.nan, np.inf, 1.0]),
        "worse": np.array([1.0, 2.0]),
        "wide": np.zeros((2, 3), np.float32),
        "empty": np.zeros(0),
        "zero": np.zeros(2),
        "big": np.array([2**63], np.uint64),
        "flag": np.array([True]),
        "removed": np.zeros(1),
    }
    later = tensors | {
        "worse": np.array([np.nan, 2.0]),
        "wide": np.zeros((2, 4), np.float32),
        "zero": np.array([3.0, 4.0]),
        "flag": np.array([False]),
    }
    del later["removed"]
    for state in (tensors, later):
        head = log.head_number() or 0
        log.commit(log.read(head), state)
    apart = diff(log, 1, 2)["tensors"]
    assert {name: t["distance"] for name, t in apart.items()} == {
        "same": 0.0,
        "worse": None,
        "wide": None,
        "empty": 0.0,
        "zero": 5.0,
        "big": 0.0,
        "flag": 1.0,
        "removed": None,
    }
    assert apart["wide"]["shapes"] == [[2, 3], [2, 4]]
    assert apart["removed"]["shapes"] == [[1], None]
    assert apart["zero"]["relative"] is None


def test_pruned_versions_are_compared_by_their_manifests(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 4)
    prune_all_but(log)
    result = diff(log, 1, 3)
    assert result["pruned"] == [1]
    assert result["tensors"] == {}
    assert result["metrics"]["rows"] == ["(absent)", 30], "the history has them"
    assert result["offsets"] == {"t": {"0": [10, 30]}}
    with pytest.raises(LookupError, match="no version 9"):
        diff(log, 1, 9)
