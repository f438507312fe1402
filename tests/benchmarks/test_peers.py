import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.datasets import SHORT, dataset
from benchmarks.quality import DATA
from benchmarks.scores import score_rows
from streaming_nn.nn import metrics

pytestmark = pytest.mark.commit


@pytest.mark.parametrize("name", SHORT)
def test_baselines_are_those_of_the_metrics(name: str) -> None:
    data = dataset(name, Path())
    output = np.zeros((len(data.y), data.classes or 1), np.float32)
    counted = metrics.update(metrics.init(data.classes), data.y, output, output)
    report = metrics.report(counted)["baselines"]
    names = {"no-change": "no_change", "majority class": "majority_class" if data.classes else "mean"}
    for peer, baseline in names.items():
        predictions = peers.run(peer, data, 0).prequential
        mean = float(score_rows(data.y, predictions, data.classes).mean())
        figure = report[baseline]["cumulative"]["accuracy" if data.classes else "mae"]
        assert mean == pytest.approx(figure, rel=1e-6)


@pytest.mark.parametrize(
    ("stream", "peer", "key"),
    [
        ("phishing", "river linear", "river_lr"),
        ("phishing", "hoeffding tree", "river_ht"),
        ("segment", "river linear", "river_lr"),
        ("chick_weights", "river linear", "river_lin_clip3_lr003"),
        ("water_flow", "river linear", "river_lin_clip3_lr003"),
    ],
)
def test_river_s_figures_equal_the_recorded_ones(stream: str, peer: str, key: str) -> None:
    pytest.importorskip("river")
    if not (DATA / "index.json").exists():
        pytest.skip("the data directory is missing")
    recorded = json.loads((DATA / "index.json").read_text())[stream]["reference"][key]
    data = dataset(stream, DATA)
    mean = float(score_rows(data.y, peers.run(peer, data, 0).prequential, data.classes).mean())
    assert mean == pytest.approx(recorded if data.classes else recorded["mae"], rel=1e-4)


@pytest.mark.parametrize("name", SHORT)
def test_scikit_learn_predicts_before_it_learns(name: str) -> None:
    pytest.importorskip("sklearn")
    data = dataset(name, Path())
    reversed_ = data._replace(y=data.y[::-1].copy())
    first = [peers.run(peers.SKLEARN, each, 0).prequential[:32] for each in (data, reversed_)]
    assert first[0].tolist() == first[1].tolist() == [0] * 32
