"""Version 0 of a new model."""

from collections.abc import Mapping
from typing import Any

from streaming_nn.nn.learner import Learner, initial, require_averaging
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.schema import Schema
from streaming_nn.settings import Settings
from streaming_nn.spark.train.resume import automatic_cap, make_learner
from streaming_nn.versions.version import AVERAGED, Version
from streaming_nn.versions.version_log import VersionLog


def commit_initial(
    settings: Settings,
    log: VersionLog,
    schema: Schema,
    position: Mapping[str, Any],
    given: Learner[Any] | None = None,
) -> Version:
    """Commit version 0: an untrained model, its schema, and the `position` where training begins.

    `position` is fields of the manifest; `given` is a learner in place of the settings' one. Raise ValueError
    for options that do not fit.
    """
    options: dict[str, Any] = {"inputs": schema.inputs, "classes": schema.classes}
    learner = given or make_learner(settings, options | ({"missing": "impute"} if schema.missing else {}))
    if settings.train.update == AVERAGED:
        require_averaging(learner)
    return log.commit(
        None,
        flatten(initial(learner)),
        learner=learner.options(),
        schema=schema.options(),
        update=settings.train.update,
        mini_batch_cap=0 if given is not None else automatic_cap(settings, automatic=True),
        **position,
    )
