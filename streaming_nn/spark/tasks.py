"""What runs inside a Spark task: learn a micro-batch, learn recorded versions again, try, or answer rows.

A task may run twice (a retry, speculation), so nothing here writes anything: each task gives back rows.
"""

import base64
import gc
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import safetensors.numpy
from numpy.typing import NDArray
from pydantic_core import to_json
from pyspark import TaskContext

from streaming_nn.nn.learner import Batch, Counts, Learner, Part, State, close, grown, initial, learn_part
from streaming_nn.nn.state_dict import flatten, unflatten
from streaming_nn.records.decode import Decoded, decode, decode_mixed
from streaming_nn.records.schema import Label, Schema, together
from streaming_nn.spark.sources.kafka_frames import ORDER
from streaming_nn.versions.version import state_digest

PREDICT_ROWS = 1024

LEARNED = (
    "topic string, partition int, part binary, rows string, rejected string, letters binary, "
    "overflow boolean, seconds double, unseen string"
)
RELEARNED = "version long, digest string, rows string, state binary"
TRIED = "version long, place int, rows string, rejected string, state binary"
SCORED = "key binary, value binary, headers array<struct<key: string, value: binary>>"
HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))


class Letter(NamedTuple):
    """A record that can't be learned, with all that it came with."""

    reason: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: str | None  # JSON [{"key", "value" in base64}], or None


LETTERS = pa.schema(
    [
        ("reason", pa.string()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", pa.string()),
    ]
)


class Overflow(Exception):  # noqa: N818 (the batch is not an error yet; the driver's breaker says so)
    """The rejected records of a batch are more than may be carried to the driver."""


class Unseen(Exception):  # noqa: N818 (the batch is learned again, by a schema that has grown)
    """The batch holds labels or categories that its schema is to take in first."""

    def __init__(self, values: Mapping[str, tuple[Label, ...]]) -> None:
        super().__init__(values)
        self.values = values


@cache
def _settled() -> None:
    """Leave what is imported out of the garbage collection after each task: it takes 25 ms."""
    if TaskContext.get() is not None:
        gc.freeze()


def pack(state: State[Any]) -> bytes:
    """Write a state as bytes: safetensors, as in a version."""
    return safetensors.numpy.save(flatten(state))


def unpack(learner: Learner[Any], data: bytes) -> State[Any]:
    """Read a state of this learner from `pack`'s bytes; one of fewer classes is grown to the learner's."""
    return grown(learner, unflatten(initial(learner), safetensors.numpy.load(data)))


def pack_part(part: Part[Any]) -> bytes:
    """Write a task's part as bytes, but for its rows."""
    tensors = flatten(State(part.model, part.metrics)) | {"losses": part.losses}
    return safetensors.numpy.save(tensors)


def unpack_part(learner: Learner[Any], data: bytes, rows: Counts) -> Part[Any]:
    """Read a part of this learner from `pack_part`'s bytes."""
    tensors = safetensors.numpy.load(data)
    losses = tensors.pop("losses")
    state = unflatten(initial(learner)._replace(watch=()), tensors)
    return Part(state.model, state.metrics, losses, rows)


class _Rejected:
    """The records of one task that can't be learned: counted, and kept up to `limit` bytes (None: no)."""

    def __init__(self, limit: int | None) -> None:
        self.limit, self.bytes = limit, 0
        self.letters: list[Letter] = []
        self.counts: Counter[str] = Counter()

    def add(self, batch: pa.RecordBatch, rejected: list[tuple[int, str]]) -> None:
        for position, reason in rejected:
            self.counts[reason] += 1
            if self.limit is None:
                continue
            row = batch.slice(position, 1).to_pylist()[0]
            self.bytes += sum(len(row[name] or b"") for name in ("key", "value", "headers")) + 64
            if self.bytes > self.limit:
                raise Overflow
            names = ("topic", "partition", "offset", "key", "value", "headers")
            self.letters.append(Letter(reason, *(row[name] for name in names)))

    def with_rows(self, rows: Counts) -> dict[str, int]:
        """Count them to the rows that could be learned."""
        bad = self.counts.total()
        return rows._replace(received=rows.received + bad, rejected=bad)._asdict()

    def packed(self) -> bytes:
        table = pa.Table.from_pylist([letter._asdict() for letter in self.letters], LETTERS)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, LETTERS) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())


def letters_from(data: bytes) -> list[Letter]:
    """Read the rejected records that a task gave back."""
    return [Letter(**row) for row in pa.ipc.open_stream(data).read_all().to_pylist()]


