"""The metrics event of a version: one JSON object, the same in a file and on a topic."""

import math
from typing import Any

from streaming_nn.versions.version import Manifest, to_text

EVERY = 100  # versions: one event has the figures of each class, which are 10 kB of 14 for 10 classes
CONFUSION_CLASSES = 32  # six matrices of so many classes are 50 kB of JSON; a Kafka record holds 1 MB
DIGITS = 6  # of a figure: the manifest has all of them
FIELDS = [
    "number",
    "kind",
    "written_at",
    "counts",
    "rejected_by_reason",
    "ranges",
    "offsets",
    "seconds",
    "events",
    "digest",
]


def metrics_event(manifest: Manifest) -> dict[str, Any]:
    """Return what a dashboard needs to know about a version.

    - `number`: the version, and the key by which duplicates are recognized
    - `kind`: "initial", "learned", "saved", "rolled-back", "repaired" (the records of the versions in its
      event's `replayed_versions` are replayed), "damaged"
    - `restored_from`: the version that a rolled-back or repaired version restored, else null
    - `written_at` (ISO 8601, UTC), `run`: when it was committed, and by which run
    - `counts`: {"received", "trained", "skipped", "rejected", "filtered"} of this batch; received is the
      sum of the others
    - `rejected_by_reason`: {reason: records} of this batch; with the field: {"not a number: price": 3}
    - `ranges`: {topic: {partition: [from, until)}} of this batch
    - `offsets`: {topic: {partition: next}} after it
    - `mini_batch`: rows per step, which matter when accuracies are compared; null if unknown
    - `metrics`: {"prequential", "as_served": {"window", "fading", "cumulative"}, "baselines", "rows", ...};
      rounded to 6 digits. Every hundredth event also has `per_class` or `per_label`, and `confusion` up to 32
      classes: more do not fit into a Kafka record. The version's manifest has all; that of a pruned version
      has no metrics
    - `seconds`: {step of the micro-batch: its duration}, so counts["received"] / seconds["learn"] is the rate
    - `events`: what happened in it, such as a drift or a rollback; see `versions.version`
    - `digest`: of the weights and all other state; its first 12 characters are in the predictions
    """
    values = manifest.to_json()
    return {name: values[name] for name in FIELDS} | {
        "restored_from": manifest.restored_from if manifest.restored_from >= 0 else None,
        "run": manifest.written_by.get("run"),
        "mini_batch": manifest.learner.get("mini_batch"),
        "metrics": _shortened(manifest.metrics, manifest.number % EVERY == 0),
    }


def _shortened(metrics: dict[str, Any], with_classes: bool) -> dict[str, Any]:
    return {
        name: _shortened(value, with_classes)
        if isinstance(value, dict)
        else _rounded(value, is_count=name == "confusion")
        for name, value in metrics.items()
        if name not in ("per_class", "per_label", "confusion")
        or (with_classes and len(value) <= CONFUSION_CLASSES)
    }


def _rounded(value: Any, is_count: bool) -> Any:
    """Return a value with fewer digits; counts as integers, which those that fade are not."""
    if isinstance(value, list):
        return [_rounded(each, is_count) for each in value]
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    return int(value) if is_count and value.is_integer() else float(f"{value:.{DIGITS}g}")


def encode_event(manifest: Manifest) -> bytes:
    """Return the metrics event as JSON in UTF-8, keys sorted, without a line end."""
    return to_text(metrics_event(manifest)).encode()
