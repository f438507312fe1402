"""What a version tells those who watch: one JSON object, the same in a file and on a topic."""

from typing import Any

from streaming_nn.log.version import Record, to_text

CONFUSION_CLASSES = 32  # six matrices of so many classes are 50 kB of JSON; a Kafka record holds 1 MB
TOLD = [
    "number",
    "kind",
    "written_at",
    "rows",
    "rejected",
    "ranges",
    "offsets",
    "seconds",
    "events",
    "digest",
]


def line(record: Record) -> dict[str, Any]:
    """Return what a dashboard needs of a version; keys are only ever added.

    - `number`: the version, and the key by which a line that came twice is known
    - `kind`: "initial", "learned", "rolled-back", "repaired" (the records of the versions in its event's
      `learned_again` come once more), "damaged"
    - `taken_from`: whose state a rolled-back or repaired version took over, else null
    - `written_at` (ISO 8601, UTC), `run`: when, and by which run
    - `rows`: {"received", "trained", "skipped", "rejected"} of this batch; received is the sum of the others
    - `rejected`: {reason: records} of this batch
    - `ranges`: {topic: {partition: [from, until)}} of this batch
    - `offsets`: {topic: {partition: next}} after it
    - `mini_batch`: rows a step learned from, without which no accuracy can be compared; null if not known
    - `metrics`: {"prequential", "served": {"window", "fading", "total": {...}}, "baselines", "rows"};
      confusion matrices of more than 32 classes do not fit into a Kafka record, and are in the version only
    - `seconds`: {step of the micro-batch: how long}, so rows["received"] / seconds["learn"] is the rate
    - `events`: what happened in it: drift, a member restarted, a rollback
    - `digest`: of the weights and all other state, the first 12 characters name it in predictions
    """
    values = record.to_json()
    return {name: values[name] for name in TOLD} | {
        "taken_from": record.taken_from if record.taken_from >= 0 else None,
        "run": record.written_by.get("run"),
        "mini_batch": record.learner.get("mini_batch"),
        "metrics": _small(record.metrics),
    }


def _small(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _small(value) if isinstance(value, dict) else value
        for name, value in metrics.items()
        if not (name == "confusion" and len(value) > CONFUSION_CLASSES)
    }


def text(record: Record) -> bytes:
    """Return the line as JSON in UTF-8, keys sorted, without its end."""
    return to_text(line(record)).encode()
