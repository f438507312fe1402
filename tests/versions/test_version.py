import json
import math
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_nn.core import library
from streaming_nn.errors import DamagedVersionError
from streaming_nn.versions.repair import repair
from streaming_nn.versions.version import (
    Manifest,
    ManifestFields,
    Version,
    decode,
    decode_manifest,
    encode,
    header_size,
    state_digest,
)
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

TENSORS = {
    "model.theta": np.linspace(-1, 1, 12, dtype=np.float32),
    "model.steps": np.array(7, np.int64),
    "metrics.confusion": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "metrics.empty": np.zeros((0, 3), np.float32),
    "model.seen": np.array([True, False]),
}


def version(number: int = 3, **changes: Any) -> Version:
    values: dict[str, Any] = {
        "offsets": {"digits": {0: 10, 11: 4}},
        "nonce": "n",
        "written_by": {"host": "h", "pid": 1},
    }
    return Version(Manifest(number, **(values | changes)), TENSORS)


def test_a_version_is_decoded_as_it_was_encoded() -> None:
    v = version(ranges={"digits": {0: (0, 10), 11: (2, 4)}}, metrics={"accuracy": 0.5}, events=[{"drift": 4}])
    back = decode(encode(v), 3)
    assert back.manifest.ranges == v.manifest.ranges
    assert back.manifest == Manifest(**(vars(v.manifest) | {"digest": state_digest(TENSORS)}))
    assert back.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(back.tensors[name], tensor)
        assert back.tensors[name].dtype == tensor.dtype
        assert back.tensors[name].shape == tensor.shape
        assert back.tensors[name].flags.writeable


def test_equal_versions_give_equal_bytes_in_any_order_of_names() -> None:
    names = sorted(TENSORS)
    saves = {
        encode(version()._replace(tensors={n: TENSORS[n] for n in names[i:] + names[:i]})) for i in range(5)
    }
    assert len(saves | {encode(version()) for _ in range(20)}) == 1


def test_strided_and_big_endian_tensors_are_saved_by_value() -> None:
    a = np.arange(24, dtype=np.float64).reshape(4, 6)
    tensors = {"strided": a[::2, ::3], "transposed": a.T, "big": np.arange(3, dtype=">i4")}
    back = decode(encode(Version(Manifest(0), tensors))).tensors
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor)


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.zeros(2, np.float64)},  # another dtype
        {"a": np.zeros((2, 1), np.float32)},  # another shape
        {"b": np.zeros(2, np.float32)},  # another name
        {"a": np.array([0, -0.0], np.float32)},  # other bits of an equal number
        {"a": np.zeros(2, np.float32), "b": np.zeros(0, np.float32)},
    ],
)
def test_the_digest_covers_names_dtypes_shapes_and_bits(other: dict[str, Any]) -> None:
    assert state_digest(other) != state_digest({"a": np.zeros(2, np.float32)})


def test_the_digest_does_not_cover_the_writer() -> None:
    assert (
        decode(encode(version(nonce="a"))).manifest.digest
        == decode(encode(version(nonce="b"))).manifest.digest
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.text(), JSON, max_size=3)
OFFSET = st.integers(0, 2**63 - 1)
PARTITION = st.integers(0, 10**6)
MANIFESTS = st.builds(
    Manifest,
    number=st.integers(0, 10**12 - 1),
    kind=st.sampled_from(["initial", "learned", "rolled-back"]),
    learner=OBJECT,
    schema=OBJECT,
    offsets=st.dictionaries(st.text(), st.dictionaries(PARTITION, OFFSET, max_size=3), max_size=3),
    topic_ids=st.dictionaries(st.text(), st.text(), max_size=2),
    ranges=st.dictionaries(
        st.text(), st.dictionaries(PARTITION, st.tuples(OFFSET, OFFSET), max_size=3), max_size=3
    ),
    rejected_by_reason=st.dictionaries(st.text(), st.integers(0), max_size=2),
    metrics=OBJECT,
    parent_sha256=st.text(),
    restored_from=st.integers(-1, 99),
    written_at=st.text(),
    written_by=OBJECT,
    environment=OBJECT,
    seconds=st.dictionaries(st.text(), st.floats(0, 1e9), max_size=2),
    events=st.lists(JSON, max_size=3),
    source=OBJECT,
)


@given(MANIFESTS)
@settings(max_examples=40, deadline=None)
def test_every_manifest_survives_json_and_a_file(manifest: Manifest) -> None:
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest
    back = decode(encode(Version(manifest, {})), manifest.number).manifest
    assert back == Manifest(**(vars(manifest) | {"digest": state_digest({})}))


def test_a_manifest_may_hold_numpy_numbers_and_writes_non_finite_ones_as_null() -> None:
    metrics = {"f1": np.float32(0.5), "rows": np.int64(3), "loss": math.nan, "all": [np.inf, np.arange(2)]}
    manifest = decode(encode(version(metrics=metrics))).manifest
    assert manifest.metrics == {"f1": 0.5, "rows": 3, "loss": None, "all": [None, [0, 1]]}
    with pytest.raises(TypeError, match="set"):
        encode(version(metrics={"bad": {1}}))


