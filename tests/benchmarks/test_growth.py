from pathlib import Path

import pytest
from running import short_line

from benchmarks import growth
from streaming_nn.versions import retention
from streaming_nn.versions.repair import check
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit


@pytest.mark.nightly
def test_the_long_log_is_a_valid_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "COMMITS", 5)
    found = growth.month(tmp_path, 1_300)
    log = VersionLog(tmp_path / "long")
    assert log.head_number() == 1_299 + growth.COMMITS
    assert log.archives.refresh() > 1_000
    assert found["history_points"] == 14
    assert found.keys() >= {"head_ms_hour", "head_ms", "commit_ratio", "sink_start_s"}


@pytest.mark.nightly
@pytest.mark.timeout(1200)  # on a loaded machine
def test_half_a_day_of_versions_takes_what_the_first_hour_took(tmp_path: Path) -> None:
    found = growth.month(tmp_path, 50_000)
    log = VersionLog(tmp_path / "long")
    assert log.head_number() == 49_999 + growth.COMMITS
    assert check(log, since=49_000) == []
    assert found["files"] <= retention.FILES + retention.CHUNK + 3
    assert found["archive_bytes_per_version"] < 400
    assert found["open_files"] <= found["open_files_hour"] + 2
    assert found["memory_mb"] < found["memory_mb_hour"] + 30
    assert found["head_ms"] < max(3 * found["head_ms_hour"], 2)
    assert found["commit_ratio"] < 1.5
    counts = [point.counts["received"] for point in log.points()]
    assert sum(counts) == 49_999 * 99


@pytest.mark.nightly
def test_the_short_form_prints_its_line() -> None:
    line = short_line("growth")
    assert line["state_mb_driver"] == line["state_mb_tasks"] > 9
    assert 0 < line["memory_ratio_driver"] < 2 > line["memory_ratio_tasks"] > 0
    assert {"python_growth_mb_driver", "jvm_growth_mb_tasks", "workers_growth_mb_tasks"} <= line.keys()
    assert {"temporary_growth_mb_driver", "temporary_growth_mb_tasks"} <= line.keys()
