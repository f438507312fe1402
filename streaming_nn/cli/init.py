"""`streaming-nn init`: look at a topic, and write the settings with which it can be learned."""

import json
import os
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from streaming_nn.cli import options

if TYPE_CHECKING:
    from streaming_nn.records.decode import Decoded, Values
    from streaming_nn.records.propose import Proposal
    from streaming_nn.records.schema import Schema
    from streaming_nn.settings import Settings

RECORDS = 500  # that are read of a topic
FEW = 100  # with fewer, the trainer waits for more before it infers width and classes
SHOWN = 5  # records of the table
ROWS = 20  # fields of the table
WIDEST = 96  # characters of a list in one line
LONGEST_TOPIC = 249  # characters that Kafka accepts
SECRET = re.compile(r"password|secret|jaas|\.key$")  # an option of a client that no file gets

OUTPUT = Path("streaming-nn.toml")

COMMENTS = {  # by section and setting
    "": "the model directory: a log of versions",
    "kafka": "options of a Kafka client by their Java names, SASL and TLS included, for every client",
    "records": "how a record becomes a row: docs/records.md",
    "records.classes": "new labels become classes",
    "records.regression": "the label is a number to predict",
    "records.multilabel": "any number of the classes applies to a row",
    "records.missing": "a null or an absent field is a missing value",
    "records.numbers_as_strings": 'a string such as "1.5" is a number',
    "records.units": "what is before or after a number: left out, or what it is worth",
    "records.na_values": "words for a missing value",
    "records.framing": "what is around each record",
    "records.explode": "a record has several rows",
    "records.where": "which records count: not the header",
    "records.csv_columns": "the fields of a line",
    "records.categories": "fields of strings; hash: into so many columns",
    "records.datetimes": "fields of dates and times",
    "train.dead_letters": "records that cannot be learned: `streaming-nn dead-letters show`",
    "score.topic": "records without a label, to predict",
    "metrics.file": "one line per version",
}


class Seen(NamedTuple):
    """What the proposed settings make of the records that were read."""

    records: int
    kept: int  # rows that are learned
    filtered: int
    reasons: dict[str, int]  # of rejected records
    explanation: list[str]  # the first rejected record, and the settings that would read it
    columns: int
    classes: tuple[Any, ...] | None  # None: regression
    rows: list[dict[str, Any]]  # the first: features by column, and the label


def init(
    bootstrap: options.Bootstrap = None,
    topic: Annotated[str | None, typer.Option(help="Labeled topic to learn.")] = None,
    label: Annotated[str | None, typer.Option(help="Field of the label (default: a usual name).")] = None,
    features: Annotated[
        str | None, typer.Option(help="Array field, or fields a,b,c.d; one field is 'a,' (default: all).")
    ] = None,
    model: options.Model = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Settings file to write.")] = OUTPUT,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the settings file.")] = False,
    create_topics: Annotated[
        bool, typer.Option("--create-topics", help="Create the topics of dead letters and predictions.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Accept what is proposed: the label, and to create topics.")
    ] = False,
    as_json: options.Json = False,
    set_: options.Sets = None,
) -> None:
    """Look at a topic, and write the settings that learn it: streaming-nn.toml.

    It reads some hundred records, without Spark, and shows how they are decoded and what is rejected.
    """
    if output.exists() and not force:
        raise ValueError(f"--output must be a new file, or give --force to overwrite it; got {str(output)!r}")
    nothing = Path(os.devnull)  # not the settings file of this directory
    train = {"topics": [topic] if topic else None}
    settings = options.require_kafka(
        options.load_settings(nothing, set_, bootstrap, model=model, train=train)
    )
    topic = settings.train.topics[0] if topic or "topics" in settings.train.model_fields_set else None
    values = _read(settings, topic)
    assert topic is not None
    talk = sys.stdin.isatty() and sys.stderr.isatty() and not (yes or as_json)
    proposal = _propose(values, settings, label, options.features(features), yes, talk)
    text, used, seen = look(values, settings, topic, proposal)
    output.write_text(text, encoding="utf-8")
    if not as_json:
        _show(topic, proposal, seen)
        print(f"wrote {output}")
    topics = _topics(settings.kafka, used, topic, create_topics or yes, talk)
    command = "streaming-nn train" + ("" if output == OUTPUT else f" --config {output}")
    if as_json:
        print(json.dumps(_to_json(output, topic, proposal, seen, topics, command), default=str))
        return
    for name, state in topics.items():
        how = ": `streaming-nn doctor` prints how to create it" if state == "missing" else ""
        print(f"topic {name}: {state}{how}")
    if seen.records < FEW:
        print(f"train waits until the topic has {FEW} records, from which it infers width and classes")
    print(f"next: {command}")


