"""The documents are true: pages, tests, modules, settings, flags and commands that they name exist."""

import ast
import re
import shlex
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from paths import ROOT
from typer.main import get_command

import streaming_nn
from producers.__main__ import app as producers_app
from streaming_nn.cli.app import app
from streaming_nn.settings import Settings

pytestmark = pytest.mark.commit

PAGES = {
    str(p.relative_to(ROOT)): p.read_text("utf-8") for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
}
BENCHMARKS = (
    "quality",
    "core",
    "train",
    "score",
    "scale",
    "start",
    "growth",
    "freshness",
    "averaged",
    "reactions",
    "outliers",
    "bits",
    "sparse",
    "lags",
)
OTHER_FLAGS = {  # of pip, uv, ruff, pytest, docker compose, spark-submit and Kafka's scripts
    *(
        "--require-hashes",
        "--no-deps",
        "--universal",
        "--python-version",
        "--all-extras",
        "--generate-hashes",
    ),
    *(
        "--no-emit-index-url",
        "--custom-compile-command",
        "--upgrade",
        "--check",
        "--tier",
        "--build",
        "--profile",
    ),
    *("--packages", "--repositories", "--jars", "--deploy-mode", "--command-config", "--bootstrap-server"),
    *("--add", "--allow-principal", "--operation", "--describe", "--group", "--strict"),
}
SECTIONS = {name: field.annotation for name, field in Settings.model_fields.items()}
STATE = {("metrics", key) for key in ("cumulative", "window", "fading", "scores")}  # of a state, not settings
BEFORE = ("CHANGELOG.md", "| `")  # the table of names before and after


def lines(page: str) -> list[str]:
    """Return the lines of a page, without those that name what was before."""
    return [x for x in PAGES[page].splitlines() if not (page == BEFORE[0] and x.startswith(BEFORE[1]))]


def found(pattern: str) -> list[tuple[str, str]]:
    return [(page, match) for page in PAGES for line in lines(page) for match in re.findall(pattern, line)]


def anchors(page: str) -> set[str]:
    titles = [line.lstrip("# ") for line in PAGES[page].splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def benchmark(name: str) -> Any:
    single = typer.Typer()
    single.command()(import_module(f"benchmarks.{name}").measure)
    return get_command(single)


def flags(command: Any) -> set[str]:
    own = {flag for parameter in command.params for flag in [*parameter.opts, *parameter.secondary_opts]}
    return own.union(*(flags(sub) for sub in getattr(command, "commands", {}).values()))


def test_links_lead_to_pages_and_their_headings() -> None:
    for page, link in found(r"\]\(([^)\s]+)\)"):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), (page, link)
        if anchor:
            assert anchor in anchors(str(target.resolve().relative_to(ROOT))), (page, link)


def test_the_map_names_every_page() -> None:
    for page in PAGES:
        if page.startswith("docs/") and page != "docs/README.md":
            assert f"({Path(page).name})" in PAGES["docs/README.md"], page


def test_paths_and_tests_exist() -> None:
    paths = found(r"`((?:tests|streaming_nn|producers|benchmarks|docs|\.ci)/[\w/.-]+)(?:`|::)")
    missing = [(page, path) for page, path in paths if not (ROOT / path).exists()]
    assert not missing, missing
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py"))
    tests = found(r"::(test_\w+)")
    missing = [(page, name) for page, name in tests if f"def {name}(" not in source]
    assert not missing, missing


def test_modules_and_their_names_exist() -> None:
    named = found(r"(?<![\w/.-])streaming_nn(?:\.[a-zA-Z]\w*)+(?!/)")
    missing = [(page, name) for page, name in named if not exists(name)]
    assert not missing, missing


def exists(name: str) -> bool:
    """Return whether a dotted name is a module or package, or is written in one; imports nothing."""
    path = ROOT.joinpath(*name.split("."))
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    module = path.parent / "__init__.py" if path.parent.is_dir() else path.parent.with_suffix(".py")
    return module.exists() and bool(re.search(rf"\b{path.name}\b", module.read_text("utf-8")))


def test_settings_exist() -> None:
    missing = []
    for page, match in found(r"`(?:--set )?([a-z]+\.[a-z_]+)(?=[`=\s])"):
        section, _, key = match.partition(".")
        fields = getattr(SECTIONS.get(section), "model_fields", {key})
        if key not in fields and (section, key) not in STATE:
            missing.append((page, match))
    assert not missing, missing


def test_flags_exist() -> None:
    known = OTHER_FLAGS | flags(get_command(app)) | flags(get_command(producers_app))
    known = known.union(*(flags(benchmark(name)) for name in BENCHMARKS))
    named = found(r"(?<![\w-])(--[a-z][a-z-]+)")
    missing = [(page, flag) for page, flag in named if flag not in known]
    assert not missing, missing


@pytest.mark.parametrize(
    "words", sorted({command for _, command in found(r"-m (benchmarks\.\w+[^`#]*?)(?=`|#|$)")})
)
def test_benchmarks_take_their_options(words: str) -> None:
    name, *options = shlex.split(words)
    benchmark(name.removeprefix("benchmarks.")).make_context(name, options)


@pytest.mark.parametrize(
    "words",
    sorted({command for _, command in found(r"(?:^|`|bin/| {4})streaming-nn ([a-z][^`#\\]*)(?=`|#|$)")}),
)
def test_commands_take_their_options(words: str) -> None:
    command: Any = get_command(app)
    rest = shlex.split(words)
    while getattr(command, "commands", None) and rest:
        command = command.commands[rest.pop(0)]
    for word in rest:
        if word.startswith("--"):
            assert word.partition("=")[0] in flags(command), word


def parts(page: str) -> list[tuple[str, list[str], list[str], int]]:
    """Return what a translation keeps of each section: level, links, names, rows of tables."""
    found = []
    for section in re.split(r"^(?=#+ )", re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL), flags=re.M):
        links = sorted(re.findall(r"\]\(([^)]+)\)", section.replace("README.zh-CN.md", "README.md")))
        names = sorted(re.findall(r"`[^`]+`", section))
        found.append((section.split(" ")[0], links, names, section.count("\n|")))
    return found


def test_the_chinese_readme_has_the_same_code_headings_and_links() -> None:
    english, chinese = ("README.md", "README.zh-CN.md")
    blocks = [re.findall(r"```.*?```", PAGES[page], re.DOTALL) for page in (english, chinese)]
    assert blocks[0] == blocks[1]
    for part, translated in zip(parts(english), parts(chinese), strict=True):
        assert part == translated
    titles = [line for line in PAGES[chinese].splitlines() if line.startswith("## ")]
    assert all(re.search(r"[\u4e00-\u9fff]", title) for title in titles)


def blocks(language: str) -> list[tuple[str, str]]:
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    found = [(page, block) for page, text in PAGES.items() for block in pattern.findall(text)]
    assert found
    return found


def test_settings_in_blocks_are_valid() -> None:
    for page, block in blocks("toml"):
        try:
            Settings.model_validate(tomllib.loads(block))
        except ValueError as error:
            raise AssertionError(f"{page}:\n{block}") from error


def test_code_in_blocks_uses_public_names() -> None:
    public = vars(streaming_nn)["_PUBLIC"].keys()
    for page, block in blocks("python"):
        nodes = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Attribute)]
        used = {node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id == "snn"}
        assert used <= public, page
