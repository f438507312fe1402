"""What a notebook shows of a log and of a version: well-formed, escaped, and drawn to scale."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from logs import filled, learn

from streaming_nn.estimators.river import RiverClassifier
from streaming_nn.estimators.sklearn import OnlineClassifier
from streaming_nn.nn.learner import report
from streaming_nn.versions.notebook import BAR, HEIGHT, MARGIN, POINTS, WIDTH
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit


def parse(shown: Any) -> ElementTree.Element:
    """Return the HTML as a tree; the parser of XML refuses what is not escaped or closed."""
    return ElementTree.fromstring(f"<div>{shown._repr_html_()}</div>")


def cells(shown: Any) -> dict[str, str]:
    rows = [["".join(cell.itertext()) for cell in row] for row in parse(shown).iter("tr")]
    return dict(rows)


def measured(accuracy: float | None) -> dict[str, Any]:
    return {
        "prequential": {"window": {"accuracy": accuracy}},
        "as_served": {"window": {"accuracy": 0.25}},
        "baselines": {"no_change": {"window": {"accuracy": 0.5}}},
    }


def test_the_chart_has_each_value_at_its_height(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 1)
    for value in (0.0, 0.5, None, 1.0):
        learn(log, metrics=measured(value))
    tree = parse(log)
    image = next(each for each in tree.iter("svg") if each.get("role") == "img")
    prequential = [line.get("points") for line in image.iter("polyline") if not line.get("stroke-dasharray")]
    middle, low = HEIGHT / 2, HEIGHT - MARGIN
    assert prequential == [
        f"{WIDTH / 4:.1f},{low:.1f} {WIDTH / 2:.1f},{middle:.1f}",
        f"{WIDTH:.1f},{MARGIN:.1f}",
    ]
    label = "accuracy in the window, versions 0 to 4: prequential 1, as_served 0.25, no_change 0.5"
    assert image.get("aria-label") == label
    assert cells(log)["versions"] == "5, 5 kept"
    assert cells(log)["newest"] == "4, learned"


def test_a_long_log_has_a_bounded_chart(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path), 1)
    for _ in range(POINTS + 20):
        learn(log, metrics=measured(0.5))
    line = next(parse(log).iter("polyline")).get("points")
    assert line is not None
    assert POINTS // 2 <= len(line.split()) <= POINTS
    assert line.split()[-1].startswith(f"{WIDTH:.1f},"), "the newest version is drawn"


def test_text_from_records_is_escaped(tmp_path: Path) -> None:
    log = filled(VersionLog(tmp_path / "<script>&"), 1)
    version = learn(
        log,
        rejected_by_reason={"<b>": 2},
        events=[{"event": '"><script>'}],
        metrics=measured(0.75),
        learner={"learner": "<i>"},
    )
    found = cells(version)
    assert found["rejected"] == "<b> 2"
    assert found["event"] == '"><script>'
    assert found["learner"] == "<i>"
    assert found["prequential, accuracy"] == "0.75"
    assert cells(log)["directory"].endswith("<script>&")


def test_a_log_without_versions_or_with_damaged_ones_is_shown(tmp_path: Path) -> None:
    assert cells(VersionLog(tmp_path))["versions"] == "0, 0 kept"
    log = filled(VersionLog(tmp_path), 3)
    log.path(2).write_bytes(b"")
    assert cells(log)["newest"] == "1, learned"


@pytest.mark.parametrize("kind", [OnlineClassifier, RiverClassifier])
def test_a_model_shows_its_metrics_and_the_weights_of_its_members(kind: Any) -> None:
    model = kind()
    assert cells(model)["rows"] == "0"
    x = np.random.default_rng(0).normal(size=(200, 2))
    y = (x[:, 0] > 0).astype(int)
    if kind is OnlineClassifier:
        model.partial_fit(x, y, classes=[0, 1])
    else:
        model.learn_many(pd.DataFrame(x, columns=["a", "b"]), pd.Series(y))
    figures = report(model._model.learner, model._model.state)
    shown = cells(model)
    assert shown["rows"] == "200"
    assert shown["prequential, accuracy"] == f"{figures['prequential']['window']['accuracy']:.4g}"
    weights = {name: text.strip() for name, text in shown.items() if name.startswith(("sgd", "adam"))}
    assert weights == {each["member"]: f"{each['weight']:.1%}" for each in figures["members"]}
    bars = [float(bar.get("width", 0)) for bar in parse(model).iter("rect")]
    assert bars == [round(BAR * each["weight"], 1) for each in figures["members"]]


def test_a_plot_has_the_values_of_the_versions_and_the_events(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    log = filled(VersionLog(tmp_path), 1)
    for value in (0.25, None, 1.0):
        learn(log, metrics=measured(value))
    learn(log, metrics=measured(0.75), events=[{"event": "drift", "detected": 1}])
    axes = log.plot()
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    prequential = [None if value != value else value for value in lines["prequential"]]
    assert prequential == [None, 0.25, None, 1.0, 0.75]
    assert list(lines["as served"])[1:] == [0.25] * 4
    assert [line.get_xdata()[0] for line in axes.get_lines() if line.get_linestyle() == ":"] == [4]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("version", "accuracy, window")
    assert log.plot("accuracy", ax=axes) is axes
    with pytest.raises(ValueError, match="metric must be one of the window's, accuracy; got 'loss'"):
        log.plot("loss")
    with pytest.raises(ValueError, match="no version has a metric to plot yet"):
        VersionLog(tmp_path / "none").plot()
    matplotlib.pyplot.close("all")