def _read(settings: "Settings", topic: str | None) -> list[bytes | None]:
    """Return the topic's first values. Raise LookupError in one line if there is nothing to look at."""
    from streaming_nn.kafka.admin import KafkaAdmin
    from streaming_nn.kafka.reader import first_values

    servers = settings.kafka["bootstrap.servers"]
    try:
        if topic is not None:
            values = first_values(settings.kafka, topic, RECORDS)
            if any(value is not None for value in values):
                return values
            raise LookupError(f"topic {topic!r} at {servers} has no records yet: send some, then repeat")
        missing = "--topic must name the topic to learn"
    except LookupError as error:
        if "does not exist" not in str(error):
            raise
        missing = f"{error}; --topic must name one that does"
    with KafkaAdmin(settings.kafka) as admin:
        known = sorted(admin.topics())
    from streaming_nn.records.propose import list_fields

    there = f"there are {list_fields(known)}" if known else f"there are none at {servers} yet"
    raise LookupError(f"{missing}: {there}")


def _propose(
    values: Sequence[bytes | None],
    settings: "Settings",
    label: str | None,
    features: str | list[str] | None,
    yes: bool,
    talk: bool,
) -> "Proposal":
    """Return the settings of the records, with the label that was named, found or chosen."""
    from streaming_nn.records.propose import find_layout, list_fields, propose
    from streaming_nn.spark.train.initial_schema import record_options

    given = record_options(settings, only_set=True)
    if settings.records.regression:
        given["regression"] = True
    label, features = label or given.pop("label", None), features or given.pop("features", None)
    records = [value for value in values if value is not None]
    layout = find_layout(records, given)
    if label is None and not (layout.is_named or yes):
        if not talk:
            raise ValueError(f"--label must name the label's field, one of {list_fields(layout.fields)}")
        message = f"Which field is the label, of {list_fields(layout.fields)}?"
        label = typer.prompt(message, default=layout.label or None, err=True)
    return propose(records, layout, label or layout.label, features)


def look(
    values: Sequence[bytes | None], settings: "Settings", topic: str, proposal: "Proposal"
) -> "tuple[str, Settings, Seen]":
    """Return the file of settings, these settings, and what they make of the records."""
    from streaming_nn.records.decode import decode
    from streaming_nn.records.explain import as_learned, count_reasons, explain
    from streaming_nn.records.explode import explode_values
    from streaming_nn.records.schema import grow_schema
    from streaming_nn.settings import Settings
    from streaming_nn.spark.train.initial_schema import complete_schema, infer

    tables = _tables(settings, topic, proposal.settings)
    used = Settings(**tomllib.loads(_render(tables, topic, len(values), {})))
    try:
        inferred = infer(values, used)
    except ValueError as error:
        raise ValueError("; ".join(map(str.strip, str(error).splitlines()))) from None
    schema = complete_schema(used, inferred.inputs, inferred.classes)
    rows = explode_values(schema, values)
    decoded = decode(schema, rows, labeled=True)
    if decoded.unseen:
        schema = grow_schema(schema, decoded.unseen)
        decoded = decode(schema, rows, labeled=True)
    rejected = as_learned(schema, values)
    seen = Seen(
        len(values),
        len(decoded.kept),
        len(decoded.filtered),
        dict(count_reasons(rejected)),
        explain(schema, values),
        schema.inputs,
        schema.classes,
        _first_rows(schema, rows.to_pylist() if hasattr(rows, "to_pylist") else rows, decoded),
    )
    notes = {"kafka": _name_variables(settings.kafka)}
    if seen.classes is not None and used.records.classes is None:
        notes["records"] = [_describe_classes(seen.classes)]
    return _render(tables, topic, len(values), notes), used, seen