def _decoded(batches: Iterable[pa.RecordBatch], schema: Schema, rejected: _Rejected) -> Iterator[Batch]:
    """Decode a task's records; Unseen at their end if there is any, and no more rows from there on."""
    unseen: list[Mapping[str, tuple[Label, ...]]] = []
    for batch in batches:
        rows = _rows(batch, schema, labeled=True)
        if rows.unseen:
            unseen.append(rows.unseen)
        if unseen:
            continue
        if rows.rejected:
            rejected.add(batch, rows.rejected)
        assert rows.y is not None  # labels were asked for
        yield Batch(rows.x, rows.y)
    if unseen:
        raise Unseen(together(unseen))


def _rows(batch: pa.RecordBatch, schema: Schema, labeled: bool) -> Decoded:
    values = batch.column("value")
    if "packed" in batch.schema.names:
        return decode_mixed(schema, values, batch.column("packed"), labeled)
    return decode(schema, values, labeled)


class _Watched:
    """A task's record batches: where the first one is from, and how long the task waited for them."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._batches, self._began = iter(batches), time.perf_counter()
        self.place, self._waited = ("", -1), 0.0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        while True:
            began = time.perf_counter()
            batch = next(self._batches, None)
            self._waited += time.perf_counter() - began
            if batch is None:
                return
            if self.place[1] < 0 and batch.num_rows:
                self.place = _place(batch, 0)
            yield batch

    def seconds(self) -> float:
        """How long the task has worked since it was made, without the waiting."""
        return time.perf_counter() - self._began - self._waited


def _place(batch: pa.RecordBatch, row: int) -> tuple[str, int]:
    return batch.column("topic")[row].as_py(), batch.column("partition")[row].as_py()


@dataclass(frozen=True)
class Learn:
    """Do one task's part of a micro-batch from the state that was broadcast; gives one row (LEARNED).

    Where the schema is to grow first, the row holds what it has not seen, in JSON, and no part.
    """

    learner: Learner[Any]
    schema: Schema
    state: Any  # Broadcast[bytes]
    limit: int | None  # bytes of rejected records; None: they are counted, and not given back

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Learn the task's record batches, in the order in which they come."""
        _settled()
        rejected, task = _Rejected(self.limit), _Watched(batches)
        try:
            state = unpack(self.learner, self.state.value)
            part = learn_part(self.learner, state, _decoded(task, self.schema, rejected))
            yield self._row(pack_part(part), part.rows, rejected, task, overflow=False)
        except Overflow:
            yield self._row(b"", Counts(), rejected, task, overflow=True)
        except Unseen as found:
            unseen = json.dumps(found.values)
            yield self._row(b"", Counts(), _Rejected(None), task, overflow=False, unseen=unseen)

    def _row(
        self, part: bytes, rows: Counts, rejected: _Rejected, task: _Watched, overflow: bool, unseen: str = ""
    ) -> pa.RecordBatch:
        topic, partition = task.place
        return pa.record_batch(
            {
                "topic": [topic],
                "partition": pa.array([partition], pa.int32()),
                "part": pa.array([part], pa.binary()),
                "rows": [json.dumps(rejected.with_rows(rows))],
                "rejected": [json.dumps(rejected.counts)],
                "letters": pa.array([b"" if overflow else rejected.packed()], pa.binary()),
                "overflow": [overflow],
                "seconds": [task.seconds()],
                "unseen": [unseen],
            }
        )


class Here(NamedTuple):
    """A state that need not be sent: it stands where a broadcast of it does."""

    value: bytes


def learn_here(work: Learn, records: pa.Table, averaged: bool) -> Iterator[dict[str, Any]]:
    """Do in this process what the tasks would have done with these records; gives their rows (LEARNED)."""
    order = ("topic", "partition", "offset") if averaged else ORDER
    batches = records.sort_by([(name, "ascending") for name in order]).combine_chunks().to_batches()
    for task in _tasks(iter(batches), averaged):
        for row in work(task):
            yield from row.to_pylist()


