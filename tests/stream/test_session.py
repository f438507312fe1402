"""The session: what it does to the process that starts it."""

import logging
import sys

import pytest
from py4j.java_gateway import GatewayClient
from pyspark.sql import SparkSession


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
