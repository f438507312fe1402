"""The documents as a site: built without a network, links lead somewhere, nothing is from another host."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from paths import ROOT

pytestmark = pytest.mark.nightly

OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
OFFLINE |= {"NO_MKDOCS_2_WARNING": "1"}


class Page(HTMLParser):
    """A page's ids, where its links lead, and what a browser fetches for it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids, self.links, self.fetched = set[str](), set[str](), set[str]()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        target = values.get("href") or values.get("src")
        if target is not None:
            (self.links if tag == "a" else self.fetched).add(target)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("mkdocs") is None and not os.environ.get("TOOLS_REQUIRED"):
        pytest.skip("needs mkdocs: pip install --group site")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(
        command, cwd=ROOT, env=os.environ | OFFLINE, capture_output=True, text=True, timeout=200
    )
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_document_is_a_page(site: Path, pages: dict[Path, Page]) -> None:
    documents = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.ipynb")]
    names = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in documents]
    names += [Path("project") / path.with_suffix(".html").name for path in ROOT.glob("*.md")]
    wanted = {site / name.with_name("index.html" if name.stem == "README" else name.name) for name in names}
    assert wanted == pages.keys() - {site / "404.html"}


def test_links_lead_to_pages_and_their_anchors(site: Path, pages: dict[Path, Page]) -> None:
    seen = 0
    for path, page in pages.items():
        for link in page.links | page.fetched:
            parts = urlsplit(link)
            if parts.scheme or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), (path, link)
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, (path, link)
                seen += 1
    assert seen > 100


def test_nothing_is_fetched_from_another_host(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert page.fetched
        assert not [link for link in page.fetched if urlsplit(link).netloc], path
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text("utf-8"), style
        assert "@import" not in style.read_text("utf-8"), style
