"""A version is one safetensors file: the state as tensors, and a manifest of how it was created.

The manifest is JSON in the header, under one metadata key (with several the order of the bytes is not fixed).
Its last key is a seal, the sha256 of the text before it, and it holds the digest of the tensors. So every
byte is covered: a file that was truncated, changed, emptied or exchanged is noticed when it is read.

Kinds of versions:

| kind | |
|---|---|
| `initial` | an untrained model, or what a backtest starts from: version 0, or the first after a restart |
| `learned` | a micro-batch of a topic or another stream was learned |
| `saved` | rows were learned that are in no topic (estimators, Spark ML); a replay reads its tensors |
| `rolled-back` | an older version's model with the head's offsets |
| `repaired` | the last good version's tensors and offsets, after damage |
| `damaged` | the file was lost, only its number and what is known of its manifest are kept |

Events, each a dict with the key `event`:

| event | other keys | |
|---|---|---|
| `drift` | `detected` | the learner detected so many drifts |
| `arithmetic changed` | `from`, `to` | numbers of the version before, and of this one by a later release |
| `learner changed` | `changed` | options that the settings have changed since the version before |
| `schema grown` | `classes`, `categories` | new classes, new values by field; up to 10 of each |
| `member restarted` | `member` | a member of the ensemble was replaced by a new one |
| `topic recreated` | `topic` | the topic was deleted and created again, and is learned from its beginning |
| `topic deleted` | `topic` | the topic was deleted; training continues with the others |
| `data loss accepted` | `lost` | {topic: {partition: [from, until)}} that expired before it was learned |
| `rolled back` | `from`, `to` | from the head's number to whose model was restored |
| `repaired` | `from`, `replayed_versions` | the good version; those after it, whose records are replayed |
| `damaged` | `was`, `what` | the lost version's kind; what is wrong with its file |
| `model restarted` | `changed` | the changed setting, with which an untrained model restarts from scratch |
| `replayed` | `from`, `version` | of a backtest: the version whose records were learned |
| `backtest` | see `spark.replay.backtest` | of a backtest's version 0: what is learned, with which options |
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, NamedTuple, TypedDict
from uuid import uuid4

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from streaming_nn.core import library
from streaming_nn.errors import DamagedVersionError

FORMAT = 4
FORMAT_1 = "record"  # metadata key of files in format 1, which had the manifest under it
HEADER_LIMIT = 100_000_000  # bytes; safetensors itself refuses longer headers

ROWS = "model.ring"  # rows as they came, half of a version: float64, but of many streams all are float32

SEQUENTIAL, AVERAGED = UPDATES = ("sequential", "averaged")  # one task learns; one per partition, averaged

INITIAL = "initial"  # the kind of a version that begins a model: see `Manifest.untrained`

_SEAL = ',"seal":"'
_SEAL_LENGTH = len(_SEAL) + 64 + len('"}')

Tensors = dict[str, NDArray[Any]]


def no_counts() -> dict[str, int]:
    """Return the counts of a batch without records; received is the sum of the others, always."""
    return {"received": 0, "trained": 0, "skipped": 0, "rejected": 0, "filtered": 0}


def add_up(rows: dict[str, int]) -> bool:
    """Return whether received = trained + skipped + rejected + filtered."""
    return rows.get("received") == sum(n for name, n in rows.items() if name != "received")


class Position(TypedDict, total=False):
    """The fields of a manifest that name which records were learned, and where the next ones begin."""

    offsets: dict[str, dict[int, int]]
    topic_ids: dict[str, str]
    ranges: dict[str, dict[int, tuple[int, int]]]
    source: dict[str, Any]


class ManifestFields(Position, total=False):
    """The fields of a manifest that a commit may set; `Manifest` describes them."""

    kind: str
    learner: dict[str, Any]
    schema: dict[str, Any]
    update: str
    mini_batch_cap: int
    counts: dict[str, int]
    rejected_by_reason: dict[str, int]
    metrics: dict[str, Any]
    restored_from: int
    written_at: str
    written_by: dict[str, Any]
    environment: dict[str, Any]
    seconds: dict[str, float]
    record_times: list[int]
    lag: int | None
    samples: dict[str, Any]
    events: list[Any]


@dataclass(frozen=True)
class Manifest:
    """How a version was created, JSON-able; the keys of partitions are integers here and strings in JSON.

    A version's file never changes. Pruning deletes it; its manifest is then in an archive.
    """

    number: int  # 0 is the initial version; each next one is one more
    kind: str = "learned"  # see the table of kinds above
    format: int = FORMAT
    # number of docs/arithmetic.md by which the batch was learned
    arithmetic: int = field(default_factory=lambda: library.ARITHMETIC)
    learner: dict[str, Any] = field(default_factory=dict)  # options from which the learner is created
    schema: dict[str, Any] = field(default_factory=dict)  # how a record becomes a row
    offsets: dict[str, dict[int, int]] = field(default_factory=dict)  # topic, partition: next offset to learn
    topic_ids: dict[str, str] = field(default_factory=dict)  # topic: its id in Kafka
    ranges: dict[str, dict[int, tuple[int, int]]] = field(default_factory=dict)  # this batch: [from, until)
    update: str = SEQUENTIAL  # how this batch was learned: one of UPDATES
    mini_batch_cap: int = 0  # cap under which learner["mini_batch"] was chosen for this batch; 0: it is set
    counts: dict[str, int] = field(default_factory=no_counts)  # of this batch
    rejected_by_reason: dict[str, int] = field(default_factory=dict)  # reason: records of this batch
    metrics: dict[str, Any] = field(default_factory=dict)  # numbers that are not finite become null
    digest: str = ""  # state_digest of the tensors; filled in by `encode`
    parent_sha256: str = ""  # sha256 of the parent's file as it was committed; "" for version 0
    original_sha256: str = ""  # of a pruned version: its file's sha256 before; "" while it has its tensors
    restored_from: int = -1  # of a rolled-back or repaired version: the number of the restored one
    written_at: str = ""  # ISO 8601, UTC
    written_by: dict[str, Any] = field(default_factory=dict)  # host, pid, run
    nonce: str = field(default_factory=lambda: uuid4().hex)  # a retried append recognizes its version by it
    environment: dict[str, Any] = field(default_factory=dict)  # where it was learned; no bit depends on it
    seconds: dict[str, float] = field(default_factory=dict)  # step of the micro-batch: its duration
    record_times: list[int] = field(default_factory=list)  # of this batch's oldest and newest, ms since 1970
    lag: int | None = None  # offsets that followed this batch a second or less before it was committed
    samples: dict[str, Any] = field(default_factory=dict)  # "rows", "rejected": see `spark.samples`
    events: list[Any] = field(default_factory=list)  # see the table of events above
    source: dict[str, Any] = field(default_factory=dict)  # {"query_id", "batch_id"} of a user's query

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(
                f"version {self.number}: format must be {FORMAT}; got {self.format!r}, which another release "
                "of streaming_nn wrote; read it with that release, or use a new model directory"
            )
        if not isinstance(self.number, int) or self.number < 0:
            raise ValueError(f"number must be an integer >= 0; got {self.number!r}")

    @property
    def kept(self) -> bool:
        """Return whether the version's file holds its tensors: it was neither pruned nor lost."""
        return not self.original_sha256 and self.kind != "damaged"

    @property
    def time(self) -> float | None:
        """When it was written, in seconds since 1970; None: unknown, of a version that was lost."""
        return seconds_of(self.written_at)

    @property
    def news(self) -> list[str]:
        """The names of its events, without the one that most versions of an ensemble have."""
        names = [str(event.get("event")) for event in self.events]
        return [name for name in names if name != "member restarted"]

    @property
    def delay(self) -> float | None:
        """The seconds from the batch's oldest record, by its timestamp, to its version; None: unknown."""
        return delay_of(self.record_times, self.written_at)

    @property
    def releases(self) -> str:
        """Return which releases have the version's arithmetic, as pip takes it."""
        return library.releases(self.arithmetic, self.environment.get("streaming_nn"))

    @property
    def untrained(self) -> bool:
        """Return whether nothing was learned before it: a run may restart after it, and scorers wait.

        Version 0 of a backtest counts as trained: it belongs to its trial, and may have a trained model.
        """
        return self.kind == INITIAL and not any(e.get("event") == "backtest" for e in self.events)

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON-able values; the keys of partitions become strings."""
        # asdict would copy all values deeply
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {"offsets": _keys(self.offsets, str), "ranges": _keys(self.ranges, str, list)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Manifest":
        """Return the manifest of JSON values; ignore unknown keys. ValueError: no number, another format."""
        if "number" not in values:
            raise ValueError(f"manifest must have the key 'number'; got {sorted(values)}")
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        known["counts"] = no_counts() | known.get("counts", {})  # older versions have none filtered
        known["offsets"] = _keys(known.get("offsets", {}), int)
        known["ranges"] = _keys(known.get("ranges", {}), int, tuple)
        return cls(**known)


def delay_of(record_times: Sequence[int], written_at: str) -> float | None:
    """Return `Manifest.delay` of a manifest's values."""
    time = seconds_of(written_at)
    return None if time is None or not record_times else round(time - record_times[0] / 1000, 3)


