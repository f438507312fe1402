"""Messages of a stream's rows: labeled, unlabeled, malformed on purpose, and with delayed labels."""

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json, to_json

from producers.columns import HASHED
from producers.streams import Block, Stream
from producers.validation import check_not_negative, check_share
from streaming_nn.kafka import TOPIC
from streaming_nn.records import avro, avsc, csv
from streaming_nn.records.decode import encode
from streaming_nn.records.field_records import named_rows_to_records
from streaming_nn.records.schema import Schema

TYPED = ("json", "csv")  # formats of any values, not only of numbers
LABELED, UNLABELED, MALFORMED = KINDS = ("labeled", "unlabeled", "malformed")


class Message(NamedTuple):
    """A Kafka record to send."""

    row: int  # number of rows of the stream before it
    at: float  # when it is due, in seconds after the first one
    topic: str
    key: bytes  # the row's ID, so that a default partitioner spreads rows over the partitions
    value: bytes
    kind: str  # labeled, unlabeled or malformed


@dataclass(frozen=True)
class Plan:
    """How rows become messages; shares are of rows, drawn by the seed. Raise ValueError in one line."""

    topic: str
    unlabeled_topic: str | None = None
    unlabeled: float = 0.0  # share sent without its label to the unlabeled topic
    malformed: float = 0.0  # share, of the others, corrupted on purpose
    label_delay: int | None = None  # rows after which an unlabeled row is sent with its label; None: never
    format: str = "json"
    seed: int = 0
    first_id: int = 0
    rate: float | None = None  # rows per second; None: as recorded, or as fast as possible
    speed: float = 1.0  # multiple of the recorded pace
    named: bool = False  # a field for each feature instead of one array; the same for a line of CSV

    def __post_init__(self) -> None:
        for flag, topic in (("--topic", self.topic), ("--unlabeled-topic", self.unlabeled_topic)):
            if topic is not None and not re.fullmatch(TOPIC, topic):
                raise ValueError(f"{flag} must be 1 to 249 letters, digits, '.', '_' or '-'; got {topic!r}")
        for what, share in (("unlabeled", self.unlabeled), ("malformed", self.malformed)):
            check_share(what, share)
        if self.unlabeled > 0 and not self.unlabeled_topic:
            raise ValueError(f"unlabeled = {self.unlabeled} needs an unlabeled topic; set --unlabeled-topic")
        for what, value in (("rate", self.rate), ("speed", self.speed)):
            if value is not None and not value > 0:
                raise ValueError(f"{what} must be more than 0; got {value}")
        check_not_negative("seed", self.seed)
        if self.label_delay is not None and self.label_delay < 0:
            raise ValueError(f"label_delay must be 0 rows or more; got {self.label_delay}")
        if self.label_delay is not None and not self.unlabeled:
            raise ValueError(f"label_delay = {self.label_delay} needs unlabeled rows; got unlabeled = 0")


def topics_of(stream: Stream, plan: Plan) -> list[str]:
    """Return the topics that the stream's messages may go to."""
    labeled = plan.unlabeled < 1 or plan.label_delay is not None or stream.late
    return [plan.topic] * labeled + [str(plan.unlabeled_topic)] * (plan.unlabeled > 0)


def schema_of(stream: Stream, plan: Plan) -> Schema:
    """Return the schema that decodes the stream's records."""
    if plan.named and plan.format == "packed":
        raise ValueError("named fields need JSON, CSV or Avro; got packed")
    if plan.named and stream.names is None:
        raise ValueError("named fields need a stream whose features have names; this stream has none")
    if stream.others and plan.format not in TYPED:
        raise ValueError(
            f"{plan.format} records have numbers only; {stream.others[0]!r} has other values: use json or "
            "csv, or choose with --features"
        )
    if stream.names is None or not (plan.named or (stream.named and plan.format != "packed")):
        return Schema(
            stream.inputs,
            stream.classes,
            stream.features,
            stream.label,
            plan.format,
            missing=stream.missing,
            avro_schema=avsc.write_schema(stream.features, stream.classes, stream.label)
            if plan.format == "avro"
            else None,
        )
    return _named_schema(stream, plan, stream.names, stream.column or stream.label)


