import json
import re

import numpy as np
import pytest

from streaming_nn.nn import metrics
from streaming_nn.sinks.metrics_event import encode_event, metrics_event
from streaming_nn.versions.version import Manifest

pytestmark = pytest.mark.commit

MANIFEST = Manifest(
    3,
    learner={"kind": "mlp", "mini_batch": 8},
    offsets={"t": {0: 5, 10: 6}},
    ranges={"t": {0: (1, 5)}},
    metrics={"loss": float("nan")},
    written_by={"host": "h", "run": "blue"},
    written_at="2025-01-02T03:04:05Z",
    digest="ab",
)


def test_the_event_has_what_a_dashboard_needs() -> None:
    event = json.loads(encode_event(MANIFEST))
    assert event["number"] == 3
    assert event["mini_batch"] == 8
    assert event["run"] == "blue"
    assert event["offsets"] == {"t": {"0": 5, "10": 6}}
    assert event["ranges"] == {"t": {"0": [1, 5]}}
    assert event["metrics"] == {"loss": None}
    assert event["restored_from"] is None
    assert json.loads(encode_event(Manifest(4, kind="rolled-back", restored_from=0)))["restored_from"] == 0
    assert json.loads(encode_event(Manifest(0)))["mini_batch"] is None


@pytest.mark.parametrize(("classes", "there"), [(3, True), (32, True), (33, False)])
def test_large_confusion_matrices_are_left_out(classes: int, there: bool) -> None:
    predictions = np.full((2, classes), 1 / classes, np.float32)
    seen = metrics.report(
        metrics.update(metrics.init(classes), np.zeros(2, np.int32), predictions, predictions)
    )
    event = json.loads(encode_event(Manifest(200, metrics=seen)))["metrics"]
    assert event.keys() == seen.keys()
    for timing in ("prequential", "as_served"):
        for scope in ("window", "fading", "cumulative"):
            missing = seen[timing][scope].keys() - event[timing][scope].keys()
            assert missing == (set() if there else {"confusion"})
    assert "confusion" in seen["as_served"]["cumulative"]


@pytest.mark.parametrize("classes", [2, 10, 32])
def test_only_every_hundredth_event_has_the_figures_of_each_class(classes: int) -> None:
    rng = np.random.default_rng(0)
    predictions = rng.dirichlet(np.ones(classes), 300).astype(np.float32)
    y = rng.integers(0, classes, 300).astype(np.int32)
    seen = metrics.report(metrics.update(metrics.init(classes), y, predictions, predictions))
    sizes = {}
    for number in (99, 100, 101):
        data = encode_event(Manifest(number, metrics=seen))
        sizes[number] = len(data)
        window = json.loads(data)["metrics"]["prequential"]["window"]
        assert ("confusion" in window) == ("per_class" in window) == (number == 100)
        assert window["accuracy"] == pytest.approx(seen["prequential"]["window"]["accuracy"], rel=1e-5)
        if number == 100:
            assert window["confusion"] == seen["prequential"]["window"]["confusion"]
            assert all(isinstance(count, int) for row in window["confusion"] for count in row)
    assert sizes[99] + 1 == sizes[101] < 4_100, "whatever the number of classes; one digit more"


def test_figures_that_are_not_finite_or_not_numbers_are_left_as_they_are() -> None:
    values = {"a": float("nan"), "b": None, "c": "x", "d": [1.23456789, 2], "e": 1e300, "f": True}
    event = json.loads(encode_event(Manifest(1, metrics=values)))["metrics"]
    assert event == {"a": None, "b": None, "c": "x", "d": [1.23457, 2], "e": 1e300, "f": True}


def test_every_key_is_documented() -> None:
    described = set(re.findall(r"`(\w+)`", metrics_event.__doc__ or ""))
    assert metrics_event(MANIFEST).keys() == described - {
        "replayed_versions",
        "per_class",
        "per_label",
        "confusion",
    }


def test_the_event_does_not_hold_the_host() -> None:
    assert b'"h"' not in encode_event(MANIFEST)
