"""Retention: pruning deletes old versions' tensors and keeps their manifests, so no number is freed."""

from streaming_nn.errors import DamagedVersionError
from streaming_nn.versions import atomic_files
from streaming_nn.versions.tags import tags
from streaming_nn.versions.version import Manifest, decode, stub
from streaming_nn.versions.version_log import VersionLog


def prune(
    log: VersionLog, keep_last: int, keep_tagged: bool = True, every: int | None = None, since: int = 1
) -> list[int]:
    """Delete the tensors of old versions; return their numbers. Their manifests and numbers stay.

    Kept are the last `keep_last` (at least 1: never the head), each `every`-th number, tagged ones, and each
    version from which a replay starts: the initial, rolled-back and repaired ones, and of those that were
    learned from no topic (kind saved) the last one in a row. A trainer that calls this after every commit
    passes as `since` the head minus a little more than `keep_last`, so that the cost does not grow with the
    log.

    DamagedVersionError: a file is damaged or missing. It is left as it is for `repair`; the others are
    pruned. If it is the head, nothing is pruned: the other versions may be all that training can resume from.
    """
    if keep_last < 1 or (every is not None and every < 1):
        raise ValueError(f"keep_last and every must be >= 1; got {keep_last} and {every}")
    head = log.head_number()
    log.check_head()
    kept = set(tags(log).values()) if keep_tagged else set()
    pruned, damaged = [], []
    for number in range(max(since, 1), (head if head is not None else 0) - keep_last + 1):
        if number in kept or (every and number % every == 0):
            continue
        try:
            if _prune(log, number):
                pruned.append(number)
        except (DamagedVersionError, LookupError) as e:  # LookupError: it is missing
            damaged.append(str(e))
    if damaged:
        raise DamagedVersionError("; ".join(damaged))
    return pruned


def _is_needless(log: VersionLog, manifest: Manifest) -> bool:
    """Return whether a replay does not read its tensors: it learns them, or reads those of the next one."""
    followed = manifest.kind == "saved" and log.manifest(manifest.number + 1).kind == "saved"
    return manifest.kind == "learned" or followed


def _prune(log: VersionLog, number: int) -> bool:
    manifest = log.manifest(number)
    if not manifest.kept or not _is_needless(log, manifest):
        return False
    data = atomic_files.read(log.path(number))
    decode(data, number, str(log.path(number)))  # a stub asserts that its original was whole
    atomic_files.replace(log.path(number), stub(data))
    return True