def _named_schema(stream: Stream, plan: Plan, names: tuple[str, ...], label: str) -> Schema:
    fields = _fields(names, label)
    learned = tuple(name for name in fields if name not in stream.left_out)
    if not learned:
        raise ValueError(f"no column can be learned: {', '.join(names)} are names, unclear dates or nested")
    categories = {name: {"hash": HASHED} for name in stream.categories}
    text = avsc.write_schema(fields, stream.classes, label) if plan.format == "avro" else None
    return Schema(
        len(learned) + len(categories) * (HASHED - 1),
        stream.classes,
        learned,
        label,
        plan.format,
        missing=stream.missing,
        categories=categories,
        datetimes={name: {"format": format} for name, format in stream.datetimes},
        csv_columns=(*fields, label) if plan.format == "csv" and learned != fields else (),
        avro_schema=text,
    )


def _fields(names: tuple[str, ...], label: str) -> tuple[str, ...]:
    """Return the names; raise ValueError if two fields of a record have the same path."""
    reserved = {label} if _has_own_id(names, label) else {label, "id"}
    for name in names:
        parts = name.split(".")
        paths = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
        others = reserved | set(names) - {name}
        if clash := paths & others:
            raise ValueError(
                f"named fields must differ from each other, {label} and id; got {name!r} and {min(clash)!r}"
            )
    return names


def _has_own_id(names: tuple[str, ...] | None, label: str | None) -> bool:
    """Return whether the rows have a field `id` already, which is not replaced by the rows' numbers."""
    return "id" in (*(names or ()), label)


def messages(stream: Stream, plan: Plan) -> Iterator[Message]:
    """Yield the stream's messages in the order of sending; the same plan gives the same bytes."""
    schema = schema_of(stream, plan)
    rng = np.random.default_rng([plan.seed, 1])  # not the stream's
    if stream.late:
        if plan.label_delay is not None:
            raise ValueError("label_delay must not be set: this stream's labels are late by themselves")
        return _late_messages(stream.blocks, schema, plan, rng)
    return _planned_messages(stream, schema, plan, rng)


def _late_messages(
    blocks: Iterator[Block], schema: Schema, plan: Plan, rng: np.random.Generator
) -> Iterator[Message]:
    """Yield a late stream's messages: rows at once, unlabeled, and again when their labels are known."""
    at_once, again = replace(plan, rate=None, malformed=0.0), replace(plan, rate=None, unlabeled=0.0)
    rows = labeled = 0
    for block in blocks:
        if block.y is None:
            fresh = _block(block, rows, schema, at_once, rng)
            yield from (message for message, _ in fresh if message.kind == UNLABELED)
            rows += len(block.x)
        else:
            for message, _ in _block(block, labeled, schema, again, rng):
                yield message._replace(row=rows - 1)
            labeled += len(block.x)


def _planned_messages(
    stream: Stream, schema: Schema, plan: Plan, rng: np.random.Generator
) -> Iterator[Message]:
    late: deque[Message] = deque()
    row, at = 0, 0.0
    for block in stream.blocks:
        for message, labeled in _block(block, row, schema, plan, rng, stream.names):
            at = message.at
            while late and late[0].row <= message.row:
                yield late.popleft()._replace(at=at)
            yield message
            if message.kind == UNLABELED and plan.label_delay is not None:
                due = message.row + plan.label_delay
                late.append(Message(due, at, plan.topic, message.key, labeled, LABELED))
        row += len(block.x)
    for message in late:  # no more rows, but their time continues
        yield message._replace(at=at + (message.row - row + 1) / plan.rate if plan.rate else at)


