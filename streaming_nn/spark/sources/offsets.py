"""Offsets of topics and ranges of them, as Spark plans them; `KafkaPlan.tasks` divides them into tasks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Offsets = dict[str, dict[int, int]]  # topic, partition: next offset
Ranges = dict[str, dict[int, tuple[int, int]]]  # topic, partition: [from, until)


def planned(checkpoint: Path, batch_id: int) -> Ranges:
    """Return what micro-batch `batch_id` holds, by Spark's own write-ahead plan in a local checkpoint.

    A partition that the batch before doesn't have is new: Spark reads it from its first offset, which is 0
    (it fails with data loss otherwise).
    """
    before = _read_ends(checkpoint, batch_id - 1) if batch_id else _read_start(checkpoint)
    return {
        topic: {p: (before.get(topic, {}).get(p, 0), end) for p, end in sorted(ends.items())}
        for topic, ends in sorted(_read_ends(checkpoint, batch_id).items())
    }


def write_start(checkpoint: Path, starting: Offsets) -> None:
    """Let the query with this new, local checkpoint begin at `starting`, whatever is added to its topics.

    Spark takes a query's beginning from this file if there is one. Its option startingOffsets must name all
    partitions of the first micro-batch, so a partition or topic that is added until then would end the run.
    """
    file = checkpoint / "sources" / "0" / "0"
    file.parent.mkdir(parents=True)
    file.write_text(f"\0v1\n{to_json(starting)}")  # Spark skips the first byte


def reached(checkpoint: Path) -> Offsets:
    """Return the offsets after the last micro-batch that ended; none if the query is new."""
    ended = [int(file.name) for file in (checkpoint / "commits").glob("[0-9]*")]
    return _read_ends(checkpoint, max(ended)) if ended else {}


def _read_ends(checkpoint: Path, batch_id: int) -> Offsets:
    lines = (checkpoint / "offsets" / str(batch_id)).read_text().splitlines()
    return offsets_from(json.loads(lines[2]))  # version, metadata, then a line per source


def _read_start(checkpoint: Path) -> Offsets:
    """Return where the query's first micro-batch begins: Spark writes the offsets that it resolved."""
    text = (checkpoint / "sources" / "0" / "0").read_text()
    return offsets_from(json.loads(text[text.index("{") :]))


def next_ranges(begins: Offsets, ends: Offsets, count: int) -> Ranges:
    """Return the next offsets of each partition from `begins` up to `ends`: about `count` of all together."""
    left = {(t, p): end for t, ps in ends.items() for p, end in ps.items() if begins[t].get(p, 0) < end}
    share, ranges = -(-count // max(len(left), 1)), Ranges()
    for (topic, p), end in left.items():
        begin = begins[topic].get(p, 0)
        ranges.setdefault(topic, {})[p] = (begin, min(begin + share, end))
    return ranges


def count(ranges: Ranges) -> int:
    """Return how many offsets the ranges have; records are fewer if some were transactional or compacted."""
    return sum(end - begin for ps in ranges.values() for begin, end in ps.values())


def count_between(begins: Offsets, ends: Offsets) -> int:
    """Return how many offsets are from `begins` up to `ends`, in the partitions of `begins`."""
    return sum(
        max(ends[topic].get(p, 0) - begin, 0)
        for topic, partitions in begins.items()
        for p, begin in partitions.items()
    )


def to_json(offsets: Offsets) -> str:
    """Return offsets as Spark's options have them."""
    return json.dumps({t: {str(p): o for p, o in ps.items()} for t, ps in offsets.items()})


def offsets_from(values: Mapping[str, Mapping[str, Any]]) -> Offsets:
    """Return offsets from Spark's JSON."""
    return {t: {int(p): int(o) for p, o in ps.items()} for t, ps in values.items()}
