"""Retention: old versions give their tensors up and stay as manifests, so that no number is ever freed."""

from streaming_nn.errors import DamagedVersionError
from streaming_nn.versions import atomic_files
from streaming_nn.versions.tags import tags
from streaming_nn.versions.version import Manifest, decode, stub
from streaming_nn.versions.version_log import VersionLog


def prune(
    log: VersionLog, keep_last: int, keep_tagged: bool = True, every: int | None = None, since: int = 1
) -> list[int]:
    """Take the tensors of old versions away; return which. Their manifests stay, and so do their numbers.

    Kept are the last `keep_last` (at least 1: never the head), each `every`-th number, tagged ones, and each
    version from which others are learned again: the initial, rolled-back and repaired ones, and of those that
    were learned from no topic (kind saved) the last one in a row. A trainer
    that calls this after every append gives `since` the head minus a little more than `keep_last`, so that it
    costs the same however long the log is.

    DamagedVersionError: a file is not whole or missing. It is left as it is for `repair`; the others were pruned. Where
    it is the head, nothing is pruned: what is kept of the others may be all that there is to go on from.
    """
    if keep_last < 1 or (every is not None and every < 1):
        raise ValueError(f"keep_last and every must be at least 1; got {keep_last} and {every}")
    head = log.head_number()
    log.check_head()
    keep = set(tags(log).values()) if keep_tagged else set()
    pruned, damaged = [], []
    for number in range(max(since, 1), (head if head is not None else 0) - keep_last + 1):
        if number in keep or (every and number % every == 0):
            continue
        try:
            if _prune(log, number):
                pruned.append(number)
        except (DamagedVersionError, LookupError) as e:  # a missing one too
            damaged.append(str(e))
    if damaged:
        raise DamagedVersionError("; ".join(damaged))
    return pruned


def _spare(log: VersionLog, manifest: Manifest) -> bool:
    """Whether a replay needs no tensors of it: it learns them, or takes over those of the next one."""
    followed = manifest.kind == "saved" and log.manifest(manifest.number + 1).kind == "saved"
    return manifest.kind == "learned" or followed


def _prune(log: VersionLog, number: int) -> bool:
    manifest = log.manifest(number)
    if not manifest.kept or not _spare(log, manifest):
        return False
    data = atomic_files.read(log.path(number))
    decode(data, number, str(log.path(number)))  # a stub says that its original was whole
    atomic_files.replace(log.path(number), stub(data))
    return True
