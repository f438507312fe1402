"""What verify and backtest share: chunks of versions, and whether a topic still has their records. No JVM."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_nn.errors import DataLossError
from streaming_nn.kafka import admin
from streaming_nn.spark.replay.recorded import (
    JOB_ROWS,
    check_available,
    join_ranges,
    learn_chunk,
    split_chunks,
)
from streaming_nn.versions.version import Manifest, no_counts

pytestmark = pytest.mark.commit


def manifest(number: int, received: int = 10, seed: int = 0, **fields: Any) -> Manifest:
    return Manifest(number, counts=no_counts() | {"received": received}, learner={"seed": seed}, **fields)


def rules(manifest: Manifest) -> Any:
    return manifest.kind, manifest.learner


def split(manifests: list[Manifest], most: int = 100) -> list[list[int]]:
    return [[m.number for m in chunk] for chunk in split_chunks(manifests, rules, most)]


def test_versions_of_the_same_rules_are_one_chunk() -> None:
    assert split([manifest(n) for n in range(1, 6)]) == [[1, 2, 3, 4, 5]]
    assert split([]) == []


def test_a_chunk_ends_at_other_rules() -> None:
    assert split([manifest(n, seed=n // 3) for n in range(1, 6)]) == [[1, 2], [3, 4, 5]]


def test_a_chunk_has_a_limit_of_versions_and_of_records() -> None:
    assert split([manifest(n) for n in range(1, 6)], most=2) == [[1, 2], [3, 4], [5]]
    sizes = [JOB_ROWS // 2, JOB_ROWS // 2, 1, JOB_ROWS, 1]
    assert split([manifest(n, size) for n, size in enumerate(sizes, 1)]) == [[1, 2], [3], [4], [5]]
    assert split([manifest(1, JOB_ROWS + 1), manifest(2)]) == [[1], [2]], "a version is never split"


def test_versions_that_learned_nothing_are_chunks_of_their_own() -> None:
    kinds = ["learned", "rolled-back", "rolled-back", "learned"]
    assert split([manifest(n, kind=kind) for n, kind in enumerate(kinds, 1)]) == [[1], [2], [3], [4]]


manifests = st.builds(
    manifest,
    st.just(0),
    received=st.integers(0, JOB_ROWS),
    seed=st.integers(0, 1),
    kind=st.sampled_from(["learned", "learned", "repaired"]),
)


@given(st.lists(manifests, max_size=20), st.integers(1, 5))
def test_chunks_keep_all_versions_in_their_order(versions: list[Manifest], most: int) -> None:
    chunks = list(split_chunks(versions, rules, most))
    assert [m for chunk in chunks for m in chunk] == versions
    for chunk in chunks:
        assert 1 <= len(chunk) <= most
        assert len(chunk) == 1 or sum(m.counts["received"] for m in chunk) <= JOB_ROWS
        assert all(rules(m) == rules(chunk[0]) for m in chunk)


def test_ranges_are_joined_from_the_first_to_the_last_offset() -> None:
    versions = [
        manifest(1, ranges={"t": {0: (5, 9), 1: (0, 6)}}),
        manifest(2, ranges={"t": {0: (9, 9), 1: (6, 10)}, "u": {0: (0, 3)}}),
        manifest(3, ranges={"t": {0: (2, 4)}}),  # replayed after a repair
    ]
    assert join_ranges(versions) == {"t": {0: (2, 9), 1: (0, 10)}, "u": {0: (0, 3)}}
    assert join_ranges([]) == {}


def test_versions_without_records_need_no_job() -> None:
    no_spark: Any = None
    assert learn_chunk(no_spark, {}, [manifest(1, 0), manifest(2, 0)], {}, []) == []


@pytest.fixture
def _topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the broker have a topic "t" with the id "new", whose partition 0 has offsets 150 to 299."""
    connection = SimpleNamespace(
        beginnings=lambda topics: {"t": {0: 150}},
        ends=lambda topics: {"t": {0: 300, 1: 9}},
        ids=lambda topics: {"t": "new"},
    )
    monkeypatch.setattr(admin, "KafkaAdmin", lambda kafka: nullcontext(connection))


@pytest.mark.usefixtures("_topic")
def test_expired_records_are_a_data_loss() -> None:
    kept = manifest(2, ranges={"t": {0: (150, 200)}}, topic_ids={"t": "new"})
    nothing = manifest(1, 0, ranges={"t": {0: (150, 150), 1: (0, 9)}}, topic_ids={})
    check_available({}, [nothing, kept])
    expired = manifest(1, ranges={"t": {0: (100, 150)}}, topic_ids={"t": "new"})
    message = "version 1 learned 't' partition 0 from offset 100, and the topic now begins at 150.*--from"
    with pytest.raises(DataLossError, match=message):
        check_available({}, [expired, kept])


@pytest.mark.usefixtures("_topic")
def test_a_topic_that_ends_before_the_records_is_a_data_loss() -> None:
    """A broker without ids of topics: only the offsets show that it is another topic."""
    check_available({}, [manifest(2, ranges={"t": {0: (250, 300)}})])
    with pytest.raises(DataLossError, match="up to offset 301, and the topic now ends at 300"):
        check_available({}, [manifest(2, ranges={"t": {0: (250, 301)}})])


@pytest.mark.usefixtures("_topic")
def test_a_recreated_topic_is_a_data_loss() -> None:
    old = manifest(7, ranges={"t": {0: (150, 200)}}, topic_ids={"t": "old"})
    with pytest.raises(DataLossError, match="topic 't' was recreated since version 7 learned it"):
        check_available({}, [old])