def _first_rows(schema: "Schema", values: "Values", decoded: "Decoded") -> list[dict[str, Any]]:
    """Return the first rows by column; a category is shown as its value, not as its columns."""
    from streaming_nn.records.remedies import Sample

    assert decoded.y is not None
    blobs = [blob for i in decoded.kept[:SHOWN].tolist() if (blob := values[i]) is not None]
    sample = Sample(replace(schema, explode=None), [bytes(blob) for blob in blobs], [], labeled=False)
    lines = schema.format == "csv"
    found = {
        name: [line.get(name) for line in sample.objects] if lines else sample.at(name)
        for name in schema.categories
    }
    category_of = {
        column: name
        for name in schema.categories
        for column in schema.columns
        if column.startswith((f"{name}#", f"{name}="))
    }
    rows = []
    for i, (x, y) in enumerate(zip(decoded.x[:SHOWN].tolist(), decoded.y[:SHOWN].tolist(), strict=True)):
        row: dict[str, Any] = {}
        for column, value in zip(schema.columns, x, strict=True):
            name = category_of.get(column)
            row[name or column] = found[name][i] if name else None if isnan(value) else value
        rows.append({"features": row, "label": _label(schema, y)})
    return rows


def _label(schema: "Schema", y: Any) -> Any:
    if schema.classes is None:
        return y
    if schema.multilabel:
        return [name for name, applies in zip(schema.classes, y, strict=True) if applies]
    return schema.classes[y]


