"""docs/version-file.md is enough: its code, on the standard library alone, reads what `encode` writes."""

import ast
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
from paths import ROOT

from streaming_nn.versions import archive, version
from streaming_nn.versions.version import Manifest, Version, decode, encode

pytestmark = pytest.mark.commit

TEXT = (ROOT / "docs" / "version-file.md").read_text("utf-8")
CODE = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
FUNCTIONS = re.sub(r"^with open.*?(?=^import)", "", CODE, flags=re.DOTALL | re.MULTILINE)
FILES = sorted(golden.FOLDER.glob("*/*.safetensors"))


def run(code: str) -> dict[str, Any]:
    page: dict[str, Any] = {}
    exec(compile(code, "version-file.md", "exec"), page)
    return page


def names(text: str, heading: str) -> set[str]:
    """Return the names in the first column of a table."""
    rows = re.search(rf"^\| {heading} \|.*?(?=\n\n)", text + "\n\n", re.MULTILINE | re.DOTALL)
    assert rows is not None, heading
    return {name for row in rows[0].splitlines()[2:] for name in re.findall(r"`(.*?)`", row.split(" | ")[0])}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_code_on_the_page_reads_a_version(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "versions" / "000000000001.safetensors"
    file.parent.mkdir()
    file.write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    page = run(CODE)
    expected = decode(path.read_bytes())
    assert Manifest.from_json(page["manifest"]) == expected.manifest
    assert page["tensors"].keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        values = np.array(page["numbers"](*page["tensors"][name]), tensor.dtype).reshape(tensor.shape)
        np.testing.assert_array_equal(values, tensor, name)


def test_the_code_on_the_page_needs_the_standard_library_only() -> None:
    nodes = [*ast.walk(ast.parse(CODE))]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert imported == {"json", "struct", "hashlib", "zlib"}
    assert not [node for node in nodes if isinstance(node, ast.ImportFrom)]


def test_damage_is_detected() -> None:
    page = run(FUNCTIONS)
    data = FILES[0].read_bytes()
    position = data.index(b'\\"kind\\"')
    with pytest.raises(ValueError, match="damaged"):
        page["read"](data[: position + 2] + b"K" + data[position + 3 :])
    manifest, tensors = page["read"](data[:-1] + bytes([data[-1] ^ 1]))
    assert page["digest"](tensors) != manifest["digest"]


def test_the_code_on_the_page_reads_an_archive() -> None:
    manifests = [
        Manifest(number, original_sha256=f"{number:064x}", offsets={"t": {0: number // 2}}, kind=kind)
        for number, kind in enumerate(["initial", *["learned"] * 5, "rolled-back", "learned"])
    ]
    data = archive.extended(None, [(manifest, False) for manifest in manifests])
    found = run(FUNCTIONS)["archived"](data, 0)
    expected = [manifest.to_json() for manifest in manifests]
    for values in expected:
        del values["metrics"], values["samples"]
    assert found == expected


def test_the_page_names_every_key_kind_and_event() -> None:
    assert names(TEXT, "key") == {field.name for field in fields(Manifest)}
    for table in ("kind", "event"):
        assert names(TEXT, table) == names(str(version.__doc__), table)
    assert version.FORMAT == 4
    assert f"of this page: {version.FORMAT}" in TEXT


def test_a_header_is_padded_and_the_tensors_follow_without_gaps() -> None:
    data = encode(Version(Manifest(0), {"a": np.arange(3, dtype=np.int32), "b": np.ones((2, 2))}))
    page = run(FUNCTIONS)
    _, tensors = page["read"](data)
    size = int.from_bytes(data[:8], "little")
    assert size % 8 == 0
    assert len(data) == 8 + size + sum(len(raw) for _, _, raw in tensors.values())