def _block(
    block: Block,
    row: int,
    schema: Schema,
    plan: Plan,
    rng: np.random.Generator,
    names: tuple[str, ...] | None = None,
) -> Iterator[tuple[Message, bytes]]:
    """Yield a message for each row, and the row's labeled value; `row` is the block's first.

    `names` are those of all fields, also of those that the schema does not learn.
    """
    bare, corrupted = _draw_kinds(len(block.x), plan, rng)
    at = _moments(block, row, plan)
    ids = range(plan.first_id + row, plan.first_id + row + len(block.x))
    labeled = _encode(schema, block.x, block.y, ids, names)
    bare_ids = [ids[i] for i in np.flatnonzero(bare)]
    unlabeled = iter(_encode(schema, block.x[bare], None, bare_ids, names))
    for i, value in enumerate(labeled):
        key = b"%d" % ids[i]
        if bare[i]:
            yield Message(row + i, at[i], str(plan.unlabeled_topic), key, next(unlabeled), UNLABELED), value
        elif corrupted[i]:
            yield Message(row + i, at[i], plan.topic, key, corrupt(value, schema, rng), MALFORMED), value
        else:
            yield Message(row + i, at[i], plan.topic, key, value, LABELED), value


def _encode(
    schema: Schema,
    x: NDArray[Any],
    y: NDArray[Any] | None,
    ids: Sequence[int],
    names: tuple[str, ...] | None,
) -> list[bytes]:
    """Encode rows of numbers, or with values as they are; a row's number is its id, unless it has its own."""
    own = not isinstance(schema.features, str) and _has_own_id(names, str(schema.label))
    numbers = None if own else ids
    if x.dtype != object:
        return encode(schema, x, y, numbers)
    if schema.format not in TYPED:
        return encode(schema, *_to_numbers(schema, x, y), numbers)
    rows: list[dict[str, Any]]
    if isinstance(schema.features, str) and schema.format == "json":
        rows = [{schema.features: row} for row in x.tolist()]
    else:
        fields = schema.columns if isinstance(schema.features, str) or names is None else names
        rows = [dict(zip(fields, row, strict=True)) for row in x.tolist()]
    labels = None if y is None else y.tolist()
    if schema.format == "csv":
        flat = [{name: _to_field(value) for name, value in row.items()} for row in rows]
        return csv.encode_named(schema, flat, labels, numbers)
    # infinity as a constant: null would be a missing value
    records = named_rows_to_records(schema, rows, labels, numbers)
    return [to_json(record, inf_nan_mode="constants") for record in records]


def _to_field(value: Any) -> Any:
    return to_json(value).decode() if isinstance(value, dict | list) else value


def _to_numbers(
    schema: Schema, x: NDArray[Any], y: NDArray[Any] | None
) -> tuple[NDArray[np.float32], NDArray[Any] | None]:
    """Return rows as numbers, with the labels' indices, or targets; ValueError for any other value."""
    for row in x.tolist():
        for name, value in zip(schema.columns, row, strict=True):
            if not (value is None or isinstance(value, int | float)):
                message = f"{schema.format} records have numbers only; got {value!r} in {name!r}: use json"
                raise ValueError(message)
    with np.errstate(over="ignore"):
        table = np.array(x.tolist(), np.float64).astype(np.float32).reshape(len(x), schema.inputs)
        if y is None or schema.classes is None:
            return table, None if y is None else np.array(y.tolist(), np.float64).astype(np.float32)
    index = {label: i for i, label in enumerate(schema.classes)}
    return table, np.array([index.get(label, -1) for label in y.tolist()], np.int32)


def _moments(block: Block, row: int, plan: Plan) -> list[float]:
    """Return when the block's rows are due, in seconds after the stream's first row."""
    if plan.rate is not None:
        return [i / plan.rate for i in range(row, row + len(block.x))]
    return [0.0] * len(block.x) if block.at is None else list(block.at / plan.speed)


def corrupt(value: bytes, schema: Schema, rng: np.random.Generator) -> bytes:
    """Return the record corrupted in one of the usual ways; no decoder of the schema accepts it."""
    ways = _WAYS[schema.format]
    if schema.missing or schema.categories:  # a gap, or another string, is valid then
        ways = tuple(way for way in ways if way not in _OF_NUMBERS)
    return ways[rng.integers(len(ways))](value, schema)


