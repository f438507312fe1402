"""A client's options, written once under Kafka's own names, for Spark's clients and for the Python ones.

`{"bootstrap.servers": "broker:9092", "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512",
"sasl.username": "me", "sasl.password": "…"}`: names are those of Kafka's Java clients, without a prefix,
and `sasl.username` and `sasl.password` in place of a JAAS line, which is understood too.
"""

import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any

from kafka import KafkaAdminClient
from kafka.codec import has_gzip, has_lz4, has_snappy, has_zstd

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MODULES = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}
USERS = dict.fromkeys(("sasl.username", "sasl.password", "sasl.jaas.config"), "SASL")
STORES = dict.fromkeys(("ssl.truststore.location", "ssl.keystore.location"), "SSL")
SECRET = re.compile(r"(?i)password|secret|token|jaas|keystore\.key|credential")

# The security that the Python clients carry out, and what of Java's own changes nothing for them.
UNDERSTOOD = {
    "security.protocol",
    "sasl.mechanism",
    *USERS,
    *STORES,
    "ssl.truststore.type",
    "ssl.truststore.password",
    "ssl.keystore.type",
    "ssl.keystore.password",
    "ssl.key.password",
    "ssl.enabled.protocols",
    "ssl.protocol",
    "ssl.endpoint.identification.algorithm",
}
IMMATERIAL = re.compile(
    r"sasl\.login\.(refresh|retry|connect|read)\..*|ssl\.(keymanager|trustmanager)\.algorithm|"
    r"ssl\.(provider|secure\.random\.implementation)"
)


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[text]


def _acks(text: str) -> str | int:
    return "all" if text == "all" else int(text)


def _compression(text: str) -> str | None:
    """A codec that Python has here; what it lacks is left out, since any reader reads any codec."""
    here = {"gzip": has_gzip, "snappy": has_snappy, "lz4": has_lz4, "zstd": has_zstd}
    if text != "none" and text not in here:
        raise ValueError(text)
    return text if text in here and here[text]() else None


# Options that both kinds of client have under one name, dots and underscores aside.
TUNING: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("client.id", "client.rack", "client.dns.lookup", "group.id", "group.instance.id"), str),
    **dict.fromkeys(("auto.offset.reset", "isolation.level", "transactional.id"), str),
    **dict.fromkeys(("enable.auto.commit", "check.crcs", "enable.idempotence"), _flag),
    **dict.fromkeys(("request.timeout.ms", "connections.max.idle.ms", "metadata.max.age.ms"), int),
    **dict.fromkeys(("reconnect.backoff.ms", "reconnect.backoff.max.ms", "retry.backoff.ms"), int),
    **dict.fromkeys(("receive.buffer.bytes", "send.buffer.bytes"), int),
    **dict.fromkeys(("max.in.flight.requests.per.connection", "linger.ms", "batch.size"), int),
    **dict.fromkeys(("max.request.size", "max.block.ms", "delivery.timeout.ms"), int),
    **dict.fromkeys(("fetch.min.bytes", "fetch.max.bytes", "fetch.max.wait.ms"), int),
    **dict.fromkeys(("max.partition.fetch.bytes", "max.poll.records", "max.poll.interval.ms"), int),
    **dict.fromkeys(("session.timeout.ms", "heartbeat.interval.ms", "auto.commit.interval.ms"), int),
    "acks": _acks,
    "compression.type": _compression,
}


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A table of options as text. TOML makes tables of `security.protocol = …`; here they are names again."""
    options = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            options.update(flat(value, f"{prefix}{name}."))
        elif isinstance(value, list | tuple):
            options[prefix + name] = ",".join(map(str, value))
        else:
            options[prefix + name] = str(value).lower() if isinstance(value, bool) else str(value)
    return options


def check(options: Mapping[str, str]) -> None:
    """Raise ValueError where the options can't be meant as they stand; an error never shows a secret."""
    if not options.get("bootstrap.servers"):
        raise ValueError("kafka options must have bootstrap.servers, such as 'localhost:9092'")
    if prefixed := [name for name in options if name.startswith("kafka.")]:
        raise ValueError(f"kafka options go without a prefix; got {prefixed[0]!r}")
    protocol = options.get("security.protocol", "PLAINTEXT")
    if protocol not in PROTOCOLS:
        raise ValueError(f"security.protocol must be one of {', '.join(PROTOCOLS)}; got {protocol!r}")
    # Kafka itself would connect all the same, without what these were given for.
    for name, layer in {**USERS, **STORES}.items():
        if name in options and layer not in protocol:
            allowed = " or ".join(p for p in PROTOCOLS if layer in p)
            raise ValueError(f"security.protocol must be {allowed} where {name} is given; got {protocol!r}")
    if {"sasl.username", "sasl.password"} & options.keys():
        _check_user(options)


def _check_user(options: Mapping[str, str]) -> None:
    if not {"sasl.username", "sasl.password"} <= options.keys():
        raise ValueError("sasl.username and sasl.password go together; got only one of them")
    if "sasl.jaas.config" in options:
        raise ValueError("kafka options must have sasl.username or sasl.jaas.config, not both")
    if options.get("sasl.mechanism") not in MODULES:
        raise ValueError(
            f"sasl.mechanism must be one of {', '.join(MODULES)} where sasl.username is given; "
            f"got {options.get('sasl.mechanism')!r}"
        )


