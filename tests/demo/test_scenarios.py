"""The demos' descriptions: each metric is in a version's manifest, and the drift is halfway."""

import numpy as np
import pytest

from producers import known, machine
from streaming_nn.demo.scenarios import SCENARIOS, Scenario, find_scenario
from streaming_nn.nn import metrics
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, initial, test_then_train
from streaming_nn.settings import load
from streaming_nn.versions.version import Manifest

pytestmark = pytest.mark.commit


def manifests(scenario: Scenario, versions: int, rows: int = 100) -> list[Manifest]:
    """Return versions of the scenario's learner, each with `rows` more records of noise."""
    settings = load("/dev/null", scenario.settings)
    inputs, classes = settings.records.inputs, settings.records.classes
    learner = learner_from({"inputs": inputs, "classes": classes, **settings.learner})
    state, rng, result = initial(learner), np.random.default_rng(0), [Manifest(0, metrics={}, counts={})]
    for number in range(1, versions + 1):
        x = rng.normal(size=(rows, inputs or 0)).astype(np.float32)
        y = rng.integers(0, 10, rows) if classes else rng.normal(size=rows).astype(np.float32)
        state, counts = test_then_train(learner, state, [Batch(x, y)])
        report = metrics.report(state.metrics)
        result.append(Manifest(number, metrics=report, counts=counts._asdict()))
    return result


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_every_metric_is_in_the_manifest(scenario: Scenario) -> None:
    run = manifests(scenario, 5)
    live, summary = scenario.live_metrics(run[-1]), scenario.outcome(run, 600)
    assert set(live) == set(scenario.live)
    assert list(summary) == [*scenario.summary, *scenario.before_drift, *scenario.at_end]
    assert all(isinstance(value, float) for value in [*live.values(), *summary.values()])
    assert scenario.stream in known.STREAMS


def test_accuracy_before_the_drift_is_of_a_version_well_before_it() -> None:
    scenario, run = SCENARIOS["digits"], manifests(SCENARIOS["digits"], 8)
    outcome = scenario.outcome(run, 650)  # at 350 records: the third version
    assert outcome["accuracy_before_drift"] == run[3].metrics["prequential"]["window"]["accuracy"]
    assert outcome["accuracy_after_recovery"] == run[8].metrics["prequential"]["window"]["accuracy"]
    assert scenario.outcome(run, 350)["accuracy_before_drift"] is None  # none had learned so little


def test_the_drift_is_halfway_or_never() -> None:
    digits, cpu = SCENARIOS["digits"], SCENARIOS["machine"]
    drift = digits.drift(50, rate=100, seconds=10)
    assert drift == 50 + 450  # a tenth of the rows before it has no label
    assert [digits.concept(n, drift) for n in (499, 500)] == list(digits.concepts)
    assert cpu.drift(0, rate=20, seconds=60) is None
    assert cpu.concept(10**9, None) == cpu.concepts[0]


def test_the_rate_is_the_scenarios_by_default() -> None:
    assert [scenario.check_rate(None) for scenario in SCENARIOS.values()] == [1000, 20]
    assert SCENARIOS["machine"].check_rate(100) == 100


def test_the_machine_scenario_reads_the_fields_of_its_stream() -> None:
    scenario = SCENARIOS["machine"]
    assert scenario.settings["records"]["features"] == list(machine.NAMES)
    assert scenario.settings["records"]["label"] == machine.LABEL
    assert scenario.rates == (machine.SLOWEST, machine.FASTEST)


def test_a_stream_without_a_demo_is_one_line() -> None:
    with pytest.raises(ValueError) as raised:
        find_scenario("weather")
    assert str(raised.value) == "--stream must be one of digits, machine; got 'weather'"
