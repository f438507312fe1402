from pathlib import Path

import pytest
from logs import filled, prune_all_but

from streaming_nn.versions.tags import find, tag, tags, untag
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit


def test_a_tag_can_be_set_moved_and_deleted(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 4)
    assert tags(log) == {}
    tag(log, "best", 1)
    tag(log, "v1.0", 0)
    tag(log, "best", 2)
    assert tags(log) == {"best": 2, "v1.0": 0}
    assert [find(log, text) for text in ("best", "v1.0", "head", "3", "0")] == [2, 0, 3, 3, 0]
    untag(log, "best")
    assert tags(log) == {"v1.0": 0}
    with pytest.raises(LookupError, match=r"tag must be one of v1\.0; got 'best'"):
        untag(log, "best")


@pytest.mark.parametrize("name", ["", "42", "head", "../x", "a/b", ".hidden", "a b", "x" * 65, "ä", "a\n"])
def test_an_ambiguous_name_is_refused(tmp_path: Path, name: str) -> None:
    log = filled(VersionLog(tmp_path), 1)
    with pytest.raises(ValueError, match="tag must be"):
        tag(log, name, 0)
    assert not (tmp_path / "tags").exists()


def test_only_a_version_with_tensors_can_be_tagged(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 4)
    prune_all_but(log)
    with pytest.raises(LookupError, match=r"cannot tag version 2"):
        tag(log, "best", 2)
    with pytest.raises(LookupError, match="no version 9"):
        tag(log, "best", 9)
    assert tags(log) == {}


@pytest.mark.parametrize("text", ["worst", "9", "-1"])
def test_an_unknown_version_is_reported_with_the_known_ones(tmp_path: Path, text: str) -> None:
    log = filled(VersionLog(tmp_path), 2)
    tag(log, "best", 1)
    with pytest.raises(LookupError, match="a number up to 1 or one of the tags best; got"):
        find(log, text)


def test_a_broken_tag_is_reported(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 1)
    tag(log, "best", 0)
    (tmp_path / "tags" / "best").write_text("")
    with pytest.raises(ValueError, match="tag 'best' must hold"):
        tags(log)
