"""The page as one file: bounded, and without a way for a string of a record to become code."""

import json
import re
from pathlib import Path

import pytest
from shown_models import GrowingModel

from streaming_nn.cli.app import run
from streaming_nn.page.report import MOST_BYTES, report

pytestmark = pytest.mark.commit


def test_many_classes_and_models_fit_into_one_megabyte(tmp_path: Path) -> None:
    models = []
    for i in range(3):
        grown = GrowingModel(tmp_path / str(i), seed=i, classes=[f"class {k}" for k in range(100)])
        grown.learn(12, rows=4)
        models.append(grown.log.directory)
    text = report(models)
    assert 100_000 < len(text.encode()) <= MOST_BYTES
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    assert [model["name"] for model in data["models"]] == ["0", "1", "2"]
    for model in data["models"]:
        assert model["head"] == 12
        assert set(model["versions"]) >= {"0", "12"}


def test_a_string_cannot_end_the_script_that_it_is_in(tmp_path: Path) -> None:
    odd = "</script><script>alert(1)</script><!-- & "
    grown = GrowingModel(tmp_path, classes=[odd, "low", "high"])
    grown.learn(2, rejected_by_reason={odd: 1})
    text = report([tmp_path])
    assert text.count("</script>") == 3
    assert "alert(1)</script>" not in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    assert data["models"][0]["versions"]["2"]["classes"][0] == odd
    assert data["models"][0]["versions"]["2"]["rejected_by_reason"] == {odd: 1}


def test_a_directory_without_a_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(tmp_path), "-o", str(tmp_path / "r.html")]) == 1
    assert "there is no version yet" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()
