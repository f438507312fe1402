"""Kafka's options come from the settings and the flags; a missing topic names what creates it."""

from types import SimpleNamespace

import pytest

from producers.topics import create_topics, kafka_options, require_topics
from streaming_nn.kafka import admin
from streaming_nn.kafka.broker import Broker

pytestmark = pytest.mark.merge


@pytest.mark.commit
def test_flags_override_the_settings_and_these_the_default(tmp_path):
    config = tmp_path / "streaming-nn.toml"
    assert kafka_options(config, {}) == {"bootstrap.servers": "localhost:9092"}
    config.write_text('[kafka]\nbootstrap.servers = "a:1"\nclient.id = "b"\n')
    assert kafka_options(config, {"client.id": "c"}) == {"bootstrap.servers": "a:1", "client.id": "c"}


@pytest.mark.commit
def test_an_invalid_settings_file_raises_one_line(tmp_path):
    (tmp_path / "x.toml").write_text("[kafka\n")
    with pytest.raises(ValueError, match=r"x\.toml is not valid TOML: "):
        kafka_options(tmp_path / "x.toml", {})


def test_create_topics_keeps_existing_ones(broker):
    old = broker.topic("old", partitions=2)
    create_topics(broker.options, [old, f"{old}-new"], 3)
    found = admin.partitions(broker.options, [old, f"{old}-new"])
    assert {topic: len(numbers) for topic, numbers in found.items()} == {old: 2, f"{old}-new": 3}


def test_a_missing_topic_of_the_embedded_broker_names_its_command(broker, monkeypatch):
    port = int(broker.bootstrap.rpartition(":")[2])
    monkeypatch.setattr(Broker, "find", lambda directory: SimpleNamespace(port=port))
    for bootstrap in (broker.bootstrap, f"localhost:{port}"):
        with pytest.raises(LookupError) as raised:
            require_topics({"bootstrap.servers": bootstrap}, ["nowhere"])
        assert raised.value.args[0] == (
            f"topic 'nowhere' does not exist at {bootstrap}; "
            "create it with --create-topics or with: streaming-nn broker topics"
        )
    monkeypatch.setattr(Broker, "find", lambda directory: SimpleNamespace(port=port + 1))
    with pytest.raises(LookupError, match=r"--create-topics$"):
        require_topics(broker.options, ["nowhere"])
