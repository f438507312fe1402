"""What the trainer may know: a source's position is opaque to it; one function commits what was learned."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

pytestmark = pytest.mark.commit

TRAIN = sorted((ROOT / "streaming_nn" / "spark" / "train").glob("*.py"))
# fields of a position: only the source that wrote them may read them
POSITION = {"ranges", "offsets", "topic_ids", "source", "query_id", "batch_id", "checkpoint"}


def keys_and_attributes(path: Path) -> Iterator[str]:
    """Yield each key that a module looks at, and each attribute of a manifest."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            yield str(node.slice.value)
        elif isinstance(node, ast.Compare) and isinstance(node.left, ast.Constant):
            yield str(node.left.value)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".get", ".pop")) and node.args:
            yield ast.unparse(node.args[0]).strip("'")
        elif isinstance(node, ast.keyword) and node.arg:
            yield f"{node.arg}="
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("manifest"):
            yield node.attr


@pytest.mark.parametrize("path", TRAIN, ids=lambda path: path.stem)
def test_no_key_of_a_source_is_used_outside_of_it(path: Path) -> None:
    fields = POSITION | {f"{name}=" for name in POSITION}
    assert fields & set(keys_and_attributes(path)) == set()


def test_such_a_key_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "'ranges' in plan, plan['offsets'], head.manifest.topic_ids, commit(source=1), f.get('batch_id')"
    )
    assert {"ranges", "offsets", "topic_ids", "source=", "batch_id"} <= set(keys_and_attributes(path))


def test_one_function_commits_version_0_and_one_the_others() -> None:
    assert [path.stem for path in TRAIN if "log.commit(" in path.read_text()] == ["initial", "micro_batch"]
    assert not any("log.append(" in path.read_text() for path in TRAIN)
