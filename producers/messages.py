"""Rows become messages: labeled, unlabeled, malformed on purpose, and labels that come late."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json, to_json

from producers.streams import Block, Stream
from streaming_nn.records import avro, avsc
from streaming_nn.records.decode import encode
from streaming_nn.records.schema import Schema

LABELED, UNLABELED, MALFORMED = KINDS = ("labeled", "unlabeled", "malformed")


class Message(NamedTuple):
    """One Kafka record to be sent."""

    row: int  # how many rows of the stream come before it
    at: float  # seconds after the first one when it is due
    topic: str
    key: bytes  # the row's id, so that a default partitioner spreads rows over the partitions
    value: bytes
    kind: str  # labeled, unlabeled or malformed


@dataclass(frozen=True)
class Plan:
    """What becomes of a stream's rows; shares are of rows, drawn by the seed. ValueError in one line."""

    topic: str
    unlabeled_topic: str | None = None
    unlabeled: float = 0.0  # share that goes without its label to the unlabeled topic
    malformed: float = 0.0  # share, of the others, that is spoilt on purpose
    label_delay: int | None = (
        None  # rows after which an unlabeled row comes again with its label; None: never
    )
    format: str = "json"
    seed: int = 0
    first_id: int = 0
    rate: float | None = None  # rows a second; None: as recorded, or as fast as can be
    speed: float = 1.0  # of recorded streams
    named: bool = (
        False  # a field for each feature, in place of one array; a line of CSV is the same with both
    )

    def __post_init__(self) -> None:
        for what, share in (("unlabeled", self.unlabeled), ("malformed", self.malformed)):
            if not 0 <= share <= 1:
                raise ValueError(f"{what} must be 0 to 1; got {share}")
        if self.unlabeled > 0 and not self.unlabeled_topic:
            raise ValueError(f"unlabeled = {self.unlabeled} needs an unlabeled topic; got none")
        for what, value in (("rate", self.rate), ("speed", self.speed)):
            if value is not None and not value > 0:
                raise ValueError(f"{what} must be more than 0; got {value}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more; got {self.seed}")
        if self.label_delay is not None and self.label_delay < 0:
            raise ValueError(f"label_delay must be 0 rows or more; got {self.label_delay}")
        if self.label_delay is not None and not self.unlabeled:
            raise ValueError(f"label_delay = {self.label_delay} is of unlabeled rows; got unlabeled = 0")


def topics_of(stream: Stream, plan: Plan) -> list[str]:
    """Return the topics that the stream's messages may go to."""
    labeled = plan.unlabeled < 1 or plan.label_delay is not None or stream.late
    return [plan.topic] * labeled + [str(plan.unlabeled_topic)] * (plan.unlabeled > 0)


def schema_of(stream: Stream, plan: Plan) -> Schema:
    """Return the schema by which the stream's records can be read."""
    if plan.named and plan.format == "packed":
        raise ValueError("named fields need JSON, CSV or Avro; got packed")
    if plan.named and stream.names is None:
        raise ValueError("named fields need a stream whose features have names; got one without")
    named = plan.named or (stream.named and plan.format != "packed")
    features = _fields(stream.names, stream.label) if named and stream.names else "features"
    text = avsc.written(features, stream.classes, stream.label) if plan.format == "avro" else None
    return Schema(stream.inputs, stream.classes, features, stream.label, plan.format, avro_schema=text)


def _fields(names: tuple[str, ...], label: str) -> tuple[str, ...]:
    """Return the names if a record has a place for each, beside its label and its id."""
    taken = {label, "id"}
    for name in names:
        parts = name.split(".")
        paths = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
        others = taken | set(names) - {name}
        if clash := paths & others:
            raise ValueError(
                f"named fields need a place each, beside {label} and id; got {name!r} and {min(clash)!r}"
            )
    return names


def messages(stream: Stream, plan: Plan) -> Iterator[Message]:
    """Yield the stream's messages in the order in which they are sent; the same plan gives the same bytes."""
    schema = schema_of(stream, plan)
    rng = np.random.default_rng([plan.seed, 1])  # apart from the stream's own
    if stream.late:
        if plan.label_delay is not None:
            raise ValueError("label_delay is for labels that are known; this stream's come by themselves")
        return _as_known(stream.blocks, schema, plan, rng)
    return _as_planned(stream.blocks, schema, plan, rng)


def _as_known(
    blocks: Iterator[Block], schema: Schema, plan: Plan, rng: np.random.Generator
) -> Iterator[Message]:
    """Yield a late stream's messages: rows at once, unlabeled, and each again when its label is known."""
    at_once, again = replace(plan, rate=None, malformed=0.0), replace(plan, rate=None, unlabeled=0.0)
    rows = told = 0
    for block in blocks:
        if block.y is None:
            fresh = _block(block, rows, schema, at_once, rng)
            yield from (message for message, _ in fresh if message.kind == UNLABELED)
            rows += len(block.x)
        else:
            for message, _ in _block(block, told, schema, again, rng):
                yield message._replace(row=rows - 1)
            told += len(block.x)


def _as_planned(
    blocks: Iterator[Block], schema: Schema, plan: Plan, rng: np.random.Generator
) -> Iterator[Message]:
    late: deque[Message] = deque()
    row, at = 0, 0.0
    for block in blocks:
        for message, labeled in _block(block, row, schema, plan, rng):
            at = message.at
            while late and late[0].row <= message.row:
                yield late.popleft()._replace(at=at)
            yield message
            if message.kind == UNLABELED and plan.label_delay is not None:
                due = message.row + plan.label_delay
                late.append(Message(due, at, plan.topic, message.key, labeled, LABELED))
        row += len(block.x)
    for message in late:  # rows have ended, time goes on
        yield message._replace(at=at + (message.row - row + 1) / plan.rate if plan.rate else at)