def seconds_of(written_at: str) -> float | None:
    """Return `Manifest.time` of a manifest's value."""
    return datetime.fromisoformat(written_at).timestamp() if written_at else None


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

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from streaming_nn.versions.notebook import version_html

        return version_html(self)


def state_digest(tensors: Tensors) -> str:
    """Return the sha256 (hex) of names, dtypes, shapes and bytes as they are stored, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = _stored(name, tensors[name])
        digest.update(f"{name}\0{tensor.dtype.str}\0{tensor.shape}\0".encode())
        digest.update(tensor.tobytes() if tensor.ndim == 0 else tensor.data)
    return digest.hexdigest()


def sha256(data: bytes) -> str:
    """Return the sha256 (hex) of a file's bytes, by which a child names its parent."""
    return hashlib.sha256(data).hexdigest()


def encode(version: Version) -> bytes:
    """Return the bytes of a version's file, with its digest. Equal versions give equal bytes."""
    tensors = {name: _stored(name, tensor) for name, tensor in version.tensors.items()}
    values = version.manifest.to_json()
    if version.manifest.kept:
        values["digest"] = state_digest(tensors)
    return encode_file(values, tensors)


def encode_file(values: dict[str, Any], tensors: Tensors) -> bytes:
    """Return the bytes of a safetensors file with sealed `values` (JSON-able) in its header."""
    text = to_text({key: value for key, value in values.items() if key != "seal"})
    text = f"{text[:-1]}{_SEAL}{sha256(text.encode())}" + '"}'
    stored = {name: _stored(name, tensor) for name, tensor in tensors.items()}
    return bytes(safetensors.numpy.save(stored, {"manifest": text}))


