"""What several folders of tests share: one broker for the whole session."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from streaming_nn.kafka.broker import Broker


class SessionBroker:
    """The one embedded broker of a test session, and a way to topics that nobody else uses."""

    def __init__(self, broker: Broker):
        self.bootstrap = broker.bootstrap
        self.options = {"bootstrap.servers": broker.bootstrap}
        self._count = itertools.count(1)

    def topic(self, name: str = "topic", partitions: int = 1, config: dict[str, str] | None = None) -> str:
        """Create a topic with a name of its own, `name` and a number, and give that name."""
        from streaming_nn.kafka import topics

        unique = f"{name}-{next(self._count)}"
        topics.create(self.options, unique, partitions, config or {})
        return unique


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionBroker]:
    folder: Path = tmp_path_factory.mktemp("broker")
    with Broker.start(folder) as running:
        yield SessionBroker(running)
