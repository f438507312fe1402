"""One version of the model is one safetensors file: the state as tensors, and how it came to be as a manifest.

The manifest is JSON in the header, under one metadata key (with several the order of the bytes is not fixed).
Its last key is a seal, the sha256 of the text before it, and it holds the digest of the tensors. So each byte
is accounted for: a file that was cut, flipped, emptied or exchanged is noticed when it is read.
"""

import hashlib
import json
import math
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from streaming_nn.errors import DamagedVersionError

FORMAT = 2
HEADER_LIMIT = 100_000_000  # bytes; safetensors itself refuses longer headers

SEQUENTIAL, AVERAGED = UPDATES = ("sequential", "averaged")  # one task learns; one a partition, averaged

_SEAL = ',"seal":"'
_SEAL_LENGTH = len(_SEAL) + 64 + len('"}')

Tensors = dict[str, NDArray[Any]]


def no_counts() -> dict[str, int]:
    """Return the counts of a batch without manifests; received = trained + skipped + rejected, always."""
    return {"received": 0, "trained": 0, "skipped": 0, "rejected": 0}


def add_up(rows: dict[str, int]) -> bool:
    """Whether received = trained + skipped + rejected."""
    return rows.get("received") == sum(rows.get(key, 0) for key in ("trained", "skipped", "rejected"))


@dataclass(frozen=True)
class Manifest:
    """How a version came to be. Everything in it survives JSON; partitions are ints here and strings there.

    A version's file never changes, except that pruning takes its tensors away and leaves its manifest.
    """

    number: int  # 0 is the initial version; each next one is one more
    kind: str = "learned"  # "initial", "learned", "rolled-back", "repaired"; "damaged": the file was lost
    format: int = FORMAT
    learner: dict[str, Any] = field(default_factory=dict)  # options that make the learner again
    schema: dict[str, Any] = field(default_factory=dict)  # how a Kafka manifest becomes a row
    offsets: dict[str, dict[int, int]] = field(default_factory=dict)  # topic, partition: next offset to learn
    topic_ids: dict[str, str] = field(default_factory=dict)  # topic: Kafka's id of it
    ranges: dict[str, dict[int, tuple[int, int]]] = field(default_factory=dict)  # this batch: [from, until)
    update: str = SEQUENTIAL  # how this batch's tasks were put together: one of UPDATES
    mini_batch_cap: int = 0  # cap under which learner["mini_batch"] was chosen for this batch; 0: it was set
    counts: dict[str, int] = field(default_factory=no_counts)  # of this batch
    rejected_by_reason: dict[str, int] = field(default_factory=dict)  # reason: manifests of this batch
    metrics: dict[str, Any] = field(default_factory=dict)  # numbers that are not finite are written as null
    digest: str = ""  # state_digest of the tensors; `encode` fills it in
    parent_sha256: str = ""  # sha256 of the parent's file as it was committed; "" for version 0
    original_sha256: str = (
        ""  # of a pruned version: its file's sha256 before that; "" while it has its tensors
    )
    restored_from: int = -1  # of a rolled-back or repaired version: whose tensors it took over
    written_at: str = ""  # ISO 8601, UTC
    written_by: dict[str, Any] = field(default_factory=dict)  # host, pid, run
    nonce: str = field(default_factory=lambda: uuid4().hex)  # by which a retried append knows its own work
    environment: dict[str, Any] = field(default_factory=dict)  # what the bits depend on
    seconds: dict[str, float] = field(default_factory=dict)  # step of the micro-batch: how long it took
    events: list[Any] = field(default_factory=list)  # drift, a member restarted, a new partition
    source: dict[str, Any] = field(default_factory=dict)  # {"query_id", "batch_id"} in somebody else's query

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(
                f"version {self.number}: format must be {FORMAT}; got {self.format!r}: "
                "another release of streaming_nn wrote it, and only such a one can read it"
            )
        if not isinstance(self.number, int) or self.number < 0:
            raise ValueError(f"number must be an int >= 0; got {self.number!r}")

    @property
    def kept(self) -> bool:
        """Whether the version's file holds its tensors: it was neither pruned nor lost."""
        return not self.original_sha256 and self.kind != "damaged"

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON-able values; keys of partitions become strings."""
        # asdict would copy all that is in them
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {"offsets": _keys(self.offsets, str), "ranges": _keys(self.ranges, str, list)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Manifest":
        """Make a manifest from JSON values, unknown keys left out. ValueError: no number, or another format."""
        if "number" not in values:
            raise ValueError(f"manifest must have a 'number'; got the keys {sorted(values)}")
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        known["offsets"] = _keys(known.get("offsets", {}), int)
        known["ranges"] = _keys(known.get("ranges", {}), int, tuple)
        return cls(**known)


def _keys(topics: dict[str, dict[Any, Any]], key: Any, value: Any = lambda v: v) -> dict[str, dict[Any, Any]]:
    return {t: {key(p): value(v) for p, v in partitions.items()} for t, partitions in topics.items()}


class Version(NamedTuple):
    """A manifest and the state that it describes."""

    manifest: Manifest
    tensors: Tensors
    sha256: str = ""  # of the file, by which its child names it; "" while the version is not committed

    @property
    def number(self) -> int:
        """The version's number in the log."""
        return self.manifest.number


