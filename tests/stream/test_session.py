"""The session: what it does to the process that starts it."""

import logging
import re
import sys

import pytest
from py4j.java_gateway import GatewayClient
from pyspark.sql import SparkSession

from streaming_nn.records import registry
from streaming_nn.stream.session import _ours


class Cut:
    """A connection at which Ctrl-C comes in."""

    socket = None

    def send_command(self, command: str) -> str:
        raise KeyboardInterrupt

    def close(self, *_: object) -> None:
        pass


@pytest.mark.usefixtures("spark")
def test_ctrl_c_shows_no_page_of_the_client(caplog: pytest.LogCaptureFixture) -> None:
    """py4j logs it with a traceback, by the root logger; other errors there stay."""
    client = GatewayClient.__new__(GatewayClient)
    client._get_connection = Cut  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        client.send_command("c")
    assert caplog.records == []
    try:
        raise ValueError("ours")
    except ValueError:
        logging.exception("something else")
    assert [record.msg for record in caplog.records] == ["something else"]


def test_workers_are_this_python(spark: SparkSession) -> None:
    found = spark.sparkContext.parallelize([0], 1).map(lambda _: sys.executable).collect()
    assert found == [sys.executable]


def test_executors_are_told_who_asks_a_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(registry.USER, "me")
    monkeypatch.setenv(registry.PASSWORD, "s3cret")
    options = _ours()
    assert options["spark.executorEnv.STREAMING_NN_REGISTRY_USER"] == "me"
    key = "spark.executorEnv.STREAMING_NN_REGISTRY_PASSWORD"
    assert options[key] == "s3cret"
    assert re.search(options["spark.redaction.regex"], key)  # Spark shows what it hides nowhere
    monkeypatch.delenv(registry.PASSWORD)
    assert key not in _ours()
