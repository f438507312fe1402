"""Records that are not learned: rejected ones, which become dead letters here, and filtered ones.

`train/dead_letters.py` sends them, `kafka/dead_letters.py` reads their topic and sends them back.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pyarrow as pa

from streaming_nn.nn.learner import Counts
from streaming_nn.records import reasons
from streaming_nn.records.decode import Decoded
from streaming_nn.records.explode import ROW
from streaming_nn.records.types import Rejection

OVERHEAD = 64  # bytes that a dead letter counts besides its key, headers and value
MAX_REASONS = 50  # by which records are counted: a label that is in no class may have another value each time
OTHER = "other"  # the last of them


class DeadLetter(NamedTuple):
    """A record that cannot be learned: why, where it is from, and all that it came with."""

    reason: str
    field: str  # its path; "": the record as a whole
    found: str  # what was in the field: its repr, cut
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: str | None  # JSON [{"key", "value" in base64}], or None
    row: int | None = None  # its position in a record of several rows
    cut: str = ""  # which of key, headers and value are not whole, because they were too large


DEAD_LETTERS = pa.schema(
    [
        ("reason", pa.string()),
        ("field", pa.string()),
        ("found", pa.string()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", pa.string()),
        ("row", pa.int32()),
        ("cut", pa.string()),
    ]
)
RECORD = ("topic", "partition", "offset", "key", "value", "headers")


class NotLearned:
    """The records of one task that are not learned, counted; rejected ones are kept too, up to a limit.

    `limit` is in bytes; None: they are counted only. What does not fit is cut to its position and reason.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit, self.bytes = limit, 0
        self.dead_letters: list[DeadLetter] = []
        self.rejected: Counter[str] = Counter()  # by reason and field
        self.filtered = 0

    def add(self, batch: pa.RecordBatch, decoded: Decoded) -> None:
        """Add a batch's rejected and filtered records."""
        self.filtered += len(decoded.filtered)
        for rejection in decoded.rejected:
            count_reason(self.rejected, reasons.key(rejection))
            if self.limit is not None:
                self._keep(batch, rejection, self.limit)

    def _keep(self, batch: pa.RecordBatch, rejection: Rejection, limit: int) -> None:
        row = batch.slice(rejection.position, 1).to_pylist()[0]
        why = rejection.reason, rejection.field, rejection.value
        letter = DeadLetter(*why, **{name: row[name] for name in RECORD}, row=row.get(ROW))
        letter = cut(letter, limit - self.bytes - OVERHEAD)
        self.bytes += size(letter) + OVERHEAD
        self.dead_letters.append(letter)

    def add_to(self, counts: Counts) -> Counts:
        """Return the counts of the learned rows with these records added."""
        return add_not_learned(counts, self.rejected, self.filtered)


def count_reason(counts: Counter[str], reason: str, records: int = 1) -> None:
    """Count records by a reason; the reasons after the first ones, of which there may be many, are one."""
    counts[reason if reason in counts or len(counts) < MAX_REASONS - 1 else OTHER] += records


def sum_reasons(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sums of counts by reason."""
    total: Counter[str] = Counter()
    for each in counts:
        for reason, records in each.items():
            count_reason(total, reason, records)
    return dict(total)


def add_not_learned(counts: Counts, rejected: Mapping[str, int], filtered: int) -> Counts:
    """Return the counts of learned rows with rejected (by reason) and filtered records added."""
    bad = sum(rejected.values())
    return counts._replace(
        received=counts.received + bad + filtered,
        rejected=counts.rejected + bad,
        filtered=counts.filtered + filtered,
    )


def size(letter: DeadLetter) -> int:
    """Return the bytes of a dead letter's key, headers and value."""
    return sum(len(part or b"") for part in (letter.key, letter.headers, letter.value))


def cut(letter: DeadLetter, budget: int) -> DeadLetter:
    """Return a dead letter whose key, headers and value have at most `budget` bytes.

    Key and headers get a quarter each: the key is cut, headers that are longer are left out. The value gets
    the rest.
    """
    if size(letter) <= budget:
        return letter
    budget = max(budget, 0)
    key = None if letter.key is None else letter.key[: budget // 4]
    headers = letter.headers if len(letter.headers or "") <= budget // 4 else None
    left = budget - len(key or b"") - len(headers or "")
    value = None if letter.value is None else letter.value[:left]
    changed = {
        "key": key != letter.key,
        "headers": headers != letter.headers,
        "value": value != letter.value,
    }
    names = [name for name, now in changed.items() if now or name in letter.cut]
    return letter._replace(key=key, headers=headers, value=value, cut=", ".join(names))


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
