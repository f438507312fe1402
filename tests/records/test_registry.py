"""The registry's client: each schema once, what is unknown, what does not answer, who asks."""

import json

import pytest

from streaming_nn.records import registry as client

TEXT = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}


def test_a_schema_is_asked_for_once(registry):
    registry.add(7, TEXT)
    for url in (registry.url, registry.url, registry.url):
        assert client.schemas(url, 7) == (json.dumps(TEXT),)
    assert registry.asked == ["/schemas/ids/7"]


def test_an_unknown_number_is_asked_for_again_later(registry, monkeypatch):
    for _ in range(3):
        assert client.schemas(registry.url, 8) is None
    assert len(registry.asked) == 1
    registry.add(8, TEXT)
    monkeypatch.setattr(client, "FORGET", -1.0)
    assert client.schemas(registry.url, 8) is not None


def test_what_it_refers_to_comes_first(registry):
    inner = {"type": "record", "name": "In", "fields": [{"name": "b", "type": "Least"}]}
    least = {"type": "enum", "name": "Least", "symbols": ["x"]}
    registry.add(1, TEXT, references=[{"name": "In", "subject": "in/side", "version": 2}])
    registry.answers["/subjects/in%2Fside/versions/2"] = {
        "schema": json.dumps(inner),
        "references": [{"name": "Least", "subject": "least", "version": 1}],
    }
    registry.answers["/subjects/least/versions/1"] = {"schema": json.dumps(least)}
    assert client.schemas(registry.url, 1) == (json.dumps(least), json.dumps(inner), json.dumps(TEXT))


@pytest.mark.parametrize(
    "answer",
    [
        {"schema": "syntax = ...", "schemaType": "PROTOBUF"},
        {},
        [],
        {"schema": 3},
        {"schema": "{}", "references": [{"subject": "s", "version": "x"}]},
        {"schema": "{}", "references": 3},
    ],
)
def test_an_answer_that_is_no_schema_of_avro(registry, answer):
    registry.answers["/schemas/ids/1"] = answer
    with pytest.raises(client.Unusable):
        client.schemas(registry.url, 1)


def test_references_without_end(registry):
    round_and_round = {"schema": "{}", "references": [{"subject": "s", "version": 1}]}
    registry.answers |= {"/schemas/ids/1": round_and_round, "/subjects/s/versions/1": round_and_round}
    with pytest.raises(client.Unusable):
        client.schemas(registry.url, 1)


def test_who_asks_is_told_by_variables_and_never_by_us(registry, monkeypatch):
    registry.user = "me:s3cret"
    registry.add(1, TEXT)
    with pytest.raises(ConnectionError) as raised:
        client.schemas(registry.url, 1)
    hint = "STREAMING_NN_REGISTRY_USER and STREAMING_NN_REGISTRY_PASSWORD say who asks"
    assert str(raised.value) == f"schema registry {registry.url} refuses: 401 Unauthorized; {hint}"
    monkeypatch.setenv(client.USER, "me")
    monkeypatch.setenv(client.PASSWORD, "s3cret")
    assert client.schemas(registry.url, 1) == (json.dumps(TEXT),)


def test_a_short_failure_is_waited_out_and_a_long_one_is_one_line(registry):
    registry.add(1, TEXT)
    registry.failures = client.TRIES - 1
    assert client.schemas(registry.url, 1) is not None
    registry.add(2, TEXT)
    registry.failures = client.TRIES
    with pytest.raises(ConnectionError, match=r"refuses: 503 Service Unavailable$"):
        client.schemas(registry.url, 2)
    assert client.schemas(registry.url, 2) is not None


def test_a_registry_that_is_not_there(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(client, "PAUSE", 0.0)
    with pytest.raises(
        ConnectionError, match=r"^schema registry http://127.0.0.1:9 does not answer: .*refused"
    ):
        client.schemas("http://127.0.0.1:9", 1)
