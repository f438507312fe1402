"""Send messages to Kafka at a steady pace, and count what the broker acknowledged."""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from producers.messages import KINDS, Message
from producers.pace import TICK, Pace

FLUSH_SECONDS = 30
BOOTSTRAP_MS = 10_000  # how long a broker may take to respond first
LINGER_MS = 20  # a batch waits so long for more: requests cost this client more than records
IN_FLIGHT = 20_000  # messages not yet acknowledged at a time: the client sets no bound


class Sent(NamedTuple):
    """Result of a run of a producer."""

    acknowledged: dict[str, int]  # by kind: labeled, unlabeled, malformed
    failed: int  # messages that the broker did not acknowledge
    error: str | None  # why the first of them failed, or why there were no more
    seconds: float


NOTHING = Sent(dict.fromkeys(KINDS, 0), 0, None, 0.0)


def producer(kafka: dict[str, Any], compression: str | None = None) -> Any:
    """Return a kafka-python producer that is idempotent and waits for all replicas.

    `kafka` are kafka-python's options, as `streaming_nn.kafka.options.for_python` returns them. Raise
    ConnectionError if there is no connection.
    """
    from kafka import KafkaProducer

    options: dict[str, Any] = {
        "enable_idempotence": True,
        "acks": "all",
        "linger_ms": LINGER_MS,
        "batch_size": 1 << 17,
        "bootstrap_timeout_ms": BOOTSTRAP_MS,
    }
    if compression:
        kafka = kafka | {"compression_type": compression}
    from kafka.errors import KafkaError

    try:
        return KafkaProducer(**(options | kafka))
    except (KafkaError, AssertionError) as error:
        where = ", ".join(kafka.get("bootstrap_servers", ()))
        raise ConnectionError(f"cannot reach a Kafka broker at {where}: {error}") from None


def send(
    messages: Iterable[Message],
    client: Any,
    stopped: Callable[[], bool] = lambda: False,
    seconds: float | None = None,
    progress: Callable[[Message], None] = lambda message: None,
    timestamp: int | None = None,
) -> Sent:
    """Send each message when it is due, until they or the seconds end or `stopped()`; then flush.

    The counts are of acknowledged messages: they equal the records on the topics. A ValueError of the
    messages ends the run too, and is the result's `error`. `timestamp`, in milliseconds since 1970, is that
    of every record, so that offsets alone order them, whatever the clock does; None: when each is sent.
    """
    began, pace, tally = time.monotonic(), Pace(), Tally()
    constant = {} if timestamp is None else {"timestamp_ms": timestamp}

    def over() -> bool:
        late = seconds is not None and time.monotonic() - began >= seconds
        return late or stopped() or tally.failed > 0

    try:
        for message in messages:
            if over() or not pace.wait(message.at, over):
                break
            while tally.sent - tally.settled > IN_FLIGHT and not over():
                time.sleep(TICK)
            try:
                future = client.send(message.topic, key=message.key, value=message.value, **constant)
            except Exception as error:  # raised by the client itself: a record too large, a lost broker
                tally.refuse(error)
                break
            tally.track(message, future)
            progress(message)
    except ValueError as error:  # of a file that is damaged further on: what came before it counts
        tally.error = tally.error or str(error)
    _flush(client, tally)
    return Sent(
        tally.acknowledged,
        tally.sent - sum(tally.acknowledged.values()),
        tally.error,
        time.monotonic() - began,
    )


class Tally:
    """Counts of sent, acknowledged and failed messages; the client calls back from its one thread."""

    def __init__(self) -> None:
        self.sent, self.settled, self.failed = 0, 0, 0
        self.acknowledged = dict.fromkeys(KINDS, 0)
        self.error: str | None = None
        self._count = {kind: self._counter(kind) for kind in KINDS}

    def track(self, message: Message, future: Any) -> None:
        """Count a message that is in flight, and its outcome."""
        self.sent += 1
        future.add_callback(self._count[message.kind])
        future.add_errback(self.fail)

    def refuse(self, error: BaseException) -> None:
        """Count a message that the client did not accept."""
        self.sent += 1
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Count a failure; the first one's reason is kept."""
        self.settled += 1
        self.failed += 1
        self.error = self.error or _one_line(error)

    def _counter(self, kind: str) -> Callable[[Any], None]:
        def count(_: Any) -> None:
            self.acknowledged[kind] += 1
            self.settled += 1

        return count


def _flush(client: Any, tally: Tally) -> None:
    """Wait for the broker's acknowledgements, at most FLUSH_SECONDS: the rest counts as failed."""
    try:
        client.flush(FLUSH_SECONDS)
    except Exception as error:  # whatever the client raises, the counts must be reported
        tally.error = tally.error or _one_line(error)
    client.close(FLUSH_SECONDS)


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
