"""Where a run begins: at version 0 or at the head, if its topics still hold what follows."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from streaming_nn.errors import DamagedVersionError, DataLossError
from streaming_nn.kafka import admin
from streaming_nn.nn.factory import changed, difference, learner_from
from streaming_nn.nn.learner import Learner, initial, merging
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.decode import Look, look
from streaming_nn.records.schema import Schema, schema_from, width
from streaming_nn.settings import Settings
from streaming_nn.spark.signals import pause
from streaming_nn.spark.sources import dataframe_json, kafka_frames
from streaming_nn.spark.sources.kafka_frames import EARLIEST, Offsets, Ranges
from streaming_nn.versions.environment import describe, now, writer
from streaming_nn.versions.rollback import shapes
from streaming_nn.versions.version import AVERAGED, Manifest, Version
from streaming_nn.versions.version_log import VersionLog

AUTO = "auto"  # of learner.mini_batch: chosen for each micro-batch; see stream/mini_batch.py
LOOK_RECORDS = 1000
LOOK_LEAST = 100  # width and classes are never taken from fewer

Say = Callable[[str], None]


def first_version(
    spark: SparkSession,
    settings: Settings,
    log: VersionLog,
    learner: Learner[Any] | None,
    run: str,
    say: Say,
    place: Mapping[str, Any],
) -> Version:
    """Make and append version 0: a model that has seen nothing, its schema, and where it will begin to learn.

    That is `place`, as fields of the record. Raises ValueError where width or classes are neither set nor to
    be seen in the topic.
    """
    schema = schema_of(spark, settings, say)
    given = learner is not None
    seen: dict[str, Any] = {"inputs": schema.inputs, "classes": schema.classes}
    learner = learner or made(settings, seen | ({"missing": "impute"} if schema.missing else {}))
    if settings.train.update == AVERAGED:
        merging(learner)
    record = Manifest(
        0,
        kind="initial",
        learner=learner.options(),
        schema=schema.options(),
        update=settings.train.update,
        mini_batch_cap=0 if given else auto_cap(settings, kept=True),
        environment=describe(),
        written_at=now(),
        written_by=writer(run),
        **place,
    )
    version = Version(record, flatten(initial(learner)))
    log.append(version)
    return log.read(0)


def check_learner(settings: Settings, log: VersionLog) -> None:
    """Raise ValueError for wrong options of the learner, as far as that can be told before Spark starts."""
    number, asked = log.head_number(), settings.records
    named = asked.classes if isinstance(asked.classes, list) else None
    if number is not None:
        with suppress(DamagedVersionError):  # which the run tells, with what to do
            made(settings, log.manifest(number).learner)
    elif named or not settings.learner.get("class_weight"):  # which names them
        made(settings, {"inputs": 1, "classes": None if asked.regression else named or ["a", "b"]})


def made(settings: Settings, recorded: Mapping[str, Any]) -> Learner[Any]:
    """Make the learner of the recorded options, with those that the settings name in their place.

    A mini-batch that is to be chosen begins where the recorded one is, or at its cap.
    """
    options = changed(recorded, settings.learner)
    if options.get("mini_batch", AUTO) == AUTO:
        options["mini_batch"] = recorded.get("mini_batch", settings.train.mini_batch_cap)
    return learner_from(options)


def auto_cap(settings: Settings, kept: bool) -> int:
    """Give the cap under which the mini-batch is chosen, or 0 where it is set.

    Settings that say nothing leave it as it was: `kept` says whether it was chosen.
    """
    asked = settings.learner.get("mini_batch", AUTO if kept else None)
    return settings.train.mini_batch_cap if asked == AUTO else 0


def continued(settings: Settings, head: Version, learner: Learner[Any] | None) -> Learner[Any]:
    """Make the learner that goes on from `head`: its options, with those that the settings change.

    Raises ValueError where a change needs other tensors than the head has.
    """
    learner = learner or made(settings, head.manifest.learner)
    if settings.train.update == AVERAGED:
        merging(learner)
    if shapes(flatten(initial(learner))) != shapes(head.tensors):
        changes = difference(head.manifest.learner, learner.options()) or "other options"
        raise ValueError(f"model {settings.model} was made with {changes}: that takes a new model directory")
    return learner


def recorded_schema(settings: Settings, head: Version) -> Schema:
    """Return the head's schema; raises ValueError where the settings name another width, field or class.

    What it has grown by, classes and vocabulary, is its own. A registry may have moved.
    """
    schema = schema_from(head.manifest.schema)
    recorded = schema.options()
    if schema.grow:
        recorded["classes"] = "grow"
    asked = _options(settings, exclude_unset=True, exclude_none=True)
    registry = asked.pop("registry", schema.registry)
    for name, value in asked.items():
        if recorded[name] != value:
            raise ValueError(
                f"model {settings.model} was made with records.{name} = {recorded[name]!r}, "
                f"now {value!r}: that takes a new model directory"
            )
    if settings.records.regression and recorded["classes"] is not None:
        raise ValueError(
            f"model {settings.model} was made with records.classes = {recorded['classes']!r}, "
            f"now regression: that takes a new model directory"
        )
    return replace(schema, registry=registry)


def starting(settings: Settings, head: Manifest, say: Say) -> tuple[Offsets, list[dict[str, Any]]]:
    """Return the offsets to read from, for every partition there is, and the losses that were accepted.

    Raises DataLossError where the topic is another one by now, or retention has taken what comes next, unless the
    settings accept the loss.
    """
    names = settings.train.topics
    first, ends = admin.beginnings(settings.kafka, names), admin.ends(settings.kafka, names)
    another = changed_topics(admin.ids(settings.kafka, names), head)
    lost: Ranges = {}
    offsets: Offsets = {}
    for topic in names:
        known = {} if topic in another else head.offsets.get(topic, {})
        offsets[topic] = {p: known.get(p, EARLIEST) for p in sorted(ends[topic])}
        for p, begin in known.items():
            if begin < first[topic].get(p, 0):
                lost.setdefault(topic, {})[p] = (begin, first[topic][p])
                offsets[topic][p] = first[topic][p]
    events: list[dict[str, Any]] = [{"lost": _spoken(lost)}] if lost else []
    events += [{"topic_made_again": topic} for topic in another]
    if events and not settings.train.accept_loss:
        raise DataLossError(_loss(settings, head, lost, another))
    for event in events:
        say(f"going on in spite of {event}")
    return offsets, events


def changed_topics(ids: Mapping[str, str], head: Manifest) -> list[str]:
    """Name the topics that were deleted and made again since the head was written; `ids` are those of now."""
    return [t for t, known in head.topic_ids.items() if t in ids and ids[t] != known]


def loss_of(settings: Settings, head: Manifest, another: list[str]) -> DataLossError:
    """Make the error for topics that were made again while the run went on."""
    return DataLossError(_loss(settings, head, {}, another))


def _loss(settings: Settings, head: Manifest, lost: Ranges, another: list[str]) -> str:
    parts = [
        f"topic {t!r} was deleted and made again: "
        f"what it held from {_places(head.offsets.get(t, {}))} is gone"
        for t in another
    ]
    parts += [
        f"retention has taken offsets {a:,} to {b - 1:,} of {t!r} partition {p} before they were learned"
        for t, ps in lost.items()
        for p, (a, b) in ps.items()
    ]
    return (
        f"{'; '.join(parts)}. Version {head.number} is safe. To go on with what the topic has now: "
        f"--accept-loss (the next version's record will say it); to begin anew: another model directory"
    )


def _places(offsets: Mapping[int, int]) -> str:
    return ", ".join(f"partition {p} offset {o:,}" for p, o in offsets.items()) or "its beginning"


def _spoken(ranges: Ranges) -> dict[str, dict[str, list[int]]]:
    return {t: {str(p): list(r) for p, r in ps.items()} for t, ps in ranges.items()}


def schema_of(spark: SparkSession, settings: Settings, say: Say) -> Schema:
    """Return the settings' schema; width and classes that they don't name are seen in the topic."""
    asked = settings.records
    options = _options(settings)
    grow = asked.classes == "grow"
    classes = None if asked.regression or grow or asked.classes is None else tuple(asked.classes)
    inputs = asked.inputs or width(asked.features, asked.categories)
    if inputs is None or (classes is None and not asked.regression):
        seen = _look(spark, settings, options, say)
        inputs = inputs or seen.inputs
        classes = seen.classes if classes is None else classes
    return schema_from({**options, "inputs": inputs, "classes": classes, "grow": grow})


def _options(settings: Settings, **how: Any) -> dict[str, Any]:
    """Return what is set of the records as a schema has it: for a file of an Avro schema what is in it."""
    options = settings.records.model_dump(exclude={"regression"}, **how)
    if options.get("avro_schema") is not None:
        options["avro_schema"] = _compact(options["avro_schema"])
    return options


def _compact(file: str) -> str:
    try:
        return json.dumps(json.loads(Path(file).read_text("utf-8")), separators=(",", ":"))
    except OSError as error:
        raise ValueError(f"setting records.avro_schema: {file!r} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"setting records.avro_schema: {file!r} is no JSON: {error}") from None


def _first_values(spark: SparkSession, settings: Settings) -> list[bytes | None]:
    if settings.source.format:
        return dataframe_json.first_values(spark, settings.source, settings.records, LOOK_RECORDS)
    return kafka_frames.first_values(spark, settings.kafka, settings.train.topics, LOOK_RECORDS)


def _look(spark: SparkSession, settings: Settings, options: Mapping[str, Any], say: Say) -> Look:
    """Look at the first records; wait for them where the stream goes on."""
    asked, waited = settings.records, 0
    while True:
        values = _first_values(spark, settings)
        if len(values) >= (LOOK_RECORDS if waited < 10 and not settings.train.once else LOOK_LEAST):
            break
        if settings.train.once:
            own = settings.source.format
            where = f"source {own!r}" if own else f"topic {', '.join(settings.train.topics)}"
            raise ValueError(
                f"{where} has {len(values)} records, and width and classes "
                f"are taken from {LOOK_LEAST} or more: set records.inputs and records.classes"
            )
        if waited == 0:
            say(f"waiting for records: width and classes are taken from the first {LOOK_RECORDS:,}")
        waited += 1
        pause(1)
    seen = look(
        values,
        format=asked.format,
        features=asked.features,
        label=asked.label,
        regression=asked.regression,
        numbers_as_strings=asked.numbers_as_strings,
        missing=asked.missing,
        categories=asked.categories,
        grow=asked.classes == "grow",
        csv_columns=asked.csv_columns,
        avro_schema=options["avro_schema"],
        registry=asked.registry,
    )
    kind = "regression" if seen.classes is None else f"classes {list(seen.classes)}"
    say(f"from a look at {seen.records:,} records: {seen.inputs} features, {kind}")
    for remark in seen.remarks:
        say(f"  {remark}")
    return seen
