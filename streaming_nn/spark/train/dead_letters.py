"""Records that can't be learned, sent on as they came, with the reason and the place in their headers."""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from streaming_nn.kafka import admin
from streaming_nn.kafka.options import for_python
from streaming_nn.spark.tasks import Letter

PREFIX = "streaming_nn."  # of our headers
PATIENCE = 60  # seconds until records that the broker did not take stop the run


class DeadLetters:
    """The dead-letter topic, made where there is none: a run must not find that out at the first bad record.

    At least once: a batch that is learned again sends its letters again, and topic, partition and offset in
    the headers tell the doubles.
    """

    def __init__(self, kafka: Mapping[str, str], topic: str) -> None:
        self.kafka, self.topic = kafka, topic
        self._producer: Any = None  # from the first letter on: connecting costs a tenth of a second
        admin.create(kafka, topic, exist_ok=True)

    def send(self, letters: Iterable[Letter]) -> None:
        """Send records and wait until the broker has them all; ConnectionError when it doesn't take them."""
        try:
            if self._producer is None:
                self._producer = _connected(self.kafka)
            futures = [self._producer.send(self.topic, key=x, value=x, headers=headers(x)) for x in letters]
            self._producer.flush(timeout=PATIENCE)
            for future in futures:
                future.get(timeout=PATIENCE)
        except KafkaError as error:
            self.close()
            raise ConnectionError(f"dead letters could not be sent to {self.topic!r}: {error}") from None

    def close(self) -> None:
        """Close the connection."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=5)


def _connected(kafka: Mapping[str, str]) -> Any:
    """A producer of letters. It refuses a record without key and value, except from its serializers."""
    ours = {
        "acks": "all",
        "retries": 10,
        "key_serializer": lambda letter: letter.key,
        "value_serializer": lambda letter: letter.value,
    }
    return KafkaProducer(**{**for_python(kafka, KafkaProducer), **ours})


def headers(letter: Letter) -> list[tuple[str, bytes]]:
    """Return the record's own headers, untouched (a null is b"": the client takes no null), and then ours."""
    own = [(h["key"], base64.b64decode(h.get("value") or "")) for h in json.loads(letter.headers or "[]")]
    ours = {
        "reason": letter.reason,
        "topic": letter.topic,
        "partition": str(letter.partition),
        "offset": str(letter.offset),
    }
    return own + [(PREFIX + name, value.encode()) for name, value in ours.items()]
