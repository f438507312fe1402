"""Traces of a job's micro-batches for OpenTelemetry: a span for each, with one for each of its steps.

Where they are exported to, by OTLP over HTTP, is what the variables of OpenTelemetry's own specification set.
"""

import base64
import json
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice

from streaming_nn.versions.version import Manifest

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.trace import Link, Span, get_current_span, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    raise ValueError("needs OpenTelemetry's SDK: pip install 'streaming_nn[opentelemetry]'") from None

SERVICE = "streaming-nn"  # unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES names another one
LINKS = 8  # of a span, to the traces of rejected records
PATIENCE = 5.0  # seconds that the last export may take
HEADERS = {"traceparent", "tracestate"}
PREFIX = "streaming_nn."

logger = logging.getLogger(__name__)


def endpoint() -> str:
    """Return the OTLP endpoint that the environment sets; "": no traces are exported.

    ValueError: the environment requires another exporter or protocol than OTLP over HTTP.
    """
    found = _variable("ENDPOINT")
    if not found or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return ""
    exporter = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if exporter == "none":
        return ""
    protocol = _variable("PROTOCOL") or "http/protobuf"
    if (exporter, protocol) != ("otlp", "http/protobuf"):
        raise ValueError(f"must be exported by otlp, http/protobuf; got {exporter}, {protocol}")
    return found


def _variable(name: str) -> str:
    general = os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "")
    return os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or general


def otlp() -> SpanProcessor:
    """Return what exports spans by OTLP over HTTP, in batches and a thread of its own: nothing waits for it.

    What cannot be exported is dropped.
    """
    return BatchSpanProcessor(_Exporter(OTLPSpanExporter()))


class Traces:
    """Records the spans of a model's finished micro-batches; `processor` exports them, such as `otlp()`."""

    def __init__(self, model: str, processor: SpanProcessor) -> None:
        named = {"service.name": SERVICE, **OTELResourceDetector().detect().attributes}
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("streaming_nn")
        self._model = model

    def record(
        self, manifest: Manifest, steps: Mapping[str, tuple[int, int]], headers: Iterable[str | None]
    ) -> None:
        """Record a trainer's micro-batch: its version, the start and end of its steps, in ns since 1970.

        The steps are in order. `headers` are those of its rejected records, as a dead letter has them; the
        span has links to the traces that they name.
        """
        links = [*islice(_links(headers), LINKS)]
        span = self._start("micro_batch", manifest.number, manifest.counts, steps, links)
        end = [*steps.values()][-1][1]
        for event in manifest.events:
            values = {key: value for key, value in event.items() if isinstance(value, str | int | float)}
            span.add_event(str(event["event"]), values, end)
        self._end(span, steps)

    def record_scored(
        self, version: int, counts: Mapping[str, int], steps: Mapping[str, tuple[int, int]]
    ) -> None:
        """Record a scorer's micro-batch: the version that predicted, its records, and its steps in order."""
        self._end(self._start("score", version, counts, steps), steps)

    def _start(
        self,
        name: str,
        version: int,
        counts: Mapping[str, int],
        steps: Mapping[str, tuple[int, int]],
        links: Sequence[Link] = (),
    ) -> Span:
        """Start a micro-batch's span when its first step began."""
        attributes: dict[str, str | int] = {f"{PREFIX}model": self._model, f"{PREFIX}version": version}
        attributes |= {f"{PREFIX}records.{kind}": number for kind, number in counts.items()}
        began = next(iter(steps.values()))[0]
        return self._tracer.start_span(name, attributes=attributes, links=links, start_time=began)

    def _end(self, span: Span, steps: Mapping[str, tuple[int, int]]) -> None:
        """Record the steps inside a micro-batch's span, and end it with the last one."""
        inside = set_span_in_context(span)
        for step, (start, end) in steps.items():
            self._tracer.start_span(step, inside, start_time=start).end(end)
        span.end([*steps.values()][-1][1])

    def close(self) -> None:
        """Export what is left, for at most 5 seconds."""
        thread = threading.Thread(target=self._provider.shutdown, daemon=True)  # it alone waits up to 30 s
        thread.start()
        thread.join(PATIENCE)


def _links(headers: Iterable[str | None]) -> Iterator[Link]:
    """Yield a link to each trace that these headers name by W3C's rules."""
    propagator, known = TraceContextTextMapPropagator(), set[tuple[int, int]]()
    for text in filter(None, headers):
        carrier = {}
        for header in json.loads(text):
            if header["key"].lower() in HEADERS and header["value"] is not None:
                with suppress(ValueError):  # not UTF-8
                    carrier[header["key"].lower()] = base64.b64decode(header["value"]).decode()
        context = get_current_span(propagator.extract(carrier)).get_span_context()
        if context.is_valid and (key := (context.trace_id, context.span_id)) not in known:
            known.add(key)
            yield Link(context)


class _Exporter(SpanExporter):
    """Logs a line at the start of each outage and one at its end; the SDK logs several per attempt."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failed = False
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failed:
            logger.warning("traces: cannot export them to %s; retrying, the job continues", endpoint())
        elif self._failed and not failed:
            logger.info("traces: resumed")
        self._failed = failed
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