def _block(
    block: Block, row: int, schema: Schema, plan: Plan, rng: np.random.Generator
) -> Iterator[tuple[Message, bytes]]:
    """Yield a message for each row, and the row's labeled value; `row` is the block's first."""
    bare, spoilt = _fates(len(block.x), plan, rng)
    at = _moments(block, row, plan)
    ids = range(plan.first_id + row, plan.first_id + row + len(block.x))
    labeled = encode(schema, block.x, block.y, ids)
    unlabeled = iter(encode(schema, block.x[bare], None, [ids[i] for i in np.flatnonzero(bare)]))
    for i, value in enumerate(labeled):
        key = b"%d" % ids[i]
        if bare[i]:
            yield Message(row + i, at[i], str(plan.unlabeled_topic), key, next(unlabeled), UNLABELED), value
        elif spoilt[i]:
            yield Message(row + i, at[i], plan.topic, key, spoil(value, schema, rng), MALFORMED), value
        else:
            yield Message(row + i, at[i], plan.topic, key, value, LABELED), value


def _moments(block: Block, row: int, plan: Plan) -> list[float]:
    """Return when the block's rows are due, in seconds after the stream's first row."""
    if plan.rate is not None:
        return [i / plan.rate for i in range(row, row + len(block.x))]
    return [0.0] * len(block.x) if block.at is None else list(block.at / plan.speed)


def spoil(value: bytes, schema: Schema, rng: np.random.Generator) -> bytes:
    """Return the record damaged in one of the ways that happen; no decoder of the schema accepts it."""
    ways = _WAYS[schema.format]
    return ways[rng.integers(len(ways))](value, schema)


def _fates(rows: int, plan: Plan, rng: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    bare = rng.uniform(size=rows) < plan.unlabeled
    return bare, (rng.uniform(size=rows) < plan.malformed) & ~bare


def _place(record: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """Return the object that holds the field at a path, and the field's name in it."""
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
        parent, name = _place(record, schema.features[-1])
        del parent[name]
    return to_json(record)


def _alien_label(value: bytes, schema: Schema) -> bytes:
    return to_json(from_json(value) | {str(schema.label): "unheard of"})


def _nan_feature(value: bytes, schema: Schema) -> bytes:
    record = from_json(value)
    if isinstance(schema.features, str):
        record[schema.features][0] = float("nan")
    else:
        parent, name = _place(record, schema.features[0])
        parent[name] = float("nan")
    return to_json(record, inf_nan_mode="constants")


def _no_label(value: bytes, schema: Schema) -> bytes:
    record = from_json(value)
    del record[schema.label]
    return to_json(record)


def _packed_cut(value: bytes, schema: Schema) -> bytes:
    return value[:-3]


def _packed_alien(value: bytes, schema: Schema) -> bytes:
    alien = np.array(-1, "<i4") if schema.classes is not None else np.array(np.nan, "<f4")
    return alien.tobytes() + value[4:]


def _packed_nan(value: bytes, schema: Schema) -> bytes:
    return value[:-4] + np.array(np.nan, "<f4").tobytes()


def _packed_bare(value: bytes, schema: Schema) -> bytes:
    return value[4:]


def _csv_short(value: bytes, schema: Schema) -> bytes:
    return value.split(b",", 1)[1]


def _csv_torn(value: bytes, schema: Schema) -> bytes:
    return b'"' + value


def _csv_alien(value: bytes, schema: Schema) -> bytes:
    return value.rsplit(b",", 1)[0] + b",unheard of"


def _csv_nan(value: bytes, schema: Schema) -> bytes:
    return b"nan," + value.split(b",", 1)[1]


def _csv_no_label(value: bytes, schema: Schema) -> bytes:
    return value.rsplit(b",", 1)[0] + b","


def _avro_cut(value: bytes, schema: Schema) -> bytes:
    return value[:-1]


def _avro_long(value: bytes, schema: Schema) -> bytes:
    return value + b"\0"


def _avro_nan(value: bytes, schema: Schema) -> bytes:
    record = avro.parser(schema)(value)
    if isinstance(schema.features, str):
        record[schema.features][0] = float("nan")
    else:
        record[schema.features[0]] = float("nan")
    return avro.written(schema, [record])[0]


def _avro_alien(value: bytes, schema: Schema) -> bytes:
    classes = schema.classes
    alien: Any = float("nan")
    if classes is not None:
        alien = "unheard of" if type(classes[0]) is str else max(classes) + 1  # type: ignore[operator]
    return avro.written(schema, [avro.parser(schema)(value) | {str(schema.label): alien}])[0]


def _avro_no_label(value: bytes, schema: Schema) -> bytes:
    return avro.written(schema, [avro.parser(schema)(value) | {str(schema.label): None}])[0]


_Way = Callable[[bytes, Schema], bytes]
_JSON_WAYS: tuple[_Way, ...] = (_cut, _short_row, _alien_label, _nan_feature, _no_label)
_PACKED_WAYS: tuple[_Way, ...] = (_packed_cut, _packed_alien, _packed_nan, _packed_bare)
_CSV_WAYS: tuple[_Way, ...] = (_csv_short, _csv_torn, _csv_alien, _csv_nan, _csv_no_label)
_AVRO_WAYS: tuple[_Way, ...] = (_avro_cut, _avro_long, _avro_nan, _avro_alien, _avro_no_label)
_WAYS = {"json": _JSON_WAYS, "packed": _PACKED_WAYS, "csv": _CSV_WAYS, "avro": _AVRO_WAYS}
