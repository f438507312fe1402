"""An untrained model: version 0, and how it restarts with other settings."""

from typing import Any

from streaming_nn.nn.factory import difference
from streaming_nn.nn.learner import Learner, require_averaging
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.schema import Schema, schema_from
from streaming_nn.settings import Settings
from streaming_nn.spark.series import initial_state
from streaming_nn.spark.sources.topics import find_other_topics
from streaming_nn.spark.train.initial_schema import complete_schema
from streaming_nn.spark.train.resume import automatic_cap, make_learner, require_sequential
from streaming_nn.versions.version import AVERAGED, INITIAL, Manifest, Position, Version
from streaming_nn.versions.version_log import VersionLog


def commit_initial(
    settings: Settings,
    log: VersionLog,
    schema: Schema,
    position: Position,
    given: Learner[Any] | None = None,
    after: Version | None = None,
    changed: str = "",
) -> Version:
    """Commit version 0: an untrained model, its schema, and the `position` where training begins.

    `position` is fields of the manifest; `given` is a learner in place of the settings' one. `after` is a
    head that is untrained, and what has `changed` since: then the version restarts the model after it.
    Raise ValueError for options that do not fit.
    """
    learner = _new_learner(settings, schema, given)
    require_sequential(schema.lags, settings.train.update)
    if settings.train.update == AVERAGED:
        require_averaging(learner)
    return log.commit(
        after,
        flatten(initial_state(learner, schema.options())),
        kind=INITIAL,
        learner=learner.options(),
        schema=schema.options(),
        update=settings.train.update,
        mini_batch_cap=0 if given is not None else automatic_cap(settings, automatic=True),
        events=[{"event": "model restarted", "changed": changed}] if after else [],
        **position,
    )


def find_change(
    settings: Settings, head: Manifest, position: Position, given: Learner[Any] | None = None
) -> str | None:
    """Return what has changed since an untrained head was committed; None: nothing.

    All settings count, also those that are no longer set. Width and classes that were inferred stay. Records
    that expired are left to the run, which stops for them. Raise ValueError for options that do not fit.
    """
    recorded = schema_from(head.schema)
    if settings.records.regression != (recorded.classes is None):
        return f"records.regression = {str(settings.records.regression).lower()}"
    schema = complete_schema(settings, recorded.inputs, recorded.classes)
    before, now = _settings_of(recorded), _settings_of(schema)
    for name in before:
        if now[name] != before[name]:
            return f"records.{name} = {before[name]!r}, now {now[name]!r}"
    learner = _new_learner(settings, schema, given).options()
    if learner != head.learner:
        return f"learner: {difference(head.learner, learner) or 'other options'}"
    if settings.train.update != head.update:
        return f"train.update = {head.update!r}, now {settings.train.update!r}"
    return find_other_topics(settings, head, position)


def _settings_of(schema: Schema) -> dict[str, Any]:
    """Return the schema's options as settings have them; those that follow from others are the last."""
    options = schema.options()
    classes = "grow" if options.pop("grow") else options["classes"]
    inputs, _ = options.pop("inputs"), options.pop("vocabulary")
    return options | {"classes": classes, "inputs": inputs}


def _new_learner(settings: Settings, schema: Schema, given: Learner[Any] | None) -> Learner[Any]:
    return given or make_learner(settings, schema.learner_options)
