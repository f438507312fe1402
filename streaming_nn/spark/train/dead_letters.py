"""The dead-letter topic: bad records unchanged, with the reason and their origin in the headers."""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.kafka.options import for_python
from streaming_nn.spark.rejected import DeadLetter

PREFIX = "streaming_nn."  # of our headers
PATIENCE = 60  # seconds after which records that the broker did not accept stop the run


class DeadLetters:
    """Sends bad records to a topic, at least once.

    A batch that is learned again sends its dead letters again; topic, partition and offset in the headers
    identify the duplicates. It connects at the first one: connecting costs a tenth of a second.
    """

    def __init__(self, kafka: Mapping[str, str], topic: str) -> None:
        self.kafka, self.topic = kafka, topic
        self._producer: Any = None

    def create_topic(self, admin: KafkaAdmin) -> None:
        """Create the topic if it does not exist: a run must not find that out at the first bad record."""
        admin.create(self.topic, exist_ok=True)

    def send(self, letters: Iterable[DeadLetter]) -> None:
        """Send records, and wait until the broker has them. Raise ConnectionError if it refuses them."""
        try:
            if self._producer is None:
                self._producer = _connect(self.kafka)
            futures = [self._producer.send(self.topic, key=x, value=x, headers=headers(x)) for x in letters]
            self._producer.flush(timeout=PATIENCE)
            for future in futures:
                future.get(timeout=PATIENCE)
        except KafkaError as error:
            self.close()
            raise ConnectionError(f"cannot send dead letters to {self.topic!r}: {error}") from None

    def close(self) -> None:
        """Close the connection."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=5)


def _connect(kafka: Mapping[str, str]) -> Any:
    """Return a producer of dead letters. It refuses a null key and value except from serializers."""
    ours = {
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
        "topic": letter.topic,
        "partition": str(letter.partition),
        "offset": str(letter.offset),
    }
    return theirs + [(PREFIX + name, value.encode()) for name, value in ours.items()]
