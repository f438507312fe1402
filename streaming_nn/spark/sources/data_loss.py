"""Whether topics still hold what follows a version: expired records, topics deleted or created again."""

from collections.abc import Mapping, Sequence
from typing import Any

from streaming_nn.errors import DataLossError
from streaming_nn.spark.sources.offsets import Offsets, Ranges
from streaming_nn.versions.version import Manifest


def recreated_topics(ids: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    """Return the topics that were recreated since their ids were `known`; `ids` are those of now."""
    return [topic for topic, id in known.items() if topic in ids and ids[topic] != id]


def expired_ranges(beginnings: Offsets, following: Offsets) -> Ranges:
    """Return the offsets from `following` on that have expired: topics now begin at `beginnings`."""
    expired: Ranges = {}
    for topic, partitions in following.items():
        for p, offset in partitions.items():
            if offset < beginnings[topic].get(p, 0):
                expired.setdefault(topic, {})[p] = (offset, beginnings[topic][p])
    return expired


def data_loss_events(
    expired: Ranges, recreated: list[str], deleted: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return the losses as events of a version's manifest."""
    lost = {t: {str(p): list(r) for p, r in ps.items()} for t, ps in expired.items()}
    events: list[dict[str, Any]] = [{"event": "data loss accepted", "lost": lost}] if lost else []
    events += [{"event": "topic recreated", "topic": topic} for topic in recreated]
    return [*events, *({"event": "topic deleted", "topic": topic} for topic in deleted)]


def data_loss_error(
    head: Manifest, expired: Ranges, recreated: list[str], deleted: Sequence[str] = ()
) -> DataLossError:
    """Return the error for losses after the head, with what to do."""
    losses = "; ".join(describe_losses(head, expired, recreated, deleted))
    return DataLossError(
        f"{losses}. Version {head.number} is safe. To continue with the topic's current records, use "
        "--accept-data-loss (the next version's manifest records the loss); to start from scratch, use "
        "another model directory"
    )


def describe_losses(
    head: Manifest, expired: Ranges, recreated: list[str], deleted: Sequence[str] = ()
) -> list[str]:
    """Return a sentence for each loss after the head."""
    sentences = [
        f"topic {t!r} was recreated: its records from {_positions(head.offsets.get(t, {}))} on are lost"
        for t in recreated
    ]
    sentences += [
        f"topic {t!r} was deleted: any records from {_positions(head.offsets.get(t, {}))} on are lost"
        for t in deleted
    ]
    return sentences + [
        f"offsets {begin:,} to {end - 1:,} of {t!r} partition {p} expired before they were learned"
        for t, ps in expired.items()
        for p, (begin, end) in ps.items()
    ]


def _positions(offsets: Mapping[int, int]) -> str:
    return ", ".join(f"partition {p} offset {o:,}" for p, o in offsets.items()) or "the beginning"
