"""What is learned again: recorded versions of a model, or a stretch of a topic cut into micro-batches."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from pyspark.sql import Row, SparkSession

from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Learner, initial
from streaming_nn.nn.state_dict import flatten
from streaming_nn.settings import Settings, Source
from streaming_nn.spark.replay.trials import Outcome, Trial
from streaming_nn.spark.sources import kafka_frames
from streaming_nn.spark.sources.kafka_frames import Offsets
from streaming_nn.spark.train import resume
from streaming_nn.spark.train.resume import Say
from streaming_nn.versions.version import Manifest, Version, no_counts, state_digest
from streaming_nn.versions.version_log import VersionLog

ORIGINAL, SETTINGS = "original", "settings"

LearnerOf = Callable[[Mapping[str, Any]], Learner[Any]]


@dataclass(frozen=True)
class History:
    """What is learned again, the same for all tries."""

    records: list[Manifest]  # consecutive versions; of a topic, as they would have been
    before: Manifest  # the one before them: it says where in the topics they begin
    whence: dict[str, Any]  # what each version's event says of it
    identity: dict[str, Any]  # by which a second run knows its own
    base: Trial  # the options that tries change
    start: Version | None = None  # the tries begin with its model; None: with one that has seen nothing
    recorded: Outcome | None = None  # the original's own figures, where they are over the same rows
    stretch: dict[str, Any] = field(default_factory=dict)  # of a topic: where it begins and ends

    @property
    def shift(self) -> int:
        """A recorded version's number less this is a try's."""
        return self.before.number


def of_model(
    log: VersionLog,
    first: int | None = None,
    last: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    learner_of: LearnerOf = learner_from,
) -> History:
    """Take versions `first` to `last`, or those that were written from `since` up to `until`; default all.

    From a later version on, tries begin with the model of the nearest kept version before it. Raises
    ValueError where there is none in the range.
    """
    head = log.head_number()
    if head is None:
        raise ValueError(f"model {log.directory}: there is no version yet, so there is nothing to replay")
    if since or until:
        first, last = _written(log, head, since, until)
    first, last = 1 if first is None else first, head if last is None else last
    if not 1 <= first <= last <= head:
        allowed = (
            f"from 1 to {head}, the first not after the last" if head else "1 or more, and 0 is the only"
        )
        raise ValueError(f"versions must be {allowed}; got {first} to {last}")
    kept = log.nearest_kept(first - 1)
    before, *records = _described([log.manifest(number) for number in range(first - 1, last + 1)])
    return History(
        records,
        before,
        {"model": str(log.directory)},
        {"model": log.sha256(0), "first": first, "begins": kept},
        Trial({}, ORIGINAL),
        log.read(kept) if kept else None,
        _as_recorded(log, records, learner_of) if first == 1 else None,
    )


def _written(log: VersionLog, head: int, since: datetime | None, until: datetime | None) -> tuple[int, int]:
    moments = {n: datetime.fromisoformat(log.manifest(n).written_at) for n in range(1, head + 1)}
    found = [n for n, at in moments.items() if (not since or at >= since) and (not until or at < until)]
    if not found:
        asked = " ".join(f"{word} {at.isoformat()}" for word, at in (("from", since), ("to", until)) if at)
        there = (
            f"they are from {moments[1].isoformat()} to {moments[head].isoformat()}" if head else "none is"
        )
        raise ValueError(f"model {log.directory}: no version was written {asked}; {there}")
    return found[0], found[-1]


def _described(records: list[Manifest]) -> list[Manifest]:
    """Give versions that were lost to damage, of which nothing is known, the options of their neighbours."""
    known = next((r for r in records if r.learner), records[0])
    described = []
    for record in records:
        known = record if record.learner and record.kind != "damaged" else known
        described.append(replace(record, learner=known.learner, schema=known.schema, update=known.update))
    return described


def _as_recorded(log: VersionLog, records: list[Manifest], learner_of: LearnerOf) -> Outcome | None:
    """The original's own figures: they are over all rows from a new model on. None: they aren't."""
    first = log.manifest(0)
    begun_new = first.digest == state_digest(flatten(initial(learner_of(first.learner))))
    if not begun_new or records[-1].kind == "damaged":
        return None
    return Outcome(ORIGINAL, {}, log.directory, added(records), records[-1].metrics)


def added(records: Iterable[Manifest]) -> dict[str, int]:
    """Add up the versions' rows."""
    counts = [record.counts for record in records if record.kind != "damaged"]
    return {name: sum(c[name] for c in counts) for name in no_counts()}


