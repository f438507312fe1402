"""What a backtest learns: recorded versions of a model, or a topic's records cut into micro-batches."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Learner
from streaming_nn.nn.state_dict import flatten
from streaming_nn.settings import Settings, Source
from streaming_nn.spark.replay.trials import Outcome, Trial
from streaming_nn.spark.series import initial_state
from streaming_nn.spark.sources.offsets import Offsets
from streaming_nn.spark.train.initial_schema import read_schema
from streaming_nn.spark.train.resume import make_learner
from streaming_nn.versions.version import Manifest, Version, no_counts, state_digest
from streaming_nn.versions.version_log import VersionLog

if TYPE_CHECKING:  # plans of versions, and checks, need no Spark
    from pyspark.sql import Row, SparkSession

ORIGINAL, SETTINGS = "original", "settings"  # names of the trials that change nothing

LearnerFactory = Callable[[Mapping[str, Any]], Learner[Any]]


@dataclass(frozen=True)
class ReplayPlan:
    """What is learned, the same for all trials."""

    manifests: list[Manifest]  # consecutive versions; of a topic, those that a run would have committed
    parent: Manifest  # of the first: its offsets are where they begin in the topics
    origin: dict[str, Any]  # where the records are from, for each version's event
    identity: dict[str, Any]  # by which a second run recognizes the first one's versions
    base: Trial  # the options that trials change
    start: Version | None = None  # the trials begin with its model; None: with an untrained one
    recorded: Outcome | None = None  # the original's metrics, if they are over the same rows
    bounds: dict[str, Any] = field(default_factory=dict)  # of a topic: its first and last offsets

    @property
    def shift(self) -> int:
        """A recorded version's number minus that of a trial's version."""
        return self.parent.number


def plan_versions(
    log: VersionLog,
    first: int | None = None,
    last: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    factory: LearnerFactory = learner_from,
) -> ReplayPlan:
    """Plan versions `first` to `last`, or those that were written from `since` up to `until`; default: all.

    If `first` is not the first that learned, trials begin with the model of the nearest kept version before
    it. Raise ValueError if there is no such version.
    """
    _, head = log.span()
    if since or until:
        first, last = _written_between(log, head, since, until)
    begin = log.initial_number()
    first, last = log.span(first, last)
    if last == begin:
        raise ValueError(f"versions must be {begin + 1} or more, and there is only {begin}")
    kept = log.nearest_kept(first - 1)
    parent, *manifests = _fill_damaged([log.manifest(number) for number in range(first - 1, last + 1)])
    return ReplayPlan(
        manifests,
        parent,
        {"model": str(log.directory)},
        {"model": log.sha256(begin), "first": first, "begins": kept},
        Trial({}, ORIGINAL),
        log.read(kept) if kept > begin else None,
        _recorded_outcome(log, log.manifest(begin), manifests, factory) if first == begin + 1 else None,
    )


def _written_between(
    log: VersionLog, head: int, since: datetime | None, until: datetime | None
) -> tuple[int, int]:
    begin = log.initial_number()
    times = {n: datetime.fromisoformat(log.manifest(n).written_at) for n in range(begin + 1, head + 1)}
    numbers = [n for n, at in times.items() if (not since or at >= since) and (not until or at < until)]
    if not numbers:
        existing = (
            f"they are from {times[begin + 1].isoformat()} to {times[head].isoformat()}"
            if head > begin
            else "there is none"
        )
        interval = _format_interval(since, until)
        raise ValueError(f"model {log.directory}: no version was written {interval}; {existing}")
    return numbers[0], numbers[-1]


def _fill_damaged(manifests: list[Manifest]) -> list[Manifest]:
    """Fill damaged versions, of which nothing is known, with the options of their neighbors."""
    known = next((m for m in manifests if m.learner), manifests[0])
    filled = []
    for manifest in manifests:
        known = manifest if manifest.learner and manifest.kind != "damaged" else known
        filled.append(replace(manifest, learner=known.learner, schema=known.schema, update=known.update))
    return filled


def _recorded_outcome(
    log: VersionLog, first: Manifest, manifests: list[Manifest], factory: LearnerFactory
) -> Outcome | None:
    """Return the original's metrics, which are over all rows of a new model; None: they are not."""
    start = initial_state(factory(first.learner), first.schema)
    untrained = first.digest == state_digest(flatten(start))
    if not untrained or manifests[-1].kind == "damaged":
        return None
    return Outcome(ORIGINAL, {}, log.directory, sum_counts(manifests), manifests[-1].metrics)


