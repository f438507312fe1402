"""`metrics.prometheus` of a command: its mistakes are one line, before anything else is opened. No JVM."""

import socket
import sys
from collections import Counter
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from streaming_nn.cli import app, score
from streaming_nn.versions.version import Manifest, Version

pytestmark = pytest.mark.commit

NOWHERE = ["train", "--bootstrap", "127.0.0.1:9"]


def test_a_port_in_use_ends_the_command_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert app.run([*NOWHERE, "--set", f"metrics.prometheus={address}"]) == 1  # a restart may succeed
    line = f"streaming-nn: cannot serve metrics.prometheus at {address}: Address already in use"
    assert capsys.readouterr().err == f"{line}; set another address\n"


def test_a_missing_package_is_one_line_with_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "streaming_nn.sinks.prometheus", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert app.run([*NOWHERE, "--set", "metrics.prometheus=127.0.0.1:0"]) == 2
    needs = "setting metrics.prometheus needs prometheus_client: pip install 'streaming_nn[prometheus]'"
    assert capsys.readouterr().err == f"streaming-nn: {needs}\n"


def test_a_scorers_outcomes_are_divided_by_what_became_of_a_record() -> None:
    outcomes = Counter({"": 5, "filtered": 2, "not JSON": 1, "wrong width: x": 3})
    scorer = SimpleNamespace(
        outcomes=outcomes,
        latencies=Counter({"0.025": 4, "inf": 5, "sum": 700_001}),
        version=Version(Manifest(7), {}),
        versions=(6, 7),
    )
    scored = score._for_prometheus(scorer)
    assert scored.records == {"predicted": 5, "filtered": 2, "rejected": 4}
    assert scored.reasons == {"not JSON": 1, "wrong width: x": 3}
    assert {bound: n for bound, n in scored.latencies.items() if n} == {0.025: 4, float("inf"): 5}
    assert scored.latency == 700.001
    assert scored.served is scorer.version.manifest
    assert score._summary(scorer) == {
        "predicted": 5,
        "filtered": 2,
        "rejected": 4,
        "rejected_by_reason": {"not JSON": 1, "wrong width: x": 3},
        "mean_latency": 700.001 / 9,
        "versions": [6, 7],
    }
    scorer.versions = None  # it has predicted nothing yet
    assert score._for_prometheus(scorer).served is None


@pytest.mark.parametrize("engine", ["batch", "realtime"])
def test_a_scorer_of_micro_batches_is_traced(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    settings = SimpleNamespace(
        model="m", score=SimpleNamespace(engine=engine), metrics=SimpleNamespace(group=None)
    )
    scorer = SimpleNamespace(settings=settings, counts_latencies=False, traced=None)
    with ExitStack() as stack:
        score._show(None, scorer, stack, as_json=False)
        assert (scorer.traced is not None) == (engine == "batch")
