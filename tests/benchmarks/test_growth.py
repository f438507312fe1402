from pathlib import Path

import pytest
from running import short_line

from benchmarks import growth
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit


def test_a_long_log_is_a_valid_one(tmp_path: Path) -> None:
    found = growth.long_log(tmp_path, 300)
    assert found.keys() >= {"head_ms_100k", "commit_ratio_100k", "sink_start_s", "memory_mb"}
    assert 0 < found["head_ms_100k"] < 1000
    log = VersionLog(tmp_path / "long")
    assert log.head_number() == 299 + growth.COMMITS
    assert not log.manifest(298).kept  # pruned
    assert log.manifest(299).kept


@pytest.mark.nightly
def test_the_short_form_prints_its_line() -> None:
    line = short_line("growth")
    assert line["state_mb_driver"] == line["state_mb_tasks"] > 9
    assert 0 < line["memory_ratio_driver"] < 2 > line["memory_ratio_tasks"] > 0
    assert {"python_growth_mb_driver", "jvm_growth_mb_tasks", "workers_growth_mb_tasks"} <= line.keys()
    assert {"temporary_growth_mb_driver", "temporary_growth_mb_tasks"} <= line.keys()
