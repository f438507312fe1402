"""What the platform's tools see of a job: the server of its metrics, and its position in its topics."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streaming_nn.settings import Settings
    from streaming_nn.sinks.lag import Lag
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


def follow(settings: "Settings", position: Callable[[], Any], stack: ExitStack) -> "Lag":
    """Follow a job's position until the stack is closed, and return its lag."""
    from streaming_nn.sinks.position import PositionThread

    thread = PositionThread(settings.kafka, position, settings.metrics.group)
    thread.start()
    stack.callback(thread.stop)
    return thread.lag
