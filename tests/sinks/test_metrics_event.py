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
    event = json.loads(encode_event(Manifest(1, metrics=seen)))["metrics"]
    assert event.keys() == seen.keys()
    for timing in ("prequential", "as_served"):
        for scope in ("window", "fading", "cumulative"):
            missing = seen[timing][scope].keys() - event[timing][scope].keys()
            assert missing == (set() if there else {"confusion"})
    assert "confusion" in seen["as_served"]["cumulative"]


def test_every_key_is_documented() -> None:
    described = set(re.findall(r"`(\w+)`", metrics_event.__doc__ or ""))
    assert metrics_event(MANIFEST).keys() == described - {"learned_again"}


def test_the_event_does_not_hold_the_host() -> None:
    assert b'"h"' not in encode_event(MANIFEST)
