"""The example notebooks run, and show what they have shown: the same kinds of output, the same numbers."""

import json
from pathlib import Path

import notebooks
import pytest

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


def kind(output: notebooks.Output) -> list[str]:
    return [output["output_type"], *output.get("data", {})]


def plain(cells: list[list[notebooks.Output]]) -> list[list[str]]:
    """Return the plain outputs; the same bits are learned everywhere, so they must be the same."""
    texts = [output.get("text") or output["data"].get("text/plain") for cell in cells for output in cell]
    return [text for text in texts if text is not None]
