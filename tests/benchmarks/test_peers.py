import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.datasets import SHORT, dataset
from benchmarks.marks import marks
from benchmarks.quality import DATA
from streaming_nn.nn import metrics


@pytest.mark.parametrize("name", SHORT)
def test_baselines_are_those_of_the_metrics(name: str) -> None:
    data = dataset(name, Path())
    output = np.zeros((len(data.y), data.classes or 1), np.float32)
    counted = metrics.update(metrics.init(data.classes), data.y, output, output)
    report = metrics.report(counted)["baselines"]
    names = {"last": "last", "majority": "majority" if data.classes else "mean"}
    for who, baseline in names.items():
        answers = peers.run(who, data, 0).prequential
        mean = float(marks(data.y, answers, data.classes).mean())
        figure = report[baseline]["total"]["accuracy" if data.classes else "mae"]
        assert mean == pytest.approx(figure, rel=1e-6)


@pytest.mark.parametrize(
    ("stream", "who", "key"),
    [
        ("phishing", "river linear", "river_lr"),
        ("phishing", "hoeffding tree", "river_ht"),
        ("segment", "river linear", "river_lr"),
        ("chick_weights", "river linear", "river_lin_clip3_lr003"),
        ("water_flow", "river linear", "river_lin_clip3_lr003"),
    ],
)
def test_river_s_figures_are_the_recorded_ones(stream: str, who: str, key: str) -> None:
    pytest.importorskip("river")
    if not (DATA / "index.json").exists():
        pytest.skip("the streams' folder is not here")
    recorded = json.loads((DATA / "index.json").read_text())[stream]["reference"][key]
    data = dataset(stream, DATA)
    mean = float(marks(data.y, peers.run(who, data, 0).prequential, data.classes).mean())
    assert mean == pytest.approx(recorded if data.classes else recorded["mae"], rel=1e-4)


@pytest.mark.parametrize("name", SHORT)
def test_scikit_learn_answers_before_it_learns(name: str) -> None:
    pytest.importorskip("sklearn")
    data = dataset(name, Path())
    turned = data._replace(y=data.y[::-1].copy())
    answers = [peers.run(peers.SKLEARN, each, 0).prequential[:32] for each in (data, turned)]
    assert answers[0].tolist() == answers[1].tolist() == [0] * 32
