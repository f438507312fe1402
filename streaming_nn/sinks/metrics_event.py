"""What a version tells those who watch: one JSON object, the same in a file and on a topic."""

from typing import Any

from streaming_nn.versions.version import Manifest, to_text

CONFUSION_CLASSES = 32  # six matrices of so many classes are 50 kB of JSON; a Kafka record holds 1 MB
TOLD = [
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


def line(manifest: Manifest) -> dict[str, Any]:
    """Return what a dashboard needs of a version; keys are only ever added.

    - `number`: the version, and the key by which a line that came twice is known
    - `kind`: "initial", "learned", "rolled-back", "repaired" (the records of the versions in its event's
      `learned_again` come once more), "damaged"
    - `restored_from`: whose state a rolled-back or repaired version took over, else null
    - `written_at` (ISO 8601, UTC), `run`: when, and by which run
    - `counts`: {"received", "trained", "skipped", "rejected"} of this batch; received is the sum of the others
    - `rejected_by_reason`: {reason: records} of this batch
    - `ranges`: {topic: {partition: [from, until)}} of this batch
    - `offsets`: {topic: {partition: next}} after it
    - `mini_batch`: rows a step learned from, without which no accuracy can be compared; null if not known
    - `metrics`: {"prequential", "served": {"window", "fading", "total": {...}}, "baselines", "rows"};
      confusion matrices of more than 32 classes do not fit into a Kafka record, and are in the version only
    - `seconds`: {step of the micro-batch: how long}, so counts["received"] / seconds["learn"] is the rate
    - `events`: what happened in it: drift, a member restarted, a rollback
    - `digest`: of the weights and all other state, the first 12 characters name it in predictions
    """
    values = manifest.to_json()
    return {name: values[name] for name in TOLD} | {
        "restored_from": manifest.restored_from if manifest.restored_from >= 0 else None,
        "run": manifest.written_by.get("run"),
        "mini_batch": manifest.learner.get("mini_batch"),
        "metrics": _small(manifest.metrics),
    }


def _small(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _small(value) if isinstance(value, dict) else value
        for name, value in metrics.items()
        if not (name == "confusion" and len(value) > CONFUSION_CLASSES)
    }


def text(manifest: Manifest) -> bytes:
    """Return the line as JSON in UTF-8, keys sorted, without its end."""
    return to_text(line(manifest)).encode()