def to_text(values: dict[str, Any]) -> str:
    """Return JSON with sorted keys and no spaces; numbers that are not finite become null."""
    try:
        return _dumps(values)
    except ValueError:
        return _dumps(_finite(values))


def _dumps(values: Any) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"manifest values must be JSON or NumPy; got {type(value).__name__}: {value!r}")


def _finite(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def decode(data: bytes, number: int | None = None, name: str = "version") -> Version:
    """Return the version in a file's bytes after checking all of them. `number` is that of the file's name.

    DamagedVersionError: the file is truncated, empty, changed, or another version's; the message has `name`.
    ValueError: another release wrote it, in another format or with a newer arithmetic.
    """
    manifest = decode_manifest(data, number, name)
    if manifest.arithmetic > library.ARITHMETIC:
        raise ValueError(
            f"version {manifest.number}: arithmetic must be at most {library.ARITHMETIC}, which this release "
            f"has; got {manifest.arithmetic}; use {manifest.releases}"
        )
    try:
        tensors = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as e:
        raise DamagedVersionError(
            f"{name} is damaged: its tensors cannot be read ({len(data)} bytes; {e})"
        ) from None
    if manifest.kept and state_digest(tensors) != manifest.digest:
        raise DamagedVersionError(f"{name} is damaged: its tensors do not have the digest in its manifest")
    if ROWS in tensors:
        tensors[ROWS] = tensors[ROWS].astype(np.float64, copy=False)
    return Version(manifest, tensors)


def decode_manifest(head: bytes, number: int | None = None, name: str = "version") -> Manifest:
    """Return the manifest in the first bytes of a version's file, `header_size` of them; reads no tensor."""
    manifest = Manifest.from_json(read_values(head, name))
    if number is not None and manifest.number != number:
        raise DamagedVersionError(
            f"{name} is damaged: it holds version {manifest.number}, so another file has taken its name"
        )
    return manifest


def header_size(head: bytes, name: str = "version") -> int:
    """Return the size of the part of a version's file with its manifest, read from its first 8 bytes."""
    if not head:
        raise DamagedVersionError(f"{name} is damaged: the file is empty")
    size = int.from_bytes(head[:8], "little")
    if len(head) < 8 or not 2 <= size <= HEADER_LIMIT:
        raise DamagedVersionError(f"{name} is damaged: it does not begin like a safetensors file")
    return 8 + size


def read_values(head: bytes, name: str) -> dict[str, Any]:
    """Return the sealed values in a header by `encode_file`. DamagedVersionError: it is damaged."""
    return _values(_header(head, name), name)


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
    if isinstance(metadata, dict) and FORMAT_1 in metadata:
        raise ValueError(
            f"{name} was written by an older release, in format 1; use a new model directory, or that release"
        )
    text = metadata.get("manifest") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise DamagedVersionError(f"{name} is damaged: its header has no manifest")
    body, seal = text[:-_SEAL_LENGTH] + "}", text[-_SEAL_LENGTH:]
    if seal != f"{_SEAL}{sha256(body.encode())}" + '"}':
        raise DamagedVersionError(f"{name} is damaged: its manifest does not match its seal")
    return dict(json.loads(body))


def _stored(name: str, tensor: NDArray[Any]) -> NDArray[Any]:
    """Return it little-endian and C-contiguous: safetensors would save a strided array's memory.

    Kept rows become float32 if they lose nothing by it.
    """
    if name == ROWS and tensor.dtype == np.float64 and _is_float32(tensor[:1]) and _is_float32(tensor):
        return tensor.astype("<f4", order="C")
    return np.asarray(tensor, dtype=tensor.dtype.newbyteorder("<"), order="C")


def _is_float32(rows: NDArray[Any]) -> bool:
    with np.errstate(over="ignore"):
        return bool(((rows.astype(np.float32) == rows) | np.isnan(rows)).all())
