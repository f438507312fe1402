"""What several folders of tests share: one broker for the whole session."""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import compiled_core
import hypothesis
import pytest
import tiers
from registries import Registry, serving

from streaming_nn.kafka import admin
from streaming_nn.kafka.broker import Broker

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def pytest_addoption(parser: pytest.Parser) -> None:
    tiers.add_options(parser)


@pytest.hookimpl(tryfirst=True)  # before xdist's, which starts as many
def pytest_cmdline_main(config: pytest.Config) -> None:
    tiers.use_cores(config)


def pytest_configure(config: pytest.Config) -> None:
    tiers.configure(config)
    compiled_core.refresh()
    hypothesis.settings.register_profile("busy", deadline=None)  # the machine may run other tests beside
    hypothesis.settings.load_profile("busy")


class SessionBroker:
    """The one embedded broker of a test session, and a way to topics that nobody else uses."""

    def __init__(self, running: Broker):
        self.bootstrap = running.bootstrap
        self.options = {"bootstrap.servers": running.bootstrap}
        self._numbers = itertools.count(1)

    def topic(self, name: str = "topic", partitions: int = 1, config: dict[str, str] | None = None) -> str:
        """Create a topic that is called `name` and a number, and give that name."""
        unique = f"{name}-{next(self._numbers)}"
        admin.create(self.options, unique, partitions, config)
        return unique


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionBroker]:
    with Broker.start(tmp_path_factory.mktemp("broker")) as running:
        yield SessionBroker(running)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A schema registry for the test, that does not wait between two attempts."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("streaming_nn.records.registry.PAUSE", 0.0)
    with serving() as running:
        yield running


@pytest.fixture(scope="session")
def spark() -> Iterator["SparkSession"]:
    from streaming_nn.spark.session import session  # a test without Spark must not wait for it

    running = session({"spark.master": "local[2]"})
    yield running
    running.stop()
