import json
import re

import numpy as np
import pytest

from streaming_nn.nn import metrics
from streaming_nn.sinks.metrics_event import line, text
from streaming_nn.versions.version import Manifest

RECORD = Manifest(
    3,
    learner={"kind": "mlp", "mini_batch": 8},
    offsets={"t": {0: 5, 10: 6}},
    ranges={"t": {0: (1, 5)}},
    metrics={"loss": float("nan")},
    written_by={"host": "h", "run": "blue"},
    written_at="2025-01-02T03:04:05Z",
    digest="ab",
)


def test_it_says_what_a_dashboard_needs() -> None:
    told = json.loads(text(RECORD))
    assert told["number"] == 3
    assert told["mini_batch"] == 8
    assert told["run"] == "blue"
    assert told["offsets"] == {"t": {"0": 5, "10": 6}}
    assert told["ranges"] == {"t": {"0": [1, 5]}}
    assert told["metrics"] == {"loss": None}
    assert told["restored_from"] is None
    assert json.loads(text(Manifest(4, kind="rolled-back", restored_from=0)))["restored_from"] == 0
    assert json.loads(text(Manifest(0)))["mini_batch"] is None


@pytest.mark.parametrize(("classes", "there"), [(3, True), (32, True), (33, False)])
def test_only_confusion_matrices_that_fit_into_a_kafka_record_are_told(classes: int, there: bool) -> None:
    answers = np.full((2, classes), 1 / classes, np.float32)
    seen = metrics.report(metrics.update(metrics.init(classes), np.zeros(2, np.int32), answers, answers))
    told = json.loads(text(Manifest(1, metrics=seen)))["metrics"]
    assert told.keys() == seen.keys()
    for face in ("prequential", "served"):
        for scope in ("window", "fading", "total"):
            missing = seen[face][scope].keys() - told[face][scope].keys()
            assert missing == (set() if there else {"confusion"})
    assert "confusion" in seen["served"]["total"]


def test_every_key_is_described() -> None:
    described = set(re.findall(r"`(\w+)`", line.__doc__ or ""))
    assert line(RECORD).keys() == described - {"learned_again"}


def test_the_name_of_the_machine_is_not_told() -> None:
    assert b'"h"' not in text(RECORD)
