"""What runs inside a Spark task when a micro-batch is learned, and what it returns to the driver.

A task may run twice (a retry, speculation), so nothing here writes anything: each task returns one row.
"""

import gc
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import groupby, pairwise
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import safetensors.numpy
from pyspark import TaskContext

from streaming_nn.nn.learner import (
    Batch,
    Counts,
    Learner,
    Part,
    ServedBatch,
    State,
    initial,
    learn_part,
    load_state,
)
from streaming_nn.nn.series import split_series
from streaming_nn.nn.state_dict import flatten, unflatten
from streaming_nn.records.decode import Decoded, decode, decode_mixed, large_features
from streaming_nn.records.explode import explode_batch
from streaming_nn.records.labels import Label
from streaming_nn.records.schema import Schema, merge_unseen
from streaming_nn.spark.rejected import (
    DeadLetter,
    NotLearned,
    add_not_learned,
    pack_dead_letters,
    unpack_dead_letters,
)
from streaming_nn.spark.samples import NewestRows, Row
from streaming_nn.spark.series import RecordSeries, series_of

TASK_RESULT = (
    "topic string, partition int, part binary, counts string, rejected string, filtered long, "
    "dead_letters binary, seconds double, unseen string, large string, times string, samples string"
)
AHEAD = 4  # record batches
T = TypeVar("T")
TaskFunction = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
NO_VALUES: Mapping[str, Sequence[Label]] = MappingProxyType({})


class TaskResult(NamedTuple):
    """What one task has made of its part of a micro-batch."""

    topic: str  # of its first record
    partition: int
    part: Part[Any] | None  # None: nothing is learned, because of unseen values
    rejected: Mapping[str, int]  # by reason and field; not in the counts of the part
    filtered: int  # records that were passed over by rule; not in the counts of the part
    dead_letters: Sequence[DeadLetter]
    seconds: float  # of work, without waiting for records
    unseen: Mapping[str, Sequence[Label]] = NO_VALUES  # by field; the schema must grow by them first
    large: Sequence[str] = ()  # columns with numbers of 2^53 or more: `large_features`
    times: Sequence[int] = ()  # of the oldest and the newest record, ms since 1970; none if they have none
    samples: Sequence[Row] = ()  # the newest rows

    @property
    def counts(self) -> Counts:
        """How the task's records ended."""
        learned = Counts() if self.part is None else self.part.counts
        return add_not_learned(learned, self.rejected, self.filtered)


class Unseen(Exception):  # noqa: N818 (the batch is learned again, by a schema that has grown)
    """The batch holds labels or categories that its schema must contain first."""

    def __init__(self, values: Mapping[str, tuple[Label, ...]]) -> None:
        super().__init__(values)
        self.values = values


@cache
def freeze_imports() -> None:
    """Exclude what is imported from the garbage collection after each task: it takes 25 ms."""
    if TaskContext.get() is not None:
        gc.freeze()


def pack(state: State[Any]) -> bytes:
    """Return a state as bytes: safetensors, as in a version."""
    return safetensors.numpy.save(flatten(state))


def unpack(learner: Learner[Any], data: bytes) -> State[Any]:
    """Return a state of this learner from `pack`'s bytes; one of fewer classes grows to the learner's."""
    return load_state(learner, safetensors.numpy.load(data))


def pack_part(part: Part[Any]) -> bytes:
    """Return a task's part, without its counts, as bytes."""
    tensors = flatten(State(part.model, part.metrics, (), part.series)) | {"losses": part.losses}
    return safetensors.numpy.save(tensors)


def unpack_part(learner: Learner[Any], data: bytes, counts: Counts) -> Part[Any]:
    """Return a part of this learner from the bytes of `pack_part`."""
    tensors = safetensors.numpy.load(data)
    losses = tensors.pop("losses")
    own, series = split_series(tensors)
    state = unflatten(initial(learner)._replace(drift=()), own)
    return Part(state.model, state.metrics, losses, counts, series)


