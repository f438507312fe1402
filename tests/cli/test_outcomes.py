"""Outcomes of trials beside each other: which is the best, as tables and as JSON."""

import io
import json
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from streaming_nn.cli.outcomes import Metric, as_json, best, show, tables
from streaming_nn.nn import metrics
from streaming_nn.spark.replay.trials import Outcome

pytestmark = pytest.mark.commit

WINDOW = 30  # of 40 rows
COUNTS = {"received": 40, "trained": 40, "skipped": 0, "rejected": 0, "filtered": 0}


def classification(right: float) -> dict[str, Any]:
    """Return the metrics of a model that predicts the right class with about this probability."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 40)
    p = right + rng.uniform(-0.05, 0.05, 40)[:, None]
    output = np.where(np.eye(2)[y] > 0, p, 1 - p).astype(np.float32)
    return metrics.report(metrics.update(metrics.init(2, WINDOW), y, output, output))


def regression(error: float) -> dict[str, Any]:
    """Return the metrics of a model with about this error."""
    y = np.random.default_rng(0).normal(size=40)
    output = (y * (1 - error / 10) + error).astype(np.float32)[:, None]
    return metrics.report(metrics.update(metrics.init(None, WINDOW), y, output, output))


def outcomes(make: Any, *values: float) -> list[Outcome]:
    return [Outcome(f"trial-{i}", {"seed": i}, None, COUNTS, make(value)) for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("results", "name", "names"),
    [
        (outcomes(classification, 0.6, 0.9, 0.3), "log_loss", ["trial-1"]),
        (outcomes(classification, 0.6, 0.9, 0.3), "accuracy", ["trial-0", "trial-1"]),
        (outcomes(regression, 0.5, 0.1, 2), "rmse", ["trial-1"]),
        (outcomes(regression, 0.5, 0.1, 2), "r2", ["trial-1"]),
        (outcomes(regression, 0.5, 0.1, 2), "nonsense", []),
    ],
)
def test_the_best_is_the_lowest_loss_or_error_and_the_highest_of_others(
    results: list[Outcome], name: str, names: list[str]
) -> None:
    assert best(results, Metric("as_served", "cumulative", name)) == names


def test_a_metric_without_rows_is_never_the_best() -> None:
    empty = Outcome("empty", {}, None, COUNTS, metrics.report(metrics.init(2)))
    full = outcomes(classification, 0.9)
    assert best([empty, *full], Metric("prequential", "window", "accuracy")) == ["trial-0"]
    assert best([empty], Metric("prequential", "window", "accuracy")) == []


@pytest.mark.parametrize("make", [classification, regression])
def test_tables_have_every_metric_and_mark_the_best(make: Any) -> None:
    results = outcomes(make, 0.9, 0.6)
    screen = Console(file=io.StringIO(), width=120)
    for table in tables(results):
        screen.print(table)
    text = screen.file.getvalue()
    for name, value in results[0].metrics["prequential"]["cumulative"].items():
        if name in ("accuracy", "f1_macro", "log_loss", "mae", "rmse", "r2"):
            assert f"{value:.4f}" in text
    assert "*" in text
    for baseline in results[0].metrics["baselines"]:
        assert f"({baseline})" in text
    assert len(tables(results)) == 2
    alone = Console(file=io.StringIO(), width=120)
    alone.print(*tables(results[:1]))
    assert "*" not in alone.file.getvalue(), "a single outcome is not marked"


def test_json_is_the_only_line_of_stdout_and_tables_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    results = outcomes(classification, 0.9, 0.6)
    show(results, True)
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    printed = json.loads(out)
    assert printed == as_json(results)
    assert printed["best"]["prequential.cumulative.log_loss"] == ["trial-0"]
    assert (
        printed["trials"][1]["as_served"]["cumulative"]["accuracy"]
        == results[1].metrics["as_served"]["cumulative"]["accuracy"]
    )
    assert printed["baselines"]["no_change"]["cumulative"]["accuracy"] is not None
    assert "trial-1" in err
    show(results, False)
    assert "trial-1" in capsys.readouterr().out


def test_one_table_is_enough_if_the_window_has_all_rows() -> None:
    y, output = np.array([0, 1, 1]), np.full((3, 2), 0.5, np.float32)
    few = metrics.report(metrics.update(metrics.init(2), y, output, output))
    (table,) = tables([Outcome("few", {}, None, COUNTS, few)])
    assert table.title == "over all rows"