def sum_counts(manifests: Iterable[Manifest]) -> dict[str, int]:
    """Return the sums of the versions' counts."""
    counts = [manifest.counts for manifest in manifests if manifest.kind != "damaged"]
    return {name: sum(c[name] for c in counts) for name in no_counts()}


def plan_topic(
    spark: "SparkSession",
    settings: Settings,
    topic: str,
    since: datetime | None = None,
    until: datetime | None = None,
    bounds: Mapping[str, Any] | None = None,
) -> ReplayPlan:
    """Cut a topic's records, or those from `since` up to `until`, into micro-batches, in learning order.

    Each has `train.max_offsets_per_trigger` records; learner and schema are those of the settings. The cut
    reads the topic once. `bounds` are those of an earlier run, which this one resumes. The schema must not
    grow: `checks.before_replay_of_topic`. Raise ValueError if there is no record.
    """
    from streaming_nn.spark.sources import kafka_frames
    from streaming_nn.spark.sources.kafka_source import KafkaSource
    from streaming_nn.spark.sources.prefetch import reader

    train = settings.train.model_copy(update={"topics": [topic], "topics_pattern": "", "once": True})
    settings = settings.model_copy(update={"train": train, "source": Source()})
    source = KafkaSource(spark, settings)
    with KafkaAdmin(settings.kafka) as admin:
        source.open(admin)
        ids = source.ids
        begins, ends = _find_bounds(admin, topic, since, until, bounds)
    ranges = {topic: {p: (o, max(o, ends[p])) for p, o in begins.items()}}
    schema = read_schema(source, settings)
    learner = make_learner(settings, schema.learner_options)
    size = train.max_offsets_per_trigger
    parent = Manifest(
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
        "learner": parent.learner,
        "schema": parent.schema,
    }
    cuts = kafka_frames.cut(reader.read(spark, settings.kafka, ids, ranges), size)
    return ReplayPlan(
        _cut_manifests(parent, topic, cuts),
        parent,
        {"topic": topic},
        identity,
        Trial({}, SETTINGS),
        bounds={"begins": _with_keys(begins, str), "ends": _with_keys(ends, str)},
    )


def require_records(
    settings: Settings,
    topic: str,
    since: datetime | None,
    until: datetime | None,
    bounds: Mapping[str, Any] | None,
) -> None:
    """Raise ValueError if `plan_topic` would find no record; needs no Spark."""
    with KafkaAdmin(settings.kafka) as admin:
        _find_bounds(admin, topic, since, until, bounds)


def _find_bounds(
    admin: KafkaAdmin,
    topic: str,
    since: datetime | None,
    until: datetime | None,
    earlier: Mapping[str, Any] | None,
) -> tuple[dict[int, int], dict[int, int]]:
    """Return where records begin and end in each partition. Raise ValueError if there are none."""
    if earlier:
        return _with_keys(earlier["begins"], int), _with_keys(earlier["ends"], int)

    def offsets(at: datetime | None, default: Callable[[Iterable[str]], Offsets]) -> dict[int, int]:
        found = admin.at([topic], round(at.timestamp() * 1000)) if at else default([topic])
        return found[topic]

    begins, ends = offsets(since, admin.beginnings), offsets(until, admin.ends)
    if all(ends[partition] <= offset for partition, offset in begins.items()):
        raise ValueError(f"topic {topic!r} has no records {_format_interval(since, until)}".rstrip())
    return begins, ends


def _format_interval(since: datetime | None, until: datetime | None) -> str:
    return " ".join(f"{word} {at.isoformat()}" for word, at in (("from", since), ("to", until)) if at)


def _with_keys(offsets: Mapping[Any, int], key: Callable[[Any], Any]) -> dict[Any, int]:
    return {key(partition): offset for partition, offset in offsets.items()}


def _cut_manifests(parent: Manifest, topic: str, cuts: "list[Row]") -> list[Manifest]:
    """Return the manifests that a run with these micro-batches would have written."""
    manifests: list[Manifest] = []
    reached = parent.offsets[topic]
    for number, group in groupby(cuts, key=lambda row: row.version):
        rows = list(group)
        until = reached | {row.partition: row.until for row in rows}
        ranges = {topic: {p: (reached[p], end) for p, end in until.items()}}
        counts = no_counts() | {"received": sum(row.records for row in rows)}
        manifests.append(
            replace(parent, number=int(number), ranges=ranges, offsets={topic: until}, counts=counts)
        )
        reached = until
    return manifests


def parse_time(text: str) -> datetime:
    """Parse a time in ISO 8601; without a zone it is UTC. Raise ValueError in one line."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"a time must be like 2026-01-31T14:00:00, in UTC or with a zone; got {text!r}"
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
