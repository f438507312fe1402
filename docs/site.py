"""Hooks of MkDocs: what mkdocs.yml cannot express. `mkdocs build` calls them by their names."""

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
            named = re.findall(r"\]\((.*?)\)", line.partition(": ")[0])
            pages += [page.replace("../", PROJECT) for page in named]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages in the root."""
    for path in sorted(ROOT.glob("*.md")):
        files.append(File.generated(config, f"{PROJECT}{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links between the root and docs to where the site has the pages."""
    if page.file.src_uri.startswith(PROJECT):
        return re.sub(r"\]\(docs/", "](../", markdown)
    return re.sub(r"\]\(((?:\.\./)*)\.\./", rf"](\1{PROJECT}", markdown)