def state_digest(tensors: Tensors) -> str:
    """Return the sha256 (hex) of names, dtypes, shapes and bytes in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = _dense(tensors[name])
        digest.update(f"{name}\0{tensor.dtype.str}\0{tensor.shape}\0".encode())
        digest.update(tensor.tobytes() if tensor.ndim == 0 else tensor.data)
    return digest.hexdigest()


def sha256(data: bytes) -> str:
    """Return the sha256 (hex) of a file's bytes, as children name their parent by it."""
    return hashlib.sha256(data).hexdigest()


def encode(version: Version) -> bytes:
    """Return the bytes of a version's file; its digest is filled in. Equal versions give equal bytes."""
    tensors = {name: _dense(tensor) for name, tensor in version.tensors.items()}
    values = version.manifest.to_json()
    if version.manifest.kept:
        values["digest"] = state_digest(tensors)
    return _encode(values, tensors)


def stub(data: bytes) -> bytes:
    """Return the bytes that a pruned version leaves: the manifest with the original's sha256, and no tensors.

    Works on the manifest's own keys, so that what a newer release has put there stays.
    """
    values = _values(_header(data, "version"), "version")
    return _encode(values | {"original_sha256": values.get("original_sha256") or sha256(data)}, {})


def _encode(values: dict[str, Any], tensors: Tensors) -> bytes:
    text = to_text({key: value for key, value in values.items() if key != "seal"})
    text = f"{text[:-1]}{_SEAL}{sha256(text.encode())}" + '"}'
    return bytes(safetensors.numpy.save(tensors, {"manifest": text}))


def to_text(values: dict[str, Any]) -> str:
    """Return JSON with sorted keys and no spaces; numbers that are not finite, unknown to JSON, are null."""
    try:
        return _dumps(values)
    except ValueError:
        return _dumps(_finite(values))


def _dumps(values: Any) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"a manifest must hold JSON's types or NumPy's; got {type(value).__name__}: {value!r}")


def _finite(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def decode(data: bytes, number: int | None = None, name: str = "version") -> Version:
    """Read a version's file and check all of it. `number` is what the file's name says.

    DamagedVersionError: the file is cut, empty, changed, or another version's; `name` stands in the message.
    """
    manifest = decode_manifest(data, number, name)
    try:
        tensors = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as e:
        raise DamagedVersionError(
            f"{name} is damaged: its tensors can't be read ({len(data)} bytes; {e})"
        ) from None
    if manifest.kept and state_digest(tensors) != manifest.digest:
        raise DamagedVersionError(
            f"{name} is damaged: its tensors are not those whose digest its manifest holds"
        )
    return Version(manifest, tensors)


def decode_manifest(head: bytes, number: int | None = None, name: str = "version") -> Manifest:
    """Read the manifest from the first bytes of a version's file, `header_size` of them; no tensor is read."""
    values = _values(_header(head, name), name)
    manifest = Manifest.from_json(values)
    if number is not None and manifest.number != number:
        raise DamagedVersionError(
            f"{name} is damaged: it holds version {manifest.number}, so it was exchanged for another file"
        )
    return manifest


def header_size(head: bytes, name: str = "version") -> int:
    """Return how many bytes of a version's file hold its manifest, from its first 8 bytes."""
    if not head:
        raise DamagedVersionError(f"{name} is damaged: the file is empty")
    size = int.from_bytes(head[:8], "little")
    if len(head) < 8 or not 2 <= size <= HEADER_LIMIT:
        raise DamagedVersionError(f"{name} is damaged: it does not begin as a safetensors file does")
    return 8 + size


def _header(head: bytes, name: str) -> dict[str, Any]:
    size = header_size(head, name)
    if len(head) < size:
        raise DamagedVersionError(
            f"{name} is damaged: it ends in its header, after {len(head)} bytes of {size}"
        )
    try:
        return dict(json.loads(head[8:size]))
    except (ValueError, TypeError):
        raise DamagedVersionError(f"{name} is damaged: its header is not JSON") from None


def _values(header: dict[str, Any], name: str) -> dict[str, Any]:
    metadata = header.get("__metadata__")
    text = metadata.get("manifest") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise DamagedVersionError(f"{name} is damaged: its header holds no manifest")
    body, seal = text[:-_SEAL_LENGTH] + "}", text[-_SEAL_LENGTH:]
    if seal != f"{_SEAL}{sha256(body.encode())}" + '"}':
        raise DamagedVersionError(f"{name} is damaged: its manifest is not what its seal says")
    return dict(json.loads(body))


def _dense(tensor: NDArray[Any]) -> NDArray[Any]:
    """Little-endian and C-contiguous: safetensors reads a strided array's memory as if it were dense."""
    return np.asarray(tensor, dtype=tensor.dtype.newbyteorder("<"), order="C")