def _draw_kinds(
    rows: int, plan: Plan, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    bare = rng.uniform(size=rows) < plan.unlabeled
    return bare, (rng.uniform(size=rows) < plan.malformed) & ~bare


def _parent(record: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """Return the object with the field at a path, and the field's name in it."""
    *parents, name = path.split(".")
    for parent in parents:
        record = record[parent]
    return record, name


def _cut(value: bytes, schema: Schema) -> bytes:
    return value[: len(value) // 2]


def _short_row(value: bytes, schema: Schema) -> bytes:
    record = from_json(value)
    if isinstance(schema.features, str):
        record[schema.features] = record[schema.features][:-1]
    else:
        parent, name = _parent(record, schema.features[-1])
        del parent[name]
    return to_json(record)


def _unknown_label(value: bytes, schema: Schema) -> bytes:
    record = from_json(value)
    parent, name = _parent(record, str(schema.label))
    parent[name] = "unheard of"
    return to_json(record)


def _infinite_feature(value: bytes, schema: Schema) -> bytes:
    record = from_json(value)
    if isinstance(schema.features, str):
        record[schema.features][0] = float("inf")
    else:
        parent, name = _parent(record, schema.features[0])
        parent[name] = float("inf")
    return to_json(record, inf_nan_mode="constants")


def _no_label(value: bytes, schema: Schema) -> bytes:
    record = from_json(value)
    parent, name = _parent(record, str(schema.label))
    del parent[name]
    return to_json(record)


def _packed_cut(value: bytes, schema: Schema) -> bytes:
    return value[:-3]


def _packed_unknown(value: bytes, schema: Schema) -> bytes:
    unknown = np.array(-1, "<i4") if schema.classes is not None else np.array(np.inf, "<f4")
    return unknown.tobytes() + value[4:]


def _packed_infinite(value: bytes, schema: Schema) -> bytes:
    return value[:-4] + np.array(np.inf, "<f4").tobytes()


def _packed_bare(value: bytes, schema: Schema) -> bytes:
    return value[4:]


def _csv_short(value: bytes, schema: Schema) -> bytes:
    return value.split(b",", 1)[1]


def _csv_torn(value: bytes, schema: Schema) -> bytes:
    return b'"' + value


def _csv_unknown(value: bytes, schema: Schema) -> bytes:
    return value.rsplit(b",", 1)[0] + b",unheard of"


def _csv_infinite(value: bytes, schema: Schema) -> bytes:
    return b"inf," + value.split(b",", 1)[1]


def _csv_no_label(value: bytes, schema: Schema) -> bytes:
    return value.rsplit(b",", 1)[0] + b","


def _avro_cut(value: bytes, schema: Schema) -> bytes:
    return value[:-1]


def _avro_long(value: bytes, schema: Schema) -> bytes:
    return value + b"\0"


def _avro_infinite(value: bytes, schema: Schema) -> bytes:
    record = avro.record_parser(schema)(value)
    if isinstance(schema.features, str):
        record[schema.features][0] = float("inf")
    else:
        record[schema.features[0]] = float("inf")
    return avro.write(schema, [record])[0]


def _avro_unknown(value: bytes, schema: Schema) -> bytes:
    classes = schema.classes
    unknown: Any = float("inf")
    if classes is not None:
        unknown = "unheard of" if type(classes[0]) is str else max(classes) + 1  # type: ignore[operator]
    return avro.write(schema, [avro.record_parser(schema)(value) | {str(schema.label): unknown}])[0]


def _avro_no_label(value: bytes, schema: Schema) -> bytes:
    return avro.write(schema, [avro.record_parser(schema)(value) | {str(schema.label): None}])[0]


_Way = Callable[[bytes, Schema], bytes]
_JSON_WAYS: tuple[_Way, ...] = (_cut, _short_row, _unknown_label, _infinite_feature, _no_label)
_PACKED_WAYS: tuple[_Way, ...] = (_packed_cut, _packed_unknown, _packed_infinite, _packed_bare)
_CSV_WAYS: tuple[_Way, ...] = (_csv_short, _csv_torn, _csv_unknown, _csv_infinite, _csv_no_label)
_AVRO_WAYS: tuple[_Way, ...] = (_avro_cut, _avro_long, _avro_infinite, _avro_unknown, _avro_no_label)
_OF_NUMBERS = {_short_row, _infinite_feature, _packed_infinite, _csv_infinite, _avro_infinite}
_WAYS = {"json": _JSON_WAYS, "packed": _PACKED_WAYS, "csv": _CSV_WAYS, "avro": _AVRO_WAYS}