@dataclass(frozen=True)
class Relearn:
    """Learn several recorded versions again, in one task; gives a row (RELEARNED) a version.

    A version whose tasks were averaged is learned a partition after the other, each from the version before.
    The state goes with the last one, and with the first whose digest is not the recorded one: there it ends.
    """

    learner: Learner[Any]
    schema: Schema
    state: Any  # Broadcast[bytes]
    digests: dict[int, str]  # as recorded
    last: int  # version that has rows
    averaged: bool = False

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Learn the rows, which come sorted by version."""
        _settled()
        state = unpack(self.learner, self.state.value)
        groups = groupby(_by_version(batches), key=lambda piece: piece[0])
        for version, pieces in groups:
            rejected = _Rejected(None)
            own = (batch for _, batch in pieces)
            tasks = (_decoded(task, self.schema, rejected) for task in _tasks(own, self.averaged))
            state, rows = _learned(self.learner, state, tasks)
            digest = state_digest(flatten(state))
            ends = version == self.last or digest != self.digests[version]
            yield self._row(version, digest, rejected.with_rows(rows), pack(state) if ends else b"")
            if digest != self.digests[version]:
                return

    def _row(self, version: int, digest: str, rows: dict[str, int], state: bytes) -> pa.RecordBatch:
        return pa.record_batch(
            {
                "version": pa.array([version], pa.int64()),
                "digest": [digest],
                "rows": [json.dumps(rows)],
                "state": pa.array([state], pa.binary()),
            }
        )


def _tasks(batches: Iterator[pa.RecordBatch], averaged: bool) -> Iterable[Iterator[pa.RecordBatch]]:
    """Give each task's record batches of a version: one had all of them, or one each partition's."""
    return _by_place(batches) if averaged else [batches]


def _learned(
    learner: Learner[Any], state: State[Any], tasks: Iterable[Iterable[Batch]]
) -> tuple[State[Any], Counts]:
    """Learn one version's rows as its tasks did."""
    parts = [learn_part(learner, state, task) for task in tasks]
    rows = Counts(*(sum(counts) for counts in zip(*(part.rows for part in parts), strict=True)))
    return close(learner, state, parts), rows


def _by_place(batches: Iterable[pa.RecordBatch]) -> Iterator[Iterator[pa.RecordBatch]]:
    """Cut sorted record batches where topic or partition change; give each partition's."""
    pieces = (
        (_place(batch, start), batch.slice(start, stop - start))
        for batch in batches
        for start, stop in _runs(batch.column("topic"), batch.column("partition"))
    )
    for _, group in groupby(pieces, key=lambda piece: piece[0]):
        yield (batch for _, batch in group)