def for_spark(options: Mapping[str, str]) -> dict[str, str]:
    """The options for Spark's Kafka source and sink, each with the prefix "kafka."."""
    return {f"kafka.{name}": value for name, value in for_java(options).items()}


def for_java(options: Mapping[str, str]) -> dict[str, str]:
    """The options for a Java client, user and password as a JAAS line."""
    check(options)
    java = {name: value for name, value in options.items() if name not in ("sasl.username", "sasl.password")}
    if "sasl.username" in options:
        module = MODULES[options["sasl.mechanism"]]
        user, password = map(_quoted, (options["sasl.username"], options["sasl.password"]))
        java["sasl.jaas.config"] = f"{module} required username={user} password={password};"
    return java


def for_python(options: Mapping[str, str], client: type = KafkaAdminClient) -> dict[str, Any]:
    """The same options as keyword arguments of kafka-python's `client` class.

    Tuning that this client does not know is left out; security that it can't carry out raises ValueError.
    """
    check(options)
    kwargs: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in options["bootstrap.servers"].split(",")]
    }
    known = client.DEFAULT_CONFIG  # type: ignore[attr-defined]
    for name, convert in TUNING.items():
        keyword = name.replace(".", "_")
        if name in options and keyword in known:
            kwargs[keyword] = _converted(name, options[name], convert)
    return kwargs | _security(options)


def redacted(options: Mapping[str, str]) -> dict[str, str]:
    """The options with every secret hidden, for messages and logs."""
    return {name: "[hidden]" if SECRET.search(name) else value for name, value in options.items()}


def _security(options: Mapping[str, str]) -> dict[str, Any]:
    for name in options:
        own = name.startswith(("ssl.", "sasl.", "security."))
        if own and name not in UNDERSTOOD and not IMMATERIAL.fullmatch(name):
            raise ValueError(
                f"kafka option {name} can't be carried out by the Python clients beside Spark; "
                f"for security they understand {', '.join(sorted(UNDERSTOOD))}"
            )
    protocol = options.get("security.protocol", "PLAINTEXT")
    kwargs: dict[str, Any] = {"security_protocol": protocol}
    if protocol.startswith("SASL_"):
        kwargs |= _user(options)
    if protocol.endswith("SSL"):
        kwargs["ssl_context"] = _context(options)
    return kwargs


def _user(options: Mapping[str, str]) -> dict[str, str]:
    mechanism = options.get("sasl.mechanism", "GSSAPI")  # Java's default
    if mechanism not in MODULES:
        raise ValueError(f"sasl.mechanism must be one of {', '.join(MODULES)}; got {mechanism!r}")
    user, password = options.get("sasl.username"), options.get("sasl.password")
    if "sasl.jaas.config" in options:
        said = _jaas(options["sasl.jaas.config"])
        user, password = said.get("username"), said.get("password")
    if user is None or password is None:
        raise ValueError(f"sasl.username and sasl.password must be given for sasl.mechanism {mechanism}")
    return {"sasl_mechanism": mechanism, "sasl_plain_username": user, "sasl_plain_password": password}


def _context(options: Mapping[str, str]) -> ssl.SSLContext:
    """What Java would do with the same options, of which Python can read PEM files only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    versions = options.get("ssl.enabled.protocols") or "TLSv1.2,TLSv1.3"
    only = "TLSv1.2" not in versions.replace(" ", "").split(",")
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if only else ssl.TLSVersion.TLSv1_2
    context.check_hostname = options.get("ssl.endpoint.identification.algorithm", "https") != ""
    authorities = _pem(options, "ssl.truststore")
    own = _pem(options, "ssl.keystore")
    try:
        if authorities:
            context.load_verify_locations(authorities)
        else:
            context.load_default_certs()
        if own:
            context.load_cert_chain(own, password=options.get("ssl.key.password", ""))
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(
            f"ssl.truststore.location and ssl.keystore.location must be PEM files: {error}"
        ) from None
    return context


def _pem(options: Mapping[str, str], store: str) -> str | None:
    location = options.get(f"{store}.location")
    kind = options.get(f"{store}.type", "JKS")  # Java's default
    if location and kind != "PEM":
        raise ValueError(
            f"{store}.type must be PEM, which Java and Python both read; got {kind} for {location} (`keytool "
            "-importkeystore -deststoretype PKCS12`, then `openssl pkcs12 -in … -out ….pem`, convert it)"
        )
    return location


def _converted(name: str, text: str, convert: Callable[[str], Any]) -> Any:
    try:
        return convert(text)
    except (ValueError, KeyError):
        raise ValueError(f"kafka option {name} has a value that it can't have: {text!r}") from None


def _quoted(text: str) -> str:
    """A JAAS string; Java reads it with the escapes of C."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"}
    return '"' + "".join(escapes.get(c, c) for c in text) + '"'


def _jaas(line: str) -> dict[str, str]:
    """The options of a JAAS line, `some.LoginModule required username="me" password="…";`."""
    string = r"""(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s;"']+))"""
    found = re.findall(rf"([\w.-]+)\s*=\s*{string}", line)
    return {name: _unescaped(double or single) or plain for name, double, single, plain in found}


def _unescaped(text: str) -> str:
    letters = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "a": "\a", "v": "\v"}

    def one(escape: re.Match[str]) -> str:
        said = escape[1]
        return chr(int(said, 8)) if said[0] in "01234567" else letters.get(said, said)

    return re.sub(r"\\([0-3][0-7]{0,2}|[4-7][0-7]?|.)", one, text)
