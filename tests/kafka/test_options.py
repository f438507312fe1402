import random
import ssl
import string
import tomllib

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from streaming_nn.kafka.options import _parse_jaas, check, flat, for_python, for_spark

pytestmark = pytest.mark.commit

PLAIN = {"bootstrap.servers": "one:9092, two:9092"}
SCRAM = {
    **PLAIN,
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.username": "me",
    "sasl.password": "hush",
}


def test_spark_gets_every_option_with_its_prefix() -> None:
    options = {**PLAIN, "max.poll.records": "10000", "some.interceptor.of.mine": "x"}
    assert for_spark(options) == {f"kafka.{name}": value for name, value in options.items()}


def test_user_and_password_become_jaas_for_spark() -> None:
    options = for_spark(SCRAM)
    assert options["kafka.sasl.jaas.config"] == (
        'org.apache.kafka.common.security.scram.ScramLoginModule required username="me" password="hush";'
    )
    assert options["kafka.sasl.mechanism"] == "SCRAM-SHA-512"
    assert not {"kafka.sasl.username", "kafka.sasl.password"} & options.keys()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_python_parses_the_jaas_line_that_spark_gets(mechanism: str) -> None:
    source = random.Random(mechanism)
    for _ in range(200):
        secret = "".join(source.choices(string.printable + "äß€\\\"'=; ", k=12))
        options = {**SCRAM, "sasl.mechanism": mechanism, "sasl.password": secret}
        options["security.protocol"] = "SASL_PLAINTEXT"  # quick: no certificates to load
        jaas = for_spark(options)["kafka.sasl.jaas.config"]
        by_jaas = {k: v for k, v in options.items() if k not in ("sasl.username", "sasl.password")}
        kwargs = for_python({**by_jaas, "sasl.jaas.config": jaas})
        assert (kwargs["sasl_plain_username"], kwargs["sasl_plain_password"]) == ("me", secret)
        assert kwargs["sasl_mechanism"] == mechanism


def test_a_jaas_line_written_by_hand() -> None:
    line = """org.example.Module required
        serviceName=kafka password='it is "1=2"; \\'so\\'' username=me;"""
    assert _parse_jaas(line) == {"serviceName": "kafka", "password": "it is \"1=2\"; 'so'", "username": "me"}


@pytest.mark.parametrize("client", [KafkaAdminClient, KafkaProducer, KafkaConsumer])
def test_python_clients_get_only_options_they_have(client: type) -> None:
    tuning = {
        "client.id": "job",
        "request.timeout.ms": "5000",
        "linger.ms": "20",
        "acks": "all",
        "compression.type": "gzip",
        "max.poll.records": "10000",
        "isolation.level": "read_committed",
        "enable.auto.commit": "false",
        "interceptor.classes": "org.example.Mine",
    }
    kwargs = for_python({**PLAIN, **tuning}, client)
    assert set(kwargs) <= set(client.DEFAULT_CONFIG)
    assert kwargs["bootstrap_servers"] == ["one:9092", "two:9092"]
    assert (kwargs["client_id"], kwargs["request_timeout_ms"]) == ("job", 5000)
    assert kwargs.get("linger_ms") == (20 if client is KafkaProducer else None)
    assert kwargs.get("enable_auto_commit") == (False if client is KafkaConsumer else None)


def test_compression_that_python_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming_nn.kafka.options.has_zstd", lambda: False)
    assert for_python({**PLAIN, "compression.type": "zstd"}, KafkaProducer)["compression_type"] is None


