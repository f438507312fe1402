"""What `/metrics` exports, read by the client's parser and compared with a model directory's manifests."""

import re
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import promtool
import pytest
from logs import filled, learn
from paths import ROOT
from prometheus_client.parser import text_string_to_metric_families
from scraping import Running, get, samples, scrape

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, events, initial, report, test_then_train
from streaming_nn.nn.state_dict import flatten
from streaming_nn.sinks.lag import Lag
from streaming_nn.sinks.prometheus import (
    BOUNDS,
    EVENTS,
    FIGURES,
    OTHER,
    OUTCOMES,
    REASONS,
    Job,
    Scored,
    ScorerMetrics,
    Server,
    TrainerMetrics,
)
from streaming_nn.versions import version
from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

SMALL: dict[str, Any] = {"inputs": 3, "hidden": [4], "window": 50, "mini_batch": 4}
ALERTS = "docs/alerts.yml"
REJECTED = [
    {},
    {"not a number: a": 2, "not a number: b": 1},
    {"label not in classes: 7": 1, "not JSON": 4},
    {},
]


def learned(directory: Path, **options: Any) -> list[Manifest]:
    """Learn four micro-batches into a model directory, and return the versions' manifests."""
    log, learner = VersionLog(directory), learner_from({**SMALL, **options})
    rng = np.random.RandomState(3)
    head, state = log.commit(None, {}, offsets={"t": {0: 0, 1: 0}}), initial(learner)
    for number, rejected in enumerate(REJECTED):
        x = rng.randint(-200, 200, (40, 3)) / 64
        y = (x[:, 0] > 0).astype(np.int32) if learner.classes else x[:, 0]
        before, (state, counts) = state, test_then_train(learner, state, [Batch(x, y)])
        n = sum(rejected.values())
        head = log.commit(
            head,
            flatten(state),
            kind="learned",
            learner=learner.options(),
            counts={**counts._asdict(), "received": 42 + n, "rejected": n, "filtered": 2},
            rejected_by_reason=rejected,
            metrics=report(learner, state),
            events=[*events(learner, before, state), {"event": "drift", "detected": number}],
            offsets={"t": {0: 50 * number + 50, 1: 7}},
            seconds={"learn": 0.004 * 10**number, "dead_letters": 0.0},
        )
    return [log.manifest(number) for number in range(5)]


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    return learned(tmp_path_factory.mktemp("classes"), classes=["a", "b"])


