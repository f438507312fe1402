"""What can be wrong with a job and needs no Spark to find out: the commands check it before they start Spark.

Each function raises in one line what the job itself would: ValueError, LookupError, ConnectionError,
PermissionError or DamagedVersionError.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.settings import Settings
from streaming_nn.spark import installation
from streaming_nn.spark.sources import files, offsets, topics
from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import VersionLog

if TYPE_CHECKING:
    from streaming_nn.spark.replay.trials import Trial


def before_train(settings: Settings) -> None:
    """Check the options of learner and records, whether the directory has another model, and the topics.

    A topic with too few records to infer a schema from is an error with `train.once`, which would not wait.
    """
    from streaming_nn.spark.train.initial_schema import is_inferred, require_records
    from streaming_nn.spark.train.resume import check_settings  # imports NumPy and PyArrow

    installation.check(settings.spark)
    head = VersionLog(settings.model).head()
    check_settings(settings, head)
    if settings.source.format:
        files.check(settings)
        return
    with KafkaAdmin(settings.kafka) as admin:
        names = topics.find(settings, admin)
        admin.ids(names)
        new = head is None or head.manifest.untrained
        if new and settings.train.once and is_inferred(settings):
            count = offsets.count_between(admin.beginnings(names), admin.ends(names))
            # the markers and the aborted records of transactions have offsets too
            require_records(topics.describe(settings), count, "at most ")


def before_score(settings: Settings) -> None:
    """Check whether the newest version does what the settings require, and that the topics exist."""
    installation.check(settings.spark)
    newest = newest_learned(settings, VersionLog(settings.model))
    if newest is not None:
        _check_score(settings, newest)
    with KafkaAdmin(settings.kafka) as admin:
        admin.ids([settings.score.topic, settings.score.predictions])
        if settings.score.engine == "realtime":
            from streaming_nn.spark.score.realtime.supported import check_slots

            check_slots(settings, len(admin.partitions([settings.score.topic])[settings.score.topic]))


def _check_score(settings: Settings, newest: Manifest) -> None:
    if settings.score.fields:
        from streaming_nn.records.chosen import field_reader
        from streaming_nn.records.schema import schema_from

        field_reader(schema_from(newest.schema), settings.score.fields)
    if settings.score.engine == "realtime":
        from streaming_nn.spark.score.realtime.supported import check

        check(newest)


def newest_learned(settings: Settings, log: VersionLog) -> Manifest | None:
    """Return the manifest of the head, if it has learned something; None: a scorer waits for that.

    Raise LookupError in place of None if `score.once` is set, DamagedVersionError for a damaged head: no run
    resumes from that, so waiting would never end.
    """
    head = log.head()
    if head is not None and not head.manifest.untrained:
        return head.manifest
    if settings.score.once:
        what = "there is no version yet" if head is None else "has learned nothing yet"
        raise LookupError(f"model {settings.model}: {what}, so no model is available")
    return None


def before_replay_of_topic(settings: Settings, topic: str, trials: Iterable["Trial"]) -> None:
    """Check the settings with each trial's options of the learner, and that the topic exists."""
    from streaming_nn.spark.train.resume import check_settings

    records = settings.records
    growing = {"records.classes": records.classes == "grow"}
    growing |= {f"records.categories.{name}": "one_hot" in how for name, how in records.categories.items()}
    if grows := next((name for name, does in growing.items() if does), None):
        raise ValueError(
            f"cannot backtest topic {topic!r} with classes or categories that grow ({grows}): train a model "
            "on it, and backtest that model"
        )
    for trial in trials:
        check_settings(settings.model_copy(update={"learner": trial.options(settings.learner)}), None)
    before_replay(settings, [topic])


def before_replay(settings: Settings, names: Iterable[str]) -> None:
    """Check that the topics exist from which records are replayed."""
    installation.check(settings.spark)
    with KafkaAdmin(settings.kafka) as admin:
        admin.ids(names)
