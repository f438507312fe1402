"""Metrics for Prometheus: a job's figures, and whether it is alive and ready, over HTTP.

`/metrics` has what the collectors give at that moment, `/livez` is 200 while the process serves, `/readyz`
is 200 if the job has a version and keeps up, else 503 with the reason in one line.
"""

import socket
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from wsgiref.simple_server import WSGIRequestHandler, make_server

from streaming_nn.errors import DamagedVersionError
from streaming_nn.sinks.lag import Lag
from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import VersionLog

try:
    from prometheus_client import CollectorRegistry, make_wsgi_app
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.exposition import ThreadingWSGIServer
except ImportError:  # a setting that cannot be met, so a ValueError
    needs = "setting metrics.prometheus needs prometheus_client: pip install 'streaming_nn[prometheus]'"
    raise ValueError(needs) from None

PREFIX = "streaming_nn_"
REASONS = 50  # values of the label `reason`; what comes after them is OTHER
OTHER = "other"
OUTCOMES = ("trained", "skipped", "rejected", "filtered")
SCORED = ("predicted", "rejected", "filtered")
UNTRAINED = "no version has learned anything yet"
STEPS = ("learn", "dead_letters")
EVENTS = (  # those of a training job; see versions/version.py
    "drift",
    "member restarted",
    "arithmetic changed",
    "learner changed",
    "schema grown",
    "data loss accepted",
    "topic recreated",
    "topic deleted",
    "rolled back",
    "repaired",
    "damaged",
    "model restarted",
)
# Upper bounds of durations, in seconds
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, float("inf"))
FIGURES = {  # figure of a window: its metric, and what it is
    "accuracy": ("accuracy_ratio", "Share of the window's rows that were predicted right."),
    "subset_accuracy": ("subset_accuracy_ratio", "Share of the window's rows with all labels right."),
    "f1_macro": ("f1_macro_ratio", "Mean F1 over the classes or labels, over the window's rows."),
    "hamming_loss": ("hamming_loss_ratio", "Share of the labels that were wrong, over the window's rows."),
    "log_loss": ("log_loss", "Mean log loss of the window's rows."),
    "mae": ("mae", "Mean absolute error of the window's rows, in the target's unit."),
    "rmse": ("rmse", "Root of the mean squared error of the window's rows, in the target's unit."),
    "r2": ("r2", "Coefficient of determination over the window's rows; negative if the mean is better."),
}
TEXT = ("Content-Type", "text/plain; charset=utf-8")
POLL = 0.1  # seconds that `close` may take


