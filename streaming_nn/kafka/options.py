"""A client's options under Kafka's names, translated for Spark's clients and for the Python ones.

`{"bootstrap.servers": "broker:9092", "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512",
"sasl.username": "me", "sasl.password": "…"}`: names are those of Kafka's Java clients, without a prefix,
and `sasl.username` and `sasl.password` instead of a JAAS line, which is accepted too.
"""

import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any

from kafka import KafkaAdminClient
from kafka.codec import has_gzip, has_lz4, has_snappy, has_zstd

ADDRESS = re.compile(r"(\[[^\s\[\]/]+\]|[^\s:/\[\]]+):(\d{1,5})", re.ASCII)
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MODULES = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}
USERS = dict.fromkeys(("sasl.username", "sasl.password", "sasl.jaas.config"), "SASL")
STORES = dict.fromkeys(("ssl.truststore.location", "ssl.keystore.location"), "SSL")

# Security options that the Python clients support, and those of Java that do not matter to them.
SUPPORTED = {
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
IGNORED = re.compile(
    r"sasl\.login\.(refresh|retry|connect|read)\..*|ssl\.(keymanager|trustmanager)\.algorithm|"
    r"ssl\.(provider|secure\.random\.implementation)"
)


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[text]


def _acks(text: str) -> str | int:
    return "all" if text == "all" else int(text)


def _compression(text: str) -> str | None:
    """Return a codec that is installed for Python, or None: any reader reads any codec."""
    installed = {"gzip": has_gzip, "snappy": has_snappy, "lz4": has_lz4, "zstd": has_zstd}
    if text != "none" and text not in installed:
        raise ValueError(text)
    return text if text in installed and installed[text]() else None


# Options that both kinds of client have under one name, except for dots and underscores.
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
    """Return options as strings; nested tables, as TOML reads `security.protocol = …`, become names."""
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
    """Raise ValueError for invalid or contradictory options; its message never contains a secret."""
    if not options.get("bootstrap.servers"):
        raise ValueError("kafka options must have bootstrap.servers, such as 'localhost:9092'; got none")
    for server in options["bootstrap.servers"].split(","):
        address = ADDRESS.fullmatch(server.strip())
        if address is None or not 1 <= int(address[2]) <= 65_535:  # Python's client takes 9092, Java's none
            raise ValueError(
                f"bootstrap.servers must be host:port, with commas between several; got {server.strip()!r}"
            )
    if prefixed := [name for name in options if name.startswith("kafka.")]:
        raise ValueError(f"names of kafka options must be without the prefix 'kafka.'; got {prefixed[0]!r}")
    protocol = options.get("security.protocol", "PLAINTEXT")
    if protocol not in PROTOCOLS:
        raise ValueError(f"security.protocol must be one of {', '.join(PROTOCOLS)}; got {protocol!r}")
    # Kafka itself would connect anyway, and ignore these.
    for name, layer in {**USERS, **STORES}.items():
        if name in options and layer not in protocol:
            allowed = " or ".join(p for p in PROTOCOLS if layer in p)
            raise ValueError(f"security.protocol must be {allowed} with {name}; got {protocol!r}")
    if {"sasl.username", "sasl.password"} & options.keys():
        _check_user(options)


def _check_user(options: Mapping[str, str]) -> None:
    if not {"sasl.username", "sasl.password"} <= options.keys():
        raise ValueError("sasl.username and sasl.password must both be set; got only one of them")
    if "sasl.jaas.config" in options:
        raise ValueError("kafka options must have sasl.username or sasl.jaas.config; got both")
    if options.get("sasl.mechanism") not in MODULES:
        raise ValueError(
            f"sasl.mechanism must be one of {', '.join(MODULES)} with sasl.username; "
            f"got {options.get('sasl.mechanism')!r}"
        )


def for_spark(options: Mapping[str, str]) -> dict[str, str]:
    """Return the options for Spark's Kafka source and sink, each with the prefix "kafka."."""
    return {f"kafka.{name}": value for name, value in for_java(options).items()}


def for_java(options: Mapping[str, str]) -> dict[str, str]:
    """Return the options for a Java client, with user and password as a JAAS line."""
    check(options)
    java = {name: value for name, value in options.items() if name not in ("sasl.username", "sasl.password")}
    if "sasl.username" in options:
        module = MODULES[options["sasl.mechanism"]]
        user, password = map(_quote_jaas, (options["sasl.username"], options["sasl.password"]))
        java["sasl.jaas.config"] = f"{module} required username={user} password={password};"
    return java


def for_python(options: Mapping[str, str], client: type = KafkaAdminClient) -> dict[str, Any]:
    """Return the options as keyword arguments of kafka-python's `client` class.

    Tuning that this client does not have is left out. ValueError: a security option that it does not support.
    """
    check(options)
    kwargs: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in options["bootstrap.servers"].split(",")]
    }
    known = client.DEFAULT_CONFIG  # type: ignore[attr-defined]
    for name, convert in TUNING.items():
        keyword = name.replace(".", "_")
        if name in options and keyword in known:
            kwargs[keyword] = _convert(name, options[name], convert)
    return kwargs | _security(options)


