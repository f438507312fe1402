from pathlib import Path

import pytest
from logs import filled

from streaming_nn.versions.retention import prune
from streaming_nn.versions.tags import find, tag, tags, untag
from streaming_nn.versions.version_log import VersionLog


def test_a_tag_names_a_version_and_can_be_moved_and_taken_away(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 4)
    assert tags(log) == {}
    tag(log, "best", 1)
    tag(log, "v1.0", 0)
    tag(log, "best", 2)
    assert tags(log) == {"best": 2, "v1.0": 0}
    assert [find(log, text) for text in ("best", "v1.0", "head", "3", "0")] == [2, 0, 3, 3, 0]
    untag(log, "best")
    assert tags(log) == {"v1.0": 0}
    with pytest.raises(LookupError, match=r"no tag 'best'; there are v1\.0"):
        untag(log, "best")


@pytest.mark.parametrize("name", ["", "42", "head", "../x", "a/b", ".hidden", "a b", "x" * 65, "ä", "a\n"])
def test_a_name_that_could_mean_something_else_is_refused(tmp_path: Path, name: str) -> None:
    log = filled(VersionLog(tmp_path), 1)
    with pytest.raises(ValueError, match="a tag must be"):
        tag(log, name, 0)
    assert not (tmp_path / "tags").exists()


def test_only_what_has_its_tensors_can_be_tagged(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 4)
    prune(log, keep_last=1)
    with pytest.raises(LookupError, match=r"version 2 can't be tagged"):
        tag(log, "best", 2)
    with pytest.raises(LookupError, match="no version 9"):
        tag(log, "best", 9)
    assert tags(log) == {}


@pytest.mark.parametrize("text", ["worst", "9", "-1"])
def test_what_means_no_version_is_said_with_what_would(tmp_path: Path, text: str) -> None:
    log = filled(VersionLog(tmp_path), 2)
    tag(log, "best", 1)
    with pytest.raises(LookupError, match="a number up to 1 or one of the tags best; got"):
        find(log, text)


def test_a_broken_tag_is_named(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 1)
    tag(log, "best", 0)
    (tmp_path / "tags" / "best").write_text("")
    with pytest.raises(ValueError, match="tag 'best' must hold"):
        tags(log)
