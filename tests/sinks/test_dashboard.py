"""docs/dashboard.json without Grafana: its layout, and that each expression fits what jobs export."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import promtool
import pytest
import yaml
from logs import filled
from paths import ROOT
from prometheus_client.core import Metric

from streaming_nn.sinks.lag import Lag
from streaming_nn.sinks.prometheus import FIGURES, PREFIX, SCORED, Scored, ScorerMetrics, TrainerMetrics
from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

TEXT = (ROOT / "docs" / "dashboard.json").read_text()
DASHBOARD: dict[str, Any] = json.loads(TEXT)
COLUMNS = 24
SCRAPED = {"job", "instance"}  # labels that Prometheus adds to every sample
VARIABLES = {"$job": ".*", "$instance": ".*", "$__rate_interval": "1m"}


def flat() -> list[dict[str, Any]]:
    """Return the panels, and after a row that is collapsed those in it."""
    return [each for panel in DASHBOARD["panels"] for each in (panel, *panel.get("panels", ()))]


class Query(NamedTuple):
    """An expression, and what names its series."""

    where: str
    expr: str
    legend: str


def queries() -> Iterator[Query]:
    for panel in flat():
        for target in panel.get("targets", ()):
            yield Query(panel["title"], target["expr"], target["legendFormat"])
    for mark in DASHBOARD["annotations"]["list"]:
        yield Query(mark["name"], mark["target"]["expr"], mark["titleFormat"] + mark["textFormat"])
    for variable in DASHBOARD["templating"]["list"]:
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
        assert found is not None
        assert variable["query"]["query"] == variable["definition"]
        yield Query(variable["name"], found[1], f"{{{{{found[2]}}}}}")


class Exported(NamedTuple):
    """A name that an expression may have."""

    family: str
    counts: bool  # it only grows, but for restarts
    labels: set[str]
    values: dict[str, set[str]]  # of each label


def add(found: dict[str, Exported], family: Metric) -> None:
    for sample in family.samples:
        counts = sample.name.endswith(("_total", "_bucket", "_count", "_sum"))
        each = found.setdefault(sample.name, Exported(family.name, counts, set(), {}))
        each.labels.update(sample.labels)
        for label, value in sample.labels.items():
            each.values.setdefault(label, set()).add(value)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """Return what trainers of every kind, and scorers, export."""
    found: dict[str, Exported] = {}
    lag = Lag(lambda: {"t": {0: 1}}, lambda topics: {"t": {0: 2}})
    lag.look()
    window = {"window": dict.fromkeys(FIGURES, 0.5)}
    metrics = {"prequential": window, "as_served": window}
    metrics["baselines"] = dict.fromkeys(("majority_class", "mean", "no_change"), window)
    counts = {"received": 1, "trained": 0, "skipped": 0, "rejected": 1, "filtered": 0}
    written = Manifest(
        1,
        counts=counts,
        rejected_by_reason={"not JSON": 1},
        metrics=metrics,
        learner={"mini_batch": 4},
        written_at="2026-11-30T00:00:00+00:00",
    )
    trainer = TrainerMetrics(Manifest(0), lag, dead_letters=True, max_lag=60.0)
    trainer.write(written)
    model = tmp_path_factory.mktemp("model")
    filled(VersionLog(model), 2)
    scored = Scored(written, dict.fromkeys(SCORED, 1), {"not JSON": 1}, {1.0: 1, float("inf"): 0}, 0.5)
    for job in (trainer, ScorerMetrics(model, lambda: scored, lag, 60.0)):
        for family in job.collect():
            add(found, family)
    return found


def bare(expr: str) -> str:
    """Return the expression as Prometheus gets it, with values in place of Grafana's variables."""
    for variable, value in VARIABLES.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr, expr
    return expr


def faults(query: Query, exported: dict[str, Exported]) -> Iterator[str]:
    """Yield what does not fit the metrics: names, labels, and rates, which are of counters alone."""
    expr, known = bare(query.expr), set(SCRAPED)
    selector = rf"(\w+\()?({PREFIX}\w+)({{[^}}]*}})?(\[\w+\])?"
    for function, name, matchers, span in re.findall(selector, expr):
        if name not in exported:
            yield f"{name} is not exported"
            continue
        metric = exported[name]
        known |= metric.labels
        if metric.counts != (function in ("rate(", "increase(")) or metric.counts != bool(span):
            yield f"{name} needs {'a rate' if metric.counts else 'no rate'}"
        if name.endswith("_bucket") and not expr.startswith("histogram_quantile("):
            yield f"{name} needs histogram_quantile"
        for label, operator, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', matchers):
            if label in SCRAPED:
                continue
            values = set(value.split("|") if operator == "=~" else [value])
            if not values <= metric.values.get(label, set()):
                yield f"{name} has no {label} {values}"
    if "histogram_quantile(" in expr:
        if "le" not in known or "_bucket" not in expr:
            yield "histogram_quantile needs buckets"
        yield from (f"{by} loses le" for by in re.findall(r"\bby ?\([^)]*\)", expr) if "le" not in by)
    named = re.findall(r"{{(\w+)}}", query.legend)
    grouped = re.findall(r"(?:by|without|on|ignoring) ?\(([^)]*)\)", expr)
    for label in {*named, *(label for each in grouped for label in each.split(", "))} - known:
        yield f"no metric of it has {label}"


