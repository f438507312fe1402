"""Kafka as the command sees it: its options, and topics that exist before anything is sent."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def kafka_options(config: Path, overrides: dict[str, str]) -> dict[str, str]:
    """Return Kafka's options: the settings' [kafka] table, overridden by the flags."""
    from streaming_nn.kafka.options import flat

    table: dict[str, Any] = {}
    if config.is_file():
        try:
            table = tomllib.loads(config.read_text(encoding="utf-8")).get("kafka", {})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{config} is not valid TOML: {error}") from None
    return {"bootstrap.servers": "localhost:9092"} | flat(table) | overrides


def python_options(options: Mapping[str, str]) -> dict[str, Any]:
    """Return the options as kafka-python's producer takes them."""
    from kafka import KafkaProducer

    from streaming_nn.kafka.options import for_python

    return for_python(options, KafkaProducer)


def require_topics(options: Mapping[str, str], topics: list[str]) -> None:
    """Raise LookupError if a topic does not exist: the producer would wait a minute for it."""
    from streaming_nn.kafka.admin import partitions

    try:
        partitions(options, topics)
    except LookupError as error:
        raise LookupError(f"{error}; {_how_to_create(options)}") from None


def create_topics(options: Mapping[str, str], topics: list[str], partitions: int) -> None:
    """Create the topics that do not exist; those that do stay as they are. Raise as `KafkaAdmin` does."""
    from streaming_nn.kafka.admin import KafkaAdmin

    with KafkaAdmin(options) as admin:
        for topic in topics:
            admin.create(topic, partitions, exist_ok=True)


def _how_to_create(options: Mapping[str, str]) -> str:
    from streaming_nn.kafka.broker import is_embedded

    hint = "create it with --create-topics"
    embedded = is_embedded(options["bootstrap.servers"])
    return f"{hint} or with: streaming-nn broker topics" if embedded else hint