@pytest.fixture(scope="module")
def of_targets(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    return learned(tmp_path_factory.mktemp("targets"))


@pytest.fixture
def server() -> Iterator[Running]:
    with closing(Running()) as running:
        yield running


def sink_after(manifests: list[Manifest], head: int = 0, lag: Lag | None = None) -> TrainerMetrics:
    """Return the sink of a process that began at `head`, and has written what follows."""
    sink = TrainerMetrics(manifests[head], lag, dead_letters=True, max_lag=60.0)
    for manifest in manifests[head + 1 :]:
        sink.write(manifest)
    return sink


def exported(server: Running, job: Job) -> str:
    server.show(job)
    status, text = get(server, "/metrics")
    assert status == 200
    return text


def lag(end: int = 230) -> Lag:
    found = Lag(lambda: {"t": {0: 200, 1: 7}}, lambda topics: {"t": {0: end, 1: 7}})
    found.look()
    return found


def test_the_trainers_values_are_those_of_its_versions(manifests: list[Manifest], server: Running) -> None:
    found = samples(exported(server, sink_after(manifests, lag=lag())))
    for outcome in OUTCOMES:
        assert found["records_total", (outcome,)] == sum(m.counts[outcome] for m in manifests[1:])
    reasons = {key[1][0]: n for key, n in found.items() if key[0] == "rejected_records_total"}
    assert reasons == {"not a number": 3, "label not in classes": 1, "not JSON": 4}
    assert found["dead_letters_total", ()] == sum(reasons.values()) == 8
    happened = [event["event"] for m in manifests for event in m.events if event["event"] != "drift"]
    assert found["events_total", ("drift",)] == 6
    assert found["events_total", ("member restarted",)] == happened.count("member restarted")
    head, window = manifests[-1], manifests[-1].metrics
    assert found["head_version", ()] == 4
    written = datetime.fromisoformat(head.written_at).timestamp()
    assert found["head_version_timestamp_seconds", ()] == written
    assert found["mini_batch_rows", ()] == 4
    for figure in ("accuracy", "f1_macro", "log_loss"):
        for name in ("prequential", "as_served"):
            assert found[FIGURES[figure][0], (name,)] == window[name]["window"][figure]
    for name in ("majority_class", "no_change"):
        assert found["accuracy_ratio", (name,)] == window["baselines"][name]["window"]["accuracy"]
    assert found["lag_offsets", ("0", "t")] == 30
    assert found["lag_offsets", ("1", "t")] == 0
    assert found["lag_seconds", ()] >= 0


def test_durations_are_a_histogram_of_each_step(manifests: list[Manifest], server: Running) -> None:
    found = samples(exported(server, sink_after(manifests)))
    durations = [m.seconds["learn"] for m in manifests[1:]]  # 4 ms, 40 ms, 0.4 s, 4 s
    for bound in BOUNDS[:-1]:
        expected = sum(seconds <= bound for seconds in durations)
        assert found["micro_batch_step_seconds_bucket", (str(bound), "learn")] == expected
    assert found["micro_batch_step_seconds_bucket", ("+Inf", "learn")] == 4
    assert found["micro_batch_step_seconds_count", ("learn",)] == 4
    assert found["micro_batch_step_seconds_sum", ("learn",)] == pytest.approx(sum(durations))
    assert found["micro_batch_step_seconds_count", ("dead_letters",)] == 4


def test_a_regression_has_errors_in_place_of_shares(of_targets: list[Manifest], server: Running) -> None:
    found = samples(exported(server, sink_after(of_targets)))
    metrics = of_targets[-1].metrics
    for figure in ("mae", "rmse", "r2"):
        for name, spans in {**metrics, **metrics["baselines"]}.items():
            if isinstance(spans, dict) and "window" in spans:
                assert found[figure, (name,)] == spans["window"][figure], (figure, name)
    assert not any(name.endswith("_ratio") for name, _ in found)
    assert "lag_seconds" not in {name for name, _ in found}, "without topics there is no lag"


def test_after_a_restart_counters_count_this_process_and_figures_are_the_heads(
    manifests: list[Manifest], server: Running
) -> None:
    sink = sink_after(manifests[:4], head=3)  # it resumed after version 3, and has committed nothing
    assert sink.position() == 3
    before = samples(exported(server, sink))
    assert before["records_total", ("trained",)] == before["events_total", ("drift",)] == 0
    assert before["micro_batch_step_seconds_count", ("learn",)] == 0
    assert before["head_version", ()] == 3
    assert (
        before["accuracy_ratio", ("prequential",)]
        == manifests[3].metrics["prequential"]["window"]["accuracy"]
    )
    sink.write(manifests[4])
    sink.write(manifests[4])  # as after an error of another sink's kind: it is counted once
    after = scrape(server)
    assert after["records_total", ("trained",)] == 40
    assert after["events_total", ("drift",)] == 3
    assert after["head_version", ()] == 4


def test_a_label_has_a_bounded_number_of_values(manifests: list[Manifest], server: Running) -> None:
    many = {f"reason {i}": 1 for i in range(2 * REASONS)}
    counts = {"received": 100, "trained": 0, "skipped": 0, "rejected": 100, "filtered": 0}
    sink = sink_after(manifests[:1])
    sink.write(Manifest(1, counts=counts, rejected_by_reason=many, learner={}, events=[{"event": "unknown"}]))
    found = samples(exported(server, sink))
    reasons = {key[1][0]: n for key, n in found.items() if key[0] == "rejected_records_total"}
    assert len(reasons) == REASONS
    assert reasons[OTHER] == 2 * REASONS - (REASONS - 1)
    assert {key[1][0] for key in found if key[0] == "events_total"} == {*EVENTS}


def test_the_events_are_those_of_versions() -> None:
    table = str(version.__doc__).partition("Events, each")[2]
    described = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert {*described} - {"replayed", "backtest"} == {*EVENTS}


SCORED = Scored(
    None,
    {"predicted": 90, "rejected": 9, "filtered": 1},
    {"not JSON": 2, "not a number: a": 3, "not a number: b": 4},
    {0.1: 50, 1.0: 49, float("inf"): 0},
    12.5,
)


def test_the_scorers_values_are_what_it_counted_and_the_versions(tmp_path: Path, server: Running) -> None:
    log = filled(VersionLog(tmp_path), 3)
    served = log.manifest(1)
    scored = SCORED._replace(served=served)
    found = samples(exported(server, ScorerMetrics(tmp_path, lambda: scored, lag(), 60.0)))
    for outcome, records in scored.records.items():
        assert found["records_total", (outcome,)] == records
    assert found["rejected_records_total", ("not JSON",)] == 2
    assert found["rejected_records_total", ("not a number",)] == 7
    assert found["prediction_latency_seconds_bucket", ("0.1",)] == 50
    assert found["prediction_latency_seconds_bucket", ("1.0",)] == 99
    assert found["prediction_latency_seconds_bucket", ("+Inf",)] == 99
    assert found["prediction_latency_seconds_count", ()] == 99
    assert found["prediction_latency_seconds_sum", ()] == 12.5
    assert (found["served_version", ()], found["head_version", ()]) == (1, 2)
    for name, manifest in (("served", served), ("head", log.manifest(2))):
        written = datetime.fromisoformat(manifest.written_at).timestamp()
        assert found[f"{name}_version_timestamp_seconds", ()] == written
    assert found["lag_offsets", ("0", "t")] == 30
    learn(log)
    assert scrape(server)["head_version", ()] == 3
    log.path(3).write_bytes(b"damaged")
    assert scrape(server)["head_version", ()] == 3, "the job reports the damage"


def test_a_scorer_is_ready_with_a_learned_version_that_keeps_up(tmp_path: Path, server: Running) -> None:
    server.show(ScorerMetrics(tmp_path, lambda: SCORED, lag(end=200), 60.0))
    waiting = (503, "no version has learned anything yet\n")
    assert get(server, "/readyz") == waiting
    learn(log := VersionLog(tmp_path))
    assert get(server, "/readyz") == waiting, "version 0 has learned nothing"
    learn(log)
    assert get(server, "/readyz") == (200, "ready\n")


UNITS = ("ready", "seconds", "ratio", "rows", "offsets", "version", *("log_loss", "mae", "rmse", "r2"))


def check_names(text: str) -> None:
    """Check Prometheus' rules for names, units and types."""
    for family in text_string_to_metric_families(text):
        assert re.fullmatch(r"streaming_nn_[a-z][a-z0-9_]*", family.name)
        assert family.documentation.endswith(".")
        assert len({(s.name, *s.labels.items()) for s in family.samples}) == len(family.samples)
        if family.type == "counter":
            assert {sample.name for sample in family.samples} <= {f"{family.name}_total"}
        else:
            assert not family.name.endswith(("_total", "_count", "_sum", "_bucket"))
            assert family.name.endswith(UNITS), family.name
        assert family.type in ("counter", "gauge", "histogram")


@pytest.fixture
def pages(manifests: list[Manifest], of_targets: list[Manifest], tmp_path: Path) -> list[str]:
    """Return what a trainer with classes, one with targets and a scorer export."""
    filled(VersionLog(tmp_path), 2)
    scored = SCORED._replace(served=manifests[0])
    scorer = ScorerMetrics(tmp_path, lambda: scored, lag(), 60.0)
    texts = []
    for job in (sink_after(manifests, lag=lag()), sink_after(of_targets), scorer):
        with closing(Running()) as server:
            texts.append(exported(server, job))
    return texts


def test_names_and_units_follow_prometheus_rules(pages: list[str]) -> None:
    for text in pages:
        check_names(text)


def test_every_metric_of_the_alerts_is_exported(pages: list[str]) -> None:
    names = {name for text in pages for name in re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)}
    named = set(re.findall(r"streaming_nn_\w+", (ROOT / ALERTS).read_text()))
    assert named <= names
    assert len(named) > 5


