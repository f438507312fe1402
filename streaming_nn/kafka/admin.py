"""An admin client: create and delete topics, read their ids, partitions, offsets and rights."""

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
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    AuthorizationError,
    KafkaError,
    KafkaTimeoutError,
    NoError,
    RetriableError,
    SaslAuthenticationFailedError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from kafka.structs import OffsetAndMetadata

from streaming_nn.kafka.options import for_python

PATIENCE = 12.0  # seconds for which a call is retried until a broker responds
SLICE = 4.0  # seconds of it after which the logged failures are checked
PAUSE = 0.05  # seconds between two attempts

Offsets = dict[str, dict[int, int]]  # topic -> partition -> offset
T = TypeVar("T")


class KafkaAdmin:
    """A connection for several calls; each of the functions below opens one for one call.

    It connects when it is entered, or else at the first call, and survives a broker's restart. Every method
    raises ConnectionError if it reaches no broker within `patience` seconds, PermissionError if that refuses
    the client, LookupError for a topic that does not exist, ValueError for invalid options; all in one line.
    """

    def __init__(self, options: Mapping[str, str], patience: float = PATIENCE):
        self._options = options
        self._servers = options.get("bootstrap.servers", "")
        self._patience = patience
        self._isolation = IsolationLevel.build_from(options.get("isolation.level", "read_committed"))
        self._connected: KafkaAdminClient | None = None

    def create(
        self, topic: str, partitions: int = 1, config: Mapping[str, str] | None = None, exist_ok: bool = False
    ) -> None:
        """Create a topic with the broker's default replication, and wait until it can be used.

        `config` are topic settings such as retention.ms. FileExistsError: it exists, without `exist_ok`; with
        it, no right to create is needed for a topic that exists.
        """
        if exist_ok:
            with suppress(LookupError, PermissionError):  # it may still be allowed to create it
                self._describe([topic])
                return
        new = {"num_partitions": partitions, "configs": dict(config or {})}
        with self._plain_errors():
            try:
                self._client().create_topics({topic: new})
            except TopicAlreadyExistsError:
                if not exist_ok:
                    raise FileExistsError(f"topic {topic!r} already exists at {self._servers}") from None
            self._client().wait_for_topics([topic], timeout_ms=int(self._patience * 1000))

    def delete(self, topic: str) -> None:
        """Delete a topic and wait until it is deleted, so that it can be created again."""
        self._describe([topic])
        with self._plain_errors(), self._require(topic):
            self._client().delete_topics([topic])
        self._wait_until(lambda: topic not in self._client().list_topics(), f"topic {topic!r} still exists")

    def add_partitions(self, topic: str, total: int) -> None:
        """Increase a topic's partitions to `total` and wait until they can be used."""
        with self._plain_errors(), self._require(topic):
            self._client().create_partitions({topic: total})
        self._wait_until(
            lambda: len(self._describe([topic])[topic]["partitions"]) >= total,
            f"topic {topic!r} does not have {total} partitions",
        )
        with self._plain_errors():
            self._client().wait_for_topics([topic], timeout_ms=int(self._patience * 1000))

    def topics(self) -> list[str]:
        """Return the names of all topics that this client may DESCRIBE, except Kafka's internal ones."""
        described = self._retry(lambda: self._client().describe_topics())
        return [topic["name"] for topic in described if not topic["is_internal"]]

    def ids(self, topics: Iterable[str]) -> dict[str, str]:
        """Return each topic's id, 22 characters as Kafka writes it; a recreated topic has another."""
        described = self._describe(topics)
        return {
            name: base64.urlsafe_b64encode(uuid.UUID(str(topic["topic_id"])).bytes).decode().rstrip("=")
            for name, topic in described.items()
        }

    def partitions(self, topics: Iterable[str]) -> dict[str, list[int]]:
        """Return each topic's partitions in order."""
        described = self._describe(topics)
        return {
            name: sorted(partition["partition_index"] for partition in topic["partitions"])
            for name, topic in described.items()
        }

    def rights(self, topics: Iterable[str]) -> dict[str, set[str]]:
        """Return the operations that the broker allows on each topic (KIP-430): "READ", "WRITE" and so on.

        Without an authorizer it allows all.
        """
        return {name: set(topic["authorized_operations"]) for name, topic in self._describe(topics).items()}

    def largest_message(self, topic: str) -> int | None:
        """Return the bytes of the largest record batch that a topic takes; None: that may not be read."""
        name = "max.message.bytes"
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: None})
        found = self._retry(lambda: self._client().describe_configs([resource], config_filter="all"))
        value = found.get("topic", {}).get(topic, {}).get(name)
        return None if value is None else int(value["value"])

    def beginnings(self, topics: Iterable[str]) -> Offsets:
        """Return the offset of each partition's oldest record that has not expired."""
        return self._offsets(topics, OffsetSpec.EARLIEST)

    def ends(self, topics: Iterable[str]) -> Offsets:
        """Return the offset after each partition's last record, or that of its first open transaction.

        With the option isolation.level = read_uncommitted, records of open transactions count too.
        """
        return self._offsets(topics, OffsetSpec.LATEST)

    def at(self, topics: Iterable[str], milliseconds: int) -> Offsets:
        """Return the offset of each partition's first record from that time (since 1970) on, or its end."""
        names = list(topics)
        ends = self.ends(names)
        offsets = self._offsets(names, milliseconds)
        return {t: {p: o if o >= 0 else ends[t][p] for p, o in ps.items()} for t, ps in offsets.items()}

    def commit(self, group: str, offsets: Offsets) -> None:
        """Commit offsets to a consumer group. RuntimeError: the group has members, which commit their own."""
        committed = {
            TopicPartition(topic, p): OffsetAndMetadata(offset, "", -1)
            for topic, partitions in offsets.items()
            for p, offset in partitions.items()
        }

        def request() -> None:  # the errors of single partitions are of this request, too
            for (topic, _), error in self._client().alter_group_offsets(group, committed).items():
                if error is not NoError:
                    with self._require(topic):
                        raise error()

        self._retry(request)

    def committed(self, group: str) -> Offsets:
        """Return the offsets that a consumer group has committed."""
        found = self._retry(lambda: self._client().list_group_offsets(group))
        offsets = Offsets()
        for (topic, partition), committed in sorted(found.get(group, {}).items()):
            offsets.setdefault(topic, {})[partition] = committed.offset
        return offsets

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        client, self._connected = self._connected, None
        if client is not None:
            client.close()

    def __enter__(self) -> Self:
        self._client()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _client(self) -> KafkaAdminClient:
        if self._connected is None:
            with self._plain_errors():
                self._connected = _connect(for_python(self._options), self._patience)
        return self._connected

    def _offsets(self, topics: Iterable[str], spec: OffsetSpec | int) -> Offsets:
        partitions = self.partitions(topics)
        specs = {TopicPartition(topic, p): spec for topic, numbers in partitions.items() for p in numbers}
        offsets = self._retry(lambda: self._client().list_partition_offsets(specs, self._isolation))
        return {
            topic: {p: offsets[topic, p].offset for p in numbers} for topic, numbers in partitions.items()
        }

    def _describe(self, topics: Iterable[str]) -> dict[str, dict[str, Any]]:
        names = list(topics)
        described = self._retry(lambda: self._client().describe_topics(names)) if names else []
        for topic in described:
            with self._plain_errors(), self._require(topic["name"]):
                if topic["error_code"]:
                    raise for_code(topic["error_code"])
        return {topic["name"]: topic for topic in described}

    def _retry(self, request: Callable[[], T]) -> T:
        """Return the result of an idempotent request, which is retried while a broker restarts."""
        deadline = time.monotonic() + self._patience
        with self._plain_errors():
            while True:
                try:
                    return request()
                except RetriableError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(PAUSE)

    def _wait_until(self, condition: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + self._patience
        while not self._retry(condition):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{otherwise} at {self._servers} after {self._patience:.0f} s")
            time.sleep(PAUSE)

    @contextmanager
    def _require(self, topic: str) -> Iterator[None]:
        try:
            yield
        except UnknownTopicOrPartitionError:
            raise LookupError(f"topic {topic!r} does not exist at {self._servers}") from None

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """Raise Python's exceptions, each in one line, for those of the Kafka client."""
        try:
            yield
        except (AuthorizationError, SaslAuthenticationFailedError) as error:
            raise PermissionError(
                f"Kafka at {self._servers} refuses this client: {_broker_message(error)}"
            ) from None
        except RetriableError as error:
            wait = f"within {self._patience:.0f} s"
            raise ConnectionError(
                f"cannot reach a Kafka broker at {self._servers} {wait}: {_broker_message(error)}"
            ) from None
        except KafkaError as error:
            raise RuntimeError(f"Kafka at {self._servers} reports: {_broker_message(error)}") from None


def create(
    options: Mapping[str, str],
    topic: str,
    partitions: int = 1,
    config: Mapping[str, str] | None = None,
    exist_ok: bool = False,
) -> None:
    """`KafkaAdmin.create`, on a new connection."""
    with KafkaAdmin(options) as connection:
        connection.create(topic, partitions, config, exist_ok)


def delete(options: Mapping[str, str], topic: str) -> None:
    """`KafkaAdmin.delete`, on a new connection."""
    with KafkaAdmin(options) as connection:
        connection.delete(topic)


def add_partitions(options: Mapping[str, str], topic: str, total: int) -> None:
    """`KafkaAdmin.add_partitions`, on a new connection."""
    with KafkaAdmin(options) as connection:
        connection.add_partitions(topic, total)


def ids(options: Mapping[str, str], topics: Iterable[str]) -> dict[str, str]:
    """`KafkaAdmin.ids`, on a new connection."""
    with KafkaAdmin(options) as connection:
        return connection.ids(topics)


def partitions(options: Mapping[str, str], topics: Iterable[str]) -> dict[str, list[int]]:
    """`KafkaAdmin.partitions`, on a new connection."""
    with KafkaAdmin(options) as connection:
        return connection.partitions(topics)


def beginnings(options: Mapping[str, str], topics: Iterable[str]) -> Offsets:
    """`KafkaAdmin.beginnings`, on a new connection."""
    with KafkaAdmin(options) as connection:
        return connection.beginnings(topics)


def ends(options: Mapping[str, str], topics: Iterable[str]) -> Offsets:
    """`KafkaAdmin.ends`, on a new connection."""
    with KafkaAdmin(options) as connection:
        return connection.ends(topics)


def _connect(kwargs: dict[str, Any], patience: float) -> KafkaAdminClient:
    """Return an admin client that is connected to a broker, within `patience` seconds.

    kafka-python retries until its time is over even if it is refused, and its error then has no reason. So it
    gets the time in slices, after each of which the errors that it logged are checked for a refusal.
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
                    kafka_client=_collect_in(clients),
                )
            except KafkaError as error:
                for client in clients:  # its thread would keep trying
                    client.close()
                if failures.refusal is not None:
                    raise failures.refusal from None
                if not isinstance(error, RetriableError) or remaining <= SLICE:
                    raise failures.last or error from None


def _broker_message(error: KafkaError) -> str:
    """Return the broker's message in an error, which the client wraps in request and response."""
    message = re.search(r"""error_message=(['"])(.*?)\1[,)]""", str(error))
    # all that a client sees of a broker with another security protocol, or that refuses a user
    if "disconnected" in str(error):
        return f"{error} (are the security options right?)"
    return message[2] if message else str(error)


def _collect_in(clients: list[Any]) -> Callable[..., Any]:
    make = KafkaAdminClient.DEFAULT_CONFIG["kafka_client"]

    def create_client(**configs: Any) -> Any:
        clients.append(make(**configs))
        return clients[-1]

    return create_client


class _Failures(logging.Handler):
    """Collects, while it is entered, the errors that kafka-python logs when it cannot connect."""

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