def test_the_tls_context_is_the_one_java_would_use() -> None:
    context = for_python({**PLAIN, "security.protocol": "SSL"})["ssl_context"]
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    newer = for_python({**PLAIN, "security.protocol": "SSL", "ssl.enabled.protocols": "TLSv1.3"})
    assert newer["ssl_context"].minimum_version == ssl.TLSVersion.TLSv1_3
    trusting = {**PLAIN, "security.protocol": "SSL", "ssl.endpoint.identification.algorithm": ""}
    anyone = for_python(trusting)["ssl_context"]
    assert (anyone.check_hostname, anyone.verify_mode) == (False, ssl.CERT_REQUIRED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bootstrap.servers": ""}, "must have bootstrap.servers.*; got none"),
        ({"kafka.acks": "all"}, "without the prefix 'kafka.'; got 'kafka.acks'"),
        ({"security.protocol": "TLS"}, "security.protocol must be one of PLAINTEXT, SSL,.*; got 'TLS'"),
        ({"security.protocol": "SSL"}, "must be SASL_PLAINTEXT or SASL_SSL with sasl.username; got"),
        ({"security.protocol": "PLAINTEXT"}, "must be SASL_PLAINTEXT or SASL_SSL with sasl.username"),
        ({"sasl.mechanism": "GSSAPI"}, "sasl.mechanism must be one of PLAIN, .*; got 'GSSAPI'"),
        ({"sasl.jaas.config": "x"}, "sasl.username or sasl.jaas.config; got both"),
        (
            {"security.protocol": "SASL_PLAINTEXT", "ssl.truststore.location": "/ca"},
            "must be SSL or SASL_SSL",
        ),
    ],
)
def test_invalid_and_contradictory_options_are_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        check({**SCRAM, **change})
    assert "hush" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_user_without_a_password_is_refused() -> None:
    with pytest.raises(ValueError, match="must both be set; got only one"):
        check({name: value for name, value in SCRAM.items() if name != "sasl.password"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ssl.truststore.location": "/ca.jks"}, "ssl.truststore.type must be PEM.*got JKS for /ca.jks"),
        (
            {"ssl.keystore.location": "/me.p12", "ssl.keystore.type": "PKCS12"},
            "ssl.keystore.type must be PEM",
        ),
        (
            {"ssl.truststore.location": "/no.pem", "ssl.truststore.type": "PEM"},
            "must be PEM files; got .*No such",
        ),
        (
            {"ssl.cipher.suites": "TLS_AES_256_GCM_SHA384"},
            "ssl.cipher.suites is not supported by the Python clients",
        ),
        (
            {"ssl.engine.factory.class": "org.example.Mine"},
            "ssl.engine.factory.class is not supported by the Python clients",
        ),
        ({"sasl.client.callback.handler.class": "Mine"}, "sasl.client.callback.handler.class is not"),
        ({"security.providers": "Mine"}, "security.providers is not supported by the Python clients"),
        ({"request.timeout.ms": "soon"}, "request.timeout.ms must have a valid value; got 'soon'"),
        ({"enable.auto.commit": "maybe"}, "enable.auto.commit must have a valid value"),
    ],
)
def test_python_refuses_security_that_it_does_not_support(change: dict[str, str], message: str) -> None:
    options = {**SCRAM, **change}
    assert for_spark(options)  # Java can
    with pytest.raises(ValueError, match=message) as error:
        for_python(options, KafkaConsumer)
    assert "hush" not in str(error.value)


def test_security_options_that_matter_to_java_only_are_ignored() -> None:
    for_python({**SCRAM, "sasl.login.refresh.window.factor": "0.5", "ssl.trustmanager.algorithm": "PKIX"})


def test_mechanisms_that_python_lacks() -> None:
    for extra in ({}, {"sasl.mechanism": "OAUTHBEARER"}):
        with pytest.raises(ValueError, match=r"sasl.mechanism must be one of PLAIN"):
            for_python({**PLAIN, "security.protocol": "SASL_SSL", **extra})


def test_nested_tables_become_names() -> None:
    table = tomllib.loads("""
        bootstrap.servers = ["one:9092", "two:9092"]
        security.protocol = "SASL_SSL"
        enable.auto.commit = false
        "max.poll.records" = 500
    """)
    assert flat(table) == {
        "bootstrap.servers": "one:9092,two:9092",
        "security.protocol": "SASL_SSL",
        "enable.auto.commit": "false",
        "max.poll.records": "500",
    }
