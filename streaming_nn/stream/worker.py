"""What runs inside a Spark task: learn a micro-batch, learn recorded versions again, or answer rows.

A task may run twice (a retry, speculation), so nothing here writes anything: each task gives back rows.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import safetensors.numpy
from numpy.typing import NDArray
from pydantic_core import to_json

from streaming_nn.log.version import state_digest
from streaming_nn.nn.learner import Batch, Learner, Rows, State, initial, test_then_train
from streaming_nn.nn.tensors import flatten, unflatten
from streaming_nn.records.decode import decode
from streaming_nn.records.schema import Schema

PREDICT_ROWS = 1024

LEARNED = "state binary, rows string, rejected string, letters binary, overflow boolean"
RELEARNED = "version long, digest string, rows string, state binary"
SCORED = "key binary, value binary"


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


def pack(state: State[Any]) -> bytes:
    """Write a state as bytes: safetensors, as in a version."""
    return safetensors.numpy.save(flatten(state))


def unpack(learner: Learner[Any], data: bytes) -> State[Any]:
    """Read a state of this learner from `pack`'s bytes."""
    return unflatten(initial(learner), safetensors.numpy.load(data))


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

    def with_rows(self, rows: Rows) -> dict[str, int]:
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
    for batch in batches:
        rows = decode(schema, batch.column("value"), labeled=True)
        if rows.rejected:
            rejected.add(batch, rows.rejected)
        assert rows.y is not None  # labels were asked for
        yield Batch(rows.x, rows.y)


@dataclass(frozen=True)
class Learn:
    """Learn one micro-batch from the state that was broadcast; gives one row (LEARNED)."""

    learner: Learner[Any]
    schema: Schema
    state: Any  # Broadcast[bytes]
    limit: int  # bytes of rejected records

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Learn the task's record batches, in the order in which they come."""
        rejected = _Rejected(self.limit)
        try:
            state = unpack(self.learner, self.state.value)
            state, rows = test_then_train(self.learner, state, _decoded(batches, self.schema, rejected))
            yield self._row(pack(state), rows, rejected, overflow=False)
        except Overflow:
            yield self._row(b"", Rows(), rejected, overflow=True)

    def _row(self, state: bytes, rows: Rows, rejected: _Rejected, overflow: bool) -> pa.RecordBatch:
        return pa.record_batch(
            {
                "state": pa.array([state], pa.binary()),
                "rows": [json.dumps(rejected.with_rows(rows))],
                "rejected": [json.dumps(rejected.counts)],
                "letters": pa.array([b"" if overflow else rejected.packed()], pa.binary()),
                "overflow": [overflow],
            }
        )


@dataclass(frozen=True)
class Relearn:
    """Learn several recorded versions again, in one task; gives a row (RELEARNED) a version.

    The state goes with the last one, and with the first whose digest is not the recorded one: there it ends.
    """

    learner: Learner[Any]
    schema: Schema
    state: Any  # Broadcast[bytes]
    digests: dict[int, str]  # as recorded
    last: int  # version that has rows

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Learn the rows, which come sorted by version."""
        state = unpack(self.learner, self.state.value)
        groups = groupby(_by_version(batches), key=lambda piece: piece[0])
        for version, pieces in groups:
            rejected = _Rejected(None)
            batches_of = (batch for _, batch in pieces)
            state, rows = test_then_train(self.learner, state, _decoded(batches_of, self.schema, rejected))
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


def _by_version(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    for batch in batches:
        versions = np.asarray(batch.column("version"))
        if not len(versions):
            continue
        cuts = [0, *(np.flatnonzero(np.diff(versions)) + 1).tolist(), len(versions)]
        for start, stop in pairwise(cuts):
            yield int(versions[start]), batch.slice(start, stop - start)


@dataclass(frozen=True)
class Answer:
    """Answer unlabeled records with the version that was broadcast; gives one row (SCORED) a record."""

    learner: Learner[Any]
    schema: Schema
    state: Any  # Broadcast[bytes]
    stamp: dict[str, Any]  # what each answer says of its version

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Answer the task's record batches; a record that can't be read is answered with the reason."""
        model = unpack(self.learner, self.state.value).model
        for batch in batches:
            rows = decode(self.schema, batch.column("value"), labeled=False)
            answers: list[dict[str, Any]] = [{}] * batch.num_rows
            for position, output in zip(rows.kept.tolist(), self._outputs(model, rows.x), strict=True):
                answers[position] = self._answer(output)
            for position, reason in rows.rejected:
                answers[position] = {"prediction": None, "error": reason}
            places = batch.select(["topic", "partition", "offset"]).to_pylist()
            values = [to_json(a | self.stamp | p) for a, p in zip(answers, places, strict=True)]
            yield pa.record_batch({"key": batch.column("key"), "value": pa.array(values, pa.binary())})

    def _outputs(self, model: Any, x: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(x), PREDICT_ROWS):
            yield from self.learner.predict(model, x[start : start + PREDICT_ROWS])

    def _answer(self, output: NDArray[np.float32]) -> dict[str, Any]:
        if self.learner.classes is None:
            return {"prediction": float(output[0])}
        label = self.learner.classes[int(output.argmax())]
        return {"prediction": label, "probabilities": [round(float(p), 6) for p in output]}
