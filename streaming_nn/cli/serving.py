"""What the platform's tools see of a job: the server of its metrics, its position in its topics, traces."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streaming_nn.settings import Settings
    from streaming_nn.sinks.lag import Lag
    from streaming_nn.sinks.prometheus import Server
    from streaming_nn.sinks.traces import Traces

OTLP = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

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


def traces(settings: "Settings", stack: ExitStack) -> "Traces | None":
    """Return what exports traces of micro-batches until the stack is closed; None: no endpoint is set.

    OpenTelemetry's variables name it. What a platform sets for all its programs stops none: a reason why it
    cannot be met is logged.
    """
    if not any(os.environ.get(name) for name in OTLP):
        return None
    try:
        from streaming_nn.sinks.traces import Traces, endpoint, otlp

        if at := endpoint():
            exported = Traces(str(settings.model), otlp())
            stack.callback(exported.close)
            logger.info("traces of micro-batches to %s", at)
            return exported
    except ValueError as error:
        logger.warning("no traces: OTEL_EXPORTER_OTLP_ENDPOINT is set, but they %s", error)
    return None
