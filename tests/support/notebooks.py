"""The example notebooks: run their cells in this process, and write what they show.

After changing a notebook: `python -m tests.support.notebooks`, in a clone. No Jupyter is needed.
"""

import ast
import base64
import io
import json
import os
import tempfile
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
FILES = sorted(FOLDER.glob("*.ipynb"))

Output = dict[str, Any]


def run(notebook: dict[str, Any], folder: Path) -> list[list[Output]]:
    """Run the code cells in a folder, in their order; return the outputs of each as Jupyter stores them."""
    os.environ["MPLBACKEND"] = "agg"
    names: dict[str, Any] = {}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    with chdir(folder):
        return [_outputs("".join(cell["source"]), names) for cell in cells]


def _outputs(source: str, names: dict[str, Any]) -> list[Output]:
    tree, value, printed = ast.parse(source), None, io.StringIO()
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with redirect_stdout(printed):
        exec(compile(tree, "notebook", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "notebook", "eval"), names)
    found: list[Output] = []
    if printed.getvalue():
        found.append({"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())})
    if value is not None:
        found.append({"output_type": "display_data", "metadata": {}, "data": _shown(value)})
    return found


def _shown(value: Any) -> dict[str, Any]:
    """Return what Jupyter shows of a value: a figure as PNG, HTML if it has some, else its repr."""
    if hasattr(value, "get_figure"):
        file = io.BytesIO()
        value.get_figure().savefig(
            file, format="png", dpi=70, bbox_inches="tight", metadata={"Software": None}
        )
        return {"image/png": base64.b64encode(file.getvalue()).decode()}
    if hasattr(value, "_repr_html_"):
        return {"text/html": _lines(value._repr_html_())}
    return {"text/plain": _lines(repr(value))}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def write() -> None:
    for path in FILES:
        notebook = json.loads(path.read_text("utf-8"))
        with tempfile.TemporaryDirectory() as folder:
            outputs = run(notebook, Path(folder))
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for count, (cell, shown) in enumerate(zip(cells, outputs, strict=True), 1):
            cell |= {"outputs": shown, "execution_count": count}
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    write()
