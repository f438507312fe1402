import re
import time
from types import SimpleNamespace

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import CoordinatorLoadInProgressError, NoError
from waiting import until

from streaming_nn.kafka import admin
from streaming_nn.kafka.options import for_python
from streaming_nn.kafka.reader import first_values

pytestmark = pytest.mark.merge


def send(options: dict[str, str], topic: str, partition: int, count: int) -> None:
    producer = KafkaProducer(**for_python(options, KafkaProducer))
    for number in range(count):
        producer.send(topic, b"%d" % number, partition=partition)
    producer.flush()
    producer.close()


def test_partitions_beginnings_and_ends(broker) -> None:
    topic = broker.topic("offsets", partitions=3)
    send(broker.options, topic, 1, 7)
    assert admin.partitions(broker.options, [topic]) == {topic: [0, 1, 2]}
    assert admin.beginnings(broker.options, [topic]) == {topic: {0: 0, 1: 0, 2: 0}}
    assert admin.ends(broker.options, [topic]) == {topic: {0: 0, 1: 7, 2: 0}}


def test_the_end_is_that_of_committed_records(broker) -> None:
    """An open transaction has no offsets yet; those of an aborted one stay, without records."""
    topic = broker.topic("transactions")
    everything = {**broker.options, "isolation.level": "read_uncommitted"}
    producer = KafkaProducer(**for_python(broker.options, KafkaProducer), transactional_id=topic)
    producer.init_transactions()
    found = []
    for end in (producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        for value in (b"a", b"b"):
            producer.send(topic, value, partition=0).get(10)
        found += [admin.ends(options, [topic])[topic][0] for options in (broker.options, everything)]
        assert first_values(broker.options, topic, 10) == [], "nothing is committed"
        end()
    producer.close()
    assert found == [0, 2, 3, 5], "a marker ends the first one"
    assert admin.ends(broker.options, [topic]) == {topic: {0: 6}}
    assert first_values(broker.options, topic, 10) == [b"a", b"b"]


def test_added_partitions_can_be_used_at_once(broker) -> None:
    topic = broker.topic("growing")
    admin.add_partitions(broker.options, topic, 3)
    send(broker.options, topic, 2, 4)
    assert admin.ends(broker.options, [topic]) == {topic: {0: 0, 1: 0, 2: 4}}
    with pytest.raises(RuntimeError, match=r"reports: Topic already has 3 partition\(s\)"):
        admin.add_partitions(broker.options, topic, 3)


def test_a_recreated_topic_has_another_id(broker) -> None:
    first, other = broker.topic("again"), broker.topic("again")
    before = admin.ids(broker.options, [first, other])
    assert all(len(identity) == 22 for identity in before.values())
    admin.delete(broker.options, first)
    admin.create(broker.options, first)
    after = admin.ids(broker.options, [first, other])
    assert after[first] != before[first]
    assert after[other] == before[other]


def test_config_reaches_the_topic(broker) -> None:
    with pytest.raises(RuntimeError, match=r"Invalid value soon for configuration retention.ms"):
        admin.create(broker.options, "never", config={"retention.ms": "soon"})
    admin.create(broker.options, "kept", config={"retention.ms": "1000"})


def test_creating_a_topic_twice(broker) -> None:
    topic = broker.topic("twice", partitions=2)
    with pytest.raises(FileExistsError, match=f"topic '{topic}' already exists at 127.0.0.1"):
        admin.create(broker.options, topic)
    admin.create(broker.options, topic, exist_ok=True)
    assert admin.partitions(broker.options, [topic]) == {topic: [0, 1]}


def test_a_topic_that_does_not_exist(broker) -> None:
    topic = broker.topic("there")
    with admin.KafkaAdmin(broker.options) as connection:
        for read in (connection.ids, connection.ends, connection.beginnings, connection.partitions):
            with pytest.raises(LookupError, match=r"topic 'nowhere' does not exist at 127.0.0.1"):
                read([topic, "nowhere"])
        with pytest.raises(LookupError, match="does not exist"):
            connection.delete("nowhere")
        with pytest.raises(LookupError, match="does not exist"):
            connection.add_partitions("nowhere", 2)


@pytest.mark.commit
def test_no_broker() -> None:
    began = time.monotonic()
    with pytest.raises(
        ConnectionError, match=r"cannot reach a Kafka broker at 127.0.0.1:9 within 1 s: .*REFUSED"
    ):
        admin.KafkaAdmin({"bootstrap.servers": "127.0.0.1:9"}, patience=1).ids(["t"])
    assert time.monotonic() - began < 5


@pytest.mark.commit
def test_the_constructor_does_not_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "KafkaAdminClient", lambda **options: pytest.fail("connected"))
    connection = admin.KafkaAdmin({"bootstrap.servers": "127.0.0.1:9"})
    connection.close()


@pytest.mark.commit
def test_entering_connects() -> None:
    with pytest.raises(ConnectionError), admin.KafkaAdmin({"bootstrap.servers": "127.0.0.1:9"}, patience=1):
        pytest.fail("entered")


def test_offsets_are_committed_to_a_group_without_members(broker) -> None:
    topic, other = broker.topic("committed", 2), broker.topic("committed")
    with admin.KafkaAdmin(broker.options) as client:
        assert client.committed("shown") == {}
        client.commit("shown", {topic: {0: 5, 1: 0}})
        client.commit("shown", {topic: {0: 7}, other: {0: 1}})
        assert client.committed("shown") == {topic: {0: 7, 1: 0}, other: {0: 1}}
        consumer = KafkaConsumer(topic, bootstrap_servers=broker.bootstrap, group_id="shown")
        try:

            def refused() -> str:
                consumer.poll(timeout_ms=50)  # it joins, with or without a partition
                try:
                    client.commit("shown", {topic: {0: 9}})
                except RuntimeError as error:
                    return str(error)
                return ""

            until(refused)
            assert re.match(r"Kafka at .* reports: ", refused())
        finally:
            consumer.close()
        with pytest.raises(LookupError, match=r"^topic 'missing' does not exist at "):
            client.commit("shown", {"missing": {0: 1}})


@pytest.mark.commit
def test_a_commit_is_retried_while_the_coordinator_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    client = admin.KafkaAdmin({"bootstrap.servers": "127.0.0.1:1"})
    results = [CoordinatorLoadInProgressError, NoError]
    fake = SimpleNamespace(alter_group_offsets=lambda group, offsets: {("t", 0): results.pop(0)})
    monkeypatch.setattr(client, "_client", lambda: fake)
    client.commit("shown", {"t": {0: 5}})
    assert results == []