def of_topic(
    spark: SparkSession,
    settings: Settings,
    topic: str,
    since: datetime | None = None,
    until: datetime | None = None,
    stretch: Mapping[str, Any] | None = None,
    say: Say = lambda line: None,
) -> History:
    """Cut what a topic holds, or its records from `since` up to `until`, into micro-batches in the one order.

    They are of `train.max_offsets_per_trigger` records; learner and schema are those of the settings. The
    topic is read once more for the cut. `stretch` is that of an earlier run, which this one goes on with.
    Raises ValueError where there is no record.
    """
    train = settings.train.model_copy(update={"topics": [topic], "once": True})
    settings = settings.model_copy(update={"train": train, "source": Source()})
    kafka = {"isolation.level": "read_committed", **settings.kafka}
    with KafkaAdmin(kafka) as connection:
        ids = connection.ids([topic])
        begins, ends = _stretch(connection, topic, since, until, stretch)
    ranges = {topic: {p: (o, max(o, ends[p])) for p, o in begins.items()}}
    if all(a == b for a, b in ranges[topic].values()):
        raise ValueError(f"topic {topic!r} holds no record {_asked(since, until)}".rstrip())
    schema = resume.schema_of(spark, settings, say)
    if schema.grow or schema.vocabulary:
        raise ValueError(
            f"topic {topic!r} can't be tried with classes or categories that grow: train a model of it, and "
            "try other options on that"
        )
    learner = resume.made(settings, {"inputs": schema.inputs, "classes": schema.classes})
    size = train.max_offsets_per_trigger
    before = Manifest(
        0,
        learner=learner.options(),
        schema=schema.options(),
        update=train.update,
        offsets={topic: begins},
        topic_ids=ids,
    )
    identity = {
        "topic": topic,
        "id": ids[topic],
        "micro_batch": size,
        "since": since and since.isoformat(),
        "until": until and until.isoformat(),
        "update": train.update,
        "learner": before.learner,
        "schema": before.schema,
    }
    return History(
        _cut(before, topic, kafka_frames.cut(kafka_frames.batch(spark, settings.kafka, ranges), size)),
        before,
        {"topic": topic},
        identity,
        Trial({}, SETTINGS),
        stretch={"begins": _keyed(begins, str), "ends": _keyed(ends, str)},
    )


def _stretch(
    connection: KafkaAdmin,
    topic: str,
    since: datetime | None,
    until: datetime | None,
    earlier: Mapping[str, Any] | None,
) -> tuple[dict[int, int], dict[int, int]]:
    if earlier:
        return _keyed(earlier["begins"], int), _keyed(earlier["ends"], int)

    def offsets(at: datetime | None, otherwise: Callable[[Iterable[str]], Offsets]) -> dict[int, int]:
        found = connection.at([topic], round(at.timestamp() * 1000)) if at else otherwise([topic])
        return found[topic]

    return offsets(since, connection.beginnings), offsets(until, connection.ends)


def _asked(since: datetime | None, until: datetime | None) -> str:
    return " ".join(f"{word} {at.isoformat()}" for word, at in (("from", since), ("to", until)) if at)


def _keyed(offsets: Mapping[Any, int], key: Callable[[Any], Any]) -> dict[Any, int]:
    return {key(partition): offset for partition, offset in offsets.items()}


def _cut(before: Manifest, topic: str, cuts: list[Row]) -> list[Manifest]:
    """Make the records that a run with these micro-batches would have written."""
    records: list[Manifest] = []
    reached = before.offsets[topic]
    for number, parts in groupby(cuts, key=lambda row: row.version):
        own = list(parts)
        until = reached | {row.partition: row.until for row in own}
        ranges = {topic: {p: (reached[p], end) for p, end in until.items()}}
        rows = no_counts() | {"received": sum(row.records for row in own)}
        records.append(
            replace(before, number=int(number), ranges=ranges, offsets={topic: until}, counts=rows)
        )
        reached = until
    return records


def moment(text: str) -> datetime:
    """Read a time in ISO 8601; UTC where it names no zone. Raises ValueError in one line."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"a time must be like 2026-01-31T14:00:00, in UTC or with a zone; got {text!r}"
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
