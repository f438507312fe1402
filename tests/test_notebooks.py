"""The example notebooks run, and show what they have shown: the same kinds of output, the same numbers."""

import json
import re
from pathlib import Path
from typing import Any

import notebooks
import numpy as np
import pytest
from paths import ROOT

import streaming_nn as snn

pytestmark = pytest.mark.nightly


@pytest.mark.parametrize("path", notebooks.FILES, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_has_stored(path: Path, tmp_path: Path) -> None:
    notebook = json.loads(path.read_text("utf-8"))
    stored = [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    shown = notebooks.run(notebook, tmp_path)
    assert [[kind(output) for output in cell] for cell in shown] == [
        [kind(output) for output in cell] for cell in stored
    ]
    assert plain(shown) == plain(stored)
    assert len(plain(stored)) > 1
    assert path.stat().st_size < 100_000


def test_the_lines_on_the_history_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "versions.md").read_text("utf-8"), re.DOTALL
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    net = snn.OnlineClassifier(hidden=(4,), mini_batch=8)
    for _ in range(3):
        net.partial_fit(np.eye(8), np.arange(8) % 2, classes=[0, 1]).save("model")
    names: dict[str, Any] = {}
    exec(compile(block, "versions.md", "exec"), names)
    assert len(names["history"]) == 3


def kind(output: notebooks.Output) -> list[str]:
    return [output["output_type"], *output.get("data", {})]


def plain(cells: list[list[notebooks.Output]]) -> list[list[str]]:
    """Return the plain outputs; the same bits are learned everywhere, so they must be the same."""
    texts = [output.get("text") or output["data"].get("text/plain") for cell in cells for output in cell]
    return [text for text in texts if text is not None]
