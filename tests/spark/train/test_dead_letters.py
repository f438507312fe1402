"""What reaches the dead-letter topic if it does not take a record as it is, and what stops the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kafka.errors import (
    InvalidRecordError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    PolicyViolationError,
    TopicAuthorizationFailedError,
)
from kafka_topics import read

from streaming_nn.errors import DeadLetterError
from streaming_nn.spark.rejected import DeadLetter, size
from streaming_nn.spark.train import dead_letters
from streaming_nn.spark.train.dead_letters import DeadLetters

HEADERS = '[{"key":"a","value":"eA=="},{"key":"none"}]'


def letter(offset: int, key: bytes | None, value: bytes | None, headers: str | None = None) -> DeadLetter:
    return DeadLetter("not a number", "price", "'x'", "t", 1, offset, key, value, headers)


class Topic:
    """A producer whose broker takes what `refuse` returns no error for, all records in one batch."""

    def __init__(self, refuse: Any) -> None:
        self.refuse, self.taken, self.waiting = refuse, list[DeadLetter](), list[Any]()

    def send(self, topic: str, key: DeadLetter, value: DeadLetter, headers: Any) -> Any:
        self.waiting.append(Future(self, key))
        return self.waiting[-1]

    def flush(self) -> None:
        errors = [error for error in map(self.refuse, (f.letter for f in self.waiting)) if error is not None]
        for future in self.waiting:
            future.error = errors[0] if errors else None
            if future.error is None:
                self.taken.append(future.letter)
        self.waiting = []

    def close(self, timeout: float = 0) -> None:
        """Nothing is open."""


class Future:
    def __init__(self, topic: Topic, letter: DeadLetter) -> None:
        self.topic, self.letter, self.error = topic, letter, None

    def get(self, timeout: float) -> None:
        self.topic.flush()
        if self.error is not None:
            raise self.error


@contextmanager
def sending(monkeypatch: pytest.MonkeyPatch, refuse: Any) -> Iterator[tuple[DeadLetters, Topic]]:
    topic = Topic(refuse)
    monkeypatch.setattr(dead_letters, "_connect", lambda kafka: topic)
    yield DeadLetters({}, "dead"), topic


def longer_than(limit: int) -> Any:
    return lambda letter: MessageSizeTooLargeError() if size(letter) > limit else None


@pytest.mark.commit
@pytest.mark.parametrize("limit", [0, 1, 100, 999])
def test_a_record_that_is_too_large_is_cut_until_it_fits(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    letters = [letter(0, b"k", b""), letter(1, b"", b"v" * 1000), letter(2, None, b"ok")]
    with sending(monkeypatch, longer_than(limit)) as (sender, topic):
        sender.send(letters)
    assert [each.offset for each in topic.taken] == [0, 1, 2], "none is lost"
    assert all(size(each) <= limit for each in topic.taken)
    assert len(topic.taken[1].value or b"") >= limit // 2, "as much as fits, up to a factor of two"
    assert "value" in topic.taken[1].cut


@pytest.mark.commit
def test_a_compacted_topic_gets_the_position_as_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    letters = [letter(0, b"k", b"a"), letter(1, None, b"b"), letter(2, None, None)]
    refuse = lambda letter: InvalidRecordError() if letter.key is None else None  # noqa: E731
    with sending(monkeypatch, refuse) as (sender, topic):
        sender.send(letters)
    assert [(each.key, each.cut) for each in topic.taken] == [
        (b"k", ""),
        (b"t 1 1", "key"),
        (b"t 1 2", "key"),
    ]


@pytest.mark.commit
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MessageSizeTooLargeError(), "max.message.bytes of the topic, or max.request.size of [kafka]"),
        (TopicAuthorizationFailedError({"dead"}), "lacks the right WRITE on the topic"),
        (PolicyViolationError("nothing on Sundays"), "nothing on Sundays"),
        (InvalidRecordError("no"), "no"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_record_that_cannot_be_recorded_stops_the_run(
    monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    with sending(monkeypatch, lambda letter: error) as (sender, _), pytest.raises(DeadLetterError) as caught:
        sender.send([letter(7, b"k", b"v", HEADERS)])
    assert words in str(caught.value)
    assert "'dead'" in str(caught.value)
    assert "offset 7 of 't' partition 1" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 7


@pytest.mark.commit
@pytest.mark.parametrize("error", [KafkaTimeoutError(), NotLeaderForPartitionError()])
def test_a_broker_that_does_not_respond_is_an_error_that_passes(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with sending(monkeypatch, lambda letter: error) as (sender, _), pytest.raises(ConnectionError):
        sender.send([letter(7, b"k", b"v")])


@pytest.mark.commit
def test_a_topic_that_may_not_be_created_stops_the_run() -> None:
    class Admin:
        def create(self, topic: str, exist_ok: bool) -> None:
            raise PermissionError("Kafka at b:9092 refuses this client: no")

    admin: Any = Admin()
    with pytest.raises(
        DeadLetterError, match=r"'dead': .*; create it, or grant this client CREATE and WRITE"
    ):
        DeadLetters({}, "dead").create_topic(admin)


@pytest.mark.commit
def test_the_headers_are_the_records_own_then_ours() -> None:
    cut = letter(7, None, b"v", HEADERS)._replace(cut="value")
    assert dead_letters.headers(cut) == [
        ("a", b"x"),
        ("none", b""),
        ("streaming_nn.reason", b"not a number"),
        ("streaming_nn.field", b"price"),
        ("streaming_nn.value", b"'x'"),
        ("streaming_nn.topic", b"t"),
        ("streaming_nn.partition", b"1"),
        ("streaming_nn.offset", b"7"),
        ("streaming_nn.cut", b"value"),
    ]
    bare = DeadLetter("not JSON", "", "", "t", 0, 0, None, None, None)
    assert [name for name, _ in dead_letters.headers(bare)] == [
        f"streaming_nn.{name}" for name in ("reason", "topic", "partition", "offset")
    ]


@pytest.mark.merge
@pytest.mark.parametrize(
    ("config", "kafka"),
    [
        ({"max.message.bytes": "5000"}, {}),
        ({}, {"max.request.size": "5000"}),
        ({"cleanup.policy": "compact"}, {}),
    ],
    ids=["the topic's limit", "the producer's limit", "compacted"],
)
def test_a_real_broker_gets_what_fits(broker: Any, config: dict[str, str], kafka: dict[str, str]) -> None:
    topic = broker.topic("dead", config=config)
    many = '[{"key":"many","value":"%s"}]' % ("eHh4" * 3000)
    letters = [
        letter(0, None, b"v" * 20_000),
        letter(1, b"k" * 20_000, b"v", many),
        letter(2, None, None, many),
        letter(3, b"k", b"whole", HEADERS),
        *(letter(4 + i, None, b"small") for i in range(100)),
    ]
    sender = DeadLetters({**broker.options, **kafka}, topic)
    sender.send(letters)
    sender.close()
    found = {int(dict(x.headers)["streaming_nn.offset"]): x for x in read(broker.options, topic)}
    assert sorted(found) == list(range(104))
    assert (found[3].key, found[3].value) == (b"k", b"whole")
    assert "streaming_nn.cut" not in dict(found[3].headers)
    cut = {n for n, x in found.items() if "streaming_nn.cut" in dict(x.headers)}
    assert cut == ({n for n in found if n not in (1, 3)} if "cleanup.policy" in config else {0, 1, 2})


@pytest.mark.merge
def test_a_real_broker_that_takes_nothing_stops_the_run(broker: Any) -> None:
    topic = broker.topic("dead", config={"max.message.bytes": "100"})
    sender = DeadLetters(broker.options, topic)
    with pytest.raises(DeadLetterError, match=r"max\.message\.bytes of the topic"):
        sender.send([letter(0, None, b"v" * 20_000)])
    sender.close()
