"""The demos' descriptions: every figure exists in a version's metrics, and the drift is where it is said."""

import numpy as np
import pytest

from producers import known
from streaming_nn.log.version import Record
from streaming_nn.nn import metrics
from streaming_nn.nn.learner import Batch, initial, test_then_train
from streaming_nn.nn.learners import learner_from
from streaming_nn.scenes import SCENES, Scene, scene_of
from streaming_nn.settings import load


def records(scene: Scene, versions: int, rows: int = 100) -> list[Record]:
    """Versions of the scene's own learner, each `rows` records of noise later."""
    settings = load("/dev/null", scene.settings)
    inputs, classes = settings.records.inputs, settings.records.classes
    learner = learner_from({"inputs": inputs, "classes": classes, **settings.learner})
    state, rng, found = initial(learner), np.random.default_rng(0), [Record(0, metrics={}, rows={})]
    for number in range(1, versions + 1):
        x = rng.normal(size=(rows, inputs or 0)).astype(np.float32)
        y = rng.integers(0, 10, rows) if classes else rng.normal(size=rows).astype(np.float32)
        state, counted = test_then_train(learner, state, [Batch(x, y)])
        report = metrics.report(state.metrics)
        found.append(Record(number, metrics=report, rows=counted._asdict()))
    return found


@pytest.mark.parametrize("scene", SCENES.values(), ids=list(SCENES))
def test_every_figure_is_in_the_metrics(scene: Scene) -> None:
    run = records(scene, 5)
    watched, told = scene.look(run[-1]), scene.outcome(run, 600)
    assert set(watched) == set(scene.watched)
    assert list(told) == [*scene.told, *scene.before_drift, *scene.at_end]
    assert all(isinstance(value, float) for value in [*watched.values(), *told.values()])
    assert scene.stream in known.STREAMS


def test_what_was_before_the_drift_is_of_a_version_well_before_it() -> None:
    scene, run = SCENES["digits"], records(SCENES["digits"], 8)
    outcome = scene.outcome(run, 650)  # at 350 records: the third version
    assert outcome["accuracy_before_drift"] == run[3].metrics["prequential"]["window"]["accuracy"]
    assert outcome["accuracy_after_recovery"] == run[8].metrics["prequential"]["window"]["accuracy"]
    assert scene.outcome(run, 350)["accuracy_before_drift"] is None  # none had learned so little


def test_the_world_changes_halfway_or_never() -> None:
    digits, machine = SCENES["digits"], SCENES["machine"]
    drift = digits.drift(50, rate=100, seconds=10)
    assert drift == 50 + 450  # a tenth of the rows before it has no label
    assert [digits.world(n, drift) for n in (499, 500)] == list(digits.worlds)
    assert machine.drift(0, rate=20, seconds=60) is None
    assert machine.world(10**9, None) == machine.worlds[0]


def test_a_rate_is_the_scenes_own_unless_asked_for() -> None:
    assert [scene.paced(None) for scene in SCENES.values()] == [1000, 20]
    assert SCENES["machine"].paced(100) == 100


def test_a_stream_without_a_demo_is_one_line() -> None:
    with pytest.raises(ValueError) as raised:
        scene_of("weather")
    assert str(raised.value) == "--stream must be one of digits, machine; got 'weather'"