def _security(options: Mapping[str, str]) -> dict[str, Any]:
    for name in options:
        is_security = name.startswith(("ssl.", "sasl.", "security."))
        if is_security and name not in SUPPORTED and not IGNORED.fullmatch(name):
            raise ValueError(
                f"kafka option {name} is not supported by the Python clients; "
                f"their security options are {', '.join(sorted(SUPPORTED))}"
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
        login = _parse_jaas(options["sasl.jaas.config"])
        user, password = login.get("username"), login.get("password")
    if user is None or password is None:
        raise ValueError(f"sasl.username and sasl.password must be set for sasl.mechanism {mechanism}")
    return {"sasl_mechanism": mechanism, "sasl_plain_username": user, "sasl_plain_password": password}


def _context(options: Mapping[str, str]) -> ssl.SSLContext:
    """Return the TLS context that Java would use with these options; Python reads PEM files only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    versions = options.get("ssl.enabled.protocols") or "TLSv1.2,TLSv1.3"
    only = "TLSv1.2" not in versions.replace(" ", "").split(",")
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if only else ssl.TLSVersion.TLSv1_2
    context.check_hostname = options.get("ssl.endpoint.identification.algorithm", "https") != ""
    authorities = _pem(options, "ssl.truststore")
    certificate = _pem(options, "ssl.keystore")
    try:
        if authorities:
            context.load_verify_locations(authorities)
        else:
            context.load_default_certs()
        if certificate:
            context.load_cert_chain(certificate, password=options.get("ssl.key.password", ""))
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(
            f"ssl.truststore.location and ssl.keystore.location must be PEM files; got {error}"
        ) from None
    return context


def _pem(options: Mapping[str, str], store: str) -> str | None:
    location = options.get(f"{store}.location")
    kind = options.get(f"{store}.type", "JKS")  # Java's default
    if location and kind != "PEM":
        raise ValueError(
            f"{store}.type must be PEM, which Java and Python both read; got {kind} for {location}; convert "
            "(`keytool -importkeystore -deststoretype PKCS12`, then `openssl pkcs12 -in … -out ….pem`)"
        )
    return location


def _convert(name: str, text: str, convert: Callable[[str], Any]) -> Any:
    try:
        return convert(text)
    except (ValueError, KeyError):
        raise ValueError(f"kafka option {name} must have a valid value; got {text!r}") from None


def _quote_jaas(text: str) -> str:
    """Return a JAAS string; Java reads it with the escapes of C."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"}
    return '"' + "".join(escapes.get(c, c) for c in text) + '"'


def _parse_jaas(line: str) -> dict[str, str]:
    """Return the options of a JAAS line, `some.LoginModule required username="me" password="…";`."""
    string = r"""(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s;"']+))"""
    found = re.findall(rf"([\w.-]+)\s*=\s*{string}", line)
    return {name: _unescape(double or single) or plain for name, double, single, plain in found}


def _unescape(text: str) -> str:
    letters = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "a": "\a", "v": "\v"}

    def one(escape: re.Match[str]) -> str:
        code = escape[1]
        return chr(int(code, 8)) if code[0] in "01234567" else letters.get(code, code)

    return re.sub(r"\\([0-3][0-7]{0,2}|[4-7][0-7]?|.)", one, text)
