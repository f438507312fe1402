"""Records that cannot be learned: counted by reason, and kept for the dead-letter topic up to a limit."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pyarrow as pa

from streaming_nn.nn.learner import Counts

OVERHEAD = 64  # bytes that a dead letter counts besides its key, value and headers


class DeadLetter(NamedTuple):
    """A record that cannot be learned, with all that it came with."""

    reason: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: str | None  # JSON [{"key", "value" in base64}], or None


DEAD_LETTERS = pa.schema(
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


class Overflow(Exception):  # noqa: N818 (not an error yet: the trainer's circuit breaker raises that)
    """The rejected records of a task have more bytes than may be sent to the driver."""


class Rejected:
    """The records of one task that cannot be learned: counted, and kept up to `limit` bytes (None: no)."""

    def __init__(self, limit: int | None) -> None:
        self.limit, self.bytes = limit, 0
        self.dead_letters: list[DeadLetter] = []
        self.counts: Counter[str] = Counter()

    def add(self, batch: pa.RecordBatch, rejected: Iterable[tuple[int, str]]) -> None:
        """Add records of a batch by their positions, each with its reason. Raise Overflow past the limit."""
        for position, reason in rejected:
            self.counts[reason] += 1
            if self.limit is None:
                continue
            row = batch.slice(position, 1).to_pylist()[0]
            self.bytes += sum(len(row[name] or b"") for name in ("key", "value", "headers")) + OVERHEAD
            if self.bytes > self.limit:
                raise Overflow
            names = ("topic", "partition", "offset", "key", "value", "headers")
            self.dead_letters.append(DeadLetter(reason, *(row[name] for name in names)))


def add_rejected(counts: Counts, rejected: Mapping[str, int]) -> Counts:
    """Return the counts of a batch's decoded rows with its rejected records, which are by reason, added."""
    bad = sum(rejected.values())
    return counts._replace(received=counts.received + bad, rejected=counts.rejected + bad)


def pack_dead_letters(dead_letters: Iterable[DeadLetter]) -> bytes:
    """Return dead letters as bytes."""
    table = pa.Table.from_pylist([letter._asdict() for letter in dead_letters], DEAD_LETTERS)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, DEAD_LETTERS) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def unpack_dead_letters(data: bytes) -> list[DeadLetter]:
    """Return dead letters from the bytes of `pack_dead_letters`."""
    return [DeadLetter(**row) for row in pa.ipc.open_stream(data).read_all().to_pylist()]
