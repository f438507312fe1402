"""A broker that requires a password, and one that grants rights: what each job needs, and no more."""

from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType
from kafka_topics import labeled, settings_of, unlabeled
from pyspark.sql import SparkSession

from streaming_nn import doctor
from streaming_nn.kafka import admin
from streaming_nn.kafka.broker import Broker
from streaming_nn.kafka.options import for_python
from streaming_nn.settings import Settings
from streaming_nn.sinks.kafka_topic import KafkaTopicSink
from streaming_nn.sinks.sink import Sinks
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.score.scorer import Scorer
from streaming_nn.spark.train.trainer import Trainer

pytestmark = pytest.mark.nightly

GROUP = "shown"
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


def test_every_client_authenticates_with_the_same_options(spark: SparkSession, tmp_path: Path) -> None:
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
            admin.ids({**kafka, "sasl.password": "wrong"}, ["labeled"])
        assert PASSWORD not in str(refused.value)


def _produce(kafka: dict[str, str]) -> None:
    producer = KafkaProducer(**for_python(kafka, KafkaProducer))
    for value in [*labeled(300), b"{"]:
        producer.send("labeled", value)
    for value in unlabeled(20):
        producer.send("unlabeled", value)
    producer.flush()
    producer.close()


def _everything(spark: SparkSession, kafka: dict[str, str], model: Path) -> None:
    """Produce, train with dead letters, write metrics, score and verify."""
    for topic in ("labeled", "unlabeled", "predictions", "metrics"):
        admin.create(kafka, topic, 2 if topic == "labeled" else 1)
    _produce(kafka)
    score: dict[str, Any] = {"topic": "unlabeled", "predictions": "predictions", "once": True}
    settings = settings_of(kafka, model, "labeled", score=score)
    trainer = Trainer.open(spark, settings)
    trainer.start()
    trainer.wait()
    assert trainer.head.manifest.counts["received"] == 301
    assert Sinks(trainer.log, [KafkaTopicSink(kafka, "metrics", model)]).stop(drain=20)
    scorer = Scorer.open(spark, settings)
    scorer.start()
    scorer.wait()
    ends = admin.ends(kafka, ["predictions", "metrics", settings.train.dead_letters])
    assert {topic: sum(partitions.values()) for topic, partitions in ends.items()} == {
        "predictions": 20,
        "metrics": 1 + trainer.head.number,
        settings.train.dead_letters: 1,
    }
    assert verify(spark, kafka, trainer.log).identical


USERS = ("admin", "trainer", "scorer", "stranger")
AUTHORIZED = LISTENER | {
    "listener.name.client.plain.sasl.jaas.config": (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        'username="admin" password="secret" ' + " ".join(f'user_{user}="secret"' for user in USERS) + ";"
    ),
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:admin;User:ANONYMOUS",  # the second is the broker at its controller's port
}
# The table of docs/deploy.md; a replay needs what the trainer's READ allows
MINIMAL = {
    ("trainer", "labeled"): ("READ",),
    ("trainer", "dead"): ("CREATE", "WRITE"),
    ("trainer", "metrics"): ("WRITE",),
    ("scorer", "unlabeled"): ("READ",),
    ("scorer", "predictions"): ("WRITE",),
    ("scorer", "labeled"): ("DESCRIBE",),
    ("stranger", "labeled"): ("DESCRIBE",),
    ("stranger", "predictions"): ("READ",),
}


@pytest.mark.timeout(900)
def test_the_rights_of_the_docs_are_enough_and_the_doctor_finds_what_is_missing(
    spark: SparkSession, tmp_path: Path
) -> None:
    with Broker.start(tmp_path / "broker", properties=AUTHORIZED) as broker:

        def of(user: str) -> Settings:
            return _of(user, broker.bootstrap, tmp_path / "model")

        owner = of("admin").kafka
        for topic in ("labeled", "unlabeled", "predictions", "metrics"):
            admin.create(owner, topic)
        _grant(owner)
        _produce(owner)

        assert _lacks(of("trainer"), "train") == {}
        assert _lacks(of("scorer"), "score") == {}
        trainer = Trainer.open(spark, of("trainer"))
        trainer.start()
        trainer.wait()
        sink = KafkaTopicSink(of("trainer").kafka, "metrics", tmp_path / "model")
        assert Sinks(trainer.log, [sink]).stop(drain=20)
        scorer = Scorer.open(spark, of("scorer"))
        scorer.start()
        scorer.wait()
        assert verify(spark, of("trainer").kafka, trainer.log).identical
        for user, position in (("trainer", trainer.head.manifest.offsets), ("scorer", scorer.position())):
            with admin.KafkaAdmin(of(user).kafka) as client:
                client.commit(GROUP, position)
        with admin.KafkaAdmin(owner) as client:
            assert client.committed(GROUP) == client.ends(["labeled", "unlabeled"])
        with admin.KafkaAdmin(of("stranger").kafka) as client, pytest.raises(PermissionError):
            client.commit(GROUP, trainer.head.manifest.offsets)
        ends = admin.ends(owner, ["predictions", "dead", "metrics"])
        assert [at[0] for at in ends.values()] == [20, 1, 1 + trainer.head.number]

        admin.create(of("scorer").kafka, "labeled", exist_ok=True)  # no right to create is needed
        assert set(_lacks(of("scorer"), "train")) == {"labeled", "dead", "metrics"}
        found = _lacks(of("stranger"), "score") | _lacks(of("stranger"), "train")
        assert {topic: finding.detail for topic, finding in found.items()} == {
            "labeled": "this user may not READ, needed by train; it may DESCRIBE",
            "predictions": "this user may not WRITE, needed by score; it may DESCRIBE and READ",
            "unlabeled": "does not exist, or this user may not DESCRIBE it; READ needed by score",
            "dead": "does not exist, or this user may not DESCRIBE it; WRITE needed by train's dead letters",
            "metrics": "does not exist, or this user may not DESCRIBE it; WRITE needed by the metrics",
        }
        assert found["predictions"].fix.endswith(
            "--add --allow-principal User:stranger --operation Write --topic predictions"
        )


def _of(user: str, servers: str, model: Path) -> Settings:
    kafka = {
        "bootstrap.servers": servers,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": user,
        "sasl.password": "secret",
    }
    score = {"topic": "unlabeled", "predictions": "predictions", "once": True}
    more: dict[str, Any] = {"score": score, "metrics": {"topic": "metrics"}}
    return settings_of(kafka, model, "labeled", train={"dead_letters": "dead"}, **more)


def _grant(kafka: dict[str, str]) -> None:
    """Grant MINIMAL, and READ on the group of `metrics.group`, as kafka-acls.sh would."""
    rights = [
        (user, operation, ResourcePattern(ResourceType.TOPIC, topic))
        for (user, topic), operations in MINIMAL.items()
        for operation in operations
    ]
    group = ResourcePattern(ResourceType.GROUP, GROUP)
    rights += [(user, "READ", group) for user in ("trainer", "scorer")]
    acls = [
        ACL(f"User:{user}", "*", ACLOperation[operation], ACLPermissionType.ALLOW, resource)
        for user, operation, resource in rights
    ]
    client = KafkaAdminClient(**for_python(kafka))
    assert len(client.create_acls(acls)["succeeded"]) == len(acls)
    client.close()


def _lacks(settings: Settings, job: str) -> dict[str, doctor.Finding]:
    """Return the doctor's findings about topics, by topic."""
    found = {finding.name: finding for finding in doctor._kafka(settings, (job,))}
    assert found.pop("broker").ok
    return {name.removeprefix("topic "): finding for name, finding in found.items() if not finding.ok}