@pytest.mark.parametrize(
    ("manifest", "untrained"),
    [
        (Manifest(0, kind="initial"), True),
        (Manifest(3, kind="initial", events=[{"event": "model restarted", "changed": "x"}]), True),
        (Manifest(0, kind="initial", events=[{"event": "backtest", "of": {}}]), False),
        (Manifest(0, kind="saved"), False),
        (Manifest(1, kind="learned"), False),
        (Manifest(2, kind="rolled-back", restored_from=0), False),
    ],
    ids=lambda value: f"{value.kind} {value.number}" if isinstance(value, Manifest) else None,
)
def test_a_version_before_which_nothing_was_learned(manifest: Manifest, untrained: bool) -> None:
    assert manifest.untrained is untrained


def test_unknown_keys_are_ignored_and_another_format_is_refused() -> None:
    assert Manifest.from_json({"number": 1, "nonce": "x", "mood": "good"}) == Manifest(1, nonce="x")
    with pytest.raises(ValueError, match="format must be 4; got 3"):
        Manifest.from_json({"number": 1, "format": 3})
    with pytest.raises(ValueError, match="number"):
        Manifest.from_json({"format": 4})


def test_a_newer_arithmetic_is_refused_with_the_release_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(Version(Manifest(41, environment={"streaming_nn": "0.7.1"}), TENSORS))
    found = library.ARITHMETIC
    assert decode(data).manifest.arithmetic == found
    monkeypatch.setattr(library, "ARITHMETIC", 0)
    monkeypatch.setattr(library, "RELEASES", {})
    expected = (
        "version 41: arithmetic must be at most 0, which this release has; "
        f"got {found}; use streaming_nn>=0.7.1"
    )
    with pytest.raises(ValueError) as caught:
        decode(data)
    assert str(caught.value) == expected
    assert decode_manifest(data).number == 41, "it can still be listed"


def test_a_file_of_the_first_format_is_refused_in_one_line(tmp_path: Path) -> None:
    record = json.dumps({"format": 1, "number": 0, "kind": "initial"})
    log = VersionLog(tmp_path)
    log.versions.mkdir()
    log.path(0).write_bytes(safetensors.numpy.save(TENSORS, {"record": record}))
    for read in (log.head, lambda: log.read(0), lambda: log.manifest(0), lambda: repair(log)):
        with pytest.raises(ValueError, match="use a new model directory") as error:
            read()
        assert not isinstance(error.value, DamagedVersionError)
        assert str(error.value).startswith(f"{log.path(0)} was written by an older release, in format 1")
        assert "\n" not in str(error.value)


def test_the_manifest_is_read_from_the_header_alone() -> None:
    data = encode(version())
    head = data[: header_size(data[:8])]
    assert len(head) < len(data)
    assert decode_manifest(head, 3) == decode(data).manifest


def test_any_safetensors_reader_finds_the_manifest() -> None:
    data = encode(version())
    header = json.loads(data[8 : header_size(data)])
    assert list(header["__metadata__"]) == ["manifest"]
    assert json.loads(header["__metadata__"]["manifest"])["number"] == 3
    assert safetensors.numpy.load(data).keys() == TENSORS.keys()


def test_every_bit_that_flips_is_noticed() -> None:
    data = encode(
        Version(Manifest(3, metrics={"f": 1e-05}, nonce="n"), {"a": np.arange(3, dtype=np.float32)})
    )
    for index in range(len(data)):
        for bit in range(8):
            broken = bytearray(data)
            broken[index] ^= 1 << bit
            with pytest.raises(DamagedVersionError):
                decode(bytes(broken), 3)


def test_every_truncation_is_noticed() -> None:
    data = encode(version())
    for size in range(len(data)):
        with pytest.raises(DamagedVersionError):
            decode(data[:size], 3)
    with pytest.raises(DamagedVersionError):
        decode(data + b"\0", 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"\0" * 100, "does not begin like"),
        (encode(version())[:40], "ends in its header, after 40 bytes"),
        (encode(version())[:-1], "tensors cannot be read"),
        (encode(version(number=4)), "holds version 4, so another file"),
        (safetensors.numpy.save(TENSORS), "its header has no manifest"),
        (encode(version()).replace(b'\\"number\\":3', b'\\"number\\":2'), "seal"),
    ],
)
def test_damage_is_described(data: bytes, message: str) -> None:
    with pytest.raises(DamagedVersionError, match=rf"^42\.safetensors is damaged: .*{message}"):
        decode(data, 3, "42.safetensors")


def test_a_commit_may_set_every_field_of_a_manifest_but_what_names_its_file() -> None:
    described, settable = get_type_hints(Manifest), get_type_hints(ManifestFields)
    named = {"number", "format", "arithmetic", "digest", "parent_sha256", "original_sha256", "nonce"}
    assert settable == {name: kind for name, kind in described.items() if name not in named}