def decode_batch(batch: pa.RecordBatch, schema: Schema, labeled: bool) -> Decoded:
    """Decode a record batch, of which Plain.java may have packed some values."""
    values = batch.column("value")
    if "packed" in batch.schema.names:
        return decode_mixed(schema, values, batch.column("packed"), labeled)
    return decode(schema, values, labeled)


def decode_batches(
    batches: Iterable[pa.RecordBatch],
    schema: Schema,
    not_learned: NotLearned,
    large: set[str] | None = None,
    series: RecordSeries | None = None,
) -> Iterator[Batch | ServedBatch]:
    """Decode a task's records. If any value is unseen, yield no more rows, and raise Unseen at the end.

    Columns with large numbers are added to `large`. With `series`, rows have lagged values.
    """
    unseen: list[Mapping[str, tuple[Label, ...]]] = []
    for records in batches:
        batch = explode_batch(schema, records)
        rows = decode_batch(batch, schema, labeled=True)
        if rows.unseen:
            unseen.append(rows.unseen)
        if unseen:
            continue
        not_learned.add(batch, rows)
        if large is not None:
            large.update(large_features(schema, rows.x))
        assert rows.y is not None  # the records are labeled
        yield Batch(rows.x, rows.y, rows.w) if series is None else series.learn(batch, rows)
    if unseen:
        raise Unseen(merge_unseen(unseen))


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield items that a thread makes, up to AHEAD ahead; an error is raised after the items before it."""
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        made = deque(thread.submit(next, source, end) for _ in range(AHEAD))
        while (item := made.popleft().result()) is not end:
            made.append(thread.submit(next, source, end))
            yield cast(T, item)


class _Timed:
    """A task's record batches: where the first one is from, and how long the task waited for them."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._batches, self._started = iter(batches), time.perf_counter()
        self.topic_partition, self._waited = ("", -1), 0.0
        self.times: tuple[int, int] | tuple[()] = ()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        while True:
            started = time.perf_counter()
            batch = next(self._batches, None)
            self._waited += time.perf_counter() - started
            if batch is None:
                return
            if self.topic_partition[1] < 0 and batch.num_rows:
                self.topic_partition = _topic_partition(batch, 0)
            self.times = widest(self.times, _times(batch))
            yield batch

    def elapsed(self) -> float:
        """Return the seconds since the task's start."""
        return time.perf_counter() - self._started

    def seconds(self) -> float:
        """Return how long the task has worked since its start, without the waiting."""
        return self.elapsed() - self._waited


def widest(*spans: Sequence[int]) -> tuple[int, int] | tuple[()]:
    """Return the least and the largest of some spans of times, which may be none."""
    times = [time for span in spans for time in span]
    return (min(times), max(times)) if times else ()


def _times(batch: pa.RecordBatch) -> tuple[int, int] | tuple[()]:
    """Return the times of the oldest and the newest record in ms since 1970; none if one has no time.

    Our reader has milliseconds, Spark has timestamps. A record without a time has -1.
    """
    if "timestamp" not in batch.schema.names or not batch.num_rows:
        return ()
    times = batch.column("timestamp")
    if not pa.types.is_integer(times.type):
        times = times.cast(pa.timestamp("ms", times.type.tz), safe=False).cast(pa.int64())
    span = pc.min_max(times).as_py()
    return (span["min"], span["max"]) if span["min"] is not None and span["min"] >= 0 else ()


def _topic_partition(batch: pa.RecordBatch, row: int) -> tuple[str, int]:
    return batch.column("topic")[row].as_py(), batch.column("partition")[row].as_py()


