"""What the tests of Avro share: a registry."""

import pytest
from registries import serving


@pytest.fixture
def registry(monkeypatch):
    """A schema registry of the test's own, that waits for nobody between two tries."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("streaming_nn.records.registry.PAUSE", 0.0)
    with serving() as running:
        yield running