def _tables(settings: "Settings", topic: str, records: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the sections of the file; what was set is kept, but a client's secrets are left out."""
    given = settings.model_dump(mode="json", exclude_unset=True)
    own = {
        "kafka": {name: value for name, value in settings.kafka.items() if not SECRET.search(name)},
        "records": dict(records),
        "learner": {},
        "train": {"topics": [topic], "dead_letters": _name(topic, "dead-letters")},
        "score": {"topic": _name(topic, "unlabeled"), "predictions": _name(topic, "predictions")},
        "metrics": {"file": "metrics.jsonl"},
        "spark": {},
    }
    if settings.records.avro_schema:  # the file, whose content the schema has
        own["records"]["avro_schema"] = settings.records.avro_schema
    for section in ("learner", "train", "score", "metrics", "spark"):
        own[section] |= {n: "all" if v is None else v for n, v in given.get(section, {}).items()}
    return {"": {"model": str(settings.model)}} | {name: table for name, table in own.items() if table}


def _name(topic: str, role: str) -> str:
    """Return the name of a topic beside this one."""
    name = f"{topic}-{role}"
    return name if len(name) <= LONGEST_TOPIC else role


def _render(
    tables: Mapping[str, Mapping[str, Any]], topic: str, records: int, notes: Mapping[str, Sequence[str]]
) -> str:
    """Return the file, with a comment on each setting that needs one, and notes after sections."""
    lines = [
        f"# Written by `streaming-nn init` from the first {records:,} records of topic {topic}.",
        "# docs/settings.md lists every setting.",
    ]
    for section, table in tables.items():
        comment = f"  # {COMMENTS[section]}" if section in COMMENTS else ""
        lines += ["", f"[{section}]{comment}"] if section else [""]
        for name, value in table.items():
            comment = COMMENTS[""] if not section else COMMENTS.get(f"{section}.{name}", "")
            lines.append(_setting(name, value) + (f"  # {comment}" if comment else ""))
        lines += [f"# {note}" for note in notes.get(section, ())]
    return "\n".join(lines) + "\n"


def _setting(name: str, value: Any) -> str:
    """Return a line, or for a long list several lines, of a settings file."""
    from streaming_nn.records.explain import to_toml

    line = to_toml({name: value})[1:-1]
    if not isinstance(value, list) or len(line) <= WIDEST:
        return line
    rows = [""]
    for item in map(to_toml, value):
        if rows[-1] and len(rows[-1]) + len(item) > WIDEST:
            rows.append("")
        rows[-1] += f" {item},"
    return "\n".join([f"{name} = [", *(f" {row}" for row in rows), "]"])


def _name_variables(kafka: Mapping[str, str]) -> list[str]:
    """Return which variables must be set for a client's secrets, which the file does not have."""
    from streaming_nn.settings import PREFIX

    secrets = [name for name in kafka if SECRET.search(name)]
    return [f"{n} is not here: set {PREFIX}KAFKA__{n.upper().replace('.', '_')}" for n in secrets]


def _describe_classes(classes: Sequence[Any]) -> str:
    from streaming_nn.records.explain import to_toml

    shown = to_toml(list(classes[:ROWS]))[1:-1] + (", ..." if len(classes) > ROWS else "")
    return f'classes, inferred from the first 1,000 records: {shown}; "grow": new labels become classes'


def _show(topic: str, proposal: "Proposal", seen: Seen) -> None:
    from rich.console import Console
    from rich.table import Table

    from streaming_nn.records.explain import describe_reasons
    from streaming_nn.records.propose import list_fields

    settings = proposal.settings
    print(f"topic {topic}: {_count(seen.records, 'record')}, read as {settings['format']}")
    table = Table(box=None, pad_edge=False)
    names = [*dict.fromkeys(name for row in seen.rows for name in row["features"])]
    for title in ("field", *(str(i + 1) for i in range(len(seen.rows)))):
        table.add_column(title, overflow="fold")
    for name in names[:ROWS]:
        table.add_row(name, *(_shown(row["features"].get(name)) for row in seen.rows))
    if len(names) > ROWS:
        table.add_row(f"{len(names) - ROWS:,} more")
    table.add_row("label", *(_shown(row["label"]) for row in seen.rows))
    Console(markup=False, highlight=False).print(table)
    kind = "regression" if seen.classes is None else f"classes {list_fields([*map(str, seen.classes)])}"
    print(f"learned: {_count(seen.kept, 'row')} of {_count(seen.columns, 'column')}, {kind}")
    if seen.filtered:
        print(f"filtered: {_count(seen.filtered, 'record')}")
    if proposal.unused:
        print(f"left out: {list_fields(proposal.unused)}")
    if seen.reasons:
        rejected = _count(sum(seen.reasons.values()), "record")
        print(f"rejected: {rejected}, {describe_reasons(seen.reasons)}")
        for line in seen.explanation:
            print(f"  {line}")


def _count(n: int, word: str) -> str:
    return f"{n:,} {word}" + ("" if n == 1 else "s")


def _shown(value: Any) -> str:
    """Return a value of the table: a number in at most six digits, 0 without a sign, nothing for a gap."""
    return "" if value is None else f"{value + 0.0:.6g}" if isinstance(value, float) else str(value)


def _topics(
    kafka: Mapping[str, str], settings: "Settings", topic: str, create: bool, talk: bool
) -> dict[str, str]:
    """Return what is known of the topics that the jobs write to; create those that are missing, if wanted."""
    from streaming_nn.kafka.admin import KafkaAdmin

    dead_letters, predictions = settings.train.dead_letters, settings.score.predictions
    with KafkaAdmin(kafka) as admin:
        known = {*admin.topics()}
        partitions = {dead_letters: 1, predictions: len(admin.partitions([topic])[topic])}
        missing = [name for name in partitions if name not in known]
        if missing and talk and not create:
            create = typer.confirm(f"Create {' and '.join(missing)}?", default=True, err=True)
        for name in missing if create else ():
            admin.create(name, partitions[name], exist_ok=True)
    return dict.fromkeys(partitions, "exists") | dict.fromkeys(missing, "created" if create else "missing")


def _to_json(
    output: Path, topic: str, proposal: "Proposal", seen: Seen, topics: Mapping[str, str], command: str
) -> dict[str, Any]:
    where = {"file": str(output), "topic": topic, "topics": dict(topics), "next": command}
    return where | {"settings": proposal.settings, "unused": proposal.unused} | seen._asdict()