@dataclass(frozen=True)
class SideBySide:
    """Learn several versions again with several learners side by side; gives a row (TRIED) a version and one.

    Each version's records are decoded once, for all. A version's learners may have other options than those
    of the version before (its mini-batch size, for one), of the same state.
    """

    learners: dict[int, tuple[Learner[Any], ...]]  # of each version, in the order of the states
    schema: Schema
    states: tuple[Any, ...]  # Broadcast[bytes], one a learner
    averaged: bool = False

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Learn the rows, which come sorted by version."""
        _settled()
        states: list[State[Any]] | None = None
        for version, pieces in groupby(_by_version(batches), key=lambda piece: piece[0]):
            learners, rejected = self.learners[version], _Rejected(None)
            own = (batch for _, batch in pieces)
            tasks = [list(_decoded(task, self.schema, rejected)) for task in _tasks(own, self.averaged)]
            if states is None:
                pairs = zip(learners, self.states, strict=True)
                states = [unpack(learner, state.value) for learner, state in pairs]
            for place, learner in enumerate(learners):
                states[place], rows = _learned(learner, states[place], tasks)
                yield self._row(version, place, rejected, rows, pack(states[place]))

    def _row(
        self, version: int, place: int, rejected: _Rejected, rows: Counts, state: bytes
    ) -> pa.RecordBatch:
        return pa.record_batch(
            {
                "version": pa.array([version], pa.int64()),
                "place": pa.array([place], pa.int32()),
                "rows": [json.dumps(rejected.with_rows(rows))],
                "rejected": [json.dumps(rejected.counts)],
                "state": pa.array([state], pa.binary()),
            }
        )


def _by_version(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    for batch in batches:
        for start, stop in _runs(batch.column("version")):
            yield batch.column("version")[start].as_py(), batch.slice(start, stop - start)


def _runs(*columns: pa.Array) -> Iterator[tuple[int, int]]:
    """Give begin and end of each run of rows in which no column changes."""
    rows = len(columns[0])
    if not rows:
        return
    changes = np.zeros(rows - 1, bool)
    for column in columns:
        codes = np.asarray(column.dictionary_encode().indices)
        changes |= np.diff(codes) != 0
    yield from pairwise([0, *(np.flatnonzero(changes) + 1).tolist(), rows])


def _header_value(header: Mapping[str, str]) -> bytes | None:
    return base64.b64decode(header["value"]) if "value" in header else None  # Spark's JSON has no null


@dataclass(frozen=True)
class Answer:
    """Answer unlabeled records with the version that was broadcast; gives one row (SCORED) a record."""

    learner: Learner[Any]
    schema: Schema
    state: Any  # Broadcast[bytes]
    stamp: dict[str, Any]  # what each answer says of its version
    headers: frozenset[str] = frozenset()  # names, in small letters, of a record's that its answer has too

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Answer the task's record batches; a record that can't be read is answered with the reason."""
        _settled()
        model = unpack(self.learner, self.state.value).model
        for batch in batches:
            rows = _rows(batch, self.schema, labeled=False)
            said = pa.concat_arrays([self._answers(self._outputs(model, rows.x)), _errors(rows.rejected)])
            places = np.concatenate([rows.kept, np.array([i for i, _ in rows.rejected], np.int64)])
            values = self._placed(said.take(pa.array(places.argsort())), batch)
            yield pa.record_batch(
                {
                    "key": batch.column("key"),
                    "value": values.cast(pa.binary()),
                    "headers": self._headers(batch),
                }
            )

    def _headers(self, batch: pa.RecordBatch) -> pa.Array:
        texts = batch.column("headers") if self.headers else None
        if texts is None or texts.null_count == len(texts):
            return pa.nulls(batch.num_rows, HEADERS)
        return pa.array([text and self._taken_along(text) for text in texts.to_pylist()], HEADERS)

    def _taken_along(self, text: str) -> list[dict[str, Any]] | None:
        taken = [h for h in json.loads(text) if h["key"].lower() in self.headers]
        return [{"key": h["key"], "value": _header_value(h)} for h in taken] or None

    def _outputs(self, model: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
        starts = range(0, max(len(x), 1), PREDICT_ROWS)
        return np.concatenate([self.learner.predict(model, x[i : i + PREDICT_ROWS]) for i in starts])

    def _answers(self, output: NDArray[np.float32]) -> pa.Array:
        """Write answers as JSON, as yet without an end: by columns, since row by row costs most of all."""
        if self.learner.classes is None:
            return _joined('{"prediction":', _numbers(output[:, 0]))
        known = output[:, : len(self.learner.classes)]  # classes that grow may be fewer than the outputs
        if not known.shape[1]:
            return pa.array(['{"prediction":null,"probabilities":[]'] * len(output), pa.string())
        labels = pa.array([to_json(label).decode() for label in self.learner.classes])
        best = labels.take(pa.array(known.argmax(axis=1)))
        return _joined('{"prediction":', best, ',"probabilities":[', _probabilities(known), "]")

    def _placed(self, said: pa.Array, batch: pa.RecordBatch) -> pa.Array:
        """End each answer with the version's stamp and the record's place; a topic's name needs no escape."""
        stamp = "," + to_json(self.stamp).decode()[1:-1]
        partition, offset = (batch.column(name).cast(pa.string()) for name in ("partition", "offset"))
        topic = batch.column("topic")
        return _joined(
            said, stamp, ',"topic":"', topic, '","partition":', partition, ',"offset":', offset, "}"
        )


def _joined(*parts: pa.Array | str) -> pa.Array:
    """Join columns of text, and texts that are the same in each row."""
    return pc.binary_join_element_wise(*parts, "")


def _probabilities(p: NDArray[np.float32]) -> pa.Array:
    """Write each row's probabilities, with six digits and commas between: all have the same length."""
    rows, classes = p.shape
    if not np.isfinite(p).all():
        return pa.array([",".join(to_json(round(x, 6)).decode() for x in row) for row in p.tolist()])
    millionths = np.rint(p * np.float64(1e6)).astype(np.int32)
    text = np.full((rows, classes, 9), ord(","), np.uint8)
    for place, unit in zip(
        (0, 2, 3, 4, 5, 6, 7), (1_000_000, 100_000, 10_000, 1000, 100, 10, 1), strict=True
    ):
        text[:, :, place] = millionths // unit % 10 + ord("0")
    text[:, :, 1] = ord(".")
    whole = np.ascontiguousarray(text.reshape(rows, -1)[:, :-1])
    ends = np.arange(rows + 1, dtype=np.int32) * whole.shape[1]
    return pa.StringArray.from_buffers(rows, pa.py_buffer(ends), pa.py_buffer(whole))


def _numbers(values: NDArray[Any]) -> pa.Array:
    """Write numbers as JSON; Arrow is the faster way, but has other words for what is not finite."""
    wide = values.astype(np.float64)
    if np.isfinite(wide).all():
        return pa.array(wide).cast(pa.string())
    return pa.array([to_json(value).decode() for value in wide.tolist()])


def _errors(rejected: list[tuple[int, str]]) -> pa.Array:
    texts = ['{"prediction":null,"error":' + to_json(reason).decode() for _, reason in rejected]
    return pa.array(texts, pa.string())