def learn_records(
    learner: Learner[Any],
    schema: Schema,
    state: State[Any],
    batches: Iterable[pa.RecordBatch],
    limit: int | None,
    decode_ahead: bool = False,
    samples: int = 0,
) -> TaskResult:
    """Learn one task's record batches from `state`, in the order in which they come.

    Rejected records are kept up to `limit` bytes; None: they are counted only. If the schema has to grow
    first, the result holds the unseen values, and nothing is learned. With `decode_ahead`, a thread reads and
    decodes, and no time counts as waiting. The newest `samples` rows are returned, too.
    """
    not_learned, timed, part, unseen = NotLearned(limit), _Timed(batches), None, NO_VALUES
    large, kept, series = set[str](), NewestRows(learner, samples), series_of(schema, state)
    try:
        rows = decode_batches(timed, schema, not_learned, large, series)
        part = learn_part(learner, state, ahead(rows) if decode_ahead else rows, kept.add)
        part = part if series is None else part._replace(series=series.histories.state())
    except Unseen as found:
        not_learned, unseen = NotLearned(limit), found.values
    return TaskResult(
        *timed.topic_partition,
        part,
        dict(not_learned.rejected),
        not_learned.filtered,
        not_learned.dead_letters,
        timed.elapsed() if decode_ahead else timed.seconds(),
        unseen,
        sorted(large),
        timed.times,
        kept.rows() if part is not None else [],
    )


@dataclass(frozen=True)
class Learn:
    """Learn one task's part of a micro-batch from the broadcast state; yield its result (TASK_RESULT)."""

    learner: Learner[Any]
    schema: Schema
    state: Any  # Broadcast[bytes]
    limit: int | None  # bytes of rejected records; None: they are counted only
    samples: int = 0  # rows

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Learn the task's record batches, in the order in which they come."""
        freeze_imports()
        state = unpack(self.learner, self.state.value)
        result = learn_records(self.learner, self.schema, state, batches, self.limit, samples=self.samples)
        yield result_to_row(result)


def result_to_row(result: TaskResult) -> pa.RecordBatch:
    """Return a task's result as a record batch of one row (TASK_RESULT)."""
    part = result.part
    return pa.record_batch(
        {
            "topic": [result.topic],
            "partition": pa.array([result.partition], pa.int32()),
            "part": pa.array([None if part is None else pack_part(part)], pa.binary()),
            "counts": [json.dumps(Counts() if part is None else part.counts)],
            "rejected": [json.dumps(result.rejected)],
            "filtered": pa.array([result.filtered], pa.int64()),
            "dead_letters": pa.array([pack_dead_letters(result.dead_letters)], pa.binary()),
            "seconds": [result.seconds],
            "unseen": [json.dumps(dict(result.unseen))],
            "large": [json.dumps(list(result.large))],
            "times": [json.dumps(list(result.times))],
            "samples": [json.dumps(list(result.samples))],
        }
    )


def result_from_row(learner: Learner[Any], row: Any) -> TaskResult:
    """Return a task's result from its row (TASK_RESULT)."""
    counts, data = Counts(*json.loads(row["counts"])), row["part"]
    return TaskResult(
        row["topic"],
        row["partition"],
        None if data is None else unpack_part(learner, bytes(data), counts),
        json.loads(row["rejected"]),
        row["filtered"],
        unpack_dead_letters(bytes(row["dead_letters"])),
        row["seconds"],
        json.loads(row["unseen"]),
        json.loads(row["large"]),
        tuple(json.loads(row["times"])),
        json.loads(row["samples"]),
    )


def split_tasks(batches: Iterator[pa.RecordBatch], averaged: bool) -> Iterable[Iterator[pa.RecordBatch]]:
    """Split sorted record batches by task: one has all of them, or, `averaged`, one has each partition's."""
    return _by_partition(batches) if averaged else [batches]


def _by_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[Iterator[pa.RecordBatch]]:
    pieces = (
        (_topic_partition(batch, start), batch.slice(start, stop - start))
        for batch in batches
        for start, stop in find_runs(batch.column("topic"), batch.column("partition"))
    )
    for _, group in groupby(pieces, key=lambda piece: piece[0]):
        yield (batch for _, batch in group)


def find_runs(*columns: pa.Array) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each run of rows in which no column changes."""
    rows = len(columns[0])
    if not rows:
        return
    changes = np.zeros(rows - 1, bool)
    for column in columns:
        codes = np.asarray(column.dictionary_encode().indices)
        changes |= np.diff(codes) != 0
    yield from pairwise([0, *(np.flatnonzero(changes) + 1).tolist(), rows])
