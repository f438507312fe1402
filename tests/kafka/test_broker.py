import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import UserScramCredentialUpsertion

from streaming_nn.kafka import admin
from streaming_nn.kafka.broker import Broker, _command_of, _java_properties
from streaming_nn.kafka.options import for_python

pytestmark = pytest.mark.commit

SASL = {
    "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "listener.name.client.plain.sasl.jaas.config": (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        'username="broker" password="own" user_broker="own" user_me="say \\"päss\\\\word\\"";'
    ),
}
ME = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "me",
    "sasl.password": 'say "päss\\word"',
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A broker's directory that the tests share one after another: formatting one takes a second."""
    return tmp_path_factory.mktemp("directory")


def has_ended(pid: int, within: float = 10) -> bool:
    deadline = time.monotonic() + within
    while _command_of(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not _command_of(pid)


def values(options: dict[str, str], topic: str, count: int) -> list[bytes]:
    kwargs = for_python(options, KafkaConsumer)
    consumer = KafkaConsumer(topic, auto_offset_reset="earliest", consumer_timeout_ms=10_000, **kwargs)
    read = [next(consumer).value for _ in range(count)]
    consumer.close()
    return read


@pytest.mark.nightly
def test_a_restart_keeps_port_and_data_and_a_stop_leaves_no_process(directory: Path) -> None:
    with Broker.start(directory) as broker:
        options = {"bootstrap.servers": broker.bootstrap}
        connection = admin.KafkaAdmin(options)
        connection.create("t", partitions=2)
        identity = connection.ids(["t"])
        producer = KafkaProducer(**for_python(options, KafkaProducer))
        producer.send("t", b"before", partition=1).get(10)
        producer.close()

        found = Broker.find(directory)
        assert found is not None
        assert (found.pid, found.bootstrap) == (broker.pid, broker.bootstrap)
        with pytest.raises(RuntimeError, match=f"one is running .pid {broker.pid}, 127.0.0.1"):
            Broker.start(directory)
        assert os.getsid(broker.pid) != os.getsid(0)  # out of reach of a terminal's Ctrl-C
        assert broker.log.exists()
        found.stop()  # by another object than the one that started it
        assert not broker.running
    assert has_ended(broker.pid)
    assert Broker.find(directory) is None
    broker.stop()

    with Broker.start(directory) as again:
        assert again.bootstrap == broker.bootstrap
        assert connection.ids(["t"]) == identity  # the earlier connection has survived
        assert connection.ends(["t"]) == {"t": {0: 0, 1: 1}}
        assert values(options, "t", 1) == [b"before"]
        connection.close()


@pytest.mark.nightly
def test_sasl_with_the_same_options_as_java(tmp_path: Path) -> None:
    with Broker.start(tmp_path, properties=SASL) as broker:
        options = {"bootstrap.servers": broker.bootstrap, **ME}
        admin.create(options, "t")
        producer = KafkaProducer(**for_python(options, KafkaProducer))
        producer.send("t", b"secret").get(10)
        producer.close()
        assert values(options, "t", 1) == [b"secret"]
        assert (tmp_path / "server.properties").stat().st_mode & 0o077 == 0
        with pytest.raises((PermissionError, ConnectionError), match=broker.bootstrap) as error:
            admin.KafkaAdmin({**options, "sasl.password": "wrong"}, patience=2).ids(["t"])
        assert "wrong" not in str(error.value)


def certificate(directory: Path, name: str) -> Path:
    """A self-signed certificate for 127.0.0.1; `<name>.pem` has it with its key, as Java's PEM stores do."""
    plain, key, signed, pem = (directory / f"{name}.{kind}" for kind in ("plain", "key", "crt", "pem"))
    sign = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    sign += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(plain), "-out", str(signed)]
    # Kafka on Java 17 can't read what OpenSSL uses to encrypt a key by itself (PBES2).
    lock = ["openssl", "pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES", "-passout", "pass:unlock"]
    for command in (sign, [*lock, "-in", str(plain), "-out", str(key)]):
        subprocess.run(command, check=True, capture_output=True)
    pem.write_text(key.read_text() + signed.read_text())
    return signed


