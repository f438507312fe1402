"""What the job asks about topics: make and delete them, their ids, where they begin and end."""

import base64
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from kafka import IsolationLevel, KafkaAdminClient, OffsetSpec, TopicPartition
from kafka.errors import (
    AuthorizationError,
    KafkaError,
    KafkaTimeoutError,
    RetriableError,
    SaslAuthenticationFailedError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from streaming_nn.kafka.options import for_python

PATIENCE = 12.0  # seconds that a call goes on trying until a broker answers
SLICE = 4.0  # seconds of it after which we look at why none has answered yet
PAUSE = 0.05  # seconds between two looks at what the broker is about to do

Offsets = dict[str, dict[int, int]]  # topic -> partition -> offset
T = TypeVar("T")


class KafkaAdmin:
    """A connection for questions about topics, for those who ask often; the functions below make one a call.

    It survives a broker's restart. Raises ConnectionError when no broker answers within `patience` seconds,
    PermissionError when it refuses this client, LookupError for a topic that does not exist; all in one line.
    """

    def __init__(self, options: Mapping[str, str], patience: float = PATIENCE):
        self._servers = options.get("bootstrap.servers", "")
        self._patience = patience
        self._isolation = IsolationLevel.build_from(options.get("isolation.level", "read_uncommitted"))
        with self._told():
            self._admin = _connect(for_python(options), patience)

    def create(
        self, topic: str, partitions: int = 1, config: Mapping[str, str] | None = None, exist_ok: bool = False
    ) -> None:
        """Create a topic with the broker's default replication, and wait until it can be used.

        `config` are topic settings such as retention.ms. Raises FileExistsError unless `exist_ok`, which asks
        for no right to create where the topic is there.
        """
        if exist_ok:
            with suppress(LookupError, PermissionError):  # perhaps it may be created all the same
                self._described([topic])
                return
        wanted = {"num_partitions": partitions, "configs": dict(config or {})}
        with self._told():
            try:
                self._admin.create_topics({topic: wanted})
            except TopicAlreadyExistsError:
                if not exist_ok:
                    raise FileExistsError(f"topic {topic!r} exists already at {self._servers}") from None
            self._admin.wait_for_topics([topic], timeout_ms=int(self._patience * 1000))

    def delete(self, topic: str) -> None:
        """Delete a topic and wait until it is gone, so that one of the same name can be made."""
        self._described([topic])
        with self._told(), self._known(topic):
            self._admin.delete_topics([topic])
        self._until(lambda: topic not in self._admin.list_topics(), f"topic {topic!r} is still there")

    def add_partitions(self, topic: str, total: int) -> None:
        """Let a topic have `total` partitions, more than it has now, and wait until they can be used."""
        with self._told(), self._known(topic):
            self._admin.create_partitions({topic: total})
        self._until(
            lambda: len(self._described([topic])[topic]["partitions"]) >= total,
            f"topic {topic!r} has not {total} partitions",
        )
        with self._told():
            self._admin.wait_for_topics([topic], timeout_ms=int(self._patience * 1000))

    def ids(self, topics: Iterable[str]) -> dict[str, str]:
        """Each topic's id, 22 characters as Kafka writes it: a topic made again has another."""
        described = self._described(topics)
        return {
            name: base64.urlsafe_b64encode(uuid.UUID(str(topic["topic_id"])).bytes).decode().rstrip("=")
            for name, topic in described.items()
        }

    def partitions(self, topics: Iterable[str]) -> dict[str, list[int]]:
        """Each topic's partitions in order."""
        described = self._described(topics)
        return {
            name: sorted(partition["partition_index"] for partition in topic["partitions"])
            for name, topic in described.items()
        }

    def rights(self, topics: Iterable[str]) -> dict[str, set[str]]:
        """What this client may do with each topic, as the broker says (KIP-430): "READ", "WRITE" and so on.

        Without an authorizer that is everything.
        """
        return {name: set(topic["authorized_operations"]) for name, topic in self._described(topics).items()}

    def beginnings(self, topics: Iterable[str]) -> Offsets:
        """The offset of each partition's oldest record that is still there."""
        return self._offsets(topics, OffsetSpec.EARLIEST)

    def ends(self, topics: Iterable[str]) -> Offsets:
        """The offset of each partition's next record; the last stable one with read_committed."""
        return self._offsets(topics, OffsetSpec.LATEST)

    def at(self, topics: Iterable[str], milliseconds: int) -> Offsets:
        """The offset of each partition's first record of that time (since 1970) or later; else its end."""
        names = list(topics)
        ends = self.ends(names)
        found = self._offsets(names, milliseconds)
        return {t: {p: o if o >= 0 else ends[t][p] for p, o in ps.items()} for t, ps in found.items()}

    def close(self) -> None:
        """Close the connection."""
        self._admin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _offsets(self, topics: Iterable[str], spec: OffsetSpec | int) -> Offsets:
        partitions = self.partitions(topics)
        wanted = {TopicPartition(topic, p): spec for topic, own in partitions.items() for p in own}
        found = self._ask(lambda: self._admin.list_partition_offsets(wanted, self._isolation))
        return {topic: {p: found[topic, p].offset for p in own} for topic, own in partitions.items()}

    def _described(self, topics: Iterable[str]) -> dict[str, dict[str, Any]]:
        names = list(topics)
        described = self._ask(lambda: self._admin.describe_topics(names)) if names else []
        for topic in described:
            with self._told(), self._known(topic["name"]):
                if topic["error_code"]:
                    raise for_code(topic["error_code"])
        return {topic["name"]: topic for topic in described}

    def _ask(self, question: Callable[[], T]) -> T:
        """The answer to a question that may be asked again, as one has to while a broker restarts."""
        deadline = time.monotonic() + self._patience
        with self._told():
            while True:
                try:
                    return question()
                except RetriableError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(PAUSE)

    def _until(self, true: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + self._patience
        while not self._ask(true):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{otherwise} at {self._servers} after {self._patience:.0f} s")
            time.sleep(PAUSE)

    @contextmanager
    def _known(self, topic: str) -> Iterator[None]:
        try:
            yield
        except UnknownTopicOrPartitionError:
            raise LookupError(f"topic {topic!r} does not exist at {self._servers}") from None

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in Python's own exceptions what the Kafka client has to say."""
        try:
            yield
        except (AuthorizationError, SaslAuthenticationFailedError) as error:
            raise PermissionError(f"Kafka at {self._servers} refuses this client: {_said(error)}") from None
        except RetriableError as error:
            wait = f"within {self._patience:.0f} s"
            raise ConnectionError(
                f"no Kafka broker answers at {self._servers} {wait}: {_said(error)}"
            ) from None
        except KafkaError as error:
            raise RuntimeError(f"Kafka at {self._servers} says: {_said(error)}") from None


def create(
    options: Mapping[str, str],
    topic: str,
    partitions: int = 1,
    config: Mapping[str, str] | None = None,
    exist_ok: bool = False,
) -> None:
    """`KafkaAdmin.create`, on a connection of its own."""
    with KafkaAdmin(options) as connection:
        connection.create(topic, partitions, config, exist_ok)


def delete(options: Mapping[str, str], topic: str) -> None:
    """`KafkaAdmin.delete`, on a connection of its own."""
    with KafkaAdmin(options) as connection:
        connection.delete(topic)


def add_partitions(options: Mapping[str, str], topic: str, total: int) -> None:
    """`KafkaAdmin.add_partitions`, on a connection of its own."""
    with KafkaAdmin(options) as connection:
        connection.add_partitions(topic, total)


def ids(options: Mapping[str, str], topics: Iterable[str]) -> dict[str, str]:
    """`KafkaAdmin.ids`, on a connection of its own."""
    with KafkaAdmin(options) as connection:
        return connection.ids(topics)


def partitions(options: Mapping[str, str], topics: Iterable[str]) -> dict[str, list[int]]:
    """`KafkaAdmin.partitions`, on a connection of its own."""
    with KafkaAdmin(options) as connection:
        return connection.partitions(topics)


def beginnings(options: Mapping[str, str], topics: Iterable[str]) -> Offsets:
    """`KafkaAdmin.beginnings`, on a connection of its own."""
    with KafkaAdmin(options) as connection:
        return connection.beginnings(topics)


def ends(options: Mapping[str, str], topics: Iterable[str]) -> Offsets:
    """`KafkaAdmin.ends`, on a connection of its own."""
    with KafkaAdmin(options) as connection:
        return connection.ends(topics)


def _connect(kwargs: dict[str, Any], patience: float) -> KafkaAdminClient:
    """An admin client that has met a broker, within `patience` seconds.

    kafka-python tries on until the time is up even where it is refused, and says no more than that; so it
    gets the time in slices, after each of which we look at what it has logged, and give up when that is a
    refusal.
    """
    bounds = {"request_timeout_ms": int(patience * 1000), "reconnect_backoff_max_ms": 1000}
    deadline = time.monotonic() + patience
    with _Failures() as failures:
        while True:
            remaining = max(0.1, deadline - time.monotonic())
            clients: list[Any] = []
            try:
                return KafkaAdminClient(
                    **{"reconnect_backoff_ms": 250, **kwargs, **bounds},
                    bootstrap_timeout_ms=int(1000 * min(SLICE, remaining)),
                    kafka_client=_kept_in(clients),
                )
            except KafkaError as error:
                for client in clients:  # its thread would go on trying
                    client.close()
                if failures.refusal is not None:
                    raise failures.refusal from None
                if not isinstance(error, RetriableError) or remaining <= SLICE:
                    raise failures.last or error from None


def _said(error: KafkaError) -> str:
    """The broker's own words in an error, where the client has wrapped them in the request and the answer."""
    words = re.search(r"""error_message=(['"])(.*?)\1[,)]""", str(error))
    # what is seen of a broker that wants another security, or refuses a user
    if "disconnected" in str(error):
        return f"{error} (are the security options right?)"
    return words[2] if words else str(error)


def _kept_in(clients: list[Any]) -> Callable[..., Any]:
    make = KafkaAdminClient.DEFAULT_CONFIG["kafka_client"]

    def made(**configs: Any) -> Any:
        clients.append(make(**configs))
        return clients[-1]

    return made


class _Failures(logging.Handler):
    """Hears, while it is entered, which errors kafka-python logs when it can't connect."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last: KafkaError | None = None
        self.refusal: KafkaError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        for error in record.args if isinstance(record.args, tuple) else ():
            if isinstance(error, SaslAuthenticationFailedError | AuthorizationError):
                self.refusal = error
            elif isinstance(error, KafkaError) and not isinstance(error, KafkaTimeoutError):
                self.last = error

    def __enter__(self) -> Self:
        logging.getLogger("kafka").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("kafka").removeHandler(self)
