"""Golden versions: files that an earlier release wrote are opened, predict and resume to the same bits."""

import json
from pathlib import Path

import golden
import pytest

from streaming_nn.core.library import ARITHMETIC
from streaming_nn.versions.version import decode

pytestmark = pytest.mark.commit

FILES = sorted(golden.FOLDER.glob("*.safetensors"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_version_predicts_and_resumes_to_the_same_bits(path: Path) -> None:
    data = path.read_bytes()
    assert len(data) < 100_000
    version = decode(data)
    assert version.manifest.arithmetic == ARITHMETIC
    assert golden.resumed(path.stem, version) == json.loads(golden.EXPECTED.read_text())[path.stem]


def test_each_golden_model_has_its_file() -> None:
    assert [path.stem for path in FILES] == sorted(golden.MODELS)
