"""The page's timeline: a row for each version, what the archives keep, and intervals beside brute force."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_nn.page.moment import moment
from streaming_nn.page.timeline import Series, Timeline, decimate
from streaming_nn.versions.retention import Retention
from streaming_nn.versions.version import Version
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

ACCURACY = "prequential.window.accuracy"


def commit(log: VersionLog, head: Version | None, accuracy: float, **fields: Any) -> Version:
    metrics = {
        "prequential": {"window": {"accuracy": accuracy, "confusion": [[1, 2], [3, 4]]}, "cumulative": {}},
        "members": [{"member": "adam 0.01, replay 1:1", "weight": accuracy / 2, "restarts": 0}],
        "rows": 10 * (0 if head is None else head.number + 1),
    }
    return log.commit(
        head,
        {"theta": np.zeros(300, np.float32)},
        metrics=metrics,
        counts={"received": 10, "trained": 9, "skipped": 0, "rejected": 1, "filtered": 0},
        **fields,
    )


def test_each_version_is_a_row(tmp_path: Path) -> None:
    log = VersionLog(tmp_path)
    head = commit(log, None, 0.0, written_at="2026-01-01T00:00:00+00:00")
    timeline = Timeline(log)
    assert (timeline.follow(), timeline.follow()) == (1, 0)
    events = [{"event": "drift", "detected": 1}]
    head = commit(log, head, 0.5, written_at="2026-01-01T00:00:02+00:00", events=events)
    commit(log, head, 0.75, written_at="2026-01-01T00:00:03+00:00")
    assert (timeline.follow(1), timeline.follow(), timeline.newest()) == (1, 1, 2)
    names = (ACCURACY, "weight.adam 0.01, replay 1:1", "records_per_second", "counts.rejected", "unknown")
    series = timeline.select(names, None, None)
    start = 1_767_225_600.0
    assert series.times.tolist() == [start, start + 2, start + 3]
    assert series.numbers.tolist() == [0, 1, 2]
    columns = [series.columns[name].tolist() for name in names[:2]]
    assert columns == [[0, 0.5, 0.75], [0, 0.25, 0.375]]
    assert series.columns["records_per_second"][1:].tolist() == [5, 10]
    assert np.isnan(series.columns["unknown"]).all()
    assert [mark._asdict() for mark in timeline.marks] == [
        {"version": 1, "time": start + 2, "event": {"event": "drift", "detected": 1, "version": 1}}
    ]
    part = timeline.select([ACCURACY], start + 1, start + 2.5)
    assert part.numbers.tolist() == [1]


def test_a_damaged_version_has_no_row_and_later_ones_have(tmp_path: Path) -> None:
    log = VersionLog(tmp_path)
    head = None
    for accuracy in (0.1, 0.2, 0.3):
        head = commit(log, head, accuracy)
    log.path(1).write_bytes(b"")
    timeline = Timeline(VersionLog(tmp_path))
    assert timeline.follow() == 2
    assert timeline.select([ACCURACY], None, None).columns[ACCURACY].tolist() == [0.1, 0.3]
    assert moment(timeline, 1)["kind"] == "damaged"


def test_pruned_versions_are_rows_of_a_hundred_with_the_weights_of_the_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    log = VersionLog(tmp_path)
    retention, head = Retention(log, keep_bytes=20_000), None
    for number in range(1_201):
        head = commit(log, head, number / 2_000)
    retention.committed(1_200)
    until = log.archives.refresh()
    assert until >= 100
    timeline = Timeline(VersionLog(tmp_path))
    rows = timeline.follow()
    assert rows < 1_201 - until + until // 100 + 2
    series = timeline.select([ACCURACY, "weight.adam 0.01, replay 1:1", "counts.received"], None, None)
    assert series.numbers[:2].tolist() == [99, 199]
    np.testing.assert_allclose(series.columns[ACCURACY], series.numbers / 2_000)
    np.testing.assert_allclose(series.columns["weight.adam 0.01, replay 1:1"], series.numbers / 4_000)
    assert series.columns["counts.received"].sum() == 12_010
    slowly = Timeline(VersionLog(tmp_path))
    while slowly.follow(3):
        pass
    same(slowly, timeline)
    slowly.save(tmp_path / "timeline.npz")
    later = Timeline(VersionLog(tmp_path))
    later.load(tmp_path / "timeline.npz")
    for number in range(1_201, 1_501):
        head = commit(log, head, number / 2_000)
    retention.committed(1_500)
    missed = log.archives.refresh() - 1_201
    assert missed > 200
    assert later.follow() < 300 - missed + missed // 100 + 2  # a point for each hundred that were archived
    pruned = moment(timeline, 150)
    assert (pruned["number"], pruned["figures_of"], pruned["metrics"]) == (150, 99, None)
    assert pruned["figures"][ACCURACY] == 99 / 2_000


def same(a: Timeline, b: Timeline) -> None:
    one, other = (each.select(each.names(), None, None) for each in (a, b))
    assert (a.names(), a.marks) == (b.names(), b.marks)
    np.testing.assert_array_equal(one.numbers, other.numbers)
    np.testing.assert_array_equal(one.times, other.times)
    for name in a.names():
        np.testing.assert_array_equal(one.columns[name], other.columns[name])


def test_a_saved_timeline_continues_with_the_versions_after_it(tmp_path: Path) -> None:
    log, file = VersionLog(tmp_path / "model"), tmp_path / "cache" / "timeline.npz"
    head = commit(log, None, 0.0, events=[{"event": "drift", "detected": 1}])
    timeline = Timeline(log)
    timeline.save(file)
    assert not file.exists()
    timeline.follow()
    timeline.save(file)
    commit(log, head, 0.5)
    saved = Timeline(log)
    saved.load(file)
    assert (saved.newest(), saved.follow()) == (0, 1)
    timeline.follow()
    same(saved, timeline)


@pytest.mark.parametrize("damage", ["empty", "not a file of arrays", "another log's"])
def test_a_saved_timeline_that_is_not_this_logs_is_left(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "timeline.npz"
    for name in ("one", "other"):
        commit(VersionLog(tmp_path / name), None, 0.25)
    other = Timeline(VersionLog(tmp_path / "other"))
    other.follow()
    other.save(file)
    if damage != "another log's":
        file.write_bytes(b"" if damage == "empty" else b"PK\x03\x04")
    timeline = Timeline(VersionLog(tmp_path / "one"))
    timeline.load(file)
    assert (timeline.newest(), timeline.follow()) == (None, 1)


def test_a_log_that_replaces_another_is_read_from_its_first_version(tmp_path: Path) -> None:
    log = VersionLog(tmp_path / "model")
    head = commit(log, None, 0.1)
    commit(log, head, 0.2)
    timeline = Timeline(VersionLog(log.directory))
    assert timeline.follow() == 2
    shutil.rmtree(log.directory)
    assert timeline.follow() == 0
    assert timeline.newest() is None
    commit(VersionLog(log.directory), None, 0.3)
    assert timeline.follow() == 1
    assert timeline.select([ACCURACY], None, None).columns[ACCURACY].tolist() == [0.3]


@pytest.mark.parametrize("number", [-1, 1])
def test_a_version_that_is_not_there_is_refused(tmp_path: Path, number: int) -> None:
    log = VersionLog(tmp_path)
    timeline = Timeline(log)
    assert moment(timeline, None) is None
    with pytest.raises(LookupError, match="no version yet"):
        moment(timeline, number)
    commit(log, None, 0.5)
    with pytest.raises(LookupError, match=f"version must be 0 to 0; got {number}"):
        moment(timeline, number)


values = st.lists(st.floats(-100, 100) | st.just(float("nan")), min_size=1, max_size=200)


@given(values, st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_an_interval_has_its_least_and_its_largest(column: list[float], intervals: int, seed: int) -> None:
    times = np.cumsum(np.random.default_rng(seed).exponential(size=len(column)))
    whole = Series(np.arange(len(column)), times, {"a": np.array(column)})
    found = decimate(whole, intervals)
    if len(column) <= 2 * intervals:
        assert found is whole
        return
    assert len(found.times) <= 2 * intervals
    width = (times[-1] - times[0]) / intervals
    interval = np.minimum(((times - times[0]) / width).astype(int), intervals - 1)
    for at, each in enumerate(np.unique(interval)):
        inside = np.array(column)[interval == each]
        expected = [np.nan, np.nan] if np.isnan(inside).all() else [np.nanmin(inside), np.nanmax(inside)]
        np.testing.assert_array_equal(np.sort(found.columns["a"][2 * at : 2 * at + 2]), expected)
    assert found.numbers[-1] == len(column) - 1
