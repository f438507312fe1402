import io
import json
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from streaming_nn.nn import metrics
from streaming_nn.spark.replay.report import Metric, as_json, best, show, tables
from streaming_nn.spark.replay.trials import Outcome

pytestmark = pytest.mark.commit

WINDOW = 30  # of 40 rows
ROWS = {"received": 40, "trained": 40, "skipped": 0, "rejected": 0}


def of_classes(right: float) -> dict[str, Any]:
    """The metrics of a model that gives the right class about this probability."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 40)
    p = right + rng.uniform(-0.05, 0.05, 40)[:, None]
    output = np.where(np.eye(2)[y] > 0, p, 1 - p).astype(np.float32)
    return metrics.report(metrics.update(metrics.init(2, WINDOW), y, output, output))


def of_targets(off: float) -> dict[str, Any]:
    y = np.random.default_rng(0).normal(size=40)
    output = (y * (1 - off / 10) + off).astype(np.float32)[:, None]
    return metrics.report(metrics.update(metrics.init(None, WINDOW), y, output, output))


def outcomes(make: Any, *values: float) -> list[Outcome]:
    return [Outcome(f"try-{i}", {"seed": i}, None, ROWS, make(value)) for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("found", "name", "names"),
    [
        (outcomes(of_classes, 0.6, 0.9, 0.3), "log_loss", ["try-1"]),
        (outcomes(of_classes, 0.6, 0.9, 0.3), "accuracy", ["try-0", "try-1"]),
        (outcomes(of_targets, 0.5, 0.1, 2), "rmse", ["try-1"]),
        (outcomes(of_targets, 0.5, 0.1, 2), "r2", ["try-1"]),
        (outcomes(of_targets, 0.5, 0.1, 2), "nonsense", []),
    ],
)
def test_the_best_is_the_least_of_losses_and_the_most_of_the_others(
    found: list[Outcome], name: str, names: list[str]
) -> None:
    assert best(found, Metric("as_served", "cumulative", name)) == names


def test_what_no_row_has_made_is_never_the_best() -> None:
    empty = Outcome("empty", {}, None, ROWS, metrics.report(metrics.init(2)))
    full = outcomes(of_classes, 0.9)
    assert best([empty, *full], Metric("prequential", "window", "accuracy")) == ["try-0"]
    assert best([empty], Metric("prequential", "window", "accuracy")) == []


@pytest.mark.parametrize("make", [of_classes, of_targets])
def test_the_tables_hold_every_figure_and_mark_the_best(make: Any) -> None:
    found = outcomes(make, 0.9, 0.6)
    screen = Console(file=io.StringIO(), width=120)
    for table in tables(found):
        screen.print(table)
    text = screen.file.getvalue()
    for name, value in found[0].metrics["prequential"]["cumulative"].items():
        if name in ("accuracy", "f1_macro", "log_loss", "mae", "rmse", "r2"):
            assert f"{value:.4f}" in text
    assert "*" in text
    for baseline in found[0].metrics["baselines"]:
        assert f"({baseline})" in text
    assert len(tables(found)) == 2
    alone = Console(file=io.StringIO(), width=120)
    alone.print(*tables(found[:1]))
    assert "*" not in alone.file.getvalue(), "one alone is not the best of anything"


def test_json_is_the_last_line_and_the_tables_are_aside(capsys: pytest.CaptureFixture[str]) -> None:
    found = outcomes(of_classes, 0.9, 0.6)
    show(found, True)
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    said = json.loads(out)
    assert said == as_json(found)
    assert said["best"]["prequential.cumulative.log_loss"] == ["try-0"]
    assert (
        said["trials"][1]["as_served"]["cumulative"]["accuracy"]
        == found[1].metrics["as_served"]["cumulative"]["accuracy"]
    )
    assert said["baselines"]["no_change"]["cumulative"]["accuracy"] is not None
    assert "try-1" in err
    show(found, False)
    assert "try-1" in capsys.readouterr().out


def test_one_table_is_enough_if_the_window_holds_all_rows() -> None:
    y, output = np.array([0, 1, 1]), np.full((3, 2), 0.5, np.float32)
    few = metrics.report(metrics.update(metrics.init(2), y, output, output))
    (table,) = tables([Outcome("few", {}, None, ROWS, few)])
    assert table.title == "over all rows"
