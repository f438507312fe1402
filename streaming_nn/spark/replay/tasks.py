"""The Spark task that learns recorded versions again, by one learner or by several side by side."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import pyarrow as pa
import safetensors.numpy
from pyspark.sql import DataFrame

from streaming_nn.nn.learner import Counts, Learner, State
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.schema import Schema
from streaming_nn.spark.rejected import NotLearned
from streaming_nn.spark.series import series_of
from streaming_nn.spark.session import rows_of
from streaming_nn.spark.tasks import decode_batches, find_runs, freeze_imports, pack, split_tasks, unpack
from streaming_nn.spark.train.micro_batch import learn_tasks
from streaming_nn.versions.version import Tensors, state_digest

REPLAYED = "version long, learner int, digest string, counts string, rejected string, state binary"


class Replayed(NamedTuple):
    """What one learner made of a version's records."""

    version: int
    learner: int  # its index among those side by side
    digest: str  # of the state; "" if no digests are compared
    counts: Counts
    rejected: dict[str, int]  # by reason and field
    tensors: Tensors | None  # of the state; None: an earlier version of a comparison that found no difference


@dataclass(frozen=True)
class Replay:
    """Learn several recorded versions again in one task; yield a row (REPLAYED) per version and learner.

    Each version's records are decoded once, for all learners. A version's learners may have other options
    than those of the version before (its mini-batch size, for one), with the same state. An `averaged`
    version is learned partition by partition, each from the version before.

    With `digests` the learner's states are compared with those that were recorded: the replay ends at the
    first difference, and only that state or the last one is returned. Without, every state is.
    """

    learners: Mapping[int, tuple[Learner[Any], ...]]  # by version, in the order of the states
    schema: Schema
    states: tuple[Any, ...]  # Broadcast[bytes], one per learner
    averaged: bool = False
    digests: Mapping[int, str] | None = None  # by version; None: nothing is compared

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Learn the rows, which are sorted by version."""
        freeze_imports()
        states: list[State[Any]] = []
        for version, pieces in groupby(_by_version(batches), key=lambda piece: piece[0]):
            learners, not_learned = self.learners[version], NotLearned(None)
            if not states:
                pairs = zip(learners, self.states, strict=True)
                states = [unpack(learner, state.value) for learner, state in pairs]
            records = (batch for _, batch in pieces)
            tasks = split_tasks(records, self.averaged)
            series = series_of(self.schema, states[0])  # those of all are the same
            batches_of = (decode_batches(task, self.schema, not_learned, series=series) for task in tasks)
            decoded = [list(each) for each in batches_of] if len(learners) > 1 else batches_of
            for index, learner in enumerate(learners):
                states[index], counts = learn_tasks(learner, states[index], decoded)
                if series is not None:
                    states[index] = states[index]._replace(series=series.histories.state())
                digest = "" if self.digests is None else state_digest(flatten(states[index]))
                ends = self.digests is None or digest != self.digests[version] or version == max(self.digests)
                state = pack(states[index]) if ends else None
                rejected = not_learned.rejected
                yield _row(version, index, digest, not_learned.add_to(counts), rejected, state)
                if self.digests is not None and digest != self.digests[version]:
                    return


def _row(
    version: int, learner: int, digest: str, counts: Counts, rejected: Mapping[str, int], state: bytes | None
) -> pa.RecordBatch:
    return pa.record_batch(
        {
            "version": pa.array([version], pa.int64()),
            "learner": pa.array([learner], pa.int32()),
            "digest": [digest],
            "counts": [json.dumps(counts)],
            "rejected": [json.dumps(rejected)],
            "state": pa.array([state], pa.binary()),
        }
    )


def run_replay(frame: DataFrame, work: Replay) -> list[Replayed]:
    """Run the replay of a frame's records, which are sorted by version, as one Spark job."""
    return [
        Replayed(
            row.version,
            row.learner,
            row.digest,
            Counts(*json.loads(row.counts)),
            json.loads(row.rejected),
            None if row.state is None else safetensors.numpy.load(bytes(row.state)),
        )
        for row in rows_of(frame.mapInArrow(work, REPLAYED))
    ]


def _by_version(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    for batch in batches:
        for start, stop in find_runs(batch.column("version")):
            yield batch.column("version")[start].as_py(), batch.slice(start, stop - start)