@pytest.mark.nightly
@pytest.mark.skipif(not shutil.which("openssl"), reason="makes its certificates with openssl")
def test_tls_with_certificates_on_both_sides_and_scram(tmp_path: Path) -> None:
    authorities = tmp_path / "authorities.pem"
    server, client = certificate(tmp_path, "server"), certificate(tmp_path, "client")
    authorities.write_text(server.read_text() + client.read_text())
    tls = {
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authorities),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(tmp_path / "server.pem"),
        "ssl.key.password": "unlock",
    }
    secured = {
        **SASL,
        **tls,
        "listener.name.client.ssl.client.auth": "required",
        "listener.security.protocol.map": "CLIENT:SASL_SSL,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.client.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
    }
    mine = {
        **ME,
        **tls,
        "security.protocol": "SASL_SSL",
        "ssl.keystore.location": str(tmp_path / "client.pem"),
    }
    with Broker.start(tmp_path / "broker", properties=secured) as broker:
        options = {"bootstrap.servers": broker.bootstrap, **mine}
        with KafkaAdminClient(**for_python(options)) as native:
            user = UserScramCredentialUpsertion("me", "SCRAM-SHA-512", "s3cret")
            native.alter_user_scram_credentials([user])
        scram = {**options, "sasl.mechanism": "SCRAM-SHA-512", "sasl.password": "s3cret"}
        admin.create(scram, "t")
        assert admin.ends(scram, ["t"]) == {"t": {0: 0}}
        nobody = {name: value for name, value in scram.items() if not name.startswith("ssl.keystore")}
        stranger = {**scram, "ssl.truststore.location": str(client)}
        for refused, reason in [
            (nobody, "CERT"),
            (stranger, "CERT"),
            ({**scram, "sasl.password": "other"}, ""),
        ]:
            with pytest.raises((ConnectionError, PermissionError), match=f"{broker.bootstrap} .*{reason}"):
                admin.KafkaAdmin(refused, patience=1).ids(["t"])


@pytest.mark.nightly
@pytest.mark.parametrize("detached", [False, True])
def test_the_broker_ends_with_its_parent_unless_detached(directory: Path, detached: bool) -> None:
    program = (
        "import sys, time; from streaming_nn.kafka.broker import Broker; "
        f"print(Broker.start({str(directory)!r}, detached={detached}).pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    if detached:
        assert not has_ended(pid, within=1)
        broker = Broker.find(directory)
        assert broker is not None
        assert admin.ids({"bootstrap.servers": broker.bootstrap}, []) == {}
        broker.stop()
    assert has_ended(pid)
    assert Broker.find(directory) is None


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(OSError, match=f"port must be free on 127.0.0.1; got {port}"):
            Broker.start(tmp_path, port=port)


def test_a_broker_that_exits_reports_why(directory: Path) -> None:
    with pytest.raises(RuntimeError, match=r"Invalid value many for configuration num.io.threads"):
        Broker.start(directory, properties={"num.io.threads": "many"})
    assert Broker.find(directory) is None


def test_another_process_with_the_earlier_pid(tmp_path: Path) -> None:
    (tmp_path / "broker.json").write_text(f'{{"pid": {os.getpid()}, "port": 1, "controller_port": 2}}')
    assert Broker.find(tmp_path) is None


def test_reserved_properties_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"properties must not have .*; got listeners"):
        Broker.start(tmp_path, properties={"listeners": "CLIENT://0.0.0.0:9092"})
    with pytest.raises(ValueError, match="must not have a comma"):
        Broker.start(tmp_path / "a,b")


def test_values_of_java_properties() -> None:
    assert _java_properties({"a": "back\\slash\nline ä"}) == "a=back\\\\slash\\nline \\u00e4\n"
