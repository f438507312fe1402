"""The samples that the page shows: those of the newest kept versions, and whether they are pictures."""

from pathlib import Path
from typing import Any

import pytest
from shown_models import GrowingModel, PictureModel

from streaming_nn.page.samples import samples
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit


def test_the_newest_rows_come_first_and_a_damaged_version_is_left_out(tmp_path: Path) -> None:
    model = GrowingModel(tmp_path, classes=["a", "b", "c"])
    model.learn(4, rejected=[{"reason": "not JSON"}])
    expected: list[Any] = []
    for number in (4, 2, 1):
        rows = model.log.manifest(number).samples["rows"]
        expected += [{"version": number, **row} for row in reversed(rows)]
    model.log.path(3).write_bytes(b"")
    found = samples(VersionLog(tmp_path), None)
    assert found["rows"] == expected
    assert found["rejected"] == [{"version": n, "reason": "not JSON"} for n in (4, 2, 1)]
    assert (found["classes"], found["side"]) == (["a", "b", "c"], None)
    assert samples(model.log, 1, most=5)["rows"] == expected[-16:][:5]
    assert samples(model.log, 0)["rows"] == samples(model.log, 99)["rows"] == []
    assert samples(VersionLog(tmp_path / "none"), None)["rows"] == []


def test_an_array_of_a_square_number_of_values_is_a_picture(tmp_path: Path) -> None:
    model = PictureModel(tmp_path)
    model.learn(1)
    found = samples(model.log, None)
    assert (found["side"], found["columns"]) == (8, None)
    for row in found["rows"]:
        halves = [[row["inputs"][8 * line + at + i] for line in range(8) for i in range(4)] for at in (0, 4)]
        assert (sum(halves[1]) > sum(halves[0])) == row["label"], "row after row, as they came"
