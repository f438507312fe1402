"""The demos' descriptions: every figure exists in a version's metrics, and the drift is where it is said."""

import numpy as np
import pytest

from producers import known
from streaming_nn.demo.scenarios import SCENARIOS, Scenario, scenario_of
from streaming_nn.nn import metrics
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, initial, test_then_train
from streaming_nn.settings import load
from streaming_nn.versions.version import Manifest


def records(scenario: Scenario, versions: int, rows: int = 100) -> list[Manifest]:
    """Versions of the scenario's own learner, each `rows` records of noise later."""
    settings = load("/dev/null", scenario.settings)
    inputs, classes = settings.records.inputs, settings.records.classes
    learner = learner_from({"inputs": inputs, "classes": classes, **settings.learner})
    state, rng, found = initial(learner), np.random.default_rng(0), [Manifest(0, metrics={}, counts={})]
    for number in range(1, versions + 1):
        x = rng.normal(size=(rows, inputs or 0)).astype(np.float32)
        y = rng.integers(0, 10, rows) if classes else rng.normal(size=rows).astype(np.float32)
        state, counted = test_then_train(learner, state, [Batch(x, y)])
        report = metrics.report(state.metrics)
        found.append(Manifest(number, metrics=report, counts=counted._asdict()))
    return found


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_every_figure_is_in_the_metrics(scenario: Scenario) -> None:
    run = records(scenario, 5)
    watched, told = scenario.look(run[-1]), scenario.outcome(run, 600)
    assert set(watched) == set(scenario.watched)
    assert list(told) == [*scenario.told, *scenario.before_drift, *scenario.at_end]
    assert all(isinstance(value, float) for value in [*watched.values(), *told.values()])
    assert scenario.stream in known.STREAMS


def test_what_was_before_the_drift_is_of_a_version_well_before_it() -> None:
    scenario, run = SCENARIOS["digits"], records(SCENARIOS["digits"], 8)
    outcome = scenario.outcome(run, 650)  # at 350 records: the third version
    assert outcome["accuracy_before_drift"] == run[3].metrics["prequential"]["window"]["accuracy"]
    assert outcome["accuracy_after_recovery"] == run[8].metrics["prequential"]["window"]["accuracy"]
    assert scenario.outcome(run, 350)["accuracy_before_drift"] is None  # none had learned so little


def test_the_world_changes_halfway_or_never() -> None:
    digits, machine = SCENARIOS["digits"], SCENARIOS["machine"]
    drift = digits.drift(50, rate=100, seconds=10)
    assert drift == 50 + 450  # a tenth of the rows before it has no label
    assert [digits.world(n, drift) for n in (499, 500)] == list(digits.worlds)
    assert machine.drift(0, rate=20, seconds=60) is None
    assert machine.world(10**9, None) == machine.worlds[0]


def test_a_rate_is_the_scenes_own_unless_asked_for() -> None:
    assert [scenario.paced(None) for scenario in SCENARIOS.values()] == [1000, 20]
    assert SCENARIOS["machine"].paced(100) == 100


def test_a_stream_without_a_demo_is_one_line() -> None:
    with pytest.raises(ValueError) as raised:
        scenario_of("weather")
    assert str(raised.value) == "--stream must be one of digits, machine; got 'weather'"
