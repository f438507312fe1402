"""A job's traces: in memory by an exporter of OpenTelemetry's SDK, and to a collector that is down."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, format_trace_id
from waiting import until

from streaming_nn.cli.serving import traces as exported
from streaming_nn.sinks import traces as module
from streaming_nn.sinks.traces import Traces, endpoint, otlp
from streaming_nn.versions.version import Manifest

pytestmark = pytest.mark.commit

STEPS = {
    name: (10**9 * i, 10**9 * i + 5) for i, name in enumerate(("plan", "learn", "dead_letters", "commit"), 1)
}
COUNTS = {"received": 7, "trained": 4, "skipped": 0, "rejected": 2, "filtered": 1}
MANIFEST = Manifest(12, counts=COUNTS, events=[{"event": "drift", "detected": 2, "members": [1]}])


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)


def recorded(headers: list[str | None] | None = None, times: int = 1) -> Any:
    exporter = InMemorySpanExporter()
    traces = Traces("model", SimpleSpanProcessor(exporter))
    for _ in range(times):
        traces.record(MANIFEST, STEPS, headers or [])
    return exporter.get_finished_spans()


def header(*values: tuple[str, bytes | None]) -> str:
    return json.dumps(
        [{"key": k, "value": None if v is None else base64.b64encode(v).decode()} for k, v in values]
    )


def test_a_micro_batch_is_a_span_with_a_span_for_each_step() -> None:
    *steps, whole = recorded()
    assert {span.name: (span.start_time, span.end_time) for span in steps} == STEPS
    assert all(span.parent.span_id == whole.context.span_id for span in steps)
    assert (whole.name, whole.start_time, whole.end_time) == ("micro_batch", 10**9, 4 * 10**9 + 5)
    assert whole.parent is None
    assert whole.attributes == {
        "streaming_nn.model": "model",
        "streaming_nn.version": 12,
        **{f"streaming_nn.records.{name}": number for name, number in COUNTS.items()},
    }
    (event,) = whole.events
    assert (event.name, event.attributes) == ("drift", {"event": "drift", "detected": 2})
    assert whole.resource.attributes["service.name"] == "streaming-nn"


def test_a_scorers_micro_batch_is_a_span_with_a_span_for_each_step() -> None:
    exporter = InMemorySpanExporter()
    steps = {name: STEPS[of] for name, of in (("load", "plan"), ("plan", "learn"), ("predict", "commit"))}
    counts = {"predicted": 5, "filtered": 1, "rejected": 0}
    Traces("model", SimpleSpanProcessor(exporter)).record_scored(7, counts, steps)
    *inside, whole = exporter.get_finished_spans()
    assert {span.name: (span.start_time, span.end_time) for span in inside} == steps
    assert all(span.parent.span_id == whole.context.span_id for span in inside)
    assert (whole.name, whole.start_time, whole.end_time) == ("score", 10**9, 4 * 10**9 + 5)
    assert whole.attributes == {
        "streaming_nn.model": "model",
        "streaming_nn.version": 7,
        **{f"streaming_nn.records.{name}": number for name, number in counts.items()},
    }


def test_each_micro_batch_is_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "fraud")
    spans = recorded(times=2)
    assert len({span.context.trace_id for span in spans}) == 2
    assert spans[0].resource.attributes["service.name"] == "fraud"


def test_it_has_links_to_the_traces_of_its_rejected_records() -> None:
    ids = [(f"{i:032x}", f"{i:016x}") for i in range(1, 20)]
    good = [header(("x", b"1"), ("TraceParent", f"00-{t}-{s}-01".encode())) for t, s in ids]
    bad = [
        None,
        "[]",
        header(("traceparent", None)),
        header(("traceparent", b"\xff\xfe")),
        header(("traceparent", b"t" * 1000)),
        header(("traceparent", f"00-{ids[0][0]}-{'0' * 16}-01".encode()), ("tracestate", b"=,\0,==")),
    ]
    *_, whole = recorded([*bad, good[0], good[0], *bad, *good])
    found = [
        (format_trace_id(c.trace_id), format_span_id(c.span_id))
        for c in (link.context for link in whole.links)
    ]
    assert found == ids[: module.LINKS]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ""),
        ({"ENDPOINT": "http://a:1"}, "http://a:1"),
        ({"ENDPOINT": "http://a:1", "TRACES_ENDPOINT": "http://b:2/x"}, "http://b:2/x"),
        ({"ENDPOINT": "http://a:1", "PROTOCOL": "grpc"}, "grpc"),
        ({"ENDPOINT": "http://a:1", "PROTOCOL": "grpc", "TRACES_PROTOCOL": "http/protobuf"}, "http://a:1"),
        ({"ENDPOINT": "http://a:1", "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({"ENDPOINT": "http://a:1", "OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin"),
        ({"ENDPOINT": "http://a:1", "OTEL_SDK_DISABLED": "true"}, ""),
    ],
)
def test_the_environment_sets_the_endpoint(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name if name.startswith("OTEL_") else f"OTEL_EXPORTER_OTLP_{name}", value)
    if expected in ("grpc", "zipkin"):
        with pytest.raises(ValueError, match=f"must be exported by otlp, http/protobuf; got .*{expected}"):
            endpoint()
    else:
        assert endpoint() == expected


class Collector(HTTPServer):
    """A collector of OTLP over HTTP: the names of the spans that it receives."""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.names: list[str] = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Collector)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.server.names += [span.name for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def trace(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traces]:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("no_proxy", "*")
    traces = Traces("model", otlp())
    yield traces
    traces.close()


def test_an_outage_is_logged_once_and_delays_nothing(
    port: int, trace: Traces, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    trace.record(MANIFEST, STEPS, [])
    until(lambda: bool(caplog.messages))
    with Collector(port) as collector:
        threading.Thread(target=collector.serve_forever, args=[0.01], daemon=True).start()
        trace.record(MANIFEST, STEPS, [])
        trace.close()
        collector.shutdown()
        assert collector.names == [*STEPS, "micro_batch"]
    assert caplog.messages == [
        f"traces: cannot export them to http://127.0.0.1:{port}; retrying, the job continues",
        "traces: resumed",
    ]


def test_a_protocol_that_is_not_supported_stops_no_job(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings: Any = SimpleNamespace(model="m")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    for protocol, is_traced in (("grpc", False), ("http/protobuf", True)):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        with ExitStack() as stack:
            assert (exported(settings, stack) is not None) == is_traced
    (message,) = caplog.messages
    assert message.endswith("is set, but they must be exported by otlp, http/protobuf; got otlp, grpc")
