"""What the page shows of one version: all of its figures, as the manifest has them."""

from typing import Any

from streaming_nn.errors import DamagedVersionError
from streaming_nn.page.timeline import Timeline
from streaming_nn.versions.version import Manifest

# spans that are shown: a fading one is between the two
SPANS = ("window", "cumulative")


def moment(timeline: Timeline, number: int | None) -> dict[str, Any] | None:
    """Return a version's figures as JSON-able values; None: the newest one's, or None before the first one.

    A pruned version has those of the timeline's nearest row, of version `figures_of`, without the figures of
    each class. LookupError: there is no such version.
    """
    log = timeline.log
    head = log.head_number()
    if head is None and number is None:
        return None  # a new model: a browser would log a 404 as an error
    number = head if number is None else number
    if head is None or number is None or not 0 <= number <= head:
        raise LookupError(
            f"version must be 0 to {head}; got {number}" if head is not None else "no version yet"
        )
    try:
        manifest = log.manifest(number)
    except DamagedVersionError as error:
        return {"number": number, "head": head, "kind": "damaged", "error": str(error)}
    return {**_described(manifest), "head": head, **_measured(timeline, manifest)}


def _described(manifest: Manifest) -> dict[str, Any]:
    learner = manifest.learner
    return {
        "number": manifest.number,
        "kind": manifest.kind,
        "written_at": manifest.written_at,
        "rejected_by_reason": manifest.rejected_by_reason,
        "lag": manifest.lag,
        "delay": manifest.delay,
        "events": manifest.events,
        "mini_batch": learner.get("mini_batch"),
        "window": learner.get("window"),
        "classes": learner.get("classes"),
        "targets": learner.get("targets"),
        "multilabel": bool(learner.get("multilabel")),
    }


def _measured(timeline: Timeline, manifest: Manifest) -> dict[str, Any]:
    if manifest.metrics or not timeline.size:
        return {"metrics": _without_fading(manifest.metrics), "members": manifest.metrics.get("members", [])}
    nearest = timeline.nearest(manifest.number)
    figures = {name: value for name, value in timeline.figures(nearest).items() if value == value}
    return {"metrics": None, "figures": figures, "members": [], "figures_of": nearest}


def _without_fading(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {span: value[span] for span in SPANS if span in value} if _has_spans(value) else value
        for name, value in metrics.items()
        if name != "members"
    }


def _has_spans(value: Any) -> bool:
    return isinstance(value, dict) and "window" in value
