"""Retention: old versions give their tensors up and stay as records, so that no number is ever freed."""

from streaming_nn.log import files
from streaming_nn.log.log import Log
from streaming_nn.log.tags import tags
from streaming_nn.log.version import Damaged, Record, decode, stub


def thin(
    log: Log, keep_last: int, keep_tagged: bool = True, every: int | None = None, since: int = 1
) -> list[int]:
    """Take the tensors of old versions away; return which. Their records stay, and so do their numbers.

    Kept are the last `keep_last` (at least 1: never the head), each `every`-th number, tagged ones, and each
    version from which others are learned again: the initial, rolled-back and repaired ones, and of those that
    were learned from no topic (kind saved) the last one in a row. A trainer
    that calls this after every append gives `since` the head minus a little more than `keep_last`, so that it
    costs the same however long the log is.

    Damaged: a file is not whole or missing. It is left as it is for `repair`; the others were thinned. Where
    it is the head, nothing is thinned: what is kept of the others may be all that there is to go on from.
    """
    if keep_last < 1 or (every is not None and every < 1):
        raise ValueError(f"keep_last and every must be at least 1; got {keep_last} and {every}")
    head = log.head_number()
    log.check_head()
    keep = set(tags(log).values()) if keep_tagged else set()
    thinned, damaged = [], []
    for number in range(max(since, 1), (head if head is not None else 0) - keep_last + 1):
        if number in keep or (every and number % every == 0):
            continue
        try:
            if _thin(log, number):
                thinned.append(number)
        except (Damaged, LookupError) as e:  # a missing one too
            damaged.append(str(e))
    if damaged:
        raise Damaged("; ".join(damaged))
    return thinned


def _spare(log: Log, record: Record) -> bool:
    """Whether a replay needs no tensors of it: it learns them, or takes over those of the next one."""
    followed = record.kind == "saved" and log.record(record.number + 1).kind == "saved"
    return record.kind == "learned" or followed


def _thin(log: Log, number: int) -> bool:
    record = log.record(number)
    if not record.kept or not _spare(log, record):
        return False
    data = files.read(log.path(number))
    decode(data, number, str(log.path(number)))  # a stub says that its original was whole
    files.replace(log.path(number), stub(data))
    return True