@pytest.mark.nightly
@pytest.mark.parametrize("command", [["check", "rules", ALERTS], ["test", "rules", "tests/sinks/alerts.yml"]])
def test_the_alerts_are_those_that_promtool_expects(command: list[str]) -> None:
    tool = promtool.find()
    if tool is None:
        pytest.skip("promtool, of Debian's package prometheus")
    done = subprocess.run([tool, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


@pytest.mark.nightly
def test_promtool_finds_nothing_wrong(pages: list[str]) -> None:
    tool = promtool.find()
    if tool is None:
        pytest.skip("promtool, of Debian's package prometheus")
    check = partial(subprocess.run, [tool, "check", "metrics"], capture_output=True, text=True, check=False)
    for text in pages:
        done = check(input=text)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert check(input=pages[0].replace("dead_letters_total", "dead_letters")).returncode == 3


def test_the_page_of_metrics_names_all_that_are_exported(pages: list[str]) -> None:
    trainers, scorers = (
        (ROOT / "docs" / "metrics.md").read_text().partition("## Prometheus")[2].split("| of `score`")
    )
    for text, described in zip(pages, (trainers, trainers, scorers), strict=True):
        for family in text_string_to_metric_families(text):
            name = family.name.removeprefix("streaming_nn_") + "_total" * (family.type == "counter")
            assert f"`{name}`" in described, name


def test_a_scraper_that_prefers_open_metrics_gets_them(manifests: list[Manifest], server: Running) -> None:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse

    server.show(sink_after(manifests))
    headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
    with urllib.request.urlopen(urllib.request.Request(server.url + "/metrics", headers=headers)) as response:
        names = {family.name for family in parse(response.read().decode())}
    assert "streaming_nn_records" in names


def test_alive_at_once_and_ready_with_a_version_that_keeps_up(
    manifests: list[Manifest], server: Running
) -> None:
    assert get(server, "/livez") == (200, "alive\n")
    assert get(server, "/readyz") == (503, "the job is starting\n")
    assert get(server, "/metrics") == (200, "")
    assert get(server, "/other")[0] == 404
    sink = sink_after(manifests[:1], lag=lag(end=200))
    server.show(sink)
    assert get(server, "/readyz") == (503, "no version has learned anything yet\n")
    sink.write(manifests[1])
    assert get(server, "/readyz") == (200, "ready\n")
    assert scrape(server)["ready", ()] == 1
    sink.lag = lag(end=201)
    reason = "the job has not reached its topics' ends since it started 0 seconds ago"
    assert get(server, "/readyz") == (503, f"{reason}\n")
    assert scrape(server)["ready", ()] == 0
    assert get(server, "/livez") == (200, "alive\n")


def test_a_port_in_use_is_one_line(server: Running) -> None:
    address = server.url.removeprefix("http://")
    with pytest.raises(
        OSError, match=rf"^cannot serve metrics.prometheus at {address}: Address already in use"
    ):
        Server(address).start()


def test_a_closed_server_frees_its_port() -> None:
    running = Running()
    address = running.url.removeprefix("http://")
    running.close()
    with closing(Running(address)):
        pass


@pytest.mark.skipif(not socket.has_ipv6, reason="IPv6")
def test_an_address_of_ipv6_has_brackets() -> None:
    try:
        running = Running("[::1]:0")
    except OSError:
        pytest.skip("no address of IPv6")
    with closing(running):
        assert get(running, "/livez")[0] == 200
