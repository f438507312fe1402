"""A broker that asks for a password: the one [kafka] table reaches every client, Spark's included."""

from pathlib import Path
from typing import Any

import pytest
from filling import settings_of
from pyspark.sql import SparkSession

from streaming_nn.followers.follower import Followers
from streaming_nn.followers.topic import MetricsTopic
from streaming_nn.kafka import topics
from streaming_nn.kafka.broker import Broker
from streaming_nn.stream.replay import verify
from streaming_nn.stream.score import Scorer
from streaming_nn.stream.train import Trainer

PASSWORD = 'a "quoted\\ päss'
LISTENER = {
    "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "listener.name.client.plain.sasl.jaas.config": (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        'username="me" password="a \\"quoted\\\\ päss" user_me="a \\"quoted\\\\ päss";'
    ),
}


@pytest.mark.slow
def test_every_client_gets_in_by_the_same_options(spark: SparkSession, tmp_path: Path) -> None:
    with Broker.start(tmp_path / "broker", properties=LISTENER) as broker:
        kafka = {
            "bootstrap.servers": broker.bootstrap,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "me",
            "sasl.password": PASSWORD,
        }
        _everything(spark, kafka, tmp_path / "model")
        with pytest.raises((PermissionError, ConnectionError)) as refused:
            topics.ids({**kafka, "sasl.password": "wrong"}, ["labeled"])
        assert PASSWORD not in str(refused.value)


def _everything(spark: SparkSession, kafka: dict[str, str], model: Path) -> None:
    """Produce, learn with dead letters, carry metrics, score and replay."""
    from filling import labeled, unlabeled
    from kafka import KafkaProducer

    from streaming_nn.kafka.options import for_python

    for topic in ("labeled", "unlabeled", "predictions", "metrics"):
        topics.create(kafka, topic, 2 if topic == "labeled" else 1)
    producer = KafkaProducer(**for_python(kafka, KafkaProducer))
    for value in [*labeled(300), b"{"]:
        producer.send("labeled", value)
    for value in unlabeled(20):
        producer.send("unlabeled", value)
    producer.flush()
    producer.close()
    score: dict[str, Any] = {"topic": "unlabeled", "predictions": "predictions", "once": True}
    settings = settings_of(kafka, model, "labeled", score=score)
    trainer = Trainer(spark, settings)
    trainer.start()
    trainer.wait()
    assert trainer.head.record.rows["received"] == 301
    assert Followers(trainer.log, [MetricsTopic(kafka, "metrics", model)]).stop(drain=20)
    scorer = Scorer(spark, settings)
    scorer.start()
    scorer.wait()
    ends = topics.ends(kafka, ["predictions", "metrics", settings.train.dead_letters])
    assert {topic: sum(places.values()) for topic, places in ends.items()} == {
        "predictions": 20,
        "metrics": 1 + trainer.head.number,
        settings.train.dead_letters: 1,
    }
    assert verify(spark, kafka, trainer.log).identical
