"""What the trainer may know: a source's position is opaque to it; one function commits what was learned."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

pytestmark = pytest.mark.commit

PACKAGE = ROOT / "streaming_nn"
# fields of a position: only the source that wrote them may read them
POSITION = {"ranges", "offsets", "topic_ids", "source", "query_id", "batch_id", "checkpoint"}
FIELDS = POSITION | {f"{name}=" for name in POSITION} | {f"{name}:" for name in POSITION}
OWNERS = ["spark/sources", "versions", "spark/replay"]  # write it; store it; replay recorded topics
READERS = [
    "spark/score/scorer.py",  # the age of a version in records
    "cli/versions.py",  # prints it
    "demo/run.py",  # counts what is learned
    *("cli/train.py", "cli/score.py"),  # name sections and keys of the settings
]


def name_of(node: ast.expr) -> str:
    """Return the last name of an expression such as `head.manifest`; an empty string: it has none."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def keys_and_attributes(path: Path) -> Iterator[str]:
    """Yield each key that a module looks at, writes (`key:`) or passes (`key=`), and each attribute of a
    manifest.
    """
    text = path.read_text()
    nodes = (
        ast.walk(ast.parse(text)) if any(name in text for name in POSITION) else iter(())
    )  # parsing is slow
    for node in nodes:
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            yield str(node.slice.value)
        elif isinstance(node, ast.Compare) and isinstance(node.left, ast.Constant):
            yield str(node.left.value)
        elif isinstance(node, ast.Call) and node.args and name_of(node.func) in ("get", "pop"):
            yield ast.unparse(node.args[0]).strip("'")
        elif isinstance(node, ast.keyword) and node.arg:
            yield f"{node.arg}="
        elif isinstance(node, ast.Dict):
            yield from (f"{key.value}:" for key in node.keys if isinstance(key, ast.Constant))
        elif isinstance(node, ast.Attribute) and name_of(node.value).endswith("manifest"):
            yield node.attr


def test_no_key_of_a_source_is_used_outside_of_it() -> None:
    owned = [path for owner in OWNERS for path in (PACKAGE / owner).rglob("*.py")]
    users = {path for path in PACKAGE.rglob("*.py") if FIELDS & set(keys_and_attributes(path))}
    assert users - set(owned) == {PACKAGE / name for name in READERS}


def test_such_a_key_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "'ranges' in plan, plan['offsets'], head.manifest.topic_ids, commit(source=1), f.get('batch_id'), "
        "{**x, 'query_id': 1}"
    )
    found = set(keys_and_attributes(path))
    assert {"ranges", "offsets", "topic_ids", "source=", "batch_id", "query_id:"} <= found


def users_of(pattern: str) -> set[str]:
    found = {path for path in PACKAGE.rglob("*.py") if re.search(pattern, path.read_text())}
    return {str(path.relative_to(PACKAGE)) for path in found}


def test_one_function_commits_version_0_and_one_the_others() -> None:
    assert {
        user for user in users_of(r"\b(log|VersionLog\(.*\))\.commit\(") if user.startswith("spark/train")
    } == {
        "spark/train/initial.py",
        "spark/train/micro_batch.py",
    }


def test_versions_are_written_by_commit() -> None:
    """Repair puts back files that it has found to be good, and manifests of versions that are lost."""
    assert users_of(r"\blog\.append\(|\bnext_manifest\b") == {"versions/version_log.py"}
    encoders = users_of(r"versions\.version import [^)]*\bencode\b")
    assert encoders == {"versions/version_log.py", "versions/repair.py"}
