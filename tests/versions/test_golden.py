"""Golden versions: files that an earlier release wrote are opened, predict and resume.

With the same arithmetic to the same bits; a later one promises that they fit, and predict nearly the same.
"""

import json
from pathlib import Path

import golden
import numpy as np
import pytest
from golden import Resumed

from streaming_nn.core import library
from streaming_nn.versions.version import Version, decode
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

FILES = sorted(golden.FOLDER.glob("*/*.safetensors"))
NEAR = 1e-3  # of predictions by another arithmetic, which rounds elsewhere


def predicted(path: Path, found: Resumed) -> np.ndarray:
    """Return what was predicted when the file was written."""
    expected = json.loads((path.parent / golden.EXPECTED).read_text())[path.stem]
    data = np.frombuffer(bytes.fromhex(expected["predictions"]), found.predictions.dtype)
    return data.reshape(found.predictions.shape)


def check(path: Path) -> Version:
    """Check that a file opens, predicts and resumes as its arithmetic promises."""
    data = path.read_bytes()
    assert len(data) < 100_000
    version = decode(data)
    assert version.manifest.arithmetic == int(path.parent.name)
    found = golden.resumed(path.stem, version)
    assert found.counts.trained == golden.MORE
    np.testing.assert_allclose(found.predictions, predicted(path, found), NEAR, NEAR)
    if version.manifest.arithmetic == library.ARITHMETIC:
        expected = json.loads((path.parent / golden.EXPECTED).read_text())[path.stem]
        assert found.as_text() == expected
    return version


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_golden_version_predicts_and_resumes(path: Path) -> None:
    check(path)


def test_each_golden_model_of_this_arithmetic_has_its_file() -> None:
    found = [path.stem for path in FILES if path.parent.name == str(library.ARITHMETIC)]
    assert found == sorted(golden.MODELS)
    assert {path.parent.name for path in FILES} == set(map(str, library.RELEASES))


def test_a_later_release_resumes_them_and_records_its_arithmetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = FILES[0]
    golden_version, before = decode(path.read_bytes()), golden.resumed
    log = VersionLog(tmp_path)
    log.commit(None, golden_version.tensors, learner=golden_version.manifest.learner)
    later = library.ARITHMETIC + 1
    monkeypatch.setattr(library, "ARITHMETIC", later)

    def rounded_elsewhere(name: str, version: Version) -> Resumed:
        found = before(name, version)
        return found._replace(predictions=np.nextafter(found.predictions, 0), digest="another")

    monkeypatch.setattr(golden, "resumed", rounded_elsewhere)
    check(path)
    head = log.head()
    assert head is not None
    manifest = log.commit(head, head.tensors, kind="saved", events=[{"event": "drift"}]).manifest
    change = {"event": "arithmetic changed", "from": later - 1, "to": later}
    assert (manifest.arithmetic, manifest.events) == (later, [change, {"event": "drift"}])
    assert log.commit(log.head(), head.tensors, kind="saved").manifest.events == []
