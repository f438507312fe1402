import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import parent_of, tensors

from streaming_nn.errors import DamagedVersionError
from streaming_nn.versions.archive import BLOCK, POINT, Archive, Archives, add, extended
from streaming_nn.versions.retention import prune
from streaming_nn.versions.version import Manifest, sha256
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit


def write(path: Path, data: bytes) -> Archive:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return Archive.open(path)


def manifests(first: int, until: int, **changes: Any) -> Iterator[tuple[Manifest, bool]]:
    """Yield manifests as a trainer of three partitions commits them."""
    fixed = {
        "learner": {"learner": "ensemble", "inputs": 64},
        "schema": {"inputs": 64},
        "environment": {"a": 1},
    }
    for n in range(first, until):
        yield (
            Manifest(
                n,
                **fixed | changes,
                offsets={"labeled": {p: 33 * n + p for p in range(3)}},
                ranges={"labeled": {p: (33 * (n - 1) + p, 33 * n + p) for p in range(3)}},
                counts={"received": 99, "trained": 98, "skipped": 0, "rejected": 1, "filtered": 0},
                metrics={"window": {"accuracy": n / 10, "confusion": [[1, 2], [3, 4]]}, "rows": 99 * n},
                digest=sha256(b"digest %d" % n),
                parent_sha256=sha256(b"%d" % (n - 1)) if n else "",
                original_sha256=sha256(b"%d" % n),
                written_at=f"2026-01-01T00:00:{n % 60:02d}.000+00:00",
                nonce=sha256(b"nonce %d" % n)[:32],
            ),
            n % 1000 == 7,
        )


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
described = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["initial", "learned", "saved", "rolled-back", "repaired", "damaged"]),
        "learner": st.dictionaries(st.text(max_size=5), values, max_size=3),
        "schema": st.dictionaries(st.text(max_size=5), values, max_size=3),
        "offsets": st.dictionaries(
            st.text(max_size=3), st.dictionaries(st.integers(0, 99), st.integers(0, 2**60)), max_size=2
        ),
        "ranges": st.dictionaries(
            st.text(max_size=3),
            st.dictionaries(st.integers(0, 99), st.tuples(st.integers(0, 9), st.integers(9, 99))),
            max_size=2,
        ),
        "parent_sha256": st.sampled_from(["", "a", "b"]),
        "original_sha256": st.sampled_from(["", "a", "b"]),
        "seconds": st.dictionaries(st.text(max_size=3), st.floats(0, 9), max_size=2),
        "events": st.lists(st.dictionaries(st.just("event"), st.text(max_size=3), min_size=1), max_size=2),
        "restored_from": st.integers(-1, 9),
        "metrics": st.dictionaries(st.text(max_size=5), values, max_size=3),
        "record_times": st.lists(st.integers(0, 2**50), min_size=2, max_size=2),
        "lag": st.none() | st.integers(0, 2**50),
        "samples": st.dictionaries(st.text(max_size=5), values, max_size=3),
    },
)


@settings(max_examples=25, deadline=None)
@given(st.lists(described, min_size=1, max_size=8), st.integers(0, 7))
def test_any_manifest_survives_except_for_its_metrics_and_samples(
    tmp_path_factory: pytest.TempPathFactory, changes: list[dict[str, Any]], cut: int
) -> None:
    directory = tmp_path_factory.mktemp("archive")
    expected = [Manifest(n, **change) for n, change in enumerate(changes)]
    cut = min(cut, len(expected) - 1)
    archives, old = Archives(directory), None
    for part in (expected[:cut], expected[cut:]):
        if part:
            data = extended(old, ((manifest, False) for manifest in part))
            old = write(archives.path(0, part[-1].number + 1), data)
    archives.remove_shorter()
    found = [archives.manifest(number).to_json() for number in range(len(expected))]
    assert found == [{**json.loads(json.dumps(m.to_json())), "metrics": {}, "samples": {}} for m in expected]


def test_an_archive_that_was_extended_is_as_good_as_one_that_was_written_at_once(tmp_path: Path) -> None:
    archives = Archives(tmp_path)
    old, at_once = None, extended(None, manifests(0, 1_345))
    for first, until in ((0, 1), (1, 150), (150, 1_000), (1_000, 1_001), (1_001, 1_345)):
        old = write(archives.path(0, until), extended(old, manifests(first, until)))
    assert archives.path(0, 1_345).read_bytes() == at_once
    assert archives.refresh() == 1_345
    assert archives.needed() == {7, 1_007}
    assert len(at_once) < 150 * 1_345, "bytes per version"


