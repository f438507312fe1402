"""The server of a job's metrics, if the settings name its address."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streaming_nn.settings import Settings
    from streaming_nn.sinks.prometheus import Server

logger = logging.getLogger(__name__)


@contextmanager
def serving(settings: "Settings") -> Iterator["Server | None"]:
    """Serve in this block at `metrics.prometheus`; None: it is not set. Raise as `Server.start`.

    ValueError: the extra `prometheus` is missing.
    """
    if not settings.metrics.prometheus:
        yield None
        return
    from streaming_nn.sinks.prometheus import Server

    server = Server(settings.metrics.prometheus)
    logger.info("metrics at %s/metrics, health at /livez and /readyz", server.start())
    try:
        yield server
    finally:
        server.close()
