"""The registry's client: each schema once, unknown IDs, failures, and credentials."""

import json

import pytest

from streaming_nn.records import registry as client

pytestmark = pytest.mark.commit

TEXT = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}


def test_a_schema_is_requested_once(registry):
    registry.add(7, TEXT)
    for url in (registry.url, registry.url, registry.url):
        assert client.schemas(url, 7) == (json.dumps(TEXT),)
    assert registry.requests == ["/schemas/ids/7"]


def test_an_unknown_id_is_requested_again_later(registry, monkeypatch):
    for _ in range(3):
        assert client.schemas(registry.url, 8) is None
    assert len(registry.requests) == 1
    registry.add(8, TEXT)
    monkeypatch.setattr(client, "FORGET", -1.0)
    assert client.schemas(registry.url, 8) is not None


def test_references_come_first(registry):
    inner = {"type": "record", "name": "In", "fields": [{"name": "b", "type": "Least"}]}
    least = {"type": "enum", "name": "Least", "symbols": ["x"]}
    registry.add(1, TEXT, references=[{"name": "In", "subject": "in/side", "version": 2}])
    registry.responses["/subjects/in%2Fside/versions/2"] = {
        "schema": json.dumps(inner),
        "references": [{"name": "Least", "subject": "least", "version": 1}],
    }
    registry.responses["/subjects/least/versions/1"] = {"schema": json.dumps(least)}
    assert client.schemas(registry.url, 1) == (json.dumps(least), json.dumps(inner), json.dumps(TEXT))


@pytest.mark.parametrize(
    "response",
    [
        {"schema": "syntax = ...", "schemaType": "PROTOBUF"},
        {},
        [],
        {"schema": 3},
        {"schema": "{}", "references": [{"subject": "s", "version": "x"}]},
        {"schema": "{}", "references": 3},
    ],
)
def test_a_response_that_is_not_an_avro_schema(registry, response):
    registry.responses["/schemas/ids/1"] = response
    with pytest.raises(client.NotAvroError):
        client.schemas(registry.url, 1)


def test_endless_references(registry):
    circular = {"schema": "{}", "references": [{"subject": "s", "version": 1}]}
    registry.responses |= {"/schemas/ids/1": circular, "/subjects/s/versions/1": circular}
    with pytest.raises(client.NotAvroError):
        client.schemas(registry.url, 1)


def test_credentials_come_from_variables_and_are_never_printed(registry, monkeypatch):
    registry.user = "me:s3cret"
    registry.add(1, TEXT)
    with pytest.raises(ConnectionError) as raised:
        client.schemas(registry.url, 1)
    hint = "set STREAMING_NN_REGISTRY_USER and STREAMING_NN_REGISTRY_PASSWORD"
    assert str(raised.value) == (
        f"schema registry {registry.url} refuses the request: 401 Unauthorized; {hint}"
    )
    monkeypatch.setenv(client.USER, "me")
    monkeypatch.setenv(client.PASSWORD, "s3cret")
    assert client.schemas(registry.url, 1) == (json.dumps(TEXT),)


def test_a_short_failure_is_retried_and_a_long_one_raises_one_line(registry):
    registry.add(1, TEXT)
    registry.failures = client.ATTEMPTS - 1
    assert client.schemas(registry.url, 1) is not None
    registry.add(2, TEXT)
    registry.failures = client.ATTEMPTS
    with pytest.raises(ConnectionError, match=r"refuses the request: 503 Service Unavailable$"):
        client.schemas(registry.url, 2)
    assert client.schemas(registry.url, 2) is not None


def test_an_unreachable_registry(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(client, "PAUSE", 0.0)
    with pytest.raises(
        ConnectionError, match=r"^schema registry http://127.0.0.1:9 does not respond: .*refused"
    ):
        client.schemas("http://127.0.0.1:9", 1)