def test_the_history_has_the_sums_and_the_last_metrics_of_each_hundred_versions(tmp_path: Path) -> None:
    archives = Archives(tmp_path)
    write(archives.path(0, 250), extended(None, manifests(0, 250)))
    archives.refresh()
    a, b, c = archives.points()
    assert [(p.first, p.last) for p in (a, b, c)] == [(0, 99), (100, 199), (200, 249)]
    assert b.counts == {"received": 9_900, "trained": 9_800, "skipped": 0, "rejected": 100, "filtered": 0}
    assert b.metrics == {"window": {"accuracy": 19.9}, "rows": 99 * 199}, "without matrices"
    assert c.written_at == "2026-01-01T00:00:09.000+00:00"


def test_a_point_has_every_event_and_the_metrics_of_the_last_version_that_has_any() -> None:
    point = None
    for n, (metrics, event) in enumerate([({"a": 1}, "drift"), ({"a": 2, "b": [1]}, None), ({}, "damaged")]):
        events = [{"event": event}] if event else []
        point = add(point, Manifest(n, metrics=metrics, events=events, rejected_by_reason={"not JSON": n}))
    assert point is not None
    assert point.metrics == {"a": 2}
    assert point.events == [{"event": "drift", "version": 0}, {"event": "damaged", "version": 2}]
    assert point.rejected_by_reason == {"not JSON": 3}
    assert (point.lag, point.delay) == (None, None)


def test_a_point_has_the_largest_lag_and_delay() -> None:
    at, point = "2026-01-01T00:00:09.000+00:00", None
    committed = 1_767_225_609_000  # ms since 1970
    for n, (lag, delay) in enumerate([(5, None), (7, 1_250), (None, 250), (0, 3)]):
        times = [] if delay is None else [committed - delay, committed]
        point = add(point, Manifest(n, written_at=at, lag=lag, record_times=times))
    assert point is not None
    assert (point.lag, point.delay) == (7, 1.25)


def test_the_history_of_a_log_is_the_same_before_and_after_pruning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming_nn.versions.archive.POINT", 10)
    log = VersionLog(tmp_path)
    for _ in range(32):
        number = log.head_number()
        parent = None if number is None else parent_of(log, number)
        log.commit(parent, tensors(0), metrics={"accuracy": number}, kind="learned")
    expected = list(log.points())
    assert [point.last for point in expected] == [9, 19, 29, 31]
    prune(log, 0)
    assert list(log.points()) == list(VersionLog(tmp_path).points()) == expected
    log.commit(log.head(), tensors(0))
    assert [point.last for point in log.points()] == [9, 19, 29, 32]


def test_every_byte_that_changes_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    data = extended(None, manifests(0, 1))
    path = tmp_path / f"{0:012d}-{1:012d}.safetensors"
    expected = [manifest for manifest, _ in manifests(0, 1)]
    noticed = 0
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 4
        try:
            found = write(path, bytes(changed))
            assert [m.original_sha256 for m in found.manifests(0)] == [m.original_sha256 for m in expected]
            assert len(found.points(0)) == 1
        except DamagedVersionError:
            noticed += 1
    assert noticed > 0.9 * len(data), "of the header, the dtype and shape of bytes have no meaning"


def test_an_archive_under_another_ones_name_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / f"{0:012d}-{30:012d}.safetensors"
    with pytest.raises(DamagedVersionError, match="another archive has taken its name"):
        write(path, extended(None, manifests(0, 20)))


def test_other_files_in_the_directory_are_ignored(tmp_path: Path) -> None:
    archives = Archives(tmp_path / "archive")
    assert archives.refresh() == 0
    write(archives.path(0, 20), extended(None, manifests(0, 20)))
    for name in (".000000000000-000000000900.safetensors.ab.tmp", "copy.safetensors", "0-99.safetensors"):
        (archives.directory / name).touch()
    assert archives.refresh() == 20


@pytest.mark.nightly
@pytest.mark.timeout(1200)  # on a loaded machine
def test_a_million_versions_have_a_history_of_ten_thousand_points(tmp_path: Path) -> None:
    log = VersionLog(tmp_path)
    log.versions.mkdir()
    for first in range(0, 10 * BLOCK, BLOCK):
        archives = log.archives
        write(archives.path(first, first + BLOCK), extended(None, manifests(first, first + BLOCK)))
    assert VersionLog(tmp_path).head_number() == 10 * BLOCK - 1
    points = list(log.points())
    assert len(points) == 10 * BLOCK // POINT
    assert sum(point.counts["received"] for point in points) == 99 * 10 * BLOCK
    assert log.manifest(543_210).counts["trained"] == 98
