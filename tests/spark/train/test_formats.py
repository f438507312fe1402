"""Avro of a registry through Kafka and Spark, compressed, and the headers that a prediction gets."""

import json
from pathlib import Path
from typing import Any

import pytest
from kafka_topics import fill, labeled, learn, manifests_of, read, rows, rows_of, settings_of, unlabeled
from pyspark.sql import SparkSession
from registries import Registry

from streaming_nn.kafka import admin
from streaming_nn.kafka.options import for_spark
from streaming_nn.records import avsc
from streaming_nn.records.avro import add_schema_id
from streaming_nn.records.decode import encode
from streaming_nn.records.schema import Schema
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.score.scorer import Scorer, forwarded_headers
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.nightly

TEXT = avsc.write_schema("features", (0, 1), "label")
AVRO = Schema(3, (0, 1), format="avro", avro_schema=TEXT)
TRACE = "traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.merge
def test_avro_of_a_registry_compressed_by_gzip(
    spark: SparkSession, broker: Any, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add(1, json.loads(TEXT))
    topic = broker.topic("avro")
    values = add_schema_id(1, encode(AVRO, *rows(1500)))
    fill(broker.options, topic, [*values, *add_schema_id(404, values[:1])], compression="gzip")
    records = {"format": "avro", "registry": registry.url}  # width and classes are inferred
    settings = settings_of(broker.options, tmp_path / "model", topic, records=records)
    learn(spark, settings)
    counts = rows_of(settings.model)
    assert (counts["received"], counts["trained"], counts["rejected"]) == (1501, 1500, 1)
    (_, *learned) = manifests_of(settings.model)
    assert [r.rejected_by_reason for r in learned if r.rejected_by_reason] == [{"unknown schema id": 1}]
    assert learned[-1].schema["registry"] == registry.url
    assert learned[-1].metrics["prequential"]["cumulative"]["accuracy"] > 0.8
    assert verify(spark, settings.kafka, VersionLog(settings.model)).identical

    fill(broker.options, topic, add_schema_id(2, encode(AVRO, *rows(5))))  # an id that no worker knows
    registry.failures = 10**6
    message = rf"schema registry {registry.url} refuses the request: 503 Service Unavailable"
    with pytest.raises(ConnectionError, match="^" + message):  # the driver's error: there are few records
        learn(spark, settings)
    monkeypatch.setattr("streaming_nn.spark.train.executor.DRIVER_RECORDS", 0)
    with pytest.raises(RuntimeError, match="^the run ended: ConnectionError: " + message) as raised:
        learn(spark, settings)
    assert "\n" not in str(raised.value)
    assert VersionLog(settings.model).head_number() == learned[-1].number


def codecs(folder: Path, topic: str) -> set[int]:
    """Read the codec of each batch of records in a broker's files, in Kafka's format 2."""
    files = folder.glob(f"broker*/**/{topic}-0/00000000000000000000.log")
    (log,) = {file.resolve() for file in files}  # pytest leaves a link to the newest folder
    data, at, found = log.read_bytes(), 0, set()
    while at < len(data) and (length := int.from_bytes(data[at + 8 : at + 12])):
        found.add(data[at + 22] & 7)
        at += 12 + length
    return found


def test_each_codec_of_kafka_is_read_and_written(
    spark: SparkSession, broker: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    topic, score_topic, predictions = (broker.topic(name) for name in ("pressed", "unlabeled", "predictions"))
    kafka = {**broker.options, "compression.type": "zstd"}  # the trainer's and the scorer's own
    for seed, codec in enumerate(("gzip", "snappy", "lz4", "zstd")):
        sent = spark.createDataFrame([(value,) for value in labeled(300, seed)], "value binary").coalesce(1)
        options = {**for_spark(broker.options), "kafka.compression.type": codec, "topic": topic}
        sent.write.format("kafka").options(**options).save()
    fill(broker.options, score_topic, unlabeled(50))
    settings = settings_of(
        kafka,
        tmp_path / "model",
        topic,
        records={},  # width and classes are inferred
        score={"topic": score_topic, "predictions": predictions, "once": True},
    )
    learn(spark, settings)
    assert codecs(tmp_path_factory.getbasetemp(), topic) == {1, 2, 3, 4}
    assert rows_of(settings.model)["trained"] == 1200
    assert verify(spark, settings.kafka, VersionLog(settings.model)).identical
    scorer = Scorer.open(spark, settings)
    scorer.start()
    scorer.wait()
    assert codecs(tmp_path_factory.getbasetemp(), predictions) == {4}
    assert admin.ends(broker.options, [predictions]) == {predictions: {0: 50}}


@pytest.mark.merge
def test_a_prediction_has_the_tracing_headers_of_its_record(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("known")
    score = {"topic": broker.topic("unlabeled"), "predictions": broker.topic("predictions"), "once": True}
    settings = settings_of(broker.options, tmp_path / "model", topic, score=score)
    fill(broker.options, topic, labeled(100))
    learn(spark, settings)
    kind = "Content-Type", b"application/json"
    headers = [[TRACE, kind, ("user", b"me")], [], [("user", b"me")]]
    fill(broker.options, score["topic"], unlabeled(3), headers=headers, keys=[b"a", b"b", b"c"])
    scorer = Scorer.open(spark, settings)
    scorer.start()
    scorer.wait()
    predictions = {r.key: r for r in read(broker.options, score["predictions"])}
    found = {key: sorted(r.headers) for key, r in predictions.items()}
    assert found == {b"a": [kind, TRACE], b"b": [], b"c": []}
    assert all("error" not in json.loads(r.value) for r in predictions.values())


@pytest.mark.commit
def test_names_of_headers_are_compared_without_case() -> None:
    assert forwarded_headers(["TraceParent", "content-type"]) == {"traceparent", "content-type"}
