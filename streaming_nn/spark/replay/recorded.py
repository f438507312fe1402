"""Replay recorded versions: what `verify` and `backtest` share.

Consecutive versions that follow the same rules are one chunk, which one Spark job learns.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from streaming_nn.errors import DataLossError
from streaming_nn.kafka import admin
from streaming_nn.nn.learner import Learner
from streaming_nn.records.schema import schema_from
from streaming_nn.spark.jvm import in_one_line
from streaming_nn.spark.replay.tasks import Replay, Replayed, run_replay
from streaming_nn.spark.session import SPARK_ERRORS, shared
from streaming_nn.spark.sources import kafka_frames
from streaming_nn.spark.sources.offsets import Ranges
from streaming_nn.spark.sources.prefetch import reader
from streaming_nn.versions.version import AVERAGED, Manifest, Tensors
from streaming_nn.versions.version_log import VersionLog

JOB_ROWS = 200_000  # records that one Spark job learns: one task sorts them
JOB_VERSIONS = 200  # the join compares each record with each of them


@dataclass(frozen=True)
class Recorded:
    """The manifests of versions `first` to `last`, read again in each loop: a month has 2.6 million."""

    log: VersionLog
    first: int
    last: int

    def __iter__(self) -> Iterator[Manifest]:
        return (self.log.manifest(number) for number in range(self.first, self.last + 1))


def split_chunks(
    manifests: Iterable[Manifest], rules: Callable[[Manifest], Any], most: int = JOB_VERSIONS
) -> Iterator[list[Manifest]]:
    """Yield consecutive versions that one job can learn: equal `rules`, at most `most`, not too many rows."""
    chunk: list[Manifest] = []
    rows = 0
    for manifest in manifests:
        fits = chunk and rules(manifest) == rules(chunk[0])
        full = rows + manifest.counts["received"] > JOB_ROWS or len(chunk) >= most
        if chunk and (not fits or full or manifest.kind != "learned"):
            yield chunk
            chunk, rows = [], 0
        chunk.append(manifest)
        rows += manifest.counts["received"]
    if chunk:
        yield chunk


def learn_chunk(
    spark: SparkSession,
    kafka: Mapping[str, str],
    chunk: Sequence[Manifest],
    learners: Mapping[int, tuple[Learner[Any], ...]],
    states: Sequence[Tensors],
    digests: Mapping[int, str] | None = None,
) -> list[Replayed]:
    """Learn a chunk of versions in one Spark job, each with its `learners` side by side from `states`.

    With `digests` the first learner's states are compared with those that were recorded; see `Replay`. For
    versions without records the list is empty. Raise RuntimeError in one line for what Spark raises.
    """
    spans = {m.number: m.ranges for m in chunk if m.counts["received"]}
    if not spans:
        return []
    averaged = chunk[0].update == AVERAGED
    records = reader.read(spark, kafka, chunk[0].topic_ids, join_ranges(chunk))
    frame = kafka_frames.by_version(records, spans, averaged)
    with ExitStack() as stack:
        broadcasts = tuple(stack.enter_context(shared(spark, state)) for state in states)
        compared = None if digests is None else {number: digests[number] for number in spans}
        work = Replay(
            {number: learners[number] for number in spans},
            schema_from(chunk[0].schema),
            broadcasts,
            averaged,
            compared,
        )
        try:
            return run_replay(frame, work)
        except SPARK_ERRORS as error:
            raise RuntimeError(f"the replay failed: {in_one_line(error)}") from None


def join_ranges(manifests: Iterable[Manifest]) -> Ranges:
    """Return each partition's offsets, from the first to the last that one of the versions has."""
    joined: Ranges = {}
    for manifest in manifests:
        for topic, ranges in manifest.ranges.items():
            for p, (a, b) in ranges.items():
                begin, end = joined.setdefault(topic, {}).get(p, (a, b))
                joined[topic][p] = (min(begin, a), max(end, b))
    return joined


def check_available(kafka: Mapping[str, str], manifests: Iterable[Manifest]) -> None:
    """Raise DataLossError if a topic no longer has the versions' records: the metrics would not compare."""
    joined = join_ranges(manifests)
    with admin.KafkaAdmin(kafka) as connection:
        beginnings, ends = connection.beginnings(joined), connection.ends(joined)
        ids = connection.ids(joined)
    for manifest in manifests:
        for topic, known in manifest.topic_ids.items():
            if topic in ids and ids[topic] != known:
                raise DataLossError(
                    f"topic {topic!r} was recreated since version {manifest.number} learned it"
                )
        for topic, ranges in manifest.ranges.items():
            for p, (a, b) in ranges.items():
                if a < b and a < beginnings[topic].get(p, 0):
                    raise DataLossError(
                        f"version {manifest.number} learned {topic!r} partition {p} from offset {a:,}, and "
                        f"the topic now begins at {beginnings[topic][p]:,}: start at a later version (--from)"
                    )
                if a < b and b > ends[topic].get(p, 0):
                    raise DataLossError(
                        f"version {manifest.number} learned {topic!r} partition {p} up to offset {b:,}, and "
                        f"the topic now ends at {ends[topic].get(p, 0):,}: it is another topic of that name"
                    )
