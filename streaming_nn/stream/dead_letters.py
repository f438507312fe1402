"""Records that can't be learned, sent on as they came, with the reason and the place in their headers."""

import base64
import json
from collections.abc import Iterable, Mapping

from kafka import KafkaProducer
from kafka.errors import KafkaError

from streaming_nn.kafka import topics
from streaming_nn.kafka.options import for_python
from streaming_nn.stream.worker import Letter

PREFIX = "streaming_nn."  # of our headers


def ready(kafka: Mapping[str, str], topic: str) -> None:
    """Make the topic where there is none: a run must not find that out at the first bad record."""
    topics.create(kafka, topic, exist_ok=True)


def send(kafka: Mapping[str, str], topic: str, letters: Iterable[Letter]) -> None:
    """Send the records and wait until the broker has them all; ConnectionError when it doesn't take them.

    At least once: a batch that is learned again sends its letters again, and topic, partition and offset in
    the headers tell the doubles.
    """
    producer = KafkaProducer(**for_python(kafka, KafkaProducer), acks="all", retries=10)
    try:
        sent = [producer.send(topic, key=x.key, value=x.value, headers=headers(x)) for x in letters]
        producer.flush(timeout=60)
        for future in sent:
            future.get(timeout=60)
    except KafkaError as error:
        raise ConnectionError(f"dead letters could not be sent to {topic!r}: {error}") from None
    finally:
        producer.close(timeout=5)


def headers(letter: Letter) -> list[tuple[str, bytes]]:
    """Return the record's own headers, untouched, and then ours."""
    own = [(h["key"], base64.b64decode(h.get("value") or "")) for h in json.loads(letter.headers or "[]")]
    ours = {
        "reason": letter.reason,
        "topic": letter.topic,
        "partition": str(letter.partition),
        "offset": str(letter.offset),
    }
    return own + [(PREFIX + name, value.encode()) for name, value in ours.items()]
