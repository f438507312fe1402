"""docs/guarantees.md is true of the tests: what `.ci/run` holds, and what only the nightly tier does."""

import ast
import re
from functools import cache

import pytest
from paths import ROOT
from tiers import TIERS

pytestmark = pytest.mark.commit

PROMISES, _, NIGHTLY = (ROOT / "docs" / "guarantees.md").read_text().partition("## What only the nightly")
# promises whose tests need what `.ci/run` has no time for: brokers with SASL, and a wheel in an environment
LONG = {"tests/spark/train/test_secured.py", "tests/test_wheel.py"}
LATE = "pytest.mark." + TIERS[-1]


def named(node: ast.AST) -> list[str]:
    """Return the tiers whose markers are in the node's source."""
    return re.findall(rf"pytest\.mark\.({'|'.join(TIERS)})\b", ast.unparse(node))


def tiers_of(test: ast.FunctionDef, of_module: list[str]) -> set[str]:
    """Return the tiers of a test's cases: of a parameter's marker, or of the test's, or of its module's."""
    own, cases = of_module, list[list[str]]()
    for decorator in reversed(test.decorator_list):  # the nearest is the last to be read
        if not ast.unparse(decorator).startswith("pytest.mark.parametrize"):
            own = named(decorator) or own
        elif isinstance(decorator, ast.Call):
            values = decorator.args[1]
            each = values.elts if isinstance(values, ast.List | ast.Tuple) else [values]
            cases.append([tier for value in each for tier in (named(value) or ["own"])])
    found = {tier for tiers in cases for tier in tiers if tier != "own"}
    return found if any("own" not in tiers for tiers in cases) else found | set(own)


@cache
def read_tiers(path: str) -> dict[str, set[str]]:
    """Return the tiers of each test of a file."""
    body = ast.parse((ROOT / path).read_text()).body
    assigned = [node for node in body if isinstance(node, ast.Assign)]
    of_module = [t for node in assigned if ast.unparse(node.targets[0]) == "pytestmark" for t in named(node)]
    tests = [node for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return {test.name: tiers_of(test, of_module) for test in tests}


def rows(table: str) -> list[tuple[str, list[set[str]], list[str]]]:
    """Return each row's promise, the tiers of each file or test that it names, and the files."""
    found = []
    for line in table.splitlines():
        cells = line.split(" | ")
        if line.startswith("| ") and len(cells) > 2 and "Tested by" not in cells:
            files, tiers = list[str](), list[set[str]]()
            for file, name in re.findall(r"`(tests/[\w/]+\.py|)(?:::(test_\w+))?`", cells[-2]):
                files.append(file or files[-1])  # `::test_…` is in the file before it
                tests = read_tiers(files[-1])
                tiers.append(tests[name] if name else set().union(*tests.values()))
            found.append((cells[0].lstrip("| "), tiers, files))
    assert len(found) > 10
    return found


@pytest.mark.parametrize("row", rows(PROMISES), ids=lambda row: row[0][:40])
def test_a_promise_has_a_test_before_each_merge(row: tuple[str, list[set[str]], list[str]]) -> None:
    _, tiers, files = row
    assert files
    early = [{"commit", "merge"} & each for each in tiers]
    assert any(early) != bool(LONG & set(files) and len(files) == 1)


def test_every_file_with_a_nightly_test_is_in_the_nightly_table() -> None:
    paths = [path for path in (ROOT / "tests").rglob("test_*.py") if LATE in path.read_text()]
    files = [str(path.relative_to(ROOT)) for path in paths]
    with_nightly = {path for path in files if any("nightly" in tiers for tiers in read_tiers(path).values())}
    listed = {file for _, _, files in rows(NIGHTLY) for file in files}
    benchmarks = {path for path in with_nightly if path.startswith("tests/benchmarks/")}
    assert "`tests/benchmarks/`" in NIGHTLY
    assert listed == with_nightly - benchmarks


@pytest.mark.parametrize(
    ("source", "tiers"),
    [
        ("def test(): ...", {"merge"}),
        (f"@{LATE}\ndef test(): ...", {"nightly"}),
        (
            f"@pytest.mark.parametrize('n', [1, pytest.param(2, marks={LATE})])\ndef test(n): ...",
            {"merge", "nightly"},
        ),
        (f"@pytest.mark.parametrize('n', [pytest.param(2, marks={LATE})])\ndef test(n): ...", {"nightly"}),
        (f"@{LATE}\n@pytest.mark.parametrize('n', [1, 2])\ndef test(n): ...", {"nightly"}),
    ],
)
def test_tiers_are_read_from_markers(source: str, tiers: set[str]) -> None:
    (test,) = ast.parse(source).body
    assert isinstance(test, ast.FunctionDef)
    assert tiers_of(test, ["merge"]) == tiers
