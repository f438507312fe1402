import json
from pathlib import Path

import pytest
from running import run

from benchmarks import averaged, datasets, learners
from streaming_nn.nn.learner import Batch, initial, test_then_train

pytestmark = pytest.mark.commit


@pytest.mark.nightly
def test_the_short_form_prints_its_line(tmp_path: Path) -> None:
    done = run("averaged", "--short", "--data", str(tmp_path))
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert (line["benchmark"], line["tasks"]) == ("averaged", 4)
    for sizes in line["streams"].values():
        for figures in sizes.values():
            assert figures["sequential"].keys() == figures["averaged"].keys() == {"prequential", "as_served"}


def test_one_task_equals_the_loop(tmp_path: Path) -> None:
    stream = datasets.dataset("sea-short", tmp_path)
    learner = learners.learner_for(stream, learners.DEFAULT, 32, 0)
    state = initial(learner)
    for start in range(0, 1000, 100):
        batch = Batch(stream.x[start : start + 100], stream.y[start : start + 100])
        state, _ = test_then_train(learner, state, [batch])
    expected = (state.metrics.cumulative.correct[0].sum() / 1000).round(4)
    assert averaged.score(tmp_path, "sea-short", 100, 1, 32)["prequential"] == expected


@pytest.mark.nightly
def test_an_unknown_stream_is_refused(tmp_path: Path) -> None:
    done = run("averaged", "--streams", "elec3", "--data", str(tmp_path))
    assert done.returncode == 2
    assert "got 'elec3'" in done.stderr
