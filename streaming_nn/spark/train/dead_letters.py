"""Send dead letters to their topic: unchanged, with the reason and their origin in the headers."""

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from kafka import KafkaProducer
from kafka.errors import (
    AuthorizationError,
    InvalidRecordError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    RetriableError,
)

from streaming_nn.errors import DeadLetterError
from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.kafka.dead_letters import PREFIX
from streaming_nn.kafka.options import for_python
from streaming_nn.spark.rejected import DeadLetter, cut, size

PATIENCE = 60  # seconds after which records that the broker did not accept stop the run
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)  # by the producer's limit or the topic's


class DeadLetters:
    """Sends bad records to a topic, at least once.

    One that the topic does not take as it is is cut until it does; `streaming_nn.cut` in its headers names
    what was cut. A batch that is learned again sends its dead letters again; topic, partition and offset in
    the headers identify the duplicates. It connects at the first one: connecting costs a tenth of a second.
    """

    def __init__(self, kafka: Mapping[str, str], topic: str) -> None:
        self.kafka, self.topic = kafka, topic
        self._producer: Any = None

    def create_topic(self, admin: KafkaAdmin) -> None:
        """Create the topic if it does not exist: a run must not find that out at the first bad record.

        Raise DeadLetterError if that needs a right that the client lacks.
        """
        try:
            admin.create(self.topic, exist_ok=True)
        except PermissionError as error:
            raise DeadLetterError(
                f"cannot create the topic of dead letters, train.dead_letters = {self.topic!r}: {error}; "
                "create it, or grant this client CREATE and WRITE on it"
            ) from None

    def send(self, letters: Iterable[DeadLetter]) -> None:
        """Send records, and wait until the broker has them.

        Raise DeadLetterError for one of which the topic takes nothing, ConnectionError if no broker responds.
        """
        try:
            if self._producer is None:
                self._producer = _connect(self.kafka)
            for letter, wait in [(letter, self._begin(letter)) for letter in letters]:
                try:
                    wait()
                except RetriableError:
                    raise
                except KafkaError:  # of this record, or of another one in its batch
                    self._send_alone(letter)
        except KafkaError as error:
            self.close()
            raise ConnectionError(f"cannot send dead letters to {self.topic!r}: {error}") from None

    def _begin(self, letter: DeadLetter) -> Callable[[], Any]:
        """Begin to send a record; return what waits for the broker, or raises why it was refused."""
        try:
            future = self._producer.send(self.topic, key=letter, value=letter, headers=headers(letter))
        except MessageSizeTooLargeError as error:  # of the producer's own limit
            return partial(_raise, error)
        return partial(future.get, timeout=PATIENCE)

    def _send_alone(self, letter: DeadLetter) -> None:
        """Send what the topic takes of a record: less and less of it, at last only its headers."""
        while True:
            try:
                self._begin(letter)()
                return
            except RetriableError:
                raise
            except KafkaError as error:
                letter = self._smaller(letter, error)

    def _smaller(self, letter: DeadLetter, error: KafkaError) -> DeadLetter:
        """Return what to send instead of a refused record. Raise DeadLetterError if there is nothing.

        A compacted topic takes no record without a key: its position becomes the key.
        """
        if isinstance(error, TOO_LARGE) and size(letter):
            return cut(letter, size(letter) // 2)
        if isinstance(error, InvalidRecordError) and letter.key is None:
            position = f"{letter.topic} {letter.partition} {letter.offset}"
            return letter._replace(key=position.encode(), cut=f"key, {letter.cut}".rstrip(", "))
        raise self._refused(letter, error)

    def _refused(self, letter: DeadLetter, error: KafkaError) -> DeadLetterError:
        position = f"offset {letter.offset} of {letter.topic!r} partition {letter.partition}"
        if isinstance(error, AuthorizationError):
            why = "this client lacks the right WRITE on the topic"
        elif isinstance(error, TOO_LARGE):
            why = (
                "its reason and position alone are larger than max.message.bytes of the topic, or "
                "max.request.size of [kafka]"
            )
        else:
            why = str(error)
        return DeadLetterError(
            f"cannot send dead letters to train.dead_letters = {self.topic!r}: {why}. The first one is "
            f"{position} ({letter.reason}). Nothing of this batch is learned or lost"
        )

    def close(self) -> None:
        """Close the connection."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=5)


def _raise(error: Exception) -> None:
    raise error


def _connect(kafka: Mapping[str, str]) -> Any:
    """Return a producer of dead letters. It refuses a null key and value except from serializers.

    It is not idempotent: such a producer can send nothing more after one record was refused.
    """
    ours = {
        "enable_idempotence": False,
        "transactional_id": None,
        "acks": "all",
        "retries": 10,
        "key_serializer": lambda letter: letter.key,
        "value_serializer": lambda letter: letter.value,
    }
    return KafkaProducer(**{**for_python(kafka, KafkaProducer), **ours})


def headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    """Return the record's headers, unchanged (a null is b"": the client accepts no null), then ours."""
    existing = json.loads(letter.headers or "[]")
    theirs = [(h["key"], base64.b64decode(h.get("value") or "")) for h in existing]
    ours = {
        "reason": letter.reason,
        "field": letter.field,
        "value": letter.found,
        "topic": letter.topic,
        "partition": str(letter.partition),
        "offset": str(letter.offset),
        "row": "" if letter.row is None else str(letter.row),
        "cut": letter.cut,
    }
    return theirs + [(PREFIX + name, value.encode()) for name, value in ours.items() if value]
