"""Dead letters on their topic: look at the latest ones, and send them back to where they came from.

A dead letter is sent back and remembered (as an offset that a consumer group has committed for the topic of
dead letters) in one transaction, and a run reads committed records only: each is learned once, whatever is
killed.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from streaming_nn.kafka import TOPIC
from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.kafka.options import for_python
from streaming_nn.kafka.reader import committed_consumer, plain_errors, read_partition

PREFIX = "streaming_nn."  # of our headers
GROUP = "streaming-nn-redrive"  # and the topic: the consumer group, and the id of the transactions
BATCH = 500  # dead letters of a transaction
LATEST = 253_402_300_799_000  # milliseconds since 1970 at the end of the year 9999, Python's last
Position = tuple[str, int, int]  # topic, partition, offset


class DeadLetterRecord(NamedTuple):
    """A record of the topic of dead letters."""

    time: datetime  # when it was rejected
    position: Position | None  # where its record is from; None: not one of our dead letters
    reason: str
    field: str
    value: str  # of the field: its repr, cut
    cut: str  # which of key, headers and value are not whole
    record: Any  # as the client returns it

    def to_json(self) -> dict[str, Any]:
        """Return what is known of it, ready for JSON, without the record itself."""
        topic, partition, offset = self.position or (None, None, None)
        position = {"topic": topic, "partition": partition, "offset": offset}
        why = {"reason": self.reason, "field": self.field, "value": self.value}
        return {"time": self.time.isoformat(), **position, **why, "cut": self.cut}


class Redriven(NamedTuple):
    """What `redrive` did with the dead letters that no earlier call had sent."""

    sent: dict[str, int]  # by the topic that they went back to
    cut: list[DeadLetterRecord]  # not sent: their records are no longer whole
    foreign: int  # records without our headers
    repeated: int  # not sent: the same record is among the dead letters twice


def latest(kafka: Mapping[str, str], topic: str, count: int) -> list[DeadLetterRecord]:
    """Return the latest dead letters, the newest one last. Raise as `KafkaAdmin` does."""
    begins, ends = _bounds(kafka, topic)
    starts = {p: max(begin, ends[p] - count) for p, begin in begins.items()}
    with committed_consumer(kafka, f"{GROUP}-{topic}") as consumer:
        letters = list(_read(consumer, topic, starts, ends))
    return sorted(letters, key=lambda letter: letter.time)[-count:]


def redrive(kafka: Mapping[str, str], topic: str) -> Redriven:
    """Send the dead letters back to their topics: key, value and headers as they were.

    Those that an earlier call has sent are not sent again, nor those that were cut. Raise as `KafkaAdmin`
    does: PermissionError if a right is missing, LookupError if one of the topics does not exist.
    """
    begins, ends = _bounds(kafka, topic)
    # it ends the transaction of a call that was killed: the offsets would be unknown for a minute
    with (
        _producer(kafka, f"{GROUP}-{topic}") as producer,
        committed_consumer(kafka, f"{GROUP}-{topic}") as consumer,
    ):
        committed = {p: consumer.committed(TopicPartition(topic, p)) for p in begins}
        reached = {p: max(begin, committed[p] or 0) for p, begin in begins.items()}
        seen = {letter.position for letter in _read(consumer, topic, begins, reached)}
        letters = list(_read(consumer, topic, reached, ends))
        with KafkaAdmin(kafka) as admin:
            admin.ids({letter.position[0] for letter in letters if letter.position})  # they must exist
        return _send_back(producer, topic, letters, seen)


def _send_back(
    producer: Any, topic: str, letters: list[DeadLetterRecord], seen: set[Position | None]
) -> Redriven:
    result, wanted, repeated = Redriven({}, [], sum(not x.position for x in letters), 0), set[int](), 0
    for i, letter in enumerate(letters):
        if letter.position is None:
            continue
        if letter.position in seen:
            repeated += 1
        elif letter.cut:
            result.cut.append(letter)
        else:
            wanted.add(i)
            result.sent[letter.position[0]] = result.sent.get(letter.position[0], 0) + 1
        seen.add(letter.position)
    for start in range(0, len(letters), BATCH):
        some = range(start, min(start + BATCH, len(letters)))
        _transaction(producer, topic, [(letters[i], i in wanted) for i in some])
    return result._replace(repeated=repeated)


def _transaction(producer: Any, topic: str, letters: list[tuple[DeadLetterRecord, bool]]) -> None:
    """Send some of the letters, and commit the offsets after all of them, both or neither."""
    offsets: dict[TopicPartition, OffsetAndMetadata] = {}
    producer.begin_transaction()
    try:
        for letter, wanted in letters:
            record = letter.record
            offsets[TopicPartition(topic, record.partition)] = OffsetAndMetadata(record.offset + 1, "", -1)
            if wanted and letter.position is not None:
                producer.send(letter.position[0], key=record, value=record, headers=_original_headers(record))
        producer.flush()
        producer.send_offsets_to_transaction(offsets, f"{GROUP}-{topic}")
        producer.commit_transaction()
    except KafkaError:
        producer.abort_transaction()
        raise


def _original_headers(record: Any) -> list[tuple[str, bytes]]:
    return [(name, value or b"") for name, value in record.headers if not name.startswith(PREFIX)]


def _bounds(kafka: Mapping[str, str], topic: str) -> tuple[dict[int, int], dict[int, int]]:
    with KafkaAdmin({**kafka, "isolation.level": "read_committed"}) as admin:
        return admin.beginnings([topic])[topic], admin.ends([topic])[topic]


def _read(
    consumer: Any, topic: str, starts: Mapping[int, int], ends: Mapping[int, int]
) -> Iterator[DeadLetterRecord]:
    """Yield the letters from `starts` on up to `ends`, partition by partition."""
    for p, start in sorted(starts.items()):
        for record in read_partition(consumer, TopicPartition(topic, p), start, ends[p]):
            yield _letter(record)


def _letter(record: Any) -> DeadLetterRecord:
    ours = {
        name.removeprefix(PREFIX): (value or b"").decode("utf-8", "replace")
        for name, value in record.headers
        if name.startswith(PREFIX)
    }
    try:
        position = ours["topic"], int(ours["partition"]), int(ours["offset"])
    except (KeyError, ValueError):
        position = None
    if position is not None and not re.fullmatch(TOPIC, position[0]):  # the file of another source
        position = None
    time = datetime.fromtimestamp(min(max(record.timestamp, 0), LATEST) // 1000, UTC)
    reason, field, value, cut = (ours.get(name, "") for name in ("reason", "field", "value", "cut"))
    return DeadLetterRecord(time, position, reason, field, value, cut, record)


@contextmanager
def _producer(kafka: Mapping[str, str], transactional_id: str) -> Iterator[Any]:
    """Open a producer of transactions. It refuses a null key and value except from serializers."""
    ours = {
        "transactional_id": transactional_id,
        "acks": "all",
        "key_serializer": lambda record: record.key,
        "value_serializer": lambda record: record.value,
    }
    with plain_errors(kafka):
        producer = KafkaProducer(**{**for_python(kafka, KafkaProducer), **ours})
        try:
            producer.init_transactions()
            yield producer
        finally:
            producer.close(timeout=5)
