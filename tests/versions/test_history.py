"""`VersionLog.history` against the manifests that were committed."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from logs import filled, learn, prune_all_but

from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit


def batch(number: int) -> dict[str, Any]:
    return {
        "learner": {"mini_batch": 8, "inputs": 2},
        "offsets": {"t": {0: 10 * number, 1: number}, "b": {0: 1}},
        "ranges": {},
        "counts": {"received": 5, "trained": 3, "skipped": 0, "rejected": 2, "filtered": 0},
        "rejected_by_reason": {"not JSON": 2} if number % 2 else {},
        "metrics": {
            "rows": 3 * number,
            "prequential": {"window": {"accuracy": number / 100, "confusion": [[1]], "kappa": None}},
            "members": [
                {"member": "sgd 0.1", "weight": number / 200, "exponent": -number, "restarts": number}
            ],
        },
        "seconds": {"learn": number / 10},
        "events": [{"event": "drift", "detected": 1}, {"event": "learner changed"}] if number == 4 else [],
        "written_at": f"2026-01-02T03:04:{number % 60:02d}.250+00:00",
    }


def test_a_row_has_what_its_version_has(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 1)
    for number in range(1, 6):
        learn(log, **batch(number))
    frame = log.history()
    assert frame.index.tolist() == [*range(6)]
    assert frame.index.name == "version"
    assert frame["written_at"][5] == pd.Timestamp("2026-01-02T03:04:05.250", tz="UTC")
    assert frame["kind"].tolist() == ["initial", *["learned"] * 5]
    expected: dict[str, list[Any]] = {
        "received": [0, *[5] * 5],
        "rejected_by_reason.not JSON": [0, 2, 0, 2, 0, 2],
        "offsets": [0, 12, 23, 34, 45, 56],
        "mini_batch": [np.nan, *[8] * 5],
        "rows": [np.nan, 3, 6, 9, 12, 15],
        "prequential.window.accuracy": [np.nan, 0.01, 0.02, 0.03, 0.04, 0.05],
        "members.0 (sgd 0.1).weight": [np.nan, *(n / 200 for n in range(1, 6))],
        "members.0 (sgd 0.1).exponent": [np.nan, *range(-1, -6, -1)],
        "seconds.learn": [np.nan, *(n / 10 for n in range(1, 6))],
        "events": ["", "", "", "", "drift, learner changed", ""],
    }
    for name, values in expected.items():
        pd.testing.assert_series_equal(
            frame[name].reset_index(drop=True), pd.Series(values), check_names=False, check_dtype=False
        )
    assert not [name for name in frame if "confusion" in str(name) or "kappa" in str(name)]


def test_pruned_versions_have_their_counts_and_the_metrics_of_every_hundredth(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 1)
    for number in range(1, 131):
        learn(log, **batch(number))
    before = log.history()
    log.path(120).write_bytes(b"")
    prune_all_but(log, [50])
    after = VersionLog(tmp_path).history()
    kept = [n for n in range(131) if after["kept"][n]]
    assert kept == [0, 50, 130]
    metrics = [name for name in before if str(name).startswith(("prequential", "members")) or name == "rows"]
    others = [name for name in before if name not in {*metrics, "kept"}]
    whole = after.drop(index=120)  # it was damaged
    pd.testing.assert_frame_equal(whole[others], before.drop(index=120)[others])
    pd.testing.assert_frame_equal(after.loc[kept, metrics], before.loc[kept, metrics])
    measured = after["prequential.window.accuracy"].dropna()
    assert measured.index.tolist() == [50, 99, 129, 130]
    assert after["kind"][120] == "damaged"


def test_a_part_of_it_and_versions_that_cannot_be_read(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 6)
    whole = log.history()
    pd.testing.assert_frame_equal(log.history(2, 4), whole.loc[2:4])
    log.path(3).write_bytes(b"")
    frame = log.history(2)
    assert frame["kind"].tolist() == ["learned", "unreadable", "learned", "learned"]
    assert frame["trained"].tolist() == [10, 0, 10, 10]
    assert frame["written_at"].isna().tolist() == [False, True, False, False]
    for first, last in ((-1, 2), (4, 3), (0, 9)):
        with pytest.raises(ValueError, match=f"0 to 5, .* got {first} to {last}"):
            log.history(first, last)
    with pytest.raises(ValueError, match="there is no version yet"):
        VersionLog(tmp_path / "none").history()