class Job(Protocol):
    """What the server shows: the trainer or the scorer."""

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now."""

    def reason(self) -> str:
        """Return why the job is not ready; empty if it is."""


class Server:
    """Serves a job at `host:port` in threads, from `start` to `close`; before `show` it is not ready."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._registry = CollectorRegistry()
        self._metrics: Any = make_wsgi_app(self._registry)
        self._reason: Callable[[], str] = lambda: "the job is starting"
        self._server: Any = None

    def start(self) -> str:
        """Listen, and return the URL. OSError in one line: the port is in use, the host another machine's."""
        host, _, port = self.address.rpartition(":")
        kind = _IPv6Server if host.startswith("[") else ThreadingWSGIServer
        try:
            self._server = make_server(host.strip("[]"), int(port), self._respond, kind, _QuietHandler)
        except OSError as error:
            why = f"cannot serve metrics.prometheus at {self.address}: {error.strerror or error}"
            raise OSError(f"{why}; set another address") from None
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=[POLL], name="prometheus", daemon=True).start()
        return f"http://{host}:{self._server.server_port}"

    def show(self, job: Job) -> None:
        """Serve a job's metrics and state."""
        self._registry.register(job)
        self._reason = job.reason

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def _respond(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return self._metrics(environ, start_response)  # type: ignore[no-any-return]
        if path == "/livez":
            status, text = "200 OK", "alive"
        elif path == "/readyz":
            reason = self._reason()
            status, text = ("503 Service Unavailable", reason) if reason else ("200 OK", "ready")
        else:
            status, text = "404 Not Found", "there are /metrics, /livez and /readyz"
        start_response(status, [TEXT])
        return [f"{text}\n".encode()]


class _IPv6Server(ThreadingWSGIServer):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: there are several requests per minute."""


class Durations:
    """Durations in seconds, counted by their upper bounds, the last of which is infinite."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(BOUNDS, 0)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[BOUNDS[bisect_left(BOUNDS, seconds)]] += 1
        self.sum += seconds


def add_histogram(
    family: HistogramMetricFamily, labels: Sequence[str], counts: Mapping[float, int], total: float
) -> None:
    """Add a histogram to a family: of counts by upper bound, in its order, and the sum of what is counted."""
    names = ["+Inf" if bound == float("inf") else str(bound) for bound in counts]
    family.add_metric(labels, [*zip(names, accumulate(counts.values()), strict=True)], total)


class Reasons:
    """Records by the reason why they cannot be learned or predicted, without the field that it names."""

    def __init__(self) -> None:
        self.counts = Counter[str]()

    def add(self, reason: str, records: int) -> None:
        """Count records."""
        short = reason.partition(": ")[0]
        known = short in self.counts or len(self.counts) < REASONS - 1
        self.counts[short if known else OTHER] += records


class TrainerMetrics:
    """The sink whose metrics are those of the versions after `head`, and of the newest one.

    Counters begin at 0 in each process. `lag` is None without topics; a job with a larger lag than `max_lag`
    seconds is not ready.
    """

    name = "prometheus"

    def __init__(self, head: Manifest, lag: Lag | None, dead_letters: bool, max_lag: float) -> None:
        self.lag = lag
        self._max_lag, self._dead_letters = max_lag, dead_letters
        self._lock = threading.Lock()
        self._newest = head
        self._records = Counter[str]()
        self._reasons = Reasons()
        self._events = Counter[str]()
        self._seconds = {step: Durations() for step in STEPS}

    def position(self) -> int:
        """Return the number of the newest version that is counted."""
        return self._newest.number

    def write(self, manifest: Manifest) -> None:
        """Count a version."""
        with self._lock:
            if manifest.number <= self._newest.number:
                return
            self._newest = manifest
            self._records.update({name: manifest.counts[name] for name in OUTCOMES})
            for reason, records in manifest.rejected_by_reason.items():
                self._reasons.add(reason, records)
            for event in manifest.events:
                self._events[event["event"]] += event.get("detected", 1)
            for step in manifest.seconds.keys() & self._seconds.keys():
                self._seconds[step].add(manifest.seconds[step])

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def reason(self) -> str:
        """Return why the job is not ready; empty if it is."""
        if self._newest.untrained:
            return UNTRAINED
        return "" if self.lag is None else self.lag.reason(self._max_lag)

    def collect(self) -> Iterator[Metric]:
        """Return the metrics as they are now."""
        with self._lock:
            newest, counted = self._newest, self._counted()
        yield from counted
        yield describe_reason(self.reason())
        yield from describe_version("head_version", "the newest version", newest)
        if rows := newest.learner.get("mini_batch"):
            yield GaugeMetricFamily(f"{PREFIX}mini_batch_rows", "Rows per step of learning.", rows)
        yield from _describe_figures(newest.metrics)
        yield from describe_lag(self.lag)

    def _counted(self) -> list[Metric]:
        reasons = self._reasons.counts
        sent = self._records["rejected"] if self._dead_letters else 0
        help = "Duration of the steps of committed micro-batches."
        steps = HistogramMetricFamily(f"{PREFIX}micro_batch_step_seconds", help, labels=["step"])
        for step, durations in self._seconds.items():
            add_histogram(steps, [step], durations.counts, durations.sum)
        return [
            counter("records", "Records of committed versions.", "outcome", OUTCOMES, self._records),
            counter("rejected_records", "Rejected records by reason.", "reason", reasons, reasons),
            CounterMetricFamily(
                f"{PREFIX}dead_letters", "Records that were sent to the dead-letter topic.", sent
            ),
            counter("events", "Events of committed versions, such as drifts.", "event", EVENTS, self._events),
            steps,
        ]


class Scored(NamedTuple):
    """What a scorer has done in this process."""

    served: Manifest | None  # of the version that predicted last; None: unknown, or none did
    records: Mapping[str, int]  # by outcome: predicted, rejected, filtered
    reasons: Mapping[str, int]  # rejected ones by reason
    latencies: Mapping[float, int]  # predictions by the upper bound of their latency in seconds
    latency: float  # the sum of the latencies


class ScorerMetrics:
    """The metrics of a scorer of a model directory; `scored` returns what it has done.

    Not ready without a version that has learned something, and with a lag above `max_lag` seconds.
    """

    def __init__(self, model: Path, scored: Callable[[], Scored], lag: Lag, max_lag: float) -> None:
        self._log, self._scored, self._lag, self._max_lag = VersionLog(model), scored, lag, max_lag
        self._newest: Manifest | None = None

    def newest(self) -> Manifest | None:
        """Return the head's manifest; that of an earlier one if it cannot be read, which the job reports."""
        with suppress(DamagedVersionError, LookupError, OSError):
            number = self._log.head_number()
            if number is not None and (self._newest is None or number != self._newest.number):
                self._newest = self._log.manifest(number)
        return self._newest

    def reason(self) -> str:
        """Return why the job is not ready; empty if it is."""
        newest = self.newest()
        return UNTRAINED if newest is None or newest.untrained else self._lag.reason(self._max_lag)

    def collect(self) -> Iterator[Metric]:
        """Return the metrics as they are now."""
        newest = self.newest()
        yield from _describe_scored(self._scored())
        yield describe_reason(self.reason())
        if newest is not None:
            yield from describe_version("head_version", "the newest version", newest)
        yield from describe_lag(self._lag)


def _describe_scored(scored: Scored) -> Iterator[Metric]:
    reasons = Reasons()
    for reason, records in scored.reasons.items():
        reasons.add(reason, records)
    yield counter("records", "Records of finished micro-batches.", "outcome", SCORED, scored.records)
    yield counter(
        "rejected_records", "Records without a prediction.", "reason", reasons.counts, reasons.counts
    )
    help = "Time from a record's timestamp to its prediction."
    latency = HistogramMetricFamily(f"{PREFIX}prediction_latency_seconds", help)
    add_histogram(latency, [], scored.latencies, scored.latency)
    yield latency
    if scored.served is not None:
        yield from describe_version("served_version", "the version that predicted last", scored.served)


def counter(name: str, help: str, label: str, values: Iterable[str], counts: Mapping[str, int]) -> Metric:
    """Return a counter with a label, of which each of these values has a sample."""
    family = CounterMetricFamily(PREFIX + name, help, labels=[label])
    for value in values:
        family.add_metric([value], counts.get(value, 0))
    return family


def describe_reason(reason: str) -> Metric:
    """Return whether the job is ready, as `/readyz` does."""
    help = "Whether the job has a version and keeps up: 1, or 0."
    return GaugeMetricFamily(f"{PREFIX}ready", help, 0 if reason else 1)


def describe_version(name: str, what: str, manifest: Manifest) -> Iterator[Metric]:
    """Return the number of a version, and when it was written."""
    yield GaugeMetricFamily(PREFIX + name, f"Number of {what}.", manifest.number)
    if (at := manifest.time) is not None:
        yield GaugeMetricFamily(f"{PREFIX}{name}_timestamp_seconds", f"When {what} was written.", at)


def _describe_figures(metrics: dict[str, Any]) -> Iterator[Metric]:
    """Return the window's figures: of both kinds of predictions, and of the baselines."""
    measured = {name: metrics.get(name, {}) for name in ("prequential", "as_served")}
    spans = measured | metrics.get("baselines", {})
    windows = {name: each.get("window", {}) for name, each in spans.items()}
    for figure, (name, help) in FIGURES.items():
        family = GaugeMetricFamily(PREFIX + name, help, labels=["predictions"])
        for predictions, window in windows.items():
            if window.get(figure) is not None:
                family.add_metric([predictions], window[figure])
        if family.samples:
            yield family


def describe_lag(lag: Lag | None) -> Iterator[Metric]:
    """Return the lag in offsets and in seconds."""
    if lag is None:
        return
    help = "Offsets of a partition that are not processed yet."
    family = GaugeMetricFamily(f"{PREFIX}lag_offsets", help, labels=["topic", "partition"])
    for topic, partitions in lag.offsets().items():
        for partition, offsets in partitions.items():
            family.add_metric([topic, str(partition)], offsets)
    yield family
    help = "How long ago the topics ended where the job is now; up to a few seconds if it keeps up."
    yield GaugeMetricFamily(f"{PREFIX}lag_seconds", help, lag.seconds())