def cells(panels: list[dict[str, Any]]) -> Counter[tuple[int, int]]:
    """Return how many of the panels cover each cell of the grid."""
    taken: Counter[tuple[int, int]] = Counter()
    for panel in panels:
        x, y, w, h = (panel["gridPos"][key] for key in "xywh")
        assert min(x, y) >= 0 < min(w, h)
        assert x + w <= COLUMNS
        taken.update((i, j) for i in range(x, x + w) for j in range(y, y + h))
    return taken


def test_panels_have_their_own_ids_and_room() -> None:
    assert set(Counter(panel["id"] for panel in flat()).values()) == {1}
    assert set(cells(DASHBOARD["panels"]).values()) == {1}
    starts = [panel["gridPos"]["y"] for panel in DASHBOARD["panels"]]
    assert starts == sorted(starts)
    for row in DASHBOARD["panels"]:
        inside = cells(row.get("panels", []))
        assert bool(inside) == row.get("collapsed", False)
        assert set(inside.values()) <= {1}
        assert all(j > row["gridPos"]["y"] for _, j in inside)
    assert {panel["type"] for panel in flat()} == {"row", "stat", "timeseries"}


def test_every_panel_has_a_unit_and_the_data_source_of_the_dashboard() -> None:
    (source,) = {json.dumps(each["datasource"]) for each in flat() if each["type"] != "row"}
    assert json.loads(source)["type"] == "prometheus"
    assert TEXT.count('"datasource": ' + source) == TEXT.count('"datasource":')
    for panel in flat():
        if panel["type"] != "row":
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert [t["refId"] for t in panel["targets"]] == ["A", "B", "C"][: len(panel["targets"])]


def test_each_expression_fits_what_is_exported(exported: dict[str, Exported]) -> None:
    assert [(q.where, fault) for q in queries() for fault in faults(q, exported)] == []


@pytest.mark.parametrize(
    ("expr", "legend", "fault"),
    [
        ("streaming_nn_imagined", "", "streaming_nn_imagined is not exported"),
        ("streaming_nn_dead_letters_total", "", "streaming_nn_dead_letters_total needs a rate"),
        ("rate(streaming_nn_ready[1m])", "", "streaming_nn_ready needs no rate"),
        ('streaming_nn_mae{predictions="last"}', "", "streaming_nn_mae has no predictions {'last'}"),
        ("streaming_nn_mae", "{{outcome}}", "no metric of it has outcome"),
        (
            "histogram_quantile(0.5, sum by (job)(rate(streaming_nn_prediction_latency_seconds_bucket[1m])))",
            "",
            "by (job) loses le",
        ),
        ("histogram_quantile(0.5, streaming_nn_ready)", "", "histogram_quantile needs buckets"),
        (
            "rate(streaming_nn_prediction_latency_seconds_bucket[1m])",
            "",
            "streaming_nn_prediction_latency_seconds_bucket needs histogram_quantile",
        ),
    ],
)
def test_what_does_not_fit_is_found(
    exported: dict[str, Exported], expr: str, legend: str, fault: str
) -> None:
    assert [*faults(Query("", expr, legend), exported)] == [fault]


def test_everything_that_is_exported_is_shown(exported: dict[str, Exported]) -> None:
    shown = {
        exported[name].family
        for panel in flat()
        for target in panel.get("targets", ())
        for name in re.findall(rf"{PREFIX}\w+", target["expr"])
    }
    families = {metric.family for metric in exported.values()}
    assert families == shown
    assert len(families) > 15


def test_each_variable_narrows_every_panel() -> None:
    names = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert set(names) == SCRAPED
    for panel in flat():
        for target in panel.get("targets", ()):
            selectors = re.findall(rf"{PREFIX}\w+({{[^}}]*}})?", target["expr"])
            assert all(f'{name}=~"${name}"' in each for each in selectors for name in names)


@pytest.mark.nightly
def test_promtool_parses_each_expression(tmp_path: Path) -> None:
    tool = promtool.find()
    if tool is None:
        pytest.skip("promtool, of Debian's package prometheus")
    rules = [{"record": f"query{number}", "expr": bare(query.expr)} for number, query in enumerate(queries())]
    path = tmp_path / "rules.yml"

    def check() -> int:
        path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
        done = subprocess.run([tool, "check", "rules", path], capture_output=True, text=True, check=False)
        print(done.stdout, done.stderr)
        return done.returncode

    assert check() == 0
    rules[0]["expr"] += ")"
    assert check() != 0
