"""Hooks of MkDocs: what mkdocs.yml cannot express. `mkdocs build` calls them by their names."""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[1]
PROJECT = "project/"  # of the site: the pages in the root, which MkDocs would not take


def on_config(config: Any) -> Any:
    """Take the tree of pages from docs/README.md, and anchors as GitHub has them."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    config.nav = [{"Map": "README.md"}]
    for line in (ROOT / "docs" / "README.md").read_text("utf-8").splitlines():
        if title := re.fullmatch(r"\*\*(.+)\*\*", line):
            config.nav.append({title[1]: []})
        elif line.startswith("- "):
            [pages] = config.nav[-1].values()
            for name, page in re.findall(r"\[(.*?)\]\(([^#]*?)\)", line.partition(": ")[0]):
                path = page.replace("../", PROJECT).replace(".ipynb", ".md")
                pages.append(path if name == page else {name: path})  # by default a page's title
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages in the root, and the notebooks as pages."""
    for path in sorted(ROOT.glob("*.md")):
        files.append(File.generated(config, f"{PROJECT}{path.name}", abs_src_path=str(path)))
    for path in sorted((ROOT / "docs").rglob("*.ipynb")):
        name = path.relative_to(ROOT / "docs").with_suffix(".md").as_posix()
        cells = json.loads(path.read_text("utf-8"))["cells"]
        files.append(File.generated(config, name, content="\n\n".join(map(_cell, cells))))
    return files


def _cell(cell: dict[str, Any]) -> str:
    """Return a notebook's cell as Markdown, with its outputs."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    parts = [f"```python\n{source}\n```"]
    for output in cell["outputs"]:
        data = output.get("data", {"text/plain": output.get("text")})
        if "image/png" in data:
            parts.append(f'<img alt="" src="data:image/png;base64,{data["image/png"]}">')
        elif "text/html" in data:
            html = " ".join("".join(data["text/html"]).split("\n"))
            parts.append(f'<div style="overflow-x:auto">{html}</div>')
        else:
            parts.append(f"```text\n{''.join(data['text/plain'])}\n```")
    return "\n\n".join(parts)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links to where the site has the pages: those in the root, and notebooks."""
    markdown = markdown.replace(".ipynb)", ".md)")
    if page.file.src_uri.startswith(PROJECT):
        return re.sub(r"\]\(docs/", "](../", markdown)
    return re.sub(r"\]\(((?:\.\./)*)\.\./", rf"](\1{PROJECT}", markdown)
