"""Whether the settings fit the version that a run resumes from, and the learner that continues it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from streaming_nn.core import library
from streaming_nn.nn.factory import changed, difference, learner_from
from streaming_nn.nn.learner import Learner, continues, require_averaging
from streaming_nn.records.schema import Schema, schema_from
from streaming_nn.settings import Settings
from streaming_nn.spark.train.batch_size import AUTO
from streaming_nn.spark.train.initial_schema import complete_schema, record_options
from streaming_nn.versions.version import AVERAGED, Version


def check_settings(settings: Settings, head: Version | None) -> None:
    """Raise ValueError for options of learner or records that are wrong, or that do not fit the head.

    Without a head, or with one that has learned nothing, they are those of a new model: what is inferred from
    records is left open.
    """
    if head is not None and not head.manifest.untrained:
        resume_learner(settings, head)
        resume_schema(settings, head)
        return
    records = settings.records
    require_sequential(records.lags, settings.train.update)
    classes = records.classes if isinstance(records.classes, list) else None
    fields = records.label if isinstance(records.label, list) else None
    labels = None if records.regression else tuple(classes or fields or ("a", "b"))
    if classes or not settings.learner.get("class_weight"):  # which names classes
        several = {"multilabel": records.multilabel, "targets": fields if records.regression else None}
        make_learner(settings, {"inputs": 1, "classes": labels, **several})
    complete_schema(settings, 1, labels if records.multilabel else None)


def require_sequential(lags: Any, update: str) -> None:
    """Raise ValueError for lags where several tasks learn: each would have some rows of a series only."""
    if lags and update == AVERAGED:
        raise ValueError(f"train.update must be 'sequential' with records.lags; got {update!r}")


def make_learner(settings: Settings, recorded: Mapping[str, Any]) -> Learner[Any]:
    """Return the learner of the recorded options, overridden by those of the settings.

    A mini-batch that is chosen automatically begins at the recorded size, or at its cap.
    """
    options = changed(recorded, settings.learner)
    if options.get("mini_batch", AUTO) == AUTO:
        options["mini_batch"] = recorded.get("mini_batch", settings.train.mini_batch_cap)
    return learner_from(options)


def automatic_cap(settings: Settings, automatic: bool) -> int:
    """Return the cap under which the mini-batch is chosen, or 0 if it is set.

    Without a setting it stays as it was: `automatic` is whether it was chosen before.
    """
    mini_batch = settings.learner.get("mini_batch", AUTO if automatic else None)
    return settings.train.mini_batch_cap if mini_batch == AUTO else 0


def resume_learner(settings: Settings, head: Version, learner: Learner[Any] | None = None) -> Learner[Any]:
    """Return the learner that continues from `head`: its options, with those that the settings change.

    `learner` overrides both. Raise ValueError if it needs other tensors than the head has.
    """
    before = learner or learner_from(head.manifest.learner)  # settings cannot name every learner
    learner = learner or make_learner(settings, head.manifest.learner)
    require_sequential(head.manifest.schema.get("lags"), settings.train.update)
    if settings.train.update == AVERAGED:
        require_averaging(learner)
    if not continues(learner, before, head.tensors):
        changes = difference(head.manifest.learner, learner.options()) or _another_arithmetic(head)
        raise ValueError(f"model {settings.model} was created with {changes}; use a new model directory")
    return learner


def _another_arithmetic(head: Version) -> str:
    then, now = head.manifest.arithmetic, library.ARITHMETIC
    return "other options" if then == now else f"arithmetic = {then}, now {now}"


def resume_schema(settings: Settings, head: Version) -> Schema:
    """Return the head's schema. Raise ValueError if the settings have another width, field or class.

    Classes and vocabulary may have grown since. The registry may be at another URL.
    """
    schema = schema_from(head.manifest.schema)
    recorded = schema.options()
    if schema.grow:
        recorded["classes"] = "grow"
    options = record_options(settings, only_set=True)
    registry = options.pop("registry", schema.registry)
    for name, value in options.items():
        if recorded[name] != value:
            raise _changed(settings, f"records.{name} = {recorded[name]!r}, now {value!r}")
    if settings.records.regression and recorded["classes"] is not None:
        raise _changed(settings, f"records.classes = {recorded['classes']!r}, now regression")
    return replace(schema, registry=registry)


def _changed(settings: Settings, change: str) -> ValueError:
    return ValueError(f"model {settings.model} was created with {change}; use a new model directory")
