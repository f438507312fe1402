"""The history of a log as a pandas DataFrame, a row for each version; its index is the version's number.

| column | |
|---|---|
| `kind`, `written_at`, `kept` | the version's kind, its time (UTC), and whether its file is kept |
| `received`, `trained`, … | the counts of the version's records |
| `offsets` | the sum of all next offsets: how far the version is in its topics; NaN if it is from none |
| `rejected_by_reason.…` | records rejected for this reason |
| `prequential.window.accuracy`, … | the metrics that are numbers, by the names that `versions diff` has |
| `members.0 (sgd 0.003).weight`, `.exponent`, `.restarts` | those of each member; exponents, of classes |
| `seconds.learn`, … | the duration of each step of the micro-batch |
| `lag` | offsets that followed the batch when it was committed, as `Manifest.lag` |
| `delay` | seconds from the batch's oldest record to its version |
| `mini_batch` | rows of a step; NaN if the learner has no such option |
| `events` | names of its events, joined by ", "; "" if there was none |

What a version does not have is NaN. Metrics of pruned versions are those of every hundredth. A version that
cannot be read is a row of kind "unreadable".
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from streaming_nn.errors import DamagedVersionError
from streaming_nn.versions.archive import CHUNK
from streaming_nn.versions.diff import flat_numbers
from streaming_nn.versions.version import delay_of, no_counts

if TYPE_CHECKING:  # version_log imports this module where it needs it
    from streaming_nn.versions.version_log import VersionLog

UNREADABLE = "unreadable"  # the kind of a version whose file is damaged or missing


def history(log: "VersionLog", first: int = 0, last: int | None = None) -> pd.DataFrame:
    """Return the log's versions from `first` to `last`, by default the head.

    Raise ValueError for versions that do not exist.
    """
    head = log.head_number()
    if head is None:
        raise ValueError(f"model {log.directory}: there is no version yet, so there is no history")
    last = head if last is None else last
    if not 0 <= first <= last <= head:
        raise ValueError(
            f"versions must be from 0 to {head}, the first not after the last; got {first} to {last}"
        )
    size = last - first + 1
    texts: dict[str, list[Any]] = {name: [None] * size for name in ("kind", "written_at", "kept", "events")}
    numbers: dict[str, Any] = defaultdict(lambda: np.full(size, np.nan))
    counts = {name: np.zeros(size, np.int64) for name in no_counts()}
    reasons: dict[str, Any] = defaultdict(lambda: np.zeros(size, np.int64))
    for row, values in enumerate(_manifests(log, first, last)):
        texts["kind"][row] = values.get("kind", UNREADABLE)
        texts["written_at"][row] = values.get("written_at") or None
        texts["kept"][row] = values.get("kept", not values.get("original_sha256"))
        texts["events"][row] = ", ".join(str(event.get("event")) for event in values.get("events", ()))
        for name, number in values.get("counts", {}).items():
            counts[name][row] = number
        for name, number in values.get("rejected_by_reason", {}).items():
            reasons[f"rejected_by_reason.{name}"][row] = number
        for name, number in _numbers(values).items():
            numbers[name][row] = number
    named = {
        "kind": texts["kind"],
        "written_at": pd.to_datetime(texts["written_at"], utc=True, format="ISO8601"),
        "kept": np.array(texts["kept"], np.bool_),
        **counts,
        **dict(sorted(reasons.items())),
        **{name: numbers[name] for name in sorted(numbers)},
        "events": texts["events"],
    }
    return pd.DataFrame(named, index=pd.RangeIndex(first, last + 1, name="version"))


def _manifests(log: "VersionLog", first: int, last: int) -> Iterator[dict[str, Any]]:
    """Yield the manifests as JSON values: decoding those in archives would take most of the time."""
    files, until = frozenset(log.files()), log.archives.until
    values: list[dict[str, Any]] = []
    metrics: dict[int, dict[str, Any]] = {}
    chunk = -1
    for number in range(first, last + 1):
        if number in files or number >= until:
            yield _manifest(log, number)
            continue
        if number // CHUNK * CHUNK != chunk:
            chunk = number // CHUNK * CHUNK
            values, points = log.archives.chunk(chunk)
            metrics = {point.last: point.metrics for point in points}
        yield values[number - chunk] | {"metrics": metrics.get(number, {}), "kept": False}


def _manifest(log: "VersionLog", number: int) -> dict[str, Any]:
    try:
        manifest = log.manifest(number)
    except (DamagedVersionError, LookupError):
        return {"kept": False}
    return manifest.to_json() | {"kept": manifest.kept}


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a manifest by their columns' names."""
    found: dict[str, float] = {}
    offsets = [sum(partitions.values()) for partitions in values.get("offsets", {}).values()]
    if offsets:
        found["offsets"] = sum(offsets)
    mini_batch = values.get("learner", {}).get("mini_batch")
    if mini_batch is not None:
        found["mini_batch"] = mini_batch
    found |= flat_numbers(values.get("seconds", {}), "seconds.")
    if (lag := values.get("lag")) is not None:
        found["lag"] = lag
    if (delay := delay_of(values.get("record_times", ()), values.get("written_at", ""))) is not None:
        found["delay"] = delay
    metrics = values.get("metrics", {})
    found |= flat_numbers(metrics)
    for i, member in enumerate(metrics.get("members", ())):
        for name in ("weight", "exponent", "restarts"):
            if name in member:
                found[f"members.{i} ({member['member']}).{name}"] = member[name]
    return found
